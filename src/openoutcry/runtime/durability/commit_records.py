"""Records in commits: what the recorder has collected goes into a commit, behind its events.

It goes with the next one when it has waited for `cursor_save_s`, when there is much of it, when it was
refused, or when it is what an operator did; before that with one that is synced. A commit that takes no
records reads an attribute or two. What was written is handed to the subscriptions that name its type.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from openoutcry.errors import JournalError
from openoutcry.events import RECORDS, RoundOpened, decode
from openoutcry.ports import Alike, Carried, Entry, Header, Journal, Level, Written
from openoutcry.runtime.delivery.dispatcher import Dispatcher
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.durability.recorder import Record, Recorder
from openoutcry.runtime.durability.taping import TapeWriter


class Records:
    """The records of one commit.

    Attributes:
        records: The records.
        known: Which of them the journal has not written, since it has their ids, by index.
        positions: Where they stand, once they are written.

    """

    __slots__ = ("_behind_count", "known", "positions", "records")

    def __init__(self, records: list[Record], behind_count: int) -> None:
        """Take records that are written behind so many events."""
        self.records: list[Record] = records
        self._behind_count = behind_count
        self.known: frozenset[int] = frozenset()
        self.positions: Sequence[int] = ()

    def written_beside(self, written: Written) -> Written:
        """Note where the records stand; return what was written of the events."""
        count = self._behind_count
        self.positions = written.positions[count:]
        if not written.duplicates:
            return Written(written.positions[:count], (), written.wants_sync)
        self.known = frozenset(d.index - count for d in written.duplicates if d.index >= count)
        duplicates = tuple(duplicate for duplicate in written.duplicates if duplicate.index < count)
        return Written(written.positions[:count], duplicates, written.wants_sync)


class Staged(Protocol):
    """A commit, as it is seen here."""

    ids: list[str]
    payloads: list[bytes]
    level: Level
    wall_ns: int
    entries: list[Entry] | Carried | None
    must_sync: bool
    records: Records | None


class Committing(Protocol):
    """What makes commits."""

    dead: JournalError | None

    def ask(self) -> object:
        """Have a commit made soon."""
        ...


class CommitRecords:
    """Brings the records of one bus into the commits of one journal.

    Attributes:
        recorder: What has the records.
        tape: What has the tape; None where the day is not recorded.
        are_due: Whether the next commit takes them along, whatever it is.

    """

    def __init__(
        self,
        bus: BusState,
        dispatcher: Dispatcher,
        journal: Journal,
        recorder: Recorder,
        tape: TapeWriter | None,
        header_of: Callable[[Any], Header | None],
        wait_s: float,
    ) -> None:
        self._bus = bus
        self._dispatcher = dispatcher
        self._journal = journal
        self.recorder: Recorder = recorder
        self.tape: TapeWriter | None = tape
        self._header_of = header_of
        self.are_due: bool = False
        self._wait_s = wait_s
        self._commits: Committing | None = None
        self._timer: asyncio.TimerHandle | None = None

    # -- in time ------------------------------------------------------------------------------------

    def begin(self, commits: Committing) -> None:
        """The bus runs: from now on a commit is asked for where none is due."""
        self._commits = commits
        self.recorder.begin(self._arm)
        if self.tape is not None:
            self.tape.begin(self._arm_tape)

    def end(self) -> None:
        """Ask for nothing more: what waits goes into the next journal that is opened."""
        self.recorder.end()
        if self.tape is not None:
            self.tape.end()
        if self._commits is not None and self._commits.dead is not None:
            self.recorder.tell_what_waits()
        self._commits = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, is_due: bool) -> None:
        self.are_due = self.are_due or is_due
        if self._timer is None and self._commits is not None and self._bus.loop is not None:
            self._timer = self._bus.loop.call_later(self._wait_s, self._ring)

    def _arm_tape(self, is_due: bool) -> None:
        self._arm(is_due)
        if is_due and self._commits is not None and self._commits.dead is None:
            self._commits.ask()

    def _ring(self) -> None:
        self._timer = None
        if self._commits is None or self._commits.dead is not None:
            return
        if self.recorder.has_more or (self.tape is not None and self.tape.has_any):
            self.are_due = True
            self._commits.ask()
        elif self.recorder.has_any:
            self._arm(is_due=False)  # a round is open: it says nothing when it is released

    # -- in commits ---------------------------------------------------------------------------------

    def write_beside(self) -> None:
        """Write the events at `memory` that are recorded, ahead of a commit. Raises what the journal does."""
        if self.tape is not None:
            self.tape.write_beside(self._journal, self._header_of)

    def entries_with(self, commit: Staged, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Return what is to be written: the entries of a commit and, behind them, the records if due."""
        is_synced = commit.must_sync or any(entry.level is Level.DISK for entry in commit.entries or ())
        if not (self.are_due or is_synced or commit.level is Level.DISK):
            return entries
        records = self._take(all_of_them=commit.must_sync)
        if not records:
            return entries
        commit.records = Records(records, len(commit.ids))
        ids = [record.event_id for record in records]
        payloads = [record.payload for record in records]
        if commit.entries is None and commit.ids:
            return Alike(commit.ids + ids, commit.payloads + payloads, commit.level, commit.wall_ns)
        return [*entries, *Alike(ids, payloads, Level.PROCESS, commit.wall_ns)]

    def _take(self, *, all_of_them: bool) -> list[Record]:
        is_apart = self._bus.router.is_named(RoundOpened)
        records = self.recorder.take(self._journal, all_of_them=all_of_them, apart=is_apart)
        part = None if self.tape is None else self.tape.record(self._journal)
        if part is not None:
            records.append(part)
        self.are_due = self.recorder.has_more
        if self.recorder.has_any:
            self._arm(self.are_due)
        return records

    def refused(self, commit: Staged) -> None:
        """A commit was not written: its records go with the next one."""
        if commit.records is not None:
            self.recorder.give_back(commit.records.records)
            commit.records = None

    def hand_out(self, records: Records, at_ns: int) -> None:
        """Hand the records of a commit that began at `at_ns` to those that name their types."""
        for index in records.known:
            self.recorder.note_known(records.records[index])
        if not any(map(self._bus.router.is_named, RECORDS.values())):
            return
        for index, (record, position) in enumerate(zip(records.records, records.positions, strict=True)):
            if index not in records.known:
                self._dispatcher.release_record(decode(record.payload), position, at_ns)
