"""Reading a journal that another thread or process writes, or that is written no more."""

from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from openoutcry.core.halts import Halt
from openoutcry.errors import JournalCorrupt, JournalError, JournalFull, NotAJournal
from openoutcry.journals import retention, saved, schema, snapshots
from openoutcry.journals.anchors import Anchor, Held, hold, take_anchor
from openoutcry.journals.engines import Connection, EngineName, connect_to_read, is_full
from openoutcry.journals.log import LAST_POSITION, Log
from openoutcry.journals.opening import chain_of
from openoutcry.journals.refusals import must_exist, real_path, refusals_of
from openoutcry.journals.rows import KEYED, Chain, Row
from openoutcry.journals.snapshots import Head
from openoutcry.journals.verifying import Problem, Progress, Verified, judged_seals, one_view, verify
from openoutcry.ports import BuriedEvent, CursorState, Filter, Holder, Snapshot, Stored, Suspect


class JournalReader:
    """A journal file opened read-only, also while a bus writes to it. It never locks the writer out.

    What is read is held against its checksum: `JournalCorrupt` tells where it is not what was written. Of a
    sealed journal everything can be read without the key, only that nothing is then held. `held=False` does
    the same, for whoever wants to see what is left of a damaged file; `verify` looks at everything all the
    same.

    Attributes:
        path: The file, symbolic links resolved.

    Raises:
        NotAJournal: There is no such file, or it is something else.
        SchemaTooNew: A newer version made it.
        JournalCorrupt: Its settings are damaged.

    """

    def __init__(
        self, path: str | Path, *, key: bytes | None = None, engine: EngineName = "auto", held: bool = True
    ) -> None:
        self.path: Path = real_path(path)
        with refusals_of(self.path):
            must_exist(self.path)
        try:
            self._db: Connection = connect_to_read(self.path, engine)
        except Exception as problem:
            raise schema.unreadable(self.path, problem) from problem
        try:
            self._chain = self._recognise(key)
            self._log = Log(self._db, self.path, self._chain if held else None)
        except BaseException:
            self._db.close()
            raise

    def _recognise(self, key: bytes | None) -> Chain | None:
        """See that it is a journal; return its chain, None for a sealed one without its key."""
        chain = chain_of(key)
        if schema.is_empty(self._db, self.path):
            raise NotAJournal(f"{self.path} is empty; name the file that a bus writes to")
        schema.lend(self._db)
        found = schema.settings(self._db, self.path)
        self._is_sealed: bool = found.get("checksum", ("", b""))[0] == KEYED
        if key is None and self._is_sealed:
            return None
        schema.check_settings(found, chain, self.path)
        return chain

    @property
    def is_sealed(self) -> bool:
        """Whether the journal is sealed with a key, whether that was given or not."""
        return self._is_sealed

    @property
    def version(self) -> int:
        """The version of the file's schema now: another program may have changed it since it was opened."""
        return schema.version_of(self._db)

    @property
    def head(self) -> int:
        """The position of the newest entry now."""
        head = self._log.head()
        return self._start().position if head is None else head

    @property
    def first(self) -> int:
        """The oldest position that is kept."""
        return self._start().position + 1

    def copy_into(self, path: Path, tell: Progress) -> None:
        """Copy the file as it stands now, page by page, into an empty one; tell (pages copied, all of them).

        Writers go on meanwhile, only that the write-ahead log does not start over before the copy is made.
        Nothing is synced, nor verified: `backup` does that. Raises `JournalError` for a sealed journal
        without its key.
        """
        if self._chain is None:
            raise JournalError(f"{self.path} is sealed with a key; give the key to verify the copy")
        try:
            with one_view(self._db):
                schema.version_of(self._db)  # the transaction begins with what is read first
                self._db.copy_into(path, tell)
        except self._db.error as problem:
            if is_full(problem):
                raise JournalFull(
                    f"{path}: the disk has no room for a copy of {self.path}; make room, and try again"
                ) from problem
            raise JournalError(f"{self.path} could not be copied into {path}: {problem}") from problem

    def read(self, after: int, limit: int, where: Filter | None = None) -> list[Stored]:
        """Return the next `limit` entries behind position `after`, in order. Fewer: there are no more.

        Raises `JournalCorrupt` at the first batch that is not what was written; read on behind it.
        """
        return self._log.read(after, limit, where)

    def tail(self, limit: int, where: Filter | None = None) -> list[Stored]:
        """Return the newest `limit` entries, oldest first."""
        return self._log.tail(limit, where)

    def back(
        self,
        before: int = LAST_POSITION,
        where: Filter | None = None,
        holds: Callable[[bytes], bool] | None = None,
    ) -> Generator[tuple[int, list[Stored]], None, None]:
        """Yield (its first position, its entries before `before`) for each batch, the newest batch first.

        There are no entries where a batch has nothing of the filter's times, or where `holds`, called with
        its bytes, returns False: such a batch is not unpacked. Of the filter only the times are looked at.
        Close the generator soon: while it is open, the write-ahead log cannot start over.

        Raises `JournalCorrupt` at the first batch that is not what was written.
        """
        return self._log.back(before, where, holds)

    def batches(self, after: int) -> Generator[Row, None, None]:
        """Yield the batches that end behind a position as they are stored, in order.

        Close the generator soon: while it is open, the write-ahead log cannot start over. Raises
        `JournalCorrupt` at the first batch that is not what was written.
        """
        return self._log.batches(after)

    def batch(self, position: int) -> Row | None:
        """Return the batch that holds a position, as it is stored; None when it is not kept.

        Raises `JournalCorrupt` where it is not what was written.
        """
        return self._log.batch(position)

    def link(self, position: int) -> bytes | None:
        """Return the checksum of the batch that ends at a position; None if none does."""
        return self._log.link(position)

    def cursors(self) -> list[CursorState]:
        """Return every saved cursor."""
        return saved.cursors(self._db, self._chain)

    def buried(
        self, subscription: str | None = None, after: int = 0, limit: int | None = None
    ) -> list[BuriedEvent]:
        """Return the dead letters, oldest first: of all or of one name, the next `limit` behind `after`.

        Raises `JournalCorrupt` when one of them is not what was buried.
        """
        return saved.letters(self._db, self._chain, subscription, after, limit)

    def suspects(self) -> list[Suspect]:
        """Return what was in flight when a process died, and has not been cleared since."""
        return saved.suspects(self._db)

    def halts(self) -> list[Halt]:
        """Return the active kill switches."""
        return saved.halts(self._db, self._chain)

    def snapshot(self, subscription: str) -> Snapshot | None:
        """Return where the memory of a subscription begins, or None if that was never written.

        Raises `JournalCorrupt` if it is damaged, or may be one that is damaged.
        """
        return snapshots.snapshot(self._db, self._chain, subscription)

    def snapshots(self) -> list[Snapshot]:
        """Return all of these by subscription, without their states; raises `JournalCorrupt` at damage."""
        return snapshots.snapshots(self._db, self._chain)

    def memory_heads(self) -> list[Head]:
        """Return all of them by subscription, without their states, damaged or not."""
        return sorted(snapshots.heads(self._db, self._chain), key=lambda head: head.snapshot.subscription)

    def snapshot_sizes(self) -> dict[str, int]:
        """Return how many bytes the states have, by subscription."""
        return snapshots.sizes(self._db, self._chain)

    def tombstones(self, subscription: str) -> list[int]:
        """Return the positions that a subscription has settled and will never handle, ascending."""
        snapshots.check_tombstones(self._db, self._chain)
        return snapshots.tombstones(self._db, self._chain, subscription)

    def held_by(self) -> list[Holder]:
        """Return what keeps retention from going on, the lowest position first."""
        return retention.held_by(self._db, self._chain)

    def verify(self, progress: Progress | None = None, anchors: Iterable[Anchor] = ()) -> Verified:
        """Hold everything against its checksums and seals; with anchors, also against those.

        `progress` is called after every batch with the position reached and the head. About a second per
        million small events, more with a key. Raises `JournalError` for a sealed journal without its key.
        """
        if self._chain is None:
            raise JournalError(f"{self.path} is sealed with a key; give the key to verify it")
        with one_view(self._db):  # while a bus retires and saves
            start, head = self._start(), self.head
            return verify(self._log, self._chain, start, head, progress=progress, anchors=anchors)

    def anchor(self) -> Anchor:
        """Return what the journal has reached now, to be kept elsewhere. Needs no key.

        With the key, raises `JournalCorrupt` where the seals are not what was written.
        """
        with one_view(self._db):
            return take_anchor(self._db, self._chain)

    def hold(self, anchors: Iterable[Anchor]) -> list[Held]:
        """Hold the file against anchors, without verifying what leads through them: in some microseconds.

        Needs no key.
        """
        with one_view(self._db):
            return hold(self._db, self._chain, anchors)

    def check_seals(self) -> list[Problem]:
        """Return what beside the log is not what was saved last: old, missing or foreign rows, by name.

        Some microseconds per row. Empty for a journal without a key, and for one whose key was not given.
        """
        if self._chain is None:
            return []
        with one_view(self._db):
            return judged_seals(self._db, self._chain)

    def _start(self) -> Anchor:
        found = schema.settings(self._db, self.path)
        try:
            return Anchor(int(found["floor"][0]), found["floor_checksum"][0])
        except (KeyError, ValueError) as problem:  # without the key of a sealed journal nothing is held
            raise JournalCorrupt(
                f"{self.path}: the settings are damaged; restore the file from a copy"
            ) from problem

    def close(self) -> None:
        """Let go of the file. Harmless when done twice."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
