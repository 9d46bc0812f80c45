"""Exports: gives other desks what this one makes, in groups, from its journal.

```
  released ─▶ read behind the last group, up to what is released ─▶ append one group ─▶ answered ─┐
                ▲                                                    └ no answer: the same again  │
                └──────────── meanwhile the next group fills: group commit, with no timer ◀───────┘
```

Where the next one is full already, it is read and packed while one is under way; it is appended when that is
answered, and not before.

Where the exports of this desk end is in the log: it is asked for whenever that may be unknown. The journal
and the log are the same up to where a run begins (`core/runs.py`). Where the log has lost what was exported
before this start, or another desk has more than this journal, the journal may have lost its end as well: then
a run begins where it ended at the start.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final, cast

from msgspec.structs import replace

from openoutcry.core.link_words import LinkWord
from openoutcry.core.runs import ALL, COPY, VOID, Run, is_beside
from openoutcry.errors import (
    Fenced,
    GroupTooLarge,
    JournalError,
    LinkError,
    LogFull,
    LogGone,
)
from openoutcry.events import decode_many
from openoutcry.events.records import is_record
from openoutcry.links.wire import group_length, pack, size_of
from openoutcry.logs import about
from openoutcry.ports import Ended, Entry, Group, LogName, Place, Seat, Stored
from openoutcry.runtime.admission.arrivals import Arrival
from openoutcry.runtime.admission.kill_switches import OWN_AGENT
from openoutcry.runtime.durability.store import Store
from openoutcry.runtime.linking.parts import Joined
from openoutcry.runtime.ownership import resolve

log = logging.getLogger("openoutcry")

PAGE: Final = 512
"""So many entries of the journal are read at a time: others wait for that."""
AGAIN_S: Final = 0.1
"""The pause before a group is appended again that was not answered,"""
AGAIN_MOST_S: Final = 1.0
"""and the longest one."""
FULL_S: Final = 1.0
"""The pause before it is tried again whether a full log has room."""

WAIT_LOOK_S: Final = 0.002
"""How often it is looked whether something was exported, for who waits for that."""
ASK_S: Final = 1.0
"""How often at most a log is exported again from an earlier position."""

ClaimAgain = Callable[[], Awaitable[None]]


class LogExport:
    """Exports to one log.

    Attributes:
        run: The run of the journal in which it exports.
        after: Everything up to this position is exported.
        floor: All other desks have everything up to this position: it need not be kept for them.
        bare: What lies between this position and `floor` is not to be exported.
        trimmed: Up to this position nothing is left in the log but the newest group.
        looked: Everything that is to be exported is before this position, or exported.
        groups: How many groups were appended.
        events: How many events they had.
        refusals: How many times a group was not taken.
        waiting_since_ns: Since when something waits, on the loop's clock; 0 if nothing does.

    """

    def __init__(
        self,
        joined: Joined,
        log_name: LogName,
        claim_again: ClaimAgain,
        on_run: Callable[[], None],
        said_of: Callable[[LogName, Run], int],
    ) -> None:
        self._joined = joined
        self._log: LogName = log_name
        self._name = f"export {log_name}"
        self._claim_again = claim_again
        self._on_run = on_run
        self._said_of = said_of
        self._exports, self._keep = joined.link.exports, joined.link.keep
        self._takes_all = "*" in self._exports and not self._keep
        self._passes_plain = log_name == "high" or not self._exports
        self._released = self._reached = self._sent = 0
        self._is_beyond = False
        self._copies: dict[str, tuple[int, int]] = {}
        self.has_copies: bool = False
        self._waiter: asyncio.Future[None] | None = None
        self._groups: list[Group] = []
        """The group that is to be answered, and the one behind it, if that is read already."""
        self._store: Store | None = None
        self._seat = Seat(desk=joined.desk)
        self._ask_from_s = 0.0
        self._known_end = 0
        self._settled: Store | None = None
        self.run: Run = Run("")
        self.floor: int = 0
        self.bare: int = 0
        self.trimmed: int = 0
        self.after: int = 0
        self.looked: int = 0
        self.groups: int = 0
        self.events: int = 0
        self.refusals: int = 0
        self.waiting_since_ns: int = 0

    def open(self, run: Run, floor: int, bare: int, after: int) -> None:
        """Begin behind a position; where the exports end in truth, the log is asked later."""
        self.run, self.floor, self.bare, self._store = run, floor, min(bare, floor), None
        self._known_end = after if after > run.begins else 0
        self._settled = None
        self._reached = self._sent = self.trimmed = 0
        self._ask_from_s, self.waiting_since_ns = 0.0, 0
        self._released = self._joined.store.commits.released
        self._set_after(after)

    def _set_after(self, position: int) -> None:
        """Go on behind a position, past what lies there and is not to be exported: it may be deleted."""
        self.after = position
        self.looked = self.floor if self.bare <= position < self.floor else position
        self._groups.clear()
        self._joined.exported[self._log] = position

    @property
    def done(self) -> int:
        """Everything before this position is exported, or is not to be."""
        return self.after if self._groups else max(self.after, self.looked)

    @property
    def is_found(self) -> bool:
        """Whether it is known in which run the journal exports, so that what others have can be judged."""
        return self._store is self._joined.store

    @property
    def goes_on(self) -> bool:
        """Whether something is still to be exported, and nothing hinders that."""
        is_left = bool(self._groups) or self.looked < self._joined.store.commits.released
        return is_left and self._name not in self._joined.problems and self._joined.seat is not None

    # -- exporting ----------------------------------------------------------------------------------

    async def work(self) -> None:
        """Export, until the link ends."""
        pause_s = AGAIN_S
        while True:
            await self._joined.wait_seat()
            try:
                if not self.is_found:
                    await self._find_end()
                    self._joined.problems.pop(self._name, None)
                await self._append()
                pause_s = AGAIN_S
                self._joined.problems.pop(self._name, None)
                continue
            except LogFull as error:
                self._tell(LinkWord.FULL, f"the log {self._log!r} is full: {error}")
                await self._make_room()
                pause_s = FULL_S
            except GroupTooLarge as error:
                self._tell(LinkWord.STALLED, f"{self._largest()}: {error}")
                pause_s = FULL_S
            except Fenced as error:
                self._store = None
                await self._doubt_seat(error)
            except LogGone as error:
                self._store = None
                await self._make_anew(error)
            except (LinkError, JournalError) as error:  # no answer, or it is not permitted
                self._tell(LinkWord.STALLED, f"the log {self._log!r} takes nothing: {error}")
            self.refusals += 1
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, AGAIN_MOST_S)

    async def _doubt_seat(self, error: Fenced) -> None:
        """An append was refused: go on with another seat. If there is none yet, have it looked at.

        A new claim has new tokens in both logs, so that what is under way in the other is refused as well.
        """
        now = self._joined.seat
        if now is None or now.tokens[self._log] == self._seat.tokens[self._log]:
            self._joined.fenced(error)
        await self._joined.wait_seat(but=self._seat)

    async def _append(self) -> None:
        """Append the next group, or the one that was not answered."""
        if not self._groups:
            following = await self._next()
            if following is None:
                return
            self._groups.append(following)
        group = self._groups[0]
        self._seat = await self._joined.wait_seat()  # as it is now, after a wait perhaps
        if not self._is_next(group):
            return
        self.trimmed = min(self.trimmed, group.after)
        self._sent = max(self._sent, group.upto)  # others may have it, answered or not
        soon = asyncio.get_running_loop().call_soon(self._read_ahead, group)
        try:
            await self._joined.transport.append(group, self._seat.tokens[self._log])
        finally:
            soon.cancel()
        if not self._is_next(group):
            return  # it was asked for what is before it
        del self._groups[0]
        self.groups += 1
        self.events += len(group.entries)
        self.after = self._joined.exported[self._log] = group.upto
        self.looked = max(self.looked, group.upto)
        self._reached = max(self._reached, self.after)

    def _is_next(self, group: Group) -> bool:
        """Return True if a group is still the one that is to be appended next."""
        return bool(self._groups) and self._groups[0] is group

    def _read_ahead(self, group: Group) -> None:
        """While a group is under way, read and pack the one behind it, if that will be a full one."""
        if not self._is_next(group) or len(self._groups) > 1 or not self.is_found:
            return
        released = self._joined.store.commits.released
        if released - self.looked >= PAGE and self.looked >= self._joined.store.journal.first - 1:
            with suppress(JournalError):  # which is told when it is next
                following = self._read(released)
                if following is not None:
                    self._groups.append(replace(following, packed=pack(following)))

    async def _make_anew(self, error: LogGone) -> None:
        """A log was deleted: have it made, and claim the desk there."""
        log.warning("the log %r is gone, and is filled again from the journal: %s", self._log, error)
        try:
            self._joined.facts = await self._joined.transport.open()
            await self._claim_again()
        except LinkError as other:
            self._tell(LinkWord.STALLED, f"the log {self._log!r} is gone: {other}")

    async def _make_room(self) -> None:
        """Where a full log has what comes again anyway, remove it, and begin with what somebody lacks."""
        if self._is_beyond and self.after < self._reached:
            with suppress(LinkError):
                await self._joined.transport.trim(self._log, self._joined.desk, ALL)
                self._is_beyond = False
                self._go_back()

    def note_reached(self, position: int) -> None:
        """Another desk has come that far: the log may have it, whatever is exported again."""
        self._reached = max(self._reached, position)

    def _tell(self, word: LinkWord, why: str) -> None:
        self._joined.problems[self._name] = word, why

    def _largest(self) -> str:
        """Return which event is too large for the engine, in words."""
        entries = cast("tuple[Stored, ...]", self._groups[0].entries) if self._groups else ()
        largest = max(entries, key=size_of, default=None)
        return (
            "an event is too large"
            if largest is None
            else f"{largest.head().event_id} has {size_of(largest):,} bytes"
        )

    # -- where it stands ----------------------------------------------------------------------------

    async def _find_end(self) -> None:
        """Ask the engine where the exports end, and go on there."""
        store = self._joined.store
        ended = await self._joined.transport.last(self._log, self._joined.desk)
        copies: dict[str, Entry] = {}
        if ended is not None and (self.has_copies or is_beside(ended.journal)):
            ended, copies = await self._read_copies(ended)
        run = None if ended is None else Run.read(ended.journal)
        if ended is None:
            await self._doubt_end(0, store)
            self._go_back()
        elif run is None or run.origin != self.run.origin or run.epoch < self.run.epoch:
            await self._go_on_behind(self.run.goes_on_at(run, ended.upto), store)
        elif self._agrees(ended):
            self.run, self._sent = run, max(self._sent, ended.upto)
            await self._go_on_behind(ended.upto, store)
        else:
            await self._begin_run(ended, run)
        if ended is not None and run is not None and run.origin == self.run.origin:
            self._reached = ended.upto  # in whatever run: it comes again, or everybody has it
        await self._take_copies(copies)  # what was exported since came before them
        self._store = self._settled = store
        self._is_beyond = True

    async def _go_on_behind(self, upto: int, store: Store) -> None:
        """Go on behind what the log has of this run: in it, or in one that begins before that."""
        former = self.run
        await self._doubt_end(upto, store)
        self._set_after(self.run.goes_on_at(former, upto))

    async def _doubt_end(self, upto: int, store: Store) -> None:
        """Begin a run if the log has lost what was exported before this start: the journal may have, too.

        If the log has nothing nobody knows, until others have said what they have, and then it is too late.
        """
        born_at = store.commits.born_at
        known = max(self._known_end, self._said_of(self._log, self.run))
        is_unknown = not upto and self.run.begins < born_at
        if self._settled is store or (upto >= known and not is_unknown):
            return
        if upto < known:
            log.warning(
                "the log %r lacks what desk %s has exported: its exports are numbered anew from %d on, "
                "where its journal ended at the start",
                self._log,
                self._joined.desk,
                born_at,
            )
        await self._number_anew(self.run.epoch + 1, born_at)

    async def _number_anew(self, epoch: int, same: int) -> None:
        """Begin a run, and have it on the disk before the first group is exported in it."""
        self._set_run(self.run.without_end(epoch, same))
        await self._joined.store.saving.save(sync=True)

    def note_more(self, position: int) -> None:
        """Another desk has more of this run than was ever sent: log and journal have lost their ends."""
        if self.is_found and position > self._sent:
            self._known_end = ALL
            self._store = self._settled = None
            self.wake()

    def _go_back(self) -> None:
        """The log has nothing: begin with what somebody may lack."""
        self._set_after(max(self.bare, min(self.after, self.floor)))

    async def _read_copies(self, ended: Ended) -> tuple[Ended | None, dict[str, Entry]]:
        """Return where the regular exports end, and the copies that nobody has taken back."""
        found: Ended | None = None
        copies: dict[str, Entry] = {}
        async with aclosing(self._own_groups(ended.place)) as groups:
            async for group in groups:
                for entry in group.entries:
                    if group.journal.startswith(VOID):
                        copies.pop(entry.event_id, None)
                    elif group.journal.startswith(COPY):
                        copies[entry.event_id] = entry
                if not is_beside(group.journal):
                    last = group.entries[-1].event_id if group.entries else ""
                    position = group.positions[-1] if group.positions else 0
                    found = Ended(group.journal, group.upto, group.place, position, last)
        return found, copies

    async def _take_copies(self, copies: dict[str, Entry]) -> None:
        """Take in copies of what the journal lacks."""
        journal = self._joined.store.journal
        lacking = [entry for entry in copies.values() if journal.find(entry.event_id) is None]
        events = decode_many([entry.payload for entry in lacking])
        for event in events:
            log.warning(
                "%s was replicated and not committed, and is taken in from the log",
                event.event_id,
                extra=about(event),
            )
        await self._take_in(list(map(Arrival, events, lacking)))
        if copies:
            await self._joined.store.commits.ask(sync=True)  # they are trimmed from now on as the rest is
        self.has_copies = False

    async def _take_in(self, arrivals: list[Arrival]) -> None:
        while arrivals:
            count, _ = await self._joined.admission.arrivals.take_in(arrivals, None)
            arrivals = arrivals[count:]

    async def _own_groups(self, last: int) -> AsyncGenerator[Group, None]:
        """Yield this desk's groups in the log up to a place, which is there."""
        facts = await self._joined.transport.facts()
        made = next((one.made for one in facts.logs if one.log == self._log), "")
        groups = cast(Any, self._joined.transport.read(self._log, self._joined.desk, Place(made, 0)))
        async with aclosing(groups):
            async for group in groups:
                yield group
                if group.place >= last:
                    return

    def _agrees(self, ended: Ended) -> bool:
        """Return True if the journal has what was exported last."""
        journal = self._joined.store.journal
        if ended.upto > journal.head:
            return False
        return ended.position < journal.first or self._has(ended.position, ended.event_id)

    def _has(self, position: int, event_id: str) -> bool:
        """Return True if the journal has an event at a position."""
        found = self._joined.store.journal.read(position - 1, 1)
        return bool(found) and found[0].position == position and found[0].head().event_id == event_id

    async def _begin_run(self, ended: Ended, run: Run) -> None:
        """The journal has lost its end, which the log has: take it in again, and number anew from there."""
        log.warning(
            "the journal ends at position %d and lacks what desk %s has exported up to %d: a power cut or an "
            "older copy; what the log has of it is taken in again",
            self._joined.store.journal.head,
            self._joined.desk,
            ended.upto,
        )
        same, missing = await self._compare(ended)
        await self._take_in(missing)
        epoch = max(run.epoch, self.run.epoch) + 1
        self.run = run
        await self._number_anew(epoch, same)
        self._set_after(same)

    async def _compare(self, ended: Ended) -> tuple[int, list[Arrival]]:
        """Return up to which position log and journal are the same, and what the journal lacks."""
        journal, differ = self._joined.store.journal, False
        same = min(self.floor, journal.head)
        missing: list[Arrival] = []
        async with aclosing(self._own_groups(ended.place)) as groups:
            async for group in groups:
                if group.journal != ended.journal:
                    continue  # what is of runs before was looked at when this one began
                for position, entry in zip(group.positions, group.entries, strict=True):
                    if position <= same:
                        continue
                    differ = differ or not self._has(position, entry.event_id)
                    if not differ:
                        same = position
                    elif journal.find(entry.event_id) is None:
                        missing.append(Arrival(decode_many([entry.payload])[0], entry))
        return same, missing

    def _set_run(self, run: Run) -> None:
        self.run = run
        self.floor, self.bare = min(self.floor, run.same), min(self.bare, run.same)
        self._reached, self._sent = min(self._reached, run.same), min(self._sent, run.same)
        self._on_run()

    def ask(self, after: int) -> None:
        """Another desk lacks what is behind a position: export it again, or say that it is gone."""
        loop = asyncio.get_running_loop()
        if after >= self.after or loop.time() < self._ask_from_s:
            return
        self._ask_from_s = loop.time() + ASK_S
        self._set_after(after)
        self._is_beyond = True
        self.wake()

    # -- copies of what is to be replicated -----------------------------------------------------------

    def begin_copy(self, event_id: str) -> None:
        """A copy is sent of what is committed later: nothing behind this point is trimmed meanwhile."""
        self._copies[event_id] = (self.after, 0)

    def end_copy(self, event_id: str) -> None:
        """It was refused."""
        self._copies.pop(event_id, None)

    def place_copy(self, event_id: str, position: int) -> None:
        """It was committed at a position: from there it is exported."""
        if event_id in self._copies:
            self._copies[event_id] = (self._copies[event_id][0], position)

    def trims_upto(self, safe: int) -> int:
        """Return up to which position the log may be trimmed, when the disk has everything up to `safe`."""
        done = min(self.after, safe)
        self._copies = {i: one for i, one in self._copies.items() if not one[1] or one[1] > done}
        return min([self.floor, safe, *(after for after, _ in self._copies.values())])

    async def wait_found(self) -> None:
        """Wait until the journal has what the log has of it: what is published now comes behind that."""
        while not self.is_found:  # noqa: ASYNC110 - it may be unknown again
            await asyncio.sleep(WAIT_LOOK_S)

    async def wait_exported(self, position: int) -> None:
        """Wait until the log has what stands at a position."""
        while self.after < position:  # noqa: ASYNC110 - an export may move either way
            await asyncio.sleep(WAIT_LOOK_S)

    # -- what all others have -----------------------------------------------------------------------

    @property
    def ends(self) -> tuple[int, int]:
        """Up to where it is exported, and up to where nothing else is to be exported."""
        return self.after, self.after if self._groups else self.looked

    def note_floor(self, theirs: Iterable[int], ends: tuple[int, int]) -> bool:
        """Note how far all other desks have come; return True if that is further than before.

        `ends` is from before it was asked which desks there are: one that came since may lack what follows.
        """
        after, looked = ends
        least = min(theirs, default=after)
        has_all = least >= after
        floor = max(least, looked) if has_all else least
        if floor <= self.floor:
            return False
        self.floor, self.bare = floor, min(after, floor) if has_all else floor
        return True

    # -- reading the journal ------------------------------------------------------------------------

    def released(self, upto: int, *, is_plain: bool, is_imported: bool) -> None:
        """Everything up to a position was released, by a plain commit of ordinary events or by another one.

        What has nothing for this log is passed over without being read, as what other desks have made is.
        """
        if is_imported or (is_plain and self._passes_plain):
            if self.looked == self._released:
                self.looked = upto
        elif self._waiter is not None:
            self.wake()
        self._released = upto

    def wake(self) -> None:
        """Look in the journal, if there is something to look at."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            resolve(waiter)

    async def _next(self) -> Group | None:
        """Return the next group; wait until there is one. None: the journal is another one now."""
        while self.is_found:
            released = self._joined.store.commits.released
            if self.looked < released:
                if not self.waiting_since_ns:
                    self.waiting_since_ns = self._joined.now_ns()
                group = self._read(released)
                if group is not None:
                    return group
                await asyncio.sleep(0)
            else:
                self.waiting_since_ns = 0
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
        return None

    def _read(self, released: int) -> Group | None:
        """Read the next page; return what of it is to be exported, None if that is nothing."""
        journal = self._joined.store.journal
        kept = journal.first - 1
        if self.looked < kept:  # it was deleted: who lacks it is told by the name of another run
            kept = self.bare if self.bare <= kept <= self.floor else kept
            self._set_run(self.run.without_beginning(kept))
            self._set_after(kept)
        looked = self.looked
        read = journal.read_urgent if self._log == "high" else journal.read
        page = [entry for entry in read(looked, PAGE) if entry.position <= released]
        upto = page[-1].position if len(page) == PAGE else released
        wanted = self._exported(page)
        count = group_length(map(size_of, wanted))
        if count < len(wanted):
            upto = wanted[count - 1].position
        self.looked = upto
        return self._group_of(wanted[:count], upto) if wanted else None

    def _group_of(self, wanted: Sequence[Stored], upto: int) -> Group:
        return Group(
            desk=self._joined.desk,
            journal=self.run.name,
            log=self._log,
            after=self._groups[-1].upto if self._groups else self.after,
            upto=upto,
            positions=tuple(entry.position for entry in wanted),
            entries=cast("tuple[Entry, ...]", tuple(wanted)),  # nobody asks for ids
        )

    def _exported(self, page: list[Stored]) -> list[Stored]:
        """Return what other desks may import of a page."""
        if not self._takes_all or self._log != "normal":
            return [entry for entry in page if self._is_exported(entry)]
        return [
            entry
            for entry in page
            if (entry.header is None and entry.lane == "normal" and _is_plain(entry))
            or self._is_exported(entry)
        ]

    def _is_exported(self, entry: Stored) -> bool:
        """Return True if other desks may import an entry."""
        header = entry.header
        if (entry.lane == "normal") != (self._log == "normal"):
            return False
        if header is not None and (header.desk is not None or header.votes):
            return header.desk is None
        if not _is_plain(entry):
            return False
        if self._takes_all and entry.lane == "normal":
            return True
        head = entry.head()
        event_type = head.event_type or ""
        is_given = entry.lane == "control" or event_type in self._exports or "*" in self._exports
        return is_given and event_type not in self._keep and head.source_agent != OWN_AGENT


def _is_plain(entry: Stored) -> bool:
    """Return True if an entry is an event that was published, and neither a record nor only recorded."""
    return not (entry.is_beside or is_record(entry.payload))


def log_of(entry: Entry) -> LogName:
    """Return in which log an entry is exported."""
    return "normal" if entry.lane == "normal" else "high"
