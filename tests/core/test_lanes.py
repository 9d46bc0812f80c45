"""Lanes: order, counts and the private lists of the workers."""

import pytest
from hypothesis import settings
from lane_model import LaneMachine

from openoutcry.core.lanes import Batch, Lane
from openoutcry.core.ledger import ledger_row

TestLaneMachine = LaneMachine.TestCase
TestLaneMachine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


def lane_of(*events: object) -> Lane:
    lane = Lane("normal")
    lane.push(list(events), 10)
    return lane


def take(lane: Lane, limit: int = 100, now_ns: int = 0) -> Batch:
    batch = lane.take(limit, now_ns)
    assert batch is not None
    return batch


def fail(lane: Lane, batch: Batch) -> None:
    if not batch.begun:
        next(batch.iterator)
    lane.settle_before_current(batch)


def test_an_empty_lane_hands_over_nothing():
    assert Lane("normal").take(1, 0) is None


def test_pushing_nothing_changes_nothing():
    lane = lane_of()
    assert (lane.accepted, lane.waiting, lane.take(1, 0)) == (0, 0, None)


def begin(batch: Batch, count: int) -> None:
    for _ in range(count):
        next(batch.iterator)


def cut(lane: Lane, batch: Batch) -> None:
    begin(batch, 2)
    lane.give_back(batch)


def retried(lane: Lane, batch: Batch) -> None:
    begin(batch, 2)
    lane.settle_before_current(batch)
    lane.retry(batch, 0, in_order=True)


def buried_at_the_last(lane: Lane, batch: Batch) -> None:
    begin(batch, 4)
    lane.settle_before_current(batch)
    lane.bury(batch)


def expired(lane: Lane, batch: Batch) -> None:
    lane.expire(batch)


def withdrawn(lane: Lane, batch: Batch) -> None:
    lane.give_back(batch)
    lane.withdraw(lambda event: event % 2 == 0)


@pytest.mark.parametrize("limit", [3, 4, 100])
@pytest.mark.parametrize("end", [cut, retried, buried_at_the_last, expired, withdrawn])
def test_lanes_that_were_given_the_same_list_do_not_disturb_each_other(end, limit):
    events = [1, 2, 3, 4]
    lane, other = Lane("normal"), Lane("normal")
    lane.push(events, 0)
    other.push(events, 0)
    batch, undisturbed = take(lane, limit), take(other)
    begin(undisturbed, 1)
    if end is not buried_at_the_last or limit > 3:
        end(lane, batch)
    assert events == [1, 2, 3, 4]
    assert (undisturbed.current, undisturbed.waiting) == (1, 3)
    assert list(undisturbed.iterator) == [2, 3, 4]
    other.settle(undisturbed)
    assert (other.handled, other.settled_last) == (4, 4)


def test_a_batch_carries_when_its_events_were_admitted():
    lane = lane_of("a")
    lane.push(["b"], 20)
    assert [take(lane).admitted_ns, take(lane).admitted_ns] == [10, 20]


def test_before_the_first_call_nothing_is_current():
    batch = take(lane_of("a", "b"))
    assert (batch.current, batch.begun, batch.waiting) == (None, 0, 2)


def test_how_far_a_worker_has_come_is_read_off_its_iterator():
    batch = take(lane_of("a", "b", "c"))
    seen = [(batch.current, batch.begun, batch.waiting) for _ in batch.iterator]
    assert seen == [("a", 1, 2), ("b", 2, 1), ("c", 3, 0)]
    assert (batch.current, batch.begun, batch.waiting) == ("c", 3, 0)


def test_a_loop_over_a_batch_that_is_cut_ends_after_the_call_in_hand():
    lane = lane_of("a", "b", "c", "d")
    batch = take(lane)
    called = []
    for event in batch.iterator:
        called.append(event)
        if event == "b":
            lane.give_back(batch)
            lane.give_back(batch)  # twice is harmless
    assert called == ["a", "b"]
    lane.settle(batch)
    assert (lane.handled, lane.settled_last) == (2, 2)
    assert take(lane).events == ["c", "d"]


def test_a_batch_that_is_cut_at_its_last_event_still_counts_it_as_in_flight():
    lane = lane_of("a")
    batch = take(lane)
    next(batch.iterator)
    lane.give_back(batch)
    assert (batch.begun, batch.waiting, batch.current) == (1, 0, "a")


def test_a_batch_that_is_cut_before_its_first_call_is_empty_and_settles_nothing():
    lane = lane_of("a", "b")
    batch = take(lane)
    lane.give_back(batch)
    assert list(batch.iterator) == []
    lane.settle(batch)
    assert (lane.handled, lane.waiting, lane.settled_last) == (0, 2, 0)


def test_what_is_given_back_comes_before_everything_that_waits():
    lane = lane_of("a", "b", "c")
    batch = take(lane, 2)
    lane.push(["d"], 20)
    next(batch.iterator)
    lane.give_back(batch)
    assert [take(lane, 1).events for _ in range(3)] == [["b"], ["c"], ["d"]]


def test_workers_that_give_back_in_any_order_leave_the_lane_in_order():
    lane = lane_of(1, 2, 3, 4, 5)
    batches = [take(lane, 1) for _ in range(4)]
    for batch in (batches[0], batches[3], batches[1], batches[2]):
        lane.give_back(batch)
    assert list(lane.waiting_events()) == [1, 2, 3, 4, 5]


def test_a_failed_event_holds_its_lane_until_its_time_and_then_goes_first():
    lane = lane_of("a", "b", "c")
    batch = take(lane)
    fail(lane, batch)
    lane.retry(batch, 100, in_order=True)
    assert lane.take(9, 99) is None
    assert lane.due_ns() == 100
    again = take(lane, 9, 100)
    assert (again.events, again.attempts, again.admitted_ns) == (["a"], 1, 10)
    assert lane.due_ns() is None
    assert take(lane, 9, 100).events == ["b", "c"]


def test_a_failure_in_the_middle_settles_those_before_and_returns_those_after():
    lane = lane_of("a", "b", "c", "d")
    batch = take(lane)
    next(batch.iterator)
    next(batch.iterator)
    lane.settle_before_current(batch)
    assert (batch.events, batch.first, lane.handled, lane.settled_last) == (["b"], 2, 1, 1)
    lane.bury(batch)
    assert take(lane).events == ["c", "d"]


def test_a_failure_before_the_first_call_is_put_down_to_the_first_event():
    lane = lane_of("a", "b")
    batch = take(lane)
    lane.settle_before_current(batch)
    assert batch.events == ["a"]
    lane.bury(batch)
    assert ledger_row("s", lane, []).balances


def test_attempts_are_counted_up_and_kept_when_a_retry_is_given_back_unbegun():
    lane = lane_of("a")
    for expected in range(4):
        batch = take(lane)
        assert batch.attempts == expected
        lane.give_back(batch)
        batch = take(lane)
        assert batch.attempts == expected
        fail(lane, batch)
        lane.retry(batch, 0, in_order=True)


def test_a_retry_that_may_be_overtaken_lets_the_others_go_on():
    lane = lane_of("a", "b", "c")
    batch = take(lane, 1)
    fail(lane, batch)
    lane.retry(batch, 100, in_order=False)
    assert take(lane, 1, 50).events == ["b"]
    assert take(lane, 1, 100).events == ["a"]
    assert take(lane, 1, 100).events == ["c"]


def test_retries_that_may_be_overtaken_come_back_by_their_time_and_then_by_age():
    lane = lane_of(1, 2, 3)
    for due_ns in (30, 20, 20):
        batch = take(lane, 1)
        fail(lane, batch)
        lane.retry(batch, due_ns, in_order=False)
    assert lane.due_ns() == 20
    assert [take(lane, 1, 40).events for _ in range(3)] == [[2], [3], [1]]


def test_two_retries_held_at_once_each_keep_their_own_time():
    lane = lane_of(1, 2, 3)
    first, second = take(lane, 1), take(lane, 1)
    for batch, due_ns in ((second, 50), (first, 10)):
        fail(lane, batch)
        lane.retry(batch, due_ns, in_order=True)
    assert take(lane, 9, 10).events == [1]
    assert lane.take(9, 49) is None, "the second one's wait was not forgotten with the first one's"
    assert take(lane, 9, 50).events == [2]


def test_a_held_retry_is_not_passed_by_what_another_worker_gives_back():
    lane = lane_of(1, 2, 3, 4)
    first, second = take(lane, 2), take(lane, 2)
    fail(lane, first)
    lane.retry(first, 10, in_order=True)
    lane.give_back(second)
    assert lane.take(9, 9) is None
    assert list(lane.waiting_events()) == [1, 2, 3, 4]


def test_withdrawing_a_held_retry_sets_those_behind_it_free():
    lane = lane_of(1, 2)
    batch = take(lane)
    fail(lane, batch)
    lane.retry(batch, 10**18, in_order=True)
    assert lane.withdraw(lambda event: event == 1) == [1]
    assert lane.due_ns() is None
    assert take(lane).events == [2]


def test_withdrawing_those_behind_a_held_retry_leaves_it_held():
    lane = lane_of(1, 2)
    batch = take(lane)
    fail(lane, batch)
    lane.retry(batch, 100, in_order=True)
    assert lane.withdraw(lambda event: event == 2) == [2]
    assert lane.take(9, 99) is None
    assert take(lane, 9, 100).attempts == 1


def test_withdrawing_from_the_middle_keeps_the_numbers_of_the_rest():
    lane = lane_of(1, 2, 3, 4, 5)
    assert lane.withdraw(lambda event: event in (2, 4)) == [2, 4]
    firsts = []
    while (batch := lane.take(9, 0)) is not None:
        firsts.append((batch.first, batch.events))
        for _ in batch.iterator:
            pass
        lane.settle(batch)
    assert firsts == [(1, [1]), (3, [3]), (5, [5])]
    assert (lane.settled_last, lane.handled, lane.withdrawn) == (5, 3, 2)


def odd(number: int) -> bool:
    return number % 2 == 1


def test_of_what_waits_the_oldest_that_may_go_goes_also_from_the_middle():
    lane = lane_of(1, 2, 3, 4, 5)
    assert lane.shed(1, odd) == [1]
    assert lane.shed(1, odd) == [3]
    assert (lane.waiting, lane.overflowed) == (3, 2)
    assert lane.shed(9, odd) == [5]
    assert lane.shed(9, odd) == []
    lane.push([7, 8], 0)
    assert lane.shed(9, odd) == [7]
    assert take(lane).events == [2]
    assert ledger_row("s", lane, []).waiting == 2


def test_what_comes_back_may_go_again_and_what_is_in_the_journal_never():
    lane = lane_of(1, 2, 3)
    batch = take(lane)
    assert lane.shed(9, odd) == []
    lane.give_back(batch)
    lane.push([5, 7], 0, [1, 2])
    assert lane.shed(9, odd) == [1, 3]


def test_where_there_is_no_room_those_that_may_go_go_before_others_become_dead_letters():
    lane = lane_of(1)
    divided = lane.divide([2, 3, 4, 5], 3, odd)
    assert (divided.kept, divided.gone, divided.refused) == ([2], [3, 5], [4])
    lane.push(divided.kept, 0)
    lane.overflow(2)
    lane.refuse(1)
    assert (lane.accepted, lane.waiting, lane.overflowed, lane.dead_lettered) == (5, 2, 2, 1)
    assert ledger_row("s", lane, []).balances
    assert lane.divide([6], 9, odd).refused == [6]


def test_thousands_of_events_that_stay_do_not_slow_down_those_that_go():
    lane, asked = Lane("normal"), []

    def may_go(number: int) -> bool:
        asked.append(number)
        return number % 2 == 1

    for number in range(1, 4_001):
        lane.push([number], 0)
        if odd(number):
            assert lane.shed(1, may_go) == [number]
    assert lane.waiting == 2_000
    assert len(asked) < 3 * 4_000, "each is asked once"


@pytest.mark.parametrize("begun", [1, 2, 4])
def test_a_batch_that_keeps_what_was_begun_ends_the_loop_over_it_and_leaves_a_shared_list_as_it_was(begun):
    shared, own = take(lane_of(1, 2, 3, 4)), take(lane_of(1, 2, 3, 4, 5), 4)
    events = shared.events
    assert (shared.is_shared, own.is_shared) == (True, False)
    for batch in (shared, own):
        called = []
        for event in batch.iterator:
            called.append(event)
            if event == begun:
                batch.keep(begun)
        assert called == list(range(1, begun + 1))
        assert (batch.events, batch.begun, batch.waiting, batch.current) == (called, begun, 0, begun)
    assert events == [1, 2, 3, 4]


def test_a_batch_that_was_cut_once_may_be_cut_again_without_touching_the_shared_list():
    events = [1, 2, 3]
    lane = Lane("normal")
    lane.push(events, 0)
    batch = take(lane)
    begin(batch, 2)
    batch.keep(2)
    assert not batch.is_shared
    assert batch.events is not events
    batch.keep(1)
    assert (batch.events, batch.begun, batch.waiting) == ([1], 1, 0)
    assert events == [1, 2, 3]


def test_a_list_that_is_taken_whole_is_not_copied_and_one_that_is_not_is():
    events = [1, 2, 3]
    whole, part = Lane("normal"), Lane("normal")
    whole.push(events, 0)
    part.push(events, 0)
    assert take(whole, 3).events is events
    first, rest = take(part, 2), take(part, 2)
    assert (first.events, rest.events) == ([1, 2], [3])
    assert not first.is_shared
    assert not rest.is_shared


@pytest.mark.parametrize("in_order", [True, False])
def test_the_untried_are_those_that_wait_and_never_failed(in_order):
    lane = lane_of(1, 2, 3, 4)
    assert lane.untried == 4
    batch = take(lane, 1)
    assert lane.untried == 3
    fail(lane, batch)
    lane.retry(batch, 100, in_order=in_order)
    assert (lane.waiting, lane.untried) == (4, 3)
    assert lane.withdraw(lambda event: event < 3) == ([1, 2] if in_order else [2, 1])
    assert (lane.waiting, lane.untried) == (2, 2)
    lane.withdraw()
    assert (lane.waiting, lane.untried) == (0, 0)


def test_a_retry_that_is_taken_and_given_back_is_still_no_first_attempt():
    lane = lane_of(1)
    batch = take(lane)
    fail(lane, batch)
    lane.retry(batch, 0, in_order=True)
    lane.give_back(take(lane))
    assert (lane.waiting, lane.untried) == (1, 0)


def test_the_positions_of_a_list_that_is_taken_whole_are_not_copied_and_part_of_them_goes_with_a_part():
    events, positions = [1, 2, 3], (10, 20, 30)
    whole, part = Lane("normal"), Lane("normal")
    whole.push(events, 0, positions)
    part.push(events, 0, positions)
    assert take(whole).positions is positions
    first = take(part, 2)
    assert (first.positions, take(part).positions) == ((10, 20), (30,))
    begin(first, 1)
    part.give_back(first)
    assert (first.positions, take(part).positions) == ((10,), (20,))


def test_a_position_that_is_told_late_reaches_the_event_wherever_it_is_by_then():
    lane, other, late = Lane("control"), Lane("control"), [0]
    lane.push(["kill"], 0, late)
    other.push(["kill"], 0, late)
    batch = take(lane)
    lane.give_back(batch)
    batch = take(lane)
    fail(lane, batch)
    lane.retry(batch, 0, in_order=False)
    lane.withdraw(lambda event: event != "kill")
    batch = take(lane)
    assert (batch.position, list(other.open_runs(9))) == (0, [(1, [0])])
    late[0] = 7
    assert (batch.position, list(other.open_runs(9))) == (7, [(1, [7])])


def test_in_a_lane_that_settles_in_order_only_its_head_is_looked_at():
    lane = Lane("normal")
    for number in range(1, 1001):
        lane.push([number], 0, (10 * number,))
    assert list(lane.open_runs(0)) == [(1, (10,))]
    lane.settle(take(lane, 1))
    assert list(lane.open_runs(lane.settled_last)) == [(2, (20,))]


@pytest.mark.parametrize("in_order", [True, False])
def test_what_waits_when_another_journal_takes_over_stands_nowhere_any_more(in_order):
    lane = Lane("normal")
    lane.push([1, 2, 3], 0, (10, 20, 30))
    batch = take(lane, 1)
    fail(lane, batch)
    lane.retry(batch, 0, in_order=in_order)
    lane.forget_positions()
    assert list(lane.open_runs(9)) == []
    assert [take(lane, 1).positions for _ in range(3)] == [None, None, None]


def test_what_becomes_of_a_retry_changes_nothing_for_the_call_that_is_abandoned():
    """It goes on, and its batch says what it is about."""
    lane = lane_of("a", "b")
    first = take(lane)
    next(first.iterator)
    fail(lane, first)
    lane.retry(first, 5, in_order=False)
    take(lane)
    again = take(lane, now_ns=5)
    lane.give_back(again)
    assert (first.events, first.current) == (["a"], "a")
    assert again.current is None
    assert list(lane.waiting_events()) == ["a"]
