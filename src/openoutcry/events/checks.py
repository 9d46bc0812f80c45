"""What an event's field may hold: the slow part of the checks in `__post_init__`.

An event tests its fields inline, for the exact type that it stores, because making one costs about as much
as delivering it. A function here is called only if that test fails. It either settles the field (an int or a
numpy float becomes a float, a list a tuple, "LONG" a member) or raises `InvalidEvent` with the value, the
limit and the remedy.
"""

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from numbers import Integral, Real
from typing import Any, Final, NoReturn

from openoutcry.errors import InvalidEvent
from openoutcry.events.bounds import MAX_BYTES, Unfit
from openoutcry.events.foreign import plain, shown, whole
from openoutcry.events.frozen import EXACTLY, freeze
from openoutcry.events.times import NotATime, check_unit

INF: Final = float("inf")
WIDE: Final = 2.0**53
"""Up to here every int is a float. One beyond it may have been rounded when it was read: it is `noted`."""
NO_TEXTS: Final[tuple[str, ...]] = ()
"""The empty tuple: a field that is this one needs no look, and no comparison, which arrays answer oddly."""
_STR: Final = frozenset({str})
_TOO_LARGE: Final = f"must have at most {MAX_BYTES:,} bytes"
_ELSEWHERE: Final = "store it elsewhere, and publish where"


class _Noted:
    """Notes that an event was made with a float beyond `WIDE`, for who has decoded it."""

    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last: object = None
        """Another object each time, in any thread: if it has changed, look closer."""

    def note(self, number: float) -> None:
        if not -WIDE < number < WIDE:
            self.last = object()


noted: Final = _Noted()


def refuse(event: object, field: str, limit: str, remedy: str) -> NoReturn:
    """Raise `InvalidEvent` with the class, the field, its value, the limit and the remedy."""
    value = getattr(event, "timestamp_ns" if field == "timestamp" else field)
    raise InvalidEvent(f"{type(event).__name__}.{field} = {shown(value)}: {limit}; {remedy}")


def unfit(cls: type, field: str, problem: Unfit) -> InvalidEvent:
    """Return the error that says where in a field a value lies that an event cannot have."""
    value = "" if problem.value is ... else f" = {shown(problem.value)}"
    return InvalidEvent(f"{cls.__name__}.{field}{problem.path}{value}: {problem}")


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
    if value is None and none:
        return
    if kind is float and -WIDE < value < WIDE and above < value and low <= value <= high:
        return
    try:
        number = exact_float(value)
    except NotExact:
        refuse(event, field, "must fit a float exactly", "use a coarser unit")
    if number is None:
        limit, exactly = _limit(above, low, high, none=none), f", or {EXACTLY}" if kind is Decimal else ""
        refuse(event, field, limit, f"pass a float, not a {kind.__name__}{exactly}")
    if not (above < number < INF and low <= number <= high):
        refuse(event, field, _limit(above, low, high, none=none), "correct the number")
    noted.note(number)
    put(event, field, number)


class NotExact(ValueError):
    """A number has more digits than a float."""


def exact_float(value: Any) -> float | None:
    """Return the float that equals a number, or None if it is no real number; bools and Decimals are none.

    An int beyond what a float can be is infinite. Raises `NotExact` if a float would lose digits.
    """
    number = plain(value)
    if type(number) is float:
        return number
    count = whole(number)
    if count is not None:
        number = count
    elif isinstance(number, bool | Integral) or not isinstance(number, Real):
        return None  # numpy's durations call themselves Integral
    try:
        near = float(number)
    except OverflowError:
        return INF
    if near != number:
        raise NotExact
    return near


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
    count = value if type(value) is int else whole(value)
    if count is None or not low <= count < 2**63:
        refuse(event, field, f"must be a whole number of at least {low}", "pass an int")
    put(event, field, count)


def settle_moment(event: object, field: str) -> None:
    """Store the field as nanoseconds since 1970 UTC, or None."""
    settle_count(event, field, none=True)
    value = getattr(event, field)
    if value is not None:
        try:
            check_unit(value)
        except NotATime as problem:
            raise InvalidEvent(f"{type(event).__name__}.{field} = {value}: {problem}") from None


def settle_text(event: object, field: str, *, empty: bool = False, none: bool = False) -> None:
    """Store the field as a plain str, not empty unless `empty`, and perhaps None."""
    value: Any = getattr(event, field)
    if (type(value) is str and (value or empty) and len(value) <= MAX_BYTES) or (value is None and none):
        return
    if not isinstance(value, str) or not (value or empty):
        kind = "a string" if empty else "a non-empty string"
        refuse(event, field, f"must be {kind}" + (" or None" if none else ""), "pass a str")
    if len(value) > MAX_BYTES:
        refuse(event, field, _TOO_LARGE, _ELSEWHERE)
    put(event, field, str.__str__(value))


def settle_texts(event: object, field: str) -> None:
    """Store the field as a tuple of plain strings."""
    value: Any = getattr(event, field)
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        refuse(event, field, "must be a tuple of strings", 'pass ("...", "...")')
    if sum(map(len, value)) + len(value) > MAX_BYTES:
        refuse(event, field, _TOO_LARGE, _ELSEWHERE)
    if type(value) is not tuple or not set(map(type, value)) <= _STR:
        put(event, field, tuple(map(str.__str__, value)))


def settle_flag(event: object, field: str) -> None:
    """Accept only True and False, numpy's as well."""
    value: Any = getattr(event, field)
    if type(value) is not bool:
        flag = plain(value)
        if type(flag) is not bool:
            refuse(event, field, "must be True or False", "pass a bool")
        put(event, field, flag)


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
    figures = {}
    for key, given in value.items():
        try:
            number = exact_float(given)
        except NotExact:
            number = None
        if not isinstance(key, str) or number is None or not -INF < number < INF:
            exactly = f", or {EXACTLY}" if isinstance(given, Decimal) else ""
            refuse(event, field, f"{limit}, and {shown(key)} is {shown(given)}", remedy + exactly)
        figures[key] = number
    _put_frozen(event, field, figures)


def settle_json(event: object, field: str) -> None:
    """Store the field as an immutable JSON object."""
    value: Any = getattr(event, field)
    if not isinstance(value, Mapping):
        refuse(event, field, "must be a mapping from strings to JSON values", 'pass {"name": value}')
    _put_frozen(event, field, value)


def _put_frozen(event: object, field: str, value: Mapping[Any, Any]) -> None:
    try:
        put(event, field, freeze(value))
    except Unfit as problem:
        raise unfit(type(event), field, problem) from None
    except UnicodeEncodeError as problem:
        raise InvalidEvent(f"{type(event).__name__}.{field}: {problem}; correct the text") from None
