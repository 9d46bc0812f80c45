"""Changes that operators make to a journal: dead letters to redrive or drop, cursors to drop or move."""

from collections.abc import Sequence

import msgspec

from openoutcry.errors import DuplicateName, NotSubscribed
from openoutcry.ports import BuriedEvent, Changes, Journal
from openoutcry.runtime.delivery.dead_letters import REDRIVE, REDRIVE_ANEW


def mark_for_redrive(letters: Sequence[BuriedEvent], *, anew: bool = False) -> Changes:
    """Return the change that makes the next start deliver these letters again.

    Each is replaced by one with the reason `redrive`, or `redrive anew`; error and attempts are kept.
    """
    reason = REDRIVE_ANEW if anew else REDRIVE
    due = [letter for letter in letters if letter.reason != reason]
    return Changes(
        buried=[msgspec.structs.replace(letter, reason=reason, letter_id=0) for letter in due],
        removed_letters=[letter.letter_id for letter in due],
    )


def drop_letters(letters: Sequence[BuriedEvent]) -> Changes:
    """Return the change that forgets these letters."""
    return Changes(removed_letters=[letter.letter_id for letter in letters])


def drop_cursor(journal: Journal, name: str) -> Changes:
    """Return the change that forgets a subscription: its cursors and its crash suspects."""
    return Changes(
        dropped_cursors=[(name, lane) for lane in _lanes_of(journal, name)],
        cleared=[(s.subscription, s.lane, s.position) for s in journal.suspects() if s.subscription == name],
    )


def reassign_cursor(journal: Journal, old: str, new: str) -> Changes:
    """Return the change that gives a subscription's cursors and dead letters to another name.

    Its suspects are cleared: they are delivered again under the new name, with no crash counted.

    Raises `NotSubscribed` if there is no such cursor, and `DuplicateName` if the other name has one.
    """
    _lanes_of(journal, old)
    cursors = journal.cursors()
    if any(cursor.subscription == new for cursor in cursors):
        raise DuplicateName(f"{new!r} has a cursor of its own: drop that one first, or give another name")
    letters = journal.buried(old)
    return Changes(
        cursors=[msgspec.structs.replace(c, subscription=new) for c in cursors if c.subscription == old],
        dropped_cursors=[(c.subscription, c.lane) for c in cursors if c.subscription == old],
        buried=[msgspec.structs.replace(letter, subscription=new, letter_id=0) for letter in letters],
        removed_letters=[letter.letter_id for letter in letters],
        cleared=[(s.subscription, s.lane, s.position) for s in journal.suspects() if s.subscription == old],
    )


def _lanes_of(journal: Journal, name: str) -> list[str]:
    cursors = journal.cursors()
    lanes = [cursor.lane for cursor in cursors if cursor.subscription == name]
    if not lanes:
        known = ", ".join(sorted({cursor.subscription for cursor in cursors})) or "none"
        raise NotSubscribed(f"no cursor belongs to {name!r}; those that are there: {known}")
    return lanes
