"""Dead letters for the page, by subscription and error: from the journal, or from the bus's memory."""

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
MEMORY_PAGE: Final = 1_000


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
    """Letters of one subscription with the same error."""

    subscription: str
    error: str
    count: int = 0
    first_ns: int = 0
    last_ns: int = 0
    letter_ids: list[int] = msgspec.field(default_factory=list)
    example: Example | None = None


class Letters(msgspec.Struct, frozen=True):
    """What is buried.

    Attributes:
        groups: The groups, the largest first; at most `GROUPS_MAX`.
        total: How many letters were counted.
        complete: False if there was no time for all, or there are more groups.
        where: `journal` or `memory`.

    """

    groups: list[Group]
    total: int
    complete: bool
    where: str

    def said(self) -> dict[str, Any]:
        """Return it as the page has it: without the ids, which are many."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        for group in found["groups"]:
            del group["letter_ids"]
        return found

    def chosen(self, subscription: str, error: str | None) -> list[int]:
        """Return the ids of a group, or of all groups of a subscription, oldest first."""
        return sorted(
            number
            for group in self.groups
            if group.subscription == subscription and error in (None, group.error)
            for number in group.letter_ids
        )


def first_line(error: str) -> str:
    """Return what letters are grouped by: the first line of their error."""
    return printable(error.lstrip().partition("\n")[0][:ERROR_MAX])


def buried(reader: JournalReader, deadline: Deadline) -> Letters:
    """Return the letters of a journal, as many as there is time for."""
    groups = _Groups("journal")
    for letter in letters_of(reader):
        groups.add(letter)
        if not groups.total % 64 and deadline.is_over:
            return groups.found(complete=False)
    return groups.found(complete=True)


def remembered(pages: Iterable[dict[str, Any]]) -> Letters:
    """Return the letters of a bus that keeps them in memory, from what it has answered."""
    groups, complete = _Groups("memory"), True
    for page in pages:
        complete = page["next_after"] is None
        for letter in page["letters"]:
            event = letter.get("event")
            kept = BuriedEvent(
                subscription=letter["subscription"],
                lane=letter.get("lane") or "normal",
                position=letter.get("position") or 0,
                payload=msgspec.json.encode(event),
                reason=letter["reason"],
                error=letter.get("error") or "",
                traceback=letter.get("traceback") or "",
                attempts=letter.get("attempts") or 1,
                wall_ns=letter.get("wall_ns") or 0,
                letter_id=letter["letter_id"],
            )
            groups.add(kept)
    return groups.found(complete=complete)


class _Groups:
    """Groups while letters come, oldest first."""

    def __init__(self, where: str) -> None:
        self.total = 0
        self._where = where
        self._by: dict[tuple[str, str], Group] = {}
        self._newest: dict[tuple[str, str], BuriedEvent] = {}

    def add(self, letter: BuriedEvent) -> None:
        self.total += 1
        key = letter.subscription, first_line(letter.error or letter.reason)
        group = self._by.get(key)
        if group is None:
            group = self._by[key] = Group(subscription=key[0], error=key[1], first_ns=letter.wall_ns)
        group.count += 1
        group.last_ns = max(group.last_ns, letter.wall_ns)
        group.letter_ids.append(letter.letter_id)
        self._newest[key] = letter

    def found(self, *, complete: bool) -> Letters:
        for key, letter in self._newest.items():
            self._by[key].example = _example(letter)
        groups = sorted(self._by.values(), key=lambda group: (-group.count, group.subscription))
        complete = complete and len(groups) <= GROUPS_MAX
        return Letters(groups[:GROUPS_MAX], self.total, complete, self._where)


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
