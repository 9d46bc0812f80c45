"""An event loop whose time is virtual: it jumps to the next timer instead of waiting for it.

Everything that asks the loop for time follows: `asyncio.sleep`, `asyncio.timeout`, `loop.call_later`. An hour
passes in microseconds, and the same program takes the same path on every run. The prior art is trio's
`MockClock(autojump_threshold=0)`; here the loop owns the clock, so that code under test needs no hook.

Time moves only when nothing is ready to run. Then, in this order:

1. What the real world has already sent (a socket, a pipe, a call from another thread) is taken.
2. While an executor job or a child process is running, the next timer waits for it, in real time, for at
   most `patience_s`: a time-out around a thread must not fire because virtual time is fast.
3. Virtual time jumps to the next timer.
4. With no timer left, the loop blocks in real time if anything outside could still wake it: an executor job,
   a child process, a registered descriptor, a signal handler, a live thread other than an executor's worker.
5. Otherwise nothing can ever happen again: `Deadlock`, which lists every waiting task and its line.

A program that never ends (a periodic timer beside a wait for nothing, a loop around `sleep(0)`) is stopped
after `limit_s` seconds of real time, with the same error.

Tasks and futures hash by their number, so that the sets in which asyncio keeps them (`asyncio.wait`,
`as_completed`) are in the order in which they were made, in every run.

Its limit: a thread does not hold back the timers, because background threads live as long as the program. A
test with a feed thread must wait for that thread's work, not for a time.
"""

import asyncio
import concurrent.futures
import gc
import math
import selectors
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar, TypeVarTuple

from openoutcry.clocks import VIRTUAL_START_NS, VirtualClock
from openoutcry.errors import ConfigError, OpenOutcryError
from openoutcry.printable import printable, printable_lines

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_NS = 1_000_000_000
_SLICE_S = 0.02  # real seconds between two looks at the world outside
_ASYNCIO = str(Path(asyncio.__file__).parent)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
real_time_s = time.monotonic  # whatever a replay puts in its place


class Deadlock(OpenOutcryError, RuntimeError):
    """The program can never continue, or has used up its real time. Lists who waits, and where."""

    def __str__(self) -> str:
        return printable_lines(str(self.args[0]))


class _NumberedFuture(asyncio.Future[Any]):
    """A future that hashes by its number, not by its address."""

    def __init__(self, loop: "VirtualLoop") -> None:
        super().__init__(loop=loop)
        self._number = loop.next_number()

    def __hash__(self) -> int:
        return self._number


class _NumberedTask(asyncio.Task[Any]):
    """A task that hashes by its number, not by its address."""

    def __init__(self, coro: Any, *, loop: "VirtualLoop", **options: Any) -> None:
        self._number = loop.next_number()
        super().__init__(coro, loop=loop, **options)

    def __hash__(self) -> int:
        return self._number


def _numbered(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> "asyncio.Task[Any]":
    """Make a task: the task factory of a virtual loop."""
    assert isinstance(loop, VirtualLoop), "it is the factory of such a loop alone"
    return _NumberedTask(coro, loop=loop, **options)


class _JumpingSelector(selectors.DefaultSelector):
    """The real selector. It asks `idle` how long to wait whenever the loop has nothing ready to run."""

    idle: Callable[[float | None], float]

    def has_news(self) -> bool:
        """Return True if anything outside has something for the loop."""
        return bool(super().select(0))

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        while not events and (timeout is None or timeout > 0):
            wait_s = self.idle(timeout)
            if wait_s <= 0:
                break
            events = super().select(wait_s)
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop with a `clock: VirtualClock` that it moves itself. Use it through `run_virtual`.

    `patience_s`: real seconds that a timer waits for a running executor job or child process; 0 for none.
    `limit_s`: real seconds that the whole run may take; None for no limit.
    """

    def __init__(
        self, clock: VirtualClock | None = None, *, patience_s: float = 5.0, limit_s: float | None = 60.0
    ) -> None:
        self.clock: VirtualClock = VirtualClock() if clock is None else clock
        selector = _JumpingSelector()
        selector.idle = self._idle
        super().__init__(selector)
        self._own_fds = len(selector.get_map())
        self._real_selector = selector
        self._patience_s = patience_s
        self._limit_s = limit_s
        self._born_s = real_time_s()
        self._idle_since_s: float | None = None
        self._turns_count = 0
        self._settling: list[asyncio.Future[None]] = []
        self._jobs = 0
        self._children: list[asyncio.SubprocessTransport] = []
        self._pools: weakref.WeakSet[Any] = weakref.WeakSet()
        self._old_threads = weakref.WeakSet(threading.enumerate())
        self.next_number: Callable[[], int] = count().__next__
        self.set_task_factory(_numbered)
        self._resolve()

    def time(self) -> float:
        """Virtual seconds since the clock was made."""
        return self.clock.now_ns() / _NS

    def create_future(self) -> asyncio.Future[Any]:
        """As in asyncio; it hashes by its number."""
        return _NumberedFuture(self)

    async def settle(self) -> None:
        """Wait until nobody can do anything more at this instant. Time does not move meanwhile."""
        settled = self.create_future()
        self._settling.append(settled)
        await settled

    # -- what is going on outside ------------------------------------------------------------------

    def run_in_executor(
        self, executor: concurrent.futures.Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """As in asyncio; the job is counted, so that virtual time waits for it."""
        future = super().run_in_executor(executor, func, *args)
        self._pools.add(executor or getattr(self, "_default_executor", None))
        self._jobs += 1
        future.add_done_callback(self._job_done)
        return future

    def _job_done(self, _future: asyncio.Future[Any]) -> None:
        self._jobs -= 1

    async def shutdown_default_executor(self, *args: Any) -> None:
        """As in asyncio; virtual time waits for the workers, or the time-out of 3.12 would pass at once."""
        self._jobs += 1
        self._patience_s = math.inf
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self._jobs -= 1

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> Any:
        """As in asyncio; the child is remembered, so that virtual time waits for it."""
        return self._adopt(await super().subprocess_exec(*args, **kwargs))

    async def subprocess_shell(self, *args: Any, **kwargs: Any) -> Any:
        """As in asyncio; the child is remembered, so that virtual time waits for it."""
        return self._adopt(await super().subprocess_shell(*args, **kwargs))

    def _adopt(self, made: tuple[asyncio.SubprocessTransport, Any]) -> Any:
        self._children.append(made[0])
        return made

    def _work_outside(self) -> bool:
        self._children = [child for child in self._children if child.get_returncode() is None]
        return self._jobs > 0 or bool(self._children)

    def _wakeable(self) -> bool:
        descriptors = len(self._real_selector.get_map()) > self._own_fds
        return descriptors or bool(getattr(self, "_signal_handlers", None)) or bool(self._threads())

    def _threads(self) -> list[threading.Thread]:
        """Threads that may still call in: those started since the loop was made, but for a pool's workers."""
        workers: set[Any] = set()
        for pool in self._pools:
            workers.update(getattr(pool, "_threads", ()) or ())
            workers.add(getattr(pool, "_executor_manager_thread", None))
        return [t for t in threading.enumerate() if t not in self._old_threads and t not in workers]

    # -- how long to wait --------------------------------------------------------------------------

    def _idle(self, timeout_s: float | None) -> float:
        """Nothing is ready: move the clock and return 0, or return how long to wait in real time."""
        now_s = real_time_s()
        self._check_limit(now_s)
        if self._idle_since_s is None:
            self._idle_since_s = now_s
        busy = self._work_outside()
        if timeout_s is not None or self._settling:
            if busy and now_s - self._idle_since_s < self._patience_s:
                return _SLICE_S
            if self._settling:
                self._end_settling()
            elif timeout_s is not None:
                self._jump(timeout_s)
            return 0
        if busy or self._wakeable():
            return _SLICE_S
        if self._real_selector.has_news():
            return 0  # a thread called in and ended in the meantime
        raise Deadlock(self._report("nothing is ready, no timer is set, nothing outside can wake the loop"))

    def _end_settling(self) -> None:
        settled, self._settling = self._settling, []
        for waiting in settled:
            if not waiting.done():
                waiting.set_result(None)

    def _check_limit(self, now_s: float) -> None:
        if self._limit_s is not None and now_s - self._born_s > self._limit_s:
            self._limit_s = None  # the clean-up that follows has to run
            raise Deadlock(self._report(f"still running after {now_s - self._born_s:.1f} real seconds"))

    def _jump(self, timeout_s: float) -> None:
        scheduled: list[asyncio.TimerHandle] = getattr(self, "_scheduled", [])
        when_s = scheduled[0].when() if scheduled else self.time() + timeout_s
        self.clock.advance_to(round(when_s * _NS))
        self._resolve()

    def _resolve(self) -> None:
        # A timer is due when it lies within one resolution of now. Far from zero, neighbouring floats are
        # wider apart than a nanosecond.
        self._clock_resolution = max(1e-9, 2 * math.ulp(self.time()))

    def _run_once(self) -> None:
        self._idle_since_s = None
        self._turns_count += 1
        if not self._turns_count % 1024:  # a loop around sleep(0) never idles
            self._check_limit(real_time_s())
        super()._run_once()  # type: ignore[misc]

    # -- what to say -------------------------------------------------------------------------------

    def _report(self, why: str) -> str:
        lines = [f"deadlock at virtual time {self.time():.9g} s: {why}."]
        tasks = sorted(asyncio.all_tasks(self), key=lambda task: task.get_name())
        lines += [f"  {task.get_name()} waits in {_where(task)}" for task in tasks]
        lines += [f"  thread {thread.name} is alive" for thread in self._threads()]
        if self._work_outside():
            lines.append(f"  {self._jobs} executor jobs, {len(self._children)} child processes are running")
        lines.append("Set what these tasks wait for, or cancel them, before the coroutine awaits them.")
        return "\n".join(map(printable, lines))


def _where(task: asyncio.Task[Any]) -> str:
    """Return the line at which a task is suspended, the innermost outside asyncio, and what it called."""
    frames: list[FrameType] = []
    inner: Any = task.get_coro()
    while inner is not None:
        frame = getattr(inner, "cr_frame", None) or getattr(inner, "ag_frame", None)
        if frame is not None:
            frames.append(frame)
        inner = getattr(inner, "cr_await", None) or getattr(inner, "ag_await", None)
    if not frames:
        return repr(task.get_coro())
    own = [frame for frame in frames if not frame.f_code.co_filename.startswith(_ASYNCIO)] or frames
    place = f"{own[-1].f_code.co_qualname} ({own[-1].f_code.co_filename}:{own[-1].f_lineno})"
    return place if own[-1] is frames[-1] else f"{place}, in {frames[-1].f_code.co_qualname}"


def run_virtual(
    coro: Coroutine[Any, Any, T],
    *,
    start: datetime | int | None = None,
    patience_s: float = 5.0,
    limit_s: float | None = 60.0,
    debug: bool | None = None,
) -> T:
    """Run a coroutine on a fresh `VirtualLoop`, in virtual time, and return its result.

    `start` is the first reading of the wall clock: an aware datetime, or nanoseconds since 1970 (UTC).
    `patience_s`, `limit_s`: see `VirtualLoop`; both are real seconds. `debug`: asyncio's debug mode.

    It ends as `asyncio.run` does: leftover tasks are cancelled, asynchronous generators and the default
    executor are closed. Raises what the coroutine raises, and `Deadlock` if it can never end. Uncaught
    exceptions (of a task that was never awaited, or in a callback) are raised at the end as an
    `ExceptionGroup`, unless the coroutine itself failed or set an exception handler on the loop.
    """
    uncaught: list[Exception] = []

    def collect(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, Exception):
            uncaught.append(error)
        elif error is None:
            uncaught.append(RuntimeError(str(context.get("message"))))
        loop.default_exception_handler(context)

    def new_loop() -> VirtualLoop:
        loop = VirtualLoop(VirtualClock(_wall_ns(start)), patience_s=patience_s, limit_s=limit_s)
        loop.set_exception_handler(collect)
        return loop

    with asyncio.Runner(loop_factory=new_loop, debug=debug) as runner:
        result = runner.run(coro)
    gc.collect(1)  # a failed task is often part of a cycle, and reports itself when it is freed
    if uncaught:
        raise ExceptionGroup("exceptions that were not caught", uncaught)
    return result


def _wall_ns(start: datetime | int | None) -> int:
    if start is None:
        return VIRTUAL_START_NS
    if isinstance(start, int):
        return start
    if start.tzinfo is None:
        raise ConfigError(f"start={start!r} has no time zone: pass an aware datetime, or ns since 1970")
    return (start - _EPOCH) // timedelta(microseconds=1) * 1000
