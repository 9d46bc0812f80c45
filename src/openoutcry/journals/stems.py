"""Which stems of counting ids a journal file has, so that a new process's ids are known to be new at once.

A process counts on a stem of its own. The file's stems stand in one of its settings, saved in the commit that
brings the first id of a stem; ids whose stem is not among them need no look at the entries.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from openoutcry.journals.ids import STEM, Part, counts

STEMS_MAX: Final = 2_048
"""With more, whoever writes counts on something else, and the setting says `MANY`."""
MANY: Final = "*"
_SEPARATOR: Final = "\n"


class Stems:
    """The stems in a file.

    Args:
        said: What the file says of them; None where it says nothing.

    """

    __slots__ = ("_before", "_now", "_saved")

    def __init__(self, said: str | None) -> None:
        self._saved = said
        self._before: frozenset[str] | None = None
        """Those that came before the opening; None: any may have."""
        if said is not None and said != MANY:
            self._before = frozenset(said.split(_SEPARATOR)) if said else frozenset()
        self._now = None if self._before is None else set(self._before)

    def are_new(self, ids: Iterable[str]) -> bool:
        """Return True if all these ids count, on stems that the file did not have when it was opened."""
        before = self._before
        if before is None:
            return False
        return all(counts(event_id) and event_id[:STEM] not in before for event_id in ids)

    def to_save(self, parts: Sequence[Part]) -> str | None:
        """Return what the file must say from the commit on that brings these parts; None: it says it."""
        now = self._now
        if now is None:
            return None
        for stem, _, _ in parts:
            if stem not in now:
                break
        else:
            return None
        more = now.union([stem for stem, _, _ in parts])
        return MANY if len(more) > STEMS_MAX else _SEPARATOR.join(sorted(more))

    def saved(self, said: str) -> None:
        """Note what the file says now."""
        self._saved = said
        self._now = None if said == MANY else set(said.split(_SEPARATOR))

    def settle(self, stems: Iterable[str]) -> None:
        """Note which stems there are, where the file says nothing: with the next new one it will."""
        if self._now is None and self._saved is None:
            self._now = set(stems)
