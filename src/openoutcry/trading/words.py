"""The fixed words of trading: sides, types and states of orders, directions, severities.

A field of an event that holds a member also takes its word: `OrderEvent(side="buy", ...)`. At the end are the
types of such fields, as type checkers see them.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal


class SignalDirection(StrEnum):
    """Where a strategy would stand."""

    LONG = "long"
    SHORT = "short"
    FLAT = "flat"


class OrderSide(StrEnum):
    """Which way a quantity goes."""

    BUY = "buy"
    SELL = "sell"


class OrderType(StrEnum):
    """How an order meets the market."""

    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"
    STOP_LIMIT = "stop_limit"


class TimeInForce(StrEnum):
    """How long an order stays in force."""

    DAY = "day"
    GTC = "gtc"
    """Good till cancelled."""
    IOC = "ioc"
    """Immediate or cancel: what is not filled at once is cancelled."""
    FOK = "fok"
    """Fill or kill: all at once, or nothing."""


class AlertSeverity(StrEnum):
    """How severe an alert is."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"
    EMERGENCY = "emergency"


class OrderState(StrEnum):
    """The state of an order, in the words of FIX (tag 39, OrdStatus), with CREATED before them."""

    CREATED = "created"
    """Made here, not yet sent."""
    PENDING_NEW = "pending_new"
    """Sent, not yet acknowledged."""
    NEW = "new"
    """Acknowledged and working at the venue."""
    ACKNOWLEDGED = "new"
    """The same state as NEW, by the name that many brokers use."""
    PARTIALLY_FILLED = "partially_filled"
    PENDING_CANCEL = "pending_cancel"
    PENDING_REPLACE = "pending_replace"
    SUSPENDED = "suspended"
    """Held by the venue, for instance in a trading halt."""
    DONE_FOR_DAY = "done_for_day"
    """No longer working today; a GTC order comes back."""
    FILLED = "filled"
    CANCELED = "canceled"
    REJECTED = "rejected"
    EXPIRED = "expired"


def _transitions() -> dict[OrderState, frozenset[OrderState]]:
    s = OrderState
    ends = {s.FILLED, s.CANCELED, s.EXPIRED}
    works = ends | {s.PARTIALLY_FILLED, s.PENDING_CANCEL, s.PENDING_REPLACE, s.SUSPENDED, s.DONE_FOR_DAY}
    table: dict[OrderState, set[OrderState]] = {
        s.CREATED: {s.PENDING_NEW, s.NEW, s.CANCELED, s.REJECTED},
        # a venue may fill or kill an order before its acknowledgement arrives
        s.PENDING_NEW: ends | {s.NEW, s.REJECTED, s.PARTIALLY_FILLED, s.PENDING_CANCEL, s.SUSPENDED},
        s.NEW: works | {s.REJECTED},
        s.PARTIALLY_FILLED: works,
        # a refused cancel or replace puts the order back into its former state; fills race with both
        s.PENDING_CANCEL: ends | {s.NEW, s.PARTIALLY_FILLED, s.REJECTED},
        s.PENDING_REPLACE: ends | {s.NEW, s.PARTIALLY_FILLED, s.PENDING_CANCEL, s.REJECTED},
        s.SUSPENDED: ends | {s.NEW, s.PARTIALLY_FILLED, s.PENDING_CANCEL, s.DONE_FOR_DAY},
        s.DONE_FOR_DAY: {s.NEW, s.PARTIALLY_FILLED, s.PENDING_CANCEL, s.CANCELED, s.EXPIRED},
        s.FILLED: set(),
        s.CANCELED: set(),
        s.REJECTED: set(),
        s.EXPIRED: set(),
    }
    return {state: frozenset(following) for state, following in table.items()}


ORDER_TRANSITIONS: Final[Mapping[OrderState, frozenset[OrderState]]] = MappingProxyType(_transitions())
"""The states that may follow each state. PARTIALLY_FILLED follows itself with every further fill."""


if TYPE_CHECKING:
    from openoutcry.events.given import Given

    DirectionOrWord = Given[SignalDirection, SignalDirection | Literal["long", "short", "flat"]]
    SideOrWord = Given[OrderSide, OrderSide | Literal["buy", "sell"]]
    SideOrWordOrNone = Given[OrderSide | None, OrderSide | Literal["buy", "sell"] | None]
    OrderTypeOrWord = Given[OrderType, OrderType | Literal["market", "limit", "stop", "stop_limit"]]
    TimeInForceOrWord = Given[TimeInForce, TimeInForce | Literal["day", "gtc", "ioc", "fok"]]
    SeverityOrWord = Given[AlertSeverity, AlertSeverity | Literal["info", "warning", "critical", "emergency"]]
    OrderStateWord = Literal[
        "created",
        "pending_new",
        "new",
        "partially_filled",
        "pending_cancel",
        "pending_replace",
        "suspended",
        "done_for_day",
        "filled",
        "canceled",
        "rejected",
        "expired",
    ]
    OrderStateOrWord = Given[OrderState, OrderState | OrderStateWord]
else:
    DirectionOrWord = SignalDirection
    SideOrWord = OrderSide
    SideOrWordOrNone = OrderSide | None
    OrderTypeOrWord = OrderType
    TimeInForceOrWord = TimeInForce
    SeverityOrWord = AlertSeverity
    OrderStateOrWord = OrderState
