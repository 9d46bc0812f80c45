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
from threading import get_ident

from openoutcry.clocks import clock_of_loop
from openoutcry.config import BusConfig, check_number
from openoutcry.errors import BusClosed, JournalError, OpenOutcryError, WrongThread
from openoutcry.journals import Recovered
from openoutcry.ports import Clock, FileJournal
from openoutcry.runtime.admission.from_threads import ThreadIntake
from openoutcry.runtime.admission.gate import Admission
from openoutcry.runtime.control.requests import ControlledBus, releasing
from openoutcry.runtime.control.server import ControlServer
from openoutcry.runtime.delivery.causation import current, install, uninstall
from openoutcry.runtime.delivery.consumers import Consumers
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.durability.store import Store
from openoutcry.runtime.health.monitor import Monitor
from openoutcry.runtime.rounds.rounds import Rounds

log = logging.getLogger("openoutcry")

CANCEL_GRACE_S = 1.0
"""How long a call may take to end after it was cancelled, before it is abandoned."""

CONTROL_TURNS = 4
"""So many turns of the loop a kill switch has to be begun before the workers end."""


class Lifecycle:
    """Starts and stops the parts of one bus.

    Attributes:
        monitor: Looks after the bus's health.
        can_recover: Whether the journal is a file of the bus's own, so that `recover` can go on in a new one.

    """

    def __init__(
        self,
        controlled: ControlledBus,
        bus: BusState,
        consumers: Consumers,
        admission: Admission,
        intake: ThreadIntake,
        rounds: Rounds,
        config: BusConfig,
        clock: Clock | None,
    ) -> None:
        self._controlled = controlled
        self._bus = bus
        self._consumers = consumers
        self._dispatcher = admission.dispatcher
        self._admission = admission
        self._intake = intake
        self._rounds = rounds
        self._own_clock = clock
        self._slot = admission.slot
        self._persistence = config.persistence
        self._control: ControlServer | None = None
        name, kill_switches = config.control_releaser, admission.kill_switches
        self._releaser = None if name is None else kill_switches.releaser(name)
        self._starting: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._recovering: asyncio.Task[Recovered] | None = None
        self.can_recover = self._slot.has_file
        self.monitor = Monitor(bus, consumers, self._dispatcher.stalls, self, config.health)

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
        if self.state in ("running", "stopping") and self._bus.loop is not asyncio.get_running_loop():
            self._give_up_loop()
        if self._stopping is not None:
            if self._is_called_by_handler():
                raise BusClosed("the bus is stopping, and a handler cannot wait for that; start it outside")
            await asyncio.shield(self._stopping)
        if self._persistence is None or self.state in ("running", "stopping"):
            self._start()
            return
        if self._starting is None or self._starting.get_loop().is_closed():
            self._starting = asyncio.get_running_loop().create_task(
                self._start_durable(), name="openoutcry:start"
            )
            self._starting.add_done_callback(self._start_is_over)
        await asyncio.shield(self._starting)

    def _start_is_over(self, _task: "asyncio.Task[None]") -> None:
        self._starting = None

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
        if self._recovering is None:
            self._recovering = asyncio.get_running_loop().create_task(
                self._recover_journal(), name="openoutcry:recover", context=Context()
            )
            self._recovering.add_done_callback(self._recovery_is_over)
        return await asyncio.shield(self._recovering)

    def _recovery_is_over(self, task: "asyncio.Task[Recovered]") -> None:
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
        if self._persistence is None:
            return 0
        if self.state in ("running", "stopping"):
            raise OpenOutcryError(
                f"the bus is {self.state}: recover_persisted_events comes before start, which does it as well"
            )
        return await self._slot.open().count_unsettled()

    async def _start_durable(self) -> None:
        """Have the agents restore their state, then start."""
        current.set(None)
        store = self._slot.open()
        await store.restore()
        self._start()
        if self._persistence is not None and self._persistence.socket:
            await self._open_control(store)

    async def _open_control(self, store: Store) -> None:
        """Serve the command line beside a journal that is a file; in virtual time nobody would connect."""
        journal = store.journal
        if not isinstance(journal, FileJournal) or hasattr(asyncio.get_running_loop(), "clock"):
            return
        control = ControlServer(self._controlled, journal.path)
        if self._releaser is not None:
            control.verbs["release"] = releasing(self._releaser)
        try:
            await control.start()
        except JournalError as error:
            log.warning("the command line cannot talk to this bus: %s", error)
        else:
            self._control = control

    def _start(self) -> None:
        bus = self._bus
        loop = asyncio.get_running_loop()
        if self.state in ("running", "stopping"):
            return
        bus.loop = loop
        bus.set_clock(self._own_clock or clock_of_loop(bus.loop))
        bus.busy = bus.control_waiting = 0
        bus.thread_waiting = False
        store = self._slot.store
        if store is not None:
            store.hand_over()
        bus.running = True
        bus.phase = "running"
        bus.tracker = install(bus.loop)
        self._admission.open_on(get_ident(), bus.tracker)
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
        if not bus.busy:
            bus.rested()

    def _give_up_loop(self) -> None:
        """Let go of a loop that was closed without a stop, as if it had come: what was in flight waits again.

        Nothing of that loop goes on: no task, no timer, and nobody who waited there.
        """
        bus = self._bus
        assert bus.loop is not None
        if not bus.loop.is_closed():
            raise WrongThread(
                "the bus is running on another event loop; stop it there before starting it here"
            )
        bus.give_up_loop()
        self._consumers.give_up()
        self._intake.give_up_loop()
        self._stopping = self._starting = self._recovering = self._control = None
        self._dispatcher.stalls.end()
        self.monitor.end()
        self.monitor.journal.give_up_loop()
        self._admission.room.give_up_loop()
        bus.phase = "stopped"
        self._admission.close()
        self._rounds.close_all("the loop of the bus was closed")
        uninstall(bus.loop)
        try:
            self._slot.close()
        except JournalError:
            log.exception("the journal could not be closed after the loop of the bus was")

    async def stop(self, timeout_s: float) -> None:
        """Drain until the deadline, then end. Cancelling the call does not cancel the stop."""
        check_number("timeout_s", timeout_s, 0)
        if self.state == "new":
            self._close()
            self._slot.close()
            return
        if self.state == "stopped":
            return
        self._admission.check_thread("stop")
        if asyncio.get_running_loop() is not self._bus.loop:
            raise WrongThread("stop was called on another event loop than the one the bus was started on")
        from_handler = self._is_called_by_handler()
        if self._stopping is None:
            self._bus.phase = "stopping"
            self._admission.close()
            self._stopping = asyncio.get_running_loop().create_task(
                self._stop(timeout_s), name="openoutcry:stop"
            )
        if not from_handler:
            await asyncio.shield(self._stopping)
        # A handler that stops the bus is itself in flight: the stop ends after it has returned.

    async def join(self) -> None:
        """Wait until everything accepted is settled; see `EventBus.join`."""
        self._admission.check_thread("join")
        if self._is_called_by_handler():
            raise OpenOutcryError(
                "join was called by a handler, whose own event it would wait for; call it outside"
            )
        dispatcher = self._dispatcher
        while True:
            if await self._wait_for_arrivals():
                continue
            held = dispatcher.staged or dispatcher.before_start
            if not held and self._bus.settled():
                return
            if self.state == "stopped":
                raise BusClosed(
                    "the bus is stopped with events waiting, so nothing will settle them; start it again"
                )
            await self._bus.wait_settled()

    def _is_called_by_handler(self) -> bool:
        who = current.get()
        return who is not None and who.bus is self._bus and who.running

    async def _stop(self, timeout_s: float) -> None:
        bus = self._bus
        current.set(None)
        self._rounds.close_all("the bus is stopping")  # a handler may be waiting for one
        try:
            async with asyncio.timeout(timeout_s):
                await self._drain()
        except TimeoutError:
            left = sum(s.mailbox.waiting + s.mailbox.in_flight for s in bus.router)
            log.warning(
                "the bus stops after %.3g s with %d deliveries not ended; they wait for the next start",
                timeout_s,
                left,
            )
        self.monitor.end()
        await self.monitor.journal.end()
        if self._recovering is not None:
            await asyncio.wait([self._recovering])
        await self._begin_kill_switches()
        bus.running = False
        self._dispatcher.stalls.end()
        await self._consumers.stop(CANCEL_GRACE_S)
        self._close()
        assert bus.loop is not None
        uninstall(bus.loop)
        self._stopping = None
        try:
            if self._control is not None:
                await self._control.stop()
                self._control = None
            self._slot.close()
        finally:
            bus.stopped()

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
