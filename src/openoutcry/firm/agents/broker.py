"""The paper broker: takes market orders in the evening and fills them at the next opening, with costs."""

from collections.abc import Mapping
from typing import Any, ClassVar

from openoutcry.firm.agents.base import Agent
from openoutcry.firm.costs import fill_commission, fill_price
from openoutcry.firm.happenings import OPENING, MarketClosed
from openoutcry.firm.mandate import Mandate
from openoutcry.firm.money import Units, to_dollars, to_units
from openoutcry.trading import (
    FillEvent,
    MarketDataEvent,
    OrderEvent,
    OrderSide,
    OrderState,
    OrderStateChangeEvent,
)


class PaperBroker(Agent):
    """Fills each order completely at the first opening print of its symbol after it came in.

    Attributes:
        slippage: What the fills cost beyond the opening prices.
        fills_count: Orders filled.

    """

    state: ClassVar[Mapping[str, Any]] = {
        **Agent.state,
        "slippage": Units,
        "fills_count": int,
        "_working": dict[str, OrderEvent],
    }

    def __init__(self, mandate: Mandate, name: str = "broker") -> None:
        super().__init__(name)
        self.slippage: Units = 0
        self.fills_count: int = 0
        self._mandate = mandate
        self._working: dict[str, OrderEvent] = {}
        self.react(OrderEvent, self.on_order)
        self.react(MarketDataEvent, self.on_market_data)
        self.react(OrderStateChangeEvent, self.on_state_change)
        self.react(MarketClosed, self.on_closed)

    async def on_order(self, order: OrderEvent) -> None:
        """Accept an order, or reject it after the kill switch."""
        if self.halted:
            await self.report(order.order_id, OrderState.PENDING_NEW, OrderState.REJECTED, "kill switch")
            return
        self._working[order.order_id] = order
        await self.report(order.order_id, OrderState.PENDING_NEW, OrderState.NEW)

    async def on_market_data(self, event: MarketDataEvent) -> None:
        """Fill what is working in a symbol at its opening print."""
        if event.interval != OPENING or self.halted:
            return
        for order in [order for order in self._working.values() if order.symbol == event.symbol]:
            del self._working[order.order_id]
            await self._fill(order, to_units(event.price))

    async def on_state_change(self, event: OrderStateChangeEvent) -> None:
        """Cancel what Execution asks to cancel."""
        if (
            event.to_state is OrderState.PENDING_CANCEL
            and self._working.pop(event.order_id, None) is not None
        ):
            await self.report(event.order_id, OrderState.PENDING_CANCEL, OrderState.CANCELED, event.reason)

    async def on_closed(self, _event: MarketClosed) -> None:
        """There is no further opening: what is working expires."""
        for order_id in list(self._working):
            del self._working[order_id]
            await self.report(order_id, OrderState.NEW, OrderState.EXPIRED, "the market has closed for good")

    async def _fill(self, order: OrderEvent, opening: Units) -> None:
        shares = int(order.quantity)
        price = fill_price(order.side, opening, self._mandate)
        sign = 1 if order.side is OrderSide.BUY else -1
        self.slippage += sign * (price - opening) * shares
        self.fills_count += 1
        # The opening print tells when it fills, the order why. The trail from fill to bar needs the why.
        await self.say(
            FillEvent(
                order_id=order.order_id,
                symbol=order.symbol,
                side=order.side,
                filled_quantity=float(shares),
                fill_price=to_dollars(price),
                commission=to_dollars(fill_commission(shares, price, self._mandate)),
                exchange="paper",
                execution_id=f"exec-{self.fills_count:05d}",
                source_agent=self.name,
                causation_id=order.event_id,
                correlation_id=order.correlation_id,
            )
        )
