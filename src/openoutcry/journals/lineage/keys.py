"""What of an entry is indexed, and how: by the kind of a name, a hash of it, and the entry's position.

A key has 56 bits: 36 of the hash of a name, then 20 that count positions from where its shelf begins. Hashes
only say where to look: two names may have one, and the entry itself decides.
"""

from array import array
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

import openoutcry.trading
from openoutcry.errors import JournalCorrupt
from openoutcry.events.records import RECORDS
from openoutcry.journals.rows import Row
from openoutcry.ports import Header

ID, CAUSE, ROUND, REFERENCE, TRADED, RUN = range(6)
"""The kinds of names: an event's own id; that of its cause, or of a signal that it rests on; its round; an id
that it refers to; of a fill, the symbol; and of a start of a bus, nothing."""
KINDS: Final = (ID, CAUSE, ROUND, REFERENCE, TRADED, RUN)
OFFSET_BITS: Final = 20
SHELF: Final = 1 << OFFSET_BITS
"""At most so many positions are kept together."""
OFFSET_MASK: Final = SHELF - 1
HASH_BITS: Final = 36
STARTED: Final = "run_started"
REFERENCES: Final = (
    "order_id",
    "client_order_id",
    "execution_id",
    "decision_id",
    "original_decision_id",
    "report_id",
    "order_ids",
)
"""The fields of openoutcry's own classes that refer to something, apart from the head fields."""
BASES: Final = "contributing_signals"
ENDINGS: Final = ("_id", "_ids", "_ref", "_refs")
"""In users' classes these are references; others are named by whoever asks."""
HEADS: Final = frozenset(("event_id", "causation_id", "correlation_id", "round_id"))
OWN_CLASSES: Final = frozenset(openoutcry.trading.__all__) | {cls.__name__ for cls in RECORDS.values()}

Keys = tuple["array[int]", ...]
"""The keys of some entries, by kind."""


class _Said(msgspec.Struct, gc=False):
    """What is read of an event, of whatever class and type."""

    event_class: Any = None
    event_id: Any = None
    event_type: Any = None
    causation_id: Any = None
    round_id: Any = None
    symbol: Any = None
    filled_quantity: Any = None
    contributing_signals: Any = None
    order_id: Any = None
    client_order_id: Any = None
    execution_id: Any = None
    decision_id: Any = None
    original_decision_id: Any = None
    report_id: Any = None
    order_ids: Any = None


class _Element(msgspec.Struct, array_like=True, gc=False):
    lane: int
    level: int
    after_ns: int
    event: _Said
    header: Header | None = None


_read: Final = msgspec.json.Decoder(list[_Element]).decode
_read_any: Final = msgspec.json.Decoder().decode


def texts_in(value: Any) -> Iterator[str]:
    """Yield the names that a field has: a text, a whole number, or a list of these."""
    if type(value) is str:
        if value:
            yield value
    elif type(value) is int:
        yield str(value)
    elif type(value) is list:
        for one in value:
            if type(one) is not list:
                yield from texts_in(one)


def is_reference(name: str, named: frozenset[str]) -> bool:
    """Return True if a field of a user's class refers to something: by the end of its name, or as named."""
    return name in named or (name.endswith(ENDINGS) and name not in HEADS)


class Hashing:
    """How names become numbers, in one index.

    Args:
        modulus: The number by which they are divided: one for each index, at random, so that nobody can make
            names that have the same hash.
        references: The fields of users' classes that refer to something, beside those whose names end so.

    """

    __slots__ = ("modulus", "references")

    def __init__(self, modulus: int, references: frozenset[str]) -> None:
        self.modulus = modulus
        self.references = references

    def hash(self, name: str) -> int:
        """Return the hash of a name."""
        return int.from_bytes(name.encode("utf-8", "surrogatepass"), "big") % self.modulus

    def keys(self, row: Row, first: int, into: Keys) -> None:
        """Add the keys of a batch's entries to those of a shelf that begins at position `first`.

        Raises `JournalCorrupt` where its data is not what was written.
        """
        whole: list[Any] = []
        ids, causes, rounds = into[ID], into[CAUSE], into[ROUND]
        modulus = self.modulus
        before = row.first - first
        for number, element in enumerate(_elements(row)):
            said, offset = element.event, before + number
            if element.header is None:
                event_id, cause, round_id = said.event_id, said.causation_id, said.round_id
            else:
                event_id, cause, round_id = _heads(said, element.header)
            if type(event_id) is str:
                named = int.from_bytes(event_id.encode("utf-8", "surrogatepass"), "big")
                ids.append(named % modulus << OFFSET_BITS | offset)
            if type(cause) is str:
                named = int.from_bytes(cause.encode("utf-8", "surrogatepass"), "big")
                causes.append(named % modulus << OFFSET_BITS | offset)
            if type(round_id) is str:
                named = int.from_bytes(round_id.encode("utf-8", "surrogatepass"), "big")
                rounds.append(named % modulus << OFFSET_BITS | offset)
            name = said.event_class
            if type(name) is not str or name not in OWN_CLASSES:
                whole = whole or _read_any(row.data)
                self._add_fields(whole[number][3], said, offset, into)
            elif name not in _BARE:
                given = [getattr(said, field) for field in REFERENCES]
                self._add(REFERENCE, given, offset, into)
                self._add_head(said, offset, into)

    def _add_fields(self, event: Any, said: _Said, offset: int, into: Keys) -> None:
        """Add what an event of a user's class refers to."""
        if type(event) is dict:
            named = self.references
            given = [value for name, value in event.items() if is_reference(name, named)]
            self._add(REFERENCE, given, offset, into)
            self._add_head(said, offset, into)

    def _add_head(self, said: _Said, offset: int, into: Keys) -> None:
        if said.contributing_signals:
            self._add(CAUSE, [said.contributing_signals], offset, into)
        if said.filled_quantity is not None:
            self._add(TRADED, [said.symbol], offset, into)
        if said.event_type == STARTED:
            into[RUN].append(offset)

    def _add(self, kind: int, given: list[Any], offset: int, into: Keys) -> None:
        add = into[kind].append
        for name in {name for value in given if value is not None for name in texts_in(value)}:
            add(self.hash(name) << OFFSET_BITS | offset)


_BARE: Final = frozenset(("MarketDataEvent", "SignalEvent", "RoundReleased", "RoundOpened", "RoundLate"))
"""Those of openoutcry's own classes that refer to nothing beyond their head."""


def _elements(row: Row) -> list[_Element]:
    try:
        return _read(row.data)
    except msgspec.ValidationError:  # an event that is no object: it has no names
        return [_element(*one) for one in _read_any(row.data)]
    except msgspec.DecodeError as problem:
        raise JournalCorrupt(
            f"the batch at positions {row.first} to {row.last} cannot be read: {problem}; "
            f"run verify, and go on in a new file with recover_into",
            row.first,
        ) from problem


def _element(lane: int, level: int, after_ns: int, event: Any, header: Any = None) -> _Element:
    known = msgspec.convert(event, _Said) if type(event) is dict else _Said()
    return _Element(lane, level, after_ns, known, msgspec.convert(header, Header | None))


def _heads(said: _Said, beside: Header) -> tuple[Any, Any, Any]:
    return (
        said.event_id if beside.event_id is None else beside.event_id,
        said.causation_id if beside.causation_id is None else beside.causation_id,
        said.round_id if beside.round_id is None else beside.round_id,
    )


def no_keys() -> Keys:
    """Return room for the keys of some entries."""
    return tuple(array("Q") for _ in KINDS)


def in_order(keys: Keys) -> Keys:
    """Return keys in ascending order."""
    return tuple(array("Q", sorted(some)) for some in keys)


def joined(parts: Sequence[tuple[int, Keys]]) -> Keys:
    """Return the keys of neighbours, each with where it begins, as those of one shelf."""
    base = parts[0][0]
    return tuple(
        array("Q", sorted(key + (first - base) for first, keys in parts for key in keys[kind]))
        for kind in KINDS
    )
