"""Short lives of a bus that go the same way on any machine, killed at their steps: nothing is left to luck.

Each does one thing on which a bug would show. Whatever a life tells is a step; these are two more:

written [desk]   the journal has committed (outputs of the outbox were among it)
flushed          how far everybody has come is in the file

python -m campaigns.bus_steps                                 a kill at every step of every life
python -m campaigns.bus_steps --script 'a round' --nth 17     that one again
"""

import argparse
import asyncio
import random
import sys
import threading
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

from campaigns.bus_child import SLICE, SMALL_BATCH, SMALL_UNSAVED, Child, live
from campaigns.bus_events import OUTBOX, made, one_in, outputs
from campaigns.bus_load import AGENTS, Plan
from campaigns.bus_plants import PLANTS, Plant
from campaigns.bus_truth import Truth
from campaigns.crash_kit import Life, Step, Tell, Work, scratch, set_in, stepped, undisturbed
from campaigns.power_loss_truth import Broken
from openoutcry import EventBus, PersistenceConfig
from openoutcry.journals import SqliteJournal, disk_tasks, sqlite

FLOOD: Final = 6 * SMALL_UNSAVED
"""More orders than may be handled again after a crash."""
LONG_S: Final = 600.0
"""What nothing here takes, on any machine."""


def is_calm(event_id: str) -> bool:
    """Tell whether nobody's handler fails on an event, is late with it or publishes nothing for it."""
    fails = one_in(29, event_id) or one_in(7, event_id, "raise") or one_in(7, event_id, "fail")
    return not (fails or is_cancelled(event_id) or one_in(97, event_id, "late"))


def is_cancelled(event_id: str) -> bool:
    """Tell whether `failing` lets a CancelledError out, the first time that it handles an event."""
    return one_in(11, event_id, "cancel") and not (one_in(29, event_id) or one_in(7, event_id, "raise"))


def is_given_up(event_id: str) -> bool:
    """Tell whether `failing` fails on an event whenever it handles it."""
    return one_in(29, event_id)


class Scripted(Child):
    """A life that goes by a script."""

    call_limit_s = LONG_S

    def __init__(self, script: str, path: Path, plan: Plan, tell: Tell) -> None:
        self._script = SCRIPTS[script]
        self._lines: set[tuple[object, ...]] = set()
        self._stays = ""
        self._may_end = asyncio.Event()

        def remember(*words: object) -> None:
            self._lines.add(words)
            tell(*words)

        super().__init__(path, plan, remember)
        self._name_of_next = count()
        _tell_writes(remember)

    def _make_bus(self, path: Path, plan: Plan, rng: random.Random) -> EventBus:
        del plan, rng
        settings = PersistenceConfig(path=path, socket=False, sync="thread", cursor_save_s=LONG_S)
        return EventBus(10_000, persistence_config=settings)

    async def _take_time(self, name: str, event_id: str) -> None:
        if event_id == self._stays:
            await self._may_end.wait()
        else:
            await super()._take_time(name, event_id)

    # -- what scripts are made of -------------------------------------------------------------------

    def offer(self, kind: str, wanted: Callable[[str], bool] = is_calm) -> str:
        """Tell that the next event of a kind that is as wanted is about to be published; return its id."""
        names = (f"{self._plan.number}.s.{number}{kind}" for number in self._name_of_next)
        event_id = next(name for name in names if wanted(name))
        self._tell("offer", "s", event_id)
        return event_id

    async def publish(self, kind: str, wanted: Callable[[str], bool] = is_calm) -> str:
        """Publish the next event of a kind that is as wanted; return its id."""
        event_id = self.offer(kind, wanted)
        await self._ask(event_id, self.bus.publish(made(event_id), level="process"))
        return event_id

    async def until(self, *words: object) -> None:
        """Wait until this was told."""
        await _turn_until(lambda: words in self._lines)

    async def flush(self) -> None:
        """Have everything saved."""
        await self.bus.flush()
        self._tell("flushed")

    # -- the scripts --------------------------------------------------------------------------------

    async def live(self) -> None:
        """Open, go by the script, save, stop."""
        await self._open()
        await self.bus.start()
        self._tell("started")
        await self._script(self)
        await self.bus.join()
        await self.flush()
        await self._stop()

    async def calm(self) -> None:
        """Handle a few events of each kind, on which nothing goes wrong."""
        for kind in "ooofk":
            await self.publish(kind)

    async def cancelled_call(self) -> None:
        """Let a handler be cancelled by something of its own."""
        await self.publish("o", is_cancelled)

    async def given_up(self) -> None:
        """Give an event up."""
        await self.publish("o", is_given_up)

    async def voted(self) -> None:
        """Hold a round, for whose signals the outbox publishes."""
        rounds = (f"{self._plan.number}.r{number}" for number in count())
        wanted = next(r for r in rounds if all(outputs(OUTBOX, f"{r}.{agent}") for agent in AGENTS))
        ids = [f"{wanted}.{agent}" for agent in AGENTS]
        self._tell("offer", "rounds", *ids)
        self.bus.open_round(wanted, roster=AGENTS, signal_timeout=LONG_S, barrier_timeout=2 * LONG_S)
        await asyncio.gather(*(self._signal(event_id) for event_id in ids))
        await self.bus.wait_for_signals(wanted)

    async def held_up(self) -> None:
        """Save how far everybody has come while a call is in hand and one behind it has ended."""
        self._stays = self.offer("o")
        await self._ask(self._stays, self.bus.publish(made(self._stays), level="process"))
        second = await self.publish("o")
        await self.until(">", "slow", second)
        await self.flush()
        self._may_end.set()

    async def paused(self) -> None:
        """Leave a backlog to somebody who is paused."""
        self.bus.subscription("paused").pause()
        for _ in range(3):
            newest = await self.publish("o")
        await self.until(">", "quick", newest)
        await self.flush()
        self.bus.subscription("paused").resume()

    async def cancelled_publish(self) -> None:
        """Cancel a publish while a sync keeps its event from being written."""
        set_in(sqlite, "SyncTask", _HeldSync)
        first, second = self.offer("o"), self.offer("o")
        syncing = asyncio.create_task(self._ask(first, self.bus.publish(made(first), level="disk")))
        await _turn_until(_HeldSync.began.is_set)
        publishing = asyncio.create_task(self.bus.publish(made(second), level="process"))
        for _ in range(3):
            await asyncio.sleep(0)
        publishing.cancel()
        await asyncio.wait([publishing])
        if publishing.cancelled():
            self._tell("what", second)
        else:
            self._say(second, accepted=publishing.result())
        _HeldSync.may_end.set()
        await syncing

    async def flood(self) -> None:
        """Handle more than may be handled again."""
        ids = [self.offer("o") for _ in range(FLOOD)]
        for first in range(0, FLOOD, SMALL_BATCH):
            some = ids[first : first + SMALL_BATCH]
            accepted = await self.bus.publish_many([made(event_id) for event_id in some])
            for number, event_id in enumerate(some):
                self._say(event_id, accepted=number < accepted)
            await self.bus.join()


SCRIPTS: Final[dict[str, Callable[[Scripted], Any]]] = {
    "calm": Scripted.calm,
    "a call is cancelled": Scripted.cancelled_call,
    "an event is given up": Scripted.given_up,
    "a round": Scripted.voted,
    "a call is held up": Scripted.held_up,
    "a backlog": Scripted.paused,
    "a publish is cancelled": Scripted.cancelled_publish,
    "a flood": Scripted.flood,
}


LONGEST: Final = "a flood"
"""Has thousands of steps, all alike."""


class _HeldSync(disk_tasks.SyncTask):
    """A sync that takes as long as it is to."""

    __slots__ = ()
    began = threading.Event()
    may_end = threading.Event()

    def perform(self) -> None:
        self.began.set()
        self.may_end.wait()
        super().perform()


async def _turn_until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - another thread, or a handler, sees to it
        await asyncio.sleep(0.001)


def _tell_writes(tell: Tell) -> None:
    """Have the journal of this process tell when it has committed."""
    honest = SqliteJournal.write
    mark = f'"{OUTBOX}|'.encode()

    def write(self: SqliteJournal, entries: Any, changes: Any = None) -> Any:
        found = honest(self, entries, changes)
        tell("written", *([OUTBOX] if any(mark in entry.payload for entry in entries) else []))
        return found

    SqliteJournal.write = write  # type: ignore[method-assign]


class Walk(NamedTuple):
    """Kills at the steps of a life.

    Attributes:
        kills: How many there were.
        failures: What they have found, each with the command that runs it again.

    """

    kills: int
    failures: list[str]


def walk(script: str, first: int = 1, every: int = 1) -> Walk:
    """Kill a life at its steps, from one on every so many."""
    failures: list[str] = []
    for kills, nth in enumerate(count(first, every)):
        try:
            if not kill_at(script, Step("", nth)).killed:
                return Walk(kills, failures)
        except Broken as found:
            again = f"python -m campaigns.bus_steps --script {script!r} --nth {nth}"
            failures.append(f"{script}, step {nth}: {found}\n    again: {again}")
    raise AssertionError("it counts for ever")


def kill_at(script: str, step: Step, plant: Plant | None = None) -> Life:
    """Kill a life that goes by a script at a step, look at the file, and let a last life finish.

    Returns what the first life has told; it was not killed if it has never come to the step. Raises `Broken`.
    """
    truth = Truth(SMALL_UNSAVED + SMALL_BATCH + SLICE)
    bug = plant.bug if plant else lambda: None
    with scratch("bus-steps-") as folder:
        path = folder / "firm.db"
        first = stepped(_work(path, Plan(0, 0, small=True, plant=bug), script), step)
        truth.told.hear(first)
        truth.audit(path, verify=False)
        again = tuple(event_id for event_id in truth.told.unknown if event_id[-1] != "s")
        last = Plan(1, 1, again, is_last=True, small=True, plant=bug)
        truth.told.hear(undisturbed(lambda tell: live(path, last, tell)))
        truth.audit_end(path)
    return first


def _work(path: Path, plan: Plan, script: str) -> Work:
    return lambda tell: live(path, plan, tell, partial(Scripted, script))


def main(arguments: list[str] | None = None) -> int:
    """Kill as the command line asks; return 1 when that has found something."""
    parser = argparse.ArgumentParser(prog="python -m campaigns.bus_steps", description=__doc__)
    parser.add_argument("--script", choices=[name for name in SCRIPTS if name != LONGEST], help="this life")
    parser.add_argument("--nth", type=int, help="only this step of it")
    parser.add_argument("--plant", choices=list(PLANTS), help="plant a bug, and kill where it shows")
    asked = parser.parse_args(arguments)
    if asked.plant or asked.nth:
        plant = PLANTS.get(asked.plant)
        script, step = (plant.script, plant.step) if plant else (asked.script, Step("", asked.nth))
        try:
            kill_at(script, step, plant)
        except Broken as found:
            sys.stdout.write(f"{script}, {step}: {found}\n")
            return 1
        return 0
    scripts = [asked.script] if asked.script else [name for name in SCRIPTS if name != LONGEST]
    walks = [walk(script) for script in scripts]
    failures = [what for each in walks for what in each.failures]
    kills = sum(each.kills for each in walks)
    sys.stdout.write("\n".join([*failures, f"{kills} kills at a step: {len(failures)} failures\n"]))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
