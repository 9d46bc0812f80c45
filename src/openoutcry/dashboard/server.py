"""The page while it serves: its socket, its parts, and their end."""

import asyncio
import errno
import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from openoutcry.clocks import SystemClock
from openoutcry.dashboard.access import Access, Person
from openoutcry.dashboard.acts import Acts
from openoutcry.dashboard.api import Api, Tail
from openoutcry.dashboard.comparing import Comparer, named_files
from openoutcry.dashboard.connections import PageServer
from openoutcry.dashboard.explaining import Explainer
from openoutcry.dashboard.gate import Gate
from openoutcry.dashboard.hub import Hub
from openoutcry.dashboard.journal_file import JournalFile
from openoutcry.dashboard.overview import Overview
from openoutcry.dashboard.series import Series
from openoutcry.errors import ConfigError
from openoutcry.ports import Clock
from openoutcry.runtime.control.watcher import Watcher

STATIC: Final = Path(__file__).parent / "static"
LOOPBACK: Final = ("127.0.0.1", "::1")
EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - what is refused without names
_PRIVILEGED: Final = 1_024
_HOST: Final = re.compile(r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_HTTP_PORT: Final = 80
"""Browsers leave it out of the header `Host`."""
_WAITING_MAX: Final = 128


class Page:
    """The page of one firm.

    Attributes:
        url: Where it is.

    Args:
        path: The journal, or the control socket of a firm without one.
        listener: A socket that is bound, as `bound` returns it.
        people: Whom the tokens stand for.
        names: By which names it is reached, beside its address.
        key: The key of a sealed journal.
        metrics_token: What a collector of metrics has to show; None: nothing, but only on this machine.
        compare: Other journals, which may be compared with this one and with each other.
        journals: Other desks' journals, in which the screen Why follows causes.
        references: Fields of event classes of your own that name something, as for `Lineage`.

    Raises `JournalError` where the path is neither, or one to compare is no journal, and as
    `Lineage` for `journals` and `references`.

    """

    def __init__(
        self,
        path: Path,
        listener: socket.socket,
        people: Mapping[str, Person],
        *,
        names: tuple[str, ...] = (),
        key: bytes | None = None,
        metrics_token: bytes | None = None,
        compare: Iterable[Path] = (),
        journals: Sequence[Path] = (),
        references: Iterable[str] = (),
        static: Path = STATIC,
        clock: Clock | None = None,
    ) -> None:
        clock = clock if clock is not None else SystemClock()
        self._listener = listener
        host, port = listener.getsockname()[:2]
        self.url = f"http://{_in_address(host)}:{port}"
        self._file = None if path.is_socket() else JournalFile(path, key, clock)
        self._compared = named_files(self._file, compare, key, clock)
        if self._file is not None:
            self._file.check()
        self._explainer = None if self._file is None else Explainer(path, key, journals, references)
        if self._explainer is not None:
            self._explainer.check()
        self._watcher = Watcher(path)
        self._hub = Hub(self._watcher, clock, None if self._file is None else Tail(self._file))
        self._series = Series(self._watcher, clock)
        access, cookie = Access(people, clock), f"openoutcry-{port}"
        self._api = Api(
            access=access,
            cookie=cookie,
            hub=self._hub,
            series=self._series,
            acts=Acts(self._watcher, self._file),
            overview=Overview(clock),
            static=static,
            path=path,
            file=self._file,
            explainer=self._explainer,
            comparer=Comparer(self._compared, self._file),
            metrics_token=metrics_token,
            metrics_are_open=host in LOOPBACK,
        )
        self._server = PageServer(
            Gate(self._api.routes(), access, _hosts(host, port, names), cookie), self._api.stop
        )

    async def serve(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGINT, SIGTERM, or `stop`; `ready` is called when it answers."""
        async with AsyncExitStack() as living:
            for file in self._compared.values():
                living.callback(file.close)
            if self._explainer is not None:
                living.callback(self._explainer.close)
            await living.enter_async_context(self._watcher)
            for work in (self._hub.run(), self._series.run()):
                task = asyncio.create_task(work)
                task.add_done_callback(self._stop_if_failed)
                living.push_async_callback(_end, task)
            ready()  # connections wait in the socket's queue by now
            await self._server.serve([self._listener])

    def _stop_if_failed(self, task: asyncio.Task[None]) -> None:
        """Stop rather than look alive; the error is raised at the end."""
        if not task.cancelled() and task.exception() is not None:
            self.stop()

    def stop(self) -> None:
        """Stop serving."""
        self._server.should_exit = True


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens there. Raises `ConfigError` where it cannot."""
    try:
        ((family, _, _, _, address), *_) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as problem:
        raise ConfigError(
            f"host = {host}: there is no such address ({problem.strerror}); give one of this machine's"
        ) from problem
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(_WAITING_MAX)
    except OSError as problem:
        made.close()
        raise ConfigError(_why_not(host, port, problem)) from problem
    return made


def _why_not(host: str, port: int, problem: OSError) -> str:
    if problem.errno == errno.EADDRINUSE:
        return f"port = {port}: another program listens there, perhaps another page; give another port, or 0"
    if problem.errno == errno.EADDRNOTAVAIL:
        return f"host = {host}: that is no address of this machine; give one of its own"
    if problem.errno in (errno.EACCES, errno.EPERM):
        why = f"ports below {_PRIVILEGED} are for root" if port < _PRIVILEGED else "it is not allowed"
        return f"port = {port}: {why}; give a port of {_PRIVILEGED} or more"
    return f"{host}:{port} cannot be listened on: {problem.strerror or problem}; give another address"


def is_host(name: str) -> bool:
    """Return True for the name of a host, with a port or without."""
    return _HOST.fullmatch(name) is not None


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _hosts(host: str, port: int, names: tuple[str, ...]) -> set[str]:
    """Return what the header `Host` may say."""
    own = [] if host in EVERYWHERE else [_in_address(host)]
    own += ["localhost"] if host in LOOPBACK else []
    found = {f"{name}:{port}" for name in own}
    if port == _HTTP_PORT:
        found.update(own)
    for name in names:
        found |= {name.lower()} if re.search(r":\d+$", name) else {name.lower(), f"{name.lower()}:{port}"}
    return found
