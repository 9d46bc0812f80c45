"""Retries: what happens to an event whose call failed. It is tried again later, or becomes a dead letter."""

from dataclasses import dataclass
from math import inf
from typing import Any

from openoutcry.config import RetryPolicy
from openoutcry.core.lanes import LaneName

NS_PER_S = 1_000_000_000
DECIDED_OTHERWISE = "decided otherwise"
"""The reason of the dead letter of an event whose handler published another event than the first time."""


@dataclass(frozen=True, slots=True)
class Again:
    """Try again after `wait_ns`."""

    wait_ns: int


@dataclass(frozen=True, slots=True)
class Dead:
    """No attempt is left."""

    attempts: int


def after_failure(policy: RetryPolicy, attempts: int, jitter: float) -> Again | Dead:
    """Decide on an event that has failed `attempts` times, this one included.

    The wait is the policy's exponential backoff, lengthened by `jitter` (0 <= jitter < 1, drawn by the
    caller) times the policy's share.
    """
    if attempts >= policy.attempts:
        return Dead(attempts)
    try:
        growth = float(policy.factor) ** (attempts - 1)
    except OverflowError:  # after some hundred attempts: more than max_s in any case, unless there is no wait
        growth = inf
    wait_s = min(policy.first_s * growth, policy.max_s) if policy.first_s else 0.0
    return Again(int(wait_s * (1 + policy.jitter * jitter) * NS_PER_S))


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An accepted event that one subscription could not handle.

    Attributes:
        subscription: The subscription's name.
        lane: The lane it waited in.
        event: The event itself.
        reason: `failed`, `timed out`, `decided otherwise` (its handler published another event than when it
            handled it before), `no room`, `quarantined` (it was in the handler at too many crashes) or
            `unreadable` (the journal has it, and no class for it is registered).
        error: The last error as text, or an empty string.
        traceback: The last error's traceback as text, or an empty string.
        attempts: How often it was tried.
        wall_ns: When it was dead-lettered, in nanoseconds since 1970 (a label).
        letter_id: Its id for redriving and dropping; that of the journal if there is one.
        position: The event's position in the journal; 0 if it is not there.

    """

    subscription: str
    lane: LaneName
    event: Any
    reason: str
    error: str
    traceback: str
    attempts: int
    wall_ns: int
    letter_id: int = 0
    position: int = 0

    @property
    def event_type(self) -> str:
        """The type of the event; also of one that cannot be read, if its data names one."""
        event_type = getattr(self.event, "event_type", "")
        return str(getattr(event_type, "value", event_type))

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON-ready data; the event by its id and type."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name != "event"}
        plain["event_id"] = getattr(self.event, "event_id", "")
        plain["event_type"] = self.event_type
        return plain
