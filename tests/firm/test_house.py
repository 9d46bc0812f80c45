import asyncio
from collections import Counter
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openoutcry.firm.bars import Bar, History, Session, load_history
from openoutcry.firm.chaos import AFTERMATH_DAYS, Trouble, draw_plan
from openoutcry.firm.happenings import OPENING
from openoutcry.firm.house import CALM, STORMY, House
from openoutcry.firm.mandate import Mandate
from openoutcry.firm.money import to_units
from openoutcry.firm.strategies import recipes
from openoutcry.testing import run_virtual
from openoutcry.trading import (
    ORDER_TRANSITIONS,
    DecisionEvent,
    FillEvent,
    MarketDataEvent,
    OrderEvent,
    OrderStateChangeEvent,
    SignalEvent,
    ValidatedDecisionEvent,
)

SMALL = load_history(("AAPL", "MSFT"), days=60)


def run_house(history, *, mandate=None, plan=None, agents=14, timing=CALM):
    """Run a house in virtual time: nothing waits, and timers ring in their order."""

    async def run():
        clock = asyncio.get_running_loop().clock  # type: ignore[attr-defined]
        house = House(
            history, recipes(agents), mandate=mandate or Mandate(), timing=timing, plan=plan, clock=clock
        )
        await house.run()
        return house

    return run_virtual(run())


@cache
def small_house():
    return run_house(SMALL)


@cache
def chaotic_house(seed=7):
    plan = draw_plan(seed, [recipe.name for recipe in recipes(14)], 60)
    return run_house(SMALL, plan=plan, timing=STORMY)


def trades_of(house):
    return [(t.day, t.symbol, t.side, t.shares, t.price, t.commission) for t in house.firm.portfolio.trades]


def history_of(house, kind):
    return house.bus.get_event_history(kind, limit=100_000)


# -- a calm run --------------------------------------------------------------------------------------


def test_a_small_run_has_the_same_totals_every_time():
    house = small_house()
    firm = house.firm
    totals = (
        house.bus.metrics.published,
        firm.cio.tally.votes_count,
        firm.cio.tally.abstentions_count,
        firm.cio.decisions_count,
        firm.execution.orders_count,
        firm.broker.fills_count,
        firm.portfolio.equity[-1],
    )
    again = run_house(SMALL).firm
    assert totals[1:] == (
        again.cio.tally.votes_count,
        again.cio.tally.abstentions_count,
        again.cio.decisions_count,
        again.execution.orders_count,
        again.broker.fills_count,
        again.portfolio.equity[-1],
    )
    assert trades_of(house) == trades_of(run_house(SMALL))


def test_real_time_and_virtual_time_trade_alike():
    house = House(SMALL, recipes(14))
    asyncio.run(house.run())
    assert trades_of(house) == trades_of(small_house())
    assert house.firm.portfolio.equity == small_house().firm.portfolio.equity


def test_a_round_is_held_on_every_symbol_and_day_and_everybody_answers():
    tally = small_house().firm.cio.tally
    assert tally.by_status == {"complete": 120}
    assert tally.votes_count + tally.abstentions_count == 120 * 14
    assert not tally.missing


def test_nothing_is_lost_and_the_books_agree():
    house = small_house()
    ledger = house.bus.ledger()
    assert ledger.balances
    assert ledger.total("accepted") == ledger.total("handled")
    firm = house.firm
    assert firm.portfolio.book.unbalanced == 0
    books = [keeper.book for keeper in (firm.portfolio, firm.cio, firm.risk, firm.compliance)]
    assert len({(book.cash + book.fees, book.realised, book.turnover) for book in books}) == 1
    assert len(firm.portfolio.days) == len(firm.portfolio.equity) == 60


def test_every_order_goes_along_legal_transitions_to_its_end():
    house = small_house()
    assert house.firm.execution.open_orders == []
    states = {}
    for change in history_of(house, OrderStateChangeEvent):
        assert change.from_state == states.get(change.order_id, change.from_state)
        assert change.to_state in ORDER_TRANSITIONS[change.from_state]
        states[change.order_id] = change.to_state
    assert states == house.firm.execution.states
    orders = history_of(house, OrderEvent)
    assert len({order.client_order_id for order in orders}) == len(orders) == len(states)


def test_orders_of_one_evening_are_filled_at_the_next_opening_with_slippage():
    house = small_house()
    orders = {order.order_id: order for order in history_of(house, OrderEvent)}
    days = [session.day for session in SMALL.sessions]
    opens = {(bar.symbol, bar.day): bar.open for session in SMALL.sessions for bar in session.bars}
    fills = history_of(house, FillEvent)
    assert fills
    for fill in fills:
        ordered = orders[fill.order_id].timestamp.date()
        filled = fill.timestamp.date()
        assert days.index(filled) == days.index(ordered) + 1
        sign = 1 if fill.side.value == "buy" else -1
        expected = to_units(opens[fill.symbol, filled])
        assert to_units(fill.fill_price) == expected + sign * round(expected * 5 / 10_000)


def test_a_fill_leads_back_to_its_bar_through_its_causes():
    firm = small_house().firm
    kinds = Counter()
    for trade in firm.portfolio.trades:
        chain = firm.archivist.explain(trade.fill_id)
        assert isinstance(chain[0], MarketDataEvent)
        assert chain[0].symbol == trade.symbol
        assert chain[-1].event_id == trade.fill_id
        assert all(later.causation_id == earlier.event_id for earlier, later in pairwise(chain))
        assert {event.correlation_id for event in chain[1:]} == {chain[0].event_id}
        kinds[tuple(type(event) for event in chain)] += 1
    usual = (
        MarketDataEvent,
        SignalEvent,
        DecisionEvent,
        ValidatedDecisionEvent,
        ValidatedDecisionEvent,
        OrderEvent,
        FillEvent,
    )
    assert kinds[usual] > 0


def test_no_position_is_opened_beyond_the_mandate():
    mandate = Mandate(long_max=0.2, short_max=0.05, gross_max=0.3)
    house = run_house(SMALL, mandate=mandate)
    for ruling in history_of(house, ValidatedDecisionEvent):
        if ruling.approved and ruling.side.value == "buy":
            assert ruling.risk_metrics["weight"] <= 0.2 + 1e-9
    assert house.firm.broker.fills_count > 0


def test_a_restricted_symbol_is_never_ordered():
    house = run_house(SMALL, mandate=Mandate(restricted=frozenset({"AAPL"})))
    assert house.firm.compliance.rejections["restricted list"] > 0
    assert {order.symbol for order in history_of(house, OrderEvent)} == {"MSFT"}


def test_an_order_too_large_for_the_market_is_refused():
    house = run_house(SMALL, mandate=Mandate(volume_max=1e-6))
    assert house.firm.compliance.rejections["share of volume"] > 0
    assert house.firm.execution.orders_count == 0


def test_a_deep_fall_takes_the_firm_out_of_the_market():
    house = run_house(
        load_history(("AAPL", "MSFT"), days=120), mandate=Mandate(drawdown_max=0.05, stop_loss=0.9)
    )
    risk, portfolio = house.firm.risk, house.firm.portfolio
    assert risk.halts_count > 0
    assert 0 in portfolio.gross[20:]


# -- no look-ahead -----------------------------------------------------------------------------------


def rewritten(history, cut, factor):
    """The same history up to a day, and another one after it."""

    def other(bar):
        return Bar(
            bar.symbol,
            bar.day,
            bar.open * factor,
            bar.high * factor,
            bar.low * factor,
            bar.close * factor,
            bar.volume,
        )

    sessions = [
        session if number <= cut else Session(session.day, tuple(other(bar) for bar in session.bars))
        for number, session in enumerate(history.sessions)
    ]
    return History(history.symbols, tuple(sessions))


@settings(max_examples=4, deadline=None)
@given(st.integers(3, 58))
def test_cutting_off_the_future_never_changes_the_past(cut):
    short = run_house(History(SMALL.symbols, SMALL.sessions[: cut + 1]))
    last = SMALL.sessions[cut].day.isoformat()
    assert trades_of(short) == [trade for trade in trades_of(small_house()) if trade[0] <= last]
    assert short.firm.portfolio.equity == small_house().firm.portfolio.equity[: cut + 1]


@settings(max_examples=4, deadline=None)
@given(st.integers(3, 57), st.sampled_from((0.5, 0.8, 1.3, 3.0)))
def test_another_future_never_changes_what_was_decided(cut, factor):
    house = run_house(rewritten(SMALL, cut, factor))
    last = SMALL.sessions[cut].day

    def decided(one):
        return [
            (decision.symbol, decision.action, decision.quantity, decision.rationale)
            for decision in history_of(one, DecisionEvent)
            if decision.timestamp.date() <= last
        ]

    assert decided(house) == decided(small_house())


def test_the_opening_print_says_nothing_of_the_day_to_come():
    for event in history_of(small_house(), MarketDataEvent):
        if event.interval == OPENING:
            assert (event.high, event.low, event.close, event.volume) == (None, None, None, None)


# -- chaos -------------------------------------------------------------------------------------------


def test_what_goes_wrong_is_noticed_and_the_firm_goes_on():
    house = chaotic_house()
    firm, tally = house.firm, house.firm.cio.tally
    dead = Counter(letter.subscription for letter in house.bus.dead_letters())
    for fault in house.plan.faults:
        if fault.trouble is not Trouble.FLOOD:
            assert tally.missing[fault.agent] > 0
            assert dead[fault.agent] > 0
    assert tally.by_status["complete"] > tally.by_status["quorate"] > 0
    assert firm.broker.fills_count > 0
    assert house.bus.metrics.refused["shed"] > 0
    assert {level.value for _, level in house.levels} == {"normal", "warning", "high", "critical"}


def test_the_kill_switch_reaches_everybody_in_the_midst_of_the_flood():
    house = chaotic_house()
    assert house.kill is not None
    assert house.kill.accepted
    assert house.kill.queue_size > STORMY.max_queue_size // 2
    assert set(house.kill.heard_ns) == {agent.name for agent in house.firm.everybody}
    assert all(agent.halted for agent in house.firm.everybody)


def test_after_the_kill_switch_nothing_trades_and_positions_are_kept():
    house = chaotic_house()
    firm = house.firm
    assert house.days_done == house.plan.kill_day + 1 + AFTERMATH_DAYS
    assert firm.execution.orders_count == house.kill.orders_before
    assert firm.execution.open_orders == []
    assert not [trade for trade in firm.portfolio.trades if trade.day > house.kill.day]
    for held in firm.portfolio.holdings.values():
        assert len(set(list(held.values())[-AFTERMATH_DAYS:])) == 1


def test_the_ledger_balances_in_chaos_too():
    house = chaotic_house()
    ledger = house.bus.ledger()
    assert ledger.balances
    assert ledger.total("waiting") == ledger.total("in_flight") == 0
    assert house.firm.portfolio.book.unbalanced == 0


def test_a_seed_brings_the_same_chaos_again():
    first, second = chaotic_house(), run_house(SMALL, plan=chaotic_house().plan, timing=STORMY)
    assert trades_of(first) == trades_of(second)
    assert first.firm.cio.tally.by_status == second.firm.cio.tally.by_status
    assert first.firm.cio.tally.missing == second.firm.cio.tally.missing


@pytest.mark.parametrize("seed", [1, 2])
def test_chaos_in_real_time_loses_nothing(seed):
    plan = draw_plan(seed, [recipe.name for recipe in recipes(8)], 24)
    house = House(load_history(("IBM",), days=24), recipes(8), timing=STORMY, plan=plan)
    asyncio.run(house.run())
    assert house.bus.ledger().balances
    assert house.kill.accepted
    assert house.firm.execution.orders_count == house.kill.orders_before
