"""What is explained, as one sentence, and why, in a few: for somebody who was not there."""

from collections.abc import Callable, Mapping
from typing import Final

from openoutcry.core.wording import counted, listed, rounded
from openoutcry.journals.lineage.casework import loudness
from openoutcry.journals.lineage.explanation import RoundCase, Step, VoteCount
from openoutcry.journals.lineage.finding import Found
from openoutcry.journals.lineage.words import (
    SAID_MOST,
    elapsed,
    figure,
    number,
    opinion,
    own_times_differ,
    price,
    said_by,
    short,
    side_of,
    trade_of,
    word,
)
from openoutcry.journals.round_words import NAMED_MOST
from openoutcry.journals.rounds import RoundCell
from openoutcry.journals.showing import time_of
from openoutcry.units import NS_PER_S

_NS_PER_DAY: Final = 86_400 * NS_PER_S
_PAST: Final = {"buy": "bought", "sell": "sold"}


def title_of(target: Found) -> str:
    """Return what is explained, as one sentence."""
    tell = _TITLES.get(target.event_type, _any_title)
    return f"Why {tell(target)} {when(target)} ({_place(target)})"


def came_title(target: Found) -> str:
    """Return of what it is told what came of it."""
    return f"What came of this: {said_by(target.fields)}, {when(target)} ({_place(target)})"


def when(found: Found) -> str:
    """Return when it was, by an event's own time, or else that of its admission."""
    at_ns = found.own_ns
    if at_ns is None or not 0 < at_ns < 2**63:
        at_ns = found.entry.wall_ns
    day, _, clock = time_of(at_ns).partition("T")
    return f"on {day} at {clock.removesuffix('.000')} UTC"


def _place(target: Found) -> str:
    said = f"{target.event_type.replace('_', ' ') or 'event'} #{target.entry.position}"
    order_id = word(target.fields, "order_id")
    said += f", order {order_id}" if order_id else ""
    return f"{said}, desk {short(target.maker)}" if target.maker != target.source.desk else said


def _who(target: Found) -> str:
    return short(target.head.source_agent or "") or "somebody"


def _symbol(target: Found) -> str:
    return word(target.fields, "symbol")


def _fill(target: Found) -> str:
    quantity, at = (
        figure(number(target.fields, "filled_quantity")),
        price(number(target.fields, "fill_price")),
    )
    return f"{quantity} {_symbol(target)} were {_PAST.get(side_of(target.fields), 'traded')} at {at}"


def _order(target: Found) -> str:
    return f"{_who(target)} sent an order{trade_of(target.fields)}"


def _decision(target: Found) -> str:
    return f"{_who(target)} decided{trade_of(target.fields)}"


def _verdict(target: Found) -> str:
    if target.fields.get("approved") is not True:
        return f"{_who(target)} refused to have {_symbol(target)} traded"
    quantity = figure(number(target.fields, "adjusted_quantity"))
    return f"{_who(target)} allowed {quantity} {_symbol(target)} to be traded"


def _state(target: Found) -> str:
    order_id, before, now = (word(target.fields, name) for name in ("order_id", "from_state", "to_state"))
    return f"order {order_id} went from {before} to {now}"


def _signal(target: Found) -> str:
    return f"{_who(target)} was {word(target.fields, 'direction')} {_symbol(target)}"


def _alert(target: Found) -> str:
    return f"{_who(target)} raised the alert {word(target.fields, 'alert_type')}"


def _kill(target: Found) -> str:
    verb = "threw" if target.fields.get("activated", True) else "released"
    return f"{_who(target)} {verb} the kill switch for {word(target.fields, 'scope')}"


def _round(target: Found) -> str:
    return f"round {short(target.head.round_id or '')} ended {word(target.fields, 'status') or 'as it did'}"


def _any_title(target: Found) -> str:
    return f"{_who(target)} published {target.event_type.replace('_', ' ') or 'this event'}"


_TITLES: Final[Mapping[str, Callable[[Found], str]]] = {
    "fill": _fill,
    "order": _order,
    "decision": _decision,
    "validated_decision": _verdict,
    "order_state_change": _state,
    "signal": _signal,
    "risk_alert": _alert,
    "surveillance_alert": _alert,
    "kill_switch": _kill,
    "round_released": _round,
}


def summary_of(
    chain: list[Found],
    decided: Found | None,
    rounds: list[RoundCase],
    steps: tuple[Step, ...],
    *,
    is_whole: bool,
) -> str:
    """Return why, in a few sentences. `is_whole`: nothing that led to it is unknown."""
    case = rounds[0] if rounds else None
    said: list[str] = []
    left: float | None = None
    for found in chain:
        kind = found.event_type
        if found is decided:
            left = number(found.fields, "quantity")
            said += [_decided(found, case), *(() if case is None else _answers(case))]
        elif kind in ("risk_alert", "surveillance_alert"):
            said.append(_alerted(found))
        elif kind == "validated_decision":
            said.append(_ruling(found, left))
            left = number(found.fields, "adjusted_quantity") or left
    if said and decided is None and not rounds and is_whole:
        said.append("No vote decided it.")
    if chain[-1].event_type == "fill":
        said.append(_traded(chain[-1], steps))
    return " ".join(said)


def _alerted(found: Found) -> str:
    message = found.fields.get("message")
    why = f": {short(message, SAID_MOST)}" if isinstance(message, str) and message else ""
    return f"{_who(found)} raised the alert {word(found.fields, 'alert_type')}{why}."


def _decided(decided: Found, case: RoundCase | None) -> str:
    said = f"{_who(decided)} decided{trade_of(decided.fields)}"
    why = word(decided.fields, "rationale")
    said += f" ({why})" if why else ""
    votes = () if case is None else case.votes
    if not votes:
        return f"{said}."
    counts = [
        f"{sum(vote.side == side for vote in votes)} {words}"
        for side, words in (
            ("for", "for it"),
            ("against", "against it"),
            ("flat", "neither"),
            ("", "of which it is not known what they said"),
        )
        if any(vote.side == side for vote in votes)
    ]
    if len(votes) == 1 and votes[0].side in ("for", "against"):
        only = f"{short(votes[0].agent)} ({vote_words(votes[0])})"
        return f"{said}. The only vote, {votes[0].side} it, was {only}."
    said += f". Of {counted(len(votes), 'vote')}, {listed(counts)}."
    for side in ("for", "against"):
        loudest = max((vote for vote in votes if vote.side == side), key=loudness, default=None)
        if loudest is not None:
            said += f" The loudest {side} it was {short(loudest.agent)} ({vote_words(loudest)})."
    return said


def vote_words(vote: VoteCount) -> str:
    """Return what a vote said."""
    fields = {"direction": vote.direction, "strength": vote.strength, "confidence": vote.confidence}
    return "what it said is not known" if vote.direction is None else opinion(fields)


def _answers(case: RoundCase) -> list[str]:
    """Say who was missing, late, or stood in."""
    cells = case.round.cells
    missing = [cell for cell in cells if cell.how in ("missing", "stood in")]
    late = [cell for cell in cells if cell.how == "late"]
    stood_in = [cell for cell in cells if cell.stood_in]
    said = [f"{_some(missing)} did not answer."] if missing else []
    said += [f"{_some(late)} answered too late."] if late else []
    if stood_in:
        what, place = ("An earlier signal", "its") if len(stood_in) == 1 else ("Earlier signals", "their")
        said.append(f"{what} of {_some(stood_in)} stood in, shown in {place} place.")
    if case.round.valid is False:
        said.append("The outcome of the round was not valid: no decision was to rest on it.")
    return said


def _some(cells: list[RoundCell]) -> str:
    more = len(cells) - NAMED_MOST
    named = [short(cell.agent) for cell in cells[:NAMED_MOST]]
    return listed([*named, *([f"{more} more"] if more > 0 else [])])


def _ruling(found: Found, asked: float | None) -> str:
    """Say what a verdict has left of what was asked for."""
    who, allowed = _who(found), number(found.fields, "adjusted_quantity")
    if found.fields.get("approved") is not True:
        return f"{who} refused: {word(found.fields, 'rejection_reason')}."
    if asked is None:
        return f"{who} allowed {figure(allowed)} {_symbol(found)} to be traded."
    if allowed is None or allowed == asked:
        return f"{who} allowed all of it."
    return f"{who} allowed {figure(allowed)} of {figure(asked)}."


def _traded(last: Found, steps: tuple[Step, ...]) -> str:
    said = f"It was filled at {price(number(last.fields, 'fill_price'))}"
    if len(steps) < 2:
        return f"{said}."
    first, end = steps[0], steps[-1]
    began, took = f"{first.event_type.replace('_', ' ')} #{first.position}", elapsed(end.after_ns)
    if not own_times_differ(steps):
        return f"{said}, {took} after {began}."
    own_ns = None if first.time_ns is None or end.time_ns is None else end.time_ns - first.time_ns
    if own_ns is None or own_ns <= 0:
        return f"{said}, {took} after {began} by the firm's clock."
    later = rounded(own_ns) if own_ns < 2 * _NS_PER_DAY else f"{own_ns / _NS_PER_DAY:,.1f} d"
    return f"{said}: {later} after {began} by the times in the events, {took} by the firm's clock."
