"""GilYield: a busy loop gives the interpreter's lock away now and then, so that threads do not starve.

CPython hands its lock (the GIL) over when a thread has waited for a whole switch interval, 5 ms. A busy loop
lets go of it in every turn, for the microsecond that a look at its sockets takes: too short for a thread to
wake up, but long enough to make it begin its wait anew. Beside such turns it may wait for seconds.

The remedy is a pause that is long enough for a waiting thread to wake up and take the lock. While the loop
has time to spare nothing is done; while there are no other threads, next to nothing.
"""

import asyncio
import threading
import time

BUSY_THREADS_S, THREADS_S, ALONE_S, IDLE_S = 0.001, 0.005, 0.02, 0.01
"""From one look to the next: while other threads are at work, while they only exist, while there are none,
and while the loop has time to spare."""
OWN_THREADS = 2
"""The loop's and the watchdog's."""
OVER_S = 0.6
"""After this much spare time it ends. The bus begins it anew every half second while events flow."""
PAUSE_S = 1e-6
"""What is asked for; with the kernel's timer slack it takes about 60 us, which is what a wake-up needs."""
BUSY_SHARE = 0.1
"""Of the processor; a loop that uses less has slept, unless it shares a processor with nine others."""
THREADS_SHARE = 0.005


class GilYield:
    """Pauses a busy loop: every millisecond while other threads are at work, else less often.

    Attributes:
        count: How often it has paused the loop.

    """

    __slots__ = ("_idle_ns", "_loop", "_others_ns", "_own_ns", "_timer", "_wall_ns", "count")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._wall_ns = self._own_ns = self._others_ns = self._idle_ns = 0
        self.count = 0

    @property
    def is_on(self) -> bool:
        """Whether it is at work now."""
        return self._timer is not None

    def begin(self) -> None:
        """On the loop: work has begun. It ends by itself when the loop has had time to spare for long."""
        self._idle_ns = 0
        if self._timer is None:
            self._note()
            self._timer = self._loop.call_later(BUSY_THREADS_S, self._look)

    def stop(self) -> None:
        """On the loop: end it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _note(self) -> tuple[int, int, int]:
        """Return the time since the last note, and what this thread and the others used of the processor."""
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
    """Return how long the loop may go on, by the share of a processor that other threads use, if any."""
    if threading.active_count() <= OWN_THREADS:
        return ALONE_S
    return BUSY_THREADS_S if share > THREADS_SHARE else THREADS_S
