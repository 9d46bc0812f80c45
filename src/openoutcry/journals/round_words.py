"""A recorded round in words, as `RoundOutcome.explain` says them of a round in memory."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from openoutcry.core.wording import listed, span, wall_label

if TYPE_CHECKING:
    from openoutcry.journals.rounds import RecordedRound, RecordedVote, RoundCell

NAMED_MOST = 20
"""So many late answers are named."""


def sentences(found: "RecordedRound") -> Iterator[str]:
    """Yield the sentences."""
    yield _how_it_ended(found)
    if found.cells:
        yield _who_answered(found)
        yield from _who_did_not(found)
    if found.strangers:
        yield f"Not on the roster, so not counted: {listed(found.strangers)}."
    yield _may_decide(found)


def _how_it_ended(found: "RecordedRound") -> str:
    by = f"by {found.opened_by}" if found.opened_by else "by the main program"
    about = f" for {found.symbol}" if found.symbol else ""
    said = f"Round {found.round_id}{about} was opened at {wall_label(found.opened_wall_ns)} {by}"
    if found.took_ns is None:
        return f"{said}, and was {found.reason}."
    said += f" and released after {span(found.took_ns)} as {found.status}: {found.reason}"
    slip_ns = (found.noticed_ns or found.took_ns) - found.took_ns
    return said + (f", which a busy loop noticed {span(slip_ns)} later." if slip_ns >= 1_000_000 else ".")


def _who_answered(found: "RecordedRound") -> str:
    voted = [cell for cell in found.cells if cell.how == "voted"]
    abstained = [cell for cell in found.cells if cell.how == "abstained"]
    said = f"{len(voted) + len(abstained)} of {len(found.cells)} agents answered"
    said += f"; the quorum was {found.quorum_count} from {span(found.signal_timeout_ns)} on, "
    said += f"the hard deadline {span(found.barrier_timeout_ns)}."
    if voted:
        said += f" Voted: {listed(_voted(cell) for cell in voted)}."
    if abstained:
        said += (
            f" Abstained: {listed(f'{c.agent} ({c.reason})' if c.reason else c.agent for c in abstained)}."
        )
    return said


def _voted(cell: "RoundCell") -> str:
    vote = cell.votes[-1]
    opinion = opinion_of(vote)
    return f"{cell.agent} ({opinion}, after {span(vote.after_ns)})"


def opinion_of(vote: "RecordedVote") -> str:
    """Return what a signal said, in a few words."""
    if vote.direction is None:
        return "signal not in the journal" if vote.signal_id is not None else "abstained"
    strength = "" if vote.strength is None else f" {vote.strength:+.2f}"
    about = f" {vote.symbol}" if vote.symbol else ""
    return f"{vote.direction}{about}{strength}"


def _who_did_not(found: "RecordedRound") -> Iterator[str]:
    missing = [cell for cell in found.cells if cell.how in ("missing", "late", "stood in")]
    if missing:
        yield f"Missing: {listed(_sign_of_life(found, cell) for cell in missing)}."
    late = [(cell, cell.late_ns) for cell in found.cells if cell.late_ns is not None]
    if late:
        named = listed(
            f"{cell.agent} (by {span(late_ns)}, {opinion_of(cell.late[0])})"
            for cell, late_ns in late[:NAMED_MOST]
        )
        yield f"Late, so not counted: {named}."
    stale = [one for cell in found.cells for one in cell.stood_in]
    if stale:
        named = listed(
            f"{one.agent} on {one.symbol} by a signal of round {one.round_id}, {span(one.age_ns)} old"
            for one in stale
        )
        yield f"Stale signals stood in, without a vote, for {named}."


def _sign_of_life(found: "RecordedRound", cell: "RoundCell") -> str:
    if found.took_ns is None:
        return cell.agent
    beat_ns = cell.heartbeat_ns
    alive = "silent" if beat_ns is None else f"alive {span(found.took_ns - beat_ns)} before the release"
    return f"{cell.agent} ({'critical, ' if cell.is_critical else ''}{alive})"


def _may_decide(found: "RecordedRound") -> str:
    if found.valid is None:
        return "It has no outcome."
    return "A decision may rest on it." if found.valid else "No decision may rest on it."
