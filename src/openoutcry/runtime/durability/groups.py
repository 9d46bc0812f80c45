"""Groups: events that share one commit, and what their publishers get to know."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from openoutcry.errors import JournalError
from openoutcry.ports import Alike, Entry, Level, Written

Then = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a published event.

    Attributes:
        accepted: Whether it was accepted, as `publish` says.
        event_id: Its id.
        position: Its position in the journal; 0 where it is not journaled, or was refused.
        level: The level it was accepted at: `memory`, `process` or `disk`.
        duplicate: Whether it had been accepted before, and nothing new was delivered.

    """

    accepted: bool
    event_id: str
    position: int
    level: str
    duplicate: bool


class Group:
    """Events that share one commit.

    As long as its entries differ in nothing but the event, they are kept as ids and payloads.

    Attributes:
        events: The events, in order.
        ids: Their ids.
        level: What all of them must survive, while they are alike (and there are any).
        payloads: Their JSON, while they are alike.
        entries: The entries, once they differ.
        thens: What to call with the position of an event when it is released, by its index.
        began_ns: When its first event was admitted, on the bus's monotonic clock.
        error: Why nothing of it was admitted, if so.
        written: What the journal said, once it has.
        is_over: Whether it was released, or refused: written alone it has perhaps not reached its level.

    """

    __slots__ = (
        "_index",
        "_indexed",
        "began_ns",
        "entries",
        "error",
        "events",
        "head",
        "ids",
        "is_over",
        "level",
        "must_sync",
        "on_done",
        "payloads",
        "thens",
        "waiters",
        "wall_ns",
        "written",
    )

    def __init__(self, began_ns: int, wall_ns: int) -> None:
        self.began_ns = began_ns
        self.wall_ns = wall_ns
        self.events: list[Any] = []
        self.ids: list[str] = []
        self.payloads: list[bytes] = []
        self.level = Level.MEMORY
        self.entries: list[Entry] | None = None
        self._index: dict[str, int] = {}
        self._indexed = 0
        self.thens: dict[int, Then] = {}
        self.waiters: list[asyncio.Future[None]] = []
        self.on_done: list[Callable[[], None]] = []
        self.must_sync = self.is_over = False
        self.error: JournalError | None = None
        self.written: Written | None = None
        self.head = 0

    def add(self, event: Any, entry: Entry) -> int:
        """Add an event; return its index."""
        if entry.lane == "normal" and entry.envelope is None and entry.wall_ns == self.wall_ns:
            self.add_alike([event], [entry.event_id], [entry.payload], entry.level)
        else:
            self._tell_apart().append(entry)
            self.events.append(event)
            self.ids.append(entry.event_id)
        return len(self.events) - 1

    def add_alike(self, events: list[Any], ids: list[str], payloads: list[bytes], level: Level) -> None:
        """Add events of the normal lane that carry everything that is to be known of them."""
        if self.entries is None and (not self.ids or self.level is level):
            self.level = level
            self.payloads += payloads
        else:
            self._tell_apart().extend(Alike(ids, payloads, level, self.wall_ns))
        self.events += events
        self.ids += ids

    def _tell_apart(self) -> list[Entry]:
        entries = self.entries
        if entries is None:
            entries = self.entries = list(self.to_write()) if self.ids else []
        return entries

    def to_write(self) -> Sequence[Entry]:
        """Return the entries."""
        if self.entries is not None:
            return self.entries
        return Alike(self.ids, self.payloads, self.level, self.wall_ns)

    def index_of(self, event_id: str) -> int | None:
        """Return the index of the event with an id."""
        for number in range(self._indexed, len(self.ids)):
            self._index[self.ids[number]] = number
        self._indexed = len(self.ids)
        return self._index.get(event_id)

    async def wait(self) -> None:
        """Wait until the group is released, or raise why it was not. Cancelling leaves it going on."""
        if not self.is_over:
            future = asyncio.get_running_loop().create_future()
            self.waiters.append(future)
            await future
        if self.error is not None:
            raise self.error

    def wake(self) -> None:
        """The group is over: wake everybody who waits."""
        self.is_over = True
        waiters, self.waiters = self.waiters, []
        for future in waiters:
            if not future.done():
                future.set_result(None)
        for call in self.on_done:
            call()
