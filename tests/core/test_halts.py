"""Which kill switches are active (CONTRACT 36), and the lane where those that wait are folded."""

from dataclasses import dataclass
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openoutcry.core.halts import NAMED_MOST, Halt, Halts, ids_of, is_release, scope_of
from openoutcry.core.ledger import ledger_row
from openoutcry.core.mailbox import Mailbox
from openoutcry.core.overflow import EACH_MOST, ControlLane


def a_halt(event_id: str, scope: str = "firm", since_ns: int = 1) -> Halt:
    return Halt(scope=scope, event_id=event_id, by="risk", reason="loss", since_ns=since_ns)


def pulled(*halts: Halt) -> Halts:
    found = Halts()
    for halt in halts:
        found.pull(halt)
    return found


def test_a_kill_switch_is_active_until_a_release_names_it():
    halts = pulled(a_halt("1"), a_halt("2"), a_halt("3", "ES"))
    assert halts.release("firm", ["1", "unknown"]) == (a_halt("1"),)
    assert halts.all() == (a_halt("2"), a_halt("3", "ES"))
    assert halts.release("firm", ["1"]) == ()


def test_a_release_that_names_nothing_ends_its_own_scope_and_no_other():
    halts = pulled(a_halt("1"), a_halt("2", "ES"), a_halt("3", "ES"))
    assert [halt.event_id for halt in halts.release("ES")] == ["2", "3"]
    assert halts.all() == (a_halt("1"),)
    assert [halt.event_id for halt in halts.release("firm")] == ["1"]
    assert (halts.all(), len(halts)) == ((), 0)


def test_a_release_ends_nothing_of_another_scope_whatever_it_names():
    halts = pulled(a_halt("1"), a_halt("2", "ES"))
    assert halts.release("ES", ["1"]) == ()
    assert len(halts) == 2


def test_the_whole_firm_concerns_every_scope():
    halts = pulled(a_halt("1"), a_halt("2", "ES"))
    assert halts.of("ES") == (a_halt("1"), a_halt("2", "ES"))
    assert halts.of("NQ") == halts.of("firm") == (a_halt("1"),)
    assert not pulled(a_halt("2", "ES")).of("firm")


def test_the_same_kill_switch_again_changes_nothing():
    halts = pulled(a_halt("1"), a_halt("1", "ES", since_ns=5))
    assert halts.all() == (a_halt("1"),)


def test_of_one_scope_so_many_are_kept_by_id_and_the_rest_as_one_that_only_the_scope_ends():
    halts = pulled(*(a_halt(str(number), since_ns=number) for number in range(NAMED_MOST + 500)))
    last = halts.all()[-1]
    assert len(halts.all()) == NAMED_MOST + 1
    assert (last.event_id, last.count, last.since_ns) == ("", 500, NAMED_MOST)
    assert len(halts) == NAMED_MOST + 500
    halts.release("firm", [str(number) for number in range(NAMED_MOST + 500)])
    assert halts.all() == (last,), "what has no id is named by no release"
    assert halts.release("firm") == (last,)
    assert not halts


def test_what_was_not_saved_yet_is_kept_when_a_journal_is_opened_again():
    halts = Halts()
    halts.load([a_halt("1"), a_halt("2")])
    assert not halts.has_unsaved
    halts.pull(a_halt("3"))
    halts.release("firm", ["1"])
    halts.load([a_halt("1"), a_halt("2")])
    assert {halt.event_id for halt in halts.all()} == {"2", "3"}
    assert halts.take_unsaved() == {("firm", "3"): a_halt("3"), ("firm", "1"): None}


def test_what_another_process_has_released_is_active_no_more():
    halts = Halts()
    halts.load([a_halt("1")])
    halts.load([])
    assert not halts.all()
    assert not halts.has_pulled("1")


def test_what_was_pulled_here_is_told_apart_from_what_an_earlier_life_has_left():
    halts = Halts()
    halts.load([a_halt("1"), a_halt("2")])
    halts.pull(a_halt("2"))
    halts.pull(a_halt("3"))
    assert [halts.has_pulled(one) for one in "1234"] == [False, True, True, False]
    halts.release("firm", ["3"])
    assert not halts.has_pulled("3")


def test_changes_that_could_not_be_saved_are_saved_later_but_for_what_has_changed_since():
    halts = Halts()
    halts.load([a_halt("0")])
    halts.pull(a_halt("1"))
    halts.release("firm", ["0"])
    taken = halts.take_unsaved()
    halts.release("firm", ["1"])
    halts.give_back([h for h in taken.values() if h], [place for place, h in taken.items() if h is None])
    assert halts.take_unsaved() == {("firm", "1"): None, ("firm", "0"): None}


def test_what_is_known_without_a_journal_is_saved_once_there_is_one():
    halts = pulled(a_halt("1"))
    assert not halts.has_unsaved
    halts.load([a_halt("2")])
    assert {halt.event_id for halt in halts.all()} == {"1", "2"}
    assert halts.take_unsaved() == {("firm", "1"): a_halt("1")}


# -- the lane ------------------------------------------------------------------------------------------------


@dataclass
class Switch:
    number: int
    scope: str = "firm"
    activated: bool = True
    releases: tuple[str, ...] = ()


class Plain:
    """A user's own kill switch, which says nothing."""


def test_a_switch_that_says_nothing_stops_the_whole_firm():
    assert (scope_of(Plain()), is_release(Plain()), ids_of(Plain())) == ("firm", False, ())


@pytest.fixture
def one_each(monkeypatch):
    """Of each scope one kill switch waits by itself."""
    monkeypatch.setattr("openoutcry.core.overflow.EACH_MOST", 1)


def waits(lane: ControlLane) -> list[int]:
    return [event.number for event in lane.waiting_events()]


@pytest.mark.usefixtures("one_each")
def test_the_newest_stands_for_its_scope():
    lane = ControlLane()
    for number, scope in enumerate(["firm", "ES", "firm", "firm", "ES"]):
        lane.push([Switch(number, scope)], 0)
    assert waits(lane) == [3, 4]
    row = ledger_row("x", lane, ())
    assert (row.accepted, row.conflated, row.waiting, row.balances) == (5, 3, 2, True)


@pytest.mark.usefixtures("one_each")
def test_nothing_is_folded_across_a_release_of_whatever_scope():
    lane = ControlLane()
    for number, (scope, activated) in enumerate(
        [("firm", True), ("ES", False), ("firm", True), ("firm", True), ("firm", False), ("firm", False)]
    ):
        lane.push([Switch(number, scope, activated)], 0)
    assert waits(lane) == [0, 1, 3, 4, 5]


@pytest.mark.usefixtures("one_each")
def test_what_a_worker_has_taken_is_not_folded_and_what_is_given_back_is_handled_first():
    lane = ControlLane()
    box = Mailbox(lane)
    lane.push([Switch(1)], 0)
    batch = box.take(1, 0)
    assert batch is not None
    next(batch.iterator)
    lane.push([Switch(2)], 0)
    lane.push([Switch(3)], 0)
    assert waits(lane) == [3]
    box.release(batch)
    assert waits(lane) == [1, 3]
    assert ledger_row("x", lane, box.open).balances


@pytest.mark.usefixtures("one_each")
def test_a_folded_switch_knows_what_stands_for_it():
    lane = ControlLane()
    pushed = []
    for number in range(3):
        lane.push([Switch(number)], 0)
        pushed.append(lane.newest)
    assert all(one is not None and one.final() is pushed[-1] for one in pushed)


@pytest.mark.usefixtures("one_each")
def test_positions_go_with_the_switch_that_has_them_and_may_be_filled_in_later():
    lane = ControlLane()
    place = [0]
    lane.push([Switch(1)], 0, [7])
    lane.push([Switch(2)], 0, place)
    place[0] = 9
    assert list(lane.open_runs(10)) == [(2, [9])]
    assert lane.settled_last == 1


def test_the_newest_of_a_scope_wait_each_by_itself():
    lane = ControlLane()
    for number in range(EACH_MOST + 3):
        lane.push([Switch(number)], 0)
    assert waits(lane) == list(range(3, EACH_MOST + 3))
    assert lane.conflated == 3


@pytest.mark.parametrize("count", [1, 100_000])
def test_however_many_are_published_a_bounded_number_per_scope_waits(count):
    lane = ControlLane()
    for number in range(count):
        lane.push([Switch(number, f"s-{number % 3}")], 0)
    assert lane.waiting == len(waits(lane)) == min(count, 3 * EACH_MOST)


@given(
    st.lists(st.tuples(st.sampled_from(["push", "take", "settle", "give back", "retry"]), st.integers(0, 3))),
    st.integers(1, 3),
)
def test_the_lane_balances_and_every_switch_is_handled_or_stood_for(steps, each_most):
    with patch("openoutcry.core.overflow.EACH_MOST", each_most):
        check_lane(steps, each_most)


def check_lane(steps, each_most):
    lane = ControlLane()
    box = Mailbox(lane)
    pushed, handled, number, batch = [], [], 0, None
    for step, choice in steps:
        if step == "push":
            number += 1
            event = Switch(number, f"s-{choice % 2}", activated=choice != 3)
            lane.push([event], 0)
            pushed.append((event, lane.newest))
        elif step == "take" and batch is None:
            batch = box.take(1, 0)
            if batch is not None:
                next(batch.iterator)
        elif batch is not None and step == "settle":
            handled.append(batch.events[0])
            box.settle(batch)
            batch = None
        elif batch is not None and step == "give back":
            box.release(batch)
            batch = None
        elif batch is not None and step == "retry":
            box.fail(batch)
            lane.retry(batch, 0, in_order=True)
            batch = None
        assert ledger_row("x", lane, box.open).balances
        scopes = [e.scope for e in lane.waiting_events() if e.activated]
        releases = sum(not e.activated for e in lane.waiting_events())
        assert len(scopes) <= 2 * each_most * (releases + 1) + 1
    left = [*lane.waiting_events(), *(batch.events if batch else ())]
    for event, switch in pushed:
        final = next(e for e, other in pushed if other is switch.final())
        assert any(final is one for one in (*handled, *left))
        assert final.scope == event.scope
        assert not any(
            event.number < other.number < final.number for other, _ in pushed if not other.activated
        )
