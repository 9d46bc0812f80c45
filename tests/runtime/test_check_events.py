"""What would not come back from a journal equal is refused at its publisher (CONTRACT 34), and nothing is lost."""

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from openoutcry import (
    ConfigError,
    Event,
    EventBus,
    InvalidEvent,
    PersistenceConfig,
    SignalDirection,
    SignalEvent,
    UnknownEventType,
    load_config,
)
from openoutcry.journals import MemoryJournal
from openoutcry.testing import run_virtual
from openoutcry.trading import KillSwitchEvent


class CheckedIntent(SignalEvent, kw_only=True):
    params: dict = {}


class CheckedSwitch(KillSwitchEvent, kw_only=True):
    params: dict = {}


@dataclass
class NeverRegistered:
    event_id: str = "1"
    event_type: str = "signal"


def an_intent(event_id: str, **params: Any) -> CheckedIntent:
    return CheckedIntent(
        event_id=event_id,
        strategy_name="trend",
        source_agent="trend",
        symbol="ES",
        direction=SignalDirection.LONG,
        params=params,
    )


async def by_publish(bus: EventBus, event: Any) -> bool:
    return await bus.publish(event)


async def by_priority(bus: EventBus, event: Any) -> bool:
    return await bus.publish(event, priority=True)


async def by_publish_nowait(bus: EventBus, event: Any) -> bool:
    return bus.publish_nowait(event)


async def by_publish_many(bus: EventBus, event: Any) -> bool:
    return await bus.publish_many([event]) == 1


async def by_publish_signal(bus: EventBus, event: Any) -> bool:
    await bus.publish_signal(event)
    return True


async def by_publish_threadsafe(bus: EventBus, event: Any) -> bool:
    return await asyncio.wrap_future(bus.publish_threadsafe(event))


async def by_publish_receipt(bus: EventBus, event: Any) -> bool:
    return (await bus.publish_receipt(event)).accepted


WAYS = [
    by_publish,
    by_priority,
    by_publish_nowait,
    by_publish_many,
    by_publish_signal,
    by_publish_threadsafe,
    by_publish_receipt,
]

BUSES: dict[str, dict[str, Any]] = {
    "in memory": {"check_events": "always"},
    "at the level memory": {
        "check_events": "always",
        "journal": MemoryJournal,
        "persistence_config": PersistenceConfig(levels={"signal": "memory"}),
    },
    "with a journal": {"journal": MemoryJournal},
    "with a journal, checking all": {"check_events": "always", "journal": MemoryJournal},
}


def a_bus(kind: str) -> EventBus:
    settings: dict[str, Any] = {
        name: value() if value is MemoryJournal else value for name, value in BUSES[kind].items()
    }
    return EventBus(**settings)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", BUSES)
def test_every_way_in_refuses_it_also_once_the_class_is_known(kind: str, way: Any) -> None:
    async def main() -> None:
        handled: list[str] = []
        async with a_bus(kind) as bus:
            bus.subscribe("signal", lambda event: handled.append(event.event_id), name="all")
            for index in range(3):  # from the second on, the hot path takes the class
                assert await way(bus, an_intent(f"good-{index}", limit="1.10"))
                with pytest.raises(
                    InvalidEvent, match=r"CheckedIntent\.params\['limit'\] = Decimal\('1.10'\)"
                ):
                    await way(bus, an_intent(f"bad-{index}", limit=Decimal("1.10")))
            assert await way(bus, an_intent("bad-0", limit="1.10")), "a refused id is free"
            await bus.join()
            assert bus.ledger().balances
            assert not any(bus.metrics.refused.values())
        assert handled == ["good-0", "good-1", "good-2", "bad-0"]

    run_virtual(main())


@pytest.mark.parametrize("kind", BUSES)
def test_of_many_those_before_the_wrong_one_are_accepted(kind: str) -> None:
    async def main() -> None:
        handled: list[str] = []
        async with a_bus(kind) as bus:
            bus.subscribe("signal", lambda event: handled.append(event.event_id), name="all")
            await bus.publish(an_intent("first"))
            events = [an_intent("a"), an_intent("b", legs=("C", "P")), an_intent("c")]
            with pytest.raises(InvalidEvent, match=r"params\['legs'\] = \('C', 'P'\).* as the list"):
                await bus.publish_many(events)
            assert await bus.publish_many([events[0], events[2]]) == 2
            await bus.join()
            assert bus.ledger().balances
        assert handled == ["first", "a", "c"]

    run_virtual(main())


@pytest.mark.parametrize("kind", BUSES)
def test_before_the_start_it_is_refused_and_the_rest_is_delivered(kind: str) -> None:
    async def main() -> None:
        handled: list[str] = []
        bus = a_bus(kind)
        bus.subscribe("signal", lambda event: handled.append(event.event_id), name="all")
        await bus.publish(an_intent("a"))
        with pytest.raises(InvalidEvent, match=r"CheckedIntent\.params key = 150"):
            await bus.publish(with_int_key("b"))
        from_a_thread = bus.publish_threadsafe(with_int_key("c"))
        await bus.start()
        await bus.join()
        assert isinstance(from_a_thread.exception(timeout=0), InvalidEvent)
        await bus.stop()
        assert handled == ["a"]

    run_virtual(main())


def with_int_key(event_id: str) -> CheckedIntent:
    return CheckedIntent(
        event_id=event_id,
        strategy_name="trend",
        symbol="ES",
        direction=SignalDirection.LONG,
        params={150: "strike"},
    )


def test_a_handler_that_publishes_it_fails_and_its_event_ends_in_the_dead_letters() -> None:
    async def main() -> None:
        async with EventBus(check_events="always") as bus:

            async def on_tick(_event: Any) -> None:
                await bus.publish(an_intent("x", limit=Decimal(1)))

            bus.subscribe("tick", on_tick, name="agent", retry=False)
            await bus.publish(Event(event_type="tick"))
            await bus.join()
            (letter,) = bus.dead_letters()
            assert "params['limit']" in letter.error

    run_virtual(main())


def test_in_memory_nothing_is_checked_unless_it_is_asked_for() -> None:
    async def main() -> None:
        async with EventBus() as bus:
            for index in range(3):
                assert await bus.publish(an_intent(str(index), limit=Decimal(1)))
            assert await bus.publish(NeverRegistered())

    run_virtual(main())


def test_a_class_that_is_not_registered_and_a_kill_switch_are_checked_too() -> None:
    async def main() -> None:
        async with EventBus(check_events="always") as bus:
            bus.subscribe("kill_switch", print, name="risk")
            with pytest.raises(UnknownEventType, match=r"NeverRegistered.*@register_event"):
                await bus.publish(NeverRegistered())
            with pytest.raises(InvalidEvent, match=r"CheckedSwitch\.params"):
                await bus.publish(CheckedSwitch(reason="test", params={"at": Decimal(1)}))
            assert bus.halted() == ()

    run_virtual(main())


def test_the_setting_can_be_in_the_file_and_is_one_of_two(tmp_path: Any) -> None:
    path = tmp_path / "firm.toml"
    path.write_text('[bus]\ncheck_events = "always"\n', encoding="utf-8")
    assert EventBus(**load_config(path).arguments()).config.check_events == "always"
    with pytest.raises(ConfigError, match="check_events"):
        EventBus(check_events="sometimes")  # type: ignore[arg-type]
