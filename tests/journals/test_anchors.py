"""An anchor kept elsewhere tells a journal that was put back to an earlier moment, cut off, or written anew."""

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from journal_kit import entries

from openoutcry.errors import JournalCorrupt
from openoutcry.journals import Anchor, JournalReader, SqliteJournal, recover_into
from openoutcry.journals.anchors import anchor_in
from openoutcry.ports import Changes, CursorState

KEY = b"a" * 32


@pytest.fixture(params=[None, KEY], ids=["plain", "keyed"])
def key(request: pytest.FixtureRequest) -> Any:
    return request.param


def a_day(path: Path, key: bytes | None, floor: int) -> Anchor:
    """Write something and settle it; return the anchor of the evening."""
    with SqliteJournal(path, key=key) as journal:
        journal.write(entries(3))
        journal.write((), Changes(cursors=[CursorState(subscription="book", lane="normal", floor=floor)]))
        return journal.anchor


def wrong(path: Path, key: bytes | None, anchors: Sequence[Anchor]) -> list[str]:
    """What is wrong, and the same with and without the key, and by verifying."""
    with JournalReader(path, key=key) as reader, JournalReader(path) as bare:
        told = [one.wrong for one in reader.hold(anchors) if one.wrong]
        assert told == [one.wrong for one in bare.hold(anchors) if one.wrong]
        found = [problem.what for problem in reader.verify(anchors=anchors).problems]
        assert set(told) <= set(found)
    return told


def test_a_journal_leads_through_all_its_anchors(path: Path, key: bytes | None) -> None:
    anchors = [a_day(path, key, day) for day in (1, 2, 3)]
    assert wrong(path, key, anchors) == []
    with JournalReader(path, key=key) as reader:
        assert reader.anchor() == anchors[-1] == reader.verify().anchor
        assert reader.verify(anchors=anchors).untold == ()


def test_an_anchor_is_one_line_and_comes_back_from_it(path: Path, key: bytes | None) -> None:
    anchor = a_day(path, key, 1)
    assert "\n" not in anchor.line()
    assert anchor_in(anchor.line()) == anchor
    assert anchor_in(f"{anchor.position}:{anchor.checksum.upper()}") == Anchor(
        anchor.position, anchor.checksum
    )
    for text in ("", "7", "x:00", "7:zz", "{", '{"position": "seven", "checksum": ""}', "[1]"):
        with pytest.raises(ValueError):
            anchor_in(text)


def test_the_whole_file_put_back_is_found_by_a_later_anchor_alone(path: Path, key: bytes | None) -> None:
    early = a_day(path, key, 1)
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    late = a_day(path, key, 2)
    assert wrong(copy, key, [early]) == [], "it is what it was then"
    assert wrong(copy, key, [early, late]) == ["the journal ends at position 3, and 6 had been reached"]


def test_cursors_put_back_with_their_seals_are_found_where_the_log_has_not_moved(path: Path) -> None:
    with SqliteJournal(path, key=KEY) as journal:
        journal.write(entries(50))
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    with SqliteJournal(path, key=KEY) as journal:
        journal.write((), Changes(cursors=[CursorState(subscription="book", lane="normal", floor=50)]))
        anchor = journal.anchor
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"ATTACH '{copy}' AS early")
        for table in ("cursors", "seals"):
            db.execute(f"DELETE FROM {table}")
            db.execute(f"INSERT INTO {table} SELECT * FROM early.{table}")
    SqliteJournal(path, key=KEY).close()  # it is what it was after its first commit
    said = "what stands beside the log is of an earlier moment: its serial is 1, and 2 had been reached"
    assert wrong(path, KEY, [anchor]) == [said]


def test_a_tail_that_was_cut_off_is_found(path: Path, key: bytes | None) -> None:
    anchors = [a_day(path, key, day) for day in (1, 2)]
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DELETE FROM batches WHERE first > 3")
    assert "the journal ends at position 3, and 6 had been reached" in wrong(path, key, anchors)


def test_another_history_with_other_seals_of_the_same_serial_is_found(path: Path) -> None:
    with SqliteJournal(path, key=KEY):
        pass
    twin = path.with_name("twin.db")
    shutil.copy(path, twin)
    a_day(path, KEY, 1)
    anchor = a_day(twin, KEY, 2)
    assert wrong(path, KEY, [anchor]) == ["the seals of serial 2 are not those that there were"]


def test_an_anchor_of_another_journal_is_told_from_ours(path: Path, key: bytes | None) -> None:
    a_day(path, key, 1)
    other = a_day(path.with_name("other.db"), key, 1)
    (told,) = wrong(path, key, [other])
    assert "the anchor is of another journal" in told


def test_an_anchor_outlives_its_position(path: Path, key: bytes | None) -> None:
    anchors = [a_day(path, key, 3 * day) for day in (1, 2, 3)]
    with SqliteJournal(path, key=key) as journal:
        while journal.retire(keep_count=3):
            pass
        assert journal.first == 7
    assert wrong(path, key, anchors) == []
    with JournalReader(path, key=key) as reader:
        (untold,) = reader.verify(anchors=anchors).untold
    assert untold == "anchor 3: its position is retired: the journal begins at 7"


def test_a_recovered_journal_goes_on_from_its_anchors(path: Path, key: bytes | None) -> None:
    before = [a_day(path, key, day) for day in (1, 2)]
    new, newest = path.with_name("new.db"), path.with_name("newest.db")
    recover_into(path, new, key=key)
    after = a_day(new, key, 3)
    recover_into(new, newest, key=key)
    assert wrong(newest, key, [*before, after]) == []
    with JournalReader(newest, key=key) as reader:
        assert len(reader.verify(anchors=[*before, after]).untold) == 3
    (told,) = wrong(path, key, [*before, after])
    assert "it is an older one, or another" in told


def test_a_recovered_journal_that_lost_its_end_still_has_its_positions(path: Path, key: bytes | None) -> None:
    anchors = [a_day(path, key, day) for day in (1, 6)]
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE batches SET entries = '[]' WHERE first > 3")
    recovered = recover_into(path, path.with_name("new.db"), key=key)
    assert wrong(recovered.path, key, anchors) == []
    with SqliteJournal(recovered.path, key=key) as journal:
        assert wrong(recovered.path, key, [journal.anchor]) == []


def test_no_anchor_is_taken_of_broken_seals_with_the_key(path: Path) -> None:
    a_day(path, KEY, 1)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE seals SET serial = 99 WHERE name = ''")
    with JournalReader(path, key=KEY) as reader, pytest.raises(JournalCorrupt, match="seal over all seals"):
        reader.anchor()


def test_an_anchor_is_taken_beside_a_writer(path: Path) -> None:
    with SqliteJournal(path, key=KEY) as journal, JournalReader(path, key=KEY) as reader:
        journal.write(entries(1))
        first = reader.anchor()
        journal.write(entries(1), Changes(tombstones=[("book", 1)]))
        assert [one.wrong for one in reader.hold([first, journal.anchor])] == ["", ""]
        assert reader.check_seals() == []
