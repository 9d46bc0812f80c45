"""`openoutcry metrics`: a small process beside the firm's that Prometheus collects from."""

import asyncio
import hmac
import ipaddress
import logging
import signal
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Final, NamedTuple

import click

from openoutcry.cli.console import print_lines
from openoutcry.cli.logging_setup import logged, logging_to_stderr, tell
from openoutcry.cli.mistakes import Mistake
from openoutcry.observers.prometheus import Exposition
from openoutcry.runtime.control.watcher import Watcher

log = logging.getLogger("openoutcry")

NO_BUS: Final = 3
PORT: Final = 9464
HEAD_MOST: Final = 8_192
HEAD_S: Final = 5.0
SEND_S: Final = 10.0
LEFT_MOST: Final = 1 << 20
LEFT_S: Final = 1.0
"""So much of what is not read of a request is taken, and for so long, before the client is disconnected."""
CLIENTS_MOST: Final = 32
"""More are told to try again, and twice as many are disconnected."""
FIRST_S: Final = 5.0
"""For so long `--once` waits for the bus to answer."""
_EVERY_S: Final = 0.5
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@click.command()
@click.argument("path", metavar="JOURNAL|SOCKET", type=click.Path(path_type=Path, readable=False))
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where it listens.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=PORT,
    show_default=True,
    metavar="PORT",
    help="And at which port; 0 takes a free one.",
)
@click.option(
    "--token",
    "token_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Answer only who shows what this file holds, as a bearer token.",
)
@click.option("--once", is_flag=True, help="Print the metrics once and end; with 3 if no bus answers.")
@logged
def metrics(
    path: Path, host: str, port: int, token_file: Path | None, once: bool, log_level: str, log_json: bool
) -> None:
    """Serve the metrics of a running bus at /metrics, for Prometheus.

    It may be started before the bus, and goes on when that is restarted: openoutcry_up is 0 meanwhile.
    Another address than the machine's own needs --token. Ctrl-C or SIGTERM stops it.
    """
    with logging_to_stderr(log_level, as_json=log_json):
        if once:
            raise click.exceptions.Exit(asyncio.run(_print_once(path)))
        token = None if token_file is None else read_token(token_file, "--token")
        if token is None and not _is_local(host):
            raise Mistake(f"--host {host}: others could read the metrics there; give --token as well")
        asyncio.run(_serve(path, host, port, token))


def read_token(file: Path, option: str) -> bytes:
    """Return the token in a file that an option names. Raises `Mistake` where there is none."""
    try:
        token = file.read_bytes().strip()
    except OSError as problem:
        raise Mistake(f"{option} {file}: {problem.strerror or problem}") from problem
    if not token or not token.isascii() or b"\n" in token:
        raise Mistake(f"{option} {file}: write one line of ASCII characters into it")
    return token


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _print_once(path: Path) -> int:
    async with Watcher(path) as watcher:
        seen = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_S):
                while watcher.live != "up":
                    seen = await watcher.changed(seen)
        text, _ = await Exposition(watcher).text()
        print_lines(text.decode().splitlines())
        if watcher.live == "up":
            return 0
        tell(f"the bus does not answer: {watcher.why}")
        return NO_BUS


async def _serve(path: Path, host: str, port: int, token: bytes | None) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with Watcher(path, every_s=_EVERY_S) as watcher:
        service = Service(Exposition(watcher), host, token)
        try:
            server = await asyncio.start_server(service.answer, host, port, limit=HEAD_MOST)
        except OSError as problem:
            raise Mistake(f"--host {host} --port {port}: {problem.strerror or problem}") from problem
        own = server.sockets[0].getsockname()
        log.info("the metrics of %s are at http://%s:%d/metrics", path, host, own[1])
        telling = loop.create_task(_tell(watcher))
        await stopped.wait()
        telling.cancel()
        server.close()
        service.hang_up()
        await server.wait_closed()


async def _tell(watcher: Watcher) -> None:
    """Log when the bus begins or ceases to answer."""
    seen, before = 0, ""
    while True:
        if watcher.live != before:
            before = watcher.live
            if before == "up":
                log.info("the bus answers")
            else:
                log.warning("the bus does not answer: %s", watcher.why)
        seen = await watcher.changed(seen)


class _Answer(NamedTuple):
    """What is answered."""

    status: HTTPStatus
    body: bytes
    kind: str = "text/plain; charset=utf-8"
    more: str = ""


class _Request(NamedTuple):
    """What is asked: of the headers only what matters here."""

    method: str
    path: str
    headers: dict[str, str]


class Service:
    """Answers HTTP requests: GET and HEAD of /metrics, one a connection, within bounds of size and time."""

    def __init__(self, exposition: Exposition, host: str, token: bytes | None) -> None:
        self._exposition = exposition
        self._hosts = _LOCAL | {host.lower()}
        self._token = token
        self._clients: set[asyncio.StreamWriter] = set()

    def hang_up(self) -> None:
        """Disconnect all clients."""
        for writer in self._clients:
            writer.transport.abort()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client."""
        self._clients.add(writer)
        try:
            if len(self._clients) <= 2 * CLIENTS_MOST:
                request = await _read(reader)
                with_body = not isinstance(request, _Request) or request.method != "HEAD"
                found = await self._respond(request) if isinstance(request, _Request) else request
                await _send(reader, writer, _line_up(found, with_body=with_body))
        except (OSError, TimeoutError, asyncio.CancelledError):  # the last is the end: asyncio would log it
            writer.transport.abort()
        finally:
            self._clients.discard(writer)
            writer.close()

    async def _respond(self, request: _Request) -> _Answer:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        text, kind = await self._exposition.text(request.headers.get("accept", ""))
        return _Answer(HTTPStatus.OK, text, kind)

    def _refusal(self, request: _Request) -> _Answer | None:
        if len(self._clients) > CLIENTS_MOST:
            return _Answer(HTTPStatus.SERVICE_UNAVAILABLE, b"too many clients; try again\n")
        if self._token is None and not self._is_meant(request.headers.get("host")):
            return _Answer(HTTPStatus.MISDIRECTED_REQUEST, b"this address is not served here\n")
        if request.path != "/metrics":
            return _Answer(HTTPStatus.NOT_FOUND, b"the metrics are at /metrics\n")
        if request.method not in ("GET", "HEAD"):
            return _Answer(HTTPStatus.METHOD_NOT_ALLOWED, b"only GET\n", more="Allow: GET, HEAD\r\n")
        if self._token is not None and not self._is_shown(request.headers.get("authorization", "")):
            asks = "WWW-Authenticate: Bearer\r\n"
            return _Answer(
                HTTPStatus.UNAUTHORIZED, b"show the token of --token as a bearer token\n", more=asks
            )
        return None

    def _is_meant(self, host: str | None) -> bool:
        """Return True unless a browser was led here under another name."""
        if host is None:
            return True
        name = host.lower()
        name = name[1 : name.find("]")] if name.startswith("[") else name.partition(":")[0]
        return name in self._hosts

    def _is_shown(self, authorization: str) -> bool:
        scheme, _, shown = authorization.partition(" ")
        token = shown.strip().encode("utf-8", "replace")
        return hmac.compare_digest(token, self._token or b"") and scheme.lower() == "bearer"


async def _read(reader: asyncio.StreamReader) -> _Request | _Answer:
    """Read the head of a request; a body is not read."""
    try:
        async with asyncio.timeout(HEAD_S):
            head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        said = f"a request has at most {HEAD_MOST} bytes\n".encode()
        return _Answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, said)
    except asyncio.IncompleteReadError:
        return _Answer(HTTPStatus.BAD_REQUEST, b"not an HTTP request\n")
    except TimeoutError:
        return _Answer(HTTPStatus.REQUEST_TIMEOUT, b"the request did not come to its end\n")
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.0", "HTTP/1.1"):
        return _Answer(HTTPStatus.BAD_REQUEST, b"not an HTTP/1.1 request\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), value.strip())
    return _Request(words[0], words[1].partition("?")[0], headers)


async def _send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytes) -> None:
    """Send an answer, and take what the client still sends: closed over that, the answer would be lost."""
    async with asyncio.timeout(SEND_S):
        writer.write(answer)
        await writer.drain()
        writer.write_eof()
    left = LEFT_MOST
    with suppress(TimeoutError):
        async with asyncio.timeout(LEFT_S):
            while left > 0 and (some := await reader.read(HEAD_MOST)):
                left -= len(some)


def _line_up(answer: _Answer, *, with_body: bool) -> bytes:
    head = (
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\nContent-Type: {answer.kind}\r\n"
        f"Content-Length: {len(answer.body)}\r\nCache-Control: no-store\r\n"
        f"X-Content-Type-Options: nosniff\r\n{answer.more}Connection: close\r\n\r\n"
    )
    return head.encode() + (answer.body if with_body else b"")
