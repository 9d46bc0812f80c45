"""A lane next to a model of it, for state machines: sets of positions, everything worked out anew at every step.

The events are their own numbers: 1, 2, 3, ... Some of them stand in a journal, at ten times their number. The
model knows nothing of lists, iterators and stretches.
"""

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from openoutcry.core.lanes import Batch, Lane
from openoutcry.core.ledger import ledger_row

PREDICATES = {
    "all": None,
    "even": lambda event: event % 2 == 0,
    "thirds": lambda event: event % 3 == 0,
    "none": lambda _: False,
}


@dataclass
class Waits:
    """How an event waits: tried so often, not before `due_ns`, and whether others may overtake it."""

    attempts: int = 0
    due_ns: int = 0
    parked: bool = False


@dataclass
class Hand:
    """What a worker holds."""

    batch: Batch
    positions: list[int]
    attempts: int
    begun: int = 0

    @property
    def rest(self) -> list[int]:
        return self.positions[self.begun :]


@dataclass
class Model:
    waiting: dict[int, Waits] = field(default_factory=dict)
    fates: dict[int, str] = field(default_factory=dict)
    hands: list[Hand] = field(default_factory=list)
    placed: set[int] = field(default_factory=set)
    never_waited: set[int] = field(default_factory=set)
    accepted: int = 0
    now_ns: int = 0
    limit: int | None = None

    def push(self, count: int, *, placed: bool = False) -> None:
        for _ in range(count):
            self.accepted += 1
            if placed:
                self.placed.add(self.accepted)
            self.waiting[self.accepted] = Waits()
        self.trim()

    def end(self, positions: list[int], fate: str) -> None:
        for position in positions:
            assert position not in self.fates, "an event ended twice"
            self.waiting.pop(position, None)
            self.fates[position] = fate

    def give_back(self, hand: Hand) -> None:
        for position in hand.rest:
            self.waiting[position] = Waits(attempts=0 if hand.begun else hand.attempts)
        del hand.positions[hand.begun :]

    def trim(self) -> None:
        """Where there is a limit, the oldest of all that was not begun go."""
        if self.limit is None:
            return
        excess = len(self.waiting) + sum(len(hand.rest) for hand in self.hands) - self.limit
        if excess > 0:
            for hand in self.hands:
                self.give_back(hand)
            self.end(sorted(self.waiting)[:excess], "overflowed")

    def next_up(self) -> tuple[list[int], Waits] | None:
        """The positions of which some may be taken now, in order, with how the first of them waits."""
        due = [(w.due_ns, p) for p, w in self.waiting.items() if w.parked and w.due_ns <= self.now_ns]
        if due:
            position = min(due)[1]
            return [position], self.waiting[position]
        queue = sorted(p for p, w in self.waiting.items() if not w.parked)
        if not queue or self.waiting[queue[0]].due_ns > self.now_ns:
            return None
        return queue, self.waiting[queue[0]]

    def due_ns(self) -> int | None:
        dues = [w.due_ns for w in self.waiting.values() if w.parked]
        queue = sorted(p for p, w in self.waiting.items() if not w.parked)
        if queue and self.waiting[queue[0]].due_ns:
            dues.append(self.waiting[queue[0]].due_ns)
        return min(dues, default=None)


class LaneMachine(RuleBasedStateMachine):
    """Several workers on one lane, doing whatever workers may do, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.lane = Lane("normal")

    def a_hand(self, data, choose=lambda _: True) -> Hand | None:
        hands = [hand for hand in self.model.hands if choose(hand)]
        return data.draw(st.sampled_from(hands)) if hands else None

    @rule(count=st.integers(0, 5), placed=st.booleans())
    def push(self, count, placed):
        first = self.model.accepted + 1
        positions = [10 * number for number in range(first, first + count)] if placed else None
        self.lane.push(list(range(first, first + count)), self.model.now_ns, positions)
        self.model.push(count, placed=placed)

    def may_go(self, number: int) -> bool:
        return self.lane.drops_any or number % 3 == 0

    @rule(most=st.integers(1, 4))
    def shed(self, most):
        gone = self.lane.shed(most, self.may_go)
        free = [
            number
            for number in sorted(self.model.waiting)
            if self.may_go(number) and (self.lane.drops_any or number not in self.model.placed)
        ]
        assert sorted(gone) == free[:most], "something else went than the oldest"
        self.model.end(gone, "overflowed")

    @rule(count=st.integers(1, 4), excess=st.integers(-1, 6))
    def push_where_there_is_too_little_room(self, count, excess):
        first = self.model.accepted + 1
        divided = self.lane.divide(list(range(first, first + count)), excess, self.may_go)
        kept, gone, refused = len(divided.kept), len(divided.gone), len(divided.refused)
        assert kept + gone + refused == count
        assert gone + refused == min(count, max(0, excess))
        assert not refused or not any(map(self.may_go, [*divided.kept, *divided.refused]))
        self.lane.push(list(range(first, first + kept)), self.model.now_ns)
        self.model.push(kept)
        self.lane.overflow(gone)
        self.lane.refuse(refused)
        self.model.accepted += gone + refused
        self.model.never_waited.update(range(first + kept, first + count))
        self.model.end(list(range(first + kept, first + kept + gone)), "overflowed")
        self.model.end(list(range(first + kept + gone, first + count)), "dead_lettered")

    @rule(by=st.integers(0, 7))
    def time_passes(self, by):
        self.model.now_ns += by

    @rule(limit=st.integers(1, 4))
    def take(self, limit):
        expected = self.model.next_up()
        batch = self.lane.take(limit, self.model.now_ns)
        if expected is None:
            assert batch is None
            return
        assert batch is not None
        queue, how = expected
        taken = list(batch.events)
        assert 1 <= len(taken) <= limit
        assert taken == queue[: len(taken)], "the lane handed over something else than its oldest"
        assert taken == list(range(batch.first, batch.first + len(taken))), "a batch has a gap"
        assert batch.attempts == how.attempts
        if how.attempts:
            assert len(taken) == 1, "a retry is handed over alone"
        assert not any(self.model.waiting[p].attempts for p in taken[1:])
        for position in taken:
            del self.model.waiting[position]
        self.model.hands.append(Hand(batch, taken, how.attempts))

    @precondition(lambda self: any(hand.rest for hand in self.model.hands))
    @rule(data=st.data())
    def begin(self, data):
        hand = self.a_hand(data, lambda hand: hand.rest)
        event = next(hand.batch.iterator)
        assert event == hand.rest[0]
        hand.begun += 1
        assert hand.batch.current == event

    @precondition(lambda self: self.model.hands)
    @rule(data=st.data())
    def settle(self, data):
        hand = self.a_hand(data)
        assert list(hand.batch.iterator) == hand.rest, "a worker iterates what it was not asked to give back"
        self.lane.settle(hand.batch)
        self.model.hands.remove(hand)
        self.model.end(hand.positions, "handled")

    @precondition(lambda self: any(hand.positions for hand in self.model.hands))
    @rule(data=st.data(), wait_ns=st.integers(0, 9), in_order=st.booleans(), dead=st.booleans())
    def fail(self, data, wait_ns, in_order, dead):
        hand, model = self.a_hand(data, lambda hand: hand.positions), self.model
        self.lane.settle_before_current(hand.batch)
        hand.begun = max(1, hand.begun)
        model.hands.remove(hand)
        *before, current = hand.positions[: hand.begun]
        model.give_back(hand)
        model.end(before, "handled")
        model.trim()
        assert hand.batch.events == [current]
        if dead:
            self.lane.bury(hand.batch)
            model.end([current], "dead_lettered")
            return
        attempts = 1 if before else hand.attempts + 1
        self.lane.retry(hand.batch, model.now_ns + wait_ns, in_order=in_order)
        model.waiting[current] = Waits(attempts, model.now_ns + wait_ns, not in_order)
        model.trim()

    @precondition(lambda self: self.model.hands)
    @rule(data=st.data())
    def give_back(self, data):
        hand = self.a_hand(data)
        self.lane.give_back(hand.batch)
        self.model.give_back(hand)
        self.model.trim()

    @precondition(lambda self: any(not hand.begun for hand in self.model.hands))
    @rule(data=st.data())
    def expire(self, data):
        hand = self.a_hand(data, lambda hand: not hand.begun)
        self.lane.expire(hand.batch)
        self.model.hands.remove(hand)
        self.model.end(hand.positions, "expired")

    @rule(which=st.sampled_from(sorted(PREDICATES)))
    def withdraw(self, which):
        predicate = PREDICATES[which]
        gone = self.lane.withdraw(predicate)
        expected = [p for p in self.model.waiting if predicate is None or predicate(p)]
        assert sorted(gone) == sorted(expected)
        self.model.end(expected, "withdrawn")

    @invariant()
    def the_ledger_balances_and_says_what_happened(self):
        model = self.model
        row = ledger_row("s", self.lane, [hand.batch for hand in model.hands])
        assert row.balances, row
        fates = Counter(model.fates.values())
        assert row.accepted == model.accepted
        assert row.waiting == len(model.waiting) + sum(len(hand.rest) for hand in model.hands)
        assert row.in_flight == sum(hand.begun > 0 for hand in model.hands)
        assert row.handled == fates["handled"] + sum(max(0, hand.begun - 1) for hand in model.hands)
        for fate in ("dead_lettered", "conflated", "overflowed", "expired", "withdrawn"):
            assert getattr(row, fate) == fates[fate], fate

    @invariant()
    def positions_stay_with_their_events(self):
        for batch in (hand.batch for hand in self.model.hands):
            wanted = [10 * number if number in self.model.placed else 0 for number in batch.events]
            assert list(batch.positions or [0] * len(batch.events)) == wanted
            assert batch.position == (wanted[0] if wanted else 0)

    @invariant()
    def what_waits_and_where_it_stands_is_read_off_the_lane(self):
        found = [
            (number, position)
            for first, positions in self.lane.open_runs(2**63)
            for number, position in enumerate(positions, first)
        ]
        placed = sorted(self.model.waiting.keys() & self.model.placed)
        assert sorted(found) == [(number, 10 * number) for number in placed]
        for number in range(1, self.model.accepted + 2):
            assert self.lane.has_waiting(number) == (number in self.model.waiting)

    @invariant()
    def nothing_above_the_last_that_was_settled_is_settled(self):
        ended = [n for n in self.model.fates if n not in self.model.never_waited]
        assert self.lane.settled_last >= max(ended, default=0)
        assert self.lane.settled_last <= self.model.accepted

    @invariant()
    def what_waits_can_be_listed_and_its_time_is_known(self):
        assert self.lane.waiting == len(self.model.waiting)
        assert sorted(self.lane.waiting_events()) == sorted(self.model.waiting)
        assert self.lane.due_ns() == self.model.due_ns()
