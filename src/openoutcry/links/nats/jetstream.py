"""The few requests to JetStream that are made here, as JSON, and what its errors mean."""

import asyncio
import base64
from typing import Any, Final, NamedTuple

import msgspec

from openoutcry.errors import GroupTooLarge, LinkError, LogFull, LogGone, Unreachable
from openoutcry.links.nats.connection import ANSWER_S, Connection

NO_JETSTREAM: Final = (
    "the server has no JetStream for this account: put `jetstream { store_dir: … }` into its configuration, "
    "and `jetstream: enabled` into the account (`openoutcry firm permissions` prints both)"
)

_ASKED_COUNT: Final = 3
_ASKED_S: Final = ANSWER_S / _ASKED_COUNT
_PAUSE_S: Final = 0.1
_EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
_EXPECTED_SUBJECT: Final = "Nats-Expected-Last-Subject-Sequence-Subject"


class WrongLast(LinkError):
    """The last message of a subject is another one than the one that was expected."""


class Stored(NamedTuple):
    """A message that a stream keeps.

    Attributes:
        sequence: Its place.
        data: What it says.

    """

    sequence: int
    data: bytes


class JetStream:
    """Requests over a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def call(
        self, verb: str, body: dict[str, Any] | None = None, *, timeout_s: float = ANSWER_S
    ) -> dict[str, Any]:
        """Make a request of the API, `STREAM.INFO.NAME` for example, and return its answer.

        Raises `Unreachable`, `LogGone` if there is no such stream, and `LinkError` for everything else.
        """
        data = msgspec.json.encode(body) if body is not None else b""
        answer = await self._connection.request(f"$JS.API.{verb}", data, timeout_s=timeout_s)
        if answer is None:
            raise Unreachable(f"no server with JetStream answers at {self._connection.where}")
        return _read(answer, verb)

    async def ask(self, verb: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Make a request that changes nothing, once more while nobody answers: an election loses some."""
        for _ in range(_ASKED_COUNT - 1):
            try:
                return await self.call(verb, body, timeout_s=_ASKED_S)
            except Unreachable:
                await asyncio.sleep(_PAUSE_S)
        return await self.call(verb, body, timeout_s=_ASKED_S)

    async def store(self, stream: str, subject: str, data: bytes, headers: dict[str, str]) -> int:
        """Have a message stored in a stream, and return its place: then the quorum has it.

        Raises `WrongLast` if the headers expect another last message, `LogFull`, `LogGone`, `GroupTooLarge`,
        `Unreachable`. A cluster refuses a message also for as long as it has not decided about another one of
        the same expectation, without an answer for example: then it is sent again.
        """
        loop = asyncio.get_running_loop()
        until_s = loop.time() + ANSWER_S
        while True:
            answer = await self._connection.request(subject, data, headers, at_once=True)
            if answer is None:
                await self.call(f"STREAM.INFO.{stream}")
                raise Unreachable(f"nobody takes {subject} at the moment, though there is {stream}")
            try:
                return int(_read(answer, subject)["seq"])
            except WrongLast as problem:
                stored = await self.last(stream, headers.get(_EXPECTED_SUBJECT, subject))
                if headers[_EXPECTED] != str(0 if stored is None else stored.sequence):
                    raise
                if loop.time() > until_s:
                    raise Unreachable(
                        f"{stream} does not decide about an earlier message: {problem}"
                    ) from None
            await asyncio.sleep(_PAUSE_S)

    async def last(self, stream: str, subject: str) -> Stored | None:
        """Return the last message of a subject, asked of the stream's leader; None if there is none."""
        try:
            answer = await self.ask(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
        except _NoMessage:
            return None
        message = answer["message"]
        return Stored(int(message["seq"]), base64.b64decode(message.get("data", "")))

    async def purge(self, stream: str, subject: str, before: int = 0) -> int:
        """Remove the messages of a subject below a sequence, or all of them, and return how many."""
        body: dict[str, Any] = {"filter": subject}
        if before:
            body["seq"] = before
        answer = await self.call(f"STREAM.PURGE.{stream}", body)
        return int(answer.get("purged", 0))


class _NoMessage(LinkError):
    pass


def expecting(last: int, subject: str = "") -> dict[str, str]:
    """Return the headers of a message that is refused unless `last` is the last sequence of a subject.

    The subject is the message's own, unless another one is named.
    """
    found = {_EXPECTED: str(last)}
    if subject:
        found[_EXPECTED_SUBJECT] = subject
    return found


def _read(answer: bytes, about: str) -> dict[str, Any]:
    """Return an answer, or raise what its error means."""
    try:
        found: dict[str, Any] = msgspec.json.decode(answer, type=dict[str, Any])
    except msgspec.MsgspecError:
        raise LinkError(
            f"{about}: the server answers {answer[:80]!r}, which is not what JetStream says"
        ) from None
    error = found.get("error")
    if error:
        raise _meaning(int(error.get("err_code", 0)), str(error.get("description", "")), about)
    return found


def _meaning(number: int, words: str, about: str) -> LinkError:
    """Return the error that a number of JetStream's stands for."""
    for numbers, kind, remedy in _MEANINGS:
        if number in numbers:
            return kind(f"{about}: {words} ({number}){remedy}")
    return LinkError(f"{about}: {words} ({number})")


_NO_ROOM: Final = (
    ": `openoutcry firm trim` makes room, `openoutcry firm drop` forgets a desk that is gone for good; "
    "or allow the log a larger max_bytes"
)
_MEANINGS: Final[tuple[tuple[frozenset[int], type[LinkError], str], ...]] = (
    (frozenset({10037}), _NoMessage, ""),
    (frozenset({10071, 10164}), WrongLast, ""),
    (
        frozenset({10059}),
        LogGone,
        ": it was deleted, or the account is another one. Opening the link makes it",
    ),
    (frozenset({10004, 10007, 10008, 10009, 10041, 10118, 10194}), Unreachable, ""),
    (frozenset({10035, 10039, 10076}), LinkError, f": {NO_JETSTREAM}"),
    (
        frozenset({10002, 10023, 10028, 10047, 10053, 10077}),
        LogFull,
        _NO_ROOM,
    ),
    (frozenset({10054, 10097}), GroupTooLarge, ": set a larger max_payload, or no max_msg_size"),
)
