"""What a subscription may ask for: checked where it is given, and made into a mailbox."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from openoutcry.config import (
    NO_RETRY,
    Conflate,
    DropOldest,
    Gate,
    Overflow,
    OverflowName,
    RetryPolicy,
    check_number,
    overflow_policy,
)
from openoutcry.core.breaker import BreakerConfig
from openoutcry.core.lanes import Lane
from openoutcry.core.mailbox import Mailbox
from openoutcry.core.overflow import BoundedLane, ConflatingLane, SupersedingLane
from openoutcry.errors import SubscriptionError
from openoutcry.events import event_type_of

log = logging.getLogger("openoutcry")

DEFAULT_RETRY = RetryPolicy()
DEFAULT_BREAKER = BreakerConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a subscription wants its events, as given to `subscribe`."""

    overflow: Overflow
    max_age_s: float | None
    timeout_s: float | None
    concurrency: int
    keep: bool
    retry: RetryPolicy
    breaker: BreakerConfig | None = None
    durable: bool = True
    outbox: bool = False
    restore: Callable[[Any], None] | None = None
    blocking: bool = False
    supersede: str | Callable[[Any], object] | None = None

    @property
    def timeout_ns(self) -> int | None:
        """How long a call may take, if that is limited."""
        return None if self.timeout_s is None else int(self.timeout_s * 1e9)

    @property
    def max_age_ns(self) -> int | None:
        """How old an event may be when its turn comes, if that is limited."""
        return None if self.max_age_s is None else int(self.max_age_s * 1e9)

    @property
    def is_guarded(self) -> bool:
        """Whether the time has to be looked at before each call."""
        return self.timeout_s is not None or self.max_age_s is not None

    @property
    def takes_one(self) -> bool:
        """Whether a worker takes one event at a time: each has its own time, thread or commit, or worker."""
        return self.is_guarded or self.outbox or self.blocking or self.concurrency > 1


def options_of(
    *,
    overflow: Overflow | OverflowName = "gate",
    max_age_s: float | None = None,
    timeout_s: float | None = None,
    concurrency: int = 1,
    retry: RetryPolicy | bool | None = None,
    keep: bool = False,
    breaker: BreakerConfig | bool | None = None,
    durable: bool = True,
    outbox: bool = False,
    restore: Callable[[Any], None] | None = None,
    blocking: bool = False,
    supersede: str | Callable[[Any], object] | None = None,
) -> Options:
    """Check what was given to `subscribe`, and return it with the defaults in their places."""
    if max_age_s is not None:
        check_number("max_age_s", max_age_s, 0, above=True)
    if timeout_s is not None:
        check_number("timeout_s", timeout_s, 0, above=True)
    check_number("concurrency", concurrency, 1, whole=True)
    if outbox and (blocking or not (durable and concurrency == 1)):
        raise SubscriptionError(
            f"outbox=True with durable={durable}, concurrency={concurrency}, blocking={blocking}: an outbox "
            "is committed with the cursor, one call at a time, on the loop; leave the others as they are by "
            "default"
        )
    policy = overflow_policy(overflow)
    return Options(
        overflow=policy if supersede is None else _superseding(policy, supersede, blocking=blocking),
        max_age_s=max_age_s,
        timeout_s=timeout_s,
        concurrency=concurrency,
        keep=keep,
        retry=_retry(retry),
        breaker=_breaker(breaker),
        durable=durable,
        outbox=outbox,
        restore=restore,
        blocking=blocking,
        supersede=supersede,
    )


def _retry(value: RetryPolicy | bool | None) -> RetryPolicy:
    if value is None or value is True:
        return DEFAULT_RETRY
    if value is False:
        return NO_RETRY
    if not isinstance(value, RetryPolicy):
        raise SubscriptionError(
            f"retry is {value!r}; it must be a RetryPolicy, or False for no second attempt"
        )
    return value


def _breaker(value: BreakerConfig | bool | None) -> BreakerConfig | None:
    if value is None or value is True:
        return DEFAULT_BREAKER
    if value is not False and not isinstance(value, BreakerConfig):
        raise SubscriptionError(f"breaker is {value!r}; it must be a BreakerConfig, or False for none")
    return value or None


def _superseding(overflow: Overflow, key: str | Callable[[Any], object], *, blocking: bool) -> Overflow:
    """Return the overflow of a subscription where the newest event of a key is all that counts."""
    if blocking:
        raise SubscriptionError(
            "supersede with blocking=True: a call in a thread cannot be ended for a newer event; use a "
            "coroutine handler, or only overflow=Conflate(key)"
        )
    wanted = Conflate(key)
    if overflow not in (Gate(), wanted):
        raise SubscriptionError(
            f"supersede={key!r} with overflow={overflow!r}: of the waiting events, too, the newest per key "
            "is kept, so leave overflow out"
        )
    return wanted


DEFAULT_OPTIONS = options_of()


def mailbox_of(options: Options, share: int) -> Mailbox:
    """Return the mailbox that the options ask for."""
    match options.overflow:
        case Conflate(key):
            lane = ConflatingLane if options.supersede is None else SupersedingLane
            return Mailbox(lane("normal", _conflation_key(key)), share=share)
        case DropOldest(limit):
            return Mailbox(BoundedLane("normal", limit), share=share, gates=False)
        case _:
            return Mailbox(Lane("normal"), share=share)


def _conflation_key(key: str | Callable[[Any], object]) -> Callable[[Any], object]:
    """Return a function that gives every event a key, come what may: it is called while others wait."""

    def by_attribute(event: Any) -> object:
        value = getattr(event, str(key), None)
        return event.event_id if value is None else (event_type_of(event), value)

    def by_function(event: Any) -> object:
        return (event_type_of(event), key(event)) if callable(key) else None

    key_of = by_function if callable(key) else by_attribute
    reported = False

    def safe(event: Any) -> object:
        nonlocal reported
        try:
            found = key_of(event)
            hash(found)
        except Exception:
            if not reported:
                reported = True
                log.exception("the conflation key %r failed; such events stand alone", key)
            return event.event_id
        return found

    return safe
