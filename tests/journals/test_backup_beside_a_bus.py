"""Ten backups of a journal to which a bus writes as fast as it can, with two readers attached: each is right."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from openoutcry.events import decode
from openoutcry.journals import JournalReader, SqliteJournal, backup, restore

BACKUPS = 10
BUS = """
    import asyncio, sys
    from openoutcry import EventBus, PersistenceConfig
    from openoutcry.trading import SignalEvent

    async def main(path):
        bus = EventBus(persistence_config=PersistenceConfig(path=path, record="off"))
        bus.subscribe("signal", lambda event: None, name="desk")
        await bus.start()
        number = 0
        while True:
            number += 1
            event = SignalEvent(event_id=f"s{number}", symbol="AAPL", direction="long", strategy_name="desk", confidence=1.0)
            assert await bus.publish(event)
            if number % 50 == 0:
                print(number, flush=True)

    asyncio.run(main(sys.argv[1]))
"""
READER = """
    import sys
    from openoutcry.journals import JournalReader
    with JournalReader(sys.argv[1]) as reader:
        while True:
            reader.tail(100)
            print("read", flush=True)
            sys.stdin.readline()
"""


@contextmanager
def running(script: str, path: Path) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line_of(process: "subprocess.Popen[str]") -> str:
    line = process.stdout.readline()
    assert line, "it has ended by itself"
    return line


def ids(path: Path) -> list[str]:
    with JournalReader(path) as reader:
        assert reader.verify().intact
        return [decode(one.payload).event_id for one in reader.read(0, 10_000_000)]


def test_each_of_ten_backups_beside_a_bus_and_two_readers_is_a_prefix_of_what_was_accepted(
    tmp_path: Path,
) -> None:
    firm = tmp_path / "firm.db"
    accepted = [0]

    def listen() -> None:
        for line in bus.stdout:
            accepted[0] = int(line)

    with running(BUS, firm) as bus:
        accepted[0] = int(line_of(bus))
        listener = Thread(target=listen, daemon=True)
        listener.start()
        with running(READER, firm) as one, running(READER, firm) as another:
            heads = []
            for number in range(BACKUPS):
                assert line_of(one) == line_of(another) == "read\n"
                at_least = accepted[0]
                made = backup(firm, tmp_path / f"{number}.db")
                assert made.anchor.position >= at_least
                heads.append(made.anchor.position)
                for reader in (one, another):
                    reader.stdin.write("\n")
                    reader.stdin.flush()
            assert bus.poll() is None
            bus.kill()
            listener.join()
            assert line_of(one) == line_of(another) == "read\n"
            for number, head in enumerate(heads):  # the readers have the first of these files open
                copy = tmp_path / f"{number}.db"
                assert ids(copy) == [f"s{n}" for n in range(1, head + 1)]
                restore(copy, firm)
                with SqliteJournal(firm) as journal:
                    assert journal.head == head
    assert heads == sorted(heads)
    assert accepted[0] <= len(ids(tmp_path / "firm.db.replaced-1")), "what was accepted is kept"
