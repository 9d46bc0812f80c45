"""Crossings: kill switches and their releases that come to a desk in another order, or again.

What two desks make may reach a third in either order. A kill switch that was released before it came is over
as soon as it comes, so that all desks end in the same state. An activation that no release names stays.

One that has come and was released is over for good: the log may bring it hours after it was shouted, and a
desk that was cut off still names it in its beats. By then retention may have taken it out of the journal.
"""

from collections.abc import Iterable
from typing import Any, Final

MOST: Final = 4_096
"""So many ids are remembered that were released before they came. Older ones would stay active."""
OVER_MOST: Final = 1_024
"""So many ids that are over are remembered beside the journal. Older ones would come anew."""


class Crossings:
    """The ids that releases have named before they came, with the id of the release; and those that are over.

    Attributes:
        version: Changes with every change.

    """

    def __init__(self) -> None:
        self._released: dict[str, str] = {}
        self._over: dict[str, None] = {}
        self.version: int = 0

    def __len__(self) -> int:
        return len(self._released)

    def __contains__(self, event_id: str) -> bool:
        return event_id in self._released

    def note(self, event_ids: Iterable[str], release_id: str) -> None:
        """Note that a release has named kill switches that are not known here."""
        for event_id in event_ids:
            self._released.setdefault(event_id, release_id)
            self.version += 1
        _forget(self._released, MOST)

    def take(self, event_id: str) -> str | None:
        """A kill switch has come: return the id of the release that it crossed, if one; it is forgotten."""
        found = self._released.pop(event_id, None)
        self.version += found is not None
        return found

    def end(self, event_ids: Iterable[str]) -> None:
        """Note that kill switches have come and were released, or that releases have come."""
        for event_id in event_ids:
            self._over.pop(event_id, None)  # the newest stands last
            self._over[event_id] = None
            self.version += 1
        _forget(self._over, OVER_MOST)

    def is_over(self, event_id: str) -> bool:
        """Return True if a kill switch has come and was released, or a release has come."""
        return event_id in self._over

    def to_dict(self) -> dict[str, Any]:
        """Return what is remembered, for the journal."""
        return {"released": dict(self._released), "over": list(self._over)}

    def load(self, saved: dict[str, Any]) -> None:
        """Begin with what a journal has kept, and with what was noted since."""
        released, over = saved.get("released"), saved.get("over")
        if not (isinstance(released, dict) and isinstance(over, list)):
            released, over = saved, []  # as it was written before there were any that are over
        self._released = {**released, **self._released}
        self._over = {**dict.fromkeys(over), **self._over}


def _forget(known: dict[str, Any], most: int) -> None:
    while len(known) > most:
        del known[next(iter(known))]
