"""Metrics: what Prometheus's own parsers read of them, over real HTTP, beside real buses."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from process_kit import ROOT
from tests.observers.firm_kit import a_seen_firm, running
from tests.observers.parse import parsed

from openoutcry import EventBus
from openoutcry.cli import main
from openoutcry.cli.metrics import CLIENTS_MOST, HEAD_MOST, NO_BUS, Service
from openoutcry.core.latency import Latencies
from openoutcry.errors import ConfigError
from openoutcry.observers.metrics import METRICS, families, families_of_none
from openoutcry.observers.prometheus import Exposition, collector, exposition, openmetrics
from openoutcry.observers.pulse import Buckets, Histogram, Pulse, Shape
from openoutcry.printable import is_obeyed

EVIL = 'x\x1b]0;owned\x07\r\nforged{a="b"} 1\u202e\u2028\\ "'
Seen = tuple[Shape, Pulse, dict[str, Buckets]]


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> Seen:
    return a_seen_firm(tmp_path_factory.mktemp("metrics") / "firm.db", EVIL, f"{EVIL} too")


def values(family: Any) -> dict[tuple[str, ...], float]:
    return {tuple(s.labels.values()): s.value for s in family.samples}


# -- the text ----------------------------------------------------------------------------------------------


def test_prometheus_reads_every_family_in_both_formats(seen: Seen) -> None:
    text, opened = exposition(families(*seen)).decode(), openmetrics(families(*seen)).decode()
    found = parsed(text)
    assert found.keys() == parsed(opened).keys()
    unlinked = {name for m in METRICS if "_link_" not in (name := m.name.removesuffix("_total"))}
    assert unlinked - found.keys() == {
        "openoutcry_dead_letters_elsewhere",
        "openoutcry_events_refused",
        "openoutcry_health_finding",
        "openoutcry_subscription_hold",
    }, "nothing has happened of these"
    for metric in METRICS:
        family = found.get(metric.name.removesuffix("_total"))
        if family is not None:
            assert (family.type, family.documentation) == (metric.kind, metric.means)
            labels = {name for s in family.samples for name in s.labels} - {"le"}
            assert labels == set(metric.labels)


def test_figures_are_those_of_the_bus(seen: Seen) -> None:
    found = parsed(exposition(families(*seen)).decode())
    pulse = seen[1]
    assert values(found["openoutcry_up"]) == {(): 1}
    assert values(found["openoutcry_events_published"]) == {(): pulse.published}
    assert values(found["openoutcry_dead_letters"]) == {(): 1}
    assert values(found["openoutcry_kill_switch_active"]) == {("ES",): 1}
    assert values(found["openoutcry_rounds_released"])["expired",] == 1
    assert values(found["openoutcry_events_unheard"]) == {("decision",): 1}
    assert values(found["openoutcry_ledger_balances"]) == {(): 1}
    assert values(found["openoutcry_state"]) == {
        ("new",): 0, ("running",): 1, ("stopping",): 0, ("stopped",): 0
    }  # fmt: skip
    assert values(found["openoutcry_subscription_errors"])["books",] == 1
    assert values(found["openoutcry_subscription_overflowed"])["llm",] > 0
    assert values(found["openoutcry_subscription_busy_seconds"])["llm",] > 0
    assert values(found["openoutcry_subscription_state"])["llm", "busy"] == 1


def test_hostile_names_are_one_label_each_and_safe_to_show(seen: Seen) -> None:
    text = exposition(families(*seen)).decode()
    assert {c for c in text if is_obeyed(c)} == {"\n"}
    names = {k for (k,) in values(parsed(text)["openoutcry_subscription_handled"])}
    assert len(names) == 5
    assert sum("owned" in name for name in names) == 2


def test_names_that_look_alike_once_they_are_safe_stay_apart(seen: Seen) -> None:
    shape, pulse, _ = seen
    alike = ["a\x1b", "a\\x1b", "a\x1b (2)", "x" * 400, "x" * 500]
    subscriptions = [msgspec.structs.replace(shape.subscriptions[0], name=name) for name in alike]
    shape = msgspec.structs.replace(shape, subscriptions=subscriptions)
    pulse = msgspec.structs.replace(pulse, rows=pulse.rows[:5], unheard={"u\x1b": 1, "u\\x1b": 2})
    buckets = dict.fromkeys(alike, seen[2]["books"])
    for text in (exposition(families(shape, pulse, buckets)), openmetrics(families(shape, pulse, buckets))):
        found = parsed(text.decode())
        assert len(found["openoutcry_subscription_handled"].samples) == 5
        assert values(found["openoutcry_events_unheard"]) == {("u\\x1b",): 3}


def test_a_series_ends_with_its_subscription(seen: Seen) -> None:
    shape, pulse, buckets = seen
    text = exposition(families(shape, msgspec.structs.replace(pulse, rows=pulse.rows[:1]), {})).decode()
    assert "llm" in exposition(families(shape, pulse, buckets)).decode()
    assert "llm" not in text


def test_what_belongs_to_a_shape_that_is_not_known_yet_is_left_out(seen: Seen) -> None:
    shape, pulse, buckets = seen
    shape = msgspec.structs.replace(shape, subscriptions=shape.subscriptions[:2])
    found = parsed(exposition(families(shape, pulse, buckets)).decode())
    assert set(values(found["openoutcry_subscription_handled"])) == {("books",), ("llm",)}


@pytest.mark.parametrize("times_ns", [[], [0], [1_023, 1_024], [5, 10**6, 10**9, 3 * 10**10, 2**62] * 3])
def test_a_histogram_counts_each_time_at_or_below_its_limit(seen: Seen, times_ns: list[int]) -> None:
    shape, pulse, _ = seen
    times = Latencies()
    for time_ns in times_ns:
        times.record(time_ns)
    of = Histogram(times.buckets(), times.count, times.largest_ns)
    found = parsed(exposition(families(shape, pulse, {"llm": Buckets(of, of, "")})).decode())
    samples = found["openoutcry_subscription_call_seconds"].samples
    for sample in samples:
        if sample.name.endswith("_bucket"):
            limit_s = float(sample.labels["le"])
            assert sample.value == sum(t / 1e9 <= limit_s for t in times_ns)
    (total,) = [s.value for s in samples if s.name.endswith("_sum")]
    assert total == pytest.approx(sum(times_ns) / 1e9, rel=0.13)


def test_of_a_bus_that_does_not_answer_only_that_and_its_age_are_told() -> None:
    assert exposition(families_of_none(2.5)).decode().splitlines()[2::3] == [
        "openoutcry_up 0",
        "openoutcry_pulse_age_seconds 2.5",
    ]
    assert parsed(openmetrics(families_of_none(None)).decode()).keys() == {"openoutcry_up"}


class AWatcher:
    """What is known of a bus, set by hand."""

    def __init__(self, seen: Seen) -> None:
        self.live = "up"
        self.shape, self.pulse, self._buckets = seen
        self.received_s = 0.0
        self.asked = 0

    async def buckets(self, names: Any) -> dict[str, Buckets]:
        self.asked += 1
        if self._buckets is None:
            raise ConnectionError("gone")
        return {name: self._buckets[name] for name in names}


def test_however_many_ask_the_bus_is_asked_once(seen: Seen) -> None:
    watcher = AWatcher(seen)

    async def run() -> None:
        made = Exposition(watcher)
        texts = await asyncio.gather(*(made.text() for _ in range(20)))
        assert len({text for text, _ in texts}) == 1

    asyncio.run(run())
    assert watcher.asked == 1


def test_a_bus_that_goes_is_told_at_once_and_one_that_keeps_its_buckets_still_has_its_figures(
    seen: Seen,
) -> None:
    async def run() -> None:
        watcher = AWatcher((*seen[:2], None))
        made = Exposition(watcher)
        text, kind = await made.text("application/openmetrics-text; version=1.0.0,text/plain;q=0.5")
        assert kind.startswith("application/openmetrics-text")
        assert "openoutcry_subscription_handled" in parsed(text.decode())
        watcher.live = "silent"
        text, kind = await made.text()
        assert kind.startswith("text/plain")
        assert b"openoutcry_up 0" in text

    asyncio.run(run())


# -- over HTTP ---------------------------------------------------------------------------------------------


@contextmanager
def serving(watcher: Any, host: str = "127.0.0.1", token: bytes | None = None) -> Iterator[int]:
    """The service in a thread of its own; the port it listens on."""
    ready, end = threading.Event(), threading.Event()
    ports: list[int] = []

    async def serve() -> None:
        service = Service(Exposition(watcher), host, token)
        server = await asyncio.start_server(service.answer, "127.0.0.1", 0, limit=HEAD_MOST)
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()
        await asyncio.to_thread(end.wait)
        server.close()
        service.hang_up()
        await server.wait_closed()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    ready.wait()
    try:
        yield ports[0]
    finally:
        end.set()
        thread.join()


async def _say(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    said = await reader.read()
    writer.close()
    return said


def ask(port: int, request: str) -> tuple[int, str, str]:
    """Send a request as it is; return the status, the head and the body."""
    said = asyncio.run(_say(port, request.encode("latin-1"))).decode()
    head, _, body = said.partition("\r\n\r\n")
    return int(said.split(" ")[1]), head, body


def test_a_get_is_answered_with_the_metrics_and_a_head_without(seen: Seen) -> None:
    with serving(AWatcher(seen)) as port:
        status, head, body = ask(port, "GET /metrics?x=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert status == 200
        assert "text/plain; version=0.0.4" in head
        assert "openoutcry_up" in parsed(body)
        assert f"Content-Length: {len(body.encode())}" in head
        assert ask(port, "HEAD /metrics HTTP/1.1\r\n\r\n") == (200, head, "")
        accept = "Accept: application/openmetrics-text;version=1.0.0"
        _, _, body = ask(port, f"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:1\r\n{accept}\r\n\r\n")
        assert body.endswith("# EOF\n")


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        ("POST /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        ("DELETE /metrics HTTP/1.1\r\n\r\n", 405),
        ("GET / HTTP/1.1\r\n\r\n", 404),
        ("GET /metrics/../etc/passwd HTTP/1.1\r\n\r\n", 404),
        ("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        ("GET /metrics HTTP/1.1\r\nHost: localhost.evil.example:80\r\n\r\n", 421),
        ("GET /metrics HTTP/1.1\r\nHost: [::2]:80\r\n\r\n", 421),
        ("GET /metrics HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", 200),
        ("GET /metrics HTTP/1.1\r\nHost: LOCALHOST\r\n\r\n", 200),
        ("GET /metrics HTTP/2.0\r\n\r\n", 400),
        ("GET  /metrics HTTP/1.1\r\n\r\n", 400),
        ("\x16\x03\x01\r\n\r\n", 400),
        ("GET /metrics HTTP/1.1\r\n" + "X: " + "y" * 20_000 + "\r\n\r\n", 431),
    ],
)
def test_what_is_no_request_for_the_metrics_is_refused(seen: Seen, request_head: str, status: int) -> None:
    with serving(AWatcher(seen)) as port:
        found, head, body = ask(port, request_head)
        assert found == status
        assert "nosniff" in head
        if status == 405:
            assert "Allow: GET, HEAD" in head
        if status != 200:
            assert "openoutcry" not in body


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        ("Bearer secret", 200),
        ("bearer secret", 200),
        ("Basic secret", 401),
        ("Bearer wrong", 401),
        ("Bearer secret2", 401),
        ("Bearer", 401),
        ("Bearer \xff", 401),
        ("", 401),
    ],
)
def test_with_a_token_only_who_shows_it_is_answered(seen: Seen, shown: str, status: int) -> None:
    with serving(AWatcher(seen), token=b"secret") as port:
        request = f"GET /metrics HTTP/1.1\r\nHost: firm.example\r\nAuthorization: {shown}\r\n\r\n"
        found, head, _ = ask(port, request)
        assert found == status
        assert ("WWW-Authenticate: Bearer" in head) == (status == 401)


def test_clients_that_ask_nothing_do_not_keep_others_out_for_ever(seen: Seen) -> None:
    async def run(port: int) -> None:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CLIENTS_MOST)]
        request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
        while b" 503 " not in (said := await _say(port, request)):
            assert b" 200 " in said  # the others are not all there yet
        for _, writer in idle:
            writer.close()
        while b" 200 " not in await _say(port, request):
            pass

    with serving(AWatcher(seen)) as port:
        asyncio.run(run(port))


# -- the command -------------------------------------------------------------------------------------------


def test_once_prints_what_prometheus_reads(path: Path) -> None:
    with running(path):
        result = CliRunner().invoke(main, ["metrics", str(path), "--once"])
    assert result.exit_code == 0, result.output
    found = parsed(result.stdout)
    assert values(found["openoutcry_up"]) == {(): 1}
    assert values(found["openoutcry_subscription_call_seconds"])
    piped = subprocess.run(
        [sys.executable, "-m", "tests.observers.parse"],
        input=result.stdout, text=True, capture_output=True, cwd=ROOT, check=True,
    )  # fmt: skip
    assert "families" in piped.stdout


def test_once_without_a_bus_says_that_it_is_not_up(path: Path, monkeypatch) -> None:
    monkeypatch.setattr("openoutcry.cli.metrics.FIRST_S", 0.01)
    result = CliRunner().invoke(main, ["metrics", str(path), "--once"])
    assert result.exit_code == NO_BUS
    assert values(parsed(result.stdout)["openoutcry_up"]) == {(): 0}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--host", "0.0.0.0"), "give --token as well"),
        (("--host", "192.0.2.1"), "give --token as well"),
        (("--host", EVIL), "give --token as well"),
        (("--token", "no such file"), "No such file"),
        (("--token", "empty"), "write one line of ASCII characters"),
        (("--port", "65536"), "not in the range"),
    ],
)
def test_a_mistake_is_told_in_a_line(
    tmp_path: Path, monkeypatch, options: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").write_text("\n")
    result = CliRunner().invoke(main, ["metrics", "firm.db", *options])
    assert result.exit_code == 2
    assert said in result.stderr
    assert {c for c in result.stderr if is_obeyed(c)} <= {"\n"}


@contextmanager
def collected(path: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command in a process of its own, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "openoutcry", "metrics", str(path), "--port", "0", "--log-json", *options],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    try:
        message = json.loads(process.stderr.readline())["message"]
        yield process, message.rpartition(" ")[2]
    finally:
        process.kill()
        process.communicate()


def get(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return parsed(answer.read().decode())


def wait_for_up(url: str, value: int) -> dict[str, Any]:
    while values((found := get(url))["openoutcry_up"]) != {(): value}:
        time.sleep(0.02)
    return found


FIRM = """
import asyncio, sys
from openoutcry import EventBus, PersistenceConfig

async def run():
    bus = EventBus(persistence_config=PersistenceConfig(path=sys.argv[1]))
    bus.subscribe("signal", lambda event: None, name="desk")
    async with bus:
        print("ready", flush=True)
        await asyncio.sleep(3600)

asyncio.run(run())
"""


@contextmanager
def firm(path: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen(
        [sys.executable, "-c", FIRM, str(path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_it_is_there_before_the_bus_and_after_it_and_tells_a_killed_from_a_stopped_one(path: Path) -> None:
    with collected(path) as (process, url):
        assert wait_for_up(url, 0).keys() == {"openoutcry_up"}
        with firm(path) as first:
            assert "openoutcry_subscription_handled" in wait_for_up(url, 1)
            first.send_signal(signal.SIGSTOP)
            assert wait_for_up(url, 0).keys() == {"openoutcry_up", "openoutcry_pulse_age_seconds"}
            first.send_signal(signal.SIGCONT)
            wait_for_up(url, 1)
        assert values(wait_for_up(url, 0)["openoutcry_pulse_age_seconds"])[()] > 0
        with firm(path):
            wait_for_up(url, 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_over_the_network_a_token_is_asked_for(path: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    with collected(path, "--host", "0.0.0.0", "--token", str(token)) as (_, where):
        url = where.replace("0.0.0.0", "127.0.0.1")
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            get(url)
        refused.value.close()
        request = urllib.request.Request(url, headers={"Authorization": "Bearer secret"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert b"openoutcry_up 0" in answer.read()


# -- in the process of the bus -----------------------------------------------------------------------------


def test_a_registry_of_ones_own_has_the_same_figures(path: Path) -> None:
    prometheus_client = pytest.importorskip("prometheus_client")
    registry = prometheus_client.CollectorRegistry()
    bus = EventBus()
    bus.subscribe("signal", lambda _: None, name="desk")
    found: dict[str, str] = {}

    def text() -> str:
        written: bytes = prometheus_client.generate_latest(registry)
        return written.decode()

    async def run() -> None:
        registry.register(collector(bus))
        async with bus:
            found["on the loop"] = text()
            found["in a thread"] = await asyncio.to_thread(text)
        found["stopped"] = text()

    asyncio.run(run())
    found["loop closed"] = text()
    for where in ("on the loop", "in a thread"):
        families_there = parsed(found[where])
        assert values(families_there["openoutcry_subscription_accepted"]) == {("desk",): 0}
        assert values(families_there["openoutcry_state"])["running",] == 1
    assert values(parsed(found["loop closed"])["openoutcry_up"]) == {(): 0}
    assert "openoutcry_up" in parsed(found["stopped"])


def test_a_collector_waits_for_a_blocked_loop_for_a_while_only(monkeypatch) -> None:
    monkeypatch.setattr("openoutcry.observers.prometheus.COLLECT_S", 0.01)
    blocked = threading.Event()

    async def run() -> None:
        made = collector(SimpleNamespace(admin=None))
        thread = threading.Thread(target=lambda: found.extend(made.collect()))
        thread.start()
        thread.join()  # which blocks the loop

    found: list[Any] = []
    asyncio.run(run())
    assert [f.name for f in found] == ["openoutcry_up"]
    assert not blocked.is_set()


def test_a_collector_needs_the_loop_of_the_bus() -> None:
    with pytest.raises(ConfigError, match="on the loop of the bus"):
        collector(EventBus())
