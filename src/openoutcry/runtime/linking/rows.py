"""The rows of a link in the journal: what this desk is, and how far it has imported each other one.

They stand among the snapshots, `(link)` and `(link:<desk>:<log>)`, so that how far an import has come is
written in one commit with what was imported. They hold no retention: their positions are another journal's.
"""

import logging
from typing import Any, Final, TypeVar

import msgspec

from openoutcry.core.cursors import LINK
from openoutcry.errors import JournalError
from openoutcry.ports import Journal, LogName, Place, Snapshot

log = logging.getLogger("openoutcry")

_encode: Final = msgspec.json.Encoder().encode


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
        has_copies: Whether the logs may have copies of what was to be replicated.

    """

    firm: str
    desk: str
    exports: tuple[str, ...]
    keep: tuple[str, ...]
    imports: tuple[str, ...]
    runs: dict[LogName, str] = {}
    ends: dict[LogName, int] = {}
    has_copies: bool = False


class Reached(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far one log of another desk is imported.

    Attributes:
        run: The name of the run of that desk's journal.
        position: Everything up to this position of it is imported, or is none of this desk's business.
        former: The runs before, the newest last.
        made: In which log that was read, and
        number: up to which place: where to read on, if it is still there.

    """

    run: str = ""
    position: int = 0
    former: tuple[str, ...] = ()
    made: str = ""
    number: int = 0

    @property
    def place(self) -> Place:
        """Where to read on."""
        return Place(self.made, self.number)


T = TypeVar("T")


def name_of(desk: str, log_name: LogName) -> str:
    """Return the name of the row about a log of another desk."""
    return f"{LINK[:-1]}:{desk}:{log_name})"


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
    return _read(journal, name_of(desk, log_name), Reached) or Reached()


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
