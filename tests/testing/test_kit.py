"""The kit for users' tests: expected events, what is said when they do not come, and crashes in one line."""

import asyncio
from typing import Any

import msgspec
import pytest

from openoutcry import Event, EventBus, FillEvent, KillSwitchEvent, MarketDataEvent, OrderSide
from openoutcry.errors import ConfigError
from openoutcry.journals import MemoryJournal
from openoutcry.testing import NotPublished, crash_and_recover, expect, recorded, run_virtual
from openoutcry.testing.recording import described


def on_a_bus(test):
    """Run a test with a running bus in virtual time."""

    def run():
        async def main():
            async with EventBus() as bus:
                await test(bus)
            assert bus.ledger().balances

        run_virtual(main(), limit_s=600)

    run.__name__ = test.__name__
    return run


def tick(symbol="ES", price=1.0, **fields):
    return MarketDataEvent(symbol=symbol, price=price, **fields)


def fill(order_id="o-1"):
    return FillEvent(order_id=order_id, symbol="ES", side=OrderSide.BUY, filled_quantity=1.0, fill_price=1.0)


def later(bus, delay_s, event):
    async def publish():
        await asyncio.sleep(delay_s)
        await bus.publish(event)

    return asyncio.get_running_loop().create_task(publish())


@on_a_bus
async def test_an_event_that_comes_later_is_waited_for_in_virtual_time(bus):
    recorded(bus)
    task = later(bus, 3600, tick())
    event = await expect(bus, MarketDataEvent, within_s=7200)
    assert event.symbol == "ES"
    assert asyncio.get_running_loop().time() == pytest.approx(3600)
    await task


@on_a_bus
async def test_what_was_published_before_counts(bus):
    await bus.publish(tick("NQ"))
    await bus.join()
    assert (await expect(bus, "market_data", within_s=0)).symbol == "NQ"


@on_a_bus
async def test_each_event_is_expected_once(bus):
    await bus.publish_many([tick(price=1.0), tick(price=2.0)])
    assert [(await expect(bus, MarketDataEvent)).price for _ in range(2)] == [1.0, 2.0]
    with pytest.raises(NotPublished):
        await expect(bus, MarketDataEvent)


@on_a_bus
async def test_several_are_returned_in_order(bus):
    await bus.publish_many([tick(price=float(n)) for n in range(1, 6)])
    found = await expect(bus, MarketDataEvent, where=lambda e: e.price != 3, count=3)
    assert [event.price for event in found] == [1, 2, 4]
    assert (await expect(bus, MarketDataEvent)).price == 3


@on_a_bus
async def test_one_too_few_claims_none_of_them(bus):
    await bus.publish(tick())
    with pytest.raises(NotPublished, match=r"expected 2 MarketDataEvent within 5 s; got 1"):
        await expect(bus, MarketDataEvent, count=2)
    assert await expect(bus, MarketDataEvent)


@on_a_bus
async def test_fields_may_be_given_and_the_difference_is_told(bus):
    await bus.publish_many([tick("ES", 1.0), tick("NQ", 2.0), tick("ES", 3.0)])
    assert (await expect(bus, MarketDataEvent, where={"symbol": "ES", "price": 3.0})).price == 3.0
    with pytest.raises(NotPublished) as caught:
        await expect(bus, MarketDataEvent, where={"symbol": "NQ", "price": 5.0, "mood": "bullish"})
    text = str(caught.value)
    assert (
        "expected 1 MarketDataEvent with symbol='NQ', price=5.0 and mood='bullish' within 5 s; got 0" in text
    )
    assert "price is 2.0, not 5.0" in text
    assert "symbol is 'ES', not 'NQ'" in text
    assert "it has no mood" in text


@on_a_bus
async def test_a_failure_tells_what_came_instead_and_who_is_in_trouble(bus):
    async def on_tick(event):
        raise ValueError("no quote")

    bus.subscribe(MarketDataEvent, on_tick, name="risk.on_tick", retry=False)
    recorded(bus)
    await bus.publish(tick())
    with pytest.raises(NotPublished) as caught:
        await expect(bus, FillEvent)
    text = str(caught.value)
    assert "expected 1 FillEvent within 5 s; got 0" in text
    assert "t=0.000s  MarketDataEvent(" in text
    assert "risk.on_tick (idle): 1 failed calls, the last: ValueError('no quote')" in text


@on_a_bus
async def test_a_failure_on_a_silent_bus_says_so(bus):
    with pytest.raises(NotPublished, match="nothing was published"):
        await expect(bus, ["fill", "order"], within_s=1)


@on_a_bus
async def test_a_long_story_is_cut_to_its_end(bus):
    await bus.publish_many([tick(price=float(n)) for n in range(1, 101)])
    with pytest.raises(NotPublished) as caught:
        await expect(bus, FillEvent)
    assert "published (100), the newest last:\n  ... 80 before these\n" in str(caught.value)


@on_a_bus
async def test_none_may_be_expected(bus):
    recorded(bus)
    assert await expect(bus, FillEvent, count=0, within_s=1) == []
    task = later(bus, 0.5, fill())
    with pytest.raises(NotPublished, match=r"expected no FillEvent within 1 s, but one came after 0.5 s"):
        await expect(bus, FillEvent, count=0, within_s=1)
    await task


@on_a_bus
async def test_a_recording_has_everything_in_order_and_by_type(bus):
    recording = recorded(bus)
    await bus.publish_many([tick("ES"), tick("NQ")])
    await bus.join()
    await bus.publish(fill())
    await bus.join()
    await bus.publish(KillSwitchEvent(reason="test", activated=True))
    await bus.join()
    assert [type(event).__name__ for event in recording] == [
        "MarketDataEvent",
        "MarketDataEvent",
        "FillEvent",
        "KillSwitchEvent",
    ]
    assert [event.symbol for event in recording.of("market_data")] == ["ES", "NQ"]
    assert isinstance(recording[-1], KillSwitchEvent)
    assert recorded(bus) is recording
    assert "symbol='NQ'" in str(recording)
    recording.clear()
    assert (len(recording), str(recording)) == (0, "nothing was published")


class Archive:
    """An agent that counts what it saw, and may be slow."""

    def __init__(self, bus, slow_s=0.0):
        self.seen, self.restored, self.slow_s = [], [], slow_s
        bus.subscribe(
            "fill", self.on_fill, name="archive", restore=lambda e: self.restored.append(e.order_id)
        )

    async def on_fill(self, event):
        await asyncio.sleep(self.slow_s)
        self.seen.append(event.order_id)


def test_after_a_crash_what_was_not_settled_comes_again_and_what_was_is_restored():
    async def main():
        bus = EventBus(journal=MemoryJournal())
        before = Archive(bus, slow_s=1)
        await bus.start()
        for name in "abc":
            await bus.publish(fill(name))
        await asyncio.sleep(1.5)
        agents = []
        again = await crash_and_recover(bus, lambda new: agents.append(Archive(new)))
        await again.join()
        await again.stop()
        assert before.seen == ["a"]
        assert set(agents[0].seen) | set(agents[0].restored) == {"a", "b", "c"}
        assert agents[0].seen[-2:] == ["b", "c"]
        assert again.ledger().balances

    run_virtual(main(), limit_s=600)


def test_a_bus_without_a_journal_in_memory_cannot_be_crashed():
    @on_a_bus
    async def main(bus):
        with pytest.raises(ConfigError, match="durable_bus"):
            await crash_and_recover(bus)
        assert bus.is_running

    main()


def test_an_event_is_described_whatever_its_fields_do():
    class Odd:
        def __eq__(self, other):
            raise ValueError("neither equal nor not")

        __hash__ = None

        def __repr__(self):
            raise ValueError("no words")

    class OddReport(Event):
        event_type: str = "odd_report"
        answer: Any = None

    event = OddReport()
    msgspec.structs.force_setattr(event, "answer", Odd())
    text = described(event)
    assert "answer=<" in text
    assert "whose repr() raises" in text
