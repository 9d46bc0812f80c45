"""Benchmark openoutcry beside the bare floor and the buses that people use today: `python benchmarks/run.py`.

With --durable: with a journal, beside bare SQLite and the durable queues that people embed. Prints a table, and writes results.json and report.html (a self-contained chart) to benchmarks/results/.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from suite import catalogue, chart, durable, durable_targets, environment, schedule, table, targets
from suite.cells import Cell
from suite.measurements import MEASUREMENTS
from suite.schedule import Row
from suite.verdict import Verdict

_REPEAT, _REPEAT_QUICK = 3, 1


class _Set(NamedTuple):
    cells: Callable[..., list[Cell]]
    verdicts: Callable[[Sequence[Row]], list[Verdict]]


_IN_MEMORY = _Set(catalogue.cells, targets.verdicts)
_DURABLE = _Set(durable.cells, durable_targets.verdicts)


def main() -> None:
    arguments = _parse()
    facts: dict[str, Any] = {"machine": environment.machine_facts()}
    python, versions = environment.prepare(peers=arguments.peers)
    repeat = arguments.repeat or (_REPEAT_QUICK if arguments.quick else _REPEAT)
    facts |= {"openoutcry": environment.version_of_openoutcry(), "versions": versions, "repeat": repeat}
    chosen = _choose(arguments, versions)
    rows = schedule.run(chosen, python, repeat, _progress(len(chosen) * repeat))
    verdicts = [
        verdict
        for one_set in _sets(arguments)
        for verdict in one_set.verdicts(rows)
        if arguments.only is None or verdict.measured is not None
    ]
    print("\r" + " " * 100 + "\r" + table.write(rows, verdicts, facts))
    _save(arguments.out, rows, verdicts, facts)


def _parse() -> argparse.Namespace:
    names = [measurement.name for measurement in MEASUREMENTS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="shorter windows, one repetition: under two minutes"
    )
    parser.add_argument(
        "--durable",
        action="store_true",
        help="what a journal does: four to six minutes, with --quick one and a half",
    )
    parser.add_argument(
        "--only", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}"
    )
    parser.add_argument(
        "--peers", action=argparse.BooleanOptionalAction, default=True, help="measure the peers too"
    )
    parser.add_argument(
        "--out", type=Path, default=environment.HERE / "results", metavar="DIR", help="where files go"
    )
    parser.add_argument(
        "--repeat", type=int, metavar="N", help="fresh processes per figure (3; with --quick 1)"
    )
    arguments = parser.parse_args()
    if arguments.repeat is not None and arguments.repeat < 1:
        parser.error(f"--repeat is {arguments.repeat}; it must be at least 1")
    return arguments


def _choose(arguments: argparse.Namespace, versions: dict[str, str]) -> list[Cell]:
    def is_wanted(cell: Cell) -> bool:
        if arguments.only and cell.measurement not in arguments.only:
            return False
        if cell.package is None:
            return True
        return cell.package in versions and (arguments.peers or cell.package == "uvloop")

    found = [cell for one_set in _sets(arguments) for cell in one_set.cells(quick=arguments.quick)]
    return [cell for cell in found if is_wanted(cell)]


def _sets(arguments: argparse.Namespace) -> list[_Set]:
    if arguments.only:
        return [_IN_MEMORY, _DURABLE]
    return [_DURABLE if arguments.durable else _IN_MEMORY]


def _progress(total: int) -> schedule.Progress:
    done = 0

    def show(cell: Cell, round_number: int, row: Row) -> None:
        nonlocal done
        done += 1
        line = f"{done}/{total} {cell.measurement}: {cell.case}: {cell.label}, round {round_number + 1}"
        print(f"\r{line[:99]:<100}", end="", flush=True)
        if row.error:
            print(f"\r{cell.measurement}: {cell.case}: {cell.label}: {row.error}")

    return show


def _save(out: Path, rows: Sequence[Row], verdicts: Sequence[Verdict], facts: dict[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    record = {
        **facts,
        "results": [
            {
                "measurement": row.cell.measurement,
                "case": row.cell.case,
                "label": row.cell.label,
                "loop": row.cell.loop,
                "carries": row.carries,
                "error": row.error,
                "rounds": row.rounds,
            }
            for row in rows
        ],
        "targets": [
            {
                "workload": verdict.workload,
                "aim": verdict.aim,
                "target": verdict.target,
                "measured": verdict.measured,
                "unit": verdict.unit,
                "at_least": verdict.is_at_least,
                "met": verdict.is_met,
            }
            for verdict in verdicts
        ],
    }
    (out / "results.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (out / "report.html").write_text(chart.page(rows, verdicts, facts), encoding="utf-8")
    (out / "throughput.svg").write_text(chart.throughput(rows), encoding="utf-8")
    print(f"\nwritten: results.json, report.html, throughput.svg in {out.name}/")


if __name__ == "__main__":
    main()
