"""A kill switch at every instant of a stop or a start (CONTRACT 36): handled, redelivered, or an error, never lost."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from bus_helpers import Desk, Gate, a_kill, an_order, assert_balanced, now_s, outcome_of, virtual
from durable_kit import Faulty, Named, a_bus, orders

from openoutcry import BusClosed, Event, EventBus, OpenOutcryError, PersistenceConfig
from openoutcry.errors import JournalDead, JournalError, JournalFull
from openoutcry.journals import MemoryJournal


class Slow(Desk):
    """Takes its time with kill switches."""

    def __init__(self) -> None:
        super().__init__(takes_s=0.05)


class Stuck(Gate):
    """Never ends a call, and is slow to end when it is cancelled."""

    async def on_event(self, event: Any) -> None:
        self.begun.append(event)
        try:
            await asyncio.sleep(1_000)
        except asyncio.CancelledError:
            await asyncio.sleep(0.3)
            raise


class Plain(Desk):
    """A plain function."""

    def on_event(self, event: Any) -> None:
        self.handled.append(event)


HANDLERS = {"quick": Desk, "plain": Plain, "slow": Slow, "stuck": Stuck, "none": None}


async def by_loop(bus: EventBus, event: Any) -> bool:
    return await bus.publish(event)


async def by_many(bus: EventBus, event: Any) -> bool:
    return await bus.publish_many([event]) == 1


async def by_nowait(bus: EventBus, event: Any) -> bool:
    return bus.publish_nowait(event)


async def by_thread(bus: EventBus, event: Any) -> bool:
    return await asyncio.wrap_future(bus.publish_threadsafe(event))


async def by_receipt(bus: EventBus, event: Any) -> bool:
    return (await bus.publish_receipt(event)).accepted


WAYS = {"loop": by_loop, "many": by_many, "nowait": by_nowait, "thread": by_thread, "receipt": by_receipt}
Way = Callable[[EventBus, Any], Any]


class Publisher:
    """Publishes a kill switch in turn after turn of the loop, each in a task of its own."""

    def __init__(self, bus: EventBus, way: Way, *, one_scope: bool = False) -> None:
        self.bus = bus
        self.way = way
        self.one_scope = one_scope
        self.sent: list[Any] = []
        self.answers: dict[str, asyncio.Task[bool]] = {}
        self.is_over = False

    async def run(self) -> None:
        while not self.is_over:
            for _ in range(4):
                self.send()
                await asyncio.sleep(0)
            await asyncio.sleep(0.017)

    def send(self) -> None:
        number = len(self.sent)
        event = a_kill(event_id=f"k-{number}", scope="firm" if self.one_scope else f"s-{number}")
        self.sent.append(event)
        self.answers[event.event_id] = asyncio.create_task(self._send(event))

    async def _send(self, event: Any) -> bool:
        try:
            return await self.way(self.bus, event)
        except OpenOutcryError:
            return False

    async def accepted(self) -> list[Any]:
        self.is_over = True
        await asyncio.sleep(0.1)
        assert all(task.done() for task in self.answers.values()), "nobody waits for ever"
        return [event for event in self.sent if self.answers[event.event_id].result()]


async def _stop_under_fire(
    bus: EventBus, way: Way, timeout_s: float, *, one_scope: bool = False
) -> list[Any]:
    """Publish kill switches in every turn from before the stop until after its end; return the accepted."""
    publisher = Publisher(bus, way, one_scope=one_scope)
    publishing = asyncio.create_task(publisher.run())
    await asyncio.sleep(0.02)
    began = len(publisher.sent)
    with suppress(JournalError):  # what could not be saved is told to whoever stops the bus
        await bus.stop(timeout_s)
    await asyncio.sleep(0.1)
    assert len(publisher.sent) > began + 8
    accepted = await publisher.accepted()
    await publishing
    return accepted[began:] if len(accepted) >= began else []


def _stands(accepted: list[Any], handled: list[Any], *, one_scope: bool) -> list[Any]:
    """Return what was accepted and neither handled nor stood for by a later one of its scope."""
    ids = {event.event_id for event in handled}
    last = max((int(event.event_id[2:]) for event in handled), default=-1) if one_scope else -1
    return [e for e in accepted if e.event_id not in ids and int(e.event_id[2:]) > last]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("timeout_s", [0, 0.03, 0.3])
@pytest.mark.parametrize("kind", HANDLERS)
@pytest.mark.parametrize("one_scope", [False, True])
@virtual
async def test_without_a_journal_true_means_that_it_was_handled(kind, timeout_s, way, one_scope):
    """What was accepted before the stop began may wait in memory; from then on True is given when it is handled."""
    bus = EventBus()
    desk = None if HANDLERS[kind] is None else HANDLERS[kind]()
    slow = Desk(takes_s=0.1)
    bus.subscribe("note", slow.on_event, name="slow")
    if desk is not None:
        bus.subscribe("kill_switch", desk.on_event, name="desk")
    await bus.start()
    for _ in range(4):
        await bus.publish(Event(event_type="note"))
    accepted = await _stop_under_fire(bus, WAYS[way], timeout_s, one_scope=one_scope)
    if desk is not None:
        assert _stands(accepted, desk.handled, one_scope=one_scope) == []
    assert_balanced(bus)
    assert isinstance(await outcome_of(bus.publish(a_kill())), BusClosed)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("timeout_s", [0, 0.03, 0.3])
@pytest.mark.parametrize("kind", [kind for kind in HANDLERS if kind != "none"])
@virtual
async def test_with_a_journal_true_means_that_it_was_handled_or_comes_with_the_next_start(
    kind, timeout_s, way
):
    journal, desk, slow = MemoryJournal(), HANDLERS[kind](), Desk(takes_s=0.1)
    bus = a_bus(journal)
    bus.subscribe("note", slow.on_event, name="slow")
    bus.subscribe("kill_switch", desk.on_event, name="desk")
    await bus.start()
    for _ in range(4):
        await bus.publish(Event(event_type="note"))
    accepted = await _stop_under_fire(bus, WAYS[way], timeout_s)
    assert_balanced(bus)
    again, other = Desk(), Desk()
    bus = a_bus(journal.reopened())
    bus.subscribe("note", slow.on_event, name="slow")
    bus.subscribe("kill_switch", again.on_event, name="desk")
    bus.subscribe("kill_switch", other.on_event, name="other")
    async with bus:
        assert {halt.event_id for halt in bus._bus.halts.all()} >= {event.event_id for event in accepted}
        await bus.join()
    assert _stands(accepted, [*desk.handled, *again.handled], one_scope=False) == []


@pytest.mark.parametrize("error", [JournalFull("no room"), JournalDead("gone")], ids=["full", "dead"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("timeout_s", [0, 0.03, 0.3])
@pytest.mark.parametrize("kind", ["quick", "slow", "stuck"])
@virtual
async def test_with_a_journal_that_takes_nothing_it_is_as_without_one(kind, timeout_s, way, error):
    journal, desk = Faulty(), HANDLERS[kind]()
    bus = a_bus(journal)
    bus.subscribe("kill_switch", desk.on_event, name="desk")
    bus.subscribe("order", Slow().on_event, name="slow")
    await bus.start()
    for order in orders(4):
        await bus.publish(order)
    for number in range(1, 10_000):
        journal.fails["write", journal.calls["write"] + number] = error
    accepted = await _stop_under_fire(bus, WAYS[way], timeout_s)
    assert _stands(accepted, desk.handled, one_scope=False) == []


@virtual
async def test_one_of_the_last_moments_is_refused_where_no_journal_keeps_it():
    """No handler is called any more, and a start may never come."""
    bus, busy, desk = EventBus(), Stuck(), Desk()
    bus.subscribe("order", busy.on_event, name="busy")
    bus.subscribe("kill_switch", desk.on_event)
    await bus.start()
    await bus.publish(an_order())
    await asyncio.sleep(0)
    stopping = asyncio.ensure_future(bus.stop(timeout_s=0.1))
    await asyncio.sleep(0.2)
    assert not bus.is_running
    for call in (by_loop, by_many, by_nowait, by_thread, by_receipt):
        error = await outcome_of(call(bus, a_kill()))
        assert isinstance(error, BusClosed)
        assert "no journal" in str(error)
    assert not bus.halted()
    await stopping
    assert desk.handled == []


@virtual
async def test_one_of_the_last_moments_whose_commit_fails_raises_and_is_not_delivered_later():
    journal, busy, desk = Faulty(), Stuck(), Desk()
    bus = a_bus(journal)
    bus.subscribe("order", busy.on_event, name="busy")
    bus.subscribe("kill_switch", desk.on_event, name="desk", durable=False)
    await bus.start()
    await bus.publish(an_order())
    await asyncio.sleep(0)
    stopping = asyncio.ensure_future(bus.stop(timeout_s=0.1))
    await asyncio.sleep(0.2)
    journal.fail_next("write", JournalFull("no room"))
    kill = a_kill()
    assert isinstance(await outcome_of(bus.publish(kill)), JournalFull)
    assert not bus.halted()
    assert await bus.publish(kill), "another attempt, which the journal takes"
    assert bus.halted()
    await stopping


@virtual
async def test_publishing_it_again_while_the_bus_stops_promises_no_more_than_the_first_time():
    """CONTRACT 2: a retry after a time-out of the publisher is the same promise."""
    bus, desk = EventBus(), Stuck()
    bus.subscribe("kill_switch", desk.on_event, name="desk")
    await bus.start()
    await bus.publish(a_kill(scope="ES"))
    await asyncio.sleep(0)
    stopping = asyncio.ensure_future(bus.stop(timeout_s=1))
    await asyncio.sleep(0.01)
    kill = a_kill(scope="NQ")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await bus.publish(kill)
    assert isinstance(await outcome_of(bus.publish(kill)), BusClosed)
    assert now_s() > 1
    await stopping


@virtual
async def test_a_handler_that_pulls_it_while_the_bus_drains_is_answered_when_it_is_handled():
    bus, desk, answers = EventBus(), Slow(), []

    async def agent(event: Any) -> None:
        await asyncio.sleep(0.01)
        answers.append((await bus.publish(a_kill()), len(desk.handled)))

    bus.subscribe("order", agent, name="agent")
    bus.subscribe("kill_switch", desk.on_event, name="desk")
    await bus.start()
    await bus.publish(an_order())
    await bus.stop()
    assert answers == [(True, 1)]


@virtual
async def test_a_kill_handler_that_pulls_another_while_the_bus_drains_does_not_wait_for_itself():
    bus, handled, other = EventBus(), [], Desk()

    async def agent(event: Any) -> None:
        if event.scope == "firm":
            assert await bus.publish(a_kill(scope="ES"))
            await asyncio.create_task(_pull(bus))
        handled.append(event.scope)

    bus.subscribe("kill_switch", agent, name="agent")
    bus.subscribe("kill_switch", other.on_event, name="other")
    bus.subscribe("order", Slow().on_event, name="slow")
    await bus.start()
    await bus.publish(an_order())
    stopping = asyncio.ensure_future(bus.stop())
    await asyncio.sleep(0)
    assert await bus.publish(a_kill())
    await stopping
    assert sorted(handled) == ["ES", "NQ", "firm"]
    assert now_s() < 1


async def _pull(bus: EventBus) -> None:
    assert await bus.publish(a_kill(scope="NQ"))


@virtual
async def test_a_kill_switch_right_before_a_stop_without_time_is_begun():
    desk, bus = Plain(), EventBus()
    bus.subscribe("kill_switch", desk.on_event, name="desk")
    await bus.start()
    assert await bus.publish(a_kill())
    await bus.stop(timeout_s=0)
    assert len(desk.handled) == 1


# -- starting ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["write", "sync"])
@virtual
async def test_before_the_start_a_journal_that_takes_nothing_is_told_to_the_publisher(kind):
    """Nothing is delivered yet, so that nothing but the commit could make it accepted."""
    journal, desk = Faulty(), Named("desk")
    bus = a_bus(journal)
    bus.subscribe("kill_switch", desk.on_event)
    kill, other = a_kill(), a_kill(scope="ES")
    journal.fail_next(kind, JournalFull("no room") if kind == "write" else JournalDead("gone"))
    outcomes = await asyncio.gather(*(outcome_of(bus.publish(one)) for one in (kill, other)))
    assert all(isinstance(error, JournalFull | JournalDead) for error in outcomes)
    assert (bus.metrics.control, bus.halted("ES")) == (0, ())
    if kind == "write":
        assert await bus.publish(kill)
        async with bus:
            await bus.join()
        assert desk.handled == [kill]
    else:
        with suppress(JournalError):
            await bus.stop()


@virtual
async def test_a_commit_that_fails_while_the_bus_starts_does_not_take_back_what_was_delivered():
    journal, desk = Faulty(), Named("desk")
    bus = a_bus(journal)
    bus.subscribe("kill_switch", desk.on_event)
    await bus.recover_persisted_events()
    starting = asyncio.ensure_future(bus.start())
    await asyncio.sleep(0)
    journal.fail_next("write", JournalFull("no room"))
    outcome = await outcome_of(bus.publish(a_kill()))
    await starting
    await bus.join()
    assert len(desk.handled) == (outcome is True)
    await bus.stop()


@virtual
async def test_while_memory_is_restored_everybody_else_publishes():
    """The fold of one agent bars that agent alone."""
    journal = MemoryJournal()
    bus, book = a_bus(journal), Named("book")
    bus.subscribe("order", book.on_event, name="book")
    async with bus:
        for order in orders(3_000):
            await bus.publish(order)
        await bus.join()
    desk, folded, outcomes = Desk(), [], Counter()
    bus = a_bus(journal.reopened())
    bus.subscribe("order", book.on_event, name="book", restore=folded.append)
    bus.subscribe("kill_switch", desk.on_event, name="desk")
    is_over, sent = False, 0

    async def publish() -> None:
        nonlocal sent
        while not is_over:
            sent += 1
            outcomes[await outcome_of(bus.publish(a_kill(scope=f"s-{sent}")))] += 1
            outcomes[await outcome_of(bus.publish(an_order(f"new-{sent}")))] += 1
            outcomes[await outcome_of(by_nowait(bus, a_kill(scope=f"t-{sent}")))] += 1
            await asyncio.sleep(0)

    publishing = asyncio.create_task(publish())
    await asyncio.sleep(0)
    await bus.start()
    is_over = True
    await publishing
    await bus.join()
    assert sent > 2
    assert set(outcomes) == {True}
    assert len(folded) == 3_000
    assert len(desk.handled) == 2 * sent
    assert [event.order_id for event in book.handled[3_000:]] == [f"new-{n + 1}" for n in range(sent)]
    await bus.stop()


@pytest.mark.parametrize("how", ["call", "task", "thread"])
@virtual
async def test_a_fold_has_no_effects_also_not_in_the_tasks_and_threads_that_it_spawns(how):
    journal = MemoryJournal()
    bus, book = a_bus(journal), Named("book")
    bus.subscribe("order", book.on_event, name="book")
    async with bus:
        await bus.publish(an_order())
        await bus.join()
    bus, outcomes, spawned = a_bus(journal.reopened()), [], []

    async def publish() -> None:
        outcomes.append(await outcome_of(bus.publish(a_kill())))

    def in_thread() -> None:
        outcomes.append(bus.publish_threadsafe(a_kill()).exception(1))

    def fold(event: Any) -> None:
        if how == "call":
            try:
                bus.publish_nowait(a_kill())
            except OpenOutcryError as error:
                outcomes.append(error)
        elif how == "task":
            spawned.append(asyncio.ensure_future(publish()))
        else:
            spawned.append(asyncio.ensure_future(asyncio.to_thread(in_thread)))

    bus.subscribe("order", book.on_event, name="book", restore=fold)
    async with bus:
        await asyncio.gather(*spawned)
        assert ["book published while its memory was being restored" in str(e) for e in outcomes] == [True]
        assert not bus.halted()


@virtual
async def test_a_task_that_a_fold_has_spawned_may_publish_once_the_memory_is_restored():
    journal = MemoryJournal()
    bus, book = a_bus(journal), Named("book")
    bus.subscribe("order", book.on_event, name="book")
    async with bus:
        await bus.publish(an_order())
        await bus.join()
    bus, spawned = a_bus(journal.reopened()), []

    async def publish() -> bool:
        await asyncio.sleep(1)
        return await bus.publish(a_kill())

    bus.subscribe(
        "order",
        book.on_event,
        name="book",
        restore=lambda _: spawned.append(asyncio.ensure_future(publish())),
    )
    async with bus:
        assert await spawned[0]


@virtual
async def test_a_kill_switch_after_the_stop_does_not_open_the_journal_again(tmp_path):
    path = tmp_path / "firm.db"
    bus = EventBus(persistence_config=PersistenceConfig(path=path, socket=False))
    async with bus:
        pass
    for way in WAYS.values():
        with pytest.raises(BusClosed):
            await way(bus, a_kill())
    async with EventBus(persistence_config=PersistenceConfig(path=path, socket=False)) as other:
        assert other.is_running, "the file is not locked"
