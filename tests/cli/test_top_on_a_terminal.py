"""`openoutcry top` on a real terminal: it draws in place, within the screen, and leaves it as it was."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

LIMIT_S = 300
FIRM = """
import asyncio, sys
from openoutcry import EventBus, MarketDataEvent

async def main():
    async with EventBus(control=sys.argv[1]) as bus:
        for number in range(40):
            bus.subscribe("market_data", lambda _: None, name=f"agent_{number:02}_of_the_firm")
        bus.subscribe("kill_switch", lambda _: None, name="risk")
        print("ready", flush=True)
        while True:
            await bus.publish(MarketDataEvent(symbol="ES", price=1.0))
            await asyncio.sleep(0.05)

asyncio.run(main())
"""
FRAME = "\x1b[?2026h\x1b[H"


@pytest.fixture
def firm(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "firm.sock"
    with subprocess.Popen([sys.executable, "-c", FIRM, str(path)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield path
        finally:
            process.kill()


class Terminal:
    """A terminal of which all that is written to it is kept."""

    def __init__(self, master: int, slave: int) -> None:
        self.slave = slave
        self._master = master
        self._said = ""
        self._is_open = True
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while self._is_open or select.select([self._master], [], [], 0)[0]:
            if select.select([self._master], [], [], 0.05)[0]:
                self._said += os.read(self._master, 65_536).decode()

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    @property
    def said(self) -> str:
        return self._said

    def frames(self) -> list[list[str]]:
        """The screens that were drawn completely, each as its lines without colours."""
        whole = [part.partition("\x1b[J")[0] for part in self._said.split(FRAME)[1:] if "\x1b[J" in part]
        return [
            [re.sub(r"\x1b\[[0-9;]*[mK]", "", line) for line in one.replace("\r", "").split("\n")]
            for one in whole
        ]

    def wait_for(self, frames: int) -> None:
        self.wait_until(lambda: len(self.frames()) >= frames)

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        end_s = time.monotonic() + LIMIT_S
        while not is_so():
            assert time.monotonic() < end_s, self._said[-2_000:]
            time.sleep(0.02)

    def close(self) -> None:
        self._is_open = False
        self._thread.join(LIMIT_S)
        os.close(self._master)
        os.close(self.slave)


@contextmanager
def top(
    path: Path, *more: str, size: tuple[int, int] = (80, 24)
) -> Iterator[tuple[Terminal, "subprocess.Popen[bytes]"]]:
    terminal = Terminal(*pty.openpty())
    terminal.resize(*size)
    environment = {
        name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")
    }
    command = [sys.executable, "-m", "openoutcry", "top", str(path), "--every", "0.1", *more]
    process = subprocess.Popen(
        command, stdin=terminal.slave, stdout=terminal.slave, stderr=terminal.slave,
        start_new_session=True, env={**environment, "TERM": "xterm-256color"},
    )  # fmt: skip
    try:
        yield terminal, process
    finally:
        process.kill()
        process.wait()
        terminal.close()


def assert_left_as_found(terminal: Terminal, before: object) -> None:
    terminal.wait_until(lambda: terminal.said.count("\x1b[?1049h") == terminal.said.count("\x1b[?1049l") > 0)
    after = terminal.said.rpartition("\x1b[J")[2]
    assert all(code in after for code in ("\x1b[?7h", "\x1b[?25h", "\x1b[?1049l"))
    assert termios.tcgetattr(terminal.slave) == before


def test_q_ends_it_and_every_screen_has_fitted(firm: Path) -> None:
    with top(firm) as (terminal, process):
        before = termios.tcgetattr(terminal.slave)
        terminal.wait_for(3)
        assert termios.tcgetattr(terminal.slave) != before
        terminal.type("q")
        assert process.wait(LIMIT_S) == 0
        frames = terminal.frames()
        assert all(len(frame) <= 24 and max(map(len, frame)) <= 80 for frame in frames)
        assert "healthy: nothing is wrong" in frames[-1][1]
        assert "more subscriptions" in frames[-1][-1] or "others idle" in frames[-1][-1]
        assert_left_as_found(terminal, before)


def test_a_new_size_is_drawn_at_once(firm: Path) -> None:
    with top(firm, "--every", "3600") as (terminal, process):
        terminal.wait_for(1)
        terminal.resize(50, 10)
        process.send_signal(signal.SIGWINCH)
        terminal.wait_for(2)
        assert len(terminal.frames()[-1]) <= 10
        assert max(map(len, terminal.frames()[-1])) <= 50
        terminal.resize(120, 60)
        process.send_signal(signal.SIGWINCH)
        terminal.wait_for(3)
        assert sum("agent_" in line for line in terminal.frames()[-1]) == 40
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 130


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_with_the_terminal_as_it_was(firm: Path, number: signal.Signals) -> None:
    with top(firm) as (terminal, process):
        before = termios.tcgetattr(terminal.slave)
        terminal.wait_for(1)
        process.send_signal(number)
        assert process.wait(LIMIT_S) == 128 + number
        assert_left_as_found(terminal, before)


def test_stopped_with_ctrl_z_it_gives_the_screen_back_and_takes_it_again(firm: Path) -> None:
    with top(firm) as (terminal, process):
        before = termios.tcgetattr(terminal.slave)
        terminal.wait_for(1)
        process.send_signal(signal.SIGTSTP)
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        assert_left_as_found(terminal, before)
        frames = len(terminal.frames())
        process.send_signal(signal.SIGCONT)
        terminal.wait_for(frames + 2)
        terminal.type("q")
        assert process.wait(LIMIT_S) == 0
        assert_left_as_found(terminal, before)


def test_after_some_looks_the_last_one_stays_on_the_terminal(firm: Path) -> None:
    with top(firm, "--count", "2") as (terminal, process):
        assert process.wait(LIMIT_S) == 0
        terminal.wait_until(lambda: "healthy: nothing is wrong" in terminal.said.rpartition("\x1b[?1049l")[2])
