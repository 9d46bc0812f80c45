"""A small firm on a real journal, with everything that the page is there to find. Run as a program: FOLDER [--long].

Of its agents one never answers a round, one is always late, one abstains, one is stuck in a call, and one fails at
every fill until FOLDER/mended exists. Some of what it says is hostile. Whoever asks it for its status ends it.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from openoutcry import (
    EventBus,
    FillEvent,
    HealthCheckConfig,
    KillSwitchEvent,
    MarketDataEvent,
    PersistenceConfig,
    RiskAlertEvent,
    SignalEvent,
)

JOURNAL = "firm.db"
MENDED = "mended"
STRATEGIES = ("trend", "value", "carry", "laggard", "mute")
EVERY_S = 0.5
SIGNAL_TIMEOUT_S = 0.2
BARRIER_TIMEOUT_S = 0.4
LATE_BY_S = 0.15
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
HOSTILE_NAME = "<b onclick=alert(1)>bold</b>"
HOSTILE_ROUND = "a/b?c#<i>%2e</i>"
HOSTILE_MESSAGE = f"{HOSTILE}\u202egnp.exe\u0000\x1b[31m{'9' * 10_000_000}"


class Strategy:
    """Answers the ticks of a round as its name says, and stops for nobody."""

    def __init__(self, bus: EventBus, name: str) -> None:
        self.bus, self.name = bus, name
        bus.register_signal_agent(name)
        bus.subscribe([MarketDataEvent, KillSwitchEvent], self.handle, name=name, timeout_s=60)

    async def handle(self, event: MarketDataEvent | KillSwitchEvent) -> None:
        if isinstance(event, KillSwitchEvent):
            return
        self.bus.heartbeat(self.name)
        if self.name == "carry":
            self.bus.abstain(self.name, f"no view on {event.symbol}", event.round_id)
        elif self.name != "mute":
            if self.name == "laggard":
                await asyncio.sleep(BARRIER_TIMEOUT_S + LATE_BY_S)
            up = (event.price > 100) == (self.name == "trend")
            await self.bus.publish_signal(
                SignalEvent(
                    source_agent=self.name,
                    strategy_name=self.name,
                    symbol=event.symbol,
                    direction="long" if up else "short",
                    confidence=0.62,
                )
            )


class Oracle:
    """Thinks about the first tick for as long as the process lives."""

    async def handle(self, event: MarketDataEvent | KillSwitchEvent) -> None:
        if isinstance(event, MarketDataEvent):
            await asyncio.Event().wait()


class Booker:
    """Books fills, once its database is back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def handle(self, event: FillEvent | KillSwitchEvent) -> None:
        if isinstance(event, FillEvent) and not (self.folder / MENDED).exists():
            if event.symbol == "ES":
                raise ConnectionError(f"no database at {HOSTILE}")
            raise KeyError(event.symbol)


def say(word: str) -> None:
    """Print a line that the test waits for."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def refuse(*_: Any, **__: Any) -> NoReturn:
    """Stand for what nobody may ask a bus four times a second."""
    sys.stderr.write("asked for its status\n")
    os._exit(70)


async def trade(bus: EventBus) -> None:
    """Hold a round every half second."""
    number = 0
    while True:
        symbol = ("ES", "NQ", "ZN")[number % 3]
        opened = bus.open_round(
            HOSTILE_ROUND if number == 0 else None,
            quorum=0.6,
            signal_timeout=SIGNAL_TIMEOUT_S,
            barrier_timeout=BARRIER_TIMEOUT_S,
        )
        await bus.publish(
            MarketDataEvent(
                symbol=symbol, price=99.0 + number % 4, round_id=opened.round_id, source_agent="feed"
            )
        )
        await bus.wait_for_signals(opened.round_id)
        number += 1
        if number == 3:
            say("three rounds")
        await asyncio.sleep(EVERY_S)


async def main(folder: Path, *, has_long: bool) -> None:
    """Trade until the process is killed."""
    is_new = not (folder / JOURNAL).exists()
    bus = EventBus(
        persistence_config=PersistenceConfig(path=folder / JOURNAL),
        health_check_config=HealthCheckConfig(check_s=0.5, stall_s=2.0, recover=False),
        control_releaser="operator",
        stand_in_max_age=600.0,
    )
    for name in STRATEGIES:
        Strategy(bus, name)
    bus.subscribe([MarketDataEvent, KillSwitchEvent], Oracle().handle, name="oracle", overflow="conflate")
    bus.subscribe(
        [FillEvent, KillSwitchEvent], Booker(folder).handle, name="booker", retry=False, breaker=False
    )
    bus.subscribe(RiskAlertEvent, lambda alert: None, name=HOSTILE_NAME)
    async with bus:
        if is_new:
            await publish_the_past(bus, has_long=has_long)
        say("ready")
        await trade(bus)


async def publish_the_past(bus: EventBus, *, has_long: bool) -> None:
    """Publish what fails, and what is hostile."""
    for number, symbol in enumerate(("ES", "ES", "ES", "EURUSD")):
        fill = FillEvent(
            order_id=f"order-{number}", symbol=symbol, side="buy", filled_quantity=1, fill_price=5000.25
        )
        await bus.publish(fill)
    for message in (HOSTILE, HOSTILE_MESSAGE) if has_long else (HOSTILE,):
        await bus.publish(
            RiskAlertEvent(
                severity="critical", alert_type=HOSTILE, message=message, source_agent=HOSTILE_NAME
            )
        )


if __name__ == "__main__":
    EventBus.get_status = EventBus.read_status = refuse  # type: ignore[method-assign]
    asyncio.run(main(Path(sys.argv[1]), has_long="--long" in sys.argv))
