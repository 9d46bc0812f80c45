"""Calls of a bus from where it does not belong: another thread, another loop. They must raise.

A thread is real, and has ended when the simulated loop goes on, so that the seed still decides everything.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final

from openoutcry.runtime.api.admin import Admin
from openoutcry.runtime.api.bus import EventBus

PATIENCE_S: Final = 5.0
"""Real seconds that a call may take before it counts as one that hangs."""
Call = Callable[[EventBus, Any], Any]

CALLS: Final[dict[str, Call]] = {
    "publish": EventBus.publish,
    "publish_nowait": EventBus.publish_nowait,
    "publish_many": lambda bus, event: EventBus.publish_many(bus, [event]),
    "publish_receipt": EventBus.publish_receipt,
    "flush": lambda bus, _event: EventBus.flush(bus),
    "join": lambda bus, _event: EventBus.join(bus),
    "open_round": lambda bus, _event: EventBus.open_round(bus),
    "subscribe": lambda bus, _event: EventBus.subscribe(bus, "stranger", print, name="stranger"),
    "start": lambda bus, _event: EventBus.start(bus),
    "redrive": lambda bus, _event: Admin.redrive(bus.admin),
}
"""The verbs that a stranger may try."""


def in_thread(job: Callable[[], Any]) -> Any:
    """Run a job in a thread of its own, wait for its end, and return its result or the error it raised."""
    found: list[Any] = []

    def work() -> None:
        try:
            found.append(job())
        except Exception as error:  # noqa: BLE001 - it is the answer
            found.append(error)

    thread = threading.Thread(target=work, name="stranger")
    thread.start()
    thread.join()
    return found[0]


def on_another_loop(call: Call, bus: EventBus, event: Any) -> Any:
    """Call a bus on a loop of another thread, and return the result or the error."""

    async def awaited() -> Any:
        result = call(bus, event)
        if isinstance(result, Awaitable):
            async with asyncio.timeout(PATIENCE_S):
                return await result
        return result

    return in_thread(lambda: asyncio.run(awaited()))
