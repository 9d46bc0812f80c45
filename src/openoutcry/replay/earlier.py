"""What a life was handed of earlier ones: what had not been settled, and dead letters that were redriven.

Which were dead letters, the tapes of the earlier lives say. Where the end of a tape was lost it is seen from
this: an event that is only beside the log comes again for no other reason, nor does one that is taken behind
a later one of its lane.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from openoutcry.events import Undecodable, decode_many
from openoutcry.journals.reading import JournalReader
from openoutcry.journals.tape import RecordedCall
from openoutcry.replay.lives import Life, Owed, entries_at, entries_of

Letter = tuple[str, str]
"""A subscription, and the id of an event that was a dead letter of it."""


class Earlier(NamedTuple):
    """What a life was handed of earlier ones."""

    ids: dict[int, str]
    """The ids of what it was handed, by position."""
    letters: set[Letter]
    """Which of that were dead letters."""
    again: dict[str, Any]
    """The events of these, by id."""
    owed: Owed
    """What had not been settled when it began."""


def earlier_of(
    life: Life, calls: Sequence[RecordedCall], known: Collection[str], reader: JournalReader
) -> Earlier:
    """Return what a life was handed of earlier ones; `known` are the ids of its own events."""
    taken = {place for call in calls for place in call.places if isinstance(place, int)}
    places = {place for place in taken if place <= life.base}
    entries = entries_at(reader, places)
    ids = {place: entry.head().event_id or "" for place, entry in entries.items()}
    letters: set[Letter] = set()
    astray: dict[str, set[int]] = defaultdict(set)
    for name, place in _returned(life, calls, known):
        if isinstance(place, str):
            letters.add((name, place))
        elif place in ids:
            letters.add((name, ids[place]))
            astray[name].add(place)
    payloads = {ids[place]: entry.payload for place, entry in entries.items()}
    missing = {event_id for _, event_id in letters} - payloads.keys()
    payloads |= {
        event_id: entry.payload for event_id, entry in entries_of(reader, missing, life.base).items()
    }
    kept = [payloads[event_id] for event_id in sorted({i for _, i in letters} & payloads.keys())]
    decoded = (event for event in decode_many(kept) if not isinstance(event, Undecodable))
    owed = {(name, lane): its - astray[name] for (name, lane), its in life.owed.items()}
    return Earlier(ids, letters, {event.event_id: event for event in decoded}, owed)


def _returned(
    life: Life, calls: Sequence[RecordedCall], known: Collection[str]
) -> Iterator[tuple[str, int | str]]:
    """Yield who was handed a dead letter of an earlier life again, and where that stands, or its id."""
    newest: dict[tuple[str, str], int] = defaultdict(int)
    for call in calls:
        name, where = call.subscription, (call.subscription, call.lane)
        for place in call.places if call.attempt == 1 else ():
            if isinstance(place, str):
                if place not in known:
                    yield name, place
                continue
            was_letter = (name, place) in life.letters
            if place <= life.base and (was_letter or place < newest[where]):
                yield name, place
            if not was_letter:
                newest[where] = max(newest[where], place)
