"""What a subscription may ask for: checked where it is given, and made into a mailbox."""

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from textwrap import fill
from typing import Annotated, Any, TypedDict, TypeVar, Unpack

from openoutcry.config import (
    NO_RETRY,
    Conflate,
    DropOldest,
    Gate,
    Overflow,
    OverflowName,
    RetryPolicy,
    Spill,
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
from openoutcry.logs import about
from openoutcry.runtime.delivery.memory import Memory

log = logging.getLogger("openoutcry")

Function = TypeVar("Function", bound=Callable[..., Any])
DEFAULT_OVERFLOW = Spill()
DEFAULT_RETRY = RetryPolicy()
DEFAULT_BREAKER = BreakerConfig()


class SubscribeOptions(TypedDict, total=False):
    """The keywords of `EventBus.subscribe` and `EventBus.on`, each with what it asks for.

    A function of your own that passes them on is typed by it: `**options: Unpack[SubscribeOptions]`.
    """

    name: Annotated[
        str | None,
        "The subscription's name; by default made from the agent's and the function's.",
    ]
    owner: Annotated[
        object,
        "An object whose life the subscription shares. It is held weakly: when it is gone, the bus ends the "
        "subscription.",
    ]
    overflow: Annotated[
        Overflow | OverflowName,
        "`spill` (a full mailbox sees to itself while others are faster), `gate` (publishers wait for it), "
        "`conflate` (the newest per symbol is kept), `drop_oldest`, or `Conflate(key)`, `DropOldest(limit)`.",
    ]
    max_age_s: Annotated[
        float | None,
        "Events that are older when their turn comes are counted as expired, and not handled.",
    ]
    timeout_s: Annotated[
        float | None,
        "A call that takes longer is cancelled and has failed. A plain function needs `blocking=True`.",
    ]
    concurrency: Annotated[
        int,
        "How many calls may run at a time. Above 1 there is no order.",
    ]
    keep: Annotated[
        bool,
        "`cleanup_dead_handlers` never removes it.",
    ]
    retry: Annotated[
        RetryPolicy | bool | None,
        "What to do with failed calls: a `RetryPolicy`, or False for none. Default: three attempts.",
    ]
    breaker: Annotated[
        BreakerConfig | bool | None,
        "When to pause the subscription because most of its events fail, so that the rest do not become "
        "dead letters too: a `BreakerConfig`, or False for never. By default when 10 and at least half of "
        "its last 20 events were given up.",
    ]
    durable: Annotated[
        bool,
        "With a journal, how far the subscription has come is kept under its name, and after a crash it "
        "gets what it had not settled. Its name must be unique and the same at every start. False for one "
        "that wants only what happens while it exists.",
    ]
    outbox: Annotated[
        bool,
        "With a journal, what the handler publishes is accepted when it has returned, in one commit with "
        "the settling of its event, so that after a crash both or neither are there. In the handler "
        "`publish` returns True at once; if the handler fails, or the commit is refused, nothing was "
        "published. Kill switches and what is not journaled go out at once. One call at a time.",
    ]
    memory: Annotated[
        Memory | None,
        "With a journal, how the agent gets its state back before it handles anything: a `Memory(fold, save, "
        "load, every)`. `await subscription.ready()` waits for it.",
    ]
    restore: Annotated[
        Callable[[Any], object] | None,
        "Short for `memory=Memory(fold)`: a plain function that is called with each event that the name has "
        "handled, in the order of the journal. It must have no effects: publishing in it raises.",
    ]
    blocking: Annotated[
        bool,
        "The handler is a plain function that blocks (a database, a model, a computation), so it is "
        "called in a thread of its own, one event after the other, or `concurrency` at a time. It "
        "publishes with `publish_threadsafe`. A call over its time cannot be stopped; it is abandoned.",
    ]
    isolated: Annotated[
        bool,
        "Give each call a fresh copy of the context. Otherwise what one call sets in a context variable "
        "is seen by the next call of the subscription.",
    ]
    supersede: Annotated[
        str | Callable[[Any], object] | None,
        "An attribute, such as `symbol`, or a function of the event: a newer event of the same type with "
        "the same value ends the current call for the older one, which counts as conflated, as do those "
        "that wait. For long calls, such as those of a language model.",
    ]


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
    memory: Memory | None = None
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
    def lets_go(self) -> dict[str, object]:
        """The options by which it lets events go, so that what it has handled is not recorded."""
        lossy = {
            "overflow": isinstance(self.overflow, Conflate | DropOldest) and self.overflow,
            "max_age_s": self.max_age_s,
            "supersede": self.supersede,
        }
        return {name: value for name, value in lossy.items() if value}

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
    options = Options(**_policies(dict(given)))
    if options.memory is not None:
        _check_memory(options, options.memory)
    if options.max_age_s is not None:
        check_number("max_age_s", options.max_age_s, 0, above=True)
    if options.timeout_s is not None:
        check_number("timeout_s", options.timeout_s, 0, above=True)
    check_number("concurrency", options.concurrency, 1, whole=True)
    for name in ("keep", "durable", "outbox", "blocking", "isolated"):
        check_flag(name, getattr(options, name))
    _check_outbox(options)
    if options.supersede is None:
        return options
    overflow = _superseding(options.overflow, options.supersede, blocking=options.blocking)
    return replace(options, overflow=overflow)


def _policies(asked: dict[str, Any]) -> dict[str, Any]:
    """Return what was given, with policies instead of their names and short forms."""
    unknown = sorted(asked.keys() - SubscribeOptions.__annotations__.keys())
    if unknown:
        raise TypeError(f"subscribe() got an unexpected keyword argument {unknown[0]!r}")
    policies: dict[str, Callable[[Any], Any]] = {
        "overflow": overflow_policy,
        "retry": _retry,
        "breaker": _breaker,
    }
    for name in asked.keys() & policies.keys():
        asked[name] = policies[name](asked[name])
    restore = asked.pop("restore", None)
    if restore is not None:
        if asked.get("memory") is not None:
            raise SubscriptionError("restore beside memory: it is short for memory=Memory(fold), so give one")
        asked["memory"] = Memory(restore)
    return asked


def _check_outbox(options: Options) -> None:
    if options.outbox and (options.blocking or not options.durable or options.concurrency != 1):
        raise SubscriptionError(
            f"outbox=True with durable={options.durable}, concurrency={options.concurrency}, "
            f"blocking={options.blocking}: an outbox is committed with the cursor, one call at a time, on "
            "the loop; leave the others as they are by default"
        )


def _check_memory(options: Options, memory: Memory) -> None:
    """Raise if the memory of a subscription could not be what it has handled."""
    if not isinstance(memory, Memory):
        raise SubscriptionError(f"memory is {memory!r}; it must be a Memory(fold, save, load)")
    if not options.durable:
        raise SubscriptionError("a memory needs a cursor to know what was handled: leave out durable=False")
    if memory.save is not None and options.concurrency > 1:
        raise SubscriptionError(
            f"a memory with save and concurrency={options.concurrency}: the state is saved between two "
            "calls, so there may be only one at a time; leave out concurrency"
        )
    for name, value in options.lets_go.items():
        if memory.fold is not None:
            raise SubscriptionError(
                f"a memory with fold and {name}={value!r}: the journal does not know which of its events "
                "such a subscription has handled; give it save and load, without fold"
            )


def spells_out_options(function: Function) -> Function:
    """Have `help()` show the options of a function that takes `**options: Unpack[SubscribeOptions]`."""
    signature = inspect.signature(function)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    asked: dict[str, Any] = SubscribeOptions.__annotations__
    defaults = {field.name: field.default for field in fields(Options)}
    options = (
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=defaults.get(name),
            annotation=asked[name].__origin__,
        )
        for name in asked
    )
    spelt_out = signature.replace(parameters=[*own, *options])
    setattr(function, "__signature__", spelt_out)  # noqa: B010 - functions do not declare it
    doc = inspect.getdoc(function) or ""
    place = "    **options: As in `SubscribeOptions`, where each is described.\n"
    described = (f"{name}: {asked[name].__metadata__[0]}" for name in asked)
    lines = (fill(text, 100, initial_indent=" " * 4, subsequent_indent=" " * 8) for text in described)
    function.__doc__ = doc.replace(place, "\n".join(lines) + "\n")
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
    if overflow not in (DEFAULT_OVERFLOW, wanted):
        raise SubscriptionError(
            f"supersede={key!r} with overflow={overflow!r}: of the waiting events, too, the newest per key "
            "is kept, so leave overflow out"
        )
    return wanted


def mailbox_of(options: Options, share: int, make: Callable[..., Mailbox]) -> Mailbox:
    """Return the mailbox that the options ask for, made by `make`."""
    match options.overflow:
        case Conflate(key):
            lane = ConflatingLane if options.supersede is None else SupersedingLane
            return make(lane("normal", _conflation_key(key)), share=share, counts=False)
        case DropOldest(limit):
            return make(BoundedLane("normal", limit), share=share, counts=False)
        case policy:
            return make(Lane("normal"), share=share, gates=isinstance(policy, Gate))


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
                log.exception(
                    "the conflation key %r failed; such events stand alone", key, extra=about(event)
                )
            return event.event_id
        return found

    return safe
