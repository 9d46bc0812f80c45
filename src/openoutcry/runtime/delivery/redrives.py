"""Redrives: which dead letters are due to be handed to their subscription again, and which have been.

A letter that is due waits until its subscription has room. One whose event was handed over stays a letter
until that event is settled: a crash in between loses nothing. Which of these events are still open is asked
of the mailboxes; an event is known by its number in its lane.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from openoutcry.core.lanes import Lane
from openoutcry.core.mailbox import Mailbox
from openoutcry.runtime.delivery.subscription import Subscription

Due = tuple[int, bool]
"""The id of a letter, and whether what its event leads to gets fresh ids."""


@dataclass(frozen=True, slots=True)
class Redriven:
    """A dead letter whose event was handed to its subscription again.

    Attributes:
        letter_id: The letter.
        name: The name that it belongs to.
        attempts: How often its event was tried before.
        position: Where that stands in the journal.
        salt: What is mixed into the ids that are derived from the event; empty: they are as they were.

    """

    letter_id: int
    name: str
    attempts: int
    position: int
    salt: str


class Redrives:
    """What of the dead letters of a bus is being redriven."""

    def __init__(self) -> None:
        self._due: dict[Subscription, deque[Due]] = {}
        self._due_ids: set[int] = set()
        self._open: dict[Subscription, dict[tuple[str, int], Redriven]] = {}
        self._open_ids: set[int] = set()

    def __bool__(self) -> bool:
        """Return True if events that were handed over are not known to be settled."""
        return bool(self._open)

    @property
    def count(self) -> int:
        """How many letters are due, or have been handed over."""
        return len(self._due_ids) + len(self._open_ids)

    def is_open(self, letter_id: int) -> bool:
        """Return True if a letter's event was handed over."""
        return letter_id in self._open_ids

    def is_under_way(self, letter_id: int) -> bool:
        """Return True if a letter is due, or its event was handed over."""
        return letter_id in self._due_ids or letter_id in self._open_ids

    def open_count(self, subscription: Subscription) -> int:
        """Return how many letters' events were handed to a subscription, and are not known to be settled."""
        return len(self._open.get(subscription, ()))

    # -- due ----------------------------------------------------------------------------------------

    def begin(self, subscription: Subscription, letters: Iterable[Due]) -> None:
        """Have letters handed to a subscription as it has room for them."""
        letters = list(letters)
        if letters and subscription not in self._due:
            self._due[subscription] = deque()
            subscription.mailbox.fall_behind(+1)  # so that its workers ask for more
        for due in letters:
            self._due[subscription].append(due)
            self._due_ids.add(due[0])

    def has_due(self, subscription: Subscription) -> bool:
        """Return True if letters wait to be handed to a subscription."""
        return subscription in self._due

    def take_due(self, subscription: Subscription, most: int) -> list[Due]:
        """Take out the next letters that are due."""
        due = self._due[subscription]
        taken = [due.popleft() for _ in range(min(most, len(due)))]
        self._due_ids.difference_update(letter_id for letter_id, _ in taken)
        if not due:
            self.call_off(subscription)
        return taken

    def give_back(self, subscription: Subscription, letters: list[Due]) -> None:
        """Have letters that were taken out, and could not be read, wait again, before the others."""
        rest = self._due.pop(subscription, None)
        if rest is not None:
            subscription.mailbox.fall_behind(-1)
        self.begin(subscription, [*letters, *(rest or ())])

    def call_off(self, subscription: Subscription) -> None:
        """Hand no more letters to a subscription."""
        due = self._due.pop(subscription, None)
        if due is not None:
            self._due_ids.difference_update(letter_id for letter_id, _ in due)
            subscription.mailbox.fall_behind(-1)

    # -- handed over --------------------------------------------------------------------------------

    def note(self, subscription: Subscription, lane: str, number: int, redriven: Redriven) -> None:
        """Note that a letter's event was handed over, and has this number in its lane."""
        self._open.setdefault(subscription, {})[lane, number] = redriven
        self._open_ids.add(redriven.letter_id)

    def knows(self, subscription: Subscription, lane: str, number: int) -> bool:
        """Return True if the event with this number in its lane was redriven, and is open."""
        return (lane, number) in self._open.get(subscription, ())

    def salt(self, subscription: Subscription, lane: str, number: int) -> str:
        """Return what is mixed into ids that are derived from an event; empty for most events."""
        known = self._open.get(subscription) if self._open else None
        found = None if known is None else known.get((lane, number))
        return "" if found is None else found.salt

    def forget(self, subscription: Subscription, lane: str, number: int) -> Redriven | None:
        """Take an event out, and return what is known of it; None if it was not redriven."""
        known = self._open.get(subscription)
        found = None if known is None else known.pop((lane, number), None)
        if found is not None:
            self._open_ids.discard(found.letter_id)
        if known is not None and not known:
            del self._open[subscription]
        return found

    def take_settled(self, only: Subscription | None = None, most: int | None = None) -> Iterator[Redriven]:
        """Take out what is not open any more; of each subscription it looks at the first `most` alone."""
        for subscription in list(self._open) if only is None else [only]:
            for lane_name, number in list(islice(self._open.get(subscription, ()), most)):
                mailbox, lane = lane_of(subscription, lane_name)
                if not mailbox.is_open(lane, number):
                    found = self.forget(subscription, lane_name, number)
                    assert found is not None
                    yield found

    def posted(self) -> list[int]:
        """Return the letters whose events are settled by the commit that is being made."""
        return [
            redriven.letter_id
            for subscription, known in self._open.items()
            if subscription.offsets is not None
            for (lane, number), redriven in known.items()
            if subscription.offsets.by_lane[lane].posted == number
        ]

    def rename(self, letter_id: int, new_id: int, name: str) -> None:
        """Know a letter by another id, under another name."""
        for known in self._open.values() if letter_id in self._open_ids else ():
            for place, redriven in known.items():
                if redriven.letter_id == letter_id:
                    known[place] = replace(redriven, letter_id=new_id, name=name)
                    self._open_ids.discard(letter_id)
                    self._open_ids.add(new_id)


def lane_of(subscription: Subscription, lane: str) -> tuple[Mailbox, Lane]:
    """Return a lane by its name, with the mailbox that it is in."""
    box, control = subscription.mailbox, subscription.control
    if lane == "control":
        return control, control.normal
    return box, box.high if lane == "high" else box.normal
