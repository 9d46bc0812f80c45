"""How deep and how large the contents of an event may be, and a walk through them that names what is wrong.

An event may hold dicts and lists within each other up to `MAX_DEPTH` levels, and its encoded form has at most
`MAX_BYTES`. Both are checked when an event is made, for the fields that may hold anything, and again by
`encode`. A structure that contains itself is too deep.
"""

import dataclasses
import math
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cached_property, lru_cache
from typing import Any, Final

from openoutcry.events.foreign import shown

MAX_DEPTH: Final = 64
"""How many dicts, lists and structures may lie within each other in one field of an event."""
MAX_BYTES: Final = 16 * 2**20
"""How large an event may be when it is encoded."""

LEAVES: Final = frozenset(
    {type(None), bool, int, str, bytes, datetime, date, time, timedelta, Decimal},
)
"""Classes whose instances hold nothing else. Floats are looked at."""
_NUMBERS: Final = frozenset({float, bool, type(None)})
_SEQUENCES: Final = (list, tuple, set, frozenset, deque)


class Unfit(ValueError):
    """A value cannot be part of an event. The message is the limit and the remedy.

    Attributes:
        path: The way to it from the value that was looked through, such as `["bids"][0].size`.
        value: The value itself.

    """

    def __init__(self, problem: str, value: object, path: str = "") -> None:
        super().__init__(problem)
        self.value = value
        self.path: str = path

    def within(self, step: str) -> "Unfit":
        """Put a step before the path."""
        self.path = step + self.path
        return self


def too_deep(value: object) -> Unfit:
    """Return what is wrong with a value that lies too deep."""
    limit = f"lies more than {MAX_DEPTH} levels deep, or contains itself"
    return Unfit(f"{limit}; flatten it", type(value))


class Room:
    """What is left of the bytes that an event may have, counted low: a character or a value is one."""

    __slots__ = ("known", "left")

    def __init__(self) -> None:
        self.left: int = MAX_BYTES
        self.known: dict[int, tuple[int, int, object]] = {}
        """By id: the bytes and the levels of what was looked into, so that what is shared is walked once."""

    def take(self, count: int) -> None:
        """Note that so much was used. Raises `Unfit` if there is less."""
        self.left -= count
        if self.left < 0:
            raise Unfit(f"has more than {MAX_BYTES:,} bytes; store it elsewhere, and publish where", ...)


def look_through(value: object, room: Room, *, finite: bool, depth: int = 0) -> int:
    """Return how many levels a value has; a number has none.

    Raises `Unfit` if it is too deep or too large or, if `finite`, has a float that JSON does not have.
    """
    kind = type(value)
    if kind is str or kind is bytes:
        room.take(len(value))  # type: ignore[arg-type]
    elif kind in LEAVES:
        pass
    elif isinstance(value, float):
        if finite and value - value != 0:
            raise Unfit(
                "JSON has no such number, so it could not be read back; use None, or leave the event out",
                value,
            )
    elif isinstance(value, Enum):
        return look_through(value.value, room, finite=finite, depth=depth)
    else:
        return _look_into(value, room, finite=finite, depth=depth)
    return 0


def _look_into(value: object, room: Room, *, finite: bool, depth: int) -> int:
    size_bytes, levels, _ = room.known.get(id(value), (0, 0, None))
    if depth + max(levels, 1) > MAX_DEPTH:
        raise too_deep(value)
    if levels:
        room.take(size_bytes)
        return levels
    before = room.left
    inner = 0 if _is_flat(value, room, finite=finite) else _deepest(value, room, finite=finite, depth=depth)
    room.known[id(value)] = before - room.left, 1 + inner, value
    return 1 + inner


def _deepest(value: object, room: Room, *, finite: bool, depth: int) -> int:
    levels = 0
    for step, inner in parts_of(value):
        room.take(1)
        try:
            levels = max(levels, look_through(inner, room, finite=finite, depth=depth + 1))
        except Unfit as problem:
            raise problem.within(step_text(step)) from None
    return levels


def _is_flat(value: Any, room: Room, *, finite: bool) -> bool:
    """Settle a collection of plain values at the speed of C, or return False."""
    if isinstance(value, dict):
        if set(map(type, value)) != {str}:
            return False
        room.take(sum(map(len, value)))
        value = value.values()
    elif not isinstance(value, _SEQUENCES):
        return False
    kinds = set(map(type, value))
    if not (kinds <= _NUMBERS or kinds == {str}):
        return False
    if finite and float in kinds and not all(item is None or math.isfinite(item) for item in value):
        return False
    room.take(sum(map(len, value)) if kinds == {str} else len(value))
    return True


def parts_of(value: Any) -> Iterator[tuple[object, Any]]:
    """Yield what the encoded form of a value is made of, each part with the step to it."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if type(key) is not str:
                yield ("key", key), key
            yield ("[]", key), inner
    elif isinstance(value, _SEQUENCES):
        for index, inner in enumerate(value):
            yield ("[]", index), inner
    else:
        kind: Any = type(value)
        for name in fields_of(kind):
            yield (".", name), getattr(value, name, None)


@lru_cache(maxsize=4096)
def fields_of(cls: Any) -> tuple[str, ...]:
    """Return the names of the declared fields of a struct, a dataclass, an attrs or a pydantic class.

    The timestamp of an `Event` is read as it is stored, in nanoseconds.
    """
    if hasattr(cls, "__struct_fields__"):
        names: tuple[str, ...] = cls.__struct_fields__
        is_event = hasattr(cls, "_fixed_event_type")
        return tuple("timestamp_ns" if is_event and name == "timestamp" else name for name in names)
    if dataclasses.is_dataclass(cls):
        return tuple(field.name for field in dataclasses.fields(cls))
    if hasattr(cls, "__pydantic_validator__"):
        return tuple(cls.model_fields)
    return tuple(field.name for field in getattr(cls, "__attrs_attrs__", ()))


@lru_cache(maxsize=4096)
def cached_names(cls: Any) -> frozenset[str]:
    """Return the names of a class's cached properties, which are no content: they are made anew."""
    return frozenset(
        name
        for base in cls.__mro__
        for name, member in base.__dict__.items()
        if isinstance(member, cached_property)
    )


def step_text(step: Any) -> str:
    """Return a step from a value to one of its parts as a path has it."""
    kind, name = step
    if kind == ".":
        return f".{name}"
    return f"[{shown(name)}]" if kind == "[]" else " key"
