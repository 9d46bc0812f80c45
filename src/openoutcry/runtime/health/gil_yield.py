"""Pauses a busy event loop now and then, so that other threads get the interpreter's lock (the GIL).

CPython makes a thread give up the GIL once another has waited for a whole switch interval, 5 ms. A busy loop
releases it in every turn, for the microsecond that polling its sockets takes: too short for a thread to wake
up, but long enough to restart its wait. So a thread beside a busy loop may wait for seconds.

The remedy is a pause long enough for a waiting thread to wake up and take the lock. While the loop has time
to spare nothing is done; while there are no other threads, next to nothing.
"""

import asyncio
import threading
import time

BUSY_THREADS_S, THREADS_S, ALONE_S, IDLE_S = 0.001, 0.005, 0.02, 0.01
"""Seconds between checks: while other threads use the processor, while they only exist, while there are
none, and while the loop has time to spare."""
OWN_THREADS = 2
"""The loop's and the watchdog's."""
OVER_S = 0.6
"""After this much spare time it stops. The bus starts it again every half second while events flow."""
PAUSE_S = 1e-6
"""The sleep asked for; with the kernel's timer slack it takes about 60 us, which is what a wake-up needs."""
BUSY_SHARE = 0.1
"""Share of a processor; a loop that uses less has slept, unless it shares its processor with nine others."""
THREADS_SHARE = 0.005
"""Share of a processor; other threads that use more are at work."""


class GilYield:
    """Pauses a busy loop: every millisecond while other threads are at work, less often otherwise.

    Attributes:
        count: How often it has paused the loop.

    """

    __slots__ = ("_idle_ns", "_loop", "_others_ns", "_own_ns", "_timer", "_wall_ns", "count")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._wall_ns = self._own_ns = self._others_ns = self._idle_ns = 0
        self.count: int = 0

    @property
    def is_on(self) -> bool:
        """Whether it checks the loop now."""
        return self._timer is not None

    def begin(self) -> None:
        """On the loop: start. It stops by itself when the loop has had time to spare for `OVER_S`."""
        self._idle_ns = 0
        if self._timer is None:
            self._note()
            self._timer = self._loop.call_later(BUSY_THREADS_S, self._look)

    def stop(self) -> None:
        """On the loop: stop."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _note(self) -> tuple[int, int, int]:
        """Return the time since the last call, and what this thread and the others used of the processor."""
        before = (self._wall_ns, self._own_ns, self._others_ns)
        self._wall_ns, self._own_ns = time.monotonic_ns(), time.thread_time_ns()
        self._others_ns = time.process_time_ns() - self._own_ns
        return (self._wall_ns - before[0], self._own_ns - before[1], self._others_ns - before[2])

    def _look(self) -> None:
        wall_ns, own_ns, others_ns = self._note()
        if own_ns < wall_ns * BUSY_SHARE:
            self._idle_ns += wall_ns
            wait_s = IDLE_S
        else:
            self._idle_ns = 0
            time.sleep(PAUSE_S)
            self.count += 1
            wait_s = _patience_s(others_ns / wall_ns)
        is_over = self._idle_ns > OVER_S * 1e9
        self._timer = None if is_over else self._loop.call_later(wait_s, self._look)


def _patience_s(share: float) -> float:
    """Return how long the loop may go on without a pause, by the processor share of other threads."""
    if threading.active_count() <= OWN_THREADS:
        return ALONE_S
    return BUSY_THREADS_S if share > THREADS_SHARE else THREADS_S
