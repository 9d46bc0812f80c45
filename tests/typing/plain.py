# mypy: allow-untyped-defs, allow-untyped-calls
# pyright: basic
"""A script as in a notebook: nothing is annotated, and nothing has to be."""

from openoutcry import EventBus, EventType, MarketDataEvent, OrderEvent

bus = EventBus()


@bus.on(EventType.MARKET_DATA)
async def on_tick(event):
    if event.price > 5000:
        await bus.publish(OrderEvent(order_id="1", symbol=event.symbol, side="buy", quantity=1))


@bus.on("order", timeout_s=2)
async def on_order(event):
    print(event.order_id)


@bus.on(OrderEvent)
def count(event):
    print(event.symbol)


def on_fill(event):
    print(event)


async def main():
    bus.subscribe("fill", on_fill)
    bus.subscribe(OrderEvent, lambda event: print(event.symbol))
    async with bus:
        await bus.publish(MarketDataEvent(symbol="ES", price=5000.25))
        await bus.join()
    for event in bus.get_event_history(OrderEvent):
        print(event.side)
    await on_tick(3)
