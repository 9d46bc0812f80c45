"""What the campaigns on desks share: real servers, desks as processes, and one judge of what they have left.

A campaign makes a `Firm`, harms it, and calls `settle`: the publishers fall silent, everything that was harmed
is made whole, and the judge waits until every desk has what the others made. Then it looks at the journals and
the notes, independently of the link:

- every event that `publish` said True for is in its desk's journal;
- what a desk's journal has made is in every other journal: the same bytes, in the same order by lane, once;
- what is in a journal was handled, and no more was handled again than a crash may repeat;
- what two holders of one desk made does not alternate in anybody's journal.
"""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from campaigns.firm_child import Settings
from openoutcry.errors import OpenOutcryError
from openoutcry.events import RECORDS
from openoutcry.journals import JournalReader
from openoutcry.links.nats.servers import Servers
from openoutcry.runtime.delivery.offsets import UNSAVED_MOST
from openoutcry.runtime.delivery.worker import BATCH_MOST

PAGE: Final = 5_000
START_S: Final = 60.0
SETTLE_S: Final = 90.0
LOOK_S: Final = 0.5
REPEATS_MOST: Final = 2 * (UNSAVED_MOST + BATCH_MOST)
"""So many events a crash may repeat: two lanes of one subscription."""
TYPES: Final = ("campaign_deal", "campaign_urgent")
SHOWN: Final = 3


class DeskProcess:
    """One life of a desk, as a process.

    Attributes:
        given: What it was given.
        told: Its lines, as words.

    """

    def __init__(self, given: Settings) -> None:
        self.given = given
        self.told: list[list[str]] = []
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    async def start(self) -> None:
        """Start it, and do not wait for it."""
        notes = Path(self.given.folder) / f"{self.given.journal}.log"
        with notes.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "campaigns.firm_child",
                msgspec.json.encode(self.given).decode(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self.told.append(line.decode().split(maxsplit=1 if line.startswith(b"standing") else -1))
            self._news.set()

    @property
    def is_alive(self) -> bool:
        """Whether it runs, or stands still."""
        return self._process is not None and self._process.returncode is None

    def tell(self, *words: str) -> None:
        """Tell it something."""
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(ConnectionError):
            self._process.stdin.write(" ".join(words).encode() + b"\n")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self._process is not None and self.is_alive:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    async def has_told(self, *words: str, within_s: float = START_S) -> bool:
        """Wait until it has told a line that begins with these words; False if it has not, or has ended."""
        seen, ends_s = 0, time.monotonic() + within_s
        while True:
            if any(line[: len(words)] == list(words) for line in self.told[seen:]):
                return True
            seen = len(self.told)
            left_s = ends_s - time.monotonic()
            if left_s <= 0 or (not self.is_alive and self._reading is not None and self._reading.done()):
                return False
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, LOOK_S)):
                    await self._news.wait()

    async def kill(self) -> None:
        """Kill it, and wait for its end."""
        self.send(signal.SIGKILL)
        await self.ended()

    async def ended(self) -> int:
        """Wait for its end, and return its exit status."""
        assert self._process is not None
        assert self._reading is not None
        await self._reading
        return await self._process.wait()


class Firm:
    """Some desks and their servers.

    Attributes:
        name: The firm's name.
        folder: Where everything is.
        servers: The servers.
        desks: The newest life of each desk.
        crashes: How many times each desk was killed.

    """

    def __init__(
        self,
        folder: Path,
        servers: Servers,
        names: Sequence[str],
        by_desk: dict[str, dict[str, Any]],
        **settings: Any,
    ) -> None:
        self.name = "campaign"
        self.folder, self.servers = folder, servers
        self.desks: dict[str, DeskProcess] = {}
        self.crashes: Counter[str] = Counter()
        self._names = tuple(names)
        self._by_desk = by_desk
        self._settings = {"replicas": len(servers.nodes), "servers": servers.urls} | settings
        self._lives: Counter[str] = Counter()

    def given(self, desk: str, **changes: Any) -> Settings:
        """Return what the next life of a desk is given."""
        self._lives[desk] += 1
        settings: dict[str, Any] = {
            "folder": str(self.folder),
            "journal": f"{desk}.db",
            "firm": self.name,
            "desk": desk,
            "life": self._lives[desk],
        }
        return Settings(**(settings | self._settings | self._by_desk.get(desk, {}) | changes))

    async def start(self, desk: str, **changes: Any) -> DeskProcess:
        """Start a desk, and have it publish as soon as it has started."""
        process = self.desks[desk] = DeskProcess(self.given(desk, **changes))
        await process.start()
        process.tell("loud")
        return process

    async def start_all(self) -> None:
        """Start every desk. Raises `RuntimeError` if one does not start."""
        for desk in self._names:
            await self.start(desk)
        for desk, process in self.desks.items():
            if not await process.has_told("started"):
                raise RuntimeError(f"desk {desk} did not start: see {self.folder}/{desk}.db.log")

    async def kill(self, desk: str) -> None:
        """Kill a desk."""
        self.crashes[desk] += 1
        await self.desks[desk].kill()

    async def settle(self, within_s: float = SETTLE_S) -> "Judge":
        """Make everything whole, wait until all is everywhere, stop the desks, and judge."""
        for node in self.servers.nodes:
            node.resume()
            node.start()
        for desk, process in list(self.desks.items()):
            process.send(signal.SIGCONT)
            if not process.is_alive:
                await self.start(desk)
        for process in self.desks.values():
            await process.has_told("started")
            process.tell("quiet")
        ends_s, judge = time.monotonic() + within_s, Judge(self.folder, self._names, self.crashes)
        while time.monotonic() < ends_s and (judge.missing() or judge.unhandled()):
            await asyncio.sleep(LOOK_S)
        await self.stop()
        return judge

    async def stop(self) -> None:
        """Stop every desk in order; kill what does not end."""
        for process in self.desks.values():
            process.tell("stop")
        for process in self.desks.values():
            try:
                async with asyncio.timeout(20):
                    await process.ended()
            except TimeoutError:
                await process.kill()

    async def end(self) -> None:
        """Kill what is left."""
        for process in self.desks.values():
            if process.is_alive:
                process.send(signal.SIGCONT)
                await process.kill()


class Made:
    """What one journal has: its own events and those of each other desk, by lane, in order."""

    def __init__(self, path: Path, known: "Made | None" = None) -> None:
        self.by_desk: dict[tuple[str | None, str], list[tuple[str, bytes]]] = (
            known.by_desk if known is not None else defaultdict(list)
        )
        self.position = known.position if known is not None else 0
        with suppress(OpenOutcryError, OSError), JournalReader(path, held=False) as reader:
            while page := reader.read(self.position, PAGE):
                for entry in page:
                    head = entry.head()
                    if head.event_type in RECORDS or head.event_type not in TYPES:
                        continue
                    desk = None if entry.header is None else entry.header.desk
                    self.by_desk[desk, entry.lane].append((head.event_id or "", entry.payload))
                self.position = page[-1].position


class Judge:
    """Looks at what the desks have left.

    Attributes:
        found: What is wrong, in words.

    """

    def __init__(self, folder: Path, desks: Sequence[str], crashes: Counter[str]) -> None:
        self.folder, self.desks, self.crashes = folder, tuple(desks), crashes
        self._made: dict[str, Made] = {}
        self.found: list[str] = []
        self.counts: Counter[str] = Counter()

    def _look(self) -> None:
        self._made = {desk: Made(self.folder / f"{desk}.db", self._made.get(desk)) for desk in self.desks}

    def missing(self) -> int:
        """Return how many events have not come everywhere yet."""
        self._look()
        return sum(
            max(0, len(own) - len(self._made[taker].by_desk.get((maker, lane), ())))
            for maker in self.desks
            for (desk, lane), own in self._made[maker].by_desk.items()
            if desk is None
            for taker in self.desks
            if taker != maker
        )

    def unhandled(self) -> int:
        """Return how many events that a journal has were not handled yet."""
        return sum(len(self._ids(desk) - set(self._notes(desk, "handled"))) for desk in self.desks)

    def _ids(self, desk: str) -> set[str]:
        return {event_id for rows in self._made[desk].by_desk.values() for event_id, _ in rows}

    def _notes(self, desk: str, kind: str) -> list[str]:
        path = self.folder / f"{desk}.db.{kind}"
        return path.read_text().splitlines() if path.exists() else []

    def judge(self, *, lost: Callable[[str], bool] = lambda _event_id: False) -> bool:
        """Judge everything, print what was counted and found; `lost` says which accepted events may be gone."""
        self._look()
        self.found.clear()
        for maker in self.desks:
            own = {lane: rows for (desk, lane), rows in self._made[maker].by_desk.items() if desk is None}
            self._judge_accepted(maker, {event_id for rows in own.values() for event_id, _ in rows}, lost)
            for taker in self.desks:
                if taker != maker:
                    for lane, rows in own.items():
                        self._judge_pair(maker, taker, lane, rows)
        for desk in self.desks:
            self._judge_handled(desk)
        shown = ", ".join(f"{name} {count:,}" for name, count in self.counts.items())
        print(f"    {shown}", flush=True)
        for one in self.found:
            print(f"    FOUND: {one}", flush=True)
        return not self.found

    def _judge_accepted(self, desk: str, own: set[str], lost: Callable[[str], bool]) -> None:
        accepted = self._notes(desk, "accepted")
        self.counts["accepted"] += len(accepted)
        gone = [event_id for event_id in accepted if event_id not in own and not lost(event_id)]
        self.counts["lost"] += len(gone)
        if gone:
            self.found.append(
                f"{desk} accepted {len(gone)} events that are not in its journal: {gone[:SHOWN]}"
            )

    def _judge_pair(self, maker: str, taker: str, lane: str, own: list[tuple[str, bytes]]) -> None:
        had = self._made[taker].by_desk.get((maker, lane), [])
        self.counts["carried"] += len(had)
        way = f"{maker} to {taker}, {lane}"
        ids = {event_id for event_id, _ in had}
        missing = [event_id for event_id, _ in own if event_id not in ids]
        self.counts["missing"] += len(missing)
        if missing:
            self.found.append(f"{way}: {len(missing)} missing: {missing[:SHOWN]}")
        if len(ids) < len(had):
            self.found.append(f"{way}: {len(had) - len(ids)} more than once")
        rank = {event_id: (place, payload) for place, (event_id, payload) in enumerate(own)}
        known = [(event_id, payload) for event_id, payload in had if event_id in rank]
        if any(rank[event_id][1] != payload for event_id, payload in known):
            self.found.append(f"{way}: other bytes")
        places = [rank[event_id][0] for event_id, _ in known]
        wrong = sum(1 for one, other in zip(places, places[1:], strict=False) if other < one)
        self.counts["out of order"] += wrong
        if wrong:
            self.found.append(f"{way}: {wrong} out of order")
        if len(known) < len(had):
            strays = [event_id for event_id, _ in had if event_id not in rank]
            self.counts["not the maker's"] += len(strays)
            self.found.append(f"{way}: {len(strays)} that the maker's journal lacks: {strays[:SHOWN]}")

    def _judge_handled(self, desk: str) -> None:
        times = Counter(self._notes(desk, "handled"))
        unhandled = self._ids(desk) - times.keys()
        if unhandled:
            self.found.append(f"{desk}: {len(unhandled)} not handled: {sorted(unhandled)[:SHOWN]}")
        repeats, most = times.total() - len(times), REPEATS_MOST * self.crashes[desk]
        self.counts["handled"] += times.total()
        self.counts["again"] += repeats
        if repeats > most:
            self.found.append(
                f"{desk}: {repeats} handled again after {self.crashes[desk]} crashes, {most} may be"
            )


def alternations(folder: Path, taker: str, maker: str) -> list[str]:
    """Return where what a former holder of a desk made stands behind what the next one made, by lane."""
    found = []
    for (desk, lane), rows in Made(folder / f"{taker}.db").by_desk.items():
        lives = [int(event_id.split("-")[1]) for event_id, _ in rows] if desk == maker else []
        found += [
            f"{taker}, {lane}: life {other} of {maker} behind life {one}"
            for one, other in zip(lives, lives[1:], strict=False)
            if other < one
        ]
    return found


@asynccontextmanager
async def a_firm(
    names: Sequence[str] = ("a", "b", "c"),
    nodes: int = 1,
    *,
    folder: Path | None = None,
    prepare: Callable[[Servers], None] = lambda _servers: None,
    by_desk: dict[str, dict[str, Any]] | None = None,
    **settings: Any,
) -> AsyncIterator[Firm]:
    """A firm whose desks have started, in a folder of its own, which stays if the campaign fails.

    Args:
        names: Its desks.
        nodes: How many nodes there are.
        folder: Where everything is, if that is prepared.
        prepare: Is given the servers before they are started.
        by_desk: Settings of one desk, in all its lives.
        settings: Settings of every desk.

    """
    folder = a_folder() if folder is None else folder
    servers = Servers(folder / "nodes", nodes)
    prepare(servers)
    with servers:
        firm = Firm(folder, servers, names, by_desk or {}, **settings)
        try:
            await firm.start_all()
            yield firm
        finally:
            await firm.end()


def a_folder() -> Path:
    """Make a folder for a firm."""
    return Path(tempfile.mkdtemp(prefix="openoutcry-firm-"))


def report(name: str, is_good: bool, folder: Path, began_s: float) -> int:
    """Print the result, and remove the folder if it is good; return an exit status."""
    took = f"{time.monotonic() - began_s:.0f} s"
    if is_good:
        shutil.rmtree(folder, ignore_errors=True)
        print(f"{name}: good ({took})", flush=True)
        return 0
    print(f"{name}: FAILED ({took}); everything is in {folder}", flush=True)
    return 1
