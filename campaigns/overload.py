"""Offer a bus a hundred times what it can handle, within a memory limit, and see that it accounts for it all.

python -m campaigns.overload --seconds 60
python -m campaigns.overload --seconds 60 --times 300 --folder /var/tmp     the same, worse, on that disk
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from campaigns.overload_child import Terms

TARGETS_MS: Final = {"loop": 1.0, "thread": 10.0}
"""What the p99 of a kill switch should stay under."""
OFFERED_LEAST: Final = 0.95
"""Less than this share of what was to be offered means that the machine could not do it."""
ROOT: Final = Path(__file__).resolve().parent.parent
DURABLE: Final = ("order", "fill", "kill_switch")


def run(
    seconds: float, times: float = 100.0, room: int = 1_000, folder: Path | None = None
) -> dict[str, Any]:
    """Run it in a fresh process, and return what that one has counted.

    Raises:
        RuntimeError: The process ended without a result, as it does when its memory is used up.

    """
    with tempfile.TemporaryDirectory(prefix="overload-", dir=folder) as made:
        terms = json.dumps(Terms(seconds, times, room, made))
        command = [sys.executable, "-m", "campaigns.overload_child", terms]
        child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    if child.returncode:
        raise RuntimeError(f"the bus's process ended with {child.returncode}:\n{child.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return found


def broken(found: dict[str, Any]) -> Iterator[str]:
    """Say what was promised and did not come true."""
    yield from _memory(found)
    yield from _answers(found)
    yield from _settled(found)


def shortfall(found: dict[str, Any], times: float) -> Iterator[str]:
    """Say where the machine could not offer what was asked for, so that the run proves less."""
    asked = times * found["sustainable_per_s"]
    if found["offered_per_s"] < OFFERED_LEAST * asked:
        yield f"{found['offered_per_s']:,.0f}/s were offered, where {asked:,.0f}/s were to be"


def _memory(found: dict[str, Any]) -> Iterator[str]:
    grown = found["peak_bytes"] - found["before_bytes"]
    if grown > found["bound_bytes"]:
        yield f"memory grew by {grown:,} bytes; by the settings it may by {found['bound_bytes']:,}"


def _answers(found: dict[str, Any]) -> Iterator[str]:
    accepted, refused, counted = sum(found["accepted"].values()), found["refused"], found["counted"]
    if found["raised"]:
        yield f"publishing raised {found['raised']}"
    if accepted + refused != found["attempts"]:
        yield f"{found['attempts']} attempts, {accepted} accepted, {refused} refused: some had no answer"
    if sum(counted["refused"].values()) != refused:
        yield f"{refused} were told that they were refused; counted are {counted['refused']}"
    if counted["published"] != accepted:
        yield f"{accepted} were told that they were accepted; counted are {counted['published']}"


def _settled(found: dict[str, Any]) -> Iterator[str]:
    accepted, ledger = found["accepted"], found["ledger"]
    if not ledger["balances"]:
        yield f"the ledger does not balance: {ledger['rows']}"
    let_go = 0
    for row in ledger["rows"]:
        may_let_go = (row["subscription"], row["lane"]) == ("model", "normal")
        let_go += row["overflowed"] if may_let_go else 0
        due = row["accepted"] - (row["overflowed"] if may_let_go else 0)
        if row["waiting"] or row["in_flight"] or row["handled"] != due:
            yield f"not everything accepted was handled: {row}"
    mix = {kind: count for kind, count in accepted.items() if kind != "kill_switch"}
    newest = mix | {"market_data": mix["market_data"] - let_go}
    due = {"desk": mix, "audit": mix, "model": newest, "control": {"kill_switch": accepted["kill_switch"]}}
    if found["counted"]["overflowed"] != let_go:
        yield f"the ledger says that {let_go} were let go, the metrics {found['counted']['overflowed']}"
    if found["handled"] != due:
        yield f"handled were {found['handled']}, accepted {accepted}"
    durable = sum(accepted[kind] for kind in DURABLE)
    if not found["kept"] == found["head"] == durable:
        yield f"{durable} durable events were accepted; the journal has {found['kept']}"
    for cursor in found["cursors"]:
        if cursor["waiting"] or cursor["floor"] != found["head"]:
            yield f"a cursor is not at the head, {found['head']}: {cursor}"


def table(found: dict[str, Any], load: tuple[float, float, float]) -> str:
    """Return the figures for a person."""
    times = found["offered_per_s"] / found["sustainable_per_s"]
    grown = found["peak_bytes"] - found["before_bytes"]
    rows = [
        ("sustainable", f"{found['sustainable_per_s']:,.0f} events/s"),
        ("offered", f"{found['offered_per_s']:,.0f} events/s, {times:.1f} times as many"),
        ("attempts", f"{found['attempts']:,}"),
        ("accepted", f"{sum(found['accepted'].values()):,}  {found['accepted']}"),
        ("refused", f"{found['refused']:,}  {found['counted']['refused']}"),
        ("memory grew by", f"{grown / 2**20:.1f} MiB; bound {found['bound_bytes'] / 2**20:.1f} MiB"),
        ("settled after", f"{found['settle_s']:.1f} s; journal's head {found['head']:,}, as all cursors"),
    ]
    rows += [(f"kill switch, {source}", _kill(source, kill)) for source, kill in found["kills"].items()]
    busy = f"{load[0]:.1f} before, {os.getloadavg()[0]:.1f} after; the loop waited for a CPU"
    rows.append(("load of the machine", f"{busy} {found['waited_share']:.1%} of the time"))
    return "\n".join(f"{name:<22}{value}" for name, value in rows)


def _kill(source: str, kill: dict[str, Any]) -> str:
    return (
        f"p50 {kill['p50_ms']:.3f} ms, p99 {kill['p99_ms']:.3f} ms (target {TARGETS_MS[source]:.0f} ms), "
        f"max {kill['max_ms']:.3f} ms, of {kill['count']:,}"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign that the command line asks for; return 1 when it has found something."""
    parser = argparse.ArgumentParser(
        "python -m campaigns.overload", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default 60)")
    parser.add_argument("--times", type=float, default=100.0, help="times the sustainable rate (default 100)")
    parser.add_argument("--room", type=int, default=1_000, help="the bus's max_queue_size (default 1000)")
    parser.add_argument("--folder", type=Path, help="where the journal is made (default: the system's)")
    asked = parser.parse_args(arguments)
    load = os.getloadavg()
    found = run(asked.seconds, asked.times, asked.room, asked.folder)
    sys.stdout.write(table(found, load) + "\n")
    problems = [*broken(found), *shortfall(found, asked.times)]
    for problem in problems:
        sys.stdout.write(f"FAILED: {problem}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
