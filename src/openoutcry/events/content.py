"""Content: what two events with one id say differently.

An event that a handler makes anew while it handles its cause again has a fresh timestamp, so that is never
compared; nor are the fields that its class declares volatile, in the class attribute `volatile_fields`. What
the bus stamps (causation, correlation, round) counts only where both have it. Where another version of a
class has written one, only the fields count that its data has too.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from openoutcry.errors import InvalidEvent, NewerSchemaVersion
from openoutcry.events.codec import encode
from openoutcry.events.heads import decode_head
from openoutcry.events.pages import Undecodable, decode_many
from openoutcry.events.registry import encoded_names, find_by_class

_NOT_COMPARED: Final = frozenset({"event_id", "timestamp", "schema_version"})
_STAMPED: Final = ("causation_id", "correlation_id", "round_id")


class FirstVersion(NamedTuple):
    """An event as it was first accepted: what another one with its id is compared with."""

    event: Any
    """The event, or an `Undecodable`."""
    had: frozenset[str] | None = None
    """The fields that its data had, where an older version of its class wrote it; None: all of them."""


def first_of(payload: bytes) -> FirstVersion:
    """Return what a journal holds of an event, for `differences`."""
    [event] = decode_many([payload])
    known = find_by_class(type(event))
    head = None if known is None else decode_head(payload)
    if known is None or head is None or head.event_class is None:
        return FirstVersion(event)
    if head.event_class == known.name and head.version(known.name) == known.version:
        return FirstVersion(event)
    names = {key: name for name, key in (encoded_names(known.cls) or {}).items()}
    return FirstVersion(event, frozenset(str(names.get(key, key)) for key in msgspec.json.decode(payload)))


def differences(first: Any, second: Any, had: frozenset[str] | None = None) -> tuple[str, ...]:
    """Return the names of the fields in which two events with one id differ; `*` for all of them.

    `first` may be an `Undecodable` from the journal: then the JSON is compared. `had` are the fields of
    `first` that count, where its data came from another version of its class.
    """
    if first is second:
        return ()
    if isinstance(first, Undecodable):
        return _in_json(first, second)
    if not _is_one_class(type(first), type(second)):
        return ("*",)
    classes: Any = (type(first), type(second))
    found = []
    for name in _compared(*classes) or _compared_fields(first, second):
        if had is not None and name not in had:
            continue
        one, other = getattr(first, name, None), getattr(second, name, None)
        if not (name in _STAMPED and (one is None or other is None)) and not _are_equal(one, other):
            found.append(name)
    return tuple(found)


@lru_cache(maxsize=1024)
def _compared(one: type, other: type) -> tuple[str, ...]:
    """Return what is compared of instances of two classes; nothing if their fields are not declared."""
    ones, others = encoded_names(one), encoded_names(other)
    if ones is None or others is None:
        return ()
    return tuple(sorted((ones.keys() | others.keys()) - _NOT_COMPARED - _volatile(other)))


def _compared_fields(first: object, second: object) -> tuple[str, ...]:
    names = set(_field_names(first)) | set(_field_names(second))
    return tuple(sorted(names - _NOT_COMPARED - _volatile(type(second))))


def _volatile(cls: type) -> frozenset[str]:
    declared = getattr(cls, "volatile_fields", ())
    return frozenset(declared) if isinstance(declared, Iterable) else frozenset()


def _is_one_class(one: type, other: type) -> bool:
    """Return True for a class and itself, also as it was defined before (in a notebook, by a reload)."""
    return one is other or (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)


def _field_names(event: object) -> Iterable[str]:
    slots = [name for cls in type(event).__mro__ for name in _texts(cls.__dict__.get("__slots__", ()))]
    return [*getattr(event, "__dict__", ()), *(name for name in slots if not name.startswith("__"))]


def _texts(slots: str | Iterable[str]) -> Iterable[str]:
    return (slots,) if isinstance(slots, str) else slots


def _are_equal(one: Any, other: Any) -> bool:
    """Return True if two values are equal, or nobody can say that they are not."""
    if one is other:
        return True
    try:
        if one == other:
            return True
        if one != one and other != other:  # noqa: PLR0124 - not a number
            return True
    except Exception:  # noqa: BLE001 - arrays and other values of the user's, whose truth is not defined
        return repr(one) == repr(other)
    try:  # a tuple that was read back as a list, NaN inside a list
        return _is_same_json(one, other)
    except Exception:  # noqa: BLE001 - a value that JSON does not have
        return type(one) is type(other) and _has_no_equality(type(one))


def _is_same_json(one: Any, other: Any) -> bool:
    """Return True if two values are written alike, but for the order in sets, which is no content.

    A set that was read back where no type is declared is a list, in an order that changes with the process.
    """
    if _is_listed(one) and _is_listed(other):
        if isinstance(one, AbstractSet) or isinstance(other, AbstractSet):
            return _in_order(one) == _in_order(other)
        return len(one) == len(other) and all(map(_are_equal, one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        ones, others = _by_json_key(one), _by_json_key(other)
        return ones.keys() == others.keys() and all(_are_equal(ones[key], others[key]) for key in ones)
    return msgspec.json.encode(one) == msgspec.json.encode(other)


def _is_listed(value: Any) -> bool:
    return isinstance(value, list | tuple | AbstractSet)


def _in_order(values: Iterable[Any]) -> list[bytes]:
    return sorted(msgspec.json.encode(value, order="deterministic") for value in values)


def _by_json_key(values: Mapping[Any, Any]) -> dict[bytes, Any]:
    return {msgspec.json.encode({key: None}): value for key, value in values.items()}


def _has_no_equality(cls: type) -> bool:
    return not any("__eq__" in base.__dict__ for base in cls.__mro__ if base is not object)


def _in_json(unread: Undecodable, event: object) -> tuple[str, ...]:
    try:
        first, second = msgspec.json.decode(unread.payload), msgspec.json.decode(encode(event))
    except (msgspec.DecodeError, InvalidEvent):
        return ("*",)
    is_newer = isinstance(unread.error, NewerSchemaVersion)
    keys = first.keys() & second.keys() if is_newer else first.keys() | second.keys()
    names = sorted(keys - _NOT_COMPARED - _volatile(type(event)))
    return tuple(
        name
        for name in names
        if first.get(name) != second.get(name)
        and not (name in _STAMPED and (first.get(name) is None or second.get(name) is None))
    )
