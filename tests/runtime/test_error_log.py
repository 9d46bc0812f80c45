"""What handlers and callbacks raise is logged with its traceback, once a minute for each kind."""

import asyncio
import functools
import logging
from typing import Any

import pytest
from bus_helpers import a_tick, ticks, virtual

from openoutcry import NO_RETRY, BackpressureLevel, EventBus, RetryPolicy

OFTEN = RetryPolicy(attempts=3, first_s=0.01, jitter=0)


def records_of(caplog: pytest.LogCaptureFixture, text: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if text in record.getMessage()]


def raises_one(event: Any) -> None:
    raise ValueError("one")


def raises_another(event: Any) -> None:
    raise ValueError("another")


@virtual
async def test_a_failure_is_logged_with_its_traceback_and_its_repeats_are_counted(caplog):
    async with EventBus() as bus:
        bus.subscribe("*", raises_one, name="desk", retry=OFTEN, breaker=False)
        await bus.publish_many(ticks(100))
        await bus.join()
        (record,) = records_of(caplog, "desk failed on market_data")
        assert "in raises_one" in caplog.text
        assert 'raise ValueError("one")' in caplog.text
        assert record.exc_info is None, "a record that is kept would keep the agent"
        await asyncio.sleep(60)
        await bus.publish(a_tick())
        await bus.join()
        told = records_of(caplog, "desk failed on market_data")[1:]
        assert [record.getMessage().splitlines()[0].partition(" (and ")[2] for record in told] == [
            "299 more like it since it was last logged)"
        ]


@virtual
async def test_errors_of_another_type_or_place_or_subscription_are_told_apart(caplog):
    def handler(event: Any) -> None:
        if event.price == 1.0:
            raise KeyError("type")
        if event.price == 2.0:
            raise ValueError("place")
        raises_one(event)

    async with EventBus() as bus:
        for name in ("a", "b"):
            bus.subscribe("*", functools.partial(handler), name=name, retry=NO_RETRY)
        await bus.publish_many(ticks(9))
        await bus.join()
    assert len(records_of(caplog, "a failed on")) == len(records_of(caplog, "b failed on")) == 3


@virtual
async def test_a_call_that_took_too_long_is_logged_with_where_it_was(caplog):
    async def hangs(event: Any) -> None:
        await asyncio.Event().wait()

    async with EventBus() as bus:
        bus.subscribe("*", hangs, name="desk", timeout_s=1, retry=OFTEN)
        await bus.publish_many(ticks(3))
        await bus.join()
    (record,) = records_of(caplog, "desk timed out on")
    assert "in hangs" in caplog.text
    assert "no answer within 1 s" in record.getMessage()


@virtual
@pytest.mark.parametrize("is_async", [False, True])
async def test_what_callbacks_raise_is_folded_likewise(caplog, is_async):
    async def later(letter: Any) -> None:
        raises_another(letter)

    async with EventBus() as bus:
        bus.on_dead_letter(later if is_async else raises_another)
        bus.subscribe("*", raises_one, name="desk", retry=NO_RETRY, breaker=False)
        await bus.publish_many(ticks(40))
        await bus.join()
        await asyncio.sleep(61)
        await bus.publish(a_tick())
        await bus.join()
        await asyncio.sleep(0)
    told = records_of(caplog, "raised")
    assert [record.getMessage().partition(" raised")[2] for record in told] == [
        "",
        " (and 39 more like it since it was last logged)",
    ]
    assert all("callback" in record.getMessage() for record in told)
    assert "in raises_another" in caplog.text


@virtual
async def test_an_error_that_cannot_be_shown_harms_nothing(caplog):
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise ValueError

        __repr__ = __str__

    def handler(event: Any) -> None:
        raise Unprintable

    async with EventBus() as bus:
        bus.subscribe("*", handler, name="desk", retry=NO_RETRY)
        await bus.publish(a_tick())
        await bus.join()
        assert len(bus.dead_letters()) == 1
    assert len(records_of(caplog, "desk failed on")) == 1


def test_a_callback_before_the_start_has_no_loop_and_is_logged_all_the_same(caplog):
    bus = EventBus(10)
    bus.on_backpressure_change(raises_one)

    async def main() -> None:
        async with bus:
            bus.subscribe("*", lambda _: None)
            for tick in ticks(9):
                bus.publish_nowait(tick)
            assert bus.backpressure_level is not BackpressureLevel.NORMAL
            await bus.join()

    asyncio.run(main())
    assert "in raises_one" in caplog.text


@virtual
async def test_an_error_with_the_whole_answer_of_a_server_fills_neither_log_nor_dead_letters(caplog):
    def model(event: Any) -> None:
        raise ConnectionError(f"status 502: <html>{'x' * 1_000_000}</html>")

    async with EventBus() as bus:
        bus.subscribe("*", model, name="model", retry=OFTEN, breaker=False)
        await bus.publish(a_tick())
        await bus.join()
        (letter,) = bus.dead_letters("model")
        (shown,) = bus.get_handler_stats()["handlers"]
    assert max(len(record.getMessage()) for record in caplog.records) < 30_000
    for text in (letter.error, letter.traceback, shown["last_error"]):
        assert "status 502: <html>xx" in text
        assert "characters left out" in text
        assert text.rstrip().endswith(("</html>", "</html>')"))
        assert len(text) < 25_000
