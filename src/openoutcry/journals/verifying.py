"""Verifying a journal: batches against the chain, what is saved beside them against checksums of its own."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from openoutcry.errors import JournalCorrupt, JournalError
from openoutcry.journals import saved, schema, sealing
from openoutcry.journals.anchors import Anchor, Held, hold, take_anchor
from openoutcry.journals.engines import Connection
from openoutcry.journals.log import Log
from openoutcry.journals.rows import NORMAL, UNKNOWN, Chain, Row, lanes_in
from openoutcry.journals.seals import judge_seals

Progress = Callable[[int, int], None]
"""Called as (positions looked at, position of the head)."""
_PROBLEMS_MAX: Final = 100


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
        anchor: What is to be kept elsewhere: the head of the chain, and how far the rest has come.
        problems: What is damaged, the first hundred; empty if all is well.
        untold: What could not be held against the anchors that were given, in words.

    """

    entries: int
    batches: int
    anchor: Anchor
    problems: tuple[Problem, ...]
    untold: tuple[str, ...] = ()

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
        lanes = lanes_in(row)
    except JournalCorrupt as problem:
        return str(problem)
    if marked and row.urgent != UNKNOWN and row.urgent != bool(lanes - {NORMAL}):
        return f"positions {row.first} to {row.last} are marked as {'' if row.urgent else 'not '}urgent"
    return None


def verify(
    log: Log,
    chain: Chain,
    start: Anchor,
    head: int,
    *,
    progress: Progress | None = None,
    anchors: Iterable[Anchor] = (),
) -> Verified:
    """Look at everything behind `start`, which is where retention has ended, up to `head`: in one view.

    Gaps that a recovery has left on purpose are listed in the table `gaps` and are no problems.
    """
    problems: list[Problem] = []
    gaps: dict[int, int] = {}
    try:
        gaps = gaps_of(log.db)
    except JournalCorrupt as problem:
        problems.append(Problem(problem.position, str(problem)))
    at, before, good, batches = start.position, bytes.fromhex(start.checksum), 0, 0
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
    problems += _saved(log, chain)
    problems += judged_seals(log.db, chain)
    held, anchor = _hold(log.db, chain, anchors, problems)
    anchor = msgspec.structs.replace(anchor, position=at, checksum=before.hex())
    untold = tuple(f"anchor {one.anchor.position}: {one.untold}" for one in held if one.untold)
    return Verified(good, batches, anchor, tuple(problems[:_PROBLEMS_MAX]), untold)


def _hold(
    db: Connection, chain: Chain, anchors: Iterable[Anchor], problems: list[Problem]
) -> tuple[list[Held], Anchor]:
    """Hold the file against anchors, and return what came of it, with an anchor of its own."""
    try:
        held = hold(db, chain, anchors)
        problems += (Problem(one.anchor.position, one.wrong) for one in held if one.wrong)
        return held, take_anchor(db, chain)
    except JournalError as problem:
        problems.append(Problem(None, str(problem)))
        return [], Anchor(0, "")


@contextmanager
def one_view(db: Connection) -> Iterator[None]:
    """See the file as it stands now, whatever is written meanwhile."""
    db.run("BEGIN")
    try:
        yield
    finally:
        if db.in_transaction:
            db.run("ROLLBACK")


def judged_seals(db: Connection, chain: Chain) -> list[Problem]:
    """Return what of the rows beside the log is not what was saved last, as far as there are seals."""
    try:
        return [Problem(None, one.said) for one in judge_seals(db, chain).broken]
    except (JournalError, db.error) as problem:
        return [Problem(None, f"seals: {problem}")]


def _saved(log: Log, chain: Chain) -> Iterator[Problem]:
    """Look at what is saved beside the log, row by row, and at SQLite's own structure."""
    db = log.db
    looks: list[Iterator[Problem]] = [
        _damaged(saved.judged_cursors(db, chain)),
        _damaged(saved.judged_letters(db, chain)),
        *(_damaged_rows(db, chain, table) for table in schema.SEALED if table != "seals"),
        _structure(db),
    ]
    for look in looks:
        try:
            yield from look
        except JournalCorrupt as problem:
            yield Problem(problem.position, str(problem))
        except (JournalError, db.error) as problem:
            yield Problem(None, str(problem))


def _damaged(rows: Iterator[Any]) -> Iterator[Problem]:
    return (Problem(row.position, row.said) for row in rows if isinstance(row, saved.Damaged))


def _damaged_rows(db: Connection, chain: Chain, table: str) -> Iterator[Problem]:
    for row, is_whole in sealing.rows_judged(db, chain, table):
        if not is_whole:
            yield Problem(None, f"a row of {table} ({row[0]!r}) is damaged")


def _structure(db: Connection) -> Iterator[Problem]:
    return (Problem(None, said) for (said,) in db.rows("PRAGMA quick_check(10)") if said != "ok")
