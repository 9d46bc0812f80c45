"""A desk as a process: `python desk_child.py URL FIRM JOURNAL LEASE_S`. It publishes an order every 50 ms.

It prints `ready`, then a line whenever what becomes of its orders changes: `accepted`, or the error's name.
"""

import asyncio
import logging
import sys

from openoutcry import EventBus, EventType, OrderEvent, OrderSide, OrderType, PersistenceConfig
from openoutcry.config import Link
from openoutcry.errors import OpenOutcryError


def an_order(number: int) -> OrderEvent:
    return OrderEvent(
        order_id=f"o-{number}", symbol="ES", side=OrderSide.BUY, quantity=1.0, order_type=OrderType.MARKET
    )


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def main(url: str, firm: str, path: str, lease_s: str) -> None:
    link = Link(firm=firm, desk="street", servers=(url,), lease_s=float(lease_s), max_bytes=8 * 2**20)
    bus = EventBus(persistence_config=PersistenceConfig(path=path, socket=False), link=link)
    bus.subscribe(EventType.ORDER, lambda _: None, name="gateway")
    try:
        await bus.start()
    except OpenOutcryError as error:
        say("ready")
        say(type(error).__name__)
        return
    say("ready")
    said = ""
    for number in range(1_000_000):
        try:
            await bus.publish(an_order(number))
            word = "accepted"
        except OpenOutcryError as error:
            word = type(error).__name__
        if word != said:
            said = word
            say(word)
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(main(*sys.argv[1:]))
