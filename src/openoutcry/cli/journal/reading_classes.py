"""Which events of a journal the classes of an app cannot read, and who still needs them: `doctor --app`."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from openoutcry.cli.console import progress, table
from openoutcry.core.recall import Recall
from openoutcry.events import RECORDS, Undecodable, takes_type
from openoutcry.events.survey import Survey, SurveyRow
from openoutcry.journals import JournalReader
from openoutcry.journals.pending import Claim
from openoutcry.journals.scanning import letters_of, pages
from openoutcry.journals.showing import head_of
from openoutcry.ports import BuriedEvent, Snapshot, Stored

_LETTERS = 256

_OF_THE_BUS: Final = frozenset(cls.__name__ for cls in RECORDS.values())
"""Classes that every release reads itself."""


class ClassRow(msgspec.Struct, kw_only=True):
    """What the app's classes make of one version of an event class in the journal.

    Attributes:
        what: `event class`.
        verdict: `ok`, `warn` for fields that may be lost, `FAIL` if some of it cannot be read.
        said: What that means, in words.
        event_class: The class, by the name in the journal.
        schema_version: The version that wrote it; null where that cannot be read.
        known_version: The version of the class in the app; null if it has none.
        events: How many events of it were looked at, those of dead letters included.
        unreadable: How many of them cannot be read.
        first: The position of the first that cannot be read.
        error: Why not.
        needed_by: Subscriptions that have not settled an event that cannot be read, with how many.
        remembered_by: Subscriptions whose memory is rebuilt from an event that cannot be read, with how many.
        dead_letters: Subscriptions that have dead letters that cannot be read, with how many.
        ignored: Fields of older data that are left out.
        missing: Fields of the class that take their defaults.

    """

    what: str = "event class"
    verdict: str
    said: str
    event_class: str
    schema_version: int | None
    known_version: int | None
    events: int
    unreadable: int
    first: int | None
    error: str
    needed_by: dict[str, int]
    remembered_by: dict[str, int]
    dead_letters: dict[str, int]
    ignored: tuple[str, ...]
    missing: tuple[str, ...]


class _Needs:
    """Who needs what cannot be read of one class and version."""

    def __init__(self) -> None:
        self.waiting: Counter[str] = Counter()
        self.memories: Counter[str] = Counter()
        self.letters: Counter[str] = Counter()


class _Memory:
    """A subscription whose memory is rebuilt from the journal."""

    def __init__(self, base: Snapshot, reader: JournalReader) -> None:
        self.name = base.subscription
        cursors = [cursor for cursor in reader.cursors() if cursor.subscription == self.name]
        self._types = frozenset(name for cursor in cursors for name in cursor.takes)
        self._recall = Recall(
            base.lanes,
            {cursor.lane: (cursor.floor, cursor.settled) for cursor in cursors},
            reopened=base.open,
            left_out={
                *reader.tombstones(self.name),
                *(letter.position for letter in letters_of(reader, self.name)),
            },
            eras=[(era.takes, era.upto) for era in base.eras],
        )

    def needs(self, entry: Stored) -> bool:
        """Return True if it is rebuilt from an entry."""
        if not self._recall.wants(entry.lane, entry.position):
            return False
        then = self._recall.types_at(entry.lane, entry.position)
        types = self._types if then is None else then
        return takes_type(types, head_of(entry).event_type)


def read_classes(reader: JournalReader) -> list[ClassRow]:
    """Read every event and dead letter with the classes that are imported, and return what came of it.

    Raises `JournalError` where the journal itself is damaged.
    """
    survey, needs = Survey(), dict[int, _Needs]()
    claims = [Claim(cursor) for cursor in reader.cursors()]
    memories = [_Memory(found, reader) for found in reader.snapshots() if found.is_needed]
    first, head = reader.first, reader.head
    with progress("reading") as tell:
        for page in pages(reader, after=first - 1, seen=lambda at: tell(at - first + 1, head - first + 1)):
            _read_page(page, survey, claims, memories, needs)
    for letters in _by_page(letters_of(reader)):
        places = [letter.position for letter in letters]
        read = survey.add([letter.payload for letter in letters], places)
        for letter, (row, event) in zip(letters, read, strict=True):
            if isinstance(event, Undecodable):
                needs.setdefault(id(row), _Needs()).letters[letter.subscription] += 1
    return [
        _row(row, needs.get(id(row), _Needs())) for row in survey.rows if row.event_class not in _OF_THE_BUS
    ]


def _read_page(
    page: list[Stored],
    survey: Survey,
    claims: list[Claim],
    memories: list[_Memory],
    needs: dict[int, _Needs],
) -> None:
    read = survey.add([entry.payload for entry in page], [entry.position for entry in page])
    for entry, (row, event) in zip(page, read, strict=True):
        if isinstance(event, Undecodable) and not entry.is_beside:
            its = needs.setdefault(id(row), _Needs())
            its.memories.update(memory.name for memory in memories if memory.needs(entry))
            for claim in claims:
                is_its = claim.cursor.lane == entry.lane and claim.takes_type(head_of(entry).event_type)
                if is_its and claim.wants(entry.position):
                    its.waiting[claim.cursor.subscription] += 1


def _by_page(items: Iterable[BuriedEvent]) -> Iterator[list[BuriedEvent]]:
    page: list[BuriedEvent] = []
    for item in items:
        page.append(item)
        if len(page) == _LETTERS:
            yield page
            page = []
    if page:
        yield page


def _row(row: SurveyRow, needs: _Needs) -> ClassRow:
    is_doubtful = bool(row.ignored and row.missing)
    verdict = "FAIL" if row.unreadable else "warn" if is_doubtful else "ok"
    return ClassRow(
        verdict=verdict,
        said=_said(row, needs),
        needed_by=dict(sorted(needs.waiting.items())),
        remembered_by=dict(sorted(needs.memories.items())),
        dead_letters=dict(sorted(needs.letters.items())),
        **msgspec.structs.asdict(row),
    )


def _said(row: SurveyRow, needs: _Needs) -> str:
    if row.unreadable:
        said = [f"{row.unreadable:,} of {row.events:,} cannot be read, the first at {row.first}: {row.error}"]
        said += [f"{name} has {count:,} of them to handle" for name, count in sorted(needs.waiting.items())]
        said += [f"the memory of {name} needs {count:,}" for name, count in sorted(needs.memories.items())]
        said += [f"{name} has {count:,} as dead letters" for name, count in sorted(needs.letters.items())]
        if not (needs.waiting or needs.memories or needs.letters):
            said.append("every cursor has passed them, and no memory needs them; they are history")
        return "; ".join(said)
    said = [f"{row.events:,} are read"]
    if row.known_version is not None and row.schema_version != row.known_version:
        said.append(f"brought up to version {row.known_version}")
    if row.ignored:
        said.append(f"without their {', '.join(row.ignored)}")
    if row.missing:
        said.append(f"with the default of {', '.join(row.missing)}")
    if row.ignored and row.missing:
        said.append("if a field was renamed, register an upcaster")
    return ", ".join(said)


def show_classes(rows: list[ClassRow]) -> None:
    """Print the rows as a table."""
    table(
        ("", "event class", "version", ""),
        [(row.verdict, row.event_class or "-", _version(row.schema_version), row.said) for row in rows],
    )


def _version(version: int | None) -> str:
    return "-" if version is None else str(version)
