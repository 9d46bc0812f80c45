"""Threads of a replay: the loop stands still while one of them runs, so that all happens in one order.

```
  loop    calls ─▶ stands still ─────▶ goes on ─▶ (2 s pass) ─▶ stands still ─▶ goes on
  thread          runs ─▶ sleeps 2 s ┘                         └▶ runs ─▶ has ended
```

A handler with `blocking=True` has a thread of its own here too: what it calls may ask for one. It sleeps in
the loop's time, and what it publishes is admitted at that moment. Only while it waits for the loop itself, as
for the result of `asyncio.run_coroutine_threadsafe`, both go on.
"""

import asyncio
import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple, TypeVarTuple, Unpack

from openoutcry.runtime.delivery.threads import HandlerThread
from openoutcry.units import NS_PER_S
from openoutcry.virtual import VirtualLoop, real_time_s

Ts = TypeVarTuple("Ts")

PATIENCE_S: Final = 60.0
"""So long, in real time, the loop stands still for a thread that says nothing."""

GOING_ON_S: Final = 0.05
"""So long, in real time, virtual time waits for a thread beside which the loop goes on, before each jump."""
_SLICE_S: Final = 0.005

_here = threading.local()


def stepped_thread() -> "SteppedThread | None":
    """Return the thread in which this is called, if it is one of a replay."""
    found: SteppedThread | None = getattr(_here, "thread", None)
    return found


class SteppedLoop(VirtualLoop):
    """A virtual loop that stands still while the thread of a handler runs.

    Attributes:
        beside_count: Beside how many threads it goes on.

    """

    beside_count: int = 0

    def _idle(self, timeout_s: float | None) -> float:
        since_s = self._idle_since_s
        if self.beside_count and (since_s is None or real_time_s() - since_s < GOING_ON_S):
            self._idle_since_s = real_time_s() if since_s is None else since_s
            return _SLICE_S
        return super()._idle(timeout_s)

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """As in asyncio; a thread of a handler that calls it may be about to wait for it."""
        handle = super().call_soon_threadsafe(callback, *args, context=context)
        thread = stepped_thread()
        if thread is not None:
            thread.let_go()
        return handle


class _Ended(NamedTuple):
    """The call has ended."""

    result: Any


class _Sleeps(NamedTuple):
    """The thread waits until so much time has passed."""

    seconds: float


class _Asks(NamedTuple):
    """The thread waits for what a function returns on the loop."""

    function: Callable[[], Any]


class _LetsGo(NamedTuple):
    """The thread runs, and the loop is to go on beside."""


class SteppedThread:
    """The thread of a worker. `ends_ns` tells from the event when its call is to end, on the loop's clock."""

    def __init__(self, ends_ns: Callable[[Any], int | None], name: str) -> None:
        self._ends_ns = ends_ns
        self._thread = HandlerThread(name)
        self._waiter = HandlerThread(f"{name} (waits)")
        self._said: SimpleQueue[Any] = SimpleQueue()
        self._answers: SimpleQueue[Any] = SimpleQueue()

    # -- on the loop --------------------------------------------------------------------------------

    def run(self, call: Callable[[], Any], event: Any) -> "asyncio.Future[Any]":
        """Have the thread make a call, and return the future of what it returns."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._thread.submit(self._call, call)
        self._listen(future, event)
        return future

    def shutdown(self) -> None:
        """Let the thread end after what it is doing; nobody waits for that."""
        self._thread.shutdown()
        self._waiter.shutdown()

    def _listen(self, future: "asyncio.Future[Any]", event: Any) -> None:
        """Stand still until the thread has ended its call, or waits for time to pass."""
        while True:
            try:
                said = self._said.get(timeout=PATIENCE_S)
            except Empty:
                said = _LetsGo()
            if not isinstance(said, _Asks):
                break
            self._answers.put(said.function())
        self._go_on(said, future, event)

    def _go_on(self, said: Any, future: "asyncio.Future[Any]", event: Any) -> None:
        """Go on, and listen again when it is time."""
        loop = asyncio.get_running_loop()
        if isinstance(said, _Sleeps):
            loop.call_later(said.seconds, self._wake, future, event)
        elif isinstance(said, _LetsGo):
            assert isinstance(loop, SteppedLoop), "such threads are made for it"
            loop.beside_count += 1
            waiting = asyncio.wrap_future(self._waiter.submit(self._said.get), loop=loop)
            waiting.add_done_callback(lambda found: self._heard(loop, found.result(), future, event))
        else:
            ends_ns = self._ends_ns(event)
            if ends_ns is not None and ends_ns > loop.time() * NS_PER_S:
                loop.call_at(ends_ns / NS_PER_S, _resolve, future, said.result)
            else:
                _resolve(future, said.result)

    def _wake(self, future: "asyncio.Future[Any]", event: Any) -> None:
        """The time is over for which the thread sleeps."""
        self._answers.put(None)
        self._listen(future, event)

    def _heard(self, loop: SteppedLoop, said: Any, future: "asyncio.Future[Any]", event: Any) -> None:
        """The thread has said something while the loop went on."""
        loop.beside_count -= 1
        if isinstance(said, _Asks):
            self._answers.put(said.function())
            self._listen(future, event)
        else:
            self._go_on(said, future, event)

    # -- in the thread ------------------------------------------------------------------------------

    def _call(self, call: Callable[[], Any]) -> None:
        _here.thread = self
        self._said.put(_Ended(call()))

    def sleep(self, seconds: float) -> None:
        """Wait until so much time has passed on the loop."""
        self._said.put(_Sleeps(seconds))
        self._answers.get()

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a function returns on the loop, in the context of the call. It must not raise."""
        context = copy_context()
        self._said.put(_Asks(lambda: context.run(function, *arguments)))
        return self._answers.get()

    def let_go(self) -> None:
        """Have the loop go on beside."""
        self._said.put(_LetsGo())


def _resolve(future: "asyncio.Future[Any]", result: Any) -> None:
    if not future.done():
        future.set_result(result)
