"""Causes: which event's handler is running, so that what it publishes is stamped without its doing anything.

A worker puts itself into a context variable once, when its task starts; which event it is busy with is read
off its batch when somebody asks. That costs nothing per event, where setting a variable for each would cost
more than the call. A task that a handler spawns copies the context, worker and all, but may outlive the
event; so the loop's task factory freezes the cause at that moment. `install` chains to the factory it finds.
"""

import asyncio
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import Any, Protocol

from openoutcry.events import Derivation


@dataclass(frozen=True, slots=True)
class Cause:
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
    """Whatever the context variable holds: it tells the cause and, if it is a worker, its bus."""

    bus: object

    @property
    def outbox(self) -> Any:
        """Where publications wait for the end of the call, if they do."""
        ...

    @property
    def running(self) -> bool:
        """Whether it is a worker with a call in hand."""
        ...

    @property
    def in_call(self) -> bool:
        """Whether the call that publishes, or that spawned the task that does, has not ended."""
        ...

    def cause(self) -> Cause | None:
        """Return the cause of a publication made now."""
        ...

    def derive(self) -> str | None:
        """Return the id of an event that is made now; None where it is not derived from its cause."""
        ...


class Frozen:
    """The cause of what a spawned task publishes, fixed when it was spawned."""

    __slots__ = ("_call", "_cause", "_derivation", "_worker", "bus")

    @property
    def outbox(self) -> Any:
        """Where publications wait for the end of the call that spawned the task, if they do."""
        return self._worker.outbox if self.in_call else None

    running = False

    def __init__(self, worker: Any) -> None:
        self._cause: Cause | None = worker.cause()
        self._worker = worker
        self._call = worker.call
        self._derivation: Derivation | None = worker.branch()
        self.bus: object = worker.bus

    @property
    def in_call(self) -> bool:
        """Whether the handler that spawned the task has not returned."""
        return bool(self._worker.running and self._worker.call == self._call)

    def cause(self) -> Cause | None:
        """Return the cause as it was at the spawning."""
        return self._cause

    def derive(self) -> str | None:
        """Return the id of an event that the task makes now."""
        return None if self._derivation is None else self._derivation.next()


current: ContextVar[Publisher | None] = ContextVar("openoutcry_cause", default=None)


class Tracker:
    """The task factory of a loop: freezes the cause for spawned tasks, then does what the one before did.

    Attributes:
        before: The task factory that was installed before.
        users: Buses that run on the loop.
        calls: Handler calls in hand on the loop, plus one for each task that a handler ever spawned: while it
            is 0, no publication has a cause, and nobody need look for one.

    """

    __slots__ = ("before", "calls", "users")

    def __init__(self, before: Any) -> None:
        self.before = before
        self.users = 0
        self.calls = 0

    def __call__(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        """Make a task."""
        who = current.get()
        if who is not None and who.running and options.get("context") is None:
            context = copy_context()
            context.run(current.set, Frozen(who))
            options["context"] = context
            self.calls += 1
        if self.before is not None:
            return self.before(loop, coro, **options)
        return asyncio.Task(coro, loop=loop, **options)


def install(loop: asyncio.AbstractEventLoop) -> Tracker:
    """Freeze causes for the tasks that handlers spawn on `loop`. Counted: each call needs its `uninstall`."""
    factory = loop.get_task_factory()
    tracker = factory if isinstance(factory, Tracker) else Tracker(factory)
    if tracker is not factory:
        loop.set_task_factory(tracker)
    tracker.users += 1
    return tracker


def uninstall(loop: asyncio.AbstractEventLoop) -> None:
    """Undo one `install`; the last restores the factory from before, unless somebody replaced ours."""
    factory: Any = loop.get_task_factory()
    if isinstance(factory, Tracker):
        factory.users -= 1
        if not factory.users:
            loop.set_task_factory(factory.before)
