"""How stored events are shown: a line for people, a JSON row for programs. No event class is needed."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from openoutcry.ports import BuriedEvent, Header, Stored
from openoutcry.printable import printable, printable_json

_LEFT_OUT: Final = frozenset(
    ("event_class", "schema_version", "timestamp", "event_type", "source_agent", "symbol", "event_id")
)
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


class EventRow(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A stored event as JSON: its position and head, and the event's own bytes."""

    subscription: str | None = None
    position: int
    time: str
    wall_ns: int
    lane: str
    level: str
    event_id: str | None = None
    event_type: str | None = None
    source_agent: str | None = None
    symbol: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    round_id: str | None = None
    event: msgspec.Raw


class LetterRow(msgspec.Struct, kw_only=True):
    """A dead letter as JSON."""

    letter_id: int
    subscription: str
    lane: str
    position: int
    time: str
    wall_ns: int
    event_id: str | None
    event_type: str | None
    reason: str
    attempts: int
    error: str
    traceback: str
    event: msgspec.Raw
    subscribed: bool | None = None


def time_of(wall_ns: int) -> str:
    """Return a UTC time with milliseconds; empty for 0."""
    if not wall_ns:
        return ""
    try:
        moment = datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{wall_ns} ns"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{wall_ns // 1_000_000 % 1000:03d}"


def head_of(entry: Stored | BuriedEvent) -> Header:
    """Return the head of an event; if its JSON has none that can be read, what is stored beside it."""
    try:
        if isinstance(entry, Stored):
            return entry.head()
        return msgspec.json.decode(entry.payload, type=Header, strict=False)
    except msgspec.MsgspecError:
        return (entry.header if isinstance(entry, Stored) else None) or Header()


def row_of(entry: Stored, subscription: str | None = None) -> EventRow:
    """Return the JSON row of an event."""
    return EventRow(
        subscription=subscription,
        position=entry.position,
        time=time_of(entry.wall_ns),
        wall_ns=entry.wall_ns,
        lane=entry.lane,
        level=entry.level.name.lower(),
        event=msgspec.Raw(entry.payload),
        **msgspec.structs.asdict(head_of(entry)),
    )


def letter_row(letter: BuriedEvent, subscribed: bool | None = None) -> LetterRow:
    """Return the JSON row of a dead letter, and whether its name is subscribed now, if that is known."""
    head = head_of(letter)
    return LetterRow(
        letter_id=letter.letter_id,
        subscription=letter.subscription,
        lane=letter.lane,
        position=letter.position,
        time=time_of(letter.wall_ns),
        wall_ns=letter.wall_ns,
        event_id=head.event_id,
        event_type=letter.event_type or None,
        reason=letter.reason,
        attempts=letter.attempts,
        error=letter.error,
        traceback=letter.traceback,
        event=msgspec.Raw(letter.payload),
        subscribed=subscribed,
    )


def json_line(row: object) -> str:
    """Return a row as one line of JSON that is safe to show."""
    return printable_json(_encode(row).decode("utf-8", "replace"))


def line_of(entry: Stored) -> str:
    """Return an event as one line: position, time, lane, type, agent, symbol, then its own fields."""
    head = head_of(entry)
    return (
        f"{entry.position:>8}  {time_of(entry.wall_ns)}  {entry.lane:<7}  {_fit(head.event_type, 18)}  "
        f"{_fit(head.source_agent, 16)}  {_fit(head.symbol, 6)}  {details(entry.payload)}"
    ).rstrip()


def _fit(text: str | None, width: int) -> str:
    return f"{printable(text or '-'):<{width}}"


def details(payload: bytes) -> str:
    """Return an event's own fields as `name=value`, without empty ones and those that every event has."""
    try:
        fields = _decode(payload)
    except msgspec.DecodeError:
        return printable(payload.decode("utf-8", "replace"))
    if not isinstance(fields, dict):
        return printable(str(fields))
    shown = ((k, v) for k, v in fields.items() if k not in _LEFT_OUT and v not in (None, "", [], {}))
    return "  ".join(f"{printable(str(name))}={printable(_short(value))}" for name, value in shown)


def _short(value: Any) -> str:
    return value if isinstance(value, str) else _encode(value).decode("utf-8", "replace")


def shown(entries: Iterable[Stored], as_json: bool) -> Iterable[str]:
    """Return the lines for some events."""
    show: Callable[[Stored], str] = (lambda entry: json_line(row_of(entry))) if as_json else line_of
    return map(show, entries)
