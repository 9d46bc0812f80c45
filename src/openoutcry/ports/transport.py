"""What joins the buses of a firm that runs in several processes, as the runtime asks for it.

A *desk* is one process with a bus and a journal of its own. A `Transport` carries three things between desks:
groups of journal entries in two logs, `high` and `normal`, which it keeps for a while; short messages that
it does not keep; and seats, which say who holds which desk. The journals are the truth: a log that was lost
or made anew is filled again from them.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final, Literal, Protocol

import msgspec

from openoutcry.errors import Garbled
from openoutcry.ports.records import Entry

LogName = Literal["high", "normal"]
"""A log. `high` has the entries of the lanes `control` and `high`: others can neither fill nor delay it."""
LOGS: Final[tuple[LogName, ...]] = ("high", "normal")

Unread = Callable[[int, Garbled], None]
"""Is called with the place of a group that cannot be read, and why."""
Heard = Callable[[str, bytes], None]
"""Is called on the loop with the desk that sent a message, as the engine vouches for it, and its bytes."""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Entries of one log in one message: all that a desk exports from behind one position to another.

    Attributes:
        desk: The desk that exports them. A reader is given the one that the engine vouches for.
        journal: The `origin` of that desk's journal.
        log: The log.
        after: The position of that journal behind which it begins.
        upto: The position at which it ends. What lies between and is not in it is not exported.
        positions: The entries' positions, ascending.
        entries: The entries, byte for byte as the journal has them. In a group that is appended they may be
            `Stored`, as a journal gives them; a group that is read has entries.
        place: Where it stands in the log: 1 or more, ascending, with gaps. 0 until the engine has said so.
        packed: In a group that is appended, its bytes, where they were made before (`links.wire.pack`).

    """

    desk: str
    journal: str
    log: LogName
    after: int
    upto: int
    positions: tuple[int, ...] = ()
    entries: Sequence[Entry] = ()
    place: int = 0
    packed: bytes = b""


class Place(msgspec.Struct, frozen=True):
    """Where a reader stands in a log.

    Attributes:
        made: The log's own identity: another one when it was made anew.
        number: The place of the last group that was read, 0 before the first.

    """

    made: str = ""
    number: int = 0


class Ended(msgspec.Struct, frozen=True):
    """Where the exports of a desk end in a log.

    Attributes:
        journal: The `origin` of the journal that was exported.
        upto: The last position that is exported.
        place: The place of its last group.
        position: The position of the last entry of that group, and
        event_id: its id: whether the journal at hand is the one that was exported, or has lost its end since
            and has other entries there. 0 and empty if the group holds none.

    """

    journal: str
    upto: int
    place: int
    position: int = 0
    event_id: str = ""


class LogFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A log as the engine describes it.

    Attributes:
        log: The log.
        made: Its own identity.
        first: The oldest place that is kept.
        last: The newest place.
        size_bytes: What it takes.
        most_bytes: What it may take: beyond that it refuses. 0: as much as it likes.
        replicas: How many nodes keep it.

    """

    log: LogName
    made: str
    first: int
    last: int
    size_bytes: int
    most_bytes: int
    replicas: int


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine can promise.

    Attributes:
        engine: Its name and version, in words.
        replicas: How many nodes keep each log.
        is_synced: Whether every one of them syncs before it acknowledges.
        most_bytes: The largest message that it takes.
        logs: The logs.

    """

    engine: str
    replicas: int
    is_synced: bool
    most_bytes: int
    logs: tuple[LogFacts, ...] = ()


class Seat(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a desk.

    Attributes:
        desk: The desk.
        holder: The process that holds it, by a name of its own; empty if nobody does.
        host: On which host it runs.
        process: A name by which that host knows if it still runs; empty if there is none.
        journal: The `origin` of its journal.
        file: A name for the journal's file, which is another one after a start of the host; empty if there
            is none.
        lease_s: For how long it holds the desk without a renewal, in seconds; 0: until it gives it back.
        tokens: A fencing token for each log: the engine refuses what an older one exports.
        renewal: Changes with each renewal. No clock is compared: who claims waits until it has not changed.

    """

    desk: str
    holder: str = ""
    host: str = ""
    process: str = ""
    journal: str = ""
    file: str = ""
    lease_s: float = 0.0
    tokens: Mapping[LogName, int] = {}
    renewal: int = 0


class Transport(Protocol):
    """Carries groups and messages between desks, and knows who holds which desk.

    It belongs to one loop. A call that is cancelled may have had its effect, or not; every one can be made
    again. All of them but `listen` and `close` raise `Unreachable` if the engine does not answer.

    A log may be deleted while it is used: then the calls raise `LogGone`. Who gets that calls `open` again,
    which makes what is missing, claims the desk again, as the claims were in the log, and reads again.
    """

    @property
    def desk(self) -> str:
        """The desk that it speaks for; empty for somebody who only looks on."""
        ...

    async def open(self) -> Facts:
        """Connect, and make the logs where there are none; to be called again after `LogGone`.

        Raises `LinkError`, with the remedy, for what is not right.
        """
        ...

    @property
    def is_connected(self) -> bool:
        """Whether a node answers, as far as this side knows."""
        ...

    async def facts(self) -> Facts:
        """Ask what the engine can promise, and how large the logs are."""
        ...

    async def append(self, group: Group, token: int) -> int:
        """Append a group behind all others, and return its place; when it returns, the quorum has it.

        Raises `Fenced` if another one has claimed the desk since the token was given, `LogFull` if the log
        has no room, `LogGone` if it was deleted or made anew (it has no claim of the desk), `GroupTooLarge`.
        After `Unreachable` it may stand there nevertheless, or come to stand there yet: append the same group
        again, and nothing else before it.
        """
        ...

    async def last(self, log: LogName, desk: str) -> Ended | None:
        """Return where the exports of a desk end; asked of the leader, never of a copy that lags."""
        ...

    def read(
        self, log: LogName, desk: str, after: Place, unread: Unread | None = None
    ) -> AsyncIterator[Group]:
        """Return a desk's groups behind a place, in order, and then those that come: it ends with its task.

        Raises `LogGone` when the log is not the one that the place was taken in, or is made anew meanwhile:
        begin again with `Place()`. A group that cannot be read (a wrong checksum, a newer version) is left
        out, and `unread` is told; the chain of positions shows the gap. `Place(made, place)`, of what `facts`
        says and of a group, is behind the group.
        """
        ...

    async def trim(self, log: LogName, desk: str, upto: int) -> int:
        """Remove a desk's groups whose `upto` is at most this position, and return how many.

        A node that is behind the others may leave some of them for the next time. The desk's newest group
        stays, so that `last` still says where its exports end; and so do the tokens.
        """
        ...

    async def seats(self) -> list[Seat]:
        """Return every seat there is, by desk."""
        ...

    async def claim(self, seat: Seat, seen: Seat | None) -> Seat:
        """Take a desk: return `seat` with its new tokens, if its record is as it was `seen`.

        `seen` is None if there was none. Raises `Taken` if it is not as it was, or another one claims it at
        the same moment, and `LogFull`. From then on the engine refuses what older tokens append. The record
        of one's own `holder` may have changed: one claims again after `Unreachable`, or for a log made anew.
        """
        ...

    async def renew(self, seat: Seat) -> Seat:
        """Renew one's seat: return it with its new `renewal`.

        Raises `Fenced` if another one has claimed the desk. A record that was lost is written again, if the
        tokens are still the newest; one that was renewed, though the answer was lost, is renewed again.
        """
        ...

    async def leave(self, seat: Seat) -> None:
        """Give one's seat back: its record has no holder then, so that the next one need not wait."""
        ...

    async def drop(self, desk: str) -> None:
        """Forget a desk that is gone for good: its seat's record and its groups. For administrators."""
        ...

    async def broadcast(self, topic: str, data: bytes, *, urgent: bool = False) -> None:
        """Send a message to who listens now; nobody keeps it. `urgent`: apart from the bulk, by each node."""
        ...

    async def listen(self, topic: str, heard: Heard, *, urgent: bool = False) -> None:
        """Have a function called with what other desks broadcast: once each, whichever nodes it came over.

        What was broadcast under this desk's own name is left out. It goes on until `close`.
        """
        ...

    async def close(self) -> None:
        """Disconnect; what was begun is ended. Harmless when done twice."""
        ...
