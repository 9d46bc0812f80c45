"""Which entries meet a filter, whatever types the fields of users' classes have; and an event's own time."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from openoutcry.ports import Filter, Stored

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _Fields(msgspec.Struct, gc=False):
    """The head fields of an event as they are, of whatever type."""

    event_id: Any = None
    source_agent: Any = None
    symbol: Any = None
    correlation_id: Any = None
    causation_id: Any = None
    round_id: Any = None
    timestamp: Any = None


_read: Final = msgspec.json.Decoder(_Fields).decode
_HEAD: Final = {
    "event_id": "event_id",
    "agent": "source_agent",
    "symbol": "symbol",
    "correlation_id": "correlation_id",
    "causation_id": "causation_id",
    "round_id": "round_id",
}


def _fields_of(payload: bytes) -> _Fields:
    try:
        return _read(payload)
    except msgspec.MsgspecError:
        return _Fields()


def own_ns(payload: bytes) -> int | None:
    """Return an event's own time in nanoseconds since 1970, from its JSON; None if it has none."""
    return instant_ns(_fields_of(payload).timestamp)


def instant_ns(given: Any) -> int | None:
    """Return an instant as an event's JSON has it, in nanoseconds since 1970; None if it is none."""
    if isinstance(given, int) and not isinstance(given, bool):
        return given
    if not isinstance(given, str):
        return None
    try:
        moment = datetime.fromisoformat(given)
    except ValueError:
        return None
    after = (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)) - _EPOCH
    return (after.days * 86_400 + after.seconds) * 1_000_000_000 + after.microseconds * 1_000


def texts_of(payload: bytes, name: str) -> list[str]:
    """Return what a head field of an event says: of a number its digits, of an object its values."""
    return list(_words(getattr(_fields_of(payload), name)))


def _words(value: Any) -> Iterator[str]:
    match value:
        case None:
            return
        case str():
            yield value
        case bool():
            yield str(value).lower()
        case dict():
            for one in value.values():
                yield from _words(one)
        case list():
            for one in value:
                yield from _words(one)
        case _:
            yield str(value)


def matching(where: Filter) -> Callable[[Stored], bool]:
    """Return the question whether an entry meets a filter. The cheap conditions come first."""
    since_ns = where.since_ns
    until_ns = where.until_ns
    given = ((head, getattr(where, name)) for name, head in _HEAD.items())
    by_head = {head: value for head, value in given if value is not None}
    has_own = where.own_since_ns is not None or where.own_until_ns is not None

    def meets(entry: Stored) -> bool:
        if since_ns is not None and entry.wall_ns < since_ns:
            return False
        if until_ns is not None and entry.wall_ns >= until_ns:
            return False
        if where.types is not None or by_head:
            head = entry.head()
            if where.types is not None and head.event_type not in where.types:
                return False
            for name, value in by_head.items():
                known = getattr(head, name)
                # What is not text there, such as a number or an object, is looked at as it is.
                if known != value and (known is not None or value not in texts_of(entry.payload, name)):
                    return False
        return not has_own or _is_within(own_ns(entry.payload), where.own_since_ns, where.own_until_ns)

    return meets


def _is_within(at_ns: int | None, since_ns: int | None, until_ns: int | None) -> bool:
    if at_ns is None:
        return False
    return (since_ns is None or at_ns >= since_ns) and (until_ns is None or at_ns < until_ns)
