"""What a power cut took at `process` is counted and told; what is left of the journal is whole.

The cut is played: the files are put back to what was synced, and the machine seems to have been started again.
"""

import asyncio
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bus_helpers import virtual
from durable_kit import Named, floor_of, orders, settings

from openoutcry import EventBus
from openoutcry.errors import JournalDead
from openoutcry.journals import JournalReader, SqliteJournal, marks, recover_into
from openoutcry.runtime.durability.marks_syncing import MARKS_SYNC_S
from openoutcry.testing import run_virtual

KEY = bytes(range(32))
KEYS = pytest.mark.parametrize("key", [None, KEY], ids=["unkeyed", "keyed"])


class Power:
    """The power of a machine whose disk holds what was synced: the log by a commit, the marks by the bus."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._boots = 0
        self.on_disk: dict[str, bytes] = {}
        real = os.fdatasync

        def fdatasync(fd: int) -> None:
            real(fd)
            there = Path(f"/proc/self/fd/{fd}").readlink()
            if there.parent == folder:
                self.on_disk[there.name] = there.read_bytes()

        monkeypatch.setattr(os, "fdatasync", fdatasync)
        monkeypatch.setattr(marks, "boot_id", lambda: self._boots.to_bytes(15, "big") + b"x")

    def cut(self) -> Path:
        """Return the journal as the next boot finds it, in a folder of its own; the life before goes on in vain."""
        self._boots += 1
        there = self._folder.parent / f"boot-{self._boots}"
        there.mkdir()
        shutil.copy(self._folder / "firm.db", there / "firm.db")
        for name, content in self.on_disk.items():
            (there / name).write_bytes(content)
        return there / "firm.db"


@pytest.fixture
def power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Power:
    folder = tmp_path / "boot-0"
    folder.mkdir()
    return Power(folder.resolve(), monkeypatch)


def file_bus(path: Path, **fields: Any) -> EventBus:
    return EventBus(10_000, persistence_config=settings(path=path, **fields))


async def work_and_cut(power: Power, path: Path, key: bytes | None) -> Path:
    """Accept 20 orders at `disk` and 500 at `process`, wait for the marks, and lose the power."""
    bus, desk = file_bus(path, key=key), Named("desk")
    bus.subscribe("order", desk.on_event)
    await bus.start()
    for order in orders(20):
        await bus.publish(order, level="disk")
    await bus.publish_many(orders(500, 100))
    await bus.join()
    await asyncio.sleep(2 * MARKS_SYNC_S + 0.5)
    found = power.cut()
    await bus.stop()
    return found


@KEYS
@virtual
async def test_what_was_accepted_at_process_and_is_gone_is_counted_and_told_until_the_next_start(
    power: Power, tmp_path: Path, caplog: pytest.LogCaptureFixture, key: bytes | None
):
    path = await work_and_cut(power, tmp_path / "boot-0" / "firm.db", key)
    desk = Named("desk")
    bus = file_bus(path, key=key)
    bus.subscribe("order", desk.on_event)
    with caplog.at_level(logging.CRITICAL, "openoutcry"):
        await bus.start()
    assert "took at least 500 entries accepted at `process`, from position 21 on" in caplog.text
    (finding,) = (f for f in (await bus.check_health()).findings if f.check == "power cut")
    assert "500" in finding.detail
    status = bus.get_status()["journal"]
    assert status["unsynced_lost"] == 500
    assert status["head"] == 20
    assert await bus.publish_many(orders(500, 100)) == 500, "they were lost: none is a duplicate"
    await bus.join()
    assert len(desk.handled) >= 500
    await bus.stop()
    bus = file_bus(path, key=key)
    async with bus:
        assert bus.get_status()["journal"]["power_cut"] is None
        assert "power cut" not in [f.check for f in (await bus.check_health()).findings]
    with JournalReader(path, key=key) as reader:
        assert reader.verify().intact


@KEYS
@virtual
async def test_a_recovery_into_a_new_file_tells_of_the_cut(power: Power, tmp_path: Path, key: bytes | None):
    path = await work_and_cut(power, tmp_path / "boot-0" / "firm.db", key)
    new = recover_into(path, path.with_name("new.db"), key=key)
    assert new.lost == ((21, 520),)
    with SqliteJournal(new.path, key=key) as journal:
        assert (journal.unsynced_lost, journal.head) == (500, 520)
    with SqliteJournal(new.path, key=key) as journal:
        assert journal.unsynced_lost == 0, "it was told"
        assert journal.power_cut is not None
        assert (journal.power_cut.lost, journal.power_cut.first) == (500, 21)
    again = recover_into(new.path, path.with_name("newer.db"), key=key)
    with SqliteJournal(again.path, key=key) as journal:
        assert journal.unsynced_lost == 0
        assert journal.power_cut is not None
        assert journal.power_cut.lost == 500


def openoutcry(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "openoutcry", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_doctor_tells_of_it_before_any_start_and_for_good(power: Power, tmp_path: Path):
    path = run_virtual(work_and_cut(power, tmp_path / "boot-0" / "firm.db", None))
    for _ in range(3):
        found = openoutcry("doctor", str(path), "--json")
        said = {row["what"]: row for row in map(json.loads, found.stdout.splitlines())}
        assert said["power cut"]["verdict"] == "warn"
        assert "at least 500 entries" in said["power cut"]["said"]
        SqliteJournal(path).close()


def test_a_verb_that_opens_the_journal_before_the_bus_does_tells_of_it(power: Power, tmp_path: Path):
    path = run_virtual(work_and_cut(power, tmp_path / "boot-0" / "firm.db", None))
    assert "at least 500 entries accepted at `process`" in openoutcry("vacuum", str(path)).stderr
    assert openoutcry("vacuum", str(path)).stderr == ""


@virtual
async def test_cursors_and_suspects_stand_where_the_head_stands(power: Power, tmp_path: Path):
    path = await work_and_cut(power, tmp_path / "boot-0" / "firm.db", None)
    with SqliteJournal(path) as journal:
        assert journal.head == 20
        assert all(c.floor <= 20 for c in journal.cursors())
        assert all(s.position <= 20 for s in journal.suspects())
        assert [halt for halt in journal.halts() if halt] == []


@virtual
async def test_a_kill_costs_nothing_and_is_told_as_nothing(tmp_path: Path):
    path = tmp_path / "firm.db"
    async with file_bus(path) as bus:
        await bus.publish_many(orders(50))
        assert bus.get_status()["journal"]["unsynced_lost"] == 0
    async with file_bus(path) as bus:
        assert bus.get_status()["journal"]["power_cut"] is None


@virtual
async def test_the_marks_are_synced_a_second_after_a_commit_and_never_on_an_idle_bus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    synced: list[int] = []
    async with file_bus(tmp_path / "firm.db", sync="inline") as bus:
        begin = SqliteJournal.begin_marks_sync
        monkeypatch.setattr(
            SqliteJournal, "begin_marks_sync", lambda self: (synced.append(self.head), begin(self))[1]
        )
        await asyncio.sleep(10)
        assert synced == []
        await bus.publish_many(orders(5))
        assert synced == []
        await asyncio.sleep(MARKS_SYNC_S + 0.1)
        assert synced == [5]
        await asyncio.sleep(60)
        assert synced == [5]


@virtual
async def test_a_sync_of_the_marks_that_fails_ends_the_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bus = file_bus(tmp_path / "firm.db", sync="inline")
    await bus.start()

    def fails(_: int) -> None:
        raise OSError(5, "Input/output error")

    await bus.publish_many(orders(5))
    monkeypatch.setattr(os, "fdatasync", fails)
    await asyncio.sleep(MARKS_SYNC_S + 1)
    monkeypatch.undo()
    with pytest.raises(JournalDead, match="sync of the marks failed"):
        await bus.publish(orders(1, 7)[0])
    await bus.stop()


@virtual
async def test_a_cursor_is_not_ahead_of_the_head_after_a_cut(power: Power, tmp_path: Path):
    path = await work_and_cut(power, tmp_path / "boot-0" / "firm.db", None)
    os.unlink(f"{path}-marks")  # and nothing else tells of the end  # noqa: PTH108
    async with file_bus(path) as bus:
        desk = Named("desk")
        bus.subscribe("order", desk.on_event)
        await bus.publish_many(orders(3, 900))
        await bus.join()
        assert len(desk.handled) >= 3
    with JournalReader(path) as reader:
        assert floor_of(reader, "desk.on_event") == 23
