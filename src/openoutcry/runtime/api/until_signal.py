"""Signals: the first SIGINT or SIGTERM asks to stop, the second one ends the process at once.

```
  run_until_signal ──▶ runs ──signal──▶ drains ──▶ returns the signal
                         │                 └──second signal──▶ the process ends
                         ├──somebody stops the bus──▶ returns None
                         └──another process has its desk──▶ drains ──▶ raises SeatLost
```

Whoever waits for the signals of the process shares one `StopRequest`: several buses on one loop, and a
program that calls `run_until_signal` under `openoutcry run`.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final, Protocol

from openoutcry.config import check_number
from openoutcry.errors import BusClosed, OpenOutcryError, WrongThread
from openoutcry.runtime.delivery.causation import current

BY_SIGNAL: Final = 128
"""An exit code is this and the number of the signal that ended the process at once."""
DRAIN_S: Final = 10.0
"""How long a bus drains unless somebody says otherwise."""
NUMBERS: Final = (signal.SIGINT, signal.SIGTERM)
StopSignal = signal.Signals


class StopRequest:
    """What signals have asked for so far.

    Attributes:
        asked: Set when the first one has come.
        signal: Which it was; None before.
        drain_timeout_s: How long the drain may take at most.
        is_limit: Whether that is the limit of the whole process, which nobody may raise.
        drainers: The tasks that stop a bus by themselves when `asked` is set.

    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, drain_timeout_s: float, *, is_limit: bool = False
    ) -> None:
        self.loop = loop
        self.drain_timeout_s = drain_timeout_s
        self.is_limit = is_limit
        self.asked: asyncio.Event = asyncio.Event()
        self.signal: StopSignal | None = None
        self.drainers: set[asyncio.Task[Any] | None] = set()
        self._users_count = 0
        self._process_id = os.getpid()
        self._before: dict[signal.Signals, Any] = {}

    def receive(self, number: int, _frame: FrameType | None) -> None:
        """Take a signal. It may interrupt any code, even a write, so no buffered stream is used here."""
        if os.getpid() != self._process_id:
            _end_child(number)
            return
        if self.signal is not None:
            _note("forced: the process ends at once; what was still waiting has not been handled")
            os._exit(BY_SIGNAL + number)
        self.signal = signal.Signals(number)
        _note(f"stopping: draining for up to {self.drain_timeout_s:g} s; again to end at once")
        with suppress(RuntimeError):  # the loop was closed: nobody waits there
            self.loop.call_soon_threadsafe(self.asked.set)

    def enter(self) -> None:
        """Take the signals over, if nobody has yet."""
        self._users_count += 1
        if self._users_count == 1:
            # Plain handlers instead of the loop's: a second Ctrl-C must get through while a handler that
            # never yields blocks the loop.
            self._before = {number: signal.signal(number, self.receive) for number in NUMBERS}

    def leave(self) -> None:
        """Give the signals back, if nobody else waits for them. A handler set meanwhile stays."""
        self._users_count -= 1
        if self._users_count:
            return
        for number, handler in self._before.items():
            if signal.getsignal(number) == self.receive:
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for its signals any more."""
        return not self._users_count


def _end_child(number: int) -> None:
    """Do in a forked child what a signal does by default: the bus to be drained is the parent's."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _note(line: str) -> None:
    with suppress(OSError):  # nobody reads it
        os.write(2, f"\n{line}\n".encode())


_shared: list[StopRequest] = []  # the one of this process, if somebody waits for signals


@contextmanager
def stop_signals(
    loop: asyncio.AbstractEventLoop, drain_timeout_s: float | None, *, is_limit: bool = False
) -> Iterator[StopRequest]:
    """Route SIGINT and SIGTERM to the `StopRequest` of a loop, in the main thread, until the end."""
    if not _shared or _shared[0].is_over or _shared[0].loop is not loop:
        limit_s = DRAIN_S if drain_timeout_s is None else drain_timeout_s
        _shared[:] = [StopRequest(loop, limit_s, is_limit=is_limit)]
    request = _shared[0]
    if not request.is_limit:
        request.drain_timeout_s = max(request.drain_timeout_s, drain_timeout_s or 0.0)
    request.enter()
    try:
        yield request
    finally:
        request.leave()


class BusLifecycle(Protocol):
    """A bus, as what runs it until a signal sees it."""

    async def start(self) -> None:
        """Start it."""
        ...

    async def stop(self, timeout_s: float = DRAIN_S) -> None:
        """Drain it for so long at most, and stop it."""
        ...


async def run_until_signal(
    bus: BusLifecycle, when_stopped: "Callable[[], asyncio.Future[None]]", drain_timeout_s: float | None
) -> StopSignal | None:
    """Start a bus, and stop it when a signal comes; see `EventBus.run_until_signal`.

    `when_stopped` returns a future that is done when somebody else has stopped it, and fails with `SeatLost`.
    """
    if drain_timeout_s is not None:
        check_number("drain_timeout_s", drain_timeout_s, 0)
    if threading.current_thread() is not threading.main_thread():
        raise WrongThread(
            "run_until_signal was called in another thread than the main one, where no signal arrives: run "
            "the loop of the bus in the main thread, or wait for an event of your own and call stop()"
        )
    who = current.get()
    if who is not None and who.running:
        raise OpenOutcryError(
            "run_until_signal was called by a handler, which the drain would wait for; call it outside"
        )
    task = asyncio.current_task()
    with stop_signals(asyncio.get_running_loop(), drain_timeout_s) as request:
        limit_s = request.drain_timeout_s if drain_timeout_s is None else drain_timeout_s
        limit_s = min(limit_s, request.drain_timeout_s)
        request.drainers.add(task)
        stopped = None
        try:
            if await _started(bus, request):
                stopped = when_stopped()
                await first_of(request.asked, stopped)
            await bus.stop(limit_s)
            if stopped is not None and stopped.done():
                stopped.result()
        finally:
            request.drainers.discard(task)
        return request.signal


async def _started(bus: BusLifecycle, request: StopRequest) -> bool:
    """Start a bus, and return True unless a signal came before it had started."""
    starting = asyncio.ensure_future(bus.start())
    try:
        await first_of(request.asked, starting)
        if starting.done():
            await starting
            return True
        await bus.stop(0)
        with suppress(BusClosed):
            await starting
        return False
    finally:
        starting.cancel()


async def first_of(*awaited: "asyncio.Event | asyncio.Future[Any]") -> None:
    """Wait until one of some events is set or one of some futures is done; none of them is cancelled."""
    if any(one.is_set() if isinstance(one, asyncio.Event) else one.done() for one in awaited):
        return
    events = {asyncio.ensure_future(one.wait()): one for one in awaited if isinstance(one, asyncio.Event)}
    futures = [one for one in awaited if not isinstance(one, asyncio.Event)]
    try:
        await asyncio.wait([*events, *futures], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiting in events:
            waiting.cancel()
