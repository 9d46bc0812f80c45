"""Journals and fork: a child leaves its parent's files alone."""

import os
import weakref
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from threading import RLock
from typing import Any, Final, NoReturn, Protocol

from openoutcry.errors import JournalError
from openoutcry.journals.mapped_files import MappedFile


class _Disownable(Protocol):
    def disown(self) -> None: ...


_open: Final[weakref.WeakSet[Any]] = weakref.WeakSet()
_kept: Final[list[object]] = []


def watch(journal: _Disownable) -> None:
    """See that `disown` is called in every child that is forked from now on."""
    _open.add(journal)


def forget(journal: _Disownable) -> None:
    """Stop doing so."""
    _open.discard(journal)


def _disown_all() -> None:
    for journal in list(_open):
        journal.disown()
    _open.clear()


os.register_at_fork(after_in_child=_disown_all)


class Disowned:
    """Stands in the child for a connection of the parent's, which is kept so that nothing ever closes it.

    Closing it could let go of locks that SQLite believes to hold, or checkpoint a file under the parent.
    """

    error: type[Exception] = JournalError
    in_transaction = False
    index: MappedFile | None = None

    def __init__(self, connection: object, reason: JournalError) -> None:
        _kept.append(connection)
        self._reason = reason
        self.turn: RLock = RLock()
        self.execute: Callable[..., Any] = self._refuse
        self.run: Callable[..., Any] = self._refuse
        self.run_many: Callable[..., Any] = self._refuse

    def _refuse(self, *_: object) -> NoReturn:
        raise self._reason

    def rows(self, sql: str, values: Sequence[Any] = ()) -> Generator[Any, None, None]:
        """Refuse."""
        del sql, values
        raise self._reason

    def copy_into(self, path: Path, tell: Callable[[int, int], None]) -> None:
        """Refuse."""
        del path, tell
        raise self._reason

    def close(self) -> None:
        """Do nothing."""
