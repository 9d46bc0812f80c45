"""The part of the bus's face that deals with the journal and with dead letters."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from openoutcry.config import BusConfig
from openoutcry.errors import JournalError, NotSubscribed
from openoutcry.journals import EventPersistence, Recovered
from openoutcry.runtime.delivery.dead_letters import letter_filter
from openoutcry.runtime.delivery.subscription import Subscription
from openoutcry.runtime.durability.committer import Receipt
from openoutcry.runtime.durability.cursors import CursorReport
from openoutcry.runtime.durability.store import Store

if TYPE_CHECKING:
    from openoutcry.runtime.admission.gate import Admission
    from openoutcry.runtime.api.lifecycle import Lifecycle
    from openoutcry.runtime.delivery.state import BusState
    from openoutcry.runtime.durability.slot import StoreSlot


class Persisting:
    """Methods of the bus that deal with what survives."""

    config: BusConfig
    _admission: "Admission"
    _bus: "BusState"
    _lifecycle: "Lifecycle"
    _slot: "StoreSlot"

    async def publish_receipt(
        self, event: Any, priority: bool = False, *, level: str | None = None
    ) -> Receipt:
        """Publish as `publish` does, and tell the position in the journal and the level that was reached."""
        return await self._admission.publish_receipt(event, priority, level)

    async def flush(self) -> None:
        """Wait until everything accepted so far, and how far everybody has come, is on the disk.

        Without a journal it returns at once. Raises as `publish` does for a journal that fails.
        """
        self._admission.check_thread("flush")
        store = self._admission.store
        if store is not None:
            await store.flush()

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
        self._admission.check_thread("recover_journal")
        return await self._lifecycle.recover_journal()

    @property
    def persistence(self) -> EventPersistence | None:
        """The persistence layer, or None where the bus has no journal. Opens the journal."""
        self._admission.check_thread("persistence")
        return self._slot.open().face if self._slot.has_journal else None

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
        self._admission.check_thread(call)
        chosen = letter_filter(which)
        router, dead_letters = self._bus.router, self._bus.dead_letters
        drops = call == "drop_dead_letters"
        if name is not None and drops and dead_letters.knows(name):
            return dead_letters.drop_absent(name, chosen)
        count = dead_letters.drop_absent(None, chosen) if drops and name is None else 0
        now_ns = self._bus.clock.now_ns()
        subscriptions: tuple[Subscription, ...] = tuple(router) if name is None else (router.named(name),)
        for subscription in subscriptions:
            if drops:
                count += dead_letters.drop(subscription, chosen)
            else:
                count += dead_letters.redrive(subscription, chosen, now_ns)
                subscription.wake_all()
        return count

    async def cursors(self) -> list[CursorReport]:
        """Return how far every subscription in the journal has come; empty without a journal."""
        self._admission.check_thread("cursors")
        store = self._admission.store
        return [] if store is None else await store.cursors.report()

    async def drop_cursor(self, name: str) -> int:
        """Forget the cursor of a subscription that nobody makes any more, and give up what waits for it.

        Returns how many events that were. Its dead letters stay.

        Raises:
            SubscriptionError: It is subscribed.
            NotSubscribed: The journal has no such cursor.

        """
        return await self._store("drop_cursor").cursors.drop(name)

    async def reassign_cursor(self, old: str, new: str) -> int:
        """Give the cursor and dead letters of a subscription that was renamed to its new name.

        Returns how many events wait for it. Raises as `drop_cursor`, and `SubscriptionError` where the new
        name has a cursor of its own.
        """
        return await self._store("reassign_cursor").cursors.reassign(old, new)

    def _store(self, call: str) -> Store:
        self._admission.check_thread(call)
        if self._admission.store is None:
            raise NotSubscribed(
                f"{call}: the bus has no open journal, so there are no cursors; "
                "enable persistence and start it"
            )
        return self._admission.store

    def on_journal_error(self, callback: Callable[[JournalError], Any]) -> None:
        """Call `callback(error)` when the journal dies. What it raises is logged."""
        self._admission.check_thread("on_journal_error")
        self._bus.on_journal_error.append(callback)
