"""Imports: takes in what other desks export, in their order, each log of each desk by itself.

```
  log ─▶ group ─▶ next? ─▶ a type that is taken? ─▶ Arrivals.take_in, with how far it has come, in one commit
                   ├ old: let it go
                   ├ gap: ask that desk to export it again, and take nothing of it until that comes
                   └ another run, or another journal: begin with it
```

How far it has come is kept in positions of the other desk's journal. The place in the log is a hint.
"""

import asyncio
import logging
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from functools import partial
from itertools import compress
from typing import Any, Final, NamedTuple, cast

import msgspec

from openoutcry.config.link import EVERY_TYPE
from openoutcry.core.chain import Chain, Verdict
from openoutcry.core.cursors import name_of_import
from openoutcry.core.link_words import LinkWord
from openoutcry.core.retries import DeadLetter
from openoutcry.core.runs import COPY, VOID, Run, is_beside
from openoutcry.errors import (
    BusClosed,
    Garbled,
    JournalError,
    LinkError,
    LogGone,
    SeatLost,
    Unreachable,
)
from openoutcry.events import RECORDS, Event, Undecodable, decode_many, fixed_event_type
from openoutcry.links.wire import Ask, Imported, Lines, write_message
from openoutcry.logs import about
from openoutcry.ports import Carried, Entry, Group, Header, Level, LogName, Snapshot
from openoutcry.runtime.admission.access import KILL_SWITCH
from openoutcry.runtime.admission.arrivals import Arrival, Plain
from openoutcry.runtime.linking.kill import switch_of
from openoutcry.runtime.linking.parts import Joined
from openoutcry.runtime.linking.rows import Reached, read_reached, write_row
from openoutcry.runtime.linking.votes import Votes

log = logging.getLogger("openoutcry")

AGAIN_S: Final = 0.25
"""The pause before a log is read again that could not be."""
ASK_S: Final = 2.0
"""How long it is waited for what was asked for, before it is asked again: twice as long each time,"""
ASK_MOST_S: Final = 60.0
"""and no longer than this."""
HEALED_S: Final = 5.0
"""For how long a log must have been read without an error, for that to be told no more."""
SILENT_S: Final = 10.0
"""A desk says that it has exported more, and for so long nothing of it has come: it is asked for it."""


class _Kind(msgspec.Struct, frozen=True, gc=False):
    event_type: str = ""
    activated: object = True


_KEPT: Final = frozenset({Level.PROCESS, Level.DISK})
_read_kind: Final = msgspec.json.Decoder(_Kind, strict=False).decode


class LogImport:
    """Imports one log of one other desk.

    Attributes:
        reached: How far it is imported, which is committed.
        events: How many events were taken in that were new.
        duplicates: How many came that were here already.
        gap: What is missing in the log, in words; empty if nothing is.

    """

    def __init__(self, joined: Joined, votes: Votes, desk: str, log_name: LogName) -> None:
        self._joined = joined
        self._votes = votes
        self._desk = desk
        self._log: LogName = log_name
        self._name = f"import {desk} {log_name}"
        self._row = name_of_import(desk, log_name)
        self.reached: Reached = read_reached(joined.store.journal, desk, log_name)
        self._chain = Chain(self.reached.run, self.reached.position, self.reached.former)
        self._made, self._number = self.reached.made, self.reached.number
        self._begins = self.reached.begins
        self._header = Header(desk=desk)
        self._plain: dict[type, bool] = {}
        self._ask_from_s = 0.0
        self._asks = 0
        self._moved_s = self._failed_s = 0.0
        self._safe = self.reached.position
        self._unsafe: tuple[int, int] | None = None
        self.events: int = 0
        self.duplicates: int = 0
        self.gap: str = ""
        self._why_unread = ""
        self._is_taking = False
        self.tell_reached()

    # -- what is safe -------------------------------------------------------------------------------

    @property
    def safe(self) -> int:
        """Up to which position what was imported survives a power cut of this host."""
        if self._unsafe is not None:
            journal = self._joined.store.journal
            head, position = self._unsafe
            if journal.synced >= head:
                self._safe, self._unsafe = position, None
                if position < self.reached.position:
                    self._unsafe = journal.head, self.reached.position
        return self._safe

    def tell_reached(self) -> None:
        """Say in the next beat how far it has come."""
        reached = self.reached
        told = Imported(self._desk, self._log, reached.run, reached.position, self.safe)
        self._joined.imported[self._desk, self._log] = told

    async def run(self) -> None:
        """Import, until the link ends or the bus stops; from when this desk is held, which others see."""
        await self._joined.wait_seat()
        while True:
            try:
                await self._read_on()
            except Unreachable as error:
                log.debug("%s: %s", self._name, error)
            except LogGone as error:
                log.warning("%s: the log is another one than before, and is read anew: %s", self._name, error)
                self._made, self._number = "", 0
                with suppress(LinkError):
                    await self._joined.transport.open()  # which makes it; who exports claims its desk there
            except BusClosed:
                return
            except (JournalError, SeatLost) as error:
                self._tell(LinkWord.BEHIND, f"events of desk {self._desk!r} wait: {error}")
            except LinkError as error:  # it is not permitted, for example
                self._tell(LinkWord.STALLED, f"events of desk {self._desk!r} cannot be read: {error}")
                self._failed_s = asyncio.get_running_loop().time()
            await asyncio.sleep(AGAIN_S)

    async def _read_on(self) -> None:
        joined = self._joined
        if not self._made:
            facts = await joined.transport.facts()
            mine = next((one for one in facts.logs if one.log == self._log), None)
            if mine is None:
                raise LogGone(f"the engine has no log {self._log!r}")
            self._made, self._number = mine.made, 0
        reached = Reached(made=self._made, number=self._number)
        groups = cast(Any, joined.transport.read(self._log, self._desk, reached.place, self._unread))
        async with aclosing(groups):
            await self._import_all(groups)

    async def _import_all(self, groups: AsyncIterator[Group]) -> None:
        async for group in groups:
            verdict = self._judge(group)
            if verdict is Verdict.NEXT:
                try:
                    await self._take(group)
                except Garbled as error:  # it is passed over, as one that cannot be read at all: a gap
                    self._unread(group.place, error)
            elif verdict is Verdict.GAP:
                await self._ask(group.after)
            elif not self.gap:
                self._number = group.place

    def _unread(self, place: int, error: Garbled) -> None:
        """Tell that a group cannot be read: what was in it is missing until it is exported again."""
        if not self._why_unread:
            log.warning("%s: what stands at place %d of the log cannot be read: %s", self._name, place, error)
        self._why_unread = f"what stands at place {place} of the log {self._log} cannot be read: {error}"
        self._tell(LinkWord.GAP, f"events of desk {self._desk!r} are missing: {self._why_unread}")

    # -- judging ------------------------------------------------------------------------------------

    def _judge(self, group: Group) -> Verdict:
        """Return what a group is, beside what is here; begin with its run if it is of another one."""
        if is_beside(group.journal) or group.desk != self._desk:
            return Verdict.OLD
        verdict = self._chain.judge(group.journal, group.after, group.upto)
        if verdict is not Verdict.OTHER:
            return verdict
        run = Run.read(group.journal)
        before = Run.read(self._chain.journal)
        if run is None or (before is not None and before.origin == run.origin and before.epoch > run.epoch):
            return Verdict.OLD
        self._begin(run, group)
        return self._chain.judge(group.journal, group.after, group.upto)

    def _begin(self, run: Run, group: Group) -> None:
        """Begin with a run: of a desk that is new, of another journal, or of one that has lost its end."""
        chain, before = self._chain, Run.read(self._chain.journal)
        position = run.goes_on_at(before, chain.position)
        if before is None:
            older = self._older_than_us(run, group.after)
            if older > position:
                position = self._begins = older
        else:
            log.warning(
                "desk %s %s, and is imported from position %d on (it was at %d)",
                self._desk,
                "numbers its journal anew" if before.origin == run.origin else "has another journal",
                position,
                chain.position,
            )
        if position < run.kept:
            if before is not None or self._row not in self._joined.met:
                self._tell_lost(position, run.kept)
            position = run.kept
        chain.begin(run.name)
        chain.take(position)

    def _older_than_us(self, run: Run, after: int) -> int:
        """Return where this desk begins with a log: with what it still had when this desk came."""
        met = self._joined.met.get(self._row)
        if met is None:
            return 0
        met_run = Run.read(met.run.removeprefix(COPY).removeprefix(VOID))
        if met_run is None or met_run.origin != run.origin:
            return 0
        return min(after, run.goes_on_at(met_run, met.upto))

    def _tell_lost(self, after: int, upto: int) -> None:
        what = (
            f"what desk {self._desk!r} had between positions {after} and {upto} of its journal was deleted "
            "there before it was imported here, and does not come any more"
        )
        log.critical("%s", what)
        self._joined.problems[f"{self._name}, lost after {after}"] = LinkWord.LOST, what

    def note_head(self, head: int, origin: str) -> None:
        """A beat says up to where the desk has exported its journal: ask for it, if it does not come."""
        now_s, known = asyncio.get_running_loop().time(), Run.read(self._chain.journal)
        if self._failed_s and now_s - self._failed_s > HEALED_S:
            self._failed_s = 0.0
            self._joined.problems.pop(self._name, None)
        is_known = known is not None and known.origin == origin
        has_all = is_known and head <= self._chain.position
        if has_all and self._why_unread and not self.gap:  # it was nothing that the desk has exported
            self._why_unread = ""
            self._joined.problems.pop(self._name, None)
        if has_all or not head or self._is_taking:
            self._moved_s = now_s
        elif now_s - self._moved_s > SILENT_S and is_known:
            self._joined.spawn(self._name, self._ask(head))
        elif now_s - self._moved_s > SILENT_S:
            self._joined.spawn(self._name, self._send_ask("", 0))

    async def _ask(self, upto: int) -> None:
        """Ask for what is missing up to a position."""
        have = self._chain.position
        missing = f"positions {have + 1} to {upto} of desk {self._desk!r}"
        if not self.gap:
            log.warning("%s: %s are missing in the log, and are asked for", self._name, missing)
        self.gap = missing
        why = self._why_unread or "they are being filled"
        self._tell(LinkWord.GAP, f"{missing} are missing in the log {self._log}: {why}")
        await self._send_ask(self._chain.journal, have)

    async def _send_ask(self, run: str, after: int) -> None:
        """Ask for what is behind a position, or for all if the run is not known; not too often."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._ask_from_s:
            return
        self._ask_from_s = now_s + min(ASK_S * 2**self._asks, ASK_MOST_S)
        self._asks += 1
        ask = Ask(desk=self._desk, log=self._log, journal=run, after=after)
        await self._joined.transport.broadcast("ask", write_message(ask), urgent=True)

    def _tell(self, word: LinkWord, why: str) -> None:
        self._joined.problems[self._name] = word, why

    # -- taking in ----------------------------------------------------------------------------------

    async def _take(self, group: Group) -> None:
        """Take in what of a group is not here yet."""
        self._is_taking = True
        try:
            await self._take_all(group)
        finally:
            self._is_taking = False
        self.gap, self._why_unread, self._asks, self._ask_from_s = "", "", 0, 0.0
        self._moved_s = asyncio.get_running_loop().time()
        self._joined.problems.pop(self._name, None)

    async def _take_all(self, group: Group) -> None:
        wanted = self._wanted(group)
        while wanted.positions:
            snapshot_after = partial(self._snapshot_after, group, wanted.positions)
            count, known = await self._joined.admission.arrivals.take_in(wanted.arrivals, snapshot_after)
            self._note(self._reached_after(group, wanted.positions, count))
            self.events += count - known
            self.duplicates += known
            wanted = wanted.rest(count)
        if self._chain.position < group.upto:
            self._joined.store.saving.remember(self._snapshot_after(group, (), 0))
            self._note(self._reached_after(group, (), 0))

    def _snapshot_after(self, group: Group, positions: Sequence[int], count: int) -> Snapshot:
        reached = self._reached_after(group, positions, count)
        return write_row(self._row, reached, self._joined.bus.clock.wall_ns())

    def _reached_after(self, group: Group, positions: Sequence[int], count: int) -> Reached:
        """Return how far the log has come when so many of the wanted entries are taken in."""
        is_all = count == len(positions)
        return Reached(
            run=self._chain.journal,
            position=group.upto if is_all else positions[count - 1],
            former=self._chain.former,
            made=self._made,
            number=group.place if is_all else self._number,
            begins=self._begins,
        )

    def _note(self, reached: Reached) -> None:
        """Note how far it has come, which is committed."""
        self._chain.take(reached.position)
        self._number = reached.number
        self.reached = reached
        if self._unsafe is None:
            self._unsafe = self._joined.store.journal.head, reached.position
        self.tell_reached()

    def _wanted(self, group: Group) -> "_Wanted":
        """Return what is to be taken in of a group, as it is to be written here."""
        positions: Sequence[int] = group.positions
        entries = group.entries
        behind = bisect_right(positions, self._chain.position)
        if behind:
            positions, entries = positions[behind:], entries[behind:]
        if EVERY_TYPE not in self._joined.link.imports:
            positions, entries = self._taken_of(positions, entries)
        lines = entries if isinstance(entries, Lines) else None
        events = decode_many([entry.payload for entry in entries] if lines is None else lines.payloads)
        if lines is not None and all(map(self._is_plain, set(map(type, events)))):
            ids = [event.event_id for event in events]
            levels = _levels_here(lines.levels)
            carried = Carried(ids, lines.payloads, levels, lines.walls_ns, self._header)
            return _Wanted(positions, Plain(events, carried))
        found: list[tuple[int, Arrival]] = []
        for position, entry, event in zip(positions, entries, events, strict=True):
            forged = self._forged(entry)
            if forged:
                self._put_away(entry, forged)
            else:
                found.append((position, self._arrival(event, self._as_imported(entry))))
        return _Wanted([position for position, _ in found], [arrival for _, arrival in found])

    def _taken_of(
        self, positions: Sequence[int], entries: Sequence[Entry]
    ) -> tuple[Sequence[int], Sequence[Entry]]:
        """Return what of some entries this desk imports."""
        if isinstance(entries, Lines):
            taken = [self._takes(payload, None) for payload in entries.payloads]
            return list(compress(positions, taken)), entries.chosen(taken)
        taken = [self._takes(entry.payload, entry.header) for entry in entries]
        return list(compress(positions, taken)), list(compress(entries, taken))

    def _takes(self, payload: bytes, header: Header | None) -> bool:
        """Return True if this desk imports an entry: of a type that is named, a kill switch, or an answer."""
        event_type = _kind_of(payload, header).event_type
        votes = header is not None and header.votes
        return bool(votes) or event_type in self._joined.link.imports or event_type == KILL_SWITCH

    def _is_plain(self, cls: type) -> bool:
        """Return True if all events of a class are ordinary ones: none needs to be looked at by itself."""
        found = self._plain.get(cls)
        if found is None:
            fixed = fixed_event_type(cls) if issubclass(cls, Event) else None
            found = fixed is not None and fixed not in RECORDS and fixed != KILL_SWITCH
            self._plain[cls] = found
        return found

    def _arrival(self, event: Any, entry: Entry) -> Arrival:
        header = entry.header
        assert header is not None, "it says which desk has made it"
        if entry.lane == "control" and type(event) is Undecodable:
            return Arrival(switch_of(entry.payload, header), entry)
        return Arrival(event, entry, partial(self._vote, event, header) if header.votes else None)

    def _vote(self, event: Any, header: Header, _position: int) -> None:
        self._votes.take(event, header)

    def _as_imported(self, entry: Entry) -> Entry:
        """Return an entry as it is written here: with the desk that has made it."""
        header = self._header
        if entry.header is not None:
            header = msgspec.structs.replace(entry.header, desk=self._desk)
        level = _level_here(entry.level)
        return Entry(entry.event_id, entry.payload, entry.lane, level, entry.wall_ns, header)

    def _forged(self, entry: Entry) -> str:
        """Return why another desk may not say this; empty if it may."""
        kind = _kind_of(entry.payload, entry.header)
        votes = entry.header is not None and entry.header.votes
        if kind.event_type in RECORDS and not (votes and kind.event_type == "round_abstained"):
            return f"{kind.event_type!r} is a record of a bus, which no desk gives to others"
        if (kind.event_type == KILL_SWITCH) != (entry.lane == "control"):
            return f"it is of type {kind.event_type!r}, and comes in the lane {entry.lane!r}"
        is_release = kind.event_type == KILL_SWITCH and kind.activated is False
        if is_release and not self._joined.may_release(self._desk):
            return "it releases a kill switch, and is not among the `releasers` of this desk's link"
        return ""

    def _put_away(self, entry: Entry, why: str) -> None:
        """File what another desk may not say as a dead letter of the link."""
        (event,) = decode_many([entry.payload])
        letter = DeadLetter(
            "(link)",
            cast(Any, entry.lane),
            event,
            "forged",
            f"desk {self._desk!r}: {why}",
            "",
            0,
            self._joined.bus.clock.wall_ns(),
        )
        log.error("desk %s: %s was not taken in: %s", self._desk, entry.event_id, why, extra=about(event))
        self._joined.bus.put_away(letter)


def _levels_here(levels: list[Level]) -> list[Level]:
    """Return `_level_here` of each; the list itself where none is another one here."""
    return levels if set(levels) <= _KEPT else list(map(_level_here, levels))


def _level_here(level: Level) -> Level:
    """Return what an entry of another desk must survive here: none of them stands beside."""
    return min(max(level, Level.PROCESS), Level.DISK)


class _Wanted(NamedTuple):
    """What is to be taken in of a group, and its positions."""

    positions: Sequence[int]
    arrivals: list[Arrival] | Plain

    def rest(self, count: int) -> "_Wanted":
        """Return what is behind the first `count` of it."""
        arrivals = self.arrivals
        if count == len(self.positions):
            return _NOTHING
        if isinstance(arrivals, Plain):
            rest: list[Arrival] | Plain = Plain(arrivals.events[count:], arrivals.entries[count:])
        else:
            rest = arrivals[count:]
        return _Wanted(self.positions[count:], rest)


_NOTHING: Final = _Wanted((), [])


def _kind_of(payload: bytes, header: Header | None) -> _Kind:
    """Return the type of an entry, and whether it activates."""
    try:
        kind = _read_kind(payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        kind = _Kind()
    if header is None or header.event_type is None:
        return kind
    return _Kind(header.event_type, kind.activated)
