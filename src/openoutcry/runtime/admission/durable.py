"""Durable admission: what an event must survive, and the commit or outbox that it goes into."""

import logging
from typing import Any

from openoutcry.errors import ConfigError, InvalidEvent, JournalError
from openoutcry.logs import about
from openoutcry.ports import Entry, Level, level_named
from openoutcry.runtime.admission.access import is_kill_switch
from openoutcry.runtime.admission.fast_path import Vote
from openoutcry.runtime.delivery.causation import outbox_of, stamp_cause
from openoutcry.runtime.delivery.outbox import Output
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.durability.commit import Commit
from openoutcry.runtime.durability.slot import StoreSlot
from openoutcry.runtime.durability.store import Store

log = logging.getLogger("openoutcry")


class DurableAdmission:
    """Takes the durable events of one bus into commits, once there is room for them."""

    def __init__(self, bus: BusState, slot: StoreSlot) -> None:
        self._bus = bus
        self._slot = slot

    def level(self, event_type: str, asked: str | None) -> Level:
        """Return what an event must survive. The journal is opened when the first one has to."""
        store = self._slot.store
        if store is None:
            if not self._slot.has_journal:
                if asked is not None and level_named(asked):
                    raise ConfigError(
                        f"level is {asked!r}, but this bus has no journal: make it with "
                        "EventBus(enable_persistence=True), or leave the level out"
                    )
                return Level.MEMORY
            store = self._slot.open()
        if not self._bus.running:
            store.commits.move_here()
        return store.level_of(event_type, asked)

    def _check_is_open(self, store: Store) -> None:
        """Raise why nothing durable is accepted, if so; a kill switch is delivered all the same."""
        if self._bus.fenced is not None:
            raise self._bus.fenced
        if store.commits.dead is not None:
            raise store.commits.dead

    def entry_to_copy(self, event: Any, lane: str, vote: Vote | None) -> Entry:
        """Return what will be written of an event of which other hosts are to have a copy before.

        Raises what `stage` raises, and `ConfigError` in a call whose publications wait in an outbox.
        """
        store = self._slot.store
        assert store is not None, "its level has opened the journal"
        self._check_is_open(store)
        if outbox_of(self._bus) is not None:
            raise ConfigError(
                "level is 'replicated' in a handler with an outbox, whose publications are committed when it "
                "returns: publish it at another level, or from a subscription without an outbox"
            )
        stamp_cause(self._bus, event)
        if vote is not None:
            vote.prepare()
        return store.entry(event, lane, Level.PROCESS, votes=vote is not None and vote.travels)

    def stage(self, event: Any, lane: str, level: Level, vote: Vote | None) -> Commit | bool:
        """Take an event into the next commit, or (True) into the outbox of the call that publishes it.

        Raises what the journal has died of, and `InvalidEvent` if the event cannot be written.
        """
        store = self._slot.store
        assert store is not None, "its level has opened the journal"
        self._check_is_open(store)
        stamp_cause(self._bus, event)
        if vote is not None:
            vote.prepare()
        then, travels = (None, False) if vote is None else (vote.cast, vote.travels)
        outbox = outbox_of(self._bus)
        if outbox is None:
            return store.stage(event, lane, level, then, votes=travels)
        outbox.append(Output(event, store.entry(event, lane, level, votes=travels), then))
        self._bus.outboxed[event.event_id] = event
        self._bus.in_outboxes += 1
        if vote is not None:
            vote.defer()
        return True

    def stage_kill_switch(
        self, event: Any, level: Level, positions: list[int], entry: Entry | None = None
    ) -> Commit | bool:
        """Take a kill switch that was delivered into the next commit, which fills in its one position.

        `entry`: as what it is written, if another desk has written it before. True: the journal does not take
        it, which is logged.
        """
        try:
            return self.stage_for_control(event, level, positions, entry)
        except (JournalError, InvalidEvent) as error:
            excuse(event, error)
            return True

    def stage_for_control(
        self, event: Any, level: Level, positions: list[int], entry: Entry | None = None
    ) -> Commit:
        """Do as `stage_kill_switch`; raise why the journal does not take it."""
        store, router = self._slot.store, self._bus.router
        assert store is not None, "it knows that it does not have the event"

        def note(position: int) -> None:
            positions[0] = position  # wherever the event is by now, it knows where it stands
            for group in router.route(event):
                for subscription in group.subscriptions:
                    if subscription.offsets is not None:
                        subscription.offsets.touched(0)

        if store.commits.dead is not None:
            raise store.commits.dead
        if entry is None:
            commit = store.stage(event, "control", level, note)
        else:
            commit = store.commits.stage_entry(event, entry, note)
        commit.delivered.append((event, positions))
        return commit

    async def committed(self, event: Any, commit: Commit) -> bool:
        """Wait until an event has reached its level. True, or the error that kept it out."""
        try:
            await commit
        except JournalError as error:
            excuse(event, error, commit)
        return True

    def commit_now(self, event: Any, commit: Commit, *, is_again: bool = False) -> bool:
        """Commit an event here and now. True, or the error that kept it out.

        Raises `JournalLocked` where it would have to wait for a lock; `is_again`: it waits for it already,
        with whoever published it before.
        """
        assert self._slot.store is not None
        commits = self._slot.store.commits
        commits.commit_now()
        if commit.error is not None:
            excuse(event, commit.error, commit)
        elif not commit.is_over and not is_kill_switch(event):
            raise (commits.locked if is_again else None) or commits.withdraw(commit, event.event_id)
        return True


def excuse(event: Any, error: JournalError | InvalidEvent, commit: Commit | None = None) -> None:
    """Raise the error, but for a kill switch that was delivered at once, journal or no journal."""
    if not is_kill_switch(event) or (commit is not None and event.event_id in commit.undelivered):
        raise error
    log.critical(
        "the kill switch %s was delivered, and is not in the journal: %s",
        event.event_id,
        error,
        extra=about(event),
    )
