"""The files of tables, as rows of cells: CSV with the standard library, Parquet with pyarrow.

What a file is, its first bytes say, not its name. Cells of a text file are texts; those of Parquet are what
its columns hold, times as counts of nanoseconds that know whether they have a time zone.
"""

import csv
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Protocol

from openoutcry.errors import ConfigError, InvalidRow

Cells = Sequence[Any]
LOOKED_AT_BYTES: Final = 65_536
CELL_BYTES_MAX: Final = 1 << 24
"""So long may a cell of a text file be; the standard library's bound is too low for an event as JSON."""
_ROWS_AT_ONCE: Final = 16_384
_DELIMITERS: Final = ",;\t"


class InUtc(int):
    """A point in time, in nanoseconds since 1970 UTC."""


class OnTheWall(int):
    """What a clock on the wall shows, in nanoseconds since its 1970, in a time zone that is not known."""


class Head(NamedTuple):
    """The head of a table.

    Attributes:
        columns: The names of its columns.
        word: What a row is called where one is named: `line` of a text file, `row` of another.

    """

    columns: tuple[str, ...]
    word: str


class File(Protocol):
    """A table in a file."""

    head: Head

    def rows(self) -> Iterator[tuple[int, Cells]]:
        """Yield each row with its number. Raises `InvalidRow`."""
        ...


def kind_of(path: Path) -> Literal["csv", "parquet", "packed"] | None:
    """Return what kind of a table a file is, by its content; None for another file, or none at all."""
    if not path.is_file():
        return None  # opening a pipe would wait for its writer
    try:
        with path.open("rb") as file:
            start = file.read(LOOKED_AT_BYTES)
    except OSError:
        return None
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith((b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
        return "packed"
    if not start or b"\0" in start or not _is_text(start):
        return None
    return "csv"


def _is_text(start: bytes) -> bool:
    try:
        start.decode()
    except UnicodeDecodeError as problem:
        return problem.end == len(start) == LOOKED_AT_BYTES  # it ends within a character
    return True


def open_table(path: Path) -> File:
    """Return the table in a file, its head read. Raises `ConfigError` for what is none."""
    if not path.is_file():
        kind = "is no plain file" if path.exists() else "does not exist"
        raise ConfigError(f"{path} {kind}: name a CSV or Parquet file")
    found = kind_of(path)
    if found == "parquet":
        return ParquetFile(path)
    if found == "csv":
        return CsvFile(path)
    if found == "packed":
        raise ConfigError(f"{path} is packed: unpack it first; Parquet is small as it is")
    raise ConfigError(f"{path} is neither Parquet nor text: name a CSV or Parquet file")


class CsvFile:
    """A table in a text file: UTF-8, a head, and commas, semicolons or tabs between cells."""

    def __init__(self, path: Path) -> None:
        self._path = path
        csv.field_size_limit(CELL_BYTES_MAX)
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
        self._delimiter: str = max(_DELIMITERS, key=first.count)
        for _, cells in self._records():
            self.head: Head = Head(tuple(cells), "line")
            return
        raise ConfigError(f"{path} is empty: a table has a head that names its columns")

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield what is written in each line, or in several where a cell has line ends in it."""
        with self._path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=self._delimiter, strict=True)
            line = 1
            while True:
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except (csv.Error, UnicodeDecodeError) as problem:
                    what = f"cannot be read as CSV: {problem}"
                    raise InvalidRow(f"{self._path}, line {line}: {what}", str(self._path), line) from None
                if cells:
                    yield line, cells
                line = reader.line_num + 1

    def rows(self) -> Iterator[tuple[int, Cells]]:
        """Yield each row with its line. Empty lines are none. Raises `InvalidRow`."""
        records, width = self._records(), len(self.head.columns)
        next(records)
        for line, cells in records:
            if len(cells) != width:
                raise InvalidRow(
                    f"{self._path}, line {line}: has {len(cells)} cells, and the head {width}: quote cells "
                    f"that have a {self._delimiter!r} in them",
                    str(self._path),
                    line,
                )
            yield line, cells


class ParquetFile:
    """A table in a Parquet file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._arrow: Any = import_module("pyarrow")
            self._parquet: Any = import_module("pyarrow.parquet")
        except ImportError:
            raise ConfigError(f"{path}: Parquet needs pyarrow: pip install 'openoutcry[arrow]'") from None
        with self._read() as file:
            self.head: Head = Head(tuple(file.schema_arrow.names), "row")

    def _read(self) -> Any:
        try:
            return self._parquet.ParquetFile(self._path)
        except (OSError, self._arrow.ArrowException) as problem:
            raise ConfigError(f"{self._path} cannot be read as Parquet: {problem}") from None

    def rows(self) -> Iterator[tuple[int, Cells]]:
        """Yield each row with its number, counted from 1. Raises `InvalidRow`."""
        number = 0
        with self._read() as file:
            batches = file.iter_batches(batch_size=_ROWS_AT_ONCE, use_threads=False)
            while True:
                try:
                    batch = next(batches)
                except StopIteration:
                    return
                except (OSError, self._arrow.ArrowException) as problem:
                    what = f"cannot be read: {problem}"
                    raise InvalidRow(
                        f"{self._path}, behind row {number}: {what}", str(self._path), number
                    ) from None
                columns = [self._plain(column) for column in batch.columns]
                for cells in zip(*columns, strict=True):
                    number += 1
                    yield number, cells

    def _plain(self, column: Any) -> list[Any]:
        """Return the cells of a column, times as counts."""
        arrow = self._arrow
        if not arrow.types.is_timestamp(column.type):
            found: list[Any] = column.to_pylist()
            return found
        kind = OnTheWall if column.type.tz is None else InUtc
        per_ns = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}[column.type.unit]
        counts = column.cast(arrow.int64()).to_pylist()
        return [None if count is None else kind(count * per_ns) for count in counts]
