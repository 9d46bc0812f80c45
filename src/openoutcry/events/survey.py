"""What the classes here make of data that other releases wrote: read or not, by class and version.

It answers before a deployment what would otherwise be found by an agent after it. Only decoding is done, page
by page, and what is kept is a row per class and version.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from openoutcry.errors import InvalidEvent
from openoutcry.events.heads import UNREADABLE, Head, decode_head
from openoutcry.events.inner_keys import holds_classes, strange_keys
from openoutcry.events.pages import Undecodable, decode_many
from openoutcry.events.registry import CLASS_KEY, VERSION_KEY, find_by_name
from openoutcry.events.upcasting import bring_up

ROWS_MOST: Final = 1_000
"""So many classes and versions are told apart; of damaged data there may be any number."""
_OTHERS: Final = "(others)"


class SurveyRow(msgspec.Struct, kw_only=True):
    """What became of the data of one version of an event class.

    Attributes:
        event_class: The class, by the name in the data; empty where the data names none.
        schema_version: The version in the data; None where that cannot be read.
        known_version: The version of the class here; None if no class has the name.
        events: How many events were looked at.
        unreadable: How many of them could not be read.
        first: The place of the first that could not be read: its position, or its line.
        error: Why that one could not be read.
        ignored: Fields of older data that the class does not have, after its upcasters, so that they are left
            out. This and `missing` go by the first event that was read.
        missing: Fields of the class that older data does not have, so that they take their defaults.

    """

    event_class: str
    schema_version: int | None
    known_version: int | None = None
    events: int = 0
    unreadable: int = 0
    first: int | None = None
    error: str = ""
    ignored: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the class and the version in words."""
        version = "no version" if self.schema_version is None else f"version {self.schema_version}"
        return f"{self.event_class or 'no class'}, {version}"


class Survey:
    """Reads events, and keeps account of what could not be read."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, int | None], SurveyRow] = {}
        self._by_head: dict[tuple[str | None, Any], SurveyRow] = {}

    @property
    def rows(self) -> list[SurveyRow]:
        """The rows, by class and version."""
        return sorted(self._rows.values(), key=lambda row: (row.event_class, row.schema_version or 0))

    def add(
        self, payloads: Sequence[bytes], places: Sequence[int]
    ) -> list[tuple[SurveyRow, Undecodable | Any]]:
        """Read some events, and return each with its row; what cannot be read is an `Undecodable`."""
        found = []
        for payload, place, event in zip(payloads, places, decode_many(payloads), strict=True):
            row = self._row_of(payload)
            row.events += 1
            if type(event) is Undecodable:
                row.unreadable += 1
                if row.first is None:
                    row.first, row.error = place, str(event.error)
            elif row.events - row.unreadable == 1:
                _note_fields(row, payload, event)
            found.append((row, event))
        return found

    def _row_of(self, payload: bytes) -> SurveyRow:
        try:
            head = decode_head(payload)
        except UNREADABLE:
            return self._row("", None)
        if type(head.schema_version) is not int and head.schema_version is not msgspec.UNSET:
            return self._row(head.event_class or "", None)
        row = self._by_head.get((head.event_class, head.schema_version))
        if row is None:
            row = self._row(head.event_class or "", _version_in(head))
            if len(self._by_head) < ROWS_MOST:
                self._by_head[head.event_class, head.schema_version] = row
        return row

    def _row(self, name: str, version: int | None) -> SurveyRow:
        row = self._rows.get((name, version))
        if row is None:
            if len(self._rows) >= ROWS_MOST:
                name, version = _OTHERS, None
            known = find_by_name(name)
            made = SurveyRow(
                event_class=name,
                schema_version=version,
                known_version=None if known is None else known.version,
            )
            row = self._rows.setdefault((name, version), made)
        return row


def _version_in(head: Head) -> int | None:
    try:
        return head.version(head.event_class or "")
    except InvalidEvent:
        return None


def _note_fields(row: SurveyRow, payload: bytes, event: Any) -> None:
    """Note what tolerant reading leaves out and fills in, where it may be meant otherwise."""
    version = row.schema_version
    if not row.event_class or version is None or version == row.known_version:
        return
    with suppress(InvalidEvent):  # it was read a moment ago
        data, known = bring_up(msgspec.json.decode(payload), row.event_class, version)
        inner = map(str, strange_keys(event, data.fields)) if holds_classes(known.cls) else ()
        row.ignored = tuple(sorted({*data.ignored, *inner}))
        row.missing = tuple(sorted(known.keys - data.fields.keys() - {CLASS_KEY, VERSION_KEY}))
