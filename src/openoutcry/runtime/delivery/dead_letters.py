"""Dead letters: filed under the name of a subscription, read by the page, redriven or dropped.

```
  bury ─▶ in memory ─(the next commit)─▶ in the journal       without a journal, or if it cannot be written:
             │                               │                in memory, up to `KEPT_MOST`
             └───── read by the page ────────┘
                          │ redrive
                          ▼
          due ─(its subscription has room)─▶ handed over ─(settled)─▶ gone
                                                  └─(failed)─▶ buried again, with the attempts of both
```

A letter belongs to a name, whether a subscription of that name is there or not: whoever is subscribed under
it next can have it redriven. A letter that is written is in the journal alone, so that memory holds few,
however many there are.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import Any, Protocol, cast

from openoutcry.core.lanes import LaneName
from openoutcry.core.letters import REDRIVE, REDRIVE_ANEW, LetterFilter
from openoutcry.core.retries import DECIDED_OTHERWISE, DeadLetter
from openoutcry.errors import InvalidEvent, JournalError
from openoutcry.events import Undecodable, decode_many, encode
from openoutcry.logs import about
from openoutcry.ports import BuriedEvent
from openoutcry.runtime.delivery.offsets import CursorSaver
from openoutcry.runtime.delivery.redrives import Due, Redrives
from openoutcry.runtime.delivery.subscription import Subscription

log = logging.getLogger("openoutcry")

KEPT_MOST = 100_000
"""So many letters are kept in memory: a few hundred megabytes, and an hour of a handler that fails 28 times a
second. Beyond that the oldest are let go, counted, and health says so."""
PAGE = 128
"""How many letters are read, or handed over, at once."""
LOOKED_AT_MOST = 64
"""Of how many letters of a subscription that are being redriven a pulse looks whether they are settled."""


class LetterSource(Protocol):
    """Where written letters are read from: the journal, open or not."""

    def buried(
        self, subscription: str | None = None, after: int = 0, limit: int | None = None
    ) -> list[BuriedEvent]:
        """Return the dead letters, or those of one name, by their ids: the next `limit` behind `after`."""
        ...


class LetterJournal(LetterSource, Protocol):
    """The open journal, as its dead letters see it."""

    def last_letter_id(self) -> int:
        """Return the highest id that a dead letter has ever had."""
        ...

    def find(self, event_id: str) -> int | None:
        """Return where an event stands, or None if it is not kept."""
        ...


class DeadLetters:
    """The dead letters of a bus, by the name of their subscription; with a journal they are written into it.

    Attributes:
        redrives: What is being redriven.
        let_go: How many letters of each name were let go, because memory keeps no more.

    """

    def __init__(self) -> None:
        self.redrives: Redrives = Redrives()
        self.let_go: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._otherwise: dict[int, str] = {}
        self._last_id = 0
        self._kept: dict[int, DeadLetter] = {}
        self._unsaved: dict[int, None] = {}
        self._removed: dict[int, None] = {}
        self._tombstones: dict[tuple[str, int], None] = {}
        self._saver: CursorSaver | None = None
        self._at_rest: LetterSource | None = None
        self._journal: LetterJournal | None = None
        self._marked: dict[str, list[Due]] = {}

    # -- filing -------------------------------------------------------------------------------------

    def bury(self, subscription: Subscription, letter: DeadLetter, number: int = 0) -> DeadLetter:
        """File a letter about the event with this number in its lane, and return it with its id."""
        offsets, before = subscription.offsets, None
        if number:
            before = self.redrives.forget(subscription, letter.lane, number)
        if before is not None:
            self.remove(before.name, before.letter_id)
            position, attempts = letter.position or before.position, letter.attempts + before.attempts
            letter = replace(letter, subscription=before.name, position=position, attempts=attempts)
        letter = self._file(letter, is_durable=self._saver is not None and subscription.durable)
        if offsets is not None:
            offsets.touched(1)
        self.changed()
        return letter

    def put_away(self, letter: DeadLetter) -> DeadLetter:
        """File a letter of a name that is no subscription's, and return it with its id."""
        letter = self._file(letter, is_durable=self._saver is not None)
        self.changed()
        return letter

    def _file(self, letter: DeadLetter, *, is_durable: bool) -> DeadLetter:
        letter = replace(letter, letter_id=self._new_id())
        self._kept[letter.letter_id] = letter
        self._counts[letter.subscription] += 1
        if letter.reason == DECIDED_OTHERWISE:
            self._otherwise[letter.letter_id] = letter.subscription
        if is_durable:
            self._unsaved[letter.letter_id] = None
        if len(self._kept) > KEPT_MOST:
            self._let_go()
        return letter

    def _new_id(self) -> int:
        if self._journal is not None:
            with suppress(JournalError):  # somebody may have buried something in it beside the bus
                self._last_id = max(self._last_id, self._journal.last_letter_id())
        self._last_id += 1
        return self._last_id

    def _let_go(self) -> None:
        """Give up the oldest letter in memory, but for those whose events were handed over."""
        oldest = next((i for i in self._kept if not self.redrives.is_open(i)), None)
        if oldest is None:
            return
        letter = self._kept[oldest]
        name = letter.subscription
        self._give_up(letter)
        self.let_go[name] += 1
        if self.let_go.total() % 1_000 == 1:
            log.error(
                "%d dead letters were let go, the last of %s: %d are kept in memory; redrive or drop them, "
                "or give the bus a journal that works",
                self.let_go.total(),
                name,
                KEPT_MOST,
                extra=about(letter.event, name),
            )

    def _give_up(self, letter: DeadLetter) -> None:
        """Forget a letter for good: its event was never handled, which the memory of its name must know."""
        position = self._place(letter)
        if position and self._saver is not None:
            self._tombstones[letter.subscription, position] = None
        self.remove(letter.subscription, letter.letter_id)

    def tombstones(self, name: str) -> set[int]:
        """Return where the events of dropped letters stand of which the journal does not know yet."""
        return {position for owner, position in self._tombstones if owner == name}

    def remove(self, name: str, letter_id: int) -> None:
        """Forget a letter that its name has."""
        self._counts[name] -= 1
        if not self._counts[name]:
            del self._counts[name]
        self._otherwise.pop(letter_id, None)
        is_kept = self._kept.pop(letter_id, None) is not None
        if (
            not is_kept or letter_id in self._unsaved
        ):  # which may be written: its commit is under way, or failed
            self._removed[letter_id] = None
        self._unsaved.pop(letter_id, None)

    def changed(self) -> None:
        """Have it saved soon what became of letters."""
        if self._saver is not None:
            self._saver.save_soon()

    # -- reading ------------------------------------------------------------------------------------

    def letters(self, name: str | None = None, after: int = 0) -> Iterator[DeadLetter]:
        """Yield the letters of a name or of all behind an id, oldest first. Raises `JournalError`.

        They are read by the page, so that what is buried meanwhile may be among them.
        """
        kept = [k for i, k in self._kept.items() if i > after and name in (None, k.subscription)]
        return merge(self._written(name, after), map(_read_again, kept), key=attrgetter("letter_id"))

    def chosen(self, name: str | None, which: LetterFilter) -> Iterator[DeadLetter]:
        """Yield the letters of a name or of all that are meant, oldest first. Raises `JournalError`."""
        if name is None or which.letter_ids is None:
            return filter(which, self.letters(name))
        return filter(which, self.read(name, sorted(which.letter_ids)))  # a page of many is read alone

    def read(self, name: str, letter_ids: list[int]) -> list[DeadLetter]:
        """Return letters of a name by their ids, which ascend; those that are gone are left out."""
        kept = [k for i in letter_ids if (k := self._kept.get(i)) is not None and k.subscription == name]
        found = {k.letter_id: _read_again(k) for k in kept}
        left = {i for i in letter_ids if i not in found}
        for letter in self._written(name, min(left) - 1) if left else ():
            if letter.letter_id in left:
                found[letter.letter_id] = letter
            if letter.letter_id >= letter_ids[-1]:
                break
        return [found[i] for i in letter_ids if i in found]

    def _written(self, name: str | None, after: int) -> Iterator[DeadLetter]:
        for page in self._pages(name, after):
            # (One in memory may be there as well: if its commit has failed, nobody knows.)
            left = [k for k in page if not (k.letter_id in self._removed or k.letter_id in self._kept)]
            yield from map(_from_journal, left, decode_many([letter.payload for letter in left]))

    def _pages(self, name: str | None, after: int = 0) -> Iterator[list[BuriedEvent]]:
        source: LetterSource | None = self._journal or self._at_rest
        while source is not None and (page := source.buried(name, after, PAGE)):
            yield page
            after = page[-1].letter_id

    def positions(self, name: str) -> set[int]:
        """Return where the events of the letters of a name stand in the journal."""
        found = {self._place(letter) for letter in self._kept.values() if letter.subscription == name}
        for page in self._pages(name):
            left = [letter for letter in page if letter.letter_id not in self._removed]
            found.update(letter.position for letter in left)
            placeless = [letter for letter in left if not letter.position]
            events = decode_many([letter.payload for letter in placeless])
            found.update(map(self._place, map(_from_journal, placeless, events)))
        return found

    def _place(self, letter: DeadLetter) -> int:
        """Return where the event of a letter stands in the journal; 0 if it is not there.

        One that was buried before it was there does not know.
        """
        if letter.position or self._journal is None:
            return letter.position
        return self._journal.find(getattr(letter.event, "event_id", "")) or 0

    def counts(self) -> dict[str, int]:
        """Return how many letters each name has. Raises `JournalError`."""
        if self.can_change:
            return self.open_counts()
        return dict(Counter(letter.subscription for letter in self.letters()))

    def open_counts(self) -> dict[str, int]:
        """Return how many letters each name has or, if the journal is closed, had when that was closed."""
        self.settle()
        return dict(self._counts)

    def known_counts(self) -> Mapping[str, int]:
        """Return how many letters each name has, without a copy; it looks at few of those being redriven."""
        if self.redrives:
            for redriven in self.redrives.take_settled(most=LOOKED_AT_MOST):
                self.remove(redriven.name, redriven.letter_id)
        return self._counts

    def count_otherwise(self, name: str) -> int:
        """Return how many letters a name has because its handler decided otherwise."""
        return sum(its == name for its in self._otherwise.values()) if self._otherwise else 0

    # -- the journal's side -------------------------------------------------------------------------

    def read_from(self, source: LetterSource) -> None:
        """Read written letters from here, as long as the journal is not open."""
        self._at_rest = source

    def load(self, journal: LetterJournal, saver: CursorSaver) -> None:
        """Go on with the letters of a journal that was opened: they are counted, and stay there.

        From now on `saver` is told when something is to be written. Raises `JournalError`. A letter in memory
        whose write has failed may be there all the same: then it is one, and stays there as well.
        """
        counts: Counter[str] = Counter()
        marked: dict[str, list[Due]] = {}
        taken: list[int] = []
        written: list[int] = []
        self._journal, before = journal, self._journal
        try:
            for page in self._pages(None):
                for letter in page:
                    if letter.letter_id in self._removed:
                        continue
                    counts[letter.subscription] += 1
                    if letter.reason == DECIDED_OTHERWISE:
                        self._otherwise[letter.letter_id] = letter.subscription
                    if letter.letter_id in self._kept:
                        (written if self._is_written(letter) else taken).append(letter.letter_id)
                    if letter.reason in (REDRIVE, REDRIVE_ANEW):
                        due = letter.letter_id, letter.reason == REDRIVE_ANEW
                        marked.setdefault(letter.subscription, []).append(due)
        except JournalError:
            self._journal = before
            raise
        self._saver, self._marked = saver, marked
        for letter_id in written:
            del self._kept[letter_id], self._unsaved[letter_id]
        self._counts = counts + Counter(letter.subscription for letter in self._kept.values())
        for letter_id in taken:  # another bus has given these ids meanwhile
            self._give_new_id(letter_id)

    def _is_written(self, letter: BuriedEvent) -> bool:
        """Return True if a letter in the journal is the one that memory has under its id."""
        if letter.letter_id not in self._unsaved:
            return False
        try:
            return _what(_to_bury(self._kept[letter.letter_id])) == _what(letter)
        except InvalidEvent:  # it cannot be written at all
            return False

    def _give_new_id(self, letter_id: int) -> None:
        letter = self._kept.pop(letter_id)
        new = replace(letter, letter_id=self._new_id())
        if letter.reason == DECIDED_OTHERWISE:
            self._otherwise[new.letter_id] = new.subscription
        self._kept[new.letter_id] = new
        if letter_id in self._unsaved:
            del self._unsaved[letter_id]
            self._unsaved[new.letter_id] = None
        self.redrives.rename(letter_id, new.letter_id, new.subscription)

    def closed(self) -> None:
        """The journal is closed."""
        self._journal = None

    @property
    def can_change(self) -> bool:
        """Whether letters can be redriven and dropped: those in a journal only while that is open."""
        return self._at_rest is None or self._journal is not None

    def adopt(self, subscription: Subscription) -> None:
        """Have a subscription that was made redrive what was marked for that while no bus ran."""
        self.redrives.begin(subscription, self._marked.pop(subscription.name, ()))

    @property
    def has_changes(self) -> bool:
        """Whether something is to be written."""
        return bool(
            self._unsaved or self._removed or self._tombstones or (self.redrives and self.redrives.posted())
        )

    def changes(self) -> tuple[list[BuriedEvent], list[int], list[tuple[str, int]]]:
        """Return what is to be written now: new letters, the ids of those that are gone, and tombstones."""
        buried = []
        for letter_id in list(self._unsaved):
            try:
                buried.append(_to_bury(self._kept[letter_id]))
            except InvalidEvent as error:
                del self._unsaved[letter_id]
                name = self._kept[letter_id].subscription
                log.warning(
                    "a dead letter of %s is in memory alone, not in the journal: %s",
                    name,
                    error,
                    extra=about(self._kept[letter_id].event, name),
                )
        return buried, [*self._removed, *self.redrives.posted()], list(self._tombstones)

    def saved(
        self, buried: Iterable[BuriedEvent], removed: Iterable[int], tombstones: Iterable[tuple[str, int]]
    ) -> None:
        """What `changes` returned was written."""
        for letter in buried:
            self._kept.pop(letter.letter_id, None)
            self._unsaved.pop(letter.letter_id, None)
        for letter_id in removed:
            self._removed.pop(letter_id, None)
        for place in tombstones:
            self._tombstones.pop(place, None)

    def rename(self, old: str, new: str) -> bool:
        """Give the next page of a name's letters to another one; return True if there may be more."""
        letters = list(islice(self.letters(old), PAGE))
        for letter in letters:
            is_durable = letter.letter_id in self._unsaved or letter.letter_id not in self._kept
            moved = self._file(replace(letter, subscription=new), is_durable=is_durable)
            self.redrives.rename(letter.letter_id, moved.letter_id, new)
            if letter.reason in (REDRIVE, REDRIVE_ANEW):
                self._marked.setdefault(new, []).append((moved.letter_id, letter.reason == REDRIVE_ANEW))
            self.remove(old, letter.letter_id)
        self._tombstones = {(new if name == old else name, at): None for name, at in self._tombstones}
        return len(letters) == PAGE

    # -- redriven ------------------------------------------------------------------------------------

    def settle(self, only: Subscription | None = None) -> None:
        """Remove the letters whose redriven events were settled."""
        if self.redrives:
            for redriven in self.redrives.take_settled(only):
                self.remove(redriven.name, redriven.letter_id)

    def withdrawing(self, subscription: Subscription, withdraw: Callable[[], object]) -> None:
        """Have what waits for a subscription withdrawn; what of it was redriven is a letter as before."""
        self.settle(subscription)
        withdraw()
        if self.redrives:
            for _ in self.redrives.take_settled(subscription):
                pass

    # -- dropping -----------------------------------------------------------------------------------

    def drop(self, name: str | None, which: LetterFilter) -> int:
        """Forget some letters of a name or of all; return how many. Those handed over are not among them."""
        self.settle()
        gone = [
            replace(letter, event=None, position=self._place(letter))
            for letter in self.chosen(name, which)
            if not self.redrives.is_open(letter.letter_id)
        ]
        for letter in gone:
            self._give_up(letter)
            self.let_go.pop(letter.subscription, None)
        if gone:
            self.changed()
        return len(gone)


def _read_again(letter: DeadLetter) -> DeadLetter:
    """Return a letter whose event could not be read with the event, if it can be read by now."""
    if not isinstance(letter.event, Undecodable):
        return letter
    return replace(letter, event=decode_many([letter.event.payload])[0])


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


def _what(letter: BuriedEvent) -> tuple[object, ...]:
    """Return what tells letters with the same id apart."""
    return letter.subscription, letter.lane, letter.position, letter.wall_ns, letter.attempts, letter.payload


def _from_journal(letter: BuriedEvent, event: Any) -> DeadLetter:
    return DeadLetter(
        letter.subscription,
        cast(LaneName, letter.lane),
        event,
        letter.reason,
        letter.error,
        letter.traceback,
        letter.attempts,
        letter.wall_ns,
        letter.letter_id,
        letter.position,
    )
