"""The lock of a control socket that has no journal beside it: it decides between two buses of one path."""

import asyncio
import fcntl
import os
from pathlib import Path
from typing import Final

from openoutcry.errors import JournalError, JournalLocked

ENDS_S: Final = 0.5
"""A killed process may keep the lock a moment longer than its socket: so long it is waited for."""
LOOK_S: Final = 0.01
"""How often it is looked whether it is free."""


class SocketLock:
    """A file beside the socket, `<socket>-lock`, which the bus holds as long as it serves.

    The system lets go of it when the process ends, however it ends. The file stays.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f"{path.name}-lock")
        self._file: int | None = None

    async def take(self) -> None:
        """Take the lock, waiting a moment for a bus that is just ending.

        Raises `JournalLocked` if another bus has it, and `JournalError` if there can be none.
        """
        ends_s = asyncio.get_running_loop().time() + ENDS_S
        while self._file is None:
            try:
                self._take()
            except JournalLocked:
                if asyncio.get_running_loop().time() >= ends_s:
                    raise
                await asyncio.sleep(LOOK_S)

    def _take(self) -> None:
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
