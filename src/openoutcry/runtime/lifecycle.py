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
from threading import get_ident

from openoutcry.clocks import SystemClock
from openoutcry.config import check_number
from openoutcry.errors import BusClosed, WrongThread
from openoutcry.ports import Clock
from openoutcry.runtime.causes import current, install, uninstall
from openoutcry.runtime.door import Door
from openoutcry.runtime.feed import Feed
from openoutcry.runtime.floor import Floor
from openoutcry.runtime.ingest import Ingest
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
        self, floor: Floor, feed: Feed, door: Door, ingest: Ingest, rounds: Rounds, clock: Clock | None
    ) -> None:
        self._floor = floor
        self._feed = feed
        self._door = door
        self._ingest = ingest
        self._rounds = rounds
        self._own_clock = clock
        self._stopping: asyncio.Task[None] | None = None
        self.state = "new"

    async def start(self) -> None:
        """Start the workers and deliver what was published before; a stop that goes on is waited for."""
        if self._stopping is not None and self._floor.loop is asyncio.get_running_loop():
            if self._is_called_by_handler():
                raise BusClosed("the bus is stopping, and a handler cannot wait for that; start it outside")
            await asyncio.shield(self._stopping)
        self._start()

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
        floor.running = True
        self.state = "running"
        floor.tracker = install(floor.loop)
        self._door.open_on(get_ident(), floor.tracker)
        self._rounds.reopen()
        for subscription in floor.roster:
            subscription.moved_at = (-1, floor.clock.now_ns())
            floor.control_waiting += subscription.control.normal.untried
            floor.run(subscription)
        self._feed.deliver_held_back()
        self._door.look()
        self._ingest.take_in()
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

    async def stop(self, timeout_s: float) -> None:
        """Drain until the deadline, then end. Whoever is cancelled while waiting leaves the stop going on."""
        check_number("timeout_s", timeout_s, 0)
        if self.state == "new":
            self._close()
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
        floor.stopped()

    def _close(self) -> None:
        self.state = "stopped"
        self._door.close(self.state)
        self._rounds.close_all("the bus is stopping")
        self._ingest.refuse_rest()

    async def _drain(self) -> None:
        floor = self._floor
        while not (self._ingest.empty and not self._feed.staged and floor.settled()):
            self._feed.deliver()
            if not self._ingest.empty:
                await self._ingest.wait_empty()
            elif not floor.settled():
                await floor.wait_settled()
