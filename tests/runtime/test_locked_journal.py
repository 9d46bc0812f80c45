"""Another program locks the journal's file for a while: commits are put off, and no attempt of an event is spent.

The programs are real processes; the bus runs in virtual time, so that a lock lasts for as long as a test says.
"""

import asyncio
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import pytest
from bus_helpers import a_fill, a_kill, an_order, assert_settled, outcome_of, virtual
from durable_kit import Named, a_bus, floor_of, ids, orders, settings

from openoutcry import EventBus
from openoutcry.errors import JournalLocked
from openoutcry.journals import JournalReader, SqliteJournal
from openoutcry.journals.lock_holders import holder_of
from openoutcry.runtime.durability.lock_wait import LOCK_WAIT_S
from openoutcry.virtual import VirtualLoop

STRANGER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0)
db.execute(sys.argv[2])
if "BEGIN" == sys.argv[2]:
    db.execute("SELECT count(*) FROM batches").fetchall()
print("ready", flush=True)
sys.stdin.readline()
db.execute("ROLLBACK")
db.close()
"""
WRITERS = pytest.mark.parametrize("begin", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])


class Stranger:
    """A program of another kind that has begun a transaction."""

    def __init__(self, path: Path, begin: str = "BEGIN IMMEDIATE") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", STRANGER, str(path), begin],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        self.pid = self._process.pid

    def let_go(self) -> None:
        """End the transaction."""
        if self._process.poll() is None:
            self._process.communicate("\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "firm.db"


def file_bus(path: Path, **fields: Any) -> EventBus:
    return EventBus(10_000, persistence_config=settings(path=path, **fields))


@WRITERS
@virtual
async def test_a_publish_waits_until_another_program_lets_go_and_the_loop_runs_on(path: Path, begin: str):
    desk = Named("desk")
    async with file_bus(path) as bus:
        bus.subscribe("*", desk.on_event)
        assert await bus.publish(an_order("o-0"))
        await bus.join()
        with Stranger(path, begin) as stranger:
            publishing = asyncio.create_task(bus.publish(an_order("o-1")))
            late = asyncio.create_task(bus.publish_many(orders(5, 10)))
            await asyncio.sleep(LOCK_WAIT_S - 1)
            assert not publishing.done()
            assert not late.done()
            kill = a_kill()
            killing = asyncio.create_task(bus.publish(kill))
            await asyncio.sleep(0.1)
            assert ids(desk.handled)[-1] == kill.event_id, "a kill switch waits for no commit"
            stranger.let_go()
            assert await publishing
            assert await late == 5
            assert await killing
        await bus.join()
        assert len(desk.handled) == 8
        assert_settled(bus)


@virtual
async def test_a_lock_that_lasts_is_an_error_that_names_who_holds_it(path: Path):
    async with file_bus(path) as bus:
        bus.subscribe("*", Named("desk").on_event)
        with Stranger(path) as stranger:
            began_s = asyncio.get_running_loop().time()
            order = an_order("o-1")
            error = await outcome_of(bus.publish(order))
            assert isinstance(error, JournalLocked)
            assert error.pid == stranger.pid
            assert f"process {stranger.pid}" in str(error)
            assert LOCK_WAIT_S <= asyncio.get_running_loop().time() - began_s < LOCK_WAIT_S + 1
        assert await bus.publish(order), "publishing it again is a new attempt"


@virtual
async def test_who_waits_behind_a_commit_that_is_given_up_has_waited_as_well(path: Path):
    async with file_bus(path) as bus:
        with Stranger(path):
            first = asyncio.create_task(outcome_of(bus.publish(an_order("o-1"))))
            await asyncio.sleep(LOCK_WAIT_S - 1)
            second = asyncio.create_task(outcome_of(bus.publish(an_order("o-2"))))
            await asyncio.sleep(1.5)
            assert isinstance(await first, JournalLocked)
            assert isinstance(await second, JournalLocked)


@virtual
async def test_a_loop_that_stands_still_again_and_again_makes_nobody_wait_longer_for_a_lock(path: Path):
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    async with file_bus(path) as bus:
        with Stranger(path):
            publishing = asyncio.create_task(outcome_of(bus.publish(an_order("o-1"))))
            began_s = loop.time()
            while not publishing.done():
                assert loop.time() - began_s < LOCK_WAIT_S + 3
                await asyncio.sleep(0)
                loop.clock.advance_to(loop.clock.now_ns() + 300_000_000)  # as in a call that never yields
            assert isinstance(publishing.result(), JournalLocked)
        assert await bus.publish(an_order("o-1"))


@virtual
async def test_who_cannot_wait_needs_no_deeper_stack_beside_a_lock(path: Path):
    async with file_bus(path) as bus:
        with Stranger(path):
            limit = sys.getrecursionlimit()
            sys.setrecursionlimit(len(inspect.stack()) + 60)
            try:
                with pytest.raises(JournalLocked):
                    bus.publish_nowait(an_order("o-1"))
            finally:
                sys.setrecursionlimit(limit)
        assert bus.publish_nowait(an_order("o-1"))


@virtual
async def test_a_handler_that_publishes_beside_a_lock_spends_no_attempt(path: Path):
    attempts: list[str] = []
    async with file_bus(path) as bus:

        async def desk(event: Any) -> None:
            attempts.append(event.event_id)
            await bus.publish(a_fill())

        fills = Named("fills")
        bus.subscribe("order", desk, name="desk")
        bus.subscribe("fill", fills.on_event)
        await bus.publish(an_order("o-0"))
        await bus.join()
        assert len(attempts) == 1
        with Stranger(path) as stranger:
            handling = asyncio.create_task(bus.publish(an_order("o-1")))
            await asyncio.sleep(2)
            stranger.let_go()
            assert await handling
        await bus.join()
        assert len(attempts) == 2
        assert len(fills.handled) == 2


@virtual
async def test_cursors_are_saved_once_the_lock_is_gone(path: Path):
    desk = Named("desk")
    async with file_bus(path, cursor_save_s=0.5) as bus:
        bus.subscribe("order", desk.on_event)
        await bus.publish_many(orders(3))
        with Stranger(path) as stranger:
            await asyncio.sleep(2)
            stranger.let_go()
            await asyncio.sleep(1)
        with JournalReader(path) as reader:
            assert floor_of(reader, "desk.on_event") == 3


@virtual
async def test_retention_goes_on_once_the_lock_is_gone(path: Path):
    desk = Named("desk")
    async with file_bus(path, retain_count=2, cursor_save_s=0.1) as bus:
        bus.subscribe("order", desk.on_event)
        for order in orders(6):
            await bus.publish(order)
        await bus.join()
        with Stranger(path) as stranger:
            await asyncio.sleep(3)
            stranger.let_go()
        await asyncio.sleep(3)
        with JournalReader(path) as reader:
            assert reader.first >= 4


@virtual
async def test_a_start_waits_for_a_lock_and_names_who_holds_one_that_lasts(path: Path):
    SqliteJournal(path).close()
    bus = file_bus(path)
    with Stranger(path) as stranger:
        error = await outcome_of(bus.start())
        assert isinstance(error, JournalLocked)
        assert error.pid == stranger.pid
        starting = asyncio.create_task(bus.start())
        await asyncio.sleep(LOCK_WAIT_S - 1)
        assert not starting.done()
        stranger.let_go()
        await starting
    assert await bus.publish(an_order("o-1"))
    await bus.stop()


@virtual
async def test_a_bus_that_stops_beside_a_short_lock_saves_everything(path: Path):
    bus, desk = file_bus(path), Named("desk")
    bus.subscribe("order", desk.on_event)
    await bus.start()
    await bus.publish_many(orders(3))
    await bus.join()
    with Stranger(path) as stranger:
        stopping = asyncio.create_task(bus.stop(timeout_s=10))
        await asyncio.sleep(1)
        stranger.let_go()
        await stopping
    with JournalReader(path) as reader:
        assert floor_of(reader, "desk.on_event") == 3


def test_a_reader_s_transaction_holds_no_publish_up(path: Path):
    @virtual
    async def run() -> None:
        async with file_bus(path) as bus:
            await bus.publish(an_order("o-0"))
            with Stranger(path, "BEGIN"):
                began_s = asyncio.get_running_loop().time()
                assert await bus.publish_many(orders(20, 10)) == 20
                assert asyncio.get_running_loop().time() - began_s < 1

    run()


READERS = """
import sys
from openoutcry.journals import JournalReader
for _ in range(150):
    with JournalReader(sys.argv[1]) as reader:
        reader.tail(1)
        reader.cursors()
"""


def test_tools_that_read_make_no_publish_fail(path: Path):
    async def run() -> None:
        async with file_bus(path) as bus:
            bus.subscribe("order", Named("desk").on_event)
            await bus.publish(an_order("o-0"))
            reading = ["-c", READERS, str(path)]
            verifying = ["-m", "openoutcry", "verify", str(path)]
            examining = ["-m", "openoutcry", "doctor", str(path)]
            quiet = subprocess.DEVNULL
            tools = [
                await asyncio.create_subprocess_exec(sys.executable, *what, stdout=quiet, stderr=quiet)
                for what in (reading, reading, verifying, examining)
            ]
            ends = asyncio.gather(*(tool.wait() for tool in tools))
            number = 0
            while not ends.done():
                number += 1
                assert await bus.publish(an_order(f"o-{number}"))
                await asyncio.sleep(0)
            assert await ends == [0, 0, 0, 0]

    asyncio.run(run())


def test_the_engine_waits_for_no_lock_on_the_loop(path: Path):
    @virtual
    async def run() -> None:
        journal = SqliteJournal(path)
        async with a_bus(journal):
            assert list(journal._db.rows("PRAGMA busy_timeout")) == [(0,)]
        journal.close()

    run()


def test_who_holds_a_lock_is_found_and_who_only_reads_is_not(path: Path):
    with SqliteJournal(path):
        assert holder_of(path) is None
        with Stranger(path) as stranger:
            assert holder_of(path) == stranger.pid
        with Stranger(path, "BEGIN"):
            assert holder_of(path) is None
    assert holder_of(path.with_name("missing.db")) is None


@virtual
async def test_who_cannot_wait_is_refused_alone(path: Path):
    desk = Named("desk")
    async with file_bus(path) as bus:
        bus.subscribe("*", desk.on_event)
        with Stranger(path) as stranger:
            waiting = asyncio.create_task(bus.publish(an_order("o-1")))
            await asyncio.sleep(0.5)
            refused = an_order("o-2")
            with pytest.raises(JournalLocked):
                bus.publish_nowait(refused)
            third = an_order("o-3")
            also = asyncio.create_task(bus.publish(third))
            await asyncio.sleep(0)
            with pytest.raises(JournalLocked):
                bus.publish_nowait(refused)
            with pytest.raises(JournalLocked):
                bus.publish_nowait(third)  # its first publisher waits for it
            kill = a_kill()
            assert bus.publish_nowait(kill), "it is delivered, and written when the lock is gone"
            await asyncio.sleep(0.5)
            assert not waiting.done()
            stranger.let_go()
            assert await waiting
            assert await also
        assert bus.publish_nowait(refused)
        await bus.join()
        assert sorted(e.order_id for e in desk.handled if hasattr(e, "order_id")) == ["o-1", "o-2", "o-3"]
        assert_settled(bus)
    with JournalReader(path) as reader:
        assert reader.head == 4


@virtual
async def test_before_the_start_a_publish_waits_for_a_lock_as_well(path: Path):
    bus, desk = file_bus(path), Named("desk")
    bus.subscribe("order", desk.on_event)
    await bus.publish(an_order("o-1"))
    with Stranger(path) as stranger:
        publishing = asyncio.create_task(bus.publish(an_order("o-2")))
        await asyncio.sleep(0)
        stranger.let_go()
        assert await publishing
    await bus.start()
    await bus.join()
    assert len(desk.handled) == 2
    await bus.stop()
