"""The trace of a run: what happened, line by line, and a hash that is the same for equal runs."""

from collections import deque
from collections.abc import Callable
from hashlib import blake2b

SHOWN_MOST = 60


class Trace:
    """What happened.

    Attributes:
        lines: The newest lines, or all of them.
        count: How many lines there were.

    """

    def __init__(self, when: Callable[[], str], *, keep_all: bool = False) -> None:
        self._when = when
        self._hash = blake2b(digest_size=16)
        self.lines: deque[str] = deque(maxlen=None if keep_all else SHOWN_MOST)
        self.count: int = 0

    def note(self, what: str) -> None:
        """Add a line."""
        line = f"{self._when()} {what}"
        self._hash.update(line.encode("utf-8", "surrogatepass"))
        self.lines.append(line)
        self.count += 1

    @property
    def digest(self) -> str:
        """The hash of all lines so far, in hex."""
        return self._hash.hexdigest()
