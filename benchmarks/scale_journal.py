"""Grow a journal, and measure what each of its uses costs at each size: `python scale_journal.py '{"sizes_mb": ..., "folder": ...}'`.

Prints a line of JSON for each size. The journal has the chains of explain.py: a bar, the signals of 14 agents, the
record of their round, a decision, verdicts, an order and its fill, 64 events in a commit. A time is that of the
processor, the median of several; what is read is what the system was asked for, whether or not it had it in memory.
"""

import asyncio
import json
import logging
import random
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

from click.testing import CliRunner
from explain import BEGAN_NS, CHAIN, chain

from openoutcry import EventBus, PersistenceConfig
from openoutcry.cli.doctor import doctor
from openoutcry.journals import JournalReader, Lineage, SqliteJournal
from openoutcry.ports import Changes, CursorState, Entry, Level

BATCH = 64
PENDING_COUNT = 5_000
RETIRED_COUNT = 16 * BATCH
_REPETITIONS = 5
_NUMBER = 0xABCDEF
_NUMBER_HEX = b"%020x" % _NUMBER


class Chains:
    """Makes chains as explain.py does, by writing their numbers into one that was made before."""

    def __init__(self) -> None:
        bar_id = f"{_NUMBER:020x}-0"
        self._steps = [(event_id.partition("-")[2], payload) for event_id, payload in chain(_NUMBER, bar_id)]
        self._record = 15
        self._number = b"%d" % _NUMBER
        self.count = 0

    def entries(self) -> Iterator[Entry]:
        """Yield entries for ever."""
        while True:
            number = self.count
            self.count += 1
            digits, word = b"%020x" % number, b"%d" % number
            at_ns = BEGAN_NS + number * 20_000_000
            for step, (end, payload) in enumerate(self._steps):
                text = payload.replace(_NUMBER_HEX, digits).replace(self._number, word)
                event_id = f"round:ES@{number}" if step == self._record else f"{number:020x}-{end}"
                lane = "high" if step == CHAIN - 1 else "normal"
                yield Entry(event_id, text, lane, Level.PROCESS, at_ns + step * 300_000)


class Growing:
    """A journal that is written up to one size after the other."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "firm.db"
        self._folder = folder
        self._chains = Chains()
        self._entries = self._chains.entries()
        self._random = random.Random(0)

    def batch(self) -> list[Entry]:
        return [next(self._entries) for _ in range(BATCH)]

    def grow(self, size_mb: float) -> float:
        """Write up to a size; return what a commit took there: the least median of ten times twenty."""
        found = []
        with SqliteJournal(self.path) as journal:
            while self.path.stat().st_size < size_mb * 1e6:
                for _ in range(100):
                    journal.write(self.batch())
                while journal.idle():
                    pass
            for _ in range(200):
                some = self.batch()
                begun = process_time()
                journal.write(some)
                found.append(process_time() - begun)
            head = journal.head
            cursors = [
                CursorState(subscription="book", lane=lane, floor=head - PENDING_COUNT, takes=("fill",))
                for lane in ("control", "high", "normal")
            ]
            journal.write((), Changes(cursors=cursors))
        return min(median(found[start : start + 20]) for start in range(0, len(found), 20)) * 1e6

    def costs(self, size_mb: float) -> dict[str, float]:
        """Measure everything at a size."""
        found = {"a commit of 64 events": self.grow(size_mb)}
        found["opening"], found["opening, read"] = typical(self._open)
        found["a restart with 5,000 pending"], _ = typical(lambda: asyncio.run(self._restart()))
        found["index for explanations"], _ = once(self._index)
        found["explain a fill"], found["explain a fill, read"] = typical(self._explain, 20)
        with JournalReader(self.path) as reader:
            found["find an old id"], _ = typical(lambda: self._find(reader), 20)
            found["the newest 100"], _ = typical(lambda: reader.tail(100))
            found["verify"], _ = once(lambda: self._verify(reader))
            found["read all"], _ = once(lambda: self._read_all(reader))
        found["doctor"], _ = typical(self._doctor)
        with SqliteJournal(self.path) as journal:
            found["retire 16 commits"], _ = typical(lambda: self._retire(journal))
        return found

    def _open(self) -> None:
        SqliteJournal(self.path).close()

    async def _restart(self) -> None:
        """Start a bus whose subscription has 5,000 entries to go through, stop it, and leave it as it was."""
        settings = PersistenceConfig(path=self.path, socket=False, record="off", cursor_save_s=3600.0)
        bus = EventBus(persistence_config=settings)
        handled: list[Any] = []
        bus.subscribe("fill", handled.append, name="book")
        await bus.start()
        await bus.join()
        assert handled, "nothing was pending"
        await bus.stop()
        with SqliteJournal(self.path) as journal:
            cursors = [
                CursorState(
                    subscription="book", lane=lane, floor=journal.head - PENDING_COUNT, takes=("fill",)
                )
                for lane in ("control", "high", "normal")
            ]
            journal.write((), Changes(cursors=cursors))

    def _index(self) -> None:
        with Lineage(self.path) as lineage:
            lineage.index()

    def _explain(self) -> None:
        number = self._random.randrange(self._chains.count // 2, self._chains.count - 2)
        with Lineage(self.path) as lineage:
            assert len(lineage.explain(f"o-{number}").chain) == 7

    def _find(self, reader: JournalReader) -> None:
        number = self._random.randrange(self._chains.count // 2, self._chains.count - 2)
        assert reader.find(f"{number:020x}-3") is not None

    def _verify(self, reader: JournalReader) -> None:
        assert reader.verify().intact

    def _read_all(self, reader: JournalReader) -> None:
        after = reader.first - 1
        while page := reader.read(after, 2_048):
            after = page[-1].position

    def _retire(self, journal: SqliteJournal) -> None:
        kept_count = journal.head - journal.first + 1 - RETIRED_COUNT
        assert journal.retire(keep_count=kept_count, past_cursors=True) == RETIRED_COUNT

    def _doctor(self) -> None:
        done = CliRunner().invoke(doctor, [str(self.path)])
        assert done.exit_code == 0, done.output


def once(call: Callable[[], object]) -> tuple[float, float]:
    """Return the microseconds of the processor and the bytes read."""
    read, begun = bytes_read(), process_time()
    call()
    return (process_time() - begun) * 1e6, float(bytes_read() - read)


def typical(call: Callable[[], object], repetitions: int = _REPETITIONS) -> tuple[float, float]:
    """Return the median of what calls take and read, after one that does not count."""
    call()
    times, sizes = zip(*(once(call) for _ in range(repetitions)), strict=True)
    return median(times), median(sizes)


def bytes_read() -> int:
    """Return how many bytes this process has asked the system for."""
    found = re.search(r"rchar: (\d+)", Path("/proc/self/io").read_text())
    return int(found[1]) if found else 0


def main() -> None:
    spec = json.loads(sys.argv[1])
    logging.disable()
    journal = Growing(Path(spec["folder"]))
    for size_mb in spec["sizes_mb"]:
        print(json.dumps({"mb": size_mb, "costs": journal.costs(size_mb)}), flush=True)


if __name__ == "__main__":
    main()
