"""Where names stand in a journal: in the file beside it, and for what is newer in memory."""

import os
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from openoutcry.errors import JournalError
from openoutcry.journals.lineage.keys import (
    HASH_BITS,
    OFFSET_BITS,
    SHELF,
    Hashing,
    Keys,
    in_order,
    joined,
    no_keys,
)
from openoutcry.journals.lineage.side_file import ENDING, NotBelieved, NotNow, Shelf, SideFile
from openoutcry.journals.reading import JournalReader
from openoutcry.journals.refusals import may_use

Tell = Callable[[int, int], None]
"""Called with the position that was reached, and the head."""
_TRIES: Final = 8
_PIECE: Final = 8_192
"""So many entries are read at once: while they are read, the write-ahead log cannot start over."""
_WRITTEN: Final = 1_024
"""From so many new entries on the file is written."""
_SMALL: Final = 65_536
"""Larger shelves are made of smaller ones by `tidy`, which takes its time."""


class Run(NamedTuple):
    """The keys of some neighbouring positions, in memory."""

    shelf: Shelf
    keys: Keys


class Index:
    """Where names stand in one journal.

    Args:
        reader: The journal.
        key: Its key, if it is sealed: what is in the file is then held against it.
        is_sealed: Whether it is. Without its key nothing is written or read beside it.
        references: The fields of users' classes that refer to something.

    Attributes:
        path: Where the file is, or would be.
        why_no_file: Why the file is not used, in words; empty if it is.

    """

    def __init__(
        self, reader: JournalReader, *, key: bytes | None, is_sealed: bool, references: frozenset[str]
    ) -> None:
        self.path: Path = Path(f"{reader.path}{ENDING}")
        self.why_no_file: str = ""
        self._reader = reader
        self._key = key
        self._has_file = key is not None or not is_sealed
        if not self._has_file:
            self.why_no_file = "the journal is sealed, and its key was not given"
        self._owner = reader.path.stat().st_uid
        self._references = references
        self._file: SideFile | None = None
        self._runs: list[Run] = []
        self._floor = 1
        self._thrown_away = 0
        self._hashing = Hashing((1 << HASH_BITS) - 5, references)

    # -- looking ------------------------------------------------------------------------------------

    @contextmanager
    def view(self, tell: Tell | None = None) -> Iterator[None]:
        """Catch up, and look at the file as it is then, whatever other processes write meanwhile."""
        self.catch_up(tell)
        with ExitStack() as stack:
            try:
                if self._file is not None:
                    stack.enter_context(self._file.view())
            except NotBelieved:
                self._throw_away()
                self.catch_up(tell)
            except NotNow as problem:
                self._go_without(problem)
                self.catch_up(tell)
            yield

    def places(self, kind: int, name: str, most: int) -> list[int]:
        """Return where a name may stand, the newest `most` positions, ascending.

        They are to be looked at: a hash may be another name's.
        """
        while True:
            try:
                return self._places(kind, name, most)
            except NotBelieved:
                self._throw_away()
            except NotNow as problem:
                self._go_without(problem)
            self.catch_up()

    def _places(self, kind: int, name: str, most: int) -> list[int]:
        floor = self._floor
        parts: list[list[int]] = []
        count = 0
        low = self._hashing.hash(name) << OFFSET_BITS
        for run in reversed(self._runs):
            if count < most:
                keys = run.keys[kind]
                some = keys[bisect_left(keys, low) : bisect_left(keys, low + SHELF)]
                parts.append([run.shelf.first + (key - low) for key in some])
                count += len(some)
        if self._file is not None:
            for shelf in reversed(self._file.shelves):
                if count >= most or shelf.last < floor:
                    break
                parts.append(self._file.positions(shelf, kind, name, most - count))
                count += len(parts[-1])
        found = [position for part in reversed(parts) for position in part if position >= floor]
        return list(dict.fromkeys(found))[-most:]

    # -- keeping up ---------------------------------------------------------------------------------

    @property
    def end(self) -> int:
        """Up to which position it has everything."""
        if self._runs:
            return self._runs[-1].shelf.last
        return 0 if self._file is None else self._file.end

    def catch_up(self, tell: Tell | None = None) -> int:
        """Add what the journal has more; return how many entries that was.

        A file that is not of this journal as it is now is thrown away first. Raises `JournalCorrupt` at the
        first batch that is not what was written.
        """
        while True:
            try:
                self._open()
                if self._file is not None:
                    self._file.look_again()
                    self._drop_what_the_file_has()
                self._believe()
                self._floor = self._reader.first
                return self._add(tell)
            except NotBelieved:
                self._throw_away()
            except NotNow as problem:
                self._go_without(problem)

    def _open(self) -> None:
        """Open the file that is there, or make one."""
        if self._file is not None and not self._file.is_there:
            self._forget()
        if self._file is not None or not self._has_file:
            return
        if os.path.lexists(self.path):
            self._file = self._existing()
            if self._file.origin != self._reader.anchor().origin:
                raise NotBelieved("it is of another journal")
            if not self._references <= self._file.hashing.references:
                self._references |= self._file.hashing.references
                raise NotBelieved("it was made for fewer references")
        else:
            self._file = SideFile.make(
                self.path,
                owner=self._owner,
                key=self._key,
                origin=self._reader.anchor().origin,
                references=self._references,
            )
        self._hashing = self._file.hashing
        self._runs.clear()

    def _existing(self) -> SideFile:
        return SideFile(self.path, owner=self._owner, key=self._key, may_write=may_write(self.path))

    def _drop_what_the_file_has(self) -> None:
        """Forget what another process has written meanwhile."""
        end = 0 if self._file is None else self._file.end
        if self._runs and self._runs[0].shelf.first <= end:
            if any(run.shelf.first <= end < run.shelf.last for run in self._runs):
                self._runs.clear()
            self._runs = [run for run in self._runs if run.shelf.first > end]

    def _believe(self) -> None:
        """Raise `NotBelieved` where the newest of the file is not what the journal has there.

        What is older follows from that, since checksums form a chain. What is in memory is forgotten then.
        """
        if self._runs and self._reader.link(self._runs[-1].shelf.last) != self._runs[-1].shelf.link:
            self._runs.clear()
        if self._file is None or self._runs:
            return
        if self._file.shelves and self._reader.link(self._file.end) != self._file.shelves[-1].link:
            raise NotBelieved("it is of another state of the journal")

    def _add(self, tell: Tell | None) -> int:
        """Read what is new, up to the head as it is now; return how many entries that was."""
        added, head = 0, self._reader.head
        while (run := self._next_run(head, tell)) is not None:
            added += run.shelf.span
            self._runs = _compacted([*self._runs, run])
            if self._writes and sum(one.shelf.span for one in self._runs) >= _WRITTEN:
                self._write()
        return added

    def _next_run(self, head: int, tell: Tell | None) -> Run | None:
        """Read up to a position, or as much as a shelf takes; None where nothing is new."""
        keys, first, last, link = no_keys(), 0, max(self.end, self._floor - 1), b""
        is_full = False
        while last < head and not is_full:
            piece = last
            with closing(self._reader.batches(last)) as batches:
                for row in batches:
                    first = first or row.first
                    if row.size > SHELF:
                        raise JournalError(
                            f"{self._reader.path}: {row.size:,} events were written at once at position "
                            f"{row.first}, and at most {SHELF:,} can be indexed: write fewer at once"
                        )
                    is_full = row.last - first >= SHELF
                    if is_full or row.first - piece > _PIECE:
                        break
                    self._hashing.keys(row, first, keys)
                    last, link = row.last, row.checksum
                else:
                    is_full = True
            if tell is not None and last > piece:
                tell(min(last, head), head)
        return Run(Shelf(first, last, link, self.end), in_order(keys)) if link else None

    # -- the file -----------------------------------------------------------------------------------

    @property
    def _writes(self) -> bool:
        return self._file is not None and self._file.may_write

    def _write(self) -> None:
        """Write what is in memory into the file, if it can be."""
        assert self._file is not None, "only what has a file writes it"
        file = self._file
        self._runs = [_made_one(group) for group in _grouped(self._runs)]
        first, *others = self._runs
        neighbours: list[Shelf] = []
        for shelf in reversed(file.shelves):
            span = first.shelf.last - shelf.first + 1
            if shelf.span > 2 * (span - shelf.span) or span > _SMALL:
                break
            neighbours.insert(0, shelf)
        try:
            if neighbours:
                first = _made_one([*(Run(shelf, file.keys_of(shelf)) for shelf in neighbours), first])
            if file.put([first, *others], neighbours, file.end):
                self._runs.clear()
            else:
                self._drop_what_the_file_has()
        except NotNow as problem:  # it stays in memory, and is written another time
            self.why_no_file = str(problem)

    def tidy(self) -> None:
        """Write everything into the file, in large shelves, without those that retention has passed."""
        file = self._file
        if file is None or not file.may_write:
            return
        try:
            if self._runs:
                self._write()
            gone = [shelf for shelf in file.shelves if shelf.last < self._reader.first]
            if gone and len(gone) < len(file.shelves):
                file.put((), gone, file.end)
            for group in _grouped([Run(shelf, ()) for shelf in file.shelves]):
                spans = sorted(run.shelf.span for run in group)
                if len(spans) > 1 and 2 * sum(spans[:-1]) >= spans[-1]:
                    shelves = [run.shelf for run in group]
                    one = _made_one([Run(shelf, file.keys_of(shelf)) for shelf in shelves])
                    file.put([one], shelves, file.end)
        except NotNow as problem:
            self.why_no_file = str(problem)
        except NotBelieved:  # another process may have thrown it away, too: it is made again, untidied
            self._throw_away()
            self.catch_up()

    def _throw_away(self) -> None:
        """Remove the file: it is made again, unless that has been of no use several times."""
        self._forget()
        self._thrown_away += 1
        if self._thrown_away > _TRIES:
            self._go_without(NotNow("what is written into it is not what is read"))
            return
        try:
            self.path.unlink(missing_ok=True)
        except OSError as problem:
            self._go_without(problem)

    def _go_without(self, problem: Exception) -> None:
        """Keep everything in memory from now on."""
        self._forget()
        self._has_file = False
        self.why_no_file = str(problem)

    def _forget(self) -> None:
        self._runs.clear()
        if self._file is not None:
            self._file.close()
            self._file = None

    def close(self) -> None:
        """Close the file."""
        self._forget()


def may_write(path: Path) -> bool:
    """Return True if this process may write a file that is there."""
    return may_use(path, os.W_OK) and may_use(path.parent, os.W_OK)


def _grouped(runs: list[Run]) -> list[list[Run]]:
    """Return neighbours that can be one shelf together."""
    groups: list[list[Run]] = []
    for run in runs:
        if groups and run.shelf.last - groups[-1][0].shelf.first < SHELF:
            groups[-1].append(run)
        else:
            groups.append([run])
    return groups


def _compacted(runs: list[Run]) -> list[Run]:
    """Return runs of which each is much larger than the next, so that there are few."""
    found: list[Run] = []
    for run in runs:
        found.append(run)
        while len(found) > 1:
            before, last = found[-2].shelf, found[-1].shelf
            if before.span > 2 * last.span or last.last - before.first >= SHELF:
                break
            found[-2:] = [_made_one(found[-2:])]
    return found


def _made_one(runs: list[Run]) -> Run:
    """Return the keys of neighbours together."""
    if len(runs) == 1:
        return runs[0]
    first, last = runs[0].shelf, runs[-1].shelf
    keys = joined([(run.shelf.first, run.keys) for run in runs])
    return Run(Shelf(first.first, last.last, last.link, first.after), keys)
