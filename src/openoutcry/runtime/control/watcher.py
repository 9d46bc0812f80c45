"""The watcher: one poller of a running bus, which the page, the metrics and `openoutcry top` share.

```
  never ──answers──▶ up ──no answer within STALL_S──▶ silent ──the answer──▶ up
                      │                                 │
                      └────────── hangs up ─────────────┴──▶ gone ──another life answers──▶ up
```

It has one connection, at most one request under way, and never asks for the status. A killed process hangs
up at once; a stopped one, or one whose loop is blocked, is silent after `STALL_S`.
"""

import asyncio
import logging
import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar

import msgspec

from openoutcry.clocks import SystemClock
from openoutcry.observers.pulse import Buckets, Pulse, RoundsSeen, Shape
from openoutcry.runtime.control.client import Answer, ask_async, find_socket
from openoutcry.runtime.control.pulse import FRESH_S, NAMES_MOST, fresh_s
from openoutcry.runtime.control.server import address_of

log = logging.getLogger("openoutcry")

Live = Literal["never", "up", "silent", "gone"]
Kind = TypeVar("Kind")

EVERY_S: Final = 0.25
"""How often it asks for a pulse;"""
EVERY_LARGE_S: Final = 0.45
"""a large firm, which makes fewer of them, down to so often."""
STALL_S: Final = 1.5
"""An answer that takes longer makes the bus silent."""
AGAIN_S: Final = (0.1, 0.25, 0.5, 1.0)
"""How long it waits after one failure, two failures, and so on, before it connects again."""
ACT_S: Final = 65.0
"""How long an action may take."""
TRIES: Final = 4
"""So many times it asks for a pulse and its shape, which may change in between."""
UNMATCHED_S: Final = 10.0
"""A bus of which they differ for longer counts as silent."""
BUCKETS_MOST: Final = NAMES_MOST
"""So many subscriptions are asked for in one request."""
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024


class _Said(msgspec.Struct):
    """An answer of which the result is not read yet."""

    ok: bool
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: str = ""


_read: Final = msgspec.json.Decoder(_Said).decode
_NONE_LISTENS: Final = (FileNotFoundError, ConnectionRefusedError, NotADirectoryError)


class Watcher:
    """Watches the bus of a journal, or of a control socket, from another process or loop.

    ```python
    async with Watcher("firm.db") as watcher:
        seen = 0
        while True:
            seen = await watcher.changed(seen)
            print(watcher.live, watcher.pulse and watcher.pulse.state)
    ```

    It belongs to the event loop on which it is entered. What it knows last stays readable when the bus is
    gone.

    Args:
        path: The journal's file, or the control socket of a bus without one. Neither need exist yet.
        every_s: Seconds between two pulses; more beside a firm of some hundred subscriptions, at most 0.45.

    Attributes:
        path: That path.
        live: `up`: the bus answers. `silent`: it is there, and has not answered for `STALL_S`, or refuses.
            `gone`: it has hung up, or none listens. `never`: none has answered since watching began.
        since_ns: Since when that is so, in nanoseconds since 1970.
        why: What is known of the reason, in words; empty while it is up.
        shape: What rarely changes; None before the first answer.
        pulse: The newest pulse; None before the first answer. It belongs to `shape`.
        before: The one before it, of the same life; None if there is none.
        received_s: When the newest pulse came, in seconds of the loop's clock; its age is that to
            `loop.time()`.
        lives: How many lives of the bus have answered.
        number: Grows with every change of any of these.

    """

    def __init__(self, path: str | Path, *, every_s: float = EVERY_S) -> None:
        self.path: Path = Path(path)
        self.live: Live = "never"
        self.since_ns: int = SystemClock().wall_ns()
        self.why: str = f"no bus listens at {self.path} yet"
        self.shape: Shape | None = None
        self.pulse: Pulse | None = None
        self.before: Pulse | None = None
        self.received_s: float = 0.0
        self.lives: int = 0
        self.number: int = 0
        self._failures = 0
        self._connected_s = 0.0
        self._every_s = every_s
        self._news = asyncio.Event()
        self._wanted: asyncio.Queue[_Wanted | None] = asyncio.Queue()  # None: the pace has changed
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None

    # -- life ---------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Begin to watch. It does not wait for an answer."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="openoutcry:watcher")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hang up, and watch no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def changed(self, after: int = 0) -> int:
        """Wait until `number` is above `after`, and return it. Cancelling is harmless."""
        while self.number <= after:
            await self._news.wait()
        return self.number

    async def first(self, within_s: float) -> bool:
        """Wait for two pulses, of which rates can be made; return False where no bus listens.

        Raises `TimeoutError` if they do not come within so many seconds. Cancelling is harmless.
        """
        async with asyncio.timeout(within_s):
            seen = 0
            while self.before is None:
                seen = await self.changed(seen)
                if self.live in ("never", "gone"):
                    return False
        return True

    def ask_every(self, every_s: float) -> None:
        """From now on let so many seconds pass between two pulses. If the next is overdue, it comes now."""
        self._every_s = every_s
        self._wanted.put_nowait(None)

    # -- asking -------------------------------------------------------------------------------------

    async def buckets(self, names: Iterable[str], *, within_s: float = STALL_S) -> dict[str, Buckets]:
        """Return the distributions of some subscriptions by name; those that are not there are left out.

        Raises `ConnectionError` if the bus does not answer within `within_s` seconds.
        """
        found: dict[str, Buckets] = {}
        wanted = list(dict.fromkeys(names))
        for first in range(0, len(wanted), BUCKETS_MOST):
            some = wanted[first : first + BUCKETS_MOST]
            found.update(await self._ask(within_s, "buckets", dict[str, Buckets], names=some))
        return found

    async def rounds(self, since: int = 0, *, within_s: float = STALL_S) -> RoundsSeen:
        """Return the open rounds, and the next ones released behind a number. Raises `ConnectionError`."""
        return await self._ask(within_s, "rounds", RoundsSeen, since=since)

    async def act(self, verb: str, *, timeout_s: float = ACT_S, **arguments: Any) -> Answer | None:
        """Have the bus do something, over a connection of its own; None if none listens.

        It need not be up, nor this be entered. If it does not answer within `timeout_s` seconds, the answer
        is not ok, and it may still be done. Cancelled, it may be done all the same. Raises `PermissionError`
        if the socket belongs to another user.
        """
        return await ask_async(self.path, verb, timeout_s=timeout_s, **arguments)

    async def _ask(self, within_s: float, verb: str, kind: type[Kind], **arguments: Any) -> Kind:
        if self.live != "up":
            raise ConnectionError(f"the bus at {self.path} does not answer: {self.why}")
        wanted = _Wanted(verb, arguments)
        self._wanted.put_nowait(wanted)
        try:
            async with asyncio.timeout(within_s):
                said = await wanted.answer
        except TimeoutError:
            raise ConnectionError(f"the bus at {self.path} has not answered within {within_s:g} s") from None
        return msgspec.json.decode(said, type=kind)

    # -- watching -----------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Connect, ask until the bus hangs up, and connect again, for ever."""
        try:
            while True:
                try:
                    await self._connect()
                    await self._watch()
                except _Gone as gone:
                    self._turn(gone.live, str(gone))
                except OSError as problem:
                    self._turn("gone", f"the bus has hung up ({problem.strerror or problem})")
                except msgspec.MsgspecError as problem:
                    self._turn("silent", f"the bus is of another version of openoutcry: {problem}")
                self._hang_up()
                await asyncio.sleep(AGAIN_S[min(self._failures, len(AGAIN_S) - 1)])
                self._failures += 1
        finally:
            self._hang_up()

    async def _connect(self) -> None:
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            line.setblocking(False)
            with address_of(find_socket(self.path)) as address:
                line.connect(address)  # a local socket connects at once, or not at all
        except _NONE_LISTENS:
            line.close()
            raise _Gone("gone", f"no bus listens at {self.path}") from None
        except BlockingIOError:
            line.close()
            raise _Gone("silent", "it takes no connection: its process is stopped, or blocked") from None
        except PermissionError:
            line.close()
            raise _Gone("gone", f"the socket of {self.path} belongs to another user") from None
        except BaseException:
            line.close()
            raise
        self._reader, self._writer = await asyncio.open_unix_connection(sock=line, limit=ANSWER_BYTES_MAX)
        self._connected_s = asyncio.get_running_loop().time()

    def _hang_up(self) -> None:
        writer, self._writer, self._reader = self._writer, None, None
        if writer is not None:
            writer.transport.abort()
        while not self._wanted.empty():
            if (wanted := self._wanted.get_nowait()) is not None:
                wanted.fail(ConnectionError(f"the bus at {self.path}: {self.why}"))

    async def _watch(self) -> None:
        """Ask for pulses, and in between for what others want."""
        loop = asyncio.get_running_loop()
        while True:
            asked_s = loop.time()
            await self._take_pulse()
            while (left_s := asked_s + self._pace_s() - loop.time()) > 0:
                try:
                    async with asyncio.timeout(left_s):
                        wanted = await self._wanted.get()
                except TimeoutError:
                    break
                if wanted is not None:
                    await self._serve(wanted)

    def _pace_s(self) -> float:
        """Return how often to ask: not before there can be another pulse."""
        rows = 0 if self.pulse is None else len(self.pulse.rows)
        lasts_s = fresh_s(rows)
        return self._every_s if lasts_s <= FRESH_S else max(self._every_s, min(lasts_s, EVERY_LARGE_S))

    async def _take_pulse(self) -> None:
        loop, shape = asyncio.get_running_loop(), self.shape
        for _ in range(TRIES):
            pulse = msgspec.json.decode(await self._request("pulse"), type=Pulse)
            if shape is not None and _belongs(pulse, shape):
                break
            shape = msgspec.json.decode(await self._request("shape"), type=Shape)
            if _belongs(pulse, shape):
                break
        else:
            if loop.time() - max(self.received_s, self._connected_s) > UNMATCHED_S:
                self._turn("silent", "what it says of its subscriptions does not go together")
            return
        known = self.pulse
        if known is None or known.session != pulse.session:
            self.lives += 1
            self.before = None
        elif known.number != pulse.number:
            self.before = known
        self.shape, self.pulse = shape, pulse
        self.received_s = loop.time()
        self._failures = 0
        self._turn("up", "")
        self._tell()

    async def _serve(self, wanted: "_Wanted") -> None:
        """Ask for what somebody wants, who may have given up by now."""
        if wanted.answer.done():
            return
        try:
            wanted.done(await self._request(wanted.verb, **wanted.arguments))
        except _Refused as refused:
            wanted.fail(ConnectionError(str(refused)))
        except BaseException as error:
            wanted.fail(ConnectionError(f"the bus at {self.path} has hung up: {error}"))
            raise

    async def _request(self, verb: str, **arguments: Any) -> msgspec.Raw:
        """Ask, and return the result; while the answer does not come, the bus is silent."""
        reader, writer = self._reader, self._writer
        assert reader is not None
        assert writer is not None
        writer.write(msgspec.json.encode({"verb": verb, **arguments}) + b"\n")
        coming = asyncio.ensure_future(reader.readline())
        try:
            done, _ = await asyncio.wait({coming}, timeout=STALL_S)
            if not done:
                self._turn("silent", self._why_silent())
            line = await coming
        finally:
            coming.cancel()
        if not line.endswith(b"\n"):
            raise _Gone("gone", "the bus has hung up: its process has ended, or it was stopped")
        said = _read(line)
        if not said.ok:
            raise _Refused("silent", said.error)
        return said.result

    def _why_silent(self) -> str:
        """Return why an answer may not come: the process is stopped, or its loop is blocked."""
        pid = 0 if self.shape is None else self.shape.pid
        with suppress(OSError, IndexError):
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
            if state in ("T", "t"):
                return f"its process {pid} is stopped (SIGSTOP, or a debugger)"
        return f"it has not answered for {STALL_S:g} s: its loop is blocked, or its process is stopped"

    def _turn(self, live: Live, why: str) -> None:
        """Note what has become of the bus."""
        if live != "up" and self.live == "never" and self.pulse is None and live == "gone":
            live = "never"
        if (live, why) != (self.live, self.why):
            if live != self.live:
                self.since_ns = SystemClock().wall_ns()
            self.live, self.why = live, why
            self._tell()

    def _tell(self) -> None:
        self.number += 1
        news, self._news = self._news, asyncio.Event()
        news.set()


def _belongs(pulse: Pulse, shape: Shape) -> bool:
    """Return True if the rows of a pulse are those of a shape's subscriptions."""
    return (shape.session, shape.number) == (pulse.session, pulse.shape)


class _Wanted:
    """A request of somebody, and the future of its answer."""

    __slots__ = ("answer", "arguments", "verb")

    def __init__(self, verb: str, arguments: dict[str, Any]) -> None:
        self.verb = verb
        self.arguments = arguments
        self.answer: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()

    def done(self, result: msgspec.Raw) -> None:
        if not self.answer.done():
            self.answer.set_result(result)

    def fail(self, error: ConnectionError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class _Gone(Exception):
    """There is nothing to watch at the moment."""

    def __init__(self, live: Live, why: str) -> None:
        super().__init__(why)
        self.live: Live = live


class _Refused(_Gone):
    """The bus does not do what it was asked."""
