"""The processes of a run: the broker, which stays, and the firm, which comes and goes."""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from openoutcry.errors import OpenOutcryError
from openoutcry.firm.crash.words import Life, Word

W = TypeVar("W", bound=Word)
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


class FirmProcess(Generic[W]):
    """One life of the firm, or of a desk of it, seen from outside."""

    def __init__(self, process: asyncio.subprocess.Process, kind: type[W]) -> None:
        self._process = process
        self._decoder = msgspec.json.Decoder(kind)

    async def next_word(self) -> W | None:
        """Wait for its next line; None if it has ended."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        return self._decoder.decode(line) if line.endswith(b"\n") else None

    def tell(self, request: msgspec.Struct) -> None:
        """Write a line to its standard input. What a dead process is told is lost."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(request) + b"\n")

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
async def firm(life: Life) -> AsyncIterator[FirmProcess[Word]]:
    """Run one life of the firm; it ends with the block at the latest."""
    async with one_life(FIRM, life, Word) as process:
        yield process


@asynccontextmanager
async def one_life(program: Sequence[str], life: Life, kind: type[W]) -> AsyncIterator[FirmProcess[W]]:
    """Run a program for one life, whose lines are of a kind; it ends with the block at the latest."""
    notes = Path(life.journal).parent / NOTES
    process = await _start(*program, msgspec.json.encode(life).decode(), notes=notes)
    try:
        yield FirmProcess(process, kind)
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
