"""Near misses: which known name was probably meant by one that is not known."""

import logging
import os
import sys
import unicodedata
import warnings
from collections.abc import Iterable
from pathlib import Path

log = logging.getLogger("openoutcry")

_HERE = str(Path(__file__).parent) + os.sep
_SHORTEST = 4
"""Shorter names are too like each other for a hint."""
_SHORT = 7
"""Up to this length one slip is allowed for, and two in longer names."""
_LONGEST = 200
"""Longer ones are no slips of the keyboard: to compare two of a million characters takes hours."""


def form_of(name: str) -> str:
    """Return a name without case and separators: `KILL_SWITCH`, `kill-switch` and `KillSwitch` are one."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", name).casefold()))


def same_form(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that `name` equals but for case or separators."""
    form = form_of(name)
    return next((other for other in sorted(known) if form and form_of(other) == form), None)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that `name` is probably a slip of the keyboard for, if there is one.

    Names that differ in their digits are meant to differ.
    """
    form = form_of(name)
    if not _SHORTEST <= len(form) <= _LONGEST:
        return None
    most = 1 if len(form) <= _SHORT else 2
    digits = _digits(name)
    near = (
        (_slips(form, other_form), other)
        for other in known
        if abs(len(other_form := form_of(other)) - len(form)) <= most and _digits(other) == digits
    )
    slips, found = min(near, default=(most + 1, None))
    return found if slips <= most else None


def _digits(name: str) -> str:
    return "".join(filter(str.isdigit, name))


def _slips(one: str, other: str) -> int:
    """Count insertions, deletions, substitutions and swaps of neighbours (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, last, row = row, before, [i]
        for j, b in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]


def warn(text: str) -> None:
    """Say loudly what is probably a mistake: in the log, and as a warning at the user's line."""
    log.warning("%s", text)
    level, frame = 1, sys._getframe()  # noqa: SLF001 - `skip_file_prefixes` is new in 3.12
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, UserWarning, stacklevel=level)
