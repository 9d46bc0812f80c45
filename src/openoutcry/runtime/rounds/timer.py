"""One loop timer for many deadlines, set lazily.

A timer per round would cost a `call_later` and a `cancel` each, and leave the cancelled ones in the loop's
heap until it cleans up. Rounds mostly end long before their deadline, so the alarm stays set for the oldest
deadline it was asked for, and looks for the next one when it goes off: one timer per time-out, however many
rounds were held in between.
"""

import asyncio
from collections.abc import Callable

from openoutcry.core.barrier import NEVER_NS

_STEP_MIN_NS = 100_000
"""The shortest delay asked of the loop: a timer that runs ahead of the clock must not spin until then."""


class DeadlineTimer:
    """Calls `ring(now_ns)` when a deadline has passed; `ring` returns the next one, or `NEVER_NS`.

    `due_ns` is at or before the earliest deadline, so `look` is one comparison while there is nothing to
    do. Deadlines are measured by `now_ns`: a timer of the loop that fires early is set again.
    """

    __slots__ = ("_now_ns", "_ring", "_set_ns", "_timer", "due_ns")

    def __init__(self, now_ns: Callable[[], int], ring: Callable[[int], int]) -> None:
        self._now_ns = now_ns
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None
        self._set_ns = NEVER_NS
        self.due_ns = NEVER_NS

    def by(self, due_ns: int) -> None:
        """See to it that `ring` is called once `due_ns` has passed, at the latest.

        Outside of a running loop only `look` can notice; the next call from inside of one sets the timer.
        """
        if due_ns >= self.due_ns and self._timer is not None:
            return
        self.due_ns = min(self.due_ns, due_ns)
        if self.due_ns < self._set_ns:
            self._set()

    def look(self, now_ns: int) -> None:
        """Ring now if a deadline has passed that the timer has not noticed yet."""
        if now_ns >= self.due_ns:
            self.due_ns = self._ring(now_ns)

    def cancel(self) -> None:
        """Forget every deadline."""
        self.due_ns = NEVER_NS
        self._drop_timer()

    def _set(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        self._drop_timer()
        self._set_ns = self.due_ns
        delay_ns = max(self.due_ns - self._now_ns(), _STEP_MIN_NS)
        self._timer = loop.call_later(delay_ns / 1e9, self._fire)

    def _fire(self) -> None:
        self._timer, self._set_ns = None, NEVER_NS
        self.look(self._now_ns())
        if self.due_ns != NEVER_NS:
            self.by(self.due_ns)

    def _drop_timer(self) -> None:
        self._set_ns = NEVER_NS
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
