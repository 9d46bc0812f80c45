"""Something that runs on a loop in a thread of its own, as a command meets it in another process."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from openoutcry import EventBus

LIMIT_S = 300


@contextmanager
def in_a_thread(serve: Callable[[Callable[[], None]], Any]) -> Iterator[None]:
    """Run a coroutine in a thread's own loop; it calls what it is given when it is ready."""
    ready = threading.Event()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(serve(ready.set))
        except BaseException as error:  # noqa: BLE001 - it is raised where the test is
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        assert ready.wait(LIMIT_S)
        if not failed:
            yield
    finally:
        thread.join(LIMIT_S)
    if failed:
        raise failed[0]


@contextmanager
def running_bus(
    make: Callable[[], EventBus],
    prepare: Callable[[EventBus], Awaitable[Any]],
    *,
    stop_s: float | None = None,
) -> Iterator[EventBus]:
    """Run the bus that `make` makes, and have `prepare` done with it; at the end it may have `stop_s` seconds."""
    end = threading.Event()
    made: list[EventBus] = []

    async def serve(ready: Callable[[], None]) -> None:
        bus = make()
        made.append(bus)
        async with bus:
            await prepare(bus)
            ready()
            await asyncio.to_thread(end.wait, LIMIT_S)
            if stop_s is not None:
                await bus.stop(timeout_s=stop_s)

    with in_a_thread(serve):
        try:
            yield made[0]
        finally:
            end.set()
