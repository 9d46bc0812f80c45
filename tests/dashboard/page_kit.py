"""A page that is really served, in a thread of its own, and a client that says exactly what it is told to."""

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.thread_kit import LIMIT_S, in_a_thread, running_bus

from openoutcry import EventBus, MarketDataEvent, PersistenceConfig
from openoutcry.clocks import VirtualClock
from openoutcry.dashboard.access import Person
from openoutcry.dashboard.server import Page, bound
from openoutcry.events import encode
from openoutcry.journals import SqliteJournal
from openoutcry.ports import Entry

LOOK, ACT = "l" * 32, "a" * 32
PEOPLE = {LOOK: Person("look"), ACT: Person("act", "ada")}
START_NS = 1_764_000_000_000_000_000


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return self.json["error"]


class Client:
    """Somebody at a page, logged in or not."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.host = f"127.0.0.1:{port}"
        self.cookie = ""
        self.csrf = ""

    def call(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        try:
            given = {"Host": self.host, **({"Cookie": self.cookie} if self.cookie else {}), **(headers or {})}
            line.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in given.items():
                line.putheader(name, value)
            if body is not None and "Transfer-Encoding" not in given and "Content-Length" not in given:
                line.putheader("Content-Length", str(len(body)))
            line.endheaders(body)
            found = line.getresponse()
            return Answer(
                found.status, {name.lower(): value for name, value in found.getheaders()}, found.read()
            )
        finally:
            line.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.call("GET", path, headers=headers)

    def post(self, path: str, asked: Any, **changed: str | None) -> Answer:
        """Send what the page's own script would send, but for the headers that are changed or left out."""
        body = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
        headers: dict[str, str | None] = {
            "Origin": f"http://{self.host}",
            "Content-Type": "application/json",
            "x-openoutcry": self.csrf,
            **changed,
        }
        return self.call("POST", path, body, {n: v for n, v in headers.items() if v is not None})

    def log_in(self, token: str) -> "Client":
        answer = self.get(f"/login?token={token}")
        assert (answer.status, answer.headers["location"]) == (303, "/")
        self.cookie = answer.headers["set-cookie"].partition(";")[0]
        self.csrf = self.get("/api/me").json["csrf"]
        return self

    @contextmanager
    def stream(self, query: str = "", **headers: str) -> Iterator["Stream"]:
        """Open the stream of a tab, over a socket whose reading is the test's business."""
        with socket.create_connection(("127.0.0.1", self.port), LIMIT_S) as line:
            lines = [f"GET /api/stream{query} HTTP/1.1", f"Host: {self.host}", f"Cookie: {self.cookie}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            line.sendall("\r\n".join([*lines, "", ""]).encode())
            stream = Stream(line)
            try:
                yield stream
            finally:
                stream.close()


class Message(NamedTuple):
    event: str
    id: int
    data: Any


class Stream:
    """The answer of a stream as it comes."""

    def __init__(self, line: socket.socket) -> None:
        self._answer = http.client.HTTPResponse(line)
        self._answer.begin()
        self.status = self._answer.status
        self.headers = {name.lower(): value for name, value in self._answer.getheaders()}

    def __iter__(self) -> Iterator[Message]:
        """Yield the messages until the stream ends."""
        found: dict[str, str] = {}
        while line := self._answer.readline():
            if line == b"\n":
                yield Message(found["event"], int(found["id"]), json.loads(found["data"]))
                found = {}
            else:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                found[name] = value

    def close(self) -> None:
        self._answer.close()  # which holds the socket as well

    def until(self, event: str, meets: Callable[[Any], bool] = lambda _data: True) -> Any:
        """Return the data of the first message of a kind that meets a condition."""
        return next(m.data for m in self if m.event == event and meets(m.data))


def static_in(folder: Path) -> Path:
    static = folder / "static"
    (static / "screens").mkdir(parents=True)
    (static / "index.html").write_text("<!doctype html><title>the page</title>", encoding="utf-8")
    (static / "app.js").write_text("export {};\n", encoding="utf-8")
    (static / "screens" / "floor.js").write_text("export {};\n", encoding="utf-8")
    (static / "style.css").write_text("body {}\n", encoding="utf-8")
    (static / "VENDOR.toml").write_text("secret = true\n", encoding="utf-8")
    return static


@contextmanager
def served(path: Path, folder: Path, **more: Any) -> Iterator[Client]:
    """Serve the page of a journal or a socket, and yield somebody who is not logged in."""
    with bound("127.0.0.1", 0) as listener:
        page = Page(path, listener, more.pop("people", PEOPLE), static=static_in(folder), **more)
        with in_a_thread(page.serve):
            try:
                yield Client(listener.getsockname()[1])
            finally:
                page.stop()


@contextmanager
def firm(
    path: Path | None, prepare: Callable[[EventBus], Any] = lambda _bus: None, **settings: Any
) -> Iterator[EventBus]:
    """Run a firm on a journal, in a thread of its own, as the page meets it in another process."""

    def make() -> EventBus:
        bus = EventBus(persistence_config=None if path is None else PersistenceConfig(path=path), **settings)
        prepare(bus)
        return bus

    async def nothing_more(_bus: EventBus) -> None:
        """It is prepared."""

    with running_bus(make, nothing_more, stop_s=0.1) as bus:
        yield bus


def tick(number: int, **more: Any) -> MarketDataEvent:
    return MarketDataEvent(event_id=f"tick-{number}", symbol="ES", price=float(number + 1), **more)


def write_events(path: Path, events: list[Any], at_once: int = 10) -> None:
    """Write a journal whose events came a second apart."""
    with SqliteJournal(path) as journal:
        for first in range(0, len(events), at_once):
            entries = [
                Entry(event.event_id, encode(event), wall_ns=START_NS + number * 1_000_000_000)
                for number, event in enumerate(events[first : first + at_once], first)
            ]
            journal.write(entries)
        journal.sync()


def clock() -> VirtualClock:
    return VirtualClock(START_NS)
