"""A connection to the servers, which comes back by itself: publish, subscribe, and requests with an answer.

Of nats-py no more is used than to connect, to publish and to subscribe. Requests are made of these, because
its own wait longer than they need to: a request here ends as soon as the connection is lost, or the server
has refused the subject. Nothing is kept for later while there is no connection: what is not sent is not done.
A connection that is lost is replaced by a new client; nats-py's own way back would first wait for the lost
one to take what it still has to send, which a black hole never does.
"""

import asyncio
import logging
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from openoutcry.config import Link
from openoutcry.errors import ConfigError, GroupTooLarge, LinkError, Unreachable
from openoutcry.links.nats import access

try:
    from nats import errors as nats_errors
    from nats.aio.client import Client
except ImportError as missing:
    raise ConfigError(f"[link] needs the package nats-py: {access.INSTALL}") from missing

_log = logging.getLogger("openoutcry")

OPEN_S: Final = 6.0
"""How long opening waits for a server: it lets a first one be silent, and the next one answer."""
ANSWER_S: Final = 5.0
"""How long a request waits for its answer."""
_PING_S: Final = 1
_PINGS_MISSED: Final = 2
_PENDING_BYTES: Final = 8 * 1024 * 1024
"""What may wait for a connection that takes nothing, before publishing is refused."""
_AGAIN_S: Final = 0.25
_FOREVER_S: Final = 10**6
_PAUSE: Final[dict[str, Any]] = {"reconnect_time_wait": _AGAIN_S}  # declared as whole seconds


class Message(Protocol):
    """What is heard on a subject."""

    @property
    def subject(self) -> str:
        """Where it was sent to."""
        ...

    @property
    def reply(self) -> str:
        """Where an answer goes; empty if none is wanted."""
        ...

    @property
    def data(self) -> bytes:
        """What it says."""
        ...

    @property
    def headers(self) -> Mapping[str, str] | None:
        """What stands beside it."""
        ...


Hear = Callable[[Message], None]


class _Client(Client):  # type: ignore[misc,unused-ignore]
    """nats-py's client, which speaks to nobody in the clear where TLS was asked for."""

    def _connect_command(self) -> bytes:
        address = self._current_server.uri if self._current_server is not None else None
        if address is not None and address.scheme == "tls" and not self._server_info.get("tls_required"):
            raise nats_errors.Error(_NO_TLS)
        command: bytes = super()._connect_command()
        return command

    def write_now(self) -> None:
        """Give the socket what was published, instead of leaving that to a task that has its turn later."""
        pending: list[bytes] = self._pending
        if pending and self._transport is not None:
            self._pending, self._pending_data_size = [], 0
            self._transport.writelines(pending)

    def excuse_reading(self) -> None:
        """Let nobody be told by asyncio that the task that reads has failed: the connection is lost then."""
        reading: asyncio.Task[None] | None = self._reading_task
        if reading is not None:
            reading.add_done_callback(_pass_over)


_NO_TLS: Final = "the server offers no TLS, and its address begins with tls://"
_FATAL: Final = ("authorization violation", "authentication", _NO_TLS.lower(), "certificate")


def _nothing() -> None:
    return None


def _pass_over(done: asyncio.Future[None]) -> None:
    """That the connection was lost is noticed elsewhere."""
    if not done.cancelled():
        done.exception()


class Heard:
    """A subject that is listened to, through every connection that there is after another."""

    def __init__(self, subject: str, hear: Hear, lose: Callable[[], None]) -> None:
        self.subject = subject
        self.lose = lose
        self._hear = hear
        self._stop: Callable[[], Awaitable[None]] | None = None

    async def begin(self, client: Client) -> None:
        """Listen by a connection."""
        hear = self._hear

        async def heard(message: Message) -> None:
            hear(message)

        self._stop = (await client.subscribe(self.subject, cb=heard)).unsubscribe

    async def end(self) -> None:
        """Listen no longer. Harmless without a connection."""
        stop, self._stop = self._stop, None
        if stop is not None:
            try:
                await stop()
            except nats_errors.Error:
                return


class Connection:
    """A connection to one of some servers, and to another one when that is lost.

    Attributes:
        refused: What the server would not let this desk do, in its words, oldest first; a few.

    """

    def __init__(self, link: Link, servers: tuple[str, ...], inbox: str) -> None:
        """Make a connection that is not open.

        Args:
            link: The settings.
            servers: The servers' addresses: it connects to any of them, and to no other.
            inbox: What the subjects begin with on which requests are answered.

        """
        self.refused: list[str] = []
        self.inbox = f"{inbox}.{os.urandom(6).hex()}"
        self._link = link
        self._servers = servers
        self._client: _Client | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_open = asyncio.Event()
        self._is_over = asyncio.Event()
        self._problem = ""
        self._fatal: asyncio.Future[None] | None = None
        self._heard: list[Heard] = []
        self._waiting: dict[str, tuple[str, asyncio.Future[Message]]] = {}
        self._number = 0
        self._flushes: set[asyncio.Future[None]] = set()

    # -- open and closed

    async def open(self, timeout_s: float = OPEN_S) -> None:
        """Wait until a server has let this desk in. From the first call on it is tried again and again.

        Raises `Unreachable` if none has answered, and `LinkError` if one has refused.
        """
        self._fatal = asyncio.get_running_loop().create_future()
        self.begin()
        try:
            async with asyncio.timeout(timeout_s):
                opened = asyncio.ensure_future(self._is_open.wait())
                try:
                    await asyncio.wait((opened, self._fatal), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    opened.cancel()
        except TimeoutError:
            raise Unreachable(f"no server answers at {self.where}{self._told()}{self._hint()}") from None
        if not self._is_open.is_set():
            raise LinkError(
                f"the server at {self.where} refuses this desk{self._told()}. See to seed_file, tls_ca, "
                "tls_cert and tls_key, and to the users in the server's configuration "
                "(`openoutcry firm permissions`)"
            )

    def _hint(self) -> str:
        """Return what else silence may mean: in a TLS handshake a server need not say why it hangs up."""
        if any(server.startswith("tls:") for server in self._servers):
            return "; or one does not take this desk's certificate: see to tls_ca, tls_cert and tls_key"
        return ""

    def begin(self) -> None:
        """Connect, and stay connected, in the background."""
        if self._task is None:
            given = access.options(self._link)
            self._task = asyncio.get_running_loop().create_task(self._keep(given), name="openoutcry-link")

    async def close(self) -> None:
        """Disconnect. Harmless when done twice."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait((task,))
        self._fail("the link is closed")

    @property
    def where(self) -> str:
        """The servers' addresses."""
        return ", ".join(self._servers)

    @property
    def is_connected(self) -> bool:
        """Whether a server answers, as far as this side knows."""
        return self._client is not None and bool(self._client.is_connected)

    @property
    def version(self) -> tuple[int, int]:
        """The version of the server, as (major, minor)."""
        found = self._ready().connected_server_version
        try:
            return int(found.major), int(found.minor)
        except ValueError:
            return 0, 0

    @property
    def most_bytes(self) -> int:
        """The largest message that the server takes."""
        return int(self._ready().max_payload)

    async def _keep(self, given: dict[str, Any]) -> None:
        """Connect, and connect again whenever that is over, until the task is cancelled.

        The client may swallow the cancellation while it connects or disconnects.
        """
        task = asyncio.current_task()
        assert task is not None
        while not task.cancelling():
            client = _Client()
            try:
                await self._connect(client, given)
                client.excuse_reading()
                for heard in self._heard:
                    await heard.begin(client)
                self._client = client
                self._is_open.set()
                await self._until_lost(client)
            except (nats_errors.Error, OSError, TimeoutError) as problem:
                self._note(problem)
            finally:
                self._client = None
                self._is_open.clear()
                self._fail("the connection was lost")
                await _end(client)
                for flush in list(self._flushes):
                    flush.cancel()
                await asyncio.gather(*self._flushes, return_exceptions=True)
            if not task.cancelling():
                await asyncio.sleep(_AGAIN_S)

    async def _connect(self, client: Client, given: dict[str, Any]) -> None:
        async def note(problem: Exception) -> None:
            self._note(problem)

        async def over() -> None:
            self._is_over.set()

        self._is_over.clear()
        await client.connect(
            list(self._servers),
            name=f"openoutcry {self._link.firm}.{self._link.desk}",
            error_cb=note,
            disconnected_cb=over,
            no_echo=True,
            allow_reconnect=False,  # it would wait for a lost connection to take what it still has to send
            max_reconnect_attempts=-1,
            connect_timeout=2,
            ping_interval=_PING_S,
            max_outstanding_pings=_PINGS_MISSED,
            pending_size=8
            * _PENDING_BYTES,  # never reached: it would hold the caller, and swallow its cancellation
            inbox_prefix=self.inbox,
            **given,
            **_PAUSE,
        )

    async def _until_lost(self, client: Client) -> None:
        """Return as soon as the client has given its connection up, whether or not it says so."""
        task = asyncio.current_task()
        assert task is not None
        while client.is_connected and not self._is_over.is_set() and not task.cancelling():
            try:
                async with asyncio.timeout(_AGAIN_S):
                    await self._is_over.wait()
            except TimeoutError:
                continue

    def _note(self, problem: Exception) -> None:
        """Remember what went wrong; end the requests that the server has refused."""
        silent = "no answer in time" if isinstance(problem, TimeoutError) else type(problem).__name__
        words = str(problem) or silent
        lower = words.lower()
        if "permissions violation" in lower:
            self.refused = [*self.refused[-9:], lower]
            for subject, answer in list(self._waiting.values()):
                is_deaf = f'"{self.inbox.lower()}.' in lower
                if (is_deaf or f'"{subject.lower()}"' in lower) and not answer.done():
                    answer.set_exception(_not_permitted(f"{self.inbox}.*" if is_deaf else subject))
            return
        self._problem = words
        is_fatal = isinstance(problem, ssl.SSLError) or any(word in lower for word in _FATAL)
        if is_fatal and self._fatal is not None and not self._fatal.done():
            self._fatal.set_result(None)
        if not isinstance(problem, nats_errors.Error | OSError | TimeoutError):
            _log.error("the link to %s", self.where, exc_info=problem)

    def _fail(self, words: str) -> None:
        """End every request: its answer will not come. Tell those who listen that something may be missed."""
        for heard in list(self._heard):
            heard.lose()
        for _, answer in list(self._waiting.values()):
            if not answer.done():
                answer.set_exception(Unreachable(f"{words}: {self.where}{self._told()}"))

    def _told(self) -> str:
        told = self.refused[-1] if self.refused else self._problem
        return f" ({told})" if told else ""

    def _ready(self) -> _Client:
        client = self._client
        if client is None or not client.is_connected:
            raise Unreachable(f"there is no connection to {self.where}{self._told()}")
        return client

    # -- messages

    async def publish(
        self,
        subject: str,
        data: bytes,
        headers: dict[str, str] | None = None,
        *,
        reply: str = "",
        at_once: bool = False,
    ) -> None:
        """Send a message, and wait for nothing. Raises `Unreachable`, or `GroupTooLarge`.

        `at_once`: it is given to the socket before this returns.
        """
        client = self._ready()
        if client.pending_data_size > _PENDING_BYTES:
            raise Unreachable(f"the connection to {self.where} takes nothing more at the moment")
        try:
            await client.publish(subject, data, reply=reply, headers=headers)
            if at_once:
                client.write_now()
        except nats_errors.MaxPayloadError:
            raise GroupTooLarge(
                f"a message of {len(data):,} bytes is larger than the server takes, {self.most_bytes:,}: "
                "set its max_payload"
            ) from None
        except (nats_errors.Error, OSError) as problem:
            raise Unreachable(f"{self.where}: {problem}") from None

    async def request(
        self,
        subject: str,
        data: bytes,
        headers: dict[str, str] | None = None,
        *,
        timeout_s: float = ANSWER_S,
        at_once: bool = False,
    ) -> bytes | None:
        """Send a message and return its answer; None if nobody listens there. `at_once` is as in `publish`.

        Raises `Unreachable` when no answer comes: it may have been done. Raises `LinkError` if this desk may
        not send it.
        """
        await self._listen_for_answers()
        self._number += 1
        number = str(self._number)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (subject, answer)
        try:
            await self.publish(subject, data, headers, reply=f"{self.inbox}.{number}", at_once=at_once)
            async with asyncio.timeout(timeout_s):
                message = await answer
        except TimeoutError:
            raise Unreachable(f"{self.where} has not answered for {timeout_s:g} s{self._told()}") from None
        finally:
            del self._waiting[number]
            answer.cancel()
        return None if (message.headers or {}).get("Status") == "503" else message.data

    async def ask_all(self, subject: str, hear: Hear, is_done: Callable[[], bool], timeout_s: float) -> None:
        """Send a request that several answer, and hear them until `is_done`, or for so long.

        Where nobody answers, or this desk may not ask, nothing is heard.
        """
        over = asyncio.Event()

        def heard(message: Message) -> None:
            if (message.headers or {}).get("Status") == "503":
                over.set()
                return
            hear(message)
            if is_done():
                over.set()

        self._number += 1
        inbox = f"{self.inbox}.{self._number}.all"
        listening = await self.listen(inbox, heard)
        try:
            await self.publish(subject, b"", reply=inbox)
            async with asyncio.timeout(timeout_s):
                await over.wait()
        except TimeoutError:
            return
        finally:
            await self.forget(listening)

    async def _listen_for_answers(self) -> None:
        subject = f"{self.inbox}.*"
        if not any(heard.subject == subject for heard in self._heard):
            await self.listen(subject, self._answered)

    def _answered(self, message: Message) -> None:
        found = self._waiting.get(message.subject.rpartition(".")[2])
        if found is not None and not found[1].done():
            found[1].set_result(message)

    async def listen(self, subject: str, hear: Hear, lose: Callable[[], None] = _nothing) -> Heard:
        """Have a function called with what is sent to a subject, and return when the server knows.

        It is called also after a reconnection. `lose` is called whenever the connection was lost: what was
        sent meanwhile does not come. Raises `LinkError` if this desk may not hear it.
        """
        heard = Heard(subject, hear, lose)
        self._heard.append(heard)
        client = self._client
        if client is not None:
            try:
                await heard.begin(client)
            except (nats_errors.Error, OSError):
                return heard  # the connection was lost this moment, and the next one begins with it
            await self._flush(client)
            if any(f'to "{subject.lower()}"' in words for words in self.refused):
                await self.forget(heard)
                raise _not_permitted(subject)
        return heard

    async def _flush(self, client: Client) -> None:
        """Wait until the server has done what it was sent. Not cancelled: that would harm the client."""
        done = asyncio.ensure_future(client.flush(timeout=_FOREVER_S))
        self._flushes.add(done)
        done.add_done_callback(self._flushes.discard)
        done.add_done_callback(_pass_over)
        await asyncio.wait((done,), timeout=ANSWER_S)

    async def forget(self, heard: Heard) -> None:
        """Listen no longer."""
        if heard in self._heard:
            self._heard.remove(heard)
        await heard.end()


async def _end(client: Client) -> None:
    """Disconnect a client. A connection that takes nothing more is cut: what waits for it is not sent."""
    if not client.is_connected:
        writer = getattr(getattr(client, "_transport", None), "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
    try:
        async with asyncio.timeout(1):
            await client.close()
    except (nats_errors.Error, OSError, TimeoutError):
        return


def _not_permitted(subject: str) -> LinkError:
    return LinkError(
        f"the server does not permit {subject} to this desk and its key: `openoutcry firm permissions` "
        "prints a configuration that permits every desk what it must do, and administrators the rest"
    )
