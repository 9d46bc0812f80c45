"""The books of a durable subscription, without a bus: what is saved never passes what is settled."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from openoutcry.core.lanes import Batch, Lane
from openoutcry.runtime.delivery.offsets import UNSAVED_MOST, LaneOffsets, Offsets, merged


class Watched:
    """Whom a book tells."""

    def __init__(self) -> None:
        self.noted: list[Offsets] = []
        self.saves = 0

    def note(self, book: Offsets) -> None:
        self.noted.append(book)

    def save_soon(self) -> None:
        self.saves += 1

    def can_save(self) -> bool:
        return False

    def hold(self, held: bool) -> None:
        raise AssertionError("nothing is held where nothing can be saved")


def a_book(floor: int = 0) -> tuple[Offsets, Watched]:
    watched = Watched()
    control, high, normal = (LaneOffsets(Lane(name), floor, ()) for name in ("control", "high", "normal"))
    return Offsets("risk", ("order",), (control, high, normal), watched, watched.hold), watched


def hand(book: LaneOffsets, *positions: int) -> None:
    book.place(positions)
    book.lane.push([f"event {position}" for position in positions], 0)


def take(book: LaneOffsets, count: int) -> Batch:
    batch = book.lane.take(count, 0)
    assert batch is not None
    return batch


def test_merged_joins_what_touches_or_overlaps():
    assert merged([(5, 6), (1, 2), (3, 4), (9, 9), (6, 7)]) == [(1, 7), (9, 9)]
    assert merged([]) == []


def test_a_lane_that_has_settled_everything_stands_where_all_was_released():
    book, _ = a_book()
    hand(book.normal, 3, 7)
    book.normal.lane.settle(take(book.normal, 2))
    assert book.normal.state(20) == (20, ())


def test_the_floor_is_just_below_the_first_that_is_open():
    book, _ = a_book()
    hand(book.normal, 3, 7, 9)
    book.normal.lane.settle(take(book.normal, 1))
    assert book.normal.state(20) == (6, ())


def test_what_is_settled_above_the_floor_is_kept_as_stretches():
    book, _ = a_book()
    hand(book.normal, 3, 7, 9, 12)
    first = take(book.normal, 1)
    book.normal.lane.settle(take(book.normal, 2))
    assert book.normal.state(20) == (2, ((7, 9),))
    book.normal.lane.settle(first)
    assert book.normal.state(20) == (11, ())


def test_a_lane_that_is_behind_stands_where_it_has_read_to():
    book, _ = a_book(4)
    book.normal.behind = True
    assert book.normal.state(100) == (4, ())
    hand(book.normal, 5, 6)
    book.normal.read_upto = 6
    assert book.normal.state(100) == (4, ())
    book.normal.lane.settle(take(book.normal, 2))
    assert book.normal.state(100) == (6, ())


def test_a_lane_wants_what_it_has_not_read_and_had_not_settled():
    book = LaneOffsets(Lane("normal"), 10, ((13, 14), (20, 20)))
    assert [p for p in range(8, 24) if book.wants(p)] == [11, 12, 15, 16, 17, 18, 19, 21, 22, 23]
    book.note_settled(15)
    assert not book.wants(15)


def test_stretches_of_an_earlier_life_are_kept_until_the_floor_has_passed_them():
    book = LaneOffsets(Lane("normal"), 10, ((13, 14), (20, 20)))
    book.behind = True
    assert book.state(99) == (10, ((13, 14), (20, 20)))
    hand(book, 11)
    book.read_upto = 14
    assert book.state(99) == (10, ((13, 14), (20, 20)))
    book.lane.settle(take(book, 1))
    assert book.state(99) == (14, ((20, 20),))
    book.read_upto = 30
    assert book.state(99) == (30, ())
    assert book.skip == []


def test_it_knows_whether_what_stands_somewhere_is_open():
    book, _ = a_book()
    hand(book.normal, 3, 7)
    batch = take(book.normal, 1)
    assert book.normal.is_open(3)
    book.normal.lane.settle(batch)
    assert not book.normal.is_open(3)
    assert book.normal.is_open(7)
    assert not book.normal.is_open(5), "not for this lane"
    book.high.behind = True
    assert book.high.is_open(99), "not read yet, so not settled"


def test_only_what_has_moved_is_saved_again():
    book, _ = a_book()
    moved = book.moved(5)
    assert [(cursor.lane, cursor.floor) for _, _, cursor in moved] == [
        ("control", 5),
        ("high", 5),
        ("normal", 5),
    ]
    assert all(cursor.subscription == "risk" and cursor.takes == ("order",) for _, _, cursor in moved)
    for lane, state, _ in moved:
        lane.saved = state
    assert book.moved(5) == []
    hand(book.high, 6)
    assert [(c.lane, c.floor) for _, _, c in book.moved(6)] == [("control", 6), ("normal", 6)]


def test_it_is_noted_once_and_asks_to_be_saved_when_much_is_unsaved():
    book, watched = a_book()
    book.touched(1)
    book.touched(1)
    assert (len(watched.noted), watched.saves) == (1, 0)
    book.touched(UNSAVED_MOST)
    assert (len(watched.noted), watched.saves) == (1, 1)
    other = Watched()
    book.rebind(other)
    book.touched(1)
    assert (len(watched.noted), len(other.noted)) == (1, 1)


def test_a_batch_is_told_where_its_events_stand():
    book, _ = a_book()
    book.normal.lane.push(["from memory"], 0)
    hand(book.normal, 4, 8)
    assert book.positions_of(take(book.normal, 1)) is None
    assert book.positions_of(take(book.normal, 2)) == (4, 8)


def test_whoever_watches_is_called_at_every_settling():
    book, _ = a_book()
    calls: list[int] = []
    book.watch = lambda: calls.append(1)
    book.touched(1)
    book.touched(0)
    assert len(calls) == 2


class BookMachine(RuleBasedStateMachine):
    """A lane over a growing journal, live and behind in turn, settling in any order.

    The model knows of every position whether it is the lane's and whether it is settled; the saved cursor must
    count exactly those as unsettled that are the lane's and open, and none of them as settled.
    """

    def __init__(self) -> None:
        super().__init__()
        self.start()

    def start(self, floor: int = 0, skip: tuple[tuple[int, int], ...] = ()) -> None:
        self.book = LaneOffsets(Lane("normal"), floor, skip)
        self.open: list[Batch] = []
        if not floor and not skip:
            self.mine: set[int] = set()
            self.settled: set[int] = set()
            self.head = 0

    @precondition(lambda self: not self.book.behind)
    @rule(flags=st.lists(st.booleans(), min_size=1, max_size=5))
    def events_are_released_to_a_live_lane(self, flags: list[bool]):
        places = []
        for is_mine in flags:
            self.head += 1
            if is_mine:
                places.append(self.head)
        if places:
            self.mine |= set(places)
            hand(self.book, *places)

    @precondition(lambda self: self.book.behind)
    @rule(flags=st.lists(st.booleans(), min_size=1, max_size=5))
    def events_are_committed_while_it_is_behind(self, flags: list[bool]):
        for is_mine in flags:
            self.head += 1
            if is_mine:
                self.mine.add(self.head)

    @rule(count=st.integers(1, 3))
    def events_of_level_memory_come(self, count: int):
        self.book.lane.push([None] * count, 0)

    @precondition(lambda self: not self.book.behind)
    @rule()
    def it_falls_behind(self):
        self.book.read_upto = max(self.head, self.book.positions.newest or 0)
        self.book.behind = True

    @precondition(lambda self: self.book.behind)
    @rule(count=st.integers(1, 6))
    def it_reads_on(self, count: int):
        upto = min(self.head, self.book.read_upto + count)
        places = [
            p for p in range(self.book.read_upto + 1, upto + 1) if p in self.mine and self.book.wants(p)
        ]
        if places:
            hand(self.book, *places)
        self.book.read_upto = upto
        if upto >= self.head:
            self.book.behind = False

    @precondition(lambda self: self.book.lane.waiting)
    @rule(count=st.integers(1, 3))
    def a_worker_takes_some(self, count: int):
        self.open.append(take(self.book, count))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def a_batch_is_settled(self, data: Any):
        batch = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        places = self.book.positions.of(batch.first, len(batch.events)) or ()
        self.settled |= {place for place in places if place}
        self.book.lane.settle(batch)

    @rule()
    def the_process_dies_and_the_next_one_reads_on(self):
        floor, stretches = self.book.state(self.head)
        self.start(floor, stretches or ((0, 0),))
        self.book.behind = True

    @invariant()
    def the_cursor_passes_nothing_that_is_open(self):
        floor, stretches = self.book.state(self.head)
        told = {p for p in self.mine if p <= floor or any(low <= p <= high for low, high in stretches)}
        assert told == self.settled

    @invariant()
    def stretches_lie_above_the_floor_in_order(self):
        floor, stretches = self.book.state(self.head)
        ends = [floor, *(end for stretch in stretches for end in stretch)]
        assert ends == sorted(ends)
        assert all(low > floor for low, _ in stretches)


BookMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestBookMachine = BookMachine.TestCase
