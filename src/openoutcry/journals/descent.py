"""Of which journal a next one is made: what a recovery notes in the new file, and how that is verified.

A file of any name can be put beside a journal. So the setting `next_of`, which is sealed as all settings
are and written in the last commit of the recovery, names the old journal by its generation and the run of its
last writer. A file without it is unfinished or somebody else's; one with another is older, or of another
journal.
"""

import os
import stat
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from openoutcry.errors import JournalError
from openoutcry.journals import schema
from openoutcry.journals.engines import EngineName, connect
from openoutcry.journals.log import Log
from openoutcry.journals.marks import identity_in
from openoutcry.journals.opening import chain_of, check_tail
from openoutcry.journals.refusals import kind_of

_UNKNOWN: Final = "file"


def bond_of(database: Path, marks: Path, engine: EngineName) -> str:
    """Return what names a journal as it stands now, from its files: it is another one after an opening.

    Where neither file can tell the generation, the file itself is named.
    """
    generation = _generation_of(database, engine)
    marked = identity_in(marks)
    if marked is not None and generation in ("", marked[0]):
        return f"{marked[0]}:{marked[1]}"
    if generation:
        return f"{generation}:"
    found = database.stat()
    return f"{_UNKNOWN}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"


def _generation_of(database: Path, engine: EngineName) -> str:
    with suppress(Exception):  # whatever SQLite says of a damaged file
        db = connect(database, engine, "ro&immutable=1")
        try:
            return schema.settings(db, database)["generation"][0]
        finally:
            db.close()
    return ""


def why_foreign(path: Path, owners: Collection[int]) -> str:
    """Return why a file cannot be one that this journal's bus has made; empty where it may be one."""
    try:
        kind = kind_of(path)
        owner = path.lstat().st_uid
    except OSError as problem:
        return f"it cannot be looked at ({problem.strerror})"
    if kind:
        return f"it is {kind}"
    if owner not in owners:
        return f"it is user {owner}'s, and this process runs as user {os.geteuid()}"
    return ""


def why_not_next(
    path: Path, bonds: Collection[str], owners: Collection[int], key: bytes | None, engine: EngineName
) -> str:
    """Return why a file is not the next journal of one of those; empty if it is."""
    beside = Path(f"{path}-marks")
    why = why_foreign(path, owners) or (os.path.lexists(beside) and why_foreign(beside, owners))
    if why:
        return why
    try:
        return _why_other(path, bonds, key, engine)
    except (JournalError, OSError) as problem:
        return str(problem)
    except Exception as problem:  # noqa: BLE001 - whatever SQLite says of another file
        return f"it cannot be read as a journal ({problem})"


def _why_other(path: Path, bonds: Collection[str], key: bytes | None, engine: EngineName) -> str:
    chain = chain_of(key)
    db = connect(path, engine, "ro&immutable=1")  # a log beside it is not ours: a recovery leaves none
    try:
        if schema.is_empty(db, path):
            return "it is empty"
        settings = schema.check_settings(schema.settings(db, path), chain, path)
        bond = settings.get(schema.NEXT_OF)
        if bond is None:
            return "it does not say whose next one it is: it is unfinished, or an earlier version made it"
        if bond not in bonds:
            return "it is not made from the journal as it is now, but from another one or an older state"
        schema.lend(db)
        check_tail(Log(db, path), chain, int(settings["floor"]), bytes.fromhex(settings["floor_checksum"]))
    finally:
        db.close()
    return ""


def is_leftover(
    path: Path, bond: str, owners: Collection[int], key: bytes | None, engine: EngineName
) -> bool:
    """Return True if a file is a next journal of this generation, of whichever state of it."""
    if why_foreign(path, owners):
        return False
    with suppress(Exception):  # then it is not known to be one
        db = connect(path, engine, "ro&immutable=1")
        try:
            settings = schema.check_settings(schema.settings(db, path), chain_of(key), path)
        finally:
            db.close()
        found = settings.get(schema.NEXT_OF, "")
        return found == bond or (_origin_of(found) == _origin_of(bond) != _UNKNOWN)
    return False


def _origin_of(bond: str) -> str:
    return bond.partition(":")[0]


def is_journal(path: Path, engine: EngineName) -> bool:
    """Return True if a file is some journal that is not empty."""
    with suppress(Exception):  # whatever SQLite says of another file
        if stat.S_ISREG(path.lstat().st_mode):
            db = connect(path, engine, "ro&immutable=1")
            try:
                return not schema.is_empty(db, path)
            finally:
                db.close()
    return False
