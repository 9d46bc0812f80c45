"""The memories of agents: where each begins in the journal, giving them back, and saving them.

```
  adopted ──▶ load (at once) ──▶ fold, page by page, beside everything else ──▶ ready
     hold: restoring                    │ something is missing, or raised
                                        ▼
                                   not restored (UNHEALTHY)
```

The journal has a snapshot for every durable name: where its memory begins, with a state or with nothing. A
name that is new begins with nothing at the place where it was made. From there on the memory is what the name
has handled (`core/recall.py`).

A state is saved at the end of a call, when nothing else of the subscription is open. It stands for exactly
what is settled at that instant, which is written with it. Cursors that are saved later may be ahead of it:
what is between is folded. They are never behind it.
"""

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context
from functools import partial

import msgspec

from openoutcry.core.holds import Hold
from openoutcry.core.recall import Recall, both, either, stretches_of
from openoutcry.errors import BusClosed, JournalCorrupt, JournalError, RestoreFailed
from openoutcry.events import MemoryRestored
from openoutcry.journals.beginnings import STATE_BYTES_MOST, Beginning, write_beginning
from openoutcry.logs import about
from openoutcry.ports import CursorState, Era, Holder, Journal, Places, Snapshot
from openoutcry.runtime.delivery.memory import Memory, check_has_run
from openoutcry.runtime.delivery.offsets import Offsets
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.delivery.subscription import Subscription
from openoutcry.runtime.durability.catch_up import Pages
from openoutcry.runtime.durability.committer import Committer
from openoutcry.runtime.durability.folding import Folding, Pass, without_effects
from openoutcry.runtime.durability.recorder import Recorder
from openoutcry.runtime.durability.saving import Saving
from openoutcry.runtime.durability.states import read_state, written_state
from openoutcry.runtime.durability.taken import is_as_before

log = logging.getLogger("openoutcry")

READ_AT_ONCE = 512
"""How many entries are read at a time to be folded: others wait for that."""
MOVE_AFTER = 65_536
"""Once this many events were released, the snapshot of an idle subscription is written anew, further on."""


class SavedMemory:
    """What is kept of one subscription's memory while it handles events: its `Recollection`.

    Attributes:
        base: Where the memory begins in the journal.
        since: How many journaled events were settled since then.
        folding: What is to be folded yet; None when the subscription has its memory.
        save_error: Why its state could not be saved the last time; empty if it could.

    """

    def __init__(self, memories: "Memories", subscription: Subscription, memory: Memory) -> None:
        self.memories = memories
        self._memory = memory
        self.base: Snapshot | None = None
        self.since: int = 0
        self.folding: Folding | None = None
        self.save_error: str = ""
        self._subscription = subscription
        self._due_at = memory.every
        self._is_stale = False

    @property
    def memory(self) -> Memory:
        """The memory: in a notebook a cell that is run again may have put another in its place."""
        return self._subscription.options.memory or self._memory

    def begin_at(self, base: Snapshot, since: int) -> None:
        """The memory begins here from now on; so many events were settled since."""
        self.base, self.since = base, since
        self._due_at = self.memory.every
        self._is_stale = False

    def save_soon(self) -> None:
        """Save with the next event that is settled."""
        self._due_at = 0

    def settled(self, count: int) -> None:
        """So many events were settled: save, if enough were, or the cursors wait for it."""
        self.since += count
        if (self._is_stale or self.since >= self._due_at) and self.memory.save is not None:
            self.save()

    def placed(self) -> None:
        """An event that was handled has a place in the journal now: what is saved has it without that."""
        self.since += 1
        self._is_stale = self.memory.save is not None

    def may_move(self) -> bool:
        """Return True if the subscription's cursors may be saved; save first, if that is needed for it."""
        return not self._is_stale or self.save()

    def save(self) -> bool:
        """Save the state, if nothing is open. Return True if it is on its way into the journal."""
        if self.folding is not None or not self.is_quiet:
            return False
        assert self.memory.save is not None
        try:
            with without_effects(self._subscription.name, "saved"):
                returned = self.memory.save()
                check_has_run("save", returned)
                form, state = written_state(returned)
            self._write(form, state)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.memories.raised(self._subscription, error)
            if not self.save_error:
                name = self._subscription.name
                log.exception("the state of %s could not be saved", name, extra=about(subscription=name))
            self.save_error = repr(error)
            self._due_at = self.since + self.memory.every
            return False
        self.save_error = ""
        return True

    def move(self) -> None:
        """Have an idle memory begin further on, so that it does not hold back retention."""
        if self.folding is not None or self.base is None or not self.is_quiet:
            return
        if self.memory.save is not None and (self.since or self.base.form == "none"):
            self.save()
        elif not self.since:
            self._write(self.base.form, self.base.state)

    def _write(self, form: str, state: bytes) -> None:
        snapshot = self.memories.snapshot_of(self._subscription, form, state)
        self.begin_at(snapshot, 0)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits either: no call was cut short half-way through its event."""
        subscription = self._subscription
        return not (subscription.mailbox.waiting or subscription.control.waiting) and self.is_quiet

    @property
    def is_quiet(self) -> bool:
        """Whether nothing of the subscription is in a call, waits for a retry, or is being committed."""
        subscription, offsets = self._subscription, self._subscription.offsets
        if offsets is None or subscription.in_call or self.memories.is_delivering:
            return False
        lanes = (subscription.mailbox.high, subscription.mailbox.normal, subscription.control.normal)
        return all(lane.untried == lane.waiting for lane in lanes) and all(
            lane.is_known for lane in offsets.lanes
        )


class Memories:
    """The memories of a bus's subscriptions, in one open journal."""

    def __init__(
        self,
        bus: BusState,
        journal: Journal,
        commits: Committer,
        saving: Saving,
        on_restored: Callable[[], None],
        recorder: Recorder | None = None,
    ) -> None:
        """Look at what the journal has. `recorder` is told what memories are rebuilt from."""
        self._bus = bus
        self._journal = journal
        self._commits = commits
        self._saving = saving
        self._on_restored = on_restored
        self._recorder = recorder
        self._untold: list[tuple[str, Beginning]] = []
        self._pages = Pages(journal, READ_AT_ONCE)
        self._needed = {holder.subscription for holder in journal.held_by() if holder.why == "memory"}
        self._pending: list[SavedMemory] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_running = False
        self._moved_at = commits.released

    # -- where memories begin -----------------------------------------------------------------------

    def adopt(self, subscription: Subscription, offsets: Offsets, saved: dict[str, CursorState]) -> None:
        """Find out where the memory of a subscription begins, and have it given back if it has one."""
        name, memory = subscription.name, subscription.options.memory
        now: Places = {lane: (state.floor, state.settled) for lane, state in saved.items()}
        changed = {state.takes for state in saved.values()} - {offsets.takes}
        takes = {before for before in changed if not is_as_before(before, offsets.takes)}
        is_needed = memory is not None and memory.fold is not None
        if memory is None and saved and not takes and name not in self._needed:
            return
        base, known = self._base(subscription, offsets, now)
        if base is None:
            return
        # What was not settled when the process died is handled again, if it is of the types of now.
        eras = tuple(Era(era.takes, both(era.upto, now)) for era in base.eras)
        base = msgspec.structs.replace(base, eras=eras)
        for before in takes:
            era = Era(before, now)
            if era not in base.eras:
                base = msgspec.structs.replace(base, eras=(*base.eras, era))
        if changed:
            for lane in offsets.lanes:
                lane.saved = None  # so that the types are saved as well
        base = msgspec.structs.replace(base, is_needed=is_needed)
        if base != known:
            self._saving.remember(base)
        if memory is not None:
            self._adopt(subscription, offsets, memory, base, now, is_new=not saved)

    def _base(
        self, subscription: Subscription, offsets: Offsets, now: Places
    ) -> tuple[Snapshot | None, Snapshot | None]:
        """Return where a memory begins, None if that cannot be said; and what the journal says of it."""
        name, memory = subscription.name, subscription.options.memory
        why, known = "", None
        try:
            known = self._known(name, None) if now else None
        except JournalCorrupt as error:
            why = str(error)
        if memory is not None and known is not None and known.form == "lost":
            why = "its saved state was damaged, and lost in a recovery"
        if not why:
            return known or self._beginning(subscription, offsets, now), known
        begins = "begins with nothing, and remembers what it handles from now on"
        if self._may_begin(subscription, memory, why, "a backup of the journal may have it", begins):
            return self._make(subscription, "none", b"", now), known
        return None, known

    def _beginning(self, subscription: Subscription, offsets: Offsets, now: Places) -> Snapshot:
        """Return the snapshot of a name that has none: it is new, or older than snapshots are."""
        if now:
            if subscription.options.memory is not None:
                log.warning(
                    "the journal was written by an earlier version, and does not say since when %s is "
                    "subscribed: its memory is what it takes of the whole journal",
                    subscription.name,
                    extra=about(subscription=subscription.name),
                )
            lanes: Places = {}
        else:
            lanes = {lane.lane.name: (lane.read_upto, ()) for lane in offsets.lanes}
        return self._make(subscription, "none", b"", lanes)

    def _make(self, subscription: Subscription, form: str, state: bytes, lanes: Places) -> Snapshot:
        memory, name = subscription.options.memory, subscription.name
        return Snapshot(
            subscription=name,
            form=form,
            state=state,
            is_needed=memory is not None and memory.fold is not None,
            lanes=lanes,
            open=stretches_of(position for position in self._letters(name) if position),
            wall_ns=self._bus.clock.wall_ns(),
        )

    def _letters(self, name: str) -> set[int]:
        letters = self._bus.dead_letters
        return letters.positions(name) if letters.open_counts().get(name) else set()

    def take_types(self, subscription: Subscription, offsets: Offsets, takes: tuple[str, ...]) -> None:
        """A subscription takes other types from now on: what is settled was settled with those before."""
        kept, before = offsets.memory, offsets.takes
        offsets.takes = takes
        now: Places = {}
        for lane in offsets.lanes:
            # (If it has changed between a stop and a start, what was withdrawn meanwhile was not handled.)
            at_rest = lane.saved if offsets.closed_at[0] >= 0 else None
            now[lane.lane.name] = at_rest or lane.pass_over(self._commits.released)
            lane.saved = None
        try:
            base = self._known(subscription.name, kept)
        except JournalError as error:
            self._tell_unknown(subscription.name, str(error))
            return
        if base is None:
            base = self._make(subscription, "none", b"", {})
        self._set_eras(base, kept, (*base.eras, Era(before, now)))

    def note_withdrawn(self, offsets: Offsets) -> None:
        """What was withdrawn was not handled, also where a call with it failed after its type was given up.

        An era of its own says so, in which nothing was taken.
        """
        gone: Places = {lane: (0, stretches_of(places)) for lane, places in offsets.take_withdrawn().items()}
        try:
            base = self._known(offsets.name, offsets.memory) if gone else None
        except JournalError as error:
            log.error(  # noqa: TRY400 - the error says all
                "the journal does not say where the memory of %s begins: %s",
                offsets.name,
                error,
                extra=about(subscription=offsets.name),
            )
            return
        if base is None:
            return
        eras = base.eras
        if eras and not eras[0].takes:
            gone, eras = either(eras[0].upto, gone), eras[1:]
        self._set_eras(base, offsets.memory, (Era((), gone), *eras))

    def _set_eras(self, base: Snapshot, kept: object, eras: tuple[Era, ...]) -> None:
        base = msgspec.structs.replace(base, eras=eras)
        if isinstance(kept, SavedMemory):
            kept.base = base
        self._saving.remember(base)

    def _known(self, name: str, kept: object) -> Snapshot | None:
        """Return where a memory begins, if that was ever written, or will be."""
        if isinstance(kept, SavedMemory) and kept.base is not None:
            return kept.base
        found = self._saving.remembered(name) or self._journal.snapshot(self._saving.name_in_journal(name))
        return None if found is None else msgspec.structs.replace(found, subscription=name)

    def snapshot_of(self, subscription: Subscription, form: str, state: bytes) -> Snapshot:
        """Have the state of a subscription written, for what is settled now."""
        offsets = subscription.offsets
        assert offsets is not None
        lanes: Places = {lane.lane.name: lane.state(self._commits.released) for lane in offsets.lanes}
        snapshot = self._make(subscription, form, state, lanes)
        self._saving.remember(snapshot)
        offsets.note()
        return snapshot

    # -- giving them back ---------------------------------------------------------------------------

    def _adopt(
        self,
        subscription: Subscription,
        offsets: Offsets,
        memory: Memory,
        base: Snapshot,
        now: Places,
        *,
        is_new: bool,
    ) -> None:
        saved = SavedMemory(self, subscription, memory)
        saved.begin_at(base, 0)
        offsets.memory = saved
        if subscription.readiness.is_over and not is_new and base.form == "none" and memory.fold is not None:
            why, remedy = "another bus has written to the journal, and it cannot unlearn", "make both anew"
            if self._may_begin(subscription, memory, why, remedy, "goes on with what it has"):
                subscription.restored()
        elif not is_new and (memory.fold is not None or base.form != "none"):
            left_out = self._left_out(subscription, offsets, memory)
            if left_out is None:
                return
            recall = Recall(
                base.lanes,
                now if memory.fold is not None else {},
                reopened=base.open,
                left_out=left_out,
                eras=[(era.takes, era.upto) for era in base.eras],
            )
            saved.folding = Folding(subscription, memory, recall)
            if self._recorder is not None:
                behind = stretches_of(place for place in left_out if place > recall.after)
                self._untold.append((subscription.name, Beginning(base, now, offsets.takes, behind)))
            self._wait_for(saved, subscription)
        else:
            subscription.restored()

    def _left_out(self, subscription: Subscription, offsets: Offsets, memory: Memory) -> set[int] | None:
        """Return which positions are settled and were not handled; None if that cannot be said."""
        name = subscription.name
        letters = self._letters(name)
        for lane in offsets.lanes:
            lane.leave_out(letters)  # their cursors may have had to wait for a state
        left_out = letters | self._bus.dead_letters.tombstones(name)
        try:
            left_out.update(self._journal.tombstones(self._saving.name_in_journal(name)))
        except JournalCorrupt as error:
            remedy = "a backup of the journal may have it"
            begins = "may remember events of dead letters that were dropped"
            if not self._may_begin(subscription, memory, str(error), remedy, begins):
                return None
        return left_out

    def _may_begin(
        self, subscription: Subscription, memory: Memory | None, why: str, remedy: str, begins: str
    ) -> bool:
        """Return True if a subscription begins, or goes on, although its memory is not whole."""
        name = subscription.name
        if memory is None:
            self._tell_unknown(name, why)
            return False
        text = f"{name} did not get its memory back: {why}"
        if memory.on_missing == "warn":
            log.error("%s; it %s", text, begins, extra=about(subscription=name))
            return True
        text = f"{text}; {remedy}, and with Memory(on_missing='warn') it {begins}"
        self._fail(subscription, RestoreFailed(text))
        return False

    @staticmethod
    def _tell_unknown(name: str, why: str) -> None:
        text = "the journal does not say where the memory of %s begins: %s"
        log.error(text, name, why, extra=about(subscription=name))

    def _fail(self, subscription: Subscription, error: RestoreFailed) -> None:
        log.critical("%s", error, extra=about(subscription=subscription.name))
        if error.__cause__ is not None:
            self.raised(subscription, error.__cause__)
        if subscription.offsets is not None:
            subscription.offsets.memory = None  # it stays in the journal as it is
        subscription.restored(error)

    def raised(self, subscription: Subscription, error: BaseException) -> None:
        """Tell the observers what a function of a memory has raised."""
        self._bus.raised(f"the memory of {subscription.name}", None, error)

    def _wait_for(self, saved: SavedMemory, subscription: Subscription) -> None:
        subscription.holds.set(Hold.RESTORING)
        subscription.readiness.begin()
        self._pending.append(saved)
        if self._is_running:
            self._begin_pending()

    def go_on(self, subscription: Subscription) -> None:
        """A subscription goes on where it was in the journal: with its memory, or with folding."""
        saved = None if subscription.offsets is None else subscription.offsets.memory
        if not isinstance(saved, SavedMemory):
            return
        saved.memories = self
        saved.save_soon()
        if saved.folding is not None:
            self._wait_for(saved, subscription)

    def begin(self) -> None:
        """The bus runs."""
        self._is_running = True
        if self._saving.remembers:
            self._saving.save_soon()
        self._begin_pending()

    def _tell(self) -> None:
        """Have it recorded from what memories are rebuilt: behind the record of the start."""
        untold, self._untold = self._untold, []
        recorder, wall_ns = self._recorder, self._bus.clock.wall_ns()
        if recorder is not None:
            for name, beginning in untold:
                recorder.answered(wall_ns, partial(_restored_record, name, beginning))

    def _begin_pending(self) -> None:
        """Load the states that wait for it, and fold what came after in one pass."""
        self._tell()
        pending, self._pending = self._pending, []
        due = []
        for saved in pending:
            if self._load(saved):
                self._bus.busy += 1
                due.append(saved)
        if not due:
            return
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._restore(due), name="openoutcry:restore", context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _load(self, saved: SavedMemory) -> bool:
        """Hand a saved state to its agent. Return True if there is something to fold on top."""
        folding, base = saved.folding, saved.base
        assert folding is not None
        assert base is not None
        if base.form != "none" and not folding.is_loaded:
            name = folding.subscription.name
            load = saved.memory.load
            if load is None:
                why, begins = "it has a saved state, and no load", "begins with what came after that"
                if not self._may_begin(folding.subscription, saved.memory, why, "give it load", begins):
                    saved.folding = None
                    return False
                load = _let_go
            try:
                with without_effects(name, "restored"):
                    check_has_run("load", load(read_state(base.form, base.state)))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - whatever it lets out is its failure
                failed = RestoreFailed(
                    f"{name} did not get its memory back: its load raised {error!r}; correct it, and have it "
                    "read what earlier releases have saved"
                )
                failed.__cause__ = error
                self._fail(folding.subscription, failed)
                saved.folding = None
                return False
        folding.is_loaded = True
        if folding.is_over:
            self._restored(saved)
            return False
        return True

    async def _restore(self, due: list[SavedMemory]) -> None:
        """Fold for some subscriptions, each until it has what it had handled."""
        by_folding = {saved.folding: saved for saved in due if saved.folding is not None}
        try:
            async for folding in Pass(list(by_folding), self._pages, self._journal, self._bus).run():
                saved = by_folding.pop(folding)
                self._bus.busy -= 1
                if folding.error is None:
                    self._restored(saved)
                else:
                    saved.folding = None
                    self._fail(folding.subscription, folding.error)
                if not self._bus.busy:
                    self._bus.rested()
        finally:
            if self._is_running:
                self._bus.busy -= len(by_folding)

    def _restored(self, saved: SavedMemory) -> None:
        folding, saved.folding = saved.folding, None
        assert folding is not None
        subscription = folding.subscription
        saved.since += folding.count
        if subscription.ended:
            return
        folding.report()
        subscription.restored()
        self._on_restored()
        subscription.wake()

    @property
    def are_restoring(self) -> bool:
        """Whether memories are being given back."""
        return bool(self._tasks)

    async def wait_restored(self) -> None:
        """Wait until the memories that are being given back are, or cannot be."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    # -- while the bus runs -------------------------------------------------------------------------

    @property
    def is_delivering(self) -> bool:
        """Whether kill switches were delivered that have no place in the journal yet."""
        return bool(self._commits.delivered())

    def look(self) -> None:
        """Have the memories of idle subscriptions begin further on, once much was released since."""
        released = self._commits.released
        if released - self._moved_at < MOVE_AFTER:
            return
        self._moved_at = released
        for saved in self._saved():
            if saved.base is not None and released - saved.base.floor >= MOVE_AFTER:
                saved.move()

    def goes_on(self, holder: Holder) -> bool:
        """Return True if what holds retention back will do so no more before long, without the operator."""
        subscription = self._bus.router.get(holder.subscription)
        if subscription is None:
            return False
        saved = None if subscription.offsets is None else subscription.offsets.memory
        if holder.why == "cursor":
            return True  # it lags, which is found elsewhere
        if holder.why == "dead letter" or not isinstance(saved, SavedMemory):
            return False
        is_late = self._commits.released - holder.position > 2 * MOVE_AFTER
        return saved.memory.save is not None and not (saved.save_error or is_late)

    def _saved(self) -> list[SavedMemory]:
        found = (s.offsets.memory for s in self._bus.router if s.offsets is not None)
        return [saved for saved in found if isinstance(saved, SavedMemory)]

    def ended(self, subscription: Subscription) -> None:
        """A subscription has ended: it needs no memory any more."""
        self._pending = [p for p in self._pending if p.folding and p.folding.subscription is not subscription]
        self._needed.discard(subscription.name)

    def interrupt(self) -> None:
        """Fold nothing more: the bus stops."""
        self._is_running = False
        for task in self._tasks:
            if not task.get_loop().is_closed():
                task.cancel()

    def end(self, *, saves: bool) -> None:
        """The bus stops: save what is remembered, if `saves`. What is not restored is at the next start."""
        self.interrupt()
        if saves:
            for saved in self._saved():
                if saved.is_idle:
                    saved.move()
        for subscription in self._bus.router:
            if not subscription.readiness.is_over:
                subscription.readiness.put_off(
                    BusClosed(f"the bus was stopped before {subscription.name} had its memory back")
                )


def _restored_record(name: str, beginning: Beginning, event_id: str) -> MemoryRestored:
    base = beginning.base
    return MemoryRestored(
        event_id=event_id,
        subscription=name,
        form=base.form,
        state_size_bytes=len(base.state),
        is_whole=len(base.state) <= STATE_BYTES_MOST,
        begins=write_beginning(beginning),
    )


def _let_go(_state: object) -> None:
    """Stand in for the `load` of a memory that is to begin without its saved state."""
