"""What is on record: the newest events of some kinds, from the journal if there is one, else from memory."""

from typing import Any

from openoutcry.events import Event, decode_many, fixed_event_type
from openoutcry.ports import Filter
from openoutcry.runtime.bus import EventBus


def on_record(bus: EventBus, *kinds: type[Event], limit: int) -> list[Any]:
    """Give the newest events of some classes, oldest first, those of earlier lives included."""
    face = bus.persistence
    if face is None:
        return bus.get_event_history(list(kinds), limit=limit)
    types = frozenset(str(fixed_event_type(kind)) for kind in kinds)
    stored = face.journal.tail(limit, Filter(types=types))
    return decode_many([entry.payload for entry in stored])
