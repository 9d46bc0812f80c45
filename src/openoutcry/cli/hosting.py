"""Runs an app until it ends, is stopped or fails, drains its bus, and reports how it ended.

Nothing that the app raises is lost, and none of it keeps the bus from being drained: its program, its tasks,
its clean-up, an exit.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from openoutcry.cli.assembling import Program
from openoutcry.cli.logging_setup import tell
from openoutcry.cli.mistakes import Mistake, without_our_frames
from openoutcry.cli.unawaited import Failures
from openoutcry.config import BusConfig
from openoutcry.core.ledger import Ledger
from openoutcry.errors import BusClosed, JournalError, SeatLost
from openoutcry.runtime.api.until_signal import StopRequest, first_of, stop_signals

log = logging.getLogger("openoutcry")

CLEAN_UP_S = 2.0
"""How long tasks may take to end that are cancelled when the bus has stopped, before they are abandoned."""
_MOMENT_S = 0.05
_LOOK_S = 0.25  # how often to check whether the app has stopped its own bus


@dataclass(frozen=True, slots=True)
class Ending:
    """How a firm's run ended.

    Attributes:
        why: The reason, in words.
        what: What failed, in words, if something did.
        error: What the app raised, if it did; the first, where it was more.
        problem: What kept the bus from starting, or from stopping as it should.
        has_run: Whether the bus was started.
        elapsed_s: Seconds from the start of the bus to the end of its drain.
        published_count: Events that were admitted.
        refused: Events that were refused, by reason.
        ledger: What became of every accepted event.

    """

    why: str
    what: str
    error: BaseException | None
    problem: BaseException | None = None
    has_run: bool = False
    elapsed_s: float = 0.0
    published_count: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=lambda: Ledger(()))

    @property
    def left_count(self) -> int:
        """Deliveries that were still waiting or in flight when the drain's deadline passed."""
        return self.ledger.total("waiting") + self.ledger.total("in_flight")


def run_to_its_end(
    app: object,
    target: str,
    config: BusConfig | None,
    drain_timeout_s: float,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> Ending:
    """Run an app on a loop of its own, and drain its bus for at most `drain_timeout_s` seconds."""
    loop = new_loop()
    asyncio.set_event_loop(loop)
    try:
        failures = Failures()
        with stop_signals(loop, drain_timeout_s, is_limit=True) as request, failures.watching(loop):
            host = Host(Program(app, target, config), target, drain_timeout_s, request, failures)
            task = loop.create_task(host.run(), name="openoutcry:host")
            while True:
                try:
                    return loop.run_until_complete(task)
                except (SystemExit, KeyboardInterrupt) as error:  # of a task: asyncio lets it out of the loop
                    if task.done():
                        raise
                    failures.fail(error)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def _close_generators(timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.get_running_loop().shutdown_asyncgens()
    except TimeoutError:
        log.error("an async generator did not end in time when it was closed, and is abandoned")  # noqa: TRY400


class Host:
    """The run of one app."""

    def __init__(
        self, program: Program, target: str, drain_timeout_s: float, request: StopRequest, failures: Failures
    ) -> None:
        self._program = program
        self._target = target
        self._drain_timeout_s = drain_timeout_s
        self._request = request
        self._failures = failures
        self._started_s: float | None = None
        self._reported: BaseException | None = None

    async def run(self) -> Ending:
        """Run the app from its set-up to the end of its last task."""
        program = self._program
        task = asyncio.create_task(program.run(), name="openoutcry:app")
        ends: list[Any] = [self._request.asked, self._failures.happened]
        await first_of(*ends, task, program.is_set_up)
        problem = None
        if program.is_set_up.is_set() and not any(event.is_set() for event in ends):
            problem = await self._start([*ends, task])
        if self._started_s is not None and not task.done():
            program.may_go_on.set()
            await self._until_it_ends(ends, task)
        why = self._reason(task)
        self._report()
        problem = await self._end(task) or problem or self._seat_lost
        elapsed_s = 0.0 if self._started_s is None else time.monotonic() - self._started_s
        await self._leave_no_task(task)
        self._report()
        return self._ending(why, problem, elapsed_s)

    async def _start(self, ends: list[Any]) -> BaseException | None:
        """Start the bus; return what it raised. Whatever ends the run meanwhile ends the start."""
        bus = self._program.bus
        assert bus is not None
        starting = asyncio.create_task(bus.start(), name="openoutcry:starting")
        await first_of(*ends, starting)
        if not starting.done():
            with suppress(JournalError):
                await bus.stop(0)
            await asyncio.wait([starting])
        error = starting.exception()
        if isinstance(error, BusClosed):
            return None
        if error is not None:
            if error.__cause__ is not None and not isinstance(error, JournalError):
                log.error("%s could not start", self._target, exc_info=error.__cause__)
            return error
        self._started_s = time.monotonic()
        count = len(bus.subscriptions)
        agents = f"{count} subscription{'' if count == 1 else 's'}" if count else "no agent subscribed yet"
        tell(f"{self._target} is running, {agents}; Ctrl-C stops it")
        return None

    async def _until_it_ends(self, ends: list[Any], task: "asyncio.Task[None]") -> None:
        """Wait for a signal, a failure, the end of the main program if there is one, or that of the bus.

        A bus whose desk another process has must end.
        """
        program = self._program
        while program.bus is not None and program.bus.is_running and self._seat_lost is None:
            try:
                async with asyncio.timeout(_LOOK_S):
                    await first_of(*ends, *([task] if program.has_main else []))
            except TimeoutError:
                continue
            return

    # -- ending -------------------------------------------------------------------------------------

    async def _end(self, task: "asyncio.Task[None]") -> BaseException | None:
        """End the program, since it feeds the bus; then drain in the time that is left.

        Returns what kept the bus from stopping as it should.
        """
        deadline_s = time.monotonic() + self._drain_timeout_s
        bus = self._program.bus
        if not task.done():
            await self._end_program(task, deadline_s)
        self._failures.is_stopping = True
        try:
            if bus is not None:
                await bus.stop(timeout_s=max(0.0, deadline_s - time.monotonic()))
        except JournalError as problem:
            return problem
        return None

    async def _end_program(self, task: "asyncio.Task[None]", deadline_s: float) -> None:
        """Cancel the program, unless it stops the bus by itself: what it does afterwards is its clean-up."""
        bus = self._program.bus
        has_stopped = self._started_s is not None and bus is not None and not bus.is_running
        if task in self._request.drainers:
            self._request.asked.set()
            await asyncio.wait([task], timeout=self._drain_timeout_s + CLEAN_UP_S)
        elif has_stopped:
            await asyncio.wait([task], timeout=CLEAN_UP_S)
        if not task.done():
            self._program.is_to_end = True
            task.cancel()
            await asyncio.wait([task], timeout=max(0.0, deadline_s - time.monotonic()))

    async def _leave_no_task(self, program: "asyncio.Task[None]") -> None:
        """Cancel the tasks that are left, and note what they raise. Those that do not end are abandoned."""
        ends_s = time.monotonic() + CLEAN_UP_S
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        pending = (await asyncio.wait(tasks, timeout=CLEAN_UP_S))[1] if tasks else set()
        for task in pending:
            setattr(task, "_log_destroy_pending", False)  # noqa: B010 - it is said here
            log.error("%r did not end within %g s of being cancelled, and is abandoned", task, CLEAN_UP_S)
        if program in pending:
            self._program.error = TimeoutError(
                f"the app did not end in the time of the drain and {CLEAN_UP_S:g} s after being cancelled"
            )
        else:
            await _close_generators(max(ends_s - time.monotonic(), _MOMENT_S))
        self._failures.settle()

    # -- telling ------------------------------------------------------------------------------------

    @property
    def _error(self) -> BaseException | None:
        return self._program_error or self._failures.first

    @property
    def _program_error(self) -> BaseException | None:
        """What the program raised, unless it is no more than what happens to any that has lost its desk."""
        error = self._program.error
        return None if isinstance(error, SeatLost) and self._seat_lost is not None else error

    @property
    def _seat_lost(self) -> SeatLost | None:
        bus = self._program.bus
        return None if bus is None else bus.admin.seat_lost

    def _reason(self, task: "asyncio.Task[None]") -> str:
        """Return why the run ends. That a bus which the app has stopped takes nothing more is no failure."""
        program, bus = self._program, self._program.bus
        has_stopped = bus is not None and bus.get_status()["state"] in ("stopping", "stopped")
        if has_stopped and isinstance(program.error, BusClosed):
            log.info("%s ended because its bus takes no events any more", self._target)
            program.error = None
        if isinstance(self._error, SystemExit | KeyboardInterrupt):
            return "the app exited"
        if self._error is not None:
            return "the app failed"
        if self._seat_lost is not None:
            return "another process holds its desk"
        if self._request.signal is not None:
            return f"stopped by {self._request.signal.name}"
        return "the app ended" if program.has_main and task.done() else "the app stopped its bus"

    def _report(self) -> None:
        """Log what the program raised, as soon as it is known: the drain takes a while."""
        error = self._program_error
        if error is None or error is self._reported:
            return
        self._reported = error
        if not isinstance(error, SystemExit | KeyboardInterrupt | Mistake):
            log.error("%s %s", self._target, self._what, exc_info=without_our_frames(error))

    @property
    def _what(self) -> str:
        if not self._program.is_set_up.is_set():
            return "raised while it was set up"
        return (
            "failed"
            if self._program.error is not None
            else "failed: a task, callback or thread of its own raised"
        )

    def _ending(self, why: str, problem: BaseException | None, elapsed_s: float) -> Ending:
        bus = self._program.bus
        if bus is None or self._started_s is None:
            return Ending(why, self._what, self._error, problem)
        metrics = bus.metrics
        published, refused = metrics.published, dict(metrics.refused)
        return Ending(
            why, self._what, self._error, problem, True, elapsed_s, published, refused, bus.ledger()
        )
