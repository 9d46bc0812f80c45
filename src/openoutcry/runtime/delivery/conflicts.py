"""Conflicts: an event id that is used again for other content. The first stands, and it is told."""

import logging
from typing import Any, Final

from openoutcry.logs import about
from openoutcry.runtime.delivery.seen_ids import type_of
from openoutcry.units import NS_PER_S

log = logging.getLogger("openoutcry")

LOG_EVERY_NS: Final = 60 * NS_PER_S
"""A type is in the log once in this time; the others in between are counted."""
HEALTH_NS: Final = 600 * NS_PER_S
"""For so long a conflict is a health finding."""
TYPES_MOST: Final = 1_000


class Conflicts:
    """Conflicts of ids on one bus.

    Attributes:
        total: How many there were.
        last: The last one in words; empty before the first.
        last_ns: When that was, on the bus's monotonic clock.

    """

    def __init__(self) -> None:
        self.total: int = 0
        self.last: str = ""
        self.last_ns: int = 0
        self._logged: dict[str, tuple[int, int]] = {}

    def note(self, event: Any, fields: tuple[str, ...], now_ns: int) -> None:
        """Note that an event was published with the id of another one, which differs in these fields."""
        event_type = type_of(event)
        self.total += 1
        self.last_ns = now_ns
        self.last = f"{event_type} {event.event_id} differs in {in_words(fields)}"
        if len(self._logged) >= TYPES_MOST and event_type not in self._logged:
            self._logged.clear()
        logged_ns, more = self._logged.get(event_type, (now_ns - LOG_EVERY_NS, 0))
        if now_ns - logged_ns < LOG_EVERY_NS:
            self._logged[event_type] = (logged_ns, more + 1)
            return
        self._logged[event_type] = (now_ns, 0)
        log.warning(
            "the event %s (%s) was accepted before with other content (%s); the first one stands, "
            "this one is not delivered%s: give each event an id of its own, a changed copy too "
            "(event.amended)",
            event.event_id,
            event_type,
            in_words(fields),
            f"; so were {more} since the last warning" if more else "",
            extra=about(event, event_type=event_type),
        )

    def is_recent(self, now_ns: int) -> bool:
        """Return True if health still tells of the last one."""
        return bool(self.last) and now_ns - self.last_ns < HEALTH_NS


def in_words(fields: tuple[str, ...]) -> str:
    """Return the names of fields that differ, for a sentence."""
    return "everything" if fields == ("*",) else ", ".join(fields)
