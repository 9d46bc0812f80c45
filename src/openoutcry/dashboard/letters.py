"""Dead letters for the page, by subscription and error: from the journal, or from the bus's memory."""

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from openoutcry.dashboard.events import SHOWN_BYTES_MAX, shown
from openoutcry.dashboard.journal_file import Deadline
from openoutcry.journals import JournalReader
from openoutcry.journals.scanning import letters_of
from openoutcry.ports import BuriedEvent
from openoutcry.printable import printable, printable_json, printable_lines

GROUPS_MAX: Final = 200
ERROR_MAX: Final = 300
TRACEBACK_MAX: Final = 16_000
MEMORY_PAGE: Final = 100
"""The firm's loop makes so many letters ready at once: about 5 ms."""
MEMORY_SHOWN: Final = 1_000
"""Of letters in memory the oldest are shown."""
IDS_AT_ONCE: Final = 10_000
_QUOTED: Final = re.compile(r"'[^']*\d[^']*'")
_WORD: Final = re.compile(r"[\w.:+-]*\d[\w.:+-]*")
_SMALL: Final = re.compile(r"\d{1,3}(?:\.\d{1,3})?[.:]?")
"""Such a number says more often what went wrong, as a status does, than with which event."""


class Example(msgspec.Struct, frozen=True):
    """One letter of a group: the newest."""

    letter_id: int
    position: int
    event: str
    event_type: str
    reason: str
    attempts: int
    error: str
    traceback: str


class Group(msgspec.Struct, kw_only=True):
    """Letters of one subscription with the same kind of error.

    Attributes:
        subscription: Whose they are.
        error: What their errors have in common, by which the group is asked for.
        said: The error's first line, if all have the same; else as `error`.
        count: How many they are.
        first_ns: When the first was given up.
        last_ns: When the last was.
        example: The newest.

    """

    subscription: str
    error: str
    said: str
    count: int = 0
    first_ns: int = 0
    last_ns: int = 0
    example: Example | None = None


class Letters(msgspec.Struct, frozen=True):
    """What is buried.

    Attributes:
        groups: The groups, the largest first; at most `GROUPS_MAX`.
        total: How many letters there are; how many were read, if nobody has counted them.
        complete: False if not all were read, or there are more groups.
        where: `journal` or `memory`.

    """

    groups: list[Group]
    total: int
    complete: bool
    where: str


class Ids(msgspec.Struct, frozen=True):
    """The letters of one kind that a step has found.

    Attributes:
        ids: Theirs, oldest first.
        after: The next step begins behind this; None at the end.

    """

    ids: list[int]
    after: int | None


def first_line(error: str) -> str:
    """Return what is shown of an error in a list."""
    return printable(error.lstrip().partition("\n")[0][:ERROR_MAX])


def kind_of(error: str) -> str:
    """Return what letters are grouped by: the first line of an error, without ids, times and large numbers.

    These differ from one event to the next, although the mistake is the same.
    """
    return _kind_of_line(first_line(error))


def _kind_of_line(line: str) -> str:
    said = _QUOTED.sub("'\u2026'", line)
    return _WORD.sub(lambda found: found[0] if _SMALL.fullmatch(found[0]) else "\u2026", said)


def _error_of(letter: BuriedEvent) -> str:
    return letter.error or letter.reason


def buried(reader: JournalReader, deadline: Deadline, subscription: str | None) -> Letters:
    """Return the letters of a journal, or of one name in it, as many as there is time for."""
    groups = _Groups("journal")
    for letter in letters_of(reader, subscription):
        groups.add(letter)
        if not groups.count % 64 and deadline.is_over:
            return groups.found(complete=False)
    return groups.found(complete=True)


def remembered(pages: Iterable[dict[str, Any]]) -> Letters:
    """Return the letters of a bus that keeps them in memory, from what it has answered."""
    groups, complete, total = _Groups("memory"), True, 0
    for page in pages:
        complete, total = page["next_after"] is None, page["total"]
        for letter in page["letters"]:
            groups.add(_of_memory(letter))
    return groups.found(complete=complete, total=max(total, groups.count))


def ids_in_journal(
    reader: JournalReader, deadline: Deadline, subscription: str, error: str | None, after: int
) -> Ids:
    """Return the letters of a name behind an id, all or those with a kind of error: as a look finds them."""
    found: list[int] = []
    for number, letter in enumerate(letters_of(reader, subscription, after), 1):
        if error is None or kind_of(_error_of(letter)) == error:
            found.append(letter.letter_id)
        if len(found) >= IDS_AT_ONCE or (not number % 64 and deadline.is_over):
            return Ids(found, letter.letter_id)
    return Ids(found, None)


def ids_in_memory(page: dict[str, Any], error: str | None) -> Ids:
    """Return the letters with a kind of error, or all, of a page that a bus has answered."""
    found = [
        letter["letter_id"]
        for letter in page["letters"]
        if error is None or kind_of(letter.get("error") or letter["reason"]) == error
    ]
    return Ids(found, page["next_after"])


def _of_memory(letter: dict[str, Any]) -> BuriedEvent:
    return BuriedEvent(
        subscription=letter["subscription"],
        lane=letter.get("lane") or "normal",
        position=letter.get("position") or 0,
        payload=msgspec.json.encode(letter.get("event")),
        reason=letter["reason"],
        error=letter.get("error") or "",
        traceback=letter.get("traceback") or "",
        attempts=letter.get("attempts") or 1,
        wall_ns=letter.get("wall_ns") or 0,
        letter_id=letter["letter_id"],
    )


class _Groups:
    """Groups while letters come, oldest first."""

    def __init__(self, where: str) -> None:
        self.count = 0
        self._where = where
        self._by: dict[tuple[str, str], Group] = {}
        self._newest: dict[tuple[str, str], BuriedEvent] = {}

    def add(self, letter: BuriedEvent) -> None:
        self.count += 1
        said = first_line(_error_of(letter))
        key = letter.subscription, _kind_of_line(said)
        group = self._by.get(key)
        if group is None:
            group = self._by[key] = Group(
                subscription=key[0], error=key[1], said=said, first_ns=letter.wall_ns
            )
        elif group.said != said:
            group.said = group.error
        group.count += 1
        group.last_ns = max(group.last_ns, letter.wall_ns)
        self._newest[key] = letter

    def found(self, *, complete: bool, total: int | None = None) -> Letters:
        for key, letter in self._newest.items():
            self._by[key].example = _example(letter)
        groups = sorted(self._by.values(), key=lambda group: (-group.count, group.subscription))
        complete = complete and len(groups) <= GROUPS_MAX
        total = self.count if total is None else total
        return Letters(groups[:GROUPS_MAX], total, complete, self._where)


def _example(letter: BuriedEvent) -> Example:
    payload = letter.payload[:SHOWN_BYTES_MAX].decode("utf-8", "replace")
    return Example(
        letter_id=letter.letter_id,
        position=letter.position,
        event=printable_json(payload),
        event_type=shown(letter.event_type),
        reason=shown(letter.reason),
        attempts=letter.attempts,
        error=printable_lines(letter.error[:TRACEBACK_MAX]),
        traceback=printable_lines(letter.traceback[-TRACEBACK_MAX:]),
    )
