"""Writing the tape: what it has collected goes into commits, events at `memory` before the others.

Where an event stands in the journal is known when it is written. So the notes of a batch of such events are
completed here, by the ids that were written last.
"""

import logging
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Final

from openoutcry.errors import JournalError
from openoutcry.events import Event, TapeRecorded, encode
from openoutcry.journals.tape import StepWriter
from openoutcry.ports import Alike, Entry, Header, Journal, Level
from openoutcry.runtime.delivery.tape import BEGUN, Delivered, Notes, Tape
from openoutcry.runtime.durability.recorder import Record

log = logging.getLogger("openoutcry")

_PLACES_KEPT: Final = 65_536
"""Of twice as many events at `memory` at most it is remembered where they stand."""


class TapeWriter:
    """Brings the tape of one bus into its journal, and into the next one if that is replaced."""

    def __init__(self, tape: Tape) -> None:
        self.tape: Tape = tape
        self._since_ns = 0
        self._number = 0
        self._stem = ""
        self._is_ending = False
        self._places: dict[str, int] = {}
        self._places_before: dict[str, int] = {}
        self._beside: list[tuple[int, int, int, int]] = []

    @property
    def has_any(self) -> bool:
        """Whether a record is to be written."""
        return self._is_ending or bool(self._beside) or self.tape.has_any

    def started(self, now_ns: int) -> None:
        """A run begins: times count from here."""
        self._since_ns, self._number, self._stem = now_ns, 0, ""

    def begin(self, wake: Callable[[bool], None]) -> None:
        """Call `wake` from now on when notes wait; with True: they are to be written now."""
        self._is_ending = False
        self.tape.begin(wake)

    def end(self) -> None:
        """The run ends: the next record says that it is the last."""
        self.tape.end()
        self._is_ending = True

    def write_beside(self, journal: Journal, header_of: Callable[[Any], Header | None]) -> None:
        """Write the events at `memory` that wait. Raises what the journal does; then they wait on."""
        tape = self.tape
        if not tape.delivered:
            return
        delivered = tape.take_delivered()
        try:
            entries = _entries(delivered, header_of)
        except Exception:  # a record must not keep a commit from anything
            log.exception("events at `memory` could not be recorded, and are left out")
            tape.left_out += sum(len(one.events) for one in delivered)
            return
        try:
            first = journal.write(entries).positions[0]
        except BaseException:
            tape.give_back_delivered(delivered)
            raise
        places = self._places
        for events, _, _, at_ns, order, _ in delivered:
            self._beside.append((first, len(events), at_ns, order))
            for event in events:
                places[event.event_id] = first
                first += 1
        if len(places) > _PLACES_KEPT:
            self._places_before, self._places = places, {}

    def record(self, journal: Journal) -> Record | None:
        """Return a record of what waits; None if nothing does."""
        if not self.has_any:
            return None
        try:
            return self._record(journal)
        except Exception:  # a record must not keep a commit from anything
            log.exception("a part of the tape could not be written, and is left out")
            self.tape.left_out += 1
            return None

    def _record(self, journal: Journal) -> Record:
        tape, since_ns, notes = self.tape, self._since_ns, self.tape.take()
        self._number += 1
        if not self._stem:
            named = f"tape:{journal.origin}:{journal.head}:{since_ns}:{tape.now_ns()}".encode()
            self._stem = blake2b(named, digest_size=8).hexdigest()
        beside, self._beside = self._beside, []
        event = TapeRecorded(
            event_id=f"{self._stem}-{self._number:x}",
            number=self._number,
            is_last=self._is_ending,
            left_out=notes.left_out,
            upto_ns=tape.now_ns() - since_ns,
            steps=self._steps(notes, beside, journal),
        )
        self._is_ending = False
        return Record(event.event_id, encode(event))

    def _steps(self, notes: Notes, beside: list[tuple[int, int, int, int]], journal: Journal) -> str:
        since_ns, writer = self._since_ns, StepWriter()
        add, places_of = writer.add, self._places_of
        for one in notes.taken:
            places = places_of(one.events, one.positions, journal)
            took_ns = 0 if one.end == BEGUN else one.ended_ns - one.begun_ns
            where = one.subscription, one.lane, one.end, one.attempts, one.number
            add(*where, one.begun_ns - since_ns, took_ns, one.head, one.order, one.error, places)
        for event_id, who, was_refused, at_ns in notes.made:
            writer.add_made(event_id, who, was_refused, at_ns - since_ns)
        return writer.text(
            [(upto, at_ns - since_ns, order) for upto, at_ns, order in notes.released],
            [(first, count, at_ns - since_ns, order) for first, count, at_ns, order in beside],
            [(event_id, at_ns - since_ns, order) for event_id, at_ns, order in notes.raised],
        )

    def _places_of(
        self, events: Sequence[Any], positions: Sequence[int] | None, journal: Journal
    ) -> list[int | str]:
        """Return where events stand: pairs of a position and a count, and ids of those that are not there."""
        if positions and not events:
            return [positions[0], len(positions)]
        count = len(events)
        first, last = (0, 0) if positions else (self._place(events[0]), self._place(events[-1]))
        if first and last - first + 1 == count:
            return [first, count]
        found: list[int | str] = []
        for index, event in enumerate(events):
            place: int | str | None = positions[index] if positions else self._place(event)
            place = place or _find(journal, event.event_id) or event.event_id
            if isinstance(place, int) and len(found) > 1 and _follows(found, place):
                found[-1] += 1  # type: ignore[operator]
            else:
                found += [place] if isinstance(place, str) else [place, 1]
        return found

    def _place(self, event: Any) -> int:
        event_id = event.event_id
        return self._places.get(event_id) or self._places_before.get(event_id, 0)


def _follows(found: list[int | str], place: int) -> bool:
    """Return True if a position follows the run that was written last."""
    first, count = found[-2:]
    return isinstance(first, int) and isinstance(count, int) and first + count == place


def _find(journal: Journal, event_id: str) -> int | None:
    try:
        return journal.find(event_id)
    except JournalError:
        return None


def _entries(delivered: list[Delivered], header_of: Callable[[Any], Header | None]) -> Sequence[Entry]:
    """Return what is to be written of events at `memory`."""
    wall_ns = delivered[0].wall_ns
    if all(one.lane == "normal" and one.wall_ns == wall_ns and _are_ours(one.events) for one in delivered):
        ids = [event.event_id for one in delivered for event in one.events]
        payloads = [payload for one in delivered for payload in one.payloads]
        return Alike(ids, payloads, Level.MEMORY, wall_ns)
    return [
        Entry(event.event_id, payload, one.lane, Level.MEMORY, one.wall_ns, header_of(event))
        for one in delivered
        for event, payload in zip(one.events, one.payloads, strict=True)
    ]


def _are_ours(events: Sequence[Any]) -> bool:
    """Return True if nothing has to stand beside the events: they are of the bus's own classes."""
    return all(isinstance(event, Event) for event in events)
