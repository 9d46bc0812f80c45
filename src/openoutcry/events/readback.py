"""The first difference between a value and what was read back of it, compared strictly: values and types.

`1`, `1.0` and `True` are three values here, a list is no tuple, `0.0` is not `-0.0`, and `Decimal("1.10")` is
not `Decimal("1.1")`. No `__eq__` of a user's class is asked where its fields can be compared. The order in a
dict or a set is no content.

Two aware datetimes are equal if date, time of day and UTC offset are, and neither zone ever changes its
offset. The name of such a zone may be lost. The rules of a zone with summer time may not: a day later would
be another instant.
"""

import math
import operator
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import lru_cache
from types import NoneType
from typing import Any, Final
from uuid import UUID

from openoutcry.events.bounds import cached_names, fields_of
from openoutcry.events.foreign import shown


class _Nothing:
    def __repr__(self) -> str:
        return "nothing"


NOTHING: Final = _Nothing()
"""What stands for a part that the other side does not have."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a value and what was read back of it differ first."""

    path: str
    """The way to it from the value that was compared, such as `['bids'][0].size`; empty for the value."""
    before: object
    """What was written; `NOTHING` for a part that came up when it was read."""
    after: object
    """What was read back; `NOTHING` for a part that was lost."""

    @property
    def problem(self) -> str:
        """What becomes of the value, as the rest of a sentence: "would come back ... as the str '1.10'"."""
        if self.before is NOTHING:
            return f"would come back from a journal as {_named(self.after)}, which was not there"
        if self.after is NOTHING:
            return "would not come back from a journal"
        if self.is_zone_lost:
            return "would come back from a journal without the rules of its time zone"
        return f"would come back from a journal as {_named(self.after)}"

    @property
    def is_zone_lost(self) -> bool:
        """Whether this is a time that comes back with the offset of its zone, and without the rules."""
        before, after = self.before, self.after
        if not isinstance(before, datetime | time) or type(before) is not type(after):
            return False
        return before.tzinfo is not None and _fixed_offset(before.tzinfo) is None

    def within(self, step: str) -> "Difference":
        """Return the difference with a step put before its path."""
        return Difference(step + self.path, self.before, self.after)


def _named(value: object) -> str:
    name, text = type(value).__name__, shown(value)
    if value is None or isinstance(value, bool) or text.startswith((name, "<")):
        return text
    return f"the {name} {text}"


def first_difference(before: object, after: object) -> Difference | None:
    """Return where a value differs first from what was read back of it, or None if they are strictly equal.

    What has neither fields nor attributes nor an `__eq__` of its own, such as a lock, counts as equal to
    another of its class. An iterator in a field never does.
    """
    return _first(before, after, set())


def _first(before: Any, after: Any, seen: "_Seen") -> Difference | None:
    if before is after:
        return None
    if type(before) is not type(after):
        return Difference("", before, after)
    kind: Any = type(before)
    is_equal = _COMPARED.get(kind)
    if is_equal is not None:
        return None if is_equal(before, after) else Difference("", before, after)
    return _comparison_of(kind)(before, after, seen)


@lru_cache(maxsize=4096)
def _comparison_of(kind: Any) -> "_Compare":
    """Return how two instances of one class are compared that may hold others."""
    for bases, compare in _HOLDERS:
        if issubclass(kind, bases):
            if kind.__dictoffset__ == 0:
                return compare
            return lambda before, after, seen: (
                compare(before, after, seen) or _in_attributes(before, after, seen)
            )
    return _in_values if issubclass(kind, Enum) else _in_objects


def _in_sequences(before: Any, after: Any, seen: "_Seen") -> Difference | None:
    for index, one in enumerate(before):
        found = _first(one, after[index], seen) if index < len(after) else Difference("", one, NOTHING)
        if found is not None:
            return found.within(f"[{index}]")
    if len(after) > len(before):
        return Difference(f"[{len(before)}]", NOTHING, after[len(before)])
    if getattr(before, "maxlen", None) != getattr(after, "maxlen", None):
        return Difference(".maxlen", before.maxlen, after.maxlen)
    return None


def _in_mappings(before: Any, after: Any, seen: "_Seen") -> Difference | None:
    kept = {key: key for key in after}
    for key, one in before.items():
        if key not in kept:
            return Difference(" key", key, _nearest_key(key, kept))
        found = _first(key, kept[key], seen)
        if found is not None:
            return found.within(" key")
        found = _first(one, after[key], seen)
        if found is not None:
            return found.within(f"[{shown(key)}]")
    for key in after:
        if key not in before:
            return Difference(f"[{shown(key)}]", NOTHING, after[key])
    return None


def _nearest_key(key: object, kept: Mapping[Any, Any]) -> object:
    """Return the key that a lost one has become, where that can be told."""
    text = str(getattr(key, "value", key))
    return next((other for other in kept if str(getattr(other, "value", other)) == text), NOTHING)


def _in_sets(before: Any, after: Any, seen: "_Seen") -> Difference | None:
    kept = {one: one for one in after}
    for one in before:
        found = _first(one, kept[one], seen) if one in kept else Difference("", one, NOTHING)
        if found is not None:
            return found.within(" item")
    for other in after:
        if other not in before:
            return Difference(" item", NOTHING, other)
    return None


def _in_objects(before: Any, after: Any, seen: "_Seen") -> Difference | None:
    if (id(before), id(after)) in seen:
        return None  # they lead back to themselves
    seen.add((id(before), id(after)))
    kind: Any = type(before)
    names = fields_of(kind)
    for name in names:
        one, other = getattr(before, name, NOTHING), getattr(after, name, NOTHING)
        if one is other or (type(one) in _PLAIN and type(one) is type(other) and one == other):
            continue
        found = _first(one, other, seen)
        if found is not None:
            return found.within(f".{name}")
    if not names and _has_equality(kind):
        return _in_values(before, after, seen)
    return _in_attributes(before, after, seen)


def _in_iterators(before: Any, after: Any, _seen: "_Seen") -> Difference | None:
    return Difference("", before, after)  # what they still have cannot be looked at without taking it


def _in_values(before: Any, after: Any, _seen: "_Seen") -> Difference | None:
    return None if _are_equal(before, after) else Difference("", before, after)


def _in_attributes(before: Any, after: Any, seen: "_Seen") -> Difference | None:
    """Compare what objects hold besides their declared fields; what a cached property keeps is made anew."""
    ones, others = dict(_attributes(before)), dict(_attributes(after))
    for name in [*ones, *(other for other in others if other not in ones)]:
        found = _first(ones.get(name, NOTHING), others.get(name, NOTHING), seen)
        if found is not None:
            return found.within(f".{name}")
    return None


def _attributes(value: Any) -> Iterator[tuple[str, object]]:
    kind: Any = type(value)
    left_out = _not_compared(kind)
    for held in ("__dict__", "__pydantic_private__", "__pydantic_extra__"):
        for name, inner in (getattr(value, held, None) or {}).items():
            if name not in left_out and not isinstance(inner, Iterator):
                yield name, inner


@lru_cache(maxsize=4096)
def _not_compared(cls: Any) -> frozenset[str]:
    return cached_names(cls).union(fields_of(cls))


def _has_equality(cls: Any) -> bool:
    return any("__eq__" in base.__dict__ for base in cls.__mro__ if base is not object)


def _are_equal(before: object, after: object) -> bool:
    try:
        return bool(before == after)
    except Exception:  # noqa: BLE001 - an array, or another value of the user's whose truth is not defined
        return repr(before) == repr(after)


def _are_equal_floats(before: float, after: float) -> bool:
    if before == after:
        return before != 0 or math.copysign(1, before) == math.copysign(1, after)
    return math.isnan(before) and math.isnan(after)


def _are_equal_complex(before: complex, after: complex) -> bool:
    return _are_equal_floats(before.real, after.real) and _are_equal_floats(before.imag, after.imag)


def _are_equal_decimals(before: Decimal, after: Decimal) -> bool:
    return before.as_tuple() == after.as_tuple()


def _are_equal_times(before: Any, after: Any) -> bool:
    one, other = before.replace(tzinfo=None), after.replace(tzinfo=None)
    return one == other and before.fold == after.fold and _are_equal_zones(before, after)


def _are_equal_zones(before: Any, after: Any) -> bool:
    if before.tzinfo is None or after.tzinfo is None:
        return before.tzinfo is after.tzinfo
    offset = _fixed_offset(before.tzinfo)
    return offset is not None and offset == _fixed_offset(after.tzinfo)


def _fixed_offset(zone: Any) -> timedelta | None:
    """Return the offset of a zone that has one and the same at any time, or None."""
    try:
        found: timedelta | None = zone.utcoffset(None)
    except Exception:  # noqa: BLE001 - a user's tzinfo that wants a datetime
        return None
    return found


_PLAIN: Final = frozenset({bool, int, str, bytes, bytearray, date, timedelta, UUID, Fraction})
"""Classes whose values are strictly equal if they are equal."""

_COMPARED: Final[dict[type, Callable[[Any, Any], bool]]] = {
    NoneType: operator.is_,
    **dict.fromkeys(_PLAIN, operator.eq),
    float: _are_equal_floats,
    complex: _are_equal_complex,
    Decimal: _are_equal_decimals,
    datetime: _are_equal_times,
    time: _are_equal_times,
}
"""How the values of a class are compared that hold no others."""

_Seen = set[tuple[int, int]]
_Compare = Callable[[Any, Any, _Seen], Difference | None]
_HOLDERS: Final[tuple[tuple[Any, _Compare], ...]] = (
    ((list, tuple, deque), _in_sequences),
    (Iterator, _in_iterators),
    (Mapping, _in_mappings),
    (AbstractSet, _in_sets),
)
