"""`openoutcry doctor`: checks whether this machine, and a journal, are fit to run a firm."""

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import sqlite3
import stat
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path
from time import sleep
from typing import Final

import click
import msgspec

from openoutcry.cli.console import print_lines, say, table
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import plainly
from openoutcry.cli.journal.options import read_key
from openoutcry.cli.journal.reading_classes import ClassRow, read_classes, show_classes
from openoutcry.cli.loading import load_app
from openoutcry.cli.mistakes import FAILED, Mistake
from openoutcry.compiled import compiled_modules
from openoutcry.errors import JournalError
from openoutcry.journals import JournalReader
from openoutcry.journals.disk_room import room_of, say_log, say_room
from openoutcry.journals.engines import choose, database_errors, is_unsafe, sqlite_version
from openoutcry.journals.glance import Glance, glance
from openoutcry.journals.lock_holders import readers_of
from openoutcry.journals.scanning import letters_of
from openoutcry.journals.showing import json_line
from openoutcry.journals.swapping import planted_beside
from openoutcry.ports import LogState
from openoutcry.runtime.control.client import ask
from openoutcry.runtime.control.server import socket_path
from openoutcry.version import __version__

_NETWORK: Final = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs")
_PATIENCE_S: Final = 5.0


class Finding(msgspec.Struct):
    """One thing that was checked.

    Attributes:
        what: What it is.
        verdict: `ok`, `note`, `warn` or `FAIL`.
        said: What was found, and what to do about it.

    """

    what: str
    verdict: str
    said: str


@click.command()
@click.argument("path", metavar="[JOURNAL]", required=False, type=click.Path(path_type=Path, readable=False))
@click.option(
    "--app",
    "target",
    metavar="MODULE:APP",
    help="Also read every event and dead letter with the event classes of this app, as for run.",
)
@options.as_json
@options.key_file
def doctor(path: Path | None, target: str | None, as_json: bool, key_file: Path | None) -> None:
    """Check this machine, and a journal.

    Python, SQLite and optional packages; and of a journal permissions, locks, sizes, space and end.

    With --app also whether a release of your firm can read what the journal holds. The app is imported, but
    not called, and the journal is only read: also beside the running bus of another release.

    Exits with 1 if something must be put right.
    """
    if target is not None:
        if path is None:
            raise Mistake(f"--app {target}: name the journal that it is to read as well")
        with redirect_stdout(sys.stderr):  # what the app prints is no part of the report
            load_app(target, Path.cwd())
    findings = list(_machine())
    classes: list[ClassRow] = []
    if path is not None:
        with plainly(path):
            findings += _journal(path, read_key(key_file))
            if target is not None and not any(f.what == "journal" and f.verdict == "FAIL" for f in findings):
                classes = _classes(path, read_key(key_file), findings)
    found: list[Finding | ClassRow] = [*findings, *classes]
    if as_json:
        print_lines(map(json_line, found))
    else:
        table(("", "", ""), [(f.verdict, f.what, f.said) for f in findings])
        if classes:
            say()
            show_classes(classes)
    if any(one.verdict == "FAIL" for one in found):
        sys.exit(FAILED)


def _classes(path: Path, key: bytes | None, findings: list[Finding]) -> list[ClassRow]:
    """Return what the imported classes make of a journal; if it is damaged, say so in the findings."""
    unreadable: tuple[type[Exception], ...] = (JournalError, *database_errors())
    try:
        with JournalReader(path, key=key) as reader:
            return read_classes(reader)
    except unreadable as problem:
        findings.append(Finding("event classes", "FAIL", f"{type(problem).__name__}: {problem}"))
        return []


# This machine


def _machine() -> Iterator[Finding]:
    yield Finding("openoutcry", "ok", f"{__version__}, {_core()}")
    yield Finding("Python", "ok", f"{platform.python_version()} ({platform.python_implementation()})")
    yield from _sqlite()
    yield Finding("msgspec", "ok", importlib.metadata.version("msgspec"))
    for name, extra, use in (
        ("uvloop", "speed", "a faster event loop"),
        ("rich", "cli", "tables on a terminal"),
        ("pyarrow", "arrow", "export to Parquet"),
    ):
        if importlib.util.find_spec(name) is None:
            yield Finding(name, "note", f"not installed: {use} comes with pip install 'openoutcry[{extra}]'")
        else:
            yield Finding(name, "ok", importlib.metadata.version(name))


def _core() -> str:
    """Return which core runs: the bus is imported, and the files that it came from are looked at."""
    importlib.import_module("openoutcry.runtime.api.bus")
    count = len(compiled_modules())
    return f"compiled ({_counted(count, 'module', 'modules')})" if count else "pure Python"


def _sqlite() -> Iterator[Finding]:
    used = choose("auto")
    yield _library("sqlite3 (standard library)", sqlite_version("sqlite3"), used == "sqlite3")
    if importlib.util.find_spec("apsw") is None:
        yield Finding(
            "apsw", "note", "not installed: a newer SQLite comes with pip install 'openoutcry[speed]'"
        )
    else:
        yield _library("apsw", sqlite_version("apsw"), used == "apsw")
    if sqlite3.threadsafety == 0:
        yield Finding("sqlite3 threads", "FAIL", "SQLite is built without threads; use another Python")


def _library(name: str, version: tuple[int, int, int], used: bool) -> Finding:
    text = f"SQLite {'.'.join(map(str, version))}{', used for journals' if used else ''}"
    if not is_unsafe(version):
        return Finding(name, "ok", text)
    return Finding(
        name,
        "note",
        f"{text}; 3.7.0 to 3.51.2 can corrupt a write-ahead log when two connections write or checkpoint at "
        f"once. openoutcry uses one connection for both and is not affected, but its commits wait longer for "
        f"checkpoints than with a newer one: keep other programs read-only",
    )


def _counted(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


# A journal


def _journal(path: Path, key: bytes | None) -> Iterator[Finding]:
    real = Path(os.path.realpath(path))
    if not real.exists():
        yield Finding("journal", "FAIL", f"{path} does not exist; name the file that a bus writes to")
        return
    yield from _files(real)
    unreadable: tuple[type[Exception], ...] = (JournalError, *database_errors())
    try:
        with JournalReader(real, key=key) as reader:
            head, first = reader.head, reader.first
            letters, suspects = sum(1 for _ in letters_of(reader)), len(reader.suspects())
            reader.cursors()
            broken = reader.check_seals()
            is_unheld = key is None and reader.anchor().serial > 0
        side = glance(real)
    except unreadable as problem:
        yield Finding("journal", "FAIL", f"{type(problem).__name__}: {problem}")
        return
    yield Finding("journal", "ok", f"{real}: positions {first:,} to {head:,}")
    for one in broken:
        said = f"{one.what}; put back all of a copy, or run openoutcry recover"
        yield Finding("seals", "FAIL", said)
    yield from _beside(real, key, is_unheld=is_unheld)
    if is_unheld:
        yield Finding("seals", "note", "not looked at: give the key of this journal with --key-file")
    yield Finding(
        "left over",
        "note" if letters or suspects else "ok",
        f"{_counted(letters, 'dead letter', 'dead letters')}, {_counted(suspects, 'suspect', 'suspects')}",
    )
    if side is None:
        yield Finding("marks", "note", f"{real.name}-marks is not there; the next start makes it")
        return
    with side:
        yield from _marks(real, side, head)


def _beside(path: Path, key: bytes | None, *, is_unheld: bool) -> Iterator[Finding]:
    if not is_unheld and (planted := planted_beside(path, key=key)):
        yield Finding("beside", "warn", planted)


def _files(path: Path) -> Iterator[Finding]:
    for name in (path, *(Path(f"{path}-{end}") for end in ("wal", "shm", "marks"))):
        with suppress(FileNotFoundError):
            mode = stat.S_IMODE(name.stat().st_mode)
            others = mode & 0o077
            if others or name == path:
                said = f"{name.name} has mode {mode:04o}"
                remedy = f": other users can read it; chmod 600 {name}" if others else ""
                yield Finding("permissions", "warn" if others else "ok", said + remedy)
    if not os.access(path, os.R_OK | os.W_OK) or not os.access(path.parent, os.R_OK | os.W_OK | os.X_OK):
        yield Finding("access", "FAIL", f"this user cannot write to {path} and its folder")
    kind = _file_system(path)
    if kind in _NETWORK:
        yield Finding(
            "file system", "FAIL", f"{kind}: a write-ahead log does not work over a network; use a local disk"
        )
    elif kind:
        yield Finding("file system", "ok", kind)
    yield from _room(path)


def _room(path: Path) -> Iterator[Finding]:
    room = room_of(path)
    readers = _steady_readers(path) if room.is_log_long else []
    wrong = say_log(LogState(room.log_bytes, "reader" if readers else ""), readers)
    yield Finding("write-ahead log", "warn" if wrong else "ok", wrong or f"{room.log_bytes:,} bytes")
    wrong = say_room(room)
    said = f"{room.free_bytes:,} bytes"
    if not wrong and room.free_bytes < room.recovery_bytes:
        said += f"; a recovery of the journal would need {room.recovery_bytes:,}"
        yield Finding("free room", "note", said)
    else:
        yield Finding("free room", "warn" if wrong else "ok", wrong or said)


def _steady_readers(path: Path) -> list[int]:
    """Return the processes that read at several moments: a writer reads too, for each of its commits."""
    found = set(readers_of(path))
    for _ in range(2):
        if found:
            sleep(0.02)
            found &= set(readers_of(path))
    return sorted(found)


def _file_system(path: Path) -> str:
    """Return the type of the file system, or an empty string if the system does not tell."""
    found = ""
    longest = 0
    with suppress(OSError):
        for line in Path("/proc/self/mounts").read_text("utf-8", "replace").splitlines():
            _, mount, kind, *_ = line.split(" ")
            place = mount.replace("\\040", " ")
            if len(place) >= longest and path.is_relative_to(place):
                found, longest = kind, len(place)
    return found


def _marks(path: Path, side: Glance, head: int) -> Iterator[Finding]:
    if not side.found:
        yield Finding(
            "marks", "warn", f"{side.path.name} belongs to another journal; the next start makes a new one"
        )
        return
    if side.dead:
        yield Finding(
            "generation",
            "FAIL",
            "DEAD: a sync or a write has failed; check the disk, then run openoutcry recover",
        )
    writing = side.is_written
    cut = side.power_cut if writing else side.cut(head)
    if cut is not None:
        yield Finding("power cut", "warn", f"{cut}; have its publishers publish again")
    if head < side.due and not writing:
        yield Finding(
            "end", "FAIL", f"position {side.due:,} had been reached, and is gone; run openoutcry recover"
        )
    if not writing:
        left = len(side.accused(head))
        said = f"nobody; {_counted(left, 'call was', 'calls were')} in flight when the last one died"
        said = said if left else "nobody"
        yield Finding("writer", "note" if left else "ok", said)
        return
    yield Finding("writer", "ok", f"process {side.pid}")
    answer = ask(path, "ping", timeout_s=_PATIENCE_S)
    if answer is None:
        yield Finding(
            "local socket", "note", f"nobody listens at {socket_path(path)}: no bus, or socket = false"
        )
    elif answer.ok:
        yield Finding("local socket", "ok", f"the bus answers at {socket_path(path)}")
    else:
        yield Finding("local socket", "FAIL", answer.error)
