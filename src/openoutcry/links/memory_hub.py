"""An engine in memory, for tests and simulations: what `MemoryTransport`s are joined by, and its faults.

It behaves as JetStream does: a message is refused by the sequence of the last claim, a full log refuses, a
request may be done though its answer is lost, and one that was given up may be done later. What goes wrong is
asked for: by `fail`, by `on_step`, and by what the methods below do to it.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import copy_context
from enum import StrEnum
from operator import attrgetter
from typing import Final, NamedTuple

from msgspec.structs import replace

from openoutcry.errors import Fenced, Garbled, LogFull, LogGone, Taken
from openoutcry.links.wire import ended, unpack
from openoutcry.ports import LOGS, Ended, Facts, Group, Heard, LogFacts, LogName, Seat, Unread

_APART: Final = 1_000_000
"""So far apart the places of logs begin, so that the claim of a deleted one is none in the next."""


class Fault(StrEnum):
    """What becomes of a request, or of its answer."""

    LOST = "lost"
    """It never comes: the call is given up after `answer_s`."""
    LATE = "late"
    """It comes `late_s` after the call was given up. An answer that is late is lost."""


class Message(NamedTuple):
    """A message in a log: a group of a desk, or the claim of its seat."""

    place: int
    desk: str
    data: bytes
    is_claim: bool = False


_place: Final = attrgetter("place")


class _Log:
    """A log: messages at places that ascend and are never given twice, nor in another log of its name."""

    def __init__(self, name: LogName, made: str, last: int) -> None:
        self.name: LogName = name
        self.made = made
        self.messages: list[Message] = []
        self.last = last
        self.size_bytes = 0
        self.tokens: dict[str, int] = {}

    def add(self, desk: str, data: bytes, *, is_claim: bool) -> int:
        self.last += 1
        self.messages.append(Message(self.last, desk, data, is_claim))
        self.size_bytes += len(data)
        if is_claim:
            self.tokens[desk] = self.last
        return self.last

    def keep(self, wanted: Callable[[Message], bool]) -> int:
        """Keep the messages that are wanted, and return how many were not."""
        kept = [one for one in self.messages if wanted(one)]
        count = len(self.messages) - len(kept)
        self.messages = kept
        self.size_bytes = sum(len(one.data) for one in kept)
        self.tokens = {one.desk: one.place for one in kept if one.is_claim}
        return count


class Ear:
    """A function that hears a topic, in the context in which it began to listen, and what is on its way."""

    def __init__(self, desk: str, topic: str, heard: Heard) -> None:
        self.desk = desk
        self.topic = topic
        self.heard = heard
        self.context = copy_context()
        self.bulk: deque[tuple[str, bytes]] = deque()
        self.urgent: deque[tuple[str, bytes]] = deque()

    def hear(self, coming: deque[tuple[str, bytes]]) -> None:
        """Hear what comes next."""
        if coming:
            self.heard(*coming.popleft())


class MemoryHub:
    """An engine in memory. It belongs to one loop, and its time is that loop's.

    Attributes:
        most_bytes: What each log may take; 0: as much as it likes.
        message_bytes: The largest message that it takes.
        replicas: How many nodes it says that it has.
        is_synced: Whether it says that they sync before they acknowledge.
        power_cuts: How often a log has forgotten its newest messages. What was under way is lost then, as
            its connection is.
        delay_s: How long a request takes, and its answer, and a broadcast that is not urgent.
        answer_s: How long a call waits for an answer before it is given up.
        late_s: How much later comes what is late.
        is_answering: Whether the logs and seats answer. Broadcasts go on meanwhile, as during an election.
        on_step: Is asked before each request is done, with the transport's desk and the step (`append`,
            `claim high`), and again before its answer (`append done`): what becomes of it.

    """

    def __init__(
        self,
        *,
        most_bytes: int = 0,
        message_bytes: int = 1024 * 1024,
        replicas: int = 1,
        is_synced: bool = False,
    ) -> None:
        self.most_bytes = most_bytes
        self.message_bytes = message_bytes
        self.replicas = replicas
        self.is_synced = is_synced
        self.delay_s: float = 0.0
        self.power_cuts: int = 0
        self.answer_s: float = 1.0
        self.late_s: float = 1.0
        self.is_answering: bool = True
        self.on_step: Callable[[str, str], Fault | None] = lambda _desk, _step: None
        self._planned: list[tuple[str, str, Fault]] = []
        self._cut: set[str] = set()
        self._logs: dict[LogName, _Log] = {}
        self._made_count = 0
        self._seats: dict[str, Seat] = {}
        self._renewals = 0
        self._news: dict[tuple[str, str], dict[Callable[[], None], None]] = {}
        self.ears: list[Ear] = []

    # -- what goes wrong

    def fail(self, step: str, fault: Fault = Fault.LOST, *, desk: str = "", times: int = 1) -> None:
        """Let the next requests of a step go wrong, of one desk or of any. `append done`: its answer."""
        self._planned += [(desk, step, fault)] * times

    def cut(self, desk: str) -> None:
        """Let nothing through to a desk or from it, until `heal`."""
        self._cut.add(desk)

    def heal(self, desk: str) -> None:
        """Let everything through again. What was broadcast meanwhile is lost."""
        self._cut.discard(desk)
        self.wake()

    def delete(self, log: LogName) -> None:
        """Delete a log, with the claims in it. The next `open` makes it anew."""
        self._logs.pop(log, None)
        self.wake()

    def forget_newest(self, log: LogName, count: int) -> None:
        """Forget the newest messages of a log and give their places again, as a power cut does."""
        found = self._log(log)
        self.power_cuts += 1
        last = found.last - count
        found.keep(lambda one: one.place <= last)
        found.last = max(last, 0)
        self.wake()

    def forget_seats(self) -> None:
        """Forget who holds which desk. The claims in the logs stay."""
        self._seats.clear()

    def flip(self, log: LogName, place: int, index: int = -1) -> None:
        """Change a bit of a message."""
        found = self._log(log)
        for number, one in enumerate(found.messages):
            if one.place == place:
                data = bytearray(one.data)
                data[index] ^= 1
                found.messages[number] = one._replace(data=bytes(data))

    def becomes(self, desk: str, step: str) -> Fault | None:
        """Return what becomes of a step: what was planned, or what `on_step` says."""
        for number, (whose, planned, fault) in enumerate(self._planned):
            if planned == step and whose in {"", desk}:
                del self._planned[number]
                return fault
        return self.on_step(desk, step)

    def reaches(self, desk: str) -> bool:
        """Return True if nothing cuts a desk off."""
        return desk not in self._cut

    # -- logs

    def make(self) -> Facts:
        """Make the logs that are not there, and return what it promises."""
        for name in LOGS:
            if name not in self._logs:
                self._made_count += 1
                last = 0 if self._made_count <= len(LOGS) else self._made_count * _APART
                self._logs[name] = _Log(name, f"{name}-{self._made_count}", last)
        return self.facts()

    def facts(self) -> Facts:
        """Return what it promises, and how large the logs are."""
        return Facts(
            engine="memory",
            replicas=self.replicas,
            is_synced=self.is_synced,
            most_bytes=self.message_bytes,
            logs=tuple(self._facts_of(log) for log in self._logs.values()),
        )

    def _facts_of(self, log: _Log) -> LogFacts:
        return LogFacts(
            log=log.name,
            made=log.made,
            first=log.messages[0].place if log.messages else log.last + 1,
            last=log.last,
            size_bytes=log.size_bytes,
            most_bytes=self.most_bytes,
            replicas=self.replicas,
        )

    def append(self, log: LogName, desk: str, data: bytes, token: int) -> int:
        """Append a group, if the desk's last claim is the token. Raises `Fenced`, `LogFull`, `LogGone`."""
        found = self._log(log)
        last = found.tokens.get(desk)
        if last is None:
            raise LogGone(
                f"log {log!r} has no claim of desk {desk!r}: it was made anew. Claim the desk again"
            )
        if last != token:
            raise Fenced(f"desk {desk!r} was claimed by another process: token {last}, and not {token}")
        return self._add(found, desk, data)

    def claim(self, log: LogName, desk: str, expected: int) -> int:
        """Claim a desk in a log, if its last claim there is `expected`, 0 for none.

        Raises `Taken`, `LogFull`, `LogGone`.
        """
        found = self._log(log)
        if found.tokens.get(desk, 0) != expected:
            raise Taken(f"desk {desk!r} was claimed at the same moment by another process")
        return self._add(found, desk, b"{}", is_claim=True)

    def _add(self, log: _Log, desk: str, data: bytes, *, is_claim: bool = False) -> int:
        if self.most_bytes and log.size_bytes + len(data) > self.most_bytes:
            raise LogFull(
                f"log {log.name!r} has {log.size_bytes:,} of {self.most_bytes:,} bytes, and no room for "
                f"{len(data):,}: trim it, drop a desk that is gone, or allow it more"
            )
        place = log.add(desk, data, is_claim=is_claim)
        for call in self._news.pop((log.name, desk), ()):
            call()
        return place

    def tokens(self, desk: str) -> dict[LogName, int]:
        """Return the last claim of a desk in each log: 0 for none. Raises `LogGone`."""
        return {name: self._log(name).tokens.get(desk, 0) for name in LOGS}

    def last(self, log: LogName, desk: str) -> Ended | None:
        """Return where a desk's groups end; None if there are none."""
        for one in reversed(self._log(log).messages):
            if one.desk == desk and not one.is_claim:
                try:
                    return ended(one.data, one.place)
                except Garbled:
                    continue
        return None

    def behind(self, log: LogName, desk: str, made: str, number: int) -> list[Message]:
        """Return a desk's messages behind a place. Raises `LogGone` if that is a place in another log."""
        found = self._log(log)
        if (made and made != found.made) or number > found.last:
            raise LogGone(f"log {log!r} was made anew: read it from its beginning")
        first = bisect_right(found.messages, number, key=_place)
        return [one for one in found.messages[first:] if one.desk == desk]

    def groups(self, log: LogName) -> Iterator[Group]:
        """Return the groups of a log as readers get them: those that are damaged are left out."""
        for one in self._logs[log].messages if log in self._logs else ():
            group = read_group(log, one)
            if group is not None:
                yield group

    def trim(self, log: LogName, desk: str, upto: int) -> int:
        """Remove a desk's groups that end at a position or before it, but for its newest; return how many."""
        found = self._log(log)
        newest = self.last(log, desk)

        def is_wanted(one: Message) -> bool:
            if one.is_claim or one.desk != desk or newest is None or one.place >= newest.place:
                return True
            group = read_group(log, one)
            return group is not None and group.upto > upto

        return found.keep(is_wanted)

    def drop(self, desk: str) -> None:
        """Forget a desk: its record and its groups. A claim of nobody stays, which fences its last holder."""
        self._seats.pop(desk, None)
        for log in self._logs.values():
            log.keep(lambda one: one.desk != desk)
            log.add(desk, b"{}", is_claim=True)
        self.wake()

    def _log(self, name: LogName) -> _Log:
        found = self._logs.get(name)
        if found is None:
            raise LogGone(f"log {name!r} was deleted: open the transport again, which makes it")
        return found

    # -- seats

    def seats(self) -> list[Seat]:
        """Return the records of all seats, by desk."""
        return [self._seats[desk] for desk in sorted(self._seats)]

    def seat(self, desk: str) -> Seat | None:
        """Return the record of a seat."""
        return self._seats.get(desk)

    def record(self, seat: Seat, expected: int) -> Seat:
        """Write a seat's record, if it has not changed since: 0 for none. Raises `Taken`."""
        now = self._seats.get(seat.desk)
        if (now.renewal if now is not None else 0) != expected:
            raise Taken(f"desk {seat.desk!r} was claimed at the same moment by another process")
        self._renewals += 1
        written = replace(seat, renewal=self._renewals)
        self._seats[seat.desk] = written
        return written

    # -- those who wait and listen

    def when_new(self, log: LogName, desk: str, call: Callable[[], None]) -> None:
        """Call a function once when there is something new to read of a desk in a log."""
        self._news.setdefault((log, desk), {})[call] = None

    def wake(self) -> None:
        """Tell those who wait for something new, whatever it is."""
        waiting, self._news = self._news, {}
        for calls in waiting.values():
            for call in calls:
                call()


def read_group(log: LogName, message: Message, unread: Unread | None = None) -> Group | None:
    """Return a message as readers get it: None for a claim, and for what cannot be read, which is told."""
    if message.is_claim:
        return None
    try:
        group = unpack(message.data)
    except Garbled as error:
        if unread is not None:
            unread(message.place, error)
        return None
    return replace(group, desk=message.desk, log=log, place=message.place)
