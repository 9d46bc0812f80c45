"""What calls are told by the bus of a replay when they ask it: what they were told on the day."""

from collections import Counter

from openoutcry.core.halts import Halt, halt_of
from openoutcry.journals.told import Asking, writable
from openoutcry.replay.day import Day
from openoutcry.runtime.delivery.causation import Publisher


class Told:
    """Answers of the day to what calls ask their bus, as far as they depend on how long somebody slept.

    A sleep takes longer on the day than it says. So who had slept may be early now; and who was early then,
    since somebody else was slow, may be in time.
    """

    def __init__(self, day: Day) -> None:
        self._day = day
        self._not_known = Counter(day.not_known)
        self._asking = Asking()
        self._seen: dict[tuple[str, str], tuple[str, ...]] = {}

    def knows_not(self, subscription: str, round_id: str) -> bool:
        """Whether a call is told that a round is not known: as often as on the day."""
        asked = subscription, writable(round_id)
        if not self._not_known[asked]:
            return False
        self._not_known[asked] -= 1
        return True

    def halts(self, who: Publisher | None, scope: str, now: tuple[Halt, ...]) -> tuple[Halt, ...]:
        """Return the kill switches that a call is told of, given those that are active now."""
        cause = None if who is None else who.cause()
        if who is None or cause is None or not who.in_call:  # the tape notes no others
            return now
        place = who.subscription, scope
        number = self._asking.number(*place, cause.event_id)
        asked = who.subscription, writable(scope), writable(cause.event_id), number
        ids = self._day.halts_seen.get(asked, self._seen.get(place))
        if ids is None:
            return now
        self._seen[place] = ids
        known = {halt.event_id: halt for halt in now}
        found = [known.get(event_id) or self._halt(event_id) for event_id in ids]
        return now if None in found else tuple(halt for halt in found if halt is not None)

    def _halt(self, event_id: str) -> Halt | None:
        """Return a kill switch of the day that is not active at this moment; None if it is not of the day."""
        entry, earlier = self._day.by_id.get(event_id), self._day.begins.halts.get(event_id)
        if entry is not None:
            return halt_of(entry.event, entry.stored.wall_ns)
        return None if earlier is None else Halt(**earlier)
