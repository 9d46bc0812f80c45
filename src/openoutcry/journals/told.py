"""What a call was told by the bus, beside what it was handed: noted on the tape in place of an event's id.

A handler that has slept may ask for a round or for the active kill switches. What it is told depends on how
long it slept, which is longer on the day than in a replay. So the tape says it.
"""

from typing import Final, NamedTuple

import msgspec

_NO_ROUND: Final = "(no round) "
_HALTS: Final = "(halts) "
ASKING_MOST: Final = 4_096
"""So many questions are remembered, to number those that follow for the same event."""


class HaltsSeen(NamedTuple):
    """Which kill switches were active when a call asked; only where that has changed since it last asked."""

    scope: str
    """What it asked about."""
    cause_id: str
    """The event that it was handling."""
    number: int
    """The how manieth time it asked about that scope there, from 1."""
    ids: tuple[str, ...]
    """The ids of the kill switches, in their order."""


class Asking:
    """Counts how often calls ask for something, from 1 for each subscription and event that it handles."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str], int] = {}

    def number(self, subscription: str, what: str, cause_id: str) -> int:
        """Return the how manieth time it is now."""
        asked = subscription, what, cause_id
        self._counts[asked] = count = self._counts.pop(asked, 0) + 1
        if len(self._counts) > ASKING_MOST:
            del self._counts[next(iter(self._counts))]
        return count


def no_round(round_id: str, order: int) -> str:
    """Return the note that a round was not known; `order` tells two notes apart."""
    return f"{_NO_ROUND}{order} {writable(round_id)}"


def round_not_known(note: str) -> str | None:
    """Return which round a note is about, as `writable` has it; None for anything else."""
    return _text_of(note, _NO_ROUND)


def halts_seen(seen: HaltsSeen, order: int) -> str:
    """Return the note of the kill switches that a call has seen; `order` as in `no_round`."""
    texts = [writable(text) for text in (seen.scope, seen.cause_id, *seen.ids)]
    return f"{_HALTS}{order} {msgspec.json.encode((seen.number, *texts)).decode()}"


def read_halts_seen(note: str) -> HaltsSeen | None:
    """Return what such a note says; None for anything else."""
    text = _text_of(note, _HALTS)
    try:
        number, scope, cause_id, *ids = msgspec.json.decode(text or "")
        return HaltsSeen(scope, cause_id, number, tuple(ids))
    except (ValueError, TypeError):
        return None


def writable(text: str) -> str:
    """Return a text as a tape can hold it, whatever a program has made of it."""
    return text.encode("utf-8", "backslashreplace").decode()


def _text_of(note: str, kind: str) -> str | None:
    order, blank, text = note.removeprefix(kind).partition(" ")
    return text if note.startswith(kind) and blank and order.isdigit() else None
