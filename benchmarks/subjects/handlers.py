"""The handlers of the measurements: as little work as each measurement needs, a distinct function each."""

import asyncio
from collections.abc import Callable
from time import perf_counter_ns, sleep
from typing import Any

from subjects.base import Handler


def trivial(kind: str) -> Handler:
    """A handler that does nothing, async or plain."""

    def plain(event: Any) -> None:
        pass

    async def coroutine(event: Any) -> None:
        pass

    return plain if kind == "plain" else coroutine


def counting(kind: str, counts: list[int], index: int) -> Handler:
    """A handler that adds one to `counts[index]`."""

    def plain(event: Any) -> None:
        counts[index] += 1

    async def coroutine(event: Any) -> None:
        counts[index] += 1

    return plain if kind == "plain" else coroutine


def stamping(kind: str, record: Callable[[int], None]) -> Handler:
    """A handler that records the time of its call, in ns."""

    def plain(event: Any) -> None:
        record(perf_counter_ns())

    async def coroutine(event: Any) -> None:
        record(perf_counter_ns())

    return plain if kind == "plain" else coroutine


def suspending() -> Handler:
    """A handler that gives the loop back once per event."""

    async def coroutine(event: Any) -> None:
        await asyncio.sleep(0)

    return coroutine


def sleeping(kind: str, seconds: float) -> Handler:
    """A handler that waits `seconds` for each event: on the loop if it can, else in its thread."""

    def plain(event: Any) -> None:
        sleep(seconds)

    async def coroutine(event: Any) -> None:
        await asyncio.sleep(seconds)

    return plain if kind == "plain" else coroutine


def busy(nanoseconds: int) -> Handler:
    """A coroutine handler that computes for a while and never gives the loop back."""

    async def coroutine(event: Any) -> None:
        end = perf_counter_ns() + nanoseconds
        while perf_counter_ns() < end:
            pass

    return coroutine
