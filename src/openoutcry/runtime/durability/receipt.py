"""What a publisher is told of an event that it has published."""

from dataclasses import dataclass
from typing import Literal

from openoutcry.config import LevelName

PublishOutcome = Literal["accepted", "duplicate", "conflicting", "unheard", "refused"]
"""What became of a published event, in a word."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a published event. True in a condition only if it is new, and somebody takes it.

    Attributes:
        accepted: Whether it was accepted, now or before: what `publish` says.
        event_id: Its id.
        position: Its position in the journal; 0 where it is not journaled, or was refused.
        level: The level it was accepted at: `memory`, `process`, `disk` or `replicated`.
        duplicate: Whether its id had been accepted before, and nothing new was delivered.
        conflicting: Whether that was an event with other content: the first stands, this one is lost.
        unheard: Whether no subscription takes it now. It was accepted all the same: it is in the history and,
            at its level, in the journal, where a subscription of an earlier life may still read it. Before
            the start nobody can say, and it is False.

    """

    accepted: bool
    event_id: str
    position: int
    level: LevelName
    duplicate: bool
    conflicting: bool = False
    unheard: bool = False

    @property
    def outcome(self) -> PublishOutcome:
        """All of it in a word: `accepted`, `duplicate`, `conflicting`, `unheard` or `refused`."""
        if not self.accepted:
            return "refused"
        if self.conflicting:
            return "conflicting"
        if self.duplicate:
            return "duplicate"
        return "unheard" if self.unheard else "accepted"

    def __bool__(self) -> bool:
        return self.outcome == "accepted"
