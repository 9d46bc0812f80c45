"""The clock, as the runtime asks for it."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class Clock(Protocol):
    """Where time comes from: durations from one reading, labels from the other.

    Both readings are integers of nanoseconds. Subtract only readings of `now_ns`; show or store only
    readings of `wall_ns`, because wall time may jump when the machine's clock is set.
    """

    def now_ns(self) -> int:
        """Nanoseconds on a monotonic clock with an arbitrary zero: never decreases, never jumps."""
        ...

    def wall_ns(self) -> int:
        """Nanoseconds since 1970-01-01T00:00Z, for labels that people read."""
        ...
