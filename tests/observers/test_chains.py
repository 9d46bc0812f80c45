"""Chains end when they are quiet, are kept or dropped whole, and go on in another process where they were left."""

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from openoutcry.observers import chains as module
from openoutcry.observers.chains import Chains, Place
from openoutcry.observers.spans import Known, Part, spans_of
from openoutcry.observers.steps import Handlers, step_of
from openoutcry.ports import BuriedEvent, CursorState, Era, Level, Snapshot, Stored

LINGER_NS = 10


def entry(position: int, chain: str, kind: str = "signal", cause: str | None = None, **more: Any) -> Stored:
    data = {"event_id": f"{chain}-{position}", "event_type": kind, "source_agent": "desk", **more}
    data |= {"correlation_id": chain} | ({"causation_id": cause} if cause else {})
    return Stored(position, json.dumps(data).encode(), "normal", Level.PROCESS, 1_000 + position)


def letter(letter_id: int, of: Stored, name: str = "books") -> BuriedEvent:
    return BuriedEvent(
        subscription=name, lane="normal", position=of.position, payload=of.payload, reason="failed",
        error="no", letter_id=letter_id, wall_ns=5_000,
    )  # fmt: skip


class Tape:
    """A journal, and what was read of it again."""

    def __init__(self, *entries: Stored) -> None:
        self.entries = list(entries)
        self.reread: list[tuple[str, int, int]] = []

    def again(self, chain: str, first: int, last: int) -> list[Stored]:
        self.reread.append((chain, first, last))
        return [e for e in self.entries if first <= e.position <= last and step_of(e).chain == chain]

    def chains(self, share: float = 0.0, place: Place | None = None) -> Chains:
        return Chains(share, LINGER_NS, self.again, place or Place())


def positions(parts: Iterable[Part]) -> list[list[int]]:
    return [[step.position for step in part.steps] for part in parts]


def test_a_chain_ends_once_it_is_quiet_and_each_event_begins_the_time_anew() -> None:
    tape = Tape(entry(1, "a"), entry(2, "b"), entry(3, "a"))
    chains = tape.chains(1.0)
    chains.add(tape.entries[:2], 0)
    assert chains.take(9) == []
    chains.add(tape.entries[2:], 9)
    assert positions(chains.take(10)) == [[2]]
    assert positions(chains.take(18)) == []
    assert positions(chains.take(19)) == [[1, 3]]


def test_what_is_not_worth_keeping_is_dropped() -> None:
    tape = Tape(entry(1, "a"), entry(2, "b", "fill"))
    chains = tape.chains()
    chains.add(tape.entries, 0)
    assert positions(chains.take(None)) == [[2]]


def test_a_fill_that_comes_late_brings_back_what_was_dropped() -> None:
    tape = Tape(entry(1, "a"), entry(2, "b"), entry(3, "a"), entry(4, "a", "fill"))
    chains = tape.chains()
    chains.add(tape.entries[:3], 0)
    assert positions(chains.take(50)) == []
    chains.add(tape.entries[3:], 51)
    (part,) = chains.take(None)
    assert [step.position for step in part.steps] == [1, 3, 4]
    assert not part.is_rest
    assert tape.reread == [("a", 1, 3)]


def test_what_comes_after_a_chain_was_kept_is_kept_too_and_alone() -> None:
    tape = Tape(entry(1, "a", "fill"), entry(2, "a"))
    chains = tape.chains()
    chains.add(tape.entries[:1], 0)
    chains.take(50)
    chains.add(tape.entries[1:], 51)
    (part,) = chains.take(None)
    assert [step.position for step in part.steps] == [2]
    assert part.is_rest
    assert tape.reread == []


def test_a_dead_letter_that_comes_late_brings_back_its_chain() -> None:
    tape = Tape(entry(1, "a"), entry(2, "a"))
    chains = tape.chains()
    chains.add(tape.entries, 0)
    chains.take(50)
    chains.add_letters([letter(1, tape.entries[1])], 51)
    (part,) = chains.take(None)
    assert [step.position for step in part.steps] == [1, 2]
    assert [found.letter_id for _, found in part.letters] == [1]


def test_a_dead_letter_that_is_read_before_its_event_waits_for_it() -> None:
    tape = Tape(entry(1, "a"), entry(2, "a"))
    chains = tape.chains()
    chains.add_letters([letter(1, tape.entries[1])], 0)
    assert chains.take(None) == []
    chains.add(tape.entries, 0)
    (part,) = chains.take(None)
    assert len(part.letters) == 1
    assert [step.position for step in part.steps] == [1, 2]


def test_a_dead_letter_of_a_chain_that_is_forgotten_brings_its_event() -> None:
    tape = Tape(entry(1, "a"), entry(2, "a"))
    chains = tape.chains(place=Place(after=2))
    chains.add_letters([letter(1, tape.entries[1])], 0)
    assert positions(chains.take(None)) == [[2]]


def test_a_dead_letter_whose_event_is_not_in_the_journal_is_a_span_all_the_same() -> None:
    chains = Tape().chains()
    chains.add_letters([letter(1, entry(0, "a"))], 0)
    (part,) = chains.take(None)
    names = [span.name for span in spans_of(part, Handlers(), Known())]
    assert names == ["an event that is not in the journal", "books handles signal"]


# -- in another process ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", range(1, 12))
def test_wherever_a_process_ends_the_next_one_neither_misses_nor_repeats(cut: int) -> None:
    tape = Tape(*(entry(n, "abc"[n % 3], "fill" if n == 8 else "signal") for n in range(1, 13)))
    first = tape.chains(1.0)
    sent: list[int] = []

    def send(chains: Chains, now_ns: int | None) -> None:
        sent.extend(step.position for part in chains.take(now_ns) for step in part.steps)

    for now_ns, found in enumerate(tape.entries[:cut]):
        first.add([found], 8 * now_ns)
        send(first, 8 * now_ns)
    place = first.place()
    again = tape.chains(1.0, json_again(place))
    again.add([e for e in tape.entries if e.position > place.after], 0)
    send(again, None)
    assert sorted(sent) == list(range(1, 13))


def json_again(place: Place) -> Place:
    """The place as it comes back from a file."""
    return msgspec.json.decode(msgspec.json.encode(place), type=Place)


def test_a_place_does_not_pass_over_a_letter_whose_chain_is_open() -> None:
    tape = Tape(entry(1, "a"))
    chains = tape.chains()
    chains.add(tape.entries, 0)
    chains.add_letters([letter(7, tape.entries[0])], 0)
    assert chains.place().letter_after == 6
    chains.take(None)
    assert chains.place().letter_after == 7
    assert chains.place().after == 1


# -- bounds ------------------------------------------------------------------------------------------------


def test_a_chain_without_end_is_sent_in_parts(monkeypatch) -> None:
    monkeypatch.setattr(module, "PART_MOST", 10)
    tape = Tape(*(entry(n, "a") for n in range(1, 26)))
    chains = tape.chains(1.0)
    chains.add(tape.entries, 0)
    assert [len(some) for some in positions(chains.take(0))] == [10, 10]
    assert [len(some) for some in positions(chains.take(None))] == [5]


def test_too_many_open_chains_end_the_one_that_was_quiet_for_longest(monkeypatch) -> None:
    monkeypatch.setattr(module, "STEPS_MOST", 3)
    tape = Tape(entry(1, "a"), entry(2, "b"), entry(3, "a"), entry(4, "c"))
    chains = tape.chains(1.0)
    chains.add(tape.entries, 0)
    assert positions(chains.take(0)) == [[2]]


def test_what_is_known_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr(Known, "STEPS_MOST", 2)
    monkeypatch.setattr(Known, "SPANS_MOST", 2)
    known = Known()
    for n in (1, 2, 3):
        known.note(step_of(entry(n, "a")))
        assert known.is_new(n)
    assert known.step("a-1") is None
    assert known.step("a-3") is not None
    assert not known.is_new(3)
    assert known.is_new(1)


# -- who has handled what ----------------------------------------------------------------------------------


def handlers(takes: tuple[str, ...], upto: int, begins: int = 0, **more: Any) -> Handlers:
    cursor = CursorState(subscription="books", lane="normal", floor=upto, takes=takes)
    left_out = more.pop("left_out", {})
    memory = Snapshot(
        subscription="books", form="none", is_needed=False, lanes={"normal": (begins, ())}, **more
    )
    return Handlers("", [cursor], [memory], left_out)


@pytest.mark.parametrize(
    ("found", "handled"),
    [
        (handlers(("signal",), 5), [1, 2, 3, 4, 5]),
        (handlers(("*", "class object"), 5), [1, 2, 3, 4, 5]),
        (handlers(("signal",), 3), [1, 2, 3]),
        (handlers(("signal",), 5, begins=3), [4, 5]),  # it was subscribed later
        (handlers(("fill",), 5), []),
        (handlers(("*", "class Mine"), 5), []),  # a class decides that is not known here
        (handlers(("signal", "(in part)"), 5), []),
        (handlers(("signal",), 5, left_out={"books": [2]}), [1, 3, 4, 5]),
        (handlers(("signal",), 5, eras=(Era(("fill",), {"normal": (2, ())}),)), [3, 4, 5]),
    ],
)
def test_only_what_the_journal_says_beyond_doubt_was_handled(found: Handlers, handled: list[int]) -> None:
    steps = [step_of(entry(n, "a")) for n in range(1, 6)]
    assert [step.position for step in steps if found.who_handled(step)] == handled
