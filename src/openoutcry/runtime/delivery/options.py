"""What a subscription may ask for: checked where it is given, and made into a mailbox."""

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, TypedDict, TypeVar, Unpack

from openoutcry.config import (
    NO_RETRY,
    Conflate,
    DropOldest,
    Gate,
    Overflow,
    OverflowName,
    RetryPolicy,
    check_flag,
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

Function = TypeVar("Function", bound=Callable[..., Any])
DEFAULT_OVERFLOW = Gate()
DEFAULT_RETRY = RetryPolicy()
DEFAULT_BREAKER = BreakerConfig()


class SubscribeOptions(TypedDict, total=False):
    """The keywords of `EventBus.subscribe`, as they are given; they are documented there."""

    overflow: Overflow | OverflowName
    max_age_s: float | None
    timeout_s: float | None
    concurrency: int
    keep: bool
    retry: RetryPolicy | bool | None
    breaker: BreakerConfig | bool | None
    durable: bool
    outbox: bool
    restore: Callable[[Any], None] | None
    blocking: bool
    isolated: bool
    supersede: str | Callable[[Any], object] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The same, checked: policies instead of their names, and a default for what was not given."""

    overflow: Overflow = DEFAULT_OVERFLOW
    max_age_s: float | None = None
    timeout_s: float | None = None
    concurrency: int = 1
    keep: bool = False
    retry: RetryPolicy = DEFAULT_RETRY
    breaker: BreakerConfig | None = DEFAULT_BREAKER
    durable: bool = True
    outbox: bool = False
    restore: Callable[[Any], None] | None = None
    blocking: bool = False
    isolated: bool = False
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


DEFAULT_OPTIONS = Options()


def options_of(**given: Unpack[SubscribeOptions]) -> Options:
    """Check what was given to `subscribe`, and return it with the defaults in their places.

    Raises:
        SubscriptionError: An option, or a combination of them, is not usable.
        ConfigError: A number is out of range.
        TypeError: There is no such option.

    """
    asked: dict[str, Any] = dict(given)
    unknown = sorted(asked.keys() - SubscribeOptions.__annotations__.keys())
    if unknown:
        raise TypeError(f"subscribe() got an unexpected keyword argument {unknown[0]!r}")
    if "overflow" in asked:
        asked["overflow"] = overflow_policy(asked["overflow"])
    if "retry" in asked:
        asked["retry"] = _retry(asked["retry"])
    if "breaker" in asked:
        asked["breaker"] = _breaker(asked["breaker"])
    options = Options(**asked)
    if options.max_age_s is not None:
        check_number("max_age_s", options.max_age_s, 0, above=True)
    if options.timeout_s is not None:
        check_number("timeout_s", options.timeout_s, 0, above=True)
    check_number("concurrency", options.concurrency, 1, whole=True)
    for name in ("keep", "durable", "outbox", "blocking", "isolated"):
        check_flag(name, getattr(options, name))
    if options.outbox and (options.blocking or not options.durable or options.concurrency != 1):
        raise SubscriptionError(
            f"outbox=True with durable={options.durable}, concurrency={options.concurrency}, "
            f"blocking={options.blocking}: an outbox is committed with the cursor, one call at a time, on "
            "the loop; leave the others as they are by default"
        )
    if options.supersede is None:
        return options
    overflow = _superseding(options.overflow, options.supersede, blocking=options.blocking)
    return replace(options, overflow=overflow)


def spells_out_options(function: Function) -> Function:
    """Have `help()` show the options of a function that takes `**options: Unpack[SubscribeOptions]`."""
    signature = inspect.signature(function)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    options = (
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=SubscribeOptions.__annotations__[field.name],
        )
        for field in fields(Options)
    )
    spelt_out = signature.replace(parameters=[*own, *options])
    setattr(function, "__signature__", spelt_out)  # noqa: B010 - functions do not declare it
    return function


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
