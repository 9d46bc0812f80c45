"""Subscriptions: a name, the types it takes, its handler, its mailbox, and what happened to its events."""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from functools import partial
from operator import attrgetter
from typing import Any, Final, Protocol
from weakref import ReferenceType, WeakMethod, ref

from openoutcry.core.holds import Hold, Holds, SharedHolds
from openoutcry.core.lanes import LaneName
from openoutcry.core.latency import Latencies
from openoutcry.core.ledger import Counts, LedgerRow, ledger_counts
from openoutcry.core.mailbox import Mailbox
from openoutcry.core.overflow import ControlLane
from openoutcry.core.trends import ErrorStreak
from openoutcry.errors import RestoreFailed, SubscriptionError
from openoutcry.events import (
    EVERYTHING,
    HIGH_PRIORITY_EVENT_TYPES,
    RECORDS,
    EventType,
    check_type_name,
    fixed_event_type,
)
from openoutcry.runtime.delivery.handlers import Handler, as_coroutine, is_coroutine_handler
from openoutcry.runtime.delivery.memory import Memory, Readiness
from openoutcry.runtime.delivery.offsets import Offsets
from openoutcry.runtime.delivery.options import Options, mailbox_of
from openoutcry.runtime.ownership import Ownership

log = logging.getLogger("openoutcry")

Selector = str | type
_HIGH = frozenset(str(t.value) for t in HIGH_PRIORITY_EVENT_TYPES)


@dataclass(frozen=True, slots=True)
class SubscriptionStats:
    """What one subscription has done so far.

    Attributes:
        name: The subscription's name.
        types: What it subscribes to: event types, class names, or `*`.
        state: `idle`, `busy`, `retrying`, `failing` (paused by the bus, since most events fail), `held` (by
            recovery), `restoring` (it gets its memory back), `not restored`, `paused`, `stalled` or `ended`.
        accepted: Events accepted for it.
        handled: Calls that returned.
        errors: Calls that failed, time-outs included.
        retries: Calls that were made again after a failure.
        timeouts: Calls that ran longer than `timeout_s`.
        dead_letters: The dead letters that its name has now.
        overflowed: Events let go for lack of room, as the oldest ones.
        waiting: Events that wait.
        in_flight: Events in its handler now.
        abandoned: Calls that did not end when cancelled and go on beside the subscription.
        idle_s: Seconds since the last call ended or, before any, since subscribing; 0 while busy.
        latency: How long events waited, from admission to the beginning of their first call: count,
            percentiles and the largest, in microseconds.
        duration: How long its calls took, from beginning to end, likewise. Every call of a handler that takes
            more than 1 ms counts by itself; fast ones are sampled (`runtime.delivery.stopwatch`).
        last_error: The last failure as text, or an empty string.
        behind: Whether it reads on from the journal, and is not handed what is new yet.
        pauses: How often the bus has paused it because most of its events failed.

    """

    name: str
    types: tuple[str, ...]
    state: str
    accepted: int
    handled: int
    errors: int
    retries: int
    timeouts: int
    dead_letters: int
    overflowed: int
    waiting: int
    in_flight: int
    abandoned: int
    idle_s: float
    latency: dict[str, float | int | None]
    duration: dict[str, float | int | None]
    last_error: str
    behind: bool
    pauses: int

    def to_dict(self) -> dict[str, object]:
        """Return the statistics as JSON-ready data."""
        return {**dict(zip(_STATS, _stats(self), strict=True)), "types": list(self.types)}


_STATS: Final = tuple(f.name for f in fields(SubscriptionStats))
_stats: Final = attrgetter(*_STATS)


def selector_of(value: Any) -> Selector:
    """Return an event type as given in the form that routes compare: a string, a class, or `*`."""
    is_nothing_published = isinstance(value, type) and (
        issubclass(value, Enum) or (value.__module__ == "builtins" and value is not object)
    )
    if isinstance(value, type) and value is not Any and not is_nothing_published:
        try:
            issubclass(object, value)
        except TypeError as error:  # a protocol that cannot be asked
            raise SubscriptionError(f"cannot subscribe to {value.__qualname__}: {error}") from error
        return value
    plain = value.value if isinstance(value, Enum) else value
    if isinstance(plain, str) and plain:
        name = str(plain)
        if name != EVERYTHING:
            check_type_name(name, SubscriptionError, "the event type", is_own=isinstance(value, Enum))
        return name
    raise SubscriptionError(
        f"the event type is {value!r}: give an event type (a string or a str-valued Enum member), "
        "an event class, '*' for everything, or a list of these"
    )


def selectors_of(value: Any) -> frozenset[Selector]:
    """Return the selectors of one event type or of an iterable of them."""
    if isinstance(value, list | tuple | set | frozenset):
        if not value:
            raise SubscriptionError(
                "cannot subscribe to an empty list: give at least one event type or class"
            )
        return frozenset(selector_of(item) for item in value)
    return frozenset({selector_of(value)})


def selects(selectors: Collection[Selector], cls: type, event_type: str) -> bool:
    """Return True if any of `selectors` takes events of class `cls` and type `event_type`.

    The bus's own records are taken by whoever names them, and by nobody else.
    """
    if event_type in RECORDS:
        return event_type in selectors or cls in selectors
    return any(s in (event_type, EVERYTHING) if isinstance(s, str) else issubclass(cls, s) for s in selectors)


def takes(selectors: Collection[Selector], event: Any) -> bool:
    """Return True if any of `selectors` takes an admitted event, whatever has become of its type since."""
    value = event.event_type
    return selects(selectors, type(event), str(getattr(value, "value", value)))


def may_take(selector: Selector, event_type: str) -> bool:
    """Return True if a selector may take events of `event_type`; a class whose type varies may take any."""
    if isinstance(selector, str):
        return selector in (event_type, EVERYTHING)
    fixed = fixed_event_type(selector)
    return fixed is None or fixed == event_type


def _nothing(_event: Any) -> None:
    """Stand in for the handler of a subscription that has ended."""


class HealthObserver(Protocol):
    """Watches over the health of a bus, and is told on its loop what it would not notice in time."""

    def work_begins(self) -> None:
        """Events flow after a rest, or still flow: told every half grace period while any wait."""
        ...

    def resumed(self, subscription: "Subscription") -> None:
        """The operator has resumed a subscription, so its handler counts as mended."""
        ...

    def forget(self) -> None:
        """What was found last does not hold any more."""
        ...


class Wake(Protocol):
    """What has workers look at a mailbox."""

    def __call__(self, delivers: bool = False, /) -> bool:
        """Return True if one of them will run because of this call.

        With `delivers` the first that runs delivers what is staged then, unless somebody has by then.
        """
        ...


class Attached(Protocol):
    """The consumer of a subscription, as the subscription sees it."""

    @property
    def wake(self) -> "Wake":
        """What has the workers look at the mailbox."""
        ...

    def wake_control(self) -> None:
        """Have the control worker look at the control lane."""
        ...

    def resumed(self) -> None:
        """The operator has resumed the subscription, so its handler counts as mended."""
        ...

    def mark_as_beside(self) -> None:
        """Others are handled from now on beside the current calls."""
        ...

    def leave_marks(self) -> None:
        """The journal is closed: mark nothing in it any more, and begin nothing that was taken before."""
        ...

    def take_marks(self) -> None:
        """The journal is open again, in a new file: mark calls in it from the next on."""
        ...


class _Nobody:
    """Stands in for the consumer while a subscription has none."""

    def wake(self, _delivers: bool = False, /) -> bool:
        """Nobody will run because of it."""
        return False

    def wake_control(self) -> None:
        """Nobody looks."""

    resumed = mark_as_beside = leave_marks = take_marks = wake_control


_NOBODY = _Nobody()


@dataclass(frozen=True, slots=True)
class _Selected:
    """What selectors amount to."""

    selectors: frozenset[Selector]
    types: tuple[str, ...]
    takes_kill_switch: bool

    @classmethod
    def of(cls, selectors: frozenset[Selector]) -> "_Selected":
        types = tuple(sorted(s if isinstance(s, str) else s.__qualname__ for s in selectors))
        return cls(selectors, types, any(may_take(s, EventType.KILL_SWITCH.value) for s in selectors))


class Subscription:
    """One handler with all the types it takes, in one mailbox, run by its own workers.

    Made by `EventBus.subscribe`. `pause` and `resume` stop and restart handling; what is accepted meanwhile
    waits. They belong to the loop of the bus; what is read here may be read in any thread of its process.
    """

    def __init__(
        self,
        name: str,
        selectors: frozenset[Selector],
        handler: Handler,
        options: Options,
        *,
        share: int,
        now_ns: int,
        health: HealthObserver,
        ownership: Ownership,
        shared_holds: SharedHolds,
        mailboxes: Callable[..., Mailbox],
    ) -> None:
        self.name = name
        self.selectors = selectors
        self._selected = _Selected.of(selectors)
        self.options: Options = options
        make = partial(mailboxes, name)
        self.mailbox: Mailbox = mailbox_of(options, share, make)
        self.control_lane: ControlLane = ControlLane()
        self.control: Mailbox = make(self.control_lane)
        self.latencies: Latencies = Latencies()
        self.durations: Latencies = Latencies()
        self.errors = self.retries = self.timeouts = 0
        self.abandoned = 0
        self.no_room: int = 0
        self.let_go: Counter[str] = Counter()
        self.let_go_ns: int | None = None
        self.last_error = ""
        self.pauses = 0
        self.read_error: str = ""
        self.last_ns = now_ns
        self.holds: Holds = Holds(shared_holds)
        self.streak: ErrorStreak = ErrorStreak()
        self.owner: ReferenceType[Any] | None = None
        self.durable: bool = options.durable
        self.offsets: Offsets | None = None
        self.is_coroutine: bool = is_coroutine_handler(handler)
        self.handler: Handler = handler
        self.subscribed: Handler | None = handler  # as it was given
        self.moved_at: tuple[int, int] = (-1, now_ns)
        self.readiness: Readiness = Readiness()
        self._health = health
        self._ownership = ownership
        self.attach(_NOBODY)

    def attach(self, consumer: Attached) -> None:
        """Have a consumer, from now on or with another `wake`."""
        self._consumer = consumer
        # They are called for every delivery, so they are the consumer's own; with one worker `wake` is its.
        self.wake: Wake = consumer.wake
        self.wake_control: Callable[[], None] = consumer.wake_control

    def detach(self) -> None:
        """Have no consumer any more: the bus has stopped."""
        self.attach(_NOBODY)

    def live_with(self, owner: object, on_gone: Callable[["Subscription"], None]) -> None:
        """Hold `owner` weakly, and the handler if it is its method; call `on_gone` when it is gone."""
        self.owner = ref(owner, lambda _: on_gone(self))
        if self.options.memory is not None:
            self.options = replace(self.options, memory=self.options.memory.held_weakly(owner))
        if getattr(self.handler, "__self__", None) is owner:
            weak = WeakMethod(self.handler)
            self.subscribed = None

            def call(event: Any) -> Any:
                method = weak()
                return None if method is None else method(event)

            self.handler = call
            self.is_coroutine = False  # decided per call: the result is awaited if it can be

    @property
    def orphaned(self) -> bool:
        """Whether its owner is gone, so that the bus is about to end it."""
        return self.owner is not None and self.owner() is None

    def end(self) -> None:
        """End. The record of an ended subscription must not keep an agent alive: its functions are let go."""
        self.holds.set(Hold.ENDED)
        if not self.readiness.is_over:
            self.readiness.end(RestoreFailed(f"{self.name} was ended before it had its memory back"))
        self.options = replace(self.options, memory=None)
        self.handler = _nothing
        self.subscribed = None
        self.owner = None
        self.detach()

    @property
    def types(self) -> tuple[str, ...]:
        """What it subscribes to: event types, class names, or `*`."""
        return self._seen_as().types

    @property
    def takes_kill_switch(self) -> bool:
        """Whether a kill switch may reach it."""
        return self._seen_as().takes_kill_switch

    def _seen_as(self) -> "_Selected":
        """Return what its selectors amount to. It is asked for more often than they change."""
        if self._selected.selectors is not self.selectors:
            self._selected = _Selected.of(self.selectors)
        return self._selected

    @property
    def takes_high_priority(self) -> bool:
        """Whether an event of a high-priority type may reach it."""
        return any(may_take(s, t) for s in self.selectors for t in _HIGH)

    @property
    def settled(self) -> bool:
        """Whether nothing waits that it may handle in this life, and nothing is in flight."""
        box = self.mailbox
        if Hold.NOT_RESTORED in self.holds:
            return not self.in_call
        return not (box.waiting or box.open or box.behind or self.control.waiting or self.control.open)

    @property
    def in_call(self) -> bool:
        """Whether a call is running that was not abandoned."""
        return bool(self.mailbox.open or self.control.open)

    def pause(self) -> None:
        """Handle nothing more after the current calls until `resume`. Kill switches still get through."""
        self._ownership.check("pause")
        self.holds.set(Hold.PAUSED)
        self.mailbox.cut_all()

    def resume(self) -> None:
        """Handle again what waits: the operator says that the handler is mended.

        It undoes `pause`, closes the breaker where the bus has paused it because most of its events failed,
        and ends a quarantine; recovery may try everything anew.
        """
        self._ownership.check("resume")
        self.holds.lift(Hold.PAUSED)
        self._health.resumed(self)
        self.holds.lift(Hold.RECOVERY)
        self._consumer.resumed()
        self.wake()

    async def ready(self) -> None:
        """Wait until the subscription has its memory back, and may handle events.

        It returns at once for a subscription without a memory, on a bus without a journal, and when that is
        done. Kill switches do not wait for it. Cancelling the call changes nothing.

        Raises:
            RestoreFailed: It will not get its memory back, which the message explains: it handles nothing, or
                was ended, as by `unsubscribe`.
            SubscriptionError: The bus does not run yet, so nobody would restore it.
            BusClosed: The bus was stopped before it was done; the next start goes on with it.

        """
        self._ownership.check("ready")
        if not self.readiness.is_over and self._ownership.loop is None:
            raise SubscriptionError(
                f"ready: {self.name} gets its memory back when the bus starts; start it, and ask then"
            )
        await self.readiness.wait()

    def restored(self, error: RestoreFailed | None = None) -> None:
        """For the journal: it has its memory back or, because of an error, will not get it."""
        if error is not None:
            self.holds.set(Hold.NOT_RESTORED)
            self._health.forget()
        self.holds.lift(Hold.RESTORING)
        self.readiness.end(error)

    def take_over(self, handler: Handler, memory: Memory | None) -> None:
        """Have other functions handle what comes after the current calls; it counts as mended."""
        self.subscribed = handler
        self.options = replace(self.options, memory=memory)
        # The workers call it as they call the one before: awaited at once, or if it gives something to await.
        self.handler = as_coroutine(handler) if self.is_coroutine else handler
        self.mailbox.cut_all()
        self._health.resumed(self)
        self.holds.lift(Hold.RECOVERY)
        self._consumer.resumed()
        self.wake()

    @property
    def paused(self) -> bool:
        """Whether it begins nothing until `resume`."""
        return Hold.PAUSED in self.holds

    @property
    def failing(self) -> bool:
        """Whether most of its events fail, so that it is tried with one at a time."""
        return Hold.FAILING in self.holds

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.holds.ended

    def hold(self, *, held: bool) -> None:
        """For recovery: begin no event, or begin events again. A pause stays what it is."""
        if held:
            self.holds.set(Hold.RECOVERY)
            self.mailbox.cut_all()
        else:
            self.holds.lift(Hold.RECOVERY)

    def save_first(self, saves_first: bool) -> None:
        """For the journal: begin no event before the cursors have been saved, or go on."""
        if saves_first:
            self.holds.set(Hold.SAVING)
        else:
            self.holds.lift(Hold.SAVING)
            self.wake()

    def read_on(self, error: str = "") -> None:
        """For the journal: read on from it or, where it cannot be read because of `error`, do not."""
        self.read_error = error
        if error:
            self.holds.set(Hold.UNREADABLE)
        else:
            self.holds.lift(Hold.UNREADABLE)

    def note_let_go(self, events: list[Any], at_ns: int) -> None:
        """Note which events its full mailbox has let go, and when."""
        if events:
            self.let_go_ns = at_ns
            self.let_go.update(str(getattr(e.event_type, "value", e.event_type)) for e in events)

    def note_no_room(self, count: int, at_ns: int) -> None:
        """Note how many events became dead letters since its mailbox was full, and when."""
        if count:
            self.let_go_ns = at_ns
            self.no_room += count

    @property
    def save_error(self) -> str:
        """Why its state could not be saved the last time; empty if it could, or is not to be."""
        memory = None if self.offsets is None else self.offsets.memory
        return "" if memory is None else memory.save_error

    @property
    def handled(self) -> int:
        """Calls that returned, but for those of batches that are being handled."""
        return self.mailbox.high.handled + self.mailbox.normal.handled

    def withdraw_held(self, which: Callable[[Any], bool] | None = None) -> None:
        """Give up what waits behind what comes from the journal (or what of it `which` says)."""
        if self.offsets is not None:
            for lane in self.offsets.lanes:
                lane.withdraw_held(which)

    def wake_all(self) -> None:
        """Have every worker look, the control worker included."""
        self.wake()
        self.wake_control()

    def mark_as_beside(self) -> None:
        """Note that others are handled from now on beside the current calls."""
        self._consumer.mark_as_beside()

    def leave_marks(self) -> None:
        """Mark no call in the journal any more: it is closed."""
        self._consumer.leave_marks()

    def take_marks(self) -> None:
        """Mark calls in the journal from the next on: it is open again, in a new file."""
        self._consumer.take_marks()

    def ledger_counts(self) -> list[tuple[LaneName, Counts]]:
        """Return the ledger's counts: of the control (if a kill switch may come), high and normal lane."""
        box, control = self.mailbox, self.control
        found: list[tuple[LaneName, Counts]] = [
            (lane.name, ledger_counts(lane, box.open)) for lane in (box.high, box.normal)
        ]
        if control.normal.accepted or self.takes_kill_switch:
            found.insert(0, (control.normal.name, ledger_counts(control.normal, control.open)))
        return found

    def ledger_rows(self) -> list[LedgerRow]:
        """Return the rows of the loss ledger, one a lane."""
        return [LedgerRow(self.name, lane, *counts) for lane, counts in self.ledger_counts()]

    def idle_s(self, now_ns: int) -> float:
        """Return the seconds since the last call ended or, before any, since subscribing; 0 while busy."""
        return 0.0 if not self.settled else max(0, now_ns - self.last_ns) / 1e9

    def state(self) -> str:
        """Return one word for what it is doing: what holds it (`core/holds.py`), or how busy it is."""
        self._ownership.check_process("state")
        holds = self.holds
        if self.mailbox.stalled and not holds.ended:
            return "stalled"
        if holds.word:
            return holds.word
        if self.in_call:
            return "busy"
        return "retrying" if self.mailbox.due_ns() is not None else "idle"

    def stats(self, now_ns: int, dead_letters: int = 0) -> SubscriptionStats:
        """Return a frozen record of what it did so far; `dead_letters` are those that its name has."""
        self._ownership.check_process("stats")
        plain = self.plain_stats(now_ns, self.ledger_counts(), dead_letters)
        return SubscriptionStats(**{**plain, "types": self.types})

    def plain_stats(
        self, now_ns: int, lanes: Sequence[tuple[str, Counts]], dead_letters: int
    ) -> dict[str, Any]:
        """Return the same as JSON-ready data, from the ledger's counts; cheaper than by way of the record."""
        used = [counts for _, counts in lanes if counts[0]] or [lanes[0][1]]
        accepted, handled, _, _, overflowed, _, _, waiting, in_flight = (
            used[0] if len(used) == 1 else map(sum, zip(*used, strict=True))
        )
        box = self.mailbox
        behind = box.behind > 0
        is_busy = waiting or in_flight or behind or self.in_call
        return {
            "name": self.name,
            "types": list(self.types),
            "state": self.state() if is_busy or self.holds.word or box.stalled else "idle",
            "accepted": accepted,
            "handled": handled,
            "errors": self.errors,
            "retries": self.retries,
            "timeouts": self.timeouts,
            "dead_letters": dead_letters,
            "overflowed": overflowed,
            "waiting": waiting,
            "in_flight": in_flight,
            "abandoned": self.abandoned,
            "idle_s": 0.0 if is_busy else max(0, now_ns - self.last_ns) / 1e9,
            "latency": self.latencies.to_dict(),
            "duration": self.durations.to_dict(),
            "last_error": self.last_error,
            "behind": behind,
            "pauses": self.pauses,
        }
