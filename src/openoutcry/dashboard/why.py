"""Explanations for the page: bounded, and safe to show."""

from collections.abc import Iterable
from typing import Any, Final

from openoutcry.dashboard.events import shown
from openoutcry.dashboard.explaining import Explainer
from openoutcry.journals import Explanation, RoundCase, Step
from openoutcry.journals.lineage.text import absence, absences_of, sides_of, vote_of

NAMED_MAX: Final = 64
"""Of a side of a round so many agents are named."""
FILLS_MAX: Final = 50


async def why(explainer: Explainer, ref: str) -> dict[str, Any]:
    """Return why something happened: what the command line says, in its parts and as text."""
    return _plain(await explainer.explain(ref))


async def came_of(explainer: Explainer, ref: str) -> dict[str, Any]:
    """Return what came of something."""
    found = await explainer.explain(ref, forward=True)
    return {
        "title": shown(found.title),
        "steps": _steps(found.came_of or ()),
        "unknown": _texts(found.unknown),
    }


def _plain(found: Explanation) -> dict[str, Any]:
    return {
        "ref": shown(found.ref),
        "title": shown(found.title),
        "summary": [shown(sentence) for sentence in found.summary.split(". ")],
        "chain": _steps(found.chain),
        "aside": _steps(found.aside),
        "rounds": [_round(case) for case in found.rounds],
        "held": [
            {
                **_step(one.step),
                "quantity": one.quantity,
                "price": one.price,
                "held": one.held,
                "order": one.order_id,
            }
            for one in found.held[-FILLS_MAX:]
        ],
        "fills": len(found.held),
        "unknown": _texts(found.unknown),
        "text": found.text(),
    }


def _texts(texts: Iterable[str]) -> list[str]:
    return [shown(text) for text in texts]


def _steps(steps: Iterable[Step]) -> list[dict[str, Any]]:
    return [_step(step) for step in steps]


def _step(step: Step) -> dict[str, Any]:
    return {
        "pos": step.position,
        "desk": None if step.desk is None else shown(step.desk),
        "type": shown(step.event_type),
        "source": shown(step.agent),
        "wall_ns": step.wall_ns,
        "time_ns": step.time_ns,
        "after_ns": step.after_ns,
        "slowest": step.is_slowest,
        "said": shown(step.said),
        "remark": shown(step.remark),
        "depth": step.depth,
    }


def _round(case: RoundCase) -> dict[str, Any]:
    found = case.round
    return {
        "id": found.round_id,
        "desk": None if case.desk is None else shown(case.desk),
        "status": found.status,
        "valid": found.valid,
        "took_ns": found.took_ns,
        "quorum": found.quorum_count,
        "answered": sum(cell.how in ("voted", "abstained") for cell in found.cells),
        "asked": len(found.cells),
        "sides": [
            _named(name, len(votes), map(vote_of, votes[:NAMED_MAX])) for name, votes in sides_of(case)
        ],
        "absent": [
            _named(name, len(cells), (absence(cell, found.took_ns) for cell in cells[:NAMED_MAX]))
            for name, cells in absences_of(case)
        ],
    }


def _named(name: str, count: int, agents: Iterable[str]) -> dict[str, Any]:
    return {"name": name, "count": count, "agents": _texts(agents)}
