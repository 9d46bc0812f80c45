"""Examples of a firm's events, kept in a file: today's classes must read what earlier ones have written.

The file is made by one release and read by all later ones, so it belongs into the repository of the firm.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from openoutcry.events import Undecodable, encode
from openoutcry.events.survey import Survey, SurveyRow
from openoutcry.journals import JournalReader

_SQLITE: Final = b"SQLite format 3\x00"
_PAGE: Final = 1_024


class NotReadable(AssertionError):
    """Events that were written by earlier releases cannot be read, or not as they were.

    Attributes:
        rows: What became of each class and version.

    """

    def __init__(self, message: str, rows: tuple[SurveyRow, ...]) -> None:
        super().__init__(message)
        self.rows = rows


def write_examples(path: str | Path, events: Iterable[Any]) -> int:
    """Add events to a file of examples, one JSON object in each line, and return how many were added.

    What the file has stays as it is, byte for byte, and so does every class and version that it has: writing
    the same examples again changes nothing. So call it, by hand, after a class has got another version.
    Raises `InvalidEvent` for an event that cannot be journaled; then nothing is written.
    """
    path = Path(path)
    before = path.read_bytes() if path.exists() else b""
    there = {_version_of(line) for line in before.splitlines() if line.strip()}
    lines = [line for line in map(encode, events) if _version_of(line) not in there]
    if lines:
        gap = b"" if not before or before.endswith(b"\n") else b"\n"
        with path.open("ab") as file:
            file.write(gap + b"\n".join(lines) + b"\n")
    return len(lines)


def _version_of(line: bytes) -> tuple[str, int]:
    fields = json.loads(line)
    return fields["event_class"], fields.get("schema_version", 1)


def check_readable(path: str | Path) -> tuple[SurveyRow, ...]:
    """Read every event in a file of examples, or in a journal, with the classes that are imported now.

    Raises `NotReadable`, an `AssertionError`, if one cannot be read, with each class and version that fails
    and why; and if one of the present version of its class would not be written again with the values that it
    has. An empty file fails as well. Returns what became of each class and version, for closer looks.
    """
    path = Path(path)
    survey, changed = Survey(), dict[str, str]()
    with path.open("rb") as file:
        is_journal = file.read(len(_SQLITE)) == _SQLITE
    for payloads, places in _from_journal(path) if is_journal else _from_lines(path):
        for payload, place, (row, event) in zip(payloads, places, survey.add(payloads, places), strict=True):
            if not isinstance(event, Undecodable) and row.schema_version == row.known_version:
                _compare(row, payload, event, place, changed)
    rows = tuple(survey.rows)
    problems = [
        f"  {row}: {row.unreadable} of {row.events} cannot be read, the first at {row.first}: {row.error}"
        for row in rows
        if row.unreadable
    ]
    problems += [f"  {name}: {problem}" for name, problem in changed.items()]
    if not rows:
        problems = ["  there is no event in it; fill it by write_examples"]
    if problems:
        raise NotReadable("\n".join([f"{path} is not read by the classes here:", *problems]), rows)
    return rows


def _compare(row: SurveyRow, payload: bytes, event: Any, place: int, changed: dict[str, str]) -> None:
    """Note if data of the present version comes out otherwise: a class has changed and kept its version."""
    before, after = json.loads(payload), json.loads(encode(event))
    for key, value in before.items():
        found = after.get(key)
        if found != value:
            changed.setdefault(
                f"{row}",
                f"{key} = {value!r} at {place} is read as {found!r}, though the version is the same; raise "
                "schema_version and register an upcaster",
            )


def _from_lines(path: Path) -> Iterator[tuple[list[bytes], list[int]]]:
    payloads, places = [], []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                payloads.append(line.strip())
                places.append(number)
            if len(payloads) == _PAGE:
                yield payloads, places
                payloads, places = [], []
    if payloads:
        yield payloads, places


def _from_journal(path: Path) -> Iterator[tuple[list[bytes], list[int]]]:
    """Yield the events of a journal by the page, and those of its dead letters."""
    with JournalReader(path) as reader:
        after = reader.first - 1
        while page := reader.read(after, _PAGE):
            yield [entry.payload for entry in page], [entry.position for entry in page]
            after = page[-1].position
        after = 0
        while letters := reader.buried(None, after, _PAGE):
            yield [letter.payload for letter in letters], [letter.position for letter in letters]
            after = letters[-1].letter_id
