"""Stops the firm at the place where it is to be killed."""

from collections.abc import Callable

from openoutcry.events import Event
from openoutcry.firm.happenings import DAILY, SessionOpened
from openoutcry.trading import (
    DecisionEvent,
    FillEvent,
    MarketDataEvent,
    OrderEvent,
    SignalEvent,
    ValidatedDecisionEvent,
)

Hold = Callable[[str], None]


class Watch:
    """Watches what the agents publish and do, and calls `hold` at the place that it was given.

    `hold` is called in the middle of what an agent does, with what that is about, and does not return: the
    process goes no further.

    Attributes:
        day: The trading day, from 0.

    """

    def __init__(self, hold: Hold) -> None:
        self.day = 0
        self._place, self._from_day, self._left = "", 0, 0
        self._hold = hold

    def wait_for(self, place: str, day: int, nth: int) -> None:
        """Hold at a place from a day on, at the nth time that it is reached."""
        self._place, self._from_day, self._left = place, day, nth

    def said(self, event: Event) -> None:
        """Take an event that an agent has published."""
        match event:
            case SessionOpened():
                self.day = event.number
            case MarketDataEvent(interval=interval) if interval == DAILY:
                self._pass("bars", event.symbol)
            case SignalEvent():
                self._pass("vote", f"{event.source_agent} on {event.symbol}")
            case DecisionEvent():
                self._pass("decision", f"{event.action.value} {event.quantity:,.0f} {event.symbol}")
            case ValidatedDecisionEvent(approved=True, source_agent="compliance", side=side):
                assert side is not None
                self._pass("verdict", f"{side.value} {event.adjusted_quantity:,.0f} {event.symbol}")
            case FillEvent():
                self._pass("fill", f"{event.side.value} {event.filled_quantity:,.0f} {event.symbol}")

    def step(self, place: str, order: OrderEvent | None) -> None:
        """Take a step between the firm and the broker."""
        self._pass(place, "" if order is None else f"{order.side.value} {order.quantity:,.0f} {order.symbol}")

    def _pass(self, place: str, what: str) -> None:
        if place == self._place and self.day >= self._from_day:
            self._left -= 1
            if self._left == 0:
                self._hold(what)
