"""A firm on two desks over NATS, beside the bare client, in one run: `python benchmarks/link.py`.

    python benchmarks/link.py [--repeat 5] [--events 200000] [--only NAME]

Every desk, and the bare client in its place, is a process of its own (`link_desk.py`); the servers are real and on
this host, and everything shares its cores. Events have 300 bytes. In each round a line is measured once for the
bare client and once for the desks, and the ratio is taken within the round. The exit status is 1 if an aim is
missed at the median. Needs the extras [nats] and [nats-server].

    end to end          published on one desk until handled on the other, both with journals; bare: a message for
                        each event, 512 of them unanswered, pulled and acknowledged in batches of 512, and decoded
    export              a filled journal until the server has it; bare: groups that were made before
    import              a filled log until all is committed and handled; bare: pulled and decoded
    to remote R1, R3    500 events a second, from when one is due until it is handled on the other desk; bare, for
                        the p50: until the server has acknowledged it, for the p99: until another process has it
    kill switch         from the publish call to the handler on the other desk, under 18,000 ticks a second
    idle link           deliveries a second of a desk with a link that exports nothing; bare: without the link
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from openoutcry.links.nats.servers import Servers

DESK = Path(__file__).with_name("link_desk.py")
RATE, TRICKLE_S, WARM_S, TICKS, KILLS = 500, 5, 1, 18_000, 60
LONG_S = 60
NOWHERE = ("nats://127.0.0.1:9",)


class Failed(RuntimeError):
    """A process has ended before it has said what it was to say."""


class Process:
    """One desk, or the bare client."""

    def __init__(self, role: str, **given: Any) -> None:
        self._role = role
        self._process = subprocess.Popen(
            [sys.executable, str(DESK), role, json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def go(self) -> None:
        print("go", file=self._process.stdin, flush=True)

    def hear(self, at: str) -> dict[str, Any]:
        """Return what it says at a point; it has `LONG_S` for that."""
        bound = threading.Timer(LONG_S, self._process.kill)
        bound.start()
        try:
            for line in self._process.stdout:
                found = json.loads(line)
                if found["at"] == at:
                    return found
        finally:
            bound.cancel()
        raise Failed(f"{self._role} has ended before it was {at}")

    def end(self) -> None:
        self._process.stdin.close()
        self._process.wait(30)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Place:
    """Where a line is measured: a server or several, all new, and a folder for the journals."""

    def __init__(self, folder: Path, servers: Servers | None) -> None:
        self.folder = folder
        self.servers = servers
        self._processes: list[Process] = []

    def start(self, role: str, desk: str = "", **given: Any) -> Process:
        servers = given.pop("servers", None) or (self.servers.urls if self.servers else ())
        journal = given.pop("journal", self.folder / f"{desk or role}.db")
        process = Process(role, desk=desk, journal=str(journal), servers=servers, **given)
        self._processes.append(process)
        return process

    def end(self) -> None:
        for process in self._processes:
            process.kill()


@contextmanager
def place(nodes: int = 1) -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as folder:
        if nodes:
            with Servers(Path(folder) / "nats", nodes) as servers:
                found = Place(Path(folder), servers)
                try:
                    yield found
                finally:
                    found.end()
        else:
            found = Place(Path(folder), None)
            try:
                yield found
            finally:
                found.end()


class Line(NamedTuple):
    """A line of the table.

    Attributes:
        name: What is measured.
        unit: Of its figures.
        aim: What its ratio is to reach, or its figure.
        is_least: Whether more than the aim is better.
        is_ratio: Whether the aim is for the ratio, and not for the figure itself.

    """

    name: str
    unit: str
    aim: float
    is_least: bool = True
    is_ratio: bool = True


class Found(NamedTuple):
    """What a round has found for a line."""

    line: str
    link: float
    bare: float | None = None


LINES = (
    Line("end to end", "events/s", 1.0),
    Line("export", "events/s", 0.5),
    Line("import", "events/s", 0.3),
    Line("to remote R1, p50", "ms", 4.0, is_least=False),
    Line("to remote R1, p99", "ms", 10.0, is_least=False, is_ratio=False),
    Line("to remote R3, p50", "ms", 4.0, is_least=False),
    Line("to remote R3, p99", "ms", 10.0, is_least=False, is_ratio=False),
    Line("kill switch, p99", "ms", 10.0, is_least=False, is_ratio=False),
    Line("idle link", "events/s", 0.98),
)


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def end_to_end(count: int, _journal: Path) -> list[Found]:
    rates = {}
    for sender, taker in (("bare_send", "bare_take"), ("send", "take")):
        with place() as here:
            source = here.start(sender, "floor", count=count)
            source.hear("ready")
            sink = here.start(taker, "street", count=count)
            sink.hear("ready")
            source.go()
            began_ns = source.hear("began")["at_ns"]
            rates[sender] = count / (sink.hear("done")["at_ns"] - began_ns) * 1e9
    return [Found("end to end", rates["send"], rates["bare_send"])]


def export_and_import(count: int, journal: Path) -> list[Found]:
    with place() as here:
        bare = here.start("bare_export", journal=journal).hear("done")
    assert bare["events"] >= count
    with place() as here:
        shutil.copy(journal, here.folder / "floor.db")
        floor = here.start("export", "floor", count=count)
        exported = count / floor.hear("done")["took_ns"] * 1e9
        floor.end()
        street = here.start("take", "street", count=count)
        began_ns = street.hear("ready")["at_ns"]
        imported = count / (street.hear("done")["at_ns"] - began_ns) * 1e9
    return [
        Found("export", exported, bare["events"] / bare["export_ns"] * 1e9),
        Found("import", imported, bare["events"] / bare["import_ns"] * 1e9),
    ]


def to_remote(nodes: int) -> list[Found]:
    given = {"rate": RATE, "count": RATE * TRICKLE_S}
    late: dict[str, list[float]] = {}
    for source, sink in (("bare_trickle", "bare_listen"), ("trickle", "take")):
        with place(nodes) as here:
            floor, street = here.start(source, "floor", **given), here.start(sink, "street", **given)
            floor.hear("ready")
            street.hear("ready")
            floor.go()
            if source == "bare_trickle":
                late[source] = floor.hear("done")["late_ms"]
            late[sink] = street.hear("done")["late_ms"]
    late = {who: figures[RATE * WARM_S :] for who, figures in late.items()}
    return [
        Found(f"to remote R{nodes}, p50", quantile(late["take"], 0.5), quantile(late["bare_trickle"], 0.5)),
        Found(f"to remote R{nodes}, p99", quantile(late["take"], 0.99), quantile(late["bare_listen"], 0.99)),
    ]


def kill_switch(_count: int, _journal: Path) -> list[Found]:
    with place() as here:
        floor = here.start("throw", "floor", count=KILLS, ticks=TICKS)
        street = here.start("hear", "street", count=KILLS)
        floor.hear("ready")
        street.hear("ready")
        floor.go()
        return [Found("kill switch, p99", quantile(street.hear("done")["late_ms"], 0.99))]


def idle_link(count: int, _journal: Path) -> list[Found]:
    rates = {}
    for has_link in (False, True):
        with place(nodes=int(has_link)) as here:
            process = here.start("deliver", "floor", count=count)
            process.hear("ready")
            process.go()
            rates[has_link] = count / process.hear("done")["took_ns"] * 1e9
    return [Found("idle link", rates[True], rates[False])]


MEASURES: dict[str, Callable[[int, Path], list[Found]]] = {
    "end": end_to_end,
    "journal": export_and_import,
    "r1": lambda _count, _journal: to_remote(1),
    "r3": lambda _count, _journal: to_remote(3),
    "kill": kill_switch,
    "idle": idle_link,
}


def row_of(line: Line, found: list[Found]) -> tuple[bool, tuple[str, ...]]:
    """Return whether a line's aim is reached at the median, and its row."""
    link = statistics.median(one.link for one in found)
    bare = None if found[0].bare is None else statistics.median(one.bare or 0 for one in found)
    ratios = [one.link / one.bare if one.bare else one.link for one in found]
    digits = 0 if line.unit == "events/s" else 2
    middle = statistics.median(ratios)
    spread = f"{middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    aim = f"{'>=' if line.is_least else '<='} {line.aim:g}{'' if line.is_ratio else f' {line.unit}'}"
    reached = middle if line.is_ratio else link
    is_met = reached >= line.aim if line.is_least else reached <= line.aim
    if not is_met:
        is_beyond = not line.is_ratio and bare is not None and bare > line.aim
        aim += "  MISSED" + (", as by the bare client" if is_beyond else "")
    shown = "" if bare is None else f"{bare:,.{digits}f}"
    return is_met, (line.name, shown, f"{link:,.{digits}f}", line.unit, spread, aim)


def table(rounds: dict[str, list[Found]]) -> tuple[str, bool]:
    """Return the table, and whether every aim is reached at the median."""
    rows, is_reached = [("", "bare", "link", "unit", "ratio", "aim")], True
    for line in LINES:
        found = rounds.get(line.name, [])
        if not found:
            continue
        is_met, row = row_of(line, found)
        is_reached = is_reached and is_met
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = (
        "  ".join(
            cell.rjust(width) if column in (1, 2) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
    return "\n".join(lines), is_reached


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="rounds (5)")
    parser.add_argument("--events", type=int, default=200_000, metavar="N", help="of each measure (200,000)")
    parser.add_argument("--only", action="append", choices=MEASURES, metavar="NAME", help=", ".join(MEASURES))
    asked = parser.parse_args()
    if asked.repeat < 1 or asked.events < 1_000:
        parser.error("give 1 round at least, and 1,000 events")
    rounds: dict[str, list[Found]] = {}
    chosen = asked.only or list(MEASURES)
    with place(nodes=0) as here:
        journal = here.folder / "filled.db"
        if "journal" in chosen:
            here.start("fill", "floor", count=asked.events, journal=journal, servers=NOWHERE).hear("done")
        for number in range(asked.repeat):
            for name in chosen:
                print(
                    f"\rround {number + 1} of {asked.repeat}: {name:<20}", end="", file=sys.stderr, flush=True
                )
                for found in MEASURES[name](asked.events, journal):
                    rounds.setdefault(found.line, []).append(found)
    print("\r" + " " * 60, end="\r", file=sys.stderr)
    shown, is_reached = table(rounds)
    print(shown)
    return int(not is_reached)


if __name__ == "__main__":
    sys.exit(main())
