"""A desk of the campaigns on desks: publishes numbered events, and notes all that it is handed.

`python -m campaigns.firm_child SETTINGS`, with JSON of `Settings`. It notes in files what was accepted and
what was handled, a line each, written before anything else happens: so that is known even if it is killed the
next moment. It tells its parent lines of words, and is told lines of words:

    start, stop, quiet, loud, throw ID, release ID, active, standing
"""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any, Final, Literal, cast

import msgspec

from openoutcry import Event, EventBus, KillSwitchEvent
from openoutcry.config import Link, PersistenceConfig
from openoutcry.errors import ConfigError, LinkError, OpenOutcryError, SeatLost
from openoutcry.journals import marks
from openoutcry.trading import MarketDataEvent

BURST: Final = 10
"""So many events are published before the loop has its turn."""
SYMBOLS: Final = 200
TICKS_A_TURN: Final = 50
"""So many ticks are sent before the loop has its turn."""


class CampaignDeal(Event, kw_only=True):
    """An event of the normal lane. Its id is its desk, the life of the process, and a number."""

    event_type: str = "campaign_deal"
    life: int
    pad: str = ""


class CampaignUrgent(CampaignDeal, kw_only=True):
    """The same in the lane of high priority."""

    event_type: str = "campaign_urgent"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a desk is given.

    Attributes:
        folder: Where its journal and its notes are.
        journal: The name of its journal's file.
        firm: The firm.
        desk: The desk.
        servers: Where the engine's nodes are.
        life: Which of the lives of this desk it is, from 1.
        rate: How many events it publishes in a second; 0: as many as it can.
        size: The bytes that pad each event.
        level: The level of its events.
        lease_s: As in `Link`.
        replicas: As in `Link`.
        max_bytes: As in `Link`.
        ticks: How many ticks are sent in a second beside.
        feed: The desk that sends them,
        takes: and the desk that takes them.
        servers_sync: As in `Link`.
        boot: How many times the host has lost its power. 0: the kernel's own start counts.

    """

    folder: str
    journal: str
    firm: str
    desk: str
    servers: tuple[str, ...]
    life: int = 1
    rate: int = 200
    size: int = 100
    level: str = "process"
    lease_s: float = 0.0
    replicas: int = 1
    max_bytes: int = 64 * 2**20
    ticks: int = 0
    feed: str = "a"
    takes: str = "b"
    servers_sync: bool = False
    boot: int = 0


class Notes:
    """A file to which each line is written at once."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(self, *lines: str) -> None:
        """Write some lines, all or none of them."""
        os.write(self._fd, "".join(f"{line}\n" for line in lines).encode())


def tell(*words: object) -> None:
    """Write a line to the parent."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Child:
    """One life of a desk."""

    def __init__(self, given: Settings) -> None:
        self.given = given
        folder = Path(given.folder)
        notes = Path(given.journal).name  # not on the disk of the journal, which may lose its power
        self.accepted = Notes(folder / f"{notes}.accepted")
        self.handled = Notes(folder / f"{notes}.handled")
        self.bus = EventBus(
            enable_persistence=True,
            persistence_config=PersistenceConfig(
                path=folder / given.journal, crash_attempts=1_000, suspect_alone_s=0.01, socket=False
            ),
            link=Link(
                firm=given.firm,
                desk=given.desk,
                servers=given.servers,
                imports="*",
                lease_s=given.lease_s,
                replicas=given.replicas,
                max_bytes=given.max_bytes,
                servers_sync=given.servers_sync,
            ),
        )
        self._releaser = self.bus.releaser(f"campaign {given.desk}")
        self._tasks: set[asyncio.Future[None]] = set()
        self.bus.subscribe([CampaignDeal, CampaignUrgent], self._take, name="taker")
        self.bus.subscribe(KillSwitchEvent, self._hear, name="listener")
        if given.ticks and given.takes == given.desk:
            self.bus.subscribe(MarketDataEvent, self._tick, name="ticks")
        self._is_loud = asyncio.Event()
        self._is_silent = asyncio.Event()
        self._is_silent.set()
        self._is_over = asyncio.Event()
        self._number = 0

    async def _take(self, event: CampaignDeal) -> None:
        self.handled.note(event.event_id)

    async def _hear(self, event: KillSwitchEvent) -> None:
        kill_ids = [event.event_id] if event.activated else event.releases or ()
        for kill_id in kill_ids:
            tell("heard", kill_id, time.monotonic_ns(), event.activated)

    async def _tick(self, _event: MarketDataEvent) -> None:
        """Take a tick."""

    def do(self, line: str) -> None:
        """Do what the parent says."""
        word, *rest = line.split()
        match word:
            case "loud":
                self._is_loud.set()
            case "quiet":
                self._is_loud.clear()
                self._spawn(self._tell_silent())
            case "stop":
                self._is_over.set()
            case "throw" | "release":
                self._spawn(self._throw(word, rest[0]))
            case "active":
                tell("active", *(halt.event_id for halt in self.bus.halted()))
            case "standing":
                standing = self.bus.get_status()["link"] or {}
                tell("standing", msgspec.json.encode(standing).decode())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _throw(self, word: str, kill_id: str) -> None:
        """Throw a kill switch, or release it, and tell whether it was accepted.

        The time is that right before it is published.
        """
        tell("threw", kill_id, time.monotonic_ns(), word == "throw")
        if word == "throw":
            event = KillSwitchEvent(
                event_id=kill_id, reason="campaign", triggered_by="campaign", source_agent="campaign"
            )
            await self.bus.publish(event)
        else:
            try:
                await self._releaser.release(ids=[kill_id], reason="campaign")
            except ConfigError:
                tell("inactive", kill_id)
                return
        tell("kept", kill_id, word == "throw")

    async def live(self) -> None:
        """Start, publish, and stop when told to."""
        async with self.bus:
            tell("started", time.monotonic_ns())
            publishing = [asyncio.create_task(self._publish())]
            if self.given.ticks and self.given.feed == self.given.desk:
                publishing.append(asyncio.create_task(self._send_ticks()))
            await self._is_over.wait()
            for task in publishing:
                task.cancel()
            await asyncio.gather(*publishing, return_exceptions=True)
        tell("stopped")

    async def _publish(self) -> None:
        """Publish in bursts, every fifth event in the lane of high priority."""
        given = self.given
        pause_s = BURST / given.rate if given.rate else 0.0
        while True:
            await self._is_loud.wait()
            self._is_silent.clear()
            for _ in range(BURST):
                await self._publish_one()
            self._is_silent.set()
            await asyncio.sleep(pause_s)

    async def _tell_silent(self) -> None:
        """Tell when nothing is under way any more that may yet be accepted."""
        await self._is_silent.wait()
        tell("silent")

    async def _publish_one(self) -> None:
        given = self.given
        self._number += 1
        event_id = f"{given.desk}-{given.life}-{self._number}"
        kind = CampaignUrgent if self._number % 5 == 0 else CampaignDeal
        is_urgent = kind is CampaignUrgent
        event = kind(event_id=event_id, life=given.life, pad="x" * given.size, source_agent=given.desk)
        level = cast("Literal['process', 'disk', 'replicated']", given.level)
        try:
            if await self.bus.publish(event, priority=is_urgent, level=level):
                self.accepted.note(event_id)
        except ConfigError as error:
            tell("refused", str(error))
            self._is_loud.clear()
        except SeatLost as error:
            if "another process holds" in str(error):
                tell("lost")
                self._is_loud.clear()
            await asyncio.sleep(0.05)
        except LinkError as error:
            tell("unknown", event_id, type(error).__name__)
            await asyncio.sleep(0.05)

    async def _send_ticks(self) -> None:
        """Send ticks in groups, as fast as asked, which no journal takes."""
        number, began_s = 0, time.monotonic()
        while True:
            due = int((time.monotonic() - began_s) * self.given.ticks)
            while number < due:
                number += 1
                with suppress(OpenOutcryError):
                    symbol = f"S{number % SYMBOLS}"
                    self.bus.publish_nowait(
                        MarketDataEvent(symbol=symbol, price=1.0 + number, source_agent="feed")
                    )
                if number % TICKS_A_TURN == 0:
                    await asyncio.sleep(0)
            await asyncio.sleep(0.002)


def follow(do: Callable[[str], object]) -> None:
    """Do what standard input says; end the process with it."""
    rest = b""
    while data := os.read(0, 64 * 1024):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            do(line.decode())
    os._exit(3)


async def main(given: Settings) -> None:
    """Live one life."""
    if given.boot:
        started = Path(given.folder) / f"{given.desk}.boot"
        started.write_text(f"{given.boot:032x}")
        marks._BOOT_ID = started  # type: ignore[misc] # noqa: SLF001 - the host seems to have started again
    child, loop = Child(given), asyncio.get_running_loop()
    Thread(target=follow, args=(lambda line: loop.call_soon_threadsafe(child.do, line),), daemon=True).start()
    tell("born")
    await child.live()


if __name__ == "__main__":
    try:
        asyncio.run(main(msgspec.json.decode(sys.argv[1], type=Settings)))
    except ConfigError as problem:
        tell("refused", str(problem))
        raise
