"""Makes the streams of a firm, checks those that are there, and tells how they are."""

import asyncio
import secrets
from typing import Any, Final

import msgspec

from openoutcry.config import Link
from openoutcry.errors import LinkError, LogGone, Unreachable
from openoutcry.links.nats.connection import ANSWER_S, Connection, Message
from openoutcry.links.nats.jetstream import NO_JETSTREAM, JetStream
from openoutcry.links.nats.subjects import Subjects
from openoutcry.ports import LOGS, Facts, LogFacts, LogName

OLDEST: Final = (2, 11)
"""The oldest server that compares the sequence of another subject than the message's own."""
_SEATS_BYTES: Final = 4 * 1024 * 1024
_LEAST_BYTES: Final = 1024 * 1024
_LEAST_MESSAGE_BYTES: Final = 300 * 1024
_SYNC_S: Final = 1.0
_SYNC_SUBJECT: Final = "$SYS.REQ.SERVER.PING.JSZ"
_TRIES: Final = 10
_PAUSE_S: Final = 0.2
_CREATE_S: Final = 2.0
_NAME_TAKEN: Final = "10058"
_PLACES: Final = 2**40


class Streams:
    """The streams of one firm."""

    def __init__(self, link: Link, subjects: Subjects, connection: Connection, jetstream: JetStream) -> None:
        self._link = link
        self._subjects = subjects
        self._connection = connection
        self._jetstream = jetstream
        self._is_synced: bool | None = True if link.servers_sync else None

    async def make(self) -> None:
        """Make the streams that are not there. Raises `LinkError` for one that cannot be used."""
        await self.check_server()
        for stream, wanted in self._wanted().items():
            _check(stream, wanted, (await self._find_or_make(stream, wanted))["config"])

    async def check_server(self) -> None:
        """Raise `LinkError` for a server that cannot be used."""
        version = self._connection.version
        if version < OLDEST:
            raise LinkError(
                f"the server at {self._connection.where} is version {version[0]}.{version[1]}; it must be "
                f"{OLDEST[0]}.{OLDEST[1]} or newer: older ones cannot tell a desk's holder from a former one"
            )
        if self._connection.most_bytes < _LEAST_MESSAGE_BYTES:
            raise LinkError(
                f"the server at {self._connection.where} takes {self._connection.most_bytes:,} bytes in one "
                f"message; it must be {_LEAST_MESSAGE_BYTES:,} at least: set its max_payload to 1MB"
            )
        if await self._connection.request("$JS.API.INFO", b"") is None:
            raise LinkError(f"{self._connection.where}: {NO_JETSTREAM}")
        await self._jetstream.call("INFO")

    async def facts(self, *, anew: bool = False) -> Facts:
        """Ask how the streams are, and whether the servers sync unless they were asked (`anew`: again)."""
        logs: list[LogFacts] = []
        nodes: set[str] = set()
        for log in LOGS:
            try:
                info = await self._info(self._subjects.stream(log))
            except LogGone:
                continue
            logs.append(_facts(log, info))
            nodes |= _nodes(info)
        if self._is_synced is None or (anew and not self._is_synced):
            self._is_synced = await self._ask_sync(nodes)
        major, minor = self._connection.version
        return Facts(
            engine=f"NATS {major}.{minor}",
            replicas=min((log.replicas for log in logs), default=0),
            is_synced=self._is_synced,
            most_bytes=self._connection.most_bytes,
            logs=tuple(logs),
        )

    def _wanted(self) -> dict[str, dict[str, Any]]:
        """Return the configuration of each stream."""
        subjects = self._subjects
        common = {
            "storage": "file",
            "retention": "limits",
            "num_replicas": self._link.replicas,
            "deny_delete": True,
        }
        logs = {
            subjects.stream(log): common
            | {
                "subjects": [subjects.groups(log), subjects.claims(log)],
                "discard": "new",
                "max_bytes": self._link.max_bytes,
                "first_seq": _drawn_place(),
            }
            for log in LOGS
        }
        seats = common | {
            "subjects": [subjects.lease()],
            "discard": "old",
            "max_msgs_per_subject": 1,
            "max_bytes": _SEATS_BYTES,
        }
        return logs | {subjects.seats_stream: seats}

    async def _info(self, stream: str, timeout_s: float = ANSWER_S) -> dict[str, Any]:
        return await self._jetstream.call(f"STREAM.INFO.{stream}", timeout_s=timeout_s)

    async def _find_or_make(self, stream: str, wanted: dict[str, Any]) -> dict[str, Any]:
        """Return a stream's description, and make it if it is not there.

        A cluster may answer nobody when several ask for the same stream in the same moment: ask again.
        """
        unanswered = Unreachable(f"nobody makes {stream}")
        for _ in range(_TRIES):
            try:
                return await self._info(stream, _CREATE_S)
            except LogGone:
                pass
            except Unreachable as problem:
                unanswered = problem
                continue
            try:
                return await self._create(stream, wanted)
            except Unreachable as problem:
                unanswered = problem
            await asyncio.sleep(_PAUSE_S)
        raise unanswered

    async def _create(self, stream: str, wanted: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self._jetstream.call(
                f"STREAM.CREATE.{stream}", {"name": stream, **wanted}, timeout_s=_CREATE_S
            )
        except Unreachable:
            raise
        except LinkError as problem:
            if _NAME_TAKEN in str(problem):  # another desk was faster, with other limits
                raise Unreachable(str(problem)) from None
            raise LinkError(
                f"stream {stream} cannot be made: {problem}. It asks for {wanted['num_replicas']} replicas "
                f"and max_bytes = {wanted['max_bytes']:,}: see to the account's limits, to the nodes, "
                "and to other streams that take these subjects"
            ) from None

    async def _ask_sync(self, nodes: set[str]) -> bool:
        """Return True if every one of the nodes says that it syncs before it acknowledges."""
        answers: list[dict[str, Any]] = []

        def hear(message: Message) -> None:
            try:
                answers.append(msgspec.json.decode(message.data, type=dict[str, Any]))
            except msgspec.MsgspecError:
                return

        await self._connection.ask_all(
            _SYNC_SUBJECT,
            hear,
            lambda: nodes <= {str(one.get("server", {}).get("name")) for one in answers},
            _SYNC_S,
        )
        synced = {
            str(one.get("server", {}).get("name"))
            for one in answers
            if one.get("data", {}).get("config", {}).get("sync_always")
        }
        return bool(nodes) and nodes <= synced


def _drawn_place() -> int:
    """Draw where the sequence of a new log begins, so that no claim of a deleted one is one in the next.

    A holder of that claim who stood still meanwhile would otherwise be taken for who has claimed it since.
    """
    return 1 + secrets.randbelow(_PLACES)


def _check(stream: str, wanted: dict[str, Any], found: dict[str, Any]) -> None:
    """Raise `LinkError` for a stream of that name that is another than the one that is wanted."""
    wrong = [
        f"{name} is {found.get(name)!r} and not {wanted[name]!r}"
        for name in ("subjects", "storage", "retention", "discard", "max_msgs_per_subject")
        if name in wanted and _sorted(found.get(name)) != _sorted(wanted[name])
    ]
    wrong += [
        f"{name} is {found[name]!r}"
        for name in ("mirror", "sources", "republish", "subject_transform", "sealed", "no_ack", "max_age")
        if found.get(name)
    ]
    wrong += [
        f"{name} is {found[name]!r}, and must be without a limit"
        for name in ("max_msgs", "max_msg_size", "max_msgs_per_subject")
        if name not in wanted and found.get(name, -1) > 0
    ]
    if wrong:
        raise LinkError(
            f"stream {stream} is somebody else's, or was changed: {'; '.join(wrong)}. Give the firm another "
            "name or another account, or remove that stream"
        )
    if 0 < found.get("max_bytes", -1) < _LEAST_BYTES:
        raise LinkError(
            f"stream {stream} may take {found['max_bytes']:,} bytes; it must be {_LEAST_BYTES:,} or more: "
            f"`nats stream edit {stream} --max-bytes=4GB`, for example"
        )


def _sorted(value: object) -> object:
    return sorted(value) if isinstance(value, list) else value


def _nodes(info: dict[str, Any]) -> set[str]:
    """Return the names of the nodes that keep a stream."""
    cluster = info.get("cluster") or {}
    found = {str(cluster["leader"])} if cluster.get("leader") else set()
    return found | {str(one.get("name")) for one in cluster.get("replicas") or ()}


def _facts(log: LogName, info: dict[str, Any]) -> LogFacts:
    config, state = info["config"], info["state"]
    return LogFacts(
        log=log,
        made=str(info["created"]),
        first=int(state["first_seq"]),
        last=int(state["last_seq"]),
        size_bytes=int(state["bytes"]),
        most_bytes=max(0, int(config.get("max_bytes", 0))),
        replicas=int(config.get("num_replicas", 1)),
    )
