from typing import NamedTuple

from openoutcry.core.early import EarlySignals


class Signal(NamedTuple):
    event_id: str


def ids(kept):
    return [early.signal.event_id for early in kept]


def test_signals_are_handed_to_the_roster_that_expects_them_in_the_order_of_arrival():
    early = EarlySignals(max_age_ns=10, count_max=5)
    for number, agent in enumerate("abca"):
        assert early.keep(agent, Signal(str(number)), number) == []
    taken, left = early.take({"a", "c"}, 4)
    assert (ids(taken), left, len(early)) == (["0", "2", "3"], [], 1)
    assert early.take({"a", "c"}, 4) == ([], [])


def test_what_is_too_old_is_handed_back():
    early = EarlySignals(max_age_ns=10, count_max=5)
    early.keep("a", Signal("1"), 0)
    assert early.keep("a", Signal("2"), 10) == []
    assert ids(early.keep("a", Signal("3"), 11)) == ["1"]
    taken, left = early.take({"a"}, 21)
    assert (ids(taken), ids(left)) == (["3"], ["2"])


def test_what_has_no_room_is_handed_back_the_oldest_first():
    early = EarlySignals(max_age_ns=10, count_max=2)
    left = [one for number in range(4) for one in early.keep("a", Signal(str(number)), 0)]
    assert (ids(left), ids(early.clear()), len(early)) == (["0", "1"], ["2", "3"], 0)


def test_a_duplicate_is_kept_once():
    early = EarlySignals(max_age_ns=10, count_max=2)
    early.keep("a", Signal("1"), 0)
    early.keep("a", Signal("1"), 5)
    assert len(early) == 1
    assert ids(early.keep("a", Signal("2"), 11)) == ["1"]
