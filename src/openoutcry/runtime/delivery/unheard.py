"""Events that nobody takes: counted by type, and kill switches kept until somebody takes one."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from openoutcry.events import RECORDS, fixed_event_type
from openoutcry.runtime.delivery.seen_ids import type_of

TYPES_MOST: Final = 1_000
"""So many types are counted apart; the rest under `OTHERS`."""
OTHERS: Final = "(others)"
KILL_SWITCHES_MOST: Final = 100
_RECORDS: Final = frozenset(RECORDS.values())


class Unheard:
    """What was accepted by a running bus, or waited for its start, and is taken by no subscription.

    Attributes:
        counts: How many events, by type.
        kill_switches: The kill switches among them, by id: until one is taken, or they are released.

    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.kill_switches: dict[str, Any] = {}

    def note(self, events: Sequence[Any], lane: str) -> None:
        """Note events that were about to be put into a lane of nobody."""
        cls: type = events[0].__class__
        if cls in _RECORDS:
            return
        if len(events) == 1 or (fixed_event_type(cls) is not None and len(set(map(type, events))) == 1):
            self._count(type_of(events[0]), len(events))
        else:
            for event in events:
                self._count(type_of(event), 1)
        if lane == "control":
            for event in events:
                self._note_kill_switch(event)

    def _count(self, event_type: str, count: int) -> None:
        known = event_type in self.counts or len(self.counts) < TYPES_MOST
        self.counts[event_type if known else OTHERS] += count

    def _note_kill_switch(self, event: Any) -> None:
        if getattr(event, "activated", True):
            self.kill_switches[event.event_id] = event
            if len(self.kill_switches) > KILL_SWITCHES_MOST:
                del self.kill_switches[next(iter(self.kill_switches))]
        else:
            self.released(event)

    def released(self, release: Any) -> None:
        """A release was published: what it ends need not be taken any more."""
        scope, named = getattr(release, "scope", None), frozenset(getattr(release, "releases", ()))
        self.kill_switches = {
            event_id: event
            for event_id, event in self.kill_switches.items()
            if (event_id not in named if named else getattr(event, "scope", None) != scope)
        }

    def taken(self, event: Any) -> None:
        """A kill switch, or a release, was put into somebody's mailbox: somebody listens."""
        if getattr(event, "activated", True):
            self.kill_switches.clear()
        else:
            self.released(event)
