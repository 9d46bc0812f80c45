"""Where agents' memory begins: kept with the commit, given back as it was, and what retention leaves for it."""

import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_kit import Factory, entries, verify

from openoutcry.core.halts import Halt
from openoutcry.errors import JournalCorrupt, JournalDead, JournalError
from openoutcry.journals import JournalReader, MemoryJournal, SqliteJournal
from openoutcry.ports import (
    BuriedEvent,
    Changes,
    CursorState,
    Era,
    Holder,
    Journal,
    Snapshot,
    records,
)

NAMES = ("book", "risk", "cio")


def snapshot(name: str = "book", **more: Any) -> Snapshot:
    values: dict[str, Any] = {
        "form": "bytes",
        "is_needed": True,
        "lanes": {"control": (4, ()), "high": (6, ()), "normal": (5, ((7, 8),))},
        "open": ((2, 2), (4, 5)),
        "eras": (Era(("fill", "*"), {"normal": (3, ())}), Era((), {"high": (4, ((6, 6),))})),
        "wall_ns": 1_764_000_000_000_000_000,
        "state": b"\x00state\xff",
        **more,
    }
    return Snapshot(subscription=name, **values)


def cursor(name: str, floor: int) -> CursorState:
    return CursorState(subscription=name, lane="normal", floor=floor)


def letter(name: str, position: int) -> BuriedEvent:
    return BuriedEvent(subscription=name, lane="normal", position=position, payload=b"{}", reason="failed")


# Kept and given back


def test_a_snapshot_comes_back_as_it_was_saved_after_a_restart_too(factory: Factory) -> None:
    journal = factory.open()
    saved = [snapshot("b\u00e9"), snapshot("a", form="json", state=b'{"position":17}', eras=(), open=())]
    journal.write(entries(8), Changes(snapshots=saved))
    journal = factory.reopen(journal)
    assert [journal.snapshot(one.subscription) for one in saved] == saved
    assert journal.snapshot("c") is None


def test_a_state_that_is_too_large_is_refused_before_it_can_harm_the_journal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(records, "STATE_BYTES_MAX", 5)
    assert snapshot(state=b"12345").state == b"12345"
    with pytest.raises(JournalError, match="the state of 'book' has 6 bytes; at most 5 are saved"):
        snapshot(state=b"123456")


def test_all_are_listed_by_name_without_their_states(journal: Journal) -> None:
    journal.write((), Changes(snapshots=[snapshot("b", state=b"x" * 70_000), snapshot("a", state=b"")]))
    assert journal.snapshots() == [snapshot("a", state=b""), snapshot("b", state=b"")]
    assert journal.snapshot_sizes() == {"a": 0, "b": 70_000}


def test_a_newer_snapshot_takes_the_place_of_the_one_before(factory: Factory) -> None:
    journal = factory.open()
    journal.write((), Changes(snapshots=[snapshot(), snapshot("risk")]))
    journal.write((), Changes(snapshots=[snapshot(form="none", state=b"", lanes={})]))
    journal = factory.reopen(journal)
    assert journal.snapshot("book") == snapshot(form="none", state=b"", lanes={})
    assert journal.snapshot("risk") == snapshot("risk")


def test_tombstones_are_a_set_per_subscription(factory: Factory) -> None:
    journal = factory.open()
    journal.write(entries(9), Changes(tombstones=[("book", 7), ("risk", 2), ("book", 3)]))
    journal.write((), Changes(tombstones=[("book", 3), ("book", 9)]))
    journal = factory.reopen(journal)
    assert journal.tombstones("book") == [3, 7, 9]
    assert journal.tombstones("risk") == [2]
    assert journal.tombstones("cio") == []


def test_what_is_forgotten_goes_before_what_is_new_in_the_same_commit(journal: Journal) -> None:
    journal.write(
        (), Changes(snapshots=[snapshot(), snapshot("risk")], tombstones=[("book", 1), ("risk", 1)])
    )
    new = snapshot(form="none", state=b"")
    journal.write((), Changes(forgotten=["book", "risk"], snapshots=[new], tombstones=[("book", 2)]))
    assert (journal.snapshot("book"), journal.snapshot("risk")) == (new, None)
    assert (journal.tombstones("book"), journal.tombstones("risk")) == ([2], [])


def test_a_renamed_subscription_takes_everything_along_and_replaces_what_was_there(
    factory: Factory,
) -> None:
    journal = factory.open()
    journal.write((), Changes(snapshots=[snapshot(), snapshot("risk", wall_ns=1)]))
    journal.write((), Changes(tombstones=[("book", 1), ("book", 5), ("risk", 9)]))
    journal.write((), Changes(renamed=[("book", "risk"), ("nobody", "cio")]))
    journal = factory.reopen(journal)
    assert (journal.snapshot("book"), journal.snapshot("risk")) == (None, snapshot("risk"))
    assert (journal.tombstones("book"), journal.tombstones("risk")) == ([], [1, 5])
    assert (journal.snapshot("cio"), journal.tombstones("cio")) == (None, [])


def test_a_subscription_renamed_to_itself_keeps_everything(journal: Journal) -> None:
    journal.write((), Changes(snapshots=[snapshot()], tombstones=[("book", 1)]))
    journal.write((), Changes(renamed=[("book", "book")]))
    assert (journal.snapshot("book"), journal.tombstones("book")) == (snapshot(), [1])


# What retention leaves


def kept_from(journal: Journal, **wishes: Any) -> int:
    while journal.retire(keep_count=0, **wishes):
        pass
    return journal.first


def singly(journal: Journal, number: int) -> None:
    for one in entries(number):
        journal.write([one])


def test_retention_never_passes_what_a_memory_needs_unless_told_so_by_name(journal: Journal) -> None:
    singly(journal, 20)
    lanes = {"normal": (9, ((11, 15),)), "high": (6, ())}
    journal.write((), Changes(cursors=[cursor("book", 20), cursor("risk", 18)]))
    journal.write(
        (),
        Changes(
            snapshots=[
                snapshot(lanes=lanes, open=()),
                snapshot("risk", lanes={"normal": (12, ())}, open=()),
            ]
        ),
    )
    assert journal.held_by() == [
        Holder(subscription="book", why="memory", position=6),
        Holder(subscription="risk", why="memory", position=12),
        Holder(subscription="risk", why="cursor", position=18),
        Holder(subscription="book", why="cursor", position=20),
    ]
    assert kept_from(journal) == 7
    assert kept_from(journal, past_memory=["risk", "unknown"]) == 7
    assert kept_from(journal, past_cursors=True) == 7
    assert kept_from(journal, past_memory=["book"]) == 13
    assert kept_from(journal, past_memory=["book", "risk"]) == 19
    assert kept_from(journal, past_memory=["book", "risk"], past_cursors=True) == 21


def test_a_snapshot_of_a_subscription_without_memory_holds_nothing_back(journal: Journal) -> None:
    singly(journal, 5)
    journal.write((), Changes(snapshots=[snapshot(is_needed=False, form="none", state=b"", lanes={})]))
    journal.write((), Changes(buried=[letter("book", 2)]))
    assert journal.held_by() == []
    assert kept_from(journal) == 6


def test_what_was_a_dead_letter_at_the_saved_state_is_kept_until_the_next_one(journal: Journal) -> None:
    singly(journal, 9)
    at_nine: dict[str, Any] = {"normal": (9, ())}
    journal.write((), Changes(snapshots=[snapshot(lanes=at_nine, open=((4, 5), (7, 7)))]))
    assert journal.held_by() == [Holder(subscription="book", why="memory", position=3)]
    assert kept_from(journal) == 4, "it may have been handled since, by a redrive"
    journal.write((), Changes(snapshots=[snapshot(lanes=at_nine, open=())]))
    assert kept_from(journal) == 10


def test_the_earliest_position_of_a_memorys_dead_letters_is_kept(factory: Factory) -> None:
    journal = factory.open()
    singly(journal, 9)
    journal.write((), Changes(snapshots=[snapshot(lanes={"normal": (9, ())}, open=())]))
    journal.write((), Changes(buried=[letter("book", at) for at in (6, 0, 4, 8)] + [letter("risk", 1)]))
    journal = factory.reopen(journal)
    assert Holder(subscription="book", why="dead letter", position=3) in journal.held_by()
    assert kept_from(journal) == 4
    journal.write((), Changes(removed_letters=[3]))
    assert kept_from(journal) == 6
    assert kept_from(journal, past_memory=["book"]) == 10


def test_tombstones_go_with_the_entries_that_they_are_about(factory: Factory) -> None:
    journal = factory.open()
    for _ in range(4):
        journal.write(entries(3))
    journal.write((), Changes(tombstones=[(name, at) for name in NAMES for at in (1, 6, 7, 12)]))
    assert journal.retire(keep_count=5) == 6
    journal = factory.reopen(journal)
    assert [journal.tombstones(name) for name in NAMES] == [[7, 12]] * 3


# Both journals against a plain model

POSITIONS = st.integers(0, 30)
STRETCHES = st.lists(st.tuples(POSITIONS, POSITIONS), max_size=2).map(tuple)
PLACES = st.dictionaries(st.sampled_from(["control", "high", "normal"]), st.tuples(POSITIONS, STRETCHES))
SNAPSHOTS = st.builds(
    Snapshot,
    subscription=st.sampled_from(NAMES),
    form=st.sampled_from(["bytes", "json", "none"]),
    is_needed=st.booleans(),
    lanes=PLACES,
    open=STRETCHES,
    eras=st.lists(st.builds(Era, st.lists(st.text(), max_size=2).map(tuple), PLACES), max_size=2).map(tuple),
    wall_ns=st.integers(0, 2**62),
    state=st.binary(max_size=9),
)
NAME = st.sampled_from(NAMES)
STEPS = st.one_of(
    st.builds(
        Changes,
        renamed=st.lists(st.tuples(NAME, NAME), max_size=1),
        forgotten=st.lists(NAME, max_size=1),
        snapshots=st.lists(SNAPSHOTS, max_size=2),
        tombstones=st.lists(st.tuples(NAME, st.integers(1, 30)), max_size=3),
        cursors=st.lists(st.builds(cursor, NAME, POSITIONS), max_size=1),
        buried=st.lists(st.builds(letter, NAME, POSITIONS), max_size=2),
        removed_letters=st.lists(st.integers(1, 9), max_size=1),
    ),
    st.just("reopen"),
    st.integers(1, 4),
    st.tuples(st.integers(0, 20), st.booleans(), st.lists(NAME, max_size=2)),
)


class Model:
    """The same in plain data: what a reader of the port's description expects."""

    def __init__(self) -> None:
        self.head = self.floor = self.letter_id = 0
        self.batches: list[int] = []
        self.snapshots: dict[str, Snapshot] = {}
        self.tombstones: set[tuple[str, int]] = set()
        self.cursors: dict[str, int] = {}
        self.letters: dict[int, tuple[str, int]] = {}

    def write(self, number: int) -> None:
        self.head += number
        self.batches.append(self.head)

    def change(self, changes: Changes) -> None:
        self.cursors.update((c.subscription, c.floor) for c in changes.cursors)
        for buried in changes.buried:
            self.letter_id += 1
            self.letters[self.letter_id] = buried.subscription, buried.position
        for letter_id in changes.removed_letters:
            self.letters.pop(letter_id, None)
        for old, new in changes.renamed:
            if old != new:
                places = {at for name, at in self.tombstones if name == old}
                found = self.snapshots.pop(old, None)
                self.forget(old)
                self.forget(new)
                self.tombstones |= {(new, at) for at in places}
                if found is not None:
                    values = {name: getattr(found, name) for name in Snapshot.__struct_fields__}
                    self.snapshots[new] = Snapshot(**{**values, "subscription": new})
        for name in changes.forgotten:
            self.forget(name)
        self.snapshots.update((s.subscription, s) for s in changes.snapshots)
        self.tombstones |= set(changes.tombstones)

    def forget(self, name: str) -> None:
        self.snapshots.pop(name, None)
        self.tombstones = {one for one in self.tombstones if one[0] != name}

    def held_by(self) -> set[tuple[str, str, int]]:
        found = {(name, "cursor", floor) for name, floor in self.cursors.items()}
        for name, one in self.snapshots.items():
            if one.is_needed:
                floors = [floor for floor, _ in one.lanes.values()] or [0]
                found.add((name, "memory", min(floors + [first - 1 for first, _ in one.open])))
                places = [at for whose, at in self.letters.values() if whose == name and at]
                if places:
                    found.add((name, "dead letter", min(places) - 1))
        return found

    def retire(self, keep: int, past_cursors: bool, past_memory: list[str]) -> int:
        allowed = [self.head - keep]
        for name, why, position in self.held_by():
            if not (past_cursors if why == "cursor" else name in past_memory):
                allowed.append(position)
        before = self.floor
        while self.batches and self.batches[0] <= min(allowed):
            self.floor = self.batches.pop(0)
        if self.floor > before:
            self.tombstones = {one for one in self.tombstones if one[1] > self.floor}
        return self.floor - before


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(STEPS, max_size=12), in_memory=st.booleans())
def test_any_changes_leave_what_a_plain_model_says(steps: list[Any], in_memory: bool) -> None:
    model = Model()
    with tempfile.TemporaryDirectory() as folder:
        journal: Journal = MemoryJournal() if in_memory else SqliteJournal(Path(folder) / "firm.db")
        try:
            for _ in range(10):  # so that no cursor is ahead of the log
                journal.write(entries(3))
                model.write(3)
            for step in steps:
                if step == "reopen":
                    journal.close()
                    fresh = isinstance(journal, MemoryJournal)
                    journal = journal.reopened() if fresh else SqliteJournal(Path(folder) / "firm.db")  # type: ignore[attr-defined]
                elif isinstance(step, int):
                    journal.write(entries(step))
                    model.write(step)
                elif isinstance(step, Changes):
                    journal.write((), step)
                    model.change(step)
                else:
                    keep, past_cursors, past_memory = step
                    went = journal.retire(keep_count=keep, past_cursors=past_cursors, past_memory=past_memory)
                    assert went == model.retire(keep, past_cursors, past_memory)
                assert {name: journal.snapshot(name) for name in NAMES} == {
                    name: model.snapshots.get(name) for name in NAMES
                }
                assert [s.subscription for s in journal.snapshots()] == sorted(model.snapshots)
                for name in NAMES:
                    expected = sorted(at for whose, at in model.tombstones if whose == name)
                    assert journal.tombstones(name) == expected
                found = journal.held_by()
                assert {(h.subscription, h.why, h.position) for h in found} == model.held_by()
                assert [h.position for h in found] == sorted(h.position for h in found)
        finally:
            journal.close()


# Damage in a file


def edit(path: Path, sql: str, *values: object) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(sql, values)
    db.close()


@pytest.fixture(params=[None, b"k" * 32])
def key(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize(
    "change",
    [
        "state = x'00'",
        "state = CAST(state AS TEXT)",
        "wall_ns = wall_ns + 1",
        "form = 'none'",
        "cursors = replace(cursors, '[5,', '[6,')",
        "cursors = '{}'",
        "cursors = 7",
        "checksum = 7",
        "subscription = 'bool'",
        "subscription = 7",
        "subscription = x'ff'",
        "cursors = CAST(cursors AS BLOB)",
        "cursors = replace(cursors, ',', ', ')",
    ],
)
def test_a_damaged_snapshot_is_an_error_for_its_subscription_and_never_none(
    path: Path, key: bytes | None, change: str
) -> None:
    with SqliteJournal(path, key=key) as journal:
        journal.write(entries(8), Changes(snapshots=[snapshot(), snapshot("risk")]))
    edit(path, f"UPDATE snapshots SET {change} WHERE subscription = 'book'")
    if key is not None and not change.startswith(("state", "checksum")):
        with pytest.raises(JournalCorrupt, match=r"snapshots of 'book': rows there: 0|a row is not the one"):
            SqliteJournal(path, key=key)
        return
    with SqliteJournal(path, key=key) as journal:
        with pytest.raises(JournalCorrupt, match=r"the snapshot of 'book'|is damaged .*UTF-8"):
            journal.snapshot("book")
        assert journal.snapshot("risk") == snapshot("risk"), "the others are not concerned"
        assert not verify(journal).intact


@pytest.mark.parametrize("change", ["cursors = replace(cursors, '[5,', '[6,')", "subscription = 'cio'"])
def test_retention_stops_at_a_snapshot_whose_places_are_damaged(path: Path, change: str) -> None:
    with SqliteJournal(path) as journal:
        journal.write(entries(8), Changes(snapshots=[snapshot()]))
    edit(path, f"UPDATE snapshots SET {change}")
    name = "cio" if "cio" in change else "book"
    with SqliteJournal(path) as journal:
        assert journal.held_by()[0] == Holder(subscription=name, why="memory", position=0)
        assert kept_from(journal) == 1
        assert kept_from(journal, past_memory=[name]) == 9


def test_retention_and_listings_do_not_read_the_states(path: Path) -> None:
    with SqliteJournal(path) as journal:
        journal.write(entries(8), Changes(snapshots=[snapshot(state=b"x" * 3_000_000)]))
    edit(path, "UPDATE snapshots SET state = zeroblob(3000000)")
    with SqliteJournal(path) as journal, JournalReader(path) as reader:
        assert journal.snapshots() == reader.snapshots() == [snapshot(state=b"")]
        assert journal.snapshot_sizes() == reader.snapshot_sizes() == {"book": 3_000_000}
        assert journal.held_by() == reader.held_by()
        with pytest.raises(JournalCorrupt, match="'book'"):
            reader.snapshot("book")


@pytest.mark.parametrize(
    "change",
    [
        "position = 4",
        "position = 3.5",
        "subscription = 'risk'",
        "subscription = x'ff'",
        "checksum = x'00'",
        "checksum = 7",
    ],
)
def test_a_damaged_tombstone_is_an_error_and_never_one_less(
    path: Path, key: bytes | None, change: str
) -> None:
    with SqliteJournal(path, key=key) as journal:
        journal.write(entries(8), Changes(tombstones=[("book", 3), ("cio", 2)]))
    edit(path, f"UPDATE tombstones SET {change} WHERE subscription = 'book'")
    for _ in range(2):
        if key is not None:
            with pytest.raises(JournalCorrupt, match="tombstones of 'book'"):
                SqliteJournal(path, key=key)
        else:
            with SqliteJournal(path) as journal, pytest.raises(JournalCorrupt, match="tombstone"):
                journal.tombstones("book")
        with JournalReader(path, key=key) as reader, pytest.raises(JournalCorrupt, match="tombstone"):
            reader.tombstones("book")


def test_a_damaged_snapshot_is_not_renamed_as_if_it_were_whole(path: Path) -> None:
    with SqliteJournal(path) as journal:
        journal.write(entries(8), Changes(snapshots=[snapshot(state=b"state")]))
    edit(path, "UPDATE snapshots SET state = x'0000000000'")
    with SqliteJournal(path) as journal:
        with pytest.raises(JournalCorrupt):
            journal.write(entries(1), Changes(renamed=[("book", "risk")]))
        assert (journal.head, journal.snapshot_sizes()) == (8, {"book": 5})
        journal.write(entries(1), Changes(forgotten=["book"]))
        assert journal.snapshot("book") is None


def test_a_reader_without_the_key_shows_what_stands_there(path: Path) -> None:
    with SqliteJournal(path, key=b"k" * 32) as journal:
        journal.write(entries(8), Changes(snapshots=[snapshot()], tombstones=[("book", 3)]))
    with JournalReader(path) as reader:
        assert reader.snapshot("book") == snapshot()
        assert reader.tombstones("book") == [3]


def test_a_file_of_an_earlier_build_gets_the_index_of_the_dead_letters(path: Path) -> None:
    SqliteJournal(path).close()
    edit(path, "DROP INDEX dead_letters_by_position")
    with SqliteJournal(path) as journal:
        singly(journal, 3)
        journal.write(
            (), Changes(snapshots=[snapshot(lanes={"normal": (3, ())})], buried=[letter("book", 2)])
        )
        assert kept_from(journal) == 2
    db = sqlite3.connect(path)
    plan = db.execute(
        "EXPLAIN QUERY PLAN SELECT min(position) FROM dead_letters WHERE subscription = 'a' AND position > 0"
    ).fetchall()
    db.close()
    assert "COVERING INDEX dead_letters_by_position" in str(plan)


def test_a_dead_journal_retires_nothing(path: Path) -> None:
    with SqliteJournal(path) as journal:
        singly(journal, 3)
        journal.refuse(JournalDead("no"))
        with pytest.raises(JournalDead):
            journal.retire(keep_count=0, past_memory=["book"])


@pytest.mark.parametrize("table", ["meta", "cursors", "dead_letters", "snapshots", "tombstones", "halts"])
def test_text_that_is_none_any_more_is_damage(path: Path, engine: Any, table: str) -> None:
    halt = Halt(scope="firm", event_id="k-1")
    with SqliteJournal(path, engine=engine) as journal:
        beside = Changes(cursors=[cursor("book", 3)], buried=[letter("book", 3)], halts=[halt])
        journal.write(entries(3), beside)
        journal.write((), Changes(snapshots=[snapshot()], tombstones=[("book", 3)]))
    column = {"meta": "value", "halts": "scope"}.get(table, "subscription")
    edit(path, f"UPDATE {table} SET {column} = CAST(x'ff' AS TEXT)")

    def read() -> None:
        with SqliteJournal(path, engine=engine) as journal:
            journal.buried()
            journal.tombstones("book")
            journal.halts()
            journal.snapshot("book")

    with pytest.raises(JournalCorrupt):
        read()
