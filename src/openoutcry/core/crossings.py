"""Crossings: a release that came before the kill switch that it names.

What two desks make may reach a third in either order. A kill switch that was released before it came is over
as soon as it comes, so that all desks end in the same state. An activation that no release names stays.
"""

from collections.abc import Iterable
from typing import Final

MOST: Final = 4_096
"""So many ids are remembered. Beyond that the oldest are forgotten, and would stay active."""


class Crossings:
    """The ids that releases have named before they came, with the id of the release.

    Attributes:
        version: Changes with every change.

    """

    def __init__(self) -> None:
        self._released: dict[str, str] = {}
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
        while len(self._released) > MOST:
            del self._released[next(iter(self._released))]

    def take(self, event_id: str) -> str | None:
        """A kill switch has come: return the id of the release that it crossed, if one; it is forgotten."""
        found = self._released.pop(event_id, None)
        self.version += found is not None
        return found

    def to_dict(self) -> dict[str, str]:
        """Return what is remembered, for the journal."""
        return dict(self._released)

    def load(self, saved: dict[str, str]) -> None:
        """Begin with what a journal has kept, and with what was noted since."""
        self._released = {**saved, **self._released}
