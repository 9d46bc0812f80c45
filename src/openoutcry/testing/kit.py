"""What tests of a firm need: to expect events, and to crash a bus."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, TypeVar, overload
from weakref import WeakKeyDictionary

from openoutcry import EventBus
from openoutcry.core.wording import listed
from openoutcry.errors import ConfigError
from openoutcry.journals import MemoryJournal
from openoutcry.runtime.api.typed import Types
from openoutcry.testing.kit_bus import KitBus
from openoutcry.testing.recording import Recording, described, differences, recorded, type_names

E = TypeVar("E")

WhereOf: TypeAlias = Callable[[E], bool] | Mapping[str, Any] | None
Where: TypeAlias = WhereOf[Any]
Not1 = Literal[0, 2, 3, 4, 5, 6, 7, 8, 9, 10]
"""Counts for which a checker knows that a list is returned."""

SHOWN_MOST = 20
CLOSEST_MOST = 3


class NotPublished(AssertionError):
    """What a test expected was not published in time, or was published too often."""


@overload
async def expect(
    bus: EventBus,
    event_type: type[E],
    *,
    where: WhereOf[E] = ...,
    within_s: float = ...,
    count: Literal[1] = 1,
) -> E: ...
@overload
async def expect(
    bus: EventBus, event_type: type[E], *, where: WhereOf[E] = ..., within_s: float = ..., count: Not1
) -> list[E]: ...
@overload
async def expect(
    bus: EventBus,
    event_type: Types | tuple[type, ...],
    *,
    where: Where = ...,
    within_s: float = ...,
    count: int = ...,
) -> Any: ...
async def expect(
    bus: EventBus, event_type: Any, *, where: Where = None, within_s: float = 5.0, count: int = 1
) -> Any:
    """Wait until events of a type have been published, and return them.

    Events published before the call count too, from the beginning of the recording; with the fixture `bus`
    that is the beginning of the test. An event is found once, so that two calls in a row find two events. In
    virtual time the wait takes no time.

    Args:
        bus: The bus.
        event_type: A type, a class, or a list of these.
        where: Which of them: a predicate, or the values of some fields, `{"symbol": "ES"}`, which gives a
            better report when it fails.
        within_s: How long to wait, on the loop's clock.
        count: How many. 0: none may come within that time.

    Returns:
        The event, or a list of them if `count` is not 1.

    Raises:
        NotPublished: They did not come, or one came that was not expected. It lists what came instead.

    """
    recording = recorded(bus)
    matches = _matcher(where)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    wanted = max(1, count)
    found: list[Any] = []
    try:
        async with asyncio.timeout(within_s):
            while len(found := recording.claim(event_type, matches, wanted)) < wanted:
                await recording.news()
    except TimeoutError:
        if count == 0:
            return []
        what = _said(event_type, where, count, within_s)
        raise NotPublished(
            _report(bus, recording, event_type, where, f"expected {what}; got {len(found)}")
        ) from None
    if count == 0:
        what = _said(event_type, where, count, within_s)
        came = f"but one came after {loop.time() - began_s:.3g} s: {described(found[0])}"
        raise NotPublished(_report(bus, recording, event_type, None, f"expected {what}, {came}"))
    return found[0] if count == 1 else found


def _matcher(where: Where) -> Callable[[Any], bool]:
    if where is None:
        return lambda _event: True
    if isinstance(where, Mapping):
        return lambda event: not differences(event, where)
    return where


def _said(event_type: Any, where: Where, count: int, within_s: float) -> str:
    number = "no" if count == 0 else str(count)
    if isinstance(where, Mapping):
        which = f" with {listed(f'{name}={value!r}' for name, value in where.items())}"
    else:
        which = "" if where is None else f" where {getattr(where, '__name__', where)}"
    return f"{number} {type_names(event_type)}{which} within {within_s:g} s"


def _report(bus: EventBus, recording: Recording, event_type: Any, where: Where, what: str) -> str:
    """Return what was expected, what came closest, what came instead, and which handlers failed."""
    lines = [what]
    candidates = recording.of(event_type)
    if candidates and where is not None:
        lines.append(f"of that type ({len(candidates)}):")
        lines += [_closest(event, where) for event in candidates[-CLOSEST_MOST:]]
    shown = recording.published[-SHOWN_MOST:]
    lines.append(f"published ({len(recording)}), the newest last:" if shown else "nothing was published")
    if len(recording) > len(shown):
        lines.append(f"  ... {len(recording) - len(shown)} before these")
    lines += [f"  {published}" for published in shown]
    lines += _troubles(bus)
    return "\n".join(lines)


def _closest(event: Any, where: Where) -> str:
    line = f"  {described(event)}"
    if isinstance(where, Mapping):
        return (
            line
            + "".join(f"\n    {difference}" for difference in differences(event, where))
            + ("" if differences(event, where) else "\n    expected before, or one too few")
        )
    return line


def _troubles(bus: EventBus) -> list[str]:
    lines = []
    for subscription in bus.subscriptions:
        stats = subscription.stats(0)
        if stats.errors or stats.state in ("paused", "stalled"):
            lines.append(
                f"  {stats.name} ({stats.state}): {stats.errors} failed calls, the last: {stats.last_error}"
            )
    return ["in trouble:", *lines] if lines else []


def letters_of(bus: EventBus) -> str:
    """Return the dead letters of a bus as a report, with tracebacks; an empty string if there are none."""
    return "\n".join(
        f"{letter.subscription} gave up {described(letter.event)} after {letter.attempts} attempts: "
        f"{letter.error}\n{letter.traceback}"
        for letter in bus.dead_letters()
    )


_successors: "WeakKeyDictionary[EventBus, EventBus]" = WeakKeyDictionary()


def newest(bus: EventBus) -> EventBus:
    """Return the bus that took over from this one after the last crash, or this one."""
    while bus in _successors:
        bus = _successors[bus]
    return bus


async def crash_and_recover(bus: EventBus, build: Callable[[EventBus], object] | None = None) -> EventBus:
    """Crash a bus, and start another one on what its journal had kept at that instant.

    Everything that a SIGKILL destroys is gone: what waited in memory, what was not committed, the progress of
    running calls. Handlers are cancelled, which a real crash would not do, but what they do then reaches
    neither the journal nor the new bus.

    Args:
        bus: A running bus with a `MemoryJournal`, such as the fixture `durable_bus`.
        build: Makes the firm again. Called with the new bus before it starts, to subscribe as a new process
            would.

    Returns:
        The new bus, running, with the settings of the old one and a recording of its own.

    Raises:
        ConfigError: The bus has no journal in memory.

    """
    journal = getattr(bus.persistence, "journal", None)
    if not isinstance(journal, MemoryJournal):
        raise ConfigError(
            f"the bus's journal is {journal!r}; crash_and_recover takes a bus made with "
            "EventBus(journal=MemoryJournal()), such as the fixture durable_bus"
        )
    for subscription in bus.subscriptions:
        subscription.pause()
    found = journal.reopened()
    again = _successor(bus, journal=found)
    await bus.stop(timeout_s=0)
    _successors[bus] = again
    recorded(again).clear()
    if build is not None:
        build(again)
    await again.start()
    return again


def _successor(bus: EventBus, journal: MemoryJournal) -> EventBus:
    """Return a bus with the settings of one that has crashed; what that one's handlers raise now is lost."""
    settings = {**bus.config.arguments(), "journal": journal}
    if not isinstance(bus, KitBus):
        return EventBus(**settings)
    bus.crashed()
    return KitBus(bus.outcome, **settings)
