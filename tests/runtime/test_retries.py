"""Retries and dead letters (CONTRACT 9, 10, 11): backoff, the last attempt, and only whom it concerns."""

import asyncio
import json
import logging
from typing import Any

import pytest
from bus_helpers import Desk, Failing, a_fill, a_tick, assert_settled, now_s, row, ticks, virtual

from openoutcry import NO_RETRY, ConfigError, EventBus, NotSubscribed, RetryPolicy

PLAIN = RetryPolicy(attempts=4, first_s=1.0, factor=3.0, max_s=5.0, jitter=0.0)


@virtual
async def test_a_failed_call_is_tried_again_with_backoff_up_to_the_limit():
    """CONTRACT 10."""
    failing = Failing()
    async with EventBus() as bus:
        bus.subscribe("*", failing.on_event, name="failing", retry=PLAIN)
        await bus.publish(a_tick())
        await bus.join()
        assert failing.at_s == [0, 1, 4, 9]
        stats = bus.get_handler_stats()["handlers"][0]
        assert (stats["errors"], stats["retries"], stats["dead_letters"], stats["handled"]) == (4, 3, 1, 0)
        assert stats["last_error"] == "ValueError('no')"
        assert_settled(bus)


@virtual
async def test_an_event_that_succeeds_at_last_is_handled_and_no_dead_letter():
    """CONTRACT 10."""
    failing = Failing(times=3)
    async with EventBus() as bus:
        bus.subscribe("*", failing.on_event, name="failing", retry=PLAIN)
        await bus.publish(a_tick())
        await bus.join()
        assert len(failing.handled) == 1
        assert bus.dead_letters() == []
        assert row(bus, "failing").handled == 1
        assert_settled(bus)


@virtual
async def test_the_default_is_three_attempts_and_false_is_one():
    """CONTRACT 10."""
    three, one, none = Failing(), Failing(), Failing()
    async with EventBus() as bus:
        bus.subscribe("*", three.on_event)
        bus.subscribe("*", one.on_event, retry=False)
        bus.subscribe("*", none.on_event, retry=NO_RETRY)
        await bus.publish(a_tick())
        await bus.join()
        assert [sum(f.tries.values()) for f in (three, one, none)] == [3, 1, 1]
        assert len(bus.dead_letters()) == 3


@virtual
async def test_the_wait_is_lengthened_by_at_most_the_share_of_jitter():
    failing = Failing()
    async with EventBus() as bus:
        bus.subscribe(
            "*", failing.on_event, retry=RetryPolicy(attempts=2, first_s=1.0, max_s=9.0, jitter=0.5)
        )
        await bus.publish_many(ticks(50))
        await bus.join()
        waits = [second - first for first, second in zip(failing.at_s[::2], failing.at_s[1::2], strict=True)]
        assert all(0.999 <= wait <= 1.501 for wait in waits)
        assert max(waits) - min(waits) > 0.1


@virtual
async def test_a_retry_reaches_only_the_subscription_that_failed():
    """CONTRACT 11."""
    failing, others = Failing(times=2), [Desk() for _ in range(3)]
    async with EventBus() as bus:
        bus.subscribe("*", failing.on_event)
        for desk in others:
            bus.subscribe("*", desk.on_event)
        event = a_tick()
        await bus.publish(event)
        await bus.join()
        assert [desk.handled for desk in others] == [[event]] * 3
        assert failing.tries[event.event_id] == 3
        assert bus.get_event_history() == [event], "a retry is no new event"
        assert bus.metrics.published == 1


@virtual
async def test_a_dead_letter_tells_everything_about_what_happened():
    """CONTRACT 10."""

    async def fails(_event: Any) -> None:
        await asyncio.sleep(1)
        raise LookupError("no such book")

    async with EventBus() as bus:
        bus.subscribe("*", fails, name="books", retry=RetryPolicy(attempts=2, first_s=1.0, jitter=0.0))
        bus.subscribe("*", Failing().on_event, name="other", retry=False)
        tick, fill = a_tick(), a_fill()
        await bus.publish(tick)
        await bus.publish(fill)
        await bus.join()
        by_event = {letter.event.event_id: letter for letter in bus.dead_letters("books")}
        letter = by_event[tick.event_id]
        assert letter.event is tick
        assert (letter.subscription, letter.lane, letter.reason, letter.attempts) == (
            "books",
            "normal",
            "failed",
            2,
        )
        assert letter.error == "LookupError('no such book')"
        assert "in fails" in letter.traceback
        assert by_event[fill.event_id].lane == "high"
        walls = [letter.wall_ns for letter in bus.dead_letters()]
        assert walls == sorted(walls)
        assert len(walls) == 4
        assert bus.get_status()["dead_letters"] == 4
        with pytest.raises(NotSubscribed):
            bus.dead_letters("nobody")


@virtual
async def test_the_events_before_and_after_a_failure_are_handled_once():
    """CONTRACT 10: a batch that fails in the middle settles what was done and keeps what was not."""
    for number in (1.0, 250.0, 500.0):
        failing = Failing(lambda e, n=number: e.price == n)  # type: ignore[misc]
        async with EventBus() as bus:
            bus.subscribe("*", failing.on_event, name="failing", retry=PLAIN)
            await bus.publish_many(ticks(500))
            await bus.join()
            assert failing.prices == [float(n) for n in range(1, 501) if n != number]
            assert [letter.event.price for letter in bus.dead_letters()] == [number]
            assert_settled(bus)


@virtual
async def test_every_failure_is_counted_and_logged(caplog):
    """CONTRACT 10."""
    caplog.set_level(logging.WARNING, "openoutcry")
    failing = Failing()
    async with EventBus() as bus:
        bus.subscribe("*", failing.on_event, name="failing", retry=NO_RETRY)
        await bus.publish_many(ticks(50))
        await bus.join()
        assert bus.get_handler_stats()["handlers"][0]["errors"] == 50
        assert len(bus.dead_letters()) == 50
        assert sum("failing gave up" in r.getMessage() for r in caplog.records) == 50
        json.dumps(bus.get_status())


@virtual
async def test_high_priority_events_pass_a_lane_that_waits_for_its_retry():
    failing = Failing(lambda e: e.event_type == "market_data")
    async with EventBus() as bus:
        bus.subscribe(
            "*", failing.on_event, retry=RetryPolicy(attempts=2, first_s=100.0, max_s=100.0, jitter=0)
        )
        await bus.publish(a_tick())
        await asyncio.sleep(1)
        await bus.publish(a_fill())
        await asyncio.sleep(1)
        assert failing.types == ["fill"]
        await bus.join()
        assert now_s() == 100


@virtual
async def test_retries_of_concurrent_calls_all_have_their_turn():
    """CONTRACT 10."""
    failing = Failing(times=2)
    async with EventBus() as bus:
        bus.subscribe("*", failing.on_event, name="failing", concurrency=4, retry=PLAIN)
        await bus.publish_many(ticks(20))
        await bus.join()
        assert sorted(failing.prices) == [float(n) for n in range(1, 21)]
        assert set(failing.tries.values()) == {3}
        assert now_s() == 4
        assert_settled(bus)


@virtual
async def test_a_pause_holds_retries_back_too():
    failing = Failing(times=1)
    async with EventBus() as bus:
        subscription = bus.subscribe("*", failing.on_event, retry=PLAIN)
        await bus.publish(a_tick())
        await asyncio.sleep(0.5)
        subscription.pause()
        await asyncio.sleep(100)
        assert failing.handled == []
        subscription.resume()
        await bus.join()
        assert len(failing.handled) == 1


class NoRepr(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class NoStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no str")


class NoNotes(Exception):
    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]
        raise RuntimeError("no notes, so no traceback")


class NoWords(NoRepr, NoStr, NoNotes): ...


@pytest.mark.parametrize("error", [NoRepr, NoStr, NoNotes, NoWords])
@virtual
async def test_a_failure_that_cannot_be_put_into_words_is_a_failure_like_any_other(error):
    """CONTRACT 10, 7: a report must not fail for what it reports on."""
    failing = Failing(lambda e: e.price < 3, error=error)
    async with EventBus() as bus:
        bus.subscribe("*", failing.on_event, name="failing", retry=PLAIN)
        await bus.publish_many(ticks(3))
        await bus.join()
        letters = bus.dead_letters("failing")
        assert [letter.attempts for letter in letters] == [4, 4]
        assert all(error.__name__ in letter.error for letter in letters)
        assert all("on_event" in letter.traceback for letter in letters)
        assert failing.prices == [3.0]
        assert bus.get_handler_stats()["handlers"][0]["errors"] == 8
        assert_settled(bus)


@virtual
async def test_an_event_whose_attributes_raise_while_its_failure_is_reported_is_not_lost(caplog):
    """CONTRACT 10, 7."""

    class Fading:
        """An event of the user's own that has nothing to say any more once it was handled."""

        event_type = "fading"
        faded = False

        @property
        def event_id(self) -> str:
            if self.faded:
                raise RuntimeError("gone")
            return "fading-1"

    calls: list[Any] = []

    def handler(event: Any) -> None:
        calls.append(event)
        if event.event_type == "fading":
            event.faded = True
            raise ValueError

    async with EventBus() as bus:
        bus.subscribe("*", handler, name="desk", retry=PLAIN)
        event, tick = Fading(), a_tick()
        await bus.publish(event)
        await bus.publish(tick)
        await bus.join()
        assert calls == [event] * 4 + [tick]
        (letter,) = bus.dead_letters("desk")
        assert (letter.event, letter.attempts) == (event, 4)
        errors = [r.levelname for r in caplog.records if r.levelno >= logging.ERROR]
        assert errors == ["ERROR"], "that of the dead letter; no worker has ended"
        assert_settled(bus)


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "coroutine"])
@virtual
async def test_a_generator_exit_from_a_handler_is_a_failure_with_the_usual_attempts(plain):
    """CONTRACT 10."""
    calls: list[float] = []

    def handler(event: Any) -> None:
        calls.append(event.price)
        if event.price == 2:
            raise GeneratorExit

    async def later(event: Any) -> None:
        await asyncio.sleep(0)
        handler(event)

    async with EventBus() as bus:
        bus.subscribe("*", handler if plain else later, name="desk", retry=PLAIN)
        await bus.publish_many(ticks(3))
        await bus.join()
        assert calls == [1.0, 2.0, 2.0, 2.0, 2.0, 3.0]
        assert [letter.error for letter in bus.dead_letters()] == ["GeneratorExit()"]
        assert now_s() == 9
        assert_settled(bus)


@pytest.mark.parametrize(
    "bad",
    [
        {"attempts": 0},
        {"attempts": 1.5},
        {"first_s": -1},
        {"factor": 0.5},
        {"max_s": 0.01},
        {"jitter": 2},
        {"jitter": float("nan")},
    ],
    ids=str,
)
def test_a_policy_out_of_range_is_refused(bad):
    with pytest.raises(ConfigError):
        RetryPolicy(**bad)
