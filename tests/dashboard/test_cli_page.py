"""`openoutcry page`: a process of its own, what it prints, and what it refuses to begin with."""

import builtins
import importlib
import os
import pty
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from page_kit import Client, served
from tests.thread_kit import LIMIT_S

from openoutcry.cli import main
from openoutcry.cli import page as verb
from openoutcry.journals import SqliteJournal

TOKEN = "t" * 30


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(main, ["page", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def refused(*arguments: object) -> str:
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    return line


@contextmanager
def running(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run the verb, and yield the process with the addresses that it printed."""
    words = [sys.executable, "-m", "openoutcry", "page", *map(str, arguments), "--port", "0", "--no-open"]
    count = 2 if "--act" in words else 1
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, [process.stdout.readline().strip() for _ in range(count)]
        finally:
            process.kill()


def tokens(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_where_to_log_in_and_ends_at_a_signal_with_a_tab_open(
    journal: Path, number: signal.Signals
):
    with running(journal, "--act") as (process, addresses):
        found = [
            re.fullmatch(r"(look|act): http://127\.0\.0\.1:(\d+)/login\?token=([\w-]{32})", a)
            for a in addresses
        ]
        assert [match[1] for match in found if match] == ["look", "act"]
        client = Client(int(found[0][2])).log_in(found[1][3])
        assert client.get("/api/me").json["role"] == "act"
        assert Client(client.port).log_in(found[0][3]).get("/api/me").json["role"] == "look"
        assert client.get("/login?token=wrong").status == 403
        with client.stream() as stream:
            stream.until("state")
            process.send_signal(number)
            stdout, stderr = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, stderr
        assert (stdout, stderr) == ("", "")


def test_no_token_is_in_what_it_prints_later_nor_in_its_arguments(journal: Path):
    with running(journal, "--log-level", "debug") as (process, (address,)):
        token = address.rpartition("=")[2]
        client = Client(int(address.split(":")[3].partition("/")[0])).log_in(token)
        for path in ("/api/events", f"/static/{token}", f"/login?token={token}", "/api/journal"):
            client.get(path)
        client.call("BAD", f"/?token={token}")
        with socket.create_connection(("127.0.0.1", client.port)) as line:
            line.sendall(f"GET /{token}\x00 nonsense\r\n\r\n".encode())
            while line.recv(4_096):
                pass
        arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        process.terminate()
        stdout, stderr = process.communicate(timeout=LIMIT_S)
        assert token not in stdout + stderr + arguments.decode()


def test_only_one_role_is_printed_unless_asked(journal: Path):
    with running(journal) as (process, (address,)):
        process.terminate()
        stdout, _ = process.communicate(timeout=LIMIT_S)
        assert address.startswith("look: ")
        assert stdout == ""


def test_the_browser_is_opened_by_way_of_a_file_of_ones_own(monkeypatch):
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    with verb.opening("http://127.0.0.1:1/login?token=secret&as=x") as open_it:
        open_it()
        (address,) = opened
        file = Path(address.removeprefix("file://"))
        assert "secret" not in address
        assert file.parent.stat().st_mode & 0o077 == 0
        assert "token=secret&amp;as=x" in file.read_text(encoding="utf-8")
    assert not file.exists()


def test_another_journal_is_compared_and_a_file_that_is_none_is_refused(journal: Path, tmp_path: Path):
    other = tmp_path / "other.db"
    SqliteJournal(other).close()
    with running(journal, "--compare", other) as (_process, (address,)):
        client = Client(int(address.split(":")[3].partition("/")[0])).log_in(address.rpartition("=")[2])
        found = client.get("/api/compare").json
        assert found["journals"] == [journal.name, "other.db"]
    (tmp_path / "note.txt").write_text("no journal", encoding="utf-8")
    for name in ("note.txt", "missing.db"):
        result = call(journal, "--compare", tmp_path / name, "--port", "0", "--no-open")
        assert result.exit_code == 2
        assert name in result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a browser has a window of its own")
@pytest.mark.parametrize(("display", "opens"), [("", False), (":0", True)])
def test_a_browser_that_would_take_the_terminal_is_not_opened(
    journal: Path, tmp_path, display: str, opens: bool
):
    """It would wait for the page, and the page for its end."""
    said = tmp_path / "opened"
    environment = {
        **os.environ,
        "DISPLAY": display,
        "WAYLAND_DISPLAY": "",
        "BROWSER": f"sh -c 'echo opened > {said}; kill -TERM $PPID' %s",
    }
    main, side = pty.openpty()
    words = [sys.executable, "-m", "openoutcry", "page", str(journal), "--port", "0"]
    with subprocess.Popen(words, stdin=side, stdout=side, stderr=side, env=environment) as process:
        os.close(side)
        with os.fdopen(main, "rb", buffering=0) as terminal:
            while b"token=" not in terminal.readline():
                pass
            if not opens:
                process.send_signal(signal.SIGTERM)
            process.wait(LIMIT_S)
    assert said.exists() is opens


# -- what it refuses ---------------------------------------------------------------------------------


def test_a_port_that_is_taken(journal: Path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        said = refused(journal, "--port", other.getsockname()[1])
    assert "another program listens there" in said
    assert "or 0" in said


def test_an_address_that_is_not_this_machines(journal: Path, tmp_path: Path):
    file = tokens(tmp_path / "tokens", f"look {TOKEN} ada\n")
    assert "no address of this machine" in refused(
        journal, "--host", "192.0.2.1", "--tokens", file, "--port", 0
    )
    assert "no such address" in refused(journal, "--host", "no such host", "--tokens", file)


def test_a_host_that_others_reach_needs_tokens_and_a_name(journal: Path, tmp_path: Path):
    assert "TLS" in refused(journal, "--host", "0.0.0.0")
    assert "--tokens" in refused(journal, "--host", "192.0.2.1")
    file = tokens(tmp_path / "tokens", f"look {TOKEN} ada\n")
    assert "--name" in refused(journal, "--host", "0.0.0.0", "--tokens", file)


@pytest.mark.parametrize(
    "name", ["https://firm.example", "firm.example/", "firm example", "", "::1", "firm:port"]
)
def test_a_name_that_no_browser_would_send_is_refused(journal: Path, name: str):
    assert f"--name {name}" in refused(journal, "--port", 0, "--name", name)


def test_what_is_no_journal(tmp_path: Path):
    other = tmp_path / "notes.txt"
    other.write_text("not a journal", encoding="utf-8")
    assert "notes.txt" in refused(other, "--port", 0)
    assert "does not exist" in refused(tmp_path / "none.db", "--port", 0)
    assert "a directory" in refused(tmp_path, "--port", 0)
    (tmp_path / "loop.db").symlink_to("loop.db")
    assert "a symbolic link" in refused(tmp_path / "loop.db", "--port", 0)


def test_a_journal_of_a_newer_version(journal: Path):
    with closing(sqlite3.connect(journal)) as db, db:
        db.execute("PRAGMA user_version = 999")
    assert "SchemaTooNew" in refused(journal, "--port", 0)


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        (f"look {TOKEN}", 0o640, "chmod 600"),
        ("", 0o600, "no token"),
        ("# nobody\n\n", 0o600, "no token"),
        (f"watch {TOKEN}", 0o600, "line 1"),
        ("look short", 0o600, "24 characters"),
        (f"look {TOKEN} ada\nact {TOKEN} ada", 0o600, "used twice"),
        (f"act {TOKEN} a\u202eda", 0o600, "line 1"),
    ],
)
def test_tokens_that_make_no_sense(journal: Path, tmp_path: Path, text: str, mode: int, said: str):
    file = tokens(tmp_path / "tokens", text, mode)
    assert said in refused(journal, "--tokens", file, "--port", 0)


def test_tokens_are_not_mixed(journal: Path, tmp_path: Path):
    file = tokens(tmp_path / "tokens", f"look {TOKEN}")
    assert "act TOKEN NAME" in refused(journal, "--tokens", file, "--act")
    assert "cannot be read" in refused(journal, "--tokens", tmp_path / "none")


def test_tokens_of_a_file_log_in_and_are_not_printed(journal: Path, tmp_path: Path):
    file = tokens(tmp_path / "tokens", f"# desk\nact {TOKEN} grace hopper\n")
    with running(journal, "--tokens", file) as (_, (address,)):
        client = Client(int(address.split(":")[2].partition("/")[0])).log_in(TOKEN)
        assert TOKEN not in address
        me = client.get("/api/me").json
        assert (me["role"], me["operator"]) == ("act", "grace hopper")


def test_without_the_extra_it_says_how_to_get_it(journal: Path, monkeypatch):
    for name in [
        name for name in sys.modules if name.startswith(("openoutcry.dashboard", "starlette", "uvicorn"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def without(name: str, *more, **named):
        if name.partition(".")[0] in ("starlette", "uvicorn"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "pip install 'openoutcry[page]'" in refused(journal)
    monkeypatch.undo()
    importlib.import_module("openoutcry.dashboard.server")


def test_a_sealed_journal_is_shown_and_verified_with_its_key(tmp_path: Path):
    path, key = tmp_path / "firm.db", b"k" * 32
    SqliteJournal(path, key=key).close()
    with served(path, tmp_path, key=key) as client:
        client.log_in("a" * 32)
        assert client.get("/api/journal").json["head"] == 0
        assert client.post("/api/verify", {}).status == 200


# -- metrics -------------------------------------------------------------------------------------------


def test_metrics_are_told_on_this_machine(anybody: Client):
    answer = anybody.get("/metrics")
    assert answer.status == 200
    assert b"openoutcry_up 0" in answer.body
    assert answer.headers["content-type"].startswith("text/plain")


def test_metrics_with_a_token_are_told_to_who_has_it(journal: Path, tmp_path: Path):
    with served(journal, tmp_path, metrics_token=b"secret") as client:
        for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}):
            assert client.get("/metrics", **given).status == 401
        assert client.get("/metrics", Authorization="Bearer secret").status == 200
        assert client.log_in("l" * 32).get("/metrics").status == 401
