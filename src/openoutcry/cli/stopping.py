"""Signals: the first Ctrl-C or SIGTERM asks the firm to stop, the second one ends the process at once."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from openoutcry.cli.mistakes import BY_SIGNAL


class StopRequest:
    """What signals have asked for so far."""

    def __init__(self, loop: asyncio.AbstractEventLoop, drain_timeout_s: float) -> None:
        self._loop = loop
        self._drain_timeout_s = drain_timeout_s
        self.asked = asyncio.Event()
        self.signal: signal.Signals | None = None

    def receive(self, number: int, _frame: FrameType | None) -> None:
        """Take a signal. It may interrupt any code, even a write, so no buffered stream is used here."""
        if self.signal is not None:
            os.write(2, b"\nforced: the firm was not drained; what was waiting has not been handled\n")
            os._exit(BY_SIGNAL + number)
        self.signal = signal.Signals(number)
        note = f"\nstopping: draining for up to {self._drain_timeout_s:g} s; again to end at once\n"
        os.write(2, note.encode())
        self._loop.call_soon_threadsafe(self.asked.set)


@contextmanager
def stop_signals(drain_timeout_s: float) -> Iterator[StopRequest]:
    """Route SIGINT and SIGTERM to a `StopRequest` of the running loop; restore the old handlers at the end.

    Plain `signal` handlers instead of the loop's: a second Ctrl-C must get through while a handler that never
    yields blocks the loop.
    """
    request = StopRequest(asyncio.get_running_loop(), drain_timeout_s)
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, request.receive) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
