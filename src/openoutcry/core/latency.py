"""A histogram of latencies in log-scaled buckets.

There are four buckets per doubling, so a percentile is within 12 % of the truth. Recording takes two integer
operations and an increment, and there are at most 256 buckets, of which only those in use take room. The
scheme is that of HdrHistogram with two significant bits.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from math import ceil
from typing import Final

from openoutcry.config import check_number

_BITS = 2
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


def limit_ns(bucket: int) -> int:
    """Return the largest time that is counted in a bucket, in nanoseconds."""
    shift = (bucket >> _BITS) - 1
    if shift <= 0:
        return bucket
    low = ((bucket & ((1 << _BITS) - 1)) | (1 << _BITS)) << shift
    return low + (1 << shift) - 1


def percentile_ns(buckets: Mapping[int, int], percent: float) -> float | None:
    """Return the time at or below which `percent` of those in the buckets lie; None if they are empty."""
    check_number("percent", percent, 0, 100)
    count = sum(buckets.values())
    rank = min(max(1, ceil(round(count * percent / 100, 6))), count)
    for bucket in sorted(buckets):
        rank -= buckets[bucket]
        if rank <= 0:
            return _middle(bucket) if buckets[bucket] else None
    return None


_MIDDLES_US: Final = [_middle(bucket) / 1_000 for bucket in range(64 << _BITS)]
_NONE: Final[dict[str, float | int | None]] = {
    "count": 0,
    "p50_us": None,
    "p99_us": None,
    "p99.9_us": None,
    "max_us": None,
}


class Latencies:
    """Counts of latencies, or of other durations, in nanoseconds.

    Attributes:
        count: How many were counted.
        largest_ns: The largest of them, exactly; 0 before the first.

    """

    __slots__ = ("_counts", "_order", "_said", "count", "largest_ns")

    def __init__(self) -> None:
        self._counts: defaultdict[int, int] = defaultdict(int)
        self._order: list[int] = []
        self._said = _NONE
        self.count: int = 0
        self.largest_ns: int = 0

    def record(self, value_ns: int, times: int = 1) -> None:
        """Count one latency, or one that stands for several.

        Negative values count as zero, those of more than 292 years as 292 years.
        """
        if not 0 <= value_ns <= _LARGEST:
            value_ns = 0 if value_ns < 0 else _LARGEST
        self._counts[_bucket(value_ns)] += times
        self.count += times
        if value_ns > self.largest_ns:  # noqa: PLR1730 - half the time
            self.largest_ns = value_ns

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
        rank = min(max(1, ceil(round(self.count * percent / 100, 6))), self.count)
        below = 0
        for bucket in self._in_order():
            below += self._counts[bucket]
            if below >= rank:
                return _middle(bucket)
        raise AssertionError("the counts do not add up")

    def buckets(self) -> dict[int, int]:
        """Return a copy of the counts by bucket, which `limit_ns` and `percentile_ns` read."""
        return dict(self._counts)

    def recent_us(self, before: "Latencies") -> tuple[float | None, float | None]:
        """Return median and p99, in us, of what was counted since `before`, an earlier copy."""
        below = count = self.count - before.count
        if not count:
            return None, None
        bucket = 0  # there is a first one, since something was counted
        counts, seen = self._counts, before._counts  # noqa: SLF001 - of the same class
        downwards, rank = reversed(self._in_order()), -(-count * 99 // 100)
        while below >= rank:
            bucket = next(downwards)
            below -= counts[bucket] - seen.get(bucket, 0)
        p99_us, rank = _MIDDLES_US[bucket], (count + 1) // 2
        while below >= rank:
            bucket = next(downwards)
            below -= counts[bucket] - seen.get(bucket, 0)
        return _MIDDLES_US[bucket], p99_us

    def _in_order(self) -> list[int]:
        if len(self._order) != len(self._counts):  # none ever goes out of use
            self._order = sorted(self._counts)
        return self._order

    @classmethod
    def merged(cls, parts: Iterable["Latencies"]) -> "Latencies":
        """Return the counts of several together."""
        sums = [0] * len(_MIDDLES_US)
        together = cls()
        for part in parts:
            for bucket, count in part._counts.items():  # noqa: SLF001 - of the same class
                sums[bucket] += count
            together.count += part.count
            together.largest_ns = max(together.largest_ns, part.largest_ns)
        together._counts.update((bucket, count) for bucket, count in enumerate(sums) if count)
        return together

    def copy(self) -> "Latencies":
        """Return a copy of the counts."""
        same = Latencies()
        same._counts = self._counts.copy()
        same.count, same.largest_ns = self.count, self.largest_ns
        return same

    def to_dict(self) -> dict[str, float | int | None]:
        """Return count, percentiles and the largest in microseconds, JSON-ready."""
        said = self._said
        if said["count"] != self.count:  # asked for often, and most have not changed
            said = self._said = self._summed_up()
        return said.copy()

    def _summed_up(self) -> dict[str, float | int | None]:
        bucket, below = 0, (count := self.count)  # there is a first bucket, since something was counted
        counts, downwards = self._counts, reversed(self._in_order())
        rank = -(-count * 999 // 1000)
        while below >= rank:
            bucket = next(downwards)
            below -= counts[bucket]
        p999_us, rank = _MIDDLES_US[bucket], -(-count * 99 // 100)
        while below >= rank:
            bucket = next(downwards)
            below -= counts[bucket]
        p99_us, rank = _MIDDLES_US[bucket], (count + 1) // 2
        while below >= rank:
            bucket = next(downwards)
            below -= counts[bucket]
        return {
            "count": count,
            "p50_us": _MIDDLES_US[bucket],
            "p99_us": p99_us,
            "p99.9_us": p999_us,
            "max_us": self.largest_ns / 1_000,
        }
