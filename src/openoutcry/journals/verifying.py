"""Verifying a journal: batches against the chain, what is saved beside them against checksums of its own."""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec

from openoutcry.errors import JournalCorrupt
from openoutcry.journals import saved, schema, sealing
from openoutcry.journals.engines import Connection
from openoutcry.journals.log import Log
from openoutcry.journals.rows import NORMAL, UNKNOWN, Chain, Row, unpack

Progress = Callable[[int, int], None]
"""Called as (positions looked at, position of the head)."""
_PROBLEMS_MAX: Final = 100


class Anchor(NamedTuple):
    """A head of the chain, to be kept elsewhere: what `verify` is then given must still lead through it.

    Attributes:
        position: The last position of a batch.
        checksum: The batch's checksum, in hex.

    """

    position: int
    checksum: str


class Problem(msgspec.Struct, frozen=True):
    """Something in the file that is not what was written.

    Attributes:
        position: The first position concerned; None for what has no position.
        what: What is wrong with it.

    """

    position: int | None
    what: str


class Verified(msgspec.Struct, frozen=True):
    """What verifying has found.

    Attributes:
        entries: Entries that are what was written.
        batches: Their batches.
        anchor: The head of the chain.
        problems: What is damaged, the first hundred; empty if all is well.

    """

    entries: int
    batches: int
    anchor: Anchor
    problems: tuple[Problem, ...]

    @property
    def intact(self) -> bool:
        """Whether nothing is damaged."""
        return not self.problems


def gaps_of(db: Connection) -> dict[int, int]:
    """Return the stretches that a recovery had to leave empty, last position by first.

    Raises `JournalCorrupt` where the table is damaged.
    """
    gaps: dict[int, int] = {}
    for first, last in sealing.rows_of(db, "SELECT first, last FROM gaps"):
        if type(first) is not int or type(last) is not int:
            raise JournalCorrupt("the list of gaps is damaged; go on in a new file with recover_into")
        gaps[first] = last
    return gaps


def judge(row: Row, expected: int, before: bytes, chain: Chain, *, marked: bool = True) -> str | None:
    """Return what is wrong with a batch that should begin at `expected` behind the checksum `before`.

    With `marked` also its mark as urgent, which the checksum does not cover: the entries can renew it.
    """
    if row.first > expected:
        return f"positions {expected} to {row.first - 1} are missing"
    checksum = chain.link(before, row.first, row.size, row.first_ns, row.last_ns, row.data, row.checksum)
    if checksum != row.checksum:
        return f"the checksum of positions {row.first} to {row.last} does not hold"
    try:
        entries = unpack(row)
    except JournalCorrupt as problem:
        return str(problem)
    if marked and row.urgent != UNKNOWN and row.urgent != any(e.lane != NORMAL for e in entries):
        return f"positions {row.first} to {row.last} are marked as {'' if row.urgent else 'not '}urgent"
    return None


def verify(
    log: Log,
    chain: Chain,
    start: Anchor,
    head: int,
    *,
    progress: Progress | None = None,
    anchor: Anchor | None = None,
) -> Verified:
    """Look at everything behind `start`, which is where retention has ended, up to `head`.

    Gaps that a recovery has left on purpose are listed in the table `gaps` and are no problems.
    """
    problems: list[Problem] = []
    gaps: dict[int, int] = {}
    try:
        gaps = gaps_of(log.db)
    except JournalCorrupt as problem:
        problems.append(Problem(problem.position, str(problem)))
    at, before, good, batches = start.position, bytes.fromhex(start.checksum), 0, 0
    met = anchor is None or anchor == start
    try:
        for row in log.forwards(at + 1):
            expected = gaps.get(at + 1, at) + 1
            wrong = judge(row, expected, before, chain)
            if wrong is None:
                good += row.size
                batches += 1
            else:
                problems.append(Problem(min(expected, row.first), wrong))
            at, before = row.last, row.checksum
            met = met or (anchor is not None and anchor == (at, before.hex()))
            if progress is not None:
                progress(at, head)
            if len(problems) == _PROBLEMS_MAX:
                break
    except JournalCorrupt as problem:
        problems.append(Problem(at + 1, str(problem)))
    else:
        at = gaps.get(at + 1, at)
        if at < head and len(problems) < _PROBLEMS_MAX:
            problems.append(Problem(at + 1, f"positions {at + 1} to {head} are missing at the end"))
    if not met and anchor is not None:
        problems.append(Problem(anchor.position, "the chain does not lead through the anchor"))
    problems += _saved(log, chain)
    return Verified(good, batches, Anchor(at, before.hex()), tuple(problems[:_PROBLEMS_MAX]))


def _saved(log: Log, chain: Chain) -> Iterator[Problem]:
    """Look at what is saved beside the log, and at SQLite's own structure."""
    try:
        saved.cursors(log.db, chain)
        saved.letters(log.db, chain, None)
        for table in schema.SEALED:
            for _ in sealing.rows_sealed(log.db, chain, table):
                pass
        for (said,) in log.db.rows("PRAGMA quick_check(10)"):
            if said != "ok":
                yield Problem(None, said)
    except JournalCorrupt as problem:
        yield Problem(problem.position, str(problem))
    except log.db.error as problem:
        yield Problem(None, str(problem))
