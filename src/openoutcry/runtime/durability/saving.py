"""Saving: cursors, snapshots, dead letters, halts and cleared suspects go with the commits of events.

What is to be saved is left here, and goes with the next commit or one of the next few. A timer makes sure
that it waits for no longer than `cursor_save_s`. `LaneOffsets.state` computes what a cursor says.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from openoutcry.core.cursors import BUS, LINK
from openoutcry.ports import Changes, CursorState, Journal, Snapshot
from openoutcry.runtime.delivery.offsets import LaneOffsets, Offsets, Stretches
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.durability.committer import Committer

SAVE_EVERY = 1_024
"""Cursors are saved with a commit once this many events were released since they last were."""
STALE_AFTER = 16_384
"""Once this many events were released, the cursors of subscriptions that took none of them are saved too."""
STARTED = ("(started)",)
"""What the bus's own cursor takes, once the bus has been started."""

Call = tuple[str, str, int]
"""A call in flight: subscription, lane, position."""
Moved = tuple[LaneOffsets, tuple[int, Stretches], CursorState]


class SavedCursors:
    """The cursors in a journal when it was opened.

    Attributes:
        by_subscription: The cursors by subscription and lane, without the bus's own.
        link: Those of the link to other desks, by lane.
        begin_at: Where a subscription without a cursor begins: at the end of what earlier lives handed out.
            What a life published that never started goes to those subscribed at the first start.

    """

    def __init__(self, journal: Journal) -> None:
        self.by_subscription: dict[str, dict[str, CursorState]] = {}
        for state in journal.cursors():
            self.by_subscription.setdefault(state.subscription, {})[state.lane] = state
        self.link: dict[str, CursorState] = self.by_subscription.pop(LINK, {})
        own = self.by_subscription.pop(BUS, {}).get("normal")
        if own is None:
            self.begin_at: int = journal.head if self.by_subscription else journal.first - 1
        else:
            self.begin_at = journal.head if own.takes == STARTED else own.floor


class Saving:
    """What is to be saved with the next commits; the `CursorSaver` of every durable subscription.

    Attributes:
        begin_at: Where a subscription without a cursor begins; None once the bus has started: then it is at
            what was released last.
        saves_count: How often something was saved.

    """

    def __init__(self, bus: BusState, commits: Committer, save_s: float, begin_at: int) -> None:
        self._bus = bus
        self._commits = commits
        self._save_s = save_s
        self.begin_at: int | None = begin_at
        self.saves_count: int = 0
        self._noted: dict[Offsets, None] = {}
        self._dropped: list[tuple[str, str]] = []
        self._given: list[CursorState] = []
        self._cleared: list[Call] = []
        self._snapshots: dict[str, Snapshot] = {}
        self._forgotten: dict[str, None] = {}
        self._moved_names: list[tuple[str, str]] = []
        self._saved_at = 0
        self._swept_at = commits.released
        self._is_refused = self._is_running = False
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """The bus runs: from now on a timer saves what no commit has."""
        self.begin_at = None
        self._is_running = True
        if self._noted:
            self._arm()

    def end(self) -> None:
        """The bus stops."""
        self._is_running = False
        self._silence()

    # -- what is to be saved ------------------------------------------------------------------------

    def note(self, offsets: Offsets) -> None:
        """Have the cursors of a subscription saved with some commit soon."""
        self._noted[offsets] = None
        self._commits.bring_extras(self._saved_at + SAVE_EVERY)
        self._arm()

    def save_with_next(self) -> None:
        """Have everything saved with the next commit, whenever that is."""
        self._commits.bring_extras()

    def can_save(self) -> bool:
        """Return True if cursors will be saved soon: the journal is alive and has room."""
        return self._commits.dead is None and not self._is_refused

    def save_soon(self) -> None:
        """Have everything saved in the next turn of the loop."""
        self._commits.bring_extras()
        if self._commits.dead is None:
            self._commits.ask()

    async def save(self, *, sync: bool = False) -> None:
        """Save everything, and wait until that is done; `sync`: on the disk. Raises `JournalError`."""
        self._commits.bring_extras()
        await self._commits.ask(sync=sync)

    def sweep(self) -> None:
        """Have the cursors of every subscription saved with the next commit."""
        self._note_all()
        self._commits.bring_extras()

    def _note_all(self) -> None:
        # A cursor that lags far behind costs the next start a long read.
        self._swept_at = self._commits.released
        for subscription in self._bus.router:
            if subscription.offsets is not None:
                self._noted[subscription.offsets] = None

    def drop(self, name: str, lanes: Iterable[str]) -> None:
        """Have the cursors and the memory of a subscription forgotten with the next commit."""
        self._dropped += ((name, lane) for lane in lanes)
        self._snapshots.pop(name, None)
        self._forgotten[name] = None
        self._commits.bring_extras()

    @property
    def remembers(self) -> bool:
        """Whether it is to be written where a memory begins."""
        return bool(self._snapshots)

    def remembered(self, name: str) -> Snapshot | None:
        """Return what is to be written of a subscription's memory, if anything."""
        return self._snapshots.get(name)

    def remember(self, snapshot: Snapshot) -> None:
        """Have it written with the next commit where a memory begins."""
        self._snapshots[snapshot.subscription] = snapshot
        self._commits.bring_extras()

    def keep(self, name: str) -> None:
        """Do not forget the cursors of a subscription after all: it is there again."""
        self._dropped = [dropped for dropped in self._dropped if dropped[0] != name]

    def put(self, cursors: Iterable[CursorState]) -> None:
        """Have cursors that are no subscription's written with the next commit, or after a while."""
        self._given += cursors
        self._commits.bring_extras()
        self._arm()

    def rename(self, old: str, new: str, cursors: Iterable[CursorState]) -> None:
        """Have the cursors and the memory of a subscription kept under another name from now on."""
        self.keep(new)
        self._forgotten.pop(new, None)
        remembered = self._snapshots.pop(old, None)
        if remembered is not None:
            self._snapshots[new] = msgspec.structs.replace(remembered, subscription=new)
        self._given += (msgspec.structs.replace(cursor, subscription=new) for cursor in cursors)
        self._dropped += ((old, cursor.lane) for cursor in cursors)
        self._moved_names.append((old, new))
        self._commits.bring_extras()

    def name_in_journal(self, name: str) -> str:
        """Return the name under which the journal has what is kept under this one from now on."""
        for old, new in reversed(self._moved_names):
            if new == name:
                name = old
        return name

    def clear(self, calls: Iterable[Call]) -> None:
        """Have it saved, soon, that calls are no suspects any more."""
        self._cleared += calls
        self.save_soon()

    def go_on_from(self, before: "Saving") -> None:
        """Take over what another journal did not save any more."""
        self._dropped = before._dropped  # noqa: SLF001 - of the same class
        self._forgotten = before._forgotten  # noqa: SLF001
        self._moved_names = before._moved_names  # noqa: SLF001
        self._snapshots = before._snapshots  # noqa: SLF001
        self._commits.bring_extras()

    # -- saving -------------------------------------------------------------------------------------

    def take(self) -> "SavedChanges | None":
        """Return what is to be saved now, or None."""
        letters = self._bus.dead_letters
        if not self._has_changes():
            self._look_again()
            return None
        released = self._commits.released
        if released - self._swept_at >= STALE_AFTER:
            self._note_all()
        noted = self._take_noted()
        dropped, self._dropped = self._dropped, []
        given, self._given = self._given, []
        cleared, self._cleared = self._cleared, []
        snapshots = self._take_snapshots()
        forgotten, self._forgotten = self._forgotten, {}
        moved_names, self._moved_names = self._moved_names, []
        moved = [item for offsets in noted for item in offsets.moved(released)]
        buried, removed_letters, tombstones = letters.changes()
        unsaved_halts = self._bus.halts.take_unsaved()
        changes = Changes(
            halts=[halt for halt in unsaved_halts.values() if halt is not None],
            released=[place for place, halt in unsaved_halts.items() if halt is None],
            cursors=[*given, *(cursor for _, _, cursor in moved), self._own_cursor(released)],
            dropped_cursors=dropped,
            buried=buried,
            removed_letters=removed_letters,
            cleared=cleared,
            renamed=moved_names,
            forgotten=list(forgotten),
            snapshots=snapshots,
            tombstones=tombstones,
        )
        unsaved = {offsets: offsets.take_unsaved() for offsets in noted}
        return SavedChanges(self, changes, given, moved, unsaved, released)

    def _take_noted(self) -> list[Offsets]:
        """Return whose cursors are to be written now."""
        # (To ask may save a state, or fail to: each is asked once.)
        may_move = {offsets: offsets.may_move for offsets in list(self._noted)}
        self._noted = {offsets: None for offsets, may in may_move.items() if not may}
        return [offsets for offsets, may in may_move.items() if may]

    def _take_snapshots(self) -> list[Snapshot]:
        """Return the snapshots to be written now: but for those whose cursors do not go with them."""
        waiting = {offsets.name for offsets in self._noted}
        taken = [snapshot for name, snapshot in self._snapshots.items() if name not in waiting]
        self._snapshots = {name: self._snapshots[name] for name in self._snapshots.keys() & waiting}
        return taken

    def _has_changes(self) -> bool:
        letters = self._bus.dead_letters
        letters.settle()
        own = self._noted or self._dropped or self._given or self._cleared or self._snapshots
        return bool(own or letters.has_changes or self._bus.halts.has_unsaved)

    def _look_again(self) -> None:
        """While letters are redriven, look with every commit, and after a while, for what was handled."""
        if self._bus.dead_letters.redrives:
            self._commits.bring_extras()
            self._arm()

    def _own_cursor(self, released: int) -> CursorState:
        if self.begin_at is None:
            return CursorState(subscription=BUS, lane="normal", floor=released, takes=STARTED)
        return CursorState(subscription=BUS, lane="normal", floor=self.begin_at)

    def note_saved(self, changes: Changes, released: int) -> None:
        """Everything was saved, as it stood when `released` had been handed out."""
        self._is_refused = False
        self._saved_at = released
        self.saves_count += 1
        self._bus.dead_letters.saved(changes.buried, changes.removed_letters, changes.tombstones)
        self._silence()
        self._look_again()

    def note_refused(self, changes: Changes, given: Sequence[CursorState], noted: Iterable[Offsets]) -> None:
        """The commit was refused: all of it is to be saved with the next one."""
        self._is_refused = True
        self._dropped = [*changes.dropped_cursors, *self._dropped]
        self._given = [*given, *self._given]
        self._cleared = [*changes.cleared, *self._cleared]
        self._moved_names = [*changes.renamed, *self._moved_names]
        refused = {s.subscription: s for s in changes.snapshots if s.subscription not in self._forgotten}
        self._snapshots = {**refused, **self._snapshots}
        self._forgotten = {**dict.fromkeys(changes.forgotten), **self._forgotten}
        self._bus.halts.give_back(changes.halts, changes.released)
        for offsets in noted:
            self.note(offsets)
        self._commits.bring_extras()

    # -- in time ------------------------------------------------------------------------------------

    def _arm(self) -> None:
        if self._timer is None and self._is_running and self._bus.loop is not None:
            self._timer = self._bus.loop.call_later(self._save_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._has_changes():
            self.save_soon()
        else:
            self._look_again()

    def _silence(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


@dataclass(frozen=True, slots=True)
class SavedChanges:
    """The changes of one commit.

    Attributes:
        saving: Where they come from.
        changes: The changes.
        given: Cursors among them that were given as they are: renamed ones, and those of the link.
        moved: The other cursors, with their lanes.
        unsaved: How many settled events each subscription has saved with them.
        released: What had been released then.

    """

    saving: Saving
    changes: Changes
    given: Sequence[CursorState]
    moved: Sequence[Moved]
    unsaved: dict[Offsets, int]
    released: int

    def saved(self) -> None:
        """They were written."""
        for lane, state, _ in self.moved:
            lane.note_saved(state)
        self.saving.note_saved(self.changes, self.released)
        for offsets in self.unsaved:
            offsets.let_go()

    def refused(self) -> None:
        """They were not: they are to be saved with the next commit. Handling goes on meanwhile."""
        self.saving.note_refused(self.changes, self.given, self.unsaved)
        for offsets, count in self.unsaved.items():
            offsets.give_back_unsaved(count)
