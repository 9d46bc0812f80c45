"""Causes (CONTRACT 12): what a handler publishes carries its cause, its chain and its round by itself."""

import asyncio
import contextvars
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from bus_helpers import (
    Failing,
    a_decision,
    a_fill,
    a_kill,
    a_signal,
    a_tick,
    an_order,
    ticks,
    virtual,
)

from openoutcry import Envelope, Event, EventBus, EventType, RetryPolicy


@dataclass
class Note:
    event_id: str
    event_type: ClassVar[str] = "note"


WAYS = ["publish", "publish_nowait", "publish_many", "priority", "signal"]


async def publish_by(bus: EventBus, way: str, event: Any) -> None:
    if way == "publish":
        assert await bus.publish(event)
    elif way == "publish_nowait":
        assert bus.publish_nowait(event)
    elif way == "publish_many":
        assert await bus.publish_many([event]) == 1
    elif way == "priority":
        assert await bus.publish(event, True)
    else:
        await bus.publish_signal(event)


@pytest.mark.parametrize("way", WAYS)
@virtual
async def test_what_a_handler_publishes_carries_its_cause_and_its_chain(way):
    """CONTRACT 12."""
    children: list[Any] = []
    async with EventBus() as bus:

        async def handler(_event: Any) -> None:
            for _ in range(2):
                child = a_signal("a")
                children.append(child)
                await publish_by(bus, way, child)
                await asyncio.sleep(0.1)

        bus.subscribe(EventType.MARKET_DATA, handler)
        first, second = a_tick(round_id="r-1"), a_tick(correlation_id="chain")
        await bus.publish(first)
        await bus.publish(second)
        await bus.join()
        links = [(c.causation_id, c.correlation_id) for c in children]
        assert links == [(first.event_id, first.event_id)] * 2 + [(second.event_id, "chain")] * 2
        assert [c.round_id for c in children[:2]] == ["r-1"] * 2


@virtual
async def test_a_chain_has_one_correlation_and_each_link_its_own_cause():
    """CONTRACT 12."""
    seen: list[Any] = []
    async with EventBus() as bus:

        def on_tick(_event: Any) -> None:
            bus.publish_nowait(a_decision())

        async def on_decision(_event: Any) -> None:
            await bus.publish(an_order())

        async def on_order(_event: Any) -> None:
            await bus.publish(a_fill())

        bus.subscribe("market_data", on_tick)
        bus.subscribe("decision", on_decision)
        bus.subscribe("order", on_order)
        bus.subscribe("*", seen.append)
        tick = a_tick(round_id="r-7")
        await bus.publish(tick)
        await bus.join()
        by_type = {str(e.event_type): e for e in seen}
        chain = [by_type[name] for name in ("market_data", "decision", "order", "fill")]
        assert [e.causation_id for e in chain] == [None, *(e.event_id for e in chain[:3])]
        assert [e.correlation_id for e in chain[1:]] == [tick.event_id] * 3
        assert [e.round_id for e in chain] == ["r-7"] * 4


@virtual
async def test_what_is_published_outside_of_handlers_has_no_cause():
    async with EventBus() as bus:

        async def handler(_event: Any) -> None:
            await asyncio.sleep(1)

        bus.subscribe("*", handler)
        await bus.publish(a_tick())
        await asyncio.sleep(0.5)
        outside = [a_tick(), a_fill(), a_kill()]
        for event in outside:
            await bus.publish(event)
        await bus.join()
        assert [(e.causation_id, e.correlation_id) for e in outside] == [(None, None)] * 3


@virtual
async def test_what_the_publisher_has_filled_in_stays():
    async with EventBus() as bus:
        made: list[Any] = []

        async def handler(_event: Any) -> None:
            child = an_order(causation_id="mine", correlation_id="my chain")
            made.append(child)
            await bus.publish(child)

        bus.subscribe("market_data", handler)
        await bus.publish(a_tick(round_id="r"))
        await bus.join()
        assert (made[0].causation_id, made[0].correlation_id, made[0].round_id) == ("mine", "my chain", "r")


@virtual
async def test_each_event_of_a_batch_is_the_cause_of_its_own_children():
    """CONTRACT 12, for plain and for coroutine handlers."""
    pairs: list[tuple[Any, Any]] = []
    async with EventBus() as bus:

        def plain(event: Any) -> None:
            child = an_order()
            pairs.append((event, child))
            bus.publish_nowait(child)

        async def coroutine(event: Any) -> None:
            child = an_order()
            pairs.append((event, child))
            await bus.publish(child)

        bus.subscribe("market_data", plain)
        bus.subscribe("market_data", coroutine)
        await bus.publish_many(ticks(300))
        await bus.join()
        assert len(pairs) == 600
        assert all(child.causation_id == event.event_id for event, child in pairs)


@virtual
async def test_concurrent_calls_do_not_mix_their_causes():
    pairs: list[tuple[Any, Any]] = []
    async with EventBus() as bus:

        async def handler(event: Any) -> None:
            await asyncio.sleep(event.price)
            child = an_order()
            pairs.append((event, child))
            await bus.publish(child)

        bus.subscribe("market_data", handler, concurrency=5)
        await bus.publish_many(ticks(20))
        await bus.join()
        assert all(child.causation_id == event.event_id for event, child in pairs)


@pytest.mark.parametrize("spawn", ["create_task", "gather", "TaskGroup", "ensure_future", "nested"])
@virtual
async def test_tasks_that_a_handler_spawns_keep_its_cause_also_when_they_outlive_the_call(spawn):
    """CONTRACT 12."""
    children: list[tuple[Any, Any]] = []
    kept: set[Any] = set()
    async with EventBus() as bus:

        async def child_of(event: Any, after_s: float) -> None:
            await asyncio.sleep(after_s)
            child = an_order()
            children.append((event, child))
            await bus.publish(child)

        async def nested(event: Any) -> None:
            await asyncio.create_task(child_of(event, 1))

        async def handler(event: Any) -> None:
            if spawn == "create_task":
                kept.add(asyncio.create_task(child_of(event, 5)))
            elif spawn == "ensure_future":
                kept.add(asyncio.ensure_future(child_of(event, 5)))
            elif spawn == "gather":
                await asyncio.gather(child_of(event, 0.1), child_of(event, 0.2))
            elif spawn == "nested":
                kept.add(asyncio.create_task(nested(event)))
            else:
                async with asyncio.TaskGroup() as group:
                    group.create_task(child_of(event, 0.1))

        bus.subscribe("market_data", handler)
        await bus.publish_many(ticks(4))
        await asyncio.sleep(20)
        await bus.join()
        assert len(children) >= 4
        assert all(child.causation_id == event.event_id for event, child in children)


@virtual
async def test_a_task_from_outside_is_nobodys_child_while_a_handler_runs():
    children: list[Any] = []
    async with EventBus() as bus:

        async def outside() -> None:
            await asyncio.sleep(0.5)
            child = an_order()
            children.append(child)
            await bus.publish(child)

        async def handler(_event: Any) -> None:
            await asyncio.sleep(1)

        bus.subscribe("market_data", handler)
        task = asyncio.create_task(outside())
        await bus.publish(a_tick())
        await bus.join()
        await task
        assert children[0].causation_id is None


@virtual
async def test_a_retry_and_a_kill_handler_are_causes_too():
    children: list[Any] = []
    failing = Failing(times=1)
    async with EventBus() as bus:

        async def handler(event: Any) -> None:
            await failing.on_event(event)
            child = an_order()
            children.append(child)
            await bus.publish(child)

        bus.subscribe(["market_data", "kill_switch"], handler, retry=RetryPolicy(attempts=3, first_s=1.0))
        tick, kill = a_tick(), a_kill()
        await bus.publish(tick)
        await bus.publish(kill)
        await bus.join()
        assert {c.causation_id for c in children} == {tick.event_id, kill.event_id}


@virtual
async def test_users_own_classes_have_their_links_in_the_envelope():
    """CONTRACT 12."""
    async with EventBus() as bus:
        note, order, last = Note("n-1"), an_order(), Note("n-2")

        async def on_tick(_event: Any) -> None:
            await bus.publish(note)

        async def on_note(event: Any) -> None:
            if event is note:
                await bus.publish(order)
                await bus.publish(last)

        bus.subscribe("market_data", on_tick)
        bus.subscribe("note", on_note)
        tick = a_tick(round_id="r-1")
        await bus.publish(tick)
        await bus.join()
        assert bus.envelope(note) == Envelope("n-1", "note", tick.event_id, tick.event_id, "r-1")
        assert bus.envelope(last) == Envelope("n-2", "note", tick.event_id, "n-1", "r-1")
        assert (order.causation_id, order.correlation_id, order.round_id) == ("n-1", tick.event_id, "r-1")
        assert bus.envelope(order) == Envelope(order.event_id, "order", tick.event_id, "n-1", "r-1")
        assert bus.envelope(tick) == Envelope(tick.event_id, "market_data", None, None, "r-1")
        assert bus.envelope(Note("unknown")) == Envelope("unknown", "note", None, None, None)


@virtual
async def test_a_handler_of_one_bus_that_publishes_on_another_passes_its_cause_on():
    heard: list[Any] = []
    async with EventBus() as first, EventBus() as second:

        async def bridge(_event: Any) -> None:
            await second.publish(Event(event_type="bridged"))

        first.subscribe("*", bridge)
        second.subscribe("*", heard.append)
        tick = a_tick()
        await first.publish(tick)
        await first.join()
        await second.join()
        assert heard[0].causation_id == tick.event_id


@pytest.mark.parametrize("event", [a_tick, a_fill, lambda: Note("n-1")], ids=["tick", "fill", "own class"])
@virtual
async def test_an_event_that_is_passed_on_to_another_bus_does_not_become_its_own_cause(event):
    """CONTRACT 12."""
    heard: list[Any] = []
    async with EventBus() as first, EventBus() as second:

        async def bridge(event: Any) -> None:
            assert await second.publish(event)

        first.subscribe("*", bridge)
        second.subscribe("*", heard.append)
        passed_on = event()
        await first.publish(passed_on)
        await first.join()
        await second.join()
        assert heard == [passed_on]
        for bus in (first, second):
            envelope = bus.envelope(passed_on)
            assert (envelope.causation_id, envelope.correlation_id) == (None, None)


@virtual
async def test_the_users_own_context_variables_and_task_factory_are_left_alone():
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outside")
    made: list[Any] = []
    loop = asyncio.get_running_loop()

    def factory(loop: Any, coro: Any, **options: Any) -> Any:
        made.append(coro)
        return asyncio.Task(coro, loop=loop, **options)

    loop.set_task_factory(factory)
    seen: list[str] = []
    async with EventBus() as bus:

        async def child() -> None:
            seen.append(variable.get())

        async def handler(_event: Any) -> None:
            variable.set("handler")
            await asyncio.create_task(child())

        bus.subscribe("*", handler)
        count = len(made)
        await bus.publish(a_tick())
        await bus.join()
        assert len(made) > count
    assert seen == ["handler"]
    assert variable.get() == "outside"
    assert loop.get_task_factory() is factory
