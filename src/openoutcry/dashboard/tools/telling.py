"""What the tools tell of events, rounds, letters and explanations: compact, other people's text marked."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

import msgspec

from openoutcry.core.wording import rounded
from openoutcry.dashboard.events import READ_WHOLE_BYTES_MAX, WHOLE_BYTES_MAX, cut, line_of, said_by
from openoutcry.dashboard.letters import Group
from openoutcry.dashboard.tools.fitting import SAID_MOST, ending, said
from openoutcry.journals import Explanation, RoundCase, Step
from openoutcry.journals.matching import own_ns
from openoutcry.journals.rounds import RecordedRound, RecordedVote, RoundCell
from openoutcry.journals.showing import HEAD_FIELDS, desk_of, time_of
from openoutcry.ports import Stored
from openoutcry.units import NS_PER_MS, NS_PER_S

Record = dict[str, Any]
_NAME_MOST: Final = 100
_NUMBERS: Final = ("timestamp", "schema_version")
_INT_MOST: Final = 2**63
"""Longer numbers are told as text, which can be cut."""
_ABSENT_MOST: Final = 20
"""So many agents without a vote are named of a round in a list."""
_VOTES_MOST: Final = 64
"""So many votes are told of a round in an explanation."""


def time(at_ns: int | None) -> str | None:
    """Return a UTC time with milliseconds; None for none."""
    return f"{time_of(at_ns)}Z" if at_ns else None


def ms(duration_ns: int | None) -> float | None:
    """Return a duration in milliseconds, to a microsecond; None for none."""
    return None if duration_ns is None else round(duration_ns / NS_PER_MS, 3)


# -- events ------------------------------------------------------------------------------------------


def event(entry: Stored) -> Record:
    """Return an event as it stands in a list."""
    line = line_of(entry)
    return {
        "position": line.pos,
        "time": time(line.wall_ns),
        "type": line.type,
        "agent": line.source,
        "symbol": line.symbol,
        "id": line.id,
        "correlation": line.correlation,
        "cause": line.cause,
        "round": line.round,
        "lane": None if line.lane == "normal" else line.lane,
        "desk": desk_of(entry),
        "said": cut(said_by(entry.payload, left_out=HEAD_FIELDS), SAID_MOST),
    }


def whole_event(entry: Stored) -> Record:
    """Return one event with each of its fields."""
    return {
        **event(entry),
        "level": entry.level.name.lower(),
        "bytes": len(entry.payload),
        "own_time": _own_time(own_ns(entry.payload), entry.wall_ns),
        "said": _fields(entry.payload),
    }


def _own_time(at_ns: int | None, admitted_ns: int) -> str | None:
    """Return an event's own time, where that is not when it was admitted, as in a simulation."""
    if at_ns is None or not 0 < at_ns < _INT_MOST or abs(at_ns - admitted_ns) <= NS_PER_S:
        return None
    return time(at_ns)


def _fields(payload: bytes) -> Record | str:
    """Return the event's own fields, long ones cut; the text as it is where it is no JSON object."""
    if len(payload) <= WHOLE_BYTES_MAX:
        with suppress(msgspec.MsgspecError, RecursionError):
            found = msgspec.json.decode(payload)
            if isinstance(found, dict):
                own = {name: each for name, each in found.items() if not _is_told(name, each)}
                return {said(name, _NAME_MOST): _value(each) for name, each in own.items()}
    return said(payload[:READ_WHOLE_BYTES_MAX].decode("utf-8", "replace"))


def _is_told(name: str, value: Any) -> bool:
    """Return True for a field that is told beside what the event says: its head, and its time."""
    return name in HEAD_FIELDS and isinstance(value, int if name in _NUMBERS else str)


def _value(value: Any) -> Any:
    if value is None or isinstance(value, float) or (isinstance(value, int) and abs(value) < _INT_MOST):
        return value
    return said(value if isinstance(value, str) else msgspec.json.encode(value).decode())


# -- rounds ------------------------------------------------------------------------------------------


def round_line(found: RecordedRound, place: int, agent: str | None) -> Record:
    """Return a round as it stands in a list: who answered, and what became of the others, or of one agent."""
    if agent is None:
        cells = [cell for cell in found.cells if not _has_voted(cell)]
    else:
        cells = [cell for cell in found.cells if cell.agent == agent]
    told = cells[:_ABSENT_MOST]
    answered = sum(cell.how in ("voted", "abstained") for cell in found.cells)
    return {
        **_ended(found, place),
        "answered": f"{answered} of {len(found.cells)}",
        "agents": {said(cell.agent, _NAME_MOST): _how(cell) for cell in told},
        "and_more": len(cells) - len(told) or None,
    }


def round_in_full(found: RecordedRound, place: int) -> Record:
    """Return a round with every vote, and how it ended in words."""
    return {
        **_ended(found, place),
        "ordinal": found.ordinal,
        "opened_by": found.opened_by,
        "quorum": found.quorum_count,
        "signal_timeout_ms": ms(found.signal_timeout_ns),
        "barrier_timeout_ms": ms(found.barrier_timeout_ns),
        "said": said(found.explain(), 4 * SAID_MOST),
        "agents": [_cell(cell) for cell in sorted(found.cells, key=_has_voted)],
        "not_on_the_roster": [said(name) for name in found.strangers],
    }


def _has_voted(cell: RoundCell) -> bool:
    return cell.how == "voted"


def _ended(found: RecordedRound, place: int | None) -> Record:
    return {
        "id": said(found.round_id),
        "position": place,
        "opened": time(found.opened_wall_ns),
        "symbol": said(found.symbol),
        "outcome": found.status,
        "valid": found.valid,
        "reason": found.reason,
        "took_ms": ms(found.took_ns),
    }


def _how(cell: RoundCell) -> str:
    """Return what became of an agent, in a few words."""
    if cell.how == "voted":
        return f"voted after {rounded(cell.votes[-1].after_ns)}"
    if cell.how == "late" and cell.late_ns is not None:
        return f"late by {rounded(cell.late_ns)}"
    return f"{cell.how}, critical" if cell.is_critical and cell.how != "abstained" else cell.how


def _cell(cell: RoundCell) -> Record:
    return {
        "agent": said(cell.agent),
        "how": cell.how,
        "critical": cell.is_critical or None,
        "votes": [_vote(vote) for vote in cell.votes],
        "abstained_ms": ms(cell.abstained_ns),
        "late_ms": ms(cell.late_ns),
        "late": [_vote(vote) for vote in cell.late],
        "last_heartbeat_ms": ms(cell.heartbeat_ns),
        "stood_in": [
            {"symbol": said(one.symbol), "round": said(one.round_id), "age_ms": ms(one.age_ns)}
            for one in cell.stood_in
        ],
        "said": said(cell.reason),
    }


def _vote(vote: RecordedVote) -> Record:
    return {
        "signal": said(vote.signal_id),
        "symbol": said(vote.symbol),
        "direction": said(vote.direction),
        "strength": vote.strength,
        "confidence": vote.confidence,
        "after_ms": ms(vote.after_ns),
        "said": said(vote.reason),
    }


# -- explanations ------------------------------------------------------------------------------------


def explained(found: Explanation) -> Record:
    """Return the parts of an explanation."""
    return {
        "ref": said(found.ref),
        "said": {"title": said(found.title), "summary": said(found.summary, 4 * SAID_MOST)},
        "chain": _steps(found.chain),
        "rounds": [_case(case) for case in found.rounds],
        "also_named_as_causes": _steps(found.aside),
        "fills_of_the_position": [
            {**_step(one.step), "quantity": one.quantity, "price": one.price, "held": one.held}
            for one in found.held
        ],
        "not_known": [said(one) for one in found.unknown],
    }


def _case(case: RoundCase) -> Record:
    """Return a round as it bears on what is explained: the votes for and against, and who had none."""
    found = case.round
    return {
        **_ended(found, None),
        "desk": said(case.desk),
        "quorum": found.quorum_count,
        "decided": case.action,
        "votes": [
            {
                "agent": said(vote.agent),
                "side": vote.side,
                "direction": said(vote.direction),
                "strength": vote.strength,
                "confidence": vote.confidence,
                "after_ms": ms(vote.after_ns),
                "signal": said(vote.signal_id),
            }
            for vote in case.votes[:_VOTES_MOST]
        ],
        "votes_in_all": len(case.votes),
        "did_not_vote": [_cell(cell) for cell in found.cells if not _has_voted(cell)][:_VOTES_MOST],
        "said": said(found.explain(), 4 * SAID_MOST),
    }


def _steps(steps: Iterable[Step] | None) -> list[Record]:
    return [_step(step) for step in steps or ()]


def consequences(found: Explanation) -> Record:
    """Return what came of something."""
    return {
        "ref": said(found.ref),
        "said": {"title": said(found.title)},
        "came_of": [{**_step(step), "depth": step.depth} for step in found.came_of or ()],
        "not_known": [said(one) for one in found.unknown],
    }


def _step(step: Step) -> Record:
    return {
        "position": step.position,
        "desk": step.desk,
        "time": time(step.wall_ns),
        "own_time": _own_time(step.time_ns, step.wall_ns),
        "after_ms": ms(step.after_ns),
        "slowest": step.is_slowest or None,
        "type": said(step.event_type),
        "agent": said(step.agent),
        "symbol": said(step.symbol),
        "id": said(step.event_id),
        "round": said(step.round_id),
        "remark": said(step.remark),
        "said": said(step.said),
    }


# -- dead letters ------------------------------------------------------------------------------------


def group(found: Group) -> Record:
    """Return dead letters of one kind, with the newest of them."""
    example = found.example
    return {
        "subscription": said(found.subscription),
        "count": found.count,
        "first": time(found.first_ns),
        "last": time(found.last_ns),
        "said": said(found.said),
        "newest": example
        and {
            "position": example.position,
            "type": example.event_type,
            "reason": example.reason,
            "attempts": example.attempts,
            "said": {
                "error": said(example.error),
                "traceback": ending(example.traceback),
                "event": said(example.event),
            },
        },
    }
