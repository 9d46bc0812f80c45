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
    explained = tracer.explain(fills[-1])
    sums = list(sums_of(fills))
    why_not = _unknown_before(finder, len(fills))
    if why_not:
        gaps.note(f"How much {short(symbol)} is held is not known: {why_not}.")
    return msgspec.structs.replace(
        explained,
        title=_title(symbol, None if why_not else sums[-1].held, fills[-1]),
        held=() if why_not else tracer.held_of(since_flat(sums)),
        unknown=gaps.told(),
    )


def _unknown_before(finder: Finder, count: int) -> str:
    """Say why it is not known what was held before the fills that were found; empty if it was nothing."""
    if count == FILLS_MOST:
        return f"only the newest {FILLS_MOST:,} fills are looked at"
    source = next((source for source in finder.sources if source.reader.first > 1), None)
    if source is None:
        return ""
    whose = "" if len(finder.sources) == 1 else f" of desk {short(source.desk)}"
    return f"what stood before #{source.reader.first}{whose} is no longer kept"


def _title(symbol: str, held: float | None, last: Found) -> str:
    name = short(symbol)
    if held is None:
        what = f"{name} is held as it is"
    elif held == 0.0:
        what = f"no {name} is held any more"
    else:
        what = f"{figure(abs(held))} {name} are {'held' if held > 0 else 'sold short'}"
    return f"Why {what}, since fill #{last.entry.position} {when(last)}"
