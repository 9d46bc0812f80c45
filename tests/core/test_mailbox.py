"""Mailboxes: which lane goes first, what is open, and the share that keeps the normal lane alive."""

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from openoutcry.config import BackpressureConfig
from openoutcry.core.lanes import Lane
from openoutcry.core.ledger import ledger_row
from openoutcry.core.mailbox import Mailbox
from openoutcry.core.overflow import BoundedLane
from openoutcry.core.pressure import Pressure

# An event is (lane, position): ("high", 3) is the third that the high lane accepted.


class MailboxMachine(RuleBasedStateMachine):
    """Workers on one mailbox. With a single one, order and precedence are checked as well."""

    @initialize(share=st.integers(1, 4), workers=st.sampled_from([1, 1, 3]))
    def a_mailbox(self, share, workers):
        self.box = Mailbox(Lane("normal"), share=share)
        self.workers = workers
        self.single = workers == 1
        self.fates = {}
        self.placed = set()
        self.accepted = Counter()
        self.newest_begun = Counter()
        self.now_ns = self.high_run = self.high_while_normal_could = 0
        self.progress = self.box.progress

    def lane(self, name: str) -> Lane:
        return self.box.high if name == "high" else self.box.normal

    def end(self, events, fate):
        for event in events:
            assert event not in self.fates, "an event ended twice"
            self.fates[event] = fate

    def could_start(self, name: str) -> bool:
        lane = self.lane(name)
        due_ns = lane.due_ns()
        return lane.waiting > 0 and (due_ns is None or due_ns <= self.now_ns)

    def arrive(
        self, name: str, count: int, *, placed: bool
    ) -> tuple[list[tuple[str, int]], list[int] | None]:
        first = self.accepted[name] + 1
        self.accepted[name] += count
        events = [(name, position) for position in range(first, first + count)]
        if not placed:
            return events, None
        self.placed.update(events)
        return events, [10 * position for _, position in events]

    @rule(count=st.integers(1, 6), placed=st.booleans())
    def push_normal(self, count, placed):
        events, positions = self.arrive("normal", count, placed=placed)
        self.box.normal.push(events, self.now_ns, positions)

    @rule(count=st.integers(1, 6), placed=st.booleans())
    def push_high(self, count, placed):
        events, positions = self.arrive("high", count, placed=placed)
        self.box.push_high(events, self.now_ns, positions)
        assert all(b.waiting == 0 for b in self.box.open if b.lane is self.box.normal)

    @rule(by=st.integers(1, 6))
    def time_passes(self, by):
        self.now_ns += by

    @precondition(lambda self: len(self.box.open) < self.workers)
    @rule(limit=st.integers(1, 9))
    def take(self, limit):
        high, normal = self.could_start("high"), self.could_start("normal")
        batch = self.box.take(limit, self.now_ns)
        if self.single:
            assert (batch is not None) == (high or normal), "it is idle if and only if nothing may start"
        if batch is None:
            return
        assert batch in self.box.open
        assert 1 <= len(batch.events) <= limit
        if self.single and batch.lane is self.box.normal and self.box.high.waiting:
            assert len(batch.events) == 1, "beside waiting high-priority events it is one at a time"
            assert not high or self.high_run >= self.box.share, "a normal event went first before its share"
        if batch.lane is self.box.normal:
            self.high_while_normal_could = 0

    def open_batch(self, data, choose=lambda _: True):
        batches = [batch for batch in self.box.open if choose(batch)]
        return data.draw(st.sampled_from(batches)) if batches else None

    def note_begun(self, batch, event):
        name, position = event
        if not self.single:
            return
        if batch.attempts == 0:
            assert position > self.newest_begun[name], "events of one lane are begun in order"
            self.newest_begun[name] = position
        if name == "normal":
            self.high_run = self.high_while_normal_could = 0
            return
        self.high_run += 1
        self.high_while_normal_could = self.high_while_normal_could + 1 if self.could_start("normal") else 0
        assert self.high_while_normal_could <= self.box.share, "the normal lane starves"

    def begin_next(self, batch) -> None:
        event = next(batch.iterator)
        self.note_begun(batch, event)
        assert batch.current == event

    @precondition(lambda self: any(batch.waiting for batch in self.box.open))
    @rule(data=st.data())
    def begin(self, data):
        self.begin_next(self.open_batch(data, lambda batch: batch.waiting))
        assert self.box.progress > self.progress, "a call that begins is progress"

    @precondition(lambda self: self.box.open)
    @rule(data=st.data())
    def settle(self, data):
        batch = self.open_batch(data)
        while batch.waiting:
            self.begin_next(batch)
        self.box.settle(batch)
        self.end(batch.events, "handled")
        assert batch not in self.box.open

    @precondition(lambda self: any(batch.begun for batch in self.box.open))
    @rule(data=st.data(), wait_ns=st.integers(0, 9), dead=st.booleans())
    def fail(self, data, wait_ns, dead):
        batch = self.open_batch(data, lambda batch: batch.begun)
        current, before = batch.current, batch.events[: batch.begun - 1]
        self.box.fail(batch)
        assert batch.events == [current]
        assert batch not in self.box.open
        self.end(before, "handled")
        if dead:
            batch.lane.bury(batch)
            self.end([current], "dead_lettered")
        else:
            batch.lane.retry(batch, self.now_ns + wait_ns, in_order=self.single)

    @precondition(lambda self: any(not batch.begun for batch in self.box.open))
    @rule(data=st.data())
    def expire(self, data):
        batch = self.open_batch(data, lambda batch: not batch.begun)
        self.box.expire(batch)
        self.end(batch.events, "expired")

    @rule()
    def cut_all(self):
        waiting = self.box.waiting
        self.box.cut_all()
        assert self.box.waiting == waiting == self.box.high.waiting + self.box.normal.waiting

    @precondition(lambda self: self.box.open)
    @rule(data=st.data())
    def release(self, data):
        batch = self.open_batch(data)
        before = batch.events[: max(0, batch.begun - 1)]
        current, attempts = batch.events[len(before) :][:1], 0 if before else batch.attempts
        self.box.release(batch)
        self.end(before, "handled")
        self.progress = 0
        if current and self.single:
            name, position = current[0]
            assert next(self.lane(name).waiting_events()) == current[0], "it waits at the head"
            if attempts == 0:
                self.newest_begun[name] = min(self.newest_begun[name], position - 1)

    @rule(name=st.sampled_from(["high", "normal", "every", "odd"]))
    def withdraw(self, name):
        which = {"every": None, "odd": lambda event: event[1] % 2 == 1}.get(
            name, lambda event: event[0] == name
        )
        waiting = [
            *(event for batch in self.box.open for event in batch.events[batch.begun :]),
            *self.box.high.waiting_events(),
            *self.box.normal.waiting_events(),
        ]
        gone = self.box.withdraw(which)
        assert sorted(gone) == sorted(event for event in waiting if which is None or which(event))
        self.end(gone, "withdrawn")
        if not self.could_start("normal"):
            self.high_while_normal_could = 0  # nobody is kept waiting any more

    @invariant()
    def both_lanes_balance(self):
        for name in ("high", "normal"):
            row = ledger_row("s", self.lane(name), self.box.open)
            assert row.balances, row
            assert row.accepted == self.accepted[name]
            fates = Counter(fate for (lane, _), fate in self.fates.items() if lane == name)
            for fate in ("dead_lettered", "expired", "withdrawn"):
                assert getattr(row, fate) == fates[fate]
            begun = sum(max(0, b.begun - 1) for b in self.box.open if b.lane is self.lane(name))
            assert row.handled == fates["handled"] + begun

    @invariant()
    def it_knows_what_is_open(self):
        for name in ("high", "normal"):
            lane, numbers = self.lane(name), range(1, self.accepted[name] + 1)
            open_ = [number for number in numbers if (name, number) not in self.fates]
            assert [number for number in numbers if self.box.is_open(lane, number)] == open_
            placed = [(number, 10 * number) for number in open_ if (name, number) in self.placed]
            assert self.box.open_positions(lane, 2**63) == placed
            last = lane.settled_last
            part = self.box.open_positions(lane, last)
            assert [one for one in part if one[0] <= last] == [one for one in placed if one[0] <= last]
            above = [one for one in placed if one[0] > last]
            assert part[-1:] == placed[-1:] or part[-1] in above
            assert not above or above[0] in part

    @invariant()
    def the_counts_agree(self):
        box = self.box
        rows = [ledger_row("s", lane, box.open) for lane in (box.high, box.normal)]
        assert box.waiting == sum(row.waiting for row in rows)
        assert box.in_flight == sum(row.in_flight for row in rows)
        assert len(box.open) <= self.workers

    @invariant()
    def progress_never_goes_back(self):
        assert self.box.progress >= self.progress
        self.progress = self.box.progress


TestMailboxMachine = MailboxMachine.TestCase
TestMailboxMachine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


def full_box(share: int = 16, high: int = 0, normal: int = 0, **options: bool) -> Mailbox:
    box = Mailbox(Lane("normal"), share=share, **options)
    box.normal.push([f"n{i}" for i in range(normal)], 0)
    for i in range(high):
        box.push_high([f"h{i}"], 0)
    return box


def handled_in_order(box: Mailbox, limit: int = 100) -> list[str]:
    events: list[str] = []
    while (batch := box.take(limit, 0)) is not None:
        events += batch.iterator
        box.settle(batch)
    return events


def test_every_high_priority_event_goes_before_every_normal_one_within_the_share():
    assert handled_in_order(full_box(high=3, normal=3)) == ["h0", "h1", "h2", "n0", "n1", "n2"]


@pytest.mark.parametrize("share", [1, 2, 5, 16])
def test_one_normal_event_is_handled_after_every_share_of_high_ones(share):
    order = [event[0] for event in handled_in_order(full_box(share, high=6 * share, normal=6))]
    assert order == (["h"] * share + ["n"]) * 6


def test_a_long_push_of_high_priority_events_keeps_to_the_share_as_well():
    box = full_box(share=2, normal=3)
    box.push_high(["h"] * 6, 0)
    assert [event[0] for event in handled_in_order(box)] == list("hhnhhnhhn")


def test_a_normal_event_that_comes_while_high_ones_are_in_hand_waits_no_longer_than_the_share():
    box = full_box(share=4)
    box.push_high(["h"] * 100, 0)
    batch = box.take(100, 0)
    box.normal.push(["n"], 0)
    begun = len(list(batch.iterator))
    box.settle(batch)
    begun += handled_in_order(box).index("n")
    assert begun <= 4


def test_high_priority_events_that_are_given_back_do_not_use_up_the_share():
    box = full_box(share=4, normal=1)
    box.push_high(["h"] * 4, 0)
    for _ in range(5):
        batch = box.take(100, 0)
        assert batch.lane is box.high
        box.cut_all()
        box.settle(batch)
    assert handled_in_order(box) == ["h", "h", "h", "h", "n0"]


def test_a_normal_batch_in_hand_ends_after_the_call_when_a_high_priority_event_comes():
    box = full_box(normal=5)
    batch = box.take(100, 0)
    called = []
    for event in batch.iterator:
        called.append(event)
        box.push_high(["h"], 0)
    box.settle(batch)
    assert called == ["n0"]
    assert handled_in_order(box) == ["h", "n1", "n2", "n3", "n4"]


def test_a_high_priority_batch_in_hand_is_not_cut_by_another_high_priority_event():
    box = full_box(share=4)
    box.push_high(["h0", "h1"], 0)
    batch = box.take(100, 0)
    box.push_high(["h2"], 0)
    assert batch.waiting == 2


def test_cutting_all_gives_back_both_lanes_and_keeps_their_order():
    box = Mailbox(Lane("normal"), share=2)
    box.push_high(["h0", "h1"], 0)
    box.normal.push(["n0", "n1"], 0)
    for batch in (box.take(2, 0), box.take(1, 0)):
        next(batch.iterator)
    box.cut_all()
    assert [batch.events for batch in box.open] == [["h0"], ["n0"]]
    assert list(box.high.waiting_events()) == ["h1"]
    assert list(box.normal.waiting_events()) == ["n1"]


def test_a_retry_that_holds_the_high_lane_does_not_hold_the_normal_one():
    box = full_box(high=1, normal=2)
    batch = box.take(9, 0)
    next(batch.iterator)
    box.fail(batch)
    box.high.retry(batch, 50, in_order=True)
    assert box.take(9, 10).events == ["n0"]
    assert box.due_ns() == 50
    assert box.take(9, 50).events == ["h0"]


def test_a_retry_that_holds_the_normal_lane_does_not_hold_the_high_one():
    box = full_box(share=1, normal=1)
    batch = box.take(9, 0)
    next(batch.iterator)
    box.fail(batch)
    box.normal.retry(batch, 50, in_order=True)
    box.push_high(["h0", "h1", "h2"], 0)
    assert [box.take(9, 10).events for _ in range(3)] == [["h0"], ["h1"], ["h2"]]
    assert box.take(9, 10) is None
    assert box.take(9, 50).events == ["n0"]


def test_a_failing_subscription_moves_too():
    box = full_box(normal=1)
    seen = [box.progress]
    for _ in range(3):
        batch = box.take(1, 0)
        next(batch.iterator)
        seen.append(box.progress)
        box.fail(batch)
        batch.lane.retry(batch, 0, in_order=True)
    assert seen == sorted(set(seen)), "two looks at different attempts are never alike"


def test_a_subscription_that_does_not_move_makes_no_progress_whatever_arrives():
    box = full_box(normal=1)
    next(box.take(1, 0).iterator)
    before = box.progress
    box.normal.push(["n"], 0)
    box.push_high(["h"], 0)
    box.cut_all()
    assert box.progress == before


ROOM = Pressure(10, BackpressureConfig())


def depth_of(box: Mailbox) -> int:
    box.measure(ROOM, 0, 1)
    return box.depth


def test_publishers_meet_all_that_waits_and_what_is_in_flight_is_not_counted():
    box = full_box(high=1, normal=3)
    batch = box.take(1, 0)
    next(batch.iterator)
    assert (depth_of(box), box.waiting, box.in_flight) == (3, 3, 1)


def test_publishers_meet_events_in_hand_that_are_not_begun():
    box = full_box(normal=3)
    box.take(9, 0)
    assert (depth_of(box), box.in_flight) == (3, 0)


def test_where_the_normal_lane_does_not_count_the_high_one_still_does():
    box = full_box(high=2, normal=9, counts=False)
    assert (depth_of(box), box.waiting) == (2, 11)
    batch = box.take(1, 0)
    assert depth_of(box) == 2
    next(batch.iterator)
    assert depth_of(box) == 1


def test_a_mailbox_has_a_level_with_hysteresis():
    box = full_box(normal=5)
    box.measure(ROOM, 0, 1)
    assert box.rank == 1
    box.measure(ROOM, 4, 1)
    assert box.rank == 3, "what is on its way counts"
    box.take(1, 0)
    box.measure(ROOM, 0, 1)
    assert box.rank == 1


@pytest.mark.parametrize(
    ("waiting", "way", "slack", "is_aside"), [(5, 0, 4, False), (5, 0, 5, True), (3, 3, 4, True)]
)
def test_a_mailbox_is_looked_at_if_what_may_come_unasked_might_have_no_room(waiting, way, slack, is_aside):
    box = full_box(normal=waiting)
    assert box.aside, "before the first look"
    box.measure(ROOM, way, slack)
    assert box.aside is is_aside
    box.tighten()
    assert box.aside


def test_low_priority_events_have_no_room_in_the_reserve():
    box = full_box(high=2, normal=8)
    assert (box.room_left(ROOM, is_high=False), box.room_left(ROOM, is_high=True)) == (0, 0)
    box = full_box(normal=9)
    assert (box.room_left(ROOM, is_high=False), box.room_left(ROOM, is_high=True)) == (0, 1)
    box = full_box(high=4, normal=3)
    assert (box.room_left(ROOM, is_high=False), box.room_left(ROOM, is_high=True)) == (3, 3)


def test_a_mailbox_tells_when_fewer_wait_than_its_mark_says():
    box = full_box(normal=5)
    box.mark = 5
    assert not box.has_fallen()
    next(box.take(1, 0).iterator)
    assert box.has_fallen()


def test_a_released_batch_waits_again_without_an_attempt_counted():
    box = full_box(normal=3)
    batch = box.take(9, 0)
    next(batch.iterator)
    next(batch.iterator)
    box.release(batch)
    assert (box.normal.handled, box.open, box.in_flight) == (1, [], 0)
    again = box.take(9, 0)
    assert (again.events, again.attempts) == (["n1"], 0)
    assert box.take(9, 0).events == ["n2"]


def test_workers_whose_loop_has_gone_release_their_batches_in_order():
    box = full_box(normal=4)
    for _ in range(3):
        next(box.take(1, 0).iterator)
    for batch in list(box.open):
        box.release(batch)
    assert handled_in_order(box) == ["n0", "n1", "n2", "n3"]


def test_withdrawing_leaves_the_call_in_hand_alone():
    box = full_box(high=1, normal=3)
    batch = box.take(1, 0)
    next(batch.iterator)
    assert box.withdraw() == ["n0", "n1", "n2"]
    box.settle(batch)
    rows = [ledger_row("s", lane, box.open) for lane in (box.high, box.normal)]
    assert [(row.handled, row.withdrawn, row.balances) for row in rows] == [(1, 0, True), (0, 3, True)]


def test_a_bounded_lane_counts_what_its_mailbox_cuts_toward_the_limit():
    box = Mailbox(BoundedLane("normal", 2), gates=False)
    box.normal.push(["n0", "n1"], 0)
    batch = box.take(9, 0)
    box.normal.push(["n2"], 0)
    box.push_high(["h"], 0)
    box.settle(batch)
    assert handled_in_order(box) == ["h", "n1", "n2"]
    assert ledger_row("s", box.normal, []).balances


def test_an_open_batch_counts_as_a_whole_until_it_is_settled():
    box = Mailbox(Lane("normal"))
    box.normal.push(["n0", "n1", "n2"], 0, (10, 20, 30))
    batch = box.take(2, 0)
    next(batch.iterator)
    assert box.open_positions(box.normal, 2) == [(1, 10), (2, 20), (3, 30)]
    box.settle(batch)
    assert box.open_positions(box.normal, 2) == [(3, 30)]
    box.forget_positions()
    assert box.open_positions(box.normal, 2) == []
