"""What a committer asks of its store: changes that go along with a commit, and to look after the files."""

from typing import Any, Protocol

from openoutcry.errors import JournalError
from openoutcry.ports import Changes


class Extras(Protocol):
    """Changes that a commit brings along, and what to do when it is written or refused."""

    @property
    def changes(self) -> Changes:
        """The changes."""
        ...

    def saved(self) -> None:
        """They were written."""
        ...

    def refused(self) -> None:
        """They were not: they are to be saved with the next commit."""
        ...


class CommitExtras(Protocol):
    """What a committer asks of its store now and then: see `Committer.bring_extras`."""

    def take(self) -> Extras | None:
        """Return what is to be saved with this commit, or None."""
        ...

    def look_after(self) -> None:
        """Look after the journal's files, which are being written to. Raises `JournalDead`."""
        ...

    def log_is_due(self) -> None:
        """The write-ahead log has grown by what it may without a checkpoint, or the end of one."""
        ...

    def died(self, error: JournalError) -> None:
        """The journal takes nothing more."""
        ...

    def conflict(self, event: Any, position: int) -> None:
        """An event has the id of another one with different content."""
        ...
