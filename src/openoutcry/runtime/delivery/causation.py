"""Causes: which event's handler is running, so that what it publishes is stamped by the bus.

A worker puts its lineage into a context variable once, when its task starts; which event is being handled
is read off the worker's batch when somebody asks. That costs nothing per event, where setting a variable for
each would cost more than the call. A task that a handler spawns copies the context, lineage and all, but may
outlive the event; so the loop's task factory freezes the cause at that moment. `install` chains to the
factory that it finds.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass
from random import Random
from typing import Any, Final, NamedTuple, Protocol, cast

from openoutcry.core.lanes import Batch
from openoutcry.errors import DecidedOtherwise
from openoutcry.events import Derivation, Event, stamp
from openoutcry.observers.current import handler
from openoutcry.runtime.delivery.subscription import Subscription
from openoutcry.runtime.ownership import running_loop

_TO_POOL: Final = "run_in_executor"

CallId = tuple[int, int]
"""Differs from call to call of a worker: how many batches it has begun, and the event's place in its lane."""


class Cause(NamedTuple):
    """The event whose handling leads to a publication.

    Attributes:
        event_id: The event being handled.
        correlation_id: Its correlation id or, if it has none, its own id: the first event of the chain.
        round_id: Its barrier round, if any.
        asked_ns: When it was admitted, on the bus's monotonic clock.

    """

    event_id: str
    correlation_id: str
    round_id: str | None
    asked_ns: int


class Publisher(Protocol):
    """What the context variable holds: the cause of what is published, and where it is published from.

    Attributes:
        bus: The bus whose handler publishes.

    """

    bus: "Bus"

    @property
    def subscription(self) -> str:
        """The name of the subscription whose handler publishes."""
        ...

    @property
    def handled(self) -> Any:
        """The event that the call is handling; None in a task that it has spawned."""
        ...

    @property
    def outbox(self) -> list[Any] | None:
        """Where publications wait for the end of the call, if they do."""
        ...

    @property
    def running(self) -> bool:
        """Whether it is the lineage of a worker, and a call of that is running."""
        ...

    @property
    def in_call(self) -> bool:
        """Whether the call that publishes, or that spawned the task that does, has not ended."""
        ...

    @property
    def handles_control(self) -> Subscription | None:
        """Whose kill switch that call is handling; None if it handles something else, or has ended."""
        ...

    def fork(self) -> "Frozen | None":
        """Return the cause of what is spawned now, with a branch of the ids that are derived."""
        ...

    def cause(self) -> Cause | None:
        """Return the cause of a publication made now."""
        ...

    def derive(self) -> str | None:
        """Return the id of an event that is made now; None if it is not derived from its cause."""
        ...

    def has_made(self, event_id: str) -> bool:
        """Return True if an id was derived in the call that publishes, or in one of its tasks."""
        ...

    def decide_otherwise(self, error: DecidedOtherwise) -> bool:
        """The call has made another event than the first time: let its event become a dead letter.

        False: it is too late for that, the call has ended.
        """
        ...

    def chance(self, make: Callable[[str], Random]) -> Random | None:
        """Return what the call draws from, made by its name the first time; None if the call is over."""
        ...


class CauseDurability(Protocol):
    """What keeps events in a journal, as far as it is asked here."""

    @property
    def origin(self) -> str:
        """What ids derived from its events are derived from as well."""
        ...

    def has(self, event_id: str) -> bool:
        """Return True if the journal has an event."""
        ...


class Bus(Protocol):
    """What is asked of the bus."""

    @property
    def durability(self) -> CauseDurability:
        """What keeps its events in a journal."""
        ...

    def envelope_cause(self, event: Any, asked_ns: int) -> Cause:
        """Return what a publication by the handler of `event`, admitted at `asked_ns`, inherits."""
        ...

    def salt(self, subscription: Subscription, lane: str, number: int) -> str:
        """Return what is mixed into ids derived from an event: something if it was redriven anew."""
        ...


class Caller(Protocol):
    """A worker, as its lineage sees it.

    Attributes:
        batch: What it is handling; None between calls.
        batches_count: How many batches it has begun.
        is_control: Whether it handles kill switches.
        task: Its task.

    """

    batch: Batch | None
    batches_count: int
    is_control: bool
    task: "asyncio.Task[None]"

    def decide_otherwise(self, error: DecidedOtherwise) -> bool:
        """Let the event of the current call become a dead letter when the call ends; False if it has."""
        ...


class Lineage:
    """The current call of one worker, as the cause of what it publishes.

    Attributes:
        worker: Whose calls they are.
        bus: The worker's bus.
        outbox: Where publications wait for the end of the call, if they do.

    """

    __slots__ = (
        "_derivation",
        "_derived_for",
        "_drawn_for",
        "_draws_from",
        "_subscription",
        "bus",
        "outbox",
        "worker",
    )

    def __init__(self, worker: Caller, subscription: Subscription, bus: Bus) -> None:
        self.worker: Caller = worker
        self._subscription = subscription
        self.bus: Bus = bus
        self._derived_for: CallId = (0, 0)
        self._derivation: Derivation | None = None
        self._drawn_for: CallId = (0, 0)
        self._draws_from: Random | None = None
        self.outbox: list[Any] | None = None

    def open_outbox(self) -> list[Any]:
        """Have what the call publishes wait for its end, in the list that is returned."""
        outbox: list[Any] = []
        self.outbox = outbox
        return outbox

    def close_outbox(self) -> None:
        """The call has ended."""
        self.outbox = None

    @property
    def subscription(self) -> str:
        """The name of the worker's subscription."""
        return self._subscription.name

    @property
    def handled(self) -> Any:
        """The event that the current call is handling."""
        batch = self.worker.batch
        return batch.current if batch is not None and self._is_current() else None

    @property
    def running(self) -> bool:
        """Whether a call is running."""
        return self.worker.batch is not None

    @property
    def in_call(self) -> bool:
        """Whether a call is running: its lineage is the call's as long as it lasts."""
        return self.worker.batch is not None

    @property
    def handles_control(self) -> Subscription | None:
        """Whose kill switch is being handled, if the worker handles those."""
        return self._subscription if self.worker.is_control and self.running else None

    @property
    def call(self) -> CallId:
        """The id of the current call. A call that is abandoned keeps it."""
        batch = self.worker.batch
        return (self.worker.batches_count, 0 if batch is None else batch.first + batch.begun)

    def cause(self) -> Cause | None:
        """Return what a publication inherits from the event in the handler.

        None for a callback or a thread that outlived the call: no cause is better than a wrong one.
        """
        batch = self.worker.batch
        if batch is None or not self._is_current():
            return None
        event = batch.current
        return None if event is None else self.bus.envelope_cause(event, batch.admitted_ns)

    def derive(self) -> str | None:
        """Return the id of an event that the handler makes now; None if it is not to be derived."""
        found = self.derivation() if self._is_current() else None
        return None if found is None else found.next()

    def has_made(self, event_id: str) -> bool:
        """Return True if an id was derived in the current call, or in one of its tasks."""
        found = self._derivation
        if found is None or not found.has_made(event_id):
            return False
        return self.call == self._derived_for and self._is_current()

    def decide_otherwise(self, error: DecidedOtherwise) -> bool:
        """The call has made another event than the first time: let its event become a dead letter."""
        return self.worker.decide_otherwise(error)

    def chance(self, make: Callable[[str], Random]) -> Random | None:
        """Return what the call draws from."""
        return self.draws_from(make) if self._is_current() else None

    def draws_from(self, make: Callable[[str], Random]) -> Random | None:
        """Return what the current call draws from, in whatever task it does."""
        batch = self.worker.batch
        event = None if batch is None else batch.current
        if event is None:
            return None
        call = self.call
        if call != self._drawn_for:
            self._drawn_for = call
            self._draws_from = make(f"{self._subscription.name}:{event.event_id}")
        return self._draws_from

    def freeze(self) -> "Frozen | None":
        """Return the call as a cause that stays what it is; None for code that does not run in it."""
        if not (self.running and self._is_current()):
            return None
        return Frozen(self, self.cause(), self.call, self.derivation())

    def fork(self) -> "Frozen | None":
        """Return the cause of what is spawned now, with a branch of the call's ids; None as for `freeze`."""
        frozen = self.freeze()
        return None if frozen is None else frozen.fork()

    def _is_current(self) -> bool:
        try:
            return asyncio.current_task() is self.worker.task
        except RuntimeError:  # another thread
            return False

    def derivation(self) -> Derivation | None:
        """Return what derives ids in the current call; None if they are not to be derived."""
        batch = self.worker.batch
        if batch is None or self._subscription.offsets is None:
            return None
        call = self.call
        if call != self._derived_for:
            event = batch.current
            self._derived_for = call
            self._derivation = None if event is None else self._derivation_of(batch, event.event_id)
        return self._derivation

    def _derivation_of(self, batch: Batch, cause_id: str) -> Derivation:
        salt = self.bus.salt(self._subscription, batch.lane.name, batch.first + batch.begun - 1)
        cause = f"{cause_id} anew {salt}" if salt else cause_id
        return Derivation(self.bus.durability.origin, cause, self._subscription.name)


class Frozen:
    """The cause of what a spawned task or a thread publishes, fixed when it was spawned."""

    __slots__ = ("_call", "_cause", "_derivation", "_lineage", "bus")

    running = False
    handled = None

    def __init__(
        self, lineage: Lineage, cause: Cause | None, call: CallId, derivation: Derivation | None
    ) -> None:
        self._cause = cause
        self._lineage = lineage
        self._call = call
        self._derivation = derivation
        self.bus: Bus = lineage.bus

    def fork(self) -> "Frozen":
        """Return the cause of what is spawned now, with a branch of the ids.

        Once the call has ended ids are branched no more: what goes on for ever would have ever more branches.
        """
        if self._derivation is None or not self.in_call:
            return self
        return Frozen(self._lineage, self._cause, self._call, self._derivation.branch())

    @property
    def subscription(self) -> str:
        """The name of the subscription whose handler spawned the task."""
        return self._lineage.subscription

    @property
    def outbox(self) -> list[Any] | None:
        """Where publications wait for the end of the call that spawned the task, if they do."""
        return self._lineage.outbox if self.in_call else None

    @property
    def in_call(self) -> bool:
        """Whether the handler that spawned the task has not returned."""
        return self._lineage.running and self._lineage.call == self._call

    @property
    def handles_control(self) -> Subscription | None:
        """Whose kill switch the handler that spawned the task is handling, until it returns."""
        return self._lineage.handles_control if self.in_call else None

    def cause(self) -> Cause | None:
        """Return the cause as it was when the task was spawned."""
        return self._cause

    def derive(self) -> str | None:
        """Return the id of an event that the task makes now."""
        return None if self._derivation is None else self._derivation.next()

    def has_made(self, event_id: str) -> bool:
        """Return True if an id was derived in the call that spawned the task, or in one of its tasks."""
        return self._derivation is not None and self._derivation.has_made(event_id)

    def chance(self, make: Callable[[str], Random]) -> Random | None:
        """Return what the call that spawned the task draws from; None if it has returned."""
        return self._lineage.draws_from(make) if self.in_call else None

    def decide_otherwise(self, error: DecidedOtherwise) -> bool:
        """Let the event of the call become a dead letter; not if it has ended, then it is settled."""
        loop = self._lineage.worker.task.get_loop()
        if loop is asyncio.get_running_loop():
            return self._decide_otherwise(error)
        # It has published on a bus of another thread.
        loop.call_soon_threadsafe(self._decide_otherwise, error)
        return self.in_call

    def _decide_otherwise(self, error: DecidedOtherwise) -> bool:
        return self.in_call and self._lineage.decide_otherwise(error)


current: Final = cast("ContextVar[Publisher | None]", handler)


@dataclass(slots=True)
class Restoring:
    """An agent's memory is being restored or saved, which must have no effects until it is over.

    Attributes:
        name: The subscription's name.
        what: `restored` or `saved`.
        is_over: Whether it is: what was spawned meanwhile may publish then.

    """

    name: str
    what: str = "restored"
    is_over: bool = False


restoring: ContextVar[Restoring | None] = ContextVar("openoutcry_restoring", default=None)
"""What is being restored by the code that runs, or by what has spawned it."""


class Envelopes:
    """What the bus knows of users' own events, which have no fields for it: correlation, causation, round."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[str, Cause] = {}

    def put(self, event_id: str, cause: Cause) -> None:
        """Remember the cause of an event; the oldest are forgotten."""
        self._known[event_id] = cause
        if len(self._known) > self._most:
            del self._known[next(iter(self._known))]

    def get(self, event_id: str) -> Cause | None:
        """Return the cause of an event, if it has one and is remembered."""
        return self._known.get(event_id)


class EnvelopeBus(Protocol):
    """A bus that knows the causes of users' own events."""

    @property
    def envelopes(self) -> Envelopes:
        """What it knows of them."""
        ...

    @property
    def noted(self) -> "MadeNotes | None":
        """What notes publications whose ids are not derived, if anything does."""
        ...


class MadeNotes(Protocol):
    """What notes publications whose ids are not derived from the event being handled."""

    def made(self, event_id: str) -> None:
        """Note that the current call publishes one."""
        ...


def stamp_cause(bus: EnvelopeBus, event: Any) -> None:
    """Write the cause of a publication into the event or, for a user's own class, its envelope."""
    who = current.get()
    cause = None if who is None else who.cause()
    if cause is None or cause.event_id == event.event_id:  # an event that is passed on is not its own cause
        return
    if bus.noted is not None and who is not None and not who.has_made(event.event_id):
        bus.noted.made(event.event_id)
    if isinstance(event, Event):
        stamp(
            event,
            causation_id=cause.event_id,
            correlation_id=cause.correlation_id,
            round_id=cause.round_id,
        )
    else:
        bus.envelopes.put(event.event_id, cause)


def outbox_of(bus: object) -> list[Any] | None:
    """Return where the publications of the current call of a bus wait for its end, if they do."""
    who = current.get()
    if who is None or who.bus is not bus or not who.in_call:
        return None
    outbox: list[Any] | None = who.outbox
    return outbox


def needs_care(bus: Bus, *event_ids: str) -> bool:
    """Return True for publications that wait in an outbox, or have a derived id that the journal has."""
    who = current.get()
    if who is None:
        return False
    if who.bus is bus and who.in_call and who.outbox is not None:
        return True
    return any(who.has_made(event_id) and bus.durability.has(event_id) for event_id in event_ids)


class Tracker:
    """The task factory of a loop: freezes the cause for spawned tasks, then does what the one before did.

    It does the same for what is handed to a pool of threads.

    Attributes:
        before: The task factory that was installed before.
        pool_before: The loop's own `run_in_executor`.
        users: Buses that run on the loop.
        calls: Handler calls that are running on the loop, plus one for each task that a handler ever spawned:
            while it is 0, no publication has a cause, and there is no need to look for one.

    """

    __slots__ = ("before", "calls", "pool_before", "users")

    def __init__(self, before: Any, pool_before: Any = None) -> None:
        self.before: Any = before
        self.pool_before: Any = pool_before
        self.users: int = 0
        self.calls: int = 0

    def __call__(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        """Make a task."""
        who = current.get()
        if who is not None and options.get("context") is None:
            forked = who.fork()
            context = copy_context()
            context.run(current.set, forked)
            options["context"] = context
            self.calls += forked is not None
        if self.before is not None:
            return self.before(loop, coro, **options)
        return asyncio.Task(coro, loop=loop, **options)

    def to_pool(self, executor: Any, function: Callable[..., Any], *arguments: Any) -> Any:
        """Do what `run_in_executor` of the loop does, for `asyncio.to_thread` and others."""
        who = current.get()
        is_in_threads = executor is None or isinstance(executor, ThreadPoolExecutor)
        is_asked = who is not None and is_in_threads and running_loop() and asyncio.current_task()
        forked = who.fork() if who is not None and is_asked else None
        if forked is None:
            return self.pool_before(executor, function, *arguments)
        return self.pool_before(executor, _caused, forked, function, *arguments)


def _caused(who: Frozen, function: Callable[..., Any], *arguments: Any) -> Any:
    """In a thread: call a function that a handler has handed in. `to_thread` has it run in a context."""
    context = getattr(getattr(function, "func", None), "__self__", None)
    if isinstance(context, Context):
        context.run(current.set, who)
        return function(*arguments)
    before = current.set(who)
    try:
        return function(*arguments)
    finally:
        current.reset(before)


def install(loop: asyncio.AbstractEventLoop) -> Tracker:
    """Freeze causes for the tasks that handlers spawn on `loop`. Counted: each call needs its `uninstall`."""
    factory = loop.get_task_factory()
    tracker = factory if isinstance(factory, Tracker) else Tracker(factory, loop.run_in_executor)
    if tracker is not factory:
        loop.set_task_factory(tracker)
        if hasattr(loop, "__dict__"):
            vars(loop)[_TO_POOL] = tracker.to_pool
    tracker.users += 1
    return tracker


def uninstall(loop: asyncio.AbstractEventLoop) -> None:
    """Undo one `install`; the last restores the factory from before, unless somebody replaced ours."""
    factory: Any = loop.get_task_factory()
    if isinstance(factory, Tracker):
        factory.users -= 1
        if not factory.users:
            loop.set_task_factory(factory.before)
            if getattr(loop, _TO_POOL) == factory.to_pool:
                vars(loop)[_TO_POOL] = factory.pool_before
