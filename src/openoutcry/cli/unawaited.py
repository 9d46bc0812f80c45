"""Notices what the app's tasks, callbacks and threads raise where nobody waits for them: nothing is lost.

```
  a task raises ──▶ somebody retrieves it ──────────────▶ theirs
       └──▶ nobody does, for a moment ──▶ logged
                 └──▶ made by a handler: that is all (as for the call of a handler that fails)
                 └──▶ nobody does within a second ──▶ the run fails
```
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from openoutcry.cli.mistakes import without_our_frames
from openoutcry.errors import BusClosed
from openoutcry.runtime.delivery.causation import current

log = logging.getLogger("openoutcry")

MOMENT_S = 0.05
"""Who waits for a task has its error by then."""
GRACE_S = 1.0
"""So long somebody may yet ask for the error, as in `await first; await second` if the second fails first."""


class Failures:
    """What ends a run from outside its main program: the errors of tasks, callbacks and threads.

    Attributes:
        first: What ended the run; None as long as nothing has.
        happened: Set with it.
        is_stopping: Whether the bus takes no events any more, so that `BusClosed` is no failure.

    """

    def __init__(self) -> None:
        self.first: BaseException | None = None
        self.happened = asyncio.Event()
        self.is_stopping = False
        self._before: Callable[..., Any] | None = None
        self._open: dict[asyncio.Task[Any], bool] = {}  # failed, not retrieved, and whether a handler made it
        self._logged: set[asyncio.Task[Any]] = set()

    @contextmanager
    def watching(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Watch every task that is made on this loop, what the loop itself reports, and threads."""
        self._before = loop.get_task_factory()
        loop.set_task_factory(self._make_task)
        loop.set_exception_handler(self._reported)

        def raised(args: threading.ExceptHookArgs) -> None:
            self._thread_raised(loop, args)

        hook = threading.excepthook
        if hook is threading.__excepthook__:  # else the app, or who runs it, has another use for them
            threading.excepthook = raised
        try:
            yield
        finally:
            if threading.excepthook is raised:
                threading.excepthook = hook

    def fail(self, error: BaseException) -> None:
        """End the run because of this error, which was logged."""
        self.first = self.first or error
        self.happened.set()

    def settle(self) -> None:
        """The run is over: nobody will ask for what was not retrieved so far."""
        for task in list(self._open):
            self._log(task)
            self._give_up(task)

    # -- tasks --------------------------------------------------------------------------------------

    def _make_task(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        before: Any = self._before
        task = asyncio.Task(coro, loop=loop, **options) if before is None else before(loop, coro, **options)
        is_handlers = current.get() is not None
        task.add_done_callback(self._handlers_done if is_handlers else self._done)
        return task

    def _done(self, task: "asyncio.Task[Any]", *, by_handler: bool = False) -> None:
        if task.cancelled() or not _is_unretrieved(task):
            return
        error = _error_of(task)
        if isinstance(error, SystemExit | KeyboardInterrupt):  # asyncio lets these out of the loop as well
            self.fail(error)
        self._open[task] = by_handler
        task.get_loop().call_later(MOMENT_S, self._look, task)

    def _handlers_done(self, task: "asyncio.Task[Any]") -> None:
        self._done(task, by_handler=True)

    def _look(self, task: "asyncio.Task[Any]") -> None:
        """Log the error of a task unless somebody has retrieved it, and wait a little longer."""
        if self._is_theirs(task):
            return
        self._log(task)
        task.get_loop().call_later(GRACE_S, self._look_again, task)

    def _look_again(self, task: "asyncio.Task[Any]") -> None:
        if not self._is_theirs(task):
            self._give_up(task)

    def _is_theirs(self, task: "asyncio.Task[Any]") -> bool:
        if task in self._open and _is_unretrieved(task):
            return False
        self._open.pop(task, None)
        self._logged.discard(task)
        return True

    def _log(self, task: "asyncio.Task[Any]") -> None:
        error = _error_of(task)
        if task in self._logged or self._is_theirs(task) or isinstance(error, SystemExit | KeyboardInterrupt):
            return
        self._logged.add(task)
        if self.is_stopping and isinstance(error, BusClosed):
            log.info("the task %r ended because the bus takes no events any more", task.get_name())
            return
        log.error("the task %r failed, and nobody waits for it", task.get_name(), exc_info=_shown(error))

    def _give_up(self, task: "asyncio.Task[Any]") -> None:
        """Nobody retrieves the error of a task: it ends the run, unless a handler made the task."""
        self._logged.discard(task)
        by_handler = self._open.pop(task, True)
        error = task.exception()  # so that it does not end as "never retrieved"
        if error is None or by_handler or (self.is_stopping and isinstance(error, BusClosed)):
            return
        self.fail(error)

    # -- what the loop reports, and threads ---------------------------------------------------------

    def _thread_raised(self, loop: asyncio.AbstractEventLoop, args: threading.ExceptHookArgs) -> None:
        error = args.exc_value
        if error is None or isinstance(error, SystemExit):  # which ends the thread alone
            return
        name = args.thread.name if args.thread is not None else "?"
        if self.is_stopping and isinstance(error, BusClosed):
            log.info("the thread %r ended because the bus takes no events any more", name)
            return
        log.error("the thread %r failed", name, exc_info=_shown(error))
        with suppress(RuntimeError):  # the loop was closed: the run is over
            loop.call_soon_threadsafe(self.fail, error)

    def _reported(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log what asyncio itself reports. A callback or task of the app that has failed ends the run."""
        del loop
        error = context.get("exception")
        more = ", ".join(f"{name}: {value!r}" for name, value in context.items() if name not in _SAID)
        log.error("%s%s", context.get("message"), more and f" ({more})", exc_info=_shown(error))
        task = context.get("future") or context.get("task")
        is_apps = isinstance(task, asyncio.Task) or (
            "handle" in context and not _is_asyncios(context["handle"])
        )
        if error is not None and is_apps:
            self.fail(error)


_SAID = ("message", "exception", "source_traceback")


def _is_unretrieved(task: "asyncio.Task[Any]") -> bool:
    return bool(getattr(task, "_log_traceback", False))


def _error_of(task: "asyncio.Task[Any]") -> BaseException | None:
    """Return the error of a task without retrieving it: somebody else may want to."""
    error: BaseException | None = getattr(task, "_exception", None)
    return error


def _is_asyncios(handle: object) -> bool:
    """Whether a callback is one of asyncio's own, as those of its transports are."""
    callback = getattr(handle, "_callback", None)
    module = str(getattr(getattr(callback, "func", callback), "__module__", ""))
    return module.partition(".")[0] in {"asyncio", "uvloop"}


def _shown(error: BaseException | None) -> Any:
    return None if error is None else without_our_frames(error)
