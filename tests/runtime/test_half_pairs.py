"""Text that no file can hold: half a surrogate pair ends no journal, whatever it stands in, and loses nothing."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from bus_helpers import Desk, a_kill, a_signal, a_tick, an_order

from openoutcry import (
    BackpressureConfig,
    ConfigError,
    EventBus,
    InvalidEvent,
    PersistenceConfig,
    RoundLate,
    RoundReleased,
    SubscriptionError,
    decode,
    register_event,
)
from openoutcry.journals import JournalReader, Recording

HALF = "half \ud83d"


@register_event
@dataclass
class OwnSwitch:
    """A kill switch of the user's own class."""

    event_id: str
    scope: str = "firm"
    activated: bool = True
    event_type: ClassVar[str] = "kill_switch"


KEYS = pytest.mark.parametrize("key", [None, b"k" * 32], ids=["plain", "keyed"])


def a_bus(folder: Path, **fields: Any) -> EventBus:
    config = PersistenceConfig(path=folder / "firm.db", socket=False, cursor_save_s=0.01, **fields)
    return EventBus(persistence_config=config)


async def goes_on(bus: EventBus, desk: Desk) -> None:
    """The bus accepts, writes and delivers what comes next."""
    order = an_order()
    receipt = await bus.publish_receipt(order)
    assert (receipt.outcome, receipt.level) == ("accepted", "process")
    await bus.join()
    assert order.event_id in desk.ids


def is_whole(folder: Path, key: bytes | None = None) -> None:
    """The journal is read, and holds what was written."""
    with JournalReader(folder / "firm.db", key=key) as reader:
        assert list(reader.verify().problems) == []


# -- kill switches ---------------------------------------------------------------------------------


@KEYS
@pytest.mark.parametrize("field", ["event_id", "scope", "reason", "triggered_by", "source_agent", "round_id"])
def test_a_kill_switch_is_written_remembered_and_released_whatever_its_texts(
    field: str, key: bytes | None, tmp_path: Path
) -> None:
    """CONTRACT 36: what cannot be written is escaped, and the kill switch is found by what was given."""

    async def first_life() -> None:
        bus, desk = a_bus(tmp_path, key=key), Desk()
        releaser = bus.releaser("risk officer")
        bus.subscribe(["order", "kill_switch"], desk.on_event, name="desk")
        async with bus:
            kill = a_kill(**{field: HALF})
            assert (await bus.publish_receipt(kill)).position > 0
            assert (await bus.publish_receipt(a_kill(**{field: HALF, "event_id": kill.event_id}))).duplicate
            await goes_on(bus, desk)
            scope = HALF if field == "scope" else "firm"
            assert [halt.event_id for halt in bus.halted(scope)] == [kill.event_id]
            ids = [HALF] if field == "event_id" else [kill.event_id]
            released = await releaser.release(ids=ids, reason=HALF, scope=scope)
            assert released.releases == (kill.event_id,)
            await goes_on(bus, desk)
            assert bus.halted(scope) == ()
            assert await bus.publish(a_kill(**{field: HALF, "event_id": "the last one"}))

    async def second_life() -> None:
        bus, desk = a_bus(tmp_path, key=key), Desk()
        releaser = bus.releaser("risk officer")
        bus.subscribe(["order", "kill_switch"], desk.on_event, name="desk")
        async with bus:
            scope = HALF if field == "scope" else "firm"
            assert [halt.event_id for halt in bus.halted(scope)] == ["the last one"]
            await releaser.release(scope=scope, reason="over")
            await goes_on(bus, desk)
            assert bus.halted(scope) == ()

    asyncio.run(first_life())
    is_whole(tmp_path, key)
    asyncio.run(second_life())
    is_whole(tmp_path, key)


@KEYS
def test_a_kill_switch_of_the_users_own_class_ends_no_journal(key: bytes | None, tmp_path: Path) -> None:
    """Its texts are the user's: it is delivered, remembered and released, but not in the journal, which is told."""

    async def run() -> None:
        bus, desk = a_bus(tmp_path, key=key), Desk()
        releaser = bus.releaser("risk officer")
        bus.subscribe(["order", "kill_switch"], desk.on_event, name="desk")
        async with bus:
            for switch in (OwnSwitch(HALF), OwnSwitch("k", HALF)):
                assert await bus.publish(switch)
                await goes_on(bus, desk)
                await releaser.release(scope=switch.scope, reason="over")
                await goes_on(bus, desk)
                assert bus.halted(HALF) == ()

    asyncio.run(run())
    is_whole(tmp_path, key)


def test_a_kill_switch_is_written_whatever_it_was_caused_by(tmp_path: Path) -> None:
    async def run() -> None:
        bus, desk, kills = a_bus(tmp_path), Desk(), []

        async def on_tick(_tick: Any) -> None:
            kills.append(a_kill())
            await bus.publish(kills[0])

        bus.subscribe(["order", "kill_switch"], desk.on_event, name="desk")
        bus.subscribe("market_data", on_tick)
        async with bus:
            await bus.publish(a_tick(event_id=HALF))
            await bus.join()
            assert kills[0].causation_id == "half \\ud83d"
            assert (await bus.publish_receipt(kills[0])).position > 0
            await goes_on(bus, desk)

    asyncio.run(run())
    is_whole(tmp_path)


# -- names -----------------------------------------------------------------------------------------


def test_a_name_that_cannot_be_written_is_refused_where_it_is_given(tmp_path: Path) -> None:
    async def run() -> None:
        bus, desk = a_bus(tmp_path), Desk()
        bus.subscribe("order", desk.on_event, name="desk")
        other, named = Desk(), Desk()
        named.name = HALF  # type: ignore[attr-defined]
        async with bus:
            with pytest.raises(SubscriptionError, match=r"half a surrogate pair.*correct the name"):
                bus.subscribe("order", other.on_event, name=HALF)
            with pytest.raises(SubscriptionError, match=r"half a surrogate pair.*give a name="):
                bus.subscribe("order", named.on_event)
            with pytest.raises(ConfigError, match=r"agent_name holds.*half a surrogate pair"):
                bus.register_signal_agent(HALF)
            with pytest.raises(ConfigError, match=r"roster holds.*half a surrogate pair"):
                bus.open_round(roster=["momentum", HALF])
            with pytest.raises(ConfigError, match=r"critical holds.*half a surrogate pair"):
                bus.open_round(roster=["momentum"], critical=[HALF])
            with pytest.raises(ConfigError, match=r"round_id is.*half a surrogate pair"):
                bus.open_round(HALF)
            with pytest.raises(ConfigError, match=r"agent holds.*half a surrogate pair"):
                bus.abstain(HALF)
            with pytest.raises(ConfigError, match=r"agent holds.*half a surrogate pair"):
                bus.open_round("r", roster=["momentum"]).abstain(HALF)
            with pytest.raises(ConfigError, match=r"agent holds.*half a surrogate pair"):
                bus.heartbeat(HALF, lease_s=1.0)
            with pytest.raises(InvalidEvent, match="half a surrogate pair"):
                await bus.publish_signal(a_signal(HALF))
            with pytest.raises(ConfigError, match=r"recorded.*half a surrogate pair"):
                await bus.recorded(HALF, lambda: 1)
            await goes_on(bus, desk)
            await bus.flush()

    asyncio.run(run())
    is_whole(tmp_path)


def test_a_cursor_is_given_to_no_name_that_cannot_be_written(tmp_path: Path) -> None:
    async def a_life(name: str, *, is_new: bool) -> None:
        bus, desk = a_bus(tmp_path), Desk()
        bus.subscribe("order", desk.on_event, name=name)
        async with bus:
            if is_new:
                with pytest.raises(SubscriptionError, match="half a surrogate pair"):
                    await bus.admin.reassign_cursor("desk", HALF)
            await goes_on(bus, desk)

    asyncio.run(a_life("desk", is_new=False))
    asyncio.run(a_life("other", is_new=True))
    is_whole(tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {"kill_switch_releasers": [HALF]},
        {"control_releaser": HALF},
        {"control": f"/tmp/{HALF}"},
        {"backpressure_config": {"shed_first": [HALF]}},
        {"persistence_config": {"levels": {HALF: "disk"}}},
    ],
    ids=str,
)
def test_settings_refuse_names_that_cannot_be_written(settings: dict[str, Any]) -> None:
    makers = {"backpressure_config": BackpressureConfig, "persistence_config": PersistenceConfig}
    with pytest.raises(ConfigError, match=r"half a surrogate pair|no file can be called"):
        EventBus(
            **{name: makers[name](**value) if name in makers else value for name, value in settings.items()}
        )


def test_nobody_takes_a_releaser_whose_name_cannot_be_written() -> None:
    with pytest.raises(ConfigError, match="half a surrogate pair"):
        EventBus().releaser(HALF)


def test_a_reason_to_abstain_is_recorded_escaped(tmp_path: Path) -> None:
    async def run() -> None:
        bus, desk = a_bus(tmp_path), Desk()
        bus.subscribe("order", desk.on_event, name="desk")
        async with bus:
            bus.open_round("r", roster=["momentum", "value"], quorum=1, signal_timeout=0.01)
            bus.abstain("momentum", HALF, "r")
            outcome = await bus.wait_for_signals("r")
            assert outcome.abstained == {"momentum": "half \\ud83d"}
            bus.abstain("value", HALF, "r")
            await goes_on(bus, desk)

    asyncio.run(run())
    is_whole(tmp_path)
    with JournalReader(tmp_path / "firm.db") as reader:
        records = [decode(stored.payload) for stored in reader.read(0, 100)]
    (released,) = [record for record in records if isinstance(record, RoundReleased)]
    (late,) = [record for record in records if isinstance(record, RoundLate)]
    assert released.abstained == {"momentum": "half \\ud83d"}
    assert late.reason == "half \\ud83d"


# -- records ---------------------------------------------------------------------------------------


def test_the_record_of_a_round_quotes_escaped_what_its_signals_say(tmp_path: Path) -> None:
    """The signals themselves are at `memory` here, which takes any text."""

    async def run() -> None:
        bus, desk = a_bus(tmp_path, levels={"signal": "memory"}), Desk()
        bus.subscribe("order", desk.on_event, name="desk")
        async with bus:
            bus.open_round("r", roster=["momentum", "value"], quorum=1, signal_timeout=0.01)
            await bus.publish_signal(a_signal("momentum", symbol=HALF, event_id=HALF, round_id="r"))
            await bus.wait_for_signals("r")
            await bus.publish_signal(a_signal("value", symbol=HALF, round_id="r"))
            await goes_on(bus, desk)

    asyncio.run(run())
    is_whole(tmp_path)
    with JournalReader(tmp_path / "firm.db") as reader:
        records = [decode(stored.payload) for stored in reader.read(0, 100)]
    (released,) = [record for record in records if isinstance(record, RoundReleased)]
    (late,) = [record for record in records if isinstance(record, RoundLate)]
    ((agent, symbol, signal_id),) = [(vote.agent, vote.symbol, vote.signal_id) for vote in released.votes]
    assert (agent, symbol, signal_id) == ("momentum", "half \\ud83d", "half \\ud83d")
    assert (released.missing, late.symbol) == (("value",), "half \\ud83d")


def test_a_recorded_day_has_its_steps_though_an_id_cannot_be_written(tmp_path: Path) -> None:
    async def run() -> None:
        bus, desk = a_bus(tmp_path, record="replay"), Desk()

        async def on_order(_order: Any) -> None:
            await bus.publish(a_tick(event_id=f"{HALF} {len(ticks.handled)}"))

        ticks = Desk()
        bus.subscribe("order", desk.on_event, name="desk")
        bus.subscribe("order", on_order, name="feed")
        bus.subscribe("market_data", ticks.on_event, name="ticks")
        async with bus:
            await goes_on(bus, desk)
            await goes_on(bus, desk)
            assert len(ticks.handled) == 2

    asyncio.run(run())
    is_whole(tmp_path)
    with Recording(tmp_path / "firm.db") as recording:
        (day,) = recording.runs
        calls = [call for call in day.calls() if call.subscription != "desk"]
    assert [call.subscription for call in calls] == ["feed", "ticks"] * 2
    assert [call.places for call in calls if call.subscription == "ticks"] == [
        ("half \\ud83d 0",),
        ("half \\ud83d 1",),
    ]
