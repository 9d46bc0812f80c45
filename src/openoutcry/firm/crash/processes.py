"""The processes of a run: the broker, which stays, and the firm, which comes and goes."""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from openoutcry.errors import OpenOutcryError
from openoutcry.firm.crash.words import Life, Word

_decode = msgspec.json.Decoder(Word).decode
NOTES = "firm.log"
BROKER: tuple[str, ...] = ("-m", "openoutcry.firm.brokerage")
FIRM: tuple[str, ...] = ("-m", "openoutcry.firm.crash")


class Failed(OpenOutcryError):
    """A process of the demonstration did not end as it should."""


@asynccontextmanager
async def broker(file: Path) -> AsyncIterator[Path]:
    """Run a broker with its books in `file`, and yield its socket. It ends with the block."""
    with tempfile.TemporaryDirectory(prefix="openoutcry-") as folder:  # a socket's path must be short
        socket = Path(folder) / "broker"
        process = await _start(*BROKER, str(file), str(socket), notes=file.parent / NOTES)
        try:
            assert process.stdout is not None
            if await process.stdout.readline() != b"open\n":
                raise Failed(f"the broker did not open: see {file.parent / NOTES}")
            yield socket
        finally:
            await _put_away(process)


class FirmProcess:
    """One life of the firm, seen from outside."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def next_word(self) -> Word | None:
        """Wait for the firm's next line; None if it has ended."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        return _decode(line) if line.endswith(b"\n") else None

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGKILL)

    async def ended(self) -> bool:
        """Wait for its end. Return True if it was killed. Raises `Failed` if it failed."""
        code = await self._process.wait()
        if code in (0, -signal.SIGKILL):
            return code != 0
        raise Failed(f"the firm ended with {code}")


@asynccontextmanager
async def firm(life: Life) -> AsyncIterator[FirmProcess]:
    """Run one life of the firm; it ends with the block at the latest."""
    notes = Path(life.journal).parent / NOTES
    process = await _start(*FIRM, msgspec.json.encode(life).decode(), notes=notes)
    try:
        yield FirmProcess(process)
    except Failed as error:
        raise Failed(f"{error}: see {notes}") from error
    finally:
        await _put_away(process)


async def _start(*arguments: str, notes: Path) -> asyncio.subprocess.Process:
    """Start a program out of reach of the terminal's Ctrl-C, which is for the supervisor."""
    with notes.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )


async def _put_away(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
    await process.wait()
