"""Work a bus for hours under a mixed load, and see that nothing grows that should not.

python -m campaigns.soak --minutes 240
python -m campaigns.soak --minutes 1 --plant memory     with a planted leak, which must be found
"""

import argparse
import asyncio
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from campaigns.process_vitals import descriptors_count, rss_bytes, size_bytes, threads_count
from campaigns.soak_load import PLANTS, Firm

SAMPLES_LEAST: Final = 40
SAMPLE_MOST_S: Final = 5.0
WARM_UP_MOST_S: Final = 60.0
ROWS: Final = 12
"""Lines of the table that is printed, however long the soak."""
MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Sample:
    """What the process takes at a moment.

    Attributes:
        at_s: When it was taken, in seconds since the beginning.
        rss: Resident memory, in bytes.
        tasks: Tasks of the loop.
        threads: Python threads.
        descriptors: Open descriptors.
        journal: The journal's file, in bytes.
        wal: Its write-ahead log, in bytes.

    """

    at_s: float
    rss: float
    tasks: float
    threads: float
    descriptors: float
    journal: float
    wal: float


class Allowance(NamedTuple):
    """What a figure may grow by after the warm-up: so much once, and so much per hour."""

    once: float
    per_hour: float


ALLOWED: Final = {
    "rss": Allowance(4 * MIB, 1 * MIB),
    "tasks": Allowance(3, 0),
    "threads": Allowance(2, 0),
    "descriptors": Allowance(2, 0),
    "journal": Allowance(1 * MIB, 0),
    "wal": Allowance(4 * MIB, 0),
}


def sample(at_s: float, path: Path) -> Sample:
    """Look at this process and its journal."""
    return Sample(
        at_s,
        rss_bytes(),
        len(asyncio.all_tasks()),
        threads_count(),
        descriptors_count(),
        size_bytes(path),
        size_bytes(path.with_name(path.name + "-wal")),
    )


def growth(samples: Sequence[Sample], figure: str) -> float:
    """Return by how much a figure has grown, from the median of the first quarter to that of the last."""
    values: list[float] = [getattr(each, figure) for each in samples]
    quarter = max(1, len(values) // 4)
    return median(values[-quarter:]) - median(values[:quarter])


def grown(samples: Sequence[Sample], warm_up_s: float) -> Iterator[str]:
    """Say which figures have grown by more than is allowed since the warm-up."""
    settled = [each for each in samples if each.at_s >= warm_up_s]
    hours = (settled[-1].at_s - settled[0].at_s) / 3600
    for figure, allowed in ALLOWED.items():
        by = growth(settled, figure)
        most = allowed.once + allowed.per_hour * hours
        if by > most:
            yield f"{figure} has grown by {by:,.0f} since the warm-up; {most:,.0f} is allowed"


async def soak(seconds: float, path: Path, plant: str = "") -> tuple[list[Sample], Firm]:
    """Work a firm for so long, and return what was seen meanwhile, and the firm as it is in the end."""
    loop = asyncio.get_running_loop()
    firm = Firm(path, lives_s=max(2.0, min(60.0, seconds / 6)), plant=plant)
    pause_s = min(SAMPLE_MOST_S, seconds / SAMPLES_LEAST)
    samples: list[Sample] = []
    began = loop.time()
    work = asyncio.create_task(firm.work(seconds))
    while not work.done():
        await asyncio.wait([work], timeout=pause_s)
        if firm.bus.is_running:  # between two lives there is less of everything
            samples.append(sample(loop.time() - began, path))
    await work
    return samples, firm


def warm_up_s(seconds: float) -> float:
    """Return how long what is bounded may take to fill."""
    return min(WARM_UP_MOST_S, seconds / 2)


def table(samples: Sequence[Sample], warm_s: float) -> str:
    """Return some of the samples, and by how much the figures have grown, for a person."""
    heads = ["at s", "rss MiB", "tasks", "threads", "descriptors", "journal MiB", "wal MiB"]
    scales = [1.0, MIB, 1.0, 1.0, 1.0, MIB, MIB]
    step = max(1, len(samples) // ROWS)
    lines = ["".join(f"{head:>13}" for head in heads)]
    for each in [*samples[::step], samples[-1]]:
        pairs = zip(astuple(each), scales, strict=True)
        lines.append("".join(f"{value / scale:>13.{int(scale > 1)}f}" for value, scale in pairs))
    settled = [each for each in samples if each.at_s >= warm_s]
    last = [f"{'since warm-up':>13}"]
    for field, scale in zip(fields(Sample)[1:], scales[1:], strict=True):
        last.append(f"{growth(settled, field.name) / scale:>+13.{2 * int(scale > 1)}f}")
    return "\n".join([*lines, "".join(last)])


def main(arguments: list[str] | None = None) -> int:
    """Run the soak that the command line asks for; return 1 when something has grown or was lost."""
    parser = argparse.ArgumentParser(
        "python -m campaigns.soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default 10)")
    parser.add_argument("--folder", type=Path, help="where the journal is made (default: the system's)")
    parser.add_argument("--plant", choices=PLANTS, default="", help="plant a leak, which should be found")
    asked = parser.parse_args(arguments)
    logging.getLogger("openoutcry").setLevel(logging.CRITICAL)  # its handlers fail on purpose
    load, seconds = os.getloadavg()[0], asked.minutes * 60
    with tempfile.TemporaryDirectory(prefix="soak-", dir=asked.folder) as folder:
        samples, firm = asyncio.run(soak(seconds, Path(folder) / "soak.db", asked.plant))
    warm_s = warm_up_s(seconds)
    sys.stdout.write(f"{table(samples, warm_s)}\n{firm.told()}\n")
    sys.stdout.write(f"load of the machine: {load:.1f} before, {os.getloadavg()[0]:.1f} after\n")
    problems = [*firm.wrong, *grown(samples, warm_s)]
    for problem in problems:
        sys.stdout.write(f"FAILED: {problem}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
