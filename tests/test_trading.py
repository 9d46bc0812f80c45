"""The vocabulary of the firm: what each event takes, what it refuses, and the life of an order."""

import math
from enum import StrEnum

import pytest

from openoutcry import trading
from openoutcry.errors import IllegalTransition, InvalidEvent
from openoutcry.events import Event, EventType, FrozenDict, fixed_event_type
from openoutcry.trading import (
    ORDER_TRANSITIONS,
    AlertSeverity,
    CorrelationAlertEvent,
    DecisionEvent,
    FillEvent,
    GreeksUpdateEvent,
    KillSwitchEvent,
    MarketDataEvent,
    OrderEvent,
    OrderSide,
    OrderState,
    OrderStateChangeEvent,
    OrderType,
    RiskAlertEvent,
    RollCompleteEvent,
    RollSignalEvent,
    SignalDirection,
    SignalEvent,
    StressTestResultEvent,
    SurveillanceAlertEvent,
    SystemEvent,
    TimeInForce,
    TransactionReportEvent,
    ValidatedDecisionEvent,
)

# the least that makes each class
LEAST = {
    MarketDataEvent: {"symbol": "ES", "price": 5000.25},
    SignalEvent: {"strategy_name": "trend", "symbol": "ES", "direction": SignalDirection.LONG},
    DecisionEvent: {"symbol": "ES", "action": OrderSide.BUY, "quantity": 2.0},
    ValidatedDecisionEvent: {"original_decision_id": "d1", "symbol": "ES", "approved": True},
    OrderEvent: {"order_id": "o1", "symbol": "ES", "side": OrderSide.SELL, "quantity": 2.0},
    FillEvent: {
        "order_id": "o1",
        "symbol": "ES",
        "side": OrderSide.SELL,
        "filled_quantity": 1.0,
        "fill_price": 5000.0,
    },
    RiskAlertEvent: {"severity": AlertSeverity.CRITICAL, "alert_type": "drawdown"},
    KillSwitchEvent: {},
    OrderStateChangeEvent: {
        "order_id": "o1",
        "from_state": OrderState.NEW,
        "to_state": OrderState.FILLED,
    },
    RollSignalEvent: {"symbol": "ES", "from_contract": "ESZ6", "to_contract": "ESH7"},
    RollCompleteEvent: {
        "symbol": "ES",
        "from_contract": "ESZ6",
        "to_contract": "ESH7",
        "quantity": 2.0,
        "from_price": 5000.0,
        "to_price": 5040.0,
    },
    SurveillanceAlertEvent: {"severity": AlertSeverity.WARNING, "alert_type": "layering"},
    TransactionReportEvent: {
        "report_id": "r1",
        "order_id": "o1",
        "symbol": "ES",
        "side": OrderSide.BUY,
        "quantity": 1.0,
        "price": 5000.0,
    },
    StressTestResultEvent: {"scenario": "1987", "passed": False, "projected_loss": 1e6},
    CorrelationAlertEvent: {"first_symbol": "ES", "second_symbol": "NQ", "correlation": 0.9},
    GreeksUpdateEvent: {"symbol": "ES", "delta": 0.5},
    SystemEvent: {},
}

TEXTS = [
    (MarketDataEvent, ["symbol"]),
    (SignalEvent, ["symbol", "strategy_name"]),
    (DecisionEvent, ["symbol"]),
    (ValidatedDecisionEvent, ["symbol", "original_decision_id"]),
    (OrderEvent, ["order_id", "symbol", "client_order_id", "decision_id"]),
    (FillEvent, ["order_id", "symbol"]),
    (RiskAlertEvent, ["alert_type"]),
    (KillSwitchEvent, ["scope"]),
    (OrderStateChangeEvent, ["order_id"]),
    (RollSignalEvent, ["symbol", "from_contract", "to_contract"]),
    (RollCompleteEvent, ["symbol", "from_contract", "to_contract"]),
    (SurveillanceAlertEvent, ["alert_type", "symbol"]),
    (TransactionReportEvent, ["report_id", "order_id", "symbol"]),
    (StressTestResultEvent, ["scenario"]),
    (CorrelationAlertEvent, ["first_symbol", "second_symbol"]),
    (GreeksUpdateEvent, ["symbol"]),
    (MarketDataEvent, ["interval"]),
]
LOOSE_TEXTS = [
    (SignalEvent, ["rationale"]),
    (DecisionEvent, ["rationale"]),
    (FillEvent, ["exchange", "execution_id"]),
    (RiskAlertEvent, ["message"]),
    (KillSwitchEvent, ["reason", "triggered_by"]),
    (OrderStateChangeEvent, ["reason"]),
    (RollSignalEvent, ["reason"]),
    (SurveillanceAlertEvent, ["message", "subject"]),
    (TransactionReportEvent, ["execution_id", "currency", "venue", "capacity"]),
    (CorrelationAlertEvent, ["message"]),
    (SystemEvent, ["component", "status", "message"]),
]
FINITE = [
    (MarketDataEvent, ["price", "open", "high", "low", "close", "bid", "ask"]),
    (SignalEvent, ["target_price", "stop_loss"]),
    (FillEvent, ["fill_price", "commission"]),
    (RiskAlertEvent, ["current_value", "threshold_value"]),
    (RollSignalEvent, ["spread"]),
    (RollCompleteEvent, ["from_price", "to_price", "cost"]),
    (TransactionReportEvent, ["price"]),
    (StressTestResultEvent, ["projected_loss", "loss_limit", "portfolio_value"]),
    (GreeksUpdateEvent, ["delta", "gamma", "vega", "theta", "rho", "underlying_price"]),
]
POSITIVE = [
    (DecisionEvent, ["quantity"]),
    (OrderEvent, ["quantity"]),
    (FillEvent, ["filled_quantity"]),
    (RollSignalEvent, ["quantity"]),
    (RollCompleteEvent, ["quantity"]),
    (TransactionReportEvent, ["quantity"]),
]
NOT_NEGATIVE = [
    (MarketDataEvent, ["volume", "bid_size", "ask_size"]),
    (ValidatedDecisionEvent, ["adjusted_quantity"]),
    (GreeksUpdateEvent, ["implied_volatility"]),
]
UNIT = [(SignalEvent, ["confidence"]), (DecisionEvent, ["conviction_score"])]
BOTH_WAYS = [
    (SignalEvent, ["strength"]),
    (CorrelationAlertEvent, ["correlation", "baseline_correlation", "threshold"]),
]
WHOLE = [
    (RollSignalEvent, ["days_to_expiry"]),
    (CorrelationAlertEvent, ["window_days"]),
    (TransactionReportEvent, ["executed_at_ns"]),
]
LISTS = [
    (SignalEvent, ["data_sources"]),
    (DecisionEvent, ["contributing_signals"]),
    (ValidatedDecisionEvent, ["compliance_checks"]),
    (RiskAlertEvent, ["affected_positions"]),
    (SurveillanceAlertEvent, ["order_ids"]),
    (KillSwitchEvent, ["releases"]),
]
FLAGS = [
    (ValidatedDecisionEvent, ["approved"]),
    (RiskAlertEvent, ["halt_trading"]),
    (KillSwitchEvent, ["activated"]),
    (StressTestResultEvent, ["passed"]),
]
MEMBERS = [
    (SignalEvent, "direction", SignalDirection),
    (DecisionEvent, "action", OrderSide),
    (DecisionEvent, "order_type", OrderType),
    (ValidatedDecisionEvent, "side", OrderSide),
    (OrderEvent, "side", OrderSide),
    (OrderEvent, "order_type", OrderType),
    (OrderEvent, "time_in_force", TimeInForce),
    (FillEvent, "side", OrderSide),
    (TransactionReportEvent, "side", OrderSide),
    (RiskAlertEvent, "severity", AlertSeverity),
    (SurveillanceAlertEvent, "severity", AlertSeverity),
    (CorrelationAlertEvent, "severity", AlertSeverity),
    (OrderStateChangeEvent, "from_state", OrderState),
    (OrderStateChangeEvent, "to_state", OrderState),
]


def fields(table):
    return [pytest.param(cls, field, id=f"{cls.__name__}.{field}") for cls, names in table for field in names]


def make(cls, **changes):
    return cls(**{**LEAST[cls], **changes})  # type: ignore[dict-item]


def refused(cls, field, value, limit):
    with pytest.raises(InvalidEvent) as caught:
        make(cls, **{field: value})
    text = str(caught.value)
    assert text.startswith(f"{cls.__name__}.{field} = {value!r}: ")
    assert limit in text
    assert ";" in text  # the remedy
    return text


# --- the classes


def test_there_is_one_class_for_each_event_type():
    assert {fixed_event_type(cls) for cls in LEAST} == set(EventType)
    assert set(LEAST) == {getattr(trading, name) for name in trading.__all__ if name.endswith("Event")}


@pytest.mark.parametrize("cls", LEAST)
def test_every_class_can_be_made_from_the_least_and_is_frozen_and_keyword_only(cls):
    event = make(cls)
    assert isinstance(event, Event)
    assert event.event_type is fixed_event_type(cls)
    for field in cls.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(event, field, None)
    with pytest.raises(TypeError):
        cls("positional")


@pytest.mark.parametrize("cls", LEAST)
def test_every_class_checks_its_envelope(cls):
    with pytest.raises(InvalidEvent, match=rf"{cls.__name__}\.event_id = ''"):
        make(cls, event_id="")
    with pytest.raises(InvalidEvent, match=rf"every {cls.__name__} is of type"):
        make(cls, event_type="other")


@pytest.mark.parametrize("cls", LEAST)
def test_no_class_takes_a_field_that_it_does_not_have(cls):
    with pytest.raises(TypeError, match="surprise"):
        make(cls, surprise=1)


def test_every_declared_field_is_covered_by_a_rule_here():
    covered = {
        (cls, field)
        for table in (TEXTS, LOOSE_TEXTS, FINITE, POSITIVE, NOT_NEGATIVE, UNIT, BOTH_WAYS)
        for cls, names in table
        for field in names
    }
    covered |= {(cls, field) for table in (WHOLE, LISTS, FLAGS) for cls, names in table for field in names}
    covered |= {(cls, field) for cls, field, _ in MEMBERS}
    elsewhere = {"limit_price", "stop_price", "risk_metrics", "rejection_reason", "position_losses"}
    elsewhere |= {"evidence", "details"}
    for cls in LEAST:
        for field in set(cls.__struct_fields__) - set(Event.__struct_fields__) - elsewhere:
            assert (cls, field) in covered, (cls, field)


# --- one field at a time


@pytest.mark.parametrize(("cls", "field"), fields(TEXTS))
def test_a_name_is_a_non_empty_string(cls, field):
    for wrong in ("", 5, b"ES", ["ES"]):
        refused(cls, field, wrong, "must be a non-empty string")


@pytest.mark.parametrize(("cls", "field"), fields(LOOSE_TEXTS))
def test_a_remark_is_a_string_and_may_be_empty(cls, field):
    assert getattr(make(cls, **{field: ""}), field) == ""
    for wrong in (None, 5):
        refused(cls, field, wrong, "must be a string")


@pytest.mark.parametrize(("cls", "field"), fields(FINITE + POSITIVE + NOT_NEGATIVE + UNIT + BOTH_WAYS))
def test_a_number_is_finite_and_neither_a_bool_nor_a_string(cls, field):
    for wrong in (math.nan, math.inf, -math.inf):
        with pytest.raises(InvalidEvent, match=rf"{cls.__name__}\.{field} = .*: must be a .*number"):
            make(cls, **{field: wrong})
    for wrong in (True, False, "1.5", 1j, [1.0]):  # type: ignore[assignment]
        refused(cls, field, wrong, f"pass a float, not a {type(wrong).__name__}")
    refused(cls, field, 10**400, "number")


@pytest.mark.parametrize(("cls", "field"), fields(FINITE + POSITIVE + NOT_NEGATIVE + UNIT + BOTH_WAYS))
def test_an_int_becomes_the_float_that_it_is(cls, field):
    kept = getattr(make(cls, **{field: 1}), field)
    assert (type(kept), kept) == (float, 1.0)


@pytest.mark.parametrize(("cls", "field"), fields(FINITE))
def test_a_price_may_be_negative(cls, field):
    assert getattr(make(cls, **{field: -37.63}), field) == -37.63


@pytest.mark.parametrize(("cls", "field"), fields(POSITIVE))
def test_a_quantity_is_above_zero(cls, field):
    for wrong in (0.0, -1.0, 0, -5):
        refused(cls, field, wrong, "must be a finite number above 0")


@pytest.mark.parametrize(("cls", "field"), fields(NOT_NEGATIVE))
def test_a_size_is_not_negative(cls, field):
    refused(cls, field, -0.5, "must be a finite number of at least 0")


@pytest.mark.parametrize(("cls", "field"), fields(UNIT))
def test_a_share_lies_between_nought_and_one(cls, field):
    for right in (0.0, 1.0, 0.5):
        assert getattr(make(cls, **{field: right}), field) == right
    for wrong in (-0.01, 1.01):
        refused(cls, field, wrong, "must be a number from 0 to 1")


@pytest.mark.parametrize(("cls", "field"), fields(BOTH_WAYS))
def test_a_signed_share_lies_between_minus_one_and_one(cls, field):
    for right in (-1.0, 1.0, 0.0):
        assert getattr(make(cls, **{field: right}), field) == right
    for wrong in (-1.01, 1.01):
        refused(cls, field, wrong, "must be a number from -1 to 1")


@pytest.mark.parametrize(("cls", "field"), fields(WHOLE))
def test_a_count_is_a_whole_number(cls, field):
    assert getattr(make(cls, **{field: 3}), field) == 3
    for wrong in (-1, True, 1.5, "3"):
        refused(cls, field, wrong, "must be a whole number of at least")


@pytest.mark.parametrize(("cls", "field"), fields(LISTS))
def test_a_list_of_names_becomes_a_tuple(cls, field):
    names = ["a", "b"]
    event = make(cls, **{field: names})
    names.append("c")
    assert getattr(event, field) == ("a", "b")
    for wrong in ("ab", None, [1], {"a": 1}):
        refused(cls, field, wrong, "must be a tuple of strings")


@pytest.mark.parametrize(("cls", "field"), fields(FLAGS))
def test_a_flag_is_true_or_false_and_nothing_like_it(cls, field):
    for wrong in (0, 1, "yes", None):
        refused(cls, field, wrong, "must be True or False")


@pytest.mark.parametrize(("cls", "field", "enum"), MEMBERS)
def test_a_word_is_taken_as_member_value_or_name(cls, field, enum):
    member = LEAST[cls].get(field) or next(iter(enum))  # type: ignore[attr-defined]
    for spelling in (member, member.value, member.name, member.name.title()):
        assert getattr(make(cls, **{field: spelling}), field) is member


@pytest.mark.parametrize(("cls", "field", "enum"), MEMBERS)
def test_a_word_that_is_not_in_the_list_is_refused_with_the_list(cls, field, enum):
    class Foreign(StrEnum):
        SAME = next(iter(enum)).value

    for wrong in ("sideways", 5, Foreign.SAME):
        assert next(iter(enum)).name in refused(cls, field, wrong, f"use a member of {enum.__name__}")


@pytest.mark.parametrize(
    ("cls", "field"), [(ValidatedDecisionEvent, "risk_metrics"), (StressTestResultEvent, "position_losses")]
)
def test_figures_are_a_frozen_mapping_to_finite_floats(cls, field):
    figures = {"var": 1, "es": 2.5}
    event = make(cls, **{field: figures})
    figures["var"] = 99
    kept = getattr(event, field)
    assert kept == {"var": 1.0, "es": 2.5}
    assert type(kept) is FrozenDict
    for wrong in ({"var": math.nan}, {"var": True}, {"var": "1"}, {1: 1.0}, [("var", 1.0)]):
        refused(cls, field, wrong, "must be a mapping from strings to finite numbers")


@pytest.mark.parametrize(("cls", "field"), [(SurveillanceAlertEvent, "evidence"), (SystemEvent, "details")])
def test_details_are_json_frozen_at_every_depth(cls, field):
    inner = [1, {"b": None}]
    event = make(cls, **{field: {"a": inner, "c": True, "d": "x", "e": 1.5}})
    inner.append(2)
    kept = getattr(event, field)
    assert kept == {"a": (1, {"b": None}), "c": True, "d": "x", "e": 1.5}
    with pytest.raises(TypeError):
        kept["a"][1]["b"] = 1
    for wrong, problem in (
        ({"a": math.inf}, "not a finite number"),
        ({"a": {1: 2}}, "key 1 is not a string"),
        ({"a": object}, "which JSON does not have"),
        ({"a": 2**70}, "does not fit 64 bits"),
    ):
        with pytest.raises(InvalidEvent, match=rf"{cls.__name__}\.{field}\['a'\] = .*: .*{problem}; "):
            make(cls, **{field: wrong})
    refused(cls, field, ["a"], "must be a mapping")


def test_an_integer_that_no_float_holds_is_refused():
    refused(FillEvent, "filled_quantity", 2**53 + 1, "must fit a float exactly; use a coarser unit")


# --- rules across fields


def test_the_prices_of_a_bar_lie_between_low_and_high():
    bar = {"open": 2.0, "high": 3.0, "low": 1.0, "close": 2.5}
    assert make(MarketDataEvent, **bar, volume=100.0, interval="1d").close == 2.5
    assert make(MarketDataEvent, open=2, high=3, low=1, close=3).high == 3.0
    assert make(MarketDataEvent, close=2.0).open is None
    for field, wrong, limit in (
        ("open", 0.5, "must not be below low = 1.0"),
        ("close", 0.5, "must not be below low = 1.0"),
        ("open", 3.5, "must not be above high = 3.0"),
        ("close", 3.5, "must not be above high = 3.0"),
    ):
        with pytest.raises(
            InvalidEvent, match=rf"MarketDataEvent\.{field} = {wrong}: {limit}; correct the bar"
        ):
            make(MarketDataEvent, **{**bar, field: wrong})
    with pytest.raises(InvalidEvent, match=r"low"):
        make(MarketDataEvent, low=2.0, high=1.0)


def test_a_crossed_quote_is_refused():
    assert make(MarketDataEvent, bid=1.0, ask=1.0, bid_size=5, ask_size=0).bid_size == 5.0
    assert make(MarketDataEvent, bid=1.0).ask is None
    with pytest.raises(InvalidEvent, match=r"bid = 1.1: must not be above ask = 1.0; drop the crossed quote"):
        make(MarketDataEvent, bid=1.1, ask=1.0)


@pytest.mark.parametrize("cls", [DecisionEvent, OrderEvent])
@pytest.mark.parametrize(
    ("kind", "wants_limit", "wants_stop"),
    [("MARKET", False, False), ("LIMIT", True, False), ("STOP", False, True), ("STOP_LIMIT", True, True)],
)
def test_each_kind_of_order_carries_just_its_prices(cls, kind, wants_limit, wants_stop):
    right = {"limit_price": 5.0 if wants_limit else None, "stop_price": 4.0 if wants_stop else None}
    event = make(cls, order_type=kind, **right)
    assert (event.order_type, event.limit_price, event.stop_price) == (OrderType[kind], *right.values())
    for field, price in right.items():
        wrong = {**right, field: 5.0 if price is None else None}
        limit = "has none; leave it out" if price is None else "needs it; give the price"
        with pytest.raises(InvalidEvent, match=rf"{cls.__name__}\.{field} = .*: a {kind} order {limit}"):
            make(cls, order_type=kind, **wrong)
        if price is not None:
            for bad in (math.nan, True, "5"):
                with pytest.raises(
                    InvalidEvent, match=rf"{cls.__name__}\.{field} = .*: must be a finite number"
                ):
                    make(cls, order_type=kind, **{**right, field: bad})


def test_a_verdict_gives_a_reason_exactly_when_it_rejects():
    assert make(ValidatedDecisionEvent, approved=False, rejection_reason="limit").approved is False
    with pytest.raises(InvalidEvent, match=r"rejection_reason = None: a rejected decision must say why"):
        make(ValidatedDecisionEvent, approved=False)
    with pytest.raises(InvalidEvent, match=r"rejection_reason = 'x': an approved decision has none"):
        make(ValidatedDecisionEvent, rejection_reason="x")
    with pytest.raises(InvalidEvent, match=r"adjusted_quantity = 0.0: an approved quantity is above 0"):
        make(ValidatedDecisionEvent, adjusted_quantity=0)
    assert make(ValidatedDecisionEvent, approved=False, rejection_reason="x", adjusted_quantity=0)


@pytest.mark.parametrize("cls", [RollSignalEvent, RollCompleteEvent])
def test_a_roll_goes_from_one_contract_to_another(cls):
    with pytest.raises(InvalidEvent, match=r"to_contract = 'ESZ6': must differ from from_contract"):
        make(cls, to_contract="ESZ6")


def test_a_stress_test_beyond_its_limit_has_not_passed():
    assert make(StressTestResultEvent, passed=True, projected_loss=1.0, loss_limit=1.0).passed
    with pytest.raises(
        InvalidEvent, match=r"projected_loss = 2.0: a loss above loss_limit = 1.0 has not passed"
    ):
        make(StressTestResultEvent, passed=True, projected_loss=2.0, loss_limit=1.0)


def test_a_kill_switch_needs_nothing_filled_in():
    event = KillSwitchEvent()
    assert (event.activated, event.scope, event.reason) == (True, "firm", "")


# --- the life of an order


def test_every_state_has_its_row_and_leads_only_to_states():
    assert set(ORDER_TRANSITIONS) == set(OrderState)
    assert all(following <= set(OrderState) for following in ORDER_TRANSITIONS.values())
    with pytest.raises(TypeError):
        ORDER_TRANSITIONS[OrderState.FILLED] = frozenset(OrderState)  # type: ignore[index]


def test_the_four_ends_are_final_and_everything_else_can_reach_one():
    ends = {OrderState.FILLED, OrderState.CANCELED, OrderState.REJECTED, OrderState.EXPIRED}
    assert {state for state, following in ORDER_TRANSITIONS.items() if not following} == ends
    assert all(following & ends for state, following in ORDER_TRANSITIONS.items() if state not in ends)


def test_every_state_can_be_reached_from_the_first_and_nothing_leads_back_to_it():
    reached, edge = {OrderState.CREATED}, {OrderState.CREATED}
    while edge:
        edge = {after for state in edge for after in ORDER_TRANSITIONS[state]} - reached
        reached |= edge
    assert reached == set(OrderState)
    assert all(OrderState.CREATED not in following for following in ORDER_TRANSITIONS.values())


def test_only_partial_fills_repeat():
    assert {state for state, following in ORDER_TRANSITIONS.items() if state in following} == {
        OrderState.PARTIALLY_FILLED
    }


def test_acknowledged_is_another_name_of_new():
    assert OrderState.ACKNOWLEDGED is OrderState.NEW
    event = make(OrderStateChangeEvent, from_state="PENDING_NEW", to_state="acknowledged")
    assert event.to_state is OrderState.NEW


@pytest.mark.parametrize("before", OrderState)
def test_an_order_goes_along_the_table_and_nowhere_else(before):
    for after in OrderState:
        change = {"from_state": before, "to_state": after}
        if after in ORDER_TRANSITIONS[before]:
            assert make(OrderStateChangeEvent, **change).to_state is after
            continue
        with pytest.raises(IllegalTransition) as caught:
            make(OrderStateChangeEvent, **change)
        text = str(caught.value)
        assert f"order 'o1' cannot go from {before.name} to {after.name}" in text
        assert "leads: " in text
        assert isinstance(caught.value, InvalidEvent)
