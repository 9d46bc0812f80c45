"""What a journal may hold after a crash: the states that its commits have gone through, kept beside it."""

from collections.abc import Iterable
from enum import Enum
from typing import Final

import msgspec

from openoutcry.journals import Recovered, SqliteJournal
from openoutcry.ports import BuriedEvent, Changes, CursorState, Entry, Snapshot, Stored

SUBSCRIPTIONS: Final = ("risk", "execution", "audit")
EVERYTHING: Final = 10**9
Call = tuple[str, str, int]


class Broken(AssertionError):
    """The journal has broken a promise."""


class State(msgspec.Struct, frozen=True):
    """All that a journal holds, but for its entries' contents.

    Attributes:
        floor: Entries up to here are retired.
        head: The newest position.
        cursors: By subscription and lane.
        letters: By id.
        next_letter: The id that the next dead letter gets.
        snapshots: By subscription.
        tombstones: By subscription and position.

    """

    floor: int = 0
    head: int = 0
    cursors: dict[tuple[str, str], CursorState] = {}
    letters: dict[int, BuriedEvent] = {}
    next_letter: int = 1
    snapshots: dict[str, Snapshot] = {}
    tombstones: frozenset[tuple[str, int]] = frozenset()

    def after(self, entries: int, changes: Changes | None) -> "State":
        """Return the state after one more commit."""
        changes = changes or Changes()
        cursors, letters, next_letter = dict(self.cursors), dict(self.letters), self.next_letter
        cursors.update(((c.subscription, c.lane), c) for c in changes.cursors)
        for name in changes.dropped_cursors:
            cursors.pop(name, None)
        for letter in changes.buried:
            letters[next_letter] = msgspec.structs.replace(letter, letter_id=next_letter)
            next_letter += 1
        for letter_id in changes.removed_letters:
            letters.pop(letter_id, None)
        snapshots = {**self.snapshots, **{s.subscription: s for s in changes.snapshots}}
        tombstones = self.tombstones | set(changes.tombstones)
        head = self.head + entries
        return State(self.floor, head, cursors, letters, next_letter, snapshots, tombstones)

    def at_floor(self, floor: int) -> "State":
        """Return the state after retention up to a position: tombstones go with their entries."""
        if floor == self.floor:
            return self
        kept = frozenset(one for one in self.tombstones if one[1] > floor)
        return msgspec.structs.replace(self, floor=floor, tombstones=kept)

    @property
    def beside(self) -> tuple[object, ...]:
        """What is saved beside the log, but for the dead letters."""
        return self.cursors, self.snapshots, self.tombstones

    def retired_most(self, past_memory: Iterable[str]) -> int:
        """Return how far retention may go."""
        needed = {s.subscription: s for s in self.snapshots.values() if s.is_needed}
        for name in past_memory:
            needed.pop(name, None)
        floors = [cursor.floor for cursor in self.cursors.values()]
        floors += [snapshot.floor for snapshot in needed.values()]
        floors += [b.position - 1 for b in self.letters.values() if b.subscription in needed]
        return max(self.floor, min(floors, default=self.head))


class After(Enum):
    """What a journal is opened after, which says what may be missing."""

    CLEAN = "a clean close"
    KILL = "a kill: nothing may be missing"
    CUT = "a power cut: nothing that was synced may be missing"
    DAMAGE = "a power cut and a flipped bit: it may be reported, or hurt nothing but a cursor"
    ANYTHING = "a power cut and a flipped bit, and marks from before: only the content must be right"


class Truth:
    """The states that are possible, from the oldest that a crash may go back to, to the newest.

    Attributes:
        states: Every state since the last opening, one per commit.
        past: The states from before that.
        kept: How many of the first commits are promised to survive what comes now.
        unknown: The state after a commit of which nobody knows whether it happened.
        payloads: The entries by position, also those of an unknown commit.
        handled: Who has done the work of which event: it happens outside, and no crash takes it back.
        flown: Every call that has ever been in flight.
        gaps: Positions that a recovery has left empty.

    """

    def __init__(self) -> None:
        self.states = [State()]
        self.past: list[State] = []
        self.kept = 0
        self.unknown: State | None = None
        self.payloads: dict[int, bytes] = {}
        self.handled: set[tuple[str, bytes]] = set()
        self.flown: set[Call] = set()
        self.gaps: set[int] = set()
        self._floor_max = 0
        self._accused: set[Call] = set()

    @property
    def state(self) -> State:
        """The newest state."""
        return self.states[-1]

    def trying(self, entries: Iterable[Entry], changes: Changes | None) -> None:
        """Note a commit that begins."""
        entries = list(entries)
        first = self.state.head + 1
        self.payloads.update((first + n, entry.payload) for n, entry in enumerate(entries))
        self.unknown = self.state.after(len(entries), changes)

    def committed(self) -> None:
        """Note that it has been acknowledged."""
        assert self.unknown is not None, "a commit has begun"
        self.states.append(self.unknown)
        self.unknown = None

    def refused(self) -> None:
        """Note that it was refused: it has not happened, and must not."""
        self.unknown = None
        self.payloads = {p: data for p, data in self.payloads.items() if p <= self.state.head}

    def retiring(self, floor_max: int) -> None:
        """Note that retention begins, and how far it may go."""
        self.unknown = self.state
        self._floor_max = floor_max

    def retired(self, floor: int) -> None:
        """Note how far it has gone."""
        if floor > self._floor_max:
            raise Broken(f"retention went to {floor}; {self._floor_max} is the most that it may")
        self.unknown = None
        if floor > self.state.floor:
            self.states.append(self.state.at_floor(floor))

    def synced(self, upto: int) -> None:
        """Note that everything up to this commit is acknowledged at `disk`."""
        self.kept = max(self.kept, upto)

    def synced_head(self, head: int) -> None:
        """Note that the journal calls everything up to this position synced."""
        while self.states[self.kept].head < head:
            if self.kept + 1 == len(self.states):
                raise Broken(f"position {head} is called synced, and {self.state.head} is the newest")
            self.kept += 1

    def recognise(self, journal: SqliteJournal, how: "After") -> None:
        """Find out which state a crash has led to, and take it for the new beginning.

        Raises `Broken` when the journal holds anything else than what may be there.
        """
        found = self._look(journal)
        candidates = self.states[len(self.states) - 1 if how is After.KILL else self.kept :]
        if how is After.DAMAGE:  # the loss of commits of cursors alone is not seen, and hurts nobody
            older = self.past + self.states[: self.kept]
            candidates = [state for state in older if state.head == candidates[0].head] + candidates
        elif how is After.ANYTHING:
            candidates = [found]
        if self.unknown is not None:
            candidates.append(self.unknown)
        for state in reversed(candidates):
            if self._is(found, state):
                break
        else:
            raise Broken(_how_it_differs(found, candidates))
        self._hold(state)
        self._hold_suspects(journal, state.head, are_exact=how in (After.CLEAN, After.KILL))
        self.begin(msgspec.structs.replace(state.at_floor(found.floor), head=found.head))

    def recognise_recovered(self, journal: SqliteJournal, recovered: Recovered) -> None:
        """The same for a new file built from what was left: it may have gaps, and new ids of letters."""
        lost = {p for first, last in recovered.lost for p in range(first, last + 1)} - self.gaps
        self.gaps |= lost
        end = min(lost) - 1 if lost else journal.head
        if end < self.states[self.kept].head:
            raise Broken(f"{sorted(lost)} are lost, but {self.states[self.kept].head} was synced")
        for position in self.gaps:
            self.payloads.pop(position, None)
        found = self._look(journal)
        candidates = self.states[self.kept :] + ([self.unknown] if self.unknown is not None else [])
        alike = [
            s
            for s in candidates
            if (s.floor, s.head, *s.beside) == (found.floor, end, *found.beside)
            and _without_ids(s.letters) == _without_ids(found.letters)
        ]
        if not alike or len(journal.read(0, EVERYTHING)) != recovered.entries:
            raise Broken(_how_it_differs(found, candidates))
        self.states.clear()
        self.past.clear()
        last_letter = journal.last_letter_id()  # perhaps of a letter that was dug out: it is not given again
        if last_letter < max(found.letters, default=0):
            raise Broken(f"a letter after {last_letter} would get an id that is taken: {found.letters}")
        self.begin(msgspec.structs.replace(found, next_letter=last_letter + 1))

    def begin(self, state: State) -> None:
        """Begin anew from a state that is on the disk."""
        self.past += self.states
        self.states, self.kept, self.unknown, self._floor_max = [state], 0, None, 0
        self.payloads = {p: data for p, data in self.payloads.items() if p <= state.head}

    def _is(self, found: State, state: State) -> bool:
        if state is self.unknown and self._floor_max and found.floor <= self._floor_max:
            state = state.at_floor(max(state.floor, found.floor))
        return (state.floor, state.head, state.letters, *state.beside) == (
            found.floor,
            found.head,
            found.letters,
            *found.beside,
        )

    def _look(self, journal: SqliteJournal) -> State:
        floor = journal.first - 1
        entries = journal.read(floor, EVERYTHING)
        due = [p for p in range(floor + 1, journal.head + 1) if p not in self.gaps]
        if [entry.position for entry in entries] != due:
            raise Broken(f"positions have holes: {[entry.position for entry in entries]}, due are {due}")
        self.look_at_entries(entries)
        cursors = {(c.subscription, c.lane): c for c in journal.cursors()}
        letters = {b.letter_id: b for b in journal.buried()}
        names = [snapshot.subscription for snapshot in journal.snapshots()]
        snapshots = {name: found for name in names if (found := journal.snapshot(name)) is not None}
        tombstones = frozenset((name, at) for name in SUBSCRIPTIONS for at in journal.tombstones(name))
        return State(floor, journal.head, cursors, letters, 0, snapshots, tombstones)

    def look_at_entries(self, entries: Iterable[Stored]) -> None:
        """See that entries are what was written at their positions."""
        for entry in entries:
            due = self.payloads.get(entry.position)
            if due != entry.payload:
                raise Broken(f"position {entry.position} holds {entry.payload!r} in place of {due!r}")

    def _hold(self, state: State) -> None:
        for cursor in state.cursors.values():
            if cursor.floor > state.head:
                raise Broken(f"{cursor} has passed the head {state.head}")
            missed = [
                n
                for n in range(1, cursor.floor + 1)
                if n not in self.gaps and (cursor.subscription, self.payloads[n]) not in self.handled
            ]
            if missed:
                raise Broken(f"{cursor} has settled {missed}, which were never handled")

    def _hold_suspects(self, journal: SqliteJournal, head: int, *, are_exact: bool) -> None:
        """See who is accused. After a power cut it may be another call of a subscription, never of nobody."""
        calls = {(s.subscription, s.lane, s.position) for s in journal.suspects()}
        if are_exact:
            self.flown |= self._accused  # by an earlier power cut
            strange = calls - self.flown
        else:
            names = {(name, lane) for name, lane, _ in self.flown}
            strange = {call for call in calls if call[:2] not in names or not 0 < call[2] <= head}
        self._accused = calls
        if strange:
            raise Broken(f"suspects that were never in flight: {strange}")


def _without_ids(letters: dict[int, BuriedEvent]) -> list[BuriedEvent]:
    return [msgspec.structs.replace(letter, letter_id=0) for letter in letters.values()]


def _how_it_differs(found: State, candidates: list[State]) -> str:
    return (
        f"found {found}; possible are {len(candidates)} states with heads {candidates[0].head} to "
        f"{candidates[-1].head}, the first {candidates[0]}, the last {candidates[-1]}"
    )
