"""How the firm stands: what its bus says of itself now or, where none runs, what the journal says."""

from pathlib import Path
from typing import Any, Final

from openoutcry.dashboard.tools.fitting import said
from openoutcry.dashboard.tools.telling import Record, ms, time
from openoutcry.observers.pulse import Pulse, Shape, SubRow
from openoutcry.observers.reading import Rates, rates, wrong
from openoutcry.runtime.control.watcher import Watcher

ANSWER_S: Final = 3.0
"""How long the bus may take for two pulses."""
STARTS_TOLD: Final = 3
ACTIONS_TOLD: Final = 10


async def standing(path: Path) -> Record:
    """Return how the bus of a journal or a control socket stands."""
    async with Watcher(path) as watcher:
        try:
            is_there = await watcher.first(ANSWER_S)
        except TimeoutError:
            is_there = True
    if watcher.shape is None or watcher.pulse is None or not is_there:
        return {"bus": "silent" if is_there else "not running", "why": said(watcher.why)}
    return _bus(watcher.shape, watcher.pulse, watcher.before)


def _bus(shape: Shape, pulse: Pulse, before: Pulse | None) -> Record:
    per_s = rates(before, pulse, shape)
    names = [subscription.name for subscription in shape.subscriptions]
    rows = sorted(
        ((names[row.index], row) for row in pulse.rows if row.index < len(names)),
        key=lambda item: (-item[1].lag, -item[1].dead, item[0]),
    )
    return {
        "bus": pulse.state,
        "firm": said(shape.firm),
        "time": time(pulse.wall_ns),
        "started": time(shape.started_ns),
        "version": shape.version,
        "health": pulse.health,
        "level": pulse.level,
        "wrong": [
            {
                "severity": one.severity,
                "culprit": said(one.culprit),
                "since": time(one.since_ns),
                "said": said(one.sentence),
            }
            for one in wrong(shape, pulse, before)
        ],
        "halts": [
            {
                "scope": said(one.scope),
                "by": said(one.by),
                "since": time(one.since_ns),
                "said": said(one.reason),
            }
            for one in pulse.halts
        ],
        "published": pulse.published,
        "refused": pulse.refused,
        "dead_letters": pulse.dead,
        "rounds": {
            "open": pulse.rounds_open,
            "ended": pulse.rounds_released,
            "invalid": pulse.rounds_invalid,
            "late_answers": pulse.rounds_late,
        },
        "subscriptions": [_subscription(name, row, per_s.get(name, Rates()), pulse) for name, row in rows],
    }


def _subscription(name: str, row: SubRow, per_s: Rates, pulse: Pulse) -> Record:
    busy_ns = pulse.now_ns - row.busy_since_ns if row.busy_since_ns else None
    return {
        "name": said(name),
        "state": row.state,
        "waiting": row.lag,
        "handled": row.handled,
        "handled_per_s": round(per_s.handled, 1),
        "errors": row.errors or None,
        "dead_letters": row.dead or None,
        "in_a_call_with": said(row.call_event),
        "for_ms": ms(busy_ns),
    }


def journal(overview: dict[str, Any], *, is_written: bool) -> Record:
    """Return what the journal says: how far it goes, who has started and acted on it, and what waits in it.

    What waits and which kill switches are active is left out while a bus runs, which says that itself.
    """
    if is_written:
        return {"journal": _journal(overview)}
    return {"journal": _journal(overview), "halts": _halts(overview), "waiting": _waiting(overview)}


def _journal(overview: dict[str, Any]) -> Record:
    return {
        "file": said(overview["path"]),
        "first": overview["first"],
        "head": overview["head"],
        "bytes": overview["bytes"],
        "in_flight_at_a_crash": overview["suspects"] or None,
        "starts": [
            {"time": time(one["wall_ns"]), "position": one["pos"], "said": one["said"]}
            for one in overview["starts"][:STARTS_TOLD]
        ],
        "operators_did": [
            {"time": time(one["wall_ns"]), "position": one["pos"], "said": one["said"]}
            for one in overview["actions"][:ACTIONS_TOLD]
        ],
    }


def _halts(overview: dict[str, Any]) -> list[Record]:
    return [
        {
            "scope": said(one["scope"]),
            "by": said(one["by"]),
            "since": time(one["since_ns"]),
            "said": said(one["reason"]),
        }
        for one in overview["halts"]
    ]


def _waiting(overview: dict[str, Any]) -> list[Record]:
    """Return what waits in the journal for each subscription."""
    return [
        {
            "subscription": said(one["name"]),
            "lane": one["lane"],
            "events": one["lag"],
            "at_most": None if one["exact"] else True,
        }
        for one in overview["cursors"]
        if one["lag"]
    ]
