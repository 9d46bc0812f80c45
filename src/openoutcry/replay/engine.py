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
from openoutcry.replay.comparing import hashes_of
from openoutcry.replay.day import Day
from openoutcry.replay.outcome import effects_of
from openoutcry.replay.replayed import Replayed, ReplayedLife
from openoutcry.replay.script import Script
from openoutcry.replay.stepped import SteppedLoop
from openoutcry.replay.venue import set_up_both
from openoutcry.runtime.durability.recorder import running_app, running_broker
from openoutcry.version import __version__

NEVER_NS: Final = 2**63 - 1
S = TypeVar("S", bound=Script)
B = TypeVar("B", bound=ReplayedBus)

SEED: Final = 0
SETTLING_S: Final = 1.0
"""After so long in virtual time, whoever is not settled is behind."""
_DOES_NOT_WAIT: Final = (
    "it was over before rounds in which answers are missing or late, as the market does not wait; a day that "
    "a program played as fast as it could needs --join (joins=True): the market waits where it had waited"
)


class Switch(Protocol):
    """What denies effects, as the engine sees it."""

    is_on: bool


def replay_here(
    day: Day,
    app: Any,
    target: str,
    *,
    strict: bool = False,
    into: Path | None = None,
    goes_on: bool = False,
    **how: Any,
) -> Replayed:
    """Replay a day in this process, and hold its agents against the record. `how` is as for `run_here`.

    With `into` what they published is written into a new journal there; with `goes_on` as well, behind what
    that has of the lives before.
    """
    script = Script(day, strict=strict, is_kept=into is not None)
    bus = run_here(script, ReplayedBus, app, target, **how)
    bus.judge_rounds()
    return _kept(_result(script, target), bus, into, goes_on=goes_on)


def _kept(found: Replayed, bus: ReplayedBus, into: Path | None, *, goes_on: bool) -> Replayed:
    if into is None:
        return found
    bus.keep(into, goes_on=goes_on)
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
    goes_on: bool = False,
    **how: Any,
) -> Replayed:
    """Replay a day with a change in this process; the control came first, and was identical."""
    branch = Branch(day, known, change, joins=joins, is_kept=into is not None)
    bus = run_here(branch, ChangedBus, app, target, others=others, **how)
    effects = effects_of(branch, bus.rounds_played)
    limits = list(control.limits)
    if day.life.number > 1:
        limits.append(
            "it began with what agents remembered on the day: what the change has led to in the lives before "
            "does not go on into it"
        )
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
    replayed = _result(branch, target).replayed
    life = msgspec.structs.replace(control.lives[0], replayed=replayed, effects=effects)
    found = msgspec.structs.replace(
        control, replayed=replayed, effects=effects, limits=tuple(limits), lives=(life,)
    )
    return _kept(found, bus, into, goes_on=goes_on)


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
    day, published, entries = script.day, script.published, script.day.compared
    made = [entry.event for entry in entries if entry.is_made or entry.event.event_id in published]
    places = {entry.event.event_id: entry.position for entry in entries}
    now = (event for i, event in published.items() if i in places or i not in day.by_id)
    again = sorted(now, key=lambda event: places.get(event.event_id, NEVER_NS))
    life = ReplayedLife(
        number=day.life.number,
        identical=not script.differences,
        ended=day.ended,
        entries_count=len(entries),
        skipped_count=day.skipped_count,
        skipped=day.gap,
        is_complete=not day.gap or day.gap_is_end,
        from_wall_ns=day.started_wall_ns + day.from_ns,
        to_wall_ns=day.started_wall_ns + (entries[-1].at_ns if entries else day.from_ns),
        recorded=hashes_of(made, strict=script.strict),
        replayed=hashes_of(again, strict=script.strict),
        differences_count=len(script.differences),
    )
    return Replayed(
        journal=str(day.path),
        app=target,
        identical=life.identical,
        recorded=life.recorded,
        replayed=life.replayed,
        differences=tuple(msgspec.structs.replace(one, life=life.number) for one in script.differences),
        entries_count=life.entries_count,
        from_wall_ns=life.from_wall_ns,
        to_wall_ns=life.to_wall_ns,
        is_complete=life.is_complete,
        skipped_count=life.skipped_count,
        lives_count=day.life.count,
        lives=(life,),
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
        found.append(script.day.gap)
    if script.day.life.stays:
        found.append(
            "its bus was started again in the process of the life before: agents that were not made anew "
            "then may have remembered more than is known"
        )
    if script.day.life.base and not script.day.is_taped:
        found.append(
            "what was not settled at its start, and what agents remembered, is not in this record "
            "(record='replay' keeps that)"
        )
    if script.unhanded_count:
        found.append(
            f"{script.unhanded_count} events that were taken on the day were not handed to who took them: "
            "it is not subscribed to them any more"
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
