"""The rounds of a chain: which use of a round's id it was, who voted how, and who did not."""

from collections.abc import Iterator
from typing import Any, Final

from openoutcry.journals.lineage.explanation import RoundCase, VoteCount
from openoutcry.journals.lineage.finding import Finder, Found, Source
from openoutcry.journals.lineage.keys import ID, ROUND, RUN
from openoutcry.journals.lineage.words import side_of
from openoutcry.journals.rounds import RecordedRound, RoundCell, is_written, rounds_in

_USES_MOST: Final = 4_096
_ENTRIES_MOST: Final = 2_048
"""At most so many uses of one id, and events of one round, are looked at."""
_LIKES: Final = {"buy": "long", "sell": "short"}


class _Use:
    """One use of a round's id: its records that were found."""

    def __init__(self, ordinal: int, opened: Found | None, released: Found | None) -> None:
        self.ordinal = ordinal
        self.opened = opened
        self.released = released

    @property
    def record(self) -> Found:
        """The record that says most of it."""
        found = self.released or self.opened
        assert found is not None, "a use has a record"
        return found

    @property
    def last(self) -> int:
        """The position of the last of its records."""
        return self.record.entry.position

    @property
    def opened_ns(self) -> int:
        """When it was opened."""
        fields = self.record.fields
        at_ns = fields.get("opened_wall_ns", fields.get("timestamp"))
        return at_ns if isinstance(at_ns, int) else 0

    @property
    def signal_ids(self) -> list[str]:
        """The signals that voted."""
        votes = self.record.fields.get("votes")
        return [str(vote[2]) for vote in votes] if isinstance(votes, list) else []


def case_of(
    finder: Finder, round_id: str, chain: list[Found], decided: Found | None, ordinal: int | None = None
) -> RoundCase | None:
    """Return the round of an id that a chain has come through; None if no record of it was found."""
    for source in finder.sources:
        uses = list(_uses(finder, source, round_id))
        if uses:
            use = _right_one(uses, chain, decided, ordinal)
            found = _recorded(finder, source, round_id, uses, use)
            if found is not None:
                desk = None if source is finder.sources[0] else source.desk
                action = "" if decided is None else side_of(decided.fields)
                return RoundCase(round=found, votes=_votes(found, decided), action=action, desk=desk)
    return None


def _uses(finder: Finder, source: Source, round_id: str) -> Iterator[_Use]:
    """Yield the uses of an id in a journal, oldest first."""
    known = source.round_of(round_id)
    for ordinal in range(1, _USES_MOST):
        name = f"round:{round_id}" if ordinal == 1 else f"round:{round_id}:{ordinal}"
        opened, released = (
            _record(finder, source, one, round_id) if known is None else known.get(one)
            for one in (f"{name}:opened", name)
        )
        if opened is None and released is None:
            # the oldest may have been retired
            if ordinal > 1 or not _has_later(finder, source, round_id):
                return
            continue
        yield _Use(ordinal, opened, released)


def _has_later(finder: Finder, source: Source, round_id: str) -> bool:
    some = finder.of(ROUND, round_id, _ENTRIES_MOST, source)
    return any(found.event_type == "round_released" for found in some)


def _record(finder: Finder, source: Source, event_id: str, round_id: str) -> Found | None:
    """Return a record of a round: another round may have an id that ends as an ordinal does."""
    found = next(iter(finder.of(ID, event_id, 1, source)), None)
    return found if found is not None and found.head.round_id == round_id else None


def _right_one(uses: list[_Use], chain: list[Found], decided: Found | None, ordinal: int | None) -> _Use:
    """Return the use that a chain has come through: that of its signals, else the last opened before it."""
    if ordinal is not None:
        return next((use for use in uses if use.ordinal == ordinal), uses[-1])
    ids = {found.event_id for found in chain} | set(decided.bases() if decided is not None else ())
    for use in reversed(uses):
        if not ids.isdisjoint(use.signal_ids):
            return use
    at_ns = min((found.entry.wall_ns for found in chain[-1:]), default=0)
    return next((use for use in reversed(uses) if use.opened_ns <= at_ns), uses[0])


def _recorded(
    finder: Finder, source: Source, round_id: str, uses: list[_Use], use: _Use
) -> RecordedRound | None:
    at = uses.index(use)
    low = uses[at - 1].last if at else 0
    high = uses[at + 1].record.entry.position if at + 1 < len(uses) else source.reader.head
    places = [place for place in source.places(ROUND, round_id, _USES_MOST) if low < place <= high][
        -_ENTRIES_MOST:
    ]
    entries = {found.entry.position: found for place in places if (found := source.at(place)) is not None}
    late = [
        str(found.fields.get("signal_id")) for found in entries.values() if found.event_type == "round_late"
    ]
    known = {found.event_id for found in entries.values()}
    for signal_id in {*use.signal_ids, *late} - known:
        for found in finder.of(ID, signal_id, 1, source):
            entries[found.entry.position] = found
    for record in (use.opened, use.released):
        if record is not None:
            entries[record.entry.position] = record
    for found in finder.of(RUN, "", _ENTRIES_MOST, source):
        if found.entry.position > min(entries):
            entries[found.entry.position] = found
    newest_first = (entries[place].entry for place in sorted(entries, reverse=True))
    is_open = use.released is None and is_written(source.reader, "auto")
    some = rounds_in(newest_first, is_written=is_open)
    return next((one for one in some if one.round_id == round_id and one.ordinal == use.ordinal), None)


def _votes(found: RecordedRound, decided: Found | None) -> tuple[VoteCount, ...]:
    """Return the votes that counted, those for the decision first, the strongest first."""
    liked = _LIKES.get(side_of(decided.fields)) if decided is not None else None
    symbol = decided.head.symbol if decided is not None else None
    votes = [vote for cell in found.cells for vote in _counted(cell, symbol, liked)]
    order = {"for": 0, "long": 0, "against": 1, "short": 1, "flat": 2, "": 3}
    return tuple(sorted(votes, key=lambda vote: (order.get(vote.side, 3), -loudness(vote), vote.agent)))


def _counted(cell: RoundCell, symbol: str | None, liked: str | None) -> list[VoteCount]:
    newest: dict[str | None, Any] = {vote.symbol: vote for vote in cell.votes}
    if symbol in newest:
        newest = {symbol: newest[symbol]}
    elif symbol is not None and len(newest) > 1:
        newest = {}
    return [
        VoteCount(
            agent=cell.agent,
            side=_side(vote.direction, liked),
            direction=vote.direction,
            strength=vote.strength,
            confidence=vote.confidence,
            after_ns=vote.after_ns,
            signal_id=vote.signal_id,
        )
        for vote in newest.values()
    ]


def _side(direction: str | None, liked: str | None) -> str:
    if direction is None:
        return ""
    if direction not in ("long", "short") or liked is None:
        return direction
    return "for" if direction == liked else "against"


def loudness(vote: VoteCount) -> float:
    """Return how much a vote weighs: its strength times its confidence, if it has one."""
    return abs(vote.strength or 0.0) * (1.0 if vote.confidence is None else vote.confidence)
