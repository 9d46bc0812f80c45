"""A process with a bus under load, which tells what it was promised and what it handled.

Its words, each with what it is about: `opened`, `came` and `leaving` (the visitor, with the journal's head),
`offer` (before a publish: the publisher and the ids), `yes`, `no`, `closed`, `what` (its outcome: accepted,
refused, kept out by a bus that stops, not known), `<` and `>` (a handler has begun, has ended), `dead`,
`restored`, `stopping`, `stopped`, `drained`, `redriven`, `enough`. What must not happen is told as `wrong`.
"""

import asyncio
import gc
import logging
import os
import random
import signal
import threading
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import sleep
from typing import Any, Final

from campaigns.bus_events import HEDGER, OUTBOX, SLOW_CALLS, TAKES, an_order, one_in, outputs
from campaigns.bus_load import Load, Plan
from campaigns.crash_kit import Tell, key_of, set_in
from openoutcry import BackpressureConfig, EventBus, LevelName, PersistenceConfig, RetryPolicy
from openoutcry.errors import BusClosed, JournalError
from openoutcry.journals import sqlite
from openoutcry.runtime.delivery import offsets, worker
from openoutcry.runtime.durability import saving

LIFE_S: Final = 900
"""A child that lives longer hangs, also on a slow and busy machine."""
DRAIN_S: Final = 300
SMALL_UNSAVED: Final = 64
SMALL_BATCH: Final = 32
SLICE: Final = 64
"""What may be handled beyond a batch before the loop turns: a slice of at most 250 us."""
_sync: Final = os.fdatasync
RETRY: Final = RetryPolicy(attempts=3, first_s=0.0005, max_s=0.002)


class Refused(Exception):
    """There was no room for what a handler has to publish."""


class Child(Load):
    """One life of a firm.

    Attributes:
        call_limit_s: How long a call of `failing` may take.

    """

    call_limit_s = 0.02

    def __init__(self, path: Path, plan: Plan, tell: Tell) -> None:
        rng = random.Random(plan.seed)  # noqa: S311 - a seed is wanted
        super().__init__(plan, tell, rng)
        self._tried: set[str] = set()
        self.bus = self._make_bus(path, plan, rng)
        self.handlers: dict[str, Any] = {}
        self._subscribe_all()
        self.bus.on_dead_letter(
            lambda dead: tell("dead", dead.subscription, dead.event.event_id, dead.reason)
        )

    def _make_bus(self, path: Path, plan: Plan, rng: random.Random) -> EventBus:
        return EventBus(
            10_000 if plan.is_last else rng.choice((60, 400, 10_000)),
            persistence_config=PersistenceConfig(
                path=path,
                key=key_of(path),
                socket=False,
                sync=rng.choice(("auto", "inline", "thread")),
                suspect_alone_s=rng.choice((0.001, 0.01)),
                cursor_save_s=rng.choice((0.002, 0.02, 0.25)),
                record="replay" if plan.seed % 2 else "rounds",
            ),
            backpressure_config=BackpressureConfig(grace_s=0.03, cooldown_s=0.01),
        )

    # -- handlers -----------------------------------------------------------------------------------

    def _subscribe_all(self) -> None:
        self.handlers["quick"] = self._quick
        for name, work in (
            ("slow", self._take_time),
            ("failing", self._fail_now_and_then),
            (OUTBOX, self._publish_for),
            (HEDGER, self._publish_for),
            ("visitor", self._nothing),
            ("paused", self._nothing),
            ("control", self._nothing),
        ):
            self.handlers[name] = self._handler(name, work)
        self._subscribe("quick", restore=lambda event: self._tell("restored", event.event_id))
        self._subscribe("slow", concurrency=SLOW_CALLS)
        # (in the last life nothing may time out three times, however seldom its process gets its turn)
        limit_s = DRAIN_S if self._plan.is_last else self.call_limit_s
        self._subscribe("failing", timeout_s=limit_s, breaker=False)
        self._subscribe(OUTBOX, outbox=True, breaker=False)
        self._subscribe(HEDGER, breaker=False)
        for name in ("visitor", "paused", "control"):
            self._subscribe(name)

    def _subscribe(self, name: str, **options: Any) -> Any:
        return self.bus.subscribe(list(TAKES[name]), self.handlers[name], name=name, retry=RETRY, **options)

    def _quick(self, event: Any) -> None:
        self._tell("<", "quick", event.event_id)
        self._tell(">", "quick", event.event_id)

    def _handler(self, name: str, work: Callable[[str, str], Awaitable[None]]) -> Any:
        async def handler(event: Any) -> None:
            event_id = event.event_id
            self._tell("<", name, event_id)
            await work(name, event_id)
            self._tell(">", name, event_id)

        return handler

    async def _nothing(self, _name: str, _event_id: str) -> None:
        """Handle an event in no time."""

    async def _take_time(self, _name: str, event_id: str) -> None:
        if one_in(4, event_id):
            await asyncio.sleep(self._rng.choice((0, 0.0002, 0.002)))

    async def _fail_now_and_then(self, name: str, event_id: str) -> None:
        mended = self._plan.is_last
        if one_in(29, event_id) and not mended:
            raise ValueError("it always fails")
        if self._is_first_try(name, event_id):
            if one_in(7, event_id, "raise"):
                raise ValueError("it fails once")
            if one_in(11, event_id, "cancel"):
                inner = asyncio.ensure_future(asyncio.sleep(0))
                inner.cancel()
                await inner
            if one_in(97, event_id, "late") and not mended:
                await asyncio.sleep(10)

    def _is_first_try(self, name: str, event_id: str) -> bool:
        key = f"{name} {event_id}"
        first = key not in self._tried
        self._tried.add(key)
        return first

    async def _publish_for(self, name: str, event_id: str) -> None:
        for number, order_id in enumerate(outputs(name, event_id)):
            if one_in(3, order_id, "pause"):
                await asyncio.sleep(0)
            level: LevelName | None = "disk" if number % 2 else None
            if not await self.bus.publish(an_order(order_id), level=level):
                raise Refused(order_id)
        if one_in(5, event_id, "fail") and self._is_first_try(name, event_id):
            raise ValueError("it fails once, when it has published")
        if one_in(3, event_id, "linger"):
            await asyncio.sleep(0)

    # -- those who come and go ----------------------------------------------------------------------

    def _came(self) -> None:
        journal = self.bus.get_status()["journal"]
        if (
            journal is not None
        ):  # else the bus has stopped meanwhile, and owes it nothing before the next life
            self._tell("came", journal["head"])

    async def _visit(self) -> None:
        while self.left > 0:
            await asyncio.sleep(self._rng.choice((0, 0.001, 0.01)))
            self._tell("leaving")
            self.bus.unsubscribe(list(TAKES["visitor"]), self.handlers["visitor"])
            for _ in range(self._rng.randint(0, 5)):
                await asyncio.sleep(0)
            self._subscribe("visitor")
            self._came()

    async def _pause(self) -> None:
        subscription = self.bus.subscription("paused")
        while self.left > 0:
            subscription.pause()
            await asyncio.sleep(self._rng.choice((0.001, 0.01, 0.06)))
            subscription.resume()
            await asyncio.sleep(0.001)

    # -- a life -------------------------------------------------------------------------------------

    async def live(self) -> None:
        """Open, recover, work under load, stop: until somebody puts an end to it."""
        await self._open()
        if self._rng.random() < 0.15:
            for _ in range(5):
                await self._one("early")
        starting = asyncio.create_task(self.bus.start())
        if self._rng.random() < 0.1:
            await self._kill("early")
        await starting
        self._tell("started")
        if self._rng.random() < 0.15:  # only what was left is handled
            self.left = 0
            await asyncio.sleep(0.005)
        load = asyncio.create_task(self._load())
        if self._rng.random() < 0.3:
            await asyncio.sleep(0.005)
        else:
            await load
        await self._stop(self._moment())
        if self._rng.random() < 0.2:
            await self.bus.start()
            await self._one("late")
            await self._stop(self._moment())
        self.left = 0
        await load

    async def _open(self) -> None:
        left = await self.bus.recover_persisted_events()
        self._tell("opened", left)
        self._came()

    async def _load(self) -> None:
        thread = threading.Thread(target=self._thread, daemon=True)
        if self._rng.random() < 0.5:
            thread.start()
        async with asyncio.TaskGroup() as group:
            for name in ("p", "q", "r"):
                group.create_task(self._publisher(name))
            group.create_task(self._again())
            for work in (self._ticker, self._rounds, self._visit, self._pause):
                if self._rng.random() < 0.5:
                    group.create_task(self._until_closed(work))

    async def _until_closed(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except BusClosed:
            self.left = 0

    def _moment(self) -> float:
        return self._rng.choice((0, 0.01, 0.2))

    async def _stop(self, timeout_s: float = DRAIN_S) -> None:
        self.bus.subscription("paused").resume()
        self._tell("stopping")
        try:
            await self.bus.stop(timeout_s=timeout_s)
        except JournalError as error:
            if timeout_s == DRAIN_S or not str(error).startswith("the disk did not answer"):
                raise
            os.kill(os.getpid(), signal.SIGKILL)  # nobody knows what the journal has, as after a crash
        self._check_ledger("stopped")
        self._tell("stopped")

    async def last(self) -> None:
        """Handle whatever is there; then the dead letters; then stop."""
        await self._open()
        await self.bus.start()
        self._tell("started")
        await self._join("drained")
        redriven = self.bus.admin.redrive()
        await self._join("redriven", redriven)
        await self._stop()

    async def _join(self, *words: object) -> None:
        try:
            async with asyncio.timeout(DRAIN_S):
                await self.bus.join()
        except TimeoutError:
            rows = [row for row in self.bus.ledger().rows if row.waiting or row.in_flight]
            self._tell("wrong", f"not {words[0]} within {DRAIN_S} s: {rows}")
        self._check_ledger(*words)
        await self.bus.flush()
        self._tell(*words)

    def _check_ledger(self, *words: object) -> None:
        ledger = self.bus.ledger()
        if not ledger.balances:
            rows = [row for row in ledger.rows if not row.balances]
            self._tell("wrong", f"the ledger does not balance when it is {words[0]}: {rows}")


class _Log(logging.Handler):
    """Tells what the bus reports as critical."""

    def __init__(self, tell: Tell) -> None:
        super().__init__(logging.CRITICAL)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Tell it on one line."""
        error = record.exc_info[1] if record.exc_info else ""
        self._tell("wrong", f"{record.getMessage()} {error!r}".replace("\n", " "))


def _slow_sync(fd: Any) -> None:
    """Sync on a disk that takes its time."""
    sleep(0.004)
    _sync(fd)


def live(path: Path, plan: Plan, tell: Tell, kind: Callable[[Path, Plan, Tell], Child] = Child) -> None:
    """Live a life as planned, in a firm of this kind."""
    gc.freeze()
    signal.alarm(LIFE_S)
    set_in(sqlite, "WAL_DUE_BYTES", 64 * 1024)  # checkpoints, also in a short life
    if plan.small:
        set_in(offsets, "UNSAVED_MOST", SMALL_UNSAVED)
        set_in(saving, "SAVE_EVERY", SMALL_UNSAVED)
        set_in(worker, "BATCH_MOST", SMALL_BATCH)
    if plan.slow_disk:
        os.fdatasync = _slow_sync
    log = logging.getLogger("openoutcry")
    log.propagate = False
    log.addHandler(_Log(tell))
    plan.plant()

    async def whole() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: tell("wrong", str(context).replace("\n", " ")))
        child = kind(path, plan, tell)
        try:
            await (child.last() if plan.is_last else child.live())
        except Exception:
            tell("wrong", " ".join(traceback.format_exc().split()))
            raise

    asyncio.run(whole())
    tell("enough")
