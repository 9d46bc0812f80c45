import pytest

from openoutcry.firm.brokerage import BrokerLedger, Order
from openoutcry.firm.brokerage.ledger import BrokerRefusal
from openoutcry.firm.costs import fill_commission, fill_price
from openoutcry.firm.mandate import Mandate
from openoutcry.firm.money import to_units
from openoutcry.trading import OrderSide

BUY = Order("2005-02-28-AAPL-buy", "ord-00001", "AAPL", OrderSide.BUY, 300)
SELL = Order("2005-02-28-IBM-sell", "ord-00002", "IBM", OrderSide.SELL, 50)
OPENING = to_units(44.5)


@pytest.fixture
def books(tmp_path):
    with BrokerLedger(tmp_path / "broker.db", Mandate()) as ledger:
        yield ledger


def test_an_order_is_filled_as_a_whole_at_the_next_opening_of_its_symbol(books):
    books.submit(BUY)
    assert not books.open("2005-03-01", "IBM", OPENING)
    assert books.open("2005-03-01", "AAPL", OPENING)
    (execution,) = books.executions()
    price = fill_price(OrderSide.BUY, OPENING, Mandate())
    assert (execution.order_id, execution.shares, execution.price) == ("ord-00001", 300, price)
    assert execution.commission == fill_commission(300, price, Mandate())
    assert execution.execution_id == "exec-00001"
    assert books.order(BUY.client_order_id).state == "filled"


def test_the_same_client_order_id_again_is_the_same_order_and_never_a_second_execution(books):
    assert not books.submit(BUY).repeated
    assert books.submit(BUY).repeated
    books.open("2005-03-01", "AAPL", OPENING)
    again = books.submit(BUY)
    assert again.repeated
    assert again.order.state == "filled"
    books.open("2005-03-02", "AAPL", OPENING)
    assert len(books.executions()) == len(books.orders()) == 1
    assert books.order(BUY.client_order_id).repeats == 2


def test_another_order_under_a_known_id_is_refused_and_changes_nothing(books):
    books.submit(BUY)
    with pytest.raises(BrokerRefusal, match="give another order another id"):
        books.submit(Order(BUY.client_order_id, "ord-00001", "AAPL", OrderSide.BUY, 301))
    assert books.orders() == [BUY]


def test_an_opening_print_that_was_heard_before_fills_nothing_that_came_later(books):
    books.submit(BUY)
    assert books.open("2005-03-01", "AAPL", OPENING)
    books.submit(Order("later", "ord-00003", "AAPL", OrderSide.BUY, 10))
    assert not books.open("2005-03-01", "AAPL", OPENING)
    assert books.order("later").state == "new"
    assert books.last_execution == 1


def test_executions_are_numbered_in_the_order_in_which_the_orders_came_in(books):
    later = Order("second", "ord-00003", "AAPL", OrderSide.BUY, 10)
    for order in (BUY, SELL, later):
        books.submit(order)
    books.open("2005-03-01", "AAPL", OPENING)
    books.open("2005-03-01", "IBM", OPENING)
    assert [(e.number, e.order_id) for e in books.executions()] == [
        (1, "ord-00001"),
        (2, "ord-00003"),
        (3, "ord-00002"),
    ]
    assert [e.number for e in books.executions(after=2)] == [3]


def test_an_order_that_is_filled_cannot_be_canceled_any_more(books):
    books.submit(BUY)
    books.submit(SELL)
    books.open("2005-03-01", "AAPL", OPENING)
    assert books.cancel(BUY.client_order_id).state == "filled"
    assert books.cancel(SELL.client_order_id).state == "canceled"
    assert books.cancel(SELL.client_order_id).state == "canceled"
    with pytest.raises(BrokerRefusal, match="unknown"):
        books.cancel("never heard of")


def test_what_is_not_filled_expires_with_the_market(books):
    books.submit(BUY)
    books.submit(SELL)
    books.open("2005-03-01", "AAPL", OPENING)
    assert books.close() == 1
    assert [order.state for order in books.orders()] == ["filled", "expired"]
    assert books.close() == 0


def test_the_books_are_the_same_after_the_broker_was_closed_and_opened_again(tmp_path):
    with BrokerLedger(tmp_path / "broker.db", Mandate()) as ledger:
        ledger.submit(BUY)
        ledger.open("2005-03-01", "AAPL", OPENING)
        ledger.submit(SELL)
        before = ledger.orders(), ledger.executions()
    with BrokerLedger(tmp_path / "broker.db", Mandate()) as ledger:
        assert (ledger.orders(), ledger.executions()) == before
        assert ledger.submit(BUY).repeated
        ledger.open("2005-03-01", "IBM", OPENING)
        assert ledger.last_execution == 2
