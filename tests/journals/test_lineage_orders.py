"""What an explanation says of orders: their fills together, names used twice, ends, refusals, figures."""

from pathlib import Path
from typing import Any, Literal

import pytest
from lineage_kit import NOON_NS, written

from openoutcry import (
    DecisionEvent,
    Event,
    FillEvent,
    MarketDataEvent,
    OrderEvent,
    OrderSide,
    OrderStateChangeEvent,
    SignalEvent,
    ValidatedDecisionEvent,
)
from openoutcry.journals import Explanation, Lineage
from openoutcry.journals.lineage.words import figure, money, price

DAY_NS = 86_400 * 1_000_000_000


def explained(path: Path, ref: str, **options: Any) -> Explanation:
    with Lineage(path, **options) as lineage:
        return lineage.explain(ref)


def order(order_id: str, cause: Event | None, *, quantity: float = 100, **fields: Any) -> OrderEvent:
    given: dict[str, Any] = {"client_order_id": f"c-{order_id}", "side": "buy", **fields}
    return OrderEvent(
        order_id=order_id,
        symbol="ES",
        quantity=quantity,
        source_agent="execution",
        causation_id=None if cause is None else cause.event_id,
        **given,
    )


def fill(order_id: str, quantity: float, at: float, cause: Event | None = None, **fields: Any) -> FillEvent:
    given: dict[str, Any] = {"side": "buy", "symbol": "ES", **fields}
    return FillEvent(
        order_id=order_id,
        filled_quantity=quantity,
        fill_price=at,
        source_agent="broker",
        causation_id=None if cause is None else cause.event_id,
        **given,
    )


def decision(cause: Event | None, action: Literal["buy", "sell"] = "buy", **fields: Any) -> DecisionEvent:
    return DecisionEvent(
        symbol="ES",
        action=action,
        quantity=100,
        rationale="so it is",
        source_agent="cio",
        causation_id=None if cause is None else cause.event_id,
        **fields,
    )


def verdict(of: DecisionEvent, cause: Event, quantity: float | None, who: str) -> ValidatedDecisionEvent:
    return ValidatedDecisionEvent(
        original_decision_id=of.event_id,
        symbol="ES",
        approved=quantity is not None,
        adjusted_quantity=quantity,
        rejection_reason=None if quantity is not None else "too much of it",
        side="buy",
        source_agent=who,
        causation_id=cause.event_id,
    )


def test_of_a_partial_fill_it_is_told_what_the_order_came_to(tmp_path: Path) -> None:
    sent = order("o-1", None)
    parts = [fill("o-1", 30, 10.0, sent), fill("o-1", 30, 10.5, sent), fill("o-1", 40, 11.0, sent)]
    path = written(tmp_path / "firm.db", sent, *parts)
    came_to = "of 3 of order o-1, which came to 100 of 100 at 10.55 on average."
    assert f"It is fill 3 {came_to}" in explained(path, "o-1").summary
    assert f"It is fill 1 {came_to}" in explained(path, parts[0].event_id).summary


@pytest.mark.parametrize("is_ended", [False, True])
def test_an_order_that_was_filled_in_part_says_what_became_of_the_rest(
    tmp_path: Path, is_ended: bool
) -> None:
    sent = order("o-1", None)
    end = OrderStateChangeEvent(
        order_id="o-1", from_state="partially_filled", to_state="canceled", reason="the day is over"
    )
    path = written(tmp_path / "firm.db", sent, fill("o-1", 30, 10.0, sent), *([end] if is_ended else []))
    rest = "; it was canceled (the day is over)." if is_ended else " so far."
    assert f"Order o-1 came to 30 of 100 at 10.00{rest}" in explained(path, "o-1").summary


def test_an_order_that_was_filled_at_once_says_nothing_more_of_it(tmp_path: Path) -> None:
    sent = order("o-1", None)
    path = written(tmp_path / "firm.db", sent, fill("o-1", 100, 10.0, sent))
    assert "came to" not in explained(path, "o-1").summary
    assert "Order o-1 came to 100 of 100 at 10.00." in explained(path, sent.event_id).summary


def test_two_orders_of_one_name_are_both_named_and_the_last_is_explained(tmp_path: Path) -> None:
    first, second = order("o-1", None, client_order_id="c"), order("o-2", None, client_order_id="c")
    fills = [fill("o-1", 100, 10.0, first), fill("o-2", 100, 11.0, second)]
    found = explained(written(tmp_path / "firm.db", first, second, *fills), "c")
    assert found.summary.startswith(
        "2 orders go by the name c: o-1 (#1) and o-2 (#2); this is about the last."
    )
    assert found.chain[-1].event_id == fills[1].event_id


def test_an_id_that_is_used_again_leads_each_fill_to_its_own_order(tmp_path: Path) -> None:
    """The ids begin anew every day, and the fills name no cause."""
    monday, tuesday = order("o-1", None), order("o-1", None, quantity=7, side="sell")
    fills = [fill("o-1", 100, 10.0), fill("o-1", 7, 9.0, side="sell")]
    path = written(tmp_path / "firm.db", monday, fills[0], tuesday, fills[1])
    for filled, sent in zip(fills, (monday, tuesday), strict=True):
        found = explained(path, filled.event_id)
        assert [step.event_id for step in found.chain] == [sent.event_id, filled.event_id]
        assert "came to" not in found.summary
    again = order("o-1", None, quantity=5)
    path = written(tmp_path / "open.db", monday, fills[0], again)
    found = explained(path, "o-1")
    assert found.chain[-1].event_id == again.event_id, "not the fill of the day before"
    assert "Nothing of 5 was filled so far." in found.summary


def test_a_name_that_looks_like_a_position_is_found_or_told_of(tmp_path: Path) -> None:
    far, near = order("#99", None), order("#1", None)
    path = written(tmp_path / "firm.db", far, near)
    assert explained(path, "#99").chain[-1].event_id == far.event_id
    found = explained(path, "#1")
    assert found.chain[-1].event_id == far.event_id, "a position is taken for that"
    assert found.summary.startswith("This is position #1; an order of that name is at #2.")
    assert "position" not in explained(path, "#2").summary


def test_a_decision_that_was_refused_or_made_anew_says_so(tmp_path: Path) -> None:
    first = decision(None)
    second = decision(first, "sell")
    refusal = verdict(second, second, None, "risk")
    path = written(tmp_path / "firm.db", first, second, refusal)
    assert "After that cio decided to sell 100 ES (#2)." in explained(path, first.event_id).summary
    assert "risk refused it: too much of it (#3)." in explained(path, second.event_id).summary


def test_each_verdict_is_held_against_what_the_one_before_has_left(tmp_path: Path) -> None:
    asked = decision(None)
    cut = verdict(asked, asked, 60, "risk")
    passed = verdict(asked, cut, 60, "compliance")
    again = verdict(asked, passed, 50, "desk")
    steps = explained(written(tmp_path / "firm.db", asked, cut, passed, again), again.event_id).chain
    assert [step.said for step in steps[1:]] == ["allowed 60 of 100", "allowed 60", "allowed 50 of 60"]


def test_that_no_vote_decided_is_only_said_where_all_is_known(tmp_path: Path) -> None:
    tick = MarketDataEvent(symbol="ES", price=10)
    asked = decision(None)
    allowed = verdict(asked, tick, 100, "risk")
    sent = order("o-1", allowed)
    known = written(tmp_path / "known.db", tick, allowed, sent, fill("o-1", 100, 10.0, sent))
    assert "No vote decided it." in explained(known, "o-1").summary
    lost = written(tmp_path / "lost.db", allowed, sent, fill("o-1", 100, 10.0, sent))
    found = explained(lost, "o-1")
    assert "vote" not in found.summary
    assert found.unknown


def test_of_a_simulation_both_clocks_are_told(tmp_path: Path) -> None:
    tick = MarketDataEvent(symbol="ES", price=10, timestamp=NOON_NS - 100 * DAY_NS)
    sent = order("o-1", tick, timestamp=tick.timestamp)
    filled = fill("o-1", 100, 10.0, sent, timestamp=NOON_NS - 97 * DAY_NS - DAY_NS // 2)
    found = explained(written(tmp_path / "firm.db", tick, sent, filled), "o-1")
    said = (
        "It was filled at 10.00: 2.5 d after market data #1 by the times in the events, 2.0 ms by the firm's"
    )
    assert said in found.summary


def test_a_position_says_where_it_turned(tmp_path: Path) -> None:
    trades = [fill("a", 50, 10.0, side="sell"), fill("b", 80, 11.0), fill("c", 20, 12.0)]
    text = explained(written(tmp_path / "firm.db", *trades), "ES").text()
    assert "Since it turned from sold short to bought, 2 fills:" in text
    short_of_it = explained(written(tmp_path / "short.db", trades[0]), "ES")
    assert short_of_it.title.startswith("Why 50 ES are sold short, since fill #1 ")
    assert "Since it was last flat, 1 fill:" in short_of_it.text()


def test_what_is_left_of_many_fills_is_not_an_error_of_addition(tmp_path: Path) -> None:
    trades = [fill("a", 0.1, 10.0), fill("b", 0.2, 10.0), fill("c", 0.3, 10.0, side="sell")]
    found = explained(written(tmp_path / "firm.db", *trades), "ES")
    assert found.title.startswith("Why no ES is held any more")
    assert "neither a gain nor a loss before commissions" in found.summary
    tiny = [fill("a", 3e-10, 10.0)]
    assert explained(written(tmp_path / "tiny.db", *tiny), "ES").title.startswith(
        "Why 0.0000000003 ES are held"
    )


def test_the_loudest_vote_for_a_decision_stands_in_its_chain(tmp_path: Path) -> None:
    tick = MarketDataEvent(symbol="ES", price=10, round_id="r")
    signals = [
        SignalEvent(
            strategy_name=name,
            source_agent=name,
            symbol="ES",
            direction="long" if strength > 0 else "short",
            strength=strength,
            confidence=0.5,
            round_id="r",
            causation_id=tick.event_id,
        )
        for name, strength in (("bear", -0.9), ("mild", 0.2), ("bull", 0.6), ("gloom", -0.3))
    ]
    names = tuple(one.event_id for one in signals)
    buys = decision(signals[1], contributing_signals=names)
    alone = decision(None, contributing_signals=names)
    against = decision(None, "sell", contributing_signals=names[1:3])
    path = written(tmp_path / "firm.db", tick, *signals, buys, alone, against)
    assert explained(path, alone.event_id).chain[-2].agent == "bull"
    assert explained(path, against.event_id).chain[-2].agent == "bull", "where nobody was for it, the loudest"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1_200.0, "1,200"),
        (0.5, "0.5"),
        (0.00001234, "0.00001234"),
        (0.99999999, "1"),
        (43_281.99999999, "43,282"),
        (-0.25, "-0.25"),
        (-0.0, "0"),
        (1e300, "1e+300"),
        (1e-20, "1e-20"),
        (None, "?"),
    ],
)
def test_a_quantity_is_shown_as_it_is(value: float | None, said: str) -> None:
    assert figure(value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (100.0, "100.00"),
        (3.5111, "3.5111"),
        (61_234.5678, "61,234.5678"),
        (0.0000123, "0.0000123"),
        (0.5, "0.50"),
        (0.0, "0.00"),
        (-37.63, "-37.63"),
        (1e20, "1e+20"),
    ],
)
def test_a_price_has_two_decimals_and_as_many_more_as_it_needs(value: float, said: str) -> None:
    assert price(value) == said


def test_an_amount_has_two_decimals_and_is_never_nothing_when_it_is_something() -> None:
    assert [money(one) for one in (77_478.943, 14.8379, 0.0034, 2.0)] == [
        "77,478.94",
        "14.84",
        "0.0034",
        "2.00",
    ]


def test_a_long_symbol_and_order_id_are_kept_whole_in_the_data(tmp_path: Path) -> None:
    symbol, name = "S" * 100, "o" * 100
    trades = [fill(name, 10, 5.0, symbol=symbol), fill(name, 4, 6.0, symbol=symbol, side=OrderSide.SELL)]
    found = explained(written(tmp_path / "firm.db", *trades), symbol)
    assert [one.order_id for one in found.held] == [name, name]
    assert "a gain of 4.00 (20.0%) before commissions" in found.summary
