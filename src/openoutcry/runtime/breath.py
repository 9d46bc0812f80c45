"""Breath: a busy loop gives the interpreter's lock away now and then, so that threads do not starve.

CPython hands its lock (the GIL) over when a thread has waited for a whole switch interval, 5 ms. A busy loop
lets go of it in every turn, for the microsecond that a look at its sockets takes: too short for a thread to
wake up, but long enough to make it begin its wait anew. Beside such turns it may wait for seconds.

The remedy is a pause that is long enough for a waiting thread to wake up and take the lock. While the loop has
time to spare nothing is done; while no other thread uses the processor, little.
"""

import asyncio
import time

LEAST_S = 0.001
MOST_S = 0.005
PAUSE_S = 1e-6
"""What is asked for; with the kernel's timer slack it takes about 60 us, which is what a wake-up needs."""
BUSY_SHARE = 0.25
THREADS_SHARE = 0.005


class Breath:
    """Pauses a busy loop, every 1 ms while other threads are at work, every 5 ms while none is.

    Attributes:
        count: How often it has paused the loop.
        is_on: Whether it is at work now.

    """

    __slots__ = ("_loop", "_others_ns", "_own_ns", "_timer", "_wall_ns", "count")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._wall_ns = self._own_ns = self._others_ns = 0
        self.count = 0

    @property
    def is_on(self) -> bool:
        """Whether it is at work now."""
        return self._timer is not None

    def begin(self) -> None:
        """On the loop: the loop has been seen busy. It ends by itself when the loop has time to spare."""
        if self._timer is None:
            self._note()
            self._timer = self._loop.call_later(LEAST_S, self._breathe)

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

    def _breathe(self) -> None:
        wall_ns, own_ns, others_ns = self._note()
        if own_ns < wall_ns * BUSY_SHARE:
            self._timer = None
            return
        time.sleep(PAUSE_S)
        self.count += 1
        wait_s = LEAST_S if others_ns > wall_ns * THREADS_SHARE else MOST_S
        self._timer = self._loop.call_later(wait_s, self._breathe)
