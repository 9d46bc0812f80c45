"""Start and stop.

```
  new ──start──▶ running ──stop──▶ stopping ──drained or deadline──▶ stopped ──start──▶ running
                                   (handlers may still publish)
```

What has not drained by the deadline stays in its mailbox, counted as waiting, and is handled after the next
start.
"""

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context
from pathlib import Path
from threading import get_ident
from typing import Any

from openoutcry.clocks import SystemClock
from openoutcry.config import PersistenceConfig, check_number
from openoutcry.errors import BusClosed, JournalError, OpenOutcryError, WrongThread
from openoutcry.journals import Recovered
from openoutcry.ports import Clock, Journal
from openoutcry.runtime.causes import current, install, uninstall
from openoutcry.runtime.desk import Desk
from openoutcry.runtime.door import Door
from openoutcry.runtime.feed import Feed
from openoutcry.runtime.floor import Floor
from openoutcry.runtime.ingest import Ingest
from openoutcry.runtime.keeper import Keeper
from openoutcry.runtime.physician import Physician
from openoutcry.runtime.regenerating import Regenerating, finish_swap, recover_file
from openoutcry.runtime.rounds import Rounds

log = logging.getLogger("openoutcry")

CANCEL_GRACE_S = 1.0


def clock_of(loop: asyncio.AbstractEventLoop | None) -> Clock:
    """Return the clock that a loop brings along (a virtual one), or the machine's."""
    clock = getattr(loop, "clock", None)
    return clock if isinstance(clock, Clock) else SystemClock()


class Lifecycle:
    """Starts and stops the parts of one bus."""

    def __init__(
        self,
        floor: Floor,
        feed: Feed,
        door: Door,
        ingest: Ingest,
        rounds: Rounds,
        physician: Physician,
        clock: Clock | None,
        persistence: PersistenceConfig | None,
        journal: Journal | None,
    ) -> None:
        self._floor = floor
        self._feed = feed
        self._door = door
        self._ingest = ingest
        self._rounds = rounds
        self._physician = physician
        self._own_clock = clock
        self._persistence = persistence
        self._journal = journal
        self.make_desk: Callable[[Path], Desk] | None = None
        self._desk: Desk | None = None
        self._starting: asyncio.Task[None] | None = None
        self.on_journal_error: list[Callable[[JournalError], Any]] = []
        if persistence is not None:
            door.open_keeper = self.open_keeper
        self._stopping: asyncio.Task[None] | None = None
        self.state = "new"
        physician.state = lambda: self.state
        physician.released = lambda: feed.released()  # noqa: PLW0108 - it is replaced
        physician.journal.keeper = lambda: door.keeper
        self._recovering: asyncio.Task[Recovered] | None = None
        if physician.recovers and persistence is not None and journal is None:
            physician.journal.reopen = self.reopen_journal

    async def start(self) -> None:
        """Start the workers and deliver what was published before; a stop that goes on is waited for."""
        if self._stopping is not None and self._floor.loop is asyncio.get_running_loop():
            if self._is_called_by_handler():
                raise BusClosed("the bus is stopping, and a handler cannot wait for that; start it outside")
            await asyncio.shield(self._stopping)
        if self._persistence is None or self.state in ("running", "stopping"):
            self._start()
            return
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(
                self._start_durable(), name="openoutcry:start"
            )
            self._starting.add_done_callback(self._start_is_over)
        await asyncio.shield(self._starting)

    def _start_is_over(self, _task: "asyncio.Task[None]") -> None:
        self._starting = None

    def open_keeper(self) -> Keeper:
        """Open the journal, if it is not open."""
        keeper = self._door.keeper
        if keeper is None:
            assert self._persistence is not None
            self._set_clock(self._own_clock or clock_of(asyncio.get_running_loop()))
            if self._journal is None:
                finish_swap(self._persistence.path)
            keeper = self._door.keeper = Keeper(self._floor, self._feed, self._persistence, self._journal)
            keeper.on_error = self.on_journal_error
            self._door.plain.clear()
        return keeper

    async def recover_journal(self) -> Recovered:
        """Go on in a new journal, on a person's word: after that recovery may try everything anew."""
        found = await self.reopen_journal()
        self._physician.journal.resume()
        return found

    async def reopen_journal(self) -> Recovered:
        """Go on in a new journal, built from what verifies of the dead one."""
        if self._persistence is None or self._journal is not None:
            raise OpenOutcryError(
                "recover_journal is for a bus with a journal file of its own (persistence_config); a journal "
                "that was handed in is recovered by who made it, with recover_into"
            )
        if self.state == "stopping":
            raise BusClosed("the bus is stopping: recover its journal when it has stopped, or start it again")
        if self._recovering is None:
            self._recovering = asyncio.get_running_loop().create_task(
                self._recover_journal(self._persistence), name="openoutcry:recover", context=Context()
            )
            self._recovering.add_done_callback(self._recovery_is_over)
        return await asyncio.shield(self._recovering)

    def _recovery_is_over(self, task: "asyncio.Task[Recovered]") -> None:
        self._recovering = None
        if not task.cancelled():
            task.exception()  # whoever waits for it is told

    async def _recover_journal(self, config: PersistenceConfig) -> Recovered:
        keeper = self._door.keeper
        if keeper is None:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(None, recover_file, config)
        damage = self._physician.journal.damage()
        if keeper.commits.dead is None and not damage:
            raise OpenOutcryError("the journal is not dead, so there is nothing to recover; go on")
        regenerating = Regenerating(self._floor, self._feed, self._door, config)
        _, found = await regenerating.run(keeper)
        self._physician.forget()
        return found

    async def recover(self) -> int:
        """Open the journal before the start, and count what some subscription has not settled."""
        if self._persistence is None:
            return 0
        if self.state in ("running", "stopping"):
            raise OpenOutcryError(
                f"the bus is {self.state}: recover_persisted_events comes before start, which does it as well"
            )
        return await self.open_keeper().count_unsettled()

    async def _start_durable(self) -> None:
        """Give the agents their memory back, then start."""
        current.set(None)
        keeper = self.open_keeper()
        self._door.restoring = True
        try:
            await keeper.restore()
        finally:
            self._door.restoring = False
        self._start()
        if self._persistence is not None and self._persistence.socket:
            await self._open_desk(keeper)

    async def _open_desk(self, keeper: Keeper) -> None:
        """Listen for the command line, beside a journal that is a file. Under virtual time nobody comes."""
        path = getattr(keeper.journal, "path", None)
        if path is None or self.make_desk is None or hasattr(asyncio.get_running_loop(), "clock"):
            return
        desk = self.make_desk(path)
        try:
            await desk.start()
        except JournalError as error:
            log.warning("the command line cannot talk to this bus: %s", error)
        else:
            self._desk = desk

    def _start(self) -> None:
        floor = self._floor
        loop = asyncio.get_running_loop()
        if self.state in ("running", "stopping"):
            if floor.loop is loop:
                return
            self._give_up_loop()
        floor.loop = loop
        self._set_clock(self._own_clock or clock_of(floor.loop))
        floor.busy = floor.control_waiting = 0
        floor.thread_waiting = False
        keeper = self._door.keeper
        if keeper is not None:
            keeper.hand_over()
        floor.running = True
        self.state = "running"
        floor.tracker = install(floor.loop)
        self._door.open_on(get_ident(), floor.tracker)
        self._rounds.reopen()
        for subscription in floor.roster:
            subscription.moved_at = (-1, floor.clock.now_ns())
            floor.control_waiting += subscription.control.normal.untried
            floor.run(subscription)
        self._feed.deliver_held_back(keeper.has_released if keeper is not None else lambda _: False)
        if keeper is not None:
            keeper.started()
        self._door.look()
        self._ingest.take_in()
        self._physician.begin()
        floor.watch()
        if not floor.busy:
            floor.rested()

    def _set_clock(self, clock: Clock) -> None:
        """Go by this clock. What was read from another one cannot be compared with it: idling starts anew."""
        floor = self._floor
        if clock is not floor.clock and not isinstance(clock, SystemClock):
            for subscription in floor.roster:
                subscription.last_ns = clock.now_ns()
        floor.clock = clock

    def _give_up_loop(self) -> None:
        """The loop of the last start was closed without a stop: what was in flight waits again."""
        floor = self._floor
        if floor.loop is not None and not floor.loop.is_closed():
            raise WrongThread(
                "the bus is running on another event loop; stop it there before starting it here"
            )
        for subscription in floor.roster:
            for mailbox in (subscription.mailbox, subscription.control):
                for batch in list(mailbox.open):
                    mailbox.release(batch)
        self._stopping = None
        floor.stop_watching()
        self._physician.end()

    async def stop(self, timeout_s: float) -> None:
        """Drain until the deadline, then end. Whoever is cancelled while waiting leaves the stop going on."""
        check_number("timeout_s", timeout_s, 0)
        if self.state == "new":
            self._close()
            self._close_keeper()
            return
        if self.state == "stopped":
            return
        self._door.check_thread("stop")
        if asyncio.get_running_loop() is not self._floor.loop:
            raise WrongThread("stop was called on another event loop than the one the bus was started on")
        from_handler = self._is_called_by_handler()
        if self._stopping is None:
            self.state = "stopping"
            self._door.close(self.state)
            self._stopping = asyncio.get_running_loop().create_task(
                self._stop(timeout_s), name="openoutcry:stop"
            )
        if not from_handler:
            await asyncio.shield(self._stopping)
        # A handler that stops the bus is itself in flight: the stop goes on when it has returned.

    def _is_called_by_handler(self) -> bool:
        who = current.get()
        return who is not None and who.bus is self._floor and who.running

    async def _stop(self, timeout_s: float) -> None:
        floor = self._floor
        current.set(None)
        self._rounds.close_all("the bus is stopping")  # a handler may be waiting for one
        try:
            async with asyncio.timeout(timeout_s):
                await self._drain()
        except TimeoutError:
            left = sum(s.mailbox.waiting + s.mailbox.in_flight for s in floor.roster)
            log.warning(
                "the bus stops after %.3g s with %d deliveries not ended; they wait for the next start",
                timeout_s,
                left,
            )
        self._physician.end()
        await self._physician.journal.end()
        if self._recovering is not None:
            await asyncio.wait([self._recovering])
        floor.running = False
        floor.stop_watching()
        runners = [*floor.runners.values(), *floor.leaving]
        await asyncio.gather(*(runner.stop(CANCEL_GRACE_S) for runner in runners))
        floor.runners.clear()
        floor.leaving = set()
        self._close()
        assert floor.loop is not None
        uninstall(floor.loop)
        self._stopping = None
        try:
            if self._desk is not None:
                await self._desk.stop()
                self._desk = None
            self._close_keeper()
        finally:
            floor.stopped()

    def _close_keeper(self) -> None:
        keeper, self._door.keeper = self._door.keeper, None
        if keeper is not None:
            keeper.close()

    def _close(self) -> None:
        self.state = "stopped"
        self._door.close(self.state)
        self._rounds.close_all("the bus is stopping")
        self._ingest.refuse_rest()

    async def _drain(self) -> None:
        floor = self._floor
        door = self._door
        while not (self._ingest.empty and door.is_committed and not self._feed.staged and floor.settled()):
            self._feed.deliver()
            if not self._ingest.empty:
                await self._ingest.wait_empty()
            elif not door.is_committed:
                await door.wait_committed()
            elif not floor.settled():
                await floor.wait_settled()
