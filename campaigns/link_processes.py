"""Several processes on one loop, each of which may die or be suspended between any two of its steps.

A step is one callback of the loop. Everything that a process does runs in its context, and so do the tasks
and timers that it makes: of a process that has died no callback runs any more, as after kill -9; those of one
that is suspended are kept until it is resumed, as between SIGSTOP and SIGCONT, while the clock goes on.
"""

import asyncio
import gc
import sys
import warnings
from collections import deque
from collections.abc import Coroutine, Iterable
from contextvars import ContextVar
from typing import Any, Final

from openoutcry.testing.simulator.chance import Chance
from openoutcry.testing.simulator.loop import SimClock, SimLoop

_PROCESS: Final[ContextVar["Process | None"]] = ContextVar("process", default=None)


class Process:
    """A process, as the loop knows it.

    Attributes:
        name: Its name.
        is_dead: Whether it was killed, or has ended.
        is_suspended: Whether it runs again later.
        held: The callbacks that wait for that.
        tasks: Its tasks, which are closed with the loop.

    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_dead = False
        self.is_suspended = False
        self.held: list[asyncio.Handle] = []
        self.tasks: list[asyncio.Task[Any]] = []


class ProcessLoop(SimLoop):
    """A virtual loop with seeded scheduling, on which several processes run."""

    def __init__(self, chance: Chance) -> None:
        super().__init__(SimClock(), chance, shuffles=True)
        self.set_task_factory(_make_task)

    def before_step(self, ready: deque[Any]) -> None:
        """Leave out the callbacks of processes that are dead, and keep those of suspended ones."""
        super().before_step(ready)
        handle: asyncio.Handle = ready[0]
        process = handle._context.get(_PROCESS)  # type: ignore[attr-defined]  # noqa: SLF001
        if process is None or handle.cancelled():
            return
        if process.is_dead:
            handle.cancel()
        elif process.is_suspended:
            process.held.append(handle)
            ready[0] = nothing = asyncio.Handle(lambda: None, (), self)
            nothing.cancel()

    def drop(self, tasks: "Iterable[asyncio.Task[Any]] | None" = None) -> None:
        """Drop everything that is running; what the ends of its coroutines complain of is of no interest."""
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                super().drop(tasks)
                gc.collect()
        finally:
            sys.unraisablehook = hook

    def spawn(self, process: Process, main: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Have a process run a coroutine."""
        token = _PROCESS.set(process)
        try:
            return self.create_task(main, name=process.name)
        finally:
            _PROCESS.reset(token)

    def resume(self, process: Process) -> None:
        """Let a process go on that was suspended."""
        process.is_suspended = False
        held, process.held = process.held, []
        self._ready.extend(held)


def _make_task(loop: asyncio.AbstractEventLoop, coro: Any, **more: Any) -> "asyncio.Task[Any]":
    process = _PROCESS.get()
    context = more.get("context")
    if context is not None and process is not None:
        context.run(_PROCESS.set, process)
    task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **more)
    if process is not None:
        process.tasks.append(task)
        if len(process.tasks) > 200:
            process.tasks[:] = [one for one in process.tasks if not one.done()]
    return task
