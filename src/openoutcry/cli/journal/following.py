"""Following a journal while a bus writes it, also when the bus is restarted or the file replaced."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from openoutcry.cli.logging_setup import tell
from openoutcry.errors import JournalCorrupt, JournalError, SchemaTooNew
from openoutcry.journals import JournalReader
from openoutcry.journals.engines import database_errors
from openoutcry.journals.glance import Glance, glance, identity_of
from openoutcry.ports import Filter, Stored

POLL_S: Final = 0.2
_PAGE: Final = 1_024
_PATIENCE: Final = 50  # polls in a row that may fail, such as while a bus starts or stops


class _Watch:
    """One journal file, open for reading, and the side file that tells whether reading is worth it."""

    def __init__(self, path: Path, key: bytes | None) -> None:
        self.path = path
        self._identity = identity_of(path)
        self.reader = JournalReader(path, key=key)
        self._side: Glance | None = None
        self._seen = -1
        with suppress(JournalError, OSError, *database_errors()):
            self._side = glance(path)

    @property
    def is_stale(self) -> bool:
        """Whether there are other files at the path now."""
        return identity_of(self.path) != self._identity

    def has_news(self) -> bool:
        """Whether something may have been written since the last page. Reads shared memory."""
        return self._side is None or self._side.written != self._seen

    def page(self, after: int, where: Filter) -> list[Stored]:
        """Return the next entries; none if all were read."""
        seen = -1 if self._side is None else self._side.written
        page = self.reader.read(after, _PAGE, where)
        if not page:
            self._seen = seen
        return page

    def close(self) -> None:
        """Close the files."""
        self.reader.close()
        if self._side is not None:
            self._side.close()


def follow(
    path: Path, key: bytes | None, where: Filter, after: int, *, idle: bool = False
) -> Iterator[list[Stored]]:
    """Yield what is written after a position, page by page, without end; with `idle` also empty pages.

    Raises `JournalCorrupt` for damage, and another `JournalError` if the file cannot be read for ten seconds.
    If the file is missing, waits for it.
    """
    watch: _Watch | None = None
    failures = 0
    passing: tuple[type[Exception], ...] = (JournalError, *database_errors())
    try:
        while True:
            try:
                if watch is None or watch.is_stale:
                    watch, after = _open_again(path, key, watch, after)
                while watch is not None and watch.has_news() and (page := watch.page(after, where)):
                    after = page[-1].position
                    yield page
                failures = 0
            except (JournalCorrupt, SchemaTooNew):
                raise
            except passing:
                failures += 1
                if failures >= _PATIENCE:
                    raise
            if idle:
                yield []
            time.sleep(POLL_S)
    finally:
        if watch is not None:
            watch.close()


def _open_again(path: Path, key: bytes | None, old: _Watch | None, after: int) -> tuple[_Watch | None, int]:
    """Open the file that is at the path now. If it is a shorter journal, start from its beginning."""
    if not path.is_file():
        return old, after
    new = _Watch(path, key)
    if old is not None:
        old.close()
    try:
        if new.reader.head < after:
            tell(f"{path} is a new journal; continuing from its beginning")
            after = 0
    except BaseException:
        new.close()
        raise
    return new, after
