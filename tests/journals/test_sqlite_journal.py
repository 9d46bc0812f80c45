"""What the SQLite journal does beyond the port: the file, its locks, its errors, its readers."""

import errno
import os
import re
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from journal_kit import NOON_NS, entries, entry, payloads, verify

from openoutcry.errors import (
    ConfigError,
    JournalCorrupt,
    JournalDead,
    JournalError,
    JournalFull,
    JournalLocked,
    NotAJournal,
    SchemaTooNew,
)
from openoutcry.journals import Anchor, JournalReader, SqliteJournal, marks, recover_into
from openoutcry.journals.disk_tasks import CheckpointTask
from openoutcry.journals.engines import EngineName, connect
from openoutcry.journals.sqlite import WAL_DUE_BYTES
from openoutcry.ports import Alike, BuriedEvent, Changes, CheckpointStep, CursorState, Header, Level, Written

DOCS = Path(__file__).resolve().parents[2] / "docs" / "journal.md"
QUERIES = DOCS.parent / "howto" / "sql.md"


def wal_of(journal: SqliteJournal) -> Path:
    return Path(f"{journal.path}-wal")


def in_child(work: object) -> str:
    """Run a function in a forked child; return what it returned, or the name of what it raised."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = str(work())  # type: ignore[operator]
        except BaseException as problem:  # noqa: BLE001 - it is told to the parent
            said = f"{type(problem).__name__}: {problem}"
        os.write(into, said.encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as said_by_child:
        text = said_by_child.read()
    os.waitpid(pid, 0)
    return text


# The file


def test_the_files_are_for_their_owner_alone(file: SqliteJournal) -> None:
    file.write(entries(2))
    for suffix in ("", "-wal", "-shm", "-marks"):
        mode = stat.S_IMODE(Path(f"{file.path}{suffix}").stat().st_mode)
        assert mode == 0o600, suffix


def test_a_clean_close_leaves_no_write_ahead_log(file: SqliteJournal) -> None:
    file.write(entries(2))
    file.close()
    assert not wal_of(file).exists()


def test_a_symbolic_link_leads_to_the_same_journal(file: SqliteJournal, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(file.path)
    with pytest.raises(JournalLocked):
        SqliteJournal(link)


@pytest.mark.parametrize("content", [b"not a database at all, but text\n" * 40, b"x"])
def test_a_file_of_another_kind_is_refused_and_left_alone(
    path: Path, content: bytes, engine: EngineName
) -> None:
    path.write_bytes(content)
    with pytest.raises(NotAJournal):
        SqliteJournal(path, engine=engine)
    with pytest.raises(NotAJournal):
        JournalReader(path, engine=engine)
    assert path.read_bytes() == content
    assert not Path(f"{path}-marks").exists()


def test_another_programs_database_is_refused_and_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs(x)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(NotAJournal, match="another program"):
        SqliteJournal(path)
    assert path.read_bytes() == before


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAJournal):
        SqliteJournal(tmp_path)


def test_a_missing_folder_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="folder exists"):
        SqliteJournal(tmp_path / "no" / "firm.db")


def test_a_file_of_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    SqliteJournal(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()
    for opener in (SqliteJournal, JournalReader):
        with pytest.raises(SchemaTooNew, match="schema version 99"):
            opener(path)
    assert path.read_bytes() == before


def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    path.touch()
    with SqliteJournal(path) as journal:
        assert list(journal.write([entry()]).positions) == [1]


def test_a_reader_of_nothing_says_so(path: Path) -> None:
    with pytest.raises(NotAJournal, match="does not exist"):
        JournalReader(path)
    path.touch()
    with pytest.raises(NotAJournal, match="empty"):
        JournalReader(path)


def test_an_unknown_engine_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match="engine"):
        SqliteJournal(path, engine="oracle")  # type: ignore[arg-type]


def test_the_database_is_hardly_larger_than_the_events(path: Path) -> None:
    with SqliteJournal(path) as journal:
        written = [e for _ in range(40) for e in entries(64, pad="x" * 220)]
        for start in range(0, len(written), 64):
            journal.write(written[start : start + 64])
    assert path.stat().st_size < 1.2 * sum(len(e.payload) for e in written)


# One writer, many readers


def test_a_second_writer_in_the_same_process_is_refused(file: SqliteJournal) -> None:
    with pytest.raises(JournalLocked, match=f"process {os.getpid()}") as refused:
        SqliteJournal(file.path)
    assert refused.value.pid == os.getpid()
    file.write(entries(1))


def test_a_second_writer_in_another_process_is_refused(file: SqliteJournal) -> None:
    parent = os.getpid()
    assert in_child(lambda: SqliteJournal(file.path)).startswith("JournalLocked: ")
    assert f"process {parent}" in in_child(lambda: SqliteJournal(file.path))


def test_the_lock_ends_with_the_journal(file: SqliteJournal) -> None:
    file.close()
    SqliteJournal(file.path).close()


def test_a_forked_child_cannot_use_its_parents_journal(file: SqliteJournal) -> None:
    file.write(entries(3))
    for work in (
        lambda: file.write(entries(1)),
        file.sync,
        lambda: file.read(0, 1),
        lambda: file.find("x"),
        lambda: file.retire(keep_count=0),
    ):
        assert "belongs to the process that opened it" in in_child(work)
    assert in_child(file.close) == "None"
    assert in_child(lambda: len(JournalReader(file.path).read(0, 9))) == "3"
    assert list(file.write([entry()]).positions) == [4]
    assert file.sync() == 4


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_forked_child_holds_nothing_that_keeps_the_lock(file: SqliteJournal) -> None:
    def held() -> list[str]:
        return [
            str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink() and fd.exists()
        ]

    assert any(name.endswith("-marks") for name in held())
    assert in_child(lambda: [name for name in held() if name.endswith("-marks")]) == "[]"


def test_a_child_that_lives_on_does_not_keep_the_lock(path: Path) -> None:
    journal = SqliteJournal(path)
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(out, 1)  # until the parent says so
        os._exit(0)
    try:
        journal.close()
        SqliteJournal(path).close()
    finally:
        os.write(into, b".")
        os.waitpid(pid, 0)
        os.close(out)
        os.close(into)


def test_a_reader_sees_what_is_written_while_it_is_open(file: SqliteJournal, engine: EngineName) -> None:
    with JournalReader(file.path, engine=engine) as reader:
        assert (reader.head, reader.first, reader.read(0, 9)) == (0, 1, [])
        written = entries(4)
        file.write(written, Changes(cursors=[CursorState(subscription="a", lane="high", floor=2)]))
        assert reader.head == 4
        assert payloads(reader.read(0, 9)) == payloads(reader.tail(9)) == payloads(written)
        assert [c.floor for c in reader.cursors()] == [2]
        assert reader.buried() == reader.suspects() == []


def test_a_reader_in_another_process_sees_what_is_not_checkpointed(file: SqliteJournal) -> None:
    file.write(entries(5))
    assert in_child(lambda: len(JournalReader(file.path).read(0, 99))) == "5"


def test_a_reader_cannot_write(file: SqliteJournal) -> None:
    with file.reader() as reader, pytest.raises(reader._db.error, match="readonly"):
        reader._db.run("DELETE FROM batches")


def test_a_strangers_transaction_is_a_refusal_and_not_the_end(
    file: SqliteJournal, engine: EngineName
) -> None:
    stranger = connect(file.path, engine, "rw")
    stranger.run("BEGIN IMMEDIATE")
    file.wait_for_locks(0)
    with pytest.raises(JournalLocked, match="another program"):
        file.write(entries(1))
    stranger.run("ROLLBACK")
    stranger.close()
    assert list(file.write(entries(1)).positions) == [1]


@pytest.mark.parametrize("which", ["name", "sql"])
def test_a_table_whose_name_is_no_text_any_more_is_damage(
    file: SqliteJournal, engine: EngineName, which: str
) -> None:
    file.close()
    db = sqlite3.connect(file.path)
    db.execute("PRAGMA writable_schema = ON")
    with db:
        damaged = "CAST(x'cd28cd' AS TEXT)"
        db.execute(f"UPDATE sqlite_master SET {which} = {damaged} WHERE name = 'cursors'")
    db.close()
    with pytest.raises(JournalCorrupt):
        SqliteJournal(file.path, engine=engine)


# Plain SQL


def sql_blocks() -> list[str]:
    return re.findall(
        r"^```sql\n(.*?)^```", QUERIES.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )


def test_the_documentation_has_queries() -> None:
    assert len(sql_blocks()) >= 5


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="the sqlite3 command is not installed")
@pytest.mark.parametrize("query", sql_blocks())
def test_every_documented_query_answers_in_the_sqlite3_command(file: SqliteJournal, query: str) -> None:
    tick = {"event_type": "market_data", "symbol": "AAPL", "source_agent": "feed", "price": 187.5}
    file.write(
        [
            entry(**tick),  # type: ignore[arg-type]
            entry(event_type="order", symbol="AAPL", source_agent="cio", correlation_id="chain-1"),
        ]
    )
    own = Header(
        event_id="own-1", event_type="fill", symbol="AAPL", source_agent="cio", correlation_id="chain-1"
    )
    file.write([entry("own-1", lane="high", level=Level.DISK, header=own)])
    buried = BuriedEvent(
        subscription="r", lane="normal", position=1, payload=b"{}", reason="failed", error="E"
    )
    file.write((), Changes(cursors=[CursorState(subscription="r", lane="normal", floor=1)], buried=[buried]))
    done = subprocess.run(
        ["sqlite3", "-readonly", str(file.path)],
        input=query,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


def test_the_documented_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```", DOCS.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    assert len(blocks) >= 2
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(DOCS), "exec"), names)


def test_the_view_names_what_the_envelope_and_the_event_say(file: SqliteJournal) -> None:
    file.write(
        [
            entry("e1", wall_ns=NOON_NS, symbol="ES", source_agent="a"),
            entry("e2", wall_ns=NOON_NS + 1_500_000_000),
        ]
    )
    own = Header(event_id="own", event_type="theirs", round_id="r9")
    file.write([entry("own", lane="control", level=Level.DISK, header=own, symbol="NQ")])
    with file.reader() as reader:
        columns = "position, time, event_id, event_type, symbol, round_id, lane, level"
        rows = list(reader._db.rows(f"SELECT {columns} FROM events"))
    assert rows == [
        (1, "2025-11-24T16:00:00.000", "e1", "note", "ES", None, "normal", "process"),
        (2, "2025-11-24T16:00:01.500", "e2", "note", None, None, "normal", "process"),
        (3, "2025-11-24T16:00:00.000", "own", "theirs", "NQ", "r9", "control", "disk"),
    ]


# Errors are final


class _OnlyParts(Alike):
    """Entries of which nobody may make one."""

    def __len__(self) -> int:
        raise AssertionError

    def __getitem__(self, index: object) -> NoReturn:
        raise AssertionError


@pytest.mark.parametrize("size", [1, 3])
def test_entries_that_are_alike_are_written_by_their_parts(file: SqliteJournal, size: int) -> None:
    some = entries(size, level=Level.DISK)
    ids = [one.event_id for one in some]
    written = file.write(_OnlyParts(ids, payloads(some), Level.DISK, some[0].wall_ns))
    assert written == Written(range(1, size + 1), (), wants_sync=True)
    assert payloads(file.read(0, 9)) == payloads(some)
    assert file.write(some).duplicates


def test_a_failed_sync_ends_the_generation(file: SqliteJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write(entries(2))
    file.sync()
    file.write(entries(3))

    def fails(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fails)
    with pytest.raises(JournalDead, match="Input/output error"):
        file.sync()
    monkeypatch.undo()
    for call in (
        lambda: file.write(entries(1)),
        lambda: file.write((), Changes()),
        file.sync,
        file.begin_sync,
        lambda: file.retire(keep_count=0),
        file.vacuum,
    ):
        with pytest.raises(JournalDead):
            call()
    assert file.begin_checkpoint() is None
    assert not file.idle()
    assert file.synced == 2
    assert len(file.read(0, 99)) == 5


def test_a_dead_generation_stays_dead_over_a_restart_and_goes_on_in_a_new_file(
    file: SqliteJournal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    written = entries(5)
    file.write(written, Changes(cursors=[CursorState(subscription="a", lane="high", floor=2)]))
    monkeypatch.setattr(os, "fdatasync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "no")))
    with pytest.raises(JournalDead):
        file.sync()
    monkeypatch.undo()
    file.close()
    assert wal_of(file).stat().st_size > 0, "closing must not checkpoint what may not be on the disk"
    with pytest.raises(JournalDead, match="recover_into"):
        SqliteJournal(file.path)
    recovered = recover_into(file.path, tmp_path / "new.db")
    assert (recovered.entries, recovered.lost, recovered.beside) == (5, (), ())
    with SqliteJournal(recovered.path) as new:
        assert payloads(new.read(0, 9)) == payloads(written)
        assert [c.floor for c in new.cursors()] == [2]
        assert list(new.write([written[0], entry()]).positions) == [1, 6]


def test_a_failed_sync_elsewhere_is_raised_where_it_ends(
    file: SqliteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write(entries(1))
    step = file.begin_sync()
    monkeypatch.setattr(os, "fdatasync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "no")))
    thread = threading.Thread(target=step.perform)
    thread.start()
    thread.join()
    with pytest.raises(JournalDead):
        file.end_sync(step)


def test_a_sync_that_was_not_performed_is_not_one(file: SqliteJournal) -> None:
    file.write(entries(1))
    with pytest.raises(JournalError, match="perform"):
        file.end_sync(file.begin_sync())
    assert file.synced == 0


def test_a_failed_sync_at_closing_is_raised(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = SqliteJournal(path)
    journal.write(entries(1))
    monkeypatch.setattr(os, "fdatasync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "no")))
    with pytest.raises(JournalDead):
        journal.close()
    monkeypatch.undo()
    with pytest.raises(JournalDead):
        SqliteJournal(path)


def test_a_write_error_that_is_no_full_disk_ends_the_generation(path: Path, engine: EngineName) -> None:
    def work() -> str:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        journal = SqliteJournal(path, engine=engine)
        journal.write(entries(3))
        journal.sync()
        limit = wal_of(journal).stat().st_size + 10_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        first = second = ""
        try:
            journal.write(entries(1, pad="x" * 100_000))
        except JournalDead:
            first = "dead"
        try:
            journal.write(entries(1))
        except JournalDead:
            second = "dead"
        return f"{first} {second} {len(journal.read(0, 99))}"

    assert in_child(work) == "dead dead 3"
    with pytest.raises(JournalDead):
        SqliteJournal(path)


def test_an_interrupted_commit_is_taken_back_whole(
    file: SqliteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write(entries(1))
    cursor = CursorState(subscription="a", lane="high", floor=1)
    with pytest.raises(TypeError):
        file.write(entries(2), Changes(cursors=[cursor], removed_letters=[1], cleared=5))  # type: ignore[arg-type]
    assert (file.head, file.cursors()) == (1, [])
    assert list(file.write(entries(1)).positions) == [2]
    assert verify(file).intact


# A full disk


def test_a_full_database_is_a_refusal_and_resumes_when_there_is_room(file: SqliteJournal) -> None:
    file.write(entries(2))
    file._db.run("PRAGMA max_page_count = 30")
    big = entries(1, pad="x" * 200_000)
    cursor = Changes(cursors=[CursorState(subscription="a", lane="high", floor=1)])
    with pytest.raises(JournalFull, match="make room"):
        file.write(big, cursor)
    with pytest.raises(JournalFull):
        file.write(big)
    assert (file.head, len(file.read(0, 9)), file.cursors()) == (2, 2, [])
    assert list(file.write(entries(1)).positions) == [3]
    file._db.run("PRAGMA max_page_count = 100000")
    assert list(file.write(big, cursor).positions) == [4]
    assert verify(file).entries == 4


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("mounting a small disk takes root")
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_loses_nothing_and_resumes_when_there_is_room(
    small_disk: Path, engine: EngineName
) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(800_000))
    with SqliteJournal(small_disk / "firm.db", engine=engine) as journal:
        accepted = []

        def fill() -> None:
            while True:
                some = entries(20, pad="x" * 500)
                journal.write(some)
                accepted.extend(some)

        with pytest.raises(JournalFull):
            fill()
        assert accepted
        assert payloads(journal.read(0, 99_999)) == payloads(accepted)
        ballast.unlink()
        some = entries(20, pad="x" * 500)
        journal.write(some)
        journal.sync()
    with JournalReader(small_disk / "firm.db") as reader:
        assert reader.verify().intact
        assert payloads(reader.read(0, 99_999)) == payloads(accepted + some)


# Checkpoints, retention, vacuum


def test_the_write_ahead_log_stays_bounded_without_idle_moments(path: Path) -> None:
    with SqliteJournal(path, wal_max_bytes=2 * WAL_DUE_BYTES) as journal:
        for _ in range(12):
            journal.write(entries(100, pad="x" * 10_000))
        assert wal_of(journal).stat().st_size < 4 * WAL_DUE_BYTES
        assert journal.synced > 0, "a complete checkpoint has synced what it copied"


def test_an_idle_moment_is_used_for_a_checkpoint(file: SqliteJournal) -> None:
    assert not file.idle()
    file.write(entries(120, pad="x" * 10_000))
    assert file.idle()
    assert not file.idle()
    assert file.synced == 120


def test_a_checkpoint_can_be_performed_in_another_thread(file: SqliteJournal) -> None:
    file.write(entries(120, pad="x" * 10_000))
    step: CheckpointStep | None = file.begin_checkpoint()
    excludes = []
    while step is not None:
        excludes.append(step.excludes_writers)
        thread = threading.Thread(target=step.perform)
        thread.start()
        thread.join()
        step = file.end_checkpoint(step)
    assert excludes == [False, True]
    assert file.synced == 120
    assert file.begin_checkpoint() is None


def test_a_write_waits_for_a_checkpoint_in_another_thread(file: SqliteJournal) -> None:
    problems: list[Exception | None] = []
    is_over = threading.Event()

    def checkpoint() -> None:
        while not is_over.is_set():
            step = CheckpointTask(file._db, 0, file._turn)
            step.perform()
            problems.append(step.problem)

    thread = threading.Thread(target=checkpoint)
    thread.start()
    try:
        while file.head < 200 or (len(problems) < 50 and file.head < 2_000):
            file.write(entries(1, pad="x" * 50_000))
    finally:
        is_over.set()
        thread.join()
    assert set(problems) == {None}
    assert verify(file).intact


def test_a_reader_that_holds_on_delays_the_checkpoint_and_breaks_nothing(
    file: SqliteJournal, engine: EngineName
) -> None:
    file.write(entries(10))
    slow = connect(file.path, engine, "ro")
    slow.run("BEGIN")
    assert list(slow.rows("SELECT count(*) FROM batches")) == [(1,)]
    file.write(entries(120, pad="x" * 10_000))
    file.idle()
    assert file.write(entries(1)).positions[0] == 131
    assert list(slow.rows("SELECT count(*) FROM batches")) == [(1,)]
    slow.close()
    while file.idle():
        pass
    assert verify(file).intact


def test_vacuum_gives_the_room_of_retired_entries_back(file: SqliteJournal) -> None:
    for _ in range(30):
        file.write(entries(20, pad="x" * 5_000))
    while file.idle():
        pass
    large = file.path.stat().st_size
    while file.retire(keep_count=20):
        pass
    while file.vacuum(200):
        pass
    file.write(entries(1))
    file.close()
    assert file.path.stat().st_size < large / 4
    with JournalReader(file.path) as reader:
        assert reader.verify().intact


def test_the_chain_still_holds_after_retention(file: SqliteJournal) -> None:
    for _ in range(6):
        file.write(entries(3))
    file.retire(keep_count=7)
    verified = verify(file)
    assert (verified.intact, verified.entries, verified.batches) == (True, 9, 3)


# Verifying and anchors


def test_verify_tells_its_progress(file: SqliteJournal) -> None:
    for _ in range(3):
        file.write(entries(2))
    seen: list[tuple[int, int]] = []
    assert verify(file, lambda done, head: seen.append((done, head))).entries == 6
    assert seen == [(2, 6), (4, 6), (6, 6)]


def test_an_anchor_kept_elsewhere_shows_a_history_that_was_written_anew(path: Path) -> None:
    with SqliteJournal(path) as journal:
        journal.write(entries(2))
        anchor = journal.anchor
        journal.write(entries(2))
        assert verify(journal, anchors=[anchor]).intact
    for suffix in ("", "-marks"):
        Path(f"{path}{suffix}").unlink()
    with SqliteJournal(path) as forged:
        forged.write(entries(2))
        forged.write(entries(2))
        (problem,) = verify(forged, anchors=[anchor]).problems
        bare = Anchor(anchor.position, anchor.checksum)
        (also,) = verify(forged, anchors=[bare]).problems
    assert problem.position == also.position == 2
    assert "the anchor is of another journal" in problem.what
    assert "the chain does not lead through the anchor" in also.what


def test_a_sealed_journal_needs_its_key_to_be_written_and_verified(path: Path) -> None:
    key = b"s" * 16
    with SqliteJournal(path, key=key) as journal:
        journal.write(entries(2))
        assert verify(journal).anchor == journal.anchor
    with pytest.raises(JournalError, match="give the key"):
        SqliteJournal(path)
    with pytest.raises(JournalCorrupt, match="not the one that it was made with"):
        SqliteJournal(path, key=b"t" * 16)
    with pytest.raises(JournalError, match="16 to 64"):
        SqliteJournal(path, key=b"short")
    with JournalReader(path) as reader:
        assert len(reader.read(0, 9)) == 2
        with pytest.raises(JournalError, match="give the key"):
            reader.verify()


def test_a_plain_journal_is_not_opened_with_a_key(path: Path) -> None:
    SqliteJournal(path).close()
    with pytest.raises(JournalError, match="without a key"):
        SqliteJournal(path, key=b"k" * 32)


# Marks


def test_marks_have_a_limit_and_say_so(file: SqliteJournal) -> None:
    with pytest.raises(ConfigError, match="shorter name"):
        file.marks.claim("n" * 600, "normal")
    cells = [file.marks.claim("a", "normal") for _ in range(marks.SLOTS)]
    with pytest.raises(ConfigError, match="concurrency"):
        file.marks.claim("a", "normal")
    for cell in cells:
        file.marks.release(cell)
    assert file.marks.claim("b", "normal") in cells


def test_marks_of_another_journal_are_not_believed(path: Path, tmp_path: Path) -> None:
    other = SqliteJournal(tmp_path / "other.db")
    other.write(entries(50))
    other.marks.cells[other.marks.claim("a", "normal")] = 7
    other.close()
    SqliteJournal(path).close()
    shutil.copy(f"{other.path}-marks", f"{path}-marks")
    with SqliteJournal(path) as journal:
        assert journal.suspects() == []


def test_the_marks_may_be_missing(path: Path) -> None:
    with SqliteJournal(path) as journal:
        journal.write(entries(3))
    Path(f"{path}-marks").unlink()
    with SqliteJournal(path) as journal:
        assert journal.head == 3


# Speed, in coarse bounds that a busy machine meets


def test_a_journal_of_100_000_entries_opens_without_reading_them_all(path: Path) -> None:
    with SqliteJournal(path) as journal:
        for start in range(0, 100_000, 2_000):
            journal.write([entry(f"e{number}") for number in range(start, start + 2_000)])
    used = os.times().user
    with SqliteJournal(path) as journal:
        assert journal.head == 100_000
        assert os.times().user - used < 0.5
        assert journal.find("e5") == 6
        assert list(journal.write([entry("e99999"), entry("new")]).positions) == [100_000, 100_001]
        assert os.times().user - used < 3


def test_a_journal_whose_file_was_emptied_is_not_begun_anew(path: Path) -> None:
    with SqliteJournal(path) as journal:
        journal.write(entries(3))
    path.write_bytes(b"")
    with pytest.raises(JournalCorrupt, match="is empty, but position 3"):
        SqliteJournal(path)
