"""What agents may not do in a replay, and the time that they read. It is for a process of its own.

An audit hook cannot be taken away again; nor is it a sandbox. It keeps agents from sending an order twice by
mistake, not hostile code from anything.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from openoutcry.clocks import VirtualClock
from openoutcry.errors import EffectDenied
from openoutcry.observers.current import handler
from openoutcry.replay.stepped import stepped_thread
from openoutcry.units import NS_PER_S

_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_DENIED: Final = {
    **dict.fromkeys(
        ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo"),
        "open a connection",
    ),
    **dict.fromkeys(("socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"), "ask for a name"),
    **dict.fromkeys(
        ("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn"),
        "start a process",
    ),
    **dict.fromkeys(("os.kill", "os.killpg"), "send a signal"),
    **dict.fromkeys(
        (
            "os.remove",
            "os.rename",
            "os.rmdir",
            "os.mkdir",
            "os.truncate",
            "os.link",
            "os.symlink",
            "os.chmod",
        ),
        "change a file",
    ),
    "sqlite3.connect": "open a database",
}


IN_REPLAY: Final = (
    "which a replay does not: have the bus record what comes from outside, `await bus.recorded(...)`"
)
IN_BACKTEST: Final = "which a backtest does not: have something stand in for it, such as a venue (--broker)"


class Denial:
    """Denies effects while a replay runs.

    Attributes:
        is_on: Whether it does.

    """

    def __init__(self, remedy: str = IN_REPLAY) -> None:
        """Hear everything from now on. `remedy` ends the message of the error."""
        self.is_on: bool = False
        self._remedy = remedy
        sys.addaudithook(self._hear)

    def _hear(self, what: str, arguments: tuple[Any, ...]) -> None:
        """Raise `EffectDenied` for what is not allowed."""
        if not self.is_on:
            return
        effect = _DENIED.get(what)
        if what == "open":
            effect = "write a file" if _is_written(arguments) else None
        elif what == "sqlite3.connect" and arguments and arguments[0] == ":memory:":
            effect = None
        if effect is None:
            return
        who = handler.get()
        name = getattr(who, "subscription", None) or "the app"
        raise EffectDenied(f"{name} was about to {effect} ({what} {_shown(arguments)}), {self._remedy}")


def _is_written(arguments: tuple[Any, ...]) -> bool:
    """Return True if a call of `open` is to write; devices that keep nothing do not count."""
    path, mode, flags = (*arguments, None, None, None)[:3]
    if path == os.devnull:
        return False
    if isinstance(mode, str) and any(sign in mode for sign in "wax+"):
        return True
    return isinstance(flags, int) and bool(flags & _WRITES)


def _shown(arguments: tuple[Any, ...]) -> str:
    text = repr(arguments[0] if len(arguments) == 1 else arguments)
    return text if len(text) <= 120 else f"{text[:120]}..."


@contextmanager
def virtual_time(clock: VirtualClock) -> Iterator[None]:
    """Have the functions of the `time` module read a clock, for whoever calls them as `time.time()`.

    `time.sleep` moves it; in the thread of a handler it waits for it. What was
    imported by name before reads the machine's, and so does `datetime.now`.
    """

    def sleep(seconds: float) -> None:
        thread = stepped_thread()
        if thread is not None and seconds > 0:
            thread.sleep(seconds)
        else:
            clock.advance(max(0, round(seconds * NS_PER_S)))

    there: dict[str, Callable[..., Any]] = {
        "time": lambda: clock.wall_ns() / NS_PER_S,
        "time_ns": clock.wall_ns,
        "monotonic": lambda: clock.now_ns() / NS_PER_S,
        "monotonic_ns": clock.now_ns,
        "perf_counter": lambda: clock.now_ns() / NS_PER_S,
        "perf_counter_ns": clock.now_ns,
        "sleep": sleep,
    }
    before = {name: getattr(time, name) for name in there}
    for name, function in there.items():
        setattr(time, name, function)
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(time, name, function)
