"""The power goes in the middle of the journal's work: a few hundred seeds, and planted bugs that they must find.

Many more by hand: `python -m campaigns.power_loss --seeds 100000`.
"""

import errno
import os
import random
import sqlite3
from pathlib import Path

import pytest

pytest.importorskip(
    "apsw", reason="the disk is simulated below SQLite by a VFS, which only apsw can have in Python"
)

from campaigns.power_loss import main, run_seeds
from campaigns.power_loss_disk import SimulatedDisk
from campaigns.power_loss_files import Inode
from campaigns.power_loss_plants import PLANTS
from campaigns.power_loss_vfs import mounted
from journal_kit import entries, entry

from openoutcry.errors import JournalCorrupt, JournalDead, JournalError, JournalFull
from openoutcry.journals import SqliteJournal, marks, recover_into
from openoutcry.ports import BuriedEvent, Changes, CursorState, Suspect

SEEDS = 250
PLANTED_SEEDS = 600


def test_after_250_power_cuts_nothing_promised_is_missing_and_nothing_else_is_there() -> None:
    assert run_seeds(0, SEEDS) == []


def test_after_60_power_cuts_the_seals_of_a_sealed_journal_hold() -> None:
    assert run_seeds(0, 60, is_sealed=True) == []


@pytest.mark.parametrize("bug", PLANTS)
def test_a_planted_bug_is_found(bug: str) -> None:
    assert run_seeds(0, PLANTED_SEEDS, PLANTS[bug], failures_max=1)


def test_a_seed_that_fails_is_named_with_the_command_that_runs_it_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seed = run_seeds(0, PLANTED_SEEDS, PLANTS["synchronous=NORMAL called disk"], failures_max=1)[0].seed
    assert main(["--seed", str(seed), "--plant", "synchronous=NORMAL called disk"]) == 1
    assert f"python -m campaigns.power_loss --seed {seed}" in capsys.readouterr().out


# The disk itself


def test_a_disk_keeps_what_was_synced_and_any_version_of_the_rest() -> None:
    rng = random.Random(1)
    seen = set()
    for _ in range(200):
        inode = Inode(b"a" * 1024)
        inode.ops += [(0, b"b" * 1024), (512, b"c" * 512)]
        after = inode.after_cut(rng)
        assert after[:512].strip(b"b").strip(b"a") == b""
        seen.add((after[:1], after[-1:]))
    assert seen == {(one.encode(), other.encode()) for one in "ab" for other in "abc"}
    inode.sync()
    assert inode.after_cut(rng) == b"b" * 512 + b"c" * 512


def test_a_sync_after_one_that_failed_finds_nothing_to_do() -> None:
    lost = 0
    for seed in range(50):
        inode = Inode()
        inode.ops.append((0, b"x" * 8192))
        inode.fail_to_sync(random.Random(seed))
        inode.sync()
        lost += inode.after_cut(random.Random(seed)) != b"x" * 8192
        assert bytes(inode.cached()) == b"x" * 8192
    assert lost > 10


# What the cuts have found


def on_a_disk(folder: Path) -> SimulatedDisk:
    return SimulatedDisk(folder.resolve(), random.Random(0), b"b" * 16)


def test_an_error_while_the_log_is_switched_on_is_an_error_of_opening(tmp_path: Path) -> None:
    for number in range(1, 9):
        folder = tmp_path / str(number)
        folder.mkdir()
        disk = on_a_disk(folder)
        disk.fail_sync_at = number
        with mounted(disk), pytest.raises(JournalError):
            SqliteJournal(folder / "firm.db", engine="apsw")
        with mounted(disk):
            disk.failed = False
            try:
                SqliteJournal(folder / "firm.db", engine="apsw").close()
            except JournalDead:
                assert number > 6, "only a sync of the journal's own ends a generation that has no entries"


def test_the_rollback_journal_of_the_first_moments_is_synced_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SQLite's checksum of a page in it looks at every 200th byte: a torn one would be taken for whole
    disk = on_a_disk(tmp_path)
    events: list[tuple[str, int, int]] = []
    wrote, sync = disk.wrote, disk.sync
    monkeypatch.setattr(disk, "wrote", lambda n, o, p: (events.append((n, o, len(p))), wrote(n, o, p))[1])
    monkeypatch.setattr(disk, "sync", lambda n, own=False: (events.append((n, -1, 0)), sync(n, own=own))[1])
    with mounted(disk):
        SqliteJournal(disk.folder / "firm.db", engine="apsw").close()
    of_journal = [event[1:] for event in events if event[0] == "firm.db-journal"]
    counted = [n for n, event in enumerate(of_journal) if event == (0, 12)]
    assert counted
    assert all(of_journal[n - 1] == (-1, 0) for n in counted if of_journal[n - 1] != (0, 512))


def test_a_recovery_whose_last_sync_fails_says_so_and_leaves_no_file(tmp_path: Path) -> None:
    disk = on_a_disk(tmp_path)
    old, new = tmp_path.resolve() / "firm.db", tmp_path.resolve() / "new.db"
    with mounted(disk):
        with SqliteJournal(old, engine="apsw") as journal:
            journal.write(entries(50, pad="x" * 200))
        before = disk.syncs
        recover_into(old, new, engine="apsw")
        for suffix in ("", "-marks"):
            Path(f"{new}{suffix}").unlink()
        for fails in range(1, disk.syncs - before + 1):
            disk.fail_sync_at = disk.syncs + fails
            with pytest.raises(JournalError):
                recover_into(old, new, engine="apsw")
            assert not new.exists()
        assert recover_into(old, new, engine="apsw").entries == 50


def test_a_recovery_takes_over_what_was_in_flight(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = SqliteJournal(path)
    journal.write(entries(3))
    journal.marks.cells[journal.marks.claim("risk", "normal")] = 2
    monkeypatch.setattr(os, "fdatasync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "no")))
    with pytest.raises(JournalDead):
        journal.sync()
    monkeypatch.undo()
    journal.close()
    with SqliteJournal(recover_into(path, tmp_path / "new.db").path) as new:
        assert new.suspects() == [Suspect("risk", "normal", 2, 1)]


@pytest.mark.parametrize(
    "sql", ["UPDATE dead_letters SET event = x'00'", "UPDATE dead_letters SET checksum = 7"]
)
def test_a_dead_letter_of_another_type_is_damage(path: Path, sql: str) -> None:
    letter = BuriedEvent(subscription="a", lane="high", position=1, payload=b"{}", reason="failed")
    with SqliteJournal(path) as journal:
        journal.write(entries(1), Changes(buried=[letter]))
    db = sqlite3.connect(path)
    with db:
        db.execute(sql)
    db.close()
    with SqliteJournal(path) as journal, pytest.raises(JournalCorrupt, match="dead letter 1"):
        journal.buried()


@pytest.mark.parametrize("sql", ["UPDATE meta SET checksum = 7", "UPDATE meta SET value = x'00'"])
def test_a_setting_of_another_type_is_damage(path: Path, sql: str) -> None:
    SqliteJournal(path).close()
    db = sqlite3.connect(path)
    with db:
        db.execute(f"{sql} WHERE key = 'floor'")
    db.close()
    with pytest.raises(JournalCorrupt, match="'floor' is damaged"):
        SqliteJournal(path)


def test_what_a_power_cut_took_is_nobodys_to_suspect(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SqliteJournal(path) as journal:
        journal.write([entry()])
        cell = journal.marks.claim("risk", "normal")
        journal.marks.cells[cell] = 7  # as if the entries up to 7 had been lost
    monkeypatch.setattr(marks, "boot_id", lambda: b"b" * 16)
    with SqliteJournal(path) as journal:
        assert journal.suspects() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system is mounted, which only root may do")
def test_a_disk_without_room_for_the_marks_is_a_refusal_and_not_the_end_of_the_process(
    tmp_path: Path,
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if os.system(f"mount -t tmpfs -o size=512k none '{small}' 2>/dev/null"):
        pytest.skip("no file system can be mounted here")
    try:
        with pytest.raises(JournalFull, match="make room"):
            SqliteJournal(small / "firm.db")
        os.system(f"mount -o remount,size=8m '{small}'")
        with SqliteJournal(small / "firm.db") as journal:
            journal.write(entries(3), Changes(cursors=[CursorState(subscription="a", lane="high", floor=3)]))
            assert journal.sync() == 3
    finally:
        os.system(f"umount '{small}'")
