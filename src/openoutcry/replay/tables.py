"""Tables of bars and ticks as events of the market: which column is which field, and what a row must have.

```
  file ──▶ rows ──▶ Table: columns to fields ──▶ events, each at its instant
```

A column whose name means nothing here is refused rather than left out in silence, and so is a cell that is
no number where one belongs. The message has the file, the row, the column and the value.
"""

import math
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

import msgspec

from openoutcry.errors import ConfigError, InvalidEvent, InvalidRow
from openoutcry.events import RECORDS, Event, decode, event_type_of
from openoutcry.events.times import as_written
from openoutcry.replay.table_files import Cells, open_table
from openoutcry.replay.table_times import NotAnInstant, Times
from openoutcry.spelling import nearest
from openoutcry.trading import MarketDataEvent

BAR: Final = ("open", "high", "low", "close")
NUMBERS: Final = ("price", *BAR, "volume", "bid", "ask", "bid_size", "ask_size")
TEXTS: Final = ("symbol", "interval", "source_agent", "event_id", "round_id")
FIELDS: Final = ("timestamp", "event", *NUMBERS, *TEXTS)
"""What a column may be: fields of `MarketDataEvent`, and `event`: a whole event, as JSON."""
ADMITTED: Final = "wall_ns"
"""The column of an exported journal that says when an event was admitted."""
_ALSO: Final = {
    **dict.fromkeys(("time", "datetime", "date", "ts"), "timestamp"),
    **dict.fromkeys(("ticker", "instrument"), "symbol"),
    **dict.fromkeys(("vol", "size"), "volume"),
    "last": "price",
}
_UNIT: Final = re.compile(r"(.+)_(ns|us|ms|s)")
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_FIELD: Final = re.compile(r"\w+\.(\w+)")
_SHOWN_MOST: Final = 80
_OUTSIDE: Final = "export what came from outside alone, as in --type market_data"


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How tables are read.

    Attributes:
        columns: Which column is which field, where its name does not say it; an empty field leaves it out.
        constants: Fields that are the same in every row, such as the symbol.
        zone: The time zone of times that have none, such as `America/New_York`.
        unit: The unit of times that are counts: `s`, `ms`, `us` or `ns`.
        known_after_ns: So long after its time a row is known: a bar that is named after its opening at its
            close.
        repeats: Whether ticks may be equal, time included.

    """

    columns: dict[str, str] = {}
    constants: dict[str, str] = {}
    zone: str | None = None
    unit: str | None = None
    known_after_ns: int | None = None
    repeats: bool = False


class Row(NamedTuple):
    """An event of a table.

    Attributes:
        at_ns: When it was known, in nanoseconds since 1970 UTC.
        event: The event. Without an id of its own it has the empty one of `NAMELESS`.
        table: Where it is from.
        number: Its row there.

    """

    at_ns: int
    event: Any
    table: "Table"
    number: int


NAMELESS: Final = "-"
"""The id of an event for which the table has none."""


class Table:
    """One file of bars or ticks."""

    def __init__(self, path: Path, rules: Rules) -> None:
        """Read the head. Raises `ConfigError` for what is no table, or has columns that say nothing."""
        self.path = path
        self._file = open_table(path)
        self._rules = rules
        self.columns: tuple[str, ...] = tuple(name.strip() for name in self._file.head.columns)
        self._times = Times(rules.zone, rules.unit, rules.known_after_ns)
        self._places = self._fields_of_columns()
        self._names = {field: self.columns[place] for field, place in self._places.items()}
        self._read_time: Callable[[Any], int] = self._times.reader(self._unit_of_time())
        self._constants = self._checked_constants()
        self._check_has_what_it_takes()

    # -- which column is which field ----------------------------------------------------------------

    def _fields_of_columns(self) -> dict[str, int]:
        """Return the places of the columns, by their fields."""
        names = list(self.columns)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"{self.path} has several columns {twice[0]!r}: rename all but one")
        if "event" in names:
            return self._of_export(names)
        places: dict[str, int] = {}
        for place, name in enumerate(names):
            field = self._field_of(name)
            if not field:
                continue
            if field in places:
                raise ConfigError(
                    f"{self.path}: columns {names[places[field]]!r} and {name!r} are both the {field}: leave "
                    f"one out, --map {name}="
                )
            places[field] = place
        return places

    def _of_export(self, names: list[str]) -> dict[str, int]:
        """Return the places of what counts in a table of whole events: they, and when they were admitted."""
        timed = [name for name in names if self._rules.columns.get(name) == "timestamp"]
        timed += [name for name in names if name == ADMITTED]
        places = {"event": names.index("event")}
        return places | ({"timestamp": names.index(timed[0])} if timed else {})

    def _field_of(self, name: str) -> str:
        """Return the field of a column; empty for one that is left out."""
        mapped = self._rules.columns.get(name)
        if mapped is not None:
            if mapped and mapped not in FIELDS:
                raise ConfigError(
                    f"--map {name}={mapped}: there is no field {mapped!r}{_meant(mapped)}; fields are "
                    f" {', '.join(FIELDS)}"
                )
            return mapped
        plain = re.sub(r"[\s-]+", "_", name.lower())
        field = _ALSO.get(plain, plain)
        unit = _UNIT.fullmatch(plain)
        if unit is not None and _ALSO.get(unit[1], unit[1]) == "timestamp":
            field = "timestamp"
        if field not in FIELDS:
            raise ConfigError(
                f"{self.path} has a column {name!r}, and what it is is not known"
                f"{_meant(plain)}: say it, --map {name}=FIELD, or leave it out, --map {name}= "
                f"(fields are {', '.join(FIELDS)})"
            )
        return field

    def _unit_of_time(self) -> str | None:
        name = self._names.get("timestamp", "")
        unit = _UNIT.fullmatch(name.strip().lower())
        return None if unit is None else unit[2]

    def _checked_constants(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for field, text in self._rules.constants.items():
            if field not in ("symbol", "interval", "source_agent"):
                raise ConfigError(
                    f"--set {field}={text}: what is the same in every row may be symbol, interval or "
                    "source_agent"
                )
            if field in self._places:
                raise ConfigError(
                    f"--set {field}={text}: {self.path} has a column for it, {self._names[field]!r}; leave "
                    "one of them out"
                )
            found[field] = text
        return {} if "event" in self._places else found

    def _check_has_what_it_takes(self) -> None:
        places = {*self._places, *self._constants}
        if "event" in places:
            return
        for field, hint in (
            ("timestamp", "such as time"),
            ("symbol", "or give --set symbol=NAME"),
            ("price", "or close"),
        ):
            if field not in places and not (field == "price" and "close" in places):
                raise ConfigError(
                    f"{self.path} has no column for the {field}: it has {', '.join(self.columns)}; add one, "
                    f"{hint}, or say which it is, --map COLUMN={field}"
                )
        some = [field for field in BAR if field in places]
        if some and len(some) < len(BAR) and some != ["close"]:
            lacking = ", ".join(field for field in BAR if field not in places)
            raise ConfigError(
                f"{self.path} has columns for {', '.join(some)} of a bar, and none for {lacking}"
            )

    @property
    def has_ids(self) -> bool:
        """Whether its events bring their ids."""
        return "event" in self._places or "event_id" in self._places

    # -- rows ---------------------------------------------------------------------------------------

    def rows(self) -> Iterator[Row]:
        """Yield the rows. Raises `InvalidRow` for one that is no event, or comes before the one above it."""
        make = self._whole_event if "event" in self._places else self._event
        last_ns = None
        for number, cells in self._file.rows():
            at_ns, event = make(number, cells)
            if last_ns is not None and at_ns < last_ns:
                field = "timestamp" if "timestamp" in self._places else "event"
                why = "is before the row above it: sort the table by time"
                self.refuse(number, field, cells[self._places[field]], why)
            last_ns = at_ns
            yield Row(at_ns, event, self, number)

    def _event(self, number: int, cells: Cells) -> tuple[int, Any]:
        at_ns = self._instant(number, cells)
        given = {**self._constants, **self._texts(number, cells), **self._numbers(number, cells)}
        given.setdefault("event_id", NAMELESS)
        try:
            with as_written():
                return at_ns, MarketDataEvent(timestamp=at_ns, **given)
        except InvalidEvent as problem:
            said = str(problem)
            found = _FIELD.match(said)
            field = "" if found is None else found[1]
            value = at_ns if field == "timestamp" else given.get(field)
            self.refuse(number, field, value, said.partition(": ")[2])

    def _instant(self, number: int, cells: Cells) -> int:
        value = cells[self._places["timestamp"]]
        try:
            return self._read_time(value)
        except NotAnInstant as problem:
            self.refuse(
                number, "timestamp", value, "is where a time must be" if _is_empty(value) else str(problem)
            )

    def _texts(self, number: int, cells: Cells) -> dict[str, str]:
        found: dict[str, str] = {}
        for field in TEXTS:
            if field not in self._places:
                continue
            value = cells[self._places[field]]
            if _is_empty(value):
                if field in ("symbol", "event_id"):
                    self.refuse(number, field, value, "is where a name must be")
            elif isinstance(value, str):
                found[field] = value.strip()
            else:
                self.refuse(number, field, value, f"is {type(value).__name__}, and must be text")
        return found

    def _numbers(self, number: int, cells: Cells) -> dict[str, float]:
        """Return the numbers of a row. A hole in a bar is refused, and so is a row without a price."""
        found: dict[str, float] = {}
        for field in NUMBERS:
            if field in self._places:
                value = self._number(number, field, cells[self._places[field]])
                if value is not None:
                    found[field] = value
        is_bar = any(field in found for field in BAR)
        for field in BAR:
            if is_bar and field in self._places and field not in found:
                self.refuse(number, field, None, "is where a price must be: a bar has all four, a tick none")
        if "price" not in found:
            if "price" in self._places or "close" not in found:
                self.refuse(number, "price", None, "is where a price must be")
            found["price"] = found["close"]
        return found

    def _number(self, number: int, field: str, value: Any) -> float | None:
        if _is_empty(value):
            return None
        if isinstance(value, str):
            if not _NUMBER.fullmatch(value.strip()):
                why = "is no number: write it as 1234.5; what there is not stays empty"
                self.refuse(number, field, value, why)
        elif isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            self.refuse(number, field, value, f"is {type(value).__name__}, and must be a number")
        found = float(value)
        if not math.isfinite(found):
            self.refuse(number, field, value, "is no finite number; what there is not stays empty")
        return found

    def _whole_event(self, number: int, cells: Cells) -> tuple[int, Any]:
        text = cells[self._places["event"]]
        if not isinstance(text, str | bytes) or not text:
            self.refuse(number, "event", text, "must be an event as JSON")
        try:
            event = decode(text)
        except Exception as problem:  # noqa: BLE001 - also what the `__post_init__` of a user's class raises
            why = f"cannot be read: {problem}; import its class in the app's module"
            self.refuse(number, "event", text, why)
        if event_type_of(event) in RECORDS:
            self.refuse(
                number,
                "event",
                text,
                "is the bus's own record: export what came from outside, --type market_data",
            )
        if getattr(event, "causation_id", None) is not None:
            why = f"was published by an agent, which will publish its own: {_OUTSIDE}"
            self.refuse(number, "event", text, why)
        if not isinstance(event, Event):
            self.refuse(number, "event", text, f"is of {type(event).__name__}, which is no class of Event")
        if "timestamp" in self._places:
            return self._instant(number, cells), event
        return self._times.later(event.timestamp_ns), event

    def refuse(self, number: int, field: str, value: Any, why: str) -> NoReturn:
        """Raise `InvalidRow` for a cell, or for a row as a whole where `field` is empty."""
        column = self._names.get(field, field)
        shown = _shown(value)
        where = f"{self.path}, {self._file.head.word} {number}"
        what = f", column {column}: {shown} {why}" if field else f": {why}"
        raise InvalidRow(where + what, str(self.path), number, column, shown)

    def place(self, number: int) -> str:
        """Return where a row is, in words."""
        return f"{self.path}, {self._file.head.word} {number}"


def _meant(name: str) -> str:
    near = nearest(name, FIELDS)
    return "" if near is None else f" (did you mean {near}?)"


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _shown(value: Any) -> str:
    text = "an empty cell" if _is_empty(value) else repr(value)
    return text if len(text) <= _SHOWN_MOST else f"{text[:_SHOWN_MOST]}..."
