"""An explanation as lines of text: the sentence first, then the chain, then who voted and who did not."""

from collections.abc import Iterator
from itertools import pairwise
from math import isclose
from typing import TYPE_CHECKING, Final

from openoutcry.cells import cropped, padded, shortened, width_of, widths_of
from openoutcry.core.wording import counted, listed, rounded
from openoutcry.journals.lineage.words import elapsed, figure, own_times_differ, price, short
from openoutcry.journals.round_words import opinion_of
from openoutcry.journals.rounds import RoundCell
from openoutcry.journals.showing import time_of
from openoutcry.printable import printable

if TYPE_CHECKING:
    from openoutcry.journals.lineage.explanation import Explanation, HeldFill, RoundCase, Step, VoteCount

_AGENT_MOST: Final = 20
_SAID_MOST: Final = 80
_LINE: Final = 100
_VOTES_MOST: Final = 64
_FILLS_MOST: Final = 20
_FIGURES: Final = 4
"""So many columns of the fills are times and figures, which stand to the right."""
_INDENT: Final = "  "
_ABSENCES: Final = {
    "abstained": "Abstained",
    "late": "Late, so not counted",
    "missing": "Missing",
    "stood in": "Missing, and an earlier signal stood in",
}
_NAMES: Final = {"for": "For{}", "against": "Against{}", "flat": "Neither", "": "Not known what they said"}


def text_of(found: "Explanation") -> str:
    """Return an explanation as lines, safe to show."""
    return "\n".join(_lines(found))


def _lines(found: "Explanation") -> Iterator[str]:
    yield printable(found.title)
    if found.came_of is not None:
        yield from _came(found.came_of)
    else:
        yield from _wrapped(printable(found.summary), _INDENT)
        yield from _held(found.held)
        yield from _chain(found.chain)
        for case in found.rounds:
            yield from _round(case, found.chain)
        if found.aside:
            yield "Also named as causes:"
            yield from _plain(found.aside)
    if found.unknown:
        yield "Not known:"
        for sentence in found.unknown:
            yield from _wrapped(f"- {printable(sentence)}", _INDENT, _INDENT * 2)


# -- the chain ---------------------------------------------------------------------------------------


def _chain(steps: "tuple[Step, ...]") -> Iterator[str]:
    """Give a line to each step: when, who, what, where it stands, and how it is tied in."""
    if not steps:
        return
    jumps = own_times_differ(steps)
    times = [_time(step, own=jumps) for step in steps]
    whens = [
        times[0][:10] if jumps else times[0][11:],
        *(f"+ {elapsed(step.after_ns)}" for step in steps[1:]),
    ]
    owns = [now if jumps and now != before else "" for before, now in pairwise(["", *times])]
    yield from _columns(steps, whens, owns)
    if jumps:
        yield f"{_INDENT}(+ is the time since the first step. The dates behind are what the events say.)"


def _columns(steps: "tuple[Step, ...]", whens: list[str], owns: list[str]) -> Iterator[str]:
    agents = [shortened(printable(step.agent or "-"), _AGENT_MOST) for step in steps]
    said = [cropped(printable(step.said), _SAID_MOST) for step in steps]
    widths = [max(map(width_of, column)) for column in (whens, agents, said)]
    for step, when, agent, what, own in zip(steps, whens, agents, said, owns, strict=True):
        rest = [_place(step), own, printable(step.remark), "slowest step" if step.is_slowest else ""]
        cells = (
            padded(when, widths[0], right=when.startswith("+")),
            padded(agent, widths[1]),
            padded(what, widths[2]),
        )
        yield f"{_INDENT}{'  '.join([*cells, *filter(None, rest)])}".rstrip()


def _place(step: "Step") -> str:
    desk = f" of desk {printable(step.desk)}" if step.desk is not None else ""
    return f"#{step.position}{desk}"


def _time(step: "Step", *, own: bool) -> str:
    at_ns = step.time_ns if own and step.time_ns is not None and 0 < step.time_ns < 2**63 else step.wall_ns
    return time_of(at_ns).replace("T", " ").removesuffix(".000")


def _plain(steps: "tuple[Step, ...]") -> Iterator[str]:
    whens = [_time(step, own=True) for step in steps]
    yield from _columns(steps, whens, [""] * len(steps))


def _came(steps: "tuple[Step, ...]") -> Iterator[str]:
    if not steps:
        yield f"{_INDENT}Nothing that the journal has names it as a cause."
        return
    whens = [f"+ {elapsed(step.after_ns)}" for step in steps]
    agents = [shortened(printable(step.agent or "-"), _AGENT_MOST) for step in steps]
    widths = [max(map(width_of, column)) for column in (whens, agents)]
    for step, when, agent in zip(steps, whens, agents, strict=True):
        indent = _INDENT * min(step.depth - 1, 12)
        what = cropped(printable(step.said), _SAID_MOST)
        cells = (
            padded(when, widths[0], right=True),
            padded(agent, widths[1]),
            f"{indent}{what}",
            _place(step),
        )
        yield f"{_INDENT}{'  '.join(cells)}"


def _held(fills: "tuple[HeldFill, ...]") -> Iterator[str]:
    if fills:
        left_out = "" if len(fills) <= _FILLS_MOST else f", the last {_FILLS_MOST}"
        yield f"{_since(fills[0])}, {counted(len(fills), 'fill')}{left_out}:"
    shown = fills[-_FILLS_MOST:]
    rows = [
        (
            _time(one.step, own=True),
            f"{'+' if one.quantity >= 0 else ''}{figure(one.quantity)}",
            f"at {price(one.price)}",
            f"{figure(one.held)} held",
            f"order {printable(short(one.order_id))}",
            _place(one.step),
        )
        for one in shown
    ]
    widths = widths_of(rows) if rows else []
    for row in rows:
        cells = [
            padded(cell, width, right=at < _FIGURES)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield f"{_INDENT}{'  '.join(cells)}".rstrip()


def _since(first: "HeldFill") -> str:
    """Return what the first fill of a position has made of the one before."""
    if isclose(first.held, first.quantity):
        return "Since it was last flat"
    before, after = ("sold short", "bought") if first.held > 0 else ("bought", "sold short")
    return f"Since it turned from {before} to {after}"


# -- rounds ------------------------------------------------------------------------------------------


def _round(case: "RoundCase", chain: "tuple[Step, ...]") -> Iterator[str]:
    found = case.round
    answered = sum(cell.how in ("voted", "abstained") for cell in found.cells)
    took = "" if found.took_ns is None else _took(found.took_ns, case, chain)
    valid = {True: ", valid", False: ", NOT valid", None: ""}[found.valid]
    desk = "" if case.desk is None else f" (of desk {printable(case.desk)})"
    said = f"Round {printable(found.round_id)}{desk}: {found.status}{took}, "
    said += f"{answered} of {len(found.cells)} answered ({found.quorum_count} needed){valid}."
    yield from _wrapped(said, "", _INDENT)
    for name, votes in sides_of(case):
        yield from _wrapped(f"{name} ({len(votes)}): {_named_votes(votes)}.", _INDENT, _INDENT * 2)
    for words, cells in absences_of(case):
        named = listed(absence(cell, found.took_ns) for cell in cells[:_VOTES_MOST])
        yield from _wrapped(f"{words} ({len(cells)}): {named}.", _INDENT, _INDENT * 2)
    if not any(cell.how in ("missing", "late", "stood in") for cell in found.cells):
        yield f"{_INDENT}Nobody was missing or late, and nobody stood in."
    elif not any(cell.stood_in for cell in found.cells):
        yield f"{_INDENT}Nobody stood in."


def _took(took_ns: int, case: "RoundCase", chain: "tuple[Step, ...]") -> str:
    """Return how long a round took, and when it ended as the chain tells time: it was opened on its own."""
    if not chain or case.desk is not None:
        return f" after {elapsed(took_ns)}"
    after_ns = case.round.opened_wall_ns + took_ns - chain[0].wall_ns
    at = f"{'+' if after_ns >= 0 else '-'} {elapsed(abs(after_ns))}"
    return f" at {at}, {elapsed(took_ns)} after it was opened"


def sides_of(case: "RoundCase") -> Iterator[tuple[str, "list[VoteCount]"]]:
    """Yield the sides of a round, each with a name and its votes."""
    verb = {"buy": " buying", "sell": " selling"}.get(case.action, "")
    for side in ("for", "against", "long", "short", "flat", ""):
        votes = [vote for vote in case.votes if vote.side == side]
        if votes:
            yield _NAMES.get(side, side.capitalize()).format(verb), votes


def absences_of(case: "RoundCase") -> Iterator[tuple[str, list[RoundCell]]]:
    """Yield who did not vote in a round, by how that came."""
    for how, words in _ABSENCES.items():
        cells = [cell for cell in case.round.cells if cell.how == how]
        if cells:
            yield words, cells


def _named_votes(votes: "list[VoteCount]") -> str:
    named = [f"{vote_of(vote)}" for vote in votes[:_VOTES_MOST]]
    more = len(votes) - _VOTES_MOST
    return ", ".join([*named, *([f"{more} more"] if more > 0 else [])])


def vote_of(vote: "VoteCount") -> str:
    """Return an agent and how strong its vote was, safe to show."""
    if not vote.strength:
        return printable(vote.agent)
    sure = "" if not vote.confidence else f", {vote.confidence:.0%} sure"
    return f"{printable(vote.agent)} ({vote.strength:+.2f}{sure})"


def absence(cell: RoundCell, took_ns: int | None) -> str:
    """Return an agent that did not vote and what is known of it, safe to show."""
    name = printable(cell.agent)
    details = ["critical"] if cell.is_critical else []
    if cell.how == "abstained" and cell.reason:
        details.append(printable(cell.reason))
    if cell.late_ns is not None:
        details.append(f"by {elapsed(cell.late_ns)}, would have said {printable(opinion_of(cell.late[0]))}")
    if cell.how == "missing" and took_ns is not None:
        beat = cell.heartbeat_ns
        details.append("silent" if beat is None else f"alive {elapsed(took_ns - beat)} before")
    details += [
        f"its signal of round {printable(one.round_id)}, {rounded(one.age_ns)} old, stood in"
        for one in cell.stood_in
    ]
    return f"{name} ({'; '.join(details)})" if details else name


def _wrapped(text: str, first: str, others: str | None = None) -> Iterator[str]:
    """Break a text into lines between words."""
    others = first if others is None else others
    line = ""
    for one in text.split(" "):
        if line.strip() and width_of(line) + 1 + width_of(one) > _LINE:
            yield line
            line = f"{others}{one}"
        else:
            line = f"{line} {one}" if line.strip() else f"{line or first}{one}"
    if line.strip():
        yield line
