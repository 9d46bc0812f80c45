"""Oversight: risk, surveillance, the kill switch, the system itself."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import msgspec

from openoutcry.events import Event, EventType, FrozenDict
from openoutcry.events.checks import (
    refuse,
    settle_count,
    settle_figures,
    settle_flag,
    settle_json,
    settle_member,
    settle_number,
    settle_text,
    settle_texts,
)
from openoutcry.events.given import FixedType, Texts
from openoutcry.printable import writable
from openoutcry.trading.words import AlertSeverity, SeverityOrWord

_SWITCH_TEXTS: Final = (
    "event_id",
    "source_agent",
    "correlation_id",
    "causation_id",
    "round_id",
    "reason",
    "scope",
    "triggered_by",
)
_NO_DETAILS: Final[FrozenDict[str, Any]] = FrozenDict()


class RiskAlertEvent(Event, kw_only=True):
    """A limit is near or broken."""

    event_type: FixedType = EventType.RISK_ALERT
    severity: SeverityOrWord
    """How serious it is."""
    alert_type: str
    """What is at risk, such as "drawdown" or "position_limit"."""
    message: str = ""
    """What happened, in words."""
    affected_positions: Texts = cast(Any, ())
    """The symbols concerned."""
    current_value: float | None = None
    """The figure that is too near, in the unit of the limit."""
    threshold_value: float | None = None
    """The limit."""
    halt_trading: bool = False
    """Whether the sender asks to stop trading until further notice."""

    def __post_init__(self) -> None:
        Event.__post_init__(self)
        settle_member(self, "severity", AlertSeverity)
        settle_text(self, "alert_type")
        settle_text(self, "message", empty=True)
        settle_texts(self, "affected_positions")
        settle_number(self, "current_value", none=True)
        settle_number(self, "threshold_value", none=True)
        settle_flag(self, "halt_trading")


class KillSwitchEvent(Event, kw_only=True):
    """Stop trading, now. `activated=False` releases it, which only the owner of a releaser may do.

    Only the scope is required: a kill switch without a reason is still a kill switch. Half a surrogate pair
    in its texts, which could not be written, is escaped: no journal and no desk goes without it for that.
    """

    event_type: FixedType = EventType.KILL_SWITCH
    activated: bool = True
    """False releases it."""
    reason: str = ""
    """Why, in words."""
    scope: str = "firm"
    """What stops: "firm" for everything, or the name of a symbol, strategy or agent."""
    triggered_by: str = ""
    """The person or rule that pulled it."""
    releases: Texts = cast(Any, ())
    """The ids of the kill switches that a release ends. Empty: all that are active in its scope at that
    moment, which the bus writes here."""

    def __post_init__(self) -> None:
        Event.__post_init__(self)
        settle_flag(self, "activated")
        settle_texts(self, "releases")
        settle_text(self, "reason", empty=True)
        settle_text(self, "scope")
        settle_text(self, "triggered_by", empty=True)
        escape_texts(self)


def escape_texts(event: object) -> None:
    """Escape what cannot be written in the texts of a kill switch. The bus calls this when it has stamped it.

    Objects that are no `KillSwitchEvent` are left alone.
    """
    if isinstance(event, KillSwitchEvent):
        for name in _SWITCH_TEXTS:
            text = getattr(event, name)
            if text and not text.isascii():
                msgspec.structs.force_setattr(event, name, writable(text))
        if not all(map(str.isascii, event.releases)):
            stamp_releases(event, map(writable, event.releases))


def stamp_releases(event: object, ids: Iterable[str]) -> None:
    """Write into a release what it has released. Only the bus calls this, at admission.

    Objects that are no `KillSwitchEvent` are left alone.
    """
    if isinstance(event, KillSwitchEvent):
        msgspec.structs.force_setattr(event, "releases", tuple(ids))


class SurveillanceAlertEvent(Event, kw_only=True):
    """Something looks like market abuse: spoofing, layering, wash trades."""

    event_type: FixedType = EventType.SURVEILLANCE_ALERT
    severity: SeverityOrWord
    """How serious it is."""
    alert_type: str
    """What it looks like, such as "spoofing"."""
    message: str = ""
    """What happened, in words."""
    symbol: str | None = None
    """The instrument; None if there is not one."""
    subject: str = ""
    """The agent, trader or account concerned."""
    order_ids: Texts = cast(Any, ())
    """The orders concerned."""
    evidence: Mapping[str, Any] = _NO_DETAILS
    """JSON values."""

    def __post_init__(self) -> None:
        Event.__post_init__(self)
        settle_member(self, "severity", AlertSeverity)
        settle_text(self, "alert_type")
        settle_text(self, "message", empty=True)
        settle_text(self, "symbol", none=True)
        settle_text(self, "subject", empty=True)
        settle_texts(self, "order_ids")
        settle_json(self, "evidence")


class StressTestResultEvent(Event, kw_only=True):
    """The loss that a scenario would cause to the portfolio, and whether it is within the limit."""

    event_type: FixedType = EventType.STRESS_TEST_RESULT
    scenario: str
    """The scenario's name."""
    passed: bool
    """Whether the loss is within the limit."""
    projected_loss: float
    """In the account's currency; a loss is positive, a gain negative."""
    loss_limit: float | None = None
    """The largest acceptable loss, in the account's currency."""
    portfolio_value: float | None = None
    """Before the scenario."""
    position_losses: Mapping[str, float] = _NO_DETAILS
    """The projected loss by symbol."""

    def __post_init__(self) -> None:
        Event.__post_init__(self)
        settle_text(self, "scenario")
        settle_flag(self, "passed")
        settle_number(self, "projected_loss")
        settle_number(self, "loss_limit", none=True)
        settle_number(self, "portfolio_value", none=True)
        settle_figures(self, "position_losses")
        if self.passed and self.loss_limit is not None and self.projected_loss > self.loss_limit:
            limit = f"a loss above loss_limit = {self.loss_limit!r} has not passed"
            refuse(self, "projected_loss", limit, "set passed=False, or correct the limit")


class CorrelationAlertEvent(Event, kw_only=True):
    """Two things move together, or no longer do."""

    event_type: FixedType = EventType.CORRELATION_ALERT
    severity: SeverityOrWord = cast(Any, AlertSeverity.WARNING)
    """How serious it is."""
    first_symbol: str
    """One of the two."""
    second_symbol: str
    """The other."""
    correlation: float
    """From -1 to 1, over the window."""
    baseline_correlation: float | None = None
    """What it usually is."""
    threshold: float | None = None
    """The correlation at which it was raised."""
    window_days: int | None = None
    """Over how many days it was measured."""
    message: str = ""
    """What happened, in words."""

    def __post_init__(self) -> None:
        Event.__post_init__(self)
        settle_member(self, "severity", AlertSeverity)
        settle_text(self, "first_symbol")
        settle_text(self, "second_symbol")
        settle_number(self, "correlation", low=-1.0, high=1.0)
        settle_number(self, "baseline_correlation", low=-1.0, high=1.0, none=True)
        settle_number(self, "threshold", low=-1.0, high=1.0, none=True)
        settle_count(self, "window_days", low=1, none=True)
        settle_text(self, "message", empty=True)


class SystemEvent(Event, kw_only=True):
    """Something about the system rather than the market: a start, a stop, a lost connection."""

    event_type: FixedType = EventType.SYSTEM
    component: str = ""
    """What it is about, such as "gateway"."""
    status: str = ""
    """Such as "started", "stopping" or "degraded"."""
    message: str = ""
    """What happened, in words."""
    details: Mapping[str, Any] = _NO_DETAILS
    """JSON values."""

    def __post_init__(self) -> None:
        Event.__post_init__(self)
        for field in ("component", "status", "message"):
            settle_text(self, field, empty=True)
        settle_json(self, "details")
