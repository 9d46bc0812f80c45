"""Near misses of names: which are found, which are left alone, and where the warning points."""

import warnings
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openoutcry.spelling import form_of, nearest, same_form, warn

KNOWN = ("market_data", "order", "fill", "kill_switch", "trend", "agent_1")


@pytest.mark.parametrize(
    "name",
    [
        "KILL_SWITCH",
        "killswitch",
        "kill-switch",
        " kill_switch",
        "KillSwitch",
        "kill switch ",
        "\uff4bill_switch",
    ],
)
def test_case_and_separators_make_no_other_name(name):
    assert same_form(name, KNOWN) == "kill_switch"


@pytest.mark.parametrize("name", ["", "--", "заказ", "orders", "kill"])
def test_a_name_of_other_letters_is_another_name(name):
    assert same_form(name, KNOWN) is None


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("oder", "order"),
        ("oredr", "order"),
        ("orders", "order"),
        ("market_dat", "market_data"),
        ("makret_dta", "market_data"),
        ("treend", "trend"),
        ("fil", None),  # too short to tell
        ("bid", None),
        ("agent_2", None),  # digits differ on purpose
        ("order_book", None),
        ("заказ", None),
    ],
)
def test_a_slip_of_the_keyboard_is_told_from_a_name_of_its_own(name, meant):
    assert nearest(name, KNOWN) == meant


def test_a_name_of_a_million_characters_is_compared_with_none_in_vain():
    long = "x" * 1_000_000
    began_s = perf_counter()
    assert nearest(long, [*KNOWN, f"{long}y"]) is None
    assert nearest("tremd", [*KNOWN, long]) == "trend"
    assert perf_counter() - began_s < 10


@given(st.text(), st.text())
def test_any_two_texts_can_be_compared(one, other):
    assert same_form(one, [other]) in (None, other)
    assert nearest(one, [other]) in (None, other)
    assert form_of(one) == form_of(form_of(one)) or not one.isascii()


def test_the_warning_points_at_the_line_of_the_user(caplog):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn("did you mean it?")
    assert [(w.filename, str(w.message)) for w in caught] == [(__file__, "did you mean it?")]
    assert caplog.messages == ["did you mean it?"]
