"""Tells one step of a trade's history in words."""

from openoutcry.events import Event
from openoutcry.trading import (
    DecisionEvent,
    FillEvent,
    MarketDataEvent,
    OrderEvent,
    RiskAlertEvent,
    SignalEvent,
    ValidatedDecisionEvent,
)


def tell_step(event: Event) -> tuple[str, str, str, str]:
    """Return when it happened, the agent, the event's id, and what it says."""
    when = f"{event.timestamp:%Y-%m-%d %H:%M}"
    return when, event.source_agent, event.event_id, _said(event)


def _said(event: Event) -> str:  # noqa: PLR0911 - one line per kind of event
    match event:
        case MarketDataEvent():
            return f"bar of {event.symbol}: close {event.price:,.2f}, volume {event.volume or 0:,.0f}"
        case SignalEvent():
            return (
                f"signal {event.direction.value} {event.strength:+.2f}, confidence {event.confidence:.2f}: "
                f"{event.rationale}"
            )
        case RiskAlertEvent():
            return f"alert {event.alert_type}: {event.message}"
        case DecisionEvent():
            return f"decision to {event.action.value} {event.quantity:,.0f}: {event.rationale}"
        case ValidatedDecisionEvent():
            return _ruling(event)
        case OrderEvent():
            trade = f"{event.side.value} {event.quantity:,.0f} {event.symbol}"
            return f"order {event.order_id} to {trade} at the open"
        case FillEvent():
            return (
                f"fill of {event.filled_quantity:,.0f} at {event.fill_price:,.4f}, "
                f"commission {event.commission:,.2f}"
            )
    return str(event.event_type)


def _ruling(event: ValidatedDecisionEvent) -> str:
    if not event.approved:
        return f"refused: {event.rejection_reason}"
    checks = f"; passed: {', '.join(event.compliance_checks)}" if event.compliance_checks else ""
    weight = event.risk_metrics.get("weight", 0.0)
    return f"approved {event.adjusted_quantity or 0:,.0f}, weight after it {weight:.0%}{checks}"
