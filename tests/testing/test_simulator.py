"""The simulator: it finds planted bugs, finds nothing else, and takes the same path each time."""

import asyncio
import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from campaigns.simulate import main as campaign
from campaigns.simulate_plants import PLANTS, planted

from openoutcry import EventBus, KillSwitchEvent, OrderEvent, OrderSide, PersistenceConfig, WrongThread
from openoutcry.errors import ConfigError, JournalDead, JournalFull
from openoutcry.ports import Entry, Level
from openoutcry.testing import Faults, SimulationFailed, simulate
from openoutcry.testing.simulator import Violation
from openoutcry.testing.simulator.__main__ import main
from openoutcry.testing.simulator.chance import Chance
from openoutcry.testing.simulator.disk import Disk
from openoutcry.testing.simulator.loop import SimClock, SimLoop
from openoutcry.testing.simulator.strangers import CALLS, on_another_loop

ROOT = Path(__file__).resolve().parents[2]
SEEDS = int(os.environ.get("OPENOUTCRY_SIMULATED_SEEDS", "150"))
SEEDS_TO_FIND = 600


def an_order(name: str) -> OrderEvent:
    return OrderEvent(order_id=name, symbol="ES", side=OrderSide.BUY, quantity=1)


# -- what it finds ------------------------------------------------------------------------------------


def test_the_bus_keeps_its_promises_in_every_seed() -> None:
    assert len(simulate(seeds=range(SEEDS))) == SEEDS


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_is_found(name: str) -> None:
    with planted(name), pytest.raises(SimulationFailed) as failed:
        simulate(seeds=range(SEEDS_TO_FIND))
    assert isinstance(failed.value.found, Violation)


def test_what_is_planted_is_gone_afterwards() -> None:
    with planted("acknowledged before the commit"), pytest.raises(SimulationFailed) as failed:
        simulate(seeds=range(SEEDS_TO_FIND))
    simulate(seeds=[failed.value.seed])


def test_a_failing_seed_says_what_happened_and_how_to_run_it_again() -> None:
    with planted("retries are overtaken"), pytest.raises(SimulationFailed) as failed:
        simulate(seeds=range(SEEDS_TO_FIND), faults=Faults(crashes=1, raising=0.2))
    text = str(failed.value)
    assert "of the same lane waited for a retry" in text
    assert re.search(r"\n  \d:\d+ \d+\.\d{6} publishing e-\d+", text)
    command = (
        f"python -m openoutcry.testing.simulator --seed {failed.value.seed} --faults raising=0.2,crashes=1"
    )
    assert text.endswith(command)


# -- the same path ------------------------------------------------------------------------------------


def test_the_same_seed_leaves_the_same_trace_also_in_another_process() -> None:
    here = simulate(seeds=range(8))
    assert simulate(seeds=range(8)) == here
    code = "from openoutcry.testing import simulate; print([s.digest for s in simulate(seeds=range(8))])"
    for salt in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": salt, "PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=600, check=True
        )
        assert done.stdout.strip() == str([seed.digest for seed in here])


def test_different_seeds_take_different_paths() -> None:
    assert len({seed.digest for seed in simulate(seeds=range(20))}) == 20


def test_a_stream_of_chance_does_not_depend_on_what_others_have_asked() -> None:
    chance = Chance(7)
    first = chance.stream("a").whole(0, 10**9)
    chance.share()
    assert chance.stream("a").whole(0, 10**9) == first
    assert chance.stream("b").whole(0, 10**9) != first


def orders_of_tasks(seed: int, *, shuffles: bool) -> list[int]:
    loop = SimLoop(SimClock(), Chance(seed), shuffles=shuffles)
    seen: list[int] = []

    async def step(number: int) -> None:
        seen.append(number)

    async def both() -> None:
        loop.call_soon(seen.append, -1)
        await asyncio.gather(*(step(number) for number in range(6)))

    try:
        loop.run_until_complete(both())
    finally:
        loop.close()
    return seen


def test_tasks_of_a_turn_change_places_and_callbacks_do_not() -> None:
    assert orders_of_tasks(1, shuffles=False) == [-1, 0, 1, 2, 3, 4, 5]
    found = [orders_of_tasks(seed, shuffles=True) for seed in range(5)]
    assert all(order[0] == -1 and sorted(order) == [-1, 0, 1, 2, 3, 4, 5] for order in found)
    assert len({tuple(order) for order in found}) > 1


# -- the disk -----------------------------------------------------------------------------------------


def entries(*names: str, level: Level = Level.PROCESS) -> list[Entry]:
    return [Entry(name, f'{{"event_id": "{name}"}}'.encode(), level=level) for name in names]


def test_a_killed_process_leaves_what_it_has_written_and_a_power_cut_what_was_synced() -> None:
    kept = set()
    for seed in range(20):
        disk, clock = Disk(""), SimClock()
        journal = disk.opened(Chance(seed), clock, lambda _line: None)
        journal.write(entries("a"))
        journal.sync()
        journal.write(entries("b"))
        journal.write(entries("c"))
        disk.lose(Chance(seed), power=True)
        kept.add("".join(name for name in "abc" if disk.platter.find(name)))
    assert kept == {"a", "ab", "abc"}
    disk = Disk("")
    disk.opened(Chance(0), clock, lambda _line: None).write(entries("a"))
    assert disk.lose(Chance(0), power=False) == 0
    again = disk.opened(Chance(0), clock, lambda _line: None)
    assert again.find("a") == 1


def test_what_was_in_hand_is_suspected_in_the_next_life() -> None:
    disk = Disk("")
    journal = disk.opened(Chance(0), SimClock(), lambda _line: None)
    journal.write(entries("a"))
    journal.marks.cells[journal.marks.claim("desk", "normal")] = 1
    disk.lose(Chance(0), power=False)
    (suspect,) = disk.opened(Chance(0), SimClock(), lambda _line: None).suspects()
    assert (suspect.subscription, suspect.position, suspect.crashes) == ("desk", 1, 1)


def test_a_journal_refuses_or_dies_as_it_is_told() -> None:
    journal = Disk("").opened(Chance(0), SimClock(), lambda _line: None)
    journal.faults = Faults(**{**dict.fromkeys(Faults.__dataclass_fields__, 0), "journal_full": 1.0})  # type: ignore[arg-type]
    with pytest.raises(JournalFull):
        journal.write(entries("a"))
    assert journal.find("a") is None
    journal.faults = Faults(**{**dict.fromkeys(Faults.__dataclass_fields__, 0), "journal_dead": 1.0})  # type: ignore[arg-type]
    with pytest.raises(JournalDead):
        journal.sync()
    journal.faults = Faults.none()
    with pytest.raises(JournalDead):
        journal.write(entries("a"))


# -- firms of users -----------------------------------------------------------------------------------


def test_a_firm_of_ones_own_is_run_in_every_life_and_drains() -> None:
    lives: list[int] = []
    handled: set[str] = set()

    def make_firm(bus, chance):
        lives.append(bus.life)

        async def on_order(order):
            handled.add(order.order_id)

        async def trade():
            bus.world["asked"] = bus.world.get("asked", 0) + 1
            await bus.publish(an_order(f"{chance.seed}-{bus.life}-last"))

        bus.subscribe("order", on_order, name="desk")
        return [trade]

    options = {"persistence_config": PersistenceConfig(socket=False)}
    simulate(make_firm, seeds=range(20), options=options)
    assert max(lives) == Faults().crashes
    assert any(name.startswith("19-") and name.endswith("-last") for name in handled)


def test_publishers_run_beside_the_start_and_the_stop() -> None:
    asked: list[str] = []
    handled: set[str] = set()

    def make_firm(bus, _chance):
        async def on_kill(event):
            handled.add(event.event_id)

        async def pull():
            event = KillSwitchEvent(reason="simulated", scope=f"{bus.life}-{len(asked)}")
            asked.append(event.event_id)
            assert await bus.publish_in_thread(event)

        bus.subscribe("kill_switch", on_kill, name="desk")
        bus.at_start.append(pull)
        bus.at_stop.append(pull)

    faults = dataclasses.replace(Faults.none(), crashes=1, restarts=1.0)
    simulate(make_firm, seeds=range(10), faults=faults)
    assert len(asked) > 20
    assert handled == set(asked)


def test_a_bus_goes_on_when_its_loop_was_closed_without_a_stop() -> None:
    begun: list[str] = []
    handled: set[str] = set()

    def make_firm(bus, chance):
        runs = 0

        async def on_order(order):
            if order.order_id.endswith("-1"):
                await asyncio.sleep(chance.one_of((0, 100)))  # it may be in flight when the loop is closed
            handled.add(order.order_id)

        async def trade():
            nonlocal runs
            runs += 1
            begun.append(f"{chance.seed}-{runs}")
            await bus.publish(an_order(begun[-1]))

        bus.subscribe("order", on_order, name="desk")
        return [trade]

    simulate(make_firm, seeds=range(12), faults=dataclasses.replace(Faults.none(), lost_loops=0.25))
    assert 12 < len(begun) < 24, "some loops are closed and others are not"
    assert handled == set(begun)


@pytest.mark.parametrize("verb", CALLS)
def test_a_stranger_is_told_so_whatever_it_calls(verb: str) -> None:
    def make_firm(bus, _chance):
        async def trade():
            answer = on_another_loop(CALLS[verb], bus, an_order("o"))
            assert isinstance(answer, WrongThread), answer

        bus.subscribe("order", lambda _order: None, name="desk")
        return [trade]

    simulate(make_firm, seeds=[1], faults=dataclasses.replace(Faults.none(), restarts=1.0))


def test_an_assertion_of_a_publisher_fails_the_seed() -> None:
    def make_firm(_bus, _chance):
        async def audit():
            raise AssertionError("the book is wrong")

        return [audit]

    with pytest.raises(SimulationFailed, match="the book is wrong"):
        simulate(make_firm, seeds=[1], faults=Faults.none())


def test_a_firm_that_never_drains_is_found() -> None:
    def make_firm(bus, _chance):
        async def on_order(_order):
            await asyncio.sleep(1e6)

        async def trade():
            await bus.publish(an_order("o"))

        bus.subscribe("order", on_order, name="desk")
        return [trade]

    with pytest.raises(SimulationFailed, match="there wait"):
        simulate(make_firm, seeds=[1], faults=Faults.none())


def test_a_bus_in_a_simulation_is_a_real_one() -> None:
    kinds: set[bool] = set()

    def make_firm(bus, _chance):
        kinds.add(isinstance(bus, EventBus))

    simulate(make_firm, seeds=[1], faults=Faults.none())
    assert kinds == {True}


def test_a_bus_in_a_simulation_checks_what_it_does_not_journal_unless_it_is_told_not_to() -> None:
    checked: list[str] = []

    def make_firm(bus, _chance):
        checked.append(bus.config.check_events)

    for options in (None, {"max_queue_size": 50}, {"check_events": "journaled"}):
        simulate(make_firm, seeds=[1], faults=Faults.none(), options=options)
    assert checked == ["always", "always", "journaled"]


def test_the_worked_example_of_the_page_runs() -> None:
    page = (ROOT / "docs" / "simulator.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    exec(compile(code, "docs/simulator.md", "exec"), {"__name__": "example"})


# -- faults and commands ------------------------------------------------------------------------------


def test_faults_are_written_and_read_back() -> None:
    for faults in (Faults(), Faults.none(), Faults(slow=0.5, crashes=0), Faults(power_cuts=1)):
        assert Faults.from_text(faults.to_text()) == faults
    assert Faults.from_text("none") == Faults.none()


@pytest.mark.parametrize("text", ["quick=1", "slow=much", "slow=2", "crashes=-1", "slow"])
def test_faults_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Faults.from_text(text)


def test_the_command_runs_seeds_and_shows_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "3"]) == 0
    assert "3 seeds in" in capsys.readouterr().out
    assert main(["--seed", "3", "--faults", "none"]) == 0
    shown = capsys.readouterr().out
    assert "publishing e-1" in shown
    assert "found nothing" in shown
    assert main(["--faults", "quick=1"]) == 2
    assert main(["--firm", "no.such:firm"]) == 2
    with planted("acknowledged before the commit"):
        assert main(["--seeds", "20"]) == 1


def test_a_campaign_goes_on_where_it_was_interrupted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state.json"
    arguments = ["--faults", "none", "--jobs", "1", "--state", str(state)]
    assert campaign(["--seeds", "100", *arguments]) == 0
    assert campaign(["--seeds", "100", *arguments]) == 0
    assert "\n0 seeds in" in "\n" + capsys.readouterr().out.splitlines()[-1]
    assert campaign(["--seeds", "100", "--life", "5", *arguments]) == 2
