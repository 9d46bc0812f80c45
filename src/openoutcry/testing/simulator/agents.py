"""The agents of the house firm that remember: memories of every kind, changing types, and changing names."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import msgspec

from openoutcry.config import Conflate
from openoutcry.errors import OpenOutcryError
from openoutcry.runtime.delivery.memory import Memory, OnMissing
from openoutcry.testing.simulator.bus import SimBus
from openoutcry.testing.simulator.chance import Chance
from openoutcry.testing.simulator.lives import Publisher

NEWEST: Final = 20
TYPES: Final = ("order", "fill", "decision", "risk_alert", "system", "kill_switch")
Handle = Callable[[Any], Awaitable[None]]


class Book:
    """An agent's state: how many events it has handled, and the ids of the newest ones."""

    def __init__(self, form: str) -> None:
        self._form = form
        self._count = 0
        self._newest: deque[str] = deque(maxlen=NEWEST)

    def note(self, event: Any) -> None:
        """Note an event."""
        self._count += 1
        self._newest.append(event.event_id)

    def save(self) -> object:
        """Return the state."""
        state = {"count": self._count, "newest": list(self._newest)}
        return state if self._form == "json" else bytearray(msgspec.json.encode(state))

    def load(self, state: Any) -> None:
        """Take over a state."""
        found = state if self._form == "json" else msgspec.json.decode(state)
        self._count = found["count"]
        self._newest = deque(found["newest"], maxlen=NEWEST)


class Remembering:
    """Makes memories, each of a kind that the plan has drawn."""

    def __init__(self, bus: SimBus, plan: Chance) -> None:
        persistence = bus.config.persistence
        self._plan = plan
        self.is_possible: bool = persistence is not None and persistence.level != "memory"
        levels = {} if persistence is None else persistence.levels
        self.keeps_ticks: bool = self.is_possible and levels.get("market_data") != "memory"

    def memory(self, *, folds: bool = True, saves: bool = True) -> tuple[Memory, Book]:
        """Return a memory of the next kind, and the state that it is of."""
        plan = self._plan
        book = Book(plan.one_of(("json", "json", "bytes")))
        on_missing: OnMissing = "warn" if plan.happens(0.3) else "raise"
        every = plan.one_of((1, 2, 7, 7, 1_000))
        if folds and (not saves or plan.happens(0.4)):
            return Memory(book.note, on_missing=on_missing), book
        fold = book.note if folds else None
        return Memory(fold, book.save, book.load, every, on_missing), book

    def kept(self, handle: Handle, *, folds: bool = True, saves: bool = True) -> tuple[Handle, Memory]:
        """Return a handler that does what this one does and remembers it, and its memory."""
        memory, book = self.memory(folds=folds, saves=saves)

        async def handled(event: Any) -> None:
            await handle(event)
            book.note(event)

        return handled, memory


class Agents:
    """Agents that remember, and the operator who has to do with them.

    Args:
        bus: The bus.
        chance: What is drawn in this life.
        plan: What is the same in every life.

    """

    def __init__(self, bus: SimBus, chance: Chance, plan: Chance) -> None:
        self._bus = bus
        self._chance = chance
        self._plan = plan
        self._remembering = Remembering(bus, plan.stream("memories"))
        self._shifting: Handle | None = None
        self._takes: set[str] = set()
        self._moves: list[tuple[str, Handle, Memory]] = []

    def subscribe(self) -> None:
        """Subscribe those who are there from the beginning."""
        bus, plan, remembering = self._bus, self._plan, self._remembering
        if not remembering.is_possible:
            return
        if plan.happens(0.4):
            handler, memory = remembering.kept(_work, folds=False)
            bus.subscribe(
                ["order", "fill"], handler, name="summary", overflow=Conflate("symbol"), memory=memory
            )
        if remembering.keeps_ticks and plan.happens(0.5):
            handler, memory = remembering.kept(_work)
            bus.subscribe("market_data", handler, name="averages", memory=memory)
        if plan.happens(0.4):
            handler, memory = remembering.kept(_work)
            types = plan.stream(f"types {bus.life}")
            self._takes = {kind for kind in TYPES if types.happens(0.5)} or {"order"}
            bus.subscribe(sorted(self._takes), handler, name="shifter", memory=memory)
            self._shifting = handler
        if plan.happens(0.4):
            handler, memory = remembering.kept(_work)
            self._moves.append((f"wanderer-{plan.stream(f'name {bus.life}').whole(0, 2)}", handler, memory))

    def publishers(self) -> list[Publisher]:
        """Return what the operator does in this life."""
        found: list[Publisher] = []
        if self._shifting is not None and self._chance.happens(0.5):
            found.append(self._shift)
        if self._moves:
            found.append(self._move)
        return found

    async def _shift(self) -> None:
        """Take other types, and give some up, while the bus runs."""
        bus, chance, handler = self._bus, self._chance, self._shifting
        assert handler is not None, "it was subscribed"
        for _ in range(chance.whole(1, 5)):
            await asyncio.sleep(chance.one_of((0, 0.001, 0.05, 0.5)))
            if not bus.is_running:
                continue
            kind = chance.one_of(TYPES)
            if kind not in self._takes:
                bus.subscribe(kind, handler)
                self._takes.add(kind)
            elif len(self._takes) > 1:
                bus.unsubscribe(kind, handler)
                self._takes.remove(kind)

    async def _move(self) -> None:
        """Subscribe the wanderer under the name that it has now, with the cursor of the one that it had."""
        bus, chance = self._bus, self._chance
        [(name, handler, memory)] = self._moves
        await asyncio.sleep(chance.one_of((0, 0, 0.01, 0.3)))
        if not bus.is_running:
            return
        for number in range(3):
            former = f"wanderer-{number}"
            if former != name:
                with suppress(OpenOutcryError):
                    await bus.admin.reassign_cursor(former, name)
        if chance.happens(0.1):
            with suppress(OpenOutcryError):
                await bus.admin.drop_cursor(name)
        if not any(made.name == name for made in bus.subscriptions):
            made = bus.subscribe(["order", "fill", "risk_alert"], handler, name=name, memory=memory)
            with suppress(OpenOutcryError):
                await made.ready()


async def _work(_event: Any) -> None:
    await asyncio.sleep(0)
