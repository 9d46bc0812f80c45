"""Immutable mappings and sequences for the fields of events."""

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar, Final, NoReturn, TypeVar

import msgspec

from openoutcry.events.bounds import MAX_BYTES, Room, Unfit, look_through
from openoutcry.events.foreign import plain, shown

_MOST_BYTES: Final = 24
"""A float has up to 24 characters, and a character of text up to six."""

EXACTLY: Final = 'keep it exactly in a class of your own (in the docs: "Exact prices")'
"""What to do about a `Decimal` in an event of this package."""

_K = TypeVar("_K")
_V = TypeVar("_V")


class ReadOnlyDict(dict[_K, _V]):
    """A dict whose every method that would change it raises `TypeError`, with `_REFUSAL` as its message."""

    __slots__ = ()

    _REFUSAL: ClassVar[str]

    def _refuse(self) -> NoReturn:
        raise TypeError(self._REFUSAL)

    def __setitem__(self, key: _K, value: _V, /) -> NoReturn:
        self._refuse()

    def __delitem__(self, key: _K, /) -> NoReturn:
        self._refuse()

    def __ior__(self, *_args: Any) -> NoReturn:  # type: ignore[misc]
        self._refuse()

    def clear(self) -> NoReturn:
        """Raise `TypeError`."""
        self._refuse()

    def pop(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Raise `TypeError`."""
        self._refuse()

    def popitem(self) -> NoReturn:
        """Raise `TypeError`."""
        self._refuse()

    def setdefault(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Raise `TypeError`."""
        self._refuse()

    def update(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Raise `TypeError`."""
        self._refuse()


class FrozenDict(ReadOnlyDict[_K, _V]):
    """A dict that cannot be changed, so that all subscribers of an event see the same contents.

    It is a real dict (it encodes as one and equals one), but every method that would change it raises
    `TypeError`. It hashes by its contents, if they are hashable.
    """

    __slots__ = ()

    _REFUSAL = "an event's mapping cannot be changed: make a dict(...) of it and change that"

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type["FrozenDict[_K, _V]"], tuple[dict[_K, _V]]]:
        return type(self), (dict(self),)


def freeze(value: object) -> object:
    """Return `value` as immutable JSON: dicts become `FrozenDict` and lists become tuples, at every depth.

    Numpy's scalars become Python's own. Raises `Unfit` for what JSON does not have (other types, keys that
    are not strings, not-a-number), and for what is beyond the bounds of an event.
    """
    room = Room()
    look_through(value, room, finite=False)
    frozen = _freeze(value)
    if (MAX_BYTES - room.left) * _MOST_BYTES > MAX_BYTES and len(msgspec.json.encode(frozen)) > MAX_BYTES:
        room.take(MAX_BYTES + 1)
    return frozen


def _freeze(given: object) -> object:
    value = given if type(given) is dict or type(given) is list else plain(given)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value if type(value) is str else str.__str__(value)
    if isinstance(value, int):
        if -(2**63) <= value < 2**64:
            return value if type(value) is int else int.__int__(value)
        raise Unfit("does not fit 64 bits; convert it before", value)
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        raise Unfit("is not a finite number; use None", value)
    if isinstance(value, list | tuple | Mapping):
        return _freeze_inner(value)
    exactly = f", or {EXACTLY}" if isinstance(value, Decimal) else ""
    raise Unfit(f"is a {type(value).__name__}, which JSON does not have; convert it before{exactly}", value)


def _freeze_inner(value: Any) -> object:
    steps = value.items() if isinstance(value, Mapping) else enumerate(value)
    frozen = []
    for step, item in steps:
        try:
            frozen.append(_freeze(item))
        except Unfit as problem:
            raise problem.within(f"[{shown(step)}]") from None
    if not isinstance(value, Mapping):
        return tuple(frozen)
    return FrozenDict(zip(map(_key, value), frozen, strict=True))


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise Unfit(f"the key {shown(key)} is not a string; convert it before", key)
    return key if type(key) is str else str.__str__(key)


def thaw(value: Any) -> Any:
    """Return `value` with numpy's scalars as Python's own, at every depth."""
    if isinstance(value, Mapping):
        return {plain(key): thaw(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [thaw(item) for item in value]
    return plain(value)
