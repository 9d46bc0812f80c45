"""Putting a backup in the place of a journal, which is kept under another name.

```
  <backup> ──▶ <journal>-unfinished (verified, of a new generation)
                                │
  <journal>, -wal, -shm, .next  │  ──▶ <journal>.replaced-<n>, with the same endings
                                ╰──▶ <journal>
```

SQLite would replay whatever log stands beside a database, also that of another one. So the old database goes
first, then its log, and the new one comes last: at no moment does a database stand there with a log that is
not its own, or without one that is. The restore may end anywhere: until the old database has gone nothing
has happened; then the marks, whose lock is held, tell any opening that a restore was interrupted, and the
next restore goes on with it; once the new database stands there it is whole.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from openoutcry.errors import JournalCorrupt, JournalError, JournalLocked
from openoutcry.journals import schema
from openoutcry.journals.backup import BackedUp, copy_verified, unfinished, with_log
from openoutcry.journals.engines import EngineName, connect
from openoutcry.journals.glance import glance
from openoutcry.journals.marks import MarksFile
from openoutcry.journals.opening import chain_of, sync_folder
from openoutcry.journals.reading import JournalReader
from openoutcry.journals.refusals import kind_of, refusals_of
from openoutcry.journals.seals import check_seals, log_end
from openoutcry.journals.seals import settings as of_settings
from openoutcry.journals.verifying import Progress

_MOVED: Final = (".next", ".next-marks", ".next-wal", ".next-shm", "", "-wal", "-shm", "-journal")
"""What is set aside, in this order: no half-built journal is taken for the next one, and no log is left alone
with another database.
"""


class Restored(BackedUp, frozen=True, kw_only=True):
    """What a restore has put in the place of a journal; the rest is that of the backup.

    Attributes:
        replaced: Where the journal is kept that stood there; None if there was none.
        newer: How many entries that one has which came after the backup; None where that cannot be told,
            since it is damaged, or not a continuation of what the backup holds.

    """

    replaced: Path | None
    newer: int | None


def restore(
    backup: str | Path,
    journal: str | Path,
    *,
    key: bytes | None = None,
    engine: EngineName = "auto",
    progress: Progress | None = None,
) -> Restored:
    """Put a backup in the place of a journal that nobody writes to, and keep what stood there.

    Readers may have it open: they go on with the old file. The backup is copied, verified and on the disk
    before anything is moved, and verified again in its place; it stays as it is. What is restored is a new
    generation of the same origin: no file of the old one is taken for a part of it, and handling an event
    again derives the ids of the first time. `progress` is called as in `backup`. Interrupted at any moment,
    the old journal or the new one stands there, or opening says that the restore is to be run again.

    Raises:
        JournalLocked: A process writes to the journal, or to the backup.
        JournalCorrupt: The backup is damaged. Nothing was moved.
        JournalFull: There is no room for it. Nothing was moved.
        JournalError: The backup is the journal itself, or the files cannot be moved; or it is sealed and
            `key` is missing.
        NotAJournal, SchemaTooNew: The backup cannot be read at all.

    """
    source, place = Path(os.path.realpath(backup)), Path(os.path.realpath(journal))
    with refusals_of(place):
        _check(source, place, engine)
        with _locked(place) as marks, unfinished(place) as making:
            begin = partial(_begin_generation, key=key, engine=engine)
            made = copy_verified(source, making, key, engine, progress, begin)
            with_log(making, has_log=True)
            _take_after(place, making, marks.path)
            if place.exists():
                making.chmod(place.stat().st_mode & 0o777)
            replaced = _set_aside(place, marks)
            making.replace(place)
            sync_folder(place)
            _verify(place, made, key, engine)
            marks.forget()
        newer = 0 if replaced is None else _newer(replaced, place, engine)
    return Restored(
        path=place,
        anchor=made.anchor,
        first=made.first,
        entries=made.entries,
        newest_ns=made.newest_ns,
        size_bytes=made.size_bytes,
        replaced=replaced,
        newer=newer,
    )


def _check(source: Path, place: Path, engine: EngineName) -> None:
    """Raise unless a file is a journal that nobody writes to, and may come to a place."""
    if kind := kind_of(place):
        raise JournalError(f"{place} is {kind}, not a journal; name the one that is to be replaced")
    if source == place or (source.exists() and place.exists() and source.samefile(place)):
        raise JournalError(f"{source} is the journal itself; name a backup of it")
    with JournalReader(source, engine=engine):
        side = glance(source, engine)
    if side is not None:
        with side:
            if side.is_written:
                raise JournalLocked(
                    f"{source} is being written by process {side.pid}: it is no backup; make one of it with "
                    "`openoutcry backup`, and restore that",
                    side.pid,
                )


@contextmanager
def _locked(place: Path) -> Iterator[MarksFile]:
    """Yield the marks of the journal, which keeps every writer away."""
    marks = MarksFile(Path(f"{place}-marks"))
    is_done = False
    try:
        yield marks
        is_done = True
    finally:
        marks.close(remove=not is_done and not marks.set_aside_as)


def _newer(replaced: Path, place: Path, engine: EngineName) -> int | None:
    """Return how many entries of the old journal come after those of the new one; None if nobody knows."""
    try:
        with (
            JournalReader(replaced, engine=engine, held=False) as old,
            JournalReader(place, engine=engine, held=False) as new,
        ):
            common = min(old.head, new.head)
            was, now = (_id_at(reader, common) for reader in (old, new))
            return old.head - common if was == now else None
    except Exception:  # noqa: BLE001 - whatever is the matter with a journal that was replaced
        return None


def _id_at(reader: JournalReader, position: int) -> tuple[int, str | None] | None:
    """Return the entry at a position, or what comes next; None at the beginning."""
    if position == 0:
        return None
    entry = reader.read(position - 1, 1)[0]
    return entry.position, entry.head().event_id


def _begin_generation(making: Path, *, key: bytes | None, engine: EngineName) -> None:
    """Make a file that nobody has open a new generation, which says from which ones it goes on."""
    db = connect(making, engine, "rw")
    try:
        db.run("PRAGMA journal_mode = MEMORY")
        found, chain = schema.settings(db, making), chain_of(key)
        seals = check_seals(db, chain, making)
        db.run("BEGIN IMMEDIATE")
        if seals is not None:
            seals.before(of_settings("generation", "ancestors"))
        before = found["generation"][0]
        ancestors = f"{found.get('ancestors', ('', b''))[0]} {before}".strip()
        for name, value in (("generation", os.urandom(16).hex()), ("ancestors", ancestors)):
            db.run(schema.SAVE_META, schema.setting(name, value, chain))
        if seals is not None:
            seals.after(log_end(db))
        db.run("COMMIT")
    except db.error as problem:
        raise JournalError(f"{making} could not be written: {problem}; see to the disk") from problem
    finally:
        db.close()


def _take_after(place: Path, *files: Path) -> None:
    """Give files to the owner of the journal that they replace, or of the folder where there was none.

    Only root may do that, and has to: the bus that runs as somebody else could not open them.
    """
    owner = (place if place.exists() else place.parent).stat()
    if os.geteuid() == 0:
        for file in files:
            os.chown(file, owner.st_uid, owner.st_gid)


def _set_aside(place: Path, marks: MarksFile) -> Path | None:
    """Move the files of the old journal out of the way, all under one name; return it, None without any.

    What an interrupted restore has begun is ended under the name that it had chosen.
    """
    number = marks.set_aside_as
    if not number or (_size(place) and os.path.lexists(_aside(place, number))):
        number = 1 + max(_numbers(place), default=0)
    aside = _aside(place, number)
    if _size(place):
        if not marks.created:
            copy = Path(f"{aside}-marks")
            marks.copy_to(copy)
            _take_after(place, copy)
    elif os.path.lexists(aside):
        place.unlink(missing_ok=True)  # an opening has made it, and was then refused
    marks.begin_to_set_aside(number)
    for ending in _MOVED:
        if os.path.lexists(f"{place}{ending}"):
            Path(f"{place}{ending}").rename(f"{aside}{ending}")
        if ending == "":
            sync_folder(place)
    sync_folder(place)
    return aside if os.path.lexists(aside) else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _aside(place: Path, number: int) -> Path:
    return Path(f"{place}.replaced-{number}")


def _numbers(place: Path) -> Iterator[int]:
    """Yield the numbers under which journals of this place have been set aside."""
    prefix = f"{place.name}.replaced-"
    for name in os.listdir(place.parent):  # noqa: PTH208 - names are all that is wanted
        digits = name.removeprefix(prefix).partition("-")[0].partition(".")[0]
        if name.startswith(prefix) and digits.isdecimal():
            yield int(digits)


def _verify(place: Path, made: BackedUp, key: bytes | None, engine: EngineName) -> None:
    """Raise `JournalCorrupt` unless what stands at a place is what was put there."""
    with JournalReader(place, key=key, engine=engine) as reader:
        found = reader.verify()
    ends = [(anchor.position, anchor.checksum) for anchor in (found.anchor, made.anchor)]
    if not found.intact or ends[0] != ends[1]:
        what = found.problems[0].what if found.problems else f"it ends at position {found.anchor.position}"
        raise JournalCorrupt(f"{place} is not what was restored ({what}): see to the disk, and restore again")
