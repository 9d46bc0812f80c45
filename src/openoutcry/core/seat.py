"""Seats: whether this process may act for its desk, and when another one may claim it. Pure.

A holder renews its seat a few times per lease. No clock is compared with another one: the holder counts from
the moment at which it *sent* the last renewal that succeeded, and who wants to claim waits for 1.25 leases of
its own time in which the record has not changed. So the holder stops before another one begins::

    holder     sent ── in office ──▶ lease: doubtful ─────▶ fenced: out
    claimer         seen ──────── unchanged ────────▶ 1.25 leases: claims

The engine has the last word: it refuses what is appended with the token of an earlier claim (Kleppmann, "How
to do distributed locking", 2016: fencing tokens). A process that was suspended does not notice the time that
has passed before it asks for it; the token holds nevertheless.
"""

from enum import StrEnum
from typing import Final

PATIENCE: Final = 1.25
"""For so many leases a seat must be unchanged before another process claims it."""
RENEWALS_PER_LEASE: Final = 3
"""How often a holder renews its seat."""


class Office(StrEnum):
    """Whether a process may act for its desk."""

    IN_OFFICE = "in office"
    """It holds the seat."""
    DOUBTFUL = "doubtful"
    """Its lease has run out: another may have claimed the desk. It begins nothing until it has renewed."""
    OUT = "out"
    """Another one holds the seat, or it was given back. That is final."""


class Tenure:
    """A holder's view of its seat. A lease of 0 never runs out."""

    def __init__(self, lease_ns: int, sent_ns: int) -> None:
        """Begin with a claim that succeeded, and was sent at `sent_ns`."""
        self.lease_ns: Final = lease_ns
        self._sent_ns = sent_ns
        self._is_out = False

    def renewed(self, sent_ns: int) -> None:
        """Note that a renewal has succeeded that was sent at `sent_ns`."""
        self._sent_ns = max(self._sent_ns, sent_ns)

    def lose(self) -> None:
        """Note that another one has the seat, or that it was given back."""
        self._is_out = True

    def office(self, now_ns: int) -> Office:
        """Return whether the process may act for its desk."""
        if self._is_out:
            return Office.OUT
        if self.lease_ns and now_ns - self._sent_ns >= self.lease_ns:
            return Office.DOUBTFUL
        return Office.IN_OFFICE

    def runs_out_ns(self) -> int | None:
        """Return when the lease runs out if it is not renewed before; None for never."""
        return self._sent_ns + self.lease_ns if self.lease_ns else None

    def renew_ns(self, renewal_ns: int) -> int:
        """Return when to send the next renewal; `renewal_ns` is how long to wait where the lease is 0."""
        return self._sent_ns + (self.lease_ns // RENEWALS_PER_LEASE or renewal_ns)


class Vigil:
    """A claimer's view of a seat: whether the holder has been silent for long enough."""

    def __init__(self) -> None:
        self._seen: tuple[str, int] | None = None
        self._since_ns = 0

    def may_claim(self, holder: str, renewal: int, lease_ns: int, now_ns: int) -> bool:
        """Return True if the seat may be claimed, given its record as it was asked for just now.

        At once if nobody holds it; else when it has been unchanged for 1.25 leases, as this function was
        told. A lease of 0 never lapses: an operator, or the journal's lock on the same host, says that the
        holder is gone.
        """
        if not holder:
            return True
        if self._seen != (holder, renewal):
            self._seen, self._since_ns = (holder, renewal), now_ns
        return bool(lease_ns) and now_ns - self._since_ns >= PATIENCE * lease_ns
