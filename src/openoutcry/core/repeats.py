"""What is told again and again: once a minute, with how often it happened in between."""

from collections.abc import Hashable

from openoutcry.units import NS_PER_S

EVERY_NS = 60 * NS_PER_S
KINDS_MOST = 64
"""How many kinds are remembered; the one that was told longest ago is forgotten."""


class Repeats:
    """When each kind of thing was told last, and how often it happened since."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[int, int]] = {}

    def note(self, kind: Hashable, now_ns: int) -> int | None:
        """Note that it happened. Return how often that was not told since it was last; None: not now."""
        told_ns, untold = self._known.get(kind, (None, 0))
        if told_ns is not None and now_ns - told_ns < EVERY_NS:
            self._known[kind] = (told_ns, untold + 1)
            return None
        self._known.pop(kind, None)
        if len(self._known) >= KINDS_MOST:
            del self._known[next(iter(self._known))]
        self._known[kind] = (now_ns, 0)
        return untold


def in_between(count: int) -> str:
    """Return what a record says of the `count` things like it that had none."""
    return "" if not count else f" (and {count} more like it since it was last logged)"
