"""The operator's verbs: dead letters, cursors, the journal, and subscriptions by name, on a running bus.

What agents need every day is on `EventBus`. What an operator does to a running firm, from a console, a
notebook or the command line, is here.
"""

import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from enum import Enum
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from openoutcry.core.letters import LetterFilter, letter_filter
from openoutcry.errors import ConfigError, JournalError, NotSubscribed, SeatLost
from openoutcry.events import check_type_name
from openoutcry.journals import Recovered
from openoutcry.observers.pulse import Buckets, Pulse, Shape
from openoutcry.runtime.admission.gate import Admission
from openoutcry.runtime.api.lifecycle import Lifecycle
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.delivery.subscription import Subscription
from openoutcry.runtime.durability.cursors import CursorReport, Cursors

log = logging.getLogger("openoutcry")

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Moved = Callable[..., Result]
"""A verb under the name that `EventBus` had for it before: its arguments are compared at `bus.admin` only."""


class Admin:
    """What an operator can do to a bus. It is `bus.admin`.

    Like the bus it belongs to one event loop: every verb raises as `publish` does where it may not be called.
    """

    def __init__(self, bus: BusState, admission: Admission, lifecycle: Lifecycle) -> None:
        self._bus = bus
        self._admission = admission
        self._lifecycle = lifecycle

    @property
    def seat_lost(self) -> SeatLost | None:
        """Why this process must end: another one has claimed its desk of the firm. None if none has."""
        return self._bus.seat_lost

    # -- subscriptions ------------------------------------------------------------------------------

    def pause(self, name: str) -> str:
        """Have a subscription begin no further events until `resume`. Kill switches still get through.

        Calls that have begun go on to their end, and what is accepted meanwhile waits.

        Returns:
            The subscription's state, as in `SubscriptionStats`.

        Raises:
            NotSubscribed: No subscription has this name.

        """
        self._admission.check_thread("pause")
        subscription = self._bus.router.named(name)
        subscription.pause()
        return subscription.state()

    def resume(self, name: str) -> str:
        """Have a subscription handle its events again: the operator says that its handler is mended.

        It undoes `pause`, closes the breaker, and ends a quarantine; recovery may try everything anew.

        Returns:
            The subscription's state, as in `SubscriptionStats`.

        Raises:
            NotSubscribed: No subscription has this name.

        """
        self._admission.check_thread("resume")
        subscription = self._bus.router.named(name)
        subscription.resume()
        return subscription.state()

    # -- dead letters -------------------------------------------------------------------------------

    def redrive(self, /, subscription: str | None = None, *, anew: bool = False, **which: Any) -> int:
        """Deliver dead letters once more, each to the subscription of their name and to no other.

        They are handed over as the subscription has room for them. A letter is removed when its event is
        settled. If that fails again it is buried anew, with the attempts of both.

        Args:
            subscription: The subscription's name; by default all that are subscribed.
            anew: What the handler publishes gets fresh ids. By default they are those of the first time, so
                that what was published then is a duplicate.
            **which: `letter_ids` (any of these), `event_type`, `since_ns`, `until_ns` (when it was buried, in
                nanoseconds since 1970). A letter must meet all conditions that are given; by default all
                letters are meant.

        Returns:
            How many are delivered. Left alone, and reported in the log, are letters that cannot be decoded,
            those whose type the subscription does not take and, without a name, those of names that are not
            subscribed now.

        Raises:
            NotSubscribed: The name is not subscribed now.
            ConfigError: There is no such condition, it has a wrong type, or the event type is misspelt.
            JournalError: The journal is not open, or cannot be read.

        """
        self._check_letters("redrive")
        chosen = _meant(which)
        dispatcher = self._admission.dispatcher
        count = 0
        for one in self._redriven(subscription):
            count += self._bus.redriving.redrive(one, chosen, dispatcher, self._bus.clock.now_ns(), anew=anew)
            one.wake_all()
        if subscription is None:
            self._report_absent(chosen)
        return count

    def drop_dead_letters(self, /, subscription: str | None = None, **which: Any) -> int:
        """Remove dead letters for good, whether their name is subscribed or not.

        Args:
            subscription: The name that they belong to; by default all names.
            **which: As for `redrive`.

        Returns:
            How many were removed. Those whose redriven events were handed over already are left alone.

        Raises:
            NotSubscribed: The name is not subscribed, and has no letters.
            ConfigError, JournalError: As for `redrive`.

        """
        self._check_letters("drop_dead_letters")
        chosen, letters = _meant(which), self._bus.dead_letters
        if subscription is not None and subscription not in letters.counts():
            self._bus.router.named(subscription)
        return letters.drop(subscription, chosen)

    def _check_letters(self, verb: str) -> None:
        self._admission.check_thread(verb)
        if not self._bus.dead_letters.can_change:
            raise JournalError(
                f"{verb}: the journal with the dead letters is not open; start the bus first, or use "
                "`openoutcry dlq`"
            )

    def _redriven(self, name: str | None) -> tuple[Subscription, ...]:
        router, counts = self._bus.router, self._bus.dead_letters.counts()
        if name is None:
            return tuple(s for s in router if s.name in counts)
        if name in counts and all(s.name != name for s in router):
            raise NotSubscribed(
                f"{name!r} is not subscribed now, and has {counts[name]} dead letters: subscribe a handler "
                "under that name and redrive them, or drop them"
            )
        return (router.named(name),)

    def _report_absent(self, which: LetterFilter) -> None:
        """Report the letters that are meant and whose names are not subscribed, so that they are left."""
        present = {s.name for s in self._bus.router}
        absent = sorted(self._bus.dead_letters.counts().keys() - present)
        letters = (k for name in absent for k in self._bus.dead_letters.letters(name))
        left = Counter(letter.subscription for letter in letters if which(letter))
        if left:
            log.warning(
                "%d dead letters belong to names that are not subscribed now, and stay: %s; subscribe "
                "handlers under these names, or drop the letters",
                left.total(),
                ", ".join(f"{name} ({some})" for name, some in left.items()),
            )

    # -- cursors ------------------------------------------------------------------------------------

    async def cursors(self) -> list[CursorReport]:
        """Return how far every subscription in the journal has come; an empty list without a journal."""
        self._admission.check_thread("cursors")
        store = self._admission.store
        return [] if store is None else await store.cursors.report()

    async def drop_cursor(self, name: str) -> int:
        """Forget the cursor of a subscription that no longer exists, and give up what waits for it.

        Its dead letters stay. Cancelled, the cursor may be dropped all the same.

        Returns:
            How many events were given up.

        Raises:
            SubscriptionError: It is subscribed.
            NotSubscribed: The journal has no such cursor, or the bus has no open journal.
            JournalError: The journal takes nothing at the moment.

        """
        return await self._cursors("drop_cursor").drop(name)

    async def reassign_cursor(self, old: str, new: str) -> int:
        """Give the cursor and the dead letters of a subscription that was renamed to its new name.

        Cancelled, they may be reassigned all the same.

        Returns:
            How many events wait for it.

        Raises:
            SubscriptionError: The old name is subscribed, or the new one has a cursor of its own.
            NotSubscribed: The journal has no cursor of the old name, or the bus has no open journal.
            JournalError: The journal takes nothing at the moment.

        """
        return await self._cursors("reassign_cursor").reassign(old, new)

    def _cursors(self, verb: str) -> Cursors:
        self._admission.check_thread(verb)
        if self._admission.store is None:
            raise NotSubscribed(
                f"{verb}: the bus has no open journal, so there are no cursors; "
                "enable persistence and start it"
            )
        return self._admission.store.cursors

    # -- the pulse ----------------------------------------------------------------------------------

    async def shape(self) -> Shape:
        """Return what rarely changes of the bus, as its control socket tells it. It gives the loop back."""
        self._admission.check_thread("shape")
        reader = self._lifecycle.control.reader
        reader.look_at_shape()
        return await reader.shape()

    async def pulse(self) -> Pulse:
        """Return counters and states, as its control socket tells them. It gives the loop back in between.

        It changes nothing and makes no check; `Pulse` says what each figure means. Cancelling it is harmless.
        """
        self._admission.check_thread("pulse")
        return await self._lifecycle.control.reader.whole_pulse()

    def buckets(self, names: Iterable[str]) -> dict[str, Buckets]:
        """Return how long events waited and calls took, raw, by the names of subscriptions that are there."""
        self._admission.check_thread("buckets")
        return self._lifecycle.control.reader.buckets(names)

    # -- the journal --------------------------------------------------------------------------------

    async def recover_journal(self) -> Recovered:
        """Replace a dead journal by a new file with everything that can be verified of it; the bus runs on.

        The old file is kept beside the new one as `<path>.dead-<n>`. Subscriptions stay where they are;
        events of which it was not known whether they had reached the disk are delivered if they have. With
        `HealthCheckConfig(recover=True)` the bus does this by itself, a limited number of times; after this
        call it may try as often again. On a bus that is not running it repairs the file alone, as after
        `JournalCorrupt`.

        Meanwhile durable publishes raise `JournalDead`. Cancelled, the recovery goes on.

        Returns:
            What was carried over, and what was lost.

        Raises:
            OpenOutcryError: The journal is not dead, or was given to the bus as an object.
            JournalError: The new file could not be made (`JournalFull`, ...); the old one stays as it is.

        """
        self._admission.check_thread("recover_journal")
        return await self._lifecycle.recover_journal()


def _meant(conditions: dict[str, Any]) -> LetterFilter:
    """Return the filter that some keyword arguments describe; a misspelt event type is refused."""
    chosen, event_type = letter_filter(conditions), conditions.get("event_type")
    if chosen.event_type is not None:
        check_type_name(chosen.event_type, ConfigError, "event_type", is_own=isinstance(event_type, Enum))
    return chosen


def moved(
    verb: Callable[Concatenate[Admin, Arguments], Result],
) -> Callable[Concatenate[Any, Arguments], Result]:
    """Return the method by which `EventBus` had a verb before: it warns, and does what `bus.admin` does."""
    name = verb.__name__

    @wraps(verb)
    def deprecated(bus: Any, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        warnings.warn(f"bus.{name} is deprecated: call bus.admin.{name}", DeprecationWarning, stacklevel=2)
        result: Result = getattr(bus.admin, name)(*args, **kwargs)
        return result

    deprecated.__doc__ = f"Deprecated: call `bus.admin.{name}`."
    return deprecated
