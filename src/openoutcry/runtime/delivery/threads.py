"""Plain handlers in threads (`blocking=True`): in order, one thread per worker, out of the loop's way.

A thread cannot be stopped. So a call whose time is up goes on to its end: it gets a moment, and then is
abandoned and named, like a coroutine that swallows its cancellation.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextvars import Context, copy_context
from functools import partial
from inspect import isawaitable
from queue import SimpleQueue
from typing import Any, Protocol

from openoutcry.runtime.delivery.causation import Lineage, current
from openoutcry.runtime.delivery.loops import Drive, check_result

Job = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...]]


class HandlerThread(Executor):
    """A thread that is started when it is first needed, and that does not keep the program from exiting."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        # By the name that executors of the standard library have for it: a virtual loop looks there, to tell
        # the threads that work for it from those that may call in.
        self._threads: set[threading.Thread] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Have the thread do something."""
        assert not kwargs
        future: Future[Any] = Future()
        self._jobs.put((future, fn, args))
        if not self._threads:
            thread = threading.Thread(target=_work, args=(self._jobs,), name=self._name, daemon=True)
            self._threads.add(thread)
            thread.start()
        return future

    def run(self, call: Callable[[], Any], event: Any) -> "asyncio.Future[Any]":  # noqa: ARG002 - for a replay
        """Have the thread make the call for an event, and return the future of what it returns."""
        return asyncio.get_running_loop().run_in_executor(self, call)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002 - as it is called
        """Let the thread end after what it is doing; nobody waits for that."""
        self._jobs.put(None)


def _work(jobs: "SimpleQueue[Job | None]") -> None:
    while (job := jobs.get()) is not None:
        future, call, arguments = job
        if future.set_running_or_notify_cancel():
            future.set_result(call(*arguments))
        del job, future, call, arguments  # a thread at rest holds no event


class CallThread(Protocol):
    """What calls a handler in a thread of its own, one call after the other."""

    def run(self, call: Callable[[], Any], event: Any) -> "asyncio.Future[Any]":
        """Have the thread make the call for an event, and return the future of what it returns."""
        ...

    def shutdown(self) -> None:
        """Let the thread end after what it is doing."""
        ...


ThreadKind = Callable[[str], CallThread]
"""Makes the thread of a worker, given the subscription's name."""


def usual_thread(name: str) -> CallThread:
    """Make the thread of a worker."""
    return HandlerThread(f"openoutcry:{name}")


class Interrupted(Protocol):
    """The guard of the calls, as the thread that makes them sees it."""

    @property
    def is_interrupted(self) -> bool:
        """Whether the bus has cancelled the current call, and still waits for its end."""
        ...


def in_thread(
    thread: CallThread,
    lineage: Lineage,
    guard: Interrupted,
    on_left: Callable[["asyncio.Future[Any]"], None],
) -> Drive:
    """Return what calls a handler in a thread, event by event.

    `on_left` is called with the future of a call that somebody else than the bus has cancelled: it goes on.
    """

    async def call_each(events: Iterator[Any], handler: Callable[[Any], Any]) -> None:
        for event in events:
            context = copy_context()
            context.run(current.set, lineage.freeze())
            future = thread.run(partial(_call, context, handler, event), event)
            error, result = await _end_of(future, guard, on_left)
            if error is not None:
                raise error
            if result is not None:
                if isawaitable(result):
                    await result
                else:
                    check_result(result)

    return call_each


def _call(context: Context, handler: Callable[[Any], Any], event: Any) -> tuple[BaseException | None, Any]:
    """In the thread: what the handler raises is a result too, since not every error can cross a future."""
    try:
        return None, context.run(handler, event)
    except BaseException as error:  # noqa: BLE001 - whatever a handler lets out is its failure
        return error, None


async def _end_of(
    future: "asyncio.Future[Any]",
    guard: Interrupted,
    on_left: Callable[["asyncio.Future[Any]"], None],
) -> Any:
    """Wait for the thread, also if the bus has cancelled the call; a cancellation by others goes through."""
    while True:
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                return future.result()
            if not guard.is_interrupted:
                on_left(future)
                raise
