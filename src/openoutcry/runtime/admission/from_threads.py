"""The way in for other threads: a bounded queue beside the loop, emptied on the loop, urgent events first."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context
from functools import partial
from threading import Lock
from typing import Any

from openoutcry.core.pressure import Refusal, Wait
from openoutcry.errors import BusClosed, JournalError, PublishError
from openoutcry.runtime.admission.access import is_kill_switch, is_urgent
from openoutcry.runtime.admission.durable import excuse
from openoutcry.runtime.admission.gate import Admission
from openoutcry.runtime.admission.kill_switches import Handled, KillSwitches
from openoutcry.runtime.delivery.causation import Lineage, Publisher, current
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.durability.commit import Commit

Entry = tuple[Any, bool, "Future[bool]", Publisher | None]


class ThreadQueue:
    """Events of other threads in order: while the first of them has to wait, those behind it wait too."""

    def __init__(self, admission: Admission, on_empty: Callable[[], None]) -> None:
        self._admission = admission
        self._on_empty = on_empty
        self._entries: deque[Entry] = deque()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry) -> None:
        """Add an entry at the end."""
        self._entries.append(entry)

    def go_on(self) -> None:
        """Admit what need not wait; for the first that must, a task does the waiting."""
        while self._task is None and self._entries:
            if not self._let_in(self._entries[0]):
                self._task = asyncio.get_running_loop().create_task(self._wait(), name="openoutcry:ingest")
                return
            self._entries.popleft()

    def _let_in(self, entry: Entry) -> bool:
        """Answer one entry. False when it has to wait first."""
        event, priority, future, who = entry
        before = None if who is None else current.set(who)
        try:
            verdict = self._admission.admit_one(event, priority, is_caused=who is not None)
            if isinstance(verdict, Wait):
                return False
            if isinstance(verdict, Commit):
                kill_switches = self._admission.kill_switches
                verdict.on_done.append(partial(_answer, verdict, event, future, kill_switches))
            elif isinstance(verdict, asyncio.Future):
                verdict.add_done_callback(partial(_pass_on, future))
            else:
                future.set_result(verdict)
        except Exception as error:  # noqa: BLE001 - whatever publishing raises is the answer
            future.set_exception(error)
        finally:
            if before is not None:
                current.reset(before)
        return True

    async def _wait(self) -> None:
        task = self._task
        try:
            while self._entries:
                entry = self._entries[0]
                try:
                    await self._publish(entry)
                finally:
                    if task is self._task and self._entries and self._entries[0] is entry:
                        self._entries.popleft()
        finally:
            if task is self._task:
                self._task = None
            self._on_empty()

    def give_up_loop(self) -> None:
        """The loop was closed: what was about to be let in waits for the next one."""
        self._task = None

    async def _publish(self, entry: Entry) -> None:
        event, priority, future, who = entry
        current.set(who)
        try:
            future.set_result(await self._admission.publish(event, priority))
        except asyncio.CancelledError:
            _tell_stopped(future)
            raise
        except Exception as error:  # noqa: BLE001 - whatever publishing raises is the answer
            future.set_exception(error)

    def refuse_all(self) -> None:
        """Answer every entry: the bus has stopped."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        for _, _, future, _ in self._entries:
            _tell_stopped(future)
        self._entries.clear()


class ThreadIntake:
    """Events from feed threads.

    The loop is woken once for whatever has gathered. Ordinary events keep the order in which they came, and
    so do high-priority ones, which do not queue behind ordinary ones. Kill switches queue behind nothing.
    """

    def __init__(self, bus: BusState, admission: Admission, most: int) -> None:
        self._bus = bus
        self._admission = admission
        self._most = most
        self._lock = Lock()
        self._entries: deque[Entry] = deque()
        self._notified = False
        self._normal = ThreadQueue(admission, self._check_empty)
        self._high = ThreadQueue(admission, self._check_empty)
        self._joiners: list[asyncio.Future[None]] = []

    @property
    def empty(self) -> bool:
        """Whether everything handed in has its answer."""
        return not (self._entries or self._normal or self._high)

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
        """Hand in an event from any thread. The future has the answer that `publish` would give.

        Raises `ForkedBus` in a forked child, and `LoopClosed` where the loop was closed without a stop.
        """
        ownership = self._bus.ownership
        ownership.check_process("publish_threadsafe")
        if ownership.is_stranded:
            ownership.check("publish_threadsafe")
        future: Future[bool] = Future()
        future.set_running_or_notify_cancel()
        try:
            self._admission.access.check_effects()
        except PublishError as error:
            future.set_exception(error)
            return future
        who = current.get()
        handler = who.freeze() if isinstance(who, Lineage) else who
        kill = is_kill_switch(event)
        urgent = kill or is_urgent(event, priority=priority)
        with self._lock:
            closed = self._admission.access.closed
            if closed and not (kill and closed == "stopping"):
                future.set_exception(BusClosed(f"the bus is {closed}, so nothing is admitted from outside"))
                return future
            # Urgent events have as much room again, which ordinary ones can never fill.
            room = self._most * 2 if urgent else self._most
            if not kill and len(self._entries) + len(self._normal) + len(self._high) >= room:
                self._admission.refuse(Refusal.NO_ROOM, event)
                future.set_result(False)
                return future
            self._entries.append((event, priority, future, handler))
            has_loop = self._bus.running or closed == "stopping"  # where only kill switches come this far
            notify = not self._notified and has_loop
            self._notified = self._notified or notify
            if urgent and self._bus.running:
                self._bus.thread_waiting = True
        if notify:
            self._call_loop()
        return future

    def _call_loop(self) -> None:
        assert self._bus.loop is not None
        try:
            # In a context of its own: what gathered is of many threads, and nobody's handler published it.
            self._bus.loop.call_soon_threadsafe(self.take_in, context=Context())
        except RuntimeError:  # it was closed a moment ago: what has gathered waits for the next start
            self._notified = False

    def take_in(self) -> None:
        """On the loop: let in what has gathered, urgent events first."""
        with self._lock:
            self._notified = False
            self._bus.thread_waiting = False
            entries, self._entries = self._entries, deque()
        admission = self._admission
        alone = ThreadQueue(admission, self._check_empty)
        for entry in entries:
            if is_kill_switch(entry[0]):
                alone.add(entry)
            else:
                (self._high if is_urgent(entry[0], priority=entry[1]) else self._normal).add(entry)
        for queue in (alone, self._high, self._normal):
            queue.go_on()
        self._check_empty()

    def forked(self) -> None:
        """In a forked child: another thread may have held the lock at that moment."""
        self._lock = Lock()

    def give_up_loop(self) -> None:
        """The loop was closed: what has no answer waits for the next one."""
        self._joiners = []
        self._normal.give_up_loop()
        self._high.give_up_loop()

    def refuse_rest(self) -> None:
        """The bus has stopped: whatever was not let in is told so."""
        with self._lock:
            entries, self._entries = self._entries, deque()
        for _, _, future, _ in entries:
            _tell_stopped(future)
        self._normal.refuse_all()
        self._high.refuse_all()
        self._check_empty()


def _answer(commit: Commit, event: Any, future: "Future[bool]", kill_switches: KillSwitches) -> None:
    """The commit that a thread's event belongs to is over."""
    if future.done():
        return
    handled = None
    try:
        if commit.error is not None:
            excuse(event, commit.error, commit)
            handled = kill_switches.handled(event)
    except JournalError as error:
        future.set_exception(error)
    else:
        if handled is None:
            future.set_result(True)
        else:
            handled.add_done_callback(partial(_pass_on, future))


def _pass_on(future: "Future[bool]", handled: Handled) -> None:
    """Answer a thread with what has become of its kill switch."""
    if handled.cancelled():
        _tell_stopped(future)
        return
    error = handled.exception()
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(True)


def _tell_stopped(future: "Future[bool]") -> None:
    if not future.done():
        future.set_exception(BusClosed("the bus stopped before the event was admitted"))
