from hypothesis import given
from hypothesis import strategies as st

from openoutcry.firm.book import Book, Position
from openoutcry.firm.money import in_words, share_of, to_dollars, to_units
from openoutcry.trading import OrderSide

BUY, SELL = OrderSide.BUY, OrderSide.SELL


def test_a_round_trip_by_hand():
    book = Book(to_units(10_000))
    book.fill("X", BUY, 100, to_units(50), to_units(1))
    assert (book.cash, book.quantity("X")) == (to_units(4_999), 100)
    book.mark("X", to_units(52.5))
    assert book.equity == to_units(4_999 + 5_250)
    assert book.gross == to_units(5_250)
    assert book.fill("X", SELL, 100, to_units(55), to_units(1)) == to_units(500)
    assert (book.cash, book.quantity("X"), book.position("X").cost) == (to_units(10_498), 0, 0)
    assert book.realised == to_units(500)
    assert book.turnover == to_units(5_000 + 5_500)


def test_a_partial_sale_takes_its_share_of_the_average_cost():
    position = Position()
    position.trade(100, 100)
    position.trade(50, 160)
    assert position.cost == 18_000
    assert position.trade(-60, 200) == 60 * 200 - 18_000 * 60 // 150
    assert (position.quantity, position.cost) == (90, 10_800)


def test_a_short_sale_gains_when_the_price_falls():
    book = Book(to_units(10_000))
    book.fill("X", SELL, 10, to_units(100), 0)
    book.mark("X", to_units(90))
    assert (book.equity, book.short_value) == (to_units(10_100), to_units(900))
    assert book.fill("X", BUY, 10, to_units(80), 0) == to_units(200)
    assert book.equity == to_units(10_200)


def test_going_from_long_to_short_closes_one_and_opens_the_other():
    position = Position()
    position.trade(10, 100)
    assert position.trade(-25, 120) == 200
    assert (position.quantity, position.cost, position.average_price) == (-15, -1_800, 120)
    assert (position.closed_count, position.won_count) == (1, 1)


def test_a_fee_is_taken_from_the_cash():
    book = Book(1_000)
    book.charge(10)
    assert (book.cash, book.fees, book.equity, book.unbalanced) == (990, 10, 990, 0)


trades = st.lists(
    st.tuples(
        st.sampled_from("XYZ"),
        st.sampled_from((BUY, SELL)),
        st.integers(1, 10_000),
        st.integers(1, 10**8),
        st.integers(0, 10**6),
    ),
    max_size=40,
)


@given(trades, st.integers(0, 10**12))
def test_the_books_balance_to_the_last_unit_whatever_is_traded(deals, capital):
    book = Book(capital)
    for symbol, side, shares, price, commission in deals:
        book.fill(symbol, side, shares, price, commission)
        assert book.unbalanced == 0
    for symbol in "XYZ":
        held = book.quantity(symbol)
        if held:
            book.fill(symbol, SELL if held > 0 else BUY, abs(held), 77, 0)
    assert book.unbalanced == 0
    assert all(position.cost == 0 for position in book.positions.values())
    assert book.equity == book.cash == capital + book.realised - book.commissions


@given(trades)
def test_equity_changes_by_no_more_than_the_commission_when_a_fill_is_at_the_mark(deals):
    book = Book(10**12)
    for symbol, side, shares, price, commission in deals:
        book.mark(symbol, price)
        before = book.equity
        book.fill(symbol, side, shares, price, commission)
        assert book.equity == before - commission


def test_money_is_counted_in_ten_thousandths_and_written_for_people():
    assert to_units(0.1) + to_units(0.2) == to_units(0.3)
    assert to_dollars(12_345) == 1.2345
    assert share_of(to_units(1_000_000), 5) == to_units(500)
    assert in_words(to_units(-1_234.5)) == "-$1,234"
    assert in_words(to_units(1_234_567), signed=True) == "+$1,234,567"
