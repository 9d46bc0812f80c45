"""Kill a process that works on a journal, thousands of times, and see that nothing accepted is lost.

python -m campaigns.journal_kills --kills 10000
python -m campaigns.journal_kills --kills 10000 --strace 1000     as many of them at chosen system calls
python -m campaigns.journal_kills --seed 4711                     the file of that seed again
"""

import argparse
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from campaigns.crash_kit import (
    SYSTEM_CALLS,
    Life,
    Step,
    Work,
    forked,
    has_strace,
    journal_name,
    key_of,
    scratch,
    stepped,
    traced,
)
from campaigns.journal_kills_child import SUBSCRIPTIONS, live, nth
from campaigns.power_loss_plants import AckBeforeCommit
from campaigns.power_loss_truth import EVERYTHING, Broken
from openoutcry.journals import SqliteJournal

KILLS_PER_FILE: Final = 25
STEPS: Final = ("accepted", "saved", "beginning", "begun", "done", "over", "clearing", "cleared")
_Key = tuple[str, int]


class Plant(NamedTuple):
    """A planted bug.

    Attributes:
        open_: Opens the journal.
        cursor_first: Whether the child saves its cursor before it does the work.
        shows_at: A kill at this step leaves a file that gives the bug away.

    """

    open_: Callable[..., SqliteJournal] = SqliteJournal
    cursor_first: bool = False
    shows_at: Step | None = None


HONEST: Final = Plant()
PLANTS: Final = {
    "acknowledged before the commit": Plant(open_=AckBeforeCommit, shows_at=Step("accepted")),
    "the cursor saved before the work": Plant(cursor_first=True, shows_at=Step("beginning")),
}


class Ledger:
    """What the children have told, and what must be in the file therefore."""

    def __init__(self) -> None:
        self.accepted = 0
        self._saved: dict[str, int] = {}
        self._done: set[_Key] = set()
        self._certain: set[_Key] = set()  # in flight when the last life ended
        self._possible: set[_Key] = set()
        self._crashes: dict[_Key, tuple[int, int]] = {}  # at least, at most

    def hear(self, life: Life) -> None:
        """Take down what a life has told."""
        for word, *rest in life.told:
            if word == "opened":
                self._count_crashes()
            elif word == "accepted":
                self.accepted = max(self.accepted, int(rest[0]))
            elif word == "saved":
                self._saved[rest[0]] = int(rest[1])
            elif word != "enough":
                self._hear_of(word, (rest[0], int(rest[1])))

    def _hear_of(self, word: str, call: _Key) -> None:
        if word == "beginning":
            self._possible.add(call)
        elif word == "begun":
            self._certain.add(call)
        elif word == "done":
            self._done.add(call)
            self._certain.discard(call)
        elif word == "over":
            self._possible.discard(call)
        elif word == "clearing":
            self._crashes[call] = (0, self._crashes.get(call, (0, 0))[1])
        elif word == "cleared":
            self._crashes.pop(call, None)

    def _count_crashes(self) -> None:
        """An opening has made suspects of what was in flight."""
        for call in self._certain | self._possible:
            least, most = self._crashes.get(call, (0, 0))
            self._crashes[call] = (least + (call in self._certain), most + 1)
        self._certain.clear()
        self._possible.clear()

    def audit(self, path: Path) -> None:
        """Open the file, and hold it against the ledger. Raises `Broken`."""
        with SqliteJournal(path, key=key_of(path)) as journal:
            self._count_crashes()
            self._audit_entries(journal)
            self._audit_cursors(journal)
            self._audit_suspects(journal)
            with journal.reader() as reader:
                verified = reader.verify()
            if not verified.intact:
                raise Broken(f"it does not verify: {verified.problems}")

    def _audit_entries(self, journal: SqliteJournal) -> None:
        if journal.head < self.accepted:
            raise Broken(f"{self.accepted} was accepted, and the file ends at {journal.head}")
        if journal.unsynced_lost:
            raise Broken(f"a kill has cost {journal.unsynced_lost} entries")
        stored = journal.read(0, EVERYTHING)
        if [entry.position for entry in stored] != list(range(journal.first, journal.head + 1)):
            raise Broken(f"positions have holes or are out of order: {[e.position for e in stored]}")
        for entry in stored:
            if entry.payload != nth(entry.position).payload:
                raise Broken(f"position {entry.position} holds {entry.payload!r}")
        if stored:
            newest = nth(journal.head)
            again = journal.write([newest])
            if len(again.duplicates) != 1 or list(again.positions) != [journal.head]:
                raise Broken(f"{newest.event_id} is there, and was written again")

    def _audit_cursors(self, journal: SqliteJournal) -> None:
        found = {cursor.subscription: cursor.floor for cursor in journal.cursors()}
        for name in SUBSCRIPTIONS:
            floor = found.get(name, 0)
            if floor < self._saved.get(name, 0):
                raise Broken(f"the cursor of {name} was saved at {self._saved[name]}, and is at {floor}")
            if floor > journal.head:
                raise Broken(f"the cursor of {name} is at {floor}, and the file ends at {journal.head}")
            # where there was no cursor yet, a child begins at the first entry that is kept
            missed = [n for n in range(journal.first, floor + 1) if (name, n) not in self._done]
            if missed:
                raise Broken(f"{name} has settled {missed}, and never handled them")

    def _audit_suspects(self, journal: SqliteJournal) -> None:
        found = {(s.subscription, s.position): s.crashes for s in journal.suspects()}
        for call in found.keys() | self._crashes.keys():
            least, most = self._crashes.get(call, (0, 0))
            if not least <= found.get(call, 0) <= most:
                raise Broken(
                    f"{call} is a suspect {found.get(call, 0)} times, and should be {least} to {most} times"
                )
        self._crashes = {call: (crashes, crashes) for call, crashes in found.items()}


class Campaign:
    """The kills of one file.

    Attributes:
        kills: How many there were.

    """

    def __init__(self, seed: int, folder: Path, *, strace: int = 0, plant: Plant = HONEST) -> None:
        self._rng = random.Random(seed)  # noqa: S311 - a seed is wanted
        self._path = folder / journal_name(seed)
        self._strace = strace
        self._plant = plant
        self._ledger = Ledger()
        self.kills = 0

    def run(self, kills: int = KILLS_PER_FILE) -> None:
        """Kill so many children; look at the file after most of them. Raises `Broken`."""
        for number in range(kills):
            self._hear(self._traced() if number < self._strace else self._forked())
            if (
                self._rng.random() < 0.7 or number == kills - 1
            ):  # else the next child finds what this one left
                self._ledger.audit(self._path)

    def run_to(self, step: Step) -> None:
        """Kill one child at a step, and look at the file. Raises `Broken`."""
        life = stepped(self._work(), step)
        self._hear(life)
        if not life.killed:
            raise LookupError(f"the child has never come to {step}")
        self._ledger.audit(self._path)

    def _hear(self, life: Life) -> None:
        self.kills += life.killed
        if not life.killed and ["enough"] not in life.told:
            raise Broken(f"the child ended by itself: {life.told[-1:]}")
        self._ledger.hear(life)

    def _work(self) -> Work:
        seed, plant = self._rng.getrandbits(32), self._plant
        return lambda tell: live(self._path, seed, tell, open_=plant.open_, cursor_first=plant.cursor_first)

    def _forked(self) -> Life:
        if self._rng.random() < 0.3:
            return stepped(self._work(), Step(self._rng.choice(STEPS), self._rng.choice((1, 2, 5, 20))))
        return forked(self._work(), self._rng.choice((0, 0, 1, 5, 20, 60)), self._rng)

    def _traced(self) -> Life:
        when = self._rng.randint(1, self._rng.choice((2, 12, 100)))
        return traced(self._work(), self._rng.choice(SYSTEM_CALLS), when)


def run_to(*steps: Step, plant: Plant = HONEST) -> str | None:
    """Kill a child at each of these steps, in this order; return what that has found, None for nothing."""
    with scratch("journal-kills-") as folder:
        campaign = Campaign(0, folder, plant=plant)
        try:
            for step in steps:
                campaign.run_to(step)
        except Broken as found:
            return str(found)
    return None


def run_file(seed: int, kills: int = KILLS_PER_FILE, *, strace: int = 0, plant: Plant = HONEST) -> str | None:
    """Run the kills of one file; return what they have found, None for nothing."""
    with scratch("journal-kills-") as folder:
        campaign = Campaign(seed, folder, strace=strace, plant=plant)
        try:
            campaign.run(kills)
        except Exception as problem:  # noqa: BLE001 - whatever comes out of the journal is a finding
            again = f"python -m campaigns.journal_kills --seed {seed} --kills {kills} --strace {strace}"
            return f"{type(problem).__name__} after {campaign.kills} kills: {problem}\n    again: {again}"
    return None


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign that the command line asks for; return 1 when it has found something."""
    parser = argparse.ArgumentParser(prog="python -m campaigns.journal_kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=500, help="how many (default 500)")
    parser.add_argument("--strace", type=int, default=0, help="how many of them at chosen system calls")
    parser.add_argument(
        "--first", type=int, default=0, help="the first seed; a file of 25 kills has one (default 0)"
    )
    parser.add_argument("--seed", type=int, help="only the file of this seed")
    parser.add_argument("--plant", choices=list(PLANTS), help="plant a bug, which should be found")
    asked = parser.parse_args(arguments)
    if asked.strace and not has_strace():
        parser.error(
            "strace is missing or may not trace: install it (apt-get install strace), or leave --strace out"
        )
    plant = PLANTS[asked.plant] if asked.plant else HONEST
    if asked.seed is not None:
        found = [run_file(asked.seed, asked.kills, strace=asked.strace, plant=plant)]
        files = 1
    else:
        files = -(-asked.kills // KILLS_PER_FILE)
        started = time.monotonic()
        found = []
        for number in range(files):
            strace = asked.strace * (number + 1) // files - asked.strace * number // files
            found.append(run_file(asked.first + number, strace=strace, plant=plant))
            if sys.stderr.isatty():
                sys.stderr.write(
                    f"\r{(number + 1) * KILLS_PER_FILE} kills, {time.monotonic() - started:.0f} s"
                )
    failures = [what for what in found if what is not None]
    sys.stdout.write("\n".join([*failures, f"{files} files of kills: {len(failures)} failures\n"]))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
