"""Exports of a desk: to both logs, and what of them all other desks have, so that it need not be kept."""

import asyncio
import logging
from typing import Final

from openoutcry.core.cursors import LINK
from openoutcry.core.link_words import LinkWord
from openoutcry.core.runs import Run
from openoutcry.errors import Garbled, LinkError, LogGone, Unreachable
from openoutcry.links.wire import Ask, Beat, read_message
from openoutcry.ports import LOGS, CursorState, LogName
from openoutcry.runtime.linking.log_export import ClaimAgain, LogExport
from openoutcry.runtime.linking.other_desks import OtherDesks
from openoutcry.runtime.linking.parts import ENGINE, Joined
from openoutcry.runtime.linking.rows import Era, OwnRow, eras_after, read_own, write_row

log = logging.getLogger("openoutcry")

FLOOR_S: Final = 1.0
"""How often it is looked how far all other desks have come."""
TRIM_S: Final = 5.0
"""How often a log is trimmed at most."""
ALONE_SHARE: Final = 0.5
"""Without another desk, the log is trimmed when it has used this share of its room."""
END_LOOK_S: Final = 0.01
"""How often a stop looks whether all is exported."""


class Exporter:
    """The exports of one desk.

    Attributes:
        logs: What is exported, by log.
        has_copies: Whether the logs may have copies of what was to be replicated.

    """

    def __init__(self, joined: Joined, others: OtherDesks, claim_again: ClaimAgain) -> None:
        self._joined = joined
        self._others = others
        self._theirs: dict[tuple[str, LogName], int] = {}
        self._may_trim = True
        self._eras: tuple[Era, ...] = ()
        self.has_copies: bool = False
        self.logs: dict[LogName, LogExport] = {
            log_name: LogExport(joined, log_name, claim_again, self._begin_run, self._said_of)
            for log_name in LOGS
        }
        others.on_beat(self._heard)
        joined.bus.on_released.append(self._released)

    async def open(self) -> None:
        """Find out from where on this journal exports: from the first opening with a link on."""
        joined, store = self._joined, self._joined.store
        own = read_own(store.journal)
        floors = {c.lane: c.floor for c in store.journal.cursors() if c.subscription == LINK}
        self.has_copies = own is not None and own.has_copies
        link = joined.link
        self._eras = eras_after(own, link.exports, link.keep, link.imports, store.journal)
        self._theirs.clear()
        self._may_trim = True
        for log_name, one in self.logs.items():
            floor = floors.get(log_name, store.commits.born_at)
            known = None if own is None else Run.read(own.runs.get(log_name, ""))
            if known is None or known.origin != store.origin:
                known = Run(store.origin, begins=floor)
            one.has_copies = own is not None and own.has_copies
            bare = floor if own is None else own.bare.get(log_name, floor)
            one.open(known, floor, bare, floor if own is None else own.ends.get(log_name, floor))
        self._save_floors()
        await joined.transport.listen("ask", self._asked, urgent=True)

    def begin(self) -> None:
        """Export from now on."""
        for log_name, one in self.logs.items():
            self._joined.run(f"export {log_name}", one.work)
        self._joined.run("what others have", self._look)

    async def end(self, timeout_s: float) -> None:
        """Export what is left, as long as the engine takes it."""
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + timeout_s
        while loop.time() < ends_s and any(one.goes_on for one in self.logs.values()):  # noqa: ASYNC110
            await asyncio.sleep(END_LOOK_S)
        self._save_floors()

    def _released(self, upto: int, is_plain: bool, is_imported: bool) -> None:
        for one in self.logs.values():
            one.released(upto, is_plain=is_plain, is_imported=is_imported)

    def _asked(self, _desk: str, data: bytes) -> None:
        """Another desk asks for what it lacks."""
        try:
            ask = read_message(Ask, data)
        except Garbled as error:
            log.debug("what a desk asks for cannot be read: %s", error)
            return
        if ask.desk != self._joined.desk or ask.kill:
            return
        one, run = self.logs[ask.log], Run.read(ask.journal)
        if not ask.journal:  # it has nothing of this journal: what it lacks in the end, it asks for then
            one.ask(max(one.run.begins, one.floor))
        elif run is not None and run.origin == one.run.origin:
            one.ask(one.run.goes_on_at(run, ask.after))

    # -- what all others have -----------------------------------------------------------------------

    def _heard(self, desk: str, _beat: Beat) -> None:
        """Note how far another desk has come with what this one exports."""
        for said in self._others.desks[desk].has_of_ours.values():
            run = Run.read(said.journal)
            mine = self.logs[said.log].run
            if run is not None and run.origin == mine.origin and self.logs[said.log].is_found:
                if run.epoch == mine.epoch:
                    self.logs[said.log].note_more(said.position)
                reached = mine.goes_on_at(run, said.safe)
                self.logs[said.log].note_reached(mine.goes_on_at(run, said.position))
                self._theirs[desk, said.log] = max(reached, self._theirs.get((desk, said.log), 0))

    def _said_of(self, log_name: LogName, mine: Run) -> int:
        """Return the last position of this desk's journal, in a run, that another desk says it has."""
        said = (other.has_of_ours.get(log_name) for other in self._others.desks.values())
        positions = [
            one.position
            for one in said
            if one is not None
            and (run := Run.read(one.journal)) is not None
            and (run.origin, run.epoch) == (mine.origin, mine.epoch)
        ]
        return max(positions, default=0)

    async def _look(self) -> None:
        """Keep no more than others need: in the journal, and in the logs."""
        turns = 0
        while True:
            await asyncio.sleep(FLOOR_S)
            turns += 1
            ends: dict[LogName, tuple[int, int]] = {log_name: one.ends for log_name, one in self.logs.items()}
            try:
                seats = await self._joined.transport.seats()
            except LinkError as error:
                self._joined.problems[ENGINE] = (LinkWord.STALLED, f"the engine does not answer: {error}")
                continue
            self._joined.problems.pop(ENGINE, None)
            self._others.note_seats(seats, self._joined.desk, self._joined.now_ns())
            self._note_floors(ends)
            if self._may_trim and turns % int(TRIM_S / FLOOR_S) == 0:
                await self._trim_if_permitted()

    def _note_floors(self, ends: dict[LogName, tuple[int, int]]) -> None:
        others, has_moved = list(self._others.desks), False
        for log_name, one in self.logs.items():
            if not one.is_found:
                continue  # a journal that has lost its end has given their positions to other events
            theirs = [self._theirs.get((desk, log_name), one.floor) for desk in others]
            has_moved = one.note_floor(theirs, ends[log_name]) or has_moved
        if has_moved:
            self._save_floors()

    def _save_floors(self) -> None:
        self._write_own()
        self._joined.store.saving.put(
            CursorState(subscription=LINK, lane=log_name, floor=one.floor)
            for log_name, one in self.logs.items()
        )

    async def _trim_if_permitted(self) -> None:
        try:
            await self._trim()
        except Unreachable:
            return
        except LinkError as error:
            self._may_trim = False
            log.info("desk %s does not trim the logs itself: %s", self._joined.desk, error)

    async def _trim(self) -> None:
        """Remove from the logs what all others have imported, and what this journal has on the disk."""
        journal, transport = self._joined.store.journal, self._joined.transport
        safe = journal.synced
        facts = None if self._others.desks else await transport.facts()
        for log_name, one in self.logs.items():
            size = next((s for s in (facts.logs if facts else ()) if s.log == log_name), None)
            upto = one.trims_upto(safe)
            is_roomy = size is not None and size.size_bytes < ALONE_SHARE * (size.most_bytes or 2**63)
            is_due = upto > one.trimmed or one.after < one.floor
            if is_due and not is_roomy:
                one.trimmed = upto  # unless it is exported again meanwhile
                try:
                    await transport.trim(log_name, self._joined.desk, upto)
                except LinkError as error:
                    one.trimmed = 0
                    if not isinstance(error, LogGone):  # which says nothing of the other one
                        raise

    def _begin_run(self) -> None:
        """A log is exported in another run: what others have is known in the positions of the one before."""
        for desk, log_name in self._theirs:
            one = self.logs[log_name]
            self._theirs[desk, log_name] = min(self._theirs[desk, log_name], one.run.same)
        self._save_floors()

    async def expect_copies(self) -> None:
        """Have it on the disk that the logs may have copies, before the first one is there."""
        if not self.has_copies:
            self.has_copies = True
            self._write_own()
            await self._joined.store.saving.save(sync=True)

    def _write_own(self) -> None:
        """Have it written what this desk is, and in which runs it exports."""
        joined, logs = self._joined, self.logs.items()
        row = OwnRow.of(
            joined.link,
            runs={log_name: one.run.name for log_name, one in logs},
            ends={log_name: one.after for log_name, one in logs},
            bare={log_name: one.bare for log_name, one in logs},
            has_copies=self.has_copies,
            met=joined.met,
            eras=self._eras,
        )
        joined.store.saving.remember(write_row(LINK, row, joined.bus.clock.wall_ns()))
