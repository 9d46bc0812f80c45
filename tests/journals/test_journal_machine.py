"""A journal against a model: any order of writing, syncing, settling, retiring and restarting."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from journal_kit import entry

from openoutcry.journals import SqliteJournal, id_blocks, ids
from openoutcry.ports import BuriedEvent, Changes, CursorState, Entry, Level

NAMES = st.sampled_from(["risk", "cio", "audit"])
LANES = st.sampled_from(["control", "high", "normal"])
SMALL_RECENT = 5
SMALL_BLOCK = 7


class JournalMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.recent, ids.RECENT = ids.RECENT, SMALL_RECENT  # type: ignore[misc]  # so that ids leave the recent ones soon
        self.positions, id_blocks.POSITIONS = id_blocks.POSITIONS, SMALL_BLOCK  # type: ignore[misc]
        self.folder = Path(tempfile.mkdtemp())
        self.journal = SqliteJournal(self.folder / "firm.db", engine="sqlite3")
        self.log: dict[int, Entry] = {}
        self.batches: list[int] = []
        self.head = 0
        self.synced = 0
        self.cursors: dict[tuple[str, str], CursorState] = {}
        self.letters: list[str] = []

    def teardown(self) -> None:
        ids.RECENT = self.recent  # type: ignore[misc]
        id_blocks.POSITIONS = self.positions  # type: ignore[misc]
        self.journal.close()
        shutil.rmtree(self.folder)

    def expected(self, batch: list[Entry]) -> list[int]:
        where = {e.event_id: position for position, e in self.log.items()}
        positions = []
        for one in batch:
            if one.event_id not in where:
                self.head += 1
                where[one.event_id] = self.head
                self.log[self.head] = one
            positions.append(where[one.event_id])
        return positions

    @rule(
        numbers=st.lists(st.integers(0, 60), min_size=1, max_size=8),
        lane=LANES,
        disk=st.booleans(),
        save=st.none() | st.tuples(NAMES, LANES, st.integers(0, 50)),
    )
    def write(self, numbers: list[int], lane: str, disk: bool, save: Any) -> None:
        level = Level.DISK if disk else Level.PROCESS
        batch = [entry(f"id-{n}", lane=lane, level=level, wall_ns=n) for n in numbers]
        changes = None
        if save is not None:
            name, of_lane, floor = save
            floor = min(floor, self.head)
            settled = ((floor + 2, floor + 3),) if floor + 3 <= self.head else ()
            cursor = CursorState(subscription=name, lane=of_lane, floor=floor, settled=settled)
            letter = BuriedEvent(subscription=name, lane=of_lane, position=1, payload=b"{}", reason="failed")
            changes = Changes(cursors=[cursor], buried=[letter])
            self.cursors[name, of_lane] = cursor
            self.letters.append(name)
        before = self.head
        expected = self.expected(batch)
        written = self.journal.write(batch, changes)
        assert list(written.positions) == expected
        assert len(written.duplicates) == len(batch) - (self.head - before)
        assert all(d.same for d in written.duplicates)
        assert written.wants_sync == (disk and max(expected) > self.synced)
        if self.head > before:
            self.batches.append(self.head)

    @rule()
    def sync(self) -> None:
        self.synced = self.journal.sync()
        assert self.synced == self.head

    @rule(name=NAMES, lane=LANES)
    def drop_cursor(self, name: str, lane: str) -> None:
        self.journal.write((), Changes(dropped_cursors=[(name, lane)]))
        self.cursors.pop((name, lane), None)

    @rule()
    def reopen(self) -> None:
        self.journal.close()
        self.journal = SqliteJournal(self.folder / "firm.db", engine="sqlite3")
        self.synced = self.head

    @rule()
    def idle(self) -> None:
        self.journal.idle()

    @rule(keep=st.integers(0, 30), past=st.booleans())
    def retire(self, keep: int, past: bool) -> None:
        allowed = self.head if past else min((c.floor for c in self.cursors.values()), default=self.head)
        gone = [last for last in self.batches if last <= min(allowed, self.head - keep)]
        floor = gone[-1] if gone else 0
        assert self.journal.retire(keep_count=keep, past_cursors=past) == sum(p <= floor for p in self.log)
        self.batches = self.batches[len(gone) :]
        self.log = {p: e for p, e in self.log.items() if p > floor}

    @rule(number=st.integers(0, 60))
    def find(self, number: int) -> None:
        where = [p for p, e in self.log.items() if e.event_id == f"id-{number}"]
        assert self.journal.find(f"id-{number}") == (where[0] if where else None)

    @precondition(lambda self: self.head)
    @rule(data=st.data(), limit=st.integers(0, 12))
    def read(self, data: st.DataObject, limit: int) -> None:
        after = data.draw(st.integers(0, self.head))
        expected = [p for p in self.log if p > after][:limit]
        assert [e.position for e in self.journal.read(after, limit)] == expected
        tail = self.journal.tail(limit)
        assert [e.position for e in tail] == (list(self.log)[-limit:] if limit else [])

    @invariant()
    def the_books_agree(self) -> None:
        assert self.journal.head == self.head
        assert self.journal.cursors() == [c for _, c in sorted(self.cursors.items())]
        assert [b.subscription for b in self.journal.buried()] == self.letters

    @invariant()
    def the_file_verifies(self) -> None:
        with self.journal.reader() as reader:
            verified = reader.verify()
            assert verified.intact
            assert verified.entries == len(self.log)
            assert [e.payload for e in reader.read(0, 999)] == [e.payload for e in self.log.values()]


TestJournalMachine = JournalMachine.TestCase
TestJournalMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
