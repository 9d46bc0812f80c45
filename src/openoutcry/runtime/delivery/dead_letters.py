"""Dead letters: filed per subscription, redriven to that subscription alone, or dropped.

A letter stays where it is until its redriven event is settled: a crash in between loses nothing. One that
fails again takes the place of the old one, with the attempts of both. Which of the redriven events are still
open is asked of the mailboxes; an event is known by its number in its lane.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec

from openoutcry.core.lanes import Lane
from openoutcry.core.mailbox import Mailbox
from openoutcry.core.retries import DeadLetter
from openoutcry.errors import ConfigError, InvalidEvent
from openoutcry.events import Undecodable, decode_many, encode
from openoutcry.ports import BuriedEvent
from openoutcry.runtime.delivery.offsets import CursorSaver
from openoutcry.runtime.delivery.subscription import Subscription

log = logging.getLogger("openoutcry")

REDRIVE = "redrive"
"""The reason of a letter that the next start is to redrive: how the command line asks for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilter:
    """Which dead letters are meant: those that meet every condition that is given."""

    letter_ids: frozenset[int] | None = None
    event_type: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None

    def __call__(self, letter: DeadLetter) -> bool:
        """Return True if a letter is meant."""
        return (
            (self.letter_ids is None or letter.letter_id in self.letter_ids)
            and (self.since_ns is None or letter.wall_ns >= self.since_ns)
            and (self.until_ns is None or letter.wall_ns < self.until_ns)
            and (self.event_type is None or letter.to_dict()["event_type"] == self.event_type)
        )


def letter_filter(conditions: dict[str, Any]) -> LetterFilter:
    """Return the filter that some keyword arguments describe."""
    unknown = sorted(conditions.keys() - set(LetterFilter.__dataclass_fields__))
    if unknown:
        raise ConfigError(
            f"unknown conditions {unknown}; dead letters are chosen by "
            f"{', '.join(LetterFilter.__dataclass_fields__)}"
        )
    ids = conditions.get("letter_ids")
    event_type = conditions.get("event_type")
    return LetterFilter(
        letter_ids=None if ids is None else frozenset(ids),
        event_type=None if event_type is None else str(getattr(event_type, "value", event_type)),
        since_ns=conditions.get("since_ns"),
        until_ns=conditions.get("until_ns"),
    )


class LetterDispatcher(Protocol):
    """The dispatcher, as dead letters that are redriven see it."""

    def push(
        self,
        subscriptions: Sequence[Subscription],
        events: list[Any],
        at_ns: int,
        *,
        lane: str,
        is_owed: bool,
    ) -> None:
        """Put events into a lane of every subscription."""
        ...


class DeadLetters:
    """The dead letters of a bus; with a journal they are written into it."""

    def __init__(self) -> None:
        self._saver: CursorSaver | None = None
        self._next_id = 1
        self._buried: list[BuriedEvent] = []
        self._removed: list[int] = []
        self._redriven: dict[tuple[str, str, int], DeadLetter] = {}
        self._stored: dict[str, list[BuriedEvent]] = {}

    # -- filing -------------------------------------------------------------------------------------

    def bury(self, subscription: Subscription, letter: DeadLetter, number: int = 0) -> DeadLetter:
        """File a letter about the event with this number in its lane, and return it with its id."""
        offsets, position, attempts = subscription.offsets, letter.position, letter.attempts
        before = self._redriven.pop((subscription.name, letter.lane, number), None) if number else None
        if before is not None:
            attempts += before.attempts
            position = position or before.position
            self._remove(subscription, {before.letter_id})
        letter = replace(letter, letter_id=self._next_id, position=position, attempts=attempts)
        self._next_id += 1
        subscription.dead_letters.append(letter)
        if self._saver is not None and offsets is not None:
            try:
                self._buried.append(_to_bury(letter))
            except InvalidEvent as error:
                log.warning("a dead letter of %s is not in the journal: %s", subscription.name, error)
            offsets.touched(1)
            self._saver.save_soon()
        return letter

    def _remove(self, subscription: Subscription, letter_ids: set[int]) -> None:
        kept = [letter for letter in subscription.dead_letters if letter.letter_id not in letter_ids]
        subscription.dead_letters.clear()
        subscription.dead_letters.extend(kept)
        pending = {letter.letter_id for letter in self._buried} & letter_ids
        self._buried = [letter for letter in self._buried if letter.letter_id not in pending]
        if self._saver is not None:
            self._removed += sorted(letter_ids - pending)

    # -- the journal's side -------------------------------------------------------------------------

    def load(self, letters: Iterable[BuriedEvent], saver: CursorSaver) -> None:
        """Take over the letters of a journal; each goes to its subscription when that is made.

        From now on `saver` is told when something is to be written.
        """
        self._saver = saver
        self._stored = {}
        gone = set(self._removed)  # the journal has not heard of it yet
        for letter in letters:
            self._next_id = max(self._next_id, letter.letter_id + 1)
            if letter.letter_id not in gone:
                self._stored.setdefault(letter.subscription, []).append(letter)

    def rename(self, old: str, new: str) -> None:
        """Give the letters of an absent subscription to another name."""
        letters = self._stored.pop(old, [])
        for letter in letters:
            moved = msgspec.structs.replace(letter, subscription=new, letter_id=self._next_id)
            self._next_id += 1
            self._stored.setdefault(new, []).append(moved)
            self._buried.append(moved)
            self._removed.append(letter.letter_id)

    def leave(self, subscription: Subscription) -> None:
        """Keep the letters of a subscription that was ended, for the next one of that name."""
        if self._saver is not None and subscription.offsets is not None:
            kept: list[BuriedEvent] = []
            for letter in subscription.dead_letters:
                with suppress(InvalidEvent):
                    kept.append(_to_bury(letter))
            self._stored.setdefault(subscription.name, []).extend(kept)

    def adopt(self, subscription: Subscription) -> list[DeadLetter]:
        """Give a subscription its letters of an earlier life; return those that are to be redriven."""
        stored = self._stored.pop(subscription.name, [])
        known = {letter.letter_id for letter in subscription.dead_letters}
        stored = [letter for letter in stored if letter.letter_id not in known]
        events = decode_many([letter.payload for letter in stored])
        letters = [_from_journal(b, event) for b, event in zip(stored, events, strict=True)]
        subscription.dead_letters.extend(letters)
        return [letter for letter in letters if letter.reason == REDRIVE]

    @property
    def waiting(self) -> bool:
        """Whether something is to be written."""
        return bool(self._buried or self._removed or self._redriven)

    def take(self) -> tuple[list[BuriedEvent], list[int]]:
        """Return what is to be written now: new letters, and the ids of those that are gone."""
        buried, self._buried = self._buried, []
        removed_letters, self._removed = self._removed, []
        return buried, removed_letters

    def give_back(self, buried: Iterable[BuriedEvent], removed_letters: Iterable[int]) -> None:
        """What `take` returned was not written."""
        self._buried = [*buried, *self._buried]
        self._removed = [*removed_letters, *self._removed]

    # -- redriving ----------------------------------------------------------------------------------

    def redrive(
        self,
        subscription: Subscription,
        which: Callable[[DeadLetter], bool],
        dispatcher: LetterDispatcher,
        now_ns: int,
    ) -> int:
        """Hand the events of some letters to their subscription again; return how many. It is not woken."""
        self.settle([subscription])
        under_way = {letter.letter_id for letter in self._redriven.values()}
        count = 0
        for letter in list(subscription.dead_letters):
            if letter.letter_id in under_way or not which(letter):
                continue
            event = letter.event
            if isinstance(event, Undecodable):
                event = decode_many([event.payload])[0]
                if isinstance(event, Undecodable):
                    continue
            dispatcher.push((subscription,), [event], now_ns, lane=letter.lane, is_owed=True)
            _, lane = _lane(subscription, letter.lane)
            self._redriven[subscription.name, letter.lane, lane.accepted] = letter
            count += 1
        if count:
            self._changed()  # so that commits look for what has been handled, until all of it has
        return count

    def _changed(self) -> None:
        if self._saver is not None:
            self._saver.save_soon()

    def settle(self, subscriptions: Iterable[Subscription]) -> None:
        """Remove the letters whose redriven events were settled."""
        if not self._redriven:
            return
        for subscription in subscriptions:
            done = []
            for name, lane_name, number in self._redriven:
                if name == subscription.name:
                    mailbox, lane = _lane(subscription, lane_name)
                    if not mailbox.is_open(lane, number):
                        done.append((name, lane_name, number))
            if done:
                self._remove(subscription, {self._redriven.pop(key).letter_id for key in done})

    def interrupt(self, subscription: Subscription) -> None:
        """Keep the letters that are being redriven: their events are about to be taken back."""
        self.settle([subscription])
        self._redriven = {k: letter for k, letter in self._redriven.items() if k[0] != subscription.name}

    def drop_absent(self, name: str | None, which: Callable[[DeadLetter], bool]) -> int:
        """Forget letters of subscriptions that are absent: of this name, or of all; return how many."""
        count = 0
        for absent in [name] if name is not None else list(self._stored):
            stored = self._stored.get(absent, [])
            events = decode_many([letter.payload for letter in stored])
            gone = {
                letter.letter_id
                for letter, event in zip(stored, events, strict=True)
                if which(_from_journal(letter, event))
            }
            self._stored[absent] = [letter for letter in stored if letter.letter_id not in gone]
            self._removed += sorted(gone)
            count += len(gone)
        if count:
            self._changed()
        return count

    def knows(self, name: str) -> bool:
        """Return True if there are letters of an absent subscription of this name."""
        return bool(self._stored.get(name))

    def drop(self, subscription: Subscription, which: Callable[[DeadLetter], bool]) -> int:
        """Forget some letters; return how many. Those that are being redriven are not among them."""
        self.settle([subscription])
        under_way = {letter.letter_id for letter in self._redriven.values()}
        gone = {
            letter.letter_id
            for letter in subscription.dead_letters
            if which(letter) and letter.letter_id not in under_way
        }
        if gone:
            self._remove(subscription, gone)
            self._changed()
        return len(gone)


def _lane(subscription: Subscription, lane: str) -> tuple[Mailbox, Lane]:
    """Return a lane by its name, with the mailbox that it is in."""
    box, control = subscription.mailbox, subscription.control
    return (
        (box, box.normal)
        if lane == "normal"
        else (box, box.high)
        if lane == "high"
        else (control, control.normal)
    )


def _to_bury(letter: DeadLetter) -> BuriedEvent:
    event = letter.event
    return BuriedEvent(
        subscription=letter.subscription,
        lane=letter.lane,
        position=letter.position,
        payload=event.payload if isinstance(event, Undecodable) else encode(event),
        reason=letter.reason,
        error=letter.error,
        traceback=letter.traceback,
        attempts=letter.attempts,
        wall_ns=letter.wall_ns,
        letter_id=letter.letter_id,
    )


def _from_journal(letter: BuriedEvent, event: Any) -> DeadLetter:
    return DeadLetter(
        letter.subscription,
        letter.lane,
        event,
        letter.reason,
        letter.error,
        letter.traceback,
        letter.attempts,
        letter.wall_ns,
        letter.letter_id,
        letter.position,
    )
