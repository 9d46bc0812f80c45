"""The command line on a journal, as a user meets it: beside a running bus, after a crash, on damage."""

import asyncio
import csv
import json
import os
import random
import select
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from openoutcry import EventBus, PersistenceConfig
from openoutcry.cli import doctor, main
from openoutcry.cli.console import progress
from openoutcry.cli.journal.options import AGE, INSTANT
from openoutcry.core.halts import Halt
from openoutcry.core.letters import REDRIVE, REDRIVE_ANEW
from openoutcry.core.retries import DeadLetter
from openoutcry.events import decode, encode
from openoutcry.journals import JournalReader, SqliteJournal, disk_room
from openoutcry.journals.engines import is_unsafe
from openoutcry.journals.showing import time_of
from openoutcry.ports import BuriedEvent, Changes, CursorState, Entry, Level, Places, Snapshot
from openoutcry.runtime.control.server import ControlServer
from openoutcry.trading import KillSwitchEvent, MarketDataEvent

LIMIT_S = 300
KEY = b"k" * 32
START_NS = 1_764_000_000_000_000_000  # 2025-11-24T16:00Z
SECOND = 1_000_000_000
UNKNOWN = b'{"event_class":"Nobody","event_id":"w1","event_type":"weather","source_agent":"sky","note":"r\\u001b[31m"}'


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def done(*arguments: object, code: int = 0) -> str:
    """Run a command that should end with `code`, and return what it printed."""
    result = call(*arguments)
    assert result.exit_code == code, (result.output, result.exception)
    assert "Traceback (most recent" not in result.output
    return result.stdout


def rows_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def one_line(result: Result) -> str:
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def tick(number: int, symbol: str = "AAPL", agent: str = "feed", chain: str | None = None) -> Entry:
    event = MarketDataEvent(symbol=symbol, price=float(number), source_agent=agent, correlation_id=chain)
    return Entry(event.event_id, encode(event), wall_ns=START_NS + number * SECOND)


def letter(subscription: str, entry: Entry, position: int, minutes: int = 0) -> BuriedEvent:
    return BuriedEvent(
        subscription=subscription,
        lane="normal",
        position=position,
        payload=entry.payload,
        reason="failed",
        error="KeyError: 'book'",
        traceback="Traceback\n  line of code\nKeyError: 'book'",
        attempts=3,
        wall_ns=START_NS + minutes * 60 * SECOND,
    )


def fill(path: Path, key: bytes | None = None) -> None:
    """Ten ticks, five for each symbol, and an event of a class that nobody knows; two letters; two cursors."""
    entries = [tick(n, "AAPL" if n % 2 else "IBM", chain="chain-1" if n < 4 else None) for n in range(1, 11)]
    entries.append(Entry("w1", UNKNOWN, lane="high", level=Level.DISK, wall_ns=START_NS + 60 * SECOND))
    changes = Changes(
        cursors=[
            CursorState(
                subscription="risk", lane="normal", floor=3, settled=((5, 6),), takes=("market_data", "fill")
            ),
            CursorState(subscription="risk", lane="high", floor=11, takes=("market_data", "fill")),
            CursorState(subscription="book", lane="high", floor=0, takes=("*",)),
            CursorState(subscription="book", lane="normal", floor=9, takes=("order",)),
        ],
        buried=[letter("risk", entries[4], 5), letter("book", entries[5], 6, minutes=10)],
    )
    with SqliteJournal(path, key=key) as journal:
        journal.write(entries, changes)
        journal.sync()


@pytest.fixture
def firm(tmp_path: Path) -> Path:
    path = tmp_path / "firm.db"
    fill(path)
    return path


# -- a bus's stand-in, in a thread of its own --------------------------------------------------------


class Bus:
    """A bus that has the journal's lock, and answers at its control socket."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def redrive(self, subscription: str | None = None, *, anew: bool = False, **conditions: Any) -> int:
        self.calls.append(("redrive", subscription, anew, conditions))
        return 1

    def drop_dead_letters(self, subscription: str | None = None, **conditions: Any) -> int:
        self.calls.append(("drop", subscription, conditions))
        return 2

    @property
    def admin(self) -> "Bus":
        return self

    async def read_status(self) -> dict[str, Any]:
        return {}

    def dead_letters(
        self, subscription: str | None = None, *, limit: int | None = None, after: int = 0
    ) -> list[DeadLetter]:
        return []

    def dead_letter_counts(self) -> dict[str, int]:
        return {"risk": 1, "book": 1}

    @property
    def subscriptions(self) -> Any:
        return (SimpleNamespace(name="risk"),)

    def pause(self, name: str) -> str:
        self.calls.append(("pause", name))
        return "paused"

    def resume(self, name: str) -> str:
        self.calls.append(("resume", name))
        return "idle"

    async def cursors(self) -> list[dict[str, Any]]:
        return [{"subscription": "risk", "lane": "normal", "floor": 8, "waiting": 3, "present": True}]

    async def drop_cursor(self, name: str) -> int:
        raise ValueError(f"{name} is subscribed")

    async def reassign_cursor(self, old: str, new: str) -> int:
        self.calls.append(("reassign", old, new))
        return 4

    async def flush(self) -> None:
        pass


@contextmanager
def running(path: Path, *, with_socket: bool = True) -> Iterator[Bus]:
    """Hold the journal's lock and serve its control socket, as a bus does."""
    bus = Bus()
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        server = ControlServer(bus, path)
        if with_socket:
            await server.start()
        ready.set()
        await asyncio.to_thread(stop.wait)
        await server.stop()

    with SqliteJournal(path):
        thread = threading.Thread(target=asyncio.run, args=(serve(),))
        thread.start()
        try:
            assert ready.wait(LIMIT_S)
            yield bus
        finally:
            stop.set()
            thread.join()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bus in this process does answer, on a machine that may be slow."""
    monkeypatch.setattr(doctor, "_PATIENCE_S", LIMIT_S)


# -- tail and history --------------------------------------------------------------------------------


def positions(text: str) -> list[int]:
    return [row["position"] for row in rows_of(text)]


def test_tail_shows_the_newest_events_one_a_line(firm: Path) -> None:
    heads, *lines = done("tail", firm, "-n", "3").splitlines()
    assert heads.split() == ["position", "time", "(UTC)", "type", "agent", "symbol", "event"]
    assert len(lines) == 3
    position, own_time, *rest = lines[0].split()
    (event,) = (row["event"] for row in rows_of(done("history", firm, "--json")) if row["position"] == 9)
    assert (position, own_time) == ("9", time_of(event["timestamp"]))
    admitted = "admitted=2025-11-24T16:00:09.000"
    assert rest == ["market_data", "feed", "AAPL", "price=9.0", admitted, f"id={event['event_id']}"]
    assert [line.index("market_data") for line in lines[:2]] == [heads.index("type")] * 2


def test_on_a_narrow_terminal_the_own_fields_of_an_event_are_to_be_seen(
    firm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openoutcry.cli.journal.log.terminal_size", lambda: (80, 24))
    head, *lines = done("history", firm).splitlines()
    at = head.index("event")
    assert at < 66
    assert all("=" in line[at:] for line in lines if len(line) > at)
    assert any(len(line) > at for line in lines)


def test_on_a_terminal_a_line_is_cropped_and_piped_it_never_is(
    firm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = done("tail", firm)
    monkeypatch.setattr("openoutcry.cli.journal.log.terminal_size", lambda: (60, 24))
    lines = done("tail", firm).splitlines()
    assert max(map(len, lines)) == 60
    assert len(lines) == len(whole.splitlines())
    assert done("history", firm, "--json") == done("export", firm)


def test_an_event_is_found_by_its_id_its_round_its_cause_and_either_time(firm: Path) -> None:
    own = MarketDataEvent(
        symbol="ES", price=1.0, timestamp="2012-05-04T10:00:00Z", round_id="r-1", causation_id="c-1"
    )
    with SqliteJournal(firm) as journal:
        journal.write([Entry(own.event_id, encode(own), wall_ns=START_NS + 90 * SECOND)])
    for options in (
        ["--id", own.event_id],
        ["--round", "r-1"],
        ["--cause", "c-1"],
        ["--since", "2012-05-04", "--until", "2012-05-05", "--by-time", "event"],
    ):
        assert positions(done("history", firm, "--json", *options)) == [12], options
        assert positions(done("tail", firm, "--json", *options)) == [12], options
    assert positions(done("history", firm, "--json", "--since", "2025-11-24T16:01:30")) == [12]
    assert positions(done("history", firm, "--json", "--until", "2012-05-05")) == []


def test_an_event_of_an_unknown_type_is_shown_from_its_json_and_does_nothing_to_the_terminal(
    firm: Path,
) -> None:
    line = done("tail", firm, "-n", "1")
    assert "lane=high" in line
    assert "weather" in line
    assert "note=r\\x1b[31m" in line


def test_json_lines_carry_the_place_the_head_and_the_event_as_it_was_written(firm: Path) -> None:
    out = done("tail", firm, "-n", "1", "--json")
    assert UNKNOWN.decode() in out
    (row,) = rows_of(out)
    assert {name: row[name] for name in ("position", "time", "lane", "level", "event_type", "event_id")} == {
        "position": 11,
        "time": "2025-11-24T16:01:00.000",
        "lane": "high",
        "level": "disk",
        "event_type": "weather",
        "event_id": "w1",
    }


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", list(range(1, 12))),
        ("--type weather", [11]),
        ("--type weather,market_data --type fill", list(range(1, 12))),
        ("--symbol IBM", [2, 4, 6, 8, 10]),
        ("--agent sky", [11]),
        ("--agent nobody", []),
        ("--correlation chain-1", [1, 2, 3]),
        ("--since 2025-11-24T16:00:08", [8, 9, 10, 11]),
        ("--until 2025-11-24T16:00:03Z", [1, 2]),
        ("--since 2025-11-24T17:00:05+01:00 --until 2025-11-24T16:00:07 --symbol IBM", [6]),
        ("--limit 2", [10, 11]),
        ("--limit 2 --symbol AAPL", [7, 9]),
        ("--since 2030-01-01", []),
    ],
)
def test_history_shows_what_meets_every_condition_oldest_first(
    firm: Path, options: str, expected: list[int]
) -> None:
    assert positions(done("history", firm, "--json", *options.split())) == expected


def test_a_long_history_comes_in_pages_and_whole(firm: Path) -> None:
    with SqliteJournal(firm) as journal:
        for start in range(100, 6_100, 1_500):
            journal.write([tick(n, "IBM" if n == 4_000 else "AAPL") for n in range(start, start + 1_500)])
    assert positions(done("history", firm, "--json")) == list(range(1, 6_012))
    assert len(positions(done("history", firm, "--symbol", "IBM", "--json"))) == 6


@pytest.mark.parametrize("text", ["yesterday", "2025-13-01", "5x", ""])
def test_a_time_that_is_none_is_a_mistake_with_examples(firm: Path, text: str) -> None:
    result = call("history", firm, "--since", text)
    assert result.exit_code == 2
    assert "write 2025-11-24" in result.stderr


def test_times_are_utc_and_may_be_ages() -> None:
    assert INSTANT.convert("2025-11-24T16:00:00.5", None, None) == START_NS + SECOND // 2
    assert AGE.convert("1.5h", None, None) == 5_400 * SECOND
    age = time.time_ns() - INSTANT.convert("15m", None, None)
    assert abs(age - 900 * SECOND) < 60 * SECOND
    assert time_of(START_NS + 1_999_999) == "2025-11-24T16:00:00.001"
    assert time_of(2**63 - 1) == "2262-04-11T23:47:16.854"


# -- follow ------------------------------------------------------------------------------------------


def start(*arguments: object, **options: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "openoutcry", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, **options)


@contextmanager
def following(path: Path) -> Iterator[Callable[[int], list[int]]]:
    """Follow a journal; the function that is yielded reads so many positions. Ends with Ctrl-C and 130."""
    process = start("tail", path, "--follow", "-n", "0", "--json", "--symbol", "ES")
    watchdog = threading.Timer(LIMIT_S, process.kill)
    watchdog.start()
    out = process.stdout
    assert out is not None

    def take(count: int) -> list[int]:
        return [json.loads(out.readline())["position"] for _ in range(count)]

    try:
        yield take
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate()
        assert process.returncode == 130, err
        assert rest == ""
        assert "Traceback" not in err
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


def write_es(journal: SqliteJournal, *numbers: int) -> list[int]:
    return list(journal.write([tick(n, "ES") for n in numbers]).positions)


CRASHES = """
import os, sys
from openoutcry.journals import SqliteJournal
from openoutcry.ports import Entry
journal = SqliteJournal(sys.argv[1])
event = b'{"event_id":"%s","event_type":"t","symbol":"ES"}' % sys.argv[2].encode()
journal.write([Entry(sys.argv[2], event)])
os.kill(os.getpid(), 9)
"""


def crash_after_writing(path: Path, event_id: str) -> None:
    ended = subprocess.run([sys.executable, "-c", CRASHES, str(path), event_id], check=False, timeout=LIMIT_S)
    assert ended.returncode == -signal.SIGKILL


def test_follow_shows_what_is_written_through_restarts_and_crashes_of_the_bus(firm: Path) -> None:
    with following(firm) as take:
        _wait_for_follower(firm, take)
        with SqliteJournal(firm) as journal:
            assert take(0) == []
            expected = write_es(journal, 2, 3)
            assert take(2) == expected
            journal.write([tick(4, "AAPL")])
            expected = write_es(journal, 5)
            assert take(1) == expected
        with SqliteJournal(firm) as journal:
            expected = write_es(journal, 6)
            assert take(1) == expected
            head = journal.head
        crash_after_writing(firm, "c1")
        assert take(1) == [head + 1]
        crash_after_writing(firm, "c2")
        assert take(1) == [head + 2]
        with SqliteJournal(firm) as journal:
            expected = write_es(journal, *range(100, 3_100))
            assert take(3_000) == expected


def test_follow_goes_on_in_a_journal_that_takes_the_place_of_the_old_one(firm: Path) -> None:
    with following(firm) as take:
        _wait_for_follower(firm, take)
        new = firm.with_name("new.db")
        with SqliteJournal(new) as journal:
            write_es(journal, 1)
        for end in ("-wal", "-shm", "-marks"):
            firm.with_name(firm.name + end).unlink(missing_ok=True)
        new.with_name("new.db-marks").rename(firm.with_name("firm.db-marks"))
        new.rename(firm)
        assert take(1) == [1]
        with SqliteJournal(firm) as journal:
            assert write_es(journal, 2) == [2]
            assert take(1) == [2]


def _wait_for_follower(path: Path, take: Callable[[int], list[int]]) -> None:
    """Write an event now and again until the follower shows one, so that it is known to be there."""
    with SqliteJournal(path) as journal:
        seen = threading.Event()
        written = 0

        def write() -> None:
            nonlocal written
            while not seen.wait(0.05):
                write_es(journal, 1_000 + written)
                written += 1

        writer = threading.Thread(target=write)
        writer.start()
        first = take(1)[0]
        seen.set()
        writer.join()
        take(journal.head - first)


# -- pipes and signals -------------------------------------------------------------------------------


def test_a_reader_that_goes_away_ends_the_command_quietly(firm: Path) -> None:
    with SqliteJournal(firm) as journal:
        journal.write([tick(n) for n in range(100, 20_100)])
    process = start("history", firm, "--json")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(LIMIT_S) == 1
    process.stderr.close()


def test_ctrl_c_ends_a_long_command_silently_with_130(firm: Path) -> None:
    with SqliteJournal(firm) as journal:
        journal.write([tick(n) for n in range(100, 20_100)])
    process = start("history", firm, "--json")
    assert process.stdout is not None
    process.stdout.readline()  # it is at work, and waits for room in the pipe
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, err) == (130, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_one_line(firm: Path) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        command = [sys.executable, "-m", "openoutcry", "history", str(firm)]
        ended = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=LIMIT_S
        )
    assert ended.returncode == 2
    assert ended.stderr.startswith("Error: the output cannot be written")


def test_a_progress_bar_is_drawn_on_a_terminal_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("counting") as tell:
        tell(1, 2)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("verb", [["verify"], ["stats"], ["pending"], ["recover", "--dry-run"]])
def test_long_work_shows_its_progress_on_a_terminal(firm: Path, verb: list[str]) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "openoutcry", *verb, str(firm)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        assert process.wait(LIMIT_S) == 0
        seen = b""
        while select.select([ours], [], [], 0)[0]:
            try:
                seen += os.read(ours, 4_096)
            except OSError:
                break
    os.close(ours)
    assert b"100%" in seen


# -- pending -----------------------------------------------------------------------------------------


def test_pending_counts_by_cursor_and_by_what_a_subscription_takes(firm: Path) -> None:
    found = {
        (row["subscription"], row["lane"]): row["waiting"] for row in rows_of(done("pending", firm, "--json"))
    }
    assert found == {("risk", "normal"): 5, ("risk", "high"): 0, ("book", "high"): 1, ("book", "normal"): 0}


def test_pending_is_a_table_for_people(firm: Path) -> None:
    lines = [line.split() for line in done("pending", firm, "--subscription", "risk").splitlines()]
    assert lines == [
        ["subscription", "lane", "floor", "waiting", "oldest"],
        ["risk", "high", "11", "0", "-"],
        ["risk", "normal", "3", "5", "2025-11-24T16:00:04.000"],
    ]


def test_pending_lists_the_events_with_whom_they_wait_for(firm: Path) -> None:
    rows = rows_of(done("pending", firm, "--list", "--json"))
    assert [(row["subscription"], row["position"]) for row in rows] == [
        *(("risk", position) for position in (4, 7, 8, 9, 10)),
        ("book", 11),
    ]
    assert len(done("pending", firm, "--list", "--subscription", "book").splitlines()) == 1


def test_what_is_counted_is_what_is_listed_whatever_was_settled_out_of_order(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"
    chance = random.Random(7)
    with SqliteJournal(path) as journal:
        for size in (1, 700, 3_000, 1_500):
            entries = [tick(n) for n in range(size)]
            lanes = ("normal", "high")
            journal.write([msgspec.structs.replace(entry, lane=chance.choice(lanes)) for entry in entries])
        cursors = []
        for name in range(6):
            ends = sorted(chance.sample(range(1, 5_202), 2 * chance.choice((0, 1, 5, 200))))
            settled = [(low, high) for low, high in zip(ends[::2], ends[1::2], strict=True)]
            floor = settled[len(settled) // 4][0] if settled else chance.randrange(5_201)
            cursors += [
                CursorState(
                    subscription=f"s{name}", lane=lane, floor=floor, settled=tuple(settled), takes=takes
                )
                for lane, takes in (("normal", ("market_data",)), ("high", ()))
            ]
        journal.write((), Changes(cursors=cursors))
    listed: dict[tuple[str, str], list[int]] = {}
    for row in rows_of(done("pending", path, "--list", "--json")):
        listed.setdefault((row["subscription"], row["lane"]), []).append(row["position"])
    for row in rows_of(done("pending", path, "--json")):
        mine = listed.get((row["subscription"], row["lane"]), [])
        assert (row["waiting"], row["first"]) == (len(mine), mine[0] if mine else None)
    assert sum(map(len, listed.values())) > 5_000


def test_without_cursors_nothing_is_pending(tmp_path: Path) -> None:
    with SqliteJournal(tmp_path / "new.db") as journal:
        journal.write([tick(1)])
    assert "no subscription has a cursor" in done("pending", tmp_path / "new.db")
    assert "no subscription has a cursor" in done("cursors", "list", tmp_path / "new.db")


# -- dead letters ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", [1, 2]),
        ("--id 2", [2]),
        ("--id 1 --id 2", [1, 2]),
        ("--subscription risk", [1]),
        ("--type market_data", [1, 2]),
        ("--type fill", []),
        ("--since 2025-11-24T16:05", [2]),
        ("--until 2025-11-24T16:05", [1]),
        ("--id 1 --subscription book", []),
    ],
)
def test_dead_letters_are_listed_by_every_condition(firm: Path, options: str, expected: list[int]) -> None:
    rows = rows_of(done("dlq", "list", firm, "--json", *options.split()))
    assert [row["letter_id"] for row in rows] == expected


def test_dead_letters_are_listed_by_the_page(firm: Path) -> None:
    (first,) = rows_of(done("dlq", "list", firm, "--json", "--limit", "1"))
    (second,) = rows_of(done("dlq", "list", firm, "--json", "--after", str(first["letter_id"])))
    assert [first["letter_id"], second["letter_id"]] == [1, 2]
    assert done("dlq", "list", firm, "--limit", "1").splitlines()[-1] == "1 more: --after 1"
    assert "more" not in done("dlq", "list", firm)


def test_letters_of_names_that_are_not_subscribed_are_marked_while_a_bus_runs(firm: Path) -> None:
    assert {row["subscribed"] for row in rows_of(done("dlq", "list", firm, "--json"))} == {None}
    with running(firm):
        out = done("dlq", "list", firm)
        assert "book (not subscribed)" in out
        assert "risk (not subscribed)" not in out
        rows = rows_of(done("dlq", "list", firm, "--json"))
        assert {row["subscription"]: row["subscribed"] for row in rows} == {"risk": True, "book": False}
        said = done("dlq", "redrive", firm, "--all")
        assert "1 letter of names that are not subscribed now stay" in said


def test_letters_can_be_marked_to_be_redriven_anew(firm: Path) -> None:
    assert done("dlq", "redrive", firm, "--all").startswith("2 letters marked")
    assert done("dlq", "redrive", firm, "--all", "--anew").startswith("2 letters marked")
    assert {found.reason for found in letters_of(firm)} == {REDRIVE_ANEW}
    (row,) = rows_of(done("recover", firm, "--dry-run", "--json"))
    assert (row["letters"], row["redriven"]) == (2, 2)
    with running(firm) as bus:
        done("dlq", "redrive", firm, "--id", "3", "--anew")
    assert [call[:3] for call in bus.calls] == [("redrive", None, True)]


def test_dead_letters_are_a_table_for_people(firm: Path) -> None:
    out = done("dlq", "list", firm)
    assert out.splitlines()[0].split() == [
        *("id", "subscription", "position", "type", "reason", "attempts", "buried", "error")
    ]
    assert "KeyError: 'book'" in out
    assert done("dlq", "list", firm, "--type", "fill") == "no dead letters\n"


def test_a_dead_letter_is_shown_whole(firm: Path) -> None:
    out = done("dlq", "show", firm, "1")
    for said in ("dead letter 1", "risk", "failed", '"symbol": "AAPL"', "  line of code"):
        assert said in out
    (row,) = rows_of(done("dlq", "show", firm, "2", "--json"))
    assert row["event"]["symbol"] == "IBM"
    assert "no dead letter 9" in one_line(call("dlq", "show", firm, "9"))


def letters_of(path: Path) -> list[BuriedEvent]:
    with JournalReader(path) as reader:
        return reader.buried()


def test_a_redrive_without_a_bus_marks_the_letters_for_the_next_start_and_keeps_all_else(firm: Path) -> None:
    before = letters_of(firm)[0]
    assert "1 letter marked: the next start" in done("dlq", "redrive", firm, "--subscription", "risk")
    other, marked = letters_of(firm)
    assert other.subscription == "book"
    assert other.reason == "failed"
    assert msgspec.structs.replace(marked, letter_id=1, reason="failed") == before
    assert marked.reason == REDRIVE
    assert done("dlq", "redrive", firm, "--all").startswith("1 letter marked")
    assert done("dlq", "redrive", firm, "--all") == "there are no dead letters to do this with\n"
    assert {found.reason for found in letters_of(firm)} == {REDRIVE}


def test_dropping_letters_forgets_these_alone(firm: Path) -> None:
    assert done("dlq", "drop", firm, "--id", "1") == "1 letter dropped\n"
    assert [found.letter_id for found in letters_of(firm)] == [2]
    assert done("dlq", "drop", firm, "--all") == "1 letter dropped\n"
    assert letters_of(firm) == []


@pytest.mark.parametrize("verb", ["redrive", "drop"])
def test_all_letters_must_be_asked_for(firm: Path, verb: str) -> None:
    assert "--all" in one_line(call("dlq", verb, firm))
    assert "--all goes without" in one_line(call("dlq", verb, firm, "--all", "--id", "1"))
    assert len(letters_of(firm)) == 2


def test_a_running_bus_redrives_and_drops_itself_and_nobody_else_writes(firm: Path) -> None:
    options = ["--id", "1", "--type", "market_data", "--since", "2025-11-24T16:00"]
    with running(firm) as bus:
        before = letters_of(firm)
        assert "1 letter redriven by the running bus" in done(
            "dlq", "redrive", firm, "--subscription", "risk", *options
        )
        assert done("dlq", "drop", firm, "--all") == "2 letters dropped\n"
        assert letters_of(firm) == before
    nothing = {"letter_ids": None, "event_type": None, "since_ns": None, "until_ns": None}
    some = {"letter_ids": [1], "event_type": "market_data", "since_ns": START_NS, "until_ns": None}
    assert bus.calls == [("redrive", "risk", False, some), ("drop", None, nothing)]


@pytest.mark.parametrize(
    "verb",
    [
        ["dlq", "redrive", "--all"],
        ["dlq", "drop", "--all"],
        ["cursors", "drop", "risk"],
        ["halts", "--release-scope", "firm", "--reason", "over"],
        ["cursors", "reassign", "risk", "r"],
        ["retire", "--keep-count", "1"],
        ["vacuum"],
    ],
    ids=" ".join,
)
def test_what_writes_refuses_a_file_whose_writer_cannot_be_asked(firm: Path, verb: list[str]) -> None:
    count = 2 if verb[0] in ("dlq", "cursors") else 1
    with running(firm, with_socket=False):
        said = one_line(call(*verb[:count], firm, *verb[count:]))
    assert "JournalLocked" in said
    assert f"process {os.getpid()}" in said


# -- cursors -----------------------------------------------------------------------------------------


def test_cursors_are_listed_with_what_waits(firm: Path) -> None:
    rows = rows_of(done("cursors", "list", firm, "--json"))
    assert [(r["subscription"], r["lane"], r["floor"], r["waiting"], r["present"]) for r in rows] == [
        ("book", "high", 0, 1, None),
        ("book", "normal", 9, 0, None),
        ("risk", "high", 11, 0, None),
        ("risk", "normal", 3, 5, None),
    ]
    assert done("cursors", "list", firm).splitlines()[1].split() == ["book", "high", "0", "1", "-"]


def test_a_dropped_cursor_gives_up_what_waited(firm: Path) -> None:
    assert "5 events that waited" in done("cursors", "drop", firm, "risk")
    with JournalReader(firm) as reader:
        assert {cursor.subscription for cursor in reader.cursors()} == {"book"}
        assert len(reader.buried()) == 2


def test_a_reassigned_cursor_takes_its_place_and_its_letters_along(firm: Path) -> None:
    with JournalReader(firm) as reader:
        before = [c for c in reader.cursors() if c.subscription == "risk"]
    assert "5 events wait" in done("cursors", "reassign", firm, "risk", "risk2")
    with JournalReader(firm) as reader:
        after = [c for c in reader.cursors() if c.subscription != "book"]
        assert after == [msgspec.structs.replace(c, subscription="risk2") for c in before]
        assert {found.subscription for found in reader.buried()} == {"book", "risk2"}


def test_cursors_that_are_not_there_or_taken_are_mistakes(firm: Path) -> None:
    assert "NotSubscribed" in one_line(call("cursors", "drop", firm, "nobody"))
    assert "book, risk" in one_line(call("cursors", "reassign", firm, "nobody", "x"))
    assert "DuplicateName" in one_line(call("cursors", "reassign", firm, "risk", "book"))
    assert "both" in one_line(call("cursors", "reassign", firm, "risk", "risk"))


def test_dropping_a_cursor_clears_what_it_is_suspected_of(firm: Path) -> None:
    leave_in_flight(firm)
    done("cursors", "drop", firm, "risk")
    with JournalReader(firm) as reader:
        assert reader.suspects() == []


def test_a_running_bus_answers_for_its_cursors(firm: Path) -> None:
    with running(firm) as bus:
        (row,) = rows_of(done("cursors", "list", firm, "--json"))
        assert (row["subscription"], row["floor"], row["waiting"], row["present"]) == ("risk", 8, 3, True)
        assert "4 events wait" in done("cursors", "reassign", firm, "a", "b")
        assert one_line(call("cursors", "drop", firm, "risk")) == "Error: ValueError: risk is subscribed\n"
    assert bus.calls == [("reassign", "a", "b")]


# -- memory ------------------------------------------------------------------------------------------


@pytest.fixture
def remembering(firm: Path) -> Path:
    """`risk` has a saved state, `book` folds from the beginning, `desk` has no memory."""
    lanes = {"normal": (3, ((5, 6),)), "high": (11, ())}
    kept = [
        Snapshot(
            subscription="risk",
            form="bytes",
            is_needed=True,
            lanes=lanes,
            state=b"x" * 1234,
            wall_ns=time.time_ns() - 3 * 3_600 * SECOND,
        ),
        Snapshot(
            subscription="book", form="none", is_needed=True, lanes={"normal": (8, ()), "high": (8, ())}
        ),
        Snapshot(subscription="desk", form="none", is_needed=False, lanes={}),
    ]
    with SqliteJournal(firm) as journal:
        journal.write((), Changes(snapshots=kept, tombstones=[("risk", 4)]))
    return firm


def test_cursors_show_what_is_saved_of_memory_and_how_old_it_is(remembering: Path) -> None:
    rows = rows_of(done("cursors", "list", remembering, "--json"))
    memories = {row["subscription"]: row["memory"] for row in rows}
    risk = memories["risk"]
    assert (risk["form"], risk["size_bytes"], risk["position"], risk["after"]) == ("bytes", 1234, 3, 8)
    assert 3 * 3_600 <= risk["age_s"] < 4 * 3_600
    assert risk["saved"].startswith("20")
    book = memories["book"]
    assert (book["form"], book["size_bytes"], book["age_s"], book["saved"]) == ("none", 0, None, "")
    text = done("cursors", "list", remembering)
    assert ["risk", "bytes", "1,234", "3h", "3", "8"] in [line.split() for line in text.splitlines()]
    assert ["book", "none", "0", "-", "8", "3"] in [line.split() for line in text.splitlines()]
    assert "desk" not in text


def test_the_state_of_a_running_bus_is_that_of_its_file(remembering: Path) -> None:
    with running(remembering):
        (row,) = rows_of(done("cursors", "list", remembering, "--json"))
        assert (row["present"], row["memory"]["size_bytes"]) == (True, 1234)


def test_stats_tell_for_whom_retention_keeps_what_is_there(remembering: Path) -> None:
    (row,) = rows_of(done("stats", remembering, "--json"))
    assert [(h["subscription"], h["why"], h["position"], h["entries"]) for h in row["held_by"]] == [
        ("book", "cursor", 0, 11),
        ("risk", "cursor", 3, 8),
        ("risk", "memory", 3, 8),
        ("risk", "dead letter", 4, 7),
        ("book", "dead letter", 5, 6),
        ("book", "memory", 8, 3),
    ]
    text = done("stats", remembering)
    assert "risk      its memory is rebuilt from what follows" in text
    assert text.index("book      it has not settled what follows") < text.index("its memory is rebuilt")


def test_what_holds_nothing_back_is_not_shown_and_many_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"
    with SqliteJournal(path) as journal:
        names = [f"agent-{number:02}" for number in range(14)]
        cursors = [CursorState(subscription=name, lane="normal", floor=2) for name in [*names, "done"]]
        cursors[-1] = msgspec.structs.replace(cursors[-1], floor=3)
        journal.write([tick(n) for n in range(3)], Changes(cursors=cursors))
    text = done("stats", path).rpartition("kept for")[2]
    assert "done" not in text
    assert text.splitlines()[-1] == "and 4 more: --json has them all"


def test_a_memory_that_a_recovery_could_not_carry_over_is_listed_as_lost(remembering: Path) -> None:
    db = sqlite3.connect(remembering, isolation_level=None)
    db.execute("UPDATE snapshots SET state = x'00' WHERE subscription = 'risk'")
    db.close()
    new = remembering.with_name("new.db")
    assert "the memory of 'risk' is lost" in done("recover", remembering, new, code=1)
    rows = rows_of(done("cursors", "list", new, "--json"))
    assert {row["memory"]["form"] for row in rows if row["subscription"] == "risk"} == {"lost"}


def test_a_dropped_cursor_forgets_the_memory_and_the_letters_stay(remembering: Path) -> None:
    done("cursors", "drop", remembering, "risk")
    with JournalReader(remembering) as reader:
        assert (reader.snapshot("risk"), reader.tombstones("risk")) == (None, [])
        assert reader.snapshot("book") is not None
        assert len(reader.buried()) == 2
    done("cursors", "drop", remembering, "desk")  # it has no cursor, but begins anew all the same
    assert "NotSubscribed" in one_line(call("cursors", "drop", remembering, "desk"))


def test_a_damaged_memory_can_be_dropped(remembering: Path) -> None:
    db = sqlite3.connect(remembering, isolation_level=None)
    db.execute("UPDATE snapshots SET cursors = '{}' WHERE subscription = 'risk'")
    db.close()
    rows = rows_of(done("cursors", "list", remembering, "--json"))
    assert {row["memory"]["form"] for row in rows if row["subscription"] == "risk"} == {"damaged"}
    (row,) = rows_of(done("stats", remembering, "--json"))
    assert ("risk", "memory", 0) in [(h["subscription"], h["why"], h["position"]) for h in row["held_by"]]
    done("cursors", "drop", remembering, "risk")
    assert "bytes" not in done("cursors", "list", remembering).partition("memory of")[2].split("\n", 1)[1]


def test_a_reassigned_cursor_takes_the_memory_along(remembering: Path) -> None:
    with JournalReader(remembering) as reader:
        before = reader.snapshot("risk")
    assert before is not None
    done("cursors", "reassign", remembering, "risk", "risk2")
    with JournalReader(remembering) as reader:
        assert reader.snapshot("risk2") == msgspec.structs.replace(before, subscription="risk2")
        assert (reader.tombstones("risk2"), reader.snapshot("risk")) == ([4], None)


def test_a_dropped_letter_of_a_stopped_journal_leaves_a_tombstone(remembering: Path) -> None:
    with SqliteJournal(remembering) as journal:
        journal.write((), Changes(buried=[letter("risk", tick(1), 0)]))
    assert "2 letters dropped" in done("dlq", "drop", remembering, "--subscription", "risk")
    with JournalReader(remembering) as reader:
        assert [reader.tombstones(name) for name in ("risk", "book")] == [[4, 5], []]


def test_retire_passes_a_memory_only_by_its_name_and_says_what_that_means(remembering: Path) -> None:
    with SqliteJournal(remembering) as journal:
        for number in range(12, 20):
            journal.write([tick(number)])
        cursors = [msgspec.structs.replace(c, floor=19, settled=()) for c in journal.cursors()]
        lanes: Places = {"normal": (14, ())}
        kept = [
            Snapshot(subscription=name, form="none", is_needed=True, lanes=lanes) for name in ("risk", "book")
        ]
        letters = [found.letter_id for found in journal.buried()]
        journal.write((), Changes(cursors=cursors, snapshots=kept, removed_letters=letters))
    everything = ("retire", remembering, "--keep-count", "0")
    text = done(*everything)
    assert text.startswith("14 events retired")
    assert "what follows position 14 is kept for book; `openoutcry stats" in text
    wrong = one_line(call(*everything, "--past-memory", "bok"))
    assert "no memory of that name keeps events here; those that do: book, risk" in wrong
    assert done(*everything, "--past-memory", "book").startswith("0 events")
    text = done(*everything, "--past-memory", "book", "--past-memory", "risk")
    assert text.startswith("5 events retired")
    assert "is kept for" not in text
    for name in ("book", "risk"):
        assert (
            f'{name}: its memory cannot be rebuilt; its next start fails, unless it has on_missing="warn"'
            in text
        )


# -- recover, verify, stats --------------------------------------------------------------------------

IN_FLIGHT = """
import os, sys
from openoutcry.journals import SqliteJournal
journal = SqliteJournal(sys.argv[1])
journal.marks.cells[journal.marks.claim("risk", "normal")] = 7
os.kill(os.getpid(), 9)
"""


def leave_in_flight(path: Path) -> None:
    """Kill a writer while `risk` handles position 7."""
    ended = subprocess.run([sys.executable, "-c", IN_FLIGHT, str(path)], check=False, timeout=LIMIT_S)
    assert ended.returncode == -signal.SIGKILL


def files_of(path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in path.parent.iterdir() if not p.name.endswith("-shm")}


def test_a_dry_run_says_what_a_start_would_redeliver_and_changes_nothing(firm: Path) -> None:
    for _ in range(2):
        leave_in_flight(firm)
    before = files_of(firm)
    (row,) = rows_of(done("recover", firm, "--dry-run", "--json"))
    assert files_of(firm) == before
    assert row["redelivered"] == 6
    assert row["suspects"] == [{"subscription": "risk", "lane": "normal", "position": 7, "crashes": 2}]
    assert (row["quarantined"], row["letters"], row["redriven"], row["damage"]) == (0, 2, 0, [])
    assert (row["running"], row["dead"]) == (None, False)
    (row,) = rows_of(done("recover", firm, "--dry-run", "--json", "--crash-attempts", "2"))
    assert row["quarantined"] == 1
    text = done("recover", firm, "--dry-run")
    assert "6 events, to 2 subscriptions" in text
    assert "suspect of" in text


def test_a_dry_run_beside_a_running_bus_takes_nobody_for_a_suspect(firm: Path) -> None:
    with SqliteJournal(firm) as journal:
        journal.marks.cells[journal.marks.claim("risk", "normal")] = 7
        (row,) = rows_of(done("recover", firm, "--dry-run", "--json"))
    assert row["suspects"] == []
    assert row["running"] == os.getpid()


def test_a_dry_run_tells_a_marked_letter_and_a_dead_generation(firm: Path) -> None:
    done("dlq", "redrive", firm, "--id", "1")
    with SqliteJournal(firm) as journal:
        journal.marks.die()
    (row,) = rows_of(done("recover", firm, "--dry-run", "--json", code=1))
    assert (row["redriven"], row["dead"]) == (1, True)
    assert "a start is refused" in done("recover", firm, "--dry-run", code=1)


def damage(path: Path) -> None:
    """Change a stored price, as a flipped bit would."""
    with sqlite3.connect(path) as db:
        db.execute("UPDATE batches SET entries = replace(entries, '\"price\":4.0', '\"price\":5.0')")
    db.close()


def test_damage_is_found_and_a_new_file_is_made_from_the_rest(firm: Path) -> None:
    with SqliteJournal(firm) as journal:
        journal.write([tick(50)])
    assert "intact" in done("verify", firm)
    damage(firm)
    assert "DAMAGED" in done("verify", firm, code=1)
    (row,) = rows_of(done("verify", firm, "--json", code=1))
    assert row["problems"][0]["position"] == 1
    (row,) = rows_of(done("recover", firm, "--dry-run", "--json", code=1))
    assert row["damage"]
    assert "checksum" in done("recover", firm, "--dry-run", code=1)
    new = firm.with_name("new.db")
    (made,) = rows_of(done("recover", firm, new, "--json", code=1))
    assert (made["path"], made["lost"]) == (str(new), [[1, 11]])
    assert "intact" in done("verify", new)


def test_a_sound_journal_is_recovered_whole(firm: Path) -> None:
    new = firm.with_name("new.db")
    assert "is a new journal" in done("recover", firm, new)
    assert positions(done("history", new, "--json")) == list(range(1, 12))
    assert "exists" in one_line(call("recover", firm, new))


def test_recover_needs_a_new_file_or_a_dry_run(firm: Path) -> None:
    assert "--dry-run" in one_line(call("recover", firm))
    assert "--dry-run" in one_line(call("recover", firm, "new.db", "--dry-run"))
    assert "does not exist" in one_line(call("recover", firm.with_name("no.db"), firm.with_name("new.db")))
    with running(firm):
        assert "JournalLocked" in one_line(call("recover", firm, firm.with_name("new.db")))


def test_an_anchor_kept_elsewhere_tells_a_rewritten_history(firm: Path, tmp_path: Path) -> None:
    anchor = done("verify", firm).split()[-1]
    assert "intact" in done("verify", firm, "--anchor", anchor)
    other = tmp_path / "other.db"
    fill(other)
    assert "does not lead through the anchor" in done("verify", other, "--anchor", anchor, code=1)
    assert call("verify", firm, "--anchor", "seven").exit_code == 2


def test_stats_tell_what_is_there(firm: Path) -> None:
    (row,) = rows_of(done("stats", firm, "--json"))
    assert (row["entries"], row["first"], row["head"]) == (11, 1, 11)
    assert row["types"] == {"market_data": 10, "weather": 1}
    assert row["levels"] == {"process": 10, "disk": 1}
    assert row["letters"] == {"risk": 1, "book": 1}
    assert row["file_bytes"] >= row["payload_bytes"] > 0
    assert (row["oldest"], row["newest"]) == ("2025-11-24T16:00:01.000", "2025-11-24T16:01:00.000")
    text = done("stats", firm)
    assert "nobody now" in text
    assert "weather" in text
    with running(firm):
        assert f"process {os.getpid()}" in done("stats", firm)


# -- export ------------------------------------------------------------------------------------------


def test_json_lines_are_those_of_history(firm: Path) -> None:
    assert done("export", firm) == done("history", firm, "--json")
    assert done("export", firm, "--symbol", "IBM") == done("history", firm, "--json", "--symbol", "IBM")
    out = firm.with_name("out.jsonl")
    assert "11 events written" in done("export", firm, "-o", out)
    assert out.read_text(encoding="utf-8") == done("history", firm, "--json")


def test_csv_has_the_head_in_columns_and_the_event_in_one(firm: Path) -> None:
    out = firm.with_name("out.csv")
    done("export", firm, "-o", out)
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["position"]) for row in rows] == list(range(1, 12))
    assert rows[10]["event"] == UNKNOWN.decode()
    assert rows[0]["symbol"] == "AAPL"
    assert out.read_text(encoding="utf-8") == done("export", firm, "--format", "csv")


def test_parquet_has_types(firm: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    out = firm.with_name("out.parquet")
    done("export", firm, "-o", out)
    found = parquet.read_table(out)
    assert found["position"].to_pylist() == list(range(1, 12))
    assert found["event"].to_pylist()[10] == UNKNOWN.decode()
    assert str(found.schema.field("time").type) == "timestamp[ns, tz=UTC]"
    assert found["wall_ns"].to_pylist()[0] == START_NS + SECOND
    done("export", firm, "-o", firm.with_name("empty.parquet"), "--type", "none")
    assert parquet.read_table(firm.with_name("empty.parquet")).num_rows == 0


def test_parquet_without_pyarrow_says_what_to_install(firm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    said = one_line(call("export", firm, "-o", firm.with_name("out.parquet")))
    assert "pip install 'openoutcry[arrow]'" in said


def test_an_export_never_overwrites_without_being_told_and_never_the_journal(firm: Path) -> None:
    out = firm.with_name("out.csv")
    out.write_text("mine", encoding="utf-8")
    assert "--force" in one_line(call("export", firm, "-o", out))
    assert out.read_text(encoding="utf-8") == "mine"
    done("export", firm, "-o", out, "--force")
    assert out.read_text(encoding="utf-8").startswith("position,")
    assert "is the journal" in one_line(call("export", firm, "-o", firm, "--format", "csv", "--force"))
    assert "cannot be printed" in one_line(call("export", firm, "--format", "parquet"))


def test_an_export_that_fails_leaves_nothing_behind(firm: Path) -> None:
    with SqliteJournal(firm) as journal:
        journal.write([tick(50)])
    with sqlite3.connect(firm) as db:
        db.execute("UPDATE batches SET entries = '[oops' WHERE first = 12")
    db.close()
    before = {path.name for path in firm.parent.iterdir()}
    assert "JournalCorrupt" in one_line(call("export", firm, "-o", firm.with_name("out.csv")))
    assert {path.name for path in firm.parent.iterdir()} - before <= {"firm.db-wal", "firm.db-shm"}


# -- retire and vacuum -------------------------------------------------------------------------------


def test_old_events_are_retired_and_their_room_given_back(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"
    with SqliteJournal(path) as journal:
        for start_at in range(0, 4_000, 500):
            journal.write([tick(n) for n in range(start_at, start_at + 500)])
    assert "say how much" in one_line(call("retire", path))
    assert done("retire", path, "--older-than", "36500d").startswith("0 events")
    assert done("retire", path, "--keep-count", "1000").startswith("3,000 events retired")
    assert positions(done("history", path, "--json", "--limit", "9999"))[0] == 3_001
    assert int(done("vacuum", path).split()[0].replace(",", "")) > 0
    assert "intact" in done("verify", path)


def test_nothing_is_retired_that_somebody_has_not_settled_unless_told(firm: Path) -> None:
    assert done("retire", firm, "--keep-count", "0").startswith("0 events")
    assert done("retire", firm, "--keep-count", "0", "--past-cursors").startswith("11 events")


# -- doctor ------------------------------------------------------------------------------------------


def findings(*arguments: object, code: int = 0) -> dict[str, tuple[str, str]]:
    return {
        row["what"]: (row["verdict"], row["said"])
        for row in rows_of(done("doctor", *arguments, "--json", code=code))
    }


def test_the_doctor_looks_at_the_machine() -> None:
    found = findings()
    for name in ("Python", "sqlite3 (standard library)", "apsw", "msgspec", "uvloop", "rich", "pyarrow"):
        assert name in found
    assert "SQLite" in found["sqlite3 (standard library)"][1]
    assert done("doctor").splitlines()[0].startswith("ok")


@pytest.mark.parametrize(
    ("version", "unsafe"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
    ],
)
def test_the_doctor_knows_the_versions_that_corrupt_a_log_written_by_two(
    version: tuple[int, int, int], unsafe: bool
) -> None:
    assert is_unsafe(version) is unsafe


def test_the_doctor_warns_of_second_writers_under_such_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openoutcry.cli.doctor.sqlite_version", lambda _engine: (3, 51, 2))
    verdict, said = findings()["sqlite3 (standard library)"]
    assert verdict == "note"
    assert "is not affected" in said
    assert "read-only" in said


def test_the_doctor_finds_a_sound_journal_sound(firm: Path) -> None:
    found = findings(firm)
    assert found["permissions"] == ("ok", "firm.db has mode 0600")
    assert found["writer"] == ("ok", "nobody")
    assert found["left over"][0] == "note"
    assert found["free room"][0] in ("ok", "warn")
    with running(firm):
        found = findings(firm)
        assert found["writer"] == ("ok", f"process {os.getpid()}")
        assert found["local socket"][0] == "ok"
    with running(firm, with_socket=False):
        assert findings(firm)["local socket"][0] == "note"


def test_the_doctor_says_of_the_log_and_the_room_what_health_says(
    firm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert findings(firm)["write-ahead log"] == ("ok", "0 bytes")
    with SqliteJournal(firm) as journal:
        write_es(journal, 2, 3)
        with JournalReader(firm) as reader:
            rows = reader._log.forwards()
            next(rows)
            monkeypatch.setattr(disk_room, "LOG_BYTES_MAX", 1)
            verdict, said = findings(firm)["write-ahead log"]
            rows.close()
        if Path("/proc/locks").exists():
            assert verdict == "warn"
            assert "1 are its bound: a reader that does not end keeps it from starting over" in said
            assert "end the reading of this process" in said
        verdict, said = findings(firm)["write-ahead log"]
        assert (verdict, "bound" in said) == ("ok", False), "nobody reads, so that it starts over"
        monkeypatch.setattr(disk_room, "LOG_BYTES_MAX", 1 << 60)
        verdict, said = findings(firm)["free room"]
        assert verdict == "warn"
        assert "make room before publishing is refused" in said
        free = disk_room.room_of(firm).free_bytes
        monkeypatch.setattr(disk_room, "LOG_BYTES_MAX", free // 2 - 100_000_000)
        monkeypatch.setattr(disk_room.DiskRoom, "recovery_bytes", 10 * free)
        verdict, said = findings(firm)["free room"]
        assert verdict == "note"
        assert "a recovery of the journal would need" in said


def test_the_doctor_finds_what_is_wrong(firm: Path) -> None:
    firm.chmod(0o644)
    leave_in_flight(firm)
    found = findings(firm)
    assert found["permissions"][0] == "warn"
    assert "chmod 600" in found["permissions"][1]
    assert "1 call was in flight" in found["writer"][1]
    with SqliteJournal(firm) as journal:
        journal.marks.die()
    assert findings(firm, code=1)["generation"][0] == "FAIL"


def test_the_doctor_sees_that_the_end_is_missing(firm: Path) -> None:
    crash_after_writing(firm, "c1")
    firm.with_name("firm.db-wal").unlink()
    firm.with_name("firm.db-shm").unlink()
    assert findings(firm, code=1)["end"][0] == "FAIL"


def test_the_doctor_says_what_a_file_is_that_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("hello")
    assert "NotAJournal" in findings(tmp_path / "x", code=1)["journal"][1]
    assert "does not exist" in findings(tmp_path / "y", code=1)["journal"][1]


# -- files that are not what they should be ----------------------------------------------------------

READERS = [
    ["tail"],
    ["history"],
    ["pending"],
    ["stats"],
    ["verify"],
    ["export"],
    ["recover", "--dry-run"],
    ["dlq", "list"],
    ["cursors", "list"],
    ["halts"],
]
WRITERS = [
    ["dlq", "redrive", "--all"],
    ["cursors", "drop", "risk"],
    ["retire", "--keep-count", "5"],
    ["vacuum"],
]


def on(path: Path, verb: list[str]) -> Result:
    """Call a verb, with the journal in its place behind the verb's name."""
    count = 2 if verb[0] in ("dlq", "cursors") else 1
    return call(*verb[:count], path, *verb[count:])


def missing(path: Path) -> str:
    path.unlink()
    return "does not exist"


def foreign(path: Path) -> str:
    path.write_text("no database at all, only some text\n" * 100)
    return "NotAJournal"


def other_database(path: Path) -> str:
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t(x)")
    db.close()
    return "NotAJournal"


def empty(path: Path) -> str:
    path.write_bytes(b"")
    return "NotAJournal"


def folder(path: Path) -> str:
    path.unlink()
    path.mkdir()
    return "is a directory"


def too_new(path: Path) -> str:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    return "SchemaTooNew"


def no_tables(path: Path) -> str:
    with sqlite3.connect(path) as db:
        for name in ("cursors", "dead_letters", "batches"):
            db.execute(f"DROP TABLE {name}")
    db.close()
    return "cannot be read"


def cut_short(path: Path) -> str:
    os.truncate(path, 6_000)
    return ""


@pytest.mark.parametrize("verb", READERS, ids=" ".join)
@pytest.mark.parametrize(
    "spoil", [missing, foreign, other_database, empty, folder, too_new], ids=lambda f: f.__name__
)
def test_a_file_that_is_no_journal_is_one_line_and_left_alone(
    firm: Path, verb: list[str], spoil: Callable[[Path], str]
) -> None:
    firm.with_name("firm.db-marks").unlink()
    reason = spoil(firm)
    assert reason in one_line(on(firm, verb))


@pytest.mark.parametrize("verb", WRITERS, ids=" ".join)
@pytest.mark.parametrize(
    "spoil", [missing, foreign, other_database, folder, too_new], ids=lambda f: f.__name__
)
def test_what_writes_makes_no_journal_of_such_a_file(
    firm: Path, verb: list[str], spoil: Callable[[Path], str]
) -> None:
    firm.with_name("firm.db-marks").unlink()
    reason = spoil(firm)
    before = firm.read_bytes() if firm.is_file() else None
    assert reason in one_line(on(firm, verb))
    assert (firm.read_bytes() if firm.is_file() else None) == before


@pytest.mark.parametrize("verb", [*READERS, *WRITERS, ["doctor"]], ids=" ".join)
@pytest.mark.parametrize("spoil", [no_tables, cut_short], ids=lambda f: f.__name__)
def test_a_spoilt_journal_is_never_a_traceback(
    firm: Path, verb: list[str], spoil: Callable[[Path], str]
) -> None:
    spoil(firm)
    result = on(firm, verb)
    assert result.exit_code in (0, 1, 2)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception


@pytest.mark.parametrize("verb", [*READERS, *WRITERS], ids=" ".join)
def test_a_dead_journal_can_be_read_and_not_written(firm: Path, verb: list[str]) -> None:
    with SqliteJournal(firm) as journal:
        journal.marks.die()
    result = on(firm, verb)
    if verb in WRITERS:
        assert "JournalDead" in result.stderr
        assert "openoutcry recover OLD NEW" in one_line(result)
    else:
        assert result.exit_code == (1 if verb[0] == "recover" else 0), result.output


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    path = tmp_path / "sealed.db"
    fill(path, KEY)
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "wrong").write_bytes(b"w" * 32)
    (tmp_path / "short").write_bytes(b"w")
    return path


@pytest.mark.parametrize("verb", [*READERS, *WRITERS], ids=" ".join)
def test_a_sealed_journal_can_be_read_without_its_key_but_neither_verified_nor_written(
    sealed: Path, verb: list[str]
) -> None:
    result = on(sealed, verb)
    if verb[0] == "verify" or verb in WRITERS:
        assert "is sealed with a key; give the key" in one_line(result)
    else:
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize("verb", [*READERS, *WRITERS], ids=" ".join)
def test_with_its_key_a_sealed_journal_is_like_any_other(sealed: Path, verb: list[str]) -> None:
    result = on(sealed, [*verb, "--key-file", str(sealed.with_name("key"))])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("key", "said"), [("wrong", "key is not the one"), ("short", "16 to 64"), ("none", "No such file")]
)
def test_a_key_that_does_not_fit_is_one_line(sealed: Path, key: str, said: str) -> None:
    assert said in one_line(call("verify", sealed, "--key-file", sealed.with_name(key)))


def test_without_the_key_a_dry_run_says_what_it_did_not_look_for(sealed: Path) -> None:
    assert "give --key-file" in done("recover", sealed, "--dry-run")


def test_everything_that_reads_works_beside_a_running_bus(firm: Path) -> None:
    with running(firm):
        for verb in READERS:
            result = on(firm, verb)
            assert result.exit_code == 0, (verb, result.output)


# -- kill switches -----------------------------------------------------------------------------------


@pytest.fixture
def halted(firm: Path) -> Path:
    """Three active kill switches: two of ES, one of the firm."""
    kills = [
        KillSwitchEvent(event_id=f"k-{n}", scope=scope, source_agent="risk", reason="loss \x1b[31mlimit")
        for n, scope in enumerate(["ES", "ES", "firm"])
    ]
    entries = [Entry(kill.event_id, encode(kill), lane="control", wall_ns=START_NS) for kill in kills]
    halts = [
        Halt(scope=k.scope, event_id=k.event_id, by=k.source_agent, reason=k.reason, since_ns=START_NS)
        for k in kills
    ]
    with SqliteJournal(firm) as journal:
        book = CursorState(subscription="book", lane="control", floor=14, takes=("*",))
        journal.write(entries, Changes(halts=halts, cursors=[book]))
    return firm


def ids_in(path: Path) -> list[str]:
    with JournalReader(path) as reader:
        return [halt.event_id for halt in reader.halts()]


def test_halts_lists_what_is_active_and_does_nothing_to_a_terminal(halted: Path) -> None:
    said = done("halts", halted)
    assert "\x1b" not in said
    assert "2025-11-24T16:00:00.000" in said
    assert [line.split()[0] for line in said.splitlines()[-3:]] == ["ES", "ES", "firm"]
    found = rows_of(done("halts", halted, "--json"))
    assert [row["event_id"] for row in found] == ["k-0", "k-1", "k-2"]
    assert found[0]["since_ns"] == START_NS
    assert "halted        firm by risk, since" in call("status", halted).stdout
    assert len(json.loads(call("status", halted, "--json").stdout)["halts"]) == 3


def test_nothing_active_is_said(firm: Path) -> None:
    assert done("halts", firm) == "no kill switch is active\n"


def test_the_owner_of_a_stopped_journal_releases_with_an_event_that_the_next_start_delivers(
    halted: Path,
) -> None:
    said = done("halts", halted, "--release", "k-1", "--reason", "reviewed")
    assert said == "1 kill switch released in the journal: the next start delivers it\n"
    assert ids_in(halted) == ["k-0", "k-2"]
    with JournalReader(halted) as reader:
        (entry,) = reader.tail(1)
        assert reader.verify().intact
    event = decode(entry.payload)
    assert (entry.lane, event.activated, event.scope, event.releases) == ("control", False, "ES", ("k-1",))
    assert (event.reason, event.source_agent) == ("reviewed", "operator")
    done("halts", halted, "--release-scope", "ES", "--reason", "all of it")
    assert ids_in(halted) == ["k-2"]

    async def start() -> list[Any]:
        bus, seen = EventBus(persistence_config=PersistenceConfig(path=halted, socket=False)), []
        bus.subscribe("kill_switch", seen.append, name="book")
        async with bus:
            assert [halt.event_id for halt in bus.halted("ES")] == ["k-2"]
            await bus.join()
        return seen

    seen = asyncio.run(start())
    assert [e.releases for e in seen if not e.activated] == [("k-1",), ("k-0",)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--release", "k-9", "--reason", "x"], "k-9"),
        (["--release", "k-0", "--release", "k-2", "--reason", "x"], "not of one scope"),
        (["--release", "k-2", "--release-scope", "ES", "--reason", "x"], "k-2"),
        (["--release-scope", "NQ", "--reason", "x"], "'NQ'"),
        (["--release-scope", "ES"], "--reason"),
        (["--release-scope", "ES", "--reason", ""], "--reason"),
        (["--reason", "x"], "what to release"),
    ],
)
def test_a_release_that_makes_no_sense_is_one_line_and_releases_nothing(
    halted: Path, options: list[str], said: str
) -> None:
    assert said in one_line(call("halts", halted, *options))
    assert len(ids_in(halted)) == 3


@pytest.mark.parametrize("name", [None, "operator"])
def test_a_running_bus_releases_only_with_a_control_releaser(halted: Path, name: str | None) -> None:
    async def scene() -> tuple[Result, int]:
        config = PersistenceConfig(path=halted)
        async with EventBus(persistence_config=config, control_releaser=name) as bus:
            result = await asyncio.to_thread(
                call, "halts", halted, "--release-scope", "ES", "--reason", "reviewed"
            )
            return result, len(bus.halted("ES"))

    result, left = asyncio.run(scene())
    if name is None:
        assert "control_releaser" in one_line(result)
        assert left == 3
    else:
        assert result.stdout == "2 kill switches released by the running bus\n"
        assert left == 1


@pytest.mark.parametrize("verb", [("history",), ("export", "-o", "out.jsonl"), ("dlq", "list"), ("tail",)])
def test_an_event_type_that_is_misspelt_is_a_mistake_and_not_an_empty_answer(
    firm: Path, verb: tuple[str, ...]
) -> None:
    result = call(*verb, firm, "--type", "KILL-SWITCH")
    assert (result.exit_code, "did you mean 'kill_switch'?" in result.output) == (2, True), result.output


def test_an_event_type_that_only_resembles_one_is_told_once(
    firm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = call("history", firm, "--type", "kill_swich")  # a warning would be an error here
    assert result.exit_code == 0, result.output
    assert sum("did you mean 'kill_switch'?" in record.getMessage() for record in caplog.records) == 1
