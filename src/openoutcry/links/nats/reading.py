"""Reads the messages of a subject in the order of a stream, by a consumer without acknowledgements.

The server pushes them, each numbered; it pauses when this side does (flow control), and is heard from
every second. When a number is missing, or there is silence, the reading begins anew behind the last
message that came.
"""

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any, Final, NamedTuple

from openoutcry.errors import LinkError, LogGone, Unreachable
from openoutcry.links.nats.connection import Connection, Message
from openoutcry.links.nats.jetstream import JetStream

_HEARTBEAT_S: Final = 1.0
_SILENCE_S: Final = 3.0
_UNUSED_S: Final = 10
_NS: Final = 10**9


class Read(NamedTuple):
    """A message, as a stream gives it.

    Attributes:
        sequence: Its place.
        behind: How many of the subject there were behind it when it was sent.
        subject: Its subject, as the server knows it.
        data: What it says; empty where headers alone are read.
        headers: What stands beside it.

    """

    sequence: int
    behind: int
    subject: str
    data: bytes
    headers: dict[str, str]


class Consumer:
    """One consumer of a subject, from its making until something of it was lost."""

    def __init__(self, connection: Connection, jetstream: JetStream, stream: str, name: str) -> None:
        self._connection = connection
        self._jetstream = jetstream
        self._stream = stream
        self._name = name
        self._queue: deque[Message] = deque()
        self._news = asyncio.Event()
        self._delivered = 0
        self._heard_s = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._is_lost = False
        self.waiting = 0

    async def messages(
        self, subject: str, after: int, *, headers_only: bool
    ) -> AsyncGenerator[Read | None, None]:
        """Make the consumer; give None when it is there, and then its messages, until something is lost."""
        inbox = f"{self._connection.inbox}.{self._name}.in"
        heard = await self._connection.listen(inbox, self._hear, self._lose)
        try:
            made = await self._jetstream.call(
                f"CONSUMER.CREATE.{self._stream}.{self._name}.{subject}",
                {
                    "stream_name": self._stream,
                    "config": self._config(inbox, subject, after, headers_only=headers_only),
                },
            )
            self.waiting = int(made.get("num_pending", 0))
            yield None
            while True:
                if self._is_lost or (not self._queue and not await self._more()):
                    return
                message = self._queue.popleft()
                found = self._take(message)
                if found is not None:
                    yield found
                elif not await self._obey(message):
                    return
        finally:
            await self._drop()
            await self._connection.forget(heard)

    def _config(self, inbox: str, subject: str, after: int, *, headers_only: bool) -> dict[str, Any]:
        start = (
            {"deliver_policy": "by_start_sequence", "opt_start_seq": after + 1}
            if after
            else {"deliver_policy": "all"}
        )
        return start | {
            "name": self._name,
            "deliver_subject": inbox,
            "filter_subject": subject,
            "ack_policy": "none",
            "max_deliver": 1,
            "flow_control": True,
            "idle_heartbeat": int(_HEARTBEAT_S * _NS),
            "inactive_threshold": _UNUSED_S * _NS,
            "num_replicas": 1,
            "mem_storage": True,
            "headers_only": headers_only,
        }

    def _hear(self, message: Message) -> None:
        self._heard_s = asyncio.get_running_loop().time()
        if not self._queue and self._says_nothing_new(message):
            return  # (who reads is not woken: a desk has two consumers for each other one)
        self._queue.append(message)
        self._news.set()

    def _says_nothing_new(self, message: Message) -> bool:
        """Return True for a mere sign of life, with the number of the last message that was taken."""
        headers = message.headers
        return (
            headers is not None
            and headers.get("Status") == "100"
            and not message.reply
            and "Nats-Consumer-Stalled" not in headers
            and headers.get("Nats-Last-Consumer") == str(self._delivered)
        )

    def _lose(self) -> None:
        self._is_lost = True
        self._news.set()

    async def _more(self) -> bool:
        """Wait for a message; False if the server is silent, or the connection lost."""
        self._news.clear()
        self._heard_s = asyncio.get_running_loop().time()
        self._watch()
        try:
            await self._news.wait()
        finally:
            if self._alarm is not None:
                self._alarm.cancel()
        return bool(self._queue) and not self._is_lost

    def _watch(self) -> None:
        """Wake who reads when nothing was heard for too long."""
        loop, ends_s = asyncio.get_running_loop(), self._heard_s + _SILENCE_S
        if loop.time() >= ends_s:
            self._news.set()
        else:
            self._alarm = loop.call_at(ends_s, self._watch)

    def _take(self, message: Message) -> Read | None:
        """Return a message of the stream; None for one that the server has to say itself."""
        parts = message.reply.split(".")
        if parts[:2] != ["$JS", "ACK"]:
            return None
        sequence, delivered, behind = _numbers(parts)
        if delivered != self._delivered + 1:
            return None
        self._delivered = delivered
        return Read(sequence, behind, message.subject, message.data, dict(message.headers or {}))

    async def _obey(self, message: Message) -> bool:
        """Do what the server asks for; False if something was lost, or the consumer is there no more."""
        headers = message.headers or {}
        if headers.get("Status") != "100":
            return False
        goes_on = message.reply or headers.get("Nats-Consumer-Stalled")
        if goes_on:
            await self._connection.publish(goes_on, b"")
        return int(headers.get("Nats-Last-Consumer", self._delivered)) == self._delivered

    async def _drop(self) -> None:
        """Ask the server to forget the consumer, and do not wait: unused, it goes by itself."""
        try:
            await self._connection.publish(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._name}", b"")
        except LinkError:
            return


def _numbers(parts: list[str]) -> tuple[int, int, int]:
    """Return stream sequence, consumer sequence, and how many are behind, as an acknowledgement has them.

    `$JS.ACK.<stream>.<consumer>.<times>.<stream sequence>.<consumer sequence>.<time>.<behind>`; a newer form
    has a domain and an account behind `ACK`, and one more word at its end.
    """
    first = 5 if len(parts) == 9 else 7
    return int(parts[first]), int(parts[first + 1]), int(parts[first + 3])


class Reader:
    """Reads a subject of a stream, from behind a place."""

    def __init__(self, connection: Connection, jetstream: JetStream, stream: str, subject: str) -> None:
        self._connection = connection
        self._jetstream = jetstream
        self._stream = stream
        self._subject = subject
        self._made = ""

    async def follow(self, made: str, after: int) -> AsyncGenerator[Read, None]:
        """Return the messages behind a place, and then those that come.

        Raises `LogGone` if the stream is not the one that was `made` then (empty: any), or ends before that
        place; `Unreachable` when it cannot be read.
        """
        self._made = made
        while True:
            messages = self._consumer().messages(self._subject, after, headers_only=False)
            try:
                async for message in messages:
                    if message is None:
                        await self._check(after)
                    else:
                        after = message.sequence
                        yield message
            finally:
                await messages.aclose()
            if not self._connection.is_connected:
                raise Unreachable("the connection was lost while a log was read")

    async def all(self, *, headers_only: bool) -> AsyncGenerator[Read, None]:
        """Return the messages that are there now, and end. Raises `Unreachable` if they do not come whole."""
        consumer = self._consumer()
        messages = consumer.messages(self._subject, 0, headers_only=headers_only)
        try:
            async for message in messages:
                if message is not None:
                    yield message
                if (consumer.waiting if message is None else message.behind) == 0:
                    return
        finally:
            await messages.aclose()
        raise Unreachable("the connection was lost while a log was read")

    def _consumer(self) -> Consumer:
        return Consumer(self._connection, self._jetstream, self._stream, f"r{os.urandom(6).hex()}")

    async def _check(self, after: int) -> None:
        """Raise `LogGone` if the stream is another one than before, or ends before the place."""
        info = await self._jetstream.ask(f"STREAM.INFO.{self._stream}")
        made, last = str(info["created"]), int(info["state"]["last_seq"])
        if self._made and self._made != made:
            raise LogGone(f"{self._stream} was made anew: read it from its beginning")
        self._made = made
        if after > last:
            raise LogGone(f"{self._stream} ends at {last}, before place {after}: what was behind it was lost")
