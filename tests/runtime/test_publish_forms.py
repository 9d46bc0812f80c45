"""`publish` asks the fast path, or is written out: whichever it is, the bus does the same."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from bus_helpers import Desk, a_kill, a_tick, an_order, virtual
from hypothesis import given, settings
from hypothesis import strategies as st

from openoutcry import EventBus, InvalidEvent, OpenOutcryError
from openoutcry.runtime.admission import publishing
from openoutcry.testing import run_virtual

KINDS: dict[str, Callable[..., Any]] = {"tick": a_tick, "order": an_order, "kill": a_kill}
GIVEN = [*map("{:04}".format, range(30)), "a", "z", "late", "0007-x"]
IDS = st.sampled_from(["", "", *GIVEN])
PUBLICATIONS = st.tuples(st.sampled_from([*KINDS, "tick", "tick"]), IDS, st.booleans())
STEPS = st.lists(st.one_of(PUBLICATIONS, st.sampled_from(["again", "give way", "join"])), max_size=60)

written_out_alone = pytest.mark.skipif(
    publishing.IS_COMPILED, reason="compiled code is asked, and has no other form"
)


async def found_by(steps: list[Any], room: int, *, asks: bool) -> list[Any]:
    """Return what a bus answers to publications, and what it has done in the end."""
    found: list[Any] = []
    desk, others = Desk(), Desk()
    async with EventBus(max_queue_size=room, dedup_window=64) as bus:
        admission = bus._admission
        publish = publishing.asking(admission.fast_path, admission) if asks else admission.publish_fast
        bus.subscribe("*", desk.on_event, name="everything")
        bus.subscribe("order", others.on_event, name="orders")
        for number in range(200):  # so that their source is followed
            event = a_tick()
            await publish(event)
            if number == 100:
                await bus.join()
        for step in steps:
            if step == "again":
                found.append(await publish(event))
            elif step == "give way":
                await asyncio.sleep(0)
            elif step == "join":
                await bus.join()
            else:
                kind, event_id, priority = step
                event = KINDS[kind](**({"event_id": event_id} if event_id else {}))
                try:
                    found.append(await publish(event, priority and kind == "tick"))
                except OpenOutcryError as error:
                    found.append(type(error))
        await bus.join()
        metrics = bus.metrics
        known = [event.event_id if event.event_id in GIVEN else "" for event in desk.handled]
        found += [
            desk.types,
            others.types,
            known,
            metrics.published,
            metrics.duplicates,
            bus._bus.conflicts.total,
        ]
    return found


@written_out_alone
@given(STEPS, st.sampled_from([16, 1_000]))
@settings(max_examples=150, deadline=None)
def test_both_forms_do_the_same(steps: list[Any], room: int):
    assert run_virtual(found_by(steps, room, asks=True)) == run_virtual(found_by(steps, room, asks=False))


@written_out_alone
@virtual
async def test_pure_source_writes_it_out_and_a_bus_that_checks_all_events_asks():
    plain, checking = EventBus(), EventBus(check_events="always")
    assert isinstance(plain._admission.fast_path, publishing.WrittenOut)
    assert not isinstance(checking._admission.fast_path, publishing.WrittenOut)


@pytest.mark.parametrize("check_events", ["journaled", "always"])
@virtual
async def test_nothing_is_published_before_it_is_awaited_and_a_task_may_do_that(check_events: Any):
    desk = Desk()
    async with EventBus(check_events=check_events) as bus:
        bus.subscribe("*", desk.on_event)
        await bus.publish(a_tick())
        waiting = bus.publish(a_tick())
        assert asyncio.iscoroutine(waiting)
        assert asyncio.iscoroutinefunction(bus.publish)
        await bus.join()
        assert len(desk.handled) == 1
        assert await asyncio.create_task(waiting)
        await bus.join()
        assert len(desk.handled) == 2


@pytest.mark.parametrize("check_events", ["journaled", "always"])
@virtual
async def test_what_is_not_awaited_is_warned_of(check_events: Any):
    async with EventBus(check_events=check_events) as bus:
        with pytest.warns(RuntimeWarning, match="was never awaited"):
            bus.publish(a_tick())  # type: ignore[unused-coroutine]
        with pytest.raises(InvalidEvent):
            await bus.publish(object())
