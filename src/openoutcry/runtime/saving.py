"""Saving: cursors, dead letters and cleared suspects ride along with the commits of events."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from openoutcry.ports import Changes, CursorState
from openoutcry.runtime.books import Book
from openoutcry.runtime.census import Census
from openoutcry.runtime.commits import Committer, Ready
from openoutcry.runtime.floor import Floor
from openoutcry.runtime.graveyard import Graveyard
from openoutcry.runtime.housekeeping import Housekeeping
from openoutcry.runtime.suspects import Suspects

SAVE_EVERY = 512
"""Cursors ride along with a commit when this many events were released since they last did."""
STALE_AFTER = 16_384
"""With this many events released since, the cursors of those are saved who had nothing to do with them."""


class Saving:
    """The part of the keeper that decides what a commit brings along."""

    commits: Committer
    census: Census
    graves: Graveyard
    suspects: Suspects
    house: Housekeeping
    _floor: Floor
    _noted: dict[Book, None]
    _saved_at: int
    _swept_at: int
    _is_refused: bool

    def note(self, book: Book) -> None:
        """Have the cursors of a subscription saved with some commit soon."""
        book.is_noted = True
        self._noted[book] = None
        self.house.due()

    def can_save(self) -> bool:
        """Tell whether the cursors will be saved soon: the journal is alive and has room."""
        return self.commits.dead is None and not self._is_refused

    def save_soon(self) -> None:
        """Have everything that is noted saved in the next turn of the loop."""
        self.house.now_due()
        if self.commits.dead is None:
            with suppress(RuntimeError):  # no loop runs: it is saved with the next commit
                self.commits.ask()

    def ready(self) -> Ready | None:
        """Return what is to be saved with this commit, or None."""
        graves = self.graves
        self.house.busy()
        graves.settle(self._floor.roster)
        due = self._noted and (
            self.census.fresh
            or self.commits.released - self._saved_at >= SAVE_EVERY
            or self.house.is_due()
            or graves.waiting
        )
        census = self.census
        if not (due or census.dropped or census.moved or graves.waiting or self.suspects.cleared):
            return None
        census.fresh = False
        released = self.commits.released
        if released - self._swept_at >= STALE_AFTER:
            self._sweep()
        noted, self._noted = self._noted, {}
        moved = [item for book in noted for item in book.moved(released)]
        dropped, census.dropped = census.dropped, []
        renamed, census.moved = census.moved, []
        buried, exhumed = graves.take()
        cleared = self.suspects.take_cleared()
        changes = Changes(
            cursors=[*renamed, *(cursor for _, _, cursor in moved), census.own_cursor(released)],
            dropped_cursors=dropped,
            buried=buried,
            exhumed=exhumed,
            cleared=cleared,
        )
        unsaved = {book: book.unsaved for book in noted}
        for book in noted:
            book.is_noted = False
            book.unsaved = 0
        return Ready(
            changes,
            lambda: self._note_saved(moved, released, unsaved),
            lambda: self._undo(changes, renamed, unsaved),
        )

    def _note_saved(self, moved: list[Any], released: int, books: Iterable[Book]) -> None:
        self._is_refused = False
        for book in books:
            book.let_go()
        for book, state, _ in moved:
            book.saved = state
        self._saved_at = released
        self.house.saved()

    def _undo(self, changes: Changes, renamed: list[CursorState], unsaved: dict[Book, int]) -> None:
        """The commit was refused: all of it is to be saved with the next one."""
        self.census.fresh = True  # perhaps the first cursor of somebody was among it
        self._is_refused = True
        for book, count in unsaved.items():
            book.unsaved += count
            self.note(book)
            book.let_go()  # handling goes on: who cannot save need not stand still
        self.census.dropped = [*changes.dropped_cursors, *self.census.dropped]
        self.census.moved = [*renamed, *self.census.moved]
        self.graves.give_back(changes.buried, changes.exhumed)
        self.suspects.cleared = [*changes.cleared, *self.suspects.cleared]

    def _sweep(self) -> None:
        """Note everybody: a cursor that lags far behind would cost the next start a long read."""
        self._swept_at = self.commits.released
        for subscription in self._floor.roster:
            if subscription.book is not None:
                self._noted[subscription.book] = None
