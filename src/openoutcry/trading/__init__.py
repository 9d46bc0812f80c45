"""The vocabulary of a trading firm: one event class for each `EventType`.

All are frozen and take keywords only. Prices may be any finite number, negative ones too: spreads trade
below zero, and crude oil has, too. Quantities are positive; the side gives the direction. Ints and numpy
numbers become floats, bools are refused, lists become tuples and dicts `FrozenDict`s. Enum fields take the
member, its value or its name.
"""

from openoutcry.trading.decisions import DecisionEvent, SignalEvent, ValidatedDecisionEvent
from openoutcry.trading.market import GreeksUpdateEvent, MarketDataEvent, RollCompleteEvent, RollSignalEvent
from openoutcry.trading.orders import FillEvent, OrderEvent, OrderStateChangeEvent, TransactionReportEvent
from openoutcry.trading.oversight import (
    CorrelationAlertEvent,
    KillSwitchEvent,
    RiskAlertEvent,
    StressTestResultEvent,
    SurveillanceAlertEvent,
    SystemEvent,
)
from openoutcry.trading.words import (
    ORDER_TRANSITIONS,
    AlertSeverity,
    OrderSide,
    OrderState,
    OrderType,
    SignalDirection,
    TimeInForce,
)

__all__ = [
    "ORDER_TRANSITIONS",
    "AlertSeverity",
    "CorrelationAlertEvent",
    "DecisionEvent",
    "FillEvent",
    "GreeksUpdateEvent",
    "KillSwitchEvent",
    "MarketDataEvent",
    "OrderEvent",
    "OrderSide",
    "OrderState",
    "OrderStateChangeEvent",
    "OrderType",
    "RiskAlertEvent",
    "RollCompleteEvent",
    "RollSignalEvent",
    "SignalDirection",
    "SignalEvent",
    "StressTestResultEvent",
    "SurveillanceAlertEvent",
    "SystemEvent",
    "TimeInForce",
    "TransactionReportEvent",
    "ValidatedDecisionEvent",
]
