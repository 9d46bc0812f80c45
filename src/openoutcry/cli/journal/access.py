"""Access to a journal: read it beside its writer; change it through the running bus, or under the lock."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from openoutcry.cli.console import say
from openoutcry.cli.journal.options import read_key
from openoutcry.cli.mistakes import Mistake
from openoutcry.errors import OpenOutcryError
from openoutcry.journals import JournalReader, SqliteJournal
from openoutcry.journals.engines import database_errors
from openoutcry.journals.glance import glance
from openoutcry.journals.refusals import must_exist, real_path, refusal
from openoutcry.runtime.control.client import ask


@contextmanager
def plainly(path: Path) -> Iterator[None]:
    """Turn errors of the database and the system about a file into one line."""
    damage: tuple[type[Exception], ...] = (
        *database_errors(),
        json.JSONDecodeError,
        msgspec.DecodeError,
    )
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as problem:
        raise Mistake(str(refusal(path, problem))) from problem
    except damage as problem:
        raise Mistake(
            f"{path} cannot be read: {problem}; see what `openoutcry doctor {path}` and `verify` find"
        ) from problem


@contextmanager
def reading(path: Path, key_file: Path | None = None, *, held: bool = True) -> Iterator[JournalReader]:
    """Open a journal for reading. Needs no lock, and does not block the writer."""
    with plainly(path), JournalReader(path, key=read_key(key_file), held=held) as reader:
        yield reader


@contextmanager
def writing(path: Path, key_file: Path | None = None) -> Iterator[SqliteJournal]:
    """Open a journal for writing, under its lock. Raises `JournalLocked` while a bus runs."""
    with plainly(path):
        must_exist(real_path(path))
        with SqliteJournal(path, key=read_key(key_file)) as journal:
            if journal.unsynced_lost:  # told once, and this is the opening that tells
                say(f"{path}: {journal.power_cut}; have its publishers publish again", err=True)
            yield journal


def writer_of(path: Path) -> int | None:
    """Return the process that writes to a journal now; None if none does, or that cannot be known."""
    with suppress(OpenOutcryError, OSError, *database_errors()):
        found = glance(path)
        if found is not None:
            with closing(found):
                return found.pid if found.is_written else None
    return None


def change(
    path: Path,
    key_file: Path | None,
    verb: str,
    arguments: dict[str, Any],
    offline: Callable[[SqliteJournal], int],
) -> tuple[int, bool]:
    """Have the running bus make a change or, if none runs, make it under the file's lock.

    Returns the resulting number, and whether a bus did it. Raises `Mistake` if the bus refuses.
    """
    with plainly(path):
        answer = ask(path, verb, **{name: value for name, value in arguments.items() if value is not None})
    if answer is not None:
        if not answer.ok:
            raise Mistake(answer.error)
        if not isinstance(answer.result, int):
            raise Mistake(f"what listens at {path} is no bus of this version: see whether it was done")
        return answer.result, True
    with writing(path, key_file) as journal:
        return offline(journal), False
