"""Room per subscription (CONTRACT 4, 7): one that cannot keep up slows and refuses nobody, and sees to itself."""

import asyncio
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from bus_helpers import (
    Desk,
    Failing,
    a_fill,
    a_signal,
    a_tick,
    an_order,
    assert_balanced,
    assert_settled,
    row,
    ticks,
    virtual,
)
from durable_kit import orders

from openoutcry import (
    BackpressureConfig,
    BackpressureLevel,
    EventBus,
    EventBusHealthStatus,
    MarketDataEvent,
    PersistenceConfig,
    RetryPolicy,
    Subscription,
    register_event,
)
from openoutcry.journals import MemoryJournal

NORMAL, WARNING, HIGH, CRITICAL = BackpressureLevel


@register_event
@dataclass(frozen=True)
class Rumour:
    """A type of the user's own."""

    event_type: ClassVar[str] = "rumour"
    event_id: str
    number: int


NUMBERS = itertools.count(1)
KINDS: dict[str, Callable[[int], Any]] = {
    "market_data": lambda n: a_tick(float(n)),
    "signal": lambda n: a_signal("momentum"),
    "order": lambda n: an_order(f"{n}"),
    "fill": lambda n: a_fill(f"{n}"),
    "rumour": lambda n: Rumour(f"r-{n}", n),
}


def a_firm(journal: str, folder: Path, **options: Any) -> EventBus:
    if journal == "file":
        options["persistence_config"] = PersistenceConfig(path=folder / "firm.db", socket=False)
    return EventBus(journal=MemoryJournal() if journal == "memory" else None, **options)


def kind_of(event: Any) -> str:
    return str(getattr(event.event_type, "value", event.event_type))


def check_bounds(bus: EventBus) -> None:
    room = bus.config.max_queue_size
    for subscription in bus.subscriptions:
        assert subscription.mailbox.waiting <= room, subscription.name
    assert_balanced(bus)


def check_accounts(bus: EventBus, name: str, desk: Desk, sent: list[Any]) -> None:
    """Everything else than market data that was accepted is handled or a dead letter; ticks are counted."""
    known = {event.event_id for event in desk.handled}
    known |= {letter.event.event_id for letter in bus.dead_letters(name)}
    missing = [event for event in sent if event.event_id not in known]
    assert {kind_of(event) for event in missing} <= {"market_data"}
    assert len(missing) == row(bus, name).overflowed
    assert {letter.reason for letter in bus.dead_letters(name)} <= {"no room"}


# -- the fast one misses nothing -----------------------------------------------------------------------------


@pytest.mark.parametrize("takes_s", [0.1, 0.2, 0.9, 1.1, 5.0])
@pytest.mark.parametrize("per_s", [200, 2_000])
@virtual
async def test_an_agent_that_takes_its_time_over_each_tick_blinds_nobody(takes_s, per_s):
    fast, slow = Desk(), Desk(takes_s)
    async with EventBus(max_queue_size=500) as bus:
        bus.subscribe("market_data", fast.on_event, name="scalper")
        llm = bus.subscribe("market_data", slow.on_event, name="llm")
        for number in range(1, 3_001):
            assert await bus.publish(a_tick(float(number)))
            if not number % 10:
                await asyncio.sleep(10 / per_s)
                assert len(fast.handled) == number, "each gets there at once"
        check_bounds(bus)
        assert (bus.metrics.dropped, bus.metrics.level_changes, bus.queue_size) == (0, 0, 0)
        assert bus.metrics.overflowed == row(bus, "llm").overflowed > 2_000
        waiting = list(llm.mailbox.normal.waiting_events())
        assert [tick.price for tick in waiting] == [float(n) for n in range(3_001 - len(waiting), 3_001)]
        slow.takes_s = 0
        await bus.join()
        assert slow.prices[-1] == 3_000.0
        assert_settled(bus)


@pytest.mark.parametrize("journal", ["none", "memory", "file"])
@pytest.mark.parametrize("kind", [*KINDS, "everything"])
@virtual
async def test_whatever_is_published_the_fast_one_gets_all_of_it(journal, kind, tmp_path):
    kinds = [*KINDS] if kind == "everything" else [kind]
    fast = Desk()
    slow = {f"slow-{n}": Desk(takes_s) for n, takes_s in enumerate((0.1, 0.9, 5.0))}
    async with a_firm(journal, tmp_path, max_queue_size=50) as bus:
        bus.subscribe("*", fast.on_event, name="fast")
        for name, desk in slow.items():
            bus.subscribe(kinds if name != "slow-1" else "*", desk.on_event, name=name)
        sent = [KINDS[kinds[n % len(kinds)]](n) for n in range(1_000)]
        for number, event in enumerate(sent):
            assert await bus.publish(event)
            if not number % 20:
                await asyncio.sleep(0.01)
                check_bounds(bus)
        await asyncio.sleep(0.1)
        assert {event.event_id for event in fast.handled} == {event.event_id for event in sent}
        assert len(fast.handled) == len(sent)
        assert bus.metrics.dropped == 0
        for desk in slow.values():
            desk.takes_s = 0
        await bus.join()
        for name, desk in slow.items():
            check_accounts(bus, name, desk, sent)
            if journal != "none":
                for lane in (("order", "signal", "rumour"), ("fill",)):
                    handled = [event for event in desk.handled if kind_of(event) in lane]
                    assert handled == [event for event in sent if kind_of(event) in lane], "all, in order"
        assert_settled(bus)


@pytest.mark.parametrize("room", [1, 2, 10, 100])
@pytest.mark.parametrize("journal", ["none", "memory"])
@virtual
async def test_ten_slow_ones_beside_a_fast_one_at_any_size(room, journal, tmp_path):
    fast, slow = Desk(), [Desk(0.3 * number) for number in range(1, 11)]
    async with a_firm(journal, tmp_path, max_queue_size=room) as bus:
        bus.subscribe("*", fast.on_event, name="fast")
        for number, desk in enumerate(slow):
            bus.subscribe("*", desk.on_event, name=f"slow-{number}")
        sent = []
        for number in range(600):
            event = KINDS[["market_data", "order", "fill", "rumour"][number % 4]](number)
            assert await bus.publish(event)
            sent.append(event)
            await asyncio.sleep(0.005)
            check_bounds(bus)
        assert fast.handled == sent
        for desk in slow:
            desk.takes_s = 0
        await bus.join()
        for number, desk in enumerate(slow):
            check_accounts(bus, f"slow-{number}", desk, sent)
        if journal == "memory":
            assert bus.dead_letters() == []
        assert_settled(bus)


@pytest.mark.parametrize("way", ["publish_many", "publish_nowait", "threadsafe", "together"])
@virtual
async def test_every_way_in_meets_the_emptiest_mailbox(way):
    fast, slow = Desk(), Desk(1.0)
    async with EventBus(max_queue_size=20) as bus:
        bus.subscribe("*", fast.on_event, name="fast")
        bus.subscribe("*", slow.on_event, name="slow")
        for _ in range(60):
            some = [*ticks(4), an_order(), a_fill()]
            if way == "publish_many":
                assert await bus.publish_many(some) == len(some)
            elif way == "publish_nowait":
                assert all(bus.publish_nowait(event) for event in some)
            elif way == "together":
                assert all(await asyncio.gather(*(bus.publish(event) for event in some)))
            else:
                answers = [bus.publish_threadsafe(event) for event in some]
                await asyncio.sleep(0.001)
                assert all(answer.result() for answer in answers)
            await asyncio.sleep(0.001)
            check_bounds(bus)
        assert len(fast.handled) == 360
        assert bus.metrics.dropped == 0


@virtual
async def test_credit_that_one_type_has_is_not_spent_on_one_whose_takers_are_full():
    """The level is that of the type: ticks flow, and whoever publishes rumours is refused as if alone."""
    fast, slow = Desk(), Desk(1e6)
    config = BackpressureConfig(grace_s=1e6, rate_limit_per_s=1e6, rate_limit_burst=1_000)
    async with EventBus(max_queue_size=100, backpressure_config=config) as bus:
        bus.subscribe("market_data", fast.on_event, name="fast")
        bus.subscribe(["market_data", "rumour"], slow.on_event, name="slow")
        accepted = 0
        for number in range(400):
            assert await bus.publish(a_tick(float(number)))
            accepted += await bus.publish(Rumour(f"r-{number}", number))
            if not number % 7:
                await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        assert len(fast.handled) == 400
        assert row(bus, "slow").dead_lettered == 0, "alone it is the emptiest, so its publishers are told"
        assert bus.metrics.dropped == 400 - accepted
        assert 0 < accepted < 100
        assert bus.backpressure_level is CRITICAL
        assert bus.queue_size >= 90
        check_bounds(bus)


@pytest.mark.parametrize("room", [20, 100, 10_000])
@virtual
async def test_ticks_that_a_slow_one_cannot_take_leave_room_for_orders_that_only_it_takes(room):
    fast, slow = Desk(), Desk(1.0)
    async with EventBus(max_queue_size=room) as bus:
        bus.subscribe("market_data", fast.on_event, name="fast")
        bus.subscribe(["market_data", "order", "rumour"], slow.on_event, name="slow")
        for number in range(2 * room):
            assert await bus.publish(a_tick(float(number)))
            if not number % 7:
                await asyncio.sleep(0)
        assert bus.subscription("slow").mailbox.waiting == 0.9 * room
        for number in range(30):
            assert await bus.publish(an_order(f"{number}"))
            assert await bus.publish(a_tick(float(number)))
            await asyncio.sleep(1)
        slow.takes_s = 0
        await bus.join()
        assert slow.types.count("order") == 30
        assert len(fast.handled) == 2 * room + 30


@virtual
async def test_a_flood_of_high_priority_events_fills_the_slow_one_and_no_further():
    fast, slow = Desk(), Desk(0.5)
    async with EventBus(max_queue_size=20) as bus:
        bus.subscribe("*", fast.on_event, name="fast")
        bus.subscribe("*", slow.on_event, name="slow")
        for number in range(200):
            assert await bus.publish(a_fill(f"{number}"))
            assert await bus.publish(a_tick(float(number)))
            if not number % 5:
                await asyncio.sleep(0.01)
            check_bounds(bus)
        await asyncio.sleep(0.01)
        assert bus.subscription("slow").mailbox.high.waiting >= 19, "ticks make room for fills"
        assert len(fast.handled) == 400
        letters = bus.dead_letters("slow")
        assert {(letter.reason, kind_of(letter.event)) for letter in letters} == {("no room", "fill")}


@virtual
async def test_low_priority_events_never_fill_the_reserve_of_a_slow_one():
    async with EventBus(max_queue_size=100) as bus:
        bus.subscribe("*", Desk().on_event, name="fast")
        slow = bus.subscribe("*", Desk().on_event, name="slow")
        slow.pause()
        for number in range(300):
            assert await bus.publish(an_order(f"{number}"))
            await asyncio.sleep(0)
        assert slow.mailbox.waiting == 95
        for number in range(5):
            assert await bus.publish(a_fill(f"{number}"))
        assert slow.mailbox.waiting == 100
        assert row(bus, "slow", "high").dead_lettered == 0
        assert row(bus, "slow").dead_lettered == 205


@virtual
async def test_ticks_go_before_anything_else_does():
    """Mixed types in one mailbox: an order has no room only if nothing that is shed first waits."""
    async with EventBus(max_queue_size=20) as bus:
        bus.subscribe("*", Desk().on_event, name="fast")
        slow = bus.subscribe("*", Desk().on_event, name="slow")
        slow.pause()
        for number in range(30):
            assert await bus.publish(a_tick(float(number)))
            if number % 3 == 0:
                assert await bus.publish(an_order(f"{number}"))
            await asyncio.sleep(0)
        waiting = list(slow.mailbox.normal.waiting_events())
        assert [e.order_id for e in waiting if kind_of(e) == "order"] == [f"{n}" for n in range(0, 30, 3)]
        assert [e.price for e in waiting if kind_of(e) == "market_data"] == [float(n) for n in range(22, 30)]
        for number in range(30, 50):
            assert await bus.publish(an_order(f"{number}"))
            await asyncio.sleep(0)
        assert row(bus, "slow").overflowed == 30
        assert [letter.event.order_id for letter in bus.dead_letters("slow")] == [
            f"{n}" for n in range(39, 50)
        ]


# -- one subscriber is as before -----------------------------------------------------------------------------


@pytest.mark.parametrize("journal", ["none", "memory"])
@virtual
async def test_a_single_subscription_that_hangs_goes_on_refusing(journal, tmp_path):
    """CONTRACT 1: False is loud. Nothing of what was accepted is let go, and nothing falls behind."""
    slow = Desk(1e6)
    async with a_firm(journal, tmp_path, max_queue_size=20) as bus:
        told: list[tuple[str, bool]] = []
        bus.on_stalled(lambda s, stalled: told.append((s.name, stalled)))
        bus.subscribe("*", slow.on_event, name="hung")
        answers = []
        for number in range(100):
            answers.append(await bus.publish(an_order(f"{number}")))
            await asyncio.sleep(0.1)
        assert sum(answers) == 20
        assert not any(answers[-70:])
        assert told == [("hung", True)]
        assert bus.metrics.stalled == ("hung",)
        assert bus.subscription("hung").mailbox.behind == 0
        assert (row(bus, "hung").waiting, row(bus, "hung").dead_lettered) == (19, 0)


@virtual
async def test_a_single_subscription_loses_nothing_to_its_own_retries():
    """What was admitted while an event was in flight still has its place when that event waits again."""
    failing = Failing(times=2)
    failing.takes_s = 0.01
    async with EventBus(max_queue_size=4, backpressure_config=BackpressureConfig(grace_s=1e6)) as bus:
        bus.subscribe(
            "*", failing.on_event, name="only", retry=RetryPolicy(attempts=9, first_s=0), breaker=False
        )
        accepted = 0
        for number in range(300):
            accepted += bus.publish_nowait(an_order(f"{number}"))
            await asyncio.sleep(0.007)
        await bus.join()
        assert len(failing.handled) == accepted
        assert (row(bus, "only").dead_lettered, row(bus, "only").overflowed) == (0, 0)


# -- what a subscription may ask for -------------------------------------------------------------------------


@virtual
async def test_publishers_wait_for_one_that_gates_as_long_as_it_moves():
    fast, slow = Desk(), Desk(0.05)
    config = BackpressureConfig(rate_limit_per_s=20, rate_limit_burst=1, cooldown_s=1e6)
    async with EventBus(max_queue_size=20, backpressure_config=config) as bus:
        bus.subscribe("*", fast.on_event, name="fast")
        bus.subscribe("*", slow.on_event, name="backtest", overflow="gate")
        for number in range(200):
            assert await bus.publish(a_tick(float(number)))
        await bus.join()
        assert len(slow.handled) == len(fast.handled) == 200
        assert bus.metrics.overflowed == 0
        assert bus.metrics.peak_queue_size <= 20


@virtual
async def test_one_that_gates_and_hangs_is_reported_and_stops_gating():
    fast, hung = Desk(), Desk(1e6)
    async with EventBus(max_queue_size=20) as bus:
        bus.subscribe("*", fast.on_event, name="fast")
        bus.subscribe("*", hung.on_event, name="hung", overflow="gate")
        refused = 0
        for number in range(300):
            refused += not bus.publish_nowait(a_tick(float(number)))
            await asyncio.sleep(0.01)
        assert refused > 0
        assert bus.metrics.stalled == ("hung",)
        assert bus.backpressure_level is NORMAL
        assert all(bus.publish_nowait(tick) for tick in ticks(9))
        await asyncio.sleep(0.01)
        assert len(fast.handled) == 309 - refused
        check_bounds(bus)


@pytest.mark.parametrize(
    "options", [{"overflow": "conflate"}, {"overflow": "drop_oldest"}, {"supersede": "symbol"}]
)
@virtual
async def test_a_lane_that_lets_go_by_choice_is_bounded_as_well(options):
    async with EventBus(max_queue_size=20) as bus:
        bus.subscribe("*", Desk().on_event, name="fast")
        slow = bus.subscribe("*", Desk().on_event, name="slow", **options)
        slow.pause()
        for number in range(200):
            assert await bus.publish(a_tick(float(number), f"S{number}"))
            assert await bus.publish(an_order(f"{number}") if number % 2 else a_fill(f"{number}"))
            await asyncio.sleep(0)
            check_bounds(bus)


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("in_order", [True, False])
@virtual
async def test_retries_in_a_mailbox_that_spills(concurrency, in_order):
    fast = Desk()
    failing = Failing(lambda event: event.price % 3 == 0, times=2)
    failing.takes_s = 0.1
    retry = RetryPolicy(attempts=3, first_s=0.2, in_order=in_order)
    async with EventBus(max_queue_size=10) as bus:
        bus.subscribe("*", fast.on_event, name="fast")
        subscription = bus.subscribe(
            "*", failing.on_event, name="failing", retry=retry, concurrency=concurrency, breaker=False
        )
        for number in range(1_000):
            assert await bus.publish(a_tick(float(number)))
            await asyncio.sleep(0.005)
            assert subscription.mailbox.waiting <= 10 + concurrency, "what was in flight may wait again"
            assert_balanced(bus)
        await bus.join()
        assert len(fast.handled) == 1_000
        assert failing.prices[-1] >= 990
        assert_settled(bus)


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("is_alone", [True, False])
@virtual
async def test_what_comes_back_takes_its_place_once_however_often_it_comes_back(
    concurrency, in_order, is_alone
):
    """Whoever publishes meets what waited at the last look: what has come back since has room beside it."""
    chance = random.Random(1)
    async with EventBus(max_queue_size=5) as bus:

        async def failing(_event: Any) -> None:
            await asyncio.sleep(0.001)
            raise ValueError("no")

        retry = RetryPolicy(attempts=20, first_s=0.0001, in_order=in_order)
        slow = bus.subscribe("*", failing, name="slow", retry=retry, concurrency=concurrency, breaker=False)
        if not is_alone:
            bus.subscribe("*", Desk().on_event, name="fast")
        for number in range(1_000):
            bus.publish_nowait(a_fill(f"{number}"))
            for _ in range(2):
                assert slow.mailbox.waiting <= 5 + concurrency, "what was in flight may wait again"
                await asyncio.sleep(0.001 * chance.random())
        assert_balanced(bus)
        if is_alone:
            assert "no room" not in {letter.reason for letter in bus.dead_letters()}
        await bus.stop(timeout_s=0)


@pytest.mark.parametrize("journal", ["none", "memory"])
@virtual
async def test_one_that_is_paused_beside_one_that_runs_sees_to_itself_too(journal, tmp_path):
    fast, desk = Desk(), Desk()
    async with a_firm(journal, tmp_path, max_queue_size=20) as bus:
        bus.subscribe("*", fast.on_event, name="fast")
        paused = bus.subscribe("*", desk.on_event, name="paused")
        paused.pause()
        sent = [KINDS[["market_data", "order"][n % 2]](n) for n in range(200)]
        for event in sent:
            assert await bus.publish(event)
            await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        check_bounds(bus)
        assert fast.handled == sent
        paused.resume()
        await bus.join()
        check_accounts(bus, "paused", desk, sent)
        if journal == "memory":
            assert [e for e in desk.handled if kind_of(e) == "order"] == sent[1::2]


@virtual
async def test_one_that_mostly_fails_and_is_paused_for_it_holds_up_nobody():
    fast, failing = Desk(), Failing()
    async with EventBus(max_queue_size=20) as bus:
        bus.subscribe("*", fast.on_event, name="fast")
        subscription = bus.subscribe("*", failing.on_event, name="failing", retry=False)
        for number in range(500):
            assert await bus.publish(a_tick(float(number)))
            await asyncio.sleep(0.001)
            check_bounds(bus)
        assert subscription.failing
        assert len(fast.handled) == 500


@virtual
async def test_unsubscribing_a_full_one_or_the_emptiest_one():
    fast, slow = Desk(), Desk(1e6)
    async with EventBus(max_queue_size=20, backpressure_config=BackpressureConfig(grace_s=1e6)) as bus:
        bus.subscribe("*", fast.on_event, name="fast")
        bus.subscribe("*", slow.on_event, name="slow")
        for tick in ticks(100):
            assert await bus.publish(tick)
            await asyncio.sleep(0)
        bus.unsubscribe("*", fast.on_event)
        assert bus.backpressure_level is CRITICAL
        assert not await bus.publish(a_tick()), "now the full one is the emptiest"
        bus.subscribe("*", fast.on_event, name="fast")
        assert await bus.publish(a_tick())
        bus.unsubscribe("*", slow.on_event)
        assert await bus.publish(a_tick())
        await bus.join()
        assert_balanced(bus)


@virtual
async def test_types_added_to_a_full_one_have_its_level_at_once():
    slow = Desk(1e6)
    async with EventBus(max_queue_size=20, backpressure_config=BackpressureConfig(grace_s=1e6)) as bus:
        bus.subscribe("order", slow.on_event, name="slow")
        while await bus.publish(an_order()):
            pass
        assert await bus.publish(a_tick()), "nobody takes it"
        bus.subscribe("market_data", slow.on_event)
        assert not await bus.publish(a_tick())
        assert row(bus, "slow").overflowed == 0


@virtual
async def test_letters_without_room_are_redriven_as_far_as_there_is_room():
    slow = Desk(0.01)
    async with EventBus(max_queue_size=10) as bus:
        bus.subscribe("*", Desk().on_event, name="fast")
        subscription = bus.subscribe("*", slow.on_event, name="slow")
        sent = orders(60)
        for order in sent:
            assert await bus.publish(order)
            await asyncio.sleep(0)
        assert {letter.reason for letter in bus.dead_letters("slow")} == {"no room"}
        while bus.dead_letters("slow"):
            bus.admin.redrive("slow")
            assert subscription.mailbox.waiting <= 10
            await asyncio.sleep(0.02)
        await bus.join()
        assert {order.order_id for order in slow.handled} == {order.order_id for order in sent}
        assert len(slow.handled) == 60


@virtual
async def test_what_a_handler_publishes_through_its_outbox_has_room_or_is_read_from_the_journal():
    async with EventBus(max_queue_size=10, journal=MemoryJournal()) as bus:
        slow = Desk(0.1)

        async def fans_out(order: Any) -> None:
            for number in range(4):
                assert await bus.publish(Rumour(f"{order.order_id}-{number}", number))

        bus.subscribe("order", fans_out, name="fan", outbox=True, retry=False)
        bus.subscribe("rumour", Desk().on_event, name="fast")
        subscription = bus.subscribe("rumour", slow.on_event, name="slow")
        for order in orders(20):
            assert await bus.publish(order)
            await asyncio.sleep(0.01)
            assert subscription.mailbox.waiting <= 10
        await bus.join()
        assert len(slow.handled) == 80
        assert bus.dead_letters() == []


@virtual
async def test_a_restart_with_more_high_priority_events_than_there_is_room_reads_on():
    journal, name = MemoryJournal(), "book"
    bus = EventBus(journal=journal, max_queue_size=10_000)
    bus.subscribe("fill", Desk(1e6).on_event, name=name)
    await bus.start()
    sent = [a_fill(f"{number}") for number in range(60)]
    assert await bus.publish_many(sent) == 60
    await bus.stop(timeout_s=0)
    desk = Desk(0.01)
    bus = EventBus(journal=journal.reopened(), max_queue_size=10)
    bus.subscribe("fill", desk.on_event, name=name)
    await bus.start()
    for _ in range(40):
        assert bus.subscription(name).mailbox.waiting <= 10
        await asyncio.sleep(0.01)
    await bus.join()
    assert [fill.order_id for fill in desk.handled] == [fill.order_id for fill in sent]
    await bus.stop()


@virtual
async def test_what_was_redriven_is_not_let_go():
    """A letter is handled or stays a letter, also where newer ticks have no room."""
    failing = Failing(times=1)
    async with EventBus(max_queue_size=10) as bus:
        bus.subscribe("*", Desk().on_event, name="fast")
        subscription = bus.subscribe("*", failing.on_event, name="slow", retry=False, breaker=False)
        for tick in ticks(5):
            assert await bus.publish(tick)
        await bus.join()
        assert len(bus.dead_letters("slow")) == 5
        subscription.pause()
        assert bus.admin.redrive("slow") == 5
        for tick in ticks(50, first=6):
            assert await bus.publish(tick)
            await asyncio.sleep(0)
        subscription.resume()
        await bus.join()
        assert failing.prices[:5] == [1.0, 2.0, 3.0, 4.0, 5.0]


@virtual
async def test_what_is_conflated_in_a_full_mailbox_replaces_and_lets_nothing_go():
    async with EventBus(max_queue_size=20) as bus:
        bus.subscribe("*", Desk().on_event, name="fast")
        slow = bus.subscribe("*", Desk().on_event, name="slow", overflow="conflate")
        slow.pause()
        for number in range(18):
            assert await bus.publish(a_tick(1.0, f"S{number}"))
            await asyncio.sleep(0)
        for number in range(18):
            assert await bus.publish(a_tick(2.0, f"S{number}"))
            await asyncio.sleep(0)
        found = row(bus, "slow")
        assert (found.waiting, found.conflated, found.overflowed) == (18, 18, 0)
        assert await bus.publish(a_tick(3.0, "one more"))
        await asyncio.sleep(0)
        assert row(bus, "slow").overflowed == 1


@virtual
async def test_an_observer_of_dead_letters_may_publish_and_unsubscribe():
    """What it publishes comes behind what was accepted before."""
    async with EventBus(max_queue_size=4) as bus:
        slow, told = Desk(), []
        bus.subscribe("*", Desk().on_event, name="fast")
        subscription = bus.subscribe("*", slow.on_event, name="slow")
        subscription.pause()

        def observer(letter: Any) -> None:
            told.append(letter.event.order_id)
            if len(told) == 3:
                bus.unsubscribe("*", slow.on_event)
            elif len(told) < 3:
                bus.publish_nowait(a_fill(f"letter-{len(told)}"))

        bus.on_dead_letter(observer)
        for order in orders(10):
            assert await bus.publish(order)
            await asyncio.sleep(0)
        await bus.join()
        assert told[:2] == ["o-4", "o-5"]
        assert "letter-1" not in told, "the first fill has a place in the reserve"
        assert "letter-2" in told
        assert_balanced(bus)


# -- who lets go what share is named -------------------------------------------------------------------------


@virtual
async def test_health_names_who_lets_go_what_share_for_as_long_as_it_does(caplog):
    fast, slow = Desk(), Desk(0.2)
    async with EventBus(max_queue_size=100) as bus:
        bus.subscribe("market_data", fast.on_event, name="scalper")
        bus.subscribe("market_data", slow.on_event, name="llm")

        async def flow(count: int) -> None:
            for number in range(count):
                assert await bus.publish(a_tick(float(number)))
                await asyncio.sleep(0.01)

        await flow(2_000)
        health = await bus.check_health()
        assert health.status is EventBusHealthStatus.DEGRADED
        (finding,) = [f for f in health.findings if f.check == "overflow"]
        assert finding.culprit == "llm"
        assert finding.detail.startswith("it lets go 90 % of its events: 18")
        assert "of 2000 so far (market_data)" in finding.detail
        await flow(3_000)
        for _ in range(2):
            (finding,) = [f for f in (await bus.check_health()).findings if f.check == "overflow"]
        assert "95 % of its events" in finding.detail
        (record,) = [r for r in bus.get_status()["handlers"]["handlers"] if r["name"] == "llm"]
        assert record["overflowed"] == record["let_go"]["by_type"]["market_data"] == bus.metrics.overflowed
        assert 0.9 < record["let_go"]["recent_share"] < 1
        slow.takes_s = 0
        await bus.join()
        await asyncio.sleep(30)
        assert "overflow" not in {f.check for f in (await bus.check_health()).findings}
        assert sum("llm is too slow" in r.getMessage() for r in caplog.records) == 1, "logged once"
    bus.reset_metrics()
    assert bus.metrics.overflowed == 0


@virtual
async def test_health_names_who_has_dead_letters_for_lack_of_room():
    async with EventBus(max_queue_size=20) as bus:
        bus.subscribe("order", Desk().on_event, name="fast")
        bus.subscribe("order", Desk(5.0).on_event, name="slow")
        for order in orders(100):
            assert await bus.publish(order)
            await asyncio.sleep(0.01)
        (finding,) = [f for f in (await bus.check_health()).findings if f.check == "overflow"]
        assert finding.culprit == "slow"
        assert finding.detail.startswith("80 % of its events became dead letters for lack of room, 80 of 100")


@virtual
async def test_the_outcome_of_a_round_says_that_a_missing_agent_s_tick_was_let_go():
    async with EventBus(max_queue_size=4) as bus:

        async def momentum(tick: MarketDataEvent) -> None:
            await bus.publish_signal(a_signal("momentum", round_id=tick.round_id))

        bus.register_signal_agent("momentum")
        bus.register_signal_agent("model")
        bus.subscribe("market_data", momentum, name="momentum.on_tick")
        model: Subscription = bus.subscribe("market_data", Desk().on_event, name="model.on_tick")
        model.pause()
        opened = bus.open_round(signal_timeout=1.0, barrier_timeout=2.0)
        await bus.publish(a_tick(0.0, round_id=opened.round_id))
        for tick in ticks(9):
            await bus.publish(tick)
        outcome = await bus.wait_for_signals(opened.round_id)
        assert outcome.missing == {"model"}
        assert outcome.let_go == {"model.on_tick": 1}
        assert "model (silent; 1 of the round's events let go for lack of room" in outcome.explain()
        assert outcome.to_dict()["let_go"] == {"model.on_tick": 1}
