"""The engine: a day happens again on a virtual loop, as fast as its agents think."""

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, Final, Protocol

import msgspec

from openoutcry.clocks import VirtualClock
from openoutcry.events import stamps
from openoutcry.replay.app import set_up
from openoutcry.replay.bus import ReplayedBus
from openoutcry.replay.comparing import Difference, Hashes, hashes_of
from openoutcry.replay.day import Day
from openoutcry.replay.script import Script
from openoutcry.version import __version__
from openoutcry.virtual import VirtualLoop

SEED: Final = 0
AFTERWARDS_S: Final = 1.0
"""So long in virtual time agents may go on when the record is over."""


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """How a replay has ended."""

    journal: str
    """The journal."""
    app: str
    """What was run, as `module:app`."""
    identical: bool
    """Whether agents did all that they had done on the day, and nothing else."""
    recorded: Hashes
    """The hashes of what they had published."""
    replayed: Hashes
    """The hashes of what they have published now."""
    differences: tuple[Difference, ...]
    """What they did otherwise, in the order in which it was found."""
    entries_count: int
    """How many events of the record were handed out."""
    from_wall_ns: int
    """When the day began, in nanoseconds since 1970 UTC."""
    to_wall_ns: int
    """When the last of these events was handed out."""
    is_taped: bool = False
    """Whether the record says in which order agents took their events."""
    limits: tuple[str, ...] = ()
    """What this replay cannot know, in sentences."""

    def first_differences(self) -> tuple[Difference, ...]:
        """Return the first difference of each agent."""
        first: dict[str, Difference] = {}
        for one in self.differences:
            first.setdefault(one.agent, one)
        return tuple(first.values())

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data, each difference in words as well."""
        plain: dict[str, Any] = msgspec.to_builtins(self, enc_hook=str)
        for told, one in zip(plain["differences"], self.differences, strict=True):
            told["text"] = one.text()
        return plain


class Switch(Protocol):
    """What denies effects, as the engine sees it."""

    is_on: bool


def replay_here(
    day: Day,
    app: Any,
    target: str,
    *,
    strict: bool = False,
    denial: Switch | None = None,
    own_time: Callable[[VirtualClock], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> Replayed:
    """Replay a day in this process. It takes the loop of the thread, and seeds `random`.

    `denial` is switched on for that long; `own_time` has the `time` module read the clock.
    """
    random.seed(SEED)
    script = Script(day, strict=strict)
    loop = VirtualLoop(VirtualClock(day.started_wall_ns), limit_s=None)
    loop.clock.advance_to(day.from_ns)
    clock = loop.clock
    with asyncio.Runner(loop_factory=lambda: loop) as runner, stamps(time_ns=clock.wall_ns):  # noqa: SIM117
        with own_time(clock), _switched_on(denial):
            runner.run(_run(script, app, target))
    return _result(script, target)


@contextmanager
def _switched_on(denial: Switch | None) -> Iterator[None]:
    if denial is None:
        yield
        return
    denial.is_on = True
    try:
        yield
    finally:
        denial.is_on = False


async def _run(script: Script, app: Any, target: str) -> None:
    bus = ReplayedBus(script)
    bus.watch_errors()
    async with set_up(app, bus, target):
        bus.remember()
        await bus.start()
        try:
            await script.play(bus.let_in, bus)
            with suppress(TimeoutError):
                async with asyncio.timeout(AFTERWARDS_S):
                    await bus.join()
        finally:
            script.is_closed = True
            await bus.stop(timeout_s=0)
    bus.judge_rounds()


def _result(script: Script, target: str) -> Replayed:
    day, published = script.day, script.published
    made = [entry.event for entry in day.entries if entry.is_made or entry.event.event_id in published]
    places = {entry.event.event_id: entry.position for entry in day.entries}
    again = sorted(published.values(), key=lambda event: places.get(event.event_id, len(places) + 1))
    return Replayed(
        journal=str(day.path),
        app=target,
        identical=not script.differences,
        recorded=hashes_of(made, strict=script.strict),
        replayed=hashes_of(again, strict=script.strict),
        differences=tuple(script.differences),
        entries_count=len(day.entries),
        from_wall_ns=day.started_wall_ns,
        to_wall_ns=day.started_wall_ns + (day.entries[-1].at_ns if day.entries else 0),
        is_taped=day.is_taped,
        limits=_limits(script),
    )


def day_version(day: Day) -> str:
    """Return which version of openoutcry has recorded a day."""
    return "" if day.manifest is None else day.manifest.version


def _limits(script: Script) -> tuple[str, ...]:
    found = []
    if not script.day.is_taped:
        found.append(
            "in which order agents took their events is not in this record (record='replay' keeps that): "
            "what differs may come from there"
        )
    if script.day.runs_count > 1:
        found.append(
            f"the journal has {script.day.runs_count} runs; what came after the first restart was not "
            "replayed"
        )
    if day_version(script.day) != __version__:
        found.append(
            f"the day was recorded by openoutcry {day_version(script.day)}, and this is {__version__}: "
            "compare within one version"
        )
    if script.aside_count:
        found.append(
            f"{script.aside_count} events were published outside of handlers: what was published so on the "
            "day was handed out instead"
        )
    return tuple(found)
