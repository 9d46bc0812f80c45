"""The slot of the store: the one place where a journal is opened, replaced beside a running bus, and closed.

```
  dead ──▶ <path>.next ──▶ close, swap, open, in one turn of the loop ──▶ a new store
         in a thread            (the old file: <path>.dead-<n>)
```

While the new file is built, the old one can still be read; durable publishes are refused. Positions are kept,
so a subscription goes on where it stands. What is in the old file and was not delivered
(after a failed sync it may be on the disk or not) is delivered from the new one.
"""

import asyncio
from contextlib import suppress
from pathlib import Path

from openoutcry.clocks import clock_of_loop
from openoutcry.config import PersistenceConfig
from openoutcry.errors import JournalError, JournalLocked, OpenOutcryError
from openoutcry.events import RECORDS
from openoutcry.journals import JournalReader, Recovered, SqliteJournal
from openoutcry.journals.lock_holders import named
from openoutcry.journals.swapping import (
    Permit,
    build_next,
    build_next_of_closed,
    check_is_there,
    finish_swap,
)
from openoutcry.ports import BuriedEvent, Clock, Journal
from openoutcry.runtime.delivery.dispatcher import Dispatcher
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.durability.levels import Levels
from openoutcry.runtime.durability.lock_wait import LOCK_WAIT_S
from openoutcry.runtime.durability.recorder import Recorder
from openoutcry.runtime.durability.store import Store
from openoutcry.runtime.durability.taping import TapeWriter
from openoutcry.runtime.ownership import running_loop

_OPEN_AGAIN_S = 0.05
_MOMENT_S = 0.1


class StoreSlot:
    """The store of one bus.

    Attributes:
        has_journal: Whether the bus has a journal, open or not.
        recorder: What the bus records of itself: `recorder.note` has a record written with the next commit.
        store: The open store; None before the journal is first needed, after the stop, and without a journal.

    """

    def __init__(
        self,
        bus: BusState,
        config: PersistenceConfig | None,
        journal: Journal | None,
        clock: Clock | None,
        recorder: Recorder,
        dispatcher: Dispatcher,
    ) -> None:
        """Make the slot of a bus.

        Args:
            bus: The state of the bus.
            config: The settings of the journal; None for a bus without one.
            journal: A journal to use instead of the file that the settings name. It is not closed here.
            clock: The clock to use instead of that of the running loop.
            recorder: What the bus records of itself in the journal.
            dispatcher: What delivers the events of the bus.

        """
        self._bus = bus
        self._config = config
        self.has_journal: bool = config is not None
        self._levels = None if config is None else Levels(config)
        self._journal = journal
        self._clock = clock
        self.recorder = recorder
        self._tape = None if bus.noted is None else TapeWriter(bus.noted)
        self._dispatcher = dispatcher
        self._file: SqliteJournal | None = None
        self._permit: Permit | None = None
        self.store: Store | None = None
        if config is not None:
            bus.dead_letters.read_from(ClosedFile(config) if journal is None else journal)

    @property
    def recorder_of_day(self) -> Recorder | None:
        """What records rounds, runs and answers; None if the settings want none of that."""
        return None if self._config is None or self._config.record == "off" else self.recorder

    @property
    def has_file(self) -> bool:
        """Whether the journal is a file that is opened here, so that it can be replaced."""
        return self._config is not None and self._journal is None

    def may_journal(self, selector: str | type) -> bool:
        """Return True if events that a selector takes are journaled by the settings."""
        if self._levels is None:
            return False
        return selector in RECORDS or selector in RECORDS.values() or self._levels.may_journal(selector)

    @property
    def committing(self) -> int:
        """How many ordinary and high-priority events wait for a commit, or for its sync."""
        return 0 if self.store is None else self.store.commits.waiting

    @property
    def is_committed(self) -> bool:
        """Whether nothing waits for a commit."""
        return self.store is None or self.store.commits.is_idle

    async def wait_committed(self) -> None:
        """Wait for the commit that is under way; its failure is its publishers' business."""
        assert self.store is not None
        with suppress(JournalError):
            await self.store.commits.ask()

    def is_pending(self, event_id: str) -> bool:
        """Return True if an event waits for its commit."""
        return self.store is not None and self.store.commits.pending(event_id) is not None

    def open(self, *, lock_wait_s: float = LOCK_WAIT_S) -> Store:
        """Return the store; open the journal if it is not open. Raises what opening it raises.

        A lock that another program has on the file is waited for here, as long as `lock_wait_s`.
        """
        if self.store is None:
            assert self._config is not None, "only a bus with a journal opens one"
            self._bus.set_clock(self._clock or clock_of_loop(running_loop()))
            config, left = self._config, ""
            if self._journal is None:
                left = finish_swap(config.path, key=config.key, engine=config.engine)
            store = self._make_store(config, None, lock_wait_s, left)
            self._bus.set_durability(store)
            try:
                store.adopt_all()
            except BaseException:
                self._bus.set_durability(None)
                store.abandon()
                self._close_file(as_it_is=True)
                raise
            self.store = store
        elif not self._bus.running:
            self.store.commits.move_here()
        return self.store

    async def open_in_time(self) -> Store:
        """Open it as `open` does, but wait for a lock that another program has on it elsewhere than here."""
        assert self._config is not None, "only a bus with a journal opens one"
        loop = asyncio.get_running_loop()
        until_s = loop.time() + LOCK_WAIT_S
        while True:
            try:
                return self.open(lock_wait_s=0.0)
            except JournalLocked as error:
                if not error.is_passing:
                    raise
                if loop.time() >= until_s:
                    raise await loop.run_in_executor(None, named, error, self._config.path) from error
            await asyncio.sleep(_OPEN_AGAIN_S)

    def open_if_any(self) -> None:
        """Open the journal, if there is one that was not open yet. Raises what opening it raises."""
        if self.has_journal and self.store is None and self._bus.phase == "new":
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                raise OpenOutcryError(
                    "the journal is not open yet, and is opened on the loop: ask there, or after the start"
                ) from None
            self.open()

    def _make_store(
        self,
        config: PersistenceConfig,
        before: Store | None,
        lock_wait_s: float = LOCK_WAIT_S,
        left: str = "",
    ) -> Store:
        journal = self._journal
        if journal is None:
            journal = self._file = SqliteJournal(
                config.path, key=config.key, engine=config.engine, lock_wait_s=lock_wait_s
            )
        try:
            return Store(
                self._bus, self._dispatcher, config, journal, self.recorder, self._tape, before, left
            )
        except BaseException:
            self._close_file(as_it_is=True)
            raise

    def _close_file(self, *, as_it_is: bool = False) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close(as_it_is=as_it_is)

    async def save(self, timeout_s: float) -> JournalError | TimeoutError | None:
        """Save everything, and wait for the disk in a thread for at most `timeout_s`. Return what went wrong.

        On a disk that is waited for on the loop it returns at once: `close` does it.
        """
        store = self.store
        if store is None or store.commits.dead is not None or store.config.sync == "inline":
            return None
        store.commits.sync_in_thread()
        try:
            async with asyncio.timeout(timeout_s):
                await store.flush()
        except (JournalError, TimeoutError) as error:
            return error
        return None

    def close(self, *, as_it_is: bool = False) -> None:
        """Save everything, sync, and close the journal if it was opened here.

        `as_it_is`: only close it, since the disk does not answer. What it has written may not be synced.
        """
        store, self.store = self.store, None
        self.give_up_recovery()
        if store is None:
            return
        try:
            store.close(as_it_is=as_it_is)
        finally:
            self._bus.set_durability(None)
            self._close_file(as_it_is=as_it_is)

    def give_up_recovery(self) -> None:
        """Let a thread that is building the next file put it nowhere: the old one is gone on with."""
        if self._permit is not None:
            self._permit.revoke()
            self._permit = None

    # -- replacing ----------------------------------------------------------------------------------

    async def recover(self) -> Recovered:
        """Go on in a new file, with what verifies of the old one. Raises `JournalError`: the old one stays.

        On a bus whose journal is not open, the file alone is replaced.
        """
        config, old, file = self._config, self.store, self._file
        assert config is not None, "only a bus with a journal file recovers it"
        loop = asyncio.get_running_loop()
        permit = self._permit = Permit()
        if file is None:
            found = await loop.run_in_executor(None, rebuild, config, permit)
        else:
            check_is_there(file, config.engine)
            if old is not None:
                await old.give_up()
            file.refuse(JournalError("the journal is being recovered into a new file; try again"))
            file.reopen_to_read()
            found = await loop.run_in_executor(None, build, file, config, permit)
            if old is not None:
                self._leave(old)
        self._permit = None
        if left := finish_swap(config.path, key=config.key, engine=config.engine):
            raise JournalError(f"the journal was built anew, and could not take its place: {left}")
        if old is not None:
            self._go_on_from(old, config)
        return found

    def _leave(self, old: Store) -> None:
        """Close the old file, with all that refers to it."""
        for subscription in self._bus.router:
            subscription.leave_marks()
        with suppress(JournalError):  # it is dead: what verifies of it has been carried over
            old.close()
        with suppress(JournalError):
            self._close_file()

    def _go_on_from(self, old: Store, config: PersistenceConfig) -> None:
        """Open the new file in the place of the old one, and let everybody go on where they are."""
        bus, delivered = self._bus, old.commits.released
        new = self._make_store(config, old, _MOMENT_S)
        saved: dict[str, dict[str, tuple[int, tuple[tuple[int, int], ...]]]] = {}
        for cursor in new.journal.cursors():
            saved.setdefault(cursor.subscription, {})[cursor.lane] = (cursor.floor, cursor.settled)
        for subscription in bus.router:
            if subscription.offsets is not None:  # nobody else has had the journal: what is remembered holds
                head = new.journal.head
                at = (min(delivered, head), head)
                subscription.offsets.go_on_at(at, saved.get(subscription.name, {}))
        bus.set_durability(new)
        self.store = new
        new.adopt_all()
        if bus.running:
            new.hand_over()
            new.started()
        for subscription in bus.router:
            subscription.take_marks()
        new.saving.save_soon()
        for subscription in bus.router:
            subscription.read_on()
            subscription.wake_all()


class ClosedFile:
    """The dead letters in a journal file that is not open: before the first start, and after the stop."""

    def __init__(self, config: PersistenceConfig) -> None:
        self._config = config

    def buried(
        self, subscription: str | None = None, after: int = 0, limit: int | None = None
    ) -> list[BuriedEvent]:
        """Return the dead letters, as a journal does; none where there is no file yet."""
        config = self._config
        if not Path(config.path).is_file():
            return []
        with JournalReader(config.path, key=config.key, engine=config.engine) as reader:
            return reader.buried(subscription, after, limit)


def build(file: SqliteJournal, config: PersistenceConfig, permit: Permit) -> Recovered:
    """In a thread: build the next file of an open one."""
    return build_next(file, permit, key=config.key, engine=config.engine)


def rebuild(config: PersistenceConfig, permit: Permit) -> Recovered:
    """In a thread: build the next file of one that is not open."""
    return build_next_of_closed(config.path, permit, key=config.key, engine=config.engine)
