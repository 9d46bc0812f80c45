"""Runs an assembled firm until it ends, is stopped or fails, and reports how it ended."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from openoutcry.cli.assembling import assemble
from openoutcry.cli.console import say
from openoutcry.cli.stopping import StopRequest, stop_signals
from openoutcry.config import BusConfig
from openoutcry.core.ledger import Ledger
from openoutcry.runtime.api.bus import EventBus

_LOOK_S = 0.25  # how often to check whether the app has stopped its own bus


@dataclass(frozen=True, slots=True)
class Ending:
    """How a firm's run ended.

    Attributes:
        why: The reason, in words.
        elapsed_s: Seconds from the start of the bus to the end of its drain.
        published_count: Events that were admitted.
        refused: Events that were refused, by reason.
        ledger: What became of every accepted event.
        error: What the app's own program raised, if it did.

    """

    why: str
    elapsed_s: float
    published_count: int
    refused: dict[str, int]
    ledger: Ledger
    error: BaseException | None = None

    @property
    def left_count(self) -> int:
        """Deliveries that were still waiting or in flight when the drain's deadline passed."""
        return self.ledger.total("waiting") + self.ledger.total("in_flight")


async def host(app: object, target: str, config: BusConfig | None, drain_timeout_s: float) -> Ending:
    """Assemble the app, run it to its end, and drain its bus for at most `drain_timeout_s` seconds."""
    bus, program = await assemble(app, target, config)
    with stop_signals(drain_timeout_s) as request:
        started_s = time.monotonic()
        await bus.start()
        main = asyncio.ensure_future(program) if program is not None else None
        count = len(bus.subscriptions)
        agents = f"{count} subscription{'' if count == 1 else 's'}" if count else "no agent subscribed yet"
        say(f"{target} is running, {agents}; Ctrl-C stops it", err=True)
        await _until_it_ends(bus, main, request)
        why = _reason(request, main)
        await _end(bus, main, drain_timeout_s)
        elapsed_s = time.monotonic() - started_s
    error = main.exception() if main is not None and main.done() and not main.cancelled() else None
    metrics = bus.metrics
    return Ending(why, elapsed_s, metrics.published, dict(metrics.refused), bus.ledger(), error)


async def _until_it_ends(bus: EventBus, main: "asyncio.Future[object] | None", request: StopRequest) -> None:
    asked = asyncio.ensure_future(request.asked.wait())
    watched: set[asyncio.Future[Any]] = {asked} if main is None else {asked, main}
    try:
        while bus.is_running:
            done, _ = await asyncio.wait(watched, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            if done:
                return
    finally:
        asked.cancel()


def _reason(request: StopRequest, main: "asyncio.Future[object] | None") -> str:
    if request.signal is not None:
        return f"stopped by {request.signal.name}"
    if main is None or not main.done():
        return "the app stopped its bus"
    return "the app failed" if main.cancelled() or main.exception() else "the app ended"


async def _end(bus: EventBus, main: "asyncio.Future[object] | None", drain_timeout_s: float) -> None:
    """Cancel the app's program first, since it feeds the bus; then drain in the time that is left."""
    deadline_s = time.monotonic() + drain_timeout_s
    if main is not None and not main.done():
        main.cancel()
        await asyncio.wait({main}, timeout=drain_timeout_s)
    await bus.stop(timeout_s=max(0.0, deadline_s - time.monotonic()))
