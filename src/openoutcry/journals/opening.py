"""Opening a journal file: made or recognised, locked, its tail verified, its last writer's marks read."""

import logging
import os
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from openoutcry.errors import JournalCorrupt, JournalDead, JournalError, JournalLocked, NotAJournal
from openoutcry.events.sources import new_name
from openoutcry.journals import power_cuts, saved, schema
from openoutcry.journals.engines import LOCK_WAIT_S, Connection, EngineName, choose, connect
from openoutcry.journals.lock_holders import named
from openoutcry.journals.log import Log
from openoutcry.journals.marks import MarksFile
from openoutcry.journals.migration import migrate
from openoutcry.journals.power_cuts import PowerCut
from openoutcry.journals.refusals import kind_of, real_path, refusals_of
from openoutcry.journals.rows import KEY_BYTES_MAX, KEY_BYTES_MIN, KEYED, Chain, Row
from openoutcry.journals.seals import End, Seals, check_seals, suspected
from openoutcry.journals.seals import settings as of_settings
from openoutcry.journals.verifying import gaps_of, judge
from openoutcry.ports import CursorState

log = logging.getLogger("openoutcry")

TAIL_BATCHES: Final = 64
TAIL_BYTES: Final = 4 * 1024 * 1024
_COPY_BYTES: Final = 1024 * 1024
_PRAGMAS: Final = (
    "PRAGMA synchronous = FULL",  # until the log is on: a rollback journal under NORMAL may be torn, and used
    "PRAGMA wal_autocheckpoint = 0",
    "PRAGMA cache_size = -256",  # what is written is not read again soon; a small cache is searched faster
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
)


class Opened(NamedTuple):
    """A journal file that is ready to be written.

    Attributes:
        path: The file, symbolic links resolved.
        db: The one connection that writes.
        marks: The side file, locked.
        chain: How its checksums are made.
        floor: Entries up to here are retired.
        head: The newest position.
        checksum: The checksum of the last batch.
        wal: A descriptor of the write-ahead log for syncs; it stays open as long as the connection.
        unsynced_lost: Entries at `process` that a power cut took away, at least, and nobody was told of.
        power_cut: The record of the last one that took something.
        origin: What the file says of its origin; empty where it says nothing.
        stems: What the file says of the stems of its ids; None where it says nothing.
        seals: What stands beside the log, sealed; None where there is no key.

    """

    path: Path
    db: Connection
    marks: MarksFile
    chain: Chain
    floor: int
    head: int
    checksum: bytes
    wal: int
    unsynced_lost: int
    power_cut: PowerCut | None
    origin: str
    stems: str | None
    seals: Seals | None


def chain_of(key: bytes | None) -> Chain:
    """Return the chain for a key. Raises `JournalError` for a key that BLAKE2b does not take."""
    if key is not None and not KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX:
        raise JournalError(
            f"the key has {len(key)} bytes; give {KEY_BYTES_MIN} to {KEY_BYTES_MAX} random ones"
        )
    return Chain(key)


def open_file(
    path: str | Path,
    key: bytes | None,
    engine: EngineName,
    *,
    floor: int = 0,
    origin: str | None = None,
    ancestors: str = "",
    lock_wait_s: float = LOCK_WAIT_S,
) -> Opened:
    """Open a file for writing, and make it if there is none.

    A new one begins at `floor`, with `origin`, or by default one of its own. `ancestors` are the generations
    that it goes on from, if it does, the last one last. A lock that another program has on the database is
    waited for as long as `lock_wait_s`, now and later.
    """
    chain = chain_of(key)
    choose(engine)
    real = real_path(path)
    with refusals_of(real):
        try:
            first = _first_settings(chain, floor, origin, ancestors)
            return _open_file(real, chain, engine, first, lock_wait_s)
        except JournalLocked as locked:
            if lock_wait_s > 0:  # there is time to ask who it is
                raise named(locked, real) from locked.__cause__
            raise


def _open_file(
    real: Path, chain: Chain, engine: EngineName, first: dict[str, str], lock_wait_s: float
) -> Opened:
    with suppress(FileNotFoundError):
        Path(f"{real}-marks").stat()  # a name that is too long for that makes no file
    _make(real)
    marks = MarksFile(Path(f"{real}-marks"))
    db: Connection | None = None
    try:
        _check_restored(real, marks)
        db = _connect(real, engine)
        db.run(f"PRAGMA busy_timeout = {int(lock_wait_s * 1000)}")
        return _open(real, db, marks, chain, first)
    except BaseException as problem:
        if db is not None:
            leave_alone(db, real, engine)
        marks.close(remove=isinstance(problem, NotAJournal))
        if db is not None and isinstance(problem, db.error):
            raise schema.unreadable(real, problem) from problem
        raise


def _check_restored(path: Path, marks: MarksFile) -> None:
    """Raise `JournalError` where a restore has moved the old file away and was interrupted."""
    if marks.set_aside_as and not path.stat().st_size:
        raise JournalError(
            f"{path} was being restored from a backup when that was interrupted, and is not there yet: run "
            f"`openoutcry restore` again; what stood there is {path}.replaced-{marks.set_aside_as}"
        )


def _make(path: Path) -> None:
    """Make the file, for its owner alone, if it is not there."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        kind = kind_of(path)
        if kind:
            raise NotAJournal(f"{path} is {kind}; give the journal a file of its own") from None
        os.stat(path)  # noqa: PTH116 - raises what keeps it from being seen
    else:
        sync_folder(path)


def sync_folder(path: Path) -> None:
    """Put the name of a file on the disk."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _connect(path: Path, engine: EngineName) -> Connection:
    try:
        return connect(path, engine, "rw")
    except Exception as problem:
        raise schema.unreadable(path, problem) from problem


def leave_alone(db: Connection, path: Path, engine: EngineName) -> None:
    """Close a connection without the checkpoint that the last one to close a file would run.

    After a failed sync, and on a damaged file, the write-ahead log must stay as it is. A connection that
    can only read does not checkpoint, so it is made the last one. Where the database was emptied, SQLite
    deletes the log by its name in any case.
    """
    log = Path(f"{path}-wal")
    kept = Path(f"{log}-kept")
    with suppress(OSError):
        if path.stat().st_size == 0 < log.stat().st_size:
            log.replace(kept)
    guard: Connection | None = None
    try:
        guard = connect(path, engine, "ro")
        # it needs no page but the first, which may be all there is; the lock is had also if that is damaged
        list(guard.rows("PRAGMA user_version"))
    except (OSError, JournalError, db.error):
        pass
    finally:
        db.close()
        if guard is not None:
            guard.close()
        with suppress(OSError):
            if not log.exists():
                kept.replace(log)


def _open(path: Path, db: Connection, marks: MarksFile, chain: Chain, first: dict[str, str]) -> Opened:
    new = schema.is_empty(db, path)
    if new and marks.tells_of_entries:
        raise JournalCorrupt(
            f"{path} is empty, but position {marks.written} had been reached: put the file back; "
            f"if the journal is to begin anew, delete {marks.path.name}",
            1,
        )
    try:
        for pragma in _PRAGMAS:
            db.run(pragma)
        if new:
            db.run("PRAGMA auto_vacuum = INCREMENTAL")
        mode = schema.one(db.rows("PRAGMA journal_mode = WAL"))
        if mode != "wal":
            raise JournalError(
                f"{path} cannot use a write-ahead log (it is {mode!r}); use a local file system"
            )
        if new:
            schema.create(db, first, chain)
            # without its write-ahead log the file must not look like one that nobody has used
            list(db.rows("PRAGMA wal_checkpoint(TRUNCATE)"))
        db.run("PRAGMA synchronous = NORMAL")
    except db.error as problem:
        raise schema.unreadable(path, problem) from problem
    settings = schema.check_settings(schema.settings(db, path), chain, path)
    floor, before = int(settings["floor"]), bytes.fromhex(settings["floor_checksum"])
    marks.adopt(bytes.fromhex(settings["generation"]))
    if marks.dead:
        raise JournalDead(
            f"{path}: a sync or a write failed here, so nobody knows what is on the disk; "
            f"go on in a new file with recover_into"
        )
    schema.lend(db)
    tail = check_tail(Log(db, path), chain, floor, before)
    head, checksum = (tail.last, tail.checksum) if tail else (floor, before)
    head = gaps_of(db).get(head + 1, head)
    lost = _compare(path, head, marks)
    seals = check_seals(db, chain, path)
    _compare_cursors(path, head, saved.cursors(db, chain))
    try:
        schema.take_back(db)
        migrate(db, path)
        end = head, checksum
        seals, wal, cut, told = _begin_run(
            path, db, marks, chain, seals, end, lost, settings, is_made_now=new
        )
    except db.error as problem:
        raise schema.unreadable(path, problem) from problem
    for statement in schema.AIDS:  # last: a file that is refused is left as it is
        with suppress(db.error):  # no room for it, or damage: then everything is only slower
            db.run(statement)
    stems = settings.get("stems", None if head else "")
    origin = settings.get("origin", "")
    return Opened(path, db, marks, chain, floor, head, checksum, wal, told, cut, origin, stems, seals)


def _first_settings(chain: Chain, floor: int, origin: str | None, ancestors: str) -> dict[str, str]:
    return {
        **({"ancestors": ancestors} if ancestors else {}),
        "generation": os.urandom(16).hex(),
        "origin": new_name() if origin is None else origin,
        "checksum": chain.kind,
        "floor": str(floor),
        "floor_checksum": chain.start.hex(),
        "run": "0",
    }


def check_tail(log: Log, chain: Chain, floor: int, before: bytes) -> Row | None:
    """Hold the newest batches against the chain, and return the last one.

    Raises `JournalCorrupt` with the first position that cannot be trusted.
    """
    rows: list[Row] = []
    size = 0
    for row in log.backwards():
        rows.append(row)
        size += len(row.data)
        if len(rows) > TAIL_BATCHES or size > TAIL_BYTES:
            break
    else:
        rows.append(Row(floor + 1, 0, 0, 0, before, b""))
    gaps = gaps_of(log.db)
    rows.reverse()
    for previous, row in pairwise(rows):
        expected = gaps.get(previous.last + 1, previous.last) + 1
        wrong = judge(row, expected, previous.checksum, chain)
        if wrong is not None:
            raise JournalCorrupt(
                f"{log.path}: {wrong}; what is before can be read; go on in a new file with recover_into",
                min(expected, row.first),
            )
    return rows[-1] if rows[-1].size else None


def _compare(path: Path, head: int, marks: MarksFile) -> int:
    """Hold the head against what the last writer had reached; return what a power cut took at `process`."""
    if not marks.found:
        return 0
    due = marks.written if marks.same_boot else marks.synced
    if head < due:
        raise JournalCorrupt(
            f"{path} ends at position {head}, but {due} had been reached: "
            f"its write-ahead log is damaged or gone. Go on in a new file with recover_into; "
            f"if you have put back a backup by hand, do it with `openoutcry restore`",
            head + 1,
        )
    return max(0, marks.written - head)


def _compare_cursors(path: Path, head: int, cursors: list[CursorState]) -> None:
    """Hold the head against the cursors, never ahead of it: they tell of a lost end without the marks.

    A flipped bit in a log that a checkpoint had copied takes new pages back, but not all of them.
    """
    for cursor in cursors:
        furthest = max(cursor.floor, *(last for _, last in cursor.settled), 0)
        if furthest > head:
            raise JournalCorrupt(
                f"{path} ends at position {head}, but {cursor.subscription!r} has settled "
                f"{furthest}: its write-ahead log is damaged. Go on in a new file with recover_into",
                head + 1,
            )


def _begin_run(
    path: Path,
    db: Connection,
    marks: MarksFile,
    chain: Chain,
    seals: Seals | None,
    end: End,
    lost: int,
    settings: dict[str, str],
    *,
    is_made_now: bool,
) -> tuple[Seals | None, int, PowerCut | None, int]:
    """Take over what the last run had in flight, and what a power cut took of it, once.

    Returns the seals, a descriptor of the write-ahead log for syncs, the record of power cuts, and how many
    lost entries are to be told of.
    """
    head, _ = end
    run = str(marks.run)
    is_new = marks.found and run != settings.get("run")
    left = marks.in_flight(head) if is_new else []
    cut = power_cuts.after(power_cuts.read(settings), lost if is_new else 0, head + 1)
    is_told = cut is None or cut.is_told(run if marks.found else "")
    told = 0 if cut is None or is_told else cut.lost
    if cut is not None and not is_told:
        cut = msgspec.structs.replace(cut, told_after=run)
    changed = [*suspected(left), *(() if is_told else of_settings(power_cuts.SETTING))]
    db.run("BEGIN IMMEDIATE")
    _write_log_again(path)
    if seals is not None and changed:
        seals.before(changed)
    if cut is not None and not is_told:
        db.run(schema.SAVE_META, schema.setting(power_cuts.SETTING, cut.text(), chain))
    saved.accuse(db, left)
    db.run(schema.SAVE_META, schema.setting("run", run, chain))
    if seals is not None and changed:
        seals.after(end)
    elif seals is None and chain.kind == KEYED:
        seals = _seal(path, db, chain, end, is_made_now=is_made_now)
    db.run("COMMIT")
    if seals is not None:
        seals.saved()
    return seals, _open_log(path, marks, head), cut, told


def _seal(path: Path, db: Connection, chain: Chain, end: End, *, is_made_now: bool) -> Seals:
    """Seal a file for the first time, inside the open transaction."""
    if end[0] and not is_made_now:  # one that a recovery makes begins where retention had come
        log.warning(
            "%s has had no seals; it is sealed from now on, as it is: whether rows beside the log were old "
            "or missing before, nobody can tell",
            path,
        )
    db.run(schema.SAVE_META, schema.setting("sealed", str(end[0]), chain))
    seals = Seals(db, chain)
    seals.renew(end)
    return seals


def _open_log(path: Path, marks: MarksFile, head: int) -> int:
    """Return a descriptor of the write-ahead log, after a first sync, and sign the marks for this run."""
    wal = os.open(f"{path}-wal", os.O_RDWR | os.O_CLOEXEC)
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        os.close(wal)
        raise
    try:
        os.fdatasync(wal)
        os.fsync(folder)
    except OSError as problem:
        os.close(wal)
        marks.die()
        raise JournalDead(f"{path}: the first sync failed ({problem}); see to the disk") from problem
    finally:
        os.close(folder)
    marks.begin_run(head, head)
    try:
        marks.sync()
    except OSError as problem:
        os.close(wal)
        marks.die()
        raise JournalDead(f"{marks.path}: the first sync failed ({problem}); see to the disk") from problem
    return wal


def _write_log_again(path: Path) -> None:
    """Make every page of the write-ahead log dirty, while nobody else may write to it.

    If a process was killed in the instant in which its sync failed, the page cache calls pages clean that are
    not on the disk, and the first sync of the next one would succeed with nothing done.
    """
    with suppress(FileNotFoundError):
        wal = os.open(f"{path}-wal", os.O_RDWR | os.O_CLOEXEC)
        try:
            at = 0
            while piece := os.pread(wal, _COPY_BYTES, at):
                at += os.pwrite(wal, piece, at)
        finally:
            os.close(wal)
