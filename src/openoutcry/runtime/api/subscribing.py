"""Subscribing and unsubscribing: the part of the bus's face that deals with handlers."""

import inspect
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints, overload

from openoutcry.config import Overflow, OverflowName, RetryPolicy, check_number
from openoutcry.core.breaker import BreakerConfig
from openoutcry.errors import DuplicateName, NotSubscribed, SubscriptionError
from openoutcry.runtime.delivery.options import DEFAULT_OPTIONS, Options, options_of
from openoutcry.runtime.delivery.subscription import (
    Handler,
    Selector,
    Subscription,
    is_coroutine_handler,
    qualified_name,
    selectors_of,
    takes,
    unwrapped,
)

if TYPE_CHECKING:
    from openoutcry.runtime.admission.gate import Admission
    from openoutcry.runtime.delivery.dispatcher import Dispatcher
    from openoutcry.runtime.delivery.state import BusState
    from openoutcry.runtime.durability.slot import StoreSlot


class Subscribing:
    """Methods of the bus that deal with handlers."""

    _admission: "Admission"
    _dispatcher: "Dispatcher"
    _bus: "BusState"
    _slot: "StoreSlot"

    def subscribe(
        self,
        event_type: Any,
        handler: Handler,
        *,
        name: str | None = None,
        overflow: Overflow | OverflowName = "gate",
        max_age_s: float | None = None,
        timeout_s: float | None = None,
        concurrency: int = 1,
        keep: bool = False,
        retry: RetryPolicy | bool | None = None,
        owner: object = None,
        breaker: BreakerConfig | bool | None = None,
        durable: bool = True,
        outbox: bool = False,
        restore: Callable[[Any], None] | None = None,
        blocking: bool = False,
        supersede: str | Callable[[Any], object] | None = None,
    ) -> Subscription:
        """Subscribe a handler.

        A handler has one mailbox and one consumer for all its types: subscribing it again adds types, and then
        no other argument may be given. It gets the events accepted from now on; before `start`, also what was
        published already.

        Args:
            event_type: An event type (string or str-valued Enum member), an event class (its subclasses
                included), `"*"` for everything, or a list of these.
            handler: A coroutine function or a plain function of the event. The bus holds it, and a method's
                instance.
            name: The subscription's name; by default made from the agent's and the function's.
            overflow: `gate` (counts toward the bus's room, never drops), `conflate` (the newest per symbol),
                `drop_oldest`, or `Conflate(key)`, `DropOldest(limit)`.
            max_age_s: Events that are older than this when their turn comes are counted as expired and not
                handled.
            timeout_s: A call that takes longer is cancelled and counts as failed.
            concurrency: Calls at a time. Above 1 there is no order.
            keep: Never removed by `cleanup_dead_handlers`.
            retry: What to do with failed calls: a `RetryPolicy`, or False for none. Default: three attempts.
            owner: An object whose life the subscription shares. It is held weakly: when it is gone, the bus
                ends the subscription.
            breaker: When to pause the subscription because most of its events fail, so that the rest need not
                become dead letters too: a `BreakerConfig`, or False for never. By default when 10 and at
                least half of its last 20 events were given up.
            durable: With a journal, how far the subscription has come is kept under its name, and after a
                crash it gets what it had not settled. Its name must then be unique and stay the same. False
                for one that only wants what happens while it lives.
            outbox: With a journal, what the handler publishes is not accepted before it has returned: then it
                is committed together with the settling of its event, so that a crash finds both or neither.
                In the handler `publish` returns True at once; when the handler fails, or the commit is
                refused, nothing was published. Kill switches and what is not journaled go out at once. One
                call at a time.
            restore: With a journal, a plain function that is called at every start with each event that the
                subscription had settled, in the order of the journal and before it handles anything, so that
                an agent can build its state again. It must have no effects: publishing in it raises.
            blocking: A plain function that blocks (a database, a model, a computation) and so is called in a
                thread of its own, still one event after the other, or `concurrency` at a time. It publishes
                with `publish_threadsafe`. A call that is over its time cannot be stopped: it is abandoned.
            supersede: An attribute, such as `symbol`, or a function of the event: a newer event of the same
                type with the same value ends the call in hand for the older one, which counts as conflated,
                as do those that wait. For long calls, such as those of a language model.

        Raises:
            SubscriptionError: The type, the handler or an option is not usable.
            DuplicateName: The name belongs to another handler.
            ConfigError: A number is out of range.

        """
        self._admission.check_thread("subscribe")
        selectors = selectors_of(event_type)
        _check_handler(handler, blocking=blocking)
        _check_restore(restore, durable=durable)
        options = options_of(
            overflow=overflow,
            max_age_s=max_age_s,
            timeout_s=timeout_s,
            concurrency=concurrency,
            retry=retry,
            keep=keep,
            breaker=breaker,
            durable=durable,
            outbox=outbox,
            restore=restore,
            blocking=blocking,
            supersede=supersede,
        )
        return self._subscribe(selectors, handler, name, options, owner)

    def _subscribe(
        self,
        selectors: frozenset[Selector],
        handler: Handler,
        name: str | None,
        options: Options,
        owner: object,
    ) -> Subscription:
        """Subscribe a handler, or add types to its subscription."""
        self._dispatcher.deliver()
        self._end_orphans()
        known = self._bus.router.find(handler)
        if known is not None:
            _check_same(known, name, options, owner)
            known.selectors |= selectors
            self._bus.router.changed()
            if known in self._bus.consumers:
                self._bus.consumers[known].need_control()
            return known
        if name is None:
            name = self._own_name(handler, durable=options.durable)
        elif not isinstance(name, str) or not name:
            raise SubscriptionError(f"name is {name!r}; it must be a non-empty string")
        else:
            self._bus.router.check_name(name)
        share = self._bus.pressure.config.high_per_normal
        subscription = Subscription(name, selectors, handler, options, share, self._bus.clock.now_ns())
        subscription.check_thread = self._admission.check_thread
        if owner is not None:
            try:
                subscription.live_with(owner, self._owner_gone)
            except TypeError as error:
                raise SubscriptionError(
                    f"owner is {owner!r}, which cannot be held weakly ({error}); give its class a "
                    "__weakref__ slot, such as dataclass(slots=True, weakref_slot=True), or leave owner out"
                ) from error
        self._bus.router.add(subscription, handler)
        if self._admission.store is not None:
            self._admission.store.cursors.adopt(subscription)
        if self._bus.running:
            self._bus.run(subscription)
        return subscription

    def _own_name(self, handler: Handler, *, durable: bool) -> str:
        """Return the name that a subscription gets from its handler; a cursor needs one of its own."""
        wanted = qualified_name(handler)
        name = self._bus.router.free_name(wanted)
        if durable and name != wanted and self._slot.has_journal:
            raise DuplicateName(
                f"{wanted!r} is the name of another subscription, and with a journal each needs one of its "
                "own, the same at every start: give this one a name=..., or durable=False"
            )
        return name

    @overload
    def on(self, event_type: Handler, /) -> Handler: ...
    @overload
    def on(self, *event_types: Any, **options: Any) -> Callable[[Handler], Handler]: ...
    def on(self, *event_types: Any, **options: Any) -> Any:
        """Subscribe the decorated function: `@bus.on`, `@bus.on(EventType.FILL, timeout_s=2)`.

        Without types they are taken from the annotation of the function's first parameter, which must be an
        event class or a union of such. Options are those of `subscribe`.
        """
        if len(event_types) == 1 and not options and _is_handler(event_types[0]):
            self.subscribe(_annotated(event_types[0]), event_types[0])
            return event_types[0]

        def decorate(handler: Handler) -> Handler:
            wanted = [
                t for given in event_types for t in (given if isinstance(given, list | tuple) else [given])
            ]
            self.subscribe(wanted or _annotated(handler), handler, **options)
            return handler

        return decorate

    def unsubscribe(self, event_type: Any, handler: Handler) -> None:
        """Take types from a handler's subscription; with the last one it ends.

        What waits for it of these types is counted as withdrawn. A call in hand goes on to its end.

        Raises:
            NotSubscribed: The handler is not subscribed to that.

        """
        self._admission.check_thread("unsubscribe")
        subscription = self._bus.router.find(handler)
        selectors = selectors_of(event_type)
        if subscription is None or not selectors & subscription.selectors:
            raise NotSubscribed(f"{qualified_name(handler)} is not subscribed to {event_type!r}")
        self._dispatcher.deliver()
        left = subscription.selectors - selectors
        if not left:
            self._bus.end(subscription)
            return
        subscription.selectors = left
        self._bus.router.changed()
        gone = lambda event: not takes(left, event)  # noqa: E731
        subscription.mailbox.withdraw(gone)
        subscription.withdraw_held(gone)
        self._bus.withdraw_control(subscription, gone)
        self._bus.on_drained(None)
        subscription.wake()

    def cleanup_dead_handlers(self, max_idle_seconds: float = 600.0) -> int:
        """End the subscriptions that have been idle for longer than `max_idle_seconds`, and return how many.

        Idle counts from the end of the last call or, before any, from subscribing. Never removed: one that
        takes a high-priority type (a kill-switch handler may wait for months), one subscribed with
        `keep=True`, and one with events waiting or in flight. The bus never does this by itself.
        """
        self._admission.check_thread("cleanup_dead_handlers")
        check_number("max_idle_seconds", max_idle_seconds, 0)
        self._dispatcher.deliver()
        now_ns = self._bus.clock.now_ns()
        dead = [
            s
            for s in self._bus.router
            if s.idle_s(now_ns) > max_idle_seconds and not s.options.keep and not s.takes_high_priority
        ]
        for subscription in dead:
            self._bus.end(subscription)
        return len(dead)

    def _owner_gone(self, subscription: Subscription) -> None:
        # The garbage collector may run anywhere, also on another thread: the end is left to the loop.
        loop = self._bus.loop
        if loop is not None and self._bus.running:
            loop.call_soon_threadsafe(self._end_orphan, subscription)
        else:
            self._end_orphan(subscription)

    def _end_orphans(self) -> None:
        """End at once what the loop is about to end, so that a new agent may have the old one's name."""
        for subscription in tuple(self._bus.router):
            if subscription.orphaned:
                self._end_orphan(subscription)

    def _end_orphan(self, subscription: Subscription) -> None:
        if not subscription.ended:
            self._dispatcher.deliver()
            self._bus.end(subscription)


def _is_handler(value: Any) -> bool:
    """Tell a handler from an event type or class: `@bus.on` takes either."""
    return callable(value) and not isinstance(value, type) and get_origin(value) is None


def _check_handler(handler: Handler, *, blocking: bool = False) -> None:
    if not callable(handler):
        raise SubscriptionError(
            f"the handler is {handler!r}; it must be a function of the event, coroutine or plain"
        )
    function = unwrapped(handler)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise SubscriptionError(
            f"{qualified_name(handler)} is a generator function, and calling it runs nothing; "
            "take the yield out"
        )
    if blocking and is_coroutine_handler(handler):
        raise SubscriptionError(
            f"{qualified_name(handler)} is a coroutine function, and blocking=True is for plain ones: take "
            "the async out, or leave blocking out"
        )


def _check_restore(restore: Callable[[Any], None] | None, *, durable: bool) -> None:
    if restore is None:
        return
    if not callable(restore) or inspect.iscoroutinefunction(unwrapped(restore)):
        raise SubscriptionError(
            f"restore is {restore!r}; it must be a plain function of the event, which builds state and "
            "awaits nothing"
        )
    if not durable:
        raise SubscriptionError("restore needs a cursor to know what was settled: leave out durable=False")


def _check_same(known: Subscription, name: str | None, options: Options, owner: object) -> None:
    """Raise where a further subscription of a handler asks for something else than its first one did."""
    if name not in (None, known.name):
        raise SubscriptionError(f"this handler is subscribed as {known.name!r}; it cannot also be {name!r}")
    known_owner = None if known.owner is None else known.owner()
    if options not in (known.options, DEFAULT_OPTIONS) or owner not in (None, known_owner):
        raise SubscriptionError(
            f"this handler is subscribed as {known.name!r} with {known.options}; it has one mailbox, "
            "so give other options with its first type, or unsubscribe it first"
        )


def _annotated(handler: Handler) -> list[Any]:
    """Return the event classes that the annotation of the first parameter names."""
    name = qualified_name(handler)
    function = unwrapped(handler)
    if not inspect.isroutine(function):
        function = type(function).__call__
    try:
        parameters = list(inspect.signature(handler).parameters.values())
        hints = get_type_hints(function)
    except (NameError, AttributeError, TypeError, ValueError) as error:
        raise SubscriptionError(
            f"the annotation of {name} cannot be resolved ({error}); name the type: on(...)"
        ) from error
    hint = hints.get(parameters[0].name) if parameters else None
    found = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if not all(isinstance(item, type) and item not in (Any, types.NoneType) for item in found):
        raise SubscriptionError(
            f"{name} has no event class as the annotation of its first parameter; add one, "
            "or name the type: on(...)"
        )
    return list(found)
