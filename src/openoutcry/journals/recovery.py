"""Going on in a new file: what verifies in an old one is copied, and what does not is listed."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from openoutcry.errors import JournalCorrupt, JournalError, JournalFull
from openoutcry.journals import power_cuts, salvaging, saved, schema
from openoutcry.journals.engines import Connection, EngineName, connect_to_read, is_full
from openoutcry.journals.log import Log
from openoutcry.journals.marks import WRITTEN, MarksFile
from openoutcry.journals.opening import Opened, chain_of, open_file, sync_folder
from openoutcry.journals.power_cuts import PowerCut
from openoutcry.journals.refusals import SIDE_FILES, kind_of, real_path, refusals_of
from openoutcry.journals.rows import Chain, Row, is_urgent
from openoutcry.journals.salvaging import Doubts, Salvage, Standings
from openoutcry.journals.seals import End
from openoutcry.journals.verifying import Progress, judge
from openoutcry.ports import Changes

_BATCHES_PER_COMMIT: Final = 64
_POSITIONS: Final = 2**62
Placing = Callable[[], AbstractContextManager[None]]


class Recovered(msgspec.Struct, frozen=True):
    """What a recovery has carried over.

    Attributes:
        path: The new file.
        entries: Entries copied, each at the position that it had.
        lost: Stretches of positions that could not be, as (first, last): they stay empty in the new file.
        beside: What was lost of cursors, dead letters, agents' memory, the origin and the rest beside the
            log, in words. A subscription whose memory is lost has a snapshot of the form `lost`.

    """

    path: Path
    entries: int
    lost: tuple[tuple[int, int], ...]
    beside: tuple[str, ...]


def recover_into(
    source: str | Path,
    target: str | Path,
    *,
    key: bytes | None = None,
    engine: EngineName = "auto",
    progress: Progress | None = None,
    placing: Placing = nullcontext,
    next_of: str | None = None,
) -> Recovered:
    """Build a new journal, a new generation, from the rows of an old one that verify.

    Close the old one first; it stays as it is. A batch is copied if it and the checksum that stands before
    it agree, so that a damaged batch costs itself and, at worst, its neighbour. `progress` is called as in
    `verify`; within `placing` the new file is given its name, unless that raises. `next_of` is noted in it:
    of which journal it is made, where it is to take that one's place by itself.

    Raises:
        JournalLocked: A process writes to the old file, or to the new one.
        JournalFull: There is no room for the new file.
        JournalError: The new file exists, or cannot be made. There is none then.
        NotAJournal, SchemaTooNew: The old file cannot be read at all.

    """
    old, new = real_path(source), real_path(target)
    with refusals_of(new):
        if os.path.lexists(new):
            raise JournalError(f"{new} exists; name a file that does not")
    with refusals_of(old):
        if not old.is_file():
            raise JournalError(
                f"{old} is no file; put the journal back, or name the one that is to be recovered"
            )
        guard = MarksFile(Path(f"{old}-marks"))
    try:
        how = _How(chain_of(key), key, engine, progress, placing, next_of)
        return _recover(old, new, lambda db: _left(db, guard), how)
    finally:
        guard.close(remove=True)


def recover_beside(
    source: Path,
    target: Path,
    marks: MarksFile,
    *,
    key: bytes | None,
    engine: EngineName,
    progress: Progress | None = None,
    placing: Placing = nullcontext,
    next_of: str | None = None,
) -> Recovered:
    """Do as `recover_into` does with a file that this process has open, on any thread.

    Nothing may be written to it meanwhile. What is in flight goes on, so no call becomes a suspect.
    """
    if not marks.stands_at(Path(f"{source}-marks")):  # a copy was put in its place, whose lock is not ours
        return recover_into(
            source, target, key=key, engine=engine, progress=progress, placing=placing, next_of=next_of
        )
    how = _How(chain_of(key), key, engine, progress, placing, next_of)
    return _recover(source, target, lambda _db: _Left(marks.written), how)


class _How(NamedTuple):
    """How a recovery is made, as in `recover_into`."""

    chain: Chain
    key: bytes | None
    engine: EngineName
    progress: Progress | None
    placing: Placing
    next_of: str | None


def _recover(old: Path, new: Path, left: Callable[[Connection], "_Left"], how: _How) -> Recovered:
    db = _connect(old, how.engine)
    try:
        if schema.is_empty(db, old):
            raise JournalError(f"{old} is empty; there is nothing to recover")
        schema.lend(db)
        return _build(Log(db, old), new, left(db), how)
    finally:
        db.close()


def _connect(path: Path, engine: EngineName) -> Connection:
    try:
        return connect_to_read(path, engine)
    except Exception as problem:
        raise schema.unreadable(path, problem) from problem


class _Left(NamedTuple):
    """What the marks of the last writer tell: the heads that it had reached, and what was in flight.

    Attributes:
        reached: The head of its last commit.
        synced: That of its last sync.
        is_cut: Whether the machine has been started again since, and no opening has counted what that cost.
        in_flight: The calls that were not over, and that no opening has counted.
        run: That writer's run; empty where it is not known, and where it goes on.

    """

    reached: int = 0
    synced: int = 0
    is_cut: bool = False
    in_flight: tuple[tuple[str, str, int], ...] = ()
    run: str = ""


def _left(db: Connection, guard: MarksFile) -> _Left:
    with suppress(db.error, ValueError, KeyError):
        found = dict(db.rows("SELECT key, value FROM meta"))
        if guard.belongs_to(bytes.fromhex(found["generation"])):
            run = str(guard.run)
            counted = found.get("run") == run  # by an opening that ended before it could sign the marks
            reached = guard.written if guard.written < _POSITIONS else 0  # else it is damaged
            in_flight = () if counted else tuple(guard.in_flight(reached))
            is_cut = not (counted or guard.same_boot)
            return _Left(reached, guard.synced, is_cut, in_flight, run)
    return _Left()


def _build(log: Log, new: Path, left: _Left, how: _How) -> Recovered:
    """Build the new journal under another name, so that there is a whole one under its own, or none."""
    making, chain = new.with_name(f"{new.name}-recovering"), how.chain
    _clear(making)
    floor, before = _floor(log, chain)
    origin, doubts = _origin(log, chain)
    ancestors = _ancestors(log, chain)
    opened = open_file(making, how.key, how.engine, floor=floor, origin=origin, ancestors=ancestors)
    try:
        copier = _Copier(opened, floor, before, how.progress)
        beside = (*doubts, *_copy(log, opened, copier, left, how))
        # at closing SQLite would swallow an error of this
        if any(busy for busy, _, _ in opened.db.rows("PRAGMA wal_checkpoint(TRUNCATE)")):
            raise JournalError(f"{making} is being read by another program; end that, and recover again")
    except opened.db.error as problem:
        kind = JournalFull if is_full(problem) else JournalError
        raise kind(f"{new} could not be made: {problem}; see to the disk, and recover again") from problem
    finally:
        opened.db.close()
        os.close(opened.wal)
        opened.marks.close()
    with how.placing():
        for ending in ("-marks", ""):
            Path(f"{making}{ending}").replace(f"{new}{ending}")
        sync_folder(new)
    return Recovered(new, copier.copied, tuple(copier.lost), beside)


def _clear(making: Path) -> None:
    """Remove what an unfinished recovery has left under the name under which files are built."""
    for ending in ("", *SIDE_FILES, "-journal"):
        file = Path(f"{making}{ending}")
        with refusals_of(file):
            kind = kind_of(file)
            if kind:
                raise JournalError(f"{file} is {kind}, and stands where the new file is built; move it away")
            file.unlink(missing_ok=True)


def _copy(log: Log, opened: Opened, copier: "_Copier", left: _Left, how: _How) -> tuple[str, ...]:
    """Copy entries, then what stands beside them; return what was lost of that, in words."""
    chain = how.chain
    seals = Doubts(log.db, chain)
    standings = Standings(log.db, chain, seals, copier.at)
    memories = Salvage(log.db, chain, standings, seals)
    halts, lost_halts = salvaging.halts(log.db, chain)
    suspects, lost_suspects = salvaging.suspects(log.db, seals)
    copier.forwards(log)
    copier.backwards(log)
    cut = _power_cut(log, left, copier.at)
    # no position may be given a second time to another entry: a cursor would take it for settled
    copier.reach(max(left.reached, memories.reached, standings.reached))
    db = opened.db
    db.run("BEGIN IMMEDIATE")
    if cut is not None:
        db.run(schema.SAVE_META, schema.setting(power_cuts.SETTING, cut.text(), chain))
    db.run_many("INSERT INTO gaps VALUES(?, ?)", copier.lost)
    cursors, letters = standings.cursors, standings.letters
    changes = Changes(cursors=cursors, buried=letters, halts=halts, tombstones=memories.tombstones)
    saved.save(db, changes, chain)
    for snapshot in memories.take():
        saved.save(db, Changes(snapshots=[snapshot]), chain)
    with suppress(JournalError, log.db.error):
        saved.keep_last_letter_id(db, saved.last_letter_id(log.db))
    rows = [(s.subscription, s.lane, s.position, s.crashes) for s in suspects]
    db.run_many("INSERT INTO suspects VALUES(?, ?, ?, ?)", rows)
    saved.accuse(db, left.in_flight)
    if log.db.index is not None and log.db.index.hurt:
        raise JournalError(f"{log.db.index.hurt}, so it is not known what was read of it; recover again")
    if how.next_of is not None:  # in the last commit: without it the file is unfinished
        db.run(schema.SAVE_META, schema.setting(schema.NEXT_OF, how.next_of, chain))
    if opened.seals is not None:
        opened.seals.renew(copier.end)
    db.run("COMMIT")
    opened.marks.cells[WRITTEN] = copier.at
    return (*seals.said, *standings.lost, *lost_halts, *lost_suspects, *memories.lost)


def _power_cut(log: Log, left: _Left, end: int) -> PowerCut | None:
    """Return what is to be told of power cuts: what is missing behind the end was never synced."""
    before = None
    with suppress(JournalError, msgspec.MsgspecError):
        found = {key: value for key, (value, _) in schema.settings(log.db, log.path).items()}
        before = power_cuts.read(found)
    if before is not None and not before.is_told(left.run):
        before = msgspec.structs.replace(before, told_after="")
    begin = max(end, left.synced)
    return power_cuts.after(before, left.reached - begin if left.is_cut else 0, begin + 1)


def _floor(log: Log, chain: Chain) -> tuple[int, bytes]:
    """Return where the old journal begins; where that is damaged, at its first batch."""
    with suppress(JournalError, ValueError):
        found = schema.check_settings(schema.settings(log.db, log.path), chain, log.path)
        return int(found["floor"]), bytes.fromhex(found["floor_checksum"])
    with suppress(JournalError):
        for row in log.forwards():
            return row.first - 1, chain.start
    return 0, chain.start


def _origin(log: Log, chain: Chain) -> tuple[str | None, tuple[str, ...]]:
    """Return the origin of the old journal, None if it is lost, and what is to be said about that.

    A damaged one is no worse than a new one, and may be the right one: it is the others that are damaged.
    """
    try:
        value, check = schema.settings(log.db, log.path).get("origin", ("", None))
    except JournalError as problem:
        return None, (f"origin: {problem}; what handlers publish again gets new ids",)
    if check is not None and check != schema.setting("origin", value, chain)[2]:
        return value, ("origin: its checksum does not hold; what handlers publish again may get new ids",)
    return value, ()


def _ancestors(log: Log, chain: Chain) -> str:
    """Return the generations that the new journal goes on from, the last one last."""
    with suppress(JournalError, KeyError):
        found = schema.settings(log.db, log.path)
        value, check = found["generation"]
        if check == schema.setting("generation", value, chain)[2]:
            return f"{found.get('ancestors', ('', b''))[0]} {value}".strip()
    return ""


class _Copier:
    """Copies batches that verify into a new file, each at its place."""

    def __init__(self, opened: Opened, floor: int, before: bytes, progress: Progress | None) -> None:
        self._db = opened.db
        self._chain = opened.chain
        self._progress = progress
        self._old_before = before
        self._new_before = opened.chain.start
        self.at = floor
        self.copied = 0
        self.lost: list[tuple[int, int]] = []

    @property
    def end(self) -> End:
        """Where the new log ends."""
        return self.at, self._new_before

    def forwards(self, log: Log) -> None:
        """Copy from the beginning up to where the database cannot be read any more."""
        rows = iter(log.forwards(self.at + 1))
        more = True
        while more:
            some: list[Row] = []
            try:
                some.extend(islice(rows, _BATCHES_PER_COMMIT))
                more = len(some) == _BATCHES_PER_COMMIT
            except JournalCorrupt:
                more = False
            self._take(some)

    def backwards(self, log: Log) -> None:
        """Copy what can be read from the end, down to where `forwards` has come."""
        rest: list[Row] = []
        with suppress(JournalCorrupt):
            for row in log.backwards():
                if row.first <= self.at:
                    break
                rest.append(row)
        if rest:
            self._old_before = b""  # what stands before the last of them is not known
            self._take(rest[::-1])

    def reach(self, reached: int) -> None:
        """Leave empty what is missing up to a position."""
        if reached > self.at:
            self._skip(reached)

    def _take(self, rows: list[Row]) -> None:
        self._db.run("BEGIN IMMEDIATE")
        for row in self._good(rows):
            if row.first > self.at + 1:
                self._skip(row.first - 1)
            again = self._chain.link(
                self._new_before, row.first, row.size, row.first_ns, row.last_ns, row.data
            )
            self._db.run(schema.INSERT_BATCH, row._replace(checksum=again, urgent=int(is_urgent(row))))
            self._new_before, self.at = again, row.last
            self.copied += row.size
            if self._progress is not None:
                self._progress(row.last, rows[-1].last)
        self._db.run("COMMIT")

    def _good(self, rows: list[Row]) -> Iterator[Row]:
        for row in rows:
            if (
                row.first > self.at
                and judge(row, row.first, self._old_before, self._chain, marked=False) is None
            ):
                yield row
            self._old_before = row.checksum

    def _skip(self, last: int) -> None:
        self.lost.append((self.at + 1, last))
        self.at = last
