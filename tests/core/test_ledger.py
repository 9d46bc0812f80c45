"""The loss ledger: rows that balance, and rows that do not."""

import json
from dataclasses import replace

import pytest

from openoutcry.core.lanes import Lane
from openoutcry.core.ledger import Ledger, LedgerRow, ledger_row

FATES = (
    "handled",
    "dead_lettered",
    "conflated",
    "overflowed",
    "expired",
    "withdrawn",
    "waiting",
    "in_flight",
)
ROW = LedgerRow("s", "normal", 36, 1, 2, 3, 4, 5, 6, 7, 8)


def test_accepted_is_the_sum_of_every_fate():
    assert ROW.accounted == 36
    assert ROW.balances


@pytest.mark.parametrize("fate", [*FATES, "accepted"])
@pytest.mark.parametrize("by", [-1, 1])
def test_one_event_too_many_or_too_few_anywhere_is_noticed(fate, by):
    row = replace(ROW, **{fate: getattr(ROW, fate) + by})
    assert not row.balances
    assert not Ledger((ROW, row)).balances


def test_a_bus_without_subscriptions_balances():
    assert Ledger(()).balances


def test_an_event_in_hand_is_in_flight_and_those_around_it_are_handled_or_waiting():
    lane, other = Lane("normal"), Lane("high")
    lane.push([1, 2, 3, 4], 0)
    batch = lane.take(3, 0)
    rows = [ledger_row("s", lane, [batch])]
    rows += [ledger_row("s", lane, [batch]) for _ in batch.iterator]
    lane.settle(batch)
    rows.append(ledger_row("s", lane, []))
    assert [(r.handled, r.in_flight, r.waiting) for r in rows] == [
        (0, 0, 4),
        (0, 1, 3),
        (1, 1, 2),
        (2, 1, 1),
        (3, 0, 1),
    ]
    assert all(row.balances for row in rows)
    assert ledger_row("s", other, [batch]).accounted == 0, "a batch counts in its own lane alone"


def test_a_total_sums_one_column_over_all_rows():
    assert [Ledger((ROW, ROW)).total(fate) for fate in ("accepted", *FATES)] == [72, *range(2, 17, 2)]


def test_a_ledger_is_ready_for_json():
    plain = json.loads(json.dumps(Ledger((ROW,)).to_dict()))
    assert plain["balances"] is True
    assert plain["rows"][0] == {"subscription": "s", "lane": "normal", "accepted": 36} | {
        fate: number for number, fate in enumerate(FATES, 1)
    }
