"""Settings of a subscription: retries and overflow."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from openoutcry.config.checks import check_flag, check_number
from openoutcry.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a failed call is tried again, and when it becomes a dead letter.

    The wait before attempt n + 1 is `first_s * factor ** (n - 1)`, at most `max_s`, lengthened by a random
    share of up to `jitter` so that many subscriptions do not retry in step.

    Attributes:
        attempts: How often an event is tried in all, including the first time.
        first_s: Wait before the second attempt, in seconds.
        factor: What each further wait is multiplied by.
        max_s: The longest wait, in seconds, before jitter.
        jitter: The largest share by which a wait is lengthened, 0 to 1.
        in_order: Whether later events of the same lane wait for the retry (they do unless this is False).

    """

    attempts: int = 3
    first_s: float = 0.05
    factor: float = 4.0
    max_s: float = 30.0
    jitter: float = 0.25
    in_order: bool = True

    def __post_init__(self) -> None:
        """Check every range."""
        check_number("attempts", self.attempts, 1, whole=True)
        check_number("first_s", self.first_s, 0)
        check_number("factor", self.factor, 1)
        check_number("max_s", self.max_s, self.first_s, because="not below first_s")
        check_number("jitter", self.jitter, 0, 1)
        check_flag("in_order", self.in_order)


NO_RETRY = RetryPolicy(attempts=1)


@dataclass(frozen=True, slots=True)
class Spill:
    """The default: a full mailbox sees to itself as long as another one that takes the event is emptier.

    What is in the journal is read from there later. Of the types that are shed first (market data) the oldest
    go, and are counted. Anything else becomes a dead letter of this subscription, which can be redriven.
    """


@dataclass(frozen=True, slots=True)
class Gate:
    """Publishers wait for this subscription too, however empty the others are, for as long as it moves.

    For backtests, where no event may be missed and nobody is in a hurry.
    """


@dataclass(frozen=True, slots=True)
class Conflate:
    """Of the waiting normal-lane events with the same key only the newest is kept; the others are counted.

    Attributes:
        key: The name of an attribute (such as `symbol`), or a function of the event. Events of different
            types never replace each other. An event without that attribute is never replaced, nor is one
            whose key raises or cannot be hashed.

    """

    key: str | Callable[[Any], object] = "symbol"

    def __post_init__(self) -> None:
        """Check the key."""
        if not (callable(self.key) or (isinstance(self.key, str) and self.key)):
            raise ConfigError(
                f"Conflate.key is {self.key!r}; it must be the name of an attribute, "
                "or a function of the event"
            )


@dataclass(frozen=True, slots=True)
class DropOldest:
    """At most `limit` normal-lane events wait; the oldest make room for the newest, and are counted."""

    limit: int = 1_000

    def __post_init__(self) -> None:
        """Check the limit."""
        check_number("DropOldest.limit", self.limit, 1, whole=True)


Overflow = Spill | Gate | Conflate | DropOldest
OverflowName = Literal["spill", "gate", "conflate", "drop_oldest"]
_OVERFLOWS: dict[str, Overflow] = {
    "spill": Spill(),
    "gate": Gate(),
    "conflate": Conflate(),
    "drop_oldest": DropOldest(),
}


def overflow_policy(value: Overflow | str) -> Overflow:
    """Return the policy that `value` names, or `value` itself if it is one."""
    if isinstance(value, Spill | Gate | Conflate | DropOldest):
        return value
    policy = _OVERFLOWS.get(value) if isinstance(value, str) else None
    if policy is None:
        raise ConfigError(
            f"overflow is {value!r}; it must be one of {sorted(_OVERFLOWS)}, "
            "or Spill(), Gate(), Conflate(key), DropOldest(limit)"
        )
    return policy
