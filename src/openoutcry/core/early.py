"""Signals that name no round: early for the next one, and so kept for a while, or late for the last."""

from collections.abc import Container
from typing import Any, NamedTuple

from openoutcry.core.outcome import RoundOutcome


class Early(NamedTuple):
    """A signal that waits for a round."""

    agent: str
    signal: Any
    at_ns: int
    reason: str = ""
    """Why the agent abstained; then `signal` is None."""


class EarlySignals:
    """Keeps up to `count_max` signals for up to `max_age_ns`, and returns those that leave unused.

    A duplicate is kept once. They stay in the order of arrival, so that the newest wins in its round.
    """

    def __init__(self, max_age_ns: int, count_max: int) -> None:
        self._max_age_ns = max_age_ns
        self._count_max = count_max
        self._kept: dict[object, Early] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, agent: str, signal: Any, now_ns: int) -> list[Early]:
        """Keep a signal; return those that are too old by now or no longer fit."""
        self._kept.setdefault(signal.event_id, Early(agent, signal, now_ns))
        return self._bound(now_ns)

    def keep_abstention(self, agent: str, reason: str, now_ns: int) -> list[Early]:
        """Keep an abstention; return what leaves, as `keep` does."""
        key = (agent,)
        self._kept.pop(key, None)
        self._kept[key] = Early(agent, None, now_ns, reason)
        return self._bound(now_ns)

    def _bound(self, now_ns: int) -> list[Early]:
        left = self._drop_old(now_ns)
        while len(self._kept) > self._count_max:
            left.append(self._kept.pop(next(iter(self._kept))))
        return left

    def take(self, roster: Container[str], now_ns: int) -> tuple[list[Early], list[Early]]:
        """Return the signals of these agents, whose round has opened, and those that are too old by now."""
        left = self._drop_old(now_ns)
        taken = {key: early for key, early in self._kept.items() if early.agent in roster}
        for key in taken:
            del self._kept[key]
        return list(taken.values()), left

    def clear(self) -> list[Early]:
        """Return everything, and keep nothing."""
        left = list(self._kept.values())
        self._kept.clear()
        return left

    def _drop_old(self, now_ns: int) -> list[Early]:
        old = {}
        for key, early in self._kept.items():  # in the order of arrival
            if now_ns - early.at_ns <= self._max_age_ns:
                break
            old[key] = early
        for key in old:
            del self._kept[key]
        return list(old.values())


class NamedAnswers:
    """Keeps answers that name a round which is not open here, for when it opens: the newest `count_max`.

    They come from other desks, or before the event that opens the round is handled again after a crash. That
    they came before it opened makes none of them late.
    """

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._by_round: dict[str, dict[object, Early]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def keep(self, round_id: str, answer: Early) -> None:
        """Keep an answer; a duplicate is kept once, of an agent's abstentions the newest."""
        its = self._by_round.setdefault(round_id, {})
        key = (answer.agent,) if answer.signal is None else answer.signal.event_id
        self._count += key not in its
        its[key] = answer
        while self._count > self._count_max:
            oldest = next(iter(self._by_round))
            self._count -= len(self._by_round.pop(oldest))

    def take(self, round_id: str) -> list[Early]:
        """Return what was kept for a round that has opened, in the order in which it came."""
        taken = self._by_round.pop(round_id, {})
        self._count -= len(taken)
        return list(taken.values())


def same_cause(outcome: RoundOutcome, agent: str, signal: Any) -> bool:
    """Return True if a signal comes from handling the same event as the agent's answer in a round."""
    cause = getattr(signal, "causation_id", None)
    answers = (answer[2] for answer in outcome.heard.values() if answer[0] == agent)
    return cause is not None and any(getattr(answer, "causation_id", None) == cause for answer in answers)


def belongs_to(outcome: RoundOutcome, agent: str, signal: Any, now_ns: int) -> bool:
    """Return True if an answer that names no round belongs to one that was released before it came.

    It does if it was heard there before, if it comes from handling the same event as the agent's answer
    there, or if the agent still owes that round an answer: the agent is missing, and this is its first answer
    within `barrier_timeout` of the release. An abstention is an answer without a signal.
    """
    late = [answer for answer in outcome.late if answer.agent == agent]
    if signal is not None:
        known = {answer.signal.event_id for answer in late if answer.signal}
        if signal.event_id in outcome.heard or signal.event_id in known or same_cause(outcome, agent, signal):
            return True
    is_recent = now_ns - outcome.released_ns < outcome.terms.barrier_timeout_ns
    return agent in outcome.missing and is_recent and not late
