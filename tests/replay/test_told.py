"""Whether a call knows the round that it names is as on the day, however long the others sleep now."""

import asyncio
from pathlib import Path

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
from openoutcry.replay.day import read_day
from openoutcry.replay.engine import replay_here

TICKS = 6
LATE, A_BIT, EARLY = 0.03, 0.006, 0.0
opens_after_s = EARLY


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
    then: float, now: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "day.db"
    monkeypatch.setitem(globals(), "opens_after_s", then)
    record(path, Rivals)
    monkeypatch.setitem(globals(), "opens_after_s", now)
    found = replay_here(read_day(path), Rivals, "rivals")
    assert found.differences == ()
    assert found.identical


@pytest.mark.parametrize(("then", "now"), [(LATE, EARLY), (EARLY, A_BIT), (LATE, LATE)])
def test_a_round_is_met_as_on_the_day(
    then: float, now: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "day.db"
    monkeypatch.setitem(globals(), "opens_after_s", then)
    record(path, Meeting)
    with Recording(path) as recording:
        asked = recording.runs[0].rounds_not_known
    assert bool(asked) == (then == LATE)
    assert {who for who, _ in asked} <= {"abstainer", "watcher"}
    monkeypatch.setitem(globals(), "opens_after_s", now)
    found = replay_here(read_day(path), Meeting, "meeting")
    assert found.differences == ()
    assert found.identical
    assert found.limits == ()


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
    now: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "day.db"
    monkeypatch.setitem(globals(), "opens_after_s", LATE)
    record(path, Halting)
    with Recording(path) as recording:
        seen = recording.runs[0].halts_seen
    assert len(seen) == 1 + TICKS, "at first, and whenever it was otherwise"
    monkeypatch.setitem(globals(), "opens_after_s", now)
    found = replay_here(read_day(path), Halting, "halting")
    assert found.differences == ()
    assert found.identical


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
