"""Finding events by name, in one journal or several: the index says where, and the event decides."""

from collections import OrderedDict
from typing import Any, Final

import msgspec

from openoutcry.events import RECORDS
from openoutcry.journals.lineage.index import Index
from openoutcry.journals.lineage.keys import (
    BASES,
    CAUSE,
    ID,
    OWN_CLASSES,
    REFERENCES,
    ROUND,
    RUN,
    STARTED,
    TRADED,
    is_reference,
    texts_in,
)
from openoutcry.journals.matching import instant_ns
from openoutcry.journals.reading import JournalReader
from openoutcry.journals.rows import Batch
from openoutcry.journals.showing import desk_of, head_of
from openoutcry.ports import Header, Stored

_KEPT_BATCHES: Final = 32
_KEPT_ENTRIES: Final = 65_536
"""So much is kept unpacked, as the steps of a chain stand in few batches."""
_COPIES: Final = 16
ROUND_FEW: Final = 64
"""So many events of one round may stand in many batches."""
_HEAD: Final = (
    "event_id",
    "event_type",
    "source_agent",
    "symbol",
    "correlation_id",
    "causation_id",
    "round_id",
)
_read: Final = msgspec.json.Decoder().decode


class Found:
    """An event that was found.

    Attributes:
        source: In which journal.
        entry: As it is stored.
        head: Its head.
        fields: Its JSON; empty if it is no object.

    """

    __slots__ = ("entry", "fields", "head", "source")

    def __init__(self, source: "Source", entry: Stored) -> None:
        self.source = source
        self.entry = entry
        fields = _read(entry.payload)
        self.fields: dict[str, Any] = fields if isinstance(fields, dict) else {}
        given = ((name, self.fields.get(name)) for name in _HEAD)
        own: dict[str, Any] = {name: value for name, value in given if isinstance(value, str)}
        self.head: Header = Header(**own) if entry.header is None else head_of(entry)

    @property
    def event_id(self) -> str:
        """Its id."""
        return self.head.event_id or ""

    @property
    def event_type(self) -> str:
        """Its type."""
        return self.head.event_type or ""

    @property
    def own_ns(self) -> int | None:
        """Its own time, in nanoseconds since 1970; None if it has none."""
        return instant_ns(self.fields.get("timestamp"))

    @property
    def at_ns(self) -> int:
        """When it was admitted, in nanoseconds since 1970; of a record, when it was made."""
        own_ns = self.own_ns if self.event_type in RECORDS else None
        return self.entry.wall_ns if own_ns is None else own_ns

    @property
    def maker(self) -> str:
        """The desk that has made it."""
        return desk_of(self.entry) or self.source.desk

    @property
    def place(self) -> tuple[str, int]:
        """Where it stands: the desk and the position."""
        return self.source.desk, self.entry.position

    def bases(self) -> list[str]:
        """Return the ids of the signals that it says it rests on."""
        return list(texts_in(self.fields.get(BASES)))

    def references(self, named: frozenset[str]) -> dict[str, list[str]]:
        """Return what it refers to, by the fields that say so."""
        cls = self.fields.get("event_class")
        own = isinstance(cls, str) and cls in OWN_CLASSES
        return {
            name: names
            for name, value in self.fields.items()
            if (name in REFERENCES if own else is_reference(name, named)) and (names := list(texts_in(value)))
        }

    def has(self, kind: int, name: str, named: frozenset[str]) -> bool:
        """Return True if it has a name of a kind."""
        head = self.head
        if kind == ID:
            return head.event_id == name
        if kind == CAUSE:
            return head.causation_id == name or name in self.bases()
        if kind == ROUND:
            return head.round_id == name
        if kind == TRADED:
            return self.fields.get("symbol") == name and self.fields.get("filled_quantity") is not None
        if kind == RUN:
            return head.event_type == STARTED
        return any(name in names for names in self.references(named).values())


class Source:
    """One journal with its index.

    Attributes:
        desk: What its desk is called.
        reader: The journal.
        index: Where names stand.

    """

    def __init__(self, desk: str, reader: JournalReader, index: Index) -> None:
        self.desk = desk
        self.reader = reader
        self.index = index
        self._batches: OrderedDict[int, Batch] = OrderedDict()
        self._found: dict[int, Found] = {}
        self._own: dict[str, Found] = {}
        self._places: dict[tuple[int, str], tuple[int, list[int]]] = {}
        self._count = 0

    def places(self, kind: int, name: str, most: int) -> list[int]:
        """Return where a name may stand, as `Index.places` does; what was asked before is known."""
        asked, known = self._places.get((kind, name), (0, []))
        if asked < most and (asked == 0 or len(known) >= asked):
            known = self.index.places(kind, name, most)
            self._places[kind, name] = most, known
        return known[-most:]

    def at(self, position: int) -> Found | None:
        """Return the event at a position; None if it is not kept."""
        known = self._found.get(position)
        if known is None and (entry := self._entry(position)) is not None:
            if len(self._found) >= _KEPT_ENTRIES:
                self._found.clear()
                self._own.clear()
            known = self._found[position] = Found(self, entry)
            if known.maker == self.desk and not entry.is_beside:
                self._own[known.event_id] = known
        return known

    def own(self, event_id: str) -> Found | None:
        """Return the desk's own event of an id if it was read: no other has its id.

        What was recorded beside is not known so: ids are not kept apart there.
        """
        return self._own.get(event_id)

    def _entry(self, position: int) -> Stored | None:
        for batch in reversed(self._batches.values()):
            if batch.row.first <= position <= batch.row.last:
                return batch.at(position)
        row = self.reader.batch(position)
        if row is None:
            return None
        batch = self._batches[row.first] = Batch(row)
        self._count += row.size
        while self._count > _KEPT_ENTRIES or len(self._batches) > _KEPT_BATCHES:
            self._count -= self._batches.popitem(last=False)[1].row.size
        return batch.at(position)

    def round_of(self, round_id: str) -> dict[str, Found] | None:
        """Return the events of a round by their ids; None where that is more than are read without need."""
        places = self.places(ROUND, round_id, ROUND_FEW)
        if len(places) >= ROUND_FEW:
            return None
        some = (found for place in places if (found := self.at(place)) is not None)
        return {found.event_id: found for found in some if found.head.round_id == round_id}

    def forget(self) -> None:
        """Forget what was read: it may have been retired."""
        self._batches.clear()
        self._found.clear()
        self._own.clear()
        self._places.clear()
        self._count = 0


class Finder:
    """Finds events in some journals, of which the first is the one that is asked.

    Attributes:
        sources: The journals.
        named: The fields of users' classes that refer to something, beside those whose names end so.

    """

    def __init__(self, sources: list[Source], named: frozenset[str]) -> None:
        self.sources = sources
        self.named = named

    def event(self, event_id: str | None) -> Found | None:
        """Return the event of an id: from the desk that made it, if that one's journal is here."""
        if not event_id:
            return None
        copy: Found | None = None
        for source in self.sources:
            known = source.own(event_id)
            if known is not None:
                return known
            for position in reversed(source.places(ID, event_id, _COPIES)):
                found = source.at(position)
                if found is not None and found.has(ID, event_id, self.named):
                    if found.maker == source.desk:
                        return found
                    copy = copy or found
                    break
        return copy

    def read_round(self, round_id: str) -> None:
        """Read the events of a round if they are few: most of a chain is among them, and all votes."""
        for source in self.sources:
            source.round_of(round_id)

    def at(self, position: int) -> Found | None:
        """Return the event at a position of the first journal."""
        return self.sources[0].at(position)

    def of(self, kind: int, name: str, most: int, source: Source | None = None) -> list[Found]:
        """Return the newest events that have a name, oldest first, and each once.

        Of all journals, or of one, in which its copies of other desks' events count too.
        """
        found: dict[str, Found] = {}
        for one in self.sources if source is None else [source]:
            for event in self._having(one, kind, name, most):
                known = found.get(event.event_id)
                if known is None or (known.maker != known.source.desk and event.maker == one.desk):
                    found[event.event_id] = event
        return sorted(found.values(), key=lambda event: (event.entry.wall_ns, event.entry.position))[-most:]

    def _having(self, source: Source, kind: int, name: str, most: int) -> list[Found]:
        """Return the newest events of a journal that have a name, oldest first."""
        asked = most
        while True:
            places = source.places(kind, name, asked)
            some = (found for place in places if (found := source.at(place)) is not None)
            having = [found for found in some if found.has(kind, name, self.named)]
            if len(having) >= most or len(places) < asked:
                return having[-most:]
            asked *= 2  # some are of other names, or are no longer kept


def is_before(one: Found, other: Found) -> bool:
    """Return True if an event stands before another one; of different journals, was admitted no later."""
    if one.source is other.source:
        return one.entry.position < other.entry.position
    return one.entry.wall_ns <= other.entry.wall_ns
