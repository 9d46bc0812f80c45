"""The client of the control socket: asks a running bus, from another process or thread."""

import asyncio
import socket
from contextlib import closing, suppress
from pathlib import Path
from struct import Struct
from typing import Any, Final

import msgspec

from openoutcry.runtime.control.server import address_of, socket_path

ANSWER_BYTES_MAX: Final = 256 * 1024 * 1024
_CHUNK_BYTES: Final = 256 * 1024
_TIME: Final = Struct("ll")
"""Seconds and microseconds, as the operating system takes them."""
_AGAIN_S: Final = 0.1
_NONE_LISTENS: Final = (FileNotFoundError, ConnectionRefusedError, NotADirectoryError)


class Answer(msgspec.Struct, frozen=True):
    """What the bus has answered.

    Attributes:
        ok: Whether it was done.
        result: The verb's result.
        error: Why it was not done, as `<class>: <message>`.

    """

    ok: bool
    result: Any = None
    error: str = ""


def find_socket(path: str | Path) -> Path:
    """Return the control socket of a journal, or `path` itself if that is a socket."""
    real = Path(path)
    return real if real.is_socket() else socket_path(real)


def ask(journal: str | Path, verb: str, *, timeout_s: float = 65.0, **arguments: Any) -> Answer | None:
    """Ask the bus that writes to `journal`, and return its answer; None if no bus listens.

    For a bus without a journal, it is the path of its control socket.
    If the bus goes away before it has answered, or does not answer within `timeout_s` seconds, the answer is
    not ok. Raises `PermissionError` if the socket belongs to another user.
    """
    path = find_socket(journal)
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as line:
        seconds = int(timeout_s)
        for_so_long = _TIME.pack(seconds, int((timeout_s - seconds) * 1_000_000))
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, for_so_long)
        try:
            with address_of(path) as address:
                line.connect(address)
        except _NONE_LISTENS:
            return None
        except (TimeoutError, BlockingIOError):  # a stopped bus takes no connections, and many wait already
            return _unanswered(path, timeout_s)
        line.settimeout(timeout_s)
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # it may have answered before it hung up
                line.sendall(_request(verb, arguments))
            said = _receive(line)
        except TimeoutError:
            return _unanswered(path, timeout_s)
        except OSError:
            said = b""
    return _read(path, said)


async def ask_async(
    journal: str | Path, verb: str, *, timeout_s: float = 65.0, **arguments: Any
) -> Answer | None:
    """Ask as `ask` does, on an event loop, and in no thread: any number may wait, and can be cancelled.

    Cancelled after it was sent, it may be done all the same.
    """
    path = find_socket(journal)
    loop = asyncio.get_running_loop()
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as line:
        line.setblocking(False)
        try:
            async with asyncio.timeout(timeout_s):
                await _connect(line, path)
                with suppress(BrokenPipeError, ConnectionResetError):
                    await loop.sock_sendall(line, _request(verb, arguments))
                said = await _receive_async(line)
        except _NONE_LISTENS:
            return None
        except TimeoutError:
            return _unanswered(path, timeout_s)
        except PermissionError:
            raise
        except OSError:
            said = b""
    return _read(path, said)


async def _connect(line: socket.socket, path: Path) -> None:
    """Connect to a local socket, which it does at once unless too many wait there already."""
    while True:
        with suppress(BlockingIOError), address_of(path) as address:
            line.connect(address)
            return
        await asyncio.sleep(_AGAIN_S)


def _request(verb: str, arguments: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"verb": verb, **arguments}) + b"\n"


def _read(path: Path, said: bytes) -> Answer:
    if not said.endswith(b"\n"):
        return Answer(
            ok=False,
            error=f"ConnectionError: the bus at {path} went away before it had answered; "
            f"see whether it was done before you ask again",
        )
    try:
        return msgspec.json.decode(said, type=Answer)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as problem:
        return Answer(
            ok=False,
            error=f"ConnectionError: what listens at {path} does not answer as a bus does: {problem}",
        )


def _receive(line: socket.socket) -> bytes:
    """Read to the end of the line, or until the bus hangs up."""
    parts: list[bytes] = []
    size = 0
    while part := line.recv(_CHUNK_BYTES):
        parts.append(part)
        size += len(part)
        if part.endswith(b"\n") or size > ANSWER_BYTES_MAX:
            break
    return b"".join(parts)


async def _receive_async(line: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    parts: list[bytes] = []
    size = 0
    while part := await loop.sock_recv(line, _CHUNK_BYTES):
        parts.append(part)
        size += len(part)
        if part.endswith(b"\n") or size > ANSWER_BYTES_MAX:
            break
    return b"".join(parts)


def _unanswered(path: Path, timeout_s: float) -> Answer:
    return Answer(
        ok=False,
        error=f"TimeoutError: the bus at {path} did not answer within {timeout_s:g} s: a handler may block "
        f"its loop; it may still do what was asked",
    )
