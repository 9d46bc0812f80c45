"""The gateway to a broker in another process: passes orders on, and publishes the fills."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from openoutcry.firm.agents.base import Agent
from openoutcry.firm.brokerage import BrokerLine, Execution, Order
from openoutcry.firm.happenings import OPENING, MarketClosed, SessionOpened
from openoutcry.firm.money import to_dollars, to_units
from openoutcry.trading import (
    FillEvent,
    MarketDataEvent,
    OrderEvent,
    OrderState,
    OrderStateChangeEvent,
)


def _unwatched(_step: str, _order: OrderEvent | None) -> None:
    """Ignore a step."""


class BrokerGateway(Agent):
    """Does what `PaperBroker` does, with a broker in a process of its own.

    It may die anywhere between asking the broker and telling the firm. Then it gets the same event again and
    asks again: an order has its client order id, which the broker fills once; a fill has the broker's
    execution id in its event id, which the bus accepts once.

    Attributes:
        repeated: How often the broker said that it had the order already.
        on_step: Called at each step between the firm and the broker, with the order, if there is one.

    """

    state: ClassVar[Mapping[str, Any]] = {
        **Agent.state,
        "_working": dict[str, OrderEvent],
        "_heard": int,
        "_day": str,
    }

    def __init__(self, line: BrokerLine | None, name: str = "broker") -> None:
        """Make a gateway; without a line it cannot work, and is put on no bus."""
        super().__init__(name)
        self.repeated: int = 0
        self.on_step: Callable[[str, OrderEvent | None], None] = _unwatched
        self._connection = line
        self._working: dict[str, OrderEvent] = {}
        self._heard = 0
        self._day = ""
        self.react(SessionOpened, self.on_session)
        self.react(OrderEvent, self.on_order)
        self.react(MarketDataEvent, self.on_market_data)
        self.react(FillEvent, self.on_fill)
        self.react(OrderStateChangeEvent, self.on_state_change)
        self.react(MarketClosed, self.on_closed)

    @property
    def _line(self) -> BrokerLine:
        if self._connection is None:
            raise RuntimeError("this gateway has no line to the broker: give it one, or put it on no bus")
        return self._connection

    async def on_session(self, event: SessionOpened) -> None:
        """Note the day: the broker must know the day of an opening print."""
        self._day = event.day

    async def on_order(self, order: OrderEvent) -> None:
        """Send an order to the broker, or reject it after the kill switch."""
        if self.halted:
            await self.report(order.order_id, OrderState.PENDING_NEW, OrderState.REJECTED, "kill switch")
            return
        self._working[order.order_id] = order
        if self.remembering:
            return
        self.on_step("submitting", order)
        taken = await self._line.submit(
            Order(_client_id(order), order.order_id, order.symbol, order.side, int(order.quantity)),
            on_asked=lambda: self.on_step("asked", order),
        )
        self.repeated += taken.repeated
        self.on_step("accepted", order)
        await self.report(order.order_id, OrderState.PENDING_NEW, OrderState.NEW)

    async def on_market_data(self, event: MarketDataEvent) -> None:
        """Tell the broker an opening print, and publish what it has filled since it was last asked."""
        if event.interval != OPENING or self.halted or self.remembering:
            return
        last = await self._line.opening(self._day, event.symbol, to_units(event.price))
        if last <= self._heard:
            return
        self.on_step("executed", None)
        for execution in await self._line.executions(self._heard):
            await self.say(self._fill(execution))
            self._heard = max(self._heard, execution.number)

    async def on_fill(self, fill: FillEvent) -> None:
        """Forget a filled order, and remember up to which execution the firm knows."""
        self._working.pop(fill.order_id, None)
        self._heard = max(self._heard, int(fill.execution_id.rpartition("-")[2]))

    async def on_state_change(self, event: OrderStateChangeEvent) -> None:
        """Cancel what Execution asks to cancel, unless the broker has filled it in the meantime."""
        order = self._working.get(event.order_id)
        if event.to_state is not OrderState.PENDING_CANCEL or order is None:
            return
        if self.remembering or (await self._line.cancel(_client_id(order))).state == "canceled":
            del self._working[event.order_id]
            await self.report(event.order_id, OrderState.PENDING_CANCEL, OrderState.CANCELED, event.reason)

    async def on_closed(self, _event: MarketClosed) -> None:
        """There is no further opening: what is working expires."""
        if not self.remembering:
            await self._line.close_market()
        for order_id in list(self._working):
            await self.report(order_id, OrderState.NEW, OrderState.EXPIRED, "the market has closed for good")

    def _fill(self, execution: Execution) -> FillEvent:
        order = self._working[execution.order_id]
        return FillEvent(
            event_id=f"fill:{execution.execution_id}",
            order_id=execution.order_id,
            symbol=execution.symbol,
            side=execution.side,
            filled_quantity=float(execution.shares),
            fill_price=to_dollars(execution.price),
            commission=to_dollars(execution.commission),
            exchange="paper",
            execution_id=execution.execution_id,
            source_agent=self.name,
            causation_id=order.event_id,
            correlation_id=order.correlation_id,
        )


def _client_id(order: OrderEvent) -> str:
    return order.client_order_id or order.event_id
