"""Text in the columns of a terminal: how wide it is, and how it is cropped and aligned to fit."""

from collections.abc import Sequence
from typing import Final
from unicodedata import combining, east_asian_width

CUT: Final = "..."
GAP: Final = "  "
"""What stands between two columns."""


def width_of(text: str) -> int:
    """Return how many columns a terminal takes for text that is safe to show."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    if combining(character):
        return 0
    return 2 if east_asian_width(character) in "WF" else 1


def cropped(text: str, most: int) -> str:
    """Return text in at most so many columns: a longer one loses its end."""
    if width_of(text) <= most:
        return text
    if most <= len(CUT):
        return CUT[: max(0, most)]
    return fitting(text, most - len(CUT)) + CUT


def shortened(name: str, most: int) -> str:
    """Return a name in at most so many columns: a longer one loses its middle, so that its end tells."""
    if width_of(name) <= most:
        return name
    end = (most - len(CUT)) // 2
    tail = fitting(name[::-1], end)[::-1] if end > 0 else ""
    return fitting(name, most - len(CUT) - width_of(tail)) + CUT + tail if most > len(CUT) else CUT[:most]


def fitting(text: str, most: int) -> str:
    """Return the beginning of a text that takes at most so many columns."""
    if text.isascii():
        return text[:most]
    taken = 0
    for at, character in enumerate(text):
        taken += _columns(character)
        if taken > most:
            return text[:at]
    return text


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Return text filled up with spaces to so many columns."""
    space = " " * (width - width_of(text))
    return space + text if right else text + space


def widths_of(rows: Sequence[Sequence[str]]) -> list[int]:
    """Return how wide each column of some rows is."""
    return [max(map(width_of, column)) for column in zip(*rows, strict=True)]
