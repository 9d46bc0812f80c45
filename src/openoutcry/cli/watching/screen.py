"""A terminal's whole screen, drawn in place, and left as it was found."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l"
"""The alternate screen, without a cursor; what is too long is cut, not wrapped."""
_LEAVE: Final = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_BEGIN: Final = "\x1b[?2026h\x1b[H"
_END: Final = "\x1b[J\x1b[?2026l"
"""Between these a terminal that knows them shows nothing half drawn."""


class Screen:
    """A terminal in which lines are drawn over each other. It belongs to the loop on which it is entered.

    Args:
        redraw: Called when the size has changed, or the process goes on after it was stopped.
        end: Called with None when `q` is typed, or with the signal that asks to end.

    """

    def __init__(self, redraw: Callable[[], None], end: Callable[[signal.Signals | None], None]) -> None:
        self._redraw = redraw
        self._end = end
        self._input: Any = None

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Take the screen, and give it back whatever happens."""
        loop = asyncio.get_running_loop()
        signals: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGWINCH: self._redraw,
            signal.SIGTSTP: self._suspend,
            signal.SIGTERM: lambda: self._end(signal.SIGTERM),
            signal.SIGHUP: lambda: self._end(signal.SIGHUP),
        }
        for number, act in signals.items():
            loop.add_signal_handler(number, act)
        self._take()
        if sys.stdin.isatty():
            loop.add_reader(sys.stdin.fileno(), self._typed)
        try:
            yield
        finally:
            if sys.stdin.isatty():
                loop.remove_reader(sys.stdin.fileno())
            self._give_back()
            for number in signals:
                loop.remove_signal_handler(number)

    def draw(self, lines: Sequence[str]) -> None:
        """Draw lines from the top; whatever else was there is wiped out."""
        _write(_BEGIN + "\r\n".join(f"{line}\x1b[K" for line in lines) + _END)

    def _take(self) -> None:
        if sys.stdin.isatty():
            import termios

            number = sys.stdin.fileno()
            self._input = termios.tcgetattr(number)
            quiet = termios.tcgetattr(number)
            quiet[3] &= ~(termios.ECHO | termios.ICANON)
            termios.tcsetattr(number, termios.TCSADRAIN, quiet)
        _write(_ENTER)

    def _give_back(self) -> None:
        with suppress(OSError, ValueError):  # the terminal is gone
            _write(_LEAVE)
        if self._input is not None:
            import termios

            with suppress(OSError, termios.error):
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._input)
            self._input = None

    def _suspend(self) -> None:
        """Stop, as Ctrl-Z asks, with the screen given back; this goes on when the process does."""
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()
        self._redraw()

    def _typed(self) -> None:
        try:
            typed = os.read(sys.stdin.fileno(), 64)
        except OSError:
            typed = b""
        if not typed or b"q" in typed.lower():
            self._end(None)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
