"""The control server: a running bus takes requests at a local socket beside its journal, one per line.

    {"verb": "redrive", "subscription": "risk"}   ->  {"ok": true, "result": 3}
    {"verb": "no such thing"}                     ->  {"ok": false, "error": "ConfigError: ..."}

The socket is for the user who runs the bus alone. Clients that send garbage, send without end, read slowly
or vanish are answered or disconnected here; none of it reaches the bus.
"""

import asyncio
import inspect
import os
import pwd
import socket
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path
from struct import Struct
from types import MappingProxyType
from typing import Any, Final, NamedTuple, cast

import msgspec

from openoutcry.errors import ConfigError, JournalError, JournalLocked
from openoutcry.journals import forks
from openoutcry.runtime.control.pulse import Line
from openoutcry.runtime.control.requests import VERBS, Action, ControlledBus, Halt, Request, Verb
from openoutcry.runtime.control.socket_lock import SocketLock
from openoutcry.runtime.delivery.causation import current

REQUEST_BYTES_MAX: Final = 64 * 1024
CLIENTS_MAX: Final = 32
"""So many clients are served at a time. One more takes the seat of whoever has been idle longest,"""
WATCHERS_MAX: Final = 24
"""but not of those who watch the bus, of whom there are at most so many: the operator always gets in."""
IDLE_S: Final = 60.0
"""A client that asks nothing for so long is disconnected."""
CALL_S: Final = 60.0
"""A verb that takes longer is cancelled."""
SEND_S: Final = 10.0
"""A client that does not read its answer for so long is disconnected."""
_PROBE_S: Final = 1.0
_BACKLOG: Final = 16
_ADDRESS_BYTES_MAX: Final = 107 if sys.platform == "linux" else 103
_NAME_BYTES_MAX: Final = 80
_CREDENTIALS: Final = Struct("3i")
_encode: Final = msgspec.json.Encoder(enc_hook=str).encode
_read_verb: Final = msgspec.json.Decoder(Request).decode


def socket_path(journal: str | Path) -> Path:
    """Return where the socket of the bus that writes to `journal` is: beside it, `<journal>-sock`.

    A name that no socket can have is replaced by a hash of it. Symbolic links are resolved first.
    """
    real = Path(os.path.realpath(journal))
    name = f"{real.name}-sock"
    if len(os.fsencode(name)) > _NAME_BYTES_MAX:
        name = f"{blake2b(os.fsencode(real.name), digest_size=12).hexdigest()}-sock"
    return real.with_name(name)


@contextmanager
def address_of(path: Path) -> Iterator[str]:
    """Yield an address of the socket at `path` that is short enough for the kernel, good within the context.

    Raises `ConfigError` for a long path where the system has no /proc to shorten it with.
    """
    if len(os.fsencode(path)) <= _ADDRESS_BYTES_MAX:
        yield str(path)
        return
    if sys.platform != "linux":
        raise ConfigError(
            f"{path} has {len(os.fsencode(path))} bytes, and a socket's address at most "
            f"{_ADDRESS_BYTES_MAX}: move the journal to a shorter path, or set socket = false"
        )
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


class Peer(NamedTuple):
    """Who is at the other end of the socket, as the operating system says; None where it does not."""

    user_id: int | None = None
    process_id: int | None = None

    @property
    def name(self) -> str:
        """The name of the user."""
        if self.user_id is None or self.user_id == os.getuid():
            return own_name()
        return "root" if self.user_id == 0 else f"user {self.user_id}"


@cache
def own_name() -> str:
    """Return the name of the user of this process."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # as in a container
        return f"user {os.getuid()}"


class Acted(NamedTuple):
    """Something that was asked to be done to the bus."""

    asked: Action
    peer: Peer
    answer: str

    @property
    def operator(self) -> str:
        """The name of the operator."""
        return self.asked.by or self.peer.name


class _Talk:
    """What is known of a client.

    Attributes:
        task: Its task.
        writer: Its line.
        peer: Who it is.
        watches: Whether it has taken a seat of those who watch.
        is_idle: Whether its next request is waited for,
        since_s: and since when, in the loop's time.
        is_refused: Whether it is to be disconnected.

    """

    __slots__ = ("is_idle", "is_refused", "peer", "since_s", "task", "watches", "writer")

    def __init__(self, task: "asyncio.Task[Any]", writer: asyncio.StreamWriter, peer: Peer) -> None:
        self.task = task
        self.writer = writer
        self.peer = peer
        self.watches = self.is_idle = self.is_refused = False
        self.since_s = 0.0


Ready = Callable[[], bytes | None]
"""Returns an answer for which nothing needs to be done, or None."""


class _Protocol(asyncio.StreamReaderProtocol):
    """Hands what comes to the stream of its talk, but for a request whose answer is there: that it answers.

    Those who watch the bus ask for the same again and again, and must cost it next to nothing.
    """

    def __init__(
        self, ready: Mapping[bytes, Ready], server: "ControlServer", reader: asyncio.StreamReader
    ) -> None:
        super().__init__(reader, server.talk)
        self._ready = ready
        self._is_whole = True
        self._line: asyncio.Transport | None = None
        self.talk: _Talk | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._line = cast(asyncio.Transport, transport)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Something has come."""
        talk, line = self.talk, self._line
        if talk is not None and talk.watches and talk.is_idle and self._is_whole and line is not None:
            ready = self._ready.get(data)
            answer = None if ready is None else ready()
            if answer is not None and not line.get_write_buffer_size() and not line.is_closing():
                talk.since_s = asyncio.get_running_loop().time()
                line.write(answer)
                return
        self._is_whole = data.endswith(b"\n")
        super().data_received(data)


class ControlServer:
    """Serves one bus at the socket of its journal, on the bus's loop.

    The bus must hold the journal's lock: that lock, and not the socket, decides between two buses. Where
    there is no journal, the socket has a lock of its own.

    Args:
        bus: The bus.
        path: The journal that the socket is beside; with `is_own` the socket itself.
        is_own: Whether the bus has no journal.
        verbs: What can be asked beyond `VERBS`, by name.
        on_act: Told of everything that was asked to be done to the bus. It must not raise.

    Attributes:
        path: The socket.
        verbs: What can be asked, by name; add to it before `start`.

    """

    def __init__(
        self,
        bus: ControlledBus,
        path: str | Path,
        *,
        is_own: bool = False,
        verbs: Mapping[str, Verb] = MappingProxyType({}),
        on_act: Callable[[Acted], object] = lambda _: None,
    ) -> None:
        self.path: Path = Path(os.path.realpath(path)) if is_own else socket_path(path)
        self.verbs: dict[str, Verb] = {**VERBS, **verbs}
        self._lock = SocketLock(self.path) if is_own else None
        self._remedy = "give control another path" if is_own else "set socket = false"
        self._on_act = on_act
        self._bus = bus
        self._held = ExitStack()
        self._server: asyncio.Server | None = None
        self._socket: socket.socket | None = None
        self._inode = 0
        self._talks: dict[asyncio.Task[Any], _Talk] = {}

    async def start(self) -> None:
        """Open the socket, for the current user alone. The socket of a dead process is replaced.

        Does nothing if it is open. Cancelled, it leaves nothing behind.

        Raises:
            JournalLocked: Another bus answers there.
            JournalError: The socket cannot be made.

        """
        if self._server is not None:
            return
        own_name()  # not while it serves: that may ask a server for it
        if self._lock is not None:
            await self._lock.take()
        try:
            address = self._held.enter_context(address_of(self.path))
            await self._make_way(address)
            self._socket = self._bind(address)
            self._server = await self._serve(self._socket)
            forks.watch(self)
        except OSError as problem:
            self._give_up()
            raise JournalError(
                f"the local socket {self.path} cannot be made: {problem.strerror or problem}; "
                f"see to the folder, or {self._remedy}"
            ) from problem
        except BaseException:
            if self._socket is not None:  # asyncio may have begun to serve it
                asyncio.get_running_loop().remove_reader(self._socket)
            self._give_up()
            raise

    async def stop(self, timeout_s: float | None = None) -> None:
        """Close the socket and disconnect all clients. Does nothing if it is not open.

        What a verb does goes on to its end, but nobody waits for that longer than `timeout_s`.
        """
        server, self._server = self._server, None
        if server is None:
            return
        forks.forget(self)
        self._unlink()
        server.close()
        self._socket = None
        self._let_go()
        others = self._talks.keys() - {asyncio.current_task()}
        for talk in others:
            talk.cancel()
        if others:
            await asyncio.wait(others, timeout=timeout_s)

    def give_up_loop(self) -> None:
        """The loop was closed, and everything that went on there with it: remove the socket."""
        self._server = None
        forks.forget(self)
        self._give_up()

    def disown(self) -> None:
        """Close the socket in a forked child, so that it ends with the parent."""
        if self._socket is not None:
            self._socket.close()
        self._let_go()

    # The socket

    async def _make_way(self, address: str) -> None:
        """Remove the socket of a dead process."""
        try:
            kind = self.path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(kind):
            raise JournalError(
                f"{self.path} is where the bus's local socket goes, and it is something else: move it away, "
                f"or {self._remedy}"
            )
        if await self._is_answered(address):
            raise JournalLocked(f"another bus answers at {self.path}; stop that one first")
        self.path.unlink(missing_ok=True)

    async def _is_answered(self, address: str) -> bool:
        """Return True if a bus answers. A socket that outlived its bus in a child never does."""
        try:
            async with asyncio.timeout(_PROBE_S):
                reader, writer = await asyncio.open_unix_connection(address)
                try:
                    writer.write(b'{"verb": "ping"}\n')
                    return bool(await reader.readline())
                finally:
                    writer.transport.abort()
        except (OSError, TimeoutError):
            return False

    def _bind(self, address: str) -> socket.socket:
        """Bind a socket that no other user can open at any moment."""
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.setblocking(False)
            if sys.platform == "linux":
                os.fchmod(made.fileno(), 0o600)  # what bind makes inherits it, less the umask
                made.bind(address)
            else:
                before = os.umask(0o177)
                try:
                    made.bind(address)
                finally:
                    os.umask(before)
            self._inode = self.path.lstat().st_ino
        except BaseException:
            made.close()
            raise
        return made

    def _unlink(self) -> None:
        """Remove the socket's name, unless another socket has taken it."""
        with suppress(OSError):
            if self._inode and self.path.lstat().st_ino == self._inode:
                self.path.unlink()
        self._inode = 0

    def _give_up(self) -> None:
        """Undo a start that failed."""
        self._unlink()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._let_go()

    def _let_go(self) -> None:
        self._held.close()
        if self._lock is not None:
            self._lock.release()

    # Talking

    async def _serve(self, listening: socket.socket) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        ready = {
            msgspec.json.encode({"verb": name}) + b"\n": verb.ready
            for name, verb in self.verbs.items()
            if verb.ready is not None
        }

        def protocol() -> _Protocol:
            return _Protocol(ready, self, asyncio.StreamReader(limit=REQUEST_BYTES_MAX, loop=loop))

        return await loop.create_unix_server(protocol, sock=listening, backlog=_BACKLOG)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client, request by request, until it hangs up or has to be disconnected."""
        current.set(None)  # what is asked here has no handler as its cause
        task = asyncio.current_task()
        assert task is not None
        talk = _Talk(task, writer, peer_of(writer))
        self._talks[task] = talk
        protocol = writer.transport.get_protocol()
        assert isinstance(protocol, _Protocol)
        protocol.talk = talk
        writer.transport.set_write_buffer_limits(0)  # so that `drain` means sent
        try:
            if len(self._talks) > CLIENTS_MAX and not self._make_room(talk):
                await _send(writer, _refusal("JournalLocked", f"{CLIENTS_MAX} clients are served; try again"))
                return
            while line := await self._next_line(talk, reader):
                await _send(writer, await self._answer(line, talk))
                if talk.is_refused:
                    return
        except ValueError:
            with suppress(OSError, TimeoutError):
                await _send(
                    writer, _refusal("ConfigError", f"a request has at most {REQUEST_BYTES_MAX} bytes")
                )
        except (OSError, TimeoutError, asyncio.CancelledError):  # the last is `stop`: asyncio would log it
            writer.transport.abort()
        finally:
            del self._talks[task]
            writer.close()

    def _make_room(self, talk: "_Talk") -> bool:
        """Disconnect whoever has asked nothing for longest and does not watch. False: all are served."""
        idle = [other for other in self._talks.values() if other.is_idle and not other.watches]
        if not idle:
            return False
        longest = min((other for other in idle if other is not talk), key=lambda other: other.since_s)
        longest.writer.transport.abort()
        return True

    async def _next_line(self, talk: "_Talk", reader: asyncio.StreamReader) -> bytes:
        loop = asyncio.get_running_loop()
        talk.is_idle, talk.since_s = True, loop.time()
        try:
            while True:
                try:
                    async with asyncio.timeout_at(talk.since_s + IDLE_S):
                        return await reader.readline()
                except TimeoutError:
                    if loop.time() - talk.since_s >= IDLE_S:  # else it was answered meanwhile
                        raise
        finally:
            talk.is_idle = False

    async def _answer(self, line: bytes, talk: "_Talk") -> bytes:
        """Do what is asked, and return the answer. Only a cancellation is raised."""
        try:
            async with asyncio.timeout(CALL_S):
                result = await self._perform(line, talk)
            return result if isinstance(result, Line) else _encode({"ok": True, "result": result}) + b"\n"
        except TimeoutError:
            return _refusal("TimeoutError", f"it was not done within {CALL_S:g} s; it may be done later")
        except msgspec.MsgspecError as problem:
            return _refusal("ConfigError", f"not a request: {problem}")
        except Exception as problem:  # noqa: BLE001 - whatever a verb raises is the client's answer
            return _refusal(type(problem).__name__, str(problem))

    async def _perform(self, line: bytes, talk: "_Talk") -> Any:
        name = _read_verb(line).verb
        verb = self.verbs.get(name)
        if verb is None:
            raise ConfigError(f"verb = {name[:80]!r}: known are {', '.join(sorted(self.verbs))}")
        if verb.watches and not talk.watches:
            self._seat_watcher(talk)
        asked = msgspec.json.decode(line, type=verb.takes)
        if isinstance(asked, Action):
            return await self._act(verb, asked, talk.peer)
        result = verb.do(self._bus, asked)
        return await result if inspect.isawaitable(result) else result

    def _seat_watcher(self, talk: "_Talk") -> None:
        if sum(other.watches for other in self._talks.values()) >= WATCHERS_MAX:
            talk.is_refused = True
            raise JournalLocked(
                f"{WATCHERS_MAX} clients watch this bus already; end a page or a `top`, and try again"
            )
        talk.watches = True

    async def _act(self, verb: Verb, asked: Action, peer: Peer) -> Any:
        """Do something to the bus, and put on record who has asked for it and what became of that."""
        if not asked.by and isinstance(asked, Halt):
            asked = msgspec.structs.replace(asked, by=peer.name)
        try:
            result = verb.do(self._bus, asked)
            result = await result if inspect.isawaitable(result) else result
        except BaseException as problem:
            self._on_act(Acted(asked, peer, f"{type(problem).__name__}: {problem}"))
            raise
        self._on_act(Acted(asked, peer, result if isinstance(result, str) else _encode(result).decode()))
        return result


async def _send(writer: asyncio.StreamWriter, answer: bytes) -> None:
    async with asyncio.timeout(SEND_S):
        writer.write(answer)
        await writer.drain()


def peer_of(writer: asyncio.StreamWriter) -> Peer:
    """Return who is at the other end of a local socket."""
    line = writer.get_extra_info("socket")
    if sys.platform != "linux" or line is None:
        return Peer()
    try:
        said = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return Peer()
    process_id, user_id, _ = _CREDENTIALS.unpack(said)
    return Peer(user_id, process_id)


def _refusal(kind: str, message: str) -> bytes:
    return _encode({"ok": False, "error": f"{kind}: {message}"}) + b"\n"
