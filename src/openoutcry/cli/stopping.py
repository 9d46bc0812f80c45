"""Signals: the first Ctrl-C or SIGTERM asks the firm to stop, the second one ends the process at once."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from openoutcry.cli.mistakes import BY_SIGNAL


class StopRequest:
    """What the signals have asked for so far."""

    def __init__(self, loop: asyncio.AbstractEventLoop, drain_timeout_s: float) -> None:
        self._loop = loop
        self._drain_timeout_s = drain_timeout_s
        self.asked = asyncio.Event()
        self.signal: signal.Signals | None = None

    def receive(self, number: int, _frame: FrameType | None) -> None:
        """Take a signal. It may interrupt any code, a write included: hence no buffered stream here."""
        if self.signal is not None:
            os.write(2, b"\nforced: the firm was not drained; what was waiting has not been handled\n")
            os._exit(BY_SIGNAL + number)
        self.signal = signal.Signals(number)
        note = f"\nstopping: draining for up to {self._drain_timeout_s:g} s; once more to end at once\n"
        os.write(2, note.encode())
        self._loop.call_soon_threadsafe(self.asked.set)


@contextmanager
def stop_signals(drain_timeout_s: float) -> Iterator[StopRequest]:
    """Route SIGINT and SIGTERM to a `StopRequest` of the running loop, and put the old handlers back after.

    Plain `signal` handlers rather than the loop's: a second Ctrl-C must get through while a handler that
    never yields keeps the loop busy.
    """
    request = StopRequest(asyncio.get_running_loop(), drain_timeout_s)
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, request.receive) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
