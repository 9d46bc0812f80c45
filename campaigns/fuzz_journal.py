"""Damaged journal files, given to everything that reads or opens them.

The input is a recipe: which journal, which SQLite library, and what is done to its files.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, Literal

from campaigns.fuzz_files import OPERATION, damaged, laid_out, original, restore, touched
from campaigns.fuzz_targets import Escaped, Target
from openoutcry.errors import JournalCorrupt, JournalError, NotAJournal, SchemaTooNew
from openoutcry.journals import JournalReader, SqliteJournal
from openoutcry.journals.glance import glance
from openoutcry.journals.recovery import recover_into
from openoutcry.ports import Filter, Stored

_Engine = Literal["apsw", "sqlite3"]
_UNTOUCHED: Final = (JournalCorrupt, NotAJournal, SchemaTooNew)


def try_journal(data: bytes) -> None:
    """Damage a journal as the recipe says, and read it, open it, and recover it."""
    if len(data) < 2:
        return
    before = original(data[0])
    engine: _Engine = "apsw" if data[1] % 2 else "sqlite3"
    files, changed = damaged(before.files, data[2:])
    whole = len(changed) < 2
    with laid_out(files) as path:
        _read(path, engine, before.entries, whole=whole)
        wrong = touched(path, files)
        if wrong:
            raise Escaped(f"a reader has changed {', '.join(wrong)}")
        restore(path, files)
        found = _recover(path, engine, before.entries)
        wrong = touched(path, files)
        if wrong:
            raise Escaped(f"recover_into has changed {', '.join(wrong)}")
        restore(path, files)
        _open(path, engine, before.entries, files, whole=whole)
        if _recover(path, engine, before.entries) < found:
            raise Escaped(f"after an attempt to open it, less than {found} entries can be recovered")


def _read(path: Path, engine: _Engine, entries: dict[int, Stored], *, whole: bool) -> None:
    for held in (True, False):
        try:
            reader = JournalReader(path, engine=engine, held=held)
        except JournalError:
            continue
        with reader:
            parts: tuple[Callable[[], object], ...] = (
                reader.cursors,
                reader.buried,
                reader.suspects,
                partial(reader.tail, 5, Filter(symbol="AAPL")),
                partial(getattr, reader, "first"),
                partial(reader.verify),
            )
            for part in parts:
                with suppress(JournalError):
                    part()
            with suppress(JournalError):
                got = reader.read(0, 10_000)
                if held:
                    _hold(got, entries)
            with suppress(JournalError):
                verified = reader.verify()
                if verified.intact and held and whole and glance_is_content(path, engine, reader.head):
                    _hold(reader.read(0, 10_000), entries, everything=True)


def glance_is_content(path: Path, engine: _Engine, head: int) -> bool:
    """Return True if the marks are there and know of nothing behind the head."""
    try:
        seen = glance(path, engine)
    except JournalError:
        return False
    if seen is None:
        return False
    with seen:
        return seen.due <= head


def _open(
    path: Path, engine: _Engine, entries: dict[int, Stored], files: dict[str, bytes], *, whole: bool
) -> None:
    try:
        journal = SqliteJournal(path, engine=engine)
    except _UNTOUCHED:
        wrong = [name for name in touched(path, files) if not name.endswith("-marks")]
        if wrong and whole:  # SQLite drops a log whose head is damaged when the database's is too
            raise Escaped(f"a refused opening has changed {', '.join(wrong)}") from None
        return
    except JournalError:
        return
    with suppress(JournalError), journal:
        if not files.get(""):
            return  # nothing was there, so a new journal was made
        _hold(journal.read(0, 10_000), entries, everything=whole)


def _recover(path: Path, engine: _Engine, entries: dict[int, Stored]) -> int:
    new = path.parent / "new.db"
    for left in path.parent.glob("new.db*"):
        left.unlink()
    try:
        recovered = recover_into(path, new, engine=engine)
    except JournalError:
        if new.exists():
            raise Escaped("recover_into has failed, and left a file") from None
        return 0
    with JournalReader(new, engine=engine) as reader:
        got = reader.read(0, 10_000)
        if not reader.verify().intact:
            raise Escaped("what recover_into has made is not intact")
    _hold(got, entries)
    return recovered.entries


def _hold(got: Iterable[Stored], entries: dict[int, Stored], *, everything: bool = False) -> None:
    """Raise `Escaped` where an entry is not what was written, or, asked for everything, one is not there."""
    got = list(got)
    for entry in got:
        if entries.get(entry.position) != entry:
            raise Escaped(f"{entry!r} was never written; {entries.get(entry.position)!r} was")
    if everything and len(got) != len(entries):
        raise Escaped(f"{len(entries) - len(got)} entries of {len(entries)} are missing, and nobody says so")


def recipes() -> list[bytes]:
    """Return every kind of damage to every file of every journal, once for each library."""
    made = [bytes([kind, engine]) for kind in range(3) for engine in range(2)]
    return made + [
        bytes([kind, what % 2]) + OPERATION.pack(which, what, 5000 + 977 * what, 3, 7)
        for kind in range(3)
        for which in range(3)
        for what in range(8)
    ]


JOURNAL: Final = Target(("openoutcry.journals",), recipes, (b"\0" * 8, b"\1\2\0\0\0\0\0\0"), try_journal)
