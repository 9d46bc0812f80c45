"""What an event's field may hold: the slow part of the checks in `__post_init__`.

An event tests its fields inline, for the exact type that it stores, because making one costs about as much
as delivering it. A function here is called only if that test fails. It either settles the field (an int or a
numpy float becomes a float, a list a tuple, "LONG" a member) or raises `InvalidEvent` with the value, the
limit and the remedy.
"""

from collections.abc import Mapping
from enum import StrEnum
from numbers import Integral, Real
from typing import Any, Final, NoReturn

from openoutcry.errors import InvalidEvent
from openoutcry.events.frozen import freeze

INF: Final = float("inf")
_STR: Final = frozenset({str})


def refuse(event: object, field: str, limit: str, remedy: str) -> NoReturn:
    """Raise `InvalidEvent` with the class, the field, its value, the limit and the remedy."""
    value = getattr(event, "timestamp_ns" if field == "timestamp" else field)
    raise InvalidEvent(f"{type(event).__name__}.{field} = {value!r}: {limit}; {remedy}")


def put(event: object, field: str, value: object) -> None:
    """Write a field of a frozen event while it is being made."""
    getattr(type(event), field).__set__(event, value)


def settle_number(
    event: object,
    field: str,
    *,
    above: float = -INF,
    low: float = -INF,
    high: float = INF,
    none: bool = False,
) -> None:
    """Store the field as a finite float that is `> above`, `>= low` and `<= high`; bools are not numbers."""
    value: Any = getattr(event, field)
    kind = type(value)
    if (value is None and none) or (kind is float and above < value < INF and low <= value <= high):
        return
    if kind is not int and kind is not float and (kind is bool or not isinstance(value, Real)):
        refuse(event, field, _limit(above, low, high, none=none), f"pass a float, not a {kind.__name__}")
    try:
        number = float(value)
    except OverflowError:
        number = INF
    if not (above < number < INF and low <= number <= high):
        refuse(event, field, _limit(above, low, high, none=none), "correct the number")
    if number != value and isinstance(value, Integral):
        refuse(event, field, "must fit a float exactly", "use a coarser unit")
    put(event, field, number)


def _limit(above: float, low: float, high: float, *, none: bool) -> str:
    return f"must be {_range(above, low, high)}" + (" or None" if none else "")


def _range(above: float, low: float, high: float) -> str:
    if above > -INF:
        return f"a finite number above {above:g}"
    if low == -INF and high == INF:
        return "a finite number"
    if high == INF:
        return f"a finite number of at least {low:g}"
    return f"a number from {low:g} to {high:g}"


def settle_count(event: object, field: str, *, low: int = 0, none: bool = False) -> None:
    """Store the field as an int of at least `low`; bools are not numbers."""
    value: Any = getattr(event, field)
    if value is None and none:
        return
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) < 2**63:
        refuse(event, field, f"must be a whole number of at least {low}", "pass an int")
    put(event, field, int(value))


def settle_text(event: object, field: str, *, empty: bool = False, none: bool = False) -> None:
    """Store the field as a plain str, not empty unless `empty`, and perhaps None."""
    value: Any = getattr(event, field)
    if (type(value) is str and (value or empty)) or (value is None and none):
        return
    if not isinstance(value, str) or not (value or empty):
        kind = "a string" if empty else "a non-empty string"
        refuse(event, field, f"must be {kind}" + (" or None" if none else ""), "pass a str")
    put(event, field, str(value.value) if isinstance(value, StrEnum) else str(value))


def settle_texts(event: object, field: str) -> None:
    """Store the field as a tuple of plain strings."""
    value: Any = getattr(event, field)
    if type(value) is tuple and set(map(type, value)) <= _STR:
        return
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        refuse(event, field, "must be a tuple of strings", 'pass ("...", "...")')
    put(event, field, tuple(str(item) for item in value))


def settle_flag(event: object, field: str) -> None:
    """Accept only True and False."""
    if not isinstance(getattr(event, field), bool):
        refuse(event, field, "must be True or False", "pass a bool")


def settle_member(event: object, field: str, enum: type[StrEnum]) -> None:
    """Store the field as a member of `enum`, given as a member, a value or a name in any case."""
    value: Any = getattr(event, field)
    if type(value) is enum:
        return
    if isinstance(value, str) and not isinstance(value, StrEnum):
        for name, member in enum.__members__.items():
            if value.lower() == member.value or value.upper() == name:
                put(event, field, member)
                return
    names = ", ".join(member.name for member in enum)
    refuse(event, field, f"must be one of {names}", f"use a member of {enum.__name__}")


def settle_figures(event: object, field: str) -> None:
    """Store the field as a frozen dict from names to finite floats."""
    value: Any = getattr(event, field)
    limit, remedy = "must be a mapping from strings to finite numbers", 'pass {"name": 1.5}'
    if not isinstance(value, Mapping):
        refuse(event, field, limit, remedy)
    for key, number in value.items():
        sound = isinstance(key, str) and isinstance(number, Real) and not isinstance(number, bool)
        if not sound or not -INF < number < INF:
            refuse(event, field, f"{limit}, and {key!r} is {number!r}", remedy)
    put(event, field, freeze({str(key): float(number) for key, number in value.items()}))


def settle_json(event: object, field: str) -> None:
    """Store the field as an immutable JSON object."""
    value: Any = getattr(event, field)
    if not isinstance(value, Mapping):
        refuse(event, field, "must be a mapping from strings to JSON values", 'pass {"name": value}')
    try:
        put(event, field, freeze(value))
    except ValueError as problem:
        raise InvalidEvent(
            f"{type(event).__name__}.{field}: must hold JSON values only, and {problem}; convert it before",
        ) from None
