"""What a bus of the crash campaign is loaded with: publishers of every kind, who tell what came of it."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError as FutureCancelled
from itertools import count
from time import sleep
from typing import Final, NamedTuple

from campaigns.bus_events import made
from campaigns.crash_kit import Tell
from openoutcry import EventBus, LevelName
from openoutcry.errors import BusClosed, SignalRefused

AGENTS: Final = ("as", "bs", "cs")
ANSWER_S: Final = 300


class Plan(NamedTuple):
    """What a life is to be like.

    Attributes:
        number: Its number, which its events' ids begin with.
        seed: Decides everything else.
        again: Ids to publish once more, since nobody knows what became of them.
        is_last: Whether it publishes nothing, handles everything, redrives all dead letters and ends.
        small: Whether the limits that bound duplicates are small, so that a short life meets them.
        slow_disk: Whether every sync takes some milliseconds.
        plant: Plants a bug.

    """

    number: int
    seed: int
    again: tuple[str, ...] = ()
    is_last: bool = False
    small: bool = False
    slow_disk: bool = False
    plant: Callable[[], None] = lambda: None


class Load:
    """The publishers of one life.

    Attributes:
        bus: Where they publish.
        left: How many events they are still to publish.

    """

    bus: EventBus

    def __init__(self, plan: Plan, tell: Tell, rng: random.Random) -> None:
        self._plan = plan
        self._tell = tell
        self._rng = rng
        self.left = 0 if plan.is_last else rng.choice((10, 50, 200, 500))
        self._numbers = count()
        self._answered: list[str] = []

    def _ids(self, publisher: str, kinds: str) -> list[str]:
        """Make ids for so many events, and tell that they are about to be published."""
        ids = [f"{self._plan.number}.{publisher}.{next(self._numbers)}{kind}" for kind in kinds]
        self.left -= len(ids)
        self._tell("offer", publisher, *ids)
        return ids

    async def _ask(self, event_id: str, publishing: Awaitable[bool]) -> bool:
        """Tell what comes of a publish, and return whether it was accepted."""
        try:
            accepted = await publishing
        except BusClosed:
            self._tell("closed", event_id)
            self.left = 0
            return False
        except asyncio.CancelledError:
            self._tell("what", event_id)
            raise
        self._say(event_id, accepted=accepted)
        return accepted

    def _say(self, event_id: str, *, accepted: bool) -> None:
        self._tell("yes" if accepted else "no", event_id)
        if accepted:
            self._answered.append(event_id)

    def _level(self) -> LevelName | None:
        levels: tuple[LevelName | None, ...] = (None, None, None, "process", "disk")
        return self._rng.choice(levels)

    async def _publisher(self, name: str) -> None:
        ways = (self._one, self._many, self._now, self._cancelled, self._kill, self._twice)
        while self.left > 0:
            (way,) = self._rng.choices(ways, (10, 3, 2, 3, 1, 1))
            await way(name)
            if self._rng.random() < 0.1:
                await asyncio.sleep(0)

    async def _one(self, name: str) -> None:
        (event_id,) = self._ids(name, self._rng.choice("ooof"))
        urgent = self._rng.random() < 0.1
        await self._ask(event_id, self.bus.publish(made(event_id), urgent, level=self._level()))

    async def _many(self, name: str) -> None:
        ids = self._ids(name, self._rng.choice(("o", "of")) * self._rng.randint(2, 20))
        try:
            accepted = await self.bus.publish_many([made(event_id) for event_id in ids])
        except (BusClosed, asyncio.CancelledError) as error:
            self._tell("what", *ids)
            self.left = 0
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        for number, event_id in enumerate(ids):
            self._say(event_id, accepted=number < accepted)

    async def _now(self, name: str) -> None:
        (event_id,) = self._ids(name, self._rng.choice("oof"))
        try:
            self._say(event_id, accepted=self.bus.publish_nowait(made(event_id), level=self._level()))
        except BusClosed:
            self._tell("closed", event_id)
            self.left = 0

    async def _cancelled(self, name: str) -> None:
        (event_id,) = self._ids(name, self._rng.choice("oof"))
        task = asyncio.create_task(self.bus.publish(made(event_id), level=self._level()))
        for _ in range(self._rng.randint(0, 4)):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if task.cancelled():
            self._tell("what", event_id)
        elif isinstance(task.exception(), BusClosed):
            self._tell("closed", event_id)
            self.left = 0
        else:
            self._say(event_id, accepted=task.result())

    async def _kill(self, name: str) -> None:
        (event_id,) = self._ids(name, "k")
        await self._ask(event_id, self.bus.publish(made(event_id)))

    async def _twice(self, _name: str) -> None:
        """Publish again what was accepted in this life."""
        if self._answered:
            event_id = self._rng.choice(self._answered)
            if event_id[-1] != "s":  # (a signal that comes again would need its round)
                await self._ask(event_id, self.bus.publish(made(event_id)))

    async def _again(self) -> None:
        """Publish again what nobody knows of."""
        for event_id in self._plan.again:
            self._tell("offer", "again", event_id)
            await self._ask(event_id, self.bus.publish(made(event_id)))

    async def _rounds(self) -> None:
        for number in count():
            if self.left <= 0:
                return
            round_id = f"{self._plan.number}.r{number}"
            ids = [f"{round_id}.{agent}" for agent in AGENTS]
            self._tell("offer", "rounds", *ids)
            self.bus.open_round(round_id, roster=AGENTS, signal_timeout=0.05, barrier_timeout=0.1)
            voted = await asyncio.gather(*(self._signal(event_id) for event_id in ids))
            self.left -= len(ids)
            if not all(voted):
                return
            outcome = await self.bus.wait_for_signals(round_id)
            if len(outcome) + outcome.late_count != len(ids):
                self._tell("wrong", f"the round {round_id} has {sorted(outcome)}: {outcome.explain()}")
            await asyncio.sleep(0)

    async def _signal(self, event_id: str) -> bool:
        async def publishing() -> bool:
            try:
                await self.bus.publish_signal(made(event_id))
            except SignalRefused:
                return False
            return True

        return await self._ask(event_id, publishing())

    async def _ticker(self) -> None:
        numbers = count()
        while self.left > 0:
            for _ in range(5):
                await self.bus.publish(made(f"{self._plan.number}.tick.{next(numbers)}t"))
            await asyncio.sleep(0.001)

    def _thread(self) -> None:
        """Publish from a thread of its own."""
        while self.left > 0:
            ids = self._ids("thread", self._rng.choice(("o", "oo", "ofo", "k")))
            futures = [self.bus.publish_threadsafe(made(event_id)) for event_id in ids]
            for event_id, future in zip(ids, futures, strict=True):
                try:
                    self._say(event_id, accepted=future.result(ANSWER_S))
                except BusClosed:
                    self._tell("closed", event_id)
                    self.left = 0
                except FutureCancelled:
                    self._tell("what", event_id)
            sleep(0.001)
