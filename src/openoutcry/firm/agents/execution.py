"""Execution: turns what Compliance approved into orders, and follows each along its legal transitions."""

from collections.abc import Mapping
from typing import Any, ClassVar

from openoutcry.firm.agents.base import Agent
from openoutcry.firm.happenings import SessionOpened
from openoutcry.trading import (
    ORDER_TRANSITIONS,
    FillEvent,
    OrderEvent,
    OrderState,
    OrderStateChangeEvent,
    TimeInForce,
    ValidatedDecisionEvent,
)


class OrderManager(Agent):
    """Sends orders.

    The broker reports acknowledgements, expiries and cancellations; fills are turned into state changes here.

    Attributes:
        states: The current state of every order, by order id.
        orders_count: Orders sent.

    """

    state: ClassVar[Mapping[str, Any]] = {
        **Agent.state,
        "states": dict[str, OrderState],
        "orders_count": int,
        "_day": str,
    }

    def __init__(self, compliance_name: str = "compliance", name: str = "execution") -> None:
        super().__init__(name)
        self.states: dict[str, OrderState] = {}
        self.orders_count: int = 0
        self._compliance_name = compliance_name
        self._day = ""
        self.react(SessionOpened, self.on_session)
        self.react(ValidatedDecisionEvent, self.on_validated)
        self.react(OrderStateChangeEvent, self.on_state_change)
        self.react(FillEvent, self.on_fill)

    @property
    def open_orders(self) -> list[str]:
        """The ids of the orders that may still be filled."""
        return [order_id for order_id, state in self.states.items() if ORDER_TRANSITIONS[state]]

    async def on_session(self, event: SessionOpened) -> None:
        """Note the day; it is part of the order ids."""
        self._day = event.day

    async def on_validated(self, event: ValidatedDecisionEvent) -> None:
        """Send an order for what Compliance approved."""
        if self.halted or event.source_agent != self._compliance_name or not event.approved:
            return
        assert event.side is not None
        assert event.adjusted_quantity is not None
        self.orders_count += 1
        order_id = f"ord-{self.orders_count:05d}"
        # After a restart the broker's answer may be known before the verdict arrives again: it stands.
        answered = self.states.get(order_id)
        self.states[order_id] = OrderState.CREATED
        sent = await self.say(
            OrderEvent(
                order_id=order_id,
                client_order_id=f"{self._day}-{event.symbol}-{event.side.value}",
                decision_id=event.original_decision_id,
                symbol=event.symbol,
                side=event.side,
                quantity=event.adjusted_quantity,
                time_in_force=TimeInForce.DAY,
                source_agent=self.name,
            )
        )
        await self._move(order_id, OrderState.PENDING_NEW if sent else OrderState.CANCELED)
        if answered is not None:
            self.states[order_id] = answered

    async def on_state_change(self, event: OrderStateChangeEvent) -> None:
        """Follow what the broker reports."""
        if event.source_agent != self.name:
            self.states[event.order_id] = event.to_state

    async def on_fill(self, fill: FillEvent) -> None:
        """Close the order of a fill; the paper broker fills all or nothing."""
        await self._move(fill.order_id, OrderState.FILLED)

    async def stop_work(self) -> None:
        """Ask the broker to cancel everything that may still be filled."""
        for order_id in self.open_orders:
            if OrderState.PENDING_CANCEL in ORDER_TRANSITIONS[self.states[order_id]]:
                await self._move(order_id, OrderState.PENDING_CANCEL, "kill switch")

    async def _move(self, order_id: str, to_state: OrderState, reason: str = "") -> None:
        change = OrderStateChangeEvent(
            order_id=order_id,
            from_state=self.states[order_id],
            to_state=to_state,
            reason=reason,
            source_agent=self.name,
        )
        self.states[order_id] = to_state
        await self.say(change)
