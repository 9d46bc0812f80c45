"""Seats: for how long a process may go on as the holder of a desk, and when another one may claim it.

```
  holder     in office ──lease_s since the last good renewal was sent──▶ lapsed ──renewed──▶ in office
                 └───────────────── another one has claimed it ─────────────┴──▶ out, for good

  claimer    nobody holds it, or its holder is dead ──▶ at once
             the record has not changed for 1.25 lease_s ──▶ now       it has changed ──▶ never
```

No clocks are compared: the holder counts on its own monotonic clock from when it *sent* a renewal, the
claimer on its own from when it first saw the record as it is. So whenever a claimer may begin, the holder has
lapsed. The engine decides in the end: it refuses what the holder of an older claim exports.

A lease of 0 does not lapse, and nobody claims the desk from a holder that may be alive. This is the lease of
Gray and Cheriton (1989) with the fencing token of Chubby's sequencers (Burrows 2006).
"""

from enum import Enum
from typing import Final, NamedTuple

WAIT_LEASES: Final = 1.25
"""For how many leases a record must stand unchanged before another one claims the desk."""
RENEWALS: Final = 3
"""How many times a lease is renewed before it would lapse."""


class Office(Enum):
    """How a process stands to its desk."""

    IN = "in office"
    """It holds the desk."""
    LAPSED = "lapsed"
    """It could not renew in time: another one may hold the desk, or not."""
    OUT = "out"
    """Another one holds the desk."""


class Tenure:
    """A holder's view of its seat.

    Args:
        lease_ns: For how long the seat is held without a renewal; 0: it does not lapse.

    """

    __slots__ = ("_lease_ns", "_sent_ns", "is_out")

    def __init__(self, lease_ns: int) -> None:
        self._lease_ns = lease_ns
        self._sent_ns: int | None = None
        self.is_out: bool = False

    @property
    def renewed_ns(self) -> int:
        """When the last good renewal was sent; 0 before the first."""
        return self._sent_ns or 0

    def renewed(self, sent_ns: int) -> None:
        """The engine has answered a claim or a renewal that was sent then. Older answers change nothing."""
        if self._sent_ns is None or sent_ns > self._sent_ns:
            self._sent_ns = sent_ns

    def lost(self) -> None:
        """Another one has claimed the desk. That is final."""
        self.is_out = True

    def office(self, now_ns: int) -> Office:
        """Return how the process stands to its desk now."""
        if self.is_out:
            return Office.OUT
        if not self._lease_ns:
            return Office.IN
        lapses_ns = self.lapses_ns
        return Office.IN if lapses_ns is not None and now_ns < lapses_ns else Office.LAPSED

    @property
    def lapses_ns(self) -> int | None:
        """When it lapses unless it is renewed; None if it does not, or was never held."""
        if not self._lease_ns or self._sent_ns is None:
            return None
        return self._sent_ns + self._lease_ns


class Record(NamedTuple):
    """A seat's record, as a claimer needs it.

    Attributes:
        holder: Who holds it; empty if nobody does.
        renewal: Changes with each renewal.
        lease_ns: For how long it is held without one; 0: until it is left.

    """

    holder: str
    renewal: int
    lease_ns: int


class May(Enum):
    """Whether a process may claim a desk."""

    CLAIM = "claim"
    WAIT = "wait"
    NEVER = "never"
    """Its holder is alive, or may be for ever."""


class Vacancy:
    """A claimer's view of a seat that it would like to have."""

    __slots__ = ("_first", "_since_ns")

    def __init__(self) -> None:
        self._first: Record | None = None
        self._since_ns = 0

    def look(self, record: Record | None, now_ns: int, *, is_dead: bool = False) -> May:
        """Return what to do about the record that was answered at `now_ns`; None: there is none.

        `is_dead`: it is known otherwise that its holder runs no more.
        """
        if record is None or not record.holder or is_dead:
            return May.CLAIM
        if self._first is None:
            self._first, self._since_ns = record, now_ns
        if record != self._first or not record.lease_ns:
            return May.NEVER
        return May.CLAIM if now_ns >= self.claims_ns else May.WAIT

    @property
    def claims_ns(self) -> int:
        """When it may be claimed, if it does not change until then. After the first look only."""
        assert self._first is not None, "it was looked at"
        return self._since_ns + int(WAIT_LEASES * self._first.lease_ns)
