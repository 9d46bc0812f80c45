"""What the tests of the journals share."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from openoutcry.journals import MemoryJournal, SqliteJournal, Verified
from openoutcry.ports import Entry, Header, Journal, Level

without_apsw = pytest.mark.skipif(find_spec("apsw") is None, reason="apsw is not installed")
NOON_NS = 1_764_000_000_000_000_000
_numbers = count(1)


def fresh_id() -> str:
    return f"test-{next(_numbers):x}"


def entry(
    event_id: str | None = None,
    *,
    lane: str = "normal",
    level: Level = Level.PROCESS,
    wall_ns: int = NOON_NS,
    header: Header | None = None,
    **fields: Any,
) -> Entry:
    """An entry as the bus would make it, without the cost of an event class."""
    event_id = event_id or fresh_id()
    event = {
        "event_class": "Note",
        "event_id": event_id,
        "timestamp": wall_ns,
        "event_type": "note",
        **fields,
    }
    return Entry(event_id, json.dumps(event, separators=(",", ":")).encode(), lane, level, wall_ns, header)


def entries(number: int, **fields: Any) -> list[Entry]:
    return [entry(**fields) for _ in range(number)]


def payloads(stored: Sequence[Any]) -> list[bytes]:
    return [one.payload for one in stored]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Factory:
    """Makes journals of one kind, and gives back the same one after a restart."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.path = folder / "firm.db"
        self.options: dict[str, Any] = {}
        self.made: list[Journal] = []
        if kind == "sqlite keyed":
            self.options["key"] = b"k" * 32
        if kind != "memory":
            self.options["engine"] = "apsw" if kind == "sqlite apsw" else "sqlite3"

    def open(self) -> Journal:
        journal: Journal = MemoryJournal() if self.kind == "memory" else self.open_file()
        self.made.append(journal)
        return journal

    def open_file(self) -> SqliteJournal:
        return SqliteJournal(self.path, **self.options)

    def reopen(self, journal: Journal) -> Journal:
        """Close, and open as the next process would."""
        journal.close()
        if isinstance(journal, MemoryJournal):
            return journal.reopened()
        return self.open()

    def close_all(self) -> None:
        for journal in self.made:
            journal.close()


def verify(journal: SqliteJournal, *arguments: Any, **options: Any) -> Verified:
    """Verify a journal's file through a reader, which is closed."""
    with journal.reader() as reader:
        return reader.verify(*arguments, **options)


_READ = """
import sqlite3, sys
db = sqlite3.connect("file:" + sys.argv[1] + "?mode=ro", uri=True, isolation_level=None)
db.execute("BEGIN")
db.execute("SELECT count(*) FROM batches").fetchone()
print("reading", flush=True)
sys.stdin.read()
"""


@contextmanager
def a_reader(path: Path) -> Iterator[int]:
    """Another process, by its id, that has begun to read a journal and does not end."""
    command = [sys.executable, "-c", _READ, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child.pid
        child.communicate()


def checkpoint(journal: SqliteJournal) -> list[str]:
    """Make a checkpoint as a runtime does, step by step; return what the steps were."""
    kinds = []
    step = journal.begin_checkpoint()
    while step is not None:
        kinds.append(type(step).__name__)
        step.perform()
        step = journal.end_checkpoint(step)
    return kinds
