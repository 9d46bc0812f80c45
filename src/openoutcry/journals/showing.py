"""How stored events are shown: a line for people, a JSON row for programs. No event class is needed."""

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from openoutcry.cells import cropped, padded, shortened
from openoutcry.journals.matching import own_ns, texts_of
from openoutcry.ports import BuriedEvent, Header, Stored
from openoutcry.printable import printable, printable_json

_LEFT_OUT: Final = frozenset(
    ("event_class", "schema_version", "timestamp", "event_type", "source_agent", "symbol", "event_id")
)
_IDS: Final = frozenset(("correlation_id", "causation_id", "round_id"))
HEAD_FIELDS: Final = _LEFT_OUT | _IDS
"""The fields that every event has, ids included."""
_HEAD: Final = tuple(name for name in Header.__struct_fields__ if name in Header.__struct_encode_fields__)
"""What an event may say of itself, of what a journal knows."""
_FURTHEST_NS: Final = 2**63
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
    from_desk: str | None = None
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
    head = head_of(entry)
    return EventRow(
        subscription=subscription,
        position=entry.position,
        time=time_of(entry.wall_ns),
        wall_ns=entry.wall_ns,
        lane=entry.lane,
        level=entry.level.name.lower(),
        from_desk=desk_of(entry),
        event=msgspec.Raw(entry.payload),
        **{name: getattr(head, name) for name in _HEAD},
    )


def desk_of(entry: Stored) -> str | None:
    """Return which other desk has made an event; None for what was made where the journal is."""
    return None if entry.header is None else entry.header.desk


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


_WIDTHS: Final = {"position": 8, "time (UTC)": 23, "type": 18, "agent": 16, "symbol": 6}
_NARROW: Final = {"position": 8, "time (UTC)": 14, "type": 13, "agent": 11, "symbol": 6}
_NARROW_MOST: Final = 100
"""On a terminal that is not wider, names are shorter and times to the second: the event's own fields show."""


def _widths(width: int | None) -> dict[str, int]:
    return _WIDTHS if width is None or width > _NARROW_MOST else _NARROW


def heads(width: int | None) -> str:
    """Return what stands over the lines of events, on a terminal of this width."""
    name, *names = _widths(width).items()
    shown = "  ".join([f"{name[0]:>{name[1]}}", *(f"{one:<{size}}" for one, size in names), "event"])
    return shown if width is None else cropped(shown, width)


def line_of(entry: Stored, width: int | None = None) -> str:
    """Return an event as one line: position, its own time, type, agent, symbol, its own fields, then its ids.

    With a width long names are shortened, so that columns stay aligned. Where it was admitted at
    another time than its own, to the millisecond, that stands before the ids.
    """
    head, payload = head_of(entry), entry.payload
    at_ns = own_ns(payload)
    cells = (
        time_of(at_ns) if at_ns is not None and -_FURTHEST_NS < at_ns < _FURTHEST_NS else "-",
        head.event_type,
        head.source_agent or " ".join(texts_of(payload, "source_agent")),
        head.symbol or " ".join(texts_of(payload, "symbol")),
    )
    at, widths = cells[0], _widths(width)
    if widths is _NARROW and at != "-":
        cells = (at[5:19].replace("T", " "), *cells[1:])
    sizes = list(widths.values())[1:]
    shown = (_fit(cell, size, width is not None) for cell, size in zip(cells, sizes, strict=True))
    rest = [details(payload, HEAD_FIELDS), *_beside(entry, head, at)]
    return "  ".join([f"{entry.position:>8}", *shown, *filter(None, rest)]).rstrip()


def _beside(entry: Stored, head: Header, own_time: str) -> Iterator[str]:
    """Yield what is not the event's own: its lane, when the journal took it, its ids."""
    if (desk := desk_of(entry)) is not None:
        yield f"desk={printable(desk)}"
    if entry.lane != "normal":
        yield f"lane={printable(entry.lane)}"
    if time_of(entry.wall_ns) != own_time:
        yield f"admitted={time_of(entry.wall_ns)}"
    for label, value in (
        ("id", head.event_id),
        ("correlation", head.correlation_id),
        ("cause", head.causation_id),
        ("round", head.round_id),
    ):
        if value:
            yield f"{label}={printable(value)}"


def _fit(text: str | None, width: int, is_aligned: bool) -> str:
    shown = printable(text or "-")
    return padded(shortened(shown, width) if is_aligned else shown, width)


def details(payload: bytes, left_out: AbstractSet[str] = _LEFT_OUT) -> str:
    """Return an event's own fields as `name=value`, without empty ones and those that every event has."""
    try:
        fields = _decode(payload)
    except msgspec.DecodeError:
        return printable(payload.decode("utf-8", "replace"))
    if not isinstance(fields, dict):
        return printable(str(fields))
    shown = ((k, v) for k, v in fields.items() if k not in left_out and v not in (None, "", [], {}))
    return "  ".join(f"{printable(str(name))}={printable(_short(value))}" for name, value in shown)


def _short(value: Any) -> str:
    return value if isinstance(value, str) else _encode(value).decode("utf-8", "replace")


def shown(entries: Iterable[Stored], as_json: bool, width: int | None = None) -> Iterable[str]:
    """Return the lines for some events; cropped, with columns that stay, if a width is given."""
    if as_json:
        return (json_line(row_of(entry)) for entry in entries)
    if width is None:
        return map(line_of, entries)
    return (cropped(line_of(entry, width), width) for entry in entries)
