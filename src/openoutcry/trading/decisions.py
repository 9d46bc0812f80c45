"""How the firm decides: strategies signal, the CIO decides, risk and compliance validate."""

from collections.abc import Mapping
from typing import Any, Final, cast

from openoutcry.events import Event, EventType, FrozenDict
from openoutcry.events.checks import (
    NO_TEXTS,
    WIDE,
    refuse,
    settle_figures,
    settle_flag,
    settle_member,
    settle_number,
    settle_text,
    settle_texts,
)
from openoutcry.events.given import FixedType, Texts
from openoutcry.trading.pricing import check_order_terms
from openoutcry.trading.words import (
    DirectionOrWord,
    OrderSide,
    OrderType,
    OrderTypeOrWord,
    SideOrWord,
    SideOrWordOrNone,
    SignalDirection,
)

_NO_FIGURES: Final[FrozenDict[str, float]] = FrozenDict()


class SignalEvent(Event, kw_only=True):
    """A strategy's opinion of one symbol; what the signal barrier collects."""

    event_type: FixedType = EventType.SIGNAL
    strategy_name: str
    """The strategy whose opinion it is."""
    symbol: str
    """The instrument."""
    direction: DirectionOrWord
    """Where it would stand: long, short or flat."""
    strength: float = 0.0
    """From -1 (as bearish as can be) to 1 (as bullish as can be)."""
    confidence: float = 0.0
    """From 0 to 1. The bus never changes it."""
    target_price: float | None = None
    """Where the strategy would take its gain."""
    stop_loss: float | None = None
    """Where it would give up."""
    rationale: str = ""
    """Why, in words."""
    data_sources: Texts = cast(Any, NO_TEXTS)
    """What it has looked at."""

    def __post_init__(self) -> None:
        Event.__post_init__(self)
        if not (
            type(self.symbol) is str
            and self.symbol
            and type(self.strategy_name) is str
            and self.strategy_name
            and type(self.direction) is SignalDirection
            and type(self.strength) is float
            and -1.0 <= self.strength <= 1.0
            and type(self.confidence) is float
            and 0.0 <= self.confidence <= 1.0
            and type(self.rationale) is str
        ):
            self._settle()
        if self.data_sources is not NO_TEXTS:
            settle_texts(self, "data_sources")
        if self.target_price is not None and not (
            type(self.target_price) is float and -WIDE < self.target_price < WIDE
        ):
            settle_number(self, "target_price")
        if self.stop_loss is not None and not (
            type(self.stop_loss) is float and -WIDE < self.stop_loss < WIDE
        ):
            settle_number(self, "stop_loss")

    def _settle(self) -> None:
        settle_text(self, "symbol")
        settle_text(self, "strategy_name")
        settle_member(self, "direction", SignalDirection)
        settle_number(self, "strength", low=-1.0, high=1.0)
        settle_number(self, "confidence", low=0.0, high=1.0)
        settle_text(self, "rationale", empty=True)


class DecisionEvent(Event, kw_only=True):
    """What the CIO wants to trade, before risk and compliance have seen it."""

    event_type: FixedType = EventType.DECISION
    symbol: str
    """The instrument."""
    action: SideOrWord
    """Buy or sell."""
    quantity: float
    """Shares or contracts, above 0."""
    order_type: OrderTypeOrWord = cast(Any, OrderType.MARKET)
    """Which prices it has: a limit, a stop, both or none."""
    limit_price: float | None = None
    """The worst price to trade at; of LIMIT and STOP_LIMIT orders."""
    stop_price: float | None = None
    """Where it becomes active; of STOP and STOP_LIMIT orders."""
    rationale: str = ""
    """Why, in words."""
    contributing_signals: Texts = cast(Any, NO_TEXTS)
    """The event ids of the signals that led to it."""
    conviction_score: float = 0.0
    """From 0 to 1."""

    def __post_init__(self) -> None:
        Event.__post_init__(self)
        if not (
            type(self.symbol) is str
            and self.symbol
            and type(self.action) is OrderSide
            and type(self.quantity) is float
            and 0.0 < self.quantity < WIDE
            and type(self.conviction_score) is float
            and 0.0 <= self.conviction_score <= 1.0
            and type(self.rationale) is str
        ):
            settle_text(self, "symbol")
            settle_member(self, "action", OrderSide)
            settle_number(self, "quantity", above=0.0)
            settle_number(self, "conviction_score", low=0.0, high=1.0)
            settle_text(self, "rationale", empty=True)
        if self.contributing_signals is not NO_TEXTS:
            settle_texts(self, "contributing_signals")
        check_order_terms(self)


class ValidatedDecisionEvent(Event, kw_only=True):
    """The result of validating a decision: approved, perhaps smaller, or rejected with the reason."""

    event_type: FixedType = EventType.VALIDATED_DECISION
    original_decision_id: str
    """The event id of the decision."""
    symbol: str
    """The instrument."""
    approved: bool
    """Whether it may be traded."""
    adjusted_quantity: float | None = None
    """The quantity that may be traded; None for that of the decision."""
    side: SideOrWordOrNone = cast(Any, None)
    """Buy or sell; None for that of the decision."""
    risk_metrics: Mapping[str, float] = _NO_FIGURES
    """The figures that risk looked at, by name."""
    compliance_checks: Texts = cast(Any, NO_TEXTS)
    """The names of the checks that were made."""
    rejection_reason: str | None = None
    """Why not; a rejected decision has one, an approved one has none."""

    def __post_init__(self) -> None:
        Event.__post_init__(self)
        settle_text(self, "original_decision_id")
        settle_text(self, "symbol")
        settle_flag(self, "approved")
        settle_number(self, "adjusted_quantity", low=0.0, none=True)
        if self.side is not None:
            settle_member(self, "side", OrderSide)
        if self.risk_metrics is not _NO_FIGURES:
            settle_figures(self, "risk_metrics")
        if self.compliance_checks is not NO_TEXTS:
            settle_texts(self, "compliance_checks")
        settle_text(self, "rejection_reason", none=True)
        self._check_verdict()

    def _check_verdict(self) -> None:
        if not self.approved and self.rejection_reason is None:
            refuse(self, "rejection_reason", "a rejected decision must say why", "give the reason")
        if self.approved and self.rejection_reason is not None:
            refuse(
                self, "rejection_reason", "an approved decision has none", "leave it out, or approved=False"
            )
        if self.approved and self.adjusted_quantity == 0.0:
            refuse(
                self,
                "adjusted_quantity",
                "an approved quantity is above 0",
                "reject the decision with a reason",
            )
