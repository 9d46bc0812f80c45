"""What power cuts took of a journal, as far as that can be known.

The marks say which position had been written; they are on the disk as they were when they were last synced,
so what is counted is the least that was lost. Nothing that was accepted at `disk` is among it. The
positions are given to other entries afterwards.

The record is a setting of the file: it stays, and a recovery carries it over.
"""

from typing import Final

import msgspec

SETTING: Final = "power_cut"


class PowerCut(msgspec.Struct, frozen=True):
    """What the last power cut that cost something took.

    Attributes:
        lost: How many entries, at least: accepted at `process`, or not accepted yet.
        first: The position of the first of them.
        cuts: How many power cuts have cost something so far.
        told_after: The run in the marks when an opening told of it; empty: none has. An opening signs the
            marks last, so while they name this run, that one has not come to its end.

    """

    lost: int
    first: int
    cuts: int = 1
    told_after: str = ""

    def is_told(self, run: str) -> bool:
        """Return True if an opening that came to its end has told of it; `run`: the one in the marks."""
        return self.told_after not in ("", run)

    def text(self) -> str:
        """Return what is written in the file."""
        return msgspec.json.encode(self).decode()

    def __str__(self) -> str:
        """Return it in words."""
        entries = "entry" if self.lost == 1 else "entries"
        return (
            f"a power cut took at least {self.lost:,} {entries} accepted at `process`, from position "
            f"{self.first:,} on; nothing accepted at `disk`"
        )


def read(settings: dict[str, str]) -> PowerCut | None:
    """Return the record of a file; None where there is none."""
    text = settings.get(SETTING)
    return None if text is None else msgspec.json.decode(text, type=PowerCut)


def after(before: PowerCut | None, lost: int, first: int) -> PowerCut | None:
    """Return the record after another opening that has found so much missing."""
    if lost <= 0:
        return before
    return PowerCut(lost, first, 1 if before is None else before.cuts + 1)
