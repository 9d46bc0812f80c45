"""The published interface: every class, method, property and constant, with its parameters, as it is documented."""

import asyncio
import enum
import inspect
import json
from typing import Any

import pytest
from bus_helpers import Desk, a_fill, a_signal, a_tick, virtual

import openoutcry
from openoutcry import (
    HIGH_PRIORITY_EVENT_TYPES,
    BackpressureConfig,
    BackpressureLevel,
    BackpressureMetrics,
    EventBus,
    EventBusHealthStatus,
    EventType,
    HealthCheckConfig,
    HealthCheckResult,
    SignalBarrier,
)

BUS_METHODS = {
    "register_signal_agent": ["agent_name"],
    "subscribe": ["event_type", "handler"],
    "unsubscribe": ["event_type", "handler"],
    "cleanup_dead_handlers": ["max_idle_seconds"],
    "get_handler_stats": [],
    "publish": ["event", "priority"],
    "on_backpressure_change": ["callback"],
    "publish_signal": ["signal"],
    "wait_for_signals": [],
    "get_barrier_status": [],
    "recover_persisted_events": [],
    "start": [],
    "stop": [],
    "get_event_history": ["event_type", "limit"],
    "get_status": [],
    "reset_metrics": [],
    "check_health": [],
    "on_health_change": ["callback"],
}
BUS_COROUTINES = {
    "publish",
    "publish_signal",
    "wait_for_signals",
    "get_barrier_status",
    "recover_persisted_events",
    "start",
    "stop",
    "check_health",
}
BUS_PROPERTIES = {
    "queue_size",
    "is_running",
    "backpressure_level",
    "metrics",
    "persistence",
    "health_status",
    "is_healthy",
}
BARRIER_METHODS = {
    "add_signal": ["agent_name", "signal"],
    "is_complete": [],
    "wait": [],
    "get_signals_copy": [],
    "get_received_count": [],
}


def parameters_of(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


# -- signatures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "EventBusHealthStatus",
        "HealthCheckConfig",
        "HealthCheckResult",
        "BackpressureLevel",
        "BackpressureConfig",
        "BackpressureMetrics",
        "SignalBarrier",
        "EventBus",
        "HIGH_PRIORITY_EVENT_TYPES",
    ],
)
def test_every_name_of_the_page_is_exported(name):
    assert name in openoutcry.__all__
    assert getattr(openoutcry, name) is not None


@pytest.mark.parametrize("name", BUS_METHODS)
def test_every_method_of_the_bus_has_its_parameters_in_their_order(name):
    method = inspect.getattr_static(EventBus, name)
    assert inspect.isfunction(method)
    assert parameters_of(method)[: len(BUS_METHODS[name])] == BUS_METHODS[name]
    assert inspect.iscoroutinefunction(method) == (name in BUS_COROUTINES)
    further = list(inspect.signature(method).parameters.values())[1 + len(BUS_METHODS[name]) :]
    assert all(p.default is not p.empty for p in further), "what came later is optional"


@pytest.mark.parametrize("name", sorted(BUS_PROPERTIES))
def test_what_reads_like_an_attribute_is_a_property(name):
    assert isinstance(inspect.getattr_static(EventBus, name), property)


@pytest.mark.parametrize("name", BARRIER_METHODS)
def test_every_method_of_the_barrier_has_its_parameters(name):
    method = inspect.getattr_static(SignalBarrier, name)
    assert parameters_of(method)[: len(BARRIER_METHODS[name])] == BARRIER_METHODS[name]
    assert inspect.iscoroutinefunction(method)


def test_whether_a_barrier_is_closed_is_a_property():
    assert isinstance(inspect.getattr_static(SignalBarrier, "is_closed"), property)


def test_the_constructor_takes_its_arguments_by_position_in_their_order():
    assert parameters_of(EventBus.__init__)[:7] == [
        "max_queue_size",
        "signal_timeout",
        "barrier_timeout",
        "backpressure_config",
        "enable_persistence",
        "persistence_config",
        "health_check_config",
    ]
    bus = EventBus(500, 1.0, 2.0, BackpressureConfig(), False, None, None)
    assert bus.config.max_queue_size == bus.metrics.capacity == 500
    assert (bus.config.signal_timeout, bus.config.barrier_timeout) == (1.0, 2.0)
    assert EventBus().metrics.capacity == 10_000


def test_the_levels_and_states_are_enums_with_their_members():
    assert issubclass(BackpressureLevel, enum.Enum)
    assert [level.name for level in BackpressureLevel] == ["NORMAL", "WARNING", "HIGH", "CRITICAL"]
    assert issubclass(EventBusHealthStatus, enum.Enum)
    assert {"HEALTHY", "DEGRADED", "UNHEALTHY"} <= {status.name for status in EventBusHealthStatus}


def test_the_high_priority_types_are_those_of_money_and_danger():
    assert {
        EventType.FILL,
        EventType.VALIDATED_DECISION,
        EventType.RISK_ALERT,
        EventType.KILL_SWITCH,
    } == HIGH_PRIORITY_EVENT_TYPES
    assert isinstance(HIGH_PRIORITY_EVENT_TYPES, frozenset)


def test_configurations_are_made_without_arguments_and_results_are_json_ready():
    assert BackpressureConfig().warning_threshold == 0.5
    assert HealthCheckConfig().errors_max == 10
    result = HealthCheckResult(status=EventBusHealthStatus.DEGRADED, culprits=("slow",))
    assert json.loads(json.dumps(result.to_dict()))["status"] == "degraded"
    metrics = EventBus().metrics
    assert isinstance(metrics, BackpressureMetrics)
    assert json.loads(json.dumps(metrics.to_dict()))["level"] == "normal"


# -- use as on the page --------------------------------------------------------------------------------------


@virtual
async def test_the_bus_is_used_as_it_always_was():
    desk, levels = Desk(), []
    bus = EventBus(max_queue_size=100, signal_timeout=1.0, barrier_timeout=2.0)
    bus.register_signal_agent("momentum")
    bus.register_signal_agent(agent_name="value")
    bus.subscribe(EventType.MARKET_DATA, desk.on_event)
    bus.subscribe(event_type=EventType.FILL, handler=desk.on_event)
    bus.on_backpressure_change(levels.append)
    task = asyncio.create_task(bus.start())
    await asyncio.sleep(0)
    assert task.done()
    assert bus.is_running is True

    assert await bus.publish(a_tick()) is True
    assert await bus.publish(a_tick(), True) is True
    assert await bus.publish(event=a_fill(), priority=False) is True
    await bus.join()
    assert sorted(desk.types) == ["fill", "market_data", "market_data"]
    assert len(bus.get_event_history(EventType.MARKET_DATA, 1)) == 1
    assert len(bus.get_event_history(event_type=None, limit=2)) == 2
    assert bus.queue_size == 0
    assert bus.backpressure_level is BackpressureLevel.NORMAL
    assert bus.metrics.published == 3
    assert bus.get_status()["is_running"] is True
    assert bus.get_handler_stats()["total_handlers"] == 1

    waiting = asyncio.create_task(bus.wait_for_signals())
    await asyncio.sleep(0)
    assert await bus.publish_signal(a_signal("momentum")) is None
    await bus.publish_signal(signal=a_signal("value"))
    signals = await waiting
    assert isinstance(signals, dict)
    assert set(signals) == {"momentum", "value"}
    status = await bus.get_barrier_status()
    assert status["registered"] == ["momentum", "value"]

    assert bus.cleanup_dead_handlers() == 0
    assert bus.cleanup_dead_handlers(max_idle_seconds=600.0) == 0
    bus.unsubscribe(EventType.FILL, desk.on_event)
    bus.unsubscribe(event_type=EventType.MARKET_DATA, handler=desk.on_event)
    bus.reset_metrics()
    assert bus.metrics.published == 0
    await bus.stop()
    assert bus.is_running is False
    assert levels == []


@virtual
async def test_the_bus_is_used_as_a_block():
    desk = Desk()
    async with EventBus() as bus:
        assert isinstance(bus, EventBus)
        assert bus.is_running
        bus.subscribe(EventType.MARKET_DATA, desk.on_event)
        await bus.publish(a_tick())
    assert not bus.is_running
    assert len(desk.handled) == 1


@virtual
async def test_a_bus_tells_of_its_health_without_any_setting():
    told: list[HealthCheckResult] = []
    bus = EventBus()
    bus.on_health_change(told.append)
    result = await bus.check_health()
    assert isinstance(result, HealthCheckResult)
    assert result.status is EventBusHealthStatus.HEALTHY
    assert result.to_dict()["status"] == "healthy"
    assert bus.health_status is EventBusHealthStatus.HEALTHY
    assert bus.is_healthy
    assert told == [result]
    assert await bus.recover_persisted_events() == 0
    assert bus.persistence is None


@virtual
async def test_the_barrier_is_used_alone():
    barrier = SignalBarrier(["momentum", "value"], 5.0)
    first, second = a_signal("momentum"), a_signal("value")
    assert await barrier.add_signal("momentum", first) is False
    assert await barrier.get_received_count() == 1
    assert await barrier.is_complete() is False
    assert barrier.is_closed is False
    assert await barrier.add_signal(agent_name="value", signal=second) is True
    assert await barrier.is_complete() is True
    assert await barrier.wait() == {"momentum": first, "value": second}
    assert await barrier.get_signals_copy() == {"momentum": first, "value": second}
    assert barrier.is_closed is True
    assert await barrier.add_signal("value", a_signal("value")) is False, "late"


@virtual
async def test_the_barrier_gives_what_it_has_at_its_time_out():
    barrier = SignalBarrier({"momentum", "value"}, timeout=5.0)
    signal = a_signal("momentum")
    await barrier.add_signal("momentum", signal)
    assert await barrier.wait() == {"momentum": signal}
    assert asyncio.get_running_loop().time() == 5
    assert barrier.is_closed
