"""The words for how a link between desks stands, and which of several is told."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final


class LinkWord(StrEnum):
    """How a link stands, in one word. Later ones are worse."""

    UP = "up"
    """All is exported and imported within a second."""
    BEHIND = "behind"
    """Events wait for a desk that is named."""
    GAP = "gap"
    """Events of a desk are missing in the log, and are being exported again."""
    LOST = "lost"
    """Events of another desk were deleted before they came here. It stays until this desk starts again."""
    FULL = "full"
    """A log has no room."""
    STALLED = "stalled"
    """The engine does not answer, or no other desk is heard."""
    FENCED = "fenced"
    """Another process holds this desk."""


SILENT: Final = "silent"
"""The word for another desk that somebody holds, and that is not heard."""
AWAY: Final = "away"
"""The word for another desk that was stopped: nobody holds it."""
WHAT_TO_DO: Final = {
    LinkWord.UP: "",
    LinkWord.BEHIND: "look at the desk that is named",
    LinkWord.GAP: "nothing, it is being filled; if it stays, see what openoutcry firm audit finds",
    LinkWord.LOST: "see with openoutcry firm audit what it was; start this desk again when that is settled",
    LinkWord.FULL: "openoutcry firm trim, firm drop for a desk that is gone, or a larger max_bytes",
    LinkWord.STALLED: "see to the engine; the desk goes on, and its journal holds what waits",
    LinkWord.FENCED: "end this process: another one holds its desk",
}
"""What an operator does about a word."""

_ORDER: Final = tuple(LinkWord)


def worst(words: Iterable[LinkWord]) -> LinkWord:
    """Return the worst of some words; `up` for none."""
    return max(words, key=_ORDER.index, default=LinkWord.UP)
