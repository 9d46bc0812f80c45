import pytest
from hypothesis import given
from hypothesis import strategies as st

from openoutcry.firm.allocation import Ballot, conviction, target_weight, wanted_trade
from openoutcry.firm.book import Book
from openoutcry.firm.limits import Planned, judge, stopped_out
from openoutcry.firm.mandate import Mandate
from openoutcry.trading import OrderSide

MANDATE = Mandate(long_max=0.4, short_max=0.1, gross_max=1.0, conviction_scale=1.0, band=0.05)


def book_with(capital=1_000_000, **held):
    book = Book(capital)
    for symbol, quantity in held.items():
        side = OrderSide.BUY if quantity > 0 else OrderSide.SELL
        book.fill(symbol, side, abs(quantity), 100, 0)
    return book


def test_conviction_is_the_average_weighted_by_confidence():
    assert conviction([Ballot(1, 0.9), Ballot(-1, 0.3)]) == pytest.approx(0.5)
    assert conviction([Ballot(1, 0.5), Ballot(0, 0.5)]) == pytest.approx(0.5)
    assert conviction([Ballot(1, 0)]) == 0
    assert conviction([]) == 0


def test_the_target_keeps_within_the_mandate():
    assert target_weight(0.2, MANDATE) == pytest.approx(0.2)
    assert target_weight(0.9, MANDATE) == 0.4
    assert target_weight(-0.9, MANDATE) == -0.1


def test_a_trade_is_wanted_only_outside_the_band():
    assert wanted_trade(0.2, 0, 100, 1_000_000, MANDATE) == 2_000
    assert wanted_trade(0.2, 1_600, 100, 1_000_000, MANDATE) == 0
    assert wanted_trade(0.2, 1_400, 100, 1_000_000, MANDATE) == 600
    assert wanted_trade(0.0, 10, 100, 1_000_000, MANDATE) == -10
    assert wanted_trade(0.9, 10, 100, 0, MANDATE) == -10


def ruled(symbol, quantity, book, planned=None, *, halted=False):
    return judge(symbol, quantity, book=book, planned=planned or Planned(), mandate=MANDATE, halted=halted)


def test_a_trade_within_the_limits_passes_whole():
    book = book_with()
    book.mark("X", 100)
    assert ruled("X", 3_000, book) == (3_000, "")


def test_a_trade_beyond_the_position_limit_is_cut_to_it():
    book = book_with()
    book.mark("X", 100)
    assert ruled("X", 9_000, book).quantity == 4_000
    assert "position limit" in ruled("X", 9_000, book).reason
    assert ruled("X", -9_000, book).quantity == -1_000


def test_a_trade_beyond_the_gross_limit_is_cut_to_what_the_others_leave():
    book = book_with(A=4_000, B=4_000)
    book.mark("X", 100)
    assert ruled("X", 4_000, book) == (2_000, "cut to the gross exposure limit")


def test_what_was_allowed_today_counts_against_the_limits():
    book = book_with(A=4_000)
    book.mark("X", 100)
    book.mark("B", 100)
    planned = Planned()
    planned.add("B", 4_000)
    assert ruled("X", 4_000, book, planned).quantity == 2_000
    planned.add("X", 2_000)
    assert ruled("X", 1_000, book, planned).quantity == 0


def test_a_reduction_passes_whatever_the_limits_or_a_halt_say():
    book = book_with(X=9_000)
    assert ruled("X", -500, book, halted=True) == (-500, "")
    assert ruled("X", -9_000, book, halted=True) == (-9_000, "")
    assert ruled("X", 500, book, halted=True).quantity == 0


def test_in_a_halt_a_turn_from_long_to_short_only_closes():
    assert ruled("X", -2_000, book_with(X=1_500), halted=True).quantity == -1_500


def test_a_position_that_grew_past_its_limit_is_not_sold_by_force():
    book = book_with(X=3_900)
    book.mark("X", 200)
    assert ruled("X", 100, book).quantity == 0


@given(
    st.integers(-5_000, 5_000),
    st.integers(-9_000, 9_000).filter(bool),
    st.integers(-4_000, 4_000),
    st.integers(1, 500),
    st.booleans(),
)
def test_no_ruling_enlarges_a_trade_turns_it_or_breaks_a_limit(held, wanted, other, price, halted):
    book = book_with(10**7, **{name: shares for name, shares in (("X", held), ("A", other)) if shares})
    book.mark("X", price)
    allowed = ruled("X", wanted, book, halted=halted).quantity
    assert abs(allowed) <= abs(wanted)
    assert allowed * wanted >= 0
    goal = held + allowed
    if abs(goal) > abs(held) or goal * held < 0:
        limit = MANDATE.long_max if goal > 0 else MANDATE.short_max
        assert not halted
        assert abs(goal) * price <= limit * book.equity
        assert abs(goal) * price + abs(other) * 100 <= MANDATE.gross_max * book.equity


def test_a_stop_looks_at_the_average_price():
    book = book_with(X=100, Y=-100)
    for price, long_out, short_out in (
        (86, False, False),
        (84, True, False),
        (114, False, False),
        (116, False, True),
    ):
        book.mark("X", price)
        book.mark("Y", price)
        assert stopped_out(book.position("X"), 0.15) is long_out
        assert stopped_out(book.position("Y"), 0.15) is short_out
    assert not stopped_out(Book(1).position("Z"), 0.15)
