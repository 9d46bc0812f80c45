"""A replay kept as a journal: what came from outside, and what agents have published now."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Final

from openoutcry.errors import ConfigError
from openoutcry.events import encode, stamps
from openoutcry.journals import MemoryJournal, SqliteJournal
from openoutcry.journals.matching import own_ns
from openoutcry.ports import Entry, Level, Stored
from openoutcry.replay.script import Script

_BATCH: Final = 512
_ASIDE: Final = ("-wal", "-shm", "-marks")


def must_be_new(path: Path) -> None:
    """Raise `ConfigError` where there is a file already, or no folder for one."""
    if path.exists():
        raise ConfigError(f"--into {path}: there is such a file; name a new one")
    if not path.parent.is_dir():
        raise ConfigError(f"--into {path}: there is no folder {path.parent}; make it first")


def delete(path: Path) -> None:
    """Delete a journal that was not finished."""
    for one in (path, *(Path(f"{path}{end}") for end in _ASIDE)):
        one.unlink(missing_ok=True)


def keep(script: Script, journal: MemoryJournal, path: Path, *, goes_on: bool = False) -> None:
    """Write what has happened in a replay into a journal, which is named as the day's, for its ids.

    With `goes_on` it goes behind what is there of the lives before. Of a check, where agents are handed what
    was recorded, it has what they published instead. If it cannot be written, there is none. Raises
    `ConfigError` where there is a file already, and `JournalError`.
    """
    if not goes_on:
        must_be_new(path)
    entries = journal.read(script.day.life.base, journal.head)
    if not script.admits_what_is_new:
        entries = _as_published(script, entries)
    try:
        with stamps(ids=lambda: journal.origin):
            file = SqliteJournal(path)
        with file:
            for written in _batches(entries):
                file.write(written)
            file.sync()
    except BaseException:
        delete(path)
        raise


def _as_published(script: Script, entries: list[Stored]) -> list[Stored]:
    """Return entries with what was published now in place of what was recorded, by their times."""
    published, by_id = script.published, script.day.by_id
    found: list[Stored] = []
    for entry in entries:
        recorded = by_id.get(entry.head().event_id or "")
        now = None if recorded is None else published.get(recorded.event.event_id)
        if recorded is None or now is recorded.event:
            found.append(entry)
        elif now is not None:
            found.append(_with(entry, encode(now)))
        elif not recorded.is_made:
            found.append(entry)
    extra = [encode(event) for event_id, event in published.items() if event_id not in by_id]
    found += [Stored(0, data, "normal", Level.PROCESS, own_ns(data) or 0) for data in extra]
    return sorted(found, key=lambda entry: entry.wall_ns)


def _with(entry: Stored, payload: bytes) -> Stored:
    return Stored(entry.position, payload, entry.lane, entry.level, entry.wall_ns, entry.header)


def _batches(entries: Iterable[Stored]) -> Iterator[list[Entry]]:
    """Yield what is written at once: what stands beside the log goes by itself."""
    for _, alike in groupby(entries, lambda entry: entry.is_beside):
        batch: list[Entry] = []
        for entry in alike:
            event_id = entry.head().event_id or ""
            batch.append(Entry(event_id, entry.payload, entry.lane, entry.level, entry.wall_ns, entry.header))
            if len(batch) == _BATCH:
                yield batch
                batch = []
        if batch:
            yield batch
