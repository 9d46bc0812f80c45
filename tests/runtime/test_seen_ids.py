"""Which ids are known, held against plain sets (CONTRACT 2, 35)."""

import random
from collections import deque
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openoutcry import MarketDataEvent, OrderEvent
from openoutcry.events import new_event_id
from openoutcry.runtime.delivery.seen_ids import LATE_MOST, SMALL, SeenIds

WINDOW = 40
SECOND_NS = 1_000_000_000


class Sources:
    """Makes ids as several publishers do."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.counters = {name: count() for name in ("0f0f0f0f0f0f0f0f-", "feed-b-", "feed-a-")}
        self.given: list[str] = []
        self.late: list[str] = []

    def take(self, kind: str) -> str:
        made = self.make(kind)
        self.given.append(made)
        return made

    def make(self, kind: str) -> str:
        if kind == "again" and self.given:
            return self.chance.choice(self.given[-3 * WINDOW :])
        if kind == "late" and self.late:
            return self.late.pop(self.chance.randrange(len(self.late)))
        if kind == "random":
            return f"{self.chance.getrandbits(64):016x}"
        if kind == "derived":
            return f"{self.chance.getrandbits(104):026x}-0"
        names = list(self.counters)
        name = names[0] if kind in {"own", "late", "again"} else self.chance.choice(names)
        if self.chance.random() < 0.1:
            self.late.append(f"{name}{next(self.counters[name]):08x}")
        return f"{name}{next(self.counters[name]):08x}"


class Held:
    """The ids that are known, beside what they must be."""

    def __init__(self) -> None:
        self.seen = SeenIds(WINDOW, 600 * SECOND_NS, frozenset({"market_data"}), frozenset({"order"}))
        self.accepted: set[str] = set()
        self.newest: deque[str] = deque(maxlen=WINDOW)
        self.orders: deque[str] = deque(maxlen=WINDOW)
        self.in_flight: list[str] = []
        self.now_ns = 1
        self.batch: list[Any] = []

    @property
    def must_know(self) -> set[str]:
        return {*self.newest, *self.orders, *self.in_flight, *(event.event_id for event in self.batch)}

    def accept(self, event: Any) -> None:
        self.accepted.add(event.event_id)
        self.newest.append(event.event_id)
        self.batch.append(event)

    def take(self, event: Any) -> None:
        event_id = event.event_id
        is_known = event_id in self.seen
        if event_id in self.must_know:
            assert is_known, f"{event_id} was forgotten"
        if event_id not in self.accepted:
            assert not is_known, f"{event_id} never came"
        assert self.seen.add(event_id) is not is_known
        assert event_id in self.seen
        if not is_known:
            self.accept(event)

    def take_all(self, events: list[Any]) -> None:
        ids = [event.event_id for event in events]
        are_new = not any(event_id in self.seen for event_id in ids) and len(set(ids)) == len(ids)
        assert self.seen.add_all(ids) is are_new
        if are_new:
            for event in events:
                self.accept(event)

    def deliver(self, keeps_in_flight: bool) -> None:
        if not self.batch:
            return
        self.now_ns += SECOND_NS
        self.orders.extend(event.event_id for event in self.batch if isinstance(event, OrderEvent))
        self.seen.keep(self.batch, self.now_ns)
        if len(self.seen) >= self.seen.room or self.now_ns >= self.seen.until_ns:
            ids = [event.event_id for event in self.batch]
            self.seen.forget(self.now_ns, self.in_flight + ids, ids)
        if keeps_in_flight:
            self.in_flight.append(self.batch[0].event_id)
        elif len(self.in_flight) > 3:
            self.in_flight.clear()
        self.batch = []


def an_event(event_id: str, number: int) -> Any:
    if number % 3 == 0:
        return OrderEvent(event_id=event_id, order_id="o", symbol="ES", side="buy", quantity=1)
    return MarketDataEvent(event_id=event_id, symbol="ES", price=1.0)


KINDS = st.sampled_from(["own", "own", "own", "own", "feeds", "late", "again", "random", "derived"])


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    steps=st.lists(
        st.tuples(st.lists(KINDS, min_size=1, max_size=3), st.integers(1, 60), st.booleans(), st.booleans()),
        min_size=1,
        max_size=25,
    ),
)
def test_what_is_known_is_what_plain_sets_would_know(seed, steps):
    sources, held = Sources(seed), Held()
    for kinds, length, at_once, keeps_in_flight in steps:
        events = [an_event(sources.take(kinds[n % len(kinds)]), n) for n in range(length)]
        if at_once:
            held.take_all(events)
        else:
            for event in events:
                held.take(event)
        for event_id in held.must_know:
            assert event_id in held.seen, f"{event_id} was forgotten"
        held.deliver(keeps_in_flight)
        assert held.seen.ids() <= held.accepted | set(held.in_flight)
        assert len(held.seen.ids()) <= 2 * (2 * WINDOW + SMALL + 60) + 2 * WINDOW + len(held.in_flight)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    turns=st.lists(st.tuples(KINDS, st.integers(1, 50), st.booleans()), min_size=2, max_size=20),
)
def test_what_was_not_accepted_after_all_is_new_again(seed, turns):
    sources, seen = Sources(seed), SeenIds(WINDOW, 600 * SECOND_NS, frozenset(), frozenset())
    for number, (kind, length, is_forgotten) in enumerate(turns):
        ids = [sources.take(kind) for _ in range(length)]
        added = [event_id for event_id in ids if seen.add(event_id)]
        if is_forgotten and added:
            seen.discard(added[-1])
            assert added[-1] not in seen
            assert seen.add(added[-1])
        assert all(event_id in seen for event_id in ids)
        if len(seen) >= seen.room:
            seen.forget(number, ids, ids)


def followed(window: int = WINDOW) -> SeenIds:
    """Return ids that follow this process's own source."""
    seen = SeenIds(window, 600 * SECOND_NS, frozenset(), frozenset())
    first = new_event_id()
    assert seen.add(first)
    seen.forget(0, [], [first])
    return seen


def test_ids_of_this_process_ascend():
    ids = [new_event_id() for _ in range(70_000)]
    assert ids == sorted(ids)


def test_ids_that_ascend_are_not_hashed():
    seen = followed()
    ids = [new_event_id() for _ in range(10)]
    assert seen.add_all(ids[:5])
    assert all(seen.add(event_id) for event_id in ids[5:])
    assert seen.line == ids
    assert not seen.now


def test_ids_of_others_leave_the_source_that_is_followed():
    seen = followed()
    assert seen.add("~" * 20)
    assert seen.add("!" * 20)
    last = new_event_id()
    assert seen.add(last)
    assert seen.line == [last]
    assert not seen.add("~" * 20)


def test_a_late_id_is_looked_for_among_those_that_were_not_hashed():
    seen = followed()
    ids = [new_event_id() for _ in range(10)]
    late = ids.pop(4)
    assert seen.add_all(ids)
    assert late not in seen
    assert seen.add(late)
    assert not any(seen.add(event_id) for event_id in [*ids, late])


@pytest.mark.parametrize("step", [1, 50])
def test_a_source_that_is_always_late_is_not_followed(step):
    seen = followed(window=10_000)
    ids = [new_event_id() for _ in range(4 * LATE_MOST)]
    for at in range(0, len(ids) - 1, 2):
        assert seen.add(ids[at + 1])
        assert seen.add(ids[at])
    assert not seen.limit
    assert not seen.line
    assert not any(seen.add(event_id) for event_id in ids[::step])


def test_another_source_is_followed_once_most_ids_are_its_own():
    seen, numbers = followed(), count(1)
    for turn in range(4):
        ids = [f"feed-{next(numbers):06d}" for _ in range(WINDOW)]
        assert seen.add_all(ids)
        seen.forget(turn, [], ids)
    assert seen.limit.startswith("feed-")
    assert seen.add("feed-999999")
    assert seen.line == ["feed-999999"]
    assert not seen.add(ids[-1])


def test_what_is_in_flight_stays_known_also_if_it_was_never_hashed():
    seen = followed()
    first = new_event_id()
    assert seen.add(first)
    for turn in range(6):
        ids = [new_event_id() for _ in range(WINDOW)]
        assert seen.add_all(ids)
        seen.forget(turn, [first, *ids], ids)
        assert first in seen
    for turn in range(2):
        ids = [new_event_id() for _ in range(WINDOW)]
        assert seen.add_all(ids)
        seen.forget(turn, ids, ids)
    assert first not in seen
