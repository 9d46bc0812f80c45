"""The offsets of a durable subscription, without a bus: what is saved never passes what is settled."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from openoutcry.core.lanes import Batch, Lane
from openoutcry.core.mailbox import Mailbox
from openoutcry.core.overflow import BoundedLane, ConflatingLane, SupersedingLane
from openoutcry.core.recall import merged
from openoutcry.runtime.delivery.offsets import LAST, UNSAVED_MOST, LaneOffsets, Offsets, without


class Watched:
    """What cursors are saved with."""

    def __init__(self) -> None:
        self.noted: list[Offsets] = []
        self.saves = 0
        self.held: list[bool] = []

    def note(self, offsets: Offsets) -> None:
        self.noted.append(offsets)

    def save_soon(self) -> None:
        self.saves += 1

    def can_save(self) -> bool:
        return True


def some_offsets(floor: int = 0) -> tuple[Offsets, Watched]:
    watched, box, control = Watched(), Mailbox(Lane("normal")), Mailbox(Lane("control"))
    lanes = (
        LaneOffsets(control, control.normal, floor),
        LaneOffsets(box, box.high, floor),
        LaneOffsets(box, box.normal, floor),
    )
    return Offsets("risk", ("order",), lanes, watched, watched.held.append), watched


def lane_offsets(floor: int, skip: tuple[tuple[int, int], ...]) -> LaneOffsets:
    box = Mailbox(Lane("normal"))
    return LaneOffsets(box, box.normal, floor, skip)


def hand(offsets: LaneOffsets, *positions: int) -> None:
    offsets.lane.push([f"event {position}" for position in positions], 0, positions)


def take(offsets: LaneOffsets, count: int) -> Batch:
    batch = offsets._mailbox.take(count, 0)
    assert batch is not None
    assert batch.lane is offsets.lane
    return batch


def settle(offsets: LaneOffsets, batch: Batch) -> None:
    offsets._mailbox.settle(batch)


def test_merged_joins_what_touches_or_overlaps():
    assert merged([(5, 6), (1, 2), (3, 4), (9, 9), (6, 7)]) == [(1, 7), (9, 9)]
    assert merged([]) == []


def test_a_lane_that_has_settled_everything_stands_where_all_was_released():
    offsets, _ = some_offsets()
    hand(offsets.normal, 3, 7)
    settle(offsets.normal, take(offsets.normal, 2))
    assert offsets.normal.state(20) == (20, ())


def test_the_floor_is_just_below_the_first_that_is_open():
    offsets, _ = some_offsets()
    hand(offsets.normal, 3, 7, 9)
    settle(offsets.normal, take(offsets.normal, 1))
    assert offsets.normal.state(20) == (6, ())


def test_what_is_settled_above_the_floor_is_kept_as_stretches():
    offsets, _ = some_offsets()
    hand(offsets.normal, 3, 7, 9, 12)
    first = take(offsets.normal, 1)
    settle(offsets.normal, take(offsets.normal, 2))
    assert offsets.normal.state(20) == (2, ((4, 11),)), "nothing else up to the next open one is the lane's"
    settle(offsets.normal, first)
    assert offsets.normal.state(20) == (11, ())


def test_a_lane_that_is_behind_stands_where_it_has_read_to():
    offsets, _ = some_offsets(4)
    offsets.normal.behind = True
    assert offsets.normal.state(100) == (4, ())
    hand(offsets.normal, 5, 6)
    offsets.normal.read_upto = 6
    assert offsets.normal.state(100) == (4, ())
    settle(offsets.normal, take(offsets.normal, 2))
    assert offsets.normal.state(100) == (6, ())


def test_a_lane_wants_what_it_has_not_read_and_had_not_settled():
    offsets = lane_offsets(10, ((13, 14), (20, 20)))
    assert [p for p in range(8, 24) if offsets.wants(p)] == [11, 12, 15, 16, 17, 18, 19, 21, 22, 23]
    offsets.note_settled(15)
    assert not offsets.wants(15)


def test_stretches_of_an_earlier_life_are_kept_until_the_floor_has_passed_them():
    offsets = lane_offsets(10, ((13, 14), (20, 20)))
    offsets.behind = True
    assert offsets.state(99) == (10, ((13, 14), (20, 20)))
    hand(offsets, 11)
    offsets.read_upto = 14
    assert offsets.state(99) == (10, ((13, 14), (20, 20)))
    settle(offsets, take(offsets, 1))
    assert offsets.state(99) == (14, ((20, 20),))
    offsets.read_upto = 30
    assert offsets.state(99) == (30, ())
    assert offsets.skip == []


def test_it_knows_whether_what_stands_somewhere_is_open():
    offsets, _ = some_offsets()
    hand(offsets.normal, 3, 7)
    batch = take(offsets.normal, 1)
    assert offsets.normal.is_open(3)
    settle(offsets.normal, batch)
    assert not offsets.normal.is_open(3)
    assert offsets.normal.is_open(7)
    assert not offsets.normal.is_open(5), "not for this lane"
    offsets.high.behind = True
    assert offsets.high.is_open(99), "not read yet, so not settled"


def test_only_what_has_moved_is_saved_again():
    offsets, _ = some_offsets()
    moved = offsets.moved(5)
    assert [(cursor.lane, cursor.floor) for _, _, cursor in moved] == [
        ("control", 5),
        ("high", 5),
        ("normal", 5),
    ]
    assert all(cursor.subscription == "risk" and cursor.takes == ("order",) for _, _, cursor in moved)
    for lane, state, _ in moved:
        lane.saved = state
    assert offsets.moved(5) == []
    hand(offsets.high, 6)
    assert [(c.lane, c.floor) for _, _, c in offsets.moved(6)] == [("control", 6), ("normal", 6)]


def test_it_is_noted_once_and_asks_to_be_saved_when_much_is_unsaved():
    offsets, watched = some_offsets()
    offsets.touched(1)
    offsets.touched(1)
    assert (len(watched.noted), watched.saves) == (1, 0)
    offsets.touched(UNSAVED_MOST)
    assert (len(watched.noted), watched.saves) == (1, 1)
    other = Watched()
    offsets.rebind(other)
    offsets.touched(1)
    assert (len(watched.noted), len(other.noted)) == (1, 1)


def test_a_batch_carries_where_its_events_stand():
    offsets, _ = some_offsets()
    offsets.normal.lane.push(["from memory"], 0)
    hand(offsets.normal, 4, 8)
    assert take(offsets.normal, 1).positions is None
    assert take(offsets.normal, 2).positions == (4, 8)


def test_whoever_watches_is_called_at_every_settling():
    offsets, _ = some_offsets()
    calls: list[int] = []
    offsets.watch(lambda: calls.append(1))
    offsets.touched(1)
    offsets.touched(0)
    assert len(calls) == 2


@dataclass(eq=False)
class Sent:
    """An event that knows where it stands: nowhere (None), at a position, or at one that is still to be told."""

    key: int
    number: int
    at: list[int] | None = None
    raised: int = 0

    @property
    def event_id(self) -> str:
        return str(id(self))

    @property
    def position(self) -> int:
        return self.at[0] if self.at else 0


LANES: dict[str, Callable[[], Lane]] = {
    "plain": lambda: Lane("normal"),
    "conflating": lambda: ConflatingLane("normal", attrgetter("key")),
    "superseding": lambda: SupersedingLane("normal", attrgetter("key")),
    "bounded": lambda: BoundedLane("normal", 4),
}

FILTERS: dict[str, Callable[[Sent], bool] | None] = {
    "all": None,
    "some": lambda event: event.key == 1,
    "what was committed": lambda event: event.position > 0,
    "what was not": lambda event: not event.position,
}

keys = st.lists(st.integers(0, 2), min_size=1, max_size=4)


class OffsetsMachine(RuleBasedStateMachine):
    """A subscription over a growing journal: several workers settle in any order, in any of its lanes.

    The model holds, per lane, the positions that are the lane's, and those that were handed to it in this
    life. What is open is found by looking at the events themselves, which know where they stand. The saved
    cursor must count exactly those as settled that were handed over and are not open, or were settled in an
    earlier life; and the next life is handed exactly the rest.
    """

    @initialize(kind=st.sampled_from(sorted(LANES)), workers=st.integers(1, 3))
    def a_subscription(self, kind: str, workers: int) -> None:
        self.kind, self.workers = kind, workers
        self.head = self.released = self.now_ns = 0
        self.mine: dict[str, dict[int, int]] = {"control": {}, "high": {}, "normal": {}}
        self.live(dict.fromkeys(self.mine, (0, ())))

    def live(self, saved: dict[str, tuple[int, tuple[tuple[int, int], ...]]]) -> None:
        box, control = Mailbox(LANES[self.kind]()), Mailbox(Lane("control"))
        self.mailboxes = {"control": control, "high": box, "normal": box}
        lanes = {"control": control.normal, "high": box.high, "normal": box.normal}
        self.offsets = {name: LaneOffsets(self.mailboxes[name], lanes[name], *saved[name]) for name in lanes}
        self.told_before = {name: self.told(name, saved[name]) for name in lanes}
        self.handed: dict[str, set[int]] = {name: set() for name in lanes}
        self.uncommitted: list[Sent] = []
        self.posting: tuple[str, Batch] | None = None
        if any(floor for floor, _ in saved.values()) or self.head:
            for offsets in self.offsets.values():
                offsets.behind = True

    def told(self, name: str, state: tuple[int, tuple[tuple[int, int], ...]]) -> set[int]:
        floor, stretches = state
        return {p for p in self.mine[name] if p <= floor or any(low <= p <= high for low, high in stretches)}

    def push(self, name: str, some: list[tuple[int, int]]) -> None:
        """Hand committed events to a lane, as (position, key)."""
        offsets, mailbox = self.offsets[name], self.mailboxes[name]
        events = [
            Sent(key, offsets.lane.accepted + n, [position]) for n, (position, key) in enumerate(some, 1)
        ]
        positions = tuple(position for position, _ in some)
        self.handed[name].update(positions)
        if not offsets.behind:
            offsets.newest = positions[-1]
        if name == "high":
            mailbox.push_high(events, self.now_ns, positions)
        else:
            offsets.lane.push(events, self.now_ns, positions)

    # -- what comes ---------------------------------------------------------------------------------

    @rule(
        group=st.lists(
            st.tuples(st.sampled_from(["high", "normal", ""]), st.integers(0, 2)), min_size=1, max_size=5
        ),
        falls_behind=st.sampled_from([None, None, ("high", 0), ("normal", 1), ("normal", 2)]),
    )
    def a_group_is_released(self, group: list[tuple[str, int]], falls_behind: tuple[str, int] | None) -> None:
        """One of the lanes may fall behind in the middle of it."""
        some: dict[str, list[tuple[int, int]]] = {"high": [], "normal": []}
        for name, key in group:
            self.head += 1
            if name:
                self.mine[name][self.head] = key
                some[name].append((self.head, key))
        for name, events in some.items():
            count = len(events)
            if falls_behind is not None and falls_behind[0] == name:
                count = falls_behind[1]
            if events[:count] and not self.offsets[name].behind:
                self.push(name, events[:count])
            if count < len(events):
                self.fall_behind(name)
        self.released = self.head

    @rule(name=st.sampled_from(["high", "normal"]))
    def fall_behind(self, name: str) -> None:
        offsets = self.offsets[name]
        if not offsets.behind:
            offsets.read_upto = max(self.released, offsets.newest)
            offsets.behind = True

    @rule(name=st.sampled_from(["control", "high", "normal"]), keys=keys)
    def events_of_level_memory_come(self, name: str, keys: list[int]) -> None:
        offsets, mailbox = self.offsets[name], self.mailboxes[name]
        if offsets.behind and offsets.lane.keeps_all:
            offsets.hold([Sent(key, 0) for key in keys], self.released, self.now_ns)
            return
        events = [Sent(key, offsets.lane.accepted + n) for n, key in enumerate(keys, 1)]
        if name == "high":
            mailbox.push_high(events, self.now_ns)
        else:
            offsets.lane.push(events, self.now_ns)

    @rule(name=st.sampled_from(["high", "normal"]), keys=keys, room=st.integers(0, 2))
    def a_stalled_mailbox_has_no_room_for_events_of_level_memory(
        self, name: str, keys: list[int], room: int
    ) -> None:
        lane = self.offsets[name].lane
        lane.push([Sent(key, lane.accepted + n) for n, key in enumerate(keys[:room], 1)], 0)
        lane.refuse(len(keys[room:]))

    @precondition(lambda self: not self.offsets["control"].behind)
    @rule()
    def a_kill_switch_is_delivered_before_its_commit(self) -> None:
        lane = self.offsets["control"].lane
        event = Sent(0, lane.accepted + 1, [0])
        lane.push([event], self.now_ns, event.at)
        self.uncommitted.append(event)

    @precondition(lambda self: self.uncommitted)
    @rule(is_refused=st.booleans())
    def a_kill_switch_is_committed(self, is_refused: bool) -> None:
        event = self.uncommitted.pop(0)
        if is_refused:
            return
        assert event.at is not None
        self.head += 1
        self.mine["control"][self.head] = 0
        self.the_cursor_counts_what_is_settled_and_nothing_else()
        self.released = self.head
        posted = None if self.posting is None else self.posting[1].events[0]
        if self.is_open("control", event) and event is not posted:  # saved between the release and the note
            assert self.head not in self.told("control", self.offsets["control"].state(self.released))
        event.at[0] = self.head
        self.handed["control"].add(self.head)

    @precondition(lambda self: any(offsets.behind for offsets in self.offsets.values()))
    @rule(name=st.sampled_from(["control", "high", "normal"]), count=st.integers(1, 6), whole=st.booleans())
    def it_reads_on(self, name: str, count: int, whole: bool) -> None:
        offsets = self.offsets[name]
        if not offsets.behind:
            return
        upto = min(self.released, offsets.read_upto + count)
        some = [
            (p, key)
            for p, key in self.mine[name].items()
            if offsets.read_upto < p <= upto and offsets.wants(p)
        ]
        for part in [some] if whole and some else [[one] for one in some]:
            self.push(name, part)
        offsets.read_upto = max(upto, offsets.read_upto)
        if offsets.read_upto >= self.released:
            while offsets.held:
                _, event, at_ns = offsets.held.popleft()
                offsets.lane.held -= 1
                event.number = offsets.lane.accepted + 1
                offsets.lane.push([event], at_ns)
            offsets.behind = False
            rest = {p for p in self.mine[name] if p <= self.released} - self.told_before[name]
            assert self.handed[name] >= rest, "an event is lost"

    @rule(name=st.sampled_from(["control", "high", "normal"]), data=st.data())
    def the_level_of_an_event_is_raised(self, name: str, data: Any) -> None:
        """It was handed out from memory, and gets into the journal now, whatever has become of it."""
        offsets, settled = self.offsets[name], Sent(0, 0)
        posted = None if self.posting is None else self.posting[1].events[0]
        held = [event for _, event, _ in offsets.held]
        waits = [e for e in self.open_events(name) if e.at is None and not e.raised and e is not posted]
        event = data.draw(st.sampled_from([*waits, *held, settled]))
        self.head += 1
        self.released = self.head
        self.mine[name][self.head] = event.key
        offsets.place(event.event_id, self.head)
        if event in held:
            assert event not in [event for _, event, _ in offsets.held], "it comes from the journal"
        else:
            event.raised = self.head
            self.handed[name].add(self.head)

    # -- what workers do ----------------------------------------------------------------------------

    def batches(self, choose: Callable[[Batch], Any] = lambda _: True) -> list[tuple[str, Batch]]:
        posting = None if self.posting is None else self.posting[1]
        found = [*self.mailboxes["control"].open, *self.mailboxes["normal"].open]
        return [(batch.lane.name, batch) for batch in found if choose(batch) and batch is not posting]

    @rule(by=st.integers(1, 9))
    def time_passes(self, by: int) -> None:
        self.now_ns += by

    @rule(name=st.sampled_from(["control", "normal", "normal"]), limit=st.integers(1, 4))
    def a_worker_takes_some(self, name: str, limit: int) -> None:
        mailbox = self.mailboxes[name]
        if len(mailbox.open) < self.workers:
            mailbox.take(1 if name == "control" else limit, self.now_ns)

    @precondition(lambda self: self.batches(lambda batch: batch.waiting))
    @rule(data=st.data())
    def a_call_begins(self, data: Any) -> None:
        next(data.draw(st.sampled_from(self.batches(lambda batch: batch.waiting)))[1].iterator)

    @precondition(lambda self: self.batches())
    @rule(data=st.data())
    def a_batch_is_settled(self, data: Any) -> None:
        name, batch = data.draw(st.sampled_from(self.batches()))
        list(batch.iterator)
        self.mailboxes[name].settle(batch)

    @precondition(lambda self: self.batches(lambda batch: batch.events))
    @rule(
        data=st.data(),
        how=st.sampled_from(["retry", "retry", "bury", "conflate", "release"]),
        wait_ns=st.integers(0, 9),
    )
    def a_call_fails(self, data: Any, how: str, wait_ns: int) -> None:
        name, batch = data.draw(st.sampled_from(self.batches(lambda batch: batch.events)))
        mailbox = self.mailboxes[name]
        if how in ("conflate", "release"):
            getattr(mailbox, how)(batch)
            return
        mailbox.fail(batch)
        assert batch.position == batch.events[0].position, "what a dead letter says"
        if how == "retry":
            in_order = data.draw(st.booleans(), "in order")
            batch.lane.retry(batch, self.now_ns + wait_ns, in_order=in_order)
        else:
            batch.lane.bury(batch)

    @precondition(lambda self: self.batches(lambda batch: not batch.begun))
    @rule(data=st.data())
    def a_batch_is_too_old(self, data: Any) -> None:
        name, batch = data.draw(st.sampled_from(self.batches(lambda batch: not batch.begun)))
        self.mailboxes[name].expire(batch)

    @rule(name=st.sampled_from(["control", "normal"]), normal_only=st.booleans())
    def batches_are_cut(self, name: str, normal_only: bool) -> None:
        mailbox = self.mailboxes[name]
        mailbox.cut() if normal_only else mailbox.cut_all()

    @rule(which=st.sampled_from(sorted(FILTERS)), name=st.sampled_from(["control", "normal"]))
    def what_waits_is_withdrawn(self, which: str, name: str) -> None:
        self.mailboxes[name].withdraw(FILTERS[which])
        for offsets in self.offsets.values():
            offsets.withdraw_held(FILTERS[which])

    @precondition(lambda self: self.posting is None)
    @rule(data=st.data())
    def the_outputs_of_a_call_are_being_committed(self, data: Any) -> None:
        found = self.batches(lambda batch: batch.begun == len(batch.events) == 1)
        if found:
            self.posting = name, batch = data.draw(st.sampled_from(found))
            self.offsets[name].posted = batch.first

    @precondition(lambda self: self.posting is not None)
    @rule(is_abandoned=st.booleans())
    def the_outputs_of_a_call_were_committed(self, is_abandoned: bool) -> None:
        assert self.posting is not None
        (name, batch), self.posting = self.posting, None
        if is_abandoned:
            self.mailboxes[name].fail(batch)
            batch.lane.retry(batch, self.now_ns, in_order=True)
        else:
            self.mailboxes[name].settle(batch)
        self.the_cursor_counts_what_is_settled_and_nothing_else(batch.events[0])
        self.offsets[name].posted = 0

    @rule(name=st.sampled_from(["control", "high", "normal"]))
    def a_cursor_is_saved(self, name: str) -> None:
        self.offsets[name].saved = self.offsets[name].state(self.released)

    @rule()
    def the_process_dies(self) -> None:
        self.live({name: offsets.state(self.released) for name, offsets in self.offsets.items()})
        self.released = self.head

    # -- what must hold -----------------------------------------------------------------------------

    def open_events(self, name: str) -> list[Sent]:
        lane = self.offsets[name].lane
        batches = [batch for batch in self.mailboxes[name].open if batch.lane is lane]
        return [*lane.waiting_events(), *(event for batch in batches for event in batch.events)]

    def is_open(self, name: str, event: Sent) -> bool:
        return event in self.open_events(name)

    @invariant()
    def the_cursor_counts_what_is_settled_and_nothing_else(self, posted: Sent | None = None) -> None:
        if self.posting is not None:
            posted = self.posting[1].events[0]
        for name, offsets in self.offsets.items():
            open_ = [event for event in self.open_events(name) if event is not posted]
            settled = self.handed[name].difference(event.raised or event.position for event in open_)
            settled |= self.told_before[name]
            told = self.told(name, offsets.state(self.released))
            if any(event.at == [0] for event in open_):
                assert told <= settled, "nothing is saved as settled before it was handled"
            else:
                assert told == settled

    @invariant()
    def stretches_lie_above_the_floor_in_order(self) -> None:
        for offsets in self.offsets.values():
            floor, stretches = offsets.state(self.released)
            ends = [floor, *(end for stretch in stretches for end in stretch)]
            assert ends == sorted(ends)
            assert all(low > floor for low, _ in stretches)

    @invariant()
    def positions_are_parallel_to_the_events(self) -> None:
        for mailbox in (self.mailboxes["control"], self.mailboxes["normal"]):
            for batch in mailbox.open:
                known = batch.positions or [0] * len(batch.events)
                assert list(known) == [event.position for event in batch.events]

    @invariant()
    def it_knows_what_is_open(self) -> None:
        for name, offsets in self.offsets.items():
            open_ = self.open_events(name)
            for position in self.handed[name]:
                found = offsets.is_open(position)
                assert found == (position in {event.raised or event.position for event in open_})
            numbers = {event.number for event in open_}
            mailbox, last = self.mailboxes[name], offsets.lane.settled_last
            placed = sorted((event.number, event.position) for event in open_ if event.at)
            assert mailbox.open_positions(offsets.lane, LAST) == placed
            assert {n for n in range(1, last + 1) if mailbox.is_open(offsets.lane, n)} == {
                n for n in numbers if n <= last
            }


OffsetsMachine.TestCase.settings = settings(max_examples=250, stateful_step_count=50, deadline=None)
TestOffsetsMachine = OffsetsMachine.TestCase


# -- what is placed later -----------------------------------------------------------------------------


@given(
    floor=st.integers(0, 8),
    apart=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 4)), max_size=4),
    place=st.integers(1, 24),
)
def test_without_takes_one_position_out_of_what_is_settled_and_no_other(floor, apart, place):
    stretches = merged([(low, low + size) for low, size in apart])

    def settled(floor: int, stretches: list[tuple[int, int]]) -> set[int]:
        return {n for n in range(1, 40) if n <= floor or any(low <= n <= high for low, high in stretches)}

    after = without(floor, stretches, place)
    assert settled(*after) == settled(floor, stretches) - {place}
