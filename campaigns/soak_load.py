"""A firm that works for a long time: everything that a bus offers is used, and everything comes and goes."""

import asyncio
import os
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import sleep
from typing import Any, Final

from openoutcry import (
    BackpressureConfig,
    EventBus,
    FillEvent,
    HealthCheckConfig,
    KillSwitchEvent,
    MarketDataEvent,
    OrderEvent,
    OrderSide,
    PersistenceConfig,
    RetryPolicy,
    SignalDirection,
    SignalEvent,
)
from openoutcry.errors import BusClosed, PublishError

PLANTS: Final = ("memory", "tasks", "threads", "descriptors")
AGENTS: Final = ("momentum", "value", "carry")
DRAIN_S: Final = 300.0
FAILS_ONE_IN: Final = 40
LEAK_BYTES: Final = 64 * 1024
LEAK_SHARE: Final = 0.05


class Firm:
    """A bus, agents of every kind, and a load that goes on from one life to the next.

    Attributes:
        bus: The bus.
        wrong: What has happened and must not.
        counts: What was done.

    """

    def __init__(self, path: Path, *, lives_s: float, plant: str = "") -> None:
        self._lives_s = lives_s
        self._plant = plant
        self._leaked: list[Any] = []
        self._hung: set[str] = set()
        self._rng = random.Random(1)  # noqa: S311 - a seed is wanted
        self._over = False
        self.wrong: list[str] = []
        self.counts: Counter[str] = Counter()
        self.bus = EventBus(
            2_000,
            signal_timeout=0.2,
            barrier_timeout=0.4,
            persistence_config=PersistenceConfig(path=path, retain_count=1_000),
            health_check_config=HealthCheckConfig(),
            backpressure_config=BackpressureConfig(cooldown_s=0.1),
            history_size=1_000,
            dedup_window=1_024,
        )
        for agent in AGENTS:
            self.bus.register_signal_agent(agent, critical=agent == "value")
        retry = RetryPolicy(attempts=2, first_s=0.001, max_s=0.002)
        take = ["market_data", "order", "fill", "signal", "kill_switch"]
        self.bus.subscribe(take, self._count, name="quick")
        self.bus.subscribe(["order", "fill"], self._slow, name="slow", concurrency=4)
        self.bus.subscribe("order", self._fail, name="failing", retry=retry, breaker=False)
        self.bus.subscribe("order", self._hang, name="late", timeout_s=0.01, retry=False, breaker=False)
        self.bus.subscribe("order", self._fill, name="broker", outbox=True)
        self.bus.subscribe("market_data", self._screen, name="screen", overflow="conflate")
        self.bus.subscribe("fill", self._block, name="books", blocking=True)

    # -- agents -------------------------------------------------------------------------------------

    def _count(self, event: Any) -> None:
        self.counts[str(event.event_type.value)] += 1

    async def _slow(self, _event: Any) -> None:
        await asyncio.sleep(0.002)

    async def _screen(self, _event: Any) -> None:
        await asyncio.sleep(0.002)

    async def _fail(self, event: OrderEvent) -> None:
        if int(event.order_id) % FAILS_ONE_IN == 0:
            raise ValueError("it fails, as it should")

    async def _hang(self, event: OrderEvent) -> None:
        if int(event.order_id) % FAILS_ONE_IN == 1 and event.order_id not in self._hung:
            self._hung.add(event.order_id)
            await asyncio.sleep(10)
        self._hung.discard(event.order_id)  # when it is redriven, it does what it should

    async def _fill(self, event: OrderEvent) -> None:
        await self.bus.publish(self._a_fill(event.order_id))

    def _block(self, _event: Any) -> None:
        sleep(0.0005)

    @staticmethod
    def _a_fill(order_id: str) -> FillEvent:
        return FillEvent(
            order_id=order_id, symbol="ES", side=OrderSide.BUY, filled_quantity=1.0, fill_price=5000.0
        )

    # -- the load -----------------------------------------------------------------------------------

    async def _ticks(self) -> None:
        ticks = [MarketDataEvent(symbol=f"S{n}", price=1.0) for n in range(20)]
        self.counts["asked"] += len(ticks)
        self.counts["taken"] += await self.bus.publish_many(ticks)
        self._leak()
        await asyncio.sleep(0.01)

    async def _orders(self) -> None:
        number = self.counts["orders"] = self.counts["orders"] + 1
        order = OrderEvent(order_id=str(number), symbol="ES", side=OrderSide.BUY, quantity=1.0)
        self.counts["asked"] += 1
        self.counts["taken"] += await self.bus.publish(order)
        await asyncio.sleep(0.005)

    async def _rounds(self) -> None:
        barrier = self.bus.open_round(quorum=2)
        for agent in AGENTS[: self._rng.randint(1, len(AGENTS))]:
            signal = SignalEvent(
                strategy_name=agent,
                source_agent=agent,
                symbol="ES",
                direction=SignalDirection.LONG,
                round_id=barrier.round_id,
            )
            try:
                await self.bus.publish_signal(signal)
            except PublishError:
                self.counts["signals refused"] += 1
        await self.bus.wait_for_signals(barrier.round_id)
        self.counts["rounds"] += 1

    async def _visits(self) -> None:
        """Somebody new comes and goes: under an old name or a new one, with a cursor or without."""
        number = self.counts["visits"] = self.counts["visits"] + 1

        async def visitor(_event: Any) -> None:
            await asyncio.sleep(0.001)

        durable = number % 2 == 0
        name = f"visitor{number % 8}" if durable else f"guest{number}"
        self.bus.subscribe(["order", "market_data"], visitor, name=name, durable=durable)
        await asyncio.sleep(0.05)
        self.bus.unsubscribe(["order", "market_data"], visitor)

    async def _kills(self) -> None:
        self.counts["taken"] += await self.bus.publish(KillSwitchEvent(reason="drill"))
        self.counts["asked"] += 1
        await asyncio.sleep(0.1)

    async def _care(self) -> None:
        """What a person does: look, try the dead letters again, forget the rest."""
        await asyncio.sleep(0.5)
        self.bus.get_status()
        await self.bus.check_health()
        self.counts["redriven"] += self.bus.admin.redrive("late")
        self.counts["dropped"] += self.bus.admin.drop_dead_letters("failing")

    async def _feeds(self) -> None:
        """A feed thread comes, publishes, and goes."""

        def feed() -> None:
            futures = [self.bus.publish_threadsafe(self._a_fill("0")) for _ in range(5)]
            for future in futures:
                try:
                    self.counts["from threads"] += future.result(DRAIN_S)
                except BusClosed:
                    self.counts["closed to threads"] += 1

        thread = threading.Thread(target=feed)
        thread.start()
        await asyncio.to_thread(thread.join)
        await asyncio.sleep(0.1)

    def _leak(self) -> None:
        if self._plant == "memory":
            self._leaked.append(bytearray(os.urandom(1)) * LEAK_BYTES)
        elif self._plant == "tasks":
            self._leaked.append(asyncio.ensure_future(asyncio.sleep(10_000)))
        elif self._plant == "descriptors" and self._rng.random() < LEAK_SHARE:
            self._leaked.append(os.open(os.devnull, os.O_RDONLY))
        elif self._plant == "threads" and self._rng.random() < LEAK_SHARE:
            event = threading.Event()
            threading.Thread(target=event.wait, daemon=True).start()
            self._leaked.append(event)

    def end_leaks(self) -> None:
        """Give back what was leaked on purpose."""
        for leaked in self._leaked:
            if isinstance(leaked, int):
                os.close(leaked)
            elif isinstance(leaked, threading.Event):
                leaked.set()
        self._leaked.clear()

    # -- lives --------------------------------------------------------------------------------------

    async def work(self, seconds: float) -> None:
        """Start, work and stop, again and again, for so long."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while loop.time() < until:
            await self.bus.start()
            await self._life(min(self._lives_s, until - loop.time()))
            await self.bus.stop(timeout_s=DRAIN_S)
            self.counts["lives"] += 1
            self._check(settled=False)
        await self.bus.start()
        async with asyncio.timeout(DRAIN_S):
            await self.bus.join()
        self._check(settled=True)
        await self.bus.stop()

    async def _life(self, seconds: float) -> None:
        self._over = False
        loads = (
            self._ticks,
            self._orders,
            self._rounds,
            self._visits,
            self._kills,
            self._care,
            self._feeds,
        )
        async with asyncio.TaskGroup() as group:
            for load in loads:
                group.create_task(self._repeat(load))
            await asyncio.sleep(seconds)
            self._over = True

    async def _repeat(self, load: Callable[[], Awaitable[None]]) -> None:
        while not self._over:
            await load()

    def _check(self, *, settled: bool) -> None:
        ledger = self.bus.ledger()
        if not ledger.balances:
            self.wrong.append(f"the ledger does not balance: {[r for r in ledger.rows if not r.balances]}")
        left = ledger.total("waiting") + ledger.total("in_flight")
        if settled and left:
            self.wrong.append(f"{left} events are not settled in the end")

    def told(self) -> str:
        """Return what was done, for a person."""
        return "done: " + ", ".join(f"{count:,} {what}" for what, count in self.counts.items())
