"""Where a bus may be called (CONTRACT 30): anywhere before the start, then on its loop, and loudly nowhere else."""

import asyncio
import gc
import inspect
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bus_helpers import Desk, a_fill, a_kill, a_signal, a_tick, an_order, assert_exactly, ticks

from openoutcry import (
    EventBus,
    ForkedBus,
    LoopClosed,
    PersistenceConfig,
    SignalBarrier,
    WrongLoop,
    WrongThread,
)
from openoutcry.journals import EventPersistence
from openoutcry.runtime.api.admin import Admin
from openoutcry.runtime.delivery.subscription import Subscription
from openoutcry.testing import run_virtual

Calls = dict[str, Callable[[], Any]]

READS = "reads what is in memory"
PARTS = "is for the parts of the bus"
ANYWHERE = {
    "EventBus": {"admin": "only hands out an object that asks by itself"},
    "Admin": {"seat_lost": READS},
    "Subscription": {
        "failing": READS,
        "handled": READS,
        "in_call": READS,
        "save_error": READS,
        "orphaned": READS,
        "paused": READS,
        "settled": READS,
        "types": READS,
        "ended": READS,
        "takes_high_priority": READS,
        "takes_kill_switch": READS,
        "idle_s": READS,
        "ledger_rows": READS,
        "ledger_counts": READS,
        "plain_stats": READS,
        "attach": PARTS,
        "take_over": PARTS,
        "detach": PARTS,
        "end": PARTS,
        "hold": PARTS,
        "live_with": PARTS,
        "restored": PARTS,
        "save_first": PARTS,
        "read_on": PARTS,
        "withdraw_held": PARTS,
        "note_let_go": PARTS,
        "note_no_room": PARTS,
        "wake_all": PARTS,
        "mark_as_beside": PARTS,
        "leave_marks": PARTS,
        "take_marks": PARTS,
    },
    "SignalBarrier": {
        "over": "makes one",
        "settle": PARTS,
        "round": "is a plain attribute",
        "is_awaited": "is a plain attribute",
    },
    "EventPersistence": {"open": "makes one"},
}
"""What asks nobody, and why not."""
IN_THE_PROCESS = {
    "EventBus": {"is_running", "publish_threadsafe"},
    "Subscription": {"state", "stats"},
    "SignalBarrier": {"round_id", "roster"},
}
"""What any thread of the process may call, and no forked child."""


class Firm:
    """A bus on a loop of its own, with everything that may be called, by class and name."""

    def __init__(self, path: Path | None) -> None:
        self.desk = Desk()
        self.bus = EventBus(persistence_config=None if path is None else PersistenceConfig(path=path))
        self.subscription = self.bus.subscribe(
            ["order", "fill", "market_data"], self.desk.on_event, name="desk"
        )
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda *_: None)
        self.run(self.bus.start())
        self.barrier = self.run(self.opened("r-1"))
        self.face = self.bus.persistence
        self.kept = an_order("o-kept")
        self.tick = a_tick(7.0)

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    async def opened(self, round_id: str) -> SignalBarrier:
        return self.bus.open_round(round_id, roster=["macro"], barrier_timeout=1000.0)

    def calls(self) -> dict[str, Calls]:
        bus, kept, tick = self.bus, self.kept, self.tick
        return {
            "EventBus": {
                "publish": lambda: bus.publish(kept),
                "publish_nowait": lambda: bus.publish_nowait(tick),
                "publish_many": lambda: bus.publish_many([tick, *ticks(3)]),
                "publish_threadsafe": lambda: bus.publish_threadsafe(a_kill()),
                "publish_receipt": lambda: bus.publish_receipt(kept),
                "publish_signal": lambda: bus.publish_signal(a_signal("macro")),
                "flush": bus.flush,
                "start": bus.start,
                "stop": bus.stop,
                "join": bus.join,
                "run_until_signal": bus.run_until_signal,
                "is_running": lambda: bus.is_running,
                "subscribe": lambda: bus.subscribe("*", Desk().on_event, name="more"),
                "on": lambda: bus.on("*", name="on")(Desk().on_event),
                "unsubscribe": lambda: bus.unsubscribe("order", self.desk.on_event),
                "cleanup_dead_handlers": bus.cleanup_dead_handlers,
                "subscriptions": lambda: bus.subscriptions,
                "subscription": lambda: bus.subscription("desk"),
                "register_signal_agent": lambda: bus.register_signal_agent("macro"),
                "wait_for_signals": bus.wait_for_signals,
                "recorded": lambda: bus.recorded("model", lambda: 1),
                "open_round": lambda: bus.open_round("r-2"),
                "abstain": lambda: bus.abstain("macro"),
                "heartbeat": lambda: bus.heartbeat("macro"),
                "get_barrier_status": bus.get_barrier_status,
                "on_backpressure_change": lambda: bus.on_backpressure_change(print),
                "on_stalled": lambda: bus.on_stalled(print),
                "on_failing": lambda: bus.on_failing(print),
                "on_dead_letter": lambda: bus.on_dead_letter(print),
                "on_health_change": lambda: bus.on_health_change(print),
                "on_journal_error": lambda: bus.on_journal_error(print),
                "backpressure_level": lambda: bus.backpressure_level,
                "queue_size": lambda: bus.queue_size,
                "metrics": lambda: bus.metrics,
                "reset_metrics": bus.reset_metrics,
                "get_handler_stats": bus.get_handler_stats,
                "get_status": bus.get_status,
                "halted": bus.halted,
                "releaser": lambda: bus.releaser("risk"),
                "read_status": bus.read_status,
                "get_event_history": bus.get_event_history,
                "read_event_history": bus.read_event_history,
                "ledger": bus.ledger,
                "dead_letters": bus.dead_letters,
                "dead_letter_counts": bus.dead_letter_counts,
                "envelope": lambda: bus.envelope(kept),
                "check_health": bus.check_health,
                "health_status": lambda: bus.health_status,
                "is_healthy": lambda: bus.is_healthy,
                "recover_persisted_events": bus.recover_persisted_events,
                "persistence": lambda: bus.persistence,
                "redrive": bus.admin.redrive,
                "drop_dead_letters": bus.admin.drop_dead_letters,
                "cursors": bus.admin.cursors,
                "drop_cursor": lambda: bus.admin.drop_cursor("x"),
                "reassign_cursor": lambda: bus.admin.reassign_cursor("x", "y"),
                "recover_journal": bus.admin.recover_journal,
            },
            "Admin": {
                "pause": lambda: bus.admin.pause("desk"),
                "resume": lambda: bus.admin.resume("nobody"),
                "redrive": bus.admin.redrive,
                "drop_dead_letters": bus.admin.drop_dead_letters,
                "cursors": bus.admin.cursors,
                "drop_cursor": lambda: bus.admin.drop_cursor("x"),
                "reassign_cursor": lambda: bus.admin.reassign_cursor("x", "y"),
                "recover_journal": bus.admin.recover_journal,
                "shape": bus.admin.shape,
                "pulse": bus.admin.pulse,
                "buckets": lambda: bus.admin.buckets(["desk"]),
            },
            "Subscription": {
                "pause": self.subscription.pause,
                "resume": self.subscription.resume,
                "ready": self.subscription.ready,
                "state": self.subscription.state,
                "stats": lambda: self.subscription.stats(0),
            },
            "SignalBarrier": {
                "add_signal": lambda: self.barrier.add_signal("macro", a_signal("macro")),
                "arrive": lambda: self.barrier.arrive("macro", a_signal("macro")),
                "abstain": lambda: self.barrier.abstain("macro"),
                "heartbeat": lambda: self.barrier.heartbeat("macro"),
                "wait": self.barrier.wait,
                "close": self.barrier.close,
                "tick": self.barrier.tick,
                "is_complete": self.barrier.is_complete,
                "get_signals_copy": self.barrier.get_signals_copy,
                "get_received_count": self.barrier.get_received_count,
                "is_closed": lambda: self.barrier.is_closed,
                "round_id": lambda: self.barrier.round_id,
                "roster": lambda: self.barrier.roster,
                "outcome": lambda: self.barrier.outcome,
                "due_ns": lambda: self.barrier.due_ns,
                "expects": lambda: self.barrier.expects("macro"),
                "get_status": self.barrier.get_status,
            },
            "EventPersistence": {} if self.face is None else self._calls_of(self.face),
        }

    def _calls_of(self, face: EventPersistence) -> Calls:
        kept = self.kept
        return {
            "journal": lambda: face.journal,
            "path": lambda: face.path,
            "persist": lambda: face.persist(kept),
            "persist_many": lambda: face.persist_many([kept]),
            "mark_completed": lambda: face.mark_completed(kept, "mine"),
            "mark_many_completed": lambda: face.mark_many_completed([kept], "mine"),
            "mark_failed": lambda: face.mark_failed(kept, "no", "mine"),
            "pending_events": face.pending_events,
            "pending_count": face.pending_count,
            "dead_letters": face.dead_letters,
            "get_stats": face.get_stats,
            "verify": face.verify,
            "cleanup": lambda: face.cleanup(keep_count=1),
        }

    def answers(self, allowed: dict[str, set[str]]) -> list[str]:
        """What did not raise as it should, of everything that may not be called here."""
        wrong = []
        for cls, calls in self.calls().items():
            for name, call in calls.items():
                if name in allowed.get(cls, ()):
                    continue
                try:
                    result = call()
                    if inspect.isawaitable(result):
                        result = asyncio.run(_within(result))
                    wrong.append(f"{cls}.{name} -> {result!r}")
                except WrongThread as error:
                    if not str(error):
                        wrong.append(f"{cls}.{name} says nothing")
                except BaseException as error:  # noqa: BLE001 - it is reported
                    wrong.append(f"{cls}.{name} raised {error!r}")
        return wrong

    def ends_well(self) -> None:
        """Nothing was admitted or changed: what was refused elsewhere is new here, and is handled once."""

        async def end() -> None:
            bus = self.bus
            assert [s.name for s in bus.subscriptions] == ["desk"]
            assert bus.metrics.published == bus.metrics.duplicates == 0
            assert self.barrier.outcome is None
            assert bus.subscription("desk").state() == "idle"
            assert await bus.publish(self.kept)
            assert await bus.publish(self.tick)
            async with asyncio.timeout(20):
                await bus.join()
                await bus.stop()

        self.run(end())
        self.loop.close()
        assert {e.event_id for e in self.desk.handled} == {self.kept.event_id, self.tick.event_id}
        assert len(self.desk.handled) == 2


async def _within(awaitable: Any) -> Any:
    async with asyncio.timeout(20):
        return await awaitable


def in_a_thread(call: Callable[[], Any]) -> Any:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    thread.join()
    return answers[0]


def in_a_child(call: Callable[[], Any], limit_s: int = 60) -> str:
    """What a call gives in a forked child, as text; a child that hangs is killed."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(limit_s)
        try:
            text = repr(call())
        except BaseException:  # noqa: BLE001 - it is the answer
            text = traceback.format_exc()
        os.write(writing, text.encode()[:60_000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, text
    return text


@pytest.fixture(params=["in memory", "journaled"])
def firm(request, tmp_path):
    firm = Firm(tmp_path / "firm.db" if request.param == "journaled" else None)
    yield firm
    if not firm.loop.is_closed():
        firm.loop.close()


# -- everything that can be called ----------------------------------------------------------------------------


def test_everything_public_is_on_the_list(tmp_path):
    """Whoever adds a method or property says where it may be called."""
    firm = Firm(tmp_path / "firm.db")
    calls = firm.calls()
    calls["EventPersistence"]["close"] = print  # it closes what it has opened: of a bus, nothing
    for cls in (EventBus, Admin, Subscription, SignalBarrier, EventPersistence):
        public = {name for name in dir(cls) if not name.startswith("_")}
        known = set(calls[cls.__name__]) | set(ANYWHERE[cls.__name__])
        assert public == known, f"{cls.__name__}: {public ^ known}"
    firm.run(firm.bus.stop())
    firm.loop.close()


def test_another_thread_may_call_nothing_that_acts(firm):
    """CONTRACT 30."""
    assert in_a_thread(lambda: firm.answers(IN_THE_PROCESS)) == []
    assert in_a_thread(lambda: firm.bus.is_running) is True
    firm.ends_well()


def test_another_loop_of_the_same_thread_may_call_nothing_that_acts(firm):
    """CONTRACT 30."""

    async def elsewhere() -> list[str]:
        wrong = []
        for cls, calls in firm.calls().items():
            for name, call in calls.items():
                if name in IN_THE_PROCESS.get(cls, ()):
                    continue
                try:
                    result = call()
                    wrong.append(
                        f"{cls}.{name} -> {await result if inspect.isawaitable(result) else result!r}"
                    )
                except WrongLoop:
                    continue
                except BaseException as error:  # noqa: BLE001 - it is reported
                    wrong.append(f"{cls}.{name} raised {error!r}")
        return wrong

    assert asyncio.run(elsewhere()) == []
    firm.ends_well()


def test_after_its_loop_was_closed_nothing_may_be_called_but_start_and_stop(firm):
    """CONTRACT 30."""
    firm.loop.close()
    allowed = {**IN_THE_PROCESS, "EventBus": {"is_running", "start", "stop"}}
    assert firm.answers(allowed) == []
    assert in_a_thread(lambda: firm.answers(allowed)) == []
    assert firm.bus.is_running is False
    firm.loop = asyncio.new_event_loop()
    firm.run(firm.bus.start())
    firm.barrier = firm.run(firm.opened("r-3"))
    firm.ends_well()


def test_a_forked_child_may_call_nothing_at_all(firm):
    """CONTRACT 30."""
    assert in_a_child(lambda: firm.answers({})) == "[]"
    firm.ends_well()


# -- the hot path ---------------------------------------------------------------------------------------------


def test_a_tick_on_another_loop_raises_also_in_the_middle_of_a_batch():
    """A loop that stops with events staged leaves the bus in the middle of one."""
    desk, bus = Desk(), EventBus()
    bus.subscribe("market_data", desk.on_event)
    loop = asyncio.new_event_loop()
    first, second = ticks(2), ticks(2, first=10)

    async def begin() -> None:
        await bus.start()
        assert await bus.publish(a_tick(0.5))
        await bus.join()

    loop.run_until_complete(begin())
    coroutine = bus.publish(first[0])
    loop.call_soon(loop.stop)
    loop.call_soon(lambda: loop.call_soon(lambda: loop.create_task(coroutine)))
    loop.run_forever()

    async def elsewhere() -> None:
        for call in (bus.publish(second[0]), bus.publish_many(second)):
            with pytest.raises(WrongLoop):
                await call
        with pytest.raises(WrongLoop):
            bus.publish_nowait(second[1])

    asyncio.run(elsewhere())

    async def end() -> None:
        await asyncio.sleep(0)
        assert await bus.publish_many(second) == 2
        await bus.join()
        await bus.stop()

    loop.run_until_complete(end())
    loop.close()
    assert desk.prices == [0.5, 1.0, 10.0, 11.0]


@pytest.mark.parametrize("closed", [False, True], ids=["another loop", "a closed loop"])
@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_a_loop_that_stops_with_a_batch_open_lets_nothing_more_into_it(kind, closed):
    desk, bus = Desk(), EventBus()
    bus.subscribe("market_data", desk.on_event)
    loop = pytest.importorskip(kind).new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    late = a_tick(3.0)

    async def begin() -> None:
        await bus.start()
        await bus.publish(a_tick(1.0))
        await bus.join()

    loop.run_until_complete(begin())

    def publish_and_stop() -> None:
        loop.stop()
        coroutine = bus.publish(a_tick(2.0))
        with pytest.raises(StopIteration):
            coroutine.send(None)

    loop.call_soon(publish_and_stop)
    loop.run_forever()
    assert bus._admission.dispatcher.staged or kind == "uvloop", "a batch is open (uvloop has one more turn)"
    if closed:
        loop.close()
    with pytest.raises(LoopClosed if closed else WrongLoop):
        asyncio.run(bus.publish(late))

    async def end() -> None:
        await bus.start()
        assert await bus.publish(late), "its id was not remembered"
        await bus.join()
        await bus.stop()

    if closed:
        loop = asyncio.new_event_loop()
    loop.run_until_complete(end())
    loop.close()
    assert desk.prices == [1.0, 2.0, 3.0]


# -- before the start -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("durable", [False, True], ids=["in memory", "journaled"])
def test_before_the_start_any_thread_may_build_subscribe_and_publish_one_after_the_other(durable, tmp_path):
    """CONTRACT 27, 30."""
    desk, other = Desk(), Desk()
    sent = [an_order("o-1"), a_fill("o-2"), a_tick(), an_order("o-3"), an_order("o-4")]
    config = PersistenceConfig(path=tmp_path / "firm.db") if durable else None
    bus: EventBus = in_a_thread(lambda: EventBus(persistence_config=config))

    def second() -> None:
        bus.subscribe(["order", "fill"], desk.on_event, name="desk")
        assert asyncio.run(bus.publish(sent[0]))
        assert bus.publish_nowait(sent[1])
        bus.register_signal_agent("macro")
        assert bus.get_status()["state"] == "new"

    def third() -> None:
        bus.subscribe("*", other.on_event, name="other")
        assert bus.publish_nowait(sent[2])
        assert asyncio.run(bus.publish_many(sent[3:4])) == 1
        assert bus.metrics.published == 4

    in_a_thread(second)
    in_a_thread(third)
    assert bus.publish_nowait(sent[4])

    def run() -> None:
        async def main() -> None:
            async with bus, asyncio.timeout(20):
                await bus.join()

        asyncio.run(main())

    in_a_thread(run)
    assert_exactly(other.handled, sent)
    assert_exactly(desk.handled, [e for e in sent if e.event_type != "market_data"])
    assert bus.ledger().balances


@pytest.mark.parametrize("sync", ["inline", "thread"])
@pytest.mark.parametrize("level", ["process", "disk"])
def test_a_commit_that_a_loop_left_behind_before_the_start_keeps_nobody_waiting(sync, level, tmp_path):
    """CONTRACT 27: the loop that was to commit is closed, and the next publisher is on another."""
    desk = Desk()
    bus = EventBus(persistence_config=PersistenceConfig(path=tmp_path / "firm.db", sync=sync))
    bus.subscribe("order", desk.on_event, name="desk")
    lost = []

    def leave_behind(turns: int, order_id: str) -> None:
        async def life() -> None:
            lost.append(asyncio.ensure_future(bus.publish(an_order(order_id), level=level)))
            for _ in range(turns):
                await asyncio.sleep(0)

        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)
        loop.run_until_complete(life())
        loop.close()

    for turns in range(4):
        leave_behind(turns, f"o-{turns}")

        async def publish(turns: int = turns) -> None:
            async with asyncio.timeout(20):
                assert await bus.publish(an_order(f"p-{turns}"), level=level)
                await bus.flush()

        asyncio.run(publish())

    async def main() -> None:
        async with bus, asyncio.timeout(20):
            await bus.join()

    asyncio.run(main())
    handled = [e.order_id for e in desk.handled]
    assert len(handled) == len(set(handled))
    assert {f"p-{turns}" for turns in range(4)} <= set(handled)


def test_a_round_that_was_opened_before_the_start_has_its_deadline_on_the_loop_that_starts():
    """CONTRACT 19, 27."""
    bus = EventBus()

    async def early() -> None:
        bus.open_round("r-1", roster=["macro"], barrier_timeout=0.05, signal_timeout=0.01)

    asyncio.run(early())

    async def main() -> None:
        async with bus, asyncio.timeout(20):
            outcome = await bus.wait_for_signals("r-1")
            assert not outcome.valid

    asyncio.run(main())


def test_whoever_waits_on_another_loop_when_the_bus_starts_elsewhere_is_told():
    """CONTRACT 30."""
    bus, desk = EventBus(), Desk()
    bus.subscribe("order", desk.on_event)
    bus.publish_nowait(an_order())
    answers: list[Any] = []
    waits = threading.Event()

    def wait() -> None:
        async def life() -> None:
            asyncio.get_running_loop().call_soon(waits.set)
            async with asyncio.timeout(20):
                await bus.join()

        try:
            answers.append(asyncio.run(life()))
        except WrongThread as error:
            answers.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    waits.wait()

    async def main() -> None:
        async with bus, asyncio.timeout(20):
            await bus.join()
            await asyncio.to_thread(thread.join)

    asyncio.run(main())
    assert isinstance(answers[0], WrongThread)
    assert len(desk.handled) == 1


# -- a barrier of one's own -----------------------------------------------------------------------------------


def test_a_barrier_belongs_to_the_loop_on_which_it_was_made_and_may_be_read_anywhere_once_it_is_over():
    """CONTRACT 19, 30."""

    async def main() -> SignalBarrier:
        barrier = SignalBarrier(["macro"], 5.0)
        answer = await asyncio.to_thread(lambda: in_a_thread(lambda: _outcome_of(barrier.is_complete)))
        assert isinstance(answer, WrongThread)
        await barrier.add_signal("macro", a_signal("macro"))
        assert (await barrier.wait()).valid
        return barrier

    over = run_virtual(main())
    assert over.is_closed
    assert over.outcome is not None
    with pytest.raises(LoopClosed):
        over.close()
    assert "ForkedBus" in in_a_child(lambda: over.outcome)


def _outcome_of(call: Callable[[], Any]) -> Any:
    try:
        result = call()
        return asyncio.run(_within(result)) if inspect.isawaitable(result) else result
    except Exception as error:  # noqa: BLE001 - the error is the answer
        return error


# -- forks ----------------------------------------------------------------------------------------------------


def test_a_bus_of_before_the_fork_that_was_not_used_may_be_started_in_the_child(tmp_path):
    """CONTRACT 30: nobody's journal is open, and nothing waits in it."""
    bus = EventBus(persistence_config=PersistenceConfig(path=tmp_path / "firm.db"))
    desk = Desk()
    bus.subscribe("order", desk.on_event, name="desk")

    async def main() -> int:
        async with bus, asyncio.timeout(20):
            await bus.publish(an_order())
            await bus.join()
        return len(desk.handled)

    assert in_a_child(lambda: asyncio.run(main())) == "1"
    assert asyncio.run(main()) == 1


@pytest.mark.parametrize("what", ["published", "handed in by a thread", "opened"])
def test_a_bus_of_before_the_fork_that_was_used_is_the_parents(what, tmp_path):
    """CONTRACT 30, 2: what waits in it would be handled twice."""
    config = PersistenceConfig(path=tmp_path / "firm.db") if what == "opened" else None
    bus, desk = EventBus(persistence_config=config), Desk()
    bus.subscribe("order", desk.on_event, name="desk")
    if what == "published":
        bus.publish_nowait(an_order())
    elif what == "handed in by a thread":
        in_a_thread(lambda: bus.publish_threadsafe(an_order()))
    else:
        assert bus.persistence is not None
    assert "ForkedBus" in in_a_child(lambda: asyncio.run(bus.start()))

    async def main() -> None:
        async with bus, asyncio.timeout(20):
            await bus.join()

    asyncio.run(main())
    assert len(desk.handled) == (what != "opened")


def test_a_child_that_leaves_touches_nothing_of_its_parents(tmp_path):
    """CONTRACT 30: not while it unwinds, not when its objects are collected, not at its exit."""
    path, desk = tmp_path / "firm.db", Desk()

    async def main() -> None:
        bus = EventBus(persistence_config=PersistenceConfig(path=path))
        bus.subscribe("order", desk.on_event, name="desk")
        pid = -1
        try:
            async with bus, asyncio.timeout(60):
                await bus.publish(an_order("o-1"))
                await bus.join()
                waits = bus.publish(an_order("o-2"))
                await waits  # it is in the mailbox, or on its way there, when the child is forked
                pid = os.fork()
                if pid == 0:
                    signal.alarm(60)
                    sys.exit(7)
                _, status = os.waitpid(pid, 0)  # noqa: ASYNC222 - a thread would wake a loop that the child had closed
                assert os.waitstatus_to_exitcode(status) == 7
                assert await bus.publish(an_order("o-3"), level="disk")
                await bus.join()
                assert "journal" not in {f.check for f in (await bus.check_health()).findings}
        except SystemExit as leaving:
            if pid == 0:
                for _ in range(10):
                    await asyncio.sleep(0)
                is_alone = len(desk.handled) <= 2
                del bus
                gc.collect()
                os._exit(int(str(leaving.code)) if is_alone else 1)
            raise

    asyncio.run(main())
    assert [e.order_id for e in desk.handled] == ["o-1", "o-2", "o-3"]
    with EventPersistence(PersistenceConfig(path=path)) as kept:
        assert kept.verify().problems == ()
        assert kept.pending_count("desk") == 0


def test_a_fork_while_a_thread_hands_in_leaves_no_lock_behind():
    """The child's copy of a lock that another thread held at that moment would never be let go."""
    bus = EventBus()
    bus._intake._lock.acquire()
    try:
        assert in_a_child(lambda: bus.publish_threadsafe(a_tick()).done(), limit_s=20) == "False"
    finally:
        bus._intake._lock.release()


def test_errors_of_ownership_are_kinds_of_wrong_thread():
    assert issubclass(WrongLoop, WrongThread)
    assert issubclass(LoopClosed, WrongThread)
    assert issubclass(ForkedBus, WrongThread)
