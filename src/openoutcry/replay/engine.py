"""The engine: a day happens again on a virtual loop, as fast as its agents think."""

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import msgspec

from openoutcry.clocks import VirtualClock
from openoutcry.core.wording import listed
from openoutcry.events import stamps
from openoutcry.replay.app import set_up
from openoutcry.replay.branch import Branch, Knowledge, knowledge_of
from openoutcry.replay.branch_bus import ChangedBus
from openoutcry.replay.bus import ReplayedBus
from openoutcry.replay.change import Change
from openoutcry.replay.comparing import Difference, Hashes, hashes_of
from openoutcry.replay.day import Day
from openoutcry.replay.outcome import Effects, effects_of
from openoutcry.replay.script import Script
from openoutcry.replay.stepped import SteppedLoop
from openoutcry.replay.venue import set_up_both
from openoutcry.runtime.durability.recorder import running_app, running_broker
from openoutcry.version import __version__

S = TypeVar("S", bound=Script)
B = TypeVar("B", bound=ReplayedBus)

SEED: Final = 0
SETTLING_S: Final = 1.0
"""After so long in virtual time, whoever is not settled is behind."""
_DOES_NOT_WAIT: Final = (
    "it was over before rounds in which answers are missing or late, as the market does not wait; a day that "
    "a program played as fast as it could needs --join (joins=True): the market waits where it had waited"
)


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
    into: str | None = None
    """The journal that the replay was written into, if one was asked for."""
    effects: Effects | None = None
    """What a change has led to; None for a replay without one, and where the control was not identical."""

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
        if self.effects is not None:
            for told, change in zip(plain["effects"]["changes"], self.effects.changes, strict=True):
                told["text"] = change.text()
        return plain


class Switch(Protocol):
    """What denies effects, as the engine sees it."""

    is_on: bool


def replay_here(
    day: Day, app: Any, target: str, *, strict: bool = False, into: Path | None = None, **how: Any
) -> Replayed:
    """Replay a day in this process, and hold its agents against the record. `how` is as for `run_here`.

    With `into` what they published is written into a new journal there.
    """
    script = Script(day, strict=strict, is_kept=into is not None)
    bus = run_here(script, ReplayedBus, app, target, **how)
    bus.judge_rounds()
    return _kept(_result(script, target), bus, into)


def _kept(found: Replayed, bus: ReplayedBus, into: Path | None) -> Replayed:
    if into is None:
        return found
    bus.keep(into)
    return msgspec.structs.replace(found, into=str(into))


def what_if_here(
    day: Day,
    app: Any,
    target: str,
    change: Change,
    *,
    control: Replayed,
    known: Knowledge,
    joins: bool = False,
    others: Mapping[str, Any] | None = None,
    into: Path | None = None,
    **how: Any,
) -> Replayed:
    """Replay a day with a change in this process; the control came first, and was identical."""
    branch = Branch(day, known, change, joins=joins, is_kept=into is not None)
    bus = run_here(branch, ChangedBus, app, target, others=others, **how)
    effects = effects_of(branch, bus.rounds_played)
    limits = list(control.limits)
    if effects.rounds_unheeded:
        limits.append(
            f"{effects.rounds_unheeded} rounds with another outcome were waited for by a main program, which "
            "is not run: what it decided on the day stands"
        )
    if branch.behind:
        counts = listed(f"{name} with {count:,}" for name, count in branch.behind.items())
        why = f"when the day was over events still waited for {counts}"
        limits.insert(0, why if joins else f"{why}: {_DOES_NOT_WAIT}")
    strange = sorted({one.agent for one in branch.differences if not branch.is_touched(one.agent)})
    if strange:
        limits.append(
            f"{', '.join(strange)} did otherwise though nothing that it was handed had changed: it shares "
            "something with others behind the bus's back, or reads what they have left there"
        )
    found = msgspec.structs.replace(
        control, replayed=_result(branch, target).replayed, effects=effects, limits=tuple(limits)
    )
    return _kept(found, bus, into)


def control_here(day: Day, app: Any, target: str, **how: Any) -> tuple[Replayed, Knowledge]:
    """Replay a day in this process as it was, for a what-if to be compared with."""
    script = Script(day)
    run_here(script, ReplayedBus, app, target, **how).judge_rounds()
    return _result(script, target), knowledge_of(script)


def run_here(
    script: S,
    new_bus: Callable[[S], B],
    app: Any,
    target: str,
    *,
    broker: Any = None,
    others: Mapping[str, Any] | None = None,
    denial: Switch | None = None,
    own_time: Callable[[VirtualClock], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> B:
    """Play a script on a bus in this process. It takes the loop of the thread, and seeds `random`.

    `broker` is the venue of that day, if it had one, which subscribes before the app; `others` are apps that
    subscribe in place of agents. `denial` is switched on for that long; `own_time` has the `time` module read
    the clock.
    """
    random.seed(SEED)
    day = script.day
    loop = SteppedLoop(VirtualClock(day.started_wall_ns), limit_s=None)
    loop.clock.advance_to(day.from_ns)
    clock = loop.clock
    with asyncio.Runner(loop_factory=lambda: loop) as runner, stamps(time_ns=_stamp_of(script, clock)):  # noqa: SIM117
        with own_time(clock), switched_on(denial):
            return runner.run(_run(script, new_bus, (app, broker), target, others or {}))


def _stamp_of(script: Script, clock: VirtualClock) -> Callable[[], int]:
    """Return what gives events their times: the clock or, where the day had times of its own, the day."""
    return script.session_ns if script.day.has_own_times else clock.wall_ns


@contextmanager
def switched_on(denial: Switch | None) -> Iterator[None]:
    """Deny effects meanwhile, where there is something that does."""
    if denial is None:
        yield
        return
    denial.is_on = True
    try:
        yield
    finally:
        denial.is_on = False


async def _run(
    script: S, new_bus: Callable[[S], B], both: tuple[Any, Any], target: str, others: Mapping[str, Any]
) -> B:
    (app, broker), broker_target = both, script.day.manifest.broker
    running_app.set(target)
    running_broker.set(broker_target)
    bus = new_bus(script)
    bus.watch_errors()
    async with AsyncExitStack() as apps:
        await apps.enter_async_context(set_up_both(bus, app, target, broker, broker_target))
        bus.dismiss()
        for name, other in others.items():
            await apps.enter_async_context(set_up(other, bus, name))
        bus.remember()
        bus.link_mailboxes()
        await bus.start()
        try:
            await script.play(bus.let_in, bus)
            await asyncio.sleep(SETTLING_S)
            bus.record_is_over()
            with suppress(TimeoutError):
                async with asyncio.timeout(bus.afterwards_s):
                    await bus.join()
        finally:
            script.is_closed = True
            await bus.stop(timeout_s=0)
    script.unhanded_count = bus.unhanded_count
    return bus


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


def _limits(script: Script) -> tuple[str, ...]:
    found = []
    if not script.day.is_taped:
        found.append(
            "in which order agents took their events is not in this record (record='replay' keeps that): "
            "what differs may come from there"
        )
    if script.day.gap:
        found.append(f"{script.day.gap}; the day was replayed up to there")
    if script.unhanded_count:
        found.append(
            f"{script.unhanded_count} events that were taken on the day were not handed to who took them: "
            "it is not subscribed to them any more"
        )
    if script.day.runs_count > 1:
        found.append(
            f"the journal has {script.day.runs_count} runs; what came after the first restart was not "
            "replayed"
        )
    version = script.day.manifest.version
    if version != __version__:
        found.append(
            f"the day was recorded by openoutcry {version}, and this is {__version__}: compare within one "
            "version"
        )
    if script.aside_count:
        found.append(
            f"{script.aside_count} events were published outside of handlers: what was published so on the "
            "day was handed out instead"
        )
    return tuple(found)
