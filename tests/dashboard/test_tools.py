"""The tools for models: what they answer, that it is bounded, and that text of events is marked and harmless."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import (
    booleans,
    dictionaries,
    floats,
    integers,
    lists,
    none,
    one_of,
    sampled_from,
    text,
)
from page_kit import START_NS, firm, write_events
from tools_kit import EVIL, alert, trade, vote

from openoutcry import (
    DecisionEvent,
    EventBus,
    KillSwitchEvent,
    MarketDataEvent,
    PersistenceConfig,
    RiskAlertEvent,
)
from openoutcry.dashboard import explaining, journal_file
from openoutcry.dashboard.refusals import Refused
from openoutcry.dashboard.tools import answers, asked, standing
from openoutcry.dashboard.tools.answers import Tools
from openoutcry.dashboard.tools.fitting import ANSWER_BYTES_MOST, NOTE, SAID_MOST
from openoutcry.errors import ConfigError, NotAJournal, OpenOutcryError
from openoutcry.events import encode
from openoutcry.journals import Lineage, SqliteJournal
from openoutcry.ports import Entry
from openoutcry.printable import is_obeyed
from openoutcry.testing import run_virtual

ROOT = Path(__file__).resolve().parents[2]
ASKED: dict[str, type[asked.Asked]] = {
    "why": asked.OfRef,
    "came_of": asked.OfRef,
    "event": asked.OfRef,
    "events": asked.OfEvents,
    "round": asked.OfRound,
    "rounds": asked.OfRounds,
    "status": asked.OfNothing,
    "dead_letters": asked.OfLetters,
}


def ask(tools: Tools | Path, name: str, **arguments: Any) -> Any:
    """Return what a tool answers to arguments as they come over the line."""
    if isinstance(tools, Path):
        with Tools(tools) as opened:
            return ask(opened, name, **arguments)
    said = asyncio.run(getattr(tools, name)(asked.read(arguments, ASKED[name])))
    assert len(said.encode()) <= ANSWER_BYTES_MOST
    assert not any(map(is_obeyed, said))
    found = json.loads(said)
    assert found["note"] == NOTE
    for words in texts_of(found):
        assert not any(map(is_obeyed, words))
    return found


def texts_of(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for each in value.values():
            yield from texts_of(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts_of(each)


def refused(tools: Tools | Path, name: str, **arguments: Any) -> str:
    with pytest.raises((Refused, ConfigError)) as caught:
        ask(tools, name, **arguments)
    return str(caught.value)


@pytest.fixture
def traded(tmp_path: Path) -> Path:
    path = tmp_path / "firm.db"
    run_virtual(trade(path))
    return path


# -- why -----------------------------------------------------------------------------------------------


def test_a_fill_is_explained_back_to_the_votes_with_who_was_missing(traded: Path) -> None:
    found = ask(traded, "why", ref="o-1")
    assert [step["type"] for step in found["chain"]][-3:] == ["decision", "order", "fill"]
    assert "Why 1 ES were bought at 5,000.25" in found["said"]["title"]
    (case,) = found["rounds"]
    assert (case["id"], case["outcome"], case["valid"]) == ("r-1", "quorate", True)
    assert [(one["agent"], one["side"]) for one in case["votes"]] == [("trend", "for"), ("value", "for")]
    assert [(one["agent"], one["how"]) for one in case["did_not_vote"]] == [("mute", "missing")]
    assert all(step["position"] > 0 and step["said"] for step in found["chain"])


def test_what_came_of_a_decision_is_its_order_and_its_fill(traded: Path) -> None:
    found = ask(traded, "came_of", ref="d-2")
    assert [step["type"] for step in found["came_of"]] == ["order", "fill"]


def test_what_came_of_a_position_is_not_told(traded: Path) -> None:
    assert ask(traded, "why", ref="ES")["fills_of_the_position"]
    assert "name an event, an order or a round" in refused(traded, "came_of", ref="ES")


@pytest.mark.parametrize("name", ["why", "came_of", "event"])
@pytest.mark.parametrize("ref", ["nobody", "#999", "#0", "#" + "9" * 30, EVIL, "\ud800"])
def test_what_the_journal_does_not_have_is_said(traded: Path, name: str, ref: str) -> None:
    said = refused(traded, name, ref=ref)
    assert "has no event, order" in said or "no such" in said
    assert not any(map(is_obeyed, said))


def test_a_long_chain_keeps_its_end_and_the_round(tmp_path: Path) -> None:
    path, count = tmp_path / "firm.db", 300
    events = [
        alert(
            number,
            message="x" * 200,
            source_agent="a" * 80,
            causation_id=f"alert-{number - 1}" if number else None,
        )
        for number in range(count)
    ]
    write_events(path, events)
    found = ask(path, "why", ref=f"alert-{count - 1}")
    assert found["chain"][-1]["id"] == f"alert-{count - 1}"
    assert 10 < len(found["chain"]) < count
    assert any(one.startswith("chain: the first ") for one in found["left_out"])
    came = ask(path, "came_of", ref="alert-0")
    assert came["came_of"][0]["id"] == "alert-1"
    assert any(one.startswith("came_of: the last ") for one in came["left_out"])


def test_an_index_that_takes_long_is_told_of_and_made_meanwhile(
    traded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on = threading.Event()
    explain = Lineage.explain

    def slowly(lineage: Lineage, ref: str, **more: Any) -> Any:
        more["tell"](3, 12)
        assert may_go_on.wait(60)
        return explain(lineage, ref, **more)

    monkeypatch.setattr(Lineage, "explain", slowly)
    monkeypatch.setattr(explaining, "PATIENCE_S", 0.0)
    with Tools(traded) as tools:
        said = refused(tools, "why", ref="o-1")
        assert "ask again" in said
        may_go_on.set()
        monkeypatch.setattr(explaining, "PATIENCE_S", 60.0)
        assert ask(tools, "why", ref="o-1")["chain"]


def test_another_file_in_its_place_is_explained_from_then_on(traded: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "firm.db"
    other.parent.mkdir()
    write_events(other, [alert(7)])
    with Tools(traded) as tools:
        assert ask(tools, "why", ref="o-1")["chain"]
        for ending in ("", "-wal", "-shm", "-marks"):
            Path(f"{traded}{ending}").unlink(missing_ok=True)
        for file in other.parent.iterdir():
            file.replace(traded.parent / file.name)
        assert "has no event" in refused(tools, "why", ref="o-1")
        assert ask(tools, "event", ref="alert-7")["id"] == "alert-7"
        assert [one["id"] for one in ask(tools, "events")["events"]] == ["alert-7"]


# -- events --------------------------------------------------------------------------------------------


def test_an_event_is_found_by_its_id_its_position_and_its_order(traded: Path) -> None:
    fill = ask(traded, "events", type="fill", limit=1)["events"][0]
    by_id, by_place = ask(traded, "event", ref=fill["id"]), ask(traded, "event", ref=f"#{fill['position']}")
    assert by_id == by_place
    assert by_id["said"]["fill_price"] == 5000.25
    assert (by_id["type"], by_id["agent"], by_id["level"]) == ("fill", "broker", "disk")
    order = ask(traded, "event", ref=fill["said"].partition("order_id=")[2].partition(" ")[0])
    assert order["type"] == "order"


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ({}, ["alert-4", "alert-3", "alert-2", "alert-1", "alert-0"]),
        ({"limit": 2}, ["alert-4", "alert-3"]),
        ({"agent": "b"}, ["alert-3", "alert-1"]),
        ({"text": "UMBRELLA"}, ["alert-2"]),
        ({"since": "2025-11-24T16:00:03"}, ["alert-4", "alert-3"]),
        ({"until": "2025-11-24T17:00:01+01:00"}, ["alert-0"]),
        ({"type": "fill"}, []),
        ({"type": " fill, risk_alert,", "symbol": None, "limit": "1"}, ["alert-4"]),
        ({"since": "1s"}, []),
        ({"since": "9999w"}, ["alert-4", "alert-3", "alert-2", "alert-1", "alert-0"]),
        ({"cause": "alert-0"}, ["alert-4"]),
    ],
)
def test_events_are_searched_for(tmp_path: Path, where: dict[str, Any], ids: list[str]) -> None:
    path = tmp_path / "firm.db"
    assert START_NS == 1_764_000_000_000_000_000  # 2025-11-24T16:00:00Z
    events = [
        alert(
            number,
            source_agent="ab"[number % 2],
            message="an umbrella" if number == 2 else "",
            causation_id="alert-0" if number == 4 else None,
        )
        for number in range(5)
    ]
    write_events(path, events)
    assert [one["id"] for one in ask(path, "events", **where)["events"]] == ids


def test_pages_follow_each_other_whether_they_are_full_or_too_long(tmp_path: Path) -> None:
    path, count = tmp_path / "firm.db", 450
    write_events(
        path, [alert(number, message="long " * (200 if number % 3 else 1)) for number in range(count)]
    )
    found: list[str] = []
    before = None
    with Tools(path) as tools:
        while True:
            page = ask(tools, "events", limit=200, before=before)
            found += [one["id"] for one in page["events"]]
            before = page.get("next")
            if before is None:
                assert "left_out" not in page
                break
            assert f"before = {before}" in page["left_out"][0]
    assert found == [f"alert-{number}" for number in reversed(range(count))]


def test_a_search_that_takes_too_long_says_where_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "firm.db"
    write_events(path, [alert(number) for number in range(30)])
    monkeypatch.setattr(answers, "SEARCH_NS", -1)
    monkeypatch.setattr(journal_file, "LOOK_MS", -1)
    with Tools(path) as tools:
        page = ask(tools, "events", text="nowhere")
        assert page["events"] == []
        assert "for lack of time" in page["left_out"][0]
        while (before := page.get("next")) is not None:
            page = ask(tools, "events", text="nowhere", before=before)
        assert "left_out" not in page


def test_what_events_say_is_cut_and_does_nothing(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"
    huge = f'{{"event_class":"X","event_id":"huge","event_type":"x","message":"{"9" * 3_000_000}","n":{"1" * 400}}}'
    hostile = json.dumps(
        {
            "event_class": "X",
            "event_id": EVIL,
            "event_type": EVIL,
            "symbol": 7,
            EVIL: {EVIL: [EVIL]},
            "deep": [[1]],
        }
    )
    deep = f'{{"event_id":"deep","a":{"[" * 300}{"]" * 300}}}'
    with SqliteJournal(path) as journal:
        texts = {"long": encode(alert(1, EVIL * 5_000)).decode(), "huge": huge, "evil": hostile, "deep": deep}
        journal.write([Entry(name, text.encode(), wall_ns=START_NS) for name, text in texts.items()])
        journal.sync()
    with Tools(path) as tools:
        for one in ask(tools, "events")["events"]:
            assert len(one["said"]) <= SAID_MOST
        for position in range(1, 5):
            said = ask(tools, "event", ref=f"#{position}")["said"]
            assert all(len(words) <= SAID_MOST for words in texts_of(said))
        assert ask(tools, "event", ref="#2")["said"]["message"].endswith("9\u2026")
        assert ask(tools, "event", ref="#3")["said"]["symbol"] == 7


def test_an_events_own_time_is_told_where_it_was_admitted_at_another(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"
    write_events(path, [alert(0, timestamp=START_NS + 1), alert(1, timestamp=START_NS - 3_600 * 10**9)])
    assert "own_time" not in ask(path, "event", ref="alert-0")
    assert ask(path, "event", ref="alert-1")["own_time"] == "2025-11-24T15:00:00.000Z"


def test_an_event_with_too_many_fields_is_told_in_part(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"
    event = {"event_id": "wide", "event_type": "x", **{f"field_{n}": "word " * 100 for n in range(500)}}
    with SqliteJournal(path) as journal:
        journal.write([Entry("wide", json.dumps(event).encode(), wall_ns=START_NS)])
        journal.sync()
    found = ask(path, "event", ref="wide")
    assert "field_0" in found["said"]
    assert "field_499" not in found["said"]
    assert "the last " in found["left_out"][0]


# -- rounds --------------------------------------------------------------------------------------------


def test_a_round_says_who_voted_and_who_did_not_first(traded: Path) -> None:
    found = ask(traded, "round", id="r-1")
    assert [(one["agent"], one["how"]) for one in found["agents"]] == [
        ("mute", "missing"),
        ("trend", "voted"),
        ("value", "voted"),
    ]
    assert found["agents"][1]["votes"][0]["strength"] == 0.5
    assert "Missing: mute" in found["said"]
    assert "no round 'r-9'" in refused(traded, "round", id="r-9")


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ({}, ["r-2", "r-1", "r-0"]),
        ({"agent": "mute", "limit": 1}, ["r-2"]),
        ({"agent": "nobody"}, []),
        ({"outcome": "quorate"}, ["r-2", "r-1", "r-0"]),
        ({"outcome": "expired"}, []),
        ({"symbol": "ES"}, ["r-2", "r-1", "r-0"]),
        ({"since": "2100-01-01"}, []),
        ({"until": "2100-01-01"}, ["r-2", "r-1", "r-0"]),
    ],
)
def test_rounds_are_searched_for(traded: Path, where: dict[str, Any], ids: list[str]) -> None:
    found = ask(traded, "rounds", **where)
    assert [one["id"] for one in found["rounds"]] == ids
    assert all(one["agents"] == {"mute": "missing"} for one in found["rounds"])
    if found["rounds"] and found.get("next"):
        assert found["next"] == found["rounds"][-1]["position"]


def test_the_next_older_rounds_come_behind_the_last(traded: Path) -> None:
    ids, before = [], None
    with Tools(traded) as tools:
        while True:
            page = ask(tools, "rounds", limit=1, before=before)
            ids += [one["id"] for one in page["rounds"]]
            before = page.get("next")
            if before is None:
                break
    assert ids == ["r-2", "r-1", "r-0"]


# -- now -----------------------------------------------------------------------------------------------


def test_where_no_bus_runs_the_status_is_what_the_journal_says(traded: Path) -> None:
    found = ask(traded, "status")
    assert found["bus"] == "not running"
    assert found["journal"]["head"] > 10
    assert "started" in found["journal"]["starts"][0]["said"]


def test_beside_a_running_bus_the_status_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"

    def prepare(bus: EventBus) -> None:
        bus.subscribe(KillSwitchEvent, lambda halt: None, name="execution")
        bus.subscribe(MarketDataEvent, lambda tick: None, name=EVIL)

    with firm(path, prepare) as bus, Tools(path) as tools:
        assert bus.publish_threadsafe(
            KillSwitchEvent(reason=EVIL, triggered_by="mira", source_agent="mira")
        ).result(60)
        found = ask(tools, "status")
        assert found["bus"] == "running"
        assert {one["name"] for one in found["subscriptions"]} >= {"execution"}
        assert found["halts"][0]["by"] == "mira"
        assert any(
            one["severity"] == "critical" and "halted by mira" in one["said"] for one in found["wrong"]
        )
        assert ask(tools, "events", type="kill_switch")["events"]
        assert ask(tools, "why", ref="#1")["chain"]


def test_a_bus_without_a_journal_tells_its_status_and_its_letters(tmp_path: Path) -> None:
    path = tmp_path / "firm.sock"

    def prepare(bus: EventBus) -> None:
        def fail(_alert: RiskAlertEvent) -> None:
            raise KeyError(EVIL)

        bus.subscribe(RiskAlertEvent, fail, name="desk", retry=False, breaker=False)

    with firm(None, prepare, control=str(path)) as bus, Tools(path) as tools:
        assert bus.publish_threadsafe(alert(1, EVIL)).result(60)
        while not (found := ask(tools, "dead_letters"))["groups"]:
            pass
        assert found["kept_in"] == "memory"
        assert ask(tools, "status")["bus"] == "running"
        for name, given in (("why", {"ref": "x"}), ("events", {}), ("round", {"id": "x"}), ("rounds", {})):
            assert "has no journal" in refused(tools, name, **given)


def test_a_stopped_process_is_silent(traded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "stopped.db"
    program = (
        "import asyncio, sys\n"
        "from openoutcry import EventBus, PersistenceConfig\n"
        "async def main():\n"
        "    async with EventBus(persistence_config=PersistenceConfig(path=sys.argv[1])):\n"
        "        print('ready', flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    monkeypatch.setattr(standing, "ANSWER_S", 0.5)
    with subprocess.Popen(
        [sys.executable, "-c", program, path],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGSTOP)
            found = ask(path, "status")
            assert found["bus"] == "silent"
            assert "stopped" in found["why"]
            assert found["journal"]["file"] == str(path)
        finally:
            process.kill()


def test_dead_letters_are_grouped_with_the_newest_of_each_kind(traded: Path) -> None:
    found = ask(traded, "dead_letters")
    (group,) = found["groups"]
    assert (found["total"], found["kept_in"]) == (3, "journal")
    assert (group["subscription"], group["count"]) == ("booker", 3)
    assert "o-2" in group["newest"]["said"]["error"]
    assert "KeyError" in group["newest"]["said"]["traceback"]
    assert ask(traded, "dead_letters", subscription="nobody")["groups"] == []


# -- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("events", {"since": "gestern"}, "since: 'gestern' is not a time: write 2025-11-24"),
        ("events", {"limit": 201}, "limit"),
        ("events", {"limit": 0}, "limit"),
        ("events", {"limit": "many"}, "limit"),
        ("events", {"before": 0}, "before"),
        ("events", {"type": "Fill"}, "did you mean 'fill'"),
        ("events", {"type": "sig*"}, "patterns"),
        ("events", {"kind": "fill"}, "the arguments are: type, agent, symbol"),
        ("events", {"text": "x" * 501}, "text"),
        ("events", {"agent": ["a"]}, "agent"),
        ("events", {"agent": "\ud800"}, "is not text"),
        ("rounds", {"outcome": "good"}, "it is one of complete, quorate, expired"),
        ("round", {}, "id"),
        ("why", {}, "ref"),
        ("why", {"ref": ""}, "ref"),
        ("why", {"ref": 7}, "ref"),
        ("status", {"verbose": True}, "the arguments are: none"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_with_the_remedy(
    traded: Path, name: str, given: dict[str, Any], words: str
) -> None:
    assert words in refused(traded, name, **given)


def test_what_is_no_journal_is_refused_at_the_start(tmp_path: Path) -> None:
    for make in (
        lambda path: path.write_text("no journal, and long enough to be one" * 100),
        lambda path: None,
    ):
        path = tmp_path / "other.db"
        make(path)
        with pytest.raises(NotAJournal):
            Tools(path)
        path.unlink(missing_ok=True)


def damage(path: Path, where: Callable[[bytes], int]) -> None:
    data = bytearray(path.read_bytes())
    at = where(bytes(data))
    data[at : at + 4] = b"ZZZZ"
    path.write_bytes(data)


def test_a_damaged_journal_is_said_of_and_the_rest_goes_on(traded: Path) -> None:
    damage(traded, lambda data: data.index(b'"event_id":"d-1"') + 12)
    with Tools(traded) as tools:
        assert "do not match their checksum" in refused(tools, "events", text="nowhere")
        for name, given in (("why", {"ref": "o-1"}), ("rounds", {}), ("event", {"ref": "o-1"})):
            assert "cannot be read" in refused(tools, name, **given)
        assert ask(tools, "status")["bus"] == "not running"


def test_a_torn_file_is_said_of_by_every_tool(traded: Path) -> None:
    data = traded.read_bytes()
    traded.write_bytes(data[: len(data) // 2])
    with Tools(traded) as tools:
        for name, given in (("why", {"ref": "o-1"}), ("events", {}), ("dead_letters", {})):
            assert "cannot be read" in refused(tools, name, **given)
        assert "cannot be read" in ask(tools, "status")["journal"]["said"]


def test_a_sealed_journal_without_its_key_is_told_of_in_each_answer(tmp_path: Path) -> None:
    path, key = tmp_path / "firm.db", b"k" * 32
    with SqliteJournal(path, key=key) as journal:
        journal.write([Entry("alert-1", encode(alert(1)), wall_ns=START_NS)])
        journal.sync()
    with Tools(path) as tools:
        for name, given in (
            ("events", {}),
            ("why", {"ref": "alert-1"}),
            ("status", {}),
            ("dead_letters", {}),
        ):
            assert "its key was not given" in ask(tools, name, **given)["not_verified"]
    with Tools(path, key) as tools:
        assert "not_verified" not in ask(tools, "events")
        assert "not_verified" not in ask(tools, "why", ref="alert-1")


def test_nothing_that_is_asked_changes_the_journal(traded: Path) -> None:
    before = traded.read_bytes()
    with Tools(traded) as tools:
        for name, given in (
            ("why", {"ref": "o-1"}),
            ("came_of", {"ref": "o-1"}),
            ("events", {}),
            ("status", {}),
        ):
            ask(tools, name, **given)
    assert traded.read_bytes() == before


# -- bounds --------------------------------------------------------------------------------------------

WIDE = "\U0001f4a3\x1b" * 400
"""A name that takes four bytes a letter, and more when it is escaped."""


def test_the_worst_firm_fits_into_an_answer(tmp_path: Path) -> None:
    """Three hundred agents with names without end, of which most say nothing; kill switches, letters, fields."""
    path = tmp_path / "firm.db"
    agents = [f"{number} {WIDE}" for number in range(300)]

    async def run() -> None:
        config = PersistenceConfig(path=path, socket=False)
        async with EventBus(signal_timeout=1.0, persistence_config=config) as bus:
            for agent in agents:
                bus.register_signal_agent(agent)

            def failing() -> Callable[[KillSwitchEvent], None]:
                def fail(switch: KillSwitchEvent) -> None:
                    raise KeyError(switch.scope)

                return fail

            for number in range(40):
                bus.subscribe(KillSwitchEvent, failing(), name=f"{number} {WIDE}", retry=False, breaker=False)
            opened = bus.open_round(f"r {WIDE}", quorum=0.01)
            for agent in agents[:150]:
                await bus.publish_signal(vote(agent, opened.round_id))
            await bus.wait_for_signals(opened.round_id)
            decision = DecisionEvent(
                event_id="d-1",
                symbol=WIDE,
                action="buy",
                quantity=1,
                source_agent=WIDE,
                round_id=opened.round_id,
            )
            await bus.publish(decision)
            for number in range(30):
                await bus.publish(
                    KillSwitchEvent(
                        scope=f"{number} {WIDE}",
                        reason=WIDE,
                        triggered_by=WIDE,
                        source_agent=f"{WIDE} {number}",
                    )
                )
            await asyncio.sleep(1)

    run_virtual(run())
    with Tools(path) as tools:
        (line,) = ask(tools, "rounds")["rounds"]
        assert len(line["agents"]) == 20
        assert line["and_more"] == 130
        for name in ("why", "came_of", "event"):
            assert ask(tools, name, ref="d-1")
        assert ask(tools, "why", ref="d-1")["chain"]
        for name in ("status", "dead_letters", "events"):
            assert ask(tools, name)["left_out"]
        assert refused(tools, "round", id="r")


def test_a_round_of_many_agents_keeps_those_without_a_vote(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"

    async def run() -> None:
        config = PersistenceConfig(path=path, socket=False)
        async with EventBus(signal_timeout=1.0, persistence_config=config) as bus:
            for number in range(300):
                bus.register_signal_agent(f"agent-{number:03}")
            opened = bus.open_round("r-1", quorum=0.9)
            for number in range(299):
                await bus.publish_signal(vote(f"agent-{number:03}", opened.round_id))
            await bus.wait_for_signals(opened.round_id)

    run_virtual(run())
    found = ask(path, "round", id="r-1")
    assert (found["agents"][0]["agent"], found["agents"][0]["how"]) == ("agent-299", "missing")
    assert "agents: the last" in found["left_out"][0]


@given(
    name=sampled_from(sorted(ASKED)),
    arguments=dictionaries(
        sampled_from(
            ["ref", "id", "agent", "type", "text", "since", "until", "before", "limit", "outcome", "x"]
        ),
        one_of(
            none(), text(max_size=40), integers(), floats(), booleans(), lists(text(max_size=3), max_size=2)
        ),
        max_size=4,
    ),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_asked_is_answered_or_refused(
    traded_once: Tools, name: str, arguments: dict[str, Any]
) -> None:
    try:
        ask(traded_once, name, **arguments)
    except (Refused, OpenOutcryError) as problem:
        assert str(problem)  # noqa: PT017 - it may be answered


@pytest.fixture(scope="module")
def traded_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tools]:
    path = tmp_path_factory.mktemp("asked") / "firm.db"
    run_virtual(trade(path))
    with Tools(path) as tools:
        yield tools
