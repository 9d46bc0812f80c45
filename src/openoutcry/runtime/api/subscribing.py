"""Subscribing and unsubscribing: checks the handler and what is asked of it, and makes the subscription."""

import inspect
import logging
import types
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any, Union, Unpack, get_args, get_origin, get_type_hints

from openoutcry.config import check_number
from openoutcry.errors import DuplicateName, JournalError, NotSubscribed, SubscriptionError
from openoutcry.printable import unwritable
from openoutcry.runtime.admission.gate import Admission
from openoutcry.runtime.delivery.consumers import Consumers
from openoutcry.runtime.delivery.handlers import (
    Handler,
    check_handler,
    is_interactive,
    is_rerun,
    qualified_name,
    signature_of,
    unwrapped,
)
from openoutcry.runtime.delivery.memory import Memory
from openoutcry.runtime.delivery.options import DEFAULT_OPTIONS, Options, SubscribeOptions, options_of
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.delivery.subscription import Selector, Subscription, selectors_of, takes
from openoutcry.runtime.health.monitor import Monitor
from openoutcry.spelling import warn

log = logging.getLogger("openoutcry")


class Subscribing:
    """Makes, extends and ends the subscriptions of one bus."""

    def __init__(
        self,
        bus: BusState,
        consumers: Consumers,
        admission: Admission,
        monitor: Monitor,
    ) -> None:
        self._bus = bus
        self._consumers = consumers
        self._dispatcher = admission.dispatcher
        self._admission = admission
        self._slot = admission.slot
        self._monitor = monitor
        self._is_told = False
        self._orphans: deque[Subscription] = deque()  # the garbage collector adds them, on any thread

    def subscribe(
        self,
        event_type: Any,
        handler: Handler,
        **given: Unpack[SubscribeOptions],
    ) -> Subscription:
        """Check everything, then subscribe the handler."""
        self._admission.check_thread("subscribe")
        name, owner = given.pop("name", None), given.pop("owner", None)
        selectors = selectors_of(event_type)
        options = options_of(**given)
        check_handler(handler, blocking=options.blocking, timeout_s=options.timeout_s)
        self._check_memory(options.memory, selectors)
        return self._subscribe(selectors, handler, name, options, owner)

    def _subscribe(
        self,
        selectors: frozenset[Selector],
        handler: Handler,
        name: str | None,
        options: Options,
        owner: object,
    ) -> Subscription:
        """Add the types to the handler's subscription, or make one."""
        self._dispatcher.deliver()
        self._end_orphans()
        known = self._bus.router.find(handler)
        if known is None:
            earlier = self._earlier_run_of(handler)
            if earlier is not None and name in (None, earlier.name):
                _check_same_run(earlier, options, owner)
                return self._replace(earlier, selectors, handler, options.memory)
        else:
            _check_same(known, name, options, owner)
            self._take(known, known.selectors | selectors)
            self._bus.router.changed()
            self._dispatcher.drained(None)  # who publishes these types meets its level from now on
            known.wake_control()
            return known
        self._check_state_is_own(options.memory)
        name = self._checked_name(name, handler, durable=options.durable)
        share = self._bus.pressure.config.high_per_normal
        now_ns = self._bus.clock.now_ns()
        subscription = Subscription(
            name,
            selectors,
            handler,
            options,
            share=share,
            now_ns=now_ns,
            health=self._monitor,
            ownership=self._bus.ownership,
            shared_holds=self._bus.holds,
            mailboxes=self._bus.mailboxes,
        )
        if owner is not None:
            self._live_with(subscription, owner)
        if options.memory is not None and self._slot.has_journal:
            subscription.readiness.begin()
        self._bus.router.add(subscription, handler)
        if self._admission.store is not None:
            try:
                self._admission.store.cursors.adopt_new(subscription)
            except JournalError:
                self._consumers.end(subscription)  # there is none of it: it can be subscribed again
                raise
        if self._bus.running:
            self._consumers.begin(subscription)
        return subscription

    def _check_memory(self, memory: Memory | None, selectors: frozenset[Selector]) -> None:
        """Raise if nothing that a subscription with a memory takes is in the journal."""
        if memory is None:
            return
        if not self._slot.has_journal:
            if not self._is_told:
                self._is_told = True
                log.warning(
                    "the bus has no journal, so nothing that its agents have in memory outlives it: give it "
                    "a persistence_config for that"
                )
            return
        if not any(self._slot.may_journal(selector) for selector in selectors):
            types = sorted(s if isinstance(s, str) else s.__qualname__ for s in selectors)
            raise SubscriptionError(
                f"a memory for {', '.join(types)}: none of this is journaled, so nothing of it is there "
                f"after a restart; journal it, as in PersistenceConfig(levels={{{types[0]!r}: 'process'}}), "
                "or leave the memory out"
            )

    def _check_state_is_own(self, memory: Memory | None) -> None:
        """Raise if another subscription saves the same state: each would fold on top of what both did."""
        if memory is None or memory.save is None:
            return
        for other in self._bus.router:
            theirs = other.options.memory
            if theirs is not None and (theirs.save == memory.save or theirs.load == memory.load):
                raise SubscriptionError(
                    f"the memory of {other.name} saves the same state: an agent whose state is changed by "
                    "several subscriptions cannot be saved with the cursor of one; give it one handler for "
                    "all its types"
                )

    def _earlier_run_of(self, handler: Handler) -> Subscription | None:
        """Return the subscription of what an earlier run of the same notebook cell has made of a function."""
        if not is_interactive(handler):
            return None
        return next((s for s in self._bus.router if is_rerun(handler, s.subscribed)), None)

    def _replace(
        self, earlier: Subscription, selectors: frozenset[Selector], handler: Handler, memory: Memory | None
    ) -> Subscription:
        """Put functions in the place of what an earlier run of their cell has made of them.

        The name and all that belongs to it stay: what waits, the cursor, the dead letters, the memory.
        """
        self._bus.router.rename_handler(earlier, handler)
        self._take(earlier, selectors)
        self._bus.router.changed()
        earlier.take_over(handler, memory)
        warn(
            f"{earlier.name} was defined again: from now on the new function handles its events, those that "
            "wait included"
        )
        return earlier

    def _take(self, subscription: Subscription, selectors: frozenset[Selector]) -> None:
        """Have a subscription take what these select."""
        store = self._admission.store
        if store is None:
            subscription.selectors = selectors
        else:
            store.cursors.take_types(subscription, selectors)

    def _withdraw(self, subscription: Subscription, which: Callable[[Any], bool]) -> None:
        """Give up what of what waits `which` says."""
        offsets, store = subscription.offsets, self._admission.store
        if offsets is None:
            self._bus.withdraw(subscription, which)
            return
        offsets.withdraw(lambda: self._bus.withdraw(subscription, which))
        if store is not None:
            store.cursors.note_withdrawn(subscription)

    def _live_with(self, subscription: Subscription, owner: object) -> None:
        try:
            subscription.live_with(owner, self._owner_gone)
        except TypeError as error:
            raise SubscriptionError(
                f"owner is {owner!r}, which cannot be held weakly ({error}); give its class a "
                "__weakref__ slot, such as dataclass(slots=True, weakref_slot=True), or leave owner out"
            ) from error

    def _checked_name(self, name: str | None, handler: Handler, *, durable: bool) -> str:
        """Return the name that a new subscription gets."""
        if name is None:
            return self._own_name(handler, durable=durable)
        if not isinstance(name, str) or not name:
            raise SubscriptionError(f"name is {name!r}; it must be a non-empty string")
        if problem := unwritable(name):
            raise SubscriptionError(f"name is {name!r}; {problem}: correct the name")
        self._bus.router.check_name(name)
        return name

    def _own_name(self, handler: Handler, *, durable: bool) -> str:
        """Return the name that a subscription gets from its handler; with a cursor it must be unique."""
        wanted = qualified_name(handler)
        if problem := unwritable(wanted):
            raise SubscriptionError(
                f"the name that comes from the handler is {wanted!r}; {problem}: give a name=..."
            )
        name = self._bus.router.free_name(wanted)
        if durable and name != wanted and self._slot.has_journal:
            raise DuplicateName(
                f"{wanted!r} is the name of another subscription, and with a journal each needs one of its "
                "own, the same at every start: give this one a name=..., or durable=False"
            )
        return name

    def unsubscribe(self, event_type: Any, handler: Handler) -> None:
        """Take types from the subscription of a handler, and end it with the last one."""
        self._admission.check_thread("unsubscribe")
        subscription = self._bus.router.find(handler) or self._earlier_run_of(handler)
        selectors = selectors_of(event_type)
        if subscription is None or not selectors & subscription.selectors:
            raise NotSubscribed(f"{qualified_name(handler)} is not subscribed to {event_type!r}")
        self._dispatcher.deliver()
        left = subscription.selectors - selectors
        if not left:
            self._consumers.end(subscription)
            return
        self._take(subscription, left)
        self._bus.router.changed()
        self._withdraw(subscription, lambda event: not takes(left, event))
        self._dispatcher.drained(None)
        subscription.wake()

    def end_idle(self, max_idle_seconds: float) -> int:
        """End the subscriptions that have been idle for longer, and return how many there were."""
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
            self._consumers.end(subscription)
        return len(dead)

    def _owner_gone(self, subscription: Subscription) -> None:
        # The garbage collector may run on any thread, so the loop ends the subscription.
        loop, ownership = self._bus.loop, self._bus.ownership
        if ownership.is_forked:
            return
        self._orphans.append(subscription)
        if loop is not None and self._bus.running:
            with suppress(RuntimeError):  # it was closed: whoever subscribes next, on another, ends it
                loop.call_soon_threadsafe(self._end_orphans)
        else:
            self._end_orphans()

    def _end_orphans(self) -> None:
        """End those whose owner is gone: before the loop does, if a new agent wants the old one's name."""
        while self._orphans:
            subscription = self._orphans.popleft()
            if not subscription.ended:
                self._dispatcher.deliver()
                self._consumers.end(subscription)


def decorator(
    subscribe: Callable[..., Subscription], event_types: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Return what `@bus.on(...)` decorates with; a bare `@bus.on` subscribes the handler at once."""
    if len(event_types) == 1 and not options and _is_handler(event_types[0]):
        subscribe(_annotated(event_types[0]), event_types[0])
        return event_types[0]

    for given in event_types:
        if isinstance(given, type) and any("__call__" in vars(base) for base in given.__mro__):
            raise SubscriptionError(
                f"on({given.__qualname__}) decorates a class whose instances are handlers, and subscribes "
                "none of them; make one, and subscribe it"
            )

    def decorate(handler: Handler) -> Handler:
        wanted = [t for given in event_types for t in (given if isinstance(given, list | tuple) else [given])]
        subscribe(wanted or _annotated(handler), handler, **options)
        return handler

    return decorate


def _is_handler(value: Any) -> bool:
    """Return True for a handler, False for an event type or class: `@bus.on` takes either."""
    return callable(value) and not isinstance(value, type) and get_origin(value) is None


def _check_same(known: Subscription, name: str | None, options: Options, owner: object) -> None:
    """Raise if a further subscription of a handler asks for something else than the first one did."""
    if name not in (None, known.name):
        raise SubscriptionError(f"this handler is subscribed as {known.name!r}; it cannot also be {name!r}")
    known_owner = None if known.owner is None else known.owner()
    if options not in (known.options, DEFAULT_OPTIONS) or owner not in (None, known_owner):
        raise SubscriptionError(
            f"this handler is subscribed as {known.name!r} with {known.options}; it has one mailbox, "
            "so give other options with its first type, or unsubscribe it first"
        )


def _check_same_run(earlier: Subscription, options: Options, owner: object) -> None:
    """Raise if a cell was run again with other options: the mailbox and what waits in it stay as they are."""
    if _is_same_memory(options.memory, earlier.options.memory):
        options = replace(options, memory=earlier.options.memory)
    if options != earlier.options or owner is not None:
        was = {f.name: getattr(earlier.options, f.name) for f in fields(options)}
        changed = [f"{k} was {v!r}" for k, v in was.items() if v != getattr(options, k)] or ["owner"]
        raise SubscriptionError(
            f"{earlier.name} was subscribed by an earlier run of this cell with other options "
            f"({', '.join(changed)}): unsubscribe that first, unsubscribe({list(earlier.types)}, "
            f"{earlier.name}), and run the cell again. (In a journal its cursor and its memory go with it.)"
        )


def _is_same_memory(memory: Memory | None, earlier: Memory | None) -> bool:
    """Return True if only functions of a cell that was run again differ."""
    if memory is None or earlier is None:
        return memory is earlier
    functions = {name: getattr(earlier, name) for name in ("fold", "save", "load")}
    is_rerun_of = all(
        getattr(memory, name) == before or is_rerun(getattr(memory, name), before)
        for name, before in functions.items()
    )
    return is_rerun_of and replace(memory, **functions) == earlier


def _annotated(handler: Handler) -> list[Any]:
    """Return the event classes that the annotation of the handler's first parameter names."""
    check_handler(handler)
    name = qualified_name(handler)
    function = unwrapped(handler)
    if not inspect.isroutine(function):
        function = type(function).__call__
    signature = signature_of(handler, follows=True)
    parameters = [] if signature is None else list(signature.parameters)
    try:
        hints = get_type_hints(function)
    except (NameError, AttributeError, TypeError, ValueError) as error:
        raise SubscriptionError(
            f"the annotation of {name} cannot be resolved ({error}); name the type: on(...)"
        ) from error
    hint = hints.get(parameters[0]) if parameters else None
    found = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if not all(isinstance(item, type) and item not in (Any, types.NoneType) for item in found):
        raise SubscriptionError(
            f"{name} has no event class as the annotation of its first parameter; add one, "
            "or name the type: on(...)"
        )
    return list(found)
