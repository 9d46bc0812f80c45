"""What the screens show of a journal, whoever writes it or nobody does: bounded, paged, and safe to show."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from page_kit import LOOK, START_NS, Client, clock, served, tick, write_events

from openoutcry import SignalEvent
from openoutcry.clocks import VirtualClock
from openoutcry.dashboard import journal_file, overview
from openoutcry.dashboard.events import SAID_MAX, SHOWN_BYTES_MAX
from openoutcry.dashboard.letters import GROUPS_MAX
from openoutcry.events import OperatorAction, RoundReleased, RunStarted, Vote, encode
from openoutcry.journals import JournalReader, SqliteJournal
from openoutcry.ports import BuriedEvent, Changes, CursorState, Entry
from openoutcry.printable import is_obeyed

EVIL = "<img src=x onerror=alert(1)>\u202egnp\u2066\x1b[31m\x9b\r\n\u200b"


def positions(client: Client, query: str) -> list[int]:
    return [event["pos"] for event in client.get(f"/api/events?{query}").json["events"]]


def letter(number: int, subscription: str = "books", error: str = "no account", **more) -> BuriedEvent:
    given = {"reason": "failed", "traceback": f"Traceback\n{error}", "wall_ns": START_NS + number, **more}
    return BuriedEvent(
        subscription=subscription,
        lane="normal",
        position=number,
        payload=encode(tick(number)),
        error=error,
        **given,
    )


def bury(path: Path, letters: list[BuriedEvent]) -> None:
    with SqliteJournal(path) as journal:
        journal.write((), Changes(buried=letters))
        journal.sync()


# -- events ------------------------------------------------------------------------------------------


def test_the_newest_events_come_first_and_older_ones_page_by_page(looker: Client):
    seen, before = [], ""
    for _ in range(10):
        page = looker.get(f"/api/events?limit=10{before}").json
        seen += [event["pos"] for event in page["events"]]
        assert page["head"] == 35
        if page["next"] is None:
            break
        before = f"&before={page['next']}"
    assert seen == list(range(35, 0, -1))


def test_an_event_in_a_list_says_what_it_is(looker: Client):
    (event,) = looker.get("/api/events?limit=1").json["events"]
    assert event == {
        "pos": 35,
        "wall_ns": START_NS + 34 * 1_000_000_000,
        "type": "market_data",
        "source": "feed",
        "symbol": "ES",
        "id": "tick-34",
        "correlation": "",
        "cause": "",
        "round": "",
        "lane": "normal",
        "said": event["said"],
    }
    assert "price=35.0" in event["said"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("id=tick-3", [4]),
        ("text=TICK-3", [35, 34, 33, 32, 31, 4]),
        ("type=market_data&agent=feed&symbol=ES&limit=2", [35, 34]),
        ("type=signal", []),
        ("type=signal,market_data&limit=1", [35]),
        ("agent=nobody", []),
        (f"since={START_NS + 33 * 1_000_000_000}", [35, 34]),
        (f"until={START_NS + 2 * 1_000_000_000}", [2, 1]),
        ("before=3", [2, 1]),
        ("round=none", []),
        ("cause=none", []),
        ("correlation=none", []),
    ],
)
def test_events_are_searched_for(looker: Client, query: str, found: list[int]):
    assert positions(looker, query) == found


def test_a_search_that_takes_too_long_says_where_it_goes_on(journal, tmp_path, monkeypatch):
    monkeypatch.setattr(journal_file, "LOOK_MS", 0)
    with served(journal, tmp_path) as client:
        client.log_in(LOOK)
        seen, scanned, pages, before = [], 0, 0, ""
        while True:
            page = client.get(f"/api/events?text=tick-3{before}").json
            seen += [event["pos"] for event in page["events"]]
            scanned += page["scanned"]
            pages += 1
            if page["next"] is None:
                break
            before = f"&before={page['next']}"
    assert (seen, scanned) == ([35, 34, 33, 32, 31, 4], 35)
    assert pages > 2


def test_batches_that_cannot_have_it_are_counted_and_passed_over(looker: Client):
    page = looker.get("/api/events?id=tick-3").json
    assert (page["scanned"], page["next"]) == (35, None)


def test_hostile_text_is_shown_and_does_nothing(tmp_path):
    path = tmp_path / "firm.db"
    event = tick(1, source_agent=EVIL, correlation_id=EVIL)
    broken = Entry(
        "x", b'{"event_class":"No","event_id":"x","event_type":["<img>"],"symbol":7}', wall_ns=START_NS
    )
    with SqliteJournal(path) as journal:
        journal.write([Entry(event.event_id, encode(event), wall_ns=START_NS), broken])
        journal.sync()
    bury(path, [letter(1, "books", f"KeyError: {EVIL}")])
    with served(path, tmp_path) as client:
        client.log_in(LOOK)
        for asked in ("events", "event?pos=1", "event?pos=2", "dead", "journal"):
            text = client.get(f"/api/{asked}").body.decode()
            assert "<img" in text or asked != "events"
            assert {c for c in text if is_obeyed(c)} == set(), asked
        assert len(client.get("/api/events").json["events"]) == 2


def test_a_huge_event_is_shown_in_part_and_whole_on_demand(tmp_path):
    path = tmp_path / "firm.db"
    text = b"x" * 10_000_000
    payload = b'{"event_class":"No","event_id":"big","event_type":"raw","note":"%b"}' % text
    with SqliteJournal(path) as journal:
        journal.write([Entry("big", payload, wall_ns=START_NS)])
        journal.sync()
    with served(path, tmp_path) as client:
        client.log_in(LOOK)
        answer = client.get("/api/events")
        (event,) = answer.json["events"]
        assert len(answer.body) < 4_000
        assert (event["id"], event["type"], len(event["said"])) == ("big", "raw", SAID_MAX)
        part = client.get("/api/event?pos=1").json
        assert (part["cut"], part["full"], len(part["json"])) == (True, len(payload), SHOWN_BYTES_MAX)
        whole = client.get("/api/event?pos=1&whole=1").json
        assert whole["cut"] is False
        assert text.decode() in whole["json"]


def test_an_event_is_shown_with_its_json(looker: Client):
    event = looker.get("/api/event?pos=3").json
    assert '"event_id": "tick-2"' in event["json"]
    assert (event["level"], event["cut"]) == ("process", False)
    for position in (36, 2**63 - 1):
        answer = looker.get(f"/api/event?pos={position}")
        assert (answer.status, answer.error.endswith("1 to 35 are kept")) == (404, True)
    assert looker.get("/api/event?pos=0").status == 400
    assert looker.get("/api/event").status == 400


# -- dead letters ------------------------------------------------------------------------------------


def test_dead_letters_are_grouped_by_subscription_and_error(journal, looker: Client):
    bury(
        journal,
        [
            letter(1, error="no account\nsecond line"),
            letter(2, "desk"),
            letter(3, error="no account\nanother"),
            letter(4, error="no route"),
        ],
    )
    said = looker.get("/api/dead").json
    assert (said["total"], said["complete"], said["where"]) == (4, True, "journal")
    groups = {(group["subscription"], group["error"]): group for group in said["groups"]}
    assert {key: group["count"] for key, group in groups.items()} == {
        ("books", "no account"): 2,
        ("books", "no route"): 1,
        ("desk", "no account"): 1,
    }
    most = groups["books", "no account"]
    assert said["groups"][0] == most
    assert (most["first_ns"], most["last_ns"]) == (START_NS + 1, START_NS + 3)
    assert most["example"]["traceback"] == "Traceback\nno account\nanother"
    assert "tick-3" in most["example"]["event"]


def test_errors_that_differ_in_ids_times_and_large_numbers_are_of_one_kind(journal, looker: Client):
    alike = ("round 'IBM@2000-04-07' is neither open", "round 'MSFT@2000-05-31' is neither open")
    apart = ("status 503", "status 404", "KeyError('ES')", "KeyError('NQ')", "order 9812734")
    bury(journal, [letter(number, error=error) for number, error in enumerate((*alike, *apart), 1)])
    groups = {group["error"]: group for group in looker.get("/api/dead").json["groups"]}
    assert groups.keys() == {"round '\u2026' is neither open", "order \u2026", *apart[:-1]}
    assert groups["round '\u2026' is neither open"]["count"] == 2
    assert groups["round '\u2026' is neither open"]["said"] == "round '\u2026' is neither open"
    assert groups["order \u2026"]["said"] == "order 9812734"  # there is one, so that all of it is shown


def test_the_letters_of_one_subscription_are_asked_for_alone(journal, looker: Client):
    bury(journal, [*(letter(number) for number in range(1, 400)), letter(400, "desk")])
    said = looker.get("/api/dead?subscription=desk").json
    assert ([group["subscription"] for group in said["groups"]], said["total"]) == (["desk"], 1)


def test_so_many_groups_are_shown_and_no_more(journal, looker: Client):
    bury(journal, [letter(number, error=f"error {number}") for number in range(GROUPS_MAX + 5)])
    said = looker.get("/api/dead").json
    assert (len(said["groups"]), said["total"], said["complete"]) == (GROUPS_MAX, GROUPS_MAX + 5, False)


def test_dead_letters_without_end_are_counted_for_a_while(journal, tmp_path, monkeypatch):
    monkeypatch.setattr(journal_file, "LOOK_MS", 0)
    bury(journal, [letter(number) for number in range(500)])
    with served(journal, tmp_path) as client:
        said = client.log_in(LOOK).get("/api/dead").json
    assert said["complete"] is False
    assert 0 < said["total"] < 500


# -- the journal -------------------------------------------------------------------------------------


def test_the_journal_says_how_big_it_is_and_who_is_how_far(journal, looker: Client):
    cursor = CursorState(subscription="desk", lane="normal", floor=5, takes=("market_data",))
    with SqliteJournal(journal) as writer:
        writer.write((), Changes(cursors=[cursor]))
        writer.sync()
    said = looker.get("/api/journal").json
    assert (said["head"], said["first"], said["path"]) == (35, 1, str(journal))
    assert said["bytes"] == journal.stat().st_size
    assert said["live"] is None
    assert said["cursors"] == [
        {"name": "desk", "lane": "normal", "position": 5, "lag": 30, "exact": True, "takes": ["market_data"]}
    ]
    assert looker.get("/api/subscription?name=desk").json["takes"] == ["market_data"]
    assert looker.get("/api/subscription?name=nobody").status == 404


def test_what_waits_is_bounded_where_there_is_no_time_to_count_it(journal, tmp_path, monkeypatch):
    cursor = CursorState(subscription="desk", lane="normal", floor=5, takes=("signal",))
    with SqliteJournal(journal) as writer:
        writer.write((), Changes(cursors=[cursor]))
        writer.sync()
    monkeypatch.setattr(journal_file, "LOOK_MS", 0)
    with served(journal, tmp_path) as client:
        (said,) = client.log_in(LOOK).get("/api/journal").json["cursors"]
    assert (said["lag"], said["exact"]) == (30, False)


def started(number: int) -> Entry:
    event = RunStarted(
        event_id=f"run:{number}",
        version="1",
        python="3.11",
        sqlite="3.51",
        origin="o",
        generation="00",
        settings={},
        app="firm:app",
        process_id=number,
        host="host",
    )
    return Entry(event.event_id, encode(event), wall_ns=START_NS)


def acted(number: int) -> Entry:
    event = OperatorAction(
        event_id=f"act:{number}",
        operator=f"ada {EVIL}",
        via="page",
        user_id=None,
        process_id=None,
        verb="halt",
        target="firm",
        reason=f"reason {number}",
        answer="done",
    )
    return Entry(event.event_id, encode(event), wall_ns=START_NS)


def ticks(first: int, count: int) -> list[Entry]:
    events = [tick(number) for number in range(first, first + count)]
    return [Entry(event.event_id, encode(event), wall_ns=START_NS) for event in events]


@pytest.mark.parametrize("look_ms", [0, 200])
def test_starts_and_actions_are_found_wherever_they_are(tmp_path, monkeypatch, look_ms: int):
    monkeypatch.setattr(journal_file, "LOOK_MS", look_ms)
    path = tmp_path / "firm.db"
    with SqliteJournal(path) as journal:
        journal.write([started(1), acted(1)])
        for first in range(0, 100, 10):
            journal.write(ticks(first, 10))
        with served(path, tmp_path) as client:
            client.log_in(LOOK)

            def records() -> tuple[list[int], list[str]]:
                for _ in range(50):
                    said = client.get("/api/journal").json
                    if said["records_from"] <= said["first"]:
                        break
                starts = [start["process_id"] for start in said["starts"]]
                return starts, [action["reason"] for action in said["actions"]]

            assert records() == ([1], ["reason 1"])
            journal.write(ticks(100, 10))
            journal.write([acted(2), started(2)])
            journal.write([acted(3)])
            assert records() == ([2, 1], ["reason 3", "reason 2", "reason 1"])
            assert records() == ([2, 1], ["reason 3", "reason 2", "reason 1"])
            (newest, *_) = client.get("/api/journal").json["actions"]
            assert (newest["verb"], newest["target"], newest["via"]) == ("halt", "firm", "page")
            assert {c for c in newest["operator"] if is_obeyed(c)} == set()


def verified(client: Client) -> dict:
    for _ in range(10_000):
        said = client.get("/api/journal").json["verify"]
        if said["state"] != "running":
            return said
    raise AssertionError(said)


def test_a_journal_is_verified_in_the_page(journal, actor: Client):
    assert actor.get("/api/journal").json["verify"]["state"] == "not begun"
    assert actor.post("/api/verify", {}).status == 200
    said = verified(actor)
    assert (said["state"], said["entries"], said["findings"]) == ("intact", 35, [])
    with sqlite3.connect(journal) as db:
        db.execute("UPDATE batches SET entries = replace(entries, 'tick-3', 'tock-3') WHERE first = 1")
    db.close()
    assert actor.post("/api/verify", {}).status == 200
    said = verified(actor)
    assert said["state"] == "damaged"
    assert said["findings"][0]["pos"] == 1
    answer = actor.get("/api/events?before=5")
    assert (answer.status, "cannot be read" in answer.error) == (503, True)


# -- a file that changes -------------------------------------------------------------------------------


def test_another_file_in_its_place_is_read_from_then_on(journal, looker: Client):
    assert positions(looker, "limit=1") == [35]
    for ending in ("", "-wal", "-shm", "-marks"):
        Path(f"{journal}{ending}").unlink(missing_ok=True)
    answer = looker.get("/api/events")
    assert (answer.status, "does not exist" in answer.error) == (503, True)
    write_events(journal, [tick(number) for number in range(3)])
    assert positions(looker, "limit=1") == [3]
    assert looker.get("/api/journal").json["head"] == 3


def test_another_file_with_more_in_it_keeps_no_record_of_the_first(tmp_path):
    path, other = tmp_path / "firm.db", tmp_path / "other.db"
    for file, entries in ((path, [started(1)]), (other, [started(2), *ticks(0, 30)])):
        with SqliteJournal(file) as journal:
            journal.write(entries)
            journal.sync()
    with served(path, tmp_path) as client:
        client.log_in(LOOK)
        assert [start["process_id"] for start in client.get("/api/journal").json["starts"]] == [1]
        for ending in ("-wal", "-shm", "-marks"):
            Path(f"{path}{ending}").unlink(missing_ok=True)
        other.replace(path)
        assert [start["process_id"] for start in client.get("/api/journal").json["starts"]] == [2]


def test_a_journal_that_a_newer_version_has_changed_meanwhile_is_refused_until_it_is_known_again(
    journal, looker: Client
):
    def change(by: int) -> None:
        with closing(sqlite3.connect(journal)) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            db.execute(f"PRAGMA user_version = {version + by}")
            db.commit()

    assert positions(looker, "limit=1") == [35]
    change(+1)
    for asked in ("events", "dead", "journal", "rounds", "event?pos=1"):
        answer = looker.get(f"/api/{asked}")
        assert (answer.status, "cannot be read" in answer.error) == (503, True)
    change(-1)
    assert positions(looker, "limit=1") == [35]


def test_a_page_does_not_keep_the_log_from_starting_over(tmp_path):
    path = tmp_path / "firm.db"
    with SqliteJournal(path) as journal:
        journal.write(ticks(0, 10))
        with served(path, tmp_path) as client:
            client.log_in(LOOK)
            for asked in ("events", "dead", "journal", "rounds", "event?pos=1"):
                assert client.get(f"/api/{asked}").status == 200
            with sqlite3.connect(path) as db:
                assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
            db.close()


def test_too_many_searches_at_once_are_refused(journal, tmp_path, monkeypatch):
    monkeypatch.setattr(journal_file, "WAITING_MAX", 0)
    with served(journal, tmp_path) as client:
        answer = client.log_in(LOOK).get("/api/events")
    assert (answer.status, "in a moment" in answer.error) == (503, True)


# -- rounds --------------------------------------------------------------------------------------------


def released(number: int, status: str = "quorate") -> Entry:
    event = RoundReleased(
        event_id=f"round:r{number}",
        round_id=f"r{number}",
        ordinal=1,
        status=status,
        valid=True,
        reason="the quorum was there when time was up",
        opened_by="cio",
        symbol="ES",
        opened_wall_ns=START_NS + number,
        took_ns=5,
        noticed_ns=6,
        roster=("trend", "value"),
        critical=("trend",),
        quorum_count=1,
        signal_timeout_ns=5,
        barrier_timeout_ns=10,
        votes=(Vote("trend", "ES", f"s{number}", 3),),
        missing=("value",),
        abstained={},
        heartbeats={"value": -7},
        let_go={},
        strangers={},
        stand_ins=(),
    )
    return Entry(event.event_id, encode(event), wall_ns=START_NS + number)


def voted(number: int) -> Entry:
    event = SignalEvent(
        event_id=f"s{number}",
        round_id=f"r{number}",
        source_agent="trend",
        symbol="ES",
        direction="long",
        strategy_name="trend",
        confidence=0.5,
    )
    return Entry(event.event_id, encode(event), wall_ns=START_NS + number)


@pytest.mark.parametrize("look_ms", [0, 200])
def test_rounds_are_read_from_the_records_page_by_page(tmp_path, monkeypatch, look_ms: int):
    monkeypatch.setattr(journal_file, "LOOK_MS", look_ms)
    path = tmp_path / "firm.db"
    with SqliteJournal(path) as journal:
        for number in range(7):
            journal.write([voted(number), *ticks(number * 700, 700), released(number)])
        journal.sync()
    with served(path, tmp_path) as client:
        client.log_in(LOOK)
        seen, before = [], ""
        while before is not None:
            page = client.get(f"/api/rounds?limit=3{before}").json
            seen += page["rounds"]
            assert page["agents"] in (["trend", "value"], [])
            before = None if page["next"] is None else f"&before={page['next']}"
        assert [row["id"] for row in seen] == [f"r{number}" for number in range(6, -1, -1)]
        assert {tuple(row["cells"]["trend"]) for row in seen} <= {
            ("voted", 3, "long", 0.5, "ES"),
            ("voted", 3, None, None, "ES"),
        }
        assert look_ms == 0 or seen[0]["cells"]["trend"][2] == "long"
        assert seen[0]["cells"]["value"] == ["missing", -7]
        if look_ms:
            assert client.get("/api/rounds?status=complete").json["rounds"] == []
            assert len(client.get("/api/rounds?agent=value&symbol=ES").json["rounds"]) == 7
        assert client.get("/api/rounds?status=no").status == 400
        found = client.get("/api/round?id=r3").json
        assert (found["id"], found["roster"], found["critical"]) == ("r3", ["trend", "value"], ["trend"])
        assert (found["signal_timeout_ns"], found["barrier_timeout_ns"], found["quorum"]) == (5, 10, 1)
        assert "value" in found["explain"]
        assert client.get("/api/round?id=r99").status == 404
        assert client.get("/api/round").status == 400


def test_the_clock_of_a_test_stands_still():
    assert isinstance(clock(), VirtualClock)


def test_what_is_written_during_a_look_is_found_once(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "firm.db"
    with SqliteJournal(path) as journal, JournalReader(path) as reader:
        journal.write([acted(1)])
        honest = JournalReader.back

        def back(reader: JournalReader, *arguments: Any) -> Any:
            if journal.head == 1:
                journal.write([acted(2)])
            return honest(reader, *arguments)

        monkeypatch.setattr(JournalReader, "back", back)
        records = overview._Records()
        for _ in range(3):
            records.look(reader, journal_file.Deadline(VirtualClock()))
        assert [action["reason"] for action in records.actions] == ["reason 2", "reason 1"]
