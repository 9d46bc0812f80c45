"""How much of the write-ahead log waits to be copied into the database, and when that is due."""

from typing import Final

from openoutcry.journals.disk_tasks import CheckpointTask

BUSY_SHARE: Final = 1 / 4
"""When so much of its bound waits to be copied, a bus does not wait for an idle moment either."""
RESTART_SHARE: Final = 3 / 4
"""When the log has so much of its bound, it has to start over."""


class LogSize:
    """About how long the log is, in bytes, by what was written and copied.

    Args:
        max_bytes: Its bound. A write makes a checkpoint there, or waits for the one that is being made.

    Attributes:
        is_inline: Whether writes and idle moments make checkpoints; else a runtime does.
        waiting_bytes: What waits to be copied.
        limit_bytes: At so much of that there must be a checkpoint, or writes must wait for the one that is
            under way.
        hindered: What kept the last checkpoint from copying everything, as `LogState` says it.

    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._copied_bytes = self._left_bytes = 0
        """What was copied since the log started over, and what the last checkpoint could not copy."""
        self.is_inline = True
        self.waiting_bytes: int = 0
        self.hindered: str = ""
        self.set_limit()

    def set_limit(self, *, is_under_way: bool = False) -> bool:
        """Set the limit for a checkpoint that is under way or over; True if a runtime has reached it."""
        more = self._max_bytes * (1.0 if self.is_inline or is_under_way else BUSY_SHARE)
        if is_under_way:
            more -= self._copied_bytes
        self.limit_bytes: int = self._left_bytes + int(more)
        return not self.is_inline and self.waiting_bytes >= self.limit_bytes

    def is_worth_it(self, due_bytes: int, *, restarts: bool) -> bool:
        """Whether so much waits to be copied, or `restarts`: is in the log at all."""
        return self.waiting_bytes + (self._copied_bytes if restarts else 0) >= due_bytes

    @property
    def must_restart(self) -> bool:
        """Whether the log is so long that it has to start over."""
        used_bytes = self._copied_bytes + self.waiting_bytes - self._left_bytes
        return used_bytes >= RESTART_SHARE * self._max_bytes

    def copied(self, task: CheckpointTask) -> None:
        """Note what a checkpoint has copied."""
        if task.left_bytes is not None:
            self._copied_bytes += task.log_bytes - task.left_bytes
            self.waiting_bytes += task.left_bytes - task.log_bytes

    def ended(self, task: CheckpointTask) -> bool:
        """Note the last step: the log starts over, unless something has hindered that. As `set_limit`."""
        self.hindered, self._copied_bytes = task.hindered, 0
        self._left_bytes = self.waiting_bytes if self.hindered else 0
        return self.set_limit()
