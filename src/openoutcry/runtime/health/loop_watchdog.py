"""The loop watchdog: a thread that notices when the event loop is blocked, and names who blocks it.

```
  thread   every 25 ms: does the loop run a task or callback? ──no──▶ an idle loop is left alone
                            │ yes
                            ▼
                       ping, unless one is out ──▶ answered by the loop: its lag is known
                            │ not answered within 180 ms
                            ▼
                       the stack of the loop's thread, the handler's name ──▶ one report per blockage
```

A call that blocks the loop is seen within 25 ms and reported 180 ms later. A call that keeps the
interpreter's lock in C (a runaway regular expression, an extension that never releases it) stops this thread
as well, so it is reported only after it has released the lock.
"""

import asyncio
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

from openoutcry.core.repeats import Repeats, in_between
from openoutcry.core.vitals import LoopVitals
from openoutcry.logs import lines
from openoutcry.ports import Clock
from openoutcry.runtime.health.gil_yield import GilYield
from openoutcry.units import NS_PER_S

log = logging.getLogger("openoutcry")

LIMIT_S = 0.18
"""Counted from when the loop is first seen blocked, up to a tick after it began: 0.2 s in all."""
TICK_S = 0.025
STACK_MOST = 40
EPISODES_KEPT = 100
UNKNOWN_EVERY = 10
_WAITS = (("select", "selectors.py"), ("_poll", "windows_events.py"))


@dataclass(frozen=True, slots=True)
class Blockage:
    """One time that the loop was blocked.

    Attributes:
        handler: Who blocked it: a subscription's name, else a task's, else the innermost function.
        held_ns: For how long, at least: until now if it goes on, else in all.
        is_over: Whether the loop runs again.
        stack: The stack when it was noticed, innermost frame last, a line per frame.

    """

    handler: str
    held_ns: int
    is_over: bool
    stack: tuple[str, ...]


class _Ping:
    """A callback sent to the loop, to see whether it still runs."""

    __slots__ = ("answered_ns", "sent_ns")

    def __init__(self, sent_ns: int) -> None:
        self.sent_ns = sent_ns
        self.answered_ns: int | None = None


class Watchdog:
    """Watches one loop from a thread of its own.

    Args:
        loop: The loop, which runs in the thread that calls `start`.
        moved_ns: Returns when a handler call ended last, in the time of `time.monotonic_ns`. Called in the
            watchdog's thread. With it, a call in C that lets no thread run is noticed afterwards.
        on_blocked: Called with a blockage while it lasts, or afterwards if no thread could run, in the
            watchdog's thread. What it raises is logged.
        limit_s: A loop that is seen busy with one call for this long counts as blocked.
        tick_s: How often the thread looks.
        yields_gil: Whether to pause a busy loop so that other threads, this one included, get their time.

    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        moved_ns: Callable[[], int] | None = None,
        on_blocked: Callable[[Blockage], Any] | None = None,
        limit_s: float = LIMIT_S,
        tick_s: float = TICK_S,
        yields_gil: bool = True,
    ) -> None:
        self._loop = loop
        self._moved_ns = moved_ns
        self._on_blocked = on_blocked
        self._is_plain_loop = isinstance(loop, asyncio.BaseEventLoop)
        self._limit_ns = int(limit_s * NS_PER_S)
        self._tick_s = tick_s
        self._gil_yield = GilYield(loop) if yields_gil else None
        self._loop_thread = 0
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._ping: _Ping | None = None
        self._now: Blockage | None = None
        self._ticks_count = 0
        self._looked_ns = 0
        self._lock = threading.Lock()
        self._episodes: deque[Blockage] = deque(maxlen=EPISODES_KEPT)
        self._fresh: list[Blockage] = []
        self._lag_ns = 0
        self._repeats = Repeats()
        self._is_logged = False

    # -- life ---------------------------------------------------------------------------------------

    def start(self) -> bool:
        """On the loop: start watching. Return False, and start no thread, for a loop with a clock of its own.

        Virtual time stands still while a callback runs, so such a loop is never late; and a thread that can
        call into it would hide its deadlocks.
        """
        if isinstance(getattr(self._loop, "clock", None), Clock):
            return False
        if self._thread is None:
            self._loop_thread = threading.get_ident()
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name="openoutcry:watchdog", daemon=True)
            self._thread.start()
            self.work_begins()
        return True

    def work_begins(self) -> None:
        """On the loop: events flow after a rest. Cheap.

        Without it the thread would have to find out, and beside a busy loop it may do so late, since it is
        itself a thread that starves.
        """
        if self._gil_yield is not None and self._thread is not None:
            self._gil_yield.begin()

    def stop(self, timeout_s: float = 1.0) -> None:
        """On the loop: stop, and wait for the thread for at most `timeout_s`. Harmless when not started."""
        thread, self._thread = self._thread, None
        if self._gil_yield is not None:
            self._gil_yield.stop()
        if thread is not None:
            self._stop.set()
            thread.join(timeout_s)

    @property
    def is_watching(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    # -- what it found ------------------------------------------------------------------------------

    @property
    def episodes(self) -> tuple[Blockage, ...]:
        """The newest 100 blockages, oldest first, a current one included. From any thread."""
        with self._lock:
            return (*self._episodes, *([self._now] if self._now is not None else []))

    @property
    def newest(self) -> Blockage | None:
        """The newest blockage, or the current one; None before the first. From any thread."""
        with self._lock:
            return self._now or (self._episodes[-1] if self._episodes else None)

    @property
    def blocked_ns(self) -> int:
        """For how long the loop has been blocked, as far as is known; 0 while it runs. From any thread."""
        ping = self._ping
        if ping is None or ping.answered_ns is not None or self._loop.is_closed():
            return 0
        held_ns = time.monotonic_ns() - ping.sent_ns
        return held_ns if held_ns >= self._limit_ns else 0

    def vitals(self) -> LoopVitals:
        """Return what happened since the last call of this method. From any thread."""
        blocked_ns = self.blocked_ns
        with self._lock:
            fresh, self._fresh = self._fresh, []
            lag_ns, self._lag_ns = self._lag_ns, 0
            now = self._now
        if now is not None and blocked_ns:
            fresh.append(Blockage(now.handler, blocked_ns, is_over=False, stack=now.stack))
        worst = max(fresh, key=lambda blockage: blockage.held_ns, default=None)
        return LoopVitals(
            lag_ns=max(lag_ns, blocked_ns),
            blocked_ns=blocked_ns,
            handler="" if worst is None else worst.handler,
            longest_ns=0 if worst is None else worst.held_ns,
            blockages=len(fresh),
        )

    # -- the thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        wait_s = self._tick_s
        while not (self._stop.wait(wait_s) or self._loop.is_closed()):  # then nothing is left to watch
            try:
                wait_s = self._look()
            except RuntimeError:  # it was closed without a stop, just now
                return
            except Exception:  # what the bus or a callback raised
                log.exception("the watchdog continues after an error")
                wait_s = self._tick_s

    def _look(self) -> float:
        """Look once; return how long to wait before the next look."""
        ping = self._ping
        if self._moved_ns is not None:
            self._look_back(self._moved_ns(), time.monotonic_ns())
        if ping is not None and ping.answered_ns is not None:
            self._answered(ping, ping.answered_ns)
            ping = None
        if ping is None:
            if self._seems_busy():
                self._ping = ping = _Ping(time.monotonic_ns())
                self._loop.call_soon_threadsafe(self._pong, ping)
            return self._tick_s
        held_ns = time.monotonic_ns() - ping.sent_ns
        if held_ns >= self._limit_ns:
            if self._now is None:
                self._report(held_ns)
            return self._tick_s
        return min(self._tick_s, (self._limit_ns - held_ns) / NS_PER_S)

    def _seems_busy(self) -> bool:
        """Return True if the loop seems to run something, seen from outside: a ping would wake an idle loop.

        A loop whose wait for its sockets cannot be recognised is pinged now and then.
        """
        if asyncio.current_task(self._loop) is not None:
            return True
        self._ticks_count += 1
        frame = self._frame()
        if frame is None or _waits_for_sockets(frame):
            return False
        return self._is_plain_loop or self._ticks_count % UNKNOWN_EVERY == 0

    def _frame(self) -> FrameType | None:
        return sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - there is no other way to see it

    def _look_back(self, moved_ns: int, now_ns: int) -> None:
        """Report a call that kept the interpreter's lock: nothing moved while this thread could not run."""
        last_ns, self._looked_ns = self._looked_ns, now_ns
        late_ns = now_ns - max(moved_ns, last_ns + int(self._tick_s * NS_PER_S))
        if not last_ns or self._now is not None or late_ns < self._limit_ns:
            return
        if asyncio.current_task(self._loop) is None:
            return
        stack = self._stack()
        over = Blockage(self._name(stack), late_ns, is_over=True, stack=stack)
        with self._lock:
            self._ping = None  # it was answered late for the same reason
            self._note(over)
        self._tell(over)
        untold = self._repeats.note(over.handler, now_ns)
        if untold is not None:
            log.error(
                "%s let no other thread run for %.2f s, as a call in C does that keeps the interpreter's "
                "lock%s; it was at:\n%s",
                over.handler,
                late_ns / NS_PER_S,
                in_between(untold),
                lines(stack),
            )

    def _pong(self, ping: _Ping) -> None:
        """On the loop: it runs."""
        ping.answered_ns = time.monotonic_ns()
        self.work_begins()

    def _answered(self, ping: _Ping, answered_ns: int) -> None:
        held_ns = answered_ns - ping.sent_ns
        with self._lock:
            self._ping = None
            self._lag_ns = max(self._lag_ns, held_ns)
            now, self._now = self._now, None
            if now is None and held_ns < self._limit_ns:
                return
            handler, stack = ("", ()) if now is None else (now.handler, now.stack)
            over = Blockage(handler, held_ns, is_over=True, stack=stack)
            self._note(over)
        name = handler or "an unknown callback"
        if self._is_logged if handler else self._repeats.note(name, answered_ns) is not None:
            log.warning("%s blocked the loop for %.2f s; it runs again", name, held_ns / NS_PER_S)

    def _tell(self, blockage: Blockage) -> None:
        if self._on_blocked is not None:
            self._on_blocked(blockage)

    def _note(self, over: Blockage) -> None:
        self._lag_ns = max(self._lag_ns, over.held_ns)
        self._episodes.append(over)
        self._fresh = [*self._fresh, over][-EPISODES_KEPT:]

    def _stack(self) -> tuple[str, ...]:
        frame = self._frame()
        return () if frame is None else _stack(frame)

    def _name(self, stack: tuple[str, ...]) -> str:
        """Return the name of the current task, which for a worker is its subscription, or of the function."""
        task = asyncio.current_task(self._loop)
        return _top(stack) if task is None else task.get_name().removeprefix("openoutcry:")

    def _report(self, held_ns: int) -> None:
        stack = self._stack()
        blockage = Blockage(self._name(stack), held_ns, is_over=False, stack=stack)
        with self._lock:
            self._now = blockage
        try:
            self._tell(blockage)
        finally:
            untold = self._repeats.note(blockage.handler, time.monotonic_ns())
            self._is_logged = untold is not None
            if untold is not None:
                log.error(
                    "%s has blocked the loop for %.2f s, so nothing else runs%s; it is at:\n%s",
                    blockage.handler,
                    held_ns / NS_PER_S,
                    in_between(untold),
                    lines(stack),
                )


def _waits_for_sockets(frame: FrameType) -> bool:
    code = frame.f_code
    return any(code.co_name == name and code.co_filename.endswith(file) for name, file in _WAITS)


def _stack(frame: FrameType) -> tuple[str, ...]:
    """Return the innermost frames as lines, innermost last. Sources are not read, which could take long."""
    lines: list[str] = []
    at: FrameType | None = frame
    while at is not None and len(lines) < STACK_MOST:
        code = at.f_code
        lines.append(f'  File "{code.co_filename}", line {at.f_lineno}, in {code.co_qualname}')
        at = at.f_back
    return tuple(reversed(lines))


def _top(stack: tuple[str, ...]) -> str:
    return stack[-1].rpartition(", in ")[2] if stack else "an unknown callback"
