"""Manners of the durable bus: what is refused at the door, what has no vote yet, how far a plain call looks back."""

import asyncio
import contextlib
import math
from typing import Any

import pytest
from bus_helpers import a_signal, an_order, virtual
from durable_kit import Named, a_bus

from openoutcry import NO_RETRY, Event, EventBus, InvalidEvent, RetryPolicy
from openoutcry.journals import MemoryJournal


class Reading(Event, kw_only=True):
    event_type: str = "reading"
    value: Any = 0.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [1.0, math.nan], {"a": {"b": math.inf}}])
@virtual
async def test_a_number_that_json_has_not_is_refused_and_nothing_is_lost_by_it(value: Any) -> None:
    journal = MemoryJournal()
    async with a_bus(journal) as bus:
        for publish in (bus.publish, bus.publish_signal):
            with pytest.raises(InvalidEvent):
                await publish(Reading(value=value))
        with pytest.raises(InvalidEvent, match="JSON has no such number"):
            await bus.publish_many([Reading(value=1.0), Reading(value=value)])
        good = Reading(value=2.0)
        assert await bus.publish(good)
    assert journal.find(good.event_id) is not None


@virtual
async def test_an_event_that_leads_to_itself_is_an_invalid_event() -> None:
    loop: list[Any] = []
    loop.append(loop)
    async with a_bus(MemoryJournal()) as bus:
        with pytest.raises(InvalidEvent):
            await bus.publish(Reading(value=loop))


@virtual
async def test_a_signal_in_an_outbox_has_no_vote_before_it_is_committed() -> None:
    bus = EventBus(journal=MemoryJournal(), signal_timeout=1.0, barrier_timeout=2.0)
    bus.register_signal_agent("momentum")
    attempts: list[Any] = []
    votes: list[int] = []

    async def strategist(order: Any) -> None:
        attempts.append(order)
        await bus.publish_signal(a_signal("momentum"))
        status = await bus.get_barrier_status()
        votes.append(len(status["recent"]) + sum(len(r.get("answered", ())) for r in status["open"]))
        if len(attempts) == 1:
            raise ValueError("not today")

    bus.subscribe("order", strategist, outbox=True, retry=RetryPolicy(attempts=2, first_s=0.2, jitter=0))
    heard = Named("heard")
    bus.subscribe("signal", heard.on_event)
    async with bus:
        barrier = bus.open_round("r")
        await bus.publish(an_order())
        await asyncio.sleep(0.1)
        assert len(attempts) == 1
        assert heard.handled == []
        assert barrier.outcome is None, "the signal of the failed attempt has no vote"
        outcome = await bus.wait_for_signals("r")
        await bus.join()
    assert outcome.valid
    assert len(heard.handled) == 1
    assert len(attempts) == 2


@virtual
async def test_letters_of_an_ended_subscription_can_be_dropped_and_come_back_with_it() -> None:
    journal = MemoryJournal()
    async with a_bus(journal) as bus:

        async def failing(_event: Any) -> None:
            raise ValueError("no")

        bus.subscribe("order", failing, name="risk", retry=NO_RETRY)
        await bus.publish_many([an_order(), an_order()])
        await bus.join()
        bus.unsubscribe("order", failing)
        await bus.flush()
        first = journal.buried()[0].letter_id
        assert bus.admin.drop_dead_letters("risk", letter_ids=[first]) == 1
        await bus.flush()
        assert len(journal.buried()) == 1
        mended = Named("mended")
        bus.subscribe("order", mended.on_event, name="risk")
        assert bus.admin.redrive("risk") == 1
        await bus.join()
        await bus.flush()
    assert len(mended.handled) == 1
    assert journal.buried() == []


@virtual
async def test_many_events_before_the_start_share_their_commits() -> None:
    class Counting(MemoryJournal):
        commits = 0

        def write(self, *args: Any, **more: Any) -> Any:
            self.commits += 1
            return super().write(*args, **more)

    journal = Counting()
    bus = a_bus(journal)
    desk = Named("desk")
    bus.subscribe("order", desk.on_event)
    assert await bus.publish_many([an_order() for _ in range(2_000)]) == 2_000
    assert journal.commits < 50
    async with bus:
        await bus.join()
    assert len(desk.handled) == 2_000


@virtual
async def test_a_plain_look_at_the_history_is_bounded_and_the_other_one_finds_everything() -> None:
    journal = MemoryJournal()
    async with a_bus(journal, max_queue_size=100_000) as bus:
        rare = Reading(value=1)
        await bus.publish(rare)
        await bus.publish_many([an_order() for _ in range(30_000)])
    async with a_bus(journal) as bus:
        assert bus.get_event_history("reading") == []
        assert await bus.read_event_history("reading") == [rare]
        assert len(bus.get_event_history("order", limit=200)) == 200


@virtual
async def test_a_time_out_that_the_handler_keeps_to_itself_is_a_failure() -> None:
    async with a_bus(MemoryJournal()) as bus:
        calls: list[Any] = []

        async def stubborn(order: Any) -> None:
            calls.append(order)
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(100)

        bus.subscribe("order", stubborn, timeout_s=1.0, retry=RetryPolicy(attempts=2, first_s=0.1, jitter=0))
        await bus.publish(an_order())
        await bus.join()
        (letter,) = bus.dead_letters()
    assert (letter.reason, letter.attempts, len(calls)) == ("timed out", 2, 2)


@virtual
async def test_what_a_call_left_behind_publishes_in_its_outbox_never_was() -> None:
    journal = MemoryJournal()
    async with a_bus(journal) as bus:

        async def swallows_twice(order: Any) -> None:
            del order
            await bus.publish(Reading(value=1.0))
            for _ in range(2):
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(50)

        bus.subscribe("order", swallows_twice, timeout_s=1.0, retry=NO_RETRY, outbox=True)
        readings = Named("readings")
        bus.subscribe("reading", readings.on_event)
        await bus.publish(an_order())
        await bus.join()
        await asyncio.sleep(200)
        assert [letter.reason for letter in bus.dead_letters()] == ["timed out"]
    assert readings.handled == []
    assert journal.head == 1


@virtual
async def test_letters_are_those_of_the_subscription_also_after_a_stop_and_a_start() -> None:
    bus = a_bus(MemoryJournal())

    async def failing(_event: Any) -> None:
        raise ValueError("no")

    bus.subscribe("order", failing, name="risk", retry=NO_RETRY)
    async with bus:
        await bus.publish(an_order())
        await bus.join()
    async with bus:
        assert len(bus.dead_letters("risk")) == 1
        assert bus.admin.drop_dead_letters("risk") == 1
        assert bus.dead_letters("risk") == []


@virtual
async def test_a_subscription_that_takes_less_than_before_says_so(caplog: pytest.LogCaptureFixture) -> None:
    journal = MemoryJournal()
    desk = Named("desk")
    async with a_bus(journal) as bus:
        bus.subscribe(["order", "reading"], desk.on_event, name="desk")
        await bus.publish(an_order())
        await bus.join()
    async with a_bus(journal) as bus:
        bus.subscribe("order", desk.on_event, name="desk")
    assert "desk does not take reading any more" in caplog.text
