"""What the journal of a desk says of its link: which desk it is, what it gives and takes, how far it is."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

import msgspec

from openoutcry.core.cursors import LINK, import_of
from openoutcry.core.runs import Run
from openoutcry.errors import ConfigError, OpenOutcryError
from openoutcry.events.records import RECORDS
from openoutcry.journals.reading import JournalReader
from openoutcry.ports import LOGS, Header, LogName, Stored

_EVERYTHING: Final = "*"
_CONTROL: Final = "control"
LOG_OF: Final[dict[str, LogName]] = {"control": "high", "high": "high", "normal": "normal"}
"""In which log the entries of a lane travel."""


class Era(msgspec.Struct, frozen=True, kw_only=True):
    """What a desk exported and imported before its settings were changed."""

    exports: tuple[str, ...] = (_EVERYTHING,)
    """As in `Own`."""
    keep: tuple[str, ...] = ()
    """As in `Own`."""
    imports: tuple[str, ...] = ()
    """As in `Own`."""
    ends: dict[str, int] = {}
    """Up to which position each log had its exports at least,"""
    head: int = 0
    """and at most."""
    reached: dict[str, int] = {}
    """Up to which position of another desk's journal it had imported, by `desk:log`."""


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
    runs: dict[str, str] = {}
    """The names of the runs in which it exports, by log."""
    eras: tuple[Era, ...] = ()
    """What it exported and imported before, the oldest first."""


class Come(msgspec.Struct, frozen=True, kw_only=True):
    """How far a desk has imported a log of another one."""

    run: str = ""
    """The run of that desk's positions: the `origin` of its journal, and after a colon which run of it."""
    position: int = 0
    """The position of that journal up to which it is imported."""
    begins: int = 0
    """What is up to here was gone from the log when it began to import."""

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
        """Return True if the desk exports such an entry that it has made; answers to rounds always."""
        return _gives(self.own or Own(), entry, head)

    def gave(self, entry: Stored, head: Header) -> bool:
        """Return True if it was to export this entry, by the settings of the time.

        Where it is not known which ones held, all that may have held must say so.
        """
        own, log, position = self.own or Own(), LOG_OF[entry.lane], entry.position
        run = Run.read(own.runs.get(log, ""))
        if run is not None and run.origin == self.origin and position <= run.begins:
            return False
        for era in own.eras:
            if position <= era.head and not _gives(era, entry, head):
                return False
            if position <= era.ends.get(log, 0):
                return True
        return _gives(own, entry, head)

    def takes(self, entry: Stored, head: Header) -> bool:
        """Return True if the desk imports such an entry: kill switches, and answers to rounds, always."""
        return self.own is None or _takes(self.own, entry, head)

    def took(self, entry: Stored, head: Header, maker: str) -> bool:
        """Return True if it was to import this entry of another desk, by the settings of the time."""
        if self.own is None:
            return True
        log, position = LOG_OF[entry.lane], entry.position
        come = self.imported.get(maker, {}).get(log)
        if come is not None and position <= come.begins:
            return False
        eras = (era for era in self.own.eras if position <= era.reached.get(f"{maker}:{log}", 0))
        return _takes(next(eras, self.own), entry, head)


def _gives(settings: Own | Era, entry: Stored, head: Header) -> bool:
    if _votes(entry):
        return True
    if entry.is_beside or head.event_type in RECORDS or head.source_agent == LINK:
        return False
    is_exported = entry.lane == _CONTROL or takes(settings.exports, head.event_type)
    return is_exported and head.event_type not in settings.keep


def _takes(settings: Own | Era, entry: Stored, head: Header) -> bool:
    return _votes(entry) or entry.lane == _CONTROL or takes(settings.imports, head.event_type)


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
        desk, log = import_of(name) or ("", "")
        if name == LINK and (found := reader.snapshot(name)) is not None:
            own = msgspec.json.decode(found.state, type=Own)
        elif log in LOGS and (found := reader.snapshot(name)) is not None:
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
