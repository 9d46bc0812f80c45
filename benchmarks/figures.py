"""Measure the figures that README and docs give, and write them there with the commit that they are of.

    python benchmarks/figures.py            # measure this commit: eight minutes
    python benchmarks/figures.py --write    # write what was measured last into the pages again
    python benchmarks/figures.py --check    # exit code 1 if a page gives anything else

What was measured stands in benchmarks/figures.json: the commit, the tree of its `src`, the machine, the versions of the
peers, and ratios alone, each the median over rounds in which both sides ran in turns (benchmarks/run.py). In a page the
figures are what stands between `<!-- figures: NAME -->` and `<!-- end of figures -->`, and nobody writes there by hand.
Lines that a peer wins are among them. `src` and `benchmarks` must be as committed.

Exit code: 1 if a page differs with --check, 2 for what cannot be measured.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
FILE = HERE / "figures.json"
PAGES = (ROOT / "README.md", ROOT / "docs" / "benchmarks.md")
MEASUREMENTS = (
    "throughput",
    "one_at_a_time",
    "latency",
    "slow_handler",
    "mixed",
    "memory",
    "durable",
    "durable_single",
)
ROUNDS = 3
_BLOCK = re.compile(r"(<!-- figures: ([\w-]+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)

FLOOR = "floor, await handler(e)"
CASES = ("1 handler", "8 handlers", "32 handlers")
PEERS = {
    "nautilus_trader, plain": "openoutcry await publish, plain",
    "vnpy, plain": "openoutcry await publish, plain",
    "pyee, plain": "openoutcry await publish, plain",
    "blinker, plain": "openoutcry await publish, plain",
    "pyee, async": "openoutcry await publish, async",
    "aiopubsub, async": "openoutcry await publish, async",
    "bubus, async": "openoutcry await publish, async",
    "queue and gather, async": "openoutcry await publish, async",
}
"""The peers, and what of ours each is compared with: plain handlers with plain ones."""
DURABLE_PEERS = {
    "eventsourcing": "disk",
    "persist_queue": "disk",
    "litequeue": "process",
    "diskcache": "process",
}
LATENCY = "openoutcry await publish, async"


class FiguresError(Exception):
    """Nothing can be measured or written; the message says why and what to do."""


# -- from what was measured -----------------------------------------------------------------------


class Results:
    """The rows of a run of run.py."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self._rows = {(row["measurement"], row["case"], row["label"]): row["rounds"] for row in rows}

    def ratio(self, measurement: str, case: str, mine: str, other: str, figure: str) -> float | None:
        """Return the median of the ratios within each round; None if either was not measured."""
        return self.across(measurement, (case, mine), (case, other), figure)

    def across(
        self, measurement: str, mine: tuple[str, str], other: tuple[str, str], figure: str
    ) -> float | None:
        """Return the same for rows of two cases, each a case and a label."""
        rounds = (self._rows.get((measurement, *key), ()) for key in (mine, other))
        pairs = [(one[figure], two[figure]) for one, two in zip(*rounds, strict=False) if two.get(figure)]
        return median(one / two for one, two in pairs) if pairs else None

    def share(self, measurement: str, case: str, label: str, figure: str, of: str) -> float | None:
        """Return the median of a figure as a share of another figure of the same row."""
        rounds = self._rows.get((measurement, case, label), ())
        shares = [one[figure] / one[of] for one in rounds if one.get(of)]
        return median(shares) if shares else None


def ratios(results: Results) -> dict[str, float]:
    """Return every figure, by a name that the pages use. What could not be measured is left out."""
    found: dict[str, float | None] = {}
    rate = "deliveries_per_s"
    for case in CASES:
        for way in ("await publish", "publish_many"):
            mine = f"openoutcry {way}, async"
            found[f"floor: {case}, {way}"] = results.ratio("throughput", case, mine, FLOOR, rate)
        for peer, mine in PEERS.items():
            found[f"{peer}: {case}"] = results.ratio("throughput", case, mine, peer, rate)
    for way in ("await publish", "publish_many"):
        case, mine = "3 types, 6 subscribers", f"openoutcry {way}, async"
        found[f"floor: mixed, {way}"] = results.ratio("mixed", case, mine, FLOOR, rate)
    for loop in ("asyncio", "uvloop"):
        for other, name in (
            ("bare two-task ping", "ping"),
            ("nautilus_trader, direct call", "nautilus_trader, plain"),
        ):
            mine = "openoutcry, handler sets a future"
            found[f"{name}: one at a time, {loop}"] = results.ratio(
                "one_at_a_time", loop, mine, other, "round_trips_per_s"
            )
    for case in ("10k/s, 1 handler", "10k/s, 8 handlers", "100k/s, 1 handler", "100k/s, 8 handlers"):
        for peer in ("floor, loop.call_soon", *PEERS):
            found[f"{peer}: p50 at {case}"] = results.ratio("latency", case, peer, LATENCY, "p50")
    found["slow handler"] = results.across(
        "slow_handler", ("one slow", "openoutcry, spill"), ("none slow", "openoutcry, spill"), rate
    )
    found["memory"] = results.share("memory", "resident set", "openoutcry", "queue_mb", "events_mb")
    for level in ("process", "disk"):
        floor = "floor, bare SQLite, a blob per batch"
        for label in ("openoutcry publish_many, 1 handler", "openoutcry await publish, 512 publishers"):
            found[f"floor: {level}, {label}"] = results.ratio("durable", level, label, floor, "events_per_s")
        one = "openoutcry await publish, 1 publisher"
        found[f"floor: {level}, one at a time"] = results.ratio(
            "durable_single", level, one, floor, "events_per_s"
        )
    for peer, level in DURABLE_PEERS.items():
        mine = "openoutcry publish_many, 1 handler"
        found[f"{peer}: durable"] = results.ratio("durable", level, mine, peer, "events_per_s")
        mine = "openoutcry await publish, 1 publisher"
        found[f"{peer}: durable, one at a time"] = results.ratio(
            "durable_single", level, mine, peer, "events_per_s"
        )
    return {name: round(value, 4) for name, value in found.items() if value is not None}


# -- into the pages -------------------------------------------------------------------------------


class Recorded(NamedTuple):
    """What benchmarks/figures.json holds."""

    commit: str
    source: str
    facts: dict[str, Any]
    ratios: dict[str, float]

    def percent(self, name: str) -> str:
        value = self.ratios.get(name)
        return "-" if value is None else f"{100 * value:.0f} %"

    def times(self, name: str) -> str:
        """Return how many times the peer's rate ours is, in bold where the peer's is the higher one."""
        value = self.ratios.get(name)
        if value is None:
            return "-"
        text = f"{value:.2g}" if value < 9.95 else f"{value:,.0f}"
        return f"**{text}**" if value < 1 else text


def load(path: Path = FILE) -> Recorded:
    """Read what was measured last."""
    held = json.loads(path.read_text(encoding="utf-8"))
    return Recorded(held["commit"], held["source"], held["facts"], held["ratios"])


def _of_commit(of: Recorded) -> str:
    machine = of.facts["machine"]
    return (
        f"Commit `{of.commit[:10]}`, {machine['implementation']} {machine['python']}, {machine['system']}, "
        f"{machine['cores']} cores, {machine['date']}.\n"
    )


def in_memory(of: Recorded) -> str:
    """Return the table of README."""

    def pair(case: str) -> str:
        return " / ".join(of.percent(f"floor: {case}, {way}") for way in ("await publish", "publish_many"))

    ping = of.percent("ping: one at a time, asyncio")
    return (
        "| what | beside it | |\n|---|---|---|\n"
        f"| deliveries to 1 handler, by `await publish` / `publish_many` | the bare loop | {pair('1 handler')} "
        f"of its rate |\n"
        f"| to 8 handlers | the bare loop | {pair('8 handlers')} |\n"
        f"| to 32 handlers | the bare loop | {pair('32 handlers')} |\n"
        f"| three types mixed over six subscribers | the bare loop | {pair('mixed')} |\n"
        f"| publish, handled, next | two bare tasks that wake each other | {ping} of their rate |\n"
        f"| one handler of eight sleeps 10 ms per event: the other seven | themselves, when none sleeps | "
        f"{of.percent('slow handler')} of their rate |\n"
        f"| events that wait | the events themselves | take {of.percent('memory')} more memory |\n"
        f"\n{_of_commit(of)}"
    )


def beside_peers(of: Recorded) -> str:
    """Return the rates of other buses."""
    lines = [
        "| deliveries, as a multiple of its rate | 1 handler | 8 handlers | 32 handlers |",
        "|---|---|---|---|",
    ]
    lines += [f"| {peer} | {' | '.join(of.times(f'{peer}: {case}') for case in CASES)} |" for peer in PEERS]
    direct = " / ".join(
        of.times(f"nautilus_trader, plain: one at a time, {loop}") for loop in ("asyncio", "uvloop")
    )
    lines.append(f"\nOne at a time, beside nautilus_trader's direct call, on asyncio / uvloop: {direct}.\n")
    return "\n".join([*lines, _of_commit(of)])


def latencies(of: Recorded) -> str:
    """Return how long others' events take, beside ours."""
    cases = [f"{rate}, {handlers}" for rate in ("10k/s", "100k/s") for handlers in CASES[:2]]
    lines = [f"| its p50, as a multiple of ours | {' | '.join(cases)} |", "|---|---|---|---|---|"]
    for peer in ("floor, loop.call_soon", *PEERS):
        found = [of.times(f"{peer}: p50 at {case}") for case in cases]
        if set(found) != {"-"}:
            lines.append(f"| {peer} | {' | '.join(found)} |")
    return "\n".join([*lines, "", _of_commit(of)])


def durable(of: Recorded) -> str:
    """Return what a journal costs, beside bare SQLite and other durable queues."""
    lines = [
        "| events stored, handled and settled, of the rate of bare SQLite | `process` | `disk` |",
        "|---|---|---|",
    ]
    for words, name in (
        ("`publish_many` of 512", "openoutcry publish_many, 1 handler"),
        ("512 publishers", "openoutcry await publish, 512 publishers"),
        ("one at a time", "one at a time"),
    ):
        shares = (of.percent(f"floor: {level}, {name}") for level in ("process", "disk"))
        lines.append(f"| {words} | {' | '.join(shares)} |")
    lines += ["", "| as a multiple of its rate, at its level | in batches | one at a time |", "|---|---|---|"]
    for peer, level in DURABLE_PEERS.items():
        both = (of.times(f"{peer}: durable{end}") for end in ("", ", one at a time"))
        lines.append(f"| {peer} (`{level}`) | {' | '.join(both)} |")
    return "\n".join([*lines, "", _of_commit(of)])


BLOCKS: dict[str, Callable[[Recorded], str]] = {
    "in-memory": in_memory,
    "peers": beside_peers,
    "latency": latencies,
    "durable": durable,
}


def rendered(text: str, of: Recorded) -> str:
    """Return a page with the figures that it asks for."""

    def fill(block: re.Match[str]) -> str:
        write = BLOCKS.get(block[2])
        if write is None:
            raise FiguresError(f"there are no figures {block[2]!r}; there are {sorted(BLOCKS)}")
        return f"{block[1]}{write(of)}{block[3]}"

    return _BLOCK.sub(fill, text)


# -- measuring ------------------------------------------------------------------------------------


def git(*arguments: str) -> str:
    """Return what git says."""
    done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise FiguresError(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def measure(rounds: int) -> dict[str, Any]:
    """Run what is needed of run.py, and return what goes into the file."""
    if changed := git("status", "--porcelain", "--", "src", "benchmarks", ":!benchmarks/figures.json"):
        raise FiguresError(f"commit these first, so that the figures are of a commit:\n{changed}")
    commit, source = git("rev-parse", "HEAD"), git("rev-parse", "HEAD:src")
    with tempfile.TemporaryDirectory(prefix="figures-") as folder:
        only = [word for name in MEASUREMENTS for word in ("--only", name)]
        command = [sys.executable, str(HERE / "run.py"), *only, "--quick", "--repeat", str(rounds)]
        if subprocess.run([*command, "--out", folder], check=False).returncode:
            raise FiguresError("benchmarks/run.py has failed")
        held = json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))
    facts = {"machine": held["machine"], "versions": held["versions"], "rounds": rounds}
    return {"commit": commit, "source": source, "facts": facts, "ratios": ratios(Results(held["results"]))}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write or check; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=f"rounds ({ROUNDS})")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true", help="measure nothing, write the pages")
    what.add_argument("--check", action="store_true", help="measure nothing, look at the pages")
    given = parser.parse_args(arguments)
    try:
        if not (given.write or given.check):
            FILE.write_text(json.dumps(measure(given.rounds), indent=1) + "\n", encoding="utf-8")
        differing = [page for page in PAGES if _differs(page, load(), writes=not given.check)]
    except FiguresError as error:
        print(error, file=sys.stderr)
        return 2
    for page in differing:
        print(f"{page.name}: {'differs from figures.json' if given.check else 'written'}")
    return 1 if given.check and differing else 0


def _differs(page: Path, of: Recorded, *, writes: bool) -> bool:
    text = page.read_text(encoding="utf-8")
    fresh = rendered(text, of)
    if writes and fresh != text:
        page.write_text(fresh, encoding="utf-8")
    return fresh != text


if __name__ == "__main__":
    sys.exit(main())
