"""Immutable mappings and sequences for the fields of events."""

import math
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")


class FrozenDict(dict[_K, _V]):
    """A dict that cannot be changed, so that all subscribers of an event see the same contents.

    It is a real dict (it encodes as one and equals one), but every method that would change it raises
    `TypeError`. It hashes by its contents, if they are hashable.
    """

    __slots__ = ()

    def _refuse(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise TypeError("an event's mapping cannot be changed: make a dict(...) of it and change that")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type["FrozenDict[_K, _V]"], tuple[dict[_K, _V]]]:
        return type(self), (dict(self),)


def freeze(value: object) -> object:
    """Return `value` as immutable JSON: dicts become `FrozenDict` and lists become tuples, at every depth.

    Raises `ValueError` for what JSON does not have: other types, keys that are not strings, not-a-number.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        if -(2**63) <= value < 2**64:
            return value
        raise ValueError(f"{value!r} does not fit 64 bits")
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        raise ValueError(f"{value!r} is not a finite number")
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"the key {key!r} is not a string")  # noqa: TRY004 - one kind of refusal
        return FrozenDict({key: freeze(item) for key, item in value.items()})
    raise ValueError(f"{value!r} is a {type(value).__name__}, which JSON does not have")
