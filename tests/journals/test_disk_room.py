"""The room of a journal: what it needs, who reads it, and in which words that is told."""

import os
from pathlib import Path

from journal_kit import entries

from openoutcry.journals import SqliteJournal
from openoutcry.journals.disk_room import LOG_BYTES_MAX, DiskRoom, room_of, say_log, say_room
from openoutcry.ports import LogState


def test_the_room_is_that_of_the_file_system_the_database_and_its_log(tmp_path: Path) -> None:
    with SqliteJournal(tmp_path / "firm.db") as journal:
        journal.write(entries(50, pad="x" * 10_000))
        room = room_of(journal.path)
    assert room.free_bytes > 0
    assert 500_000 < room.log_bytes < 1_000_000
    assert room.database_bytes < 100_000
    assert room.running_bytes == 2 * LOG_BYTES_MAX - room.log_bytes
    assert room_of(journal.path).log_bytes == 0, "it was closed"


def test_what_a_journal_needs_is_itself_its_log_and_a_second_copy() -> None:
    room = DiskRoom(10**12, 10**9, 0)
    assert room.recovery_bytes == 10**9 + 2 * LOG_BYTES_MAX
    assert room.needed_bytes == 2 * 10**9 + 4 * LOG_BYTES_MAX


def test_a_file_system_is_nearly_full_when_the_log_and_what_it_is_copied_to_do_not_fit() -> None:
    assert say_room(DiskRoom(2 * LOG_BYTES_MAX, 0, 0)) == ""
    assert "134,217,727 bytes left, and 134,217,728 may be needed" in say_room(
        DiskRoom(2 * LOG_BYTES_MAX - 1, 0, 0)
    )
    assert say_room(DiskRoom(LOG_BYTES_MAX, 0, 3 * LOG_BYTES_MAX)) == "", (
        "a log that is there takes no more room"
    )


def test_a_log_within_its_bound_or_that_starts_over_is_nobodys_fault() -> None:
    assert say_log(LogState(LOG_BYTES_MAX, "reader"), [17]) == ""
    assert say_log(LogState(LOG_BYTES_MAX + 1, ""), []) == ""


def test_a_log_above_its_bound_is_told_with_its_size_since_when_and_whose_reading_it_is() -> None:
    log = LogState(LOG_BYTES_MAX + 1, "reader")
    assert say_log(log, [17, os.getpid()], 90 * 10**9) == (
        "the write-ahead log has 67,108,865 bytes, and 67,108,864 are its bound: a reader that does not end "
        "keeps it from starting over, for 90 s; end the reading of process 17 and this process"
    )
    assert say_log(log, []).endswith("starting over; end it (the system does not tell whose it is)")


def test_a_log_that_the_database_has_no_room_for_is_told_however_small_it_is() -> None:
    said = say_log(LogState(4_096, "room"), [], 2 * 10**9)
    assert (
        said == "the database has no room to take over its write-ahead log of 4,096 bytes, for 2 s: make room"
    )
