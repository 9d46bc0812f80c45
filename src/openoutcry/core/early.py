"""Signals that came before the round they are for, kept for a little while."""

from collections.abc import Container
from typing import Any, NamedTuple


class Early(NamedTuple):
    """A signal that waits for a round."""

    agent: str
    signal: Any
    at_ns: int


class EarlySignals:
    """Keeps up to `count_max` signals for up to `max_age_ns`, and hands back what leaves unused.

    A duplicate is kept once. The order is that of arrival, so that in its round the newest wins.
    """

    def __init__(self, max_age_ns: int, count_max: int) -> None:
        self._max_age_ns = max_age_ns
        self._count_max = count_max
        self._kept: dict[str, Early] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, agent: str, signal: Any, now_ns: int) -> list[Early]:
        """Keep a signal; return those that are too old by now, or for which there is no room."""
        self._kept.setdefault(signal.event_id, Early(agent, signal, now_ns))
        left = self._drop_old(now_ns)
        while len(self._kept) > self._count_max:
            left.append(self._kept.pop(next(iter(self._kept))))
        return left

    def take(self, roster: Container[str], now_ns: int) -> tuple[list[Early], list[Early]]:
        """Hand out the signals of a roster that has come together; and those that are too old by now."""
        left = self._drop_old(now_ns)
        taken = [early for early in self._kept.values() if early.agent in roster]
        for early in taken:
            del self._kept[early.signal.event_id]
        return taken, left

    def clear(self) -> list[Early]:
        """Hand back everything."""
        left = list(self._kept.values())
        self._kept.clear()
        return left

    def _drop_old(self, now_ns: int) -> list[Early]:
        left = []
        for early in self._kept.values():  # in the order of arrival
            if now_ns - early.at_ns <= self._max_age_ns:
                break
            left.append(early)
        for early in left:
            del self._kept[early.signal.event_id]
        return left
