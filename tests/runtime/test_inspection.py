"""Looking at a bus: statistics, status and ledger are JSON-ready, true, and change nothing."""

import asyncio
import json
import sys
from typing import Any

import pytest
from bus_helpers import Desk, Failing, Gate, a_fill, a_kill, a_signal, a_tick, assert_balanced, ticks, virtual

from openoutcry import NO_RETRY, ConfigError, EventBus, EventType
from openoutcry.testing import run_virtual


@virtual
async def test_handler_statistics_tell_what_each_subscription_did():
    gate = Gate()
    async with EventBus() as bus:
        bus.subscribe([EventType.MARKET_DATA, "fill"], gate.on_event, name="gate")
        bus.subscribe("market_data", Failing().on_event, name="failing", retry=NO_RETRY)
        await bus.publish_many(ticks(5))
        await asyncio.sleep(0.5)
        stats = bus.get_handler_stats()
        assert stats["total_handlers"] == 2
        assert stats["by_event_type"] == {"market_data": 2, "fill": 1}
        by_name = {handler["name"]: handler for handler in stats["handlers"]}
        busy, failing = by_name["gate"], by_name["failing"]
        assert (busy["state"], busy["accepted"], busy["waiting"], busy["in_flight"]) == ("busy", 5, 4, 1)
        assert busy["types"] == ["fill", "market_data"]
        assert busy["idle_s"] == 0
        assert (failing["errors"], failing["dead_letters"], failing["state"]) == (5, 5, "idle")
        gate.open()
        await bus.join()
        await asyncio.sleep(30)
        (done,) = (h for h in bus.get_handler_stats()["handlers"] if h["name"] == "gate")
        assert (done["state"], done["handled"]) == ("idle", 5)
        assert done["idle_s"] == pytest.approx(30)
        json.dumps(stats)


@virtual
async def test_states_name_what_a_subscription_is_doing():
    gate = Gate()
    async with EventBus() as bus:
        subscription = bus.subscribe("*", gate.on_event)
        states = [subscription.state()]
        await bus.publish_many(ticks(2))
        await asyncio.sleep(0.1)
        states.append(subscription.state())
        await asyncio.sleep(5)
        states.append(subscription.state())
        gate.open()
        await bus.join()
        await asyncio.sleep(5)
        states.append(subscription.state())
        subscription.pause()
        states.append(subscription.state())
        bus.unsubscribe("*", gate.on_event)
        states.append(subscription.state())
        assert states == ["idle", "busy", "stalled", "idle", "paused", "ended"]


@virtual
async def test_latencies_are_those_from_publishing_to_the_call():
    async with EventBus() as bus:
        subscription = bus.subscribe("*", Desk().on_event, name="desk")
        subscription.pause()
        await bus.publish_many(ticks(10))
        await asyncio.sleep(0.5)
        subscription.resume()
        await bus.join()
        latency = bus.get_handler_stats()["handlers"][0]["latency"]
        assert latency["count"] >= 1
        assert latency["p50_us"] == pytest.approx(500_000, rel=0.3)
        assert bus.get_status()["latency"]["count"] == latency["count"]


@virtual
async def test_the_status_is_json_ready_at_every_stage():
    bus = EventBus(kill_switch_releasers={"risk"})
    shown = [bus.get_status()]
    bus.subscribe("*", Failing().on_event, name="failing", retry=NO_RETRY)
    bus.register_signal_agent("a", critical=True)
    await bus.publish(a_tick())
    shown.append(bus.get_status())
    await bus.start()
    await bus.publish_many([a_fill(), a_kill()])
    await bus.publish_signal(a_signal("a"))
    await bus.join()
    bus.open_round("r-1")
    shown.append(bus.get_status())
    await bus.stop()
    shown.append(bus.get_status())
    assert [s["state"] for s in shown] == ["new", "new", "running", "stopped"]
    assert [s["is_running"] for s in shown] == [False, False, True, False]
    assert shown[2]["dead_letters"] == 4
    assert shown[2]["ledger"]["balances"] is True
    assert shown[2]["barrier"]["critical"] == ["a"]
    assert shown[2]["backpressure"]["published"] == 4
    for status in shown:
        assert json.loads(json.dumps(status)) == status


@virtual
async def test_looking_changes_nothing():
    desk = Desk(takes_s=0.1)
    async with EventBus() as bus:
        bus.subscribe("*", desk.on_event)
        for event in ticks(20):
            await bus.publish(event)
            bus.get_status()
            bus.ledger()
            _ = (bus.metrics, bus.queue_size, bus.backpressure_level, bus.subscriptions)
            bus.get_handler_stats()
            bus.dead_letters()
            bus.get_event_history()
            await bus.get_barrier_status()
            assert_balanced(bus)
        await bus.join()
        assert desk.prices == [float(n) for n in range(1, 21)]
        assert bus.metrics.published == 20


@virtual
async def test_the_ledger_has_a_row_for_each_lane_of_each_subscription():
    async with EventBus() as bus:
        bus.subscribe("market_data", Desk().on_event, name="ticks")
        bus.subscribe("*", Desk().on_event, name="all")
        await bus.publish_many([a_tick(), a_fill(), a_kill()])
        await bus.join()
        ledger = bus.ledger()
        assert [(r.subscription, r.lane, r.handled) for r in ledger.rows] == [
            ("ticks", "high", 0),
            ("ticks", "normal", 1),
            ("all", "control", 1),
            ("all", "high", 1),
            ("all", "normal", 1),
        ]
        assert ledger.total("accepted") == ledger.total("handled") == 4
        assert ledger.to_dict()["balances"] is True


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_queue_size": 0},
        {"max_queue_size": 1.5},
        {"signal_timeout": 0},
        {"barrier_timeout": -1},
        {"dedup_window": 0},
        {"dedup_window_s": 0},
        {"stand_in_max_age": 0},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused_by_name(arguments):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        EventBus(**arguments)


@virtual
async def test_stalls_and_dead_letters_are_told_to_who_asked():
    """CONTRACT 4, 10: either way it is reported, and a callback that raises is nobody else's trouble."""
    told: list[tuple[str, Any]] = []

    def raising(*_: Any) -> None:
        raise RuntimeError("a callback of the user's")

    async with EventBus() as bus:
        bus.on_stalled(raising)
        bus.on_stalled(lambda subscription, stalled: told.append((subscription.name, stalled)))
        bus.on_dead_letter(raising)
        bus.on_dead_letter(lambda letter: told.append((letter.subscription, letter.event.price)))

        async def slow(event: Any) -> None:
            await asyncio.sleep(3)
            if event.price == 2.0:
                raise ValueError("no")

        bus.subscribe("*", slow, name="slow", retry=False)
        await bus.publish_many([a_tick(1.0), a_tick(2.0), a_tick(3.0)])
        await bus.join()
        await asyncio.sleep(2)
    assert told[0] == ("slow", True)
    assert ("slow", 2.0) in told
    assert told[-1] == ("slow", False)


def _a_firm(count: int) -> EventBus:
    bus = EventBus()
    for number in range(count):
        bus.subscribe([EventType.MARKET_DATA, "fill"], Desk().on_event, name=f"desk-{number}")
    return bus


@virtual
async def test_a_status_read_in_pieces_is_the_same_and_lets_others_run_in_between():
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with _a_firm(200) as bus:
        await bus.publish_many(ticks(10))
        await bus.join()
        running = asyncio.create_task(others())
        await asyncio.sleep(0)
        before = turns
        found = await bus.read_status()
        running.cancel()
        assert turns - before >= 200 // 16
        assert found == bus.get_status()


@virtual
async def test_subscriptions_may_come_and_go_while_a_status_is_read_in_pieces():
    async with _a_firm(100) as bus:
        reading = asyncio.create_task(bus.read_status())
        await asyncio.sleep(0)
        for subscription in bus.subscriptions[-50:]:
            bus.unsubscribe(
                "*" if "*" in subscription.types else list(subscription.types), subscription.handler
            )
        bus.subscribe("*", Desk().on_event, name="new")
        found = await reading
        assert found["handlers"]["total_handlers"] == 100
        assert found["ledger"]["balances"] is True
        json.dumps(found)


@pytest.mark.parametrize(
    ("look", "calls_most"),
    [("get_status", 60), ("get_handler_stats", 30), ("ledger", 25), ("check_health", 90)],
)
def test_looking_costs_few_calls_per_subscription(look, calls_most):
    """Counted in calls of Python functions, which no machine's speed changes."""
    counted = 0

    def count(_frame: object, event: str, _arg: object) -> None:
        nonlocal counted
        counted += event == "call"

    async def main() -> None:
        async with _a_firm(100) as bus:
            await bus.publish_many(ticks(10))
            await bus.join()
            bus.get_status()
            await bus.publish_many(ticks(10))
            await bus.join()
            ask = getattr(bus, look)
            sys.setprofile(count)
            try:
                found = ask()
                if asyncio.iscoroutine(found):
                    await found
            finally:
                sys.setprofile(None)

    run_virtual(main())
    assert counted / 100 <= calls_most
