"""A book of positions that is killed with SIGKILL, and knows every fill when it is started again.

Run it: `python position_book.py`.
"""

import asyncio
import multiprocessing
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

from openoutcry import EventBus, FillEvent, Memory, OrderSide, PersistenceConfig

FILLS_PER_LIFE = 250
SAVED_EVERY = 100


class PositionBook:
    """Holdings and average prices. The state is small, and JSON gives it back as it was."""

    def __init__(self) -> None:
        self.held: dict[str, list[float]] = {}
        """Shares and what they cost, by symbol."""
        self.count = self.loaded = 0

    async def on_fill(self, fill: FillEvent) -> None:
        self.book(fill)

    def book(self, fill: FillEvent) -> None:
        """Add a fill. It has no effects but on the state, so that it serves as the fold, too."""
        sign = 1 if fill.side is OrderSide.BUY else -1
        shares, cost = self.held.get(fill.symbol, [0.0, 0.0])
        quantity = sign * fill.filled_quantity
        self.held[fill.symbol] = [shares + quantity, cost + quantity * fill.fill_price]
        self.count += 1

    def save(self) -> dict[str, Any]:
        return {"held": self.held, "count": self.count}

    def load(self, state: dict[str, Any]) -> None:
        self.held, self.count = state["held"], state["count"]
        self.loaded = self.count


async def live(path: Path, life: int, *, dies: bool) -> None:
    book = PositionBook()
    memory = Memory(book.book, book.save, book.load, every=SAVED_EVERY)
    async with EventBus(persistence_config=PersistenceConfig(path=path, socket=False)) as bus:
        subscription = bus.subscribe(FillEvent, book.on_fill, name="positions", memory=memory)
        await subscription.ready()
        print(f"life {life}: {book.count} fills, {book.loaded} of them from a saved state", flush=True)
        for number in range(FILLS_PER_LIFE if dies else 0):
            side = OrderSide.SELL if number % 5 == 0 else OrderSide.BUY
            fill = FillEvent(
                event_id=f"fill-{life}-{number}",
                order_id=f"order-{life}-{number}",
                symbol="ES",
                side=side,
                filled_quantity=1,
                fill_price=5_000 + number % 7,
            )
            await bus.publish(fill)
        await bus.join()
        await bus.flush()
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        [(symbol, (shares, cost))] = book.held.items()
        print(f"in the end: {shares:+,.0f} {symbol} for {cost:,.2f} after {book.count} fills")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "book.db"
        for life in (1, 2, 3):
            process = multiprocessing.Process(target=_live, args=(path, life))
            process.start()
            process.join()
        asyncio.run(live(path, 4, dies=False))


def _live(path: Path, life: int) -> None:
    asyncio.run(live(path, life, dies=True))


if __name__ == "__main__":
    main()
