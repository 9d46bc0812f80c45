"""What the campaigns on desks share: real servers, and desks as processes.

A campaign makes a `Firm`, harms it, and calls `settle`: the publishers fall silent, everything that was
harmed is made whole, and it waits until every desk has what the others made. Then `firm_truth` judges. All
the while kill switches are thrown and released, and every desk that is whole must hear them in time.
"""

import argparse
import asyncio
import http.client
import itertools
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from campaigns.firm_child import Settings
from campaigns.firm_switches import HEARD_NS, Life
from campaigns.firm_truth import Judge, read, say, succession
from openoutcry.links.nats.servers import Node, Servers

SHM: Final = Path("/dev/shm")  # noqa: S108 - a disk that others use would be what is measured
START_S: Final = 180.0
SETTLE_S: Final = 90.0
TAKE_OVER_S: Final = 30.0
LOOK_S: Final = 0.5
PROBE_S: Final = 0.6
"""How often a kill switch is thrown, or released."""
WAKE_NS: Final = 1_000_000_000
"""How long a desk that could not reach its nodes has to find them again."""


class DeskProcess:
    """One life of a desk, as a process.

    Attributes:
        given: What it was given.
        told: Its lines, as words.
        away_ns: When it stood still, or did not reach its nodes: from when to when, on the monotonic clock.
        ended_ns: When it was killed; 0 if it runs.

    """

    def __init__(self, given: Settings) -> None:
        self.given = given
        self.told: list[list[str]] = []
        self.away_ns: list[tuple[int, int]] = []
        self.ended_ns = 0
        self._away_since_ns = 0
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    async def start(self) -> None:
        """Start it, and do not wait for it."""
        notes = Path(self.given.folder) / f"{Path(self.given.journal).name}.log"
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

    def away(self) -> None:
        """It stands still from now on, or does not reach its nodes."""
        self._away_since_ns = self._away_since_ns or time.monotonic_ns()

    def back(self) -> None:
        """It is as it should be."""
        if self._away_since_ns:
            self.away_ns.append((self._away_since_ns, time.monotonic_ns() + WAKE_NS))
            self._away_since_ns = 0

    def stand_still(self) -> None:
        """Suspend it."""
        self.away()
        self.send(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        self.send(signal.SIGCONT)
        self.back()

    @property
    def started_ns(self) -> int:
        """When it had started, on the monotonic clock; 0 before that."""
        return next((int(words[1]) for words in self.told if words[0] == "started"), 0)

    @property
    def is_whole(self) -> bool:
        """Whether it has started, runs, and reaches its nodes."""
        return bool(self.is_alive and self.started_ns and not self._away_since_ns)

    def life(self) -> Life:
        """Return what it has told, and the stretches in which it was whole."""
        from_ns, ended_ns = self.started_ns, self.ended_ns or time.monotonic_ns()
        whole = []
        still = [(self._away_since_ns, ended_ns)] if self._away_since_ns else []
        for gone_ns, back_ns in [*self.away_ns, *still]:
            whole.append((from_ns, min(gone_ns, ended_ns)))
            from_ns = max(from_ns, back_ns)
        whole.append((from_ns, ended_ns))
        return Life(self.given.desk, self.told, whole if self.started_ns else ())

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
        self.ended_ns = self.ended_ns or time.monotonic_ns()
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
        lives: All lives of all desks.
        crashes: How many times each desk was killed.

    """

    def __init__(
        self,
        folder: Path,
        servers: Servers,
        names: Sequence[str],
        by_desk: dict[str, dict[str, Any]],
        settings: dict[str, Any],
    ) -> None:
        self.name = "campaign"
        self.folder, self.servers = folder, servers
        self.desks: dict[str, DeskProcess] = {}
        self.lives: list[DeskProcess] = []
        self.crashes: Counter[str] = Counter()
        self._names = tuple(names)
        self._by_desk = by_desk
        self._settings = {"replicas": len(servers.nodes), "servers": servers.urls} | settings
        self._probing: asyncio.Task[None] | None = None

    def journal(self, desk: str) -> Path:
        """Return where a desk's journal is."""
        return self.folder / str(self._by_desk.get(desk, {}).get("journal", f"{desk}.db"))

    def new(self, desk: str, **changes: Any) -> DeskProcess:
        """Return the next life of a desk, which is not started yet."""
        settings: dict[str, Any] = {
            "folder": str(self.folder),
            "journal": f"{desk}.db",
            "firm": self.name,
            "desk": desk,
            "life": 1 + sum(life.given.desk == desk for life in self.lives),
        }
        self.lives.append(
            DeskProcess(Settings(**(settings | self._settings | self._by_desk.get(desk, {}) | changes)))
        )
        return self.lives[-1]

    async def start(self, desk: str, **changes: Any) -> DeskProcess:
        """Start a desk, and have it publish as soon as it has started."""
        process = self.desks[desk] = self.new(desk, **changes)
        await process.start()
        process.tell("loud")
        return process

    async def start_all(self) -> None:
        """Start every desk, and throw kill switches from then on. Raises `RuntimeError`."""
        for desk in self._names:
            await self.start(desk)
        for desk, process in self.desks.items():
            if not await process.has_told("started"):
                raise RuntimeError(f"desk {desk} did not start: see {self.folder}/{desk}.db.log")
        self._probing = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        """Throw kill switches and release them, by each desk in turn that is whole."""
        for number in itertools.count(1):
            for word in ("throw", "release"):
                await asyncio.sleep(PROBE_S)
                whole = [process for process in self.desks.values() if process.is_whole]
                if whole:
                    whole[number % len(whole)].tell(word, f"probe-{number}")

    async def end_probing(self) -> None:
        """Throw no more kill switches."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
            self._probing = None
            await asyncio.sleep(1.2 * HEARD_NS / 1e9)

    async def kill(self, desk: str) -> None:
        """Kill a desk."""
        self.crashes[desk] += 1
        await self.desks[desk].kill()

    def nodes_away(self) -> None:
        """No node can be reached from now on."""
        for process in self.desks.values():
            process.away()

    def nodes_back(self) -> None:
        """They can be reached again."""
        for process in self.desks.values():
            process.back()

    def leader(self, log_name: str) -> Node | None:
        """Return the node that leads a log; None if nobody knows."""
        for node in self.servers.nodes:
            known = _ask(node, "/jsz?streams=true")
            for account in known.get("account_details", ()):
                for stream in account.get("stream_detail", ()):
                    if stream["name"].endswith(log_name):
                        name = stream.get("cluster", {}).get("leader", "")
                        return next((one for one in self.servers.nodes if one.name == name), None)
        return None

    async def settle(self, within_s: float = SETTLE_S) -> Judge:
        """Make everything whole, wait until all is everywhere, stop the desks, and return the judge."""
        await self.end_probing()
        for node in self.servers.nodes:
            node.resume()
            node.start()
        for desk, process in list(self.desks.items()):
            process.go_on()
            if not process.is_alive:
                await self.start(desk)
        for process in self.desks.values():
            await process.has_told("started")
            process.tell("quiet")
        for process in self.desks.values():  # what is accepted after the last look would be missed
            await process.has_told("silent", within_s=TAKE_OVER_S)
        judge = Judge(self.folder, {desk: self.journal(desk) for desk in self._names}, self.crashes)
        began_s = time.monotonic()
        while judge.missing() or judge.unhandled():
            if time.monotonic() > began_s + within_s:
                await self._tell_standing()
                break
            await asyncio.sleep(LOOK_S)
        say(f"    all was everywhere {time.monotonic() - began_s:.0f} s after the last harm")
        active = await self._active()
        await self.stop()
        judge.judge_kill_switches([life.life() for life in self.lives], active)
        judge.found += [f"{desk} did not say what is active" for desk in self.desks.keys() - active.keys()]
        await judge.audit()
        return judge

    async def _tell_standing(self) -> None:
        """Print how the link of each desk stands."""
        for desk, process in self.desks.items():
            process.tell("standing")
            await process.has_told("standing", within_s=5)
            told = [words[1] for words in process.told if words[0] == "standing"]
            (self.folder / f"{desk}.standing.json").write_text(told[-1] if told else "")
            standing = msgspec.json.decode(told[-1]) if told else {}
            say(f"    desk {desk} is {standing.get('word', 'mute')}: {standing.get('why', '')}")

    async def _active(self) -> dict[str, set[str]]:
        """Return which kill switches are active on each desk that answers."""
        active = {}
        for desk, process in self.desks.items():
            process.tell("active")
            if await process.has_told("active", within_s=TAKE_OVER_S):
                active[desk] = next(set(words[1:]) for words in process.told if words[0] == "active")
        return active

    async def stop(self) -> None:
        """Stop every desk in order; kill what does not end."""
        for process in self.desks.values():
            process.ended_ns = process.ended_ns or time.monotonic_ns()
            process.tell("stop")
        for process in self.desks.values():
            try:
                async with asyncio.timeout(20):
                    await process.ended()
            except TimeoutError:
                say(f"    desk {process.given.desk} did not stop within 20 s")
                await process.kill()

    async def end(self) -> None:
        """Kill what is left."""
        if self._probing is not None:
            self._probing.cancel()
        for process in self.lives:
            if process.is_alive:
                process.send(signal.SIGCONT)
                await process.kill()


def _ask(node: Node, path: str) -> dict[str, Any]:
    """Return what a node tells of itself; nothing if it does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", node.monitor_port, timeout=2)
    try:
        connection.request("GET", path)
        return cast("dict[str, Any]", msgspec.json.decode(connection.getresponse().read()))
    except (OSError, http.client.HTTPException, msgspec.DecodeError):
        return {}
    finally:
        connection.close()


async def take_over(
    firm: Firm, desk: str, takers: Sequence[str], after_s: float, wake: Callable[[], None]
) -> list[str]:
    """Have a second process take over a desk whose holder is out of reach; wake the first; say what is wrong.

    Args:
        firm: The firm.
        desk: The desk.
        takers: The other desks, whose journals are looked at.
        after_s: For how long the second one holds it, before the first one is back.
        wake: Brings the first one back.

    """
    await firm.end_probing()
    first, second = firm.desks[desk], firm.new(desk, journal=f"{desk}-2.db", servers=firm.servers.urls)
    await second.start()
    second.tell("loud")
    found = [] if await second.has_told("started") else ["the second holder did not get in"]
    await asyncio.sleep(after_s)
    wake()
    if not await first.has_told("lost", within_s=TAKE_OVER_S):
        found.append("the first holder was not refused")
    for process in (second, *firm.desks.values()):
        process.tell("quiet")
    journals = firm.journal(desk), firm.folder / second.given.journal
    ends_s = time.monotonic() + SETTLE_S
    while True:
        wrong = [one for taker in takers for one in succession(firm.journal(taker), desk, journals)]
        if not wrong or time.monotonic() > ends_s:
            break
        await asyncio.sleep(LOOK_S)
    made = sum(map(len, read(journals[1]).own().values()))
    say(f"    the second holder has made {made:,}")
    found += wrong if made else ["the second holder has made nothing"]
    for one in found:
        say(f"    FOUND: {one}")
    return found


@asynccontextmanager
async def a_firm(
    names: Sequence[str] = ("a", "b", "c"),
    nodes: int = 1,
    *,
    folder: Path | None = None,
    prepare: Callable[[Servers], None] = lambda _servers: None,
    by_desk: dict[str, dict[str, Any]] | None = None,
    settings: dict[str, Any] | None = None,
    sync_always: bool = False,
) -> AsyncIterator[Firm]:
    """A firm whose desks have started, in a folder of its own, which stays if the campaign fails.

    Args:
        names: Its desks.
        nodes: How many nodes there are.
        folder: Where everything is, if that is prepared.
        prepare: Is given the servers before they are started.
        by_desk: Settings of one desk, in all its lives.
        settings: Settings of every desk.
        sync_always: Whether the nodes sync before they acknowledge.

    """
    folder = a_folder() if folder is None else folder
    servers = Servers(folder / "nodes", nodes, sync_always=sync_always)
    prepare(servers)
    with servers:
        firm = Firm(folder, servers, names, by_desk or {}, settings or {})
        try:
            await firm.start_all()
            yield firm
        finally:
            await firm.end()


def a_folder() -> Path:
    """Make a folder for a firm, in memory where that is possible."""
    return Path(tempfile.mkdtemp(prefix="openoutcry-firm-", dir=SHM if SHM.is_dir() else None))


def report(name: str, is_good: bool, folder: Path, began_s: float) -> int:
    """Print the result, and remove the folder if it is good; return an exit status."""
    took = f"{time.monotonic() - began_s:.0f} s"
    if is_good:
        shutil.rmtree(folder, ignore_errors=True)
        say(f"{name}: good ({took})")
        return 0
    say(f"{name}: FAILED ({took}); everything is in {folder}")
    return 1


def chosen(text: str, known: Iterable[str]) -> list[str]:
    """Return the names of a list with commas. Raises `argparse.ArgumentTypeError` for an unknown one."""
    names, choice = text.split(","), list(known)
    if unknown := sorted(set(names).difference(choice)):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; choose from {', '.join(choice)}")
    return names
