"""Going on in a new journal, beside a running bus: what verifies of the old file is carried over.

```
  dead ──close──▶ recover_into ──▶ <path>.next ──swap──▶ <path>           (the old file: <path>.dead-<n>)
                    in a thread                            └──▶ a new store, with the books as they are
```

Positions are kept, so a subscription goes on where it stands. What the old file had written and nobody was
told of (a failed sync leaves that open) is handed out now. The swap may be interrupted anywhere: the next
opening ends it (`finish_swap`).
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from openoutcry.config import PersistenceConfig
from openoutcry.errors import JournalError
from openoutcry.journals import Recovered, SqliteJournal, recover_into
from openoutcry.journals.glance import is_still_of
from openoutcry.ports import Journal
from openoutcry.runtime.admission.gate import Admission
from openoutcry.runtime.delivery.dispatcher import Dispatcher
from openoutcry.runtime.delivery.in_flight import InFlightMarker
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.delivery.subscription import Subscription
from openoutcry.runtime.durability.store import Store

log = logging.getLogger("openoutcry")

_BESIDE = ("-wal", "-shm", "-marks", "")
"""The files of a journal, the database last: as long as it stands at the old place, the swap is not done."""


class _Gone:
    """A journal whose file has been closed: it has nothing, and takes nothing."""

    marks = None

    def __init__(self, journal: Journal, error: JournalError) -> None:
        self.path = getattr(journal, "path", None)
        self.places, self.generation = _identity(journal)
        self.head, self.first, self.synced = journal.head, journal.first, journal.synced
        self._error = error

    def find(self, event_id: str) -> None:
        """Know nothing."""

    def read(self, *_: object, **__: object) -> Sequence[Any]:
        """Read nothing."""
        return []

    read_urgent = tail = cursors = buried = suspects = read

    def write(self, *_: object, **__: object) -> None:
        """Refuse."""
        raise self._error

    sync = begin_sync = write

    def close(self) -> None:
        """It is closed."""


def _identity(journal: Any) -> tuple[list[tuple[int, int]], bytes]:
    """Return which files a journal has opened, and the generation that is in them."""
    return journal.places, journal.generation if isinstance(journal, _Gone) else journal.marks.generation


def recover_file(config: PersistenceConfig) -> Recovered:
    """In a thread: build the new file, and put it in the place of the old one, which is kept beside it."""
    path = config.path
    following = Path(f"{path}.next")
    for ending in _BESIDE:
        Path(f"{following}{ending}").unlink(missing_ok=True)
    found = recover_into(path, following, key=config.key, engine=config.engine)
    finish_swap(path)
    return found


def finish_swap(path: Path) -> None:
    """Put a new file that is whole in the place of the old one, if there is one."""
    following = Path(f"{path}.next")
    if not following.exists():
        return
    number = 1
    while Path(f"{path}.dead-{number}").exists():
        number += 1
    for ending in _BESIDE:
        old = Path(f"{path}{ending}")
        if old.exists():
            old.replace(f"{path}.dead-{number}{ending}")
    for ending in ("-marks", ""):
        new = Path(f"{following}{ending}")
        if new.exists():
            new.replace(f"{path}{ending}")
    log.warning("the journal goes on in a new file; the old one is kept as %s.dead-%d", path, number)


class Failover:
    """Takes a running bus from a dead journal to a new one."""

    def __init__(
        self, bus: BusState, dispatcher: Dispatcher, admission: Admission, config: PersistenceConfig
    ) -> None:
        self._bus = bus
        self._dispatcher = dispatcher
        self._admission = admission
        self._config = config

    async def run(self, old: Store) -> tuple[Store, Recovered]:
        """Recover, and return the store of the new journal. Raises `JournalError`: the old one stays."""
        bus = self._bus
        self._see_whose_it_is(old)
        while not old.commits.is_idle:
            with suppress(JournalError):
                await old.commits.ask().wait()
        if not old.is_gone:
            self._close(old)
        bus.reads_wait = True
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(None, recover_file, self._config)
        new = self._open(old)
        bus.reads_wait = False
        for subscription in bus.router:
            subscription.read_error = ""
            subscription.wake_all()
        return new, found

    def _see_whose_it_is(self, old: Store) -> None:
        """Raise `JournalError`, while the old file can still be read, if another one stands in its place."""
        path = self._config.path
        places, generation = _identity(old.journal)
        try:
            is_ours = is_still_of(path, places, generation, self._config.engine)
        except OSError as error:
            raise JournalError(
                f"{path} was removed ({error.strerror}), so there is nothing to recover; put the file back, "
                "then call recover_journal()"
            ) from error
        if not is_ours:
            raise JournalError(
                f"the file at {path} is another journal, not the one that this bus has written; put that one "
                "back, then call recover_journal()"
            )

    def _close(self, old: Store) -> None:
        """Let go of the old file. From now on nobody can read in it, so nobody is to try."""
        bus, delivered = self._bus, old.commits.released
        for consumer in bus.consumers.values():
            consumer.subscription.mailbox.cut_all()  # the marks of a batch go with the file
            for worker in consumer.active_workers():
                if worker.marker is not None:
                    worker.marker.clear()
                    worker.marker.release()
                    worker.marker = None
        error = old.commits.dead or JournalError("the journal is being recovered into a new file; try again")
        gone = cast("Journal", _Gone(old.journal, error))
        with suppress(
            JournalError
        ):  # it is dead already, or it dies now: what verifies of it is carried over
            old.close()
        old.commits.dead = error
        old.hand_in(gone)
        self._dispatcher.released = lambda: delivered
        bus.pending_ids = old.commits.pending_ids
        bus.on_ended = old.cursors.ended

    def _open(self, old: Store) -> Store:
        config, bus, delivered = self._config, self._bus, old.commits.released
        journal = SqliteJournal(config.path, key=config.key, engine=config.engine)
        saved = {(c.subscription, c.lane): (c.floor, c.settled) for c in journal.cursors()}
        for subscription in bus.router:
            offsets = subscription.offsets
            if offsets is not None:  # nobody else has had the journal: what is remembered here holds
                offsets.closed_at = journal.head
                for lane in offsets.lanes:
                    lane.saved = saved.get((offsets.name, lane.lane.name))
        new = Store(bus, self._dispatcher, config, journal)
        new.owns_journal = True
        new.on_error = old.on_error
        new.conflicts = old.conflicts
        new.cursors.dropped += old.cursors.dropped
        for subscription in bus.router:
            if subscription.offsets is not None:
                new.dead_letters.adopt(subscription)
                _catch_up(subscription, delivered, journal.head)
        self._admission.store = new
        self._admission.fast_path.forget_classes()
        new.hand_over()
        new.started()
        for consumer in bus.consumers.values():
            for worker in consumer.active_workers():
                worker.marker = InFlightMarker.of(
                    consumer.subscription, bus.marks, is_control=worker.is_control
                )
        new.save_soon()
        return new


def _catch_up(subscription: Subscription, delivered: int, head: int) -> None:
    """Have a subscription read what the old journal had written and nobody was handed."""
    offsets, box = subscription.offsets, subscription.mailbox
    if offsets is None or head <= delivered:
        return
    for lane in offsets.lanes:
        if not lane.behind:
            lane.read_upto = delivered
    # The urgent lanes are handed all of it at once, the normal one reads on.
    box.fall_behind(int(not offsets.normal.behind) - int(offsets.high.behind))
    offsets.control.behind = offsets.high.behind = offsets.normal.behind = True
