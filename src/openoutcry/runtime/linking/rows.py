"""The rows of a link in the journal: what this desk is, and how far it has imported each other one.

They stand among the snapshots, `(link)` and `(link:<desk>:<log>)`, so that how far an import has come is
written in one commit with what was imported. They hold no retention: their positions are another journal's.
"""

import logging
from typing import Any, Final, TypeVar

import msgspec

from openoutcry.config import Link
from openoutcry.core.cursors import LINK, import_of, name_of_import
from openoutcry.errors import JournalError
from openoutcry.ports import Journal, LogName, Place, Snapshot

log = logging.getLogger("openoutcry")

_encode: Final = msgspec.json.Encoder().encode


class Met(msgspec.Struct, frozen=True):
    """How far a log of another desk was exported when this one came to the firm.

    Attributes:
        run: The run of that desk's journal.
        upto: Up to which position of it.

    """

    run: str
    upto: int


ERAS_MOST: Final = 64
"""So many changes of what is exported and imported are remembered."""


class Era(msgspec.Struct, frozen=True, kw_only=True):
    """What was exported and imported before the settings were changed: for who audits the journals later.

    Attributes:
        exports: As in `OwnRow`.
        keep: As in `OwnRow`.
        imports: As in `OwnRow`.
        ends: Up to which position each log had it at least when that ended,
        head: and up to which it could have it at most: the end of the journal.
        reached: Up to which position of its journal each other desk was imported, by `desk:log`.

    """

    exports: tuple[str, ...]
    keep: tuple[str, ...]
    imports: tuple[str, ...]
    ends: dict[LogName, int]
    head: int
    reached: dict[str, int]


class OwnRow(msgspec.Struct, frozen=True, kw_only=True):
    """What this desk is: for who reads the journal without the settings, and for the next life.

    Attributes:
        firm: The firm.
        desk: This desk.
        exports: The event types that others may import.
        keep: Those that they may not, in spite of that.
        imports: The event types that it takes.
        runs: The names of the runs of this journal in which it exports, by log.
        ends: Up to which position each log has it, at least.
        bare: Between this position and how far all others have come nothing is to be exported, by log.
        has_copies: Whether the logs may have copies of what was to be replicated.
        met: What the others had exported when this desk came, by the names of their rows.
        eras: What was exported and imported before, the oldest first.

    """

    firm: str
    desk: str
    exports: tuple[str, ...]
    keep: tuple[str, ...]
    imports: tuple[str, ...]
    runs: dict[LogName, str] = {}
    ends: dict[LogName, int] = {}
    bare: dict[LogName, int] = {}
    has_copies: bool = False
    met: dict[str, Met] = {}
    eras: tuple[Era, ...] = ()

    @classmethod
    def of(cls, link: Link, **more: Any) -> "OwnRow":
        """Return what the settings say of a desk, and what else is given."""
        return cls(
            firm=link.firm,
            desk=link.desk,
            exports=tuple(sorted(link.exports)),
            keep=tuple(sorted(link.keep)),
            imports=tuple(sorted(link.imports)),
            **more,
        )


class Reached(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far one log of another desk is imported.

    Attributes:
        run: The name of the run of that desk's journal.
        position: Everything up to this position of it is imported, or is none of this desk's business.
        former: The runs before, the newest last.
        made: In which log that was read, and
        number: up to which place: where to read on, if it is still there.
        begins: What is up to this position was gone from the log when this desk was new, and is not imported.

    """

    run: str = ""
    position: int = 0
    former: tuple[str, ...] = ()
    made: str = ""
    number: int = 0
    begins: int = 0

    @property
    def place(self) -> Place:
        """Where to read on."""
        return Place(self.made, self.number)


T = TypeVar("T")


def write_row(name: str, row: Any, wall_ns: int) -> Snapshot:
    """Return a row as the journal keeps it."""
    return Snapshot(
        subscription=name, form="json", is_needed=False, lanes={}, wall_ns=wall_ns, state=_encode(row)
    )


def read_own(journal: Journal) -> OwnRow | None:
    """Return what the journal says of this desk; None if nothing."""
    return _read(journal, LINK, OwnRow)


def read_reached(journal: Journal, desk: str, log_name: LogName) -> Reached:
    """Return how far a log of another desk is imported."""
    return _read(journal, name_of_import(desk, log_name), Reached) or Reached()


def eras_after(
    own: OwnRow | None,
    exports: frozenset[str],
    keep: frozenset[str],
    imports: frozenset[str],
    journal: Journal,
) -> tuple[Era, ...]:
    """Return the eras of a desk that goes on with these settings: one more if they are others."""
    if own is None:
        return ()
    if (frozenset(own.exports), frozenset(own.keep), frozenset(own.imports)) == (exports, keep, imports):
        return own.eras
    reached = {}
    for name in (snapshot.subscription for snapshot in journal.snapshots()):
        found = import_of(name)
        row = None if found is None else _read(journal, name, Reached)
        if found is not None and row is not None:
            reached[":".join(found)] = row.position
    ended = Era(
        exports=own.exports,
        keep=own.keep,
        imports=own.imports,
        ends=own.ends,
        head=journal.head,
        reached=reached,
    )
    return (*own.eras, ended)[-ERAS_MOST:]


def _read(journal: Journal, row: str, kind: type[T]) -> T | None:
    """Return a row; None if it was never written, or is damaged, which is told."""
    try:
        found = journal.snapshot(row)
        return None if found is None else msgspec.json.decode(found.state, type=kind)
    except (JournalError, msgspec.MsgspecError) as error:
        log.error(  # noqa: TRY400 - the message says it
            "what the journal has of %s cannot be read, and is begun anew: what is imported once more is "
            "dropped by its ids: %s",
            row,
            error,
        )
        return None
