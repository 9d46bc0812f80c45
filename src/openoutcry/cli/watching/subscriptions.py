"""The table of subscriptions: the worst first, and only the columns and rows that say something."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from openoutcry.cells import GAP, padded, shortened, widths_of
from openoutcry.cli.watching.look import Look, Times
from openoutcry.cli.watching.paint import Line, Style, line
from openoutcry.core.wording import counted
from openoutcry.observers.pulse import SubRow, SubShape
from openoutcry.observers.reading import CALLS_LEAST, Rates
from openoutcry.printable import printable
from openoutcry.units import NS_PER_MS, NS_PER_S, NS_PER_US

NAME_LEAST: Final = 16
"""To so many columns a name is shortened at most."""
CALL_SHOWN_NS: Final = NS_PER_S
"""From this length on a call is shown: shorter ones would only flicker."""
_STYLES: Final[dict[str, Style]] = {"critical": "critical", "bad": "bad", "warn": "warn"}
_QUIET: Final = ("idle", "busy")
"""The states in which nothing is the matter."""


class Known(NamedTuple):
    """What is known of one subscription."""

    shape: SubShape
    row: SubRow
    per_s: Rates
    times: Times
    now_ns: int
    severity: str
    """The worst that is wrong with it; empty if nothing is."""

    @property
    def is_idle(self) -> bool:
        """Whether it is well, and nothing moves."""
        still = not (self.row.lag or self.row.in_flight or self.per_s.accepted or self.per_s.handled)
        return still and not self.severity and self.row.state in _QUIET


class _Column(NamedTuple):
    head: str
    cell: Callable[[Known], str]
    is_words: bool = False


def rate(per_s: float) -> str:
    """Return a rate in words; nothing for none."""
    if not per_s:
        return ""
    return f"{per_s:,.0f}" if per_s >= 10 else f"{per_s:.1f}"


def time_in_words(ns: float | None) -> str:
    """Return a time with three figures, so that it stays as wide; nothing for None."""
    if ns is None:
        return ""
    units = (("min", 60 * NS_PER_S), ("s", NS_PER_S), ("ms", NS_PER_MS), ("us", NS_PER_US))
    unit, size = next((one for one in units if ns >= one[1] * (2 if one[0] == "min" else 1)), units[-1])
    value = ns / size
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"


def _count(value: int) -> str:
    return f"{value:,}" if value else ""


def _share(known: Known) -> str:
    calls = known.row.errors + known.row.handled
    return f"{known.row.errors / calls:.0%}" if known.row.errors and calls >= CALLS_LEAST else ""


def _call(known: Known) -> str:
    since_ns = known.row.busy_since_ns
    took_ns = known.now_ns - since_ns if since_ns else 0
    if took_ns < CALL_SHOWN_NS:
        return ""
    took = f"{took_ns // NS_PER_S:,} s" if took_ns < 120 * NS_PER_S else time_in_words(took_ns)
    return f"{took} {printable(known.row.call_event)}".rstrip()


def _oldest(known: Known) -> str:
    age_ns = known.now_ns - known.row.oldest_ns if known.row.oldest_ns else 0
    return time_in_words(age_ns) if age_ns >= CALL_SHOWN_NS else ""


_COLUMNS: Final = (
    _Column("subscription", lambda it: printable(it.shape.name), is_words=True),
    _Column("state", lambda it: it.row.state, is_words=True),
    _Column("in call for", _call, is_words=True),
    _Column("lag", lambda it: _count(it.row.lag)),
    _Column("oldest", _oldest),
    _Column("in/s", lambda it: rate(it.per_s.accepted)),
    _Column("out/s", lambda it: rate(it.per_s.handled)),
    _Column("wait p50", lambda it: time_in_words(it.times.wait_p50_ns)),
    _Column("wait p99", lambda it: time_in_words(it.times.wait_p99_ns)),
    _Column("call p50", lambda it: time_in_words(it.times.call_p50_ns)),
    _Column("call p99", lambda it: time_in_words(it.times.call_p99_ns)),
    _Column("errors", lambda it: _count(it.row.errors)),
    _Column("fails", _share),
    _Column("in a row", lambda it: _count(it.row.error_streak)),
    _Column("timeouts", lambda it: _count(it.row.timeouts)),
    _Column("retries", lambda it: _count(it.row.retries)),
    _Column("let go", lambda it: _count(it.row.overflowed)),
    _Column("dead", lambda it: _count(it.row.dead)),
)
_ALWAYS: Final = frozenset({"subscription", "state"})
_LEFT_OUT: Final = ("retries", "wait p50", "call p50", "oldest", "timeouts", "in/s", "in a row", "let go")
"""The columns that a narrow terminal does without, in this order."""
_NEVER_LEFT_OUT: Final = ("errors", "wait p99", "out/s", "fails", "call p99", "in call for", "dead", "lag")
"""And those that only one that is far too narrow does without."""


def known_of(look: Look) -> list[Known]:
    """Return what is known of every subscription: the worst first, then the busiest.

    Lags and rates count by their size alone, so that rows do not change places at every look.
    """
    worst: dict[str, str] = {}
    for one in look.wrong:
        worst.setdefault(one.culprit, one.severity)
    shapes = look.shape.subscriptions
    found = []
    for row in look.pulse.rows:
        if row.index < len(shapes):
            name = shapes[row.index].name
            per_s, times = look.per_s.get(name, Rates()), look.times.get(name, Times())
            now_ns = look.pulse.now_ns
            found.append(Known(shapes[row.index], row, per_s, times, now_ns, worst.get(name, "")))
    return sorted(found, key=_rank)


def _rank(it: Known) -> tuple[int, int, int, str]:
    order = ("critical", "bad", "warn", "").index(it.severity)
    return order, -it.row.lag.bit_length(), -int(it.per_s.handled).bit_length(), it.shape.name


def subscriptions(
    look: Look, width: int | None, room: int | None, *, cut: bool, seen: set[str]
) -> list[Line]:
    """Return the table of subscriptions in at most so many lines.

    What is idle and well is folded into a count if there is no room for it; with `cut` what is busy too.
    `seen` are the columns that had a value before, which stay, so that nothing jumps; it is added to.
    """
    known = known_of(look)
    shown = known
    if room is not None and len(known) + 1 > room:
        shown = [one for one in known if not one.is_idle]
        if cut:
            shown = shown[: max(0, room - 2)]
    lines = _table(shown, width, seen) if shown else []
    left = known if not shown else [one for one in known if one not in shown]
    if left:
        lines.append(line((_folded(left), "dim")).cropped(width))
    return lines


def _folded(left: Sequence[Known]) -> str:
    idle = sum(one.is_idle for one in left)
    busy = len(left) - idle
    parts = [f"{counted(busy, 'more subscription')}"] if busy else []
    if idle:
        parts.append(f"{idle:,} others idle" if idle != 1 else "1 other idle")
    return ", ".join(parts)


def _table(known: Sequence[Known], width: int | None, seen: set[str]) -> list[Line]:
    cells = {column.head: [column.cell(one) for one in known] for column in _COLUMNS}
    seen.update(head for head, column in cells.items() if any(column))
    columns = [column for column in _COLUMNS if column.head in _ALWAYS or column.head in seen]
    columns, most = _fitted(columns, cells, width)
    cells["subscription"] = [shortened(name, most) for name in cells["subscription"]]
    rows = [[column.head for column in columns]]
    rows += [[cells[column.head][at] for column in columns] for at in range(len(known))]
    widths = widths_of(rows)
    lines = []
    for at, row in enumerate(rows):
        padded_cells = [padded(cell, widths[i], right=not columns[i].is_words) for i, cell in enumerate(row)]
        style: Style = "dim" if at == 0 else _STYLES.get(known[at - 1].severity, "")
        # Of a row the name and the state are coloured: the figures stay quiet.
        marked = GAP.join(padded_cells[:2])
        rest = GAP + GAP.join(padded_cells[2:]) if padded_cells[2:] else ""
        lines.append(line((marked, style), (rest, "dim" if at == 0 else "")))
    return [one.cropped(width) for one in lines]


def _fitted(
    columns: list[_Column], cells: dict[str, list[str]], width: int | None
) -> tuple[list[_Column], int]:
    """Leave out columns until the others fit; return them, and the width that is left to the names."""
    widths = {
        column.head: widths_of([[column.head], *([cell] for cell in cells[column.head])])[0]
        for column in columns
    }
    if width is None:
        return columns, widths["subscription"]
    names_least = min(widths["subscription"], NAME_LEAST)
    for head in (*_LEFT_OUT, *_NEVER_LEFT_OUT):
        if names_least + _beside_names(columns, widths) <= width:
            break
        columns = [column for column in columns if column.head != head]
    return columns, max(NAME_LEAST, width - _beside_names(columns, widths))


def _beside_names(columns: Sequence[_Column], widths: dict[str, int]) -> int:
    return sum(len(GAP) + widths[column.head] for column in columns[1:])
