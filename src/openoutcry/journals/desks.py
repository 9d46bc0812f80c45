"""What the journal of a desk says of its link: which desk it is, what it gives and takes, how far it is."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

import msgspec

from openoutcry.core.cursors import LINK
from openoutcry.errors import ConfigError, OpenOutcryError
from openoutcry.events.records import RECORDS
from openoutcry.journals.reading import JournalReader
from openoutcry.ports import LOGS, Header, LogName, Stored

_OF_DESK: Final = "(link:"
_EVERYTHING: Final = "*"
_CONTROL: Final = "control"
LOG_OF: Final[dict[str, LogName]] = {"control": "high", "high": "high", "normal": "normal"}
"""In which log the entries of a lane travel."""


class Own(msgspec.Struct, frozen=True, kw_only=True):
    """What a desk's journal says of the desk: the state of the snapshot `(link)`."""

    firm: str = ""
    """The firm."""
    desk: str = ""
    """The desk's name."""
    exports: tuple[str, ...] = (_EVERYTHING,)
    """Which types it exports; `*` is every type,"""
    keep: tuple[str, ...] = ()
    """but for these."""
    imports: tuple[str, ...] = ()
    """Which types it imports."""


class Come(msgspec.Struct, frozen=True, kw_only=True):
    """How far a desk has imported a log of another one."""

    run: str = ""
    """The run of that desk's positions: the `origin` of its journal, and after a colon which run of it."""
    position: int = 0
    """The position of that journal up to which it is imported."""

    @property
    def origin(self) -> str:
        """The `origin` of that desk's journal."""
        return self.run.partition(":")[0]


class Desk(msgspec.Struct, frozen=True, kw_only=True):
    """A desk, by its journal."""

    path: Path
    """The journal's file."""
    name: str
    """What the desk is called: as its journal says, or as others call it, or else as its file is called."""
    own: Own | None
    """What it says of itself; None of a journal without a link, or of an older version."""
    origin: str
    """The `origin` of its journal."""
    first: int
    """The position of the oldest entry that is kept."""
    head: int
    """The position of the newest."""
    imported: dict[str, dict[str, Come]]
    """How far it has imported, by desk and log."""

    def gives(self, entry: Stored, head: Header) -> bool:
        """Return True if the desk exports an entry that it has made; answers to rounds always."""
        own = self.own or Own()
        if _votes(entry):
            return True
        if head.event_type in RECORDS or head.source_agent == LINK:
            return False
        return (
            entry.lane == _CONTROL or takes(own.exports, head.event_type)
        ) and head.event_type not in own.keep

    def takes(self, entry: Stored, head: Header) -> bool:
        """Return True if the desk imports such an entry: kill switches, and answers to rounds, always."""
        own = self.own
        return own is None or _votes(entry) or entry.lane == _CONTROL or takes(own.imports, head.event_type)


def _votes(entry: Stored) -> bool:
    return entry.header is not None and bool(entry.header.votes)


def takes(types: Collection[str], event_type: str | None) -> bool:
    """Return True if an event type is one of these."""
    return _EVERYTHING in types or event_type in types


def desk_in(reader: JournalReader) -> Desk:
    """Return the desk whose journal this is."""
    own: Own | None = None
    imported: dict[str, dict[str, Come]] = {}
    for name in (head.snapshot.subscription for head in reader.memory_heads()):
        desk, _, log = name.removeprefix(_OF_DESK).removesuffix(")").rpartition(":")
        if name == LINK and (found := reader.snapshot(name)) is not None:
            own = msgspec.json.decode(found.state, type=Own)
        elif (
            name == f"{_OF_DESK}{desk}:{log})"
            and log in LOGS
            and (found := reader.snapshot(name)) is not None
        ):
            imported.setdefault(desk, {})[log] = msgspec.json.decode(found.state, type=Come)
    return Desk(
        path=reader.path,
        name=own.desk if own is not None and own.desk else reader.path.stem,
        own=own,
        origin=reader.anchor().origin,
        first=reader.first,
        head=reader.head,
        imported=imported,
    )


def named(desks: Iterable[Desk]) -> list[Desk]:
    """Return the desks, those whose journals do not say it called as the others call them.

    Raises `ConfigError` if two have one name, or one journal is there twice.
    """
    some = list(desks)
    called = {
        come.origin: name
        for desk in some
        for name, logs in desk.imported.items()
        for come in logs.values()
        if come.origin
    }
    some = [
        desk
        if desk.own is not None and desk.own.desk
        else msgspec.structs.replace(desk, name=called.get(desk.origin, desk.name))
        for desk in some
    ]
    by_name: dict[str, Desk] = {}
    for desk in some:
        other = by_name.setdefault(desk.name, desk)
        if other is not desk:
            raise ConfigError(
                f"{other.path} and {desk.path} are both journals of the desk {desk.name!r}: name one of them"
            )
    return some


def journals_in(places: Iterable[Path]) -> list[Path]:
    """Return the journals at some places: files as they are, of a folder what is a journal in it.

    Raises `ConfigError` for a place that is not there.
    """
    found: list[Path] = []
    for place in places:
        if place.is_dir():
            found += [path for path in sorted(place.rglob("*.db")) if path.is_file() and is_journal(path)]
        elif place.exists():
            found.append(place)
        else:
            raise ConfigError(f"{place} is not there; name a journal, or a folder with journals")
    return list(dict.fromkeys(path.resolve() for path in found))


def is_journal(path: Path) -> bool:
    """Return True if a file can be opened as a journal."""
    try:
        with JournalReader(path, held=False):
            return True
    except (OpenOutcryError, OSError):
        return False
