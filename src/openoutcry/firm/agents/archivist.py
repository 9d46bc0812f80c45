"""The archivist: keeps the events that led to trades, so that a fill can be traced back to its bar."""

from collections.abc import Mapping
from typing import Any, ClassVar

from openoutcry.events import Event
from openoutcry.firm.agents.base import Agent
from openoutcry.firm.happenings import DAILY, SessionOpened
from openoutcry.trading import (
    DecisionEvent,
    FillEvent,
    MarketDataEvent,
    OrderEvent,
    RiskAlertEvent,
    SignalEvent,
    ValidatedDecisionEvent,
)

Kept = (
    MarketDataEvent
    | SignalEvent
    | DecisionEvent
    | RiskAlertEvent
    | ValidatedDecisionEvent
    | OrderEvent
    | FillEvent
)


class Archivist(Agent):
    """Follows causation ids.

    Signals and bars are kept for the day. Those that a decision or alert names as its cause, and what follows
    from them, are kept for good.
    """

    saved_every = 2_000  # what it keeps grows with every trade
    state: ClassVar[Mapping[str, Any]] = {
        **Agent.state,
        "_kept": dict[str, Kept],
        "_today": dict[str, Kept],
        "_wanted": set[str],
    }

    def __init__(self, name: str = "archivist") -> None:
        super().__init__(name)
        self._kept: dict[str, Event] = {}
        self._today: dict[str, Event] = {}
        self._wanted: set[str] = set()
        # Alerts and rulings take the high-priority lane: they may arrive before the bar that caused them.
        self.react(SessionOpened, self.on_session)
        self.react(MarketDataEvent, self.on_market_data)
        self.react(SignalEvent, self.keep_today)
        for kind in (DecisionEvent, RiskAlertEvent, ValidatedDecisionEvent, OrderEvent, FillEvent):
            self.react(kind, self.keep)

    async def on_session(self, _event: SessionOpened) -> None:
        """Forget the bars and signals of yesterday that led to nothing."""
        self._today.clear()
        self._wanted.clear()

    async def on_market_data(self, event: MarketDataEvent) -> None:
        """Keep a bar for the day."""
        if event.interval == DAILY:
            await self.keep_today(event)

    async def keep_today(self, event: Event) -> None:
        """Keep an event for the day, or for good if it was already named as a cause."""
        if event.event_id in self._wanted:
            await self.keep(event)
        else:
            self._today[event.event_id] = event

    async def keep(self, event: Event) -> None:
        """Keep an event and its causes for good."""
        self._wanted.discard(event.event_id)
        self._kept[event.event_id] = event
        causes = {event.causation_id, *getattr(event, "contributing_signals", ())}
        while causes:
            cause_id = causes.pop()
            if cause_id is None or cause_id in self._kept:
                continue
            cause = self._today.pop(cause_id, None)
            if cause is None:
                self._wanted.add(cause_id)
            else:
                self._kept[cause_id] = cause
                causes.add(cause.causation_id)

    def find(self, event_id: str) -> Event | None:
        """Return a kept event."""
        return self._kept.get(event_id)

    def explain(self, fill_id: str) -> list[Event]:
        """Return the causes of a fill, oldest first: bar, signal, decision, rulings, order, fill."""
        chain: list[Event] = []
        event = self._kept.get(fill_id)
        while event is not None:
            chain.append(event)
            event = self._kept.get(event.causation_id or "")
        return chain[::-1]
