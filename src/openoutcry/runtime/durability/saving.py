"""Saving: cursors, dead letters and cleared suspects ride along with the commits of events."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from openoutcry.ports import Changes, CursorState
from openoutcry.runtime.delivery.dead_letters import DeadLetters
from openoutcry.runtime.delivery.offsets import Offsets
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.durability.committer import Committer, Ready
from openoutcry.runtime.durability.crash_suspects import CrashSuspects
from openoutcry.runtime.durability.cursors import Cursors
from openoutcry.runtime.durability.maintenance import Maintenance

SAVE_EVERY = 512
"""Cursors ride along with a commit when this many events were released since they last did."""
STALE_AFTER = 16_384
"""With this many events released since, the cursors of those are saved who had nothing to do with them."""


class Saving:
    """The part of the store that decides what a commit brings along."""

    commits: Committer
    cursors: Cursors
    dead_letters: DeadLetters
    suspects: CrashSuspects
    maintenance: Maintenance
    _bus: BusState
    _noted: dict[Offsets, None]
    _saved_at: int
    _swept_at: int
    _is_refused: bool

    def note(self, offsets: Offsets) -> None:
        """Have the cursors of a subscription saved with some commit soon."""
        offsets.is_noted = True
        self._noted[offsets] = None
        self.maintenance.due()

    def can_save(self) -> bool:
        """Tell whether the cursors will be saved soon: the journal is alive and has room."""
        return self.commits.dead is None and not self._is_refused

    def save_soon(self) -> None:
        """Have everything that is noted saved in the next turn of the loop."""
        self.maintenance.now_due()
        if self.commits.dead is None:
            with suppress(RuntimeError):  # no loop runs: it is saved with the next commit
                self.commits.ask()

    def ready(self) -> Ready | None:
        """Return what is to be saved with this commit, or None."""
        dead_letters = self.dead_letters
        self.maintenance.busy()
        dead_letters.settle(self._bus.router)
        due = self._noted and (
            self.cursors.fresh
            or self.commits.released - self._saved_at >= SAVE_EVERY
            or self.maintenance.is_due()
            or dead_letters.waiting
        )
        cursors = self.cursors
        if not (due or cursors.dropped or cursors.moved or dead_letters.waiting or self.suspects.cleared):
            return None
        cursors.fresh = False
        released = self.commits.released
        if released - self._swept_at >= STALE_AFTER:
            self._sweep()
        noted, self._noted = self._noted, {}
        moved = [item for offsets in noted for item in offsets.moved(released)]
        dropped, cursors.dropped = cursors.dropped, []
        renamed, cursors.moved = cursors.moved, []
        buried, removed_letters = dead_letters.take()
        cleared = self.suspects.take_cleared()
        changes = Changes(
            cursors=[*renamed, *(cursor for _, _, cursor in moved), cursors.own_cursor(released)],
            dropped_cursors=dropped,
            buried=buried,
            removed_letters=removed_letters,
            cleared=cleared,
        )
        unsaved = {offsets: offsets.unsaved for offsets in noted}
        for offsets in noted:
            offsets.is_noted = False
            offsets.unsaved = 0
        return Ready(
            changes,
            lambda: self._note_saved(moved, released, unsaved),
            lambda: self._undo(changes, renamed, unsaved),
        )

    def _note_saved(self, moved: list[Any], released: int, books: Iterable[Offsets]) -> None:
        self._is_refused = False
        for offsets in books:
            offsets.let_go()
        for offsets, state, _ in moved:
            offsets.saved = state
        self._saved_at = released
        self.maintenance.saved()

    def _undo(self, changes: Changes, renamed: list[CursorState], unsaved: dict[Offsets, int]) -> None:
        """The commit was refused: all of it is to be saved with the next one."""
        self.cursors.fresh = True  # perhaps the first cursor of somebody was among it
        self._is_refused = True
        for offsets, count in unsaved.items():
            offsets.unsaved += count
            self.note(offsets)
            offsets.let_go()  # handling goes on: who cannot save need not stand still
        self.cursors.dropped = [*changes.dropped_cursors, *self.cursors.dropped]
        self.cursors.moved = [*renamed, *self.cursors.moved]
        self.dead_letters.give_back(changes.buried, changes.removed_letters)
        self.suspects.cleared = [*changes.cleared, *self.suspects.cleared]

    def _sweep(self) -> None:
        """Note everybody: a cursor that lags far behind would cost the next start a long read."""
        self._swept_at = self.commits.released
        for subscription in self._bus.router:
            if subscription.offsets is not None:
                self._noted[subscription.offsets] = None
