"""Events of the journal for the page: a search backwards, piece by piece, and one event as a whole."""

from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any, Final, Generic, TypeVar

import msgspec

from openoutcry.dashboard.journal_file import Deadline
from openoutcry.dashboard.refusals import Parameters, Refused
from openoutcry.dashboard.words import sentence
from openoutcry.journals import JournalReader
from openoutcry.journals.log import LAST_POSITION
from openoutcry.journals.matching import matching
from openoutcry.journals.showing import details, head_of
from openoutcry.ports import Filter, Header, Stored
from openoutcry.printable import printable, printable_lines

SAID_MAX: Final = 300
SHOWN_BYTES_MAX: Final = 4_096
WHOLE_BYTES_MAX: Final = 16 * 1024 * 1024
READ_WHOLE_BYTES_MAX: Final = 64 * 1024
"""Of a longer event the list shows the beginning, without reading the rest."""
_PIECE: Final = 16 * 1024
"""So many characters are made safe at once: no other thread runs meanwhile."""
PAGE: Final = 50
PAGE_MAX: Final = 200
_TYPES_MAX: Final = 64
_Line = TypeVar("_Line")


class EventLine(msgspec.Struct, frozen=True, kw_only=True):
    """An event in a list. Text is made safe to show; nothing of it is longer than `SAID_MAX`."""

    pos: int
    wall_ns: int
    type: str
    source: str
    symbol: str
    id: str
    correlation: str
    cause: str
    round: str
    lane: str
    said: str


class EventPage(msgspec.Struct, Generic[_Line], frozen=True):
    """What a piece of a search has found, newest first.

    Attributes:
        events: The events.
        next: Search on with `before` = this; None: there are no more.
        scanned: How many events were looked at.
        head: The journal's newest position.

    """

    events: list[_Line]
    next: int | None
    scanned: int
    head: int


class EventWhole(EventLine, frozen=True, kw_only=True):
    """An event with its JSON.

    Attributes:
        level: What it survives.
        json: The JSON, indented and safe to show, or the beginning of it.
        cut: Whether it is not all.
        full: How many bytes the event has.

    """

    level: str
    json: str
    cut: bool
    full: int


class Wanted:
    """What a search is for: every condition that was given must hold."""

    def __init__(self, asked: Parameters) -> None:
        types = asked.text("type")
        names = [name for name in (types or "").split(",") if name][:_TYPES_MAX]
        self.where = Filter(
            types=frozenset(names) or None,
            agent=asked.text("agent"),
            symbol=asked.text("symbol"),
            correlation_id=asked.text("correlation"),
            since_ns=asked.maybe_number("since"),
            until_ns=asked.maybe_number("until"),
        )
        self.before = asked.number("before", LAST_POSITION, least=1, most=LAST_POSITION)
        self.limit = asked.number("limit", PAGE, least=1, most=PAGE_MAX)
        self._heads = {
            field: value
            for field, name in (("event_id", "id"), ("round_id", "round"), ("causation_id", "cause"))
            if (value := asked.text(name)) is not None
        }
        text = asked.text("text")
        self._text = None if text is None else _in_json(text).lower()
        exact = [*self._heads.values(), self.where.agent, self.where.symbol, self.where.correlation_id]
        self._needles = [_in_json(value) for value in exact if value is not None]
        self._meets = matching(self.where)

    def holds(self, data: bytes) -> bool:
        """Return True if the bytes of a batch may have an event that is wanted: quick, and not exact."""
        return all(needle in data for needle in self._needles)

    def meets(self, entry: Stored) -> bool:
        """Return True if an event is wanted."""
        if self._text is not None and self._text not in entry.payload.lower():
            return False
        if not self._meets(entry):
            return False
        if not self._heads:
            return True
        head = head_of(entry)
        return all(getattr(head, field) == value for field, value in self._heads.items())


def _in_json(text: str) -> bytes:
    """Return how a text stands in JSON, without the quotes."""
    try:
        return msgspec.json.encode(text)[1:-1]
    except UnicodeEncodeError as problem:
        raise Refused(400, f"{text[:40]!r} is not text") from problem


def search(reader: JournalReader, deadline: Deadline, wanted: Wanted) -> EventPage[EventLine]:
    """Return the newest events before a position that are wanted, as many as the time allows."""
    return look_back(reader, deadline, wanted, line_of)


def look_back(
    reader: JournalReader, deadline: Deadline, wanted: Wanted, tell: Callable[[Stored], _Line]
) -> EventPage[_Line]:
    """Return what `tell` makes of the newest events that are wanted, as many as the time allows."""
    found: list[_Line] = []
    head, scanned = reader.head, 0
    at = min(wanted.before, head + 1)
    with closing(reader.back(at, wanted.where, wanted.holds)) as batches:
        for first, entries in batches:
            scanned += at - first if not entries else 0
            for entry in reversed(entries):
                at = entry.position
                scanned += 1
                if wanted.meets(entry):
                    found.append(tell(entry))
                    if len(found) == wanted.limit:
                        return EventPage(found, at if at > reader.first else None, scanned, head)
                if not scanned % 256 and deadline.is_over:
                    return EventPage(found, at, scanned, head)
            at = first
            if deadline.is_over:
                return EventPage(found, at if at > reader.first else None, scanned, head)
    return EventPage(found, None, scanned, head)


def line_of(entry: Stored) -> EventLine:
    """Return an event in a line."""
    return EventLine(**_line(entry))


def _line(entry: Stored) -> dict[str, Any]:
    head = head_of(entry) if len(entry.payload) <= WHOLE_BYTES_MAX else entry.header or Header()
    return {
        "pos": entry.position,
        "wall_ns": entry.wall_ns,
        "type": shown(head.event_type),
        "source": shown(head.source_agent),
        "symbol": shown(head.symbol),
        "id": shown(head.event_id),
        "correlation": shown(head.correlation_id),
        "cause": shown(head.causation_id),
        "round": shown(head.round_id),
        "lane": entry.lane,
        "said": cut(said_by(entry.payload)),
    }


def said_by(payload: bytes, **more: Any) -> str:
    """Return what an event says, safe to show: its own fields, as `details` does, or a record's sentence."""
    if len(payload) > READ_WHOLE_BYTES_MAX:
        return printable(payload[: 2 * SAID_MAX].decode("utf-8", "replace"))
    return sentence(payload) or details(payload, **more)


def shown(text: str | None, most: int = SAID_MAX) -> str:
    """Return text of somebody else's, safe to show and not too long."""
    return cut(printable((text or "")[: most + 1]), most)


def cut(text: str, most: int = SAID_MAX) -> str:
    """Return at most so many characters of a text; a cut one ends with an ellipsis."""
    return text if len(text) <= most else f"{text[: most - 1]}\u2026"


def tail(entries: Iterable[Stored]) -> list[EventLine]:
    """Return events in lines, in their order."""
    return [line_of(entry) for entry in entries]


def entry_at(reader: JournalReader, position: int) -> Stored:
    """Return what stands at a position. Refused with 404 where nothing does."""
    found = reader.read(position - 1, 1)
    if not found or found[0].position != position:
        raise Refused(
            404, f"there is no event at position {position}: {reader.first} to {reader.head} are kept"
        )
    return found[0]


def event_at(reader: JournalReader, position: int, *, whole: bool) -> EventWhole:
    """Return the event at a position with its JSON, all of it only if asked for."""
    entry = entry_at(reader, position)
    payload = entry.payload
    most = WHOLE_BYTES_MAX if whole else SHOWN_BYTES_MAX
    if len(payload) <= WHOLE_BYTES_MAX:
        try:
            payload = msgspec.json.format(payload, indent=2)
        except msgspec.MsgspecError:
            payload = entry.payload
    return EventWhole(
        **_line(entry),
        level=entry.level.name.lower(),
        json=_safe(payload[:most].decode("utf-8", "ignore")),
        cut=len(payload) > most,
        full=len(entry.payload),
    )


def _safe(text: str) -> str:
    return "".join(printable_lines(text[at : at + _PIECE]) for at in range(0, len(text), _PIECE))
