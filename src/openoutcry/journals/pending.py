"""What each subscription has not settled: counted from its saved cursors, without running its code."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

import msgspec

from openoutcry.events import EVERYTHING, takes_type
from openoutcry.journals.log import LAST_POSITION
from openoutcry.journals.reading import JournalReader
from openoutcry.journals.scanning import Seen, pages
from openoutcry.journals.showing import head_of, time_of
from openoutcry.ports import CursorState, Stored


class Waiting(msgspec.Struct, kw_only=True):
    """What waits for one subscription in one lane.

    Attributes:
        subscription: Its name.
        lane: The lane.
        floor: Every position up to here is settled.
        waiting: Events that it takes and has not settled.
        first: The position of the first of them; None if nothing waits.
        oldest: When that one was admitted; empty if nothing waits.

    """

    subscription: str
    lane: str
    floor: int
    waiting: int = 0
    first: int | None = None
    oldest: str = ""


class Claim:
    """One cursor while the journal is read."""

    def __init__(self, cursor: CursorState) -> None:
        self.cursor = cursor
        self.takes: frozenset[str] = frozenset(cursor.takes or (EVERYTHING,))
        self.said: Waiting = Waiting(subscription=cursor.subscription, lane=cursor.lane, floor=cursor.floor)

    def takes_type(self, event_type: str | None) -> bool:
        """Return True if the subscription takes events of a type."""
        return takes_type(self.takes, event_type)

    def wants(self, position: int) -> bool:
        """Return True if a position was not settled."""
        if position <= self.cursor.floor:
            return False
        before = bisect_right(self.cursor.settled, (position, LAST_POSITION))
        return not before or self.cursor.settled[before - 1][1] < position

    def count(self, places: list[int]) -> int:
        """Return how many of these ascending positions were not settled."""
        settled = self.cursor.settled
        count = len(places) - bisect_right(places, self.cursor.floor)
        first = max(0, bisect_right(settled, (places[0], LAST_POSITION)) - 1)
        for low, high in settled[first : bisect_right(settled, (places[-1], LAST_POSITION))]:
            low_above = max(low, self.cursor.floor + 1)
            count -= max(0, bisect_right(places, high) - bisect_left(places, low_above))
        return count


def unsettled(reader: JournalReader, cursors: Iterable[CursorState]) -> Iterator[tuple[Stored, str]]:
    """Yield every unsettled event, in order, with the name of each subscription for which it waits."""
    claims = [Claim(cursor) for cursor in cursors]
    after = min((claim.cursor.floor for claim in claims), default=reader.head)
    for page in pages(reader, after=after):
        for entry in page:
            if entry.is_beside:
                continue
            event_type = head_of(entry).event_type
            for claim in claims:
                if (
                    claim.cursor.lane == entry.lane
                    and claim.takes_type(event_type)
                    and claim.wants(entry.position)
                ):
                    yield entry, claim.said.subscription


def count_waiting(reader: JournalReader, seen: Seen | None = None) -> list[Waiting]:
    """Count what waits for every subscription, lane by lane."""
    claims = [Claim(cursor) for cursor in reader.cursors()]
    after = min((claim.cursor.floor for claim in claims), default=reader.head)
    for page in pages(reader, after=after, seen=seen):
        places: dict[tuple[str, str | None], list[int]] = {}
        for entry in page:
            if entry.is_beside:
                continue
            places.setdefault((entry.lane, head_of(entry).event_type), []).append(entry.position)
        for claim in claims:
            _count_up(claim, page, places)
    return [claim.said for claim in claims]


def _count_up(claim: Claim, page: list[Stored], places: dict[tuple[str, str | None], list[int]]) -> None:
    """Add to a claim what waits for it on a page; the positions are given by lane and type."""
    mine = [
        found
        for (lane, event_type), found in places.items()
        if lane == claim.cursor.lane and claim.takes_type(event_type)
    ]
    count = sum(map(claim.count, mine))
    if count and not claim.said.waiting:
        first = min(position for found in mine for position in found if claim.wants(position))
        claim.said.first = first
        claim.said.oldest = next(time_of(entry.wall_ns) for entry in page if entry.position == first)
    claim.said.waiting += count
