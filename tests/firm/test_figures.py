from datetime import date, timedelta

import pytest

from openoutcry.firm.bars import Bar, History, Session
from openoutcry.firm.buyhold import buy_and_hold
from openoutcry.firm.costs import fill_commission, fill_price
from openoutcry.firm.figures import daily_returns, drawdowns, figures
from openoutcry.firm.mandate import Mandate
from openoutcry.firm.money import to_units
from openoutcry.trading import OrderSide

START = date(2001, 1, 1)


def days(count):
    return [START + timedelta(days=number) for number in range(count)]


def test_returns_and_drawdowns_by_hand():
    assert daily_returns([110, 99], 100) == pytest.approx([0.1, -0.1])
    assert drawdowns([110, 99, 121], 100) == pytest.approx([0, 0.1, 0])
    assert drawdowns([90], 100) == pytest.approx([0.1])


def test_figures_by_hand():
    found = figures(days(4), [110, 99, 99, 120], 100)
    assert found.total_return == pytest.approx(0.2)
    assert found.profit == 20
    assert found.max_drawdown == pytest.approx(0.1)
    assert found.longest_drawdown_days == 2
    returns = [0.1, -0.1, 0.0, 120 / 99 - 1]
    mean = sum(returns) / 4
    deviation = (sum((one - mean) ** 2 for one in returns) / 3) ** 0.5
    assert found.volatility == pytest.approx(deviation * 252**0.5)
    assert found.sharpe == pytest.approx(mean / deviation * 252**0.5)


def test_a_year_of_calendar_time_is_a_year():
    found = figures([START, START + timedelta(days=731)], [100, 121], 100)
    assert found.annual_return == pytest.approx(0.1, abs=0.001)


def test_a_curve_that_does_not_move_has_no_sharpe_ratio():
    assert figures(days(3), [100, 100, 100], 100).sharpe == 0


def test_a_lost_fortune_is_a_total_loss_and_no_error():
    found = figures(days(2), [50, 0], 100)
    assert (found.total_return, found.annual_return, found.max_drawdown) == (-1, -1, 1)


@pytest.mark.parametrize("arguments", [([], [], 100), ([START], [], 100), ([START], [100], 0)])
def test_a_curve_without_values_is_an_error(arguments):
    with pytest.raises(ValueError, match="one value per day"):
        figures(*arguments)


def bar(symbol, day, opening, closing):
    return Bar(symbol, day, opening, max(opening, closing), min(opening, closing), closing, 1_000_000)


def test_holding_pays_slippage_and_commission_like_the_firm():
    mandate = Mandate(
        capital=to_units(10_000), slippage_bps=10, commission_bps=10, commission_min=to_units(1)
    )
    history = History(("X",), (Session(START, (bar("X", START, 100, 110),)),))
    held = buy_and_hold(history, mandate)
    # 99 shares at 100.10 are 9,909.90 and cost 9.9099 more; a hundredth does not fit.
    assert held.commissions == to_units(9.9099)
    assert held.equity == (to_units(10_000 - 99 * 100.10 - 9.9099 + 99 * 110),)


def test_holding_buys_only_what_trades_on_the_first_day():
    first, second = days(2)
    history = History(
        ("X", "Y"),
        (
            Session(first, (bar("X", first, 10, 10),)),
            Session(second, (bar("X", second, 10, 20), bar("Y", second, 5, 500))),
        ),
    )
    mandate = Mandate(slippage_bps=0, commission_bps=0, commission_min=0)
    assert buy_and_hold(history, mandate).symbols == ("X",)
    assert buy_and_hold(history, mandate).equity[-1] == 2 * mandate.capital
    assert buy_and_hold(history, mandate, ("Y",)).days == (second,)
    with pytest.raises(ValueError, match="no day"):
        buy_and_hold(history, mandate, ("Z",))


def test_slippage_is_always_to_the_worse_side():
    mandate = Mandate(slippage_bps=5, commission_bps=2, commission_min=to_units(1))
    assert fill_price(OrderSide.BUY, to_units(100), mandate) == to_units(100.05)
    assert fill_price(OrderSide.SELL, to_units(100), mandate) == to_units(99.95)
    assert fill_commission(1, to_units(100), mandate) == to_units(1)
    assert fill_commission(1_000, to_units(100), mandate) == to_units(20)
