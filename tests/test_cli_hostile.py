"""What events, names, errors and the command line itself hold does nothing to a terminal, a pipe or a spreadsheet."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from openoutcry.cli import console, main
from openoutcry.core.halts import Halt
from openoutcry.events import RoundReleased, Vote, encode
from openoutcry.journals import SqliteJournal
from openoutcry.ports import BuriedEvent, Changes, CursorState, Entry, Level, Snapshot
from openoutcry.printable import is_obeyed
from openoutcry.trading import MarketDataEvent

EVIL = "x\x1b]0;owned\x07\x1b[2J\x9b31m\r\nforged line\t\u202egnp.exe\u2066\u2028\u200b\x7f\U000e0041"
UNKNOWN = json.dumps(
    {"event_class": "No", "event_id": EVIL, "event_type": f"t{EVIL}", EVIL: [EVIL, {EVIL: 1}]}
)
RAW = '{"event_class":"No","event_id":"w2","event_type":"raw","note":"\x9b31m\u202e\u2028\x7f é"}'
START_NS = 1_764_000_000_000_000_000
OTHER_VERBS = {"bench", "demo", "firm", "mcp", "page", "replay", "run"}
"""Those that read no single journal, or run an app. `firm` has tests of its own for this, in tests/cli/firm."""


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def assert_safe(text: str) -> None:
    assert {c for c in text if is_obeyed(c)} <= {"\n"}
    assert [line for line in text.split("\n") if line.startswith("forged line")] == []


def fill(path: Path) -> None:
    event = MarketDataEvent(
        event_id=f"id {EVIL}", symbol=EVIL, price=1.0, source_agent=f"é 漢字 😀 {EVIL}", correlation_id=EVIL
    )
    entries = [
        Entry(event.event_id, encode(event), wall_ns=START_NS),
        Entry(f"u {EVIL}", UNKNOWN.encode(), lane="high", level=Level.DISK, wall_ns=START_NS + 1),
        Entry("w2", RAW.encode(), wall_ns=START_NS + 2),
    ]
    name = f"sub {EVIL}"
    letters = [
        BuriedEvent(
            subscription=name,
            lane="normal",
            position=position,
            payload=entry.payload,
            reason=f"failed {EVIL}",
            error=f"KeyError: {EVIL}",
            traceback=f"Traceback\n  {EVIL}\nKeyError: {EVIL}",
            attempts=3,
            wall_ns=START_NS,
        )
        for position, entry in enumerate(entries, 1)
    ]
    cursors = [CursorState(subscription=name, lane="normal", floor=0, takes=("*", EVIL))]
    halt = Halt(scope=f"scope {EVIL}", event_id=f"k {EVIL}", by=EVIL, reason=EVIL, since_ns=START_NS)
    memory = Snapshot(subscription=name, form=f"json {EVIL}", is_needed=True, lanes={}, wall_ns=START_NS)
    changes = Changes(cursors=cursors, buried=letters, halts=[halt], snapshots=[memory])
    with SqliteJournal(path) as journal:
        journal.write(entries, changes)
        journal.sync()


@pytest.fixture
def firm(tmp_path: Path) -> Path:
    path = tmp_path / "firm\x1b[31m\u202e.db"
    fill(path)
    return path


READ = [
    ["tail"],
    ["history"],
    ["pending"],
    ["pending", "--list"],
    ["dlq", "list"],
    ["cursors", "list"],
    ["halts"],
    ["recover", "--dry-run"],
    ["verify"],
    ["stats"],
    ["doctor"],
    ["status"],
    ["tail", "--id", f"id {EVIL}"],
    ["history", "--symbol", EVIL, "--by-time", "event", "--since", "2012-01-01"],
]
CHANGE = [
    ["dlq", "redrive", "--all"],
    ["cursors", "reassign", f"sub {EVIL}", f"new {EVIL}"],
    ["cursors", "drop", f"sub {EVIL}"],
    ["dlq", "drop", "--all"],
    ["halts", "--release-scope", f"scope {EVIL}", "--reason", f"why {EVIL}"],
    ["retire", "--keep-count", "1"],
    ["retire", "--keep-count", "0", "--past-cursors", "--past-memory", f"sub {EVIL}"],
    ["retire", "--keep-count", "1", "--past-memory", f"no {EVIL}"],
    ["vacuum"],
    ["redrive", "--all", "--yes"],
    ["redrive", "--all"],
    ["halt", "--scope", f"scope {EVIL}", "--yes"],
    ["pause", f"sub {EVIL}", "--yes"],
    ["resume", f"sub {EVIL}"],
    ["release", "--scope", f"scope {EVIL}", "--reason", f"why {EVIL}", "--yes"],
]


def _with(path: Path, verb: list[str]) -> list[str]:
    """Put the journal after the words of the verb."""
    words = 2 if verb[0] in ("dlq", "cursors") else 1
    return [*verb[:words], str(path), *verb[words:]]


@pytest.mark.parametrize("verb", READ, ids=" ".join)
def test_what_reads_a_hostile_journal_prints_nothing_that_is_obeyed(firm: Path, verb: list[str]) -> None:
    for more in ([], ["--json"]):
        result = call(*_with(firm, verb), *more)
        assert result.stdout
        assert_safe(result.stdout)
        assert_safe(result.stderr)
        if more:
            for line in result.stdout.split("\n")[:-1]:
                json.loads(line)


@pytest.mark.parametrize("verb", CHANGE, ids=lambda verb: " ".join(verb[:2]).partition("x\x1b")[0])
def test_what_changes_a_hostile_journal_prints_nothing_that_is_obeyed(firm: Path, verb: list[str]) -> None:
    result = call(*_with(firm, verb))
    assert result.stdout + result.stderr
    assert_safe(result.stdout)
    assert_safe(result.stderr)


def test_a_hostile_letter_is_shown_whole_and_safely(firm: Path) -> None:
    for letter_id in (1, 2, 3):
        for more in ([], ["--json"]):
            result = call("dlq", "show", firm, letter_id, *more)
            assert result.exit_code == 0
            assert_safe(result.stdout)


def test_a_hostile_journal_is_backed_up_and_restored_safely(firm: Path) -> None:
    for more in ([], ["--json"]):
        copy = firm.with_name(f"copy\x1b{len(more)}.db")
        for verb, source, target in (("backup", firm, copy), ("restore", copy, firm)):
            result = call(verb, source, target, *more)
            assert result.exit_code == 0, result.output
            assert_safe(result.stdout)
            assert_safe(result.stderr)


def test_a_hostile_journal_is_recovered_safely(firm: Path) -> None:
    for more in ([], ["--json"]):
        result = call("recover", firm, firm.with_name(f"new\x1b{len(more)}.db"), *more)
        assert result.exit_code == 0, result.output
        assert_safe(result.stdout)


def test_the_record_of_a_hostile_round_is_shown_safely(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"
    ended = RoundReleased(
        event_id=f"round:{EVIL}",
        round_id=EVIL,
        status="quorate",
        valid=True,
        reason=EVIL,
        opened_by=EVIL,
        symbol=EVIL,
        opened_wall_ns=START_NS,
        took_ns=1,
        noticed_ns=1,
        roster=(EVIL, "a"),
        quorum_count=1,
        signal_timeout_ns=1,
        barrier_timeout_ns=1,
        votes=(Vote("a", EVIL, EVIL, 1),),
        missing=(EVIL,),
        strangers={EVIL: 1},
    )
    with SqliteJournal(path) as journal:
        journal.write([Entry(ended.event_id, encode(ended), wall_ns=START_NS)])
    for more in ([], ["--json"], ["--id", EVIL], ["--agent", EVIL]):
        result = call("rounds", path, *more)
        assert result.exit_code == 0, result.output
        assert "quorate" in result.stdout
        assert_safe(result.stdout)


def test_an_explanation_of_hostile_events_is_safe(firm: Path) -> None:
    for ref in ("#1", "#2", "#3", "#4", EVIL):
        for more in ([], ["--forward"], ["--json"]):
            result = call("explain", firm, ref, *more)
            assert result.exit_code in (0, 2), result.output
            assert_safe(result.stdout + result.stderr)
    assert_safe(call("index", firm).stdout)
    assert_safe(call("index", firm, "--json", "--reference", EVIL).stdout)


def test_top_without_a_bus_names_the_file_safely(firm: Path) -> None:
    assert_safe(call("top", firm).stderr)


def test_metrics_of_a_hostile_file_are_safe(firm: Path, monkeypatch) -> None:
    monkeypatch.setattr("openoutcry.cli.metrics.FIRST_S", 0.01)
    result = CliRunner().invoke(main, ["metrics", str(firm), "--once"])
    assert "openoutcry_up 0" in result.stdout
    assert_safe(result.stdout + result.stderr)


def test_traces_of_a_hostile_journal_are_sent_and_what_is_said_is_safe(firm: Path, monkeypatch) -> None:
    otel = pytest.importorskip("openoutcry.observers.otel")
    pytest.importorskip("opentelemetry.sdk")
    sent = []
    monkeypatch.setattr(otel.Sender, "send", lambda _, spans: sent.extend(spans))
    result = call("traces", firm, "--otlp", "http://h", "--service", EVIL)
    assert len(sent) == 6
    assert_safe(result.stdout + result.stderr)


def _verbs(group: click.Group, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield from _verbs(command, (*before, name)) if isinstance(command, click.Group) else [(*before, name)]


def test_no_verb_is_left_out() -> None:
    walked = {tuple(word for word in verb[:2] if not word.startswith("-")) for verb in READ + CHANGE}
    walked = {verb if verb[0] in ("dlq", "cursors") else verb[:1] for verb in walked}
    walked |= {("dlq", "show"), ("export",), ("top",), ("anchor",), ("backup",), ("restore",), ("rounds",)}
    walked |= {("metrics",), ("traces",), ("explain",), ("index",)}
    assert {verb for verb in _verbs(main) if verb[0] not in OTHER_VERBS} == walked


@pytest.mark.parametrize("verb", sorted(set(_verbs(main))), ids=" ".join)
@pytest.mark.parametrize(
    "wrong", [f"--no{EVIL}", EVIL, f"--key-file={EVIL}", f"--since={EVIL}", f"--limit={EVIL}"]
)
def test_a_hostile_command_line_is_refused_safely(
    tmp_path: Path, monkeypatch, verb: tuple[str, ...], wrong: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if verb[0] in ("bench", "demo"):
        wrong = f"--days={EVIL}" if verb[0] == "demo" else "--help"
    result = CliRunner().invoke(main, [*verb, wrong] if verb[0] == "demo" else [*verb, f"{EVIL}.db", wrong])
    if verb[0] != "bench":
        assert result.exit_code != 0
        assert_safe(result.stdout)
        assert_safe(result.stderr)


@pytest.mark.parametrize(
    "arguments", [[EVIL], ["--" + EVIL], [f"-{EVIL}"], ["dlq", EVIL], ["run", f"{EVIL}:app"]]
)
def test_a_hostile_verb_is_refused_safely(arguments: list[str]) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert_safe(result.stderr)


def test_an_app_that_raises_something_hostile_is_shown_safely(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "hostile_firm.py").write_text(
        f"def app(bus):\n    raise ValueError({EVIL!r})\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    result = call("run", "hostile_firm:app", "--loop", "asyncio")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert "ValueError: x\\x1b]0;owned" in result.stderr
    assert_safe(result.stderr)


def test_tables_drawn_with_rich_are_as_safe(firm: Path, monkeypatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setattr(console, "can_be_rich", lambda *_: True)
    for verb in READ:
        assert_safe(call(*_with(firm, verb)).stdout)


# -- for programs ------------------------------------------------------------------------------------


def test_json_lines_decode_to_the_very_data(firm: Path) -> None:
    rows = [json.loads(line) for line in call("history", firm, "--json").stdout.split("\n")[:-1]]
    assert rows[0]["symbol"] == rows[0]["event"]["symbol"] == EVIL
    assert rows[0]["source_agent"] == f"é 漢字 😀 {EVIL}"
    assert rows[1]["event"] == json.loads(UNKNOWN)
    assert rows[2]["event"] == json.loads(RAW)
    assert call("export", firm).stdout == call("history", firm, "--json").stdout
    (letter, *_) = [json.loads(line) for line in call("dlq", "list", firm, "--json").stdout.split("\n")[:-1]]
    assert letter["error"] == f"KeyError: {EVIL}"


@pytest.mark.parametrize(
    "symbol", ["=HYPERLINK(A1)", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\r=1", "\uff1d1"]
)
def test_no_cell_of_a_csv_is_a_formula(tmp_path: Path, symbol: str) -> None:
    path, output = tmp_path / "firm.db", tmp_path / "out.csv"
    event = MarketDataEvent(
        event_id=symbol, symbol=symbol, price=-1.5, source_agent=symbol, correlation_id="-1.5"
    )
    with SqliteJournal(path) as journal:
        journal.write([Entry(event.event_id, encode(event), wall_ns=START_NS)])
    printed = call("export", path, "--format", "csv").stdout
    assert call("export", path, "-o", output).exit_code == 0
    assert output.read_text(encoding="utf-8") == printed
    (row,) = csv.DictReader(io.StringIO(printed))
    assert not any(cell.startswith(("=", "+", "@", "\t", "\r", "\uff1d", "-2")) for cell in row.values())
    assert row["correlation_id"] == "-1.5", "a number stays a number"
    assert (row["position"], row["wall_ns"]) == ("1", str(START_NS))
    assert json.loads(row["event"])["symbol"] == symbol


def test_a_csv_has_one_line_for_each_event_whatever_it_holds(firm: Path) -> None:
    printed = call("export", firm, "--format", "csv").stdout
    assert_safe(printed)
    rows = list(csv.DictReader(io.StringIO(printed)))
    assert len(rows) == printed.count("\n") - 1 == 3
    assert [json.loads(row["event"]).get("event_id") for row in rows] == [f"id {EVIL}", EVIL, "w2"]
