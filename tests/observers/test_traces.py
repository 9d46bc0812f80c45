"""`openoutcry traces`: what a firm's journal becomes at a collector that takes it over real HTTP."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from process_kit import ROOT
from tests.observers.collector import Collector, collecting

from openoutcry import (
    NO_RETRY,
    DecisionEvent,
    Event,
    EventBus,
    FillEvent,
    MarketDataEvent,
    PersistenceConfig,
    SignalEvent,
)
from openoutcry.cli import main, span_delivery, tracing
from openoutcry.cli.mistakes import Failed
from openoutcry.errors import ConfigError
from openoutcry.events import encode
from openoutcry.journals import SqliteJournal
from openoutcry.observers import otel
from openoutcry.observers.spans import Span, is_kept, span_id, trace_id
from openoutcry.ports import Entry

EVIL = "x\x1b]0;owned\x07\r\nforged\u202e\u2028"


def call(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def traced(path: Path, *options: object) -> Collector:
    """The collector after the whole journal was sent to it."""
    with collecting() as collector:
        call("traces", path, "--otlp", collector.url, *options)
    return collector


def a_signal(name: str = "trend", **fields: Any) -> SignalEvent:
    return SignalEvent(strategy_name=name, source_agent=name, symbol="ES", direction="long", **fields)


def a_fill(**fields: Any) -> FillEvent:
    return FillEvent(order_id="o", symbol="ES", side="buy", filled_quantity=1.0, fill_price=1.0, **fields)


def open_bus(path: Path) -> EventBus:
    return EventBus(persistence_config=PersistenceConfig(path=path, socket=False))


def trade(path: Path, quotes: int = 1) -> dict[str, str]:
    """A firm goes from a quote to a fill that one of two does not accept. Returns ids by event type."""
    ids: dict[str, str] = {}

    async def run() -> None:
        bus = open_bus(path)

        async def publish(event: Event) -> None:
            ids[event.event_type] = event.event_id
            await bus.publish(event)

        async def trend(_: MarketDataEvent) -> None:
            await publish(a_signal())

        async def cio(event: SignalEvent) -> None:
            signals = (event.event_id, "of another day")
            await publish(
                DecisionEvent(
                    symbol="ES",
                    action="buy",
                    quantity=1.0,
                    source_agent="chief",
                    contributing_signals=signals,
                )
            )

        async def broker(_: DecisionEvent) -> None:
            await publish(a_fill(source_agent="broker"))

        def books(_: FillEvent) -> None:
            raise ValueError(f"no account {EVIL}")

        bus.subscribe("market_data", trend, name="trend")
        bus.subscribe("signal", cio, name="cio")
        bus.subscribe("decision", broker, name="broker")
        bus.subscribe("fill", books, name="books", retry=NO_RETRY)
        bus.subscribe("fill", lambda _: None, name="audit")
        async with bus:
            for _ in range(quotes):
                await publish(MarketDataEvent(symbol="ES", price=1.0, source_agent="feed"))
                await bus.join()

    asyncio.run(run())
    return ids


def write(path: Path, *events: Event, wall_ns: int = 1_764_000_000_000_000_000) -> None:
    with SqliteJournal(path) as journal:
        journal.write([Entry(e.event_id, encode(e), wall_ns=wall_ns + n) for n, e in enumerate(events)])


# -- a chain ---------------------------------------------------------------------------------------------


def test_a_chain_is_one_trace_from_the_quote_to_the_dead_letter(path: Path) -> None:
    ids = trade(path)
    collector = traced(path)
    spans = collector.by_name
    names = {s.id: s.name for s in collector.spans}
    assert {s.name: names.get(s.parent, s.parent) for s in collector.spans} == {
        "an event that is not in the journal": "",
        "trend handles an event": "an event that is not in the journal",
        "publish signal": "trend handles an event",
        "cio handles signal": "publish signal",
        "publish decision": "cio handles signal",  # though its agent is called chief
        "broker handles decision": "publish decision",
        "publish fill": "broker handles decision",
        "audit handles fill": "publish fill",
        "books handles fill": "publish fill",
    }
    assert {s.trace for s in collector.spans} == {f"{trace_id(ids['market_data']):032x}"}
    assert spans["publish fill"].id == f"{span_id(ids['fill']):016x}"
    assert spans["books handles fill"].id == f"{span_id(ids['fill'], 'books'):016x}"
    assert collector.paths == ["/v1/traces"]
    assert spans["publish fill"].resource["service.name"] == "firm"
    assert spans["publish fill"].scope == "openoutcry"


def test_a_decision_is_linked_to_the_signals_behind_it_and_says_which_are_not_there(path: Path) -> None:
    ids = trade(path)
    decision = traced(path).by_name["publish decision"]
    chain, signal_id = f"{trace_id(ids['market_data']):032x}", f"{span_id(ids['signal']):016x}"
    assert decision.links == [(chain, signal_id)]
    assert decision.attributes["openoutcry.signals_not_linked"] == ["of another day"]


def test_a_link_leads_into_the_trace_of_another_chain(path: Path) -> None:
    one = a_signal(correlation_id="one chain")
    decision = DecisionEvent(symbol="ES", action="buy", quantity=1.0, contributing_signals=(one.event_id,))
    write(path, one, decision)
    spans = traced(path, "--keep", "100%").by_name
    assert spans["publish decision"].links == [
        (f"{trace_id('one chain'):032x}", f"{span_id(one.event_id):016x}")
    ]
    assert spans["publish decision"].trace != spans["publish signal"].trace


def test_times_are_admissions_and_say_so_where_more_is_not_known(path: Path) -> None:
    cause = a_signal()
    effect = a_fill(causation_id=cause.event_id, correlation_id=cause.event_id, source_agent="broker")
    write(path, cause, effect)
    spans = traced(path).by_name
    assert [s.took_ns for s in spans.values()] == [0, 0, 1]
    assert spans["publish signal"].span.start_time_unix_nano == 1_764_000_000_000_000_000
    handled = spans["broker handles signal"].attributes
    assert (handled["openoutcry.begin"], handled["openoutcry.end"]) == ("admission", "last event published")
    assert handled["openoutcry.published"] == 1


def test_a_dead_letter_is_an_error_with_its_traceback(path: Path) -> None:
    trade(path)
    span = traced(path).by_name["books handles fill"]
    assert span.span.status.code == 2
    assert "no account" in span.error
    (event,) = span.span.events
    said = {a.key: a.value.string_value for a in event.attributes}
    assert "Traceback" in said["exception.stacktrace"]
    assert span.attributes["openoutcry.end"] == "dead letter"
    assert span.attributes["openoutcry.attempts"] == 1


def test_the_same_journal_makes_the_same_spans_again(path: Path) -> None:
    trade(path, quotes=3)

    def found() -> set[tuple[str, ...]]:
        return {(s.trace, s.id, s.parent, s.name) for s in traced(path).spans}

    first = found()
    assert len(first) == 27
    assert first == found()


def test_an_event_that_names_a_cause_of_another_chain_begins_a_trace_and_links_to_that(path: Path) -> None:
    cause = a_signal()
    effect = a_fill(causation_id=cause.event_id, correlation_id="its own", source_agent="broker")
    write(path, cause, effect)
    spans = traced(path, "--keep", "100%").by_name
    assert spans["publish fill"].parent == ""
    assert spans["publish fill"].links[0][0] == spans["publish signal"].trace


@pytest.mark.parametrize(
    "payload",
    [
        b'{"event_class":"No","event_id":"odd","event_type":"odd","contributing_signals":7}',
        b'{"event_id":3}',
        b"[]",
        json.dumps(
            {"event_id": EVIL, "event_type": EVIL, "source_agent": EVIL, "causation_id": EVIL}
        ).encode(),
        b'{"event_id":"' + b"x" * 100_000 + b'","event_type":"long"}',
    ],
)
def test_whatever_a_journal_holds_becomes_a_span(path: Path, payload: bytes) -> None:
    with SqliteJournal(path) as journal:
        journal.write([Entry("odd", payload, wall_ns=5)])
    spans = traced(path, "--keep", "100%").spans
    assert spans
    assert all(len(str(value)) <= 500 for s in spans for value in s.attributes.values())


# -- what is kept ------------------------------------------------------------------------------------------


def test_a_share_of_the_chains_is_kept_by_the_hash_of_their_id(path: Path) -> None:
    events = [a_signal(event_id=f"s-{number}") for number in range(400)]
    write(path, *events)
    kept = {s.attributes["messaging.message.id"] for s in traced(path, "--keep", "25%").spans}
    assert kept == {e.event_id for e in events if is_kept(e.event_id, 0.25)}
    assert 60 < len(kept) < 140
    assert len(traced(path, "--keep", "1").spans) == 400
    assert kept <= {s.attributes["messaging.message.id"] for s in traced(path, "--keep", "0.5").spans}


@pytest.mark.parametrize(
    "kind", ["fill", "risk_alert", "surveillance_alert", "correlation_alert", "kill_switch"]
)
def test_a_chain_that_tells_something_is_kept_whole_whatever_the_share(path: Path, kind: str) -> None:
    cause = a_signal()
    other = a_signal()
    telling = {"event_id": "t", "event_type": kind, "causation_id": cause.event_id}
    write(path, cause, other)
    with SqliteJournal(path) as journal:
        data = json.dumps(telling | {"correlation_id": cause.event_id, "source_agent": "desk"}).encode()
        journal.write([Entry("t", data, wall_ns=9)])
    names = sorted(s.name for s in traced(path, "--keep", "0%").spans)
    assert names == sorted(["desk handles signal", f"publish {kind}", "publish signal"])


def test_a_chain_with_a_dead_letter_is_kept_whatever_the_share(path: Path) -> None:
    async def run() -> None:
        def fail(_: SignalEvent) -> None:
            raise ValueError("no")

        bus = open_bus(path)
        bus.subscribe("signal", fail, name="books", retry=NO_RETRY)
        bus.subscribe("decision", lambda _: None, name="quiet")
        async with bus:
            await bus.publish(a_signal())
            await bus.publish(DecisionEvent(symbol="ES", action="buy", quantity=1.0))
            await bus.join()

    asyncio.run(run())
    names = {s.name for s in traced(path, "--keep", "0").spans}
    assert names == {"publish signal", "books handles signal"}


def test_nothing_is_sent_of_what_a_bus_notes_of_itself(path: Path) -> None:
    with SqliteJournal(path) as journal:
        data = b'{"event_id":"round:1","event_type":"round_released"}'
        journal.write([Entry("round:1", data, wall_ns=9)])
    assert traced(path, "--keep", "100%").spans == []


def test_only_what_came_since_is_sent(path: Path) -> None:
    write(path, a_signal(event_id="old"), wall_ns=1_764_000_000_000_000_000)
    write(path, a_signal(event_id="new"), wall_ns=1_764_100_000_000_000_000)
    (span,) = traced(path, "--keep", "100%", "--since", "2025-11-25T18:00").spans
    assert span.attributes["messaging.message.id"] == "new"


# -- following ---------------------------------------------------------------------------------------------


@contextmanager
def following(path: Path, url: str, state: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "openoutcry", "traces", str(path), "--otlp", url, "--follow"]
    process = subprocess.Popen(
        [*command, "--state", str(state), "--linger", "0.1s", "--keep", "100%", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_place(state: Path, after: int) -> None:
    """Wait until a process has noted that it has come so far."""
    while not state.exists() or json.loads(state.read_text())["place"]["after"] < after:
        time.sleep(0.01)


def ids(collector: Collector) -> list[str]:
    return [s.attributes["messaging.message.id"] for s in collector.spans]


def test_following_goes_on_after_kill_9_without_a_span_missing_or_doubled(path: Path, tmp_path: Path) -> None:
    state, written = tmp_path / "traces.state", [f"s-{number}" for number in range(60)]
    with collecting() as collector:
        for part in range(3):
            some = written[20 * part : 20 * part + 20]
            with following(path if path.exists() else _made(path), collector.url, state):
                write(path, *(a_signal(event_id=event_id) for event_id in some[:10]))
                collector.wait_for(lambda upto=20 * part + 10: len(collector.spans) >= upto)
                place = 20 * part + 10
                wait_for_place(state, place)
            write(path, *(a_signal(event_id=event_id) for event_id in some[10:]))  # while nobody follows
        with following(path, collector.url, state):
            collector.wait_for(lambda: len(collector.spans) >= 60)
    assert ids(collector) == written


def test_two_who_follow_with_one_state_would_send_all_twice_so_the_second_is_refused(
    path: Path, tmp_path: Path
) -> None:
    state = tmp_path / "traces.state"
    write(path, a_signal(event_id="s-1"))
    options = ("traces", path, "--otlp", "http://127.0.0.1:9", "--follow", "--state", state)
    with collecting() as collector, following(path, collector.url, state):
        collector.wait_for(lambda: len(collector.spans) >= 1)
        assert "another `openoutcry traces` goes by it" in call(*options, code=2).stderr
    with collecting() as collector, following(path, collector.url, state):  # the killed one's lock is gone
        write(path, a_signal(event_id="s-2"))
        collector.wait_for(lambda: len(collector.spans) >= 1)
    assert ids(collector)[-1] == "s-2"


def _made(path: Path) -> Path:
    with SqliteJournal(path):
        return path


def test_a_collector_that_is_away_is_waited_for(path: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    write(path, a_signal(event_id="s"))
    with following(path, f"http://127.0.0.1:{port}", tmp_path / "state", "--log-json") as process:
        said = json.loads(process.stderr.readline())
        assert "the spans wait" in said["message"]
        with collecting(port) as collector:
            collector.wait_for(lambda: collector.spans)
            assert "takes spans again" in json.loads(process.stderr.readline())["message"]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert ids(collector) == ["s"]


def test_a_state_of_another_journal_is_not_believed(path: Path, tmp_path: Path) -> None:
    state, other = tmp_path / "state", tmp_path / "other.db"
    write(path, a_signal(event_id="s"))
    write(other, a_signal(event_id="o"))
    with collecting() as collector:
        with following(path, collector.url, state):
            collector.wait_for(lambda: len(collector.spans) == 1)
            wait_for_place(state, 1)
        with following(other, collector.url, state) as process:
            assert "another journal" in process.stderr.readline()
            collector.wait_for(lambda: len(collector.spans) == 2)
    assert ids(collector) == ["s", "o"]


def test_a_dead_letter_that_comes_later_makes_its_chain_worth_keeping(path: Path, tmp_path: Path) -> None:
    ready = asyncio.Event()
    collected: list[Collector] = []

    async def run() -> None:
        async def fail(_: SignalEvent) -> None:
            await ready.wait()
            raise ValueError("no")

        bus = open_bus(path)
        bus.subscribe("signal", fail, name="books", retry=NO_RETRY)
        async with bus:
            await bus.publish(a_signal(event_id="late"))
            state = tmp_path / "state"
            with collecting() as collector, following(path, collector.url, state, "--keep", "0%"):
                await asyncio.to_thread(wait_for_place, state, 1)  # it was dropped
                ready.set()
                await asyncio.to_thread(collector.wait_for, lambda: len(collector.spans) == 2)
                collected.append(collector)
            await bus.join()

    asyncio.run(run())
    assert set(collected[0].by_name) == {"publish signal", "books handles signal"}


# -- mistakes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--otlp", "localhost:4318"), "no address of a collector"),
        (("--otlp", f"http://{EVIL}"), "no address of a collector"),
        (("--otlp", "http://h", "--keep", "lots"), "is not a share"),
        (("--otlp", "http://h", "--keep", "101%"), "is not a share"),
        (("--otlp", "http://h", "--state", "s"), "give --follow"),
    ],
)
def test_a_mistake_is_told_in_a_line(path: Path, options: tuple[str, ...], said: str) -> None:
    write(path, a_signal())
    result = call("traces", path, *options, code=2)
    assert said in result.stderr
    assert "\x1b" not in result.output


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"origin":"x","place":{"after":"1"}}'])
def test_a_state_that_is_none_is_not_overwritten(path: Path, tmp_path: Path, content: str) -> None:
    write(path, a_signal())
    state = tmp_path / "state"
    state.write_text(content)
    result = call("traces", path, "--otlp", "http://127.0.0.1:9", "--follow", "--state", state, code=2)
    assert "is not what --follow has written" in result.stderr
    assert state.read_text() == content


def test_without_the_extra_it_says_how_to_get_it(path: Path, monkeypatch) -> None:
    write(path, a_signal())
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    assert "pip install 'openoutcry[otel]'" in call("traces", path, "--otlp", "http://h", code=2).stderr


def test_a_collector_that_stays_away_ends_it_unless_the_journal_is_followed(
    path: Path, monkeypatch, caplog
) -> None:
    write(path, a_fill())
    now_s = [0.0]
    for module in (tracing, span_delivery):
        monkeypatch.setattr(module, "time", FakeTime(now_s))
    monkeypatch.setattr(otel.Sender, "send", lambda *_: otel.NotTaken("connection refused"))
    result = call("traces", path, "--otlp", "http://h", code=1)
    assert "connection refused" in result.stderr
    assert [r.getMessage().partition(",")[0] for r in caplog.records] == ["the spans wait"]
    assert now_s[0] >= span_delivery.GIVE_UP_S


class FakeTime:
    """The `time` of a module, which sleeps at once."""

    def __init__(self, now_s: list[float]) -> None:
        self.now_s = now_s

    def monotonic(self) -> float:
        return self.now_s[0]

    def monotonic_ns(self) -> int:
        return int(self.now_s[0] * 1e9)

    def sleep(self, wait_s: float) -> None:
        self.now_s[0] += wait_s


def test_an_outage_is_said_once_a_minute_and_tried_ever_less_often() -> None:
    now_s = [100.0]
    outage = otel.Outage(lambda: now_s[0])
    said_s, waits_s = [], []
    while now_s[0] < 400:
        wait_s, says = outage.failed()
        said_s += [now_s[0]] if says else []
        waits_s.append(wait_s)
        now_s[0] += wait_s
    assert waits_s[:4] == [0.5, 1.0, 2.0, 4.0]
    assert max(waits_s) == 30.0
    assert 4 <= len(said_s) <= 6
    assert min(b - a for a, b in pairwise(said_s)) >= 60
    assert outage.over()
    assert not outage.over()
    assert outage.failed() == (0.5, True)


@pytest.mark.parametrize(
    ("url", "full"),
    [
        ("http://localhost:4318", "http://localhost:4318/v1/traces"),
        ("http://localhost:4318/", "http://localhost:4318/v1/traces"),
        ("https://h/otlp/v1/traces", "https://h/otlp/v1/traces"),
    ],
)
def test_an_address_without_a_path_gets_the_usual_one(url: str, full: str) -> None:
    assert otel.traces_url(url) == full


def test_a_refusal_of_the_collector_is_quoted_and_not_logged_by_the_exporter(caplog) -> None:
    span = Span(trace=1, span=2, parent=None, name="n", handles=False, begin_ns=1, end_ns=1, attributes={})
    with collecting() as collector:
        collector.status = 400
        sender = otel.Sender(collector.url, "firm", "firm.db")
        said = sender.send([span])
        sender.close()
    assert said is not None
    assert "400" in said.why
    assert (said.is_final, said.is_general) == (True, False)
    assert caplog.records == []


# -- spans that are refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "is_final", "is_general"),
    [
        *((status, True, False) for status in (400, 413, 422)),
        *((status, True, True) for status in (401, 403, 404, 410)),
        *((status, False, False) for status in (408, 429, 500, 503)),
    ],
)
def test_a_status_says_whether_to_send_again(status: int, is_final: bool, is_general: bool) -> None:
    said = otel.NotTaken.by("no", status)
    assert (said.is_final, said.is_general) == (is_final, is_general)


@pytest.mark.parametrize("error", [ValueError("no number"), RecursionError("too deep")])
def test_spans_that_cannot_be_encoded_are_refused_for_good(error: Exception, monkeypatch) -> None:
    sender = otel.Sender("http://127.0.0.1:9", "firm", "firm.db")

    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(sender._exporter, "export", fail)
    said = sender.send([])
    sender.close()
    assert said is not None
    assert (said.is_final, said.is_general) == (True, False)


def spans_named(names: list[str]) -> list[Span]:
    return [
        Span(trace=1, span=n + 1, parent=None, name=name, handles=False, begin_ns=1, end_ns=1, attributes={})
        for n, name in enumerate(names)
    ]


class Picky:
    """A collector that refuses what has one of some names."""

    def __init__(self, bad: set[str], *, status: int = 400, away: int = 0) -> None:
        self.bad, self.status, self.away = bad, status, away
        self.taken: list[str] = []
        self.tries = 0

    def send(self, spans: Sequence[Span]) -> otel.NotTaken | None:
        self.tries += 1
        if self.away:
            self.away -= 1
            return otel.NotTaken.by("busy", 503)
        if any(span.name in self.bad for span in spans):
            return otel.NotTaken.by("bad span", self.status)
        self.taken += [span.name for span in spans]
        return None


@pytest.fixture
def fake_s(monkeypatch) -> list[float]:
    now_s = [0.0]
    monkeypatch.setattr(span_delivery, "time", FakeTime(now_s))
    return now_s


def delivery(picky: Picky, now_s: list[float], patience_s: float | None = None) -> span_delivery.Delivery:
    return span_delivery.Delivery(picky, patience_s, span_delivery.StopSignal(), lambda: now_s[0])


def test_of_a_refused_batch_the_bad_spans_alone_are_let_go_and_said(fake_s: list[float], caplog) -> None:
    names = [f"span {number}" for number in range(1_200)]
    picky = Picky({"span 7", "span 8", "span 900"})
    delivering = delivery(picky, fake_s)
    delivering.deliver(spans_named(names))
    assert picky.taken == [name for name in names if name not in picky.bad]
    assert (delivering.sent_count, delivering.refused_count) == (1_197, 3)
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert [line.partition(" for good")[0] for line in said] == [
        "the collector refuses 2 spans of 512",
        "the collector refuses 1 span of 512",
    ]
    assert "'span 7'" in said[0]
    assert picky.tries < 80


def test_where_all_of_a_batch_is_refused_it_is_let_go_before_each_was_sent_alone(fake_s: list[float]) -> None:
    names = [f"span {number}" for number in range(512)]
    picky = Picky(set(names))
    delivering = delivery(picky, fake_s)
    delivering.deliver(spans_named(names))
    assert delivering.refused_count == 512
    assert picky.tries < 60


def test_a_batch_is_sent_again_before_it_counts_as_refused(fake_s: list[float]) -> None:
    picky = Picky({"a"})
    refuse, count = picky.send, 0

    def twice(spans: Sequence[Span]) -> otel.NotTaken | None:
        nonlocal count
        count += 1
        if count == 3:
            picky.bad = set()
        return refuse(spans)

    picky.send = twice  # type: ignore[method-assign]
    delivering = delivery(picky, fake_s)
    delivering.deliver(spans_named(["a", "b"]))
    assert (delivering.sent_count, delivering.refused_count) == (2, 0)


def test_a_collector_that_is_away_while_a_bad_span_is_looked_for_is_waited_for(fake_s: list[float]) -> None:
    picky = Picky({"b"})
    refuse = picky.send

    def send(spans: Sequence[Span]) -> otel.NotTaken | None:
        if picky.tries == span_delivery.TRIES:
            picky.away = 5
        return refuse(spans)

    picky.send = send  # type: ignore[method-assign]
    delivering = delivery(picky, fake_s)
    delivering.deliver(spans_named(["a", "b", "c"]))
    assert picky.taken == ["a", "c"]
    assert delivering.refused_count == 1


def test_a_wrong_address_or_key_ends_it_and_nothing_is_let_go(fake_s: list[float]) -> None:
    picky = Picky({"a"}, status=401)
    delivering = delivery(picky, fake_s)
    with pytest.raises(Failed, match="refuses whatever it is sent: bad span; nothing was let go"):
        delivering.deliver(spans_named(["a", "b"]))
    assert picky.tries == span_delivery.TRIES
    assert (delivering.sent_count, delivering.refused_count) == (0, 0)


def test_what_is_refused_for_good_is_counted_at_the_end_with_exit_code_1(path: Path, monkeypatch) -> None:
    monkeypatch.setattr(otel.Outage, "FIRST_S", 0.0)
    write(path, a_fill(event_id="f1"), a_fill(event_id="f2"))
    with collecting() as collector:
        collector.refuses = lambda span: span.attributes["messaging.message.id"] == "f1"
        said = call("traces", path, "--otlp", collector.url, code=1)
    assert said.stdout.endswith("1 span sent to " + collector.url + ", 1 refused by it and let go\n")
    assert ids(collector) == ["f2"]


def test_a_refused_span_does_not_stall_whoever_follows(path: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with collecting() as collector, following(_made(path), collector.url, state) as process:
        collector.refuses = lambda span: span.attributes["messaging.message.id"] == "bad"
        write(path, a_fill(event_id="bad"))
        assert "the spans wait" in process.stderr.readline()
        assert "refuses 1 span of 1 for good" in process.stderr.readline()
        write(path, a_fill(event_id="good"))
        collector.wait_for(lambda: collector.spans)
        wait_for_place(state, 2)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 143
    assert "1 span sent" in said
    assert "1 refused by it and let go" in said
    assert ids(collector) == ["good"]


# -- ending ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_after_its_state_is_saved(
    path: Path, tmp_path: Path, number: int, code: int
) -> None:
    state = tmp_path / "state"
    write(path, *(a_fill(event_id=f"f{number}") for number in range(3)))
    with collecting() as collector:
        with following(path, collector.url, state) as process:
            collector.wait_for(lambda: len(collector.spans) == 3)
            process.send_signal(number)
            said, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (code, "")
        assert said == f"{path}: 3 spans sent to {collector.url}\n"
        assert json.loads(state.read_text())["place"]["after"] == 3
        with following(path, collector.url, state):
            write(path, a_fill(event_id="later"))
            collector.wait_for(lambda: len(collector.spans) == 4)
    assert ids(collector) == ["f0", "f1", "f2", "later"]


def test_a_signal_ends_it_while_the_collector_is_away_and_nothing_is_skipped(
    path: Path, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    write(path, a_fill(event_id="f"))
    state = tmp_path / "state"
    with following(path, f"http://127.0.0.1:{port}", state) as process:
        assert "the spans wait" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    with collecting() as collector, following(path, collector.url, state):
        collector.wait_for(lambda: collector.spans)
    assert ids(collector) == ["f"]


# -- the context of a handler ------------------------------------------------------------------------------


def test_a_handler_has_the_context_of_the_span_that_is_made_of_it(path: Path) -> None:
    found: dict[str, Any] = {}

    async def run() -> None:
        bus = open_bus(path)

        async def trend(event: SignalEvent) -> None:
            found["handler"] = otel.context()
            await bus.publish(a_fill(source_agent="trend"))
            await asyncio.create_task(spawned("task"))

        async def spawned(where: str) -> None:
            found[where] = otel.context()

        def blocking(event: SignalEvent) -> None:
            found["thread"] = otel.context(keep=0.0)

        bus.subscribe("signal", trend, name="trend")
        bus.subscribe("signal", blocking, name="slow", blocking=True)
        async with bus:
            await bus.publish(a_signal())
            await bus.join()
        found["outside"] = otel.context()

    asyncio.run(run())
    spans = traced(path).by_name
    assert found["outside"] is None
    assert found["task"] == found["handler"]
    for where, name in (("handler", "trend handles signal"), ("thread", "slow handles signal")):
        assert f"{found[where].trace_id:032x}" == spans[name].trace
        assert f"{found[where].span_id:016x}" == spans[name].id
    assert found["handler"].trace_flags.sampled
    assert not found["thread"].trace_flags.sampled


@pytest.mark.parametrize("keep", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(keep: float) -> None:
    with pytest.raises(ConfigError, match="it is a share"):
        otel.context(keep)
