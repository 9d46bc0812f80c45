"""One loop timer for many deadlines, set lazily.

A timer per round would cost a `call_later` and a `cancel` each, and leave the cancelled ones in the loop's
heap until it cleans up. Rounds mostly end long before their deadline, so the timer stays set for the earliest
deadline it was asked for, and looks for the next one when it fires: one timer per time-out, however many
rounds were held in between.
"""

import asyncio
from collections.abc import Callable

from openoutcry.core.barrier import NEVER_NS

_STEP_MIN_NS = 100_000
"""The shortest delay asked of the loop: a timer that fires ahead of the clock must not make it spin."""


class DeadlineTimer:
    """Calls `ring(now_ns)` when a deadline has passed; `ring` returns the next one, or `NEVER_NS`.

    Deadlines are measured by `now_ns`: a timer of the loop that fires early is set again.

    Attributes:
        due_ns: At or before the earliest deadline, so that `look` is one comparison while nothing is due.

    """

    __slots__ = ("_now_ns", "_ring", "_set_ns", "_timer", "due_ns")

    def __init__(self, now_ns: Callable[[], int], ring: Callable[[int], int]) -> None:
        self._now_ns = now_ns
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None
        self._set_ns = NEVER_NS
        self.due_ns: int = NEVER_NS

    def by(self, due_ns: int) -> None:
        """Have `ring` called as soon as `due_ns` has passed.

        Outside a running loop only `look` can notice it; the next call from inside one sets the timer.
        """
        if due_ns >= self.due_ns and self._timer is not None:
            return
        self.due_ns = min(self.due_ns, due_ns)
        if self.due_ns < self._set_ns:
            self._set()

    def move_here(self) -> None:
        """Go on, on the running loop, if the timer was set on another one, which may be closed."""
        self._drop_timer()
        if self.due_ns != NEVER_NS:
            self._set()

    def look(self, now_ns: int) -> None:
        """Call `ring` now if a deadline has passed that the timer has not noticed yet."""
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
