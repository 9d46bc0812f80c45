"""A small firm with memories, which has several lives on one journal."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from openoutcry import (
    EventBus,
    FillEvent,
    KillSwitchEvent,
    MarketDataEvent,
    Memory,
    OrderEvent,
    PersistenceConfig,
    SignalEvent,
)
from openoutcry.runtime.durability.recorder import running_app


class LivedFirm:
    """`folds`, `saves` and `counts` say how many orders they have handled, the last without a memory."""

    word = "orders"

    def setup(self, bus: EventBus) -> None:
        self.bus = bus
        self.handled = {"folds": 0, "saves": 0, "counts": 0}
        folds = Memory(fold=self.fold)
        saves = Memory(save=lambda: self.handled["saves"], load=self.load, every=1)
        bus.subscribe(OrderEvent, self.on_order("folds"), name="folds", memory=folds)
        bus.subscribe(OrderEvent, self.on_order("saves"), name="saves", memory=saves)
        bus.subscribe(OrderEvent, self.on_order("counts"), name="counts")
        bus.subscribe(MarketDataEvent, self.on_tick, name="trader")
        bus.subscribe(FillEvent, self.on_fill, name="slow", retry=False)

    def heard(self, name: str) -> int:
        self.handled[name] += 1
        return self.handled[name]

    def fold(self, order: OrderEvent) -> None:
        self.heard("folds")

    def load(self, count: int) -> None:
        self.handled["saves"] = count

    def on_order(self, name: str) -> Callable[[OrderEvent], Any]:
        async def handle(order: OrderEvent) -> None:
            text = self.say(name, self.heard(name), order)
            await self.bus.publish(
                SignalEvent(
                    strategy_name=name,
                    source_agent=name,
                    symbol=order.symbol,
                    direction="long",
                    rationale=text,
                )
            )

        return handle

    def say(self, name: str, count: int, order: OrderEvent) -> str:
        halted = [halt.reason for halt in self.bus.halted("ES")]
        return f"{name}: {count} {self.word} up to {order.order_id}, halted: {halted}"

    async def on_tick(self, tick: MarketDataEvent) -> None:
        order_id = f"o-{tick.price:g}"
        await self.bus.publish(OrderEvent(order_id=order_id, symbol="ES", side="buy", quantity=1))

    async def on_fill(self, fill: FillEvent) -> None:
        """Take as long as the price says; fail for more than 1, unless a kill switch is active."""
        await asyncio.sleep(fill.fill_price)
        if fill.filled_quantity > 1 and not self.bus.halted("ES"):
            raise ValueError("no such account")
        await self.bus.publish(
            OrderEvent(order_id=f"hedge-{fill.order_id}", symbol="ZN", side="sell", quantity=1)
        )


class Forgetful(LivedFirm):
    """Says something else of the last order of the second life."""

    def say(self, name: str, count: int, order: OrderEvent) -> str:
        said = super().say(name, count, order)
        return "what?" if name == "saves" and order.order_id == "o-204" else said


class Unfolded(LivedFirm):
    """Has forgotten how to fold."""

    def fold(self, order: OrderEvent) -> None:
        pass


async def live(path: Path, life: int, work: Callable[[EventBus], Any], stop_s: float = 10.0) -> None:
    """Have the firm live on a journal once: five ticks, and what `work` does."""
    running_app.set("lived_firm:LivedFirm")
    persistence = PersistenceConfig(path=path, record="replay", cursor_save_s=0.02)
    bus = EventBus(persistence_config=persistence, kill_switch_releasers={"operator"}, seed=life)
    LivedFirm().setup(bus)
    await bus.start()
    try:
        for number in range(100 * life, 100 * life + 5):
            await bus.publish(MarketDataEvent(symbol="ES", price=number))
            await asyncio.sleep(0.002)
        await work(bus)
    finally:
        await bus.stop(stop_s)


async def until_settled(bus: EventBus) -> None:
    await bus.join()


async def leave_fills(bus: EventBus) -> None:
    """Pull a kill switch, and leave fills: one is being handled, one waits, one has become a letter."""
    await bus.publish(_fill("bad", 0.0, quantity=2))
    await bus.join()
    await bus.publish(KillSwitchEvent(scope="ES", reason="limit"))
    for name in ("first", "second"):
        await bus.publish(_fill(name, 0.2))
    await asyncio.sleep(0.05)


async def redrive(bus: EventBus) -> None:
    bus.admin.redrive("slow")
    await bus.join()


def _fill(name: str, takes_s: float, quantity: float = 1) -> FillEvent:
    return FillEvent(
        order_id=name,
        execution_id=name,
        symbol="ES",
        side="buy",
        filled_quantity=quantity,
        fill_price=takes_s,
    )


def copied(path: Path, to: Path) -> None:
    """Copy a journal as it stands, as if its process died now."""
    for end in ("", "-wal"):
        source = Path(f"{path}{end}")
        if source.exists():
            shutil.copy(source, f"{to}{end}")
