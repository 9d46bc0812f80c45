"""One life of a firm, in a process of its own: agents that remember, a publisher, an operator.

The words that it tells:

```
  sub NAME                     it subscribes               pub ID LEVEL     it is about to be published
  loaded NAME ITEMS            its `load` was called       yes ID, no ID    the answer
  state NAME ITEMS             what it begins with         did NAME ID      its handler is at its end
  failed NAME OK TEXT          it does not get its memory  dead NAME ID     it is a dead letter
  saved NAME ITEMS             its `save` was called       gains, loses NAME TYPE
  live NAME ITEMS              what it has in the end      dropped, redriven NAME
  started, drained, flushed, stopping, stopped             wrong TEXT
```
"""

import asyncio
import gc
import json
import logging
import random
import signal
import traceback
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from campaigns.bus_plants import Bug
from campaigns.crash_kit import Tell, key_of, set_in
from campaigns.lives_events import BROKEN, TRADE, TYPES, Make, in_hand, makers
from campaigns.lives_plan import SAVES, Agent, Plan, first_name
from openoutcry import (
    EventBus,
    EventBusHealthStatus,
    LevelName,
    Memory,
    PersistenceConfig,
    RestoreFailed,
    RetryPolicy,
)
from openoutcry.journals import sqlite
from openoutcry.runtime.durability import maintenance

LIFE_S: Final = 120
DRAIN_S: Final = 60
RETRY: Final = RetryPolicy(attempts=2, first_s=0.0005, max_s=0.002)


def fails(name: str, event_id: str) -> bool:
    """Return True if an agent cannot handle an event before it is mended, whatever its name is by then."""
    return crc32(f"{first_name(name)} {event_id}".encode()) % 6 == 0


class Remembering:
    """An agent whose state is the list of what it has handled: ids, and what the events were about."""

    def __init__(self, agent: Agent, tell: Tell, *, mended: bool) -> None:
        self.agent = agent
        self.items: list[list[Any]] = []
        self._tell = tell
        self._mended = mended
        self._is_told = False

    def begin(self) -> None:
        """Tell once what it begins with, if it remembers anything."""
        if not self._is_told and self.agent.kind != "plain":
            self._is_told = True
            self.tell("state")

    def tell(self, word: str) -> None:
        """Tell its state."""
        self._tell(word, self.agent.name, json.dumps(self.items, separators=(",", ":")))

    async def handle(self, event: Any) -> None:
        """Handle an event, which changes the state at the end."""
        self.begin()
        name, event_id = self.agent.name, event.event_id
        if fails(name, event_id) and not self._mended:
            raise ValueError("it cannot")
        if event_id[-2] in "37":
            await asyncio.sleep(0)
        self.fold(event)
        self._tell("did", name, event_id)

    def fold(self, event: Any) -> None:
        """Change the state as handling does."""
        self.items.append([event.event_id, in_hand(event)])

    def save(self) -> Any:
        """Return the state."""
        self.tell("saved")
        items = [list(item) for item in self.items]
        return json.dumps(items).encode() if self.agent.kind == "bytes" else {"items": items}

    def load(self, state: Any) -> None:
        """Take over a state, of either form."""
        self.items = json.loads(state) if isinstance(state, bytes) else state["items"]
        self.tell("loaded")

    def memory(self) -> dict[str, Any]:
        """Return how it asks for its memory."""
        agent = self.agent
        if agent.kind == "plain":
            return {}
        if agent.kind == "restore" and not agent.warns:
            return {"restore": self.fold}
        fold = None if agent.kind == "newest" else self.fold
        save, load = (self.save, self.load) if agent.kind in SAVES else (None, None)
        on_missing: Any = "warn" if agent.warns else "raise"
        return {"memory": Memory(fold, save, load, every=agent.every, on_missing=on_missing)}


class Firm:
    """A bus and its agents, for one life."""

    def __init__(self, path: Path, plan: Plan, tell: Tell) -> None:
        self._rng = rng = random.Random(plan.seed)  # noqa: S311 - a seed is wanted
        self._plan = plan
        self._tell = tell
        self._make: dict[str, Make] = makers(plan.edition)
        self._letters = sorted(k for k, t in TYPES.items() if t != TRADE or plan.edition != BROKEN)
        self._agents = {agent.name: Remembering(agent, tell, mended=plan.mended) for agent in plan.agents}
        self._ready: set[str] = set()
        self._next = plan.first
        self.bus = EventBus(
            persistence_config=PersistenceConfig(
                path=path,
                key=key_of(path),
                socket=False,
                sync="inline",
                suspect_alone_s=0.001,
                crash_attempts=1_000,
                cursor_save_s=rng.choice((0.002, 0.02, 0.25)),
                retain_count=plan.retain,
            ),
        )
        self.bus.on_dead_letter(lambda letter: tell("dead", letter.subscription, letter.event.event_id))

    def _subscribe(self, one: Remembering) -> None:
        agent = one.agent
        self._tell("sub", agent.name)
        self.bus.subscribe(
            list(agent.types), one.handle, name=agent.name, retry=RETRY, breaker=False, **one.memory()
        )

    async def live(self) -> None:
        """Start, give everybody their memory, work, and stop."""
        for one in self._agents.values():
            if not one.agent.late:
                self._subscribe(one)
        await self.bus.start()
        self._tell("started")
        for one in self._agents.values():
            if one.agent.late:
                self._subscribe(one)
                if self._rng.random() < 0.3:
                    await self._publish()
        for one in self._agents.values():
            await self._wait_for(one)
        await self._work()
        await self._drain()
        if self._plan.is_last or self._rng.random() < 0.8:
            self._tell("stopping")
            await self.bus.stop()
            self._tell("stopped")

    async def _wait_for(self, one: Remembering) -> None:
        name = one.agent.name
        try:
            async with asyncio.timeout(DRAIN_S):
                await self.bus.subscription(name).ready()
        except RestoreFailed as error:
            health = await self.bus.check_health()
            is_said = any(name in str(finding) for finding in health.findings)
            ok = is_said and health.status is EventBusHealthStatus.UNHEALTHY
            self._tell("failed", name, "loudly" if ok else f"silently:{health.status.name}", error)
            return
        except TimeoutError:
            self._tell("wrong", f"{name} is not ready after {DRAIN_S} s")
            return
        self._ready.add(name)
        one.begin()

    # -- working ------------------------------------------------------------------------------------

    async def _work(self) -> None:
        rng = self._rng
        for number in range(rng.choice((2, 10, 30))):
            await self._publish()
            if number == 5:
                self._turn()
            if rng.random() < 0.05:
                await self._settle()
            if rng.random() < 0.05:
                self._operate()
            if rng.random() < 0.05:
                await asyncio.sleep(rng.choice((0, 0.001, 0.01)))

    def _new_id(self) -> str:
        self._next += 1
        return f"{self._next}{self._rng.choice(self._letters)}"

    async def _publish(self) -> None:
        rng = self._rng
        ids = [self._new_id() for _ in range(rng.choice((1, 1, 1, 2, 5)))]
        events = [self._make[TYPES[event_id[-1]]](event_id) for event_id in ids]
        levels: tuple[LevelName | None, ...] = (None, None, None, None, "disk", "memory")
        level = rng.choice(levels) if len(ids) == 1 else None
        for event_id in ids:
            self._tell("pub", event_id, level or "journaled")
        if len(ids) > 1:
            await self.bus.publish_many(events)
            accepted = True
        else:
            accepted = await self.bus.publish(events[0], level=level, priority=rng.random() < 0.1)
        for event_id in ids:
            self._tell("yes" if accepted else "no", event_id)

    def _turn(self) -> None:
        """Take another type, or one less, while the bus runs."""
        for name in sorted(self._ready):
            one = self._agents[name]
            if one.agent.gains is not None:
                self._tell("gains", name, one.agent.gains)
                self.bus.subscribe(one.agent.gains, one.handle)
            if one.agent.loses is not None:
                self._tell("loses", name, one.agent.loses)
                self.bus.unsubscribe(one.agent.loses, one.handle)

    def _operate(self) -> None:
        """See to somebody's dead letters."""
        name = self._rng.choice(sorted(self._agents))
        if not any(letter.subscription == name for letter in self.bus.dead_letters()):
            return
        if self._rng.random() < 0.5:
            self._tell("redriven", name)
            self.bus.admin.redrive(name)
        else:
            self.bus.admin.drop_dead_letters(name)
            self._tell("dropped", name)

    async def _settle(self) -> None:
        """Wait until everybody who has a memory has handled everything."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + DRAIN_S
        while left := [row for row in self.bus.ledger().rows if row.waiting or row.in_flight]:
            if all(row.subscription not in self._ready for row in left):
                return
            if loop.time() > until_s:
                self._tell("wrong", f"not settled within {DRAIN_S} s: {left}")
                return
            await asyncio.sleep(0.001)

    async def _drain(self) -> None:
        await self._settle()
        self._tell("drained")
        for name in sorted(self._ready):
            self._agents[name].tell("live")
        await self.bus.flush()
        self._tell("flushed")


class _Log(logging.Handler):
    """Tells what went wrong and was not expected to."""

    def __init__(self, tell: Tell) -> None:
        super().__init__(logging.CRITICAL)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Tell it on one line."""
        self._tell("critical", " ".join(record.getMessage().split()))


def live(path: Path, plan: Plan, tell: Tell, plant: Bug) -> None:
    """Live a life as planned."""
    gc.freeze()
    signal.alarm(LIFE_S)
    set_in(sqlite, "WAL_DUE_BYTES", 64 * 1024)  # checkpoints and retention, also in a short life
    set_in(maintenance, "IDLE_S", 0.005)
    set_in(maintenance, "QUIET_S", 0.002)
    log = logging.getLogger("openoutcry")
    log.propagate = False
    log.addHandler(_Log(tell))
    plant()

    async def whole() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: tell("wrong", " ".join(str(context).split())))
        try:
            await Firm(path, plan, tell).live()
        except Exception:
            tell("wrong", " ".join(traceback.format_exc().split()))
            raise

    asyncio.run(whole())
    tell("enough")
