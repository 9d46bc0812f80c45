"""A look at a bus as the lines of a terminal: what is wrong first, then rounds, then subscriptions."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from openoutcry.cells import GAP, cropped, fitting, padded, shortened, width_of, widths_of
from openoutcry.cli.watching.look import Look
from openoutcry.cli.watching.paint import Line, Style, line
from openoutcry.cli.watching.subscriptions import NAME_LEAST, rate, subscriptions, time_in_words
from openoutcry.core.wording import counted
from openoutcry.journals.showing import time_of
from openoutcry.observers.pulse import Cell, OpenRound, RoundRow
from openoutcry.printable import printable
from openoutcry.units import NS_PER_S

NAMES_SHOWN: Final = 3
"""How many names are shown of those that have dead letters."""
WRONG_SHARE: Final = 0.3
"""This share of the screen is for what is wrong,"""
ROUNDS_SHARE: Final = 0.125
"""and this for rounds;"""
WRONG_PIPED: Final = 20
"""where there is no screen, so many lines,"""
ROUNDS_PIPED: Final = 10
"""and so many."""
_STYLES: Final[dict[str, Style]] = {"critical": "critical", "bad": "bad", "warn": "warn"}
_LABELS: Final = 12
"""How wide the column of labels is."""
_ANSWERED: Final = ("voted", "abstained")


def view(
    look: Look, width: int | None = None, height: int | None = None, *, cut: bool = False, seen: set[str]
) -> list[Line]:
    """Return a look as lines of at most `width` columns; with `cut` as at most `height` of them.

    Without `cut` it gets longer if more is to be said than fits. `seen` are the columns of subscriptions that
    had a value before; it is added to.
    """
    wrong_most = WRONG_PIPED if height is None else max(4, int(height * WRONG_SHARE))
    rounds_most = ROUNDS_PIPED if height is None else max(2, int(height * ROUNDS_SHARE))
    head = [
        _title(look),
        *_health(look, wrong_most, width),
        *_facts(look),
        *_rounds(look, rounds_most, width),
    ]
    room = None if height is None else max(3, height - len(head) - 1)
    table = subscriptions(look, width, room, cut=cut, seen=seen)
    lines = [one.cropped(width) for one in (*head, *([line()] if table else []), *table)]
    return lines[:height] if cut else lines


def _title(look: Look) -> Line:
    pulse = look.pulse
    took = _age(pulse.wall_ns - look.shape.started_ns)
    state = f"{pulse.state} for {took}" if pulse.state == "running" else pulse.state
    at = time_of(pulse.wall_ns)[11:19]
    return line((printable(str(look.path)), "bold"), f"{GAP}{state}, pid {look.shape.pid}{GAP}{at} UTC")


def _health(look: Look, most: int, width: int | None) -> Iterator[Line]:
    """Say in one line whether all is well, then what is not, worst first, in at most so many lines."""
    if not look.wrong:
        yield _labelled("health", "healthy: nothing is wrong")
        return
    counts = Counter(one.severity for one in look.wrong)
    said = ", ".join(f"{counts[word]:,} {word}" for word in ("critical", "bad", "warn") if counts[word])
    yield _labelled("health", (said, _STYLES[look.wrong[0].severity]))
    said_of = _sayings(look, width)
    wrapped = [_wrapped(text, width, 2) for text in said_of]
    if sum(map(len, wrapped)) > most:
        wrapped = [_wrapped(text, width, 1) for text in said_of]
    shown = len(wrapped) if sum(map(len, wrapped)) <= most else most - 1
    for one, (first, *others) in zip(look.wrong[:shown], wrapped, strict=False):
        yield _labelled((one.severity, _STYLES[one.severity]), first)
        yield from (_labelled("", other) for other in others)
    if shown < len(look.wrong):
        yield _labelled("", (f"{len(look.wrong) - shown:,} more", "dim"))


def _sayings(look: Look, width: int | None) -> list[str]:
    """Say what is wrong, since when, and for a culprit that fails also with which error."""
    said, told = [], set[str]()
    for one in look.wrong:
        age = "" if one.since_ns is None else _age(look.pulse.wall_ns - one.since_ns)
        since = f" ({age})" if age and age not in one.sentence else ""
        times = look.times.get(one.culprit)
        error = ""
        if times is not None and times.last_error and "fail" in one.sentence and one.culprit not in told:
            told.add(one.culprit)
            error = f"; {times.last_error.splitlines()[0]}"
        text = printable(f"{one.sentence}{since}{error}")
        if width is not None and width_of(text) > _room(width):
            culprit = printable(one.culprit)
            text = text.replace(culprit, shortened(culprit, NAME_LEAST))
        said.append(text)
    return said


def _room(width: int) -> int:
    """Return how many columns there are beside a label."""
    return max(20, width - 2 - _LABELS - len(GAP))


def _wrapped(text: str, width: int | None, most: int) -> list[str]:
    """Break what is said beside a label into two lines if one is too short; the last is cropped."""
    if width is None or width_of(text) <= (room := _room(width)):
        return [text]
    if most == 1:
        return [cropped(text, room)]
    first = fitting(text, room)
    at = first.rfind(" ")
    at = at if at > room // 2 else len(first)
    return [text[:at], cropped(text[at:].lstrip(), room)]


def _labelled(label: str | tuple[str, Style], *parts: str | tuple[str, Style]) -> Line:
    """Return a line that begins with a label, in a column of labels."""
    text = label if isinstance(label, str) else label[0]
    return line("  ", label, " " * (_LABELS - len(text)) + GAP, *parts)


def _age(ns: int) -> str:
    seconds = max(0, ns) // NS_PER_S
    if seconds < 120:
        return f"{seconds} s"
    minutes = seconds // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60:,} h"


# -- facts ------------------------------------------------------------------------------------------


def _facts(look: Look) -> list[Line]:
    return [_labelled(name, value) for name, value in _named(look) if value]


def _named(look: Look) -> Iterator[tuple[str, str]]:
    pulse, journal = look.pulse, look.pulse.journal
    refused = sum(pulse.refused.values())
    queue = f"; queue {pulse.queue:,} of {pulse.capacity:,}" if pulse.queue else ""
    level = f", backpressure {pulse.level}" if pulse.level != "normal" else ""
    more = f", {refused:,} refused" if refused else ""
    yield "events", f"{pulse.published:,} published{_since_before(look)}{more}{queue}{level}"
    letters = dict(dead_letters(look))
    yield "dead letters", by_name(letters) if letters else ""
    if journal is not None:
        state = f"dead: {journal.dead}" if journal.dead else f"head {journal.head:,}"
        waiting = f", {journal.waiting:,} wait for their commit" if journal.waiting else ""
        yield "journal", f"{state}{waiting}"
    yield from look.notes
    yield "rounds", _rounds_in_all(look)
    yield "absent", _absent(look)


def _since_before(look: Look) -> str:
    earlier = look.earlier
    if earlier is None or look.pulse.now_ns <= earlier.now_ns:
        return ""
    per_s = (look.pulse.published - earlier.published) * NS_PER_S / (look.pulse.now_ns - earlier.now_ns)
    said = rate(max(0.0, per_s))
    return f", {said} a second" if said else ""


def dead_letters(look: Look) -> Iterator[tuple[str, int]]:
    """Yield who has dead letters, and how many."""
    names = look.shape.subscriptions
    for row in look.pulse.rows:
        if row.dead and row.index < len(names):
            yield names[row.index].name, row.dead
    for name, count in look.pulse.dead_elsewhere.items():
        yield f"{name} (not subscribed)", count


def by_name(counts: Mapping[str, int]) -> str:
    """Return how many dead letters there are, and of which names most of them are."""
    if not counts:
        return "none"
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{name} {count:,}" for name, count in most[:NAMES_SHOWN])
    return f"{sum(counts.values()):,}: {named}{', ...' if len(most) > NAMES_SHOWN else ''}"


# -- rounds -----------------------------------------------------------------------------------------


def _rounds_in_all(look: Look) -> str:
    """Return how many rounds are open, and how many have ended how."""
    pulse = look.pulse
    parts = [f"{pulse.rounds_open:,} open"] if pulse.rounds_open else []
    parts += [f"{count:,} {status}" for status, count in sorted(pulse.rounds_released.items()) if count]
    return ", ".join(parts)


def _absent(look: Look) -> str:
    """Return who was missing or late in the newest rounds, and how often."""
    released = look.rounds.released
    absent: dict[str, Counter[str]] = {}
    for one in released:
        for agent, cell in one.cells.items():
            if cell[0] not in _ANSWERED:
                absent.setdefault(agent, Counter())[cell[0]] += 1
    worst = sorted(absent.items(), key=lambda item: (-item[1].total(), item[0]))[:NAMES_SHOWN]
    whom = [
        f"{shortened(printable(agent), NAME_LEAST)} {' '.join(f'{how} {n:,}' for how, n in counts.items())}"
        for agent, counts in worst
    ]
    return f"{', '.join(whom)} of {counted(len(released), 'round')}" if whom else ""


def _rounds(look: Look, most: int, width: int | None) -> list[Line]:
    """Return a line for each open round, and for the newest that have ended."""
    opened = look.rounds.open[: max(1, most // 2)]
    rows: list[tuple[tuple[str, ...], list[tuple[str, str]], Style]]
    rows = [(*_open_row(look, one), "") for one in opened]
    for one in look.rounds.released[: most - len(rows)]:
        style: Style = "" if one.valid else "warn"
        rows.append((*_ended_row(one), style))
    if not rows:
        return []
    widths = widths_of([cells for cells, _, _ in rows])
    room = None if width is None else width - 2 - len(GAP) * len(widths)
    lines = []
    for cells, whom, style in rows:
        name, status, took, answered = (
            padded(cell, width, right=i > 1)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        rest = f"{GAP}{took}{GAP}{answered}{GAP}"
        said = ", ".join(f"{printable(agent)} {how}" for agent, how in whom)
        if room is not None and sum(widths) + width_of(said) > room:
            said = ", ".join(f"{shortened(printable(agent), NAME_LEAST)} {how}" for agent, how in whom)
        lines.append(line(f"  {name}{GAP}", (status, style), rest + said))
    return lines


_Row = tuple[tuple[str, ...], list[tuple[str, str]]]
"""The columns of a round, and who has not answered and how."""


def _open_row(look: Look, one: OpenRound) -> _Row:
    agents = len(one.have) + len(one.waits_for)
    cells = printable(one.id), "open", _age(look.pulse.now_ns - one.opened_ns), f"{len(one.have)} of {agents}"
    return cells, [(agent, "awaited") for agent in one.waits_for]


def _ended_row(one: RoundRow) -> _Row:
    answered = sum(cell[0] in _ANSWERED for cell in one.cells.values())
    cells = (
        printable(one.id),
        one.status if one.valid else f"{one.status}, not valid",
        time_in_words(one.took_ns),
        f"{answered} of {len(one.cells)}",
    )
    return cells, [(agent, _how(cell)) for agent, cell in one.cells.items() if cell[0] not in _ANSWERED]


def _how(cell: Cell) -> str:
    """Return what became of an agent that has not answered in time."""
    if cell[0] == "late":
        return f"late by {time_in_words(cell[1])}"
    return str(cell[0])
