"""Lanes that let events go at the subscriber's word: which ones, and that each is counted."""

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from lane_model import LaneMachine, Model

from openoutcry.core.lanes import Batch
from openoutcry.core.ledger import ledger_row
from openoutcry.core.overflow import BoundedLane, ConflatingLane


class BoundedLaneMachine(LaneMachine):
    @initialize(limit=st.integers(1, 6))
    def a_limit(self, limit):
        self.model = Model(limit=limit)
        self.lane = BoundedLane("normal", limit)

    @invariant()
    def no_more_wait_than_were_asked_for(self):
        if self.model.limit is not None:
            held = sum(hand.batch.waiting for hand in self.model.hands)
            assert self.lane.waiting + held <= self.model.limit


TestBoundedLaneMachine = BoundedLaneMachine.TestCase
TestBoundedLaneMachine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


class Keyed:
    """An event with a key; some keys are of no use."""

    def __init__(self, position: int, key: object, *, placed: bool) -> None:
        self.position = position
        self.key = key
        self.placed = placed


def key_of(event: Keyed) -> object:
    if event.key == "raises":
        raise LookupError("no key")
    return [] if event.key == "unhashable" else event.key


class ConflatingLaneMachine(RuleBasedStateMachine):
    """Against a list of places, each held by the newest event of its key."""

    def __init__(self) -> None:
        super().__init__()
        self.lane = ConflatingLane("normal", key_of)
        self.places: list[Keyed] = []
        self.returned: list[tuple[Keyed, int, int]] = []
        self.hand: tuple[Batch, Keyed, int] | None = None
        self.fates: dict[int, str] = {}
        self.accepted = self.now_ns = self.unkeyed = 0

    def end(self, event: Keyed, fate: str) -> None:
        assert event.position not in self.fates
        self.fates[event.position] = fate

    @rule(
        keys=st.lists(st.sampled_from(["ES", "NQ", "CL", None, "raises", "unhashable"]), max_size=6),
        placed=st.booleans(),
    )
    def push(self, keys, placed):
        events = [Keyed(self.accepted + n, key, placed=placed) for n, key in enumerate(keys, 1)]
        self.accepted += len(keys)
        self.lane.push(events, self.now_ns, [10 * e.position for e in events] if placed else None)
        for event in events:
            self.unkeyed += event.key in ("raises", "unhashable")
            usable = event.key not in ("raises", "unhashable")
            old = next((p for p in self.places if usable and p.key == event.key), None)
            if old is None:
                self.places.append(event)
            else:
                self.end(old, "conflated")
                self.places[self.places.index(old)] = event

    @precondition(lambda self: self.hand is None)
    @rule(limit=st.integers(1, 5))
    def take(self, limit):
        batch = self.lane.take(limit, self.now_ns)
        if self.returned:
            event, attempts, due_ns = self.returned[0]
            if due_ns > self.now_ns:
                assert batch is None
                return
            self.returned.pop(0)
        elif self.places:
            event, attempts = self.places.pop(0), 0
        else:
            assert batch is None
            return
        assert batch is not None
        assert (batch.events, batch.first, batch.attempts) == ([event], event.position, attempts)
        assert batch.position == (10 * event.position if event.placed else 0)
        self.hand = (batch, event, attempts)

    @precondition(lambda self: self.hand is not None)
    @rule(how=st.sampled_from(["settle", "retry", "bury", "expire", "give back"]), wait_ns=st.integers(0, 4))
    def end_the_call(self, how, wait_ns):
        batch, event, attempts = self.hand
        self.hand = None
        if how == "expire":
            self.lane.expire(batch)
            return self.end(event, "expired")
        if how == "give back":
            self.lane.give_back(batch)
            return self.returned.insert(0, (event, attempts, 0))
        next(batch.iterator)
        if how == "settle":
            self.lane.settle(batch)
            return self.end(event, "handled")
        self.lane.settle_before_current(batch)
        if how == "bury":
            self.lane.bury(batch)
            return self.end(event, "dead_lettered")
        self.lane.retry(batch, self.now_ns + wait_ns, in_order=True)
        return self.returned.insert(0, (event, attempts + 1, self.now_ns + wait_ns))

    @rule(by=st.integers(1, 5))
    def time_passes(self, by):
        self.now_ns += by

    @rule(key=st.sampled_from(["ES", "raises", "every"]))
    def withdraw(self, key):
        which = None if key == "every" else lambda event: event.key == key
        gone = self.lane.withdraw(which)
        expected = [e for e, _, _ in self.returned if which is None or which(e)]
        expected += [e for e in self.places if which is None or which(e)]
        assert gone == expected
        for event in expected:
            self.end(event, "withdrawn")
        self.places = [e for e in self.places if e not in expected]
        self.returned = [r for r in self.returned if r[0] not in expected]

    @invariant()
    def everything_is_accounted_for(self):
        row = ledger_row("s", self.lane, [self.hand[0]] if self.hand else [])
        assert row.balances, row
        fates = Counter(self.fates.values())
        for fate in ("handled", "dead_lettered", "conflated", "overflowed", "expired", "withdrawn"):
            assert getattr(row, fate) == fates[fate]
        assert self.lane.waiting == len(self.places) + len(self.returned)
        assert list(self.lane.waiting_events()) == [e for e, _, _ in self.returned] + self.places
        assert self.lane.unkeyed == self.unkeyed

    @invariant()
    def what_waits_and_where_it_stands_is_read_off_the_lane(self):
        waiting = [e for e, _, _ in self.returned] + self.places
        found = [
            (number, position)
            for first, positions in self.lane.open_runs(0)
            for number, position in enumerate(positions, first)
        ]
        assert sorted(found) == sorted((e.position, 10 * e.position) for e in waiting if e.placed)
        numbers = {event.position for event in waiting}
        assert all(self.lane.has_waiting(n) == (n in numbers) for n in range(1, self.accepted + 2))
        assert self.lane.settled_last == max(self.fates, default=0)


TestConflatingLaneMachine = ConflatingLaneMachine.TestCase
TestConflatingLaneMachine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


def by_first_letter(event: str) -> str:
    return event[0]


def drain(lane: ConflatingLane | BoundedLane) -> list[object]:
    handled: list[object] = []
    while (batch := lane.take(100, 0)) is not None:
        handled += batch.iterator
        lane.settle(batch)
    return handled


def test_of_the_waiting_events_with_one_key_only_the_newest_is_kept():
    lane = ConflatingLane("normal", by_first_letter)
    lane.push(["a1", "b1", "a2"], 0)
    lane.push(["a3"], 0)
    assert (lane.accepted, lane.waiting, lane.conflated) == (4, 2, 2)
    assert drain(lane) == ["a3", "b1"]
    assert lane.settled_last == 4


def test_the_busiest_key_keeps_its_place_in_the_queue():
    lane = ConflatingLane("normal", by_first_letter)
    lane.push(["a1", "b1", "c1", "a2", "b2"], 0)
    assert drain(lane) == ["a2", "b2", "c1"]


def test_what_a_worker_has_in_hand_is_not_replaced_any_more():
    lane = ConflatingLane("normal", by_first_letter)
    lane.push(["a1"], 0)
    batch = lane.take(9, 0)
    lane.push(["a2"], 0)
    assert (batch.events, lane.conflated, lane.waiting) == (["a1"], 0, 1)


def test_a_conflated_lane_hands_over_one_at_a_time_so_that_the_rest_can_still_be_replaced():
    lane = ConflatingLane("normal", by_first_letter)
    lane.push(["a1", "b1"], 0)
    assert lane.take(100, 0).events == ["a1"]


def test_a_failed_event_is_tried_again_before_its_successor():
    lane = ConflatingLane("normal", by_first_letter)
    lane.push(["a1", "b1"], 0)
    batch = lane.take(9, 0)
    next(batch.iterator)
    lane.settle_before_current(batch)
    lane.push(["a2"], 0)
    lane.retry(batch, 10, in_order=True)
    assert lane.take(9, 9) is None
    assert [lane.take(9, 10).events for _ in range(3)] == [["a1"], ["b1"], ["a2"]]


def test_a_key_that_raises_loses_no_event_and_stops_no_delivery():
    lane = ConflatingLane("normal", lambda event: {"a": 1}[event])
    lane.push(["a", "x", "a", "x"], 0)
    assert (lane.accepted, lane.waiting, lane.conflated, lane.unkeyed) == (4, 3, 1, 2)
    assert drain(lane) == ["a", "x", "x"]
    assert ledger_row("s", lane, []).balances


def test_a_key_that_cannot_be_hashed_says_what_is_wrong_and_what_to_do():
    lane = ConflatingLane("normal", lambda event: [event])
    lane.push(["a", "a"], 0)
    assert lane.waiting == 2
    assert "str" in lane.key_error
    assert "unhashable" in lane.key_error
    assert "hashable for every event" in lane.key_error


def test_a_key_error_of_the_interpreter_s_own_kind_is_not_swallowed():
    def interrupted(_):
        raise KeyboardInterrupt

    lane = ConflatingLane("normal", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lane.push(["a"], 0)


def nobody(_event: str) -> bool:
    return False


def everybody(_event: str) -> bool:
    return True


def test_a_replacement_needs_no_room_so_a_full_mailbox_still_gets_the_newest():
    lane = ConflatingLane("normal", by_first_letter)
    lane.push(["a1", "b1"], 0)
    assert lane.room_for(["c1", "a2", "b2", "c2"]) == 1
    divided = lane.divide(["c1", "a2", "b2", "c2"], 1, nobody)
    assert (divided.kept, divided.gone, divided.refused) == (["a2", "b2"], [], ["c1", "c2"])
    assert lane.divide(["c1", "d1", "a2"], 1, everybody).gone == ["c1"]


def test_a_useless_key_finds_no_room_where_there_is_none():
    lane = ConflatingLane("normal", lambda event: [event])
    assert lane.room_for(["a", "b"]) == 2
    assert len(lane.divide(["a", "b"], 1, nobody).refused) == 1


def test_of_the_newest_events_per_key_the_oldest_goes_and_never_one_of_the_journal():
    lane = ConflatingLane("normal", by_first_letter)
    lane.push(["a1", "b1", "c1"], 0)
    lane.push(["d1"], 0, [7])
    assert lane.shed(1, everybody) == ["a1"]
    assert lane.shed(9, lambda event: event != "b1") == ["c1"]
    assert (lane.waiting, lane.overflowed) == (2, 2)
    assert drain(lane) == ["b1", "d1"]
    assert ledger_row("s", lane, []).balances


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 10])
def test_the_oldest_make_room_for_the_newest_and_are_counted(limit):
    lane = BoundedLane("normal", limit)
    lane.push(list(range(25)), 0)
    assert (lane.waiting, lane.overflowed, lane.settled_last) == (limit, 25 - limit, 25 - limit)
    assert drain(lane) == list(range(25))[-limit:]
    assert lane.settled_last == 25


def test_what_a_worker_holds_but_has_not_begun_makes_room_first():
    lane = BoundedLane("normal", 3)
    lane.push([1, 2, 3], 0)
    batch = lane.take(9, 0)
    called = []
    for event in batch.iterator:
        called.append(event)
        lane.push([4, 5], 0)
    assert called == [1], "events in hand that are too old are not handled"
    lane.settle(batch)
    assert (lane.overflowed, lane.waiting) == (1, 3)
    assert drain(lane) == [3, 4, 5]


def test_a_held_retry_is_the_oldest_and_goes_first_when_room_is_needed():
    lane = BoundedLane("normal", 2)
    lane.push([1, 2], 0)
    batch = lane.take(1, 0)
    next(batch.iterator)
    lane.settle_before_current(batch)
    lane.retry(batch, 10**15, in_order=True)
    assert lane.take(1, 0) is None
    lane.push([3], 0)
    assert (lane.overflowed, lane.due_ns()) == (1, None)
    assert drain(lane) == [2, 3], "nobody waits for the time of an event that is gone"


def test_a_parked_retry_is_dropped_before_newer_events_are():
    lane = BoundedLane("normal", 2)
    lane.push([1], 0)
    batch = lane.take(1, 0)
    next(batch.iterator)
    lane.settle_before_current(batch)
    lane.retry(batch, 10**15, in_order=False)
    lane.push([2, 3], 0)
    assert (lane.overflowed, lane.due_ns()) == (1, None)
    assert drain(lane) == [2, 3]


def test_a_retry_that_finds_its_lane_full_of_newer_events_gives_way_to_them():
    lane = BoundedLane("normal", 1)
    lane.push([1], 0)
    batch = lane.take(1, 0)
    next(batch.iterator)
    lane.push([2], 0)
    lane.settle_before_current(batch)
    lane.retry(batch, 0, in_order=True)
    assert (lane.waiting, lane.overflowed) == (1, 1)
    assert drain(lane) == [2]


def test_of_the_waiting_events_with_one_key_the_newest_stands_where_it_stands():
    lane = ConflatingLane("normal", by_first_letter)
    lane.push(["a1", "b1", "a2"], 0, (10, 20, 30))
    lane.push(["b2"], 0)
    assert list(lane.open_runs(0)) == [(3, (30,))]
    lane.forget_positions()
    assert [lane.take(9, 0).positions for _ in range(2)] == [None, None]


def test_what_made_room_for_newer_events_is_not_open():
    lane = BoundedLane("normal", 2)
    lane.push([1, 2, 3], 0, (10, 20, 30))
    lane.push([4], 0, (40,))
    assert [(first, list(positions)) for first, positions in lane.open_runs(9)] == [(3, [30]), (4, [40])]
