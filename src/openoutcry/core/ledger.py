"""The loss ledger: everything accepted is accounted for, per subscription and lane, at any moment.

accepted = handled + dead-lettered + conflated + overflowed + expired + withdrawn + waiting + in flight
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Final

from openoutcry.core.lanes import Batch, Lane, LaneName

Counts = tuple[int, ...]
"""What a lane accepted, and then the fates of that, in the order of `LedgerRow`."""


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """What became of the events that one lane of one subscription accepted.

    Attributes:
        subscription: The subscription's name.
        lane: `control`, `high` or `normal`.
        accepted: Events accepted for this subscription.
        handled: Its handler returned.
        dead_lettered: Every attempt failed, or a full mailbox had no room for it.
        conflated: Replaced by a newer event with the same key, as the subscriber asked.
        overflowed: Let go as the oldest, by a full mailbox or as the subscriber asked.
        expired: Older than `max_age_s`, as the subscriber asked.
        withdrawn: Still waiting when the subscription ended.
        waiting: Not begun yet, retries included.
        in_flight: In its handler now.

    """

    subscription: str
    lane: LaneName
    accepted: int
    handled: int
    dead_lettered: int
    conflated: int
    overflowed: int
    expired: int
    withdrawn: int
    waiting: int
    in_flight: int

    @property
    def accounted(self) -> int:
        """The sum of every fate."""
        return sum(getattr(self, f.name) for f in fields(self)[3:])

    @property
    def balances(self) -> bool:
        """Whether every accepted event is accounted for."""
        return self.accepted == self.accounted

    def to_dict(self) -> dict[str, str | int]:
        """Return the row as JSON-ready data."""
        return dict(zip(_COLUMNS, _cells(self), strict=True))


_COLUMNS: Final = tuple(f.name for f in fields(LedgerRow))
_cells: Final = attrgetter(*_COLUMNS)
_NOTHING: Final[Counts] = (0,) * len(_COLUMNS[2:])


def ledger_counts(lane: Lane, open_batches: Iterable[Batch]) -> Counts:
    """Return the counts of a lane, read from its counters and from the batches of it that workers hold."""
    if not lane.accepted and not lane.held:
        return _NOTHING
    handled = waiting = in_flight = 0
    for batch in open_batches:
        if batch.lane is lane:
            begun = batch.begun
            handled += max(0, begun - 1)
            in_flight += begun > 0
            waiting += batch.waiting
    return (
        lane.accepted + lane.held,
        lane.handled + handled,
        lane.dead_lettered,
        lane.conflated,
        lane.overflowed,
        lane.expired,
        lane.withdrawn,
        lane.waiting + lane.held + waiting,
        in_flight,
    )


def ledger_row(subscription: str, lane: Lane, open_batches: Iterable[Batch]) -> LedgerRow:
    """Return the row of a lane."""
    return LedgerRow(subscription, lane.name, *ledger_counts(lane, open_batches))


def plain_row(subscription: str, lane: str, counts: Counts) -> dict[str, Any]:
    """Return a row as JSON-ready data; cheaper than by way of `LedgerRow`."""
    (
        accepted,
        handled,
        dead_lettered,
        conflated,
        overflowed,
        expired,
        withdrawn,
        waiting,
        in_flight,
    ) = counts
    return {
        "subscription": subscription,
        "lane": lane,
        "accepted": accepted,
        "handled": handled,
        "dead_lettered": dead_lettered,
        "conflated": conflated,
        "overflowed": overflowed,
        "expired": expired,
        "withdrawn": withdrawn,
        "waiting": waiting,
        "in_flight": in_flight,
    }


@dataclass(frozen=True, slots=True)
class Ledger:
    """All rows of a bus, ended subscriptions included."""

    rows: tuple[LedgerRow, ...]

    @property
    def balances(self) -> bool:
        """Whether every row balances: nothing accepted was lost."""
        return all(row.balances for row in self.rows)

    def total(self, fate: str) -> int:
        """Return the sum of one column, such as `handled`, over all rows."""
        return sum(getattr(row, fate) for row in self.rows)

    def to_dict(self) -> dict[str, object]:
        """Return the ledger as JSON-ready data."""
        return {"balances": self.balances, "rows": [row.to_dict() for row in self.rows]}
