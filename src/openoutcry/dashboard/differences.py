"""What one journal decided and another did not: pairs of events, and how each pair differs."""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from openoutcry.journals.showing import head_of
from openoutcry.ports import Stored

TYPES: Final = ("decision", "validated_decision", "order", "fill")
"""What can be compared: the steps from a decision to its fill."""
KINDS: Final = ("size", "side", "gone", "new", "other")
"""How a pair may differ: in quantity or side; only the first journal has it, or only the second; else."""
_SIDES: Final = ("action", "side")
_SIZES: Final = ("quantity", "adjusted_quantity", "filled_quantity")
_TEXT_MAX: Final = 1_000
_NUMBER_MAX: Final = 1e300
_NOT_COMPARED: Final = frozenset(
    ("event_id", "timestamp", "schema_version", "causation_id", "correlation_id", "round_id")
)
"""What two events that say the same may differ in: their own ids and times, and what the bus has stamped."""


class Said(NamedTuple):
    """An event as far as it is kept to be compared: hundreds of thousands have to fit into memory."""

    position: int
    wall_ns: int
    event_id: str
    agent: str
    symbol: str
    round_id: str
    side: str
    size: float | None
    digest: bytes


class Pair(NamedTuple):
    """An event of one journal and the same one of another; one of them may be missing."""

    kind: str
    first: Said | None
    second: Said | None

    @property
    def said(self) -> Said:
        """The one that is there: the first, if both are."""
        found = self.first or self.second
        assert found is not None, "a pair has an event"
        return found


def said_of(entry: Stored) -> Said:
    """Return what is kept of an event. What is not JSON is compared byte by byte."""
    head, fields = head_of(entry), fields_of(entry)
    return Said(
        position=entry.position,
        wall_ns=entry.wall_ns,
        event_id=head.event_id or "",
        agent=(head.source_agent or "")[:_TEXT_MAX],
        symbol=(head.symbol or "")[:_TEXT_MAX],
        round_id=(head.round_id or "")[:_TEXT_MAX],
        side=next((str(fields[name])[:_TEXT_MAX] for name in _SIDES if fields.get(name)), ""),
        size=next((found for name in _SIZES if (found := _number(fields.get(name))) is not None), None),
        digest=blake2b(_content(fields) if fields else entry.payload, digest_size=16).digest(),
    )


def fields_of(entry: Stored) -> dict[str, Any]:
    """Return what is compared of an event, by field; nothing of what is no JSON object."""
    try:
        found = msgspec.json.decode(entry.payload)
    except (msgspec.DecodeError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: value for name, value in found.items() if name not in _NOT_COMPARED}


def _content(fields: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(fields, order="sorted")


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < _NUMBER_MAX else None


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Return in which fields two events differ: sides and sizes first, lists last."""
    names = [name for name in first if first[name] != second.get(name)]
    names += [name for name in second if name not in first]
    before = (*_SIDES, *_SIZES)
    return sorted(names, key=lambda name: (name not in before, isinstance(first.get(name), list), name))


def paired(firsts: Sequence[Said], seconds: Sequence[Said]) -> list[Pair]:
    """Return the pairs, in the order of their times; those that say the same have the kind `same`.

    Events with one id belong together, as a replay derives the ids that the day had. Of the others those do
    that the same agent said of the same symbol in the same round.
    """
    by_id = {one.event_id: one for one in seconds if one.event_id}
    second_of = {one.position: by_id.pop(one.event_id) for one in firsts if one.event_id in by_id}
    waiting = defaultdict[tuple[str, str, str], deque[Said]](deque)
    taken = {one.position for one in second_of.values()}
    rest = {one.position: one for one in seconds if one.position not in taken}
    for one in rest.values():
        if one.round_id:
            waiting[one.round_id, one.agent, one.symbol].append(one)
    for one in firsts:
        place = (one.round_id, one.agent, one.symbol)
        if one.position not in second_of and waiting.get(place):
            second_of[one.position] = waiting[place].popleft()
            del rest[second_of[one.position].position]
    pairs = [_pair(one, second_of.get(one.position)) for one in firsts]
    pairs += [Pair("new", None, one) for one in rest.values()]
    return sorted(pairs, key=lambda pair: (pair.said.wall_ns, pair.said.position))


def _pair(first: Said, second: Said | None) -> Pair:
    if second is None:
        return Pair("gone", first, None)
    if first.digest == second.digest:
        return Pair("same", first, second)
    if first.side != second.side:
        return Pair("side", first, second)
    return Pair("size" if first.size != second.size else "other", first, second)


def counted_kinds(pairs: Iterable[Pair]) -> dict[str, int]:
    """Return how many pairs there are of each kind, `same` first."""
    counts: dict[str, int] = dict.fromkeys(("same", *KINDS), 0)
    for pair in pairs:
        counts[pair.kind] += 1
    return counts
