"""Redriving: dead letters are handed to their subscription again, by the page, as it has room for them."""

import logging
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Protocol

from openoutcry.core.lanes import NOWHERE, Lane
from openoutcry.core.letters import LetterFilter
from openoutcry.core.overflow import ConflatingLane, SupersedingLane
from openoutcry.core.retries import DeadLetter
from openoutcry.errors import JournalError
from openoutcry.events import Undecodable
from openoutcry.logs import about
from openoutcry.runtime.delivery.dead_letters import PAGE, DeadLetters
from openoutcry.runtime.delivery.redrives import Due, Redriven, lane_of
from openoutcry.runtime.delivery.subscription import Subscription, takes

log = logging.getLogger("openoutcry")


class LetterDispatcher(Protocol):
    """The dispatcher, as dead letters that are redriven see it."""

    def push(
        self,
        subscriptions: Sequence[Subscription],
        events: list[Any],
        at_ns: int,
        positions: Sequence[int] | None = None,
        lane: str = "normal",
        *,
        is_owed: bool = False,
    ) -> None:
        """Put events into a lane of every subscription."""
        ...

    def room_left(self, subscription: Subscription, lane: str) -> int:
        """Return how many more events a lane of a subscription may be handed."""
        ...


class Redriving:
    """Redrives the dead letters of a bus."""

    def __init__(self, letters: DeadLetters) -> None:
        self._letters = letters
        self._redrives = letters.redrives

    def redrive(
        self,
        subscription: Subscription,
        which: LetterFilter,
        dispatcher: LetterDispatcher,
        now_ns: int,
        *,
        anew: bool = False,
    ) -> int:
        """Have the events of some letters handed to their subscription again, as it has room for them.

        Return how many there are. Kill switches are handed over at once. The subscription is not woken.
        """
        self._letters.settle(subscription)
        due: list[Due] = []
        urgent: list[DeadLetter] = []
        left: Counter[str] = Counter()
        for letter in self._letters.chosen(subscription.name, which):
            if self._redrives.is_under_way(letter.letter_id):
                continue
            why = _why_not(subscription, letter)
            left[why] += 1
            if why:
                continue
            if letter.lane == "control":
                urgent.append(letter)
            else:
                due.append((letter.letter_id, anew))
        self._hand(subscription, urgent, {k.letter_id: anew for k in urgent}, dispatcher, now_ns)
        self._redrives.begin(subscription, due)
        self._letters.let_go.pop(subscription.name, None)
        _tell_left(subscription, left)
        return len(due) + len(urgent)

    def hand_on(self, subscription: Subscription, dispatcher: LetterDispatcher, now_ns: int) -> None:
        """Hand a subscription the next letters that are due, if it has room for them.

        Raises `JournalError`; then all of them are due as before.
        """
        if not self._redrives.has_due(subscription):
            return
        self._letters.settle(subscription)
        box = subscription.mailbox
        left = min(dispatcher.room_left(subscription, "normal"), box.normal.left)
        room = min(PAGE - self._redrives.open_count(subscription) if box.waiting else PAGE, left)
        if room <= 0 or (box.waiting and room < min(PAGE, box.waiting + left) // 2):
            return  # (a page is read for a few letters as well: so it waits until there is room for many)
        due = self._redrives.take_due(subscription, room)
        try:
            letters = self._read(subscription, sorted(letter_id for letter_id, _ in due))
        except JournalError:
            self._redrives.give_back(subscription, due)
            raise
        self._hand(subscription, letters, dict(due), dispatcher, now_ns)
        self._letters.changed()  # so that commits look for what has been handled, until all of it has

    def _read(self, subscription: Subscription, letter_ids: list[int]) -> list[DeadLetter]:
        """Return letters by their ids, which ascend, but for those that are gone or cannot be redriven."""
        found: list[DeadLetter] = []
        left: Counter[str] = Counter()
        for letter in self._letters.read(subscription.name, letter_ids):
            why = _why_not(subscription, letter)
            left[why] += 1
            if not why:
                found.append(letter)
        _tell_left(subscription, left)
        return found

    def _hand(
        self,
        subscription: Subscription,
        letters: list[DeadLetter],
        anew: dict[int, bool],
        dispatcher: LetterDispatcher,
        now_ns: int,
    ) -> None:
        for lane_name, group in groupby(letters, key=attrgetter("lane")):
            _, lane = lane_of(subscription, lane_name)
            some = [letter for letter in group if not self._is_outdated(subscription, lane, letter)]
            first = lane.accepted + 1
            for number, letter in enumerate(some, first):
                # It is the same at every attempt, after a crash too, and different for a letter buried anew.
                salt = f"{letter.letter_id}.{letter.wall_ns}" if anew[letter.letter_id] else ""
                note = Redriven(letter.letter_id, letter.subscription, letter.attempts, letter.position, salt)
                self._redrives.note(subscription, lane_name, number, note)
            events = [letter.event for letter in some]
            dispatcher.push((subscription,), events, now_ns, NOWHERE, lane_name, is_owed=True)

    def _is_outdated(self, subscription: Subscription, lane: Lane, letter: DeadLetter) -> bool:
        """Where only the newest of a key counts, conflate a letter that has a newer event in its lane.

        (What was redriven before is older. Pushed behind the newer event, it would take the place of that.)
        """
        if not isinstance(lane, ConflatingLane):
            return False
        newer = [lane.waiting_number(letter.event)]
        if isinstance(lane, SupersedingLane):
            key = lane.key_of(letter.event)
            newer += [
                batch.first + batch.begun - 1
                for batch in subscription.mailbox.open
                if batch.lane is lane and batch.begun and lane.key_of(batch.current) == key
            ]
        if all(number == 0 or self._redrives.knows(subscription, lane.name, number) for number in newer):
            return False
        log.info(
            "%s has something newer than its dead letter %d",
            subscription.name,
            letter.letter_id,
            extra=about(letter.event, subscription.name),
        )
        lane.outdated()
        self._letters.remove(letter.subscription, letter.letter_id)
        return True


def _why_not(subscription: Subscription, letter: DeadLetter) -> str:
    """Return why a letter cannot be redriven, in words; empty if it can."""
    if isinstance(letter.event, Undecodable):
        return "the event cannot be read; register its class"
    if not takes(subscription.selectors, letter.event):
        return f"it does not take {letter.event_type!r}; subscribe it to that"
    return ""


def _tell_left(subscription: Subscription, reasons: Counter[str]) -> None:
    for why, count in reasons.items():
        if why:
            log.warning(
                "%d dead letters of %s are not redriven: %s",
                count,
                subscription.name,
                why,
                extra=about(subscription=subscription.name),
            )
