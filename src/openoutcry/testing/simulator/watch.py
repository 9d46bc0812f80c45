"""What must hold at any moment of a life: the ledger balances, bounds hold, kill switches arrive."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from openoutcry.config import Gate
from openoutcry.core.lanes import Lane
from openoutcry.core.mailbox import Mailbox
from openoutcry.runtime.api.bus import EventBus
from openoutcry.runtime.delivery.offsets import UNSAVED_MOST
from openoutcry.runtime.delivery.subscription import takes
from openoutcry.runtime.delivery.worker import BATCH_MOST
from openoutcry.testing.simulator.loop import SimLoop
from openoutcry.testing.simulator.truth import Truth

KILL_TURNS_MOST: Final = 16
"""A kill switch is in its handler within so many turns of the loop,"""
KILL_NS_MOST: Final = 1_000_000
"""and within this time, not counting the time for which the loop was blocked."""
PROMPT_TURNS_MOST: Final = 2
"""So many turns may pass until an event for which there is room is accepted in memory."""


def balances(lane: Lane, mailbox: Mailbox) -> bool:
    """Return True if everything that a lane accepted is accounted for: settled, waiting or in flight."""
    found = lane.handled + lane.dead_lettered + lane.waiting
    found += lane.conflated + lane.overflowed + lane.expired + lane.withdrawn
    for batch in mailbox.open:
        if batch.lane is lane:
            found += len(batch.events)
    return found == lane.accepted


class _Kill(NamedTuple):
    """A kill switch on its way to a subscription that can take it at once."""

    turn: int
    free_ns: int
    scope: str


class Watch:
    """Watches a bus from outside, without leaving a trace in it."""

    def __init__(self, bus: EventBus, loop: SimLoop, truth: Truth) -> None:
        self._bus = bus
        self._loop = loop
        self._truth = truth
        self._kills: dict[tuple[str, str], _Kill] = {}

    def move_to(self, loop: SimLoop) -> None:
        """The bus goes on on another loop: what was on its way is delivered again there."""
        self._loop = loop
        self._kills = {}

    # -- kill switches ------------------------------------------------------------------------------

    def _free_ns(self) -> int:
        return self._loop.clock.now_ns() - self._loop.clock.kept_ns

    def expect_kill(self, event: Any) -> None:
        """A kill switch is about to be published: subscriptions that can take it at once must."""
        state = self._bus._bus  # noqa: SLF001 - the simulator looks behind the face
        if not state.running:
            return
        for consumer in self._bus._consumers:  # noqa: SLF001 - as above
            subscription, control = consumer.subscription, consumer.control
            is_at_rest = control is not None and control.waiter is not None and not control.waiter.done()
            if (
                is_at_rest
                and subscription.control.normal.waiting == 0
                and takes(subscription.selectors, event)
            ):
                key = (subscription.name, event.event_id)
                self._kills[key] = _Kill(self._loop.turns, self._free_ns(), event.scope)

    def begun(self, name: str, event: Any) -> None:
        """A call has begun."""
        scope = getattr(event, "scope", None)
        if self._kills and scope is not None:  # the newest stands for those of its scope
            self._kills = {
                key: kill for key, kill in self._kills.items() if key[0] != name or kill.scope != scope
            }

    def refused(self, event_id: str) -> None:
        """A kill switch was not accepted."""
        self._kills = {key: kill for key, kill in self._kills.items() if key[1] != event_id}

    def ended(self, name: str) -> None:
        """A subscription has ended: it gets nothing more."""
        self._kills = {key: kill for key, kill in self._kills.items() if key[0] != name}

    def check_kills(self) -> None:
        """Check whether a kill switch is overdue."""
        if not self._kills:
            return
        if not self._bus._bus.running:  # noqa: SLF001 - what a stop has overtaken comes at the next start
            self._kills.clear()
            return
        turn, free_ns = self._loop.turns, self._free_ns()
        for (name, event_id), kill in self._kills.items():
            if turn - kill.turn > KILL_TURNS_MOST or free_ns - kill.free_ns > KILL_NS_MOST:
                self._truth.fail(
                    f"the kill switch {event_id} is not in the handler of {name} after "
                    f"{turn - kill.turn} turns and {(free_ns - kill.free_ns) / 1e6:g} ms"
                )

    # -- room ---------------------------------------------------------------------------------------

    def check_refused(self, event: Any, *, is_kept: bool) -> None:
        """An event has just been refused for lack of room: then all that take it must have little left.

        Of those that gate one is enough.
        """
        met, depths = self._met(event, is_kept=is_kept)
        if met < self._bus._bus.pressure.fall[1]:  # noqa: SLF001 - as above
            self._truth.fail(f"{event.event_id} was refused, and in the mailboxes that take it wait {depths}")

    @contextmanager
    def prompt(self, event: Any) -> Iterator[None]:
        """Check that nobody waits in the block to publish an event for memory that meets little."""
        met, depths = self._met(event, is_kept=False)
        has_room = met < self._bus._bus.pressure.fall[1]  # noqa: SLF001 - as above
        turn = self._loop.turns
        yield
        turns = self._loop.turns - turn
        if has_room and turns > PROMPT_TURNS_MOST:
            self._truth.fail(
                f"{event.event_id} waited for {turns} turns, and in the mailboxes that take it wait {depths}"
            )

    def _met(self, event: Any, *, is_kept: bool) -> tuple[int, list[int]]:
        """Return how many events a publisher meets, and how many wait for each who takes the event."""
        state, admission = self._bus._bus, self._bus._admission  # noqa: SLF001 - as above
        depths, gating = [], [0]
        for subscription in state.router:
            box = subscription.mailbox
            if not takes(subscription.selectors, event):
                continue
            is_empty = not box.counts or (is_kept and box.behind)
            depths.append(0 if is_empty else box.waiting)
            if isinstance(subscription.options.overflow, Gate) and not is_empty:
                gating.append(box.waiting)
        way = admission.dispatcher.on_the_way + admission.slot.committing
        return max(min(depths, default=0), *gating) + way, depths

    # -- everything else ----------------------------------------------------------------------------

    def check(self) -> None:
        """Check the ledger and the bounds."""
        state, fail = self._bus._bus, self._truth.fail  # noqa: SLF001 - as above
        capacity = state.pressure.capacity
        for subscription in state.router:
            box, control = subscription.mailbox, subscription.control
            if not (
                balances(box.normal, box) and balances(box.high, box) and balances(control.normal, control)
            ):
                rows = [row.to_dict() for row in subscription.ledger_rows() if not row.balances]
                fail(f"the ledger does not balance: {rows}")
            most = capacity + subscription.options.concurrency  # what was in flight may wait again
            waiting = box.waiting
            if waiting > most:
                fail(f"{waiting} events wait for {subscription.name}, and there is room for {capacity}")
            offsets = subscription.offsets
            if offsets is not None and offsets.unsaved > UNSAVED_MOST * 4 // 3 + BATCH_MOST:
                fail(f"{subscription.name} has {offsets.unsaved} events settled and not saved")

    def check_rest(self) -> None:
        """Check a bus that has come to rest."""
        state, fail = self._bus._bus, self._truth.fail  # noqa: SLF001 - as above
        self.check()
        if not self._bus.ledger().balances:
            fail("the ledger does not balance")
        for subscription in state.router:
            offsets = subscription.offsets
            if offsets is not None and offsets.unsaved:
                fail(f"{subscription.name} is at rest and has {offsets.unsaved} events settled and not saved")
        store = self._bus._admission.store  # noqa: SLF001 - as above
        if store is not None and (store.commits.waiting or not store.commits.is_idle):
            fail(f"the bus is at rest and {store.commits.waiting} events wait for a commit")
