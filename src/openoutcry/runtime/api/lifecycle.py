"""Starting and stopping a bus, and waiting until everything is settled.

```
  new ──start──▶ running ──stop──▶ stopping ──drained or deadline──▶ stopped ──start──▶ running
                                   (handlers may still publish)
```

What has not drained by the deadline stays in its mailbox, counted as waiting, and is handled after the next
start.
"""

import asyncio
import logging
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from openoutcry.clocks import clock_of_loop
from openoutcry.config import BusConfig, check_number
from openoutcry.errors import BusClosed, JournalError, LinkError, OpenOutcryError, RestoreFailed
from openoutcry.journals import Recovered
from openoutcry.ports import Clock, Transport
from openoutcry.runtime.admission.from_threads import ThreadIntake
from openoutcry.runtime.admission.gate import Admission
from openoutcry.runtime.api.building import linking_of
from openoutcry.runtime.api.control import Control, Controlled
from openoutcry.runtime.delivery.causation import current, install, uninstall
from openoutcry.runtime.delivery.consumers import Consumers
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.durability.store import Store
from openoutcry.runtime.health.monitor import Monitor
from openoutcry.runtime.health.readings import lag_of
from openoutcry.runtime.rounds.rounds import Rounds

if TYPE_CHECKING:
    from openoutcry.runtime.linking.linking import Linking  # who has no link does not pay for it

log = logging.getLogger("openoutcry")
Result = TypeVar("Result")

CANCEL_GRACE_S = 1.0
"""How long a call may take to end after it was cancelled, before it is abandoned, if there is time for it."""
AFTERWARDS_S = 0.2
"""What the cancelled calls, and after them the disk, have beyond the deadline of a stop."""
MOMENT_S = 0.05
"""The same for a start or a recovery that is ended, and for the control socket."""

CONTROL_TURNS = 4
"""So many turns of the loop a kill switch has to be begun before the workers end."""


class Lifecycle:
    """Starts and stops the parts of one bus.

    Attributes:
        monitor: Looks after the bus's health.
        control: The control socket.
        linking: The link to the other desks; None without one.
        can_recover: Whether the journal is a file of the bus's own, so that `recover` can go on in a new one.

    """

    def __init__(
        self,
        controlled: Controlled,
        bus: BusState,
        consumers: Consumers,
        admission: Admission,
        intake: ThreadIntake,
        rounds: Rounds,
        config: BusConfig,
        clock: Clock | None,
        transport: Transport | None,
    ) -> None:
        self._bus = bus
        self._consumers = consumers
        self._dispatcher = admission.dispatcher
        self._admission = admission
        self._intake = intake
        self._rounds = rounds
        self._own_clock = clock
        self._slot = admission.slot
        self._persistence = config.persistence
        self._has_control = config.control is not None
        self._starting: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._recovering: asyncio.Task[Recovered] | None = None
        self._draining: asyncio.Timeout | None = None
        self._ends_s = 0.0
        self.can_recover: bool = self._slot.has_file
        self.monitor: Monitor = Monitor(bus, consumers, self._dispatcher.stalls, self, config.health)
        self.linking: Linking | None = linking_of(config, transport, bus, admission, rounds)
        if self.linking is not None:
            self.monitor.watch_link(self.linking.problems)
        parts = (bus, consumers, admission, rounds, self.monitor)
        self.control: Control = Control(controlled, *parts, config, self.linking)
        bus.ownership.watch(self._has_something, self._forked)

    @property
    def state(self) -> str:
        """`new`, `running`, `stopping` or `stopped`."""
        return self._bus.phase

    @property
    def store(self) -> Store | None:
        """The store of the open journal, if one is open."""
        return self._admission.store

    async def start(self) -> None:
        """Start the workers and deliver what was published before; wait for a stop that is under way."""
        loop, ownership = asyncio.get_running_loop(), self._bus.ownership
        if ownership.is_stranded:
            error = self._give_up_loop()
            if error is not None:
                log.error("the journal could not be closed after the loop of the bus was: %s", error)
        ownership.check("start")
        if self._stopping is not None:
            if self._is_called_by_handler():
                raise BusClosed("the bus is stopping, and a handler cannot wait for that; start it outside")
            await asyncio.shield(self._stopping)
        if self._starting is not None and self.state == "running":
            await _end_of(self._starting, "the bus was stopped before it had started")
        if self.state in ("running", "stopping"):
            return
        ownership.claim(loop, "start")
        self._leave_recovery_elsewhere()
        if self._persistence is None and not self._has_control:
            self.control.begin()
            self._start()
            return
        if self._starting is None:
            self._starting = loop.create_task(self._start_in_steps(), name="openoutcry:start")
            self._starting.add_done_callback(self._start_is_over)
        await _end_of(self._starting, "the bus was stopped before it had started")

    def _start_is_over(self, task: "asyncio.Task[None]") -> None:
        if self._starting is task:
            self._starting = None
            if self.state in ("new", "stopped"):
                self._bus.ownership.release()

    async def recover_journal(self) -> Recovered:
        """Go on in a new journal because the operator says so: recovery may try as often again."""
        found = await self.recover()
        self.monitor.journal.resume()
        return found

    async def recover(self) -> Recovered:
        """Go on in a new journal, built from what verifies of the dead one."""
        if not self.can_recover:
            raise OpenOutcryError(
                "recover_journal is for a bus with a journal file of its own (persistence_config); a journal "
                "that was given to the bus is recovered by its owner, with recover_into"
            )
        if self.state == "stopping":
            raise BusClosed("the bus is stopping: recover its journal when it has stopped, or start it again")
        self._leave_recovery_elsewhere()
        if self._recovering is None:
            self._recovering = asyncio.get_running_loop().create_task(
                self._recover_journal(), name="openoutcry:recover", context=Context()
            )
            self._recovering.add_done_callback(self._recovery_is_over)
        return await _end_of(self._recovering, "the bus was stopped before its journal was recovered")

    def _leave_recovery_elsewhere(self) -> None:
        """Give up a recovery that was begun before the start, on another loop, which may be gone."""
        recovering = self._recovering
        if recovering is not None and recovering.get_loop() is not asyncio.get_running_loop():
            self._slot.give_up_recovery()
            self._recovering = None

    def _recovery_is_over(self, task: "asyncio.Task[Recovered]") -> None:
        if self._recovering is task:
            self._recovering = None
        if not task.cancelled():
            task.exception()  # whoever waits for it is told

    async def _recover_journal(self) -> Recovered:
        store = self._slot.store
        if store is not None and store.commits.dead is None and not self.monitor.journal.damage():
            raise OpenOutcryError("the journal is not dead, so there is nothing to recover; go on")
        found = await self._slot.recover()
        if store is not None:
            self._admission.fast_path.forget_classes()
            self.monitor.forget()
        return found

    async def count_unsettled(self) -> int:
        """Open the journal before the start, and return how many events some subscription has not settled."""
        self._admission.check_thread("recover_persisted_events")
        if self._persistence is None:
            return 0
        if self.state in ("running", "stopping"):
            raise OpenOutcryError(
                f"the bus is {self.state}: recover_persisted_events comes before start, which does it as well"
            )
        return await self._slot.open().count_unsettled()

    async def _start_in_steps(self) -> None:
        """Start, and wait until the agents have their memory back: nobody else waits for that."""
        current.set(None)
        if self._recovering is not None:
            await asyncio.wait([self._recovering])
        store = None if self._persistence is None else await self._slot.open_in_time()
        if self._has_control:
            await self.control.open(store)
        if self.linking is not None:
            await self._open_link(self.linking)
        self._start()
        if store is not None:
            if not self._has_control:
                await self.control.open(store)
            await store.memories.wait_restored()

    async def _open_link(self, linking: "Linking") -> None:
        """Take the desk; if that may not be, let go of the journal, so that who may take it can have that."""
        try:
            await linking.open()
        except LinkError:
            await self.control.close(MOMENT_S)
            self._slot.close()
            raise

    def _start(self) -> None:
        bus = self._bus
        bus.loop = loop = asyncio.get_running_loop()
        bus.set_clock(self._own_clock or clock_of_loop(loop))
        bus.busy = bus.control_waiting = 0
        bus.thread_waiting = False
        store = self._slot.store
        if store is not None:
            store.hand_over()
        bus.running = True
        bus.phase = "running"
        bus.tracker = install(loop)
        self._admission.open_on(loop, bus.tracker)
        self._rounds.reopen()
        for subscription in bus.router:
            subscription.moved_at = (-1, bus.clock.now_ns())
            bus.control_waiting += subscription.control.normal.untried
            self._consumers.begin(subscription)
        self._dispatcher.deliver_held_back(store.has_released if store is not None else lambda _: False)
        if store is not None:
            store.started()
        self._admission.room.look()
        self._intake.take_in()
        self.monitor.begin()
        self._dispatcher.stalls.begin(self.monitor)
        if self.linking is not None:
            self.linking.begin()
        if not bus.busy:
            bus.rested()

    def _give_up_loop(self) -> JournalError | None:
        """Let go of a loop that was closed without a stop, as if it had come: what was in flight waits again.

        Nothing of that loop goes on: no task, no timer, and nobody who waited there. Returns why the journal
        could not be closed as it should be, if so; the rest is done.
        """
        bus = self._bus
        self._slot.give_up_recovery()
        was_running = self.state in ("running", "stopping")
        bus.give_up_loop()
        self._consumers.give_up()
        self._intake.give_up_loop()
        self._stopping = self._starting = self._recovering = self._draining = None
        self.control.give_up_loop()
        if self.linking is not None:
            self.linking.give_up_loop()
        self._dispatcher.stalls.end()
        self.monitor.end()
        self.monitor.journal.give_up_loop()
        self._admission.room.give_up_loop()
        if was_running:
            bus.phase = "stopped"
        self._admission.close()
        self._rounds.close_all("the loop of the bus was closed")
        if was_running and bus.loop is not None:
            uninstall(bus.loop)
        bus.ownership.release()
        try:
            self._slot.close()
        except JournalError as error:
            return error
        return None

    async def stop(self, timeout_s: float) -> None:
        """Drain until the deadline, then end. Cancelling the call does not cancel the stop."""
        check_number("timeout_s", timeout_s, 0)
        if self._bus.ownership.is_stranded:
            error = self._give_up_loop()
            self._close()
            if error is not None:
                raise error
            return
        self._admission.check_thread("stop")
        if self.state == "stopped" and self._starting is None:
            return
        self._leave_recovery_elsewhere()
        from_handler = self._is_called_by_handler()
        loop = asyncio.get_running_loop()
        if self._stopping is not None:
            self._hurry(loop.time() + timeout_s)
        else:
            self._ends_s = loop.time() + timeout_s
            self._begin_stopping()
            self._stopping = loop.create_task(self._stop(timeout_s), name="openoutcry:stop")
        if not from_handler:
            await asyncio.shield(self._stopping)
        # A handler that stops the bus is itself in flight: the stop ends after it has returned.

    def _begin_stopping(self) -> None:
        if self.state == "running":
            self._bus.phase = "stopping"
            self._admission.close()

    def _hurry(self, ends_s: float) -> None:
        """Somebody else stops the bus as well, and may have less time."""
        if ends_s < self._ends_s:
            self._ends_s = ends_s
            if self._draining is not None:
                self._draining.reschedule(ends_s)

    async def join(self) -> None:
        """Wait until everything accepted is settled; see `EventBus.join`."""
        if self._is_called_by_handler():
            raise OpenOutcryError(
                "join was called by a handler, whose own event it would wait for; call it outside"
            )
        dispatcher = self._dispatcher
        while True:
            self._admission.check_thread("join")  # it may have been started elsewhere meanwhile
            if await self._wait_for_arrivals():
                continue
            held = dispatcher.staged or dispatcher.before_start
            if not held and self._bus.settled():
                self._check_restored()
                return
            if self.state == "stopped":
                raise BusClosed(
                    "the bus is stopped with events waiting, so nothing will settle them; start it again"
                )
            await self._bus.wait_settled()

    def _check_restored(self) -> None:
        """Raise if events wait for a subscription that did not get its memory back."""
        for subscription in self._bus.router:
            error = subscription.readiness.error
            if error is not None and lag_of(subscription, self._bus.durability.released):
                raise RestoreFailed(f"what waits for it is not settled: {error}") from error

    async def flush(self) -> None:
        """Wait until everything accepted so far is on the disk; see `EventBus.flush`."""
        self._admission.check_thread("flush")
        if self.store is not None:
            await self.store.flush()

    def _is_called_by_handler(self) -> bool:
        who = current.get()
        return who is not None and who.bus is self._bus and who.running

    async def _stop(self, timeout_s: float) -> None:
        """Stop, by half a second after `_ends_s`, whatever handlers and disks do."""
        bus = self._bus
        left_s = partial(self._left_s, asyncio.get_running_loop())
        current.set(None)
        try:
            await self._end_task(self._starting, 0)
            self._begin_stopping()  # it may have started a moment ago
            was_running = self.state == "stopping"
            if was_running:
                await self._drain_within(timeout_s)
            self.monitor.end()
            await self._end_task(self._recovering, left_s(0))
            await self.monitor.journal.end()
            await self._begin_kill_switches()
            bus.running = False
            if self.store is not None:
                self.store.memories.interrupt()
            self._dispatcher.stalls.end()
            await self._consumers.stop(min(left_s(), CANCEL_GRACE_S))
            problem = await self._slot.save(left_s())
            if self.linking is not None:
                await self.linking.end(left_s() if was_running else 0.0)
            self._close()
            if was_running and bus.loop is not None:
                uninstall(bus.loop)
            await self.control.close(MOMENT_S)
            self._slot.close(as_it_is=isinstance(problem, TimeoutError))
        finally:
            self._stopping = None
            bus.ownership.release()
            bus.stopped()
        if isinstance(problem, TimeoutError):
            raise JournalError(
                f"the disk did not answer within the {timeout_s:.3g} s of the stop, so nobody knows what of "
                "the journal survives a power cut; see to the disk, or give stop() a longer timeout_s"
            )
        if problem is not None:
            raise problem

    def _left_s(self, loop: asyncio.AbstractEventLoop, least_s: float = AFTERWARDS_S) -> float:
        """How long the next step of the stop may take."""
        return max(self._ends_s - loop.time(), least_s)

    async def _drain_within(self, timeout_s: float) -> None:
        self._rounds.close_all("the bus is stopping")  # a handler may be waiting for one
        try:
            async with asyncio.timeout_at(self._ends_s) as self._draining:
                await self._drain()
        except TimeoutError:
            left = sum(s.mailbox.waiting + s.mailbox.in_flight for s in self._bus.router)
            log.warning(
                "the bus stops after %.3g s with %d deliveries not ended; they wait for the next start",
                timeout_s,
                left,
            )
        finally:
            self._draining = None

    async def _end_task(self, task: "asyncio.Task[Any] | None", patience_s: float) -> None:
        """Wait for a start or a recovery that is under way, then end it."""
        if task is None or task.done():
            return
        if patience_s:
            await asyncio.wait([task], timeout=patience_s)
        if not task.done():
            if task is self._recovering:
                self._slot.give_up_recovery()
            task.cancel()
            await asyncio.wait([task], timeout=MOMENT_S)

    async def _begin_kill_switches(self) -> None:
        """Let the control workers that are free begin what came last, whatever the deadline."""
        for _ in range(CONTROL_TURNS):
            if not self._bus.control_waiting:
                return
            await asyncio.sleep(0)

    def _close(self) -> None:
        self._bus.phase = "stopped"
        self._admission.close()
        self._rounds.close_all("the bus is stopping")
        self._intake.refuse_rest()

    # -- forked ------------------------------------------------------------------------------------

    def _has_something(self) -> bool:
        """Whether a copy of the bus would hold what is not its own: an open journal, or events that wait."""
        if self._slot.store is not None or self._starting is not None or not self._intake.empty:
            return True
        waits = any(s.mailbox.waiting or s.control.waiting for s in self._bus.router)
        return waits or bool(self._dispatcher.staged or self._dispatcher.before_start)

    def _forked(self, is_parents: bool) -> None:
        """In a forked child: of what is the parent's nothing passes or begins, should its loop run on."""
        self._intake.forked()
        if not is_parents:
            return
        self._admission.fast_path.leave()
        self._bus.running = False
        self._dispatcher.staged.clear()
        self._consumers.forked()

    async def _drain(self) -> None:
        while True:
            if await self._wait_for_arrivals():
                continue
            if not self._bus.settled():
                await self._bus.wait_settled()
            elif not self._dispatcher.staged:
                return

    async def _wait_for_arrivals(self) -> bool:
        """Deliver what is staged. Return False if nothing else was on its way to the mailboxes, else wait."""
        self._dispatcher.deliver()
        if not self._intake.empty:
            await self._intake.wait_empty()
        elif not self._slot.is_committed:
            await self._slot.wait_committed()
        else:
            return False
        return True


async def _end_of(task: "asyncio.Task[Result]", otherwise: str) -> Result:
    """Wait for a task that a stop may cancel: then raise `BusClosed`. A cancelled wait leaves it going on."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        waiter = asyncio.current_task()
        if task.cancelled() and not (waiter is not None and waiter.cancelling()):
            raise BusClosed(otherwise) from None
        raise
