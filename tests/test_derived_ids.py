"""Ids that a redelivered handler gets again, and how they stand beside fresh ones and those of a test."""

import subprocess
import sys
import threading
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openoutcry.events import Derivation, Event, derived_id, install_deriver, new_event_id, sources, stamps
from openoutcry.trading import MarketDataEvent

anything = st.text(st.characters(), max_size=60)  # half surrogate pairs included


def test_the_same_call_gets_the_same_ids_again():
    first, again = Derivation("", "cause", "risk"), Derivation("", "cause", "risk")
    assert [first.next() for _ in range(300)] == [again.next() for _ in range(300)]


def test_the_format_is_the_documented_one_and_stays_so_between_versions():
    digest = blake2b(b"4:riskcause", digest_size=13, person=b"openoutcry id").hexdigest()
    assert derived_id("", "cause", "risk", 0) == f"{digest}-0" == "10e1e20737a356c649b4be633e-0"
    assert derived_id("", "cause", "risk", 1_000_000) == f"{digest}-f4240"


@given(anything, anything, st.integers(0, 0xFFFFF))
def test_an_id_is_short_and_plain_whatever_it_is_derived_from(cause, subscription, ordinal):
    made = derived_id("", cause, subscription, ordinal)
    assert len(made) <= 32
    assert set(made) <= set("0123456789abcdef-")


@given(st.lists(st.tuples(anything, anything), unique=True, max_size=20))
def test_no_two_pairs_of_cause_and_subscription_share_an_id(pairs):
    assert len({derived_id("", cause, subscription, 0) for cause, subscription in pairs}) == len(pairs)


def test_where_the_cause_ends_and_the_subscription_begins_makes_a_difference():
    assert derived_id("", "ab", "c", 0) != derived_id("", "a", "bc", 0) != derived_id("", "", "abc", 0)
    assert derived_id("", "1:xa", "x", 0) != derived_id("", "a", "x1:x", 0)


def test_a_derivation_counts_as_the_function_does():
    made = Derivation("", "cause", "risk")
    assert [made.next() for _ in range(600)] == [derived_id("", "cause", "risk", n) for n in range(600)]


def test_another_process_derives_the_same():
    program = "from openoutcry.events import derived_id; print(derived_id('', 'cause', 'risk', 7))"
    told = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=600
    ).stdout
    assert told.strip() == derived_id("", "cause", "risk", 7)


def test_branches_do_not_depend_on_who_asks_first():
    def ids(order):
        call = Derivation("", "cause", "risk")
        branches = [call.branch(), call.branch()]
        found = {number: [] for number in order}
        for number in order:
            found[number].append(branches[number].next())
        return found[0], found[1], call.next()

    one = ids([0, 0, 1, 1])
    assert one == ids([1, 0, 1, 0])
    assert len({*one[0], *one[1], one[2]}) == 5
    inner = Derivation("", "cause", "risk").branch().branch().next()
    assert inner not in {*one[0], *one[1], one[2], Derivation("", "cause", "risk").branch().next()}


# --- in force


@pytest.fixture
def call():
    """What the bus would install: it answers while a call is in hand."""

    class Calls:
        current: Derivation | None = None

        def __call__(self) -> str | None:
            return None if self.current is None else self.current.next()

    calls = Calls()
    uninstall = install_deriver(calls)
    yield calls
    uninstall()


def test_what_a_handler_makes_gets_derived_ids_and_the_rest_fresh_ones(call):
    before = Event()
    call.current = Derivation("", "cause", "risk")
    inside = [
        MarketDataEvent(symbol="ES", price=1.0),
        Event(event_id="mine"),
        Event(event_type="x"),
    ]
    call.current = None
    after = Event()
    assert [event.event_id for event in inside] == [
        derived_id("", "cause", "risk", 0),
        "mine",
        derived_id("", "cause", "risk", 1),
    ]
    assert before.event_id.partition("-")[0] == after.event_id.partition("-")[0]


def test_a_second_delivery_makes_equal_ids(call):
    def handle():
        call.current = Derivation("", "fill-1", "book")
        made = [new_event_id(), Event().event_id]
        call.current = None
        return made

    assert handle() == handle()


def test_a_test_s_source_gives_the_fresh_ids_and_derived_ones_stay_derived(call):
    with stamps(ids="run"):
        call.current = Derivation("", "cause", "risk")
        assert Event().event_id == derived_id("", "cause", "risk", 0)
        call.current = None
        assert [Event().event_id, Event().event_id] == ["run-1", "run-2"]
        with stamps(ids="inner"):
            assert Event().event_id == "inner-1"
        assert Event().event_id == "run-3"
    assert not Event().event_id.startswith("run")


def test_a_deriver_may_come_and_go_while_a_source_is_replaced():
    with stamps(ids="run"):
        uninstall = install_deriver(lambda: "derived")
        assert Event().event_id == "derived"
        uninstall()
        assert Event().event_id == "run-1"
    uninstall = install_deriver(lambda: None)
    with stamps(ids="run"):
        assert Event().event_id == "run-1"
        uninstall()
        assert Event().event_id == "run-2"
    assert not Event().event_id.startswith("run")


def test_several_derivers_are_asked_in_turn():
    answers = {"one": None, "two": None}
    asked = []

    def ask(name):
        asked.append(name)
        return answers[name]

    uninstalls = [install_deriver(lambda: ask("one")), install_deriver(lambda: ask("two"))]
    try:
        assert "-" in new_event_id()
        answers["two"] = "2"  # type: ignore[assignment]
        assert new_event_id() == "2"
        answers["one"] = "1"  # type: ignore[assignment]
        assert new_event_id() == "1"
        assert asked == ["one", "two", "one", "two", "one"]
    finally:
        for uninstall in uninstalls:
            uninstall()


def test_a_deriver_that_is_installed_twice_is_asked_once_and_stays_until_both_are_gone():
    asked = []

    def derive():
        asked.append(1)

    first, second = install_deriver(derive), install_deriver(derive)
    new_event_id()
    assert len(asked) == 1
    first()
    first()
    new_event_id()
    assert len(asked) == 2
    second()
    new_event_id()
    assert len(asked) == 2


FORKED = """
import os
from openoutcry.events import install_deriver, new_event_id

uninstall = install_deriver(lambda: "derived")
pid = os.fork()
if pid == 0:
    ids = [new_event_id()]
    uninstall()  # as a bus of the parent's does that is let go in the child
    ids.append(new_event_id())
    assert len({*ids, "derived"}) == 3
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert new_event_id() == "derived"
uninstall()
assert new_event_id() != "derived"
"""


def test_a_forked_child_derives_nothing_of_its_parents():
    subprocess.run([sys.executable, "-W", "error", "-c", FORKED], check=True, timeout=60)


def test_fresh_ids_stay_unique_over_threads_with_a_deriver_installed(call):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append([new_event_id() for _ in range(3000)])) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one for ids in found for one in ids}) == 12_000


def test_a_source_of_ids_that_fails_says_so_with_a_deriver_installed(call):
    with stamps(ids=[].pop), pytest.raises(IndexError):
        Event()


def test_without_a_deriver_the_source_is_asked_directly():
    uninstall = install_deriver(lambda: None)
    uninstall()
    assert sources._sources.take_id is sources._pop
