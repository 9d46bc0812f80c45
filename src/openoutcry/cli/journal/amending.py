"""Changes that operators make to a journal: to dead letters, cursors and active kill switches."""

import time
from collections.abc import Sequence
from typing import Final

import msgspec

from openoutcry.cli.mistakes import Mistake
from openoutcry.core.halts import Halts, none_active
from openoutcry.core.letters import REDRIVE, REDRIVE_ANEW
from openoutcry.errors import DuplicateName, NotSubscribed
from openoutcry.events import encode
from openoutcry.ports import BuriedEvent, Changes, Entry, Journal, Level
from openoutcry.trading import KillSwitchEvent

OPERATOR: Final = "operator"
"""The `source_agent` of a release that the owner of a stopped journal writes."""


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
    """Return the change that forgets these letters, but for the fact that their events were not handled."""
    return Changes(
        removed_letters=[letter.letter_id for letter in letters],
        tombstones=[(letter.subscription, letter.position) for letter in letters if letter.position > 0],
    )


def drop_cursor(journal: Journal, name: str) -> Changes:
    """Return the change that forgets a subscription: its cursors, crash suspects and saved memory.

    Raises `NotSubscribed` if it has neither cursors nor a memory.
    """
    lanes = [cursor.lane for cursor in journal.cursors() if cursor.subscription == name]
    if not lanes and name not in journal.snapshot_sizes():
        raise _unknown(journal, name)
    return Changes(
        forgotten=[name],
        dropped_cursors=[(name, lane) for lane in lanes],
        cleared=[(s.subscription, s.lane, s.position) for s in journal.suspects() if s.subscription == name],
    )


def reassign_cursor(journal: Journal, old: str, new: str) -> Changes:
    """Return the change that gives a subscription's cursors, dead letters and memory to another name.

    Its suspects are cleared: they are delivered again under the new name, with no crash counted.

    Raises `NotSubscribed` if there is no such cursor, and `DuplicateName` if the other name has one.
    """
    cursors = journal.cursors()
    if not any(cursor.subscription == old for cursor in cursors):
        raise _unknown(journal, old)
    if any(cursor.subscription == new for cursor in cursors):
        raise DuplicateName(f"{new!r} has a cursor of its own: drop that one first, or give another name")
    letters = journal.buried(old)
    return Changes(
        cursors=[msgspec.structs.replace(c, subscription=new) for c in cursors if c.subscription == old],
        dropped_cursors=[(c.subscription, c.lane) for c in cursors if c.subscription == old],
        buried=[msgspec.structs.replace(letter, subscription=new, letter_id=0) for letter in letters],
        removed_letters=[letter.letter_id for letter in letters],
        cleared=[(s.subscription, s.lane, s.position) for s in journal.suspects() if s.subscription == old],
        renamed=[(old, new)],
    )


def release_halts(
    journal: Journal, scope: str | None, ids: Sequence[str], reason: str
) -> tuple[Entry, Changes]:
    """Return the entry and the change that release kill switches: these ids, or all of a scope.

    Raises `Mistake` where one is not active, or they are of several scopes.
    """
    halts = Halts()
    halts.restore(journal.halts())
    scopes = {halt.event_id: halt.scope for halt in halts.all() if halt.event_id}
    found = {scope} if scope is not None else {scopes.get(one) for one in ids}
    unknown = [one for one in ids if scopes.get(one) not in found - {None}]
    if unknown or len(found) > 1:
        raise Mistake(f"not active, or not of one scope: {', '.join(unknown or ids)}; see `openoutcry halts`")
    its_scope = str(found.pop())
    ended = halts.release(its_scope, ids)
    if not ended:
        raise Mistake(f"{none_active(its_scope, halts.scopes())}; see `openoutcry halts`")
    event = KillSwitchEvent(
        activated=False,
        scope=its_scope,
        releases=tuple(halt.event_id for halt in ended if halt.event_id),
        reason=reason,
        source_agent=OPERATOR,
        triggered_by=OPERATOR,
    )
    entry = Entry(event.event_id, encode(event), "control", Level.DISK, time.time_ns())
    return entry, Changes(released=[(halt.scope, halt.event_id) for halt in ended])


def _unknown(journal: Journal, name: str) -> NotSubscribed:
    known = ", ".join(sorted({cursor.subscription for cursor in journal.cursors()})) or "none"
    return NotSubscribed(f"no cursor belongs to {name!r}; those that are there: {known}")
