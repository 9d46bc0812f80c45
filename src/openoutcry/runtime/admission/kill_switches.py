"""Kill switches on their way in: delivered at once beside everything, remembered as halts, never lost.

```
  running   ──▶ delivered at once, written behind that    (stopping, no journal: True when it is handled)
  not yet   ──▶ written, and held for the start           (no journal: held)
  no more   ──▶ written, for the next start               (no journal: BusClosed)
```

Where no handler is called, the commit alone makes a kill switch accepted: if that fails, it was not, and its
publisher is told.

What other desks have made comes in by `take_in`: it is written as they have written it, and told to nobody
else. A release ends what it names, and nothing if it names nothing; what it names may come after it
(`core/crossings.py`).
"""

import asyncio
import logging
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Final

from openoutcry.core.crossings import Crossings
from openoutcry.core.halts import FIRM, NAMED_MOST, Halt, halt_of, ids_of, is_release, scope_of
from openoutcry.core.overflow import WaitingSwitch
from openoutcry.errors import BusClosed, ConfigError, InvalidEvent, NotAuthorised
from openoutcry.logs import about
from openoutcry.ports import Entry, Level
from openoutcry.printable import unwritable, writable
from openoutcry.runtime.admission.access import Access
from openoutcry.runtime.admission.durable import DurableAdmission
from openoutcry.runtime.delivery.causation import current, stamp_cause
from openoutcry.runtime.delivery.dispatcher import Dispatcher
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.delivery.subscription import Subscription
from openoutcry.runtime.durability.commit import Commit
from openoutcry.runtime.durability.slot import StoreSlot
from openoutcry.trading import KillSwitchEvent
from openoutcry.trading.oversight import escape_texts, stamp_releases

log = logging.getLogger("openoutcry")

OWN_AGENT: Final = "(link)"
"""The source of what the bus publishes itself because of its link. It stays on its desk."""
LOOK_S = 0.001
"""How often a stopping bus looks whether a kill switch has been handled,"""
LOOK_EACH_S = 20e-6
"""and how much less often for each that waits."""
Waiting = tuple[Subscription, WaitingSwitch]
Handled = asyncio.Future[bool]


class KillSwitches:
    """The kill switches of one bus.

    Attributes:
        count: How many were admitted.
        crossings: What was released before it came, on a bus that is joined to other desks.

    """

    def __init__(
        self,
        bus: BusState,
        access: Access,
        slot: StoreSlot,
        durable: DurableAdmission,
        dispatcher: Dispatcher,
    ) -> None:
        self._bus = bus
        self._access = access
        self._slot = slot
        self._durable = durable
        self._dispatcher = dispatcher
        self._unhandled: list[tuple[list[Waiting], Handled]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._tell: Callable[[Any], None] | None = None
        self._save_crossings: Callable[[], None] = _nothing
        self.crossings: Crossings = Crossings()
        self.count: int = 0

    # -- admission ----------------------------------------------------------------------------------

    def knows(self, event: Any) -> bool:
        """Return True if an event is active, or the journal has it: there is nothing new to deliver."""
        store = self._slot.store
        if self._bus.halts.has_pulled(event.event_id) and not is_release(event):
            return True
        if self.crossings.is_over(event.event_id):
            return True  # its retention may have taken it out of the journal since
        return store is not None and store.knows(event.event_id)

    def admit(self, event: Any, level: Level, *, is_authorised: bool = False) -> bool | Commit | Handled:
        """Let a kill switch in: True, or what has to be over first. Raises what keeps it out.

        `is_authorised` is as for `Access.check`.
        """
        if not is_authorised:
            self._warn(event)
        found = self._let_in(event, level)
        if self._tell is not None and self._bus.running:
            self._tell(event)
        return found

    def _let_in(self, event: Any, level: Level, entry: Entry | None = None) -> bool | Commit | Handled:
        bus, store = self._bus, self._slot.store
        if not bus.running:
            return self._hold(event, level, entry)
        self._note(event, entry)
        positions = [0] if store is not None and level else None
        self._dispatcher.deliver_control(event, positions)
        self._save_soon()  # behind the control workers, which run in the next turn of the loop as well
        found: Commit | bool = True
        if positions is not None:
            found = self._durable.stage_kill_switch(event, level, positions, entry)
        return found if isinstance(found, Commit) else self.handled(event) or True

    # -- other desks --------------------------------------------------------------------------------

    def join_desks(self, tell: Callable[[Any], None], save_crossings: Callable[[], None]) -> None:
        """Call `tell(event)` with what is published here while the bus runs, when it was delivered.

        `save_crossings()` has `crossings` saved, in the commit that is open.
        """
        self._tell, self._save_crossings = tell, save_crossings

    def take_in(self, event: Any, entry: Entry) -> bool | Commit | Handled:
        """Let in what another desk has made and written as `entry`: True, or what has to be over first.

        What is known is delivered to nobody, but is written if it was not yet. Raises what keeps it out.
        """
        if self.knows(event):
            return self._take_again(event, entry)
        found = self._let_in(event, entry.level, entry)
        release_id = None if is_release(event) else self.crossings.take(event.event_id)
        if release_id is not None:
            self._let_in(_released_before(event, release_id), entry.level)
        return found

    def _take_again(self, event: Any, entry: Entry) -> bool | Commit:
        store = self._slot.store
        if store is None or store.has(event.event_id):
            return True
        pending = store.commits.pending(event.event_id)
        return store.raise_level(event, entry.level, entry) if pending is None else pending[0]

    def check_is_kept(self, level: Level) -> None:
        """Raise `BusClosed` to who cannot wait, if the bus is stopping and no journal keeps the event."""
        if self._bus.phase == "stopping" and not self._is_kept(level):
            raise BusClosed(
                "the bus is stopping, and no journal keeps a kill switch for the next start, so that it is "
                "accepted only when it was handled: await publish"
            )

    def _is_kept(self, level: Level) -> bool:
        """Return True if the journal takes a kill switch of this level."""
        store = self._slot.store
        return store is not None and bool(level) and store.commits.dead is None

    def _hold(self, event: Any, level: Level, entry: Entry | None = None) -> bool | Commit:
        """Take a kill switch while no handler is called. Raises what keeps it out."""
        bus, store = self._bus, self._slot.store
        if bus.phase == "stopping" and not self._is_kept(level):
            raise BusClosed(
                "the bus is stopping, calls no handler any more, and has no journal that keeps a kill switch "
                "for the next start; see to the halt by other means"
            )
        if store is None or not level:
            self._note(event, entry)
            self._save_soon()
            self._dispatcher.hold_back(event, "control")
            return True
        positions = [0]
        try:
            commit = self._durable.stage_for_control(event, level, positions, entry)
        except InvalidEvent:
            if bus.phase == "stopping":
                raise
            log.exception(
                "the kill switch %s waits for the start in memory alone", event.event_id, extra=about(event)
            )
            self._note(event, entry)
            self._save_soon()
            self._dispatcher.hold_back(event, "control")
            return True
        ended = self._note(event, entry)
        self._save_soon()
        self._dispatcher.hold_back(event, "control", positions)
        commit.on_done.append(lambda: self._committed(commit, event, ended))
        return commit

    def _committed(self, commit: Commit, event: Any, ended: tuple[Halt, ...]) -> None:
        """The commit of one that was held is over. If it failed before the start, nothing was accepted."""
        held = self._dispatcher.before_start
        if commit.error is None:
            held.confirm(event)
        if commit.error is None or not held.take_back(event):
            return
        commit.undelivered.add(event.event_id)
        bus = self._bus
        bus.seen.discard(event.event_id)
        self.count -= 1
        if is_release(event):
            bus.halts.restore(ended)
        else:
            bus.halts.release(scope_of(event), (event.event_id,))

    def _note(self, event: Any, entry: Entry | None = None) -> tuple[Halt, ...]:
        """Admit a kill switch: it is active, or ends others, which are returned.

        `entry`: as what another desk has written it, so that nothing is stamped.
        """
        bus = self._bus
        if entry is None:
            stamp_cause(bus, event)
            escape_texts(event)
        bus.seen.add(event.event_id)
        self.count += 1
        if is_release(event):
            return self._note_release(event, is_ours=entry is None)
        bus.halts.pull(halt_of(event, bus.clock.wall_ns() if entry is None else entry.wall_ns))
        return ()

    def _note_release(self, event: Any, *, is_ours: bool) -> tuple[Halt, ...]:
        halts, named = self._bus.halts, ids_of(event)
        if not (named or is_ours):
            return ()
        # (A release of more than are kept by id cannot name them all.)
        is_whole = not is_ours and len(named) >= NAMED_MOST
        ended = halts.release(scope_of(event), () if is_whole else named)
        ids = [halt.event_id for halt in ended if halt.event_id]
        if is_ours and not (named and self._tell is not None):
            stamp_releases(event, ids)
        if self._tell is not None:
            unknown = {one for one in named if one not in ids and not self._had(one)}
            self.crossings.note((one for one in named if one in unknown), event.event_id)
            over = dict.fromkeys((*ids, *named, event.event_id))
            self.crossings.end(one for one in over if one not in unknown and not halts.has(one))
        return ended

    def _had(self, event_id: str) -> bool:
        """Return True if an event was ever accepted here, as far as that is remembered."""
        store = self._slot.store
        if self.crossings.is_over(event_id):
            return True
        return event_id in self._bus.seen or (store is not None and store.knows(event_id))

    def _save_soon(self) -> None:
        """Have the halts and crossings saved in the next turn of the loop, with what has changed them."""
        store = self._slot.store
        if store is not None:
            self._save_crossings()
            store.saving.save_soon()

    # -- while the bus stops ------------------------------------------------------------------------

    def handled(self, event: Any) -> Handled | None:
        """Return what is done when all have handled what was delivered; it fails if the bus stops before.

        None where that is not to be waited for: the bus goes on, or the journal keeps the event.
        """
        bus, store = self._bus, self._slot.store
        if bus.phase not in ("stopping", "stopped"):
            return None
        if store is not None and store.commits.dead is None and store.has_released(event.event_id):
            return None
        waiting = self._waiting(event)
        if not waiting:
            return None
        future: Handled = asyncio.get_running_loop().create_future()
        self._unhandled.append((waiting, future))
        if bus.phase == "stopped":
            self.stopped()
        else:
            self._look_soon()
        return future

    def _waiting(self, event: Any) -> list[Waiting]:
        """Return what stands for a delivered event where it is not settled yet, by subscription.

        (A handler of kill switches does not wait for its own next call.)
        """
        who = current.get()
        own = None if who is None or who.bus is not self._bus else who.handles_control
        found: list[Waiting] = []
        for group in self._bus.router.route(event):
            for subscription in group.subscriptions:
                newest = subscription.control_lane.newest
                if newest is not None and subscription is not own and not _is_over(subscription, newest):
                    found.append((subscription, newest))
        return found

    def _look_soon(self) -> None:
        if self._timer is None:
            delay_s = LOOK_S + LOOK_EACH_S * len(self._unhandled)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._look)

    def _look(self) -> None:
        """Answer those whose kill switch was handled."""
        self._timer = None
        left: list[tuple[list[Waiting], Handled]] = []
        for waiting, future in self._unhandled:
            waiting[:] = [item for item in waiting if not _is_over(*item)]
            if future.done():
                continue
            if not waiting:
                future.set_result(True)
            else:
                left.append((waiting, future))
        self._unhandled = left
        if left:
            self._look_soon()

    def stopped(self) -> None:
        """The bus has stopped: who still waits is told."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for waiting, future in self._unhandled:
            names = sorted({s.name for s, switch in waiting if not _is_over(s, switch)})
            if future.done() or future.get_loop().is_closed():  # nobody waits there any more
                continue
            if names:
                future.set_exception(
                    BusClosed(
                        f"the bus stopped before {', '.join(names)} had handled the kill switch, and no "
                        "journal keeps it: it waits in memory for the next start of this bus"
                    )
                )
            else:
                future.set_result(True)
        self._unhandled = []

    # -- releasing ----------------------------------------------------------------------------------

    def _warn(self, event: Any) -> None:
        """Warn of a release by a name that nobody has taken."""
        source = getattr(event, "source_agent", "")
        if is_release(event) and source not in self._access.taken:
            warnings.warn(
                f"{source!r} released a kill switch by its name alone; take bus.releaser({source!r}) before "
                "the start, and release through that",
                DeprecationWarning,
                stacklevel=5,
            )

    def releaser(self, name: str) -> "Releaser":
        """Return the one object that releases under a name. See `EventBus.releaser`."""
        self._bus.ownership.check("releaser")
        if not isinstance(name, str) or not name:
            raise ConfigError(f"releaser({name!r}): the name must be a string that is not empty")
        if problem := unwritable(name):
            raise ConfigError(f"releaser({name!r}): {problem}; correct the name")
        if self._bus.phase != "new":
            raise NotAuthorised(
                f"the releaser {name!r} was asked for after the start; take it where the firm is assembled"
            )
        if name in self._access.taken:
            raise NotAuthorised(
                f"the releaser {name!r} was taken before, and there is one of each name; hand that one on"
            )
        self._access.taken.add(name)
        return Releaser(name, self)

    async def release(self, event: KillSwitchEvent) -> None:
        """Publish a release with the authority of its source, whose releaser this was called by."""
        self._bus.ownership.check("release")
        event_type = self._access.check(event, is_authorised=True)
        level = self._durable.level(event_type, None)
        verdict = self.admit(event, level, is_authorised=True)
        if isinstance(verdict, Commit):
            await self._durable.committed(event, verdict)
            verdict = (verdict.error is not None and self.handled(event)) or True
        if isinstance(verdict, asyncio.Future):
            await verdict

    def active(self, scope: str | None, ids: Iterable[str] | None) -> tuple[str, tuple[str, ...]]:
        """Return the scope of a release, and the ids that it names. Raises `ConfigError` for unknown ones."""
        self._slot.open_if_any()
        halts = self._bus.halts
        scope = scope and writable(scope)
        if ids is None:
            return scope or FIRM, ()
        wanted = tuple(dict.fromkeys(map(writable, (ids,) if isinstance(ids, str) else ids)))
        known = {halt.event_id: halt.scope for halt in halts.all() if halt.event_id}
        unknown = [one for one in wanted if one not in known or scope not in (None, known[one])]
        if unknown or not wanted:
            inside = "" if scope is None else f" in the scope {scope!r}"
            raise ConfigError(
                f"ids = {unknown or list(wanted)!r}: no such kill switch is active{inside}; active are "
                f"{sorted(known)[:20]}"
            )
        scopes = {known[one] for one in wanted}
        if len(scopes) > 1:
            raise ConfigError(f"ids of the scopes {sorted(scopes)} were given; release each scope by itself")
        return scopes.pop(), wanted


class Releaser:
    """What releases kill switches under one name. Made by `EventBus.releaser`, once per name.

    Whoever assembles the firm hands it to the one agent that may release. It stops agents that are mistaken,
    not code that means harm: everything in one process can reach everything else.
    """

    def __init__(self, name: str, kill_switches: KillSwitches) -> None:
        self._name = name
        self._kill_switches = kill_switches

    @property
    def name(self) -> str:
        """The name, which is the `source_agent` of its releases."""
        return self._name

    async def release(
        self, *, scope: str | None = None, ids: Iterable[str] | None = None, reason: str
    ) -> KillSwitchEvent:
        """Release active kill switches; it is published as a `KillSwitchEvent(activated=False)`.

        Args:
            scope: All that are active in this scope; by default `firm`, which is the whole firm's own scope
                and not every other one.
            ids: Only these; all of one scope.
            reason: Why, for the record.

        Returns:
            The event that was published; its `releases` are the ids that were released.

        Raises:
            ConfigError: An id is not active, or the ids are of several scopes.
            BusClosed, JournalError, WrongThread: As `EventBus.publish`.

        Cancelled: it was released, or it was not.

        """
        its_scope, named = self._kill_switches.active(scope, ids)
        event = KillSwitchEvent(
            activated=False,
            scope=its_scope,
            releases=named,
            reason=reason,
            source_agent=self._name,
            triggered_by=self._name,
        )
        await self._kill_switches.release(event)
        return event

    def __repr__(self) -> str:
        return f"Releaser({self._name!r})"


def _released_before(event: Any, release_id: str) -> KillSwitchEvent:
    """Return what ends a kill switch that came after its release, for handlers that go by events."""
    return KillSwitchEvent(
        event_id=f"released before:{event.event_id}",
        activated=False,
        scope=scope_of(event),
        releases=(event.event_id,),
        reason=f"{release_id} had released it before it came from its desk",
        source_agent=OWN_AGENT,
        triggered_by=OWN_AGENT,
    )


def _is_over(subscription: Subscription, switch: WaitingSwitch) -> bool:
    """Return True if a kill switch, or what it was folded into, is settled."""
    return not subscription.control.is_open(subscription.control_lane, switch.final().first)


def _nothing() -> None:
    """Do nothing: there are no other desks."""
