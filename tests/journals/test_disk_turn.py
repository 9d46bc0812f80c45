"""What may be called synced, beside checkpoints, errors, kills and damaged marks."""

import errno
import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from journal_kit import entries

from openoutcry.errors import JournalCorrupt, JournalDead, JournalError
from openoutcry.journals import SqliteJournal, marks, recover_into, sqlite
from openoutcry.journals.glance import glance
from openoutcry.ports import Suspect

CHECKPOINT_LOCK = 121
HOLDER = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.lockf(fd, fcntl.LOCK_EX, 1, int(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def small_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints are worth it for little."""
    monkeypatch.setattr(sqlite, "WAL_DUE_BYTES", 1)


def fail_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fails)


@pytest.mark.usefixtures("small_logs")
def test_a_checkpoint_whose_turn_another_program_has_calls_nothing_synced(path: Path) -> None:
    with SqliteJournal(path) as journal:
        journal.write(entries(5))
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, f"{path}-shm", str(CHECKPOINT_LOCK)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        journal.idle()
        assert journal.synced == 0
        holder.communicate("\n")
        journal.idle()
        assert journal.synced == 5


@pytest.mark.usefixtures("small_logs")
def test_a_sync_waits_for_a_checkpoint_and_a_checkpoint_for_a_sync(path: Path) -> None:
    with SqliteJournal(path) as journal:
        journal.write(entries(5))
        sync, ahead = journal.begin_sync(), journal.begin_checkpoint()
        assert ahead is not None
        ahead.perform()
        copying = journal.end_checkpoint(ahead)
        assert copying is not None
        for task in (sync, copying):
            with journal._turn.taken():
                thread = threading.Thread(target=task.perform)
                thread.start()
                thread.join(0.05)
                assert thread.is_alive()
            thread.join()
        assert journal.end_checkpoint(copying) is None
        assert journal.end_sync(sync) == 5


@pytest.mark.usefixtures("small_logs")
def test_after_a_sync_that_failed_in_a_thread_no_checkpoint_begins(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = SqliteJournal(path)
    journal.write(entries(5))
    sync, ahead = journal.begin_sync(), journal.begin_checkpoint()
    assert ahead is not None
    ahead.perform()
    checkpoint = journal.end_checkpoint(ahead)
    assert checkpoint is not None
    before = path.read_bytes()
    fail_syncs(monkeypatch)
    sync.perform()
    monkeypatch.undo()
    assert journal.marks.dead, "a process that is killed now leaves a dead journal"
    checkpoint.perform()
    assert path.read_bytes() == before
    with pytest.raises(JournalDead):
        journal.end_sync(sync)
    journal.close()


def test_a_sync_after_a_checkpoint_that_failed_promises_nothing(path: Path) -> None:
    journal = SqliteJournal(path)
    journal.write(entries(5))
    sync = journal.begin_sync()
    with pytest.raises(OSError, match="odd"), journal._turn.taken():
        raise OSError("odd")
    sync.perform()
    with pytest.raises(JournalDead):
        journal.end_sync(sync)
    assert journal.synced == 0
    journal.close()


def test_an_opening_writes_the_log_again_before_it_believes_in_it(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = SqliteJournal(path)
    journal.write(entries(50, pad="x" * 500))
    image = tmp_path / "image.db"
    for ending in ("", "-wal"):
        Path(f"{image}{ending}").write_bytes(Path(f"{path}{ending}").read_bytes())
    journal.close()
    log = Path(f"{image}-wal").read_bytes()
    wrote: list[int] = []
    real = os.pwrite

    def pwrite(fd: int, piece: bytes, at: int) -> int:
        if Path(f"/proc/self/fd/{fd}").readlink().name.endswith("-wal"):
            wrote.extend(range(at, at + len(piece)))
        return real(fd, piece, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with SqliteJournal(image) as found:
        assert found.head == 50
        assert found.synced == 50
    assert wrote == list(range(len(log)))


# Marks


class Stops(Exception):
    """The process ends here."""


class Counted:
    """Cells, or a map, into which only so many stores get through."""

    def __init__(self, inner: Any, left: list[int]) -> None:
        self._inner, self._left = inner, left

    def __getitem__(self, at: Any) -> Any:
        return self._inner[at]

    def __setitem__(self, at: Any, value: Any) -> None:
        if self._left[0] == 0:
            raise Stops
        self._left[0] -= 1
        self._inner[at] = value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def write_and_lose_power(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a journal of five entries, with marks as if 495 more had been written and lost."""
    with SqliteJournal(path) as journal:
        journal.write(entries(5))
        journal.sync()
        cell = journal.marks.claim("risk", "normal")
        journal.marks.cells[cell] = 5
        journal.marks.cells[marks.WRITTEN] = 500
    monkeypatch.setattr(marks, "boot_id", lambda: b"b" * 16)


def open_and_stop(path: Path, monkeypatch: pytest.MonkeyPatch, stores: int) -> None:
    """Open the journal, and end that after so many stores into the marks, as a kill would."""
    real = marks.MarksFile.begin_run

    def begin_run(self: marks.MarksFile, written: int, synced: int) -> None:
        left = [stores]
        cells, mapped = self.cells, self._map
        self.cells, self._map = Counted(cells, left), Counted(mapped, left)  # type: ignore[assignment]
        try:
            real(self, written, synced)
        finally:
            self.cells, self._map = cells, mapped

    with monkeypatch.context() as patch:
        patch.setattr(marks.MarksFile, "begin_run", begin_run)
        with pytest.raises(Stops):
            SqliteJournal(path)


@pytest.mark.parametrize("stores", range(6))
def test_a_kill_at_any_store_of_an_opening_after_a_power_cut_leaves_a_journal_that_opens(
    path: Path, monkeypatch: pytest.MonkeyPatch, stores: int
) -> None:
    write_and_lose_power(path, monkeypatch)
    open_and_stop(path, monkeypatch, stores)
    with SqliteJournal(path) as journal:
        assert journal.head == 5
        assert journal.suspects() == [Suspect("risk", "normal", 5, 1)]
        assert journal.power_cut is not None
        assert (journal.power_cut.lost, journal.power_cut.cuts) == (495, 1), "it is counted once"
        assert journal.unsynced_lost == 495, "nobody was told of it yet"
    with SqliteJournal(path) as journal:
        assert journal.unsynced_lost == 0


@pytest.mark.parametrize("stores", range(6))
def test_a_kill_during_a_later_opening_does_not_tell_of_the_power_cut_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, stores: int
) -> None:
    write_and_lose_power(path, monkeypatch)
    with SqliteJournal(path) as journal:
        assert journal.unsynced_lost == 495
    for _ in range(2):
        open_and_stop(path, monkeypatch, stores)
    with SqliteJournal(path) as journal:
        assert journal.unsynced_lost == 0
        assert journal.power_cut is not None
        assert (journal.power_cut.lost, journal.power_cut.cuts) == (495, 1)


def test_a_power_cut_counted_by_an_opening_that_failed_is_counted_once_and_told_by_the_recovery(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_and_lose_power(path, monkeypatch)
    with monkeypatch.context() as patch:
        fail_syncs(patch)
        with pytest.raises(JournalDead, match="first sync failed"):
            SqliteJournal(path)
    with glance(path) or pytest.fail("there are marks") as side:
        seen = side.cut(5)
        assert seen is not None
        assert (seen.lost, seen.cuts) == (495, 1)
    new = recover_into(path, tmp_path / "new.db").path
    with SqliteJournal(new) as journal:
        assert journal.unsynced_lost == 495, "nobody was told of it yet"
        assert journal.power_cut is not None
        assert (journal.power_cut.first, journal.power_cut.cuts) == (6, 1)
    again = recover_into(new, tmp_path / "newer.db").path
    with SqliteJournal(again) as journal:
        assert journal.unsynced_lost == 0, "it was told"


@pytest.mark.parametrize("flipped", [*range(192), *range(192, 512 * 8, 397)])
def test_a_slot_with_a_flipped_bit_accuses_nobody_who_is_not_there(path: Path, flipped: int) -> None:
    with SqliteJournal(path) as journal:
        journal.write(entries(9))
        journal.marks.cells[journal.marks.claim("risk", "normal")] = 5
        journal.marks.claim("audit", "high")
        at = 4096 + flipped // 8
        for slot in (0, 512, 1024):
            journal.marks._map[at + slot] ^= 1 << flipped % 8
        found = journal.marks.in_flight(9)
    assert {(name, lane) for name, lane, _ in found} <= {("risk", "normal"), ("audit", "high")}
    assert all(1 <= position <= 9 for _, _, position in found)


def test_a_slot_of_an_earlier_version_is_believed_without_a_checksum(path: Path) -> None:
    with SqliteJournal(path) as journal:
        journal.write(entries(3))
        cell = journal.marks.claim("risk\u00e9", "high")
        journal.marks.cells[cell] = 3
        journal.marks.cells[cell + 2] &= 0xFFFF_FFFF
        assert journal.marks.in_flight(3) == [("risk\u00e9", "high", 3)]


@pytest.mark.parametrize("number", [2**62, 2**63, 2**64 - 1])
def test_a_head_in_the_marks_that_no_journal_has_is_damage_and_a_recovery_leaves_it_out(
    path: Path, tmp_path: Path, number: int
) -> None:
    with SqliteJournal(path) as journal:
        journal.write(entries(3))
        journal.marks.cells[marks.WRITTEN] = number
    with pytest.raises(JournalCorrupt, match="had been reached"):
        SqliteJournal(path)
    assert recover_into(path, tmp_path / "new.db").lost == ()


@pytest.mark.parametrize("seed", range(12))
def test_marks_with_flipped_bits_end_in_a_journal_error_or_accuse_whom_they_name(
    path: Path, tmp_path: Path, seed: int
) -> None:
    with SqliteJournal(path) as journal:
        journal.write(entries(9))
        journal.marks.cells[journal.marks.claim("risk\u00e9", "normal")] = 5
    side, rng = Path(f"{path}-marks"), random.Random(seed)
    sound = {ending: Path(f"{path}{ending}").read_bytes() for ending in ("", "-marks")}
    for number in range(8):
        damaged = bytearray(sound["-marks"])
        for _ in range(rng.choice((1, 2, 30))):
            damaged[rng.choice((rng.randrange(80), 4096 + rng.randrange(1536)))] ^= 1 << rng.randrange(8)
        path.write_bytes(sound[""])
        side.write_bytes(damaged)
        try:
            with SqliteJournal(path) as found:
                assert all(s.subscription == "risk\u00e9" and 1 <= s.position <= 9 for s in found.suspects())
        except JournalError:
            recover_into(path, tmp_path / f"new-{number}.db")
