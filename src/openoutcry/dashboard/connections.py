"""The connections: uvicorn as the page needs it, bounded in time whoever connects.

Uvicorn waits for as long as a client likes to send its request or to read the end of an answer. Nobody has
logged in by then, so that here every connection is looked at every few seconds, and one on which nothing
has been asked since the last look, or whose answer nobody reads, is cut off.
"""

import asyncio
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final

import h11
from starlette.types import ASGIApp
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from openoutcry.dashboard.gate import HEADERS

LOOK_S: Final = 10.0
CONNECTIONS_MAX: Final = 256
HEAD_BYTES_MAX: Final = 16 * 1024
GRACE_S: Final = 0.5
"""For so long the clients are waited for at a stop."""
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class _Connection(H11Protocol):
    """One connection, cut off when nothing happens on it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look after it."""
        super().connection_made(transport)
        self._seen: object = None
        self._next_look = self.loop.call_later(LOOK_S, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Look after it no more."""
        self._next_look.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        is_at_work = self.cycle is not None and not self.cycle.response_complete
        is_unread = self.flow.write_paused
        seen = self.cycle, self.transport.get_write_buffer_size() if is_unread else 0
        if self.transport.is_closing() or (seen == self._seen and (is_unread or not is_at_work)):
            self.transport.abort()
            return
        self._seen = seen
        self._next_look = self.loop.call_later(LOOK_S, self._look)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP with the headers of every answer."""
        headers = [(name.encode(), value.encode()) for name, value in HEADERS]
        headers += [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        for part in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=msg.encode("ascii")),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(part) or b"")
        self.transport.close()


class PageServer(Server):
    """Serves an app on a socket until a signal, or until `should_exit` is set.

    `on_stop` is called when the stop begins: it ends the answers that would never end.
    """

    def __init__(self, app: ASGIApp, on_stop: Callable[[], None]) -> None:
        super().__init__(
            Config(
                app,
                http=_Connection,
                ws="none",
                lifespan="off",
                loop="asyncio",
                log_config=None,
                log_level="critical",  # it quotes addresses, which may have tokens
                access_log=False,
                proxy_headers=False,
                server_header=False,
                headers=list(HEADERS),
                limit_concurrency=CONNECTIONS_MAX,
                h11_max_incomplete_event_size=HEAD_BYTES_MAX,
                timeout_graceful_shutdown=1,
            )
        )
        self._on_stop = on_stop

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop: end the streams, wait a little for the other answers, and cut off what is left."""
        self._on_stop()
        cut_off = asyncio.get_running_loop().call_later(GRACE_S, self._cut_off)
        try:
            await super().shutdown(sockets)
        finally:
            cut_off.cancel()
            self._cut_off()

    def _cut_off(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Stop at a signal. Uvicorn would raise it again, though what it asked for is done."""
        loop = asyncio.get_running_loop()
        here: list[Any] = []
        for number in _SIGNALS:
            try:
                loop.add_signal_handler(number, self.handle_exit, number, None)
            except (RuntimeError, ValueError, NotImplementedError):  # not in the main thread
                continue
            here.append(number)
        try:
            yield
        finally:
            for number in here:
                loop.remove_signal_handler(number)
