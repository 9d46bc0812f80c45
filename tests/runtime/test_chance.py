"""Chance: for the same seed, subscription and event the same numbers are drawn, whatever else happens."""

import asyncio
import random
from typing import Any

import pytest
from bus_helpers import an_order, virtual
from durable_kit import a_bus, written

from openoutcry import Event, EventBus, RunStarted
from openoutcry.errors import ConfigError
from openoutcry.journals import MemoryJournal

Drawn = dict[str, list[float]]


async def drawn_by(names: list[str], orders: list[str], **fields: Any) -> Drawn:
    """What agents of these names draw for orders of these ids: two numbers each."""
    drawn: Drawn = {}
    async with EventBus(seed=7, **fields) as bus:
        for name in names:

            async def on_order(event: Event, name: str = name) -> None:
                first = bus.chance.random()
                await asyncio.sleep(0)
                drawn[f"{name} {event.event_id}"] = [
                    first,
                    bus.chance.gauss(),
                    float(bus.chance.randrange(9)),
                ]

            bus.subscribe("order", on_order, name=name)
        for order in orders:
            await bus.publish(an_order(event_id=order))
        await bus.join()
    return drawn


@virtual
async def test_what_is_drawn_depends_on_the_event_and_on_nothing_that_came_before():
    together = await drawn_by(["a", "b"], ["o-1", "o-2"])
    assert len({values[0] for values in together.values()}) == 4
    alone = await drawn_by(["b"], ["o-2"])
    assert alone["b o-2"] == together["b o-2"]
    assert await drawn_by(["b", "a"], ["o-1", "o-2"]) == together


@virtual
async def test_a_call_that_is_tried_again_draws_the_same_again():
    drawn: list[float] = []
    async with EventBus(seed=1) as bus:

        def on_order(event: Event) -> None:
            drawn.append(bus.chance.random())
            if len(drawn) < 3:
                raise ValueError("not yet")

        bus.subscribe("order", on_order, name="a")
        await bus.publish(an_order())
        await bus.join()
    assert len(drawn) == 3
    assert len(set(drawn)) == 1


@virtual
async def test_a_task_that_a_handler_has_started_draws_on_from_its_call():
    drawn: list[float] = []
    async with EventBus(seed=1) as bus:

        async def draw() -> None:
            drawn.append(bus.chance.random())

        async def on_order(event: Event) -> None:
            await draw()
            await asyncio.gather(draw(), draw())

        bus.subscribe("order", on_order, name="a")
        await bus.publish(an_order(event_id="o-1"))
        await bus.join()
    assert drawn == [(again := random.Random("1:a:o-1")).random(), again.random(), again.random()]


@virtual
async def test_a_program_beside_the_handlers_draws_from_one_generator():
    async with EventBus(seed=3) as one, EventBus(seed=3) as other, EventBus() as third:
        first, second = [one.chance.random() for _ in range(3)], [other.chance.random() for _ in range(3)]
        assert first == second
        assert [third.chance.random() for _ in range(3)] != first
        state = one.chance.getstate()
        value = one.chance.choice(range(1_000))
        one.chance.setstate(state)
        assert one.chance.choice(range(1_000)) == value


@virtual
async def test_the_seed_is_in_the_journal_whether_it_was_given_or_drawn():
    for seed in (11, None):
        journal = MemoryJournal()
        async with a_bus(journal, record="rounds", seed=seed) as bus:
            await bus.flush()
        (run,) = (one for one in written(journal) if isinstance(one, RunStarted))
        assert run.seed == bus.chance.first_seed
        assert seed is None or run.seed == seed
        assert 0 <= run.seed < 2**53


def test_a_seed_is_refused_that_is_no_whole_number_in_range_and_so_is_seeding_anew():
    for wrong in (-1, 2**53, 1.5, "x"):
        with pytest.raises(ConfigError, match="seed"):
            EventBus(seed=wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"EventBus\(seed=...\)"):
        EventBus().chance.seed(5)
