"""How much memory events take, about: exactly enough to bound what is kept, and cheap enough to ask.

Measuring an event takes longer than handling one, so a class whose events are small is measured now and then,
and counted by the mean of what was found. After an event that is not small, each event of its class is
measured for a while.
"""

import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from typing import Any

SMALL_BYTES = 4_096
"""Of a class with larger events each is measured."""
EVERY = 64
"""A class of small events is measured once in so many of its events."""
ITEMS_MOST = 256
"""So many items of a container are looked at; the others count as these do."""
PARTS_MOST = 4_096
"""So many parts of an event are looked into; what is left then is counted as it lies there."""
CLASSES_MOST = 1_024

NUMBER_BYTES = 48
"""About the most that a number or a time takes."""
_NUMBERS = frozenset({float, int, bool, type(None)})
_LEAVES = (str, bytes, bytearray, int, float, complex, bool, type(None), type, range)


def weight_of(event: Any) -> int:
    """Return about how many bytes an event takes, with all that it refers to."""
    total, looked = 0.0, 0
    stack: list[tuple[Any, float]] = []
    names = getattr(event.__class__, "__struct_fields__", None)
    if names is None:
        stack.append((event, 1.0))
    else:  # most events are flat: numbers and short text
        total += sys.getsizeof(event)
        for name in names:
            value = getattr(event, name, None)
            if value.__class__ in _NUMBERS or name == "timestamp":
                total += NUMBER_BYTES
            elif isinstance(value, str):
                total += sys.getsizeof(value)
            else:
                stack.append((value, 1.0))
    while stack:
        value, share = stack.pop()
        total += share * _own_bytes(value)
        if isinstance(value, _LEAVES) or looked >= PARTS_MOST:
            continue
        looked += 1
        parts, count = _parts_of(value)
        if parts:
            share *= count / len(parts)
            stack += [(part, share) for part in parts]
    return int(total)


def _own_bytes(value: Any) -> int:
    if isinstance(value, memoryview):
        return value.nbytes
    try:
        return sys.getsizeof(value, 64)
    except Exception:  # noqa: BLE001 - a class of the user's own may say anything
        return 64


def _parts_of(value: Any) -> tuple[list[Any], int]:
    """Return what a value refers to, or some of it, and how many things that is."""
    if isinstance(value, Mapping):
        some = islice(value.items(), ITEMS_MOST)
        return [part for pair in some for part in pair], 2 * len(value)
    if isinstance(value, list | tuple):
        return list(value[:: 1 + len(value) // ITEMS_MOST]), len(value)
    if isinstance(value, set | frozenset) or (isinstance(value, Collection) and hasattr(value, "popleft")):
        return list(islice(value, ITEMS_MOST)), len(value)
    names: Iterable[str] = getattr(type(value), "__struct_fields__", ())
    if not names:
        names = [n for cls in type(value).__mro__ for n in _slots_of(cls)]
    parts = [getattr(value, name, None) for name in names]
    parts += getattr(value, "__dict__", {}).values()
    return parts, len(parts)


def _slots_of(cls: type) -> Iterable[str]:
    slots = vars(cls).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else slots


class _Kind:
    """The events of one class.

    Attributes:
        mean: About how many bytes one takes.
        left: How many more events are counted by that before one is measured.
        heavy_left: How many more events are measured each, since one was not small.

    """

    __slots__ = ("heavy_left", "left", "mean")

    def __init__(self) -> None:
        self.mean = self.left = self.heavy_left = 0


class Scales:
    """Weighs batches of events. `window` is for how many events a class counts as heavy after a heavy one."""

    __slots__ = ("_kinds", "_window")

    def __init__(self, window: int) -> None:
        self._kinds: dict[type, _Kind] = {}
        self._window = window

    def weigh(self, batch: list[Any], *, mixed: bool) -> int:
        """Return about how many bytes the events of a batch take; `mixed`: they may differ in class."""
        if not mixed:
            kind, count = self._kinds.get(type(batch[0])), len(batch)
            if kind is not None and kind.left > count and not kind.heavy_left:
                kind.left -= count
                return count * kind.mean
            return self._weigh(type(batch[0]), count, batch)
        return sum(self._weigh(cls, count, batch) for cls, count in Counter(map(type, batch)).items())

    def _weigh(self, cls: type, count: int, batch: list[Any]) -> int:
        """Weigh the `count` events of a class in a batch."""
        kind = self._kinds.get(cls)
        if kind is None:
            if len(self._kinds) >= CLASSES_MOST:
                self._kinds.clear()
            kind = self._kinds[cls] = _Kind()
        if not kind.heavy_left:
            if kind.left > count:
                kind.left -= count
                return count * kind.mean
            kind.left = EVERY
            found = weight_of(next(event for event in batch[::-1] if type(event) is cls))
            if found < SMALL_BYTES:
                kind.mean = found if not kind.mean else (3 * kind.mean + found) // 4
                return kind.mean * count
        return self._weigh_each(kind, [event for event in batch if event.__class__ is cls])

    def _weigh_each(self, kind: _Kind, events: list[Any]) -> int:
        """Measure all events of a class, since one of them, or one before them, was heavy."""
        weights = list(map(weight_of, events))
        kind.left = EVERY
        kind.heavy_left = max(0, kind.heavy_left - len(events))
        if max(weights) >= SMALL_BYTES:
            kind.heavy_left = self._window
        kind.mean = sum(weights) // len(weights)
        return sum(weights)
