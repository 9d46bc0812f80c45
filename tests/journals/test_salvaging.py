"""Agents' memory over a recovery: carried whole, or marked as lost by name; never smaller in silence."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from journal_kit import entries, verify

from openoutcry.journals import Recovered, SqliteJournal, recover_into
from openoutcry.ports import BuriedEvent, Changes, CursorState, Snapshot

NAMES = ("book", "cio", "risk1", "risk3")
LANES_ALL = ("control", "high", "normal")
LANES = {"normal": (4, ((6, 6),))}


def kept(name: str, **more: Any) -> Snapshot:
    values = {"form": "bytes", "is_needed": True, "lanes": LANES, "state": name.encode() * 3, **more}
    return Snapshot(subscription=name, **values)


@pytest.fixture(params=[None, b"k" * 32], ids=["plain", "keyed"])
def key(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def old(path: Path, key: bytes | None) -> Path:
    """Four subscriptions with a memory and a tombstone each, and one that never had a snapshot."""
    with SqliteJournal(path, key=key) as journal:
        cursors = [CursorState(subscription=name, lane="normal", floor=6) for name in (*NAMES, "audit")]
        letter = BuriedEvent(subscription="cio", lane="normal", position=2, payload=b"{}", reason="failed")
        journal.write(
            entries(8),
            Changes(
                cursors=cursors,
                buried=[letter],
                snapshots=[kept(name) for name in NAMES],
                tombstones=[(name, 5) for name in NAMES],
            ),
        )
    return path


def edited(old: Path, key: bytes | None, *statements: str) -> tuple[Recovered, SqliteJournal]:
    db = sqlite3.connect(old, isolation_level=None)
    for statement in statements:
        db.execute(statement)
    db.close()
    recovered = recover_into(old, old.with_name("new.db"), key=key)
    return recovered, SqliteJournal(recovered.path, key=key)


def forms(journal: SqliteJournal) -> dict[str, str]:
    return {snapshot.subscription: snapshot.form for snapshot in journal.snapshots()}


WHOLE = dict.fromkeys(NAMES, "bytes")


def test_everything_is_carried_over(old: Path, key: bytes | None) -> None:
    recovered, journal = edited(old, key)
    with journal:
        assert recovered.beside == ()
        assert [journal.snapshot(name) for name in NAMES] == [kept(name) for name in NAMES]
        assert [journal.tombstones(name) for name in NAMES] == [[5]] * 4
        assert forms(journal) == WHOLE, "who never had a snapshot has none"


def test_a_damaged_state_is_lost_by_name(old: Path, key: bytes | None) -> None:
    recovered, journal = edited(old, key, "UPDATE snapshots SET state = x'00' || state WHERE rowid = 2")
    with journal:
        (said,) = recovered.beside
        assert "the memory of 'cio' is lost" in said
        assert forms(journal) == {**WHOLE, "cio": "lost"}


def test_a_state_of_the_right_size_that_is_damaged_keeps_its_places(old: Path, key: bytes | None) -> None:
    _, journal = edited(old, key, "UPDATE snapshots SET state = zeroblob(length(state)) WHERE rowid = 2")
    with journal:
        assert journal.snapshot("cio") == kept("cio", form="lost", state=b"")
        assert [h.position for h in journal.held_by() if h.subscription == "cio"] == [1, 4, 6]


@pytest.mark.parametrize("change", ["cursors = '{}'", "wall_ns = 7", "form = 'json'", "cursors = x'ff'"])
def test_damaged_places_are_lost_by_name(old: Path, key: bytes | None, change: str) -> None:
    recovered, journal = edited(old, key, f"UPDATE snapshots SET {change} WHERE subscription = 'cio'")
    with journal:
        assert forms(journal) == {**WHOLE, "cio": "lost", "audit": "lost"}
        assert journal.snapshot("cio") == Snapshot(subscription="cio", form="lost", is_needed=False, lanes={})
        assert any("'cio' is lost" in said for said in recovered.beside)
        assert any("'audit' is lost: a damaged one may be its" in said for said in recovered.beside)


def test_the_owner_of_a_damaged_name_does_not_begin_anew(old: Path, key: bytes | None) -> None:
    _, journal = edited(old, key, "UPDATE snapshots SET subscription = 'cip' WHERE subscription = 'cio'")
    with journal:
        assert forms(journal) == {**WHOLE, "cio": "lost", "cip": "lost", "audit": "lost"}


def test_a_table_that_cannot_be_read_leaves_nobody_to_begin_anew(old: Path, key: bytes | None) -> None:
    recovered, journal = edited(old, key, "DROP TABLE snapshots")
    with journal:
        assert forms(journal) == dict.fromkeys((*NAMES, "audit"), "lost")
        told = [said for said in recovered.beside if said.startswith("snapshots: the memory of")]
        assert len(told) == 5


def test_a_damaged_tombstone_makes_the_memory_of_its_subscription_lost(old: Path, key: bytes | None) -> None:
    recovered, journal = edited(old, key, "UPDATE tombstones SET position = 4 WHERE subscription = 'cio'")
    with journal:
        assert forms(journal) == {**WHOLE, "cio": "lost"}
        sealed = [] if key is None else ["tombstones of 'cio'"]
        told = [said.partition(":")[0] for said in recovered.beside]
        assert told == [*sealed, "tombstones", "snapshots"]
        assert journal.tombstones("book") == [5]


@pytest.mark.parametrize("name", ["risk2", "nobody", "audit"])
def test_a_tombstone_whose_name_alone_is_damaged_is_given_back_to_its_owner(
    old: Path, key: bytes | None, name: str
) -> None:
    recovered, journal = edited(
        old, key, f"UPDATE tombstones SET subscription = '{name}' WHERE subscription = 'risk3'"
    )
    with journal:
        if key is None:
            assert (recovered.beside, forms(journal)) == ((), WHOLE)
        else:  # the seal says that somebody has changed it
            assert {said.partition(":")[0] for said in recovered.beside} >= {"tombstones of 'risk3'"}
            assert forms(journal) == {**WHOLE, "risk3": "lost", name: "lost"}
        assert (journal.tombstones("risk3"), journal.tombstones(name)) == ([5], [])


def test_a_tombstone_that_may_be_anybodys_makes_every_memory_lost_unless_a_seal_says_whose_it_was(
    old: Path, key: bytes | None
) -> None:
    _, journal = edited(
        old, key, "UPDATE tombstones SET subscription = 'x', position = 4 WHERE subscription = 'cio'"
    )
    with journal:
        if key is None:
            assert forms(journal) == dict.fromkeys((*NAMES, "audit"), "lost")
        else:
            assert forms(journal) == {**WHOLE, "cio": "lost", "x": "lost"}


@pytest.mark.parametrize(
    ("sql", "table"),
    [
        ("UPDATE cursors SET floor = 5 WHERE subscription = 'cio'", "cursors"),
        ("UPDATE cursors SET takes = '[]', checksum = x'00' WHERE subscription = 'cio'", "cursors"),
        ("UPDATE dead_letters SET position = 3", "dead letters"),
        ("UPDATE dead_letters SET event = '{\"a\":1}'", "dead letters"),
    ],
)
def test_a_damaged_cursor_or_dead_letter_costs_the_memory_of_its_subscription_alone(
    old: Path, key: bytes | None, sql: str, table: str
) -> None:
    recovered, journal = edited(old, key, sql)
    with journal:
        assert forms(journal) == {**WHOLE, "cio": "lost"}
        told = "; ".join(recovered.beside)
        assert f"the memory of 'cio' is lost: its {table} are not what was saved last" in told
        floors = {cursor.subscription: cursor.floor for cursor in journal.cursors()}
        assert floors == dict.fromkeys(("book", "risk1", "risk3", "audit"), 6) | {
            "cio": 0 if table == "cursors" else 6
        }
        assert verify(journal).intact


def test_a_damaged_cursor_settles_nothing_and_says_so(old: Path, key: bytes | None) -> None:
    recovered, journal = edited(old, key, "UPDATE cursors SET floor = 8 WHERE subscription = 'cio'")
    with journal:
        of_cio = [cursor for cursor in journal.cursors() if cursor.subscription == "cio"]
        assert {(cursor.lane, cursor.floor) for cursor in of_cio} == {(lane, 0) for lane in LANES_ALL}
        assert "cursors: 'cio' begins at the start of the log: what it has handled may be handled again" in (
            recovered.beside
        )


def test_a_cursor_whose_name_alone_is_damaged_is_given_back_to_its_owner(
    old: Path, key: bytes | None
) -> None:
    recovered, journal = edited(
        old, key, "UPDATE cursors SET subscription = 'cip' WHERE subscription = 'cio'"
    )
    with journal:
        if key is not None:  # the seal says that somebody has changed it
            assert {c.floor for c in journal.cursors() if c.subscription in ("cio", "cip")} == {0}
            return
        assert (recovered.beside, forms(journal)) == ((), WHOLE)
        assert {c.subscription: c.floor for c in journal.cursors()} == dict.fromkeys((*NAMES, "audit"), 6)


def test_whoever_may_have_had_a_damaged_cursor_begins_at_the_start(old: Path, key: bytes | None) -> None:
    _, journal = edited(
        old, key, "UPDATE cursors SET subscription = 'x', floor = 8 WHERE subscription = 'audit'"
    )
    with journal:
        if key is not None:  # the seals say whose it was
            assert {c.floor for c in journal.cursors() if c.subscription == "audit"} == {0}
            assert {
                c.floor for c in journal.cursors() if c.subscription == "book" and c.lane == "normal"
            } == {6}
            return
        (bus,) = (cursor for cursor in journal.cursors() if cursor.subscription == "(bus)")
        assert (bus.lane, bus.floor, bus.takes) == ("normal", 0, ())
        assert set(forms(journal).values()) == {"lost"}


def test_the_bus_itself_has_no_memory_that_could_be_lost(old: Path, key: bytes | None) -> None:
    with SqliteJournal(old, key=key) as journal:
        journal.write((), Changes(cursors=[CursorState(subscription="(bus)", lane="normal", floor=8)]))
    recovered, journal = edited(old, key, "UPDATE snapshots SET cursors = '{}' WHERE subscription = 'cio'")
    with journal:
        assert "(bus)" not in forms(journal)
        assert not any("(bus)" in said for said in recovered.beside)


def test_no_position_that_a_memory_knows_is_given_to_another_entry(old: Path, key: bytes | None) -> None:
    recovered, journal = edited(
        old, key, "DELETE FROM batches", "DELETE FROM cursors", "DELETE FROM dead_letters"
    )
    with journal:
        assert next(iter(journal.write(entries(1)).positions)) > 6
        assert recovered.lost
