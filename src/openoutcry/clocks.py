"""The clocks: the machine's own, and a virtual one that moves only when it is advanced."""

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from openoutcry.errors import ConfigError
from openoutcry.ports import Clock

VIRTUAL_START_NS = 1_704_205_800_000_000_000
"""Where a virtual wall clock starts unless told otherwise: 2024-01-02T14:30Z, an opening bell."""


class SystemClock:
    """The machine's clocks: `time.monotonic_ns` for durations, `time.time_ns` for labels."""

    __slots__ = ()

    if TYPE_CHECKING:

        @staticmethod
        def now_ns() -> int:
            """Nanoseconds since some moment in the past; it never goes back."""
            return time.monotonic_ns()

        @staticmethod
        def wall_ns() -> int:
            """Nanoseconds since 1970 (UTC)."""
            return time.time_ns()

    else:  # the built-ins themselves, so that a reading costs no Python call
        now_ns = staticmethod(time.monotonic_ns)
        wall_ns = staticmethod(time.time_ns)

    def __repr__(self) -> str:
        return "SystemClock()"


class VirtualClock:
    """A clock that stands still until it is advanced; both readings move together.

    `now_ns` starts at 0 and `wall_ns` at `start_wall_ns` (nanoseconds since 1970, UTC).
    """

    __slots__ = ("_now_ns", "_start_wall_ns")

    def __init__(self, start_wall_ns: int = VIRTUAL_START_NS) -> None:
        self._now_ns = 0
        self._start_wall_ns = start_wall_ns

    def now_ns(self) -> int:
        """Nanoseconds since the clock was made."""
        return self._now_ns

    def wall_ns(self) -> int:
        """Nanoseconds since 1970-01-01T00:00Z."""
        return self._start_wall_ns + self._now_ns

    def advance(self, by_ns: int) -> None:
        """Move both readings forward. A step backwards raises `ConfigError`, and nothing moves."""
        if by_ns < 0:
            raise ConfigError(f"by_ns is {by_ns}, but a clock only moves forward: advance by 0 or more")
        self._now_ns += by_ns

    def advance_to(self, now_ns: int) -> None:
        """Move forward until `now_ns()` returns this. An instant in the past leaves the clock alone."""
        self._now_ns = max(self._now_ns, now_ns)

    def __repr__(self) -> str:
        return f"VirtualClock(now_ns={self._now_ns}, wall_ns={self.wall_ns()})"


def clock_of_loop(loop: asyncio.AbstractEventLoop | None = None) -> Clock:
    """Return the clock that the loop owns, as a virtual one does, or else the machine's.

    Without an argument the loop is the one that is running, if there is one.
    """
    if loop is None:
        with suppress(RuntimeError):
            loop = asyncio.get_running_loop()
    clock = getattr(loop, "clock", None)
    return clock if isinstance(clock, Clock) else SystemClock()
