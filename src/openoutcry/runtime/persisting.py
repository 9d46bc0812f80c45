"""The part of the bus's face that deals with the journal and with dead letters."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from openoutcry.config import BusConfig
from openoutcry.errors import JournalError, NotSubscribed
from openoutcry.journals import EventPersistence, Recovered
from openoutcry.runtime.census import CursorReport
from openoutcry.runtime.graveyard import which_letters
from openoutcry.runtime.groups import Receipt
from openoutcry.runtime.keeper import Keeper
from openoutcry.runtime.subscriptions import Subscription

if TYPE_CHECKING:
    from openoutcry.runtime.door import Door
    from openoutcry.runtime.floor import Floor
    from openoutcry.runtime.lifecycle import Lifecycle


class Persisting:
    """Methods of the bus that deal with what survives."""

    config: BusConfig
    _door: "Door"
    _floor: "Floor"
    _lifecycle: "Lifecycle"

    async def publish_receipt(
        self, event: Any, priority: bool = False, *, level: str | None = None
    ) -> Receipt:
        """Publish as `publish` does, and tell the position in the journal and the level that was reached."""
        return await self._door.publish_receipt(event, priority, level)

    async def flush(self) -> None:
        """Wait until everything accepted so far, and how far everybody has come, is on the disk.

        Without a journal it returns at once. Raises as `publish` does for a journal that fails.
        """
        self._door.check_thread("flush")
        keeper = self._door.keeper
        if keeper is not None:
            await keeper.flush()

    async def recover_persisted_events(self) -> int:
        """Open the journal and re-queue what the last session left unsettled; `start` does it otherwise.

        Every unsettled event goes to just the subscriptions that had not settled it, as far as they have been
        made by the start; nothing is handled before that.

        Returns:
            The number of events that some subscription made so far has not settled.

        Raises:
            OpenOutcryError: The bus is running.
            JournalError: The journal cannot be opened, in one of the ways that its subclasses name.

        """
        return await self._lifecycle.recover()

    async def recover_journal(self) -> Recovered:
        """Go on in a new journal file after the old one has died, with what verifies of it; the bus runs on.

        The old file is kept beside it as `<path>.dead-<n>`. Subscriptions stay where they are; events of
        which it was open whether they are on the disk are handed out if they are. With a `HealthCheckConfig`
        the bus does this by itself, a bounded number of times. On a bus that does not run it works on the
        file alone, as after `JournalCorrupt`. Meanwhile durable publishes raise `JournalDead`; cancelled, it
        goes on.

        Returns:
            What was carried over, and what was lost.

        Raises:
            OpenOutcryError: The journal is not dead, or is not the bus's own.
            JournalError: The new file could not be made (`JournalFull`, ...); the old one stays as it is.

        """
        self._door.check_thread("recover_journal")
        return await self._lifecycle.recover_journal()

    @property
    def persistence(self) -> EventPersistence | None:
        """The persistence layer, or None where the bus has no journal. Opens the journal."""
        self._door.check_thread("persistence")
        keeper = self._lifecycle.open_keeper() if self.config.persistence is not None else None
        return None if keeper is None else keeper.face

    def redrive(self, subscription: str | None = None, **which: Any) -> int:
        """Hand dead letters to the subscription that gave them up, and to nobody else, once more.

        A letter is gone when its event has been handled; one that fails again stays, with the attempts of
        both.

        Args:
            subscription: The subscription's name; by default every subscription's.
            **which: `letter_ids` (any of these), `event_type`, `since_ns`, `until_ns` (when it was buried, in
                nanoseconds since 1970). By default all.

        Returns:
            How many were handed over. Letters that cannot be read are left alone.

        """
        return self._letters("redrive", subscription, which)

    def drop_dead_letters(self, subscription: str | None = None, **which: Any) -> int:
        """Forget dead letters for good; arguments as for `redrive`. Returns how many."""
        return self._letters("drop_dead_letters", subscription, which)

    def _letters(self, call: str, name: str | None, which: dict[str, Any]) -> int:
        self._door.check_thread(call)
        chosen = which_letters(which)
        roster, graves = self._floor.roster, self._floor.graves
        drops = call == "drop_dead_letters"
        if name is not None and drops and graves.knows(name):
            return graves.drop_absent(name, chosen)
        count = graves.drop_absent(None, chosen) if drops and name is None else 0
        now_ns = self._floor.clock.now_ns()
        subscriptions: tuple[Subscription, ...] = tuple(roster) if name is None else (roster.named(name),)
        for subscription in subscriptions:
            if drops:
                count += graves.drop(subscription, chosen)
            else:
                count += graves.redrive(subscription, chosen, now_ns)
                subscription.wake_all()
        return count

    async def cursors(self) -> list[CursorReport]:
        """Return how far every subscription in the journal has come; empty without a journal."""
        self._door.check_thread("cursors")
        keeper = self._door.keeper
        return [] if keeper is None else await keeper.census.report()

    async def drop_cursor(self, name: str) -> int:
        """Forget the cursor of a subscription that nobody makes any more, and give up what waits for it.

        Returns how many events that were. Its dead letters stay.

        Raises:
            SubscriptionError: It is subscribed.
            NotSubscribed: The journal has no such cursor.

        """
        return await self._keeper("drop_cursor").census.drop(name)

    async def reassign_cursor(self, old: str, new: str) -> int:
        """Give the cursor and dead letters of a subscription that was renamed to its new name.

        Returns how many events wait for it. Raises as `drop_cursor`, and `SubscriptionError` where the new
        name has a cursor of its own.
        """
        return await self._keeper("reassign_cursor").census.reassign(old, new)

    def _keeper(self, call: str) -> Keeper:
        self._door.check_thread(call)
        if self._door.keeper is None:
            raise NotSubscribed(
                f"{call}: the bus has no open journal, so there are no cursors; "
                "enable persistence and start it"
            )
        return self._door.keeper

    def on_journal_error(self, callback: Callable[[JournalError], Any]) -> None:
        """Call `callback(error)` when the journal dies. What it raises is logged."""
        self._door.check_thread("on_journal_error")
        self._lifecycle.on_journal_error.append(callback)
