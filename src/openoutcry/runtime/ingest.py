"""The way in for other threads: a bounded queue beside the loop, emptied on the loop, urgent events first."""

import asyncio
from collections import deque
from concurrent.futures import Future
from contextvars import Context
from threading import Lock
from typing import Any

from openoutcry.core.pressure import Refusal, Wait
from openoutcry.errors import BusClosed
from openoutcry.runtime.door import Door
from openoutcry.runtime.floor import Floor

Entry = tuple[Any, bool, "Future[bool]"]


class Ingest:
    """Events from feed threads.

    The loop is woken once for whatever has gathered. Ordinary events keep the order in which they were handed
    in, also when the rate limit makes one wait; high-priority ones and kill switches do not queue behind
    them.
    """

    def __init__(self, floor: Floor, door: Door, most: int) -> None:
        self._floor = floor
        self._door = door
        self._most = most
        self._lock = Lock()
        self._entries: deque[Entry] = deque()
        self._waiting: deque[Entry] = deque()
        self._notified = False
        self._task: asyncio.Task[None] | None = None
        self._joiners: list[asyncio.Future[None]] = []
        self._others: set[asyncio.Task[None]] = set()

    @property
    def empty(self) -> bool:
        """Whether everything handed in has its answer."""
        return not self._entries and not self._waiting and not self._others

    def wait_empty(self) -> "asyncio.Future[None]":
        """Return a future that is done when everything handed in has its answer."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._joiners.append(future)
        self._check_empty()
        return future

    def _check_empty(self) -> None:
        if self._joiners and self.empty:
            joiners, self._joiners = self._joiners, []
            for joiner in joiners:
                if not joiner.done():
                    joiner.set_result(None)

    def put(self, event: Any, *, priority: bool) -> "Future[bool]":
        """Hand in an event from any thread. The future has the answer that `publish` would give."""
        future: Future[bool] = Future()
        future.set_running_or_notify_cancel()
        with self._lock:
            if self._door.closed:
                future.set_exception(
                    BusClosed(f"the bus is {self._door.closed}, so nothing is admitted from outside")
                )
                return future
            if len(self._entries) + len(self._waiting) >= self._most and not self._door.is_urgent(
                event, priority=priority
            ):
                self._door.refuse(Refusal.NO_ROOM)
                future.set_result(False)
                return future
            self._entries.append((event, priority, future))
            notify = not self._notified and self._floor.running
            self._notified = self._notified or notify
        if notify:
            self._call_loop()
        return future

    def _call_loop(self) -> None:
        assert self._floor.loop is not None
        try:
            # In a context of its own: what gathered is of many threads, and nobody's handler published it.
            self._floor.loop.call_soon_threadsafe(self.take_in, context=Context())
        except RuntimeError:  # the loop was closed without a stop: what gathers waits for the next start
            self._notified = False

    def take_in(self) -> None:
        """On the loop: let in what has gathered, urgent events first."""
        with self._lock:
            self._notified = False
            entries, self._entries = self._entries, deque()
        urgent = self._door.is_urgent
        for entry in entries:
            if urgent(entry[0], priority=entry[1]):
                self._answer(entry, hold=False)
            else:
                self._waiting.append(entry)
        while self._task is None and self._waiting:
            if not self._answer(self._waiting[0], hold=True):
                self._task = asyncio.get_running_loop().create_task(
                    self._let_wait(), name="openoutcry:ingest"
                )
                return
            self._waiting.popleft()
        self._check_empty()

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._others.discard(task)
        self._check_empty()

    def _answer(self, entry: Entry, *, hold: bool) -> bool:
        """Decide on one entry. False when it must wait first (only asked for with `hold`)."""
        event, priority, future = entry
        try:
            if not priority and self._door.turnstile.admit(event):
                future.set_result(True)
                return True
            verdict = self._door.admit(event, priority=priority)
            if isinstance(verdict, Wait):
                if hold:
                    return False
                task = asyncio.get_running_loop().create_task(self._finish(entry))
                self._others.add(task)
                task.add_done_callback(self._finished)
                return True
            future.set_result(verdict)
        except Exception as error:  # noqa: BLE001 - whatever publishing raises is the answer
            future.set_exception(error)
        return True

    async def _let_wait(self) -> None:
        """Publish what has to wait, one after the other, so that order holds."""
        try:
            while self._waiting:
                entry = self._waiting[0]
                try:
                    await self._finish(entry)
                finally:
                    if self._waiting and self._waiting[0] is entry:
                        self._waiting.popleft()
        finally:
            if self._task is asyncio.current_task():
                self._task = None
            self._check_empty()

    async def _finish(self, entry: Entry) -> None:
        event, priority, future = entry
        try:
            future.set_result(await self._door.publish(event, priority))
        except asyncio.CancelledError:
            if not future.done():
                future.set_exception(BusClosed("the bus stopped before the event was admitted"))
            raise
        except Exception as error:  # noqa: BLE001 - whatever publishing raises is the answer
            future.set_exception(error)

    def refuse_rest(self) -> None:
        """The bus has stopped: whatever was not let in is told so."""
        for task in (*self._others, *([self._task] if self._task else [])):
            task.cancel()
        self._task = None
        with self._lock:
            entries, self._entries = [*self._waiting, *self._entries], deque()
            self._waiting.clear()
        for _, _, future in entries:
            if not future.done():
                future.set_exception(BusClosed("the bus stopped before the event was admitted"))
        self._check_empty()
