"""A process that works on a journal for ever, and tells what it does."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

from campaigns.crash_kit import Tell, key_of, set_in
from openoutcry.journals import SqliteJournal, sqlite
from openoutcry.ports import Changes, CursorState, Entry, Level

LANE: Final = "normal"
SUBSCRIPTIONS: Final = ("risk", "execution", "audit")
STEPS: Final = (5, 50, 400)

Open = Callable[..., SqliteJournal]


def nth(position: int) -> Entry:
    """Return the one entry that may stand at a position."""
    event_id = f"e{position}"
    event = {"event_id": event_id, "event_type": "note", "n": position, "pad": "x" * (position * 37 % 700)}
    level = Level.DISK if position % 5 == 0 else Level.PROCESS
    return Entry(event_id, json.dumps(event).encode(), LANE, level, position)


class Child:
    """The work: publish, handle, save cursors, clear suspects, retire, checkpoint."""

    def __init__(self, journal: SqliteJournal, tell: Tell, rng: random.Random, *, cursor_first: bool) -> None:
        self._journal = journal
        self._tell = tell
        self._rng = rng
        self._cursor_first = cursor_first
        self._cells = {name: journal.marks.claim(name, LANE) for name in SUBSCRIPTIONS}
        saved = {cursor.subscription: cursor.floor for cursor in journal.cursors()}
        self._floors = {name: saved.get(name, journal.first - 1) for name in SUBSCRIPTIONS}

    def work(self) -> None:
        """Do one thing."""
        choices = (self.publish, self.handle, self.handle, self.clear, self.retire, self._journal.idle)
        self._rng.choices(choices, (6, 4, 4, 1, 1, 2))[0]()

    def publish(self) -> None:
        """Write some entries, and tell when they are accepted."""
        first = self._journal.head + 1
        entries = [nth(first + n) for n in range(self._rng.choice((1, 1, 2, 7, 30)))]
        name = self._rng.choice(SUBSCRIPTIONS)
        with_cursor = self._rng.random() < 0.3
        written = self._journal.write(entries, Changes(cursors=[self._cursor(name)]) if with_cursor else None)
        if written.wants_sync:
            self._journal.sync()
        self._tell("accepted", self._journal.head)
        if with_cursor:
            self._tell("saved", name, self._floors[name])

    def handle(self) -> None:
        """Handle the next event of a subscription, with its mark set, and perhaps save the cursor."""
        name = self._rng.choice(SUBSCRIPTIONS)
        position = self._floors[name] + 1
        if position > self._journal.head:
            return
        cell, cells = self._cells[name], self._journal.marks.cells
        if self._cursor_first:
            self._floors[name] = position
            self._save(name)
        self._tell("beginning", name, position)
        cells[cell] = position
        self._tell("begun", name, position)
        self._tell("done", name, position)
        cells[cell] = 0
        self._tell("over", name, position)
        self._floors[name] = position
        if self._rng.random() < 0.3:
            self._save(name)

    def clear(self) -> None:
        """Clear a suspect."""
        for suspect in self._journal.suspects()[:1]:
            call = (suspect.subscription, suspect.lane, suspect.position)
            self._tell("clearing", suspect.subscription, suspect.position)
            self._journal.write((), Changes(cleared=[call]))
            self._tell("cleared", suspect.subscription, suspect.position)

    def retire(self) -> None:
        """Keep the file small."""
        self._journal.retire(keep_count=300)

    def _save(self, name: str) -> None:
        self._journal.write((), Changes(cursors=[self._cursor(name)]))
        self._tell("saved", name, self._floors[name])

    def _cursor(self, name: str) -> CursorState:
        return CursorState(subscription=name, lane=LANE, floor=self._floors[name])


def live(
    path: Path, seed: int, tell: Tell, *, open_: Open = SqliteJournal, cursor_first: bool = False
) -> None:
    """Open the journal and work, until somebody ends it."""
    set_in(sqlite, "WAL_DUE_BYTES", 64 * 1024)  # checkpoints, also in a short life
    journal = open_(path, key=key_of(path))
    tell("opened", journal.head)
    rng = random.Random(seed)  # noqa: S311 - a seed is wanted
    child = Child(journal, tell, rng, cursor_first=cursor_first)
    for _ in range(rng.choice(STEPS)):
        child.work()
    tell("enough")
    journal.close()
