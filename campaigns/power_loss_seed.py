"""One seed: some lives of a journal, ended by power cuts, kills, failed disks and clean closes."""

import random
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from campaigns.power_loss_disk import SimulatedDisk
from campaigns.power_loss_plants import HONEST, Plant
from campaigns.power_loss_truth import EVERYTHING, After, Broken, Truth
from campaigns.power_loss_vfs import mounted
from campaigns.power_loss_work import WAL_MAX_BYTES, Stopped, Worker
from openoutcry.errors import JournalDead, JournalError
from openoutcry.journals import JournalReader, Recovered, SqliteJournal, id_blocks, recover_into, sqlite

LIVES_MAX: Final = 3
_DUE_BYTES: Final = 48 * 1024
"""Checkpoints begin here in place of 1 MB, so that small workloads have some."""

_BLOCK_POSITIONS: Final = 32
_KEY: Final = b"the key of a sealed seed"


class Seed:
    """The lives of one journal.

    Attributes:
        lived: What happened, in words.

    """

    def __init__(self, number: int, folder: Path, plant: Plant = HONEST, *, is_sealed: bool = False) -> None:
        self._key = _KEY if is_sealed else None
        self._rng = random.Random(number)  # noqa: S311 - a seed is wanted
        self._plant = plant
        self._truth = Truth()
        self._folder = folder
        self._folders = 0
        self._disk = SimulatedDisk(self._next_folder(make=True), self._rng, self._rng.randbytes(16))
        self._name = "firm.db"
        self._after = After.CLEAN
        self._dead = self._last = self._may_be_dead = False
        self._recovered: Recovered | None = None
        self._in_flight: set[tuple[str, str, int]] = set()
        self._journal: SqliteJournal | None = None
        self._worker: Worker | None = None
        self.lived: list[str] = []

    def run(self) -> None:
        """Live and die some times. Raises `Broken` when the journal has not kept its word."""
        due_bytes, sqlite.WAL_DUE_BYTES = sqlite.WAL_DUE_BYTES, _DUE_BYTES  # type: ignore[misc]
        positions, id_blocks.POSITIONS = id_blocks.POSITIONS, _BLOCK_POSITIONS  # type: ignore[misc]
        try:
            lives = self._rng.randint(1, LIVES_MAX)
            with self._plant.patched():
                for _ in range(lives):
                    self._live()
                self._last_look()
        finally:
            sqlite.WAL_DUE_BYTES = due_bytes  # type: ignore[misc]
            id_blocks.POSITIONS = positions  # type: ignore[misc]

    # A life

    def _live(self) -> None:
        self._choose_faults()
        with mounted(self._disk):
            try:
                self._be_born_and_work()
            except BaseException:
                if not self._disk.frozen:
                    raise
                if self._disk.mapped is not None:
                    self.lived.append("kill")
                    self._killed()
            finally:
                self._bury()
        if self._disk.frozen:
            self._lose_power()
        self._disk.cut_at = self._disk.capacity = self._disk.meanwhile = None
        self._disk.kill_at_failure = False
        self._disk.fail_write_at = self._disk.fail_sync_at = self._disk.fail_own_sync_at = 0

    def _choose_faults(self) -> None:
        rng, disk = self._rng, self._disk
        disk.failed = False
        disk.cut_at = rng.choice((None, disk.steps + rng.randint(1, 90), disk.steps + rng.randint(1, 500)))
        fault = rng.random()
        if fault < 0.1:
            disk.fail_write_at = disk.writes + rng.randint(1, 200)
        elif fault < 0.2:
            disk.fail_sync_at = disk.syncs + rng.randint(1, 20)
        elif fault < 0.4:
            disk.fail_own_sync_at = disk.own_syncs + rng.randint(1, 6)
            disk.kill_at_failure = rng.random() < 0.5
        elif fault < 0.55:
            disk.capacity = disk.used() + rng.randint(0, 300_000)
        if self._may_be_dead and rng.random() < 0.6:  # a page cache that lies is found out by a cut
            disk.cut_at = disk.steps + rng.randint(10, 80)
        self.lived.append(
            f"{self._after.name}: cut at {disk.cut_at}, write {disk.fail_write_at} or sync "
            f"{disk.fail_sync_at} or own sync {disk.fail_own_sync_at} fails, room for {disk.capacity}"
        )

    def _be_born_and_work(self) -> None:
        journal = self._open()
        if journal is None:
            return self._end("cut")
        self._recognise(journal)
        self._worker = Worker(journal, self._truth, self._disk, self._rng, self._plant.bugs)
        try:
            self._worker.work(self._rng.choice((2, 10, 30)))
        except Stopped:
            return self._die()
        if not self._disk.frozen:
            ways = ("cut", "cut", "cut", "kill", "close") if self._disk.failed else ("cut", "kill", "close")
            self._end(self._rng.choice(ways))
        return None

    def _open(self) -> SqliteJournal | None:
        """Open the journal, or go on in a new file; None when the disk does not let it."""
        path = self._disk.folder / self._name
        try:
            self._journal = self._plant.journal(
                path, key=self._key, engine="apsw", wal_max_bytes=WAL_MAX_BYTES
            )
        except JournalDead as problem:
            if not (self._dead or self._disk.failed or self._may_be_dead):
                raise Broken(f"dead without a reason: {problem}") from problem
            self._dead = True
            if self._disk.failed:
                return None
            return self._go_on_elsewhere(path)
        except JournalError as problem:
            if not (self._disk.failed or self._disk.capacity is not None):
                raise Broken(f"it does not open: {problem}") from problem
            return None
        if self._dead and self._after is not After.CUT:
            raise Broken("a dead journal opens as if nothing had been")
        self._dead = self._may_be_dead = False
        return self._journal

    def _go_on_elsewhere(self, path: Path) -> SqliteJournal | None:
        name = f"new{len(self.lived)}.db"
        self.lived.append(f"recovery into {name}")
        try:
            self._recovered = recover_into(path, path.with_name(name), key=self._key, engine="apsw")
        except JournalError as problem:
            if not (self._disk.failed or self._disk.capacity is not None):
                raise Broken(f"it cannot be recovered: {problem}") from problem
            return None
        self._name, self._dead, self._disk.failed = name, False, False
        if not self._last and self._rng.random() < 0.5:
            self._disk.cut()  # what a recovery has returned is on the disk
            return None
        return self._open()

    def _recognise(self, journal: SqliteJournal) -> None:
        self._hold_count(journal)
        if self._recovered is not None:
            self._truth.recognise_recovered(journal, self._recovered)
            self._recovered = None
        else:
            self._truth.recognise(journal, self._after)
        if self._after is After.KILL:
            missing = self._in_flight - {(s.subscription, s.lane, s.position) for s in journal.suspects()}
            if missing:
                raise Broken(f"{missing} were in flight at the kill, and are no suspects")
        self._in_flight.clear()

    def _hold_count(self, journal: SqliteJournal) -> None:
        """See that no more is told as lost than power cuts since the last opening can have taken."""
        lost_max = 0
        if self._after is After.CUT and self._recovered is not None:
            lost_max = sum(last + 1 - first for first, last in self._recovered.lost)
        elif self._after is After.CUT:
            # an entry that was never acknowledged may be lost too, and the head may stand in a gap
            lost_max = max(self._truth.state.head, *self._truth.payloads, 0) - journal.head
        if journal.unsynced_lost > lost_max:
            told = f"{journal.unsynced_lost} entries are told as lost"
            raise Broken(f"{told}, and {lost_max} are at most, after {self._after.value}")

    # Its end

    def _die(self) -> None:
        """The disk has failed: see that nobody takes the file for sound, then end as chance wants it."""
        assert self._journal is not None, "it was opened"
        self.lived.append("dead")
        self._dead = True
        due = range(self._truth.state.floor + 1, self._truth.state.head + 1)
        if len(self._journal.read(0, EVERYTHING)) < len(set(due) - self._truth.gaps):
            raise Broken("a dead journal cannot be read any more")
        self._end(self._rng.choice(("cut", "kill", "close")))

    def _end(self, how: str) -> None:
        self.lived.append(how)
        if how == "cut" or self._journal is None:
            self._disk.cut()
        elif how == "kill":
            self._disk.kill()
            self._killed()
        else:
            self._close(self._journal)

    def _killed(self) -> None:
        """Let the next life begin with the page cache of this one, which may not be what is on the disk."""
        if (
            self._worker is not None
        ):  # else it was not open yet, and what it would have found is still to come
            self._in_flight = set(self._worker.in_flight.values())
            self._after = After.KILL
        self._may_be_dead |= self._disk.failed
        self._bury()
        self._disk.revive()

    def _close(self, journal: SqliteJournal) -> None:
        if self._worker is not None:
            self._worker.stop_reading()
        self._journal = None
        try:
            journal.close()
        except JournalDead:
            if not self._disk.failed:
                raise
            self._dead = True
        if not self._disk.frozen:
            self._after = After.CLEAN
            if not self._dead:
                self._truth.synced(len(self._truth.states) - 1)

    def _bury(self) -> None:
        """Let go of what a dead process has held, without a trace on the disk."""
        worker, journal = self._worker, self._journal
        self._worker = self._journal = None
        if journal is not None and self._disk.frozen:
            with suppress(BaseException):
                if worker is not None:
                    worker.stop_reading()
            with suppress(BaseException):
                journal.close()

    def _lose_power(self, flip: str | None = None) -> None:
        old = self._disk.folder
        self._may_be_dead |= self._disk.failed
        self._disk = self._disk.after_cut(self._next_folder(), flip=flip)
        shutil.rmtree(old)
        self._after = After.CUT

    def _next_folder(self, *, make: bool = False) -> Path:
        self._folders += 1
        folder = self._folder / str(self._folders)
        if make:
            folder.mkdir()
        return folder

    # The last look

    def _last_look(self) -> None:
        """See what is left, on a disk that is sound, or after one bit has been flipped."""
        flip = None
        self._last, self._disk.failed = True, False
        if self._rng.random() < 0.3:
            flip = self._rng.choice(("", "-wal", "-wal", "-marks"))
            self._disk.newest_marks = self._after is not After.CUT and self._rng.random() < 0.8
            with mounted(self._disk):
                self._disk.cut()
            self._lose_power(self._name + flip)
            self._after = After.DAMAGE if self._disk.newest_marks and flip != "-marks" else After.ANYTHING
            self.lived.append(f"bit flipped in {self._name + flip}")
        with mounted(self._disk):
            try:
                self._look(damaged=flip is not None)
            except JournalError as problem:
                if flip is None:
                    raise Broken(f"{problem}") from problem
                self._look_at_what_can_be_saved()

    def _look(self, *, damaged: bool) -> None:
        path = self._disk.folder / self._name
        journal = self._open() if not damaged else SqliteJournal(path, key=self._key, engine="apsw")
        assert journal is not None, "nothing fails any more"
        with journal:
            if not damaged:
                self._recognise(journal)
            elif not self._recovered:
                self._truth.recognise(journal, self._after)
            with journal.reader() as reader:
                verified = reader.verify()
            if not verified.intact and not damaged:
                raise Broken(f"it does not verify: {verified.problems}")

    def _look_at_what_can_be_saved(self) -> None:
        """After damage that was noticed: what is carried over must be what was written."""
        new = self._disk.folder / "saved.db"
        with suppress(JournalError):
            recover_into(self._disk.folder / self._name, new, key=self._key, engine="apsw")
            with JournalReader(new, key=self._key, engine="apsw") as reader:
                self._truth.look_at_entries(reader.read(0, EVERYTHING))
