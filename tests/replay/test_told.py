"""Whether a call knows the round that it names is as on the day, however long the others sleep now."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from replayed_firm import record

from openoutcry import NO_RETRY, Event, EventBus, KillSwitchEvent, MarketDataEvent
from openoutcry.errors import DuplicateRound, UnknownRound
from openoutcry.journals import Recording
from openoutcry.journals.told import (
    HaltsSeen,
    halts_seen,
    no_round,
    read_halts_seen,
    round_not_known,
    writable,
)
from openoutcry.replay import Replayed
from openoutcry.replay.change import change_of
from openoutcry.replay.day import read_day
from openoutcry.replay.engine import control_here, replay_here, what_if_here

TICKS = 6
LATE, A_BIT, EARLY = 0.03, 0.006, 0.0
opens_after_s = EARLY


Sleeps = Callable[[float], None]


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> Sleeps:
    """Says how long agents sleep from now on."""
    return partial(monkeypatch.setitem, globals(), "opens_after_s")


def a_day(folder: Path, app: Any) -> Path:
    path = folder / "day.db"
    record(path, app)
    return path


def same_again(path: Path, app: Any) -> Replayed:
    found = replay_here(read_day(path), app, app.__name__)
    assert found.differences == ()
    assert found.identical
    return found


class RoundMet(Event, kw_only=True):
    event_type: str = "round_met"
    text: str


class Opener:
    """Opens the round of each tick, after a moment."""

    def __init__(self, bus: EventBus) -> None:
        self.bus = bus
        bus.subscribe(MarketDataEvent, self.on_tick, name="opener")

    async def on_tick(self, tick: MarketDataEvent) -> None:
        await asyncio.sleep(opens_after_s)
        opened = self.bus.open_round(tick.round_id, signal_timeout=0.01, barrier_timeout=0.01)
        outcome = await self.bus.wait_for_signals(opened.round_id)
        await self.say(tick, f"{outcome.status} {sorted(outcome.abstained)}")

    async def say(self, tick: MarketDataEvent, text: str) -> None:
        await self.bus.publish(RoundMet(text=f"{tick.round_id}: {text}", source_agent="opener"))


class Abstainer:
    """Abstains at once, and once more later if there was no such round."""

    def __init__(self, bus: EventBus) -> None:
        self.bus = bus
        bus.register_signal_agent("abstainer")
        bus.subscribe(MarketDataEvent, self.on_tick, name="abstainer")

    async def on_tick(self, tick: MarketDataEvent) -> None:
        for attempt, wait_s in enumerate((0.004, 0.01, 0.04), 1):
            await asyncio.sleep(wait_s)
            try:
                self.bus.abstain("abstainer", "no view", tick.round_id)
            except UnknownRound:
                text = f"{tick.round_id}: none at attempt {attempt}"
                await self.bus.publish(RoundMet(text=text, source_agent="abstainer"))
            else:
                return


class Watcher:
    """Waits for the rounds of others; a round that is not there fails its call."""

    def __init__(self, bus: EventBus) -> None:
        self.bus = bus
        bus.subscribe(MarketDataEvent, self.on_tick, name="watcher", retry=NO_RETRY, breaker=False)

    async def on_tick(self, tick: MarketDataEvent) -> None:
        await asyncio.sleep(0.005)
        outcome = await self.bus.wait_for_signals(tick.round_id)
        await self.bus.publish(RoundMet(text=f"{tick.round_id}: {outcome.status}", source_agent="watcher"))


class Meeting:
    """The app."""

    def setup(self, bus: EventBus) -> None:
        Opener(bus)
        Abstainer(bus)
        Watcher(bus)

    async def main(self, bus: EventBus) -> None:
        for number in range(TICKS):
            tick = MarketDataEvent(symbol="ES", price=100.0, round_id=f"ES-{number}", source_agent="feed")
            await bus.publish(tick)
            await bus.join()


class Rival:
    """Opens the round of each tick too, unless another agent has."""

    def __init__(self, bus: EventBus) -> None:
        self.bus = bus
        bus.subscribe(MarketDataEvent, self.on_tick, name="rival")

    async def on_tick(self, tick: MarketDataEvent) -> None:
        await asyncio.sleep(0.003)
        try:
            opened = self.bus.open_round(tick.round_id, signal_timeout=0.02, barrier_timeout=0.02)
        except DuplicateRound:
            text = "taken"
        else:
            text = str((await self.bus.wait_for_signals(opened.round_id)).status)
        await self.bus.publish(RoundMet(text=f"{tick.round_id}: {text}", source_agent="rival"))


class Rivals(Meeting):
    """The app, with two that open the same rounds."""

    def setup(self, bus: EventBus) -> None:
        super().setup(bus)
        Rival(bus)


@pytest.mark.parametrize(("then", "now"), [(EARLY, A_BIT), (A_BIT, EARLY)])
def test_who_was_first_to_open_a_round_is_again(
    then: float, now: float, tmp_path: Path, sleeps: Sleeps
) -> None:
    sleeps(then)
    path = a_day(tmp_path, Rivals)
    sleeps(now)
    same_again(path, Rivals)


@pytest.mark.parametrize(("then", "now"), [(LATE, EARLY), (EARLY, A_BIT), (LATE, LATE)])
def test_a_round_is_met_as_on_the_day(then: float, now: float, tmp_path: Path, sleeps: Sleeps) -> None:
    sleeps(then)
    path = a_day(tmp_path, Meeting)
    with Recording(path) as recording:
        asked = recording.runs[0].rounds_not_known
    assert bool(asked) == (then == LATE)
    assert {who for who, _ in asked} <= {"abstainer", "watcher"}
    sleeps(now)
    assert same_again(path, Meeting).limits == ()


class Desk:
    """Looks at the kill switches before and after it has slept, twice for each tick."""

    def __init__(self, bus: EventBus) -> None:
        self.bus = bus
        bus.subscribe(MarketDataEvent, self.on_tick, name="desk")

    async def on_tick(self, tick: MarketDataEvent) -> None:
        for _ in range(2):
            before = self.halted()
            await asyncio.sleep(opens_after_s)
            text = f"{tick.price} {before} {self.halted()}"
            await self.bus.publish(RoundMet(text=text, source_agent="desk"))

    def halted(self) -> list[str]:
        return [f"{halt.scope} {halt.by} {halt.reason}" for halt in self.bus.halted("ES")]


class Halting:
    """The app: kill switches come while others sleep."""

    def setup(self, bus: EventBus) -> None:
        Desk(bus)

    async def main(self, bus: EventBus) -> None:
        for number in range(TICKS):
            await bus.publish(MarketDataEvent(symbol="ES", price=number + 1.0, source_agent="feed"))
            await asyncio.sleep(0.01)
            await bus.publish(KillSwitchEvent(scope="ES", triggered_by="risk", reason=f"tick {number}"))
            await bus.join()


@pytest.mark.parametrize("now", [EARLY, LATE])
def test_who_looks_at_the_kill_switches_sees_those_of_the_day(
    now: float, tmp_path: Path, sleeps: Sleeps
) -> None:
    sleeps(LATE)
    path = a_day(tmp_path, Halting)
    with Recording(path) as recording:
        seen = recording.runs[0].halts_seen
    assert len(seen) == 1 + TICKS, "at first, and whenever it was otherwise"
    sleeps(now)
    same_again(path, Halting)


class Desks(Halting):
    """The app, whose desk looks at the kill switches in several calls at once, and in a task it leaves behind."""

    def setup(self, bus: EventBus) -> None:
        self.bus, self.left = bus, set[asyncio.Task[None]]()
        bus.subscribe(MarketDataEvent, self.on_tick, name="desk", concurrency=3)

    async def on_tick(self, tick: MarketDataEvent) -> None:
        await self.look(tick, "in the call")
        await asyncio.sleep(opens_after_s)
        await self.look(tick, "later in the call")
        task = asyncio.create_task(self.afterwards(tick))
        self.left.add(task)
        task.add_done_callback(self.left.discard)

    async def afterwards(self, tick: MarketDataEvent) -> None:
        await asyncio.sleep(0.001)
        self.bus.halted("ES")
        with suppress(UnknownRound):
            self.bus.abstain("desk", "no view", f"ES-{tick.price}")

    async def look(self, tick: MarketDataEvent, when: str) -> None:
        text = f"{tick.price} {when}: {[halt.reason for halt in self.bus.halted('ES')]}"
        await self.bus.publish(RoundMet(text=text, source_agent="desk"))


def test_calls_at_once_and_tasks_that_are_left_behind_do_not_mix_what_is_told(
    tmp_path: Path, sleeps: Sleeps
) -> None:
    sleeps(LATE)
    path = a_day(tmp_path, Desks)
    same_again(path, Desks)


class Killer:
    """Pulls a kill switch at the second tick."""

    def __init__(self, bus: EventBus) -> None:
        self.bus = bus
        bus.subscribe(MarketDataEvent, self.on_tick, name="killer")

    async def on_tick(self, tick: MarketDataEvent) -> None:
        if tick.price == 2.0:
            await self.bus.publish(KillSwitchEvent(scope="ES", triggered_by="risk", reason="two"))


class Killing(Halting):
    """The app, in which an agent pulls the kill switch that the desk looks at."""

    def setup(self, bus: EventBus) -> None:
        Killer(bus)
        Desk(bus)

    async def main(self, bus: EventBus) -> None:
        for number in range(TICKS):
            await bus.publish(MarketDataEvent(symbol="ES", price=number + 1.0, source_agent="feed"))
            await bus.join()


def test_without_who_pulled_a_kill_switch_nobody_sees_it(tmp_path: Path, sleeps: Sleeps) -> None:
    sleeps(0.005)
    path = a_day(tmp_path, Killing)
    control, known = control_here(read_day(path), Killing, "killing")
    assert control.identical
    change = change_of(without=["killer"])
    found = what_if_here(read_day(path), Killing, "killing", change, control=control, known=known)
    assert found.effects is not None
    assert "desk" in found.effects.touched
    assert found.effects.events["other"] >= TICKS - 2, "it says that nothing is halted"


@pytest.mark.parametrize("ids", [(), ("one",), ("one", "")])
def test_a_note_says_which_kill_switches_were_seen(ids: tuple[str, ...]) -> None:
    seen = HaltsSeen("ES NQ", "cause", 3, ids)
    assert read_halts_seen(halts_seen(seen, 7)) == seen
    assert round_not_known(halts_seen(seen, 7)) is None


@pytest.mark.parametrize(
    "event_id", ["", "(halts) ", "(halts) 3 ", "(halts) 3 {}", "(halts) 3 [1]", "(halts) 3 7"]
)
def test_an_id_of_an_event_says_nothing_of_kill_switches(event_id: str) -> None:
    assert read_halts_seen(event_id) is None


@pytest.mark.parametrize("round_id", ["ES-1", "", " 7 ", "(no round) 3 ES", "ES-\ud800", "ES\nZN"])
def test_a_note_says_which_round_was_not_known(round_id: str) -> None:
    assert round_not_known(no_round(round_id, 12)) == writable(round_id)


@pytest.mark.parametrize("event_id", ["ES-1", "", "(no round) ", "(no round) x ES", "12 ES"])
def test_an_id_of_an_event_is_no_note(event_id: str) -> None:
    assert round_not_known(event_id) is None
