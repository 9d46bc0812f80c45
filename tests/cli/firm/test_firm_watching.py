"""`openoutcry firm status`, `lag` and `doctor` on a real server: what they say of desks that are well or not."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from nats_kit import a_firm, a_link
from tests.cli.firm.firm_kit import ToyFirm, call

from openoutcry.links.nats.servers import Servers
from openoutcry.printable import is_obeyed

NOWHERE = "nats://127.0.0.1:9"


@pytest.fixture
def firm(one_node: Servers) -> Iterator[ToyFirm]:
    name = a_firm()
    with ToyFirm(a_link(one_node, name, "floor"), a_link(one_node, name, "street")) as toys:
        floor = toys.desks["floor"]
        toys.do(floor.export("normal", "e-1", "e-2", "e-3"))
        toys.do(floor.export("high", "f-1"))
        toys.have_imported("street", floor=3)
        yield toys


def reach(firm: ToyFirm) -> list[str]:
    link = firm.desks["floor"].link
    return ["--firm", link.firm, "--server", link.servers[0], "--listen", "0.4"]


def rows(text: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}


def test_status_shows_desks_that_are_well_and_ends_with_0(firm):
    result = call("status", *reach(firm))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"the firm {firm.desks['floor'].link.firm} is up\n")
    assert rows(result.stdout)["street"][1] == "up"
    assert "p-street on h1" in result.stdout


def test_status_names_who_is_not_up_why_and_what_to_do(firm):
    firm.desks["street"].says |= {"word": "full"}
    firm.desks["floor"].says |= {"word": "behind", "why": "street is 900 behind"}
    result = call("status", *reach(firm))
    assert result.exit_code == 1
    assert "is full\n" in result.stdout
    assert "street is full: openoutcry firm trim, firm drop" in result.stdout
    assert "floor is behind: street is 900 behind" in result.stdout


def test_a_desk_that_holds_its_seat_and_says_nothing_is_silent(firm):
    firm.quiet.add("street")
    time.sleep(0.1)
    result = call("status", *reach(firm))
    assert result.exit_code == 1
    assert ["street", "silent", "not", "heard"] in [line.split()[:4] for line in result.stdout.splitlines()]
    assert "street is silent: see whether its process runs" in result.stdout


def test_a_desk_that_was_stopped_is_away_and_that_is_no_fault(firm):
    firm.quiet.add("street")
    street = firm.desks["street"]
    firm.do(street.transport.leave(street.seat))
    result = call("status", *reach(firm))
    assert result.exit_code == 0
    assert rows(result.stdout)["street"][1] == "away"


def test_kill_switches_are_shown_where_they_are_active(firm):
    firm.halt("street", scope="ES")
    assert "1 kill switch: ES" in call("status", *reach(firm)).stdout


def test_status_as_json_is_one_object(firm):
    found = json.loads(call("status", *reach(firm), "--json").stdout)
    assert found["word"] == "up"
    assert [desk["desk"] for desk in found["desks"]] == ["floor", "street"]
    assert {(one["importer"], one["exporter"], one["log"], one["behind"]) for one in found["lags"]} == {
        ("street", "floor", "normal", 0),
        ("street", "floor", "high", 0),
    }


def test_lag_counts_who_is_behind_whom(firm):
    assert call("lag", *reach(firm)).exit_code == 0
    firm.have_imported("street", floor=1)
    result = call("lag", *reach(firm))
    assert result.exit_code == 1
    assert ["street", "floor", "normal", "3", "1", "2"] in [
        line.split() for line in result.stdout.splitlines()
    ]


def test_a_desk_that_is_to_import_and_has_nothing_is_behind_by_all(firm):
    firm.have_imported("street")
    result = call("lag", *reach(firm))
    assert ["street", "floor", "normal", "3", "0", "3"] in [
        line.split() for line in result.stdout.splitlines()
    ]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openoutcry.cli.firm.engine.OPEN_S", 0.3)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("verb", ["status", "lag"])
def test_servers_that_do_not_answer_end_it_with_3(verb):
    result = call(verb, "--firm", "alpha", "--server", NOWHERE)
    assert result.exit_code == 3
    assert f"no server answers at {NOWHERE}" in result.stderr


@pytest.mark.usefixtures("impatient")
def test_status_as_json_is_one_object_also_where_no_server_answers():
    result = call("status", "--firm", "alpha", "--server", NOWHERE, "--json")
    assert result.exit_code == 3
    found = json.loads(result.stdout)
    assert (found["word"], found["engine"], found["desks"]) == ("stalled", None, [])


@pytest.mark.parametrize("verb", ["status", "lag"])
def test_a_firm_that_nobody_knows_is_not_called_up(one_node, verb):
    result = call(verb, "--firm", "nobodys", "--server", one_node.urls[0], "--listen", "0.1")
    assert result.exit_code == 1
    assert "the firm nobodys has no desk here" in result.output


def test_what_is_exported_while_it_listens_is_not_behind(firm):
    exported = threading.Timer(0.3, lambda: firm.do(firm.desks["floor"].export("normal", "e-4")))
    exported.start()
    result = call("lag", *reach(firm)[:-1], "1.5")
    exported.join()
    assert result.exit_code == 0, result.output


def test_a_holder_is_shown_by_its_process(firm):
    street = firm.desks["street"]
    seat = msgspec.structs.replace(street.seat, holder="4711.20dba153.bcb965cffc25ceaf-001")
    firm.do(street.transport.claim(seat, firm.do(street.transport.seats())[-1]))
    assert "pid 4711 on h1" in call("status", *reach(firm)).stdout


def test_a_settings_file_says_where_the_servers_are(firm, tmp_path: Path):
    link = firm.desks["street"].link
    file = tmp_path / "street.toml"
    file.write_text(f'[link]\nfirm = "{link.firm}"\nservers = ["{link.servers[0]}"]\n')
    assert call("status", "--config", file).exit_code == 0
    result = call("status", "--config", file, "--firm", "beta")
    assert result.exit_code == 2
    assert "leave --firm out" in result.stderr


def test_without_any_word_of_the_firm_it_is_asked_for():
    result = call("status")
    assert result.exit_code == 2
    assert "--config FILE" in result.stderr


@pytest.mark.parametrize("verb", ["status", "lag", "doctor"])
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_what_desks_say_is_printed_so_that_nothing_is_obeyed(firm, verb, more):
    evil = "x\x1b]0;owned\x07\r\nforged\u202e"
    firm.desks["street"].says |= {
        "holder": evil,
        "word": evil,
        "why": evil,
        "version": evil,
        "classes": {evil: 1},
    }
    firm.desks["floor"].says |= {"classes": {evil: 2}}
    firm.halt("street", event_id=evil, scope=evil)
    result = call(verb, *reach(firm), *more)
    assert {c for c in result.output if is_obeyed(c)} == {"\n"}
    assert "Traceback" not in result.output


def test_bytes_that_are_no_beat_are_passed_over(firm):
    street = firm.desks["street"].transport
    for data in (b"", b"\xff", b"{}", b"[" * 5_000):
        firm.do(street.broadcast("beat", data))
    assert call("status", *reach(firm)).exit_code == 0


# -- doctor -------------------------------------------------------------------------------------------


def findings(*words: object) -> dict[str, tuple[str, str]]:
    result = call("doctor", *words, "--json")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    return {one["what"]: (one["verdict"], one["said"]) for one in found}


def test_doctor_finds_a_firm_well(firm):
    result = call("doctor", *reach(firm))
    assert result.exit_code == 0, result.output
    assert {line.split()[0] for line in result.stdout.splitlines()} <= {"ok", "note"}


def test_doctor_tells_of_clocks_versions_and_classes_that_differ(firm):
    floor, street = firm.desks["floor"].says, firm.desks["street"].says
    floor |= {"classes": {"Order": 2, "Note": 1}}
    street |= {"classes": {"Order": 1, "Note": 1}, "version": "0.9", "wall_ns": time.time_ns() - 180 * 10**9}
    found = findings(*reach(firm))
    assert found["clock of street"][0] == "warn"
    assert "behind this host's" in found["clock of street"][1]
    assert found["versions"] == (
        "warn",
        "desks run several versions of openoutcry (0.9: street; 1.0: floor): update the older ones",
    )
    assert "Order is at version 1 on street, 2 on floor" in found["event classes"][1]


def test_doctor_fails_for_two_processes_that_go_under_one_name(firm):
    firm.desks["street"].says["holder"] = "another"
    verdict, said = findings(*reach(firm))["desk street"]
    assert verdict == "FAIL"
    assert "2 processes go under this name (another and p-street)" in said
    assert call("doctor", *reach(firm)).exit_code == 1


@pytest.mark.usefixtures("impatient")
def test_doctor_fails_where_no_server_answers():
    result = call("doctor", "--firm", "alpha", "--server", NOWHERE)
    assert result.exit_code == 1
    assert "FAIL  servers" in result.stdout


def test_doctor_says_that_no_desk_has_started_yet(one_node):
    found = findings("--firm", a_firm(), "--server", one_node.urls[0], "--listen", "0.1")
    assert found["logs"][0] == "note"
    assert found["desks"][0] == "note"
    assert "has no desk here: none has a seat, and none is heard" in found["desks"][1]
