"""Audiences (CONTRACT 4): the emptiest mailbox that takes an event decides what its publisher meets."""

from typing import Any

import pytest

from openoutcry.config import BackpressureConfig
from openoutcry.core.audience import Audience
from openoutcry.core.lanes import Lane
from openoutcry.core.mailbox import Mailbox
from openoutcry.core.pressure import Pressure

ROOM = Pressure(100, BackpressureConfig())
NORMAL, WARNING, HIGH, CRITICAL = range(4)


def box(waiting: int, **options: Any) -> Mailbox:
    found = Mailbox(Lane("normal"), **options)
    found.normal.push(list(range(waiting)), 0)
    return found


def met(*mailboxes: Mailbox, way: int = 0, is_kept: bool = False) -> tuple[int, int]:
    """Return depth and rank that a publisher to these meets."""
    for mailbox in mailboxes:
        mailbox.measure(ROOM, way, 10)
    audience = Audience(mailboxes, is_kept=is_kept)
    audience.measure(ROOM, way, ROOM.rank_at(way, 0))
    assert audience.credit == ROOM.credit(audience.depth, audience.rank)
    return audience.depth, audience.rank


def test_the_emptiest_mailbox_decides():
    assert met(box(95), box(3), box(60)) == (3, NORMAL)
    assert met(box(95), box(60)) == (60, WARNING)


def test_a_single_mailbox_is_the_emptiest():
    assert met(box(95)) == (95, CRITICAL)


def test_where_nobody_takes_it_a_publisher_meets_what_is_on_its_way():
    assert met() == (0, NORMAL)
    assert met(way=60) == (60, WARNING)


def test_what_is_on_its_way_counts_for_everybody():
    assert met(box(95), box(45), way=5) == (50, WARNING)


def test_one_that_gates_is_waited_for_as_long_as_it_moves():
    slow = box(80, gates=True)
    assert met(slow, box(0)) == (80, HIGH)
    assert met(slow, box(95)) == (80, HIGH)
    slow.stalled = True
    assert met(slow, box(0)) == (0, NORMAL)
    assert met(slow) == (80, HIGH), "alone it is the emptiest, moving or not"


def test_a_lane_that_reads_on_is_as_good_as_empty_to_what_the_journal_has():
    behind = box(95)
    behind.fall_behind(+1)
    assert met(behind, is_kept=True) == (0, NORMAL)
    assert met(behind) == (95, CRITICAL)


@pytest.mark.parametrize("others", [(), (95,)])
def test_a_lane_that_conflates_or_drops_is_as_good_as_empty(others):
    assert met(box(95, counts=False), *map(box, others)) == (0, NORMAL)


def test_the_level_of_a_mailbox_falls_with_hysteresis_also_among_others():
    slow, fast = box(75), box(76)
    assert met(slow, fast) == (75, HIGH)
    slow.take(3, 0)
    for _ in slow.open[0].iterator:
        pass
    assert met(slow, fast) == (72, HIGH)


def test_mailboxes_are_told_from_where_on_a_publisher_meets_less():
    slow, fast, gates = box(90), box(60), box(70, gates=True)
    for mailbox in (slow, fast, gates):
        mailbox.measure(ROOM, 0, 10)
    audience = Audience((slow, fast), is_kept=False)
    audience.measure(ROOM, 0, 0)
    audience.mark(0)
    assert (slow.mark, fast.mark) == (60, 60)
    audience = Audience((fast, gates), is_kept=False)
    audience.measure(ROOM, 0, 0)
    audience.mark(0)
    assert gates.mark == 70
