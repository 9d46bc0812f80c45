"""Handlers that handle an event again and publish another one than the first time (CONTRACT 2, 10, 18)."""

import asyncio
import dataclasses
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from bus_helpers import Desk, a_fill, a_kill, a_signal, a_tick, an_order, assert_settled, virtual
from durable_kit import Disk, a_bus, written

from openoutcry import DecidedOtherwise, Event, EventBus, PersistenceConfig, RetryPolicy, register_event
from openoutcry.core.health import UNHEALTHY, EventBusHealthStatus
from openoutcry.events import new_event_id
from openoutcry.journals import MemoryJournal

TWICE = RetryPolicy(attempts=5, first_s=0.01, jitter=0)


class Plan(Event, kw_only=True):
    event_type: str = "plan"
    volatile_fields: ClassVar[frozenset[str]] = frozenset({"took_ms"})
    size: int = 0
    took_ms: float = 0.0
    tags: frozenset[str] = frozenset()


@register_event
@dataclass
class DeskMemo:
    event_type: ClassVar[str] = "desk_memo"
    volatile_fields: ClassVar[frozenset[str]] = frozenset({"took_ms"})
    size: int
    event_id: str = field(default_factory=new_event_id)
    took_ms: float = 0.0
    pages: tuple[int, ...] = ()
    anything: Any = None


def an_order_of(size: int) -> Any:
    return an_order(f"o-{size}")


MAKERS = pytest.mark.parametrize(
    "make",
    [an_order_of, lambda size: Plan(size=size), DeskMemo, lambda size: a_fill(f"f-{size}")],
    ids=["order", "subclass", "dataclass", "fill"],
)


class Undecided:
    """Publishes something else at each call; the first calls fail afterwards."""

    def __init__(self, bus: EventBus, make: Callable[[int], Any], *, fails: int = 1) -> None:
        self.bus = bus
        self.make = make
        self.fails = fails
        self.calls = 0
        self.errors: list[Exception] = []

    async def on_event(self, _event: Any) -> None:
        self.calls += 1
        try:
            await self.bus.publish(self.make(self.calls))
        except DecidedOtherwise as error:
            self.errors.append(error)
            raise
        if self.calls <= self.fails:
            raise ValueError("later")


class Swallowing(Undecided):
    async def on_event(self, event: Any) -> None:
        try:
            await super().on_event(event)
        except DecidedOtherwise:
            return


@MAKERS
@pytest.mark.parametrize("kind", [Undecided, Swallowing])
@virtual
async def test_who_decides_otherwise_in_a_retry_is_told_and_its_event_buried(
    disk: Disk, make: Any, kind: Any
):
    outputs, after = Desk(), Desk()
    async with a_bus(disk.journal) as bus:
        agent = kind(bus, make)
        bus.subscribe("signal", agent.on_event, name="llm", retry=TWICE)
        bus.subscribe("signal", after.on_event, name="other")
        bus.subscribe(["order", "plan", "desk_memo", "fill"], outputs.on_event, name="outputs")
        signal = a_signal("m")
        await bus.publish(signal)
        await bus.join()
        assert agent.calls == 2, "not retried after that"
        (error,) = agent.errors
        assert isinstance(error, DecidedOtherwise)
        assert error.subscription == "llm"
        assert "anew=True" in str(error)
        (letter,) = bus.dead_letters("llm")
        assert (letter.event, letter.reason, letter.attempts) == (signal, "decided otherwise", 2)
        assert repr(make(1))[:12] in letter.error
        assert len(outputs.handled) == 1, "the first stands, and the second is delivered to nobody"
        assert after.handled == [signal]
        assert bus.dead_letters("other") == []
        health = await bus.check_health()
        assert (health.status, health.culprits) == (EventBusHealthStatus.DEGRADED, ("llm",))
        assert_settled(bus)


@virtual
async def test_redriven_anew_the_new_decision_is_published_and_health_is_well_again(disk: Disk):
    outputs = Desk()
    async with a_bus(disk.journal) as bus:
        agent = Undecided(bus, an_order_of)
        bus.subscribe("signal", agent.on_event, name="llm", retry=TWICE)
        bus.subscribe("order", outputs.on_event, name="outputs")
        await bus.publish(a_signal("m"))
        await bus.join()
        assert bus.admin.redrive("llm") == 1
        await bus.join()
        assert [letter.reason for letter in bus.dead_letters("llm")] == ["decided otherwise"]
        assert not (await bus.check_health()).is_healthy
        assert bus.admin.redrive("llm", anew=True) == 1
        await bus.join()
        assert bus.dead_letters("llm") == []
        assert [order.order_id for order in outputs.handled] == ["o-1", "o-4"]
        assert (await bus.check_health()).is_healthy
        assert_settled(bus)


@pytest.mark.parametrize("kind", [Undecided, Swallowing])
@virtual
async def test_who_decides_otherwise_after_a_crash_is_told_too(disk: Disk, kind: Any):
    """The first version is read back from the journal."""
    bus = a_bus(disk.journal)
    hangs = asyncio.Event()

    async def first(_event: Any) -> None:
        await bus.publish(an_order("o-1"))
        await hangs.wait()

    bus.subscribe("signal", first, name="llm")
    await bus.start()
    await bus.publish(a_signal("m"), level="disk")
    await asyncio.sleep(1)
    journal = await disk.crash(bus)
    outputs = Desk()
    async with a_bus(journal) as bus:
        agent = kind(bus, lambda _: an_order("o-2"))
        bus.subscribe("signal", agent.on_event, name="llm", retry=TWICE)
        bus.subscribe("order", outputs.on_event, name="outputs")
        await bus.join()
        (letter,) = bus.dead_letters("llm")
        assert letter.reason == "decided otherwise"
        assert "'o-1' before" in letter.error
        assert [order.order_id for order in outputs.handled] in ([], ["o-1"])
        assert [order.order_id for order in written(journal) if order.event_type == "order"] == ["o-1"]
        assert "llm" in (await bus.check_health()).culprits
    # ... and a letter that stays is still told of by the next life.
    async with a_bus(disk.restarted()) as bus:
        bus.subscribe("signal", agent.on_event, name="llm")
        assert "llm" in (await bus.check_health()).culprits


@MAKERS
@virtual
async def test_the_first_version_may_still_be_on_its_way_to_the_journal(disk: Disk, make: Any):
    errors: list[Exception] = []
    async with a_bus(disk.journal) as bus:

        async def agent(_event: Any) -> None:
            first = make(1)
            task = asyncio.ensure_future(bus.publish(first))
            await asyncio.sleep(0)
            replace = dataclasses.replace if isinstance(first, DeskMemo) else msgspec.structs.replace
            second = replace(make(2), event_id=first.event_id)
            try:
                await bus.publish(second)
            except DecidedOtherwise as error:
                errors.append(error)
            await task

        bus.subscribe("signal", agent, name="llm")
        await bus.publish(a_signal("m"))
        await bus.join()
        assert len(errors) == 1
        assert bus.dead_letters("llm")[0].reason == "decided otherwise"


async def by_publish(bus: EventBus, event: Any) -> Any:
    return await bus.publish(event)


async def by_nowait(bus: EventBus, event: Any) -> Any:
    return bus.publish_nowait(event)


async def by_many(bus: EventBus, event: Any) -> Any:
    return await bus.publish_many([event])


async def by_receipt(bus: EventBus, event: Any) -> Any:
    return await bus.publish_receipt(event)


async def by_signal(bus: EventBus, event: Any) -> Any:
    return await bus.publish_signal(event)


async def by_level(bus: EventBus, event: Any) -> Any:
    return await bus.publish(event, level="disk")


async def by_priority(bus: EventBus, event: Any) -> Any:
    return await bus.publish(event, priority=True)


async def by_task(bus: EventBus, event: Any) -> Any:
    async def inner() -> Any:
        return await bus.publish(event)

    return await asyncio.create_task(inner())


async def by_group(bus: EventBus, event: Any) -> Any:
    async with asyncio.TaskGroup() as group:
        group.create_task(by_publish(bus, event))


WAYS = pytest.mark.parametrize(
    "way",
    [by_publish, by_nowait, by_many, by_receipt, by_signal, by_level, by_priority, by_task, by_group],
)


@WAYS
@pytest.mark.parametrize("is_crash", [False, True], ids=["retry", "crash"])
@virtual
async def test_every_way_to_publish_tells_it(disk: Disk, way: Any, is_crash: bool):
    sizes = iter((0.25, 0.75))

    def agent_of(bus: EventBus, *, fails: bool) -> Callable[[Any], Awaitable[None]]:
        async def agent(_event: Any) -> None:
            await way(bus, a_signal("momentum", strength=next(sizes)))
            if fails and is_crash:
                await asyncio.sleep(1e6)
            elif fails:
                raise ValueError("later")

        return agent

    bus = a_bus(disk.journal)
    calls = 0
    first, second = agent_of(bus, fails=True), agent_of(bus, fails=False)

    async def both(event: Any) -> None:
        nonlocal calls
        calls += 1
        await (first if calls == 1 else second)(event)

    bus.subscribe("order", both, name="llm", retry=TWICE)
    await bus.start()
    await bus.publish(an_order())
    if is_crash:
        await asyncio.sleep(1)
        journal = await disk.crash(bus)
        bus = a_bus(journal)
        second = agent_of(bus, fails=False)
        bus.subscribe("order", both, name="llm", retry=TWICE)
        await bus.start()
    await bus.join()
    (letter,) = bus.dead_letters("llm")
    assert letter.reason == "decided otherwise"
    assert letter.event.event_type == "order"
    assert "strength" in letter.error
    await bus.stop()


@pytest.mark.parametrize("is_crash", [False, True], ids=["retry", "crash"])
@virtual
async def test_an_equal_event_with_a_fresh_timestamp_and_volatile_fields_is_a_duplicate(
    disk: Disk, is_crash: bool, caplog: pytest.LogCaptureFixture
):
    made: list[Any] = []

    def outputs() -> list[Any]:
        # (A set of strings is written in another order in another process.)
        plan = Plan(size=1, took_ms=len(made) * 1.5, tags=frozenset({"a", "b", "c"}))
        memo = DeskMemo(1, took_ms=len(made) * 2.5, pages=(1, 2), anything=[1, {"k": [2]}])
        made.append(plan)
        return [plan, memo, an_order("o-1"), a_fill("f-1")]

    async def agent(_event: Any) -> None:
        for output in outputs():
            await agent_bus[0].publish(output)
            await asyncio.sleep(0.001)
        if len(made) == 1:
            if is_crash:
                await asyncio.sleep(1e6)
            raise ValueError("later")

    bus = a_bus(disk.journal)
    agent_bus = [bus]
    bus.subscribe("signal", agent, name="agent", retry=TWICE)
    await bus.start()
    await bus.publish(a_signal("m"))
    if is_crash:
        await asyncio.sleep(1)
        journal = await disk.crash(bus)
        bus = agent_bus[0] = a_bus(journal)
        bus.subscribe("signal", agent, name="agent", retry=TWICE)
        await bus.start()
    await bus.join()
    assert len(made) == 2
    assert bus.dead_letters() == []
    assert bus.metrics.conflicts == 0
    assert "other content" not in caplog.text
    assert len(written(bus.persistence.journal)) == 5
    await bus.stop()


@pytest.mark.parametrize("swallows", [False, True])
@virtual
async def test_with_an_outbox_the_comparison_comes_before_the_commit(disk: Disk, swallows: bool):
    """Nothing of a call that decides otherwise is posted, and its event is buried."""
    sizes = iter((1, 2, 3))
    async with a_bus(disk.journal) as bus:

        async def plain(_event: Any) -> None:
            await bus.publish(Plan(size=next(sizes)))
            raise ValueError("later")

        bus.subscribe("signal", plain, name="llm", retry=RetryPolicy(attempts=1))
        await bus.publish(a_signal("m"))
        await bus.join()
        bus.unsubscribe("signal", plain)

        async def posting(_event: Any) -> None:
            try:
                await bus.publish(Plan(size=next(sizes)))
            except DecidedOtherwise:
                if not swallows:
                    raise
            await bus.publish(DeskMemo(9))

        bus.subscribe("signal", posting, name="llm", retry=TWICE, outbox=True)
        bus.admin.redrive("llm")
        await bus.join()
        (letter,) = bus.dead_letters("llm")
        assert letter.reason == "decided otherwise"
        assert [event.event_type for event in written(disk.journal)] == ["signal", "plan"]
        assert_settled(bus)


@virtual
async def test_outputs_that_an_outbox_has_forgotten_may_differ_the_next_time(disk: Disk):
    outputs = Desk()
    async with a_bus(disk.journal) as bus:
        agent = Undecided(bus, lambda size: Plan(size=size), fails=2)
        bus.subscribe("signal", agent.on_event, name="llm", retry=TWICE, outbox=True)
        bus.subscribe("plan", outputs.on_event)
        await bus.publish(a_signal("m"))
        await bus.join()
        assert [plan.size for plan in outputs.handled] == [3]
        assert bus.dead_letters() == []


@virtual
async def test_for_memory_and_kill_switches_the_first_stands_and_it_is_counted(disk: Disk):
    ticks, kills = Desk(), Desk()
    calls = 0
    async with a_bus(disk.journal) as bus:

        async def agent(_event: Any) -> None:
            nonlocal calls
            calls += 1
            assert await bus.publish(a_tick(float(calls)))
            assert await bus.publish(Plan(size=calls), level="memory")
            assert await bus.publish(a_kill(reason=f"reason {calls}"))
            if calls == 1:
                raise ValueError("later")

        bus.subscribe("signal", agent, name="llm", retry=TWICE)
        bus.subscribe(["market_data", "plan"], ticks.on_event, name="ticks")
        bus.subscribe("kill_switch", kills.on_event, name="kills")
        await bus.publish(a_signal("m"))
        await bus.join()
        assert calls == 2
        assert len(ticks.handled) == 2
        assert [kill.reason for kill in kills.handled] == ["reason 1"]
        assert bus.metrics.conflicts == 3
        assert bus.dead_letters() == []


@virtual
async def test_a_version_that_was_in_memory_alone_is_compared_when_the_second_is_durable(disk: Disk):
    calls = 0
    async with a_bus(disk.journal) as bus:

        async def agent(_event: Any) -> None:
            nonlocal calls
            calls += 1
            await bus.publish(Plan(size=calls), level="memory" if calls == 1 else "disk")
            if calls == 1:
                raise ValueError("later")

        bus.subscribe("signal", agent, name="llm", retry=TWICE)
        await bus.publish(a_signal("m"))
        await bus.join()
        assert [letter.reason for letter in bus.dead_letters("llm")] == ["decided otherwise"]


@virtual
async def test_the_events_before_and_after_in_the_same_batch_are_handled(disk: Disk):
    """Only the event whose handler decided otherwise is buried."""
    signals = [a_signal(f"agent-{number}") for number in range(5)]
    handled: list[Any] = []
    tries = 0
    async with a_bus(disk.journal) as bus:

        async def agent(event: Any) -> None:
            nonlocal tries
            tries += event is signals[2]
            if event is signals[2]:
                try:
                    await bus.publish(Plan(size=tries))
                except DecidedOtherwise:
                    return
                raise ValueError("later")
            handled.append(event)

        bus.subscribe("signal", agent, name="llm", retry=TWICE)
        await bus.publish_many(signals)
        await bus.join()
        assert handled == [signals[0], signals[1], signals[3], signals[4]]
        assert [letter.event for letter in bus.dead_letters("llm")] == [signals[2]]
        assert_settled(bus)


def test_a_blocking_handler_is_told_through_its_future(tmp_path: Path):
    found: list[Any] = []
    sizes = [1, 2]

    async def main() -> None:
        config = PersistenceConfig(path=tmp_path / "firm.db", socket=False)
        async with EventBus(persistence_config=config) as bus:

            def agent(_event: Any) -> None:
                try:
                    bus.publish_threadsafe(Plan(size=sizes.pop(0))).result(60)
                except DecidedOtherwise as error:
                    found.append(error)
                    return
                raise ValueError("later")

            bus.subscribe("signal", agent, name="llm", blocking=True, retry=TWICE)
            await bus.publish(a_signal("m"))
            await bus.join()
            assert [letter.reason for letter in bus.dead_letters("llm")] == ["decided otherwise"]

    asyncio.run(main())
    assert len(found) == 1


@virtual
async def test_a_thread_that_a_handlers_task_starts_is_told_as_well(disk: Disk):
    """Whoever has a derived id is compared, wherever it publishes from."""
    errors: list[Any] = []
    async with a_bus(disk.journal) as bus:

        async def inner() -> None:
            future = await asyncio.to_thread(lambda: bus.publish_threadsafe(Plan(size=len(errors))))
            errors.append(None)
            await asyncio.wrap_future(future)

        async def agent(_event: Any) -> None:
            try:
                await asyncio.create_task(inner())
            except DecidedOtherwise as error:
                errors.append(error)
                return
            raise ValueError("later")

        bus.subscribe("signal", agent, name="llm", retry=TWICE)
        await bus.publish(a_signal("m"))
        await bus.join()
        assert isinstance(errors[-1], DecidedOtherwise)
        assert [letter.reason for letter in bus.dead_letters("llm")] == ["decided otherwise"]


@virtual
async def test_a_task_that_outlives_its_call_is_told_and_the_event_stays_handled(disk: Disk):
    told: list[Any] = []
    sizes = iter((1, 2))
    tasks: list[Any] = []
    async with a_bus(disk.journal) as bus:

        async def late() -> None:
            await asyncio.sleep(10)
            try:
                told.append(await bus.publish(Plan(size=next(sizes))))
            except DecidedOtherwise as error:
                told.append(error)

        async def agent(_event: Any) -> None:
            tasks.append(asyncio.create_task(late()))
            if len(tasks) == 1:
                raise ValueError("later")

        bus.subscribe("signal", agent, name="llm", retry=TWICE)
        await bus.publish(a_signal("m"))
        await asyncio.sleep(30)
        assert told[0] is True
        assert isinstance(told[1], DecidedOtherwise)
        assert bus.dead_letters("llm") == []
        assert (await bus.check_health()).status is not UNHEALTHY


@virtual
async def test_two_buses_never_derive_the_same_id():
    """CONTRACT 18: with the same code, names and events."""
    sent: list[str] = []
    async with EventBus() as gateway, a_bus(MemoryJournal()) as alice, a_bus(MemoryJournal()) as bob:
        gateway.subscribe("order", lambda order: sent.append(order.order_id), name="broker")
        for account, bus in (("alice", alice), ("bob", bob)):

            async def trade(_signal: Any, account: str = account) -> None:
                await gateway.publish(an_order(account))

            bus.subscribe("signal", trade, name="trader")
        signal = a_signal("m")
        for bus in (alice, bob):
            await bus.publish(signal)
            await bus.join()
        await gateway.join()
        assert sent == ["alice", "bob"]
        assert gateway.metrics.duplicates == 0


@virtual
async def test_ids_are_derived_again_after_a_crash_and_in_a_recovered_journal(disk: Disk):
    derived: list[str] = []

    async def agent(_event: Any) -> None:
        derived.append(new_event_id())
        await asyncio.sleep(1e6 if len(derived) < 3 else 0)

    bus = a_bus(disk.journal)
    bus.subscribe("signal", agent, name="agent")
    await bus.start()
    await bus.publish(a_signal("m"))
    for _ in range(2):
        await asyncio.sleep(1)
        bus_before, journal = bus, None
        journal = await disk.crash(bus_before)
        bus = a_bus(journal)
        bus.subscribe("signal", agent, name="agent")
        await bus.start()
    await bus.join()
    assert len(derived) == 3
    assert len(set(derived)) == 1
    await bus.stop()


CHILD = """
import asyncio, os, sys
from openoutcry import *
from openoutcry.events import new_event_id
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import ClassVar
life, path, outbox = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "outbox"
@register_event
@dataclass
class DeskMemo:
    event_type: ClassVar[str] = "desk_memo"
    text: str
    event_id: str = field(default_factory=new_event_id)
async def main():
    bus = EventBus(persistence_config=PersistenceConfig(path=path, socket=False))
    got = []
    async def llm(signal):
        for make in (lambda n: OrderEvent(order_id=n, symbol="ES", side="buy", quantity=1), DeskMemo):
            try:
                await bus.publish(make(f"life {life}"))
            except DecidedOtherwise as error:
                got.append(type(error).__name__)
            if life == 1 and not outbox:
                await bus.flush()
                os._exit(9)
        if life == 1:
            os._exit(9)
    bus.subscribe("signal", llm, name="llm", outbox=outbox)
    bus.subscribe(["order", "desk_memo"], lambda e: got.append(getattr(e, "order_id", "") or e.text), name="sink")
    async with bus:
        if life == 1:
            await bus.publish(SignalEvent(source_agent="m", strategy_name="m", symbol="ES", direction="long"))
        await bus.join()
        print(got, [letter.reason for letter in bus.dead_letters()], bus.metrics.conflicts)
asyncio.run(main())
"""


@pytest.mark.parametrize("outbox", ["plain", "outbox"])
def test_after_a_real_crash_the_order_of_the_first_life_stands_and_the_other_is_told(
    tmp_path: Path, outbox: str
):
    def life(number: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", CHILD, str(number), str(tmp_path / "firm.db"), outbox],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ},
        )

    assert life(1).returncode == 9
    found = life(2)
    assert found.returncode == 0, found.stderr
    if outbox == "plain":
        assert found.stdout.splitlines()[-1] in (
            "['DecidedOtherwise', 'life 1', 'life 2'] ['decided otherwise'] 0",
            "['life 1', 'DecidedOtherwise', 'life 2'] ['decided otherwise'] 0",
            "['DecidedOtherwise', 'life 2'] ['decided otherwise'] 0",
        )
    else:
        assert found.stdout.splitlines()[-1] == "['life 2', 'life 2'] [] 0"


@pytest.mark.parametrize("is_other_life", [False, True])
def test_a_handler_that_hands_in_like_a_thread_is_told_on_its_own_bus_and_on_another_loops(
    is_other_life: bool, tmp_path: Path
):
    """`publish_threadsafe` is how a handler reaches a bus that runs in another thread."""
    told: list[str] = []
    firm, gateway = MemoryJournal(), MemoryJournal()
    there: list[EventBus] = []
    ready, over = threading.Event(), threading.Event()

    def run_gateway() -> None:
        async def main() -> None:
            journal = gateway.reopened() if there else gateway
            async with a_bus(journal) as bus:
                there.append(bus)
                await bus.publish(Plan(size=0))  # its class is known from here on
                ready.set()
                await asyncio.to_thread(over.wait, 60)

        asyncio.run(main())

    async def decide(journal: Any, sizes: list[int], *, fails: bool) -> None:
        async with a_bus(journal) as bus:

            async def agent(_event: Any) -> None:
                for target in (there[-1], bus):
                    plan = Plan(size=sizes[0])
                    try:
                        assert await asyncio.wrap_future(target.publish_threadsafe(plan))
                        assert plan.causation_id == "cause"
                    except DecidedOtherwise:
                        told.append("there" if target is not bus else "here")
                sizes.pop(0)
                if fails and len(sizes) == 1:
                    raise ValueError("later")

            bus.subscribe("signal", agent, name="llm", retry=TWICE)
            await bus.publish(a_signal("m", event_id="cause"), level="memory")
            await bus.join()
            assert [letter.reason for letter in bus.dead_letters("llm")] == ["decided otherwise"][: len(told)]

    def live(journal: Any, sizes: list[int], *, fails: bool) -> None:
        ready.clear()
        over.clear()
        thread = threading.Thread(target=run_gateway)
        thread.start()
        assert ready.wait(60)
        try:
            asyncio.run(decide(journal, sizes, fails=fails))
        finally:
            over.set()
            thread.join()

    if is_other_life:
        live(firm, [1], fails=False)
        live(firm.reopened(), [2], fails=False)
    else:
        live(firm, [1, 2], fails=True)
    assert told == ["there", "here"]


@pytest.mark.parametrize("swallows", [False, True])
@virtual
async def test_a_decision_of_a_call_that_has_ended_is_a_finding_whatever_becomes_of_the_error(
    disk: Disk, swallows: bool
):
    sizes = iter((1, 2))
    tasks: list[Any] = []
    async with a_bus(disk.journal) as bus:

        async def late() -> None:
            await asyncio.sleep(10)
            try:
                await bus.publish(Plan(size=next(sizes)))
            except DecidedOtherwise:
                if not swallows:
                    raise

        async def agent(_event: Any) -> None:
            tasks.append(asyncio.create_task(late()))
            if len(tasks) == 1:
                raise ValueError("later")

        bus.subscribe("signal", agent, name="llm", retry=TWICE)
        await bus.publish(a_signal("m"))
        await asyncio.gather(asyncio.sleep(30), return_exceptions=True)
        assert isinstance(tasks[1].exception(), type(None) if swallows else DecidedOtherwise)
        assert bus.metrics.conflicts == 1
        health = await bus.check_health()
        assert health.status is EventBusHealthStatus.DEGRADED


@virtual
async def test_tasks_of_tasks_have_ids_of_their_own_whichever_comes_first(disk: Disk):
    """On 3.11 `asyncio.wait_for` makes a task of what it waits for, which may start some together."""
    outputs, delays_s = Desk(), [{"A": 1.0, "B": 2.0}, {"A": 2.0, "B": 1.0}]
    async with a_bus(disk.journal) as bus:

        async def order(symbol: str, delay_s: float) -> None:
            await asyncio.sleep(delay_s)
            await bus.publish(an_order(symbol))

        async def decide() -> None:
            await asyncio.gather(*(order(*item) for item in delays_s[0].items()))

        async def agent(_event: Any) -> None:
            await asyncio.create_task(decide())
            delays_s.pop(0)
            if delays_s:
                raise ValueError("later")

        bus.subscribe("signal", agent, name="llm", retry=TWICE)
        bus.subscribe("order", outputs.on_event, name="outputs")
        await bus.publish(a_signal("m"))
        await bus.join()
        assert bus.dead_letters("llm") == []
        assert [event.order_id for event in outputs.handled] == ["A", "B"]


@virtual
async def test_a_task_that_a_callback_of_an_earlier_call_starts_is_of_no_call(disk: Disk):
    """It would have the cause of whatever is handled by then, and shift the ids of that."""
    outputs, tasks = Desk(), list[Any]()
    async with a_bus(disk.journal) as bus:

        async def stray() -> None:
            await bus.publish(an_order("stray"))

        async def agent(signal: Any) -> None:
            loop = asyncio.get_running_loop()
            if signal.source_agent == "first":
                loop.call_later(5, lambda: tasks.append(loop.create_task(stray())))
                return
            await asyncio.sleep(10)

        bus.subscribe("signal", agent, name="llm")
        bus.subscribe("order", outputs.on_event, name="outputs")
        await bus.publish_many([a_signal("first"), a_signal("second")])
        await bus.join()
        (order,) = outputs.handled
        assert order.causation_id is None
        assert len(order.event_id.partition("-")[0]) == 16, "a derived one has 26 digits there"


OWN_POOL = ThreadPoolExecutor(2)


async def by_to_thread(make: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.to_thread(make, *arguments)


async def by_default_pool(make: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, make, *arguments)


async def by_own_pool(make: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(OWN_POOL, make, *arguments)


@pytest.mark.parametrize("way", [by_to_thread, by_default_pool, by_own_pool])
@pytest.mark.parametrize("together", [False, True])
def test_what_a_handler_has_made_in_threads_is_published_once(way: Any, together: bool):
    """CONTRACT 12, 18: an agent computes beside the loop, and the second time the threads end in another order."""
    outputs, calls = Desk(), list[int]()
    first, second = threading.Event(), threading.Event()

    def make(symbol: str, after: threading.Event | None, then: threading.Event | None) -> Any:
        if after is not None:
            assert after.wait(60)
        made = an_order(symbol)
        if then is not None:
            then.set()
        return made

    async def main() -> None:
        async with a_bus(MemoryJournal()) as bus:

            async def agent(_event: Any) -> None:
                calls.append(1)
                if not together:
                    made: Any = [await way(make, symbol, None, None) for symbol in ("A", "B")]
                elif len(calls) == 1:
                    made = await asyncio.gather(way(make, "A", None, first), way(make, "B", first, None))
                else:
                    made = await asyncio.gather(way(make, "A", second, None), way(make, "B", None, second))
                for order in made:
                    assert await bus.publish(order)
                if len(calls) == 1:
                    raise ValueError("later")

            bus.subscribe("signal", agent, name="llm", retry=TWICE)
            bus.subscribe("order", outputs.on_event, name="outputs")
            await bus.publish(a_signal("m", event_id="cause"))
            await bus.join()
            assert bus.dead_letters("llm") == []

    asyncio.run(main())
    assert [(order.order_id, order.causation_id) for order in outputs.handled] == [
        ("A", "cause"),
        ("B", "cause"),
    ]
    assert len(calls) == 2


def test_the_loops_own_way_to_threads_is_back_after_the_stop_and_processes_get_what_they_can_read():
    handed: list[Any] = []

    class Pool(Executor):
        def submit(self, function: Any, /, *arguments: Any, **_options: Any) -> Any:
            handed.append(function)
            future: Future[Any] = Future()
            future.set_result(function(*arguments))
            return future

    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.run_in_executor
        async with a_bus(MemoryJournal()) as bus:

            async def agent(_event: Any) -> None:
                assert await loop.run_in_executor(Pool(), len, "abc") == 3

            bus.subscribe("signal", agent, name="llm", retry=RetryPolicy(attempts=1))
            await bus.publish(a_signal("m"))
            await bus.join()
            assert bus.dead_letters("llm") == []
        assert handed == [len]
        assert loop.run_in_executor == before

    asyncio.run(main())
