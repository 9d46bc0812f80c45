"""Recorded days as fixtures: an app does what it did on the day."""

from pathlib import Path
from typing import Any

from openoutcry.errors import RecordTooThin
from openoutcry.replay import Replayed, replay

_SHOWN = 10


class NotAsRecorded(AssertionError):
    """Agents do not do what they did on a recorded day. The message names what differs.

    Attributes:
        replayed: How the replay has ended.

    """

    def __init__(self, message: str, replayed: Replayed) -> None:
        super().__init__(message)
        self.replayed: Replayed = replayed


def same_as_recorded(
    path: str | Path, app: Any = None, *, allow_gaps: bool = False, **options: Any
) -> Replayed:
    """Replay a recorded day; raise `NotAsRecorded` unless its agents do all that they did, and nothing else.

    Keep days as files beside the tests, recorded with `record="replay"`: a change of an agent that is not
    meant to change a decision is then a failing test if it does. All lives of the journal are replayed. A
    test says nothing of what was not compared: so a day with a gap in its record, which it has wherever a
    process has died, is refused unless that is allowed.

    Args:
        path: The journal of the day.
        app: What made the agents, as for `openoutcry.replay.replay`; by default what the journal says.
        allow_gaps: Whether some of the day may be left out, as it is not on record. What was left out is in
            the result: `skipped_count`, and `skipped` of each of its `lives`.
        options: As for `replay`.

    Raises:
        NotAsRecorded: Something differs. The first difference of each agent is named, up to ten.
        RecordTooThin: Nothing differs, and some of the day was not compared; or as for `replay`.
        ReplayError, ConfigError, JournalError: As for `replay`.

    """
    found = replay(path, app, **options)
    if not found.identical:
        lines = [one.text() for one in found.first_differences()]
        more = [f"and {len(lines) - _SHOWN} more agents"] if len(lines) > _SHOWN else []
        told = "\n".join(f"  {line}" for line in (*lines[:_SHOWN], *more, *found.limits))
        raise NotAsRecorded(
            f"{len(found.differences):,} differences from the day in {path}, of {len(lines)} agents:\n{told}",
            found,
        )
    gaps = [f"life {life.number}: {life.skipped}" for life in found.lives if life.skipped]
    if gaps and not allow_gaps:
        raise RecordTooThin(
            f"{path}: {found.entries_count:,} events are as recorded, and some were not compared; record a "
            f"day that stops in time, or say allow_gaps=True. {'; '.join(gaps)}"
        )
    return found
