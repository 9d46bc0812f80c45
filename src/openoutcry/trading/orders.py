"""Orders and what becomes of them: state changes, fills, reports to the regulator."""

from typing import Any, cast

from openoutcry.errors import IllegalTransition
from openoutcry.events import Event, EventType
from openoutcry.events.checks import WIDE, settle_member, settle_moment, settle_number, settle_text
from openoutcry.events.given import FixedType
from openoutcry.trading.pricing import check_order_terms
from openoutcry.trading.words import (
    ORDER_TRANSITIONS,
    OrderSide,
    OrderState,
    OrderStateOrWord,
    OrderType,
    OrderTypeOrWord,
    SideOrWord,
    TimeInForce,
    TimeInForceOrWord,
)


class OrderEvent(Event, kw_only=True):
    """An order to be sent to the market."""

    event_type: FixedType = EventType.ORDER
    order_id: str
    """The firm's own id of the order."""
    client_order_id: str | None = None
    """The id by which the broker knows it, if that is another one."""
    decision_id: str | None = None
    """The event id of the decision that it carries out."""
    symbol: str
    """The instrument."""
    side: SideOrWord
    """Buy or sell."""
    quantity: float
    """Shares or contracts, above 0."""
    order_type: OrderTypeOrWord = cast(Any, OrderType.MARKET)
    """Which prices it has: a limit, a stop, both or none."""
    limit_price: float | None = None
    """The worst price to trade at; of LIMIT and STOP_LIMIT orders."""
    stop_price: float | None = None
    """Where it becomes active; of STOP and STOP_LIMIT orders."""
    time_in_force: TimeInForceOrWord = cast(Any, TimeInForce.DAY)
    """How long it stands."""

    def __post_init__(self) -> None:
        Event.__post_init__(self)
        if not (
            type(self.order_id) is str
            and self.order_id
            and type(self.symbol) is str
            and self.symbol
            and type(self.side) is OrderSide
            and type(self.quantity) is float
            and 0.0 < self.quantity < WIDE
            and type(self.time_in_force) is TimeInForce
        ):
            settle_text(self, "order_id")
            settle_text(self, "symbol")
            settle_member(self, "side", OrderSide)
            settle_number(self, "quantity", above=0.0)
            settle_member(self, "time_in_force", TimeInForce)
        if self.client_order_id is not None or self.decision_id is not None:
            settle_text(self, "client_order_id", none=True)
            settle_text(self, "decision_id", none=True)
        check_order_terms(self)


class FillEvent(Event, kw_only=True):
    """A trade that happened: all or part of an order."""

    event_type: FixedType = EventType.FILL
    order_id: str
    """The order that it belongs to."""
    symbol: str
    """The instrument."""
    side: SideOrWord
    """Buy or sell."""
    filled_quantity: float
    """In this fill, not in total."""
    fill_price: float
    """Per unit, in the instrument's currency."""
    commission: float = 0.0
    """In the account's currency; a rebate is negative."""
    exchange: str = ""
    """Where it was traded."""
    execution_id: str = ""
    """The venue's id of the trade."""

    def __post_init__(self) -> None:
        Event.__post_init__(self)
        if not (
            type(self.order_id) is str
            and self.order_id
            and type(self.symbol) is str
            and self.symbol
            and type(self.side) is OrderSide
            and type(self.filled_quantity) is float
            and 0.0 < self.filled_quantity < WIDE
            and type(self.fill_price) is float
            and -WIDE < self.fill_price < WIDE
            and type(self.commission) is float
            and -WIDE < self.commission < WIDE
            and type(self.exchange) is str
            and type(self.execution_id) is str
        ):
            self._settle()

    def _settle(self) -> None:
        settle_text(self, "order_id")
        settle_text(self, "symbol")
        settle_member(self, "side", OrderSide)
        settle_number(self, "filled_quantity", above=0.0)
        settle_number(self, "fill_price")
        settle_number(self, "commission")
        settle_text(self, "exchange", empty=True)
        settle_text(self, "execution_id", empty=True)


class OrderStateChangeEvent(Event, kw_only=True):
    """An order has gone from one state to another.

    `ORDER_TRANSITIONS` lists what is possible; anything else raises `IllegalTransition`.
    """

    event_type: FixedType = EventType.ORDER_STATE_CHANGE
    order_id: str
    """The order."""
    from_state: OrderStateOrWord
    """The state that it was in."""
    to_state: OrderStateOrWord
    """The state that it is in now."""
    reason: str = ""
    """Why, such as the broker's words for a rejection."""

    def __post_init__(self) -> None:
        Event.__post_init__(self)
        settle_text(self, "order_id")
        settle_member(self, "from_state", OrderState)
        settle_member(self, "to_state", OrderState)
        settle_text(self, "reason", empty=True)
        following = ORDER_TRANSITIONS[self.from_state]
        if self.to_state not in following:
            names = (
                ", ".join(state.name for state in OrderState if state in following) or "nothing: it is final"
            )
            raise IllegalTransition(
                f"{type(self).__name__}: order {self.order_id!r} cannot go from {self.from_state.name} to "
                f"{self.to_state.name}; from {self.from_state.name} leads: {names}; "
                f"publish the states between, or ask the broker for the order's state",
            )


class TransactionReportEvent(Event, kw_only=True):
    """A trade as reported to a regulator (MiFIR article 26, CAT and their like)."""

    event_type: FixedType = EventType.TRANSACTION_REPORT
    report_id: str
    """The report's own id."""
    order_id: str
    """The order that was traded."""
    execution_id: str = ""
    """The venue's id of the trade."""
    symbol: str
    """The instrument."""
    side: SideOrWord
    """Buy or sell."""
    quantity: float
    """Shares or contracts, above 0."""
    price: float
    """Per unit, in `currency`."""
    currency: str = ""
    """ISO 4217, such as "USD"."""
    venue: str = ""
    """ISO 10383, such as "XNAS"."""
    capacity: str = ""
    """In which capacity the firm traded: "DEAL", "MTCH" or "AOTC" under MiFIR."""
    executed_at_ns: int | None = None
    """When the trade happened, in nanoseconds since 1970 UTC; None if that is the event's own time."""

    def __post_init__(self) -> None:
        Event.__post_init__(self)
        for field in ("report_id", "order_id", "symbol"):
            settle_text(self, field)
        for field in ("execution_id", "currency", "venue", "capacity"):
            settle_text(self, field, empty=True)
        settle_member(self, "side", OrderSide)
        settle_number(self, "quantity", above=0.0)
        settle_number(self, "price")
        settle_moment(self, "executed_at_ns")
