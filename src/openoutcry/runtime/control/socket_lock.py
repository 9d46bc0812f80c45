"""The lock of a control socket that has no journal beside it: it decides between two buses of one path."""

import fcntl
import os
from pathlib import Path

from openoutcry.errors import JournalError, JournalLocked


class SocketLock:
    """A file beside the socket, `<socket>-lock`, which the bus holds as long as it serves.

    The system lets go of it when the process ends, however it ends. The file stays.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f"{path.name}-lock")
        self._file: int | None = None

    def take(self) -> None:
        """Take the lock. Raises `JournalLocked` if another bus has it, else `JournalError`."""
        if self._file is not None:
            return
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as problem:
            raise JournalError(
                f"the lock {self._path} of the control socket cannot be made: {problem.strerror or problem}; "
                "see to the folder, or give control another path"
            ) from problem
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            os.close(file)
            raise JournalLocked(
                f"another bus holds {self._path}: stop that one first, or give control another path"
            ) from problem
        self._file = file

    def release(self) -> None:
        """Let go of the lock. Harmless when it is not held."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)
