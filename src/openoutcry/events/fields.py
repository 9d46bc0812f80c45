"""What the fields of users' classes may hold: one plan per class, made when its first instance is.

The classes of this package check every field of their own. The fields that a user's subclass of `Event` adds
are looked at when an event is made:

- a numpy scalar becomes Python's own value, and a pandas time a datetime, if that is exactly the same;
- an int in a field for floats becomes that float, or is refused if it has more digits than a float, and a
  whole float in a field for ints becomes that int;
- not-a-time, pandas' NA, times with more digits than a datetime, and arrays where one value is expected are
  refused;
- where the annotation sets no limit (`dict`, `list`, `Any`), contents too deep or too large are refused.

A value of another class than the annotation says is left to `encode`.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from enum import Enum
from functools import lru_cache
from keyword import iskeyword
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Final, Literal, Union, get_args, get_origin, get_type_hints

from openoutcry.events.bounds import LEAVES, Room, Unfit, look_through
from openoutcry.events.checks import WIDE, NotExact, exact_float, noted, put, unfit
from openoutcry.events.foreign import is_array, is_missing, plain

OURS: Final = "openoutcry."
"""What the names of this package's modules begin with: its classes check their own fields."""
_ONE_VALUE: Final = LEAVES | {float}
_NO_DATETIME: Final = "is no datetime, which has microseconds and a zone; keep timestamp_ns(value), an int"
_NO_TIMEDELTA: Final = "is no timedelta, which has microseconds; keep an int of nanoseconds"
_TIMES: Final = frozenset({datetime, time, timedelta})
_FLOAT: Final = frozenset({float})
_INFINITE: Final = (float("inf"), float("-inf"))


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    kind: type | None
    """The one class that it is for, besides None; None if it is for several."""
    is_optional: bool
    is_float: bool
    is_single: bool
    """For one value, as opposed to a collection or anything."""
    is_endless: bool
    """The annotation sets no limit to what lies within what."""
    is_foreign: bool
    """For a class that nothing is known about: its values are left alone."""


_plans: Final[dict[type, tuple[_Field, ...]]] = {}


def base_of_ours(cls: Any) -> Any:
    """Return the class of this package that an `Event` class is, or is derived from."""
    return next(base for base in cls.__mro__ if base.__module__.startswith(OURS))


@lru_cache(maxsize=4096)
def added_fields(cls: Any) -> tuple[str, ...]:
    """Return the names of the fields of an `Event` class that no class of this package checks."""
    known = frozenset(base_of_ours(cls).__struct_fields__)
    return tuple(name for name in cls.__struct_fields__ if name not in known)


def sound_of(cls: type, version: int) -> Callable[[Any], bool] | None:
    """Return what tells at once that an instance's added fields need no look, or None if they never do.

    Above version 1 it looks at the instance's version as well; the first is checked by `Event` itself.
    It is generated, as the methods of dataclasses are, because a loop over the fields takes as long as making
    the event. A test of the exact class, such as `type(self.price) is float`, takes 10 ns.
    """
    if added_fields(cls) and not hints_of(cls):
        return _sound_later(cls, version)
    return _sound_of(cls, version)


def _sound_later(cls: Any, version: int) -> Callable[[Any], bool]:
    """Return what evaluates the annotations with the first instance: by then what they name may be there."""

    def is_sound(event: Any) -> bool:
        found = _sound_of(cls, version)
        if found is None:
            cls._adds_fields = False
            return True
        cls._is_sound = found
        return found(event)

    return is_sound


def _sound_of(cls: type, version: int) -> Callable[[Any], bool] | None:
    names: dict[str, Any] = {"LEAVES": LEAVES, "NoneType": NoneType}
    tests = [test for known in _plan_of(cls) if (test := _test(known, names)) is not None]
    if version > 1:
        tests.append(f"self.schema_version == {version}")
    if not tests:
        return None
    exec(f"def is_sound(self): return {' and '.join(tests)}", names)  # noqa: S102 - of field names and classes
    found: Callable[[Any], bool] = names["is_sound"]
    return found


def _test(known: _Field, names: dict[str, Any]) -> str | None:
    """Return the test of one field as Python's source, or None if any value will do."""
    if known.is_foreign or not (known.is_single or known.is_endless):
        return None
    if not known.name.isidentifier() or iskeyword(known.name):
        return "False"  # a class made by a function may have such a field
    value = f"self.{known.name}"
    if known.kind is None or known.is_endless:
        return f"(type({value}) in LEAVES or type({value}) is float)"
    names[f"kind_of_{known.name}"] = known.kind
    test = f"type({value}) is kind_of_{known.name}"
    if known.kind is float:
        test = f"{test} and -{WIDE} < {value} < {WIDE}"
    return f"({test} or {value} is None)" if known.is_optional else test


def _plan_of(cls: type) -> tuple[_Field, ...]:
    found = _plans.get(cls)
    if found is None:
        hints = hints_of(cls)
        found = _plans[cls] = tuple(_field(name, hints.get(name, Any)) for name in added_fields(cls))
    return found


def hints_of(cls: type) -> dict[str, Any]:
    """Return the annotations of a class's fields, evaluated, or none of them if one cannot be (yet)."""
    try:
        return _hints_of(cls)
    except Exception:  # noqa: BLE001 - evaluates the user's annotations
        return {}


@lru_cache(maxsize=4096)
def _hints_of(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {name: hint for name, hint in hints.items() if ClassVar not in (hint, get_origin(hint))}


def float_fields(cls: type) -> tuple[str, ...]:
    """Return the names of the fields of any class that are for floats."""
    return tuple(name for name, hint in hints_of(cls).items() if _is_float(tuple(_members(hint))))


@lru_cache(maxsize=4096)
def has_times(cls: type) -> bool:
    """Return True if a field of the class, or one within one, may be a datetime, a time or a duration."""
    hints = hints_of(cls)
    return not hints or any(_mentions(hint, _TIMES, (cls,)) for hint in hints.values())


@lru_cache(maxsize=4096)
def has_floats(cls: type) -> bool:
    """Return True if a field of the class, or one within one, is for floats."""
    hints = hints_of(cls)
    return not hints or any(_mentions(hint, _FLOAT, (cls,)) for hint in hints.values())


@lru_cache(maxsize=4096)
def notes_floats(cls: Any) -> bool:
    """Return True if an `Event` has every float `noted` to which an int may have been rounded.

    So it is where fields are for floats alone, and where the class leaves it to this package to check them.
    """
    owner = next(base for base in cls.__mro__ if "__post_init__" in base.__dict__)
    others = [hint for hint in hints_of(cls).values() if not _is_float(tuple(_members(hint)))]
    return not has_floats(cls) or (
        owner.__module__.startswith(OURS) and not any(_mentions(hint, _FLOAT, (cls,)) for hint in others)
    )


def _mentions(hint: Any, kinds: frozenset[type], above: tuple[Any, ...]) -> bool:
    for member in _members(hint):
        if member in kinds or not isinstance(get_origin(member) or member, type):
            if member is not Any:
                return True
        elif _has_fields(member) and member not in above:
            inner = hints_of(member)
            if not inner or any(_mentions(each, kinds, (*above, member)) for each in inner.values()):
                return True
        elif any(_mentions(each, kinds, above) for each in get_args(member) if each is not ...):
            return True
    return False


def _field(name: str, hint: Any) -> _Field:
    members = tuple(_members(hint))
    kinds = [member for member in members if member is not NoneType]
    return _Field(
        name,
        kind=kinds[0] if len(kinds) == 1 and _is_single(kinds[0]) else None,
        is_optional=NoneType in members,
        is_float=_is_float(members),
        is_single=all(map(_is_single, members)),
        is_endless=is_open(hint),
        is_foreign=any(map(_is_foreign, members)),
    )


def _is_float(members: tuple[Any, ...]) -> bool:
    return float in members and set(members) <= {float, NoneType}


def _members(hint: Any) -> Iterator[Any]:
    """Yield what a union is made of, behind aliases and notes."""
    origin = get_origin(hint)
    if origin is Union or origin is UnionType:
        for each in get_args(hint):
            yield from _members(each)
    elif origin is Annotated:
        yield from _members(get_args(hint)[0])
    elif origin is Literal:
        yield from map(type, get_args(hint))
    elif hasattr(hint, "__supertype__") or hasattr(hint, "__value__"):
        yield from _members(getattr(hint, "__supertype__", None) or hint.__value__)
    else:
        yield NoneType if hint is None else hint


def _is_single(member: Any) -> bool:
    return member in _ONE_VALUE or (isinstance(member, type) and issubclass(member, Enum))


def _is_collection(member: Any) -> bool:
    kind = get_origin(member) or member
    return isinstance(kind, type) and issubclass(kind, Collection)


def is_open(hint: Any) -> bool:
    """Return True if an annotation leaves open what lies within what, as `dict`, `list` and `Any` do."""
    return any(_is_endless(member, ()) for member in _members(hint))


def _is_endless(member: Any, above: tuple[Any, ...]) -> bool:
    if _is_single(member):
        return False
    if member is Any or member is object or not isinstance(get_origin(member) or member, type):
        return True
    if _is_collection(member):
        inner = [each for each in get_args(member) if each is not ...]
    elif member in above:
        return True
    else:
        inner = list(hints_of(member).values()) if _has_fields(member) else [None]
        above = (*above, member)
    return not inner or any(_is_endless(each, above) for hint in inner for each in _members(hint))


def _has_fields(member: Any) -> bool:
    return (
        hasattr(member, "__struct_fields__")
        or dataclasses.is_dataclass(member)
        or hasattr(member, "__attrs_attrs__")
    )


def _is_foreign(member: Any) -> bool:
    known = member in (Any, object) or _is_single(member) or _is_collection(member) or _has_fields(member)
    return isinstance(member, type) and not known


def settle_fields(event: object) -> None:
    """Bring the fields that a user's class adds into the form in which they are kept, or refuse them."""
    room = Room()
    for known in _plan_of(type(event)):
        value = getattr(event, known.name)
        kind = type(value)
        if kind is float:
            noted.note(value)
        is_other = (kind is int and known.is_float) or (kind is float and known.kind is int)
        is_leaf = kind in _ONE_VALUE and not is_other
        if not (is_leaf or known.is_foreign):
            _settle_one(event, known, value, room)


def _settle_one(event: object, known: _Field, value: Any, room: Room) -> None:
    try:
        own = _own_value(known, value)
        if known.is_endless:
            look_through(own, room, finite=False)
    except Unfit as problem:
        raise unfit(type(event), known.name, problem) from None
    if own is not value:
        put(event, known.name, own)


def _own_value(known: _Field, value: Any) -> Any:
    """Return the value as Python's own, if it is one of numpy's or pandas'. Raises `Unfit` if it has none."""
    own = plain(value)
    problem = _problem(known, own)
    if problem is not None:
        raise Unfit(problem, value)
    if known.kind is int and type(own) is float and own.is_integer():
        return int(own)
    if not known.is_float or isinstance(own, bool) or not isinstance(own, int | float):
        return own
    try:
        number = exact_float(own)
    except NotExact:
        number = None
    if number is None or (number in _INFINITE and type(own) is int):
        raise Unfit("must fit a float exactly; use a coarser unit", value)
    return number


def _problem(known: _Field, value: Any) -> str | None:
    """Return why a value that Python has no equal of is refused, or None if it is left to `encode`."""
    if type(value) in _ONE_VALUE:
        return None
    if is_missing(value):
        return "stands for no value; use None"
    if is_array(value):
        return "must be one value, not an array of them; pass one element" if known.is_single else None
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    for wrong, problem in (
        (getattr(value, "nanosecond", 0) or kind == "M", _NO_DATETIME),
        (getattr(value, "nanoseconds", 0) or kind == "m", _NO_TIMEDELTA),
        (kind == "f", "must fit a float exactly; round it before"),
    ):
        if wrong:
            return problem
    return None
