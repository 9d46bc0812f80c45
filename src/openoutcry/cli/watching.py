"""`openoutcry status`: the state of a running bus, over its control socket; and how `top` draws its table."""

import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from openoutcry.cli.console import facts, print_lines, say, table
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import plainly, reading
from openoutcry.cli.journal.pending import show_waiting
from openoutcry.cli.mistakes import FAILED, Mistake
from openoutcry.journals.pending import count_waiting
from openoutcry.journals.refusals import must_exist, real_path
from openoutcry.journals.scanning import letters_of
from openoutcry.journals.showing import json_line
from openoutcry.printable import printable
from openoutcry.runtime.control.client import Answer, ask

NO_BUS: Final = 3
ASK_S: Final = 5.0
_HEADS: Final = (
    "subscription",
    "state",
    "lag",
    "in/s",
    "out/s",
    "wait p50",
    "wait p99",
    "call p50",
    "call p99",
    "errors",
    "retries",
    "dead",
)
_LEFT_OUT: Final = ("retries", "wait p50", "call p50")
"""The columns that a narrow terminal does without, in this order."""
_NAME_LEAST: Final = 16
"""To so many characters a name is shortened at most."""
_CUT: Final = "..."
NAMES_SHOWN: Final = 3
"""How many names are shown of those that have dead letters."""
_WORDS: Final = 2
"""How many of the columns are words, aligned to the left."""


@click.command()
@options.journal
@options.as_json
@options.key_file
def status(path: Path, as_json: bool, key_file: Path | None) -> None:
    """Show the state of the bus that writes to a journal: health, and lag, rates, errors per subscription.

    Exits with 0 if it is healthy, 1 if it is not, 3 if no bus runs.
    """
    found = _ask(path)
    if found is None:
        _say_no_bus(path, key_file, as_json=as_json)
        raise click.exceptions.Exit(NO_BUS)
    if as_json:
        print_lines([json_line(found)])
    else:
        _show(path, found)
    raise click.exceptions.Exit(0 if found["health"]["status"] == "healthy" else FAILED)


# -- asking -----------------------------------------------------------------------------------------


def _ask(path: Path) -> dict[str, Any] | None:
    """Return the status of the bus, or None if none listens. Raises `Mistake` if it does not answer."""
    with plainly(path):
        answer: Answer | None = ask(path, "status", timeout_s=ASK_S)
    if answer is None:
        return None
    if not answer.ok:
        raise Mistake(answer.error)
    found: dict[str, Any] = answer.result
    return found


def _check_there(path: Path) -> None:
    must_exist(real_path(path))


def _say_no_bus(path: Path, key_file: Path | None, *, as_json: bool) -> None:
    """Print what the journal alone says."""
    _check_there(path)
    with reading(path, key_file) as reader:
        waiting = count_waiting(reader, lambda _at: None)
        letters, halts = Counter(letter.subscription for letter in letters_of(reader)), reader.halts()
        first, head = reader.first, reader.head
    if as_json:
        said = {"state": "no bus", "first": first, "head": head, "dead_letters": letters.total()}
        said["halts"] = [halt.to_dict() for halt in halts]
        print_lines([json_line({**said, "subscriptions": waiting})])
        return
    facts(
        str(path),
        [
            ("bus", "none listens here"),
            ("events", f"positions {first:,} to {head:,}"),
            ("dead letters", by_name(letters)),
            ("halted", ", ".join(dict.fromkeys(halt.scope for halt in halts)) or "nothing"),
        ],
    )
    if waiting:
        say()
        show_waiting(waiting)


# -- showing ----------------------------------------------------------------------------------------


def _show(path: Path, found: dict[str, Any]) -> None:
    facts(str(path), _facts(found))
    wrong = found["health"]["findings"]
    if wrong:
        say()
        rows = [
            (
                f["level"],
                f["check"],
                f["culprit"],
                f["detail"],
                ", ".join(f["tried"]),
            )
            for f in wrong
        ]
        table(("level", "check", "culprit", "what is wrong", "tried"), rows)
    subscriptions = _rows(found)
    if subscriptions:
        say()
        print_lines(grid(subscriptions, terminal_width()))


def _facts(found: dict[str, Any]) -> list[tuple[str, str]]:
    pressure, journal = found["backpressure"], found["journal"] or {}
    room = f"{pressure['queue_size']:,} of {pressure['capacity']:,} ({pressure['level']})"
    rows = [
        ("bus", found["state"]),
        ("health", f"{found['health']['status']}: {found['health']['message']}"),
        ("queue", f"{room}, {sum(pressure['refused'].values()):,} refused"),
        ("published", f"{pressure['published']:,}"),
        ("dead letters", _letters(found["letters"])),
    ]
    halts = found.get("halts") or {"count": 0, "active": []}
    if halts["count"]:
        scopes = ", ".join(dict.fromkeys(halt["scope"] for halt in halts["active"]))
        rows.append(("halted", f"{scopes}: {halts['count']:,} kill switches active (`openoutcry halts`)"))
    if journal:
        state = f"dead: {journal['dead']}" if journal.get("dead") else f"head {journal['head']:,}"
        rows.append(("journal", f"{state}, {journal['waiting']:,} wait for their commit"))
    dog = found.get("watchdog")
    if dog is not None:
        episodes = dog["episodes"]
        last = f", the last by {episodes[-1]['handler']}" if episodes else ""
        rows.append(("loop", f"blocked {len(episodes):,} times recently{last}"))
    lane = found["health"]["details"].get("kill_lane")
    if lane is not None:
        ago = lane["proven_s_ago"]
        rows.append(("kill lane", "never proven" if ago is None else f"proven {ago:.0f} s ago"))
    return rows


def by_name(counts: Mapping[str, int]) -> str:
    """Return how many dead letters there are, and of which names most of them are."""
    if not counts:
        return "none"
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{name} {count:,}" for name, count in most[:NAMES_SHOWN])
    return f"{sum(counts.values()):,}: {named}{', ...' if len(most) > NAMES_SHOWN else ''}"


def _letters(letters: dict[str, Any] | None) -> str:
    """Return what a bus says of its dead letters, in words."""
    if letters is None:
        return "they cannot be read"
    said = by_name(
        {
            f"{name}{'' if its['subscribed'] else ' (not subscribed)'}": its["count"]
            for name, its in letters["by_name"].items()
        }
    )
    if letters["redriving"]:
        said += f"; {letters['redriving']:,} are being redriven"
    if letters["let_go"]:
        said += f"; {sum(letters['let_go'].values()):,} were let go"
    return said


def _rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return a row per subscription, those with the largest lag and rate first."""
    records = sorted(
        found["handlers"]["handlers"],
        key=lambda r: (-r["lag"], -(r["recent"]["handled_per_s"] or 0), r["name"]),
    )
    return [
        (
            printable(r["name"]),
            r["state"],
            f"{r['lag']:,}",
            rate(r["recent"]["accepted_per_s"]),
            rate(r["recent"]["handled_per_s"]),
            span(r["recent"]["p50_us"]),
            span(r["recent"]["p99_us"]),
            span(r["recent"]["call_p50_us"]),
            span(r["recent"]["call_p99_us"]),
            f"{r['errors']:,}",
            f"{r['retries']:,}",
            f"{r['dead_letters']:,}",
        )
        for r in records
    ]


def rate(per_s: float) -> str:
    """Return a rate in words."""
    return f"{per_s:,.0f}" if per_s >= 10 else f"{per_s:.1f}"


def span(us: float | None) -> str:
    """Return a time in words; None is a dash."""
    if us is None:
        return "-"
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if us >= size:
            return f"{us / size:.3g} {unit}"
    return f"{us:.3g} us"


def grid(rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """Return the rows under their heads, aligned: words to the left, figures to the right.

    If they are wider than the terminal, some columns are left out, and long names lose their middle.
    """
    lines = [tuple(row) for row in (_HEADS, *rows)]
    if width is not None:
        lines = _fitted(lines, width)
    widths = _widths(lines)
    return [
        "  ".join(
            f"{cell:<{width}}" if i < _WORDS else f"{cell:>{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in lines
    ]


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*lines, strict=True)]


def _fitted(lines: list[tuple[str, ...]], width: int) -> list[tuple[str, ...]]:
    names = _widths(lines)[0]
    for head in _LEFT_OUT:
        if min(names, _NAME_LEAST) + _beside_names(lines) <= width:
            break
        at = lines[0].index(head)
        lines = [(*row[:at], *row[at + 1 :]) for row in lines]
    most = max(_NAME_LEAST, width - _beside_names(lines))
    return [(_shortened(row[0], most), *row[1:]) for row in lines]


def _beside_names(lines: Sequence[Sequence[str]]) -> int:
    return sum(2 + width for width in _widths(lines)[1:])


def _shortened(name: str, most: int) -> str:
    if len(name) <= most:
        return name
    end = (most - len(_CUT)) // 2
    return f"{name[: most - len(_CUT) - end]}{_CUT}{name[-end:]}"


def terminal_width() -> int | None:
    """Return how many characters a line of the terminal has; None if the output is piped."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
