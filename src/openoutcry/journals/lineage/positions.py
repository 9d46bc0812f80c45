"""Why a position is held: the fills since it was flat, and the newest of them explained."""

from typing import Final

import msgspec

from openoutcry.errors import UnknownReference
from openoutcry.journals.lineage.explaining import Tracer
from openoutcry.journals.lineage.explanation import Explanation
from openoutcry.journals.lineage.finding import Finder, Found
from openoutcry.journals.lineage.gaps import Gaps
from openoutcry.journals.lineage.holdings import since_flat, sums_of
from openoutcry.journals.lineage.keys import TRADED
from openoutcry.journals.lineage.titles import when
from openoutcry.journals.lineage.words import figure, short
from openoutcry.printable import printable

FILLS_MOST: Final = 2_000


def explain_position(finder: Finder, tracer: Tracer, gaps: Gaps, symbol: str) -> Explanation:
    """Return why so much of a symbol is held. Raises `UnknownReference` where it was never traded."""
    fills = finder.of(TRADED, symbol, FILLS_MOST)
    if not fills:
        raise UnknownReference(
            f"{finder.sources[0].reader.path} has no fill of {printable(symbol[:80])!r}, so nothing is held"
        )
    if len(fills) == FILLS_MOST:
        gaps.note(
            f"Only the newest {FILLS_MOST:,} fills were added up: what was held before them is not known."
        )
    elif (first := finder.sources[0].reader.first) > 1:
        gaps.note(f"What stood before #{first} is no longer kept: what was held then is not known.")
    sums = list(sums_of(fills))
    held = sums[-1].held
    explained = tracer.explain(fills[-1])
    return msgspec.structs.replace(
        explained,
        title=_title(symbol, held, fills[-1]),
        held=tracer.held_of(since_flat(sums)),
        unknown=gaps.told(),
    )


def _title(symbol: str, held: float, last: Found) -> str:
    what = (
        f"no {short(symbol)} is held any more"
        if held == 0.0
        else f"{figure(abs(held))} {short(symbol)} are held"
    )
    short_by = ", sold short" if held < 0 else ""
    return f"Why {what}{short_by}, since fill #{last.entry.position} {when(last)}"
