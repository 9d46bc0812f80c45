"""`openoutcry firm trim`, `drop` and `release` on a real server: what goes, what is refused, what is on record."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nats_kit import a_firm, a_link
from tests.cli.firm.firm_kit import ToyFirm, call

from openoutcry.cli import asking
from openoutcry.cli.firm import acting
from openoutcry.journals import JournalReader
from openoutcry.links.nats.servers import Servers

DESK = """
import asyncio, sys
from openoutcry import EventBus, KillSwitchEvent, PersistenceConfig

async def main(path):
    bus = EventBus(persistence_config=PersistenceConfig(path=path), control_releaser="risk-officer")
    bus.subscribe("kill_switch", lambda event: None, name="risk")
    async with bus:
        await bus.publish(KillSwitchEvent(event_id="k-1", scope="firm", reason="drill", source_agent="risk"))
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acting, "LISTEN_S", 0.4)


@pytest.fixture
def firm(one_node: Servers) -> Iterator[ToyFirm]:
    name = a_firm()
    with ToyFirm(a_link(one_node, name, "floor"), a_link(one_node, name, "street")) as toys:
        floor = toys.desks["floor"]
        for number in range(3):
            toys.do(floor.export("normal", f"a-{number}", f"b-{number}"))
        toys.have_imported("street", floor=4)
        toys.have_imported("floor", street=0)
        yield toys


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Path]:
    """A bus in a process of its own, at whose control socket what is done is put on record."""
    path = tmp_path / "desk.db"
    process: subprocess.Popen[str] = subprocess.Popen(
        [sys.executable, "-c", DESK, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield path
        process.communicate("\n", timeout=60)
    finally:
        process.kill()
        process.wait()


def reach(firm: ToyFirm) -> list[str]:
    link = firm.desks["floor"].link
    return ["--firm", link.firm, "--server", link.servers[0]]


def kept(firm: ToyFirm, log: str = "normal") -> int:
    facts = firm.do(firm.desks["floor"].transport.facts())
    return next(one.size_bytes for one in facts.logs if one.log == log)


async def until(path: Path, what: bytes) -> bytes:
    """Wait for an event with this in its JSON, and return that."""
    async with asyncio.timeout(60):
        while True:
            with JournalReader(path) as reader:
                found = [one.payload for one in reader.tail(20) if what in one.payload]
            if found:
                return found[-1]
            await asyncio.sleep(0.02)


def test_trim_removes_what_all_have_imported_and_nothing_else(firm):
    before = kept(firm)
    result = call("trim", *reach(firm), "--yes")
    assert result.exit_code == 0, result.output
    assert "2 groups removed" in result.stdout
    assert kept(firm) < before
    assert call("trim", *reach(firm), "--yes").stdout.startswith("0 groups removed")


def test_trim_is_held_up_by_a_desk_that_is_not_heard(firm):
    firm.quiet.add("street")
    before = kept(firm)
    result = call("trim", *reach(firm), "--yes")
    assert result.exit_code == 2
    assert "not heard: street" in result.stderr
    assert kept(firm) == before


def test_drop_forgets_a_desk_that_is_gone(firm):
    firm.quiet.add("street")
    result = call("drop", "street", *reach(firm), "--yes")
    assert result.exit_code == 0, result.output
    assert "street is forgotten" in result.stdout
    assert [seat.desk for seat in firm.do(firm.desks["floor"].transport.seats())] == ["floor"]


def test_drop_refuses_a_desk_that_runs_and_one_that_there_is_not(firm):
    result = call("drop", "street", *reach(firm), "--yes")
    assert result.exit_code == 2
    assert "street runs: it is heard, as p-street. Stop it first" in result.stderr
    result = call("drop", "nobody", *reach(firm), "--yes")
    assert result.exit_code == 2
    assert "has no desk 'nobody'; it has floor and street" in result.stderr


@pytest.mark.parametrize(
    "words", [["trim"], ["drop", "street"], ["release", "--at", "x.db", "--reason", "r"]]
)
def test_nothing_is_done_without_being_asked_or_agreed(firm, words):
    firm.quiet.update(["street"] if words[0] == "drop" else [])
    before = kept(firm)
    result = call(*words, *reach(firm))
    assert result.exit_code == 2
    assert "add --yes" in result.stderr
    assert kept(firm) == before
    assert len(firm.do(firm.desks["floor"].transport.seats())) == 2


def test_the_question_names_what_goes(firm, monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(asking, "can_ask", lambda: True)
    monkeypatch.setattr("click.confirm", lambda text, **_: asked.append(text))
    call("trim", *reach(firm))
    firm.quiet.add("floor")
    firm.have_imported("street", floor=1)
    call("drop", "floor", *reach(firm))
    assert asked[0].endswith("floor normal up to 4?")
    assert asked[1].endswith("Not imported yet: 5 positions for street.")


def test_what_is_done_goes_on_record_at_a_running_desk(firm, running):
    result = call("trim", *reach(firm), "--yes", "--at", running, "--by", "ann", "--reason", "full")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    found = json.loads(asyncio.run(until(running, b'"operator_action"')))
    assert (found["verb"], found["target"]) == ("firm_trim", firm.desks["floor"].link.firm)
    assert (found["operator"], found["reason"]) == ("ann", "full")


def test_without_a_running_desk_it_is_said_that_nothing_is_on_record(firm, tmp_path):
    assert "not on record" in call("trim", *reach(firm), "--yes").stderr
    assert "not on record" in call("trim", *reach(firm), "--yes", "--at", tmp_path / "none.db").stderr


def when_released(path: Path, then: Callable[[], None]) -> threading.Thread:
    """Do something once a release stands in a journal."""

    def wait() -> None:
        asyncio.run(until(path, b'"activated":false'))
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_release_waits_until_every_desk_has_released(firm, running):
    firm.halt("floor", "street")

    def let_go() -> None:
        for desk in firm.desks.values():
            desk.says["halts"] = ()

    thread = when_released(running, let_go)
    result = call("release", *reach(firm), "--at", running, "--reason", "reviewed", "--yes")
    thread.join()
    assert result.exit_code == 0, result.output
    assert "1 kill switch released by the running bus" in result.stdout
    assert "no desk that is heard has them any more" in result.stdout


def test_release_names_the_desk_that_has_not_released(firm, running, monkeypatch):
    monkeypatch.setattr(acting, "RELEASED_S", 0.3)
    firm.halt("street")
    result = call("release", *reach(firm), "--at", running, "--reason", "reviewed", "--yes")
    assert result.exit_code == 1
    assert "street has not released after 0.3 s" in result.stderr


def test_release_asks_where_it_is_to_be_done(firm):
    result = call("release", *reach(firm), "--reason", "reviewed", "--yes")
    assert result.exit_code == 2
    assert "--at JOURNAL" in result.stderr


@pytest.mark.parametrize(
    "words", [["trim"], ["drop", "street"], ["release", "--at", "x.db", "--reason", "r"]]
)
def test_servers_that_do_not_answer_end_it_with_3(words, monkeypatch):
    monkeypatch.setattr("openoutcry.cli.firm.engine.OPEN_S", 0.3)
    result = call(*words, "--yes", "--firm", "alpha", "--server", "nats://127.0.0.1:9")
    assert result.exit_code == 3
    assert result.stderr.startswith("Error: no server answers at nats://127.0.0.1:9")


def test_trim_says_that_there_is_no_such_firm(one_node):
    result = call("trim", "--yes", "--firm", "nobodys", "--server", one_node.urls[0])
    assert result.exit_code == 2
    assert "the firm nobodys has no desk here" in result.stderr
