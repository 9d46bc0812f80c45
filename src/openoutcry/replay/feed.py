"""The rows of a backtest, out of several tables, in the order of their times, looked at before it runs.

The tables are read twice. The first time everything is looked at, so that a backtest never ends in the
middle of its data; the second time the rows are handed out as they are needed, so that data may be larger
than memory.
"""

import heapq
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import msgspec

from openoutcry.errors import ConfigError
from openoutcry.replay.tables import NAMELESS, Row, Rules, Table
from openoutcry.trading import MarketDataEvent

_DATA: Final = b"openoutcry data"
_READ_BYTES: Final = 1 << 20
_at_ns: Final = attrgetter("at_ns")


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What is in the tables of a backtest."""

    rows_count: int
    """How many rows."""
    symbols: tuple[str, ...]
    """The instruments, sorted."""
    first_ns: int
    """The time of the first row, in nanoseconds since 1970 UTC."""
    last_ns: int
    """The time of the last row."""
    digest: str
    """A hash of the files and of how they are read: the same data have the same."""


class Feed:
    """The rows of some tables."""

    def __init__(self, paths: Sequence[Path], rules: Rules) -> None:
        """Read the heads. Raises `ConfigError`."""
        if not paths:
            raise ConfigError("there are no tables: name CSV or Parquet files")
        self._paths = tuple(paths)
        self._rules = rules
        self._tables = [Table(path, rules) for path in paths]
        known = {column for table in self._tables for column in table.columns}
        for column, field in rules.columns.items():
            if column not in known:
                raise ConfigError(
                    f"--map {column}={field}: there is no column {column!r}, but {', '.join(sorted(known))}"
                )

    def look(self) -> Contents:
        """Look at every row, and return what there is. Raises `InvalidRow`, and `ConfigError` for none."""
        symbols: set[str] = set()
        count, first_ns, last_ns = 0, None, 0
        ids: dict[str, Row] | None = {} if any(table.has_ids for table in self._tables) else None
        for at_ns, rows in self._instants():
            first_ns, last_ns = at_ns if first_ns is None else first_ns, at_ns
            count += len(rows)
            symbols.update(str(getattr(row.event, "symbol", "") or "") for row in rows)
            self._check_once(rows)
            if ids is not None:
                _check_ids(rows, ids)
        if first_ns is None:
            raise ConfigError(f"{self._paths[0]} has no rows")
        return Contents(
            rows_count=count,
            symbols=tuple(sorted(symbols - {""})),
            first_ns=first_ns,
            last_ns=last_ns,
            digest=self._digest(),
        )

    def instants(self) -> Iterator[tuple[int, list[Any]]]:
        """Yield each instant with its events, in the order of the tables and of their rows.

        An event without an id gets one that follows from its symbol and its time.
        """
        for at_ns, rows in self._instants():
            given: dict[str, int] = {}
            yield at_ns, [_named(row, given) for row in rows]

    def _instants(self) -> Iterator[tuple[int, list[Row]]]:
        merged = heapq.merge(*(table.rows() for table in self._tables), key=_at_ns)
        for at_ns, rows in groupby(merged, _at_ns):
            yield at_ns, list(rows)

    def _check_once(self, rows: list[Row]) -> None:
        """Raise if a bar, or an equal tick, is there twice."""
        if len(rows) == 1:
            return
        seen: dict[Any, Row] = {}
        for row in rows:
            event = row.event
            if not isinstance(event, MarketDataEvent) or event.event_id != NAMELESS:
                continue
            is_bar = event.close is not None
            if not is_bar and self._rules.repeats:
                continue
            known: Any = (event.symbol, event.interval) if is_bar else event
            first = seen.setdefault(known, row)
            if first is not row:
                where = first.table.place(first.number)
                hint = (
                    f"there is a bar of {event.symbol} for this time already, in {where}"
                    if is_bar
                    else f"is equal to {where}: give trades ids (event_id), or --repeats where that is meant"
                )
                row.table.refuse(row.number, "", None, hint)

    def _digest(self) -> str:
        found = blake2b(digest_size=16, person=_DATA)
        for path in self._paths:
            with path.open("rb") as file:
                while data := file.read(_READ_BYTES):
                    found.update(data)
        found.update(msgspec.json.encode(self._rules, order="deterministic"))
        return found.hexdigest()


def _check_ids(rows: list[Row], ids: dict[str, Row]) -> None:
    for row in rows:
        event_id = row.event.event_id
        if event_id == NAMELESS:
            continue
        first = ids.setdefault(event_id, row._replace(event=None))
        if first.number != row.number or first.table is not row.table:
            where = first.table.place(first.number)
            row.table.refuse(row.number, "event_id", event_id, f"is the id of {where} as well")


def _named(row: Row, given: dict[str, int]) -> Any:
    """Return the event of a row, with an id."""
    event = row.event
    if event.event_id != NAMELESS:
        return event
    symbol = event.symbol
    given[symbol] = number = given.get(symbol, 0) + 1
    name = f"{symbol}:{row.at_ns}" if number == 1 else f"{symbol}:{row.at_ns}:{number}"
    return msgspec.structs.replace(event, event_id=name)
