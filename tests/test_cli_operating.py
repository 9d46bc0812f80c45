"""`openoutcry halt`, `release`, `pause`, `resume` and `top`, beside a real bus in another thread."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.thread_kit import LIMIT_S, running_bus

from openoutcry import EventBus, KillSwitchEvent, MarketDataEvent, PersistenceConfig
from openoutcry.cli import asking, main
from openoutcry.cli.watching import look as look_module
from openoutcry.journals import JournalReader, SqliteJournal
from openoutcry.runtime.control import server as server_module


def call(*arguments: object, typed: str | None = None) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], input=typed)
    assert "Traceback (most recent" not in result.output
    return result


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    monkeypatch.setattr(look_module, "ANSWER_S", LIMIT_S)
    monkeypatch.setattr(asking, "FIGURES_S", LIMIT_S)
    monkeypatch.setattr(asking, "can_ask", lambda: True)


@contextmanager
def running(prepare: Callable[[EventBus], Any], **settings: Any) -> Iterator[EventBus]:
    """A bus in a thread of its own, as the command meets it in another process."""
    with running_bus(lambda: EventBus(control_releaser="boss", **settings), prepare) as bus:
        yield bus


async def two_agents(bus: EventBus) -> None:
    bus.subscribe("kill_switch", lambda _: None, name="risk")
    bus.subscribe("market_data", lambda _: None, name="momentum")


async def nobody(_bus: EventBus) -> None:
    """Subscribe nobody."""


def test_halt_asks_first_and_says_who_has_handled_it(tmp_path: Path) -> None:
    path = tmp_path / "firm.sock"
    with running(two_agents, control=path):
        refused = call("halt", path, typed="n\n")
        assert refused.exit_code == 1
        assert "1 of 2 subscriptions will hear of it (risk). Halt the firm?" in refused.stderr
        halted = call("halt", path, "--reason", "drawdown", "--by", "ann", typed="y\n")
        assert halted.exit_code == 0
        assert "the firm is halted: 1 of 1 subscriptions have handled it in" in halted.stdout
        shown = call("top", path, "--count", "1").stdout
        assert "the firm is halted by ann: drawdown" in shown
        assert "healthy" not in shown
        released = call("release", path, "--scope", "firm", "--reason", "reviewed", typed="y\n")
        assert "1 kill switch will be released (firm by ann: drawdown). Release it?" in released.stderr
        assert released.stdout == "1 kill switch released by the running bus\n"
        assert "healthy: nothing is wrong" in call("top", path, "--count", "1").stdout


def test_a_halt_does_not_depend_on_the_figures_of_its_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "WATCHERS_MAX", 0)
    path = tmp_path / "firm.sock"
    with running(two_agents, control=path):
        said = call("halt", path, typed="y\n")
    assert said.exit_code == 0
    assert "who will hear of it is not known: JournalLocked: 0 clients watch this bus already" in said.stderr
    assert "Halt the firm?" in said.stderr
    assert "1 of 1 subscriptions have handled it" in said.stdout


def test_a_halt_that_nobody_hears_ends_with_1(tmp_path: Path) -> None:
    path = tmp_path / "firm.sock"
    with running(nobody, control=path):
        said = call("halt", path, "--scope", "ES", "--yes")
    assert said.exit_code == 1
    assert "ES is halted, and nobody takes kill switches" in said.stderr


def test_a_halt_that_somebody_has_not_handled_yet_names_who(tmp_path: Path) -> None:
    async def slow(bus: EventBus) -> None:
        async def on_kill(_event: KillSwitchEvent) -> None:
            await free.wait()

        free = asyncio.Event()
        loop = asyncio.get_running_loop()
        done.append(lambda: loop.call_soon_threadsafe(free.set))
        bus.subscribe("kill_switch", on_kill, name="llm")

    done: list[Callable[[], object]] = []
    path = tmp_path / "firm.sock"
    with running(slow, control=path):
        said = call("halt", path, "--yes")
        done[0]()
    assert said.exit_code == 1
    assert "0 of 1 subscriptions have handled it so far" in said.stdout
    assert "not yet: llm" in said.stderr


def test_a_release_in_a_name_that_may_not_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "firm.sock"
    with running(two_agents, control=path) as bus:
        call("halt", path, "--yes")
        said = call("release", path, "--scope", "firm", "--reason", "x", "--by", "ann", "--yes")
        assert said.exit_code == 2
        assert "'ann' may not release" in said.stderr
        assert len(bus._bus.halts) == 1
    assert call("release", path, "--reason", "x", "--yes").exit_code == 2  # it does not say what


def test_a_release_without_a_bus_is_written_into_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"
    with running(two_agents, persistence_config=PersistenceConfig(path=path)):
        assert call("halt", path, "--yes").exit_code == 0
    for verb in ("halt", "pause", "resume"):
        name = () if verb == "halt" else ("momentum",)
        said = call(verb, path, *name, "--yes")
        assert said.exit_code == 3
        assert "no bus listens" in said.stderr
    said = call("release", path, "--scope", "firm", "--reason", "reviewed", "--yes")
    assert "the next start delivers it" in said.stdout
    with JournalReader(path) as reader:
        assert reader.halts() == []


def test_a_subscription_is_paused_and_resumed_and_both_are_on_record(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"
    with running(two_agents, persistence_config=PersistenceConfig(path=path)):
        assert (
            call("pause", path, "momentum", "--reason", "slow", typed="y\n").stdout == "momentum is paused\n"
        )
        assert call("resume", path, "momentum", "--yes", "--by", "ann").stdout == "momentum is idle\n"
        assert call("pause", path, "nobody", "--yes").exit_code == 2
    with JournalReader(path) as reader:
        found = [e.payload for e in reader.read(0, 100) if b'"operator_action"' in e.payload]
    assert [b'"verb":"pause"' in one for one in found] == [True, False, True]
    assert b'"operator":"ann"' in found[1]
    assert b"NotSubscribed" in found[2]


def test_a_bus_that_has_no_socket_is_not_taken_for_none(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"
    with SqliteJournal(path):
        said, asked = call("halt", path, "--yes"), call("halt", path, typed="y\n")
    assert said.exit_code == asked.exit_code == 2
    assert said.stderr == asked.stderr
    assert f"process {os.getpid()} writes to {path}, and has no control socket there" in said.stderr
    said = call("halt", path, "--yes")
    assert said.exit_code == 3
    assert "no bus listens" in said.stderr


def test_a_file_that_is_no_firm_is_one_line(tmp_path: Path) -> None:
    for verb in ("halt", "top"):
        said = call(verb, tmp_path / "nothing.db", *(("--yes",) if verb == "halt" else ()))
        assert said.exit_code == 2
        assert "does not exist" in said.stderr


def test_top_names_who_fails_while_no_health_check_runs(tmp_path: Path) -> None:
    async def failing(bus: EventBus) -> None:
        async def mostly(event: MarketDataEvent) -> None:
            if event.price % 5:
                raise ValueError("no")

        bus.subscribe("market_data", mostly, name="momentum", retry=False, breaker=False)
        for price in range(1, 20):
            await bus.publish(MarketDataEvent(symbol="ES", price=float(price)))
        await bus.join()

    path = tmp_path / "firm.sock"
    with running(failing, control=path):
        shown = call("top", path, "--count", "1").stdout
    assert "momentum fails 84% of its calls: 16 of 19, the last 4 in a row" in shown
    assert "momentum has 16 dead letters" in shown


def test_without_a_terminal_and_without_yes_nothing_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "can_ask", lambda: False)
    path = tmp_path / "firm.sock"
    with running(two_agents, control=path) as bus:
        verbs = ["halt", path], ["pause", path, "momentum"], ["resume", path, "momentum"]
        for verb in (*verbs, ["release", path, "--scope", "firm", "--reason", "x"]):
            said = call(*verb, typed="y\n")
            assert said.exit_code == 2, said.output
            assert "add --yes" in said.stderr
        assert not bus._bus.halts


def test_a_question_says_what_waits_and_of_whom_there_is_no_such_thing(tmp_path: Path) -> None:
    path = tmp_path / "firm.sock"
    with running(two_agents, control=path):
        asked = call("pause", path, "momentum", typed="n\n")
        assert "momentum is idle: 0 events begun, 0 waiting" in asked.stderr
        unknown = call("pause", path, "nobody\x1b[2J", typed="y\n")
        assert unknown.exit_code == 2
        assert "there are momentum, risk" in unknown.stderr
        assert "\x1b" not in unknown.stderr


@pytest.mark.parametrize("more", [("--yes",), ()], ids=["unasked", "asked"])
def test_a_release_of_what_is_not_active_is_refused_with_the_scopes_that_are(
    tmp_path: Path, more: tuple[str, ...]
) -> None:
    path = tmp_path / "firm.sock"
    with running(two_agents, control=path) as bus:
        none = call("release", path, "--scope", "FIMR", "--reason", "x", *more, typed="y\n")
        assert none.exit_code == 2
        assert "none is active at all" in none.stderr
        assert call("halt", path, "--scope", "ES", "--yes").exit_code == 0
        unknown = call("release", path, "--scope", "ESX", "--reason", "x", *more, typed="y\n")
        assert unknown.exit_code == 2
        assert "scope = 'ESX': no kill switch is active in it; there are some in 'ES'" in unknown.stderr
        assert call("release", path, "--id", "k-1", "--reason", "x", *more, typed="y\n").exit_code == 2
        assert len(bus._bus.halts) == 1


def test_a_release_in_the_journal_of_what_is_not_active_names_the_scopes_that_are(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"
    with running(two_agents, persistence_config=PersistenceConfig(path=path)):
        assert call("halt", path, "--scope", "NQ", "--yes").exit_code == 0
    for more in ((), ("--yes",)):
        said = call("release", path, "--scope", "NX", "--reason", "x", *more, typed="y\n")
        assert said.exit_code == 2
        assert "there are some in 'NQ'" in said.stderr


@pytest.mark.parametrize("more", [("--yes",), ()], ids=["unasked", "asked"])
def test_a_resume_of_what_nothing_held_says_so_and_ends_with_1(tmp_path: Path, more: tuple[str, ...]) -> None:
    path = tmp_path / "firm.sock"
    with running(two_agents, control=path):
        said = call("resume", path, "momentum", *more, typed="y\n")
        assert said.exit_code == 1
        assert "momentum is idle: it was neither paused nor held" in said.stderr
        assert call("pause", path, "momentum", "--yes").exit_code == 0
        assert call("pause", path, "momentum", "--yes").stdout == "momentum is paused\n"
        assert call("resume", path, "momentum", *more, typed="y\n").exit_code == 0
        assert call("resume", path, "momentm", *more, typed="y\n").exit_code == 2


async def with_letters(bus: EventBus) -> None:
    async def no(_event: MarketDataEvent) -> None:
        if not mended:
            raise ValueError("no")

    bus.subscribe("market_data", no, name="momentum", retry=False, breaker=False)
    for price in range(1, 4):
        await bus.publish(MarketDataEvent(symbol="ES", price=float(price)))
    await bus.join()


mended: list[bool] = []


def test_letters_are_redriven_after_a_question_with_figures_and_it_is_on_record(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"
    with running(with_letters, persistence_config=PersistenceConfig(path=path)):
        asked = call("redrive", path, "--all", typed="n\n")
        assert "3 letters will be delivered again now: momentum 3" in asked.stderr
        mended.append(True)
        said = call(
            "redrive", path, "--subscription", "momentum", "--by", "ann", "--reason", "mended", typed="y\n"
        )
        assert said.exit_code == 0, said.output
        assert "3 letters redriven by the running bus" in said.stdout
        none = call("redrive", path, "--subscription", "risk")
        assert none.exit_code == 2
        assert "no dead letter to do this with meets these conditions" in none.stderr
        assert call("redrive", path).exit_code == 2
    with JournalReader(path) as reader:
        (action,) = [e.payload for e in reader.read(0, 100) if b'"operator_action"' in e.payload]
    assert b'"operator":"ann"' in action
    assert b'"mended"' in action


@pytest.mark.parametrize(
    ("command", "more"),
    [(("redrive",), ("--yes",)), (("redrive",), ()), (("dlq", "redrive"), ()), (("dlq", "drop"), ())],
)
def test_what_is_done_with_letters_that_are_not_there_is_refused(
    tmp_path: Path, command: tuple[str, ...], more: tuple[str, ...]
) -> None:
    path = tmp_path / "firm.db"
    mended.clear()
    with running(with_letters, persistence_config=PersistenceConfig(path=path)):
        for conditions in (("--id", "99"), ("--type", "signal"), ("--since", "2100-01-01")):
            said = call(*command, path, *conditions, *more)
            assert said.exit_code == 2, said.output
            assert "no dead letter to do this with meets these conditions" in said.stderr
        some = call(*command, path, "--id", "1", "--id", "99", *more, typed="y\n")
        assert some.exit_code == 1
        assert "with 1 of the 2 ids nothing was done" in some.stderr


def test_letters_of_a_bus_without_a_journal_are_redriven(tmp_path: Path) -> None:
    mended.clear()
    path = tmp_path / "firm.sock"
    with running(with_letters, control=path):
        said = call("redrive", path, "--all", typed="y\n")
        assert "3 letters will be delivered again now: momentum 3" in said.stderr
        assert "3 letters redriven" in said.stdout
