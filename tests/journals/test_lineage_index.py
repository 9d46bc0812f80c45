"""The index beside a journal: never believed unseen, made again where it is wrong, and the same as a full scan."""

import os
import random
import shutil
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from desks_kit import event
from hypothesis import given, settings
from hypothesis import strategies as st
from lineage_kit import everything, traded

from openoutcry.errors import JournalCorrupt, JournalError, UnknownReference
from openoutcry.journals import Lineage, SqliteJournal
from openoutcry.journals.lineage import index as index_module
from openoutcry.journals.lineage import side_file as side_module
from openoutcry.journals.lineage.finding import Finder, Found
from openoutcry.journals.lineage.keys import CAUSE, HASH_BITS, ID, KINDS, REFERENCE, ROUND, Hashing
from openoutcry.journals.lineage.side_file import NotBelieved, NotNow, SideFile

KEY = b"k" * 32


def side(path: Path) -> Path:
    return Path(f"{path}-lineage")


def told(path: Path, *refs: str, **options: Any) -> list[str]:
    """What is said of some names, without what the names of the files are."""
    found = []
    with Lineage(path, **options) as lineage:
        for ref in refs:
            try:
                found.append(lineage.explain(ref).text())
            except UnknownReference as problem:
                found.append(str(problem).replace(str(path), ""))
    return found


def many(path: Path, count: int = 3_000, batch: int = 50, **made: Any) -> Path:
    """A journal large enough for its index to have many blocks."""
    some = random.Random(count)
    with SqliteJournal(path, **made) as journal:
        for first in range(0, count, batch):
            journal.write(
                [
                    event(
                        f"e-{number}",
                        causation_id=f"e-{some.randrange(number)}" if number else None,
                        order_id=f"o-{some.randrange(50)}",
                        round_id=f"r-{number // 20}",
                    )
                    for number in range(first, first + batch)
                ]
            )
    return path


REFS = ("e-2999", "o-7", "r-20", "e-77", "#1234", "nothing")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    path = many(tmp_path_factory.mktemp("large") / "firm.db")
    return path, told(path, *REFS)


@pytest.fixture
def copied(large: tuple[Path, list[str]], tmp_path: Path) -> tuple[Path, list[str]]:
    for name in ("firm.db", "firm.db-lineage"):
        shutil.copy(large[0].parent / name, tmp_path / name)
    return tmp_path / "firm.db", large[1]


def test_the_index_is_a_file_of_the_owner_alone(large: tuple[Path, list[str]]) -> None:
    found = side(large[0]).stat()
    assert (found.st_mode & 0o777, found.st_uid) == (0o600, os.geteuid())
    assert not [
        one.name for one in large[0].parent.iterdir() if one.name.endswith(("-journal", "-lineage-wal"))
    ]


def test_the_index_is_used_and_not_made_again(copied: tuple[Path, list[str]]) -> None:
    path, expected = copied
    before = side(path).stat()
    assert told(path, *REFS) == expected
    with Lineage(path) as lineage:
        assert lineage.index().added == 0
    assert side(path).stat().st_ino == before.st_ino


# -- what is not believed ----------------------------------------------------------------------------


@pytest.mark.parametrize("share", [step / 24 for step in range(24)])
def test_a_page_of_it_that_is_damaged_changes_no_answer(copied: tuple[Path, list[str]], share: float) -> None:
    path, expected = copied
    data = bytearray(side(path).read_bytes())
    at = int(len(data) * share)
    data[at : at + 600] = bytes(byte ^ 0x5A for byte in data[at : at + 600])
    side(path).write_bytes(data)
    assert told(path, *REFS) == expected
    with Lineage(path) as lineage:
        lineage.index()
    assert told(path, *REFS) == expected


@pytest.mark.parametrize("size", [0, 1, 100, 4_096, 8_192, 20_000, 100_000])
def test_an_index_that_was_cut_off_changes_no_answer(copied: tuple[Path, list[str]], size: int) -> None:
    path, expected = copied
    with side(path).open("r+b") as file:
        file.truncate(size)
    assert told(path, *REFS) == expected


@pytest.mark.parametrize("data", [b"", b"junk", b"SQLite format 3\x00" + b"\xff" * 9_000, os.urandom(30_000)])
def test_something_else_in_its_place_changes_no_answer(copied: tuple[Path, list[str]], data: bytes) -> None:
    path, expected = copied
    side(path).write_bytes(data)
    assert told(path, *REFS) == expected


STATEMENTS = [
    "DELETE FROM blocks WHERE rowid = (SELECT max(rowid) / 2 FROM blocks)",
    "DELETE FROM blocks",
    "DELETE FROM shelves",
    "DELETE FROM about",
    "UPDATE about SET said = '{}'",
    "UPDATE shelves SET link = x'00000000'",
    "UPDATE shelves SET last = last + 1",
    "UPDATE shelves SET last = 'x'",
    "UPDATE shelves SET after = -1",
    "UPDATE blocks SET keys = x''",
    "UPDATE blocks SET keys = 7",
    "UPDATE blocks SET number = -number",
    "UPDATE blocks SET (keys, checksum) = (SELECT keys, checksum FROM blocks WHERE number = 1)",
    "DELETE FROM starts",
    "DELETE FROM starts WHERE place % 8 = 0",
    "UPDATE starts SET block = block + 1",
    "UPDATE starts SET block = 'x'",
    "UPDATE starts SET lows = x''",
    "UPDATE starts SET lows = substr(lows, 1, 8) WHERE length(lows) > 8",
    "UPDATE OR REPLACE starts SET place = place + 1",
    "DROP TABLE blocks",
    "DROP TABLE starts",
    "DROP TABLE shelves",
    "INSERT INTO shelves VALUES(900000, 900001, x'00', 0, x'00')",
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_an_index_that_somebody_has_changed_changes_no_answer(
    copied: tuple[Path, list[str]], statement: str
) -> None:
    path, expected = copied
    with closing(sqlite3.connect(side(path))) as db, db:
        db.execute(statement)
    assert told(path, *REFS) == expected


def test_the_index_of_another_journal_is_not_believed(copied: tuple[Path, list[str]], tmp_path: Path) -> None:
    path, expected = copied
    other = many(tmp_path / "other.db", 3_000, 50)
    with closing(SqliteJournal(tmp_path / "third.db")) as journal:
        journal.write([event("z-1")])
    told(other, "e-1")
    shutil.copy(side(other), side(path))
    assert told(path, *REFS) == expected
    shutil.copy(side(path), side(tmp_path / "third.db"))
    assert "e-5" in told(tmp_path / "third.db", "e-5")[0]


def test_the_index_of_a_later_state_is_not_believed(tmp_path: Path) -> None:
    path = many(tmp_path / "firm.db", 200, 10)
    shutil.copy(path, tmp_path / "before.db")
    with SqliteJournal(path) as journal:
        journal.write([event("late", causation_id="e-7")])
    told(path, "late")
    shutil.copy(tmp_path / "before.db", path)  # an older copy is put in its place
    Path(f"{path}-marks").unlink()
    assert "has no event" in told(path, "late")[0]
    with SqliteJournal(path) as journal:
        journal.write([event("instead", causation_id="e-9")])
    with Lineage(path) as lineage:
        assert [step.event_id for step in lineage.explain("instead").chain][-2:] == ["e-9", "instead"]


def test_an_older_index_is_brought_up_to_date(copied: tuple[Path, list[str]]) -> None:
    path, _ = copied
    with SqliteJournal(path) as journal:
        journal.write([event("new", causation_id="e-2999")])
    with Lineage(path) as lineage:
        assert lineage.index().added == 1
        assert [step.event_id for step in lineage.explain("new").chain][-2:] == ["e-2999", "new"]


def test_what_others_may_write_is_made_again(copied: tuple[Path, list[str]]) -> None:
    path, expected = copied
    side(path).chmod(0o666)
    assert told(path, *REFS) == expected
    assert side(path).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["directory", "link", "hard link", "pipe"])
def test_what_is_no_file_of_its_own_is_left_alone(copied: tuple[Path, list[str]], kind: str) -> None:
    path, expected = copied
    side(path).unlink()
    precious = path.parent / "precious"
    precious.write_bytes(b"mine")
    if kind == "directory":
        side(path).mkdir()
    elif kind == "link":
        side(path).symlink_to(precious)
    elif kind == "hard link":
        os.link(precious, side(path))
    else:
        os.mkfifo(side(path))
    assert told(path, *REFS) == expected
    with Lineage(path) as lineage:
        assert lineage.index().why_no_file
    assert precious.read_bytes() == b"mine"


def test_where_no_file_can_be_made_everything_is_kept_in_memory(
    copied: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, expected = copied
    side(path).unlink()

    def refuse(*_: object, **__: object) -> SideFile:
        raise NotNow("read-only file system")

    monkeypatch.setattr(SideFile, "make", refuse)
    assert told(path, *REFS) == expected
    with SqliteJournal(path) as journal, Lineage(path) as lineage:
        assert lineage.index().why_no_file == "read-only file system"
        for number in range(200):
            journal.write([event(f"n-{number}", causation_id="e-2999")])
            assert lineage.explain(f"n-{number}").chain[-1].event_id == f"n-{number}"
    assert not side(path).exists()


def test_nothing_is_made_beside_the_journal_of_another_user(
    copied: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, expected = copied
    side(path).unlink()
    monkeypatch.setattr(os, "geteuid", lambda: 54_321)
    assert told(path, *REFS) == expected
    assert not side(path).exists()


def test_a_file_that_may_only_be_read_is_used(
    copied: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, expected = copied
    with SqliteJournal(path) as journal:
        for first in range(3_000, 6_000, 100):
            journal.write([event(f"e-{number}") for number in range(first, first + 100)])
    before = side(path).read_bytes()
    monkeypatch.setattr(index_module, "may_write", lambda _: False)
    assert told(path, *REFS) == expected
    assert told(path, "e-5999")[0].startswith("Why ")
    assert side(path).read_bytes() == before


def test_a_disk_that_gives_back_something_else_is_done_without(
    copied: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, expected = copied
    monkeypatch.setattr(SideFile, "_check_of", lambda *_: os.urandom(4))
    assert told(path, REFS[0]) == expected[:1]


def test_one_that_is_locked_for_long_is_done_without(
    copied: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, expected = copied
    monkeypatch.setattr("openoutcry.journals.lineage.side_file._WAIT", "PRAGMA busy_timeout = 1")
    with closing(sqlite3.connect(side(path), isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        assert told(path, *REFS) == expected
        assert side(path).exists()


def test_one_that_is_removed_under_an_open_lineage_is_made_again(copied: tuple[Path, list[str]]) -> None:
    path, expected = copied
    with Lineage(path) as lineage:
        assert lineage.explain(REFS[0]).text() == expected[0]
        side(path).unlink()
        assert lineage.explain(REFS[0]).text() == expected[0]
        assert side(path).exists()
        side(path).write_bytes(b"")
        assert lineage.explain(REFS[1]).text() == expected[1]


# -- sealed and damaged journals ---------------------------------------------------------------------


def test_the_index_of_a_sealed_journal_is_held_against_its_key(tmp_path: Path) -> None:
    path = many(tmp_path / "firm.db", key=KEY)
    expected = told(path, *REFS, key=KEY)
    with closing(sqlite3.connect(side(path))) as db, db:
        name = db.execute("SELECT said FROM about").fetchone()[0]
        db.execute("UPDATE shelves SET checksum = x'01020304'")
    assert "modulus" in name
    assert told(path, *REFS, key=KEY) == expected


def test_without_its_key_a_sealed_journal_is_explained_from_memory(tmp_path: Path) -> None:
    path = many(tmp_path / "firm.db", key=KEY)
    assert told(path, "e-2999") == told(path, "e-2999", key=KEY)
    before = side(path).read_bytes()
    with Lineage(path) as lineage:
        assert lineage.index().why_no_file == "the journal is sealed, and its key was not given"
    assert side(path).read_bytes() == before
    with pytest.raises(JournalError):
        told(path, "e-2999", key=b"x" * 32)


def test_damage_of_the_journal_itself_is_told(tmp_path: Path) -> None:
    path = many(tmp_path / "firm.db", 200, 10)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE batches SET entries = replace(entries, 'e-55', 'f-55') WHERE first = 51")
    with Lineage(path) as lineage, pytest.raises(JournalCorrupt, match="51"):
        lineage.explain("e-7")


def test_retired_events_leave_the_index_when_it_is_tidied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "SHELF", 512)
    path = many(tmp_path / "firm.db", 2_000, 50)
    told(path, "e-7")
    with SqliteJournal(path) as journal:
        journal.retire(keep_count=600)
        first = journal.first
    with Lineage(path) as lineage:
        lineage.index()
    with closing(sqlite3.connect(side(path))) as db:
        (lowest,) = db.execute("SELECT min(last) FROM shelves").fetchone()
    assert lowest >= first
    with SqliteJournal(path) as journal:
        journal.write([event("last")])
        journal.retire(keep_count=1)
    assert "e-1999" in told(path, "e-1999")[0]
    assert told(path, "last")[0].startswith("Why ")


def test_an_index_that_is_not_believed_while_it_is_tidied_is_made_again(
    copied: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = copied

    def damaged(*_: object) -> bool:
        monkeypatch.undo()
        raise NotBelieved("a block is missing")

    with Lineage(path) as lineage:
        head = lineage.index().position
        with SqliteJournal(path) as journal:
            journal.write([event("one more")])
        monkeypatch.setattr(SideFile, "put", damaged)
        found = lineage.index()
    assert found.position == head + 1


# -- several at once ---------------------------------------------------------------------------------


def test_several_may_index_one_journal_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "_WRITTEN", 64)
    path = tmp_path / "firm.db"
    failures: list[BaseException] = []
    over = threading.Event()

    def ask(seed: int) -> None:
        some = random.Random(seed)
        try:
            while not over.is_set():
                with Lineage(path) as lineage:
                    for _ in range(5):
                        head = lineage.index().position
                        number = some.randrange(head)
                        assert lineage.explain(f"e-{number}").chain[-1].event_id == f"e-{number}"
        except BaseException as problem:  # noqa: BLE001 - told below
            failures.append(problem)

    with SqliteJournal(path) as journal:
        journal.write([event("e-0")])
        askers = [threading.Thread(target=ask, args=(seed,)) for seed in range(3)]
        for asker in askers:
            asker.start()
        for first in range(1, 3_000, 20):
            journal.write(
                [event(f"e-{n}", causation_id=f"e-{n - 1 if n % 5 else 0}") for n in range(first, first + 20)]
            )
        over.set()
        for asker in askers:
            asker.join(120)
    assert failures == []
    with Lineage(path) as lineage:
        lineage.index()
        assert lineage.explain("e-2999").chain[-1].event_id == "e-2999"


def test_an_index_that_another_process_writes_meanwhile_is_not_taken_for_damaged(
    copied: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, expected = copied
    with SqliteJournal(path) as journal:
        journal.write([event(f"e-{number}") for number in range(3_000, 3_050)])
    before = side(path).stat().st_ino
    look, others = SideFile.positions, []

    def written_meanwhile(file: SideFile, *asked: Any) -> list[int]:
        if not others:
            others.append("writes")
            monkeypatch.setattr("openoutcry.journals.lineage.side_file._WAIT", "PRAGMA busy_timeout = 1")
            with Lineage(path) as other:
                other.index()
        return look(file, *asked)

    monkeypatch.setattr(SideFile, "positions", written_meanwhile)
    with Lineage(path) as lineage:
        assert lineage.explain(REFS[0]).text() == expected[0]
        assert others
        assert lineage.index().why_no_file == ""
    assert side(path).stat().st_ino == before
    assert told(path, *REFS) == expected


def test_an_index_of_an_older_version_is_made_again(
    copied: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, expected = copied
    side(path).unlink()
    monkeypatch.setattr(side_module, "FORM", side_module.FORM - 1)
    assert told(path, *REFS) == expected
    monkeypatch.undo()
    with Lineage(path) as lineage:
        assert lineage.index().added == 3_000
    assert told(path, *REFS) == expected


# -- names of one hash -------------------------------------------------------------------------------


PRIME = (1 << HASH_BITS) - 5


def namesake(name: str) -> str:
    """Another name that has the same hash, divided by `PRIME`."""
    number = int.from_bytes(name.encode(), "big")
    others = ((number + PRIME * factor).to_bytes(len(name), "big") for factor in range(1, 1 << 20))
    return next(other.decode() for other in others if other.isascii() and other.decode().isprintable())


def test_names_with_the_hash_of_another_hide_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_module, "_modulus", lambda: PRIME)
    monkeypatch.setattr(index_module, "_WRITTEN", 4)
    path = traded(tmp_path / "firm.db", ["AAPL"])
    record = "round:AAPL@1"
    assert Hashing(PRIME, frozenset()).hash(namesake(record)) == Hashing(PRIME, frozenset()).hash(record)
    expected = told(path, "AAPL@1", "o-1")
    with SqliteJournal(path) as journal:
        journal.write([event(namesake(record)), event(namesake(f"{record}:opened"))])
    side(path).unlink()
    assert told(path, "AAPL@1", "o-1") == expected


# -- the same as a full scan -------------------------------------------------------------------------


class Scan:
    """What an index says, found by looking at every entry."""

    def __init__(self, finder: Finder) -> None:
        self._source = finder.sources[0]
        self._named = finder.named
        self.why_no_file = ""

    def places(self, kind: int, name: str, most: int) -> list[int]:
        reader = self._source.reader
        found = (Found(self._source, entry) for entry in reader.read(0, 1_000_000))
        return [one.entry.position for one in found if one.has(kind, name, self._named)][-most:]

    def catch_up(self, _tell: object = None) -> int:
        return 0

    @contextmanager
    def view(self, _tell: object = None) -> Iterator[None]:
        yield

    def close(self) -> None:
        return


def scanned(path: Path, ref: str, *, forward: bool) -> str:
    with Lineage(path) as lineage:
        finder = lineage._finder
        finder.sources[0].index.close()
        finder.sources[0].index = Scan(finder)  # type: ignore[assignment]
        return lineage.explain(ref, forward=forward).text()


def indexed(lineage: Lineage, ref: str, *, forward: bool) -> str:
    return lineage.explain(ref, forward=forward).text()


def test_a_firm_is_explained_as_by_a_full_scan(tmp_path: Path) -> None:
    path = traded(tmp_path / "firm.db", ["AAPL", "BAD", "AAPL", "ES"])
    with Lineage(path) as lineage:
        for entry in everything(path):
            for forward in (False, True):
                ref = f"#{entry.position}"
                assert indexed(lineage, ref, forward=forward) == scanned(path, ref, forward=forward)


NAMES = st.sampled_from([f"n-{number}" for number in range(12)])
MAYBE = st.none() | NAMES
EVENTS = st.fixed_dictionaries(
    {
        "event_type": st.sampled_from(["order", "fill", "decision", "signal", "note"]),
        "causation_id": MAYBE,
        "round_id": MAYBE,
        "order_id": MAYBE,
        "decision_id": MAYBE | st.integers(0, 3),
        "their_refs": st.lists(NAMES, max_size=3),
        "contributing_signals": st.lists(NAMES, max_size=2),
    }
)
WRITES = st.tuples(st.just("write"), st.lists(EVENTS, min_size=1, max_size=9))
OTHERS = st.tuples(st.sampled_from(["explain", "index", "open", "retire", "unlink", "damage"]), st.none())


@settings(max_examples=40)
@given(steps=st.lists(WRITES | OTHERS, min_size=1, max_size=14), span=st.sampled_from([9, 16, 64]))
def test_index_and_full_scan_give_the_same(
    tmp_path_factory: pytest.TempPathFactory, steps: Sequence[tuple[str, Any]], span: int
) -> None:
    path = tmp_path_factory.mktemp("scan") / "firm.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "SHELF", span)
        patch.setattr(index_module, "_SMALL", span)
        patch.setattr(index_module, "_WRITTEN", 4)
        patch.setattr(index_module, "_PIECE", 5)
        with SqliteJournal(path) as journal:
            journal.write([event("n-0")])
            for _ in follow(path, journal, steps):
                compare(path)


def follow(path: Path, journal: SqliteJournal, steps: Sequence[tuple[str, Any]]) -> Iterator[None]:
    written = 1
    lineage = Lineage(path)
    try:
        for what, events in steps:
            if what == "write":
                some = [event(f"n-{written + at}", **fields) for at, fields in enumerate(events)]
                journal.write(some)
                written += len(some)
            elif what == "explain":
                lineage.explain(f"#{journal.head}")
            elif what == "index":
                lineage.index()
            elif what == "open":
                lineage.close()
                lineage = Lineage(path)
            elif what == "retire":
                journal.retire(keep_count=6)
            elif what == "unlink":
                side(path).unlink(missing_ok=True)
            elif side(path).exists():
                data = bytearray(side(path).read_bytes())
                data[len(data) // 2 :] = os.urandom(len(data) - len(data) // 2)
                side(path).write_bytes(data)
        lineage.explain(f"#{journal.head}")
        yield
    finally:
        lineage.close()


def compare(path: Path) -> None:
    with Lineage(path) as lineage:
        lineage.index()
        finder = lineage._finder
        source = finder.sources[0]
        scan = Scan(finder)
        for name in [f"n-{number}" for number in range(14)] + ["3", ""]:
            for kind in (ID, CAUSE, ROUND, REFERENCE):
                places = source.index.places(kind, name, 1_000)
                true = [
                    p
                    for p in places
                    if (one := source.at(p)) is not None and one.has(kind, name, finder.named)
                ]
                assert true == scan.places(kind, name, 1_000), (kind, name)
        for position in range(source.reader.first, source.reader.head + 1):
            for forward in (False, True):
                ref = f"#{position}"
                assert indexed(lineage, ref, forward=forward) == scanned(path, ref, forward=forward)
    assert len(KINDS) == 6
