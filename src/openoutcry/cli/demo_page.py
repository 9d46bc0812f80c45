"""`openoutcry demo --page`: the firm trades at a speed that a person can follow, and the page shows it."""

import asyncio
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from openoutcry.cli.console import say
from openoutcry.cli.mistakes import Mistake
from openoutcry.cli.page import PORT, has_screen, imported, opening
from openoutcry.errors import ConfigError
from openoutcry.firm.demo import DemoOptions, QuietLog, build_house
from openoutcry.firm.house import House
from openoutcry.firm.progress import Progress, progress_for

DAYS_PER_S: Final = 2.0
REST_S: Final = 15.0
"""For so long the bus is open after the last day, for whoever looks at how it ended."""
DRAIN_S: Final = 0.5
ENDING_S: Final = 5.0
"""For so long the page may take to end before it is killed."""
_SIGNALS: Final = ("SIGINT", "SIGTERM", "SIGHUP")
_ADDRESS: Final = b"act: "


def run_demo_page(options: DemoOptions) -> int:
    """Run the firm with the page beside it, over and over, until SIGINT, SIGTERM or SIGHUP. Returns 0.

    The journal is in a scratch folder, which is removed. Raises `Mistake` for an option that is out of range,
    and where the page cannot be shown.
    """
    imported()  # what the page needs may not be installed
    options = replace(options, speed=options.speed or DAYS_PER_S)
    try:
        build_house(options)
    except ConfigError as error:
        raise Mistake(str(error)) from error
    with tempfile.TemporaryDirectory(prefix="openoutcry-demo-") as folder, QuietLog():
        days_count = asyncio.run(_Demonstration(options, Path(folder)).run())
    say(f"Closed after {days_count:,} trading days; the journal is removed.")
    return 0


class _Demonstration:
    """A firm that begins anew when its history is over, and the page beside it."""

    def __init__(self, options: DemoOptions, folder: Path) -> None:
        self._options = options
        self._folder = folder
        self._journal = folder / "firm.db"
        self._house: House | None = None
        self._begun = asyncio.Event()
        self._days_count = 0

    async def run(self) -> int:
        """Run until a signal comes, or something fails, which is raised. Return how many days were traded."""
        stop = asyncio.Event()
        with _set_by_signals(stop):
            steps = {
                asyncio.create_task(step, name="openoutcry:demo")
                for step in (self._trade(), self._show(), stop.wait())
            }
            try:
                done, _ = await asyncio.wait(steps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if self._house is not None:
                    await self._house.bus.stop(DRAIN_S)  # or the draining waits for whoever hangs
                for step in steps:
                    step.cancel()
                await asyncio.wait(steps)
        for step in done:
            step.result()
        return self._days_count

    async def _trade(self) -> None:
        while True:
            for file in self._folder.glob(f"{self._journal.name}*"):
                file.unlink()
            self._house = house = build_house(self._options, self._journal)
            days_count = house.plan.days if house.plan else len(house.history.sessions)
            with progress_for(days_count, plain=self._options.plain) as progress:
                await house.run(
                    lambda house, progress=progress: self._day(house, progress),  # type: ignore[misc]
                    days_per_s=self._options.speed,
                    rest_s=REST_S,
                )

    def _day(self, house: House, progress: Progress) -> None:
        self._days_count += 1
        self._begun.set()
        progress.day(house)

    async def _show(self) -> None:
        await self._begun.wait()
        async with _page(self._journal, self._folder / "page.log") as process:
            assert process.stdout is not None
            async for line in process.stdout:
                if line.startswith(_ADDRESS):
                    with opening(address := line.removeprefix(_ADDRESS).decode().strip()) as open_it:
                        say(f"The firm in the browser, with its switch: {address}")
                        say("Ctrl-C ends both. After the last day the firm begins anew.")
                        if sys.stdout.isatty() and has_screen():
                            await asyncio.to_thread(open_it)
                        await process.wait()
        said = (self._folder / "page.log").read_text(encoding="utf-8", errors="replace").strip()
        raise Mistake(f"the page has ended by itself (exit code {process.returncode}): {said}")


@asynccontextmanager
async def _page(journal: Path, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `openoutcry page` on a journal. It ends with the block."""
    arguments = ("page", str(journal), "--act", "--no-open", "--port", str(_port()))
    with log.open("wb") as notes:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "openoutcry", *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=notes,
            start_new_session=True,  # Ctrl-C is for the firm, which then ends the page
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(ENDING_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _port() -> int:
    """Return the usual port, or 0 for any other where that one is taken."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", PORT))
        except OSError:
            return 0
    return PORT


@contextmanager
def _set_by_signals(event: asyncio.Event) -> Iterator[None]:
    """Let the signals that end a program set an event instead."""
    loop = asyncio.get_running_loop()
    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    taken = []
    for number in numbers:
        with suppress(NotImplementedError):  # a loop of Windows: KeyboardInterrupt then
            loop.add_signal_handler(number, event.set)
            taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)
