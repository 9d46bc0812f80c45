"""Journal files to be damaged: real ones, whole and as a crash leaves them, and the ways to damage them."""

import random
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from campaigns.fuzz_targets import room
from openoutcry.events import encode
from openoutcry.journals import SqliteJournal
from openoutcry.ports import BuriedEvent, Changes, CursorState, Entry, Level, Stored
from openoutcry.trading import MarketDataEvent

ENDINGS: Final = ("", "-wal", "-marks")
PAGE: Final = 4096
OPERATION: Final = struct.Struct("<BBIBB")  # which file, what, where, and two arguments
OPERATIONS_MOST: Final = 6
START_NS: Final = 1_764_000_000_000_000_000
_BATCHES: Final = 40
_KINDS: Final = ("closed", "crashed", "both")


class Original(NamedTuple):
    """A journal as it was before it was damaged.

    Attributes:
        files: The bytes of each file that there was, by ending.
        entries: What stands in it, by position.

    """

    files: dict[str, bytes]
    entries: dict[int, Stored]


def original(kind: int) -> Original:
    """Return one of three journals: closed properly, crashed, and closed, opened, and crashed then."""
    return _original(_KINDS[kind % len(_KINDS)])


@cache
def _original(name: str) -> Original:
    folder = room() / f"original-{name}"
    folder.mkdir()
    path = folder / "firm.db"
    begin = 0
    if name != "crashed":
        with SqliteJournal(path, engine="sqlite3") as journal:
            begin = _fill(journal, begin)
    if name != "closed":
        with SqliteJournal(path, engine="sqlite3") as journal:
            _fill(journal, begin)
            files = _bytes_of(path)
            entries = journal.read(0, 10_000)
        return Original(files, {entry.position: entry for entry in entries})
    files = _bytes_of(path)
    with SqliteJournal(path, engine="sqlite3") as journal:
        entries = journal.read(0, 10_000)
    return Original(files, {entry.position: entry for entry in entries})


def _bytes_of(path: Path) -> dict[str, bytes]:
    files = {ending: Path(f"{path}{ending}") for ending in ENDINGS}
    return {ending: file.read_bytes() for ending, file in files.items() if file.exists()}


def _fill(journal: SqliteJournal, begin: int) -> int:
    rng = random.Random(begin)  # noqa: S311 - nothing secret
    number = begin
    for batch in range(_BATCHES):
        entries = []
        for _ in range(rng.randrange(1, 8)):
            number += 1
            event = MarketDataEvent(
                symbol="AAPL", price=float(number), source_agent="feed", event_id=f"t{number}"
            )
            level = Level.DISK if batch % 5 == 0 else Level.PROCESS
            entries.append(
                Entry(event.event_id, encode(event), level=level, wall_ns=START_NS + number * 10**9)
            )
        if journal.write(entries, _changes(batch, number)).wants_sync:
            journal.sync()
    return number


def _changes(batch: int, number: int) -> Changes:
    if batch % 8 != 7:
        return Changes()
    settled = CursorState(subscription="risk", lane="normal", floor=number - 2)
    letter = BuriedEvent(
        subscription="risk",
        lane="normal",
        position=number - 2,
        payload=b'{"event_class":"Nobody"}',
        reason="failed",
        error="KeyError: 'book'",
    )
    return Changes(cursors=[settled], buried=[letter] if batch == 15 else ())


def damaged(files: dict[str, bytes], recipe: bytes) -> tuple[dict[str, bytes], set[str]]:
    """Return the files as a recipe has damaged them, and the endings of those that are not as they were."""
    now = {ending: bytearray(content) for ending, content in files.items()}
    for at in range(0, min(len(recipe), OPERATIONS_MOST * OPERATION.size), OPERATION.size):
        piece = recipe[at : at + OPERATION.size]
        if len(piece) == OPERATION.size:
            which, what, where, first, second = OPERATION.unpack(piece)
            content = now.setdefault(ENDINGS[which % len(ENDINGS)], bytearray())
            _damage(content, what % 8, where, first, second)
    after = {ending: bytes(content) for ending, content in now.items()}
    return after, {ending for ending in ENDINGS if after.get(ending, b"") != files.get(ending, b"")}


def _damage(content: bytearray, what: int, where: int, first: int, second: int) -> None:
    size = len(content)
    at = where % size if size else 0
    if what == 0 and size:
        content[at] ^= 1 << first % 8
    elif what == 1 and size:
        content[at] = first
    elif what == 2:
        del content[at:]
    elif what == 3 and size >= 2 * PAGE:
        pages = size // PAGE
        one, other = first % pages * PAGE, second % pages * PAGE
        a, b = content[one : one + PAGE], content[other : other + PAGE]
        content[one : one + PAGE], content[other : other + PAGE] = b, a
    elif what == 4 and size:
        length = first * 16 + 1
        content[at : at + length] = bytes([second]) * len(content[at : at + length])
    elif what == 5 and size:
        head = where % min(size, 100)
        content[head] = first
    elif what == 6:
        content += bytes([first]) * (second * 16)
    elif what == 7:
        content.clear()


@contextmanager
def laid_out(files: dict[str, bytes]) -> Iterator[Path]:
    """Put files into a folder of their own, and yield the journal's path."""
    folder = room() / "case"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = folder / "firm.db"
    restore(path, files)
    try:
        yield path
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def restore(path: Path, files: dict[str, bytes]) -> None:
    """Put files back as they were, with nothing else of the journal's beside them."""
    for file in path.parent.glob(f"{path.name}*"):
        if file.is_file():
            file.unlink()
    for ending, content in files.items():
        Path(f"{path}{ending}").write_bytes(content)


def touched(path: Path, files: dict[str, bytes]) -> list[str]:
    """Return which files are not as they were laid out; zeros at the end of the marks are nothing."""
    now = _bytes_of(path)
    return [
        path.name + ending
        for ending in ENDINGS
        if now.get(ending) != files.get(ending) and _told(now, ending) != _told(files, ending)
    ]


def _told(files: dict[str, bytes], ending: str) -> bytes:
    content = files.get(ending, b"")
    return content.rstrip(b"\0") if ending == "-marks" else content
