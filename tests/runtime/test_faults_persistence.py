"""The ways in which such a bus really loses what it has accepted: each was seen elsewhere, and must not happen here.

Children are really killed, with SIGKILL; what they had been promised and what they had handled is in their files.
"""

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Self

import pytest
from bus_helpers import Failing, a_fill, an_order, outcome_of, virtual
from durable_child import POISON
from durable_child import a_bus as childs_bus
from durable_kit import Disk, Faulty, Named, a_bus, ids, orders, turns, written

from openoutcry import TimeInForce
from openoutcry.errors import JournalCorrupt, JournalDead
from openoutcry.journals import JournalReader, SqliteJournal
from openoutcry.runtime.delivery.offsets import UNSAVED_MOST
from openoutcry.runtime.delivery.worker import BATCH_MOST

CHILD = Path(__file__).with_name("durable_child.py")
TAKES = {"all": ("order", "fill"), "orders": ("order",), "beside": ("fill",)}


def lines(folder: Path, name: str) -> list[str]:
    file = folder / name
    return [line for line in file.read_text().split("\n")[:-1] if line] if file.exists() else []


class Child:
    """A program with a bus, in a process of its own."""

    def __init__(self, folder: Path, scene: str, first: int) -> None:
        command = [sys.executable, str(CHILD), str(folder), scene, str(first)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def ready(self) -> None:
        assert self._process.stdout is not None
        told = self._process.stdout.readline()
        if told != "ready\n":
            raise AssertionError(self._process.communicate()[1])

    def kill(self, after_s: float) -> None:
        """Kill it after a while, if it still runs."""
        time.sleep(after_s)
        self._process.kill()

    def wait(self) -> int:
        _, errors = self._process.communicate(timeout=600)
        code = self._process.returncode
        if code not in (0, -signal.SIGKILL):
            raise AssertionError(errors)
        return code

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def check_survival(folder: Path, lives: int) -> None:
    """Run a last life to its end, and hold everything that was handled against everything that was promised."""
    before = len(lines(folder, "handled"))
    with Child(folder, "recovering", 0) as child:
        child.ready()
        assert child.wait() == 0
    accepted = lines(folder, "accepted")
    assert len(set(accepted)) == len(accepted)
    handled = [line.split(" ") for line in lines(folder, "handled")]
    with JournalReader(folder / "firm.db") as reader:
        assert reader.verify().intact
        place = {str(stored.head().event_id): stored.position for stored in reader.read(0, 10**9)}
    assert set(accepted) <= place.keys(), "every True is recoverable"
    for name, types in TAKES.items():
        got = [event_id for who, event_id in handled if who == name]
        wanted = {event_id for event_id in place if event_id.split("-")[0] in types}
        assert set(got) == wanted, f"{name}: everything in the journal is handled, promised or not"
        repeated = sum(Counter(got).values()) - len(wanted)
        assert repeated <= lives * (UNSAVED_MOST + 2 * BATCH_MOST)
        if name == "beside":
            continue  # four calls at a time: there is no order
        for kind in types:
            firsts = list(dict.fromkeys(event_id for event_id in got if event_id.startswith(kind)))
            assert [place[one] for one in firsts] == sorted(place[one] for one in firsts), f"{name}: in order"
    assert before <= len(handled)


# -- real kills ---------------------------------------------------------------------------------------


def test_after_kill_9_under_load_every_true_is_recovered_in_order_with_bounded_duplicates(tmp_path: Path):
    rng = random.Random(9)
    for life in range(4):
        with Child(tmp_path, "under_load", 1 + life * 1_000_000) as child:
            child.ready()
            child.kill(after_s=rng.uniform(0.02, 0.3))
            child.wait()
    check_survival(tmp_path, 4)


def test_a_kill_in_the_middle_of_recovery_loses_nothing(tmp_path: Path):
    rng = random.Random(10)
    with Child(tmp_path, "behind", 1) as child:
        child.ready()
        child.kill(after_s=0)
        child.wait()
    for _ in range(3):
        with Child(tmp_path, "recovering", 0) as child:
            child.ready()
            child.kill(after_s=rng.uniform(0.01, 0.1))
            child.wait()
    check_survival(tmp_path, 4)


def test_a_kill_during_the_stop_loses_nothing(tmp_path: Path):
    rng = random.Random(11)
    for life in range(4):
        with Child(tmp_path, "stopping", 1 + life * 1_000_000) as child:
            child.ready()
            child.kill(after_s=rng.uniform(0, 0.03))
            child.wait()
    check_survival(tmp_path, 4)


def test_an_event_that_kills_the_process_is_quarantined_and_an_innocent_slow_one_is_not(tmp_path: Path):
    """Elsewhere: it was redelivered for ever."""
    deaths = 0
    for life in range(8):
        with Child(tmp_path, "poisoned", life) as child:
            if child.wait() == 0:
                break
            deaths += 1
    else:
        pytest.fail("it kills the process at every start")
    assert deaths == 3, "one crash per attempt"
    handled = Counter(lines(tmp_path, "handled"))
    assert handled[f"<victim order-{POISON}"] == 3
    assert {f"innocent order-{n}" for n in (1, POISON, 2)} | {
        "victim order-1",
        "victim order-2",
    } <= handled.keys()
    with JournalReader(tmp_path / "firm.db") as reader:
        (letter,) = reader.buried()
    assert (letter.subscription, letter.reason, letter.attempts) == ("victim", "quarantined", 3)


# -- one test per fault -------------------------------------------------------------------------------


@virtual
async def test_an_io_error_in_the_journal_does_not_become_true():
    """Elsewhere: it was logged, and publish returned True."""
    journal, desk = Faulty(), Named("desk")
    async with a_bus(journal) as bus:
        bus.subscribe("*", desk.on_event)
        await bus.flush()
        journal.fail_next("write", JournalDead("disk I/O error"))
        for event in (an_order(), a_fill(), an_order("o-2")):
            assert isinstance(await outcome_of(bus.publish(event)), JournalDead)
    assert desk.begun == []


@virtual
async def test_the_row_is_there_before_the_handler_runs_and_does_not_stay_pending(disk: Disk):
    """Elsewhere: queued before persisted, so that the handler ran before there was a row, and it stayed pending."""
    found: list[Any] = []
    async with a_bus(disk.journal) as bus:

        def handler(order: Any) -> None:
            found.append(disk.journal.find(order.event_id))

        bus.subscribe("order", handler, name="desk")
        await bus.publish_many(orders(20))
        await bus.join()
        await bus.flush()
        assert found == list(range(1, 21))
        assert bus.persistence.pending_events("desk") == []


@virtual
async def test_a_thousand_failed_events_do_not_keep_one_order_from_being_recovered(disk: Disk):
    """Elsewhere: at most 1,000 rows were recovered, failed ones included: 1,000 failed + 1 order recovered 0."""
    # Every third: a subscription whose events mostly fail is paused instead.
    failing = Failing(fails=lambda order: int(order.order_id[2:]) % 3 == 0)
    bus = a_bus(disk.journal)
    subscription = bus.subscribe("order", failing.on_event, name="desk", retry=False)
    await bus.start()
    await bus.publish_many(orders(3_000))
    await bus.join()
    assert len(bus.dead_letters("desk")) == 1_000
    subscription.pause()
    await bus.publish(an_order("o-3003"))
    journal = await disk.crash(bus)
    desk = Named("desk")
    bus = a_bus(journal)
    bus.subscribe("order", desk.on_event, name="desk")
    await bus.start()
    await bus.join()
    assert [order.order_id for order in desk.handled] == ["o-3003"]
    await bus.stop()


@virtual
async def test_reconstruction_loses_no_field(disk: Disk):
    """Elsewhere: time in force, actions and the schema version were lost."""
    order = an_order(
        time_in_force=TimeInForce.IOC,
        source_agent="execution",
        correlation_id="c",
        causation_id="d",
        round_id="r",
        schema_version=1,
    )
    bus = a_bus(disk.journal)
    bus.subscribe("order", Named("desk", takes_s=1e6).on_event)
    await bus.start()
    await bus.publish(order)
    desk = Named("desk")
    bus = a_bus(await disk.crash(bus))
    bus.subscribe("order", desk.on_event)
    await bus.start()
    await bus.join()
    assert desk.handled == [order]
    assert desk.handled[0].to_dict() == order.to_dict()
    await bus.stop()


@virtual
async def test_three_restarts_recover_what_is_there_each_time(disk: Disk):
    """Elsewhere: three restarts within five minutes recovered 1, 0, 0 events."""
    journal, recovered = disk.journal, []
    for life in range(4):
        bus = a_bus(journal)
        bus.subscribe("order", Named("desk").on_event).pause()
        if life == 0:
            await bus.publish(an_order())
        else:
            recovered.append(await bus.recover_persisted_events())
        await bus.start()
        await asyncio.sleep(60)
        journal = await disk.crash(bus)
    assert recovered == [1, 1, 1]


@virtual
async def test_an_acknowledged_event_of_level_disk_has_been_synced():
    """Elsewhere: synchronous=NORMAL, and a power cut made 0 of 400 acknowledged events. (See the power-cut tests.)"""
    journal = Faulty()
    async with a_bus(journal) as bus:
        for number in range(400):
            assert await bus.publish(a_fill(f"{number}"))
            assert journal.synced == journal.head
        assert await bus.publish_many([a_fill(f"m-{n}") for n in range(50)]) == 50
        assert journal.synced == journal.head == 450


@virtual
async def test_a_failed_sync_is_not_tried_again():
    """Elsewhere: retrying lost acknowledged rows in a quarter of simulated power cuts; stopping lost none."""
    journal = Faulty()
    bus = a_bus(journal)
    await bus.start()
    await bus.flush()
    journal.fail_next("sync", JournalDead("fdatasync failed"))
    assert isinstance(await outcome_of(bus.publish(a_fill())), JournalDead)
    journal.dead = None
    syncs = journal.calls["sync"]
    for _ in range(3):
        assert isinstance(await outcome_of(bus.publish(a_fill())), JournalDead)
    await asyncio.sleep(5)
    await bus.stop()
    assert journal.calls["sync"] == syncs


@virtual
async def test_a_flipped_bit_keeps_the_bus_from_starting_as_if_nothing_were_missing(tmp_path: Path):
    """Elsewhere: one flipped bit in the middle of the write-ahead log silently cut 300 rows to 150."""
    disk = Disk("sqlite", tmp_path / "disk")
    bus = a_bus(disk.journal)
    await bus.start()
    for order in orders(300):
        await bus.publish(order)
    before = disk.path
    files = [file for file in before.parent.glob("firm.db*") if not file.name.endswith("-shm")]
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    subprocess.run(["cp", *map(str, files), str(damaged)], check=True)  # noqa: ASYNC221 - as in Disk.image
    await bus.stop()
    disk.close()
    log = damaged / "firm.db-wal"
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 1
    log.write_bytes(bytes(content))
    second = childs_bus(damaged)
    with pytest.raises(JournalCorrupt):
        await second.start()
    assert not second.is_running


def test_one_connection_writes_and_a_second_writer_is_refused(tmp_path: Path):
    """Elsewhere: two connections that write or checkpoint at once, which SQLite before 3.51.3 may not survive."""
    with SqliteJournal(tmp_path / "firm.db"):
        second = subprocess.run(
            [sys.executable, str(CHILD), str(tmp_path), "recovering", "0"],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    assert second.returncode != 0
    assert "JournalLocked" in second.stderr


@virtual
async def test_a_redrive_neither_runs_who_succeeded_nor_multiplies(disk: Disk):
    """Elsewhere: 2, 4, 8, ... 64 entries, and those that had succeeded ran again."""
    good, failing = Named("good"), Failing()
    async with a_bus(disk.journal) as bus:
        bus.subscribe("order", good.on_event)
        bus.subscribe("order", failing.on_event, name="failing", retry=False)
        await bus.publish_many(orders(2))
        await bus.join()
        for _ in range(6):
            assert bus.admin.redrive() == 2
            await bus.join()
        await bus.flush()
        assert len(good.handled) == 2
        assert [letter.attempts for letter in disk.journal.buried()] == [7, 7]


@virtual
async def test_events_drained_at_the_stop_into_no_handler_are_not_marked_complete(disk: Disk):
    """Elsewhere: they were."""
    bus = a_bus(disk.journal)
    await bus.start()
    some = orders(3)
    await bus.publish_many(some)
    await bus.stop()
    desk = Named("desk")
    bus = a_bus(disk.restarted())
    bus.subscribe("order", desk.on_event)
    await bus.start()
    await bus.join()
    assert ids(desk.handled) == ids(some)
    await bus.stop()


@virtual
async def test_the_audit_trail_is_in_the_journal_at_once_and_not_in_memory_until_the_stop(disk: Disk):
    """Elsewhere: it lived in memory until shutdown."""
    bus = a_bus(disk.journal)
    await bus.start()
    some = orders(3)
    for order in some:
        await bus.publish(order)
    await turns()
    assert written(await disk.crash(bus)) == some
