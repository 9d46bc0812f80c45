"""A histogram of latencies in log-scaled buckets.

There are four buckets per doubling, so a percentile is within 12 % of the truth. Recording takes two integer
operations and an increment, and the memory is fixed. The scheme is that of HdrHistogram with two significant
bits.
"""

from math import ceil

from openoutcry.config import check_number

_BITS = 2
_SIZE = 64 << _BITS
_LARGEST = (1 << 63) - 1


def _bucket(value_ns: int) -> int:
    shift = value_ns.bit_length() - _BITS - 1
    return value_ns if shift <= 0 else (shift << _BITS) + (value_ns >> shift)


def _middle(bucket: int) -> float:
    shift = (bucket >> _BITS) - 1
    if shift <= 0:
        return float(bucket)
    low = ((bucket & ((1 << _BITS) - 1)) | (1 << _BITS)) << shift
    return low + ((1 << shift) - 1) / 2


class Latencies:
    """Counts of latencies, in nanoseconds."""

    __slots__ = ("_counts", "count")

    def __init__(self) -> None:
        self._counts = [0] * _SIZE
        self.count = 0

    def record(self, value_ns: int) -> None:
        """Count one latency. Negative values count as zero, those of more than 292 years as 292 years."""
        if not 0 <= value_ns <= _LARGEST:
            value_ns = 0 if value_ns < 0 else _LARGEST
        self._counts[_bucket(value_ns)] += 1
        self.count += 1

    def percentile(self, percent: float) -> float | None:
        """Return the latency in ns at or below which `percent` of those counted lie; None before the first.

        0 gives the smallest and 100 the largest, within the width of a bucket.

        Raises:
            ConfigError: `percent` is not a number from 0 to 100.

        """
        check_number("percent", percent, 0, 100)
        if not self.count:
            return None
        # Clamped, since the float product may round past the last one.
        wanted = min(max(1, ceil(round(self.count * percent / 100, 6))), self.count)
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                return _middle(bucket)
        raise AssertionError("the counts do not add up")

    def merge(self, other: "Latencies") -> None:
        """Add the counts of `other`."""
        self._counts = [a + b for a, b in zip(self._counts, other._counts, strict=True)]  # noqa: SLF001 - of the same class
        self.count += other.count

    def since(self, before: "Latencies") -> "Latencies":
        """Return what was counted since `before`, an earlier copy of these counts."""
        late = Latencies()
        if self.count > before.count:
            late._counts = [a - b for a, b in zip(self._counts, before._counts, strict=True)]  # noqa: SLF001 - of the same class
            late.count = self.count - before.count
        return late

    def copy(self) -> "Latencies":
        """Return a copy of the counts."""
        same = Latencies()
        same._counts = self._counts.copy()
        same.count = self.count
        return same

    def to_dict(self) -> dict[str, float | int | None]:
        """Return count and percentiles in microseconds, JSON-ready."""
        us = {f"p{p:g}_us": None if (v := self.percentile(p)) is None else v / 1000 for p in (50, 99, 99.9)}
        return {"count": self.count, **us}
