"""A loop whose scheduling follows from a seed, and which can be dropped at any step as a crash would.

A step is one callback of the loop. Before each, `on_step` may raise to end the life right there: everything
stays as it was at that moment, and nothing is cleaned up.

asyncio promises that callbacks run in the order in which they were scheduled, and code may rely on it. So
plain callbacks keep their places, and nothing runs earlier than in the turn that asyncio gives it. Only the
tasks that have a step in the same turn are shuffled among themselves: which of them comes first depends on
the number of awaits behind each, which changes with every edit. `shuffles=False` leaves even that alone.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

from openoutcry.clocks import VIRTUAL_START_NS, VirtualClock
from openoutcry.testing.simulator.chance import Chance
from openoutcry.virtual import VirtualLoop

IDLE_STEPS_MOST: Final = 20_000
"""After so many steps without time passing, the loop counts as spinning."""


class SimClock(VirtualClock):
    """A clock whose wall time may jump, and which knows for how long the loop was blocked.

    Attributes:
        kept_ns: For how long the loop was blocked, in all.

    """

    __slots__ = ("kept_ns",)

    def __init__(self, start_wall_ns: int = VIRTUAL_START_NS) -> None:
        super().__init__(start_wall_ns)
        self.kept_ns: int = 0

    def keep(self, by_ns: int) -> None:
        """Let time pass while the loop is blocked."""
        self.kept_ns += by_ns
        self.advance(by_ns)

    def jump(self, by_ns: int) -> None:
        """Set the wall clock; durations are not affected."""
        self._start_wall_ns += by_ns


class Crashed(BaseException):
    """The process has died. Raised from the loop; no code of the simulated process sees it."""


class Spinning(Exception):
    """The loop keeps running, and time does not pass."""


class _Ready(deque[Any]):
    """The callbacks that are ready. Tells the loop of each before it runs, and lets it order them."""

    loop: "SimLoop"

    def popleft(self) -> Any:
        self.loop.before_step(self)
        return super().popleft()


class SimLoop(VirtualLoop):
    """A virtual loop with seeded scheduling.

    Attributes:
        steps: How many callbacks have run.
        turns: How many turns the loop has made.
        on_step: Called before each callback; what it raises comes out of the loop.

    """

    clock: SimClock  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, clock: SimClock, chance: Chance, *, shuffles: bool = True, steps: int = 0) -> None:
        super().__init__(clock, patience_s=0, limit_s=None)
        self._chance = chance
        self._shuffles = shuffles
        self._shuffled_at = -1
        self.steps: int = steps
        self._still_since = steps
        self.on_step: Callable[[], None] = lambda: None
        ready = _Ready(self._ready)
        ready.loop = self
        self._ready: deque[Any] = ready

    @property
    def turns(self) -> int:
        """How many turns the loop has made."""
        return self._turns_count

    def before_step(self, ready: deque[Any]) -> None:
        """Order the tasks of a turn at its first step, and check the world."""
        if self._shuffles and self._shuffled_at != self._turns_count:
            self._shuffled_at = self._turns_count
            if len(ready) > 1:
                self._shuffle(ready)
        self.steps += 1
        if self.steps - self._still_since > IDLE_STEPS_MOST:
            raise Spinning(self._report(f"{IDLE_STEPS_MOST} steps, and time does not pass"))
        self.on_step()

    def _shuffle(self, ready: deque[Any]) -> None:
        handles = list(ready)
        places = [
            place
            for place, handle in enumerate(handles)
            if isinstance(getattr(handle._callback, "__self__", None), asyncio.Task)  # noqa: SLF001
        ]
        if len(places) < 2:
            return
        order = places.copy()
        self._chance.shuffle(order)
        for place, taken in zip(places, order, strict=True):
            ready[place] = handles[taken]

    def _jump(self, timeout_s: float) -> None:
        self._still_since = self.steps
        super()._jump(timeout_s)

    def run_in_executor(  # type: ignore[override]
        self, _executor: Any, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        """Run a job on this thread after some virtual time, since a seed cannot schedule threads."""
        future: asyncio.Future[Any] = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                result = func(*args)
            except Exception as error:  # noqa: BLE001 - as a thread pool would hand it over
                future.set_exception(error)
            else:
                future.set_result(result)

        self.call_later(self._chance.between(0, 0.02), work)
        return future

    def drop(self, tasks: "Iterable[asyncio.Task[Any]] | None" = None) -> None:
        """Drop everything that is running, as the end of the process does; `tasks` if it was closed before.

        The coroutines must be closed at some time, and then their clean-up runs: the caller must make sure
        that nothing they still do has an effect.
        """
        self.set_exception_handler(lambda _loop, _context: None)
        self.on_step = lambda: None
        for task in asyncio.all_tasks(self) if tasks is None else tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001
            coro: Any = task.get_coro()
            with suppress(BaseException):
                coro.close()
        deque.clear(self._ready)
        self.close()
