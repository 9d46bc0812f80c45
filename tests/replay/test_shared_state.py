"""Agents with several subscriptions, or of which one takes the newest only: the order of the day is kept."""

from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from bus_helpers import an_order
from replayed_firm import record
from shared_state_firm import TICKS, Makers

from openoutcry.core.lanes import Lane
from openoutcry.core.overflow import BoundedLane, ConflatingLane
from openoutcry.journals import Recording
from openoutcry.replay.change import change_of
from openoutcry.replay.day import read_day
from openoutcry.replay.engine import control_here, replay_here, what_if_here
from openoutcry.replay.taking import GIVE_WAY_MOST, Pace, PlayedLane, PlayedMailbox, Step


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shared") / "day.db"
    record(path, Makers)
    return path


def test_the_day_is_one_that_needs_it(day: Path) -> None:
    """A call goes on with a batch after the other subscription's had come in between, and events were let go."""
    with Recording(day) as recording:
        (run,) = recording.runs
        fills, ticks = run.calls("maker.fills"), run.calls("maker.ticks")
        numbers = [call.number for call in run.calls("newest")]
        failed = [call for call in run.calls("divides") if call.error == "InvalidEvent"]
    between = {sum(tick.order < fill.order for tick in ticks) for fill in fills}
    assert len(between) > 1
    assert len(numbers) < TICKS, "a newer one takes the place of what it replaces"
    assert failed


def test_every_agent_does_the_same(day: Path) -> None:
    found = replay_here(read_day(day), Makers, "makers")
    assert found.differences == ()
    assert found.identical
    assert found.limits == ()
    assert found.replayed == found.recorded


def test_who_is_touched_in_one_subscription_is_in_all(day: Path) -> None:
    control, known = control_here(read_day(day), Makers, "makers")
    assert control.identical
    change = change_of(silence=["customer"])
    found = what_if_here(read_day(day), Makers, "makers", change, control=control, known=known)
    assert found.effects is not None
    assert set(found.effects.touched) >= {"maker.fills", "maker.ticks"}
    assert "newest" not in found.effects.touched
    assert not any("still waited" in limit for limit in found.limits), "who is touched goes on"
    assert found.effects.decisions["size"] > 100, "it holds nothing, so it quotes otherwise"
    assert found.effects.compares == "decision"
    assert found.effects.events["other"] >= found.effects.decisions["size"]
    assert found.effects.decisions["new"] == found.effects.decisions["gone"] == 0


def test_a_lane_hands_over_what_it_is_asked_for_and_keeps_no_retry_that_the_day_had_not() -> None:
    lane = PlayedLane("normal", {"a", "b", "c"}, lambda event_id: event_id == "b")
    events = [an_order(event_id=event_id) for event_id in "xabc"]
    lane.push(events, 0, (1, 2, 3, 4))
    assert (lane.waiting, lane.overflowed) == (3, 1)
    taken = lane.take_this("c", 0)
    assert taken is not None
    assert (taken.events[0].event_id, taken.positions) == ("c", (4,))
    assert lane.take_this("c", 0) is None
    again = lane.take_this("b", 0)
    assert again is not None
    lane.retry(again, 50, in_order=True)
    assert lane.take_this("b", 49) is None
    assert lane.take_this("b", 50) is not None
    last = lane.take_this("a", 50)
    assert last is not None
    lane.retry(last, 60, in_order=False)
    assert (lane.waiting, lane.expired) == (0, 1)


def test_a_lane_that_goes_freely_lets_go_what_its_subscription_asks_for() -> None:
    def lane_like(own: Lane) -> PlayedLane:
        lane = PlayedLane("normal", {"a", "b", "c"}, lambda _: False, own)
        lane.push([an_order(event_id="a"), an_order(event_id="b"), an_order(event_id="c")], 0)
        lane.go_freely()
        return lane

    conflating = lane_like(ConflatingLane("normal", lambda event: event.event_id in "bd"))
    assert [event.event_id for event in conflating.waiting_events()] == ["c", "b"]
    conflating.push([an_order(event_id="d")], 0)
    assert [event.event_id for event in conflating.waiting_events()] == ["c", "d"]
    assert (conflating.waiting, conflating.conflated) == (2, 2)
    bounded = lane_like(BoundedLane("normal", 3))
    bounded.push([an_order(event_id="d")], 0)
    assert [event.event_id for event in bounded.waiting_events()] == ["b", "c", "d"]
    assert (bounded.waiting, bounded.overflowed) == (3, 1)


def test_a_mailbox_waits_for_the_retry_that_the_tape_names_and_for_no_other() -> None:
    now = [0]
    pace = Pace(lambda: now[0], lambda _at_ns, _call: None)
    steps = [Step("normal", one, attempt, 0, 0) for attempt in (1, 2) for one in "ab"]
    box = PlayedMailbox("llm", Lane("normal"), pace, steps, {})
    box.normal.push([an_order(event_id="a"), an_order(event_id="b")], 0)
    for due_ns in (90, 50):
        batch = box.take(1, 0)
        assert batch is not None
        box.fail(batch)
        batch.lane.retry(batch, due_ns, in_order=False)
    assert box.take(1, 60) is None
    assert box.due_ns() == 90
    assert [box.take(1, 90).events[0].event_id for _ in "ab"] == ["a", "b"]


def late_mailboxes(count: int) -> tuple[int, list[int]]:
    """Have mailboxes take what all of them are late for; return the looks at others, and who took when."""
    looks, taken = 0, list[int]()
    calls: deque[Callable[[], object]] = deque()
    pace = Pace(lambda: 1_000, lambda _at_ns, call: calls.append(call))

    class Watched(PlayedMailbox):
        __slots__ = ()

        def may_begin(self, now_ns: int) -> bool:
            nonlocal looks
            looks += 1
            return super().may_begin(now_ns)

    def take(number: int) -> None:
        if boxes[number].take(1, 1_000) is not None:
            taken.append(number)

    steps = [Step("normal", "a", 1, 0, 0, order=number + 1) for number in range(count)]
    boxes = [Watched(f"box-{n}", Lane("normal"), pace, [step], {}) for n, step in enumerate(steps)]
    for number, box in enumerate(boxes):
        box.normal.push([an_order(event_id="a")], 0)
        box.wake = partial(calls.append, partial(take, number))
    calls.extend(partial(take, number) for number in reversed(range(count)))
    while calls:
        calls.popleft()()
    return looks, taken


def test_mailboxes_that_are_late_take_in_the_order_of_the_day() -> None:
    looks, taken = late_mailboxes(5)
    assert taken == [0, 1, 2, 3, 4]
    assert looks > 0


def test_how_often_a_late_mailbox_looks_at_others_does_not_depend_on_their_number() -> None:
    looks, taken = late_mailboxes(200)
    assert sorted(taken) == list(range(200))
    assert looks <= (GIVE_WAY_MOST + 1) * 200
