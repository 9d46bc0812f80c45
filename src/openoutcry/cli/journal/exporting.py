"""`openoutcry export`: a journal's events as JSON lines, CSV or Parquet."""

import csv
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Final

import click
import msgspec

from openoutcry.cli.console import print_lines, progress, say
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import reading
from openoutcry.cli.journal.columns import Columns, Kind, class_of, known_of
from openoutcry.cli.journal.options import filter_of
from openoutcry.cli.loading import load_app
from openoutcry.cli.mistakes import Mistake
from openoutcry.core.wording import wall_label
from openoutcry.journals import JournalReader
from openoutcry.journals.scanning import Seen, pages
from openoutcry.journals.showing import json_line, row_of
from openoutcry.ports import Filter, Stored
from openoutcry.printable import no_formula, printable, printable_json

_COLUMNS: Final = (
    "position",
    "time",
    "wall_ns",
    "event_type",
    "event_id",
    "source_agent",
    "symbol",
    "correlation_id",
    "causation_id",
    "round_id",
    "lane",
    "level",
    "event",
)
_BY_SUFFIX: Final = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
}
Pages = Iterator[list[Stored]]


@click.command()
@options.journal
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write to this file instead of printing.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["jsonl", "csv", "parquet"]),
    help="JSON lines, CSV or Parquet.  [default: by the file's name, else jsonl]",
)
@click.option(
    "--app",
    "target",
    metavar="MODULE:APP",
    help="Also make columns of the event classes of this app, which is imported as for run.",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@options.filtered
@options.key_file
def export(
    path: Path,
    output: Path | None,
    kind: str | None,
    target: str | None,
    force: bool,
    key_file: Path | None,
    **given: Any,
) -> None:
    """Write events for other programs, as JSON or tables.

    All that meet every given condition. CSV and Parquet have a column for each field of the event types that
    are known and occur: those of openoutcry, and with --app those of your firm. FILE appears only when it is
    complete: an interrupted export leaves nothing behind.
    """
    kind = kind or ("jsonl" if output is None else _kind_of(output))
    where = filter_of(given)
    if kind == "parquet" and output is None:
        raise Mistake("Parquet cannot be printed: give --output FILE")
    if kind == "parquet":
        _pyarrow()
    if target is not None:
        with redirect_stdout(sys.stderr):  # what the app prints is no part of the output
            load_app(target, Path.cwd())
    with reading(path, key_file) as reader:
        if output is None:
            if kind == "csv":
                table = _Table(reader, where)
                print_lines(_csv_lines(table))
                table.tell_misfits()
            else:
                print_lines(json_line(row_of(entry)) for page in pages(reader, where) for entry in page)
            return
        _check_target(output, reader.path, force)
        count = _write(reader, where, output, kind)
    say(f"{count:,} events written to {output}")


def _kind_of(output: Path) -> str:
    kind = _BY_SUFFIX.get(output.suffix.lower())
    if kind is None:
        *some, last = _BY_SUFFIX
        raise Mistake(
            f"{output.name}: the ending says how it is written, and can be {', '.join(some)} or {last}; "
            f"for another name give --format"
        )
    return kind


class _Table:
    """The events that are exported, as rows of a table, and its columns.

    They are looked at twice: which types occur is known at the end.
    """

    def __init__(self, reader: JournalReader, where: Filter, seen: Seen | None = None) -> None:
        self._reader = reader
        self._where = where
        self._head = reader.head
        self._seen = seen
        found = {class_of(entry.payload) for page in pages(reader, where) for entry in page}
        *head, event = _COLUMNS
        self.fields = Columns(known_of(filter(None, found)), _COLUMNS)
        self.names = [*head, *(column.name for column in self.fields.columns), event]

    def pages(self) -> Pages:
        """Yield the events, as far as they were written when this was made."""
        for page in pages(self._reader, self._where, seen=self._seen):
            if some := [entry for entry in page if entry.position <= self._head]:
                yield some

    def tell_misfits(self) -> None:
        """Say on standard error which values are in no column of their own."""
        if self.fields.misfits:
            named = ", ".join(f"{name} {count:,}" for name, count in self.fields.misfits.most_common())
            say(f"not of their column's type, and only in the column event: {named}", err=True)


def _csv_lines(table: _Table) -> Iterator[str]:
    yield _csv_heads(table).rstrip("\n")
    for page in table.pages():
        yield from _csv(page, table).rstrip("\n").split("\n")


def _check_target(output: Path, journal: Path, force: bool) -> None:
    if output.exists():
        if journal.samefile(output) or not output.is_file():
            raise Mistake(f"{output} is the journal, or not a plain file: give another name")
        if not force:
            raise Mistake(f"{output} exists: give another name, or --force to replace it")


def _write(reader: JournalReader, where: Filter, output: Path, kind: str) -> int:
    """Write the file beside its destination, then move it there."""
    head = reader.head
    count = 0
    with progress("exporting") as tell, _in_place(output) as file:
        if kind == "jsonl":
            for page in pages(reader, where, seen=lambda at: tell(at, head)):
                file.write("".join(f"{json_line(row_of(entry))}\n" for entry in page).encode())
                count += len(page)
            return count
        table = _Table(reader, where, seen=lambda at: tell(at, head))
        take, finish = _parquet(file, table) if kind == "parquet" else _csv_file(file, table)
        for page in table.pages():
            take(page)
            count += len(page)
        finish()
    table.tell_misfits()
    return count


@contextmanager
def _in_place(output: Path) -> Iterator[IO[bytes]]:
    """Yield a new file that is renamed to `output` at the end, and removed if that is not reached."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{output.name[:64]}-", dir=output.parent)
    except OSError as problem:
        raise Mistake(f"{output} cannot be written: {problem.strerror or problem}") from problem
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(output)
    except OSError as problem:
        raise Mistake(f"{output} cannot be written: {problem.strerror or problem}") from problem
    finally:
        with suppress(FileNotFoundError):
            Path(name).unlink()


def _csv_file(file: IO[bytes], table: _Table) -> tuple[Any, Any]:
    """Return a function that writes a page, and one that ends the file."""
    file.write(_csv_heads(table).encode())
    return lambda page: file.write(_csv(page, table).encode()), lambda: None


def _values(entry: Stored) -> dict[str, Any]:
    row = row_of(entry)
    return {**msgspec.structs.asdict(row), "event": entry.payload.decode("utf-8", "replace")}


def _cells(entry: Stored, table: _Table) -> dict[str, Any]:
    """Return the values of a row of a spreadsheet: safe to show, and none of them a formula."""
    values = _values(entry)
    event = printable_json(values.pop("event"))
    own = table.fields.values(entry.payload)
    for name, _key, kind in table.fields.columns:
        if name in own:
            values[name] = _csv_value(own[name], kind) if kind in ("time", "bool", "json") else own[name]
    shown = {name: no_formula(printable(v)) if isinstance(v, str) else v for name, v in values.items()}
    return {**shown, "event": no_formula(event)}


def _csv_value(value: Any, kind: Kind) -> str:
    if kind == "time":
        return wall_label(value)
    return str(value).lower() if kind == "bool" else printable_json(value)


def _csv(page: list[Stored], table: _Table) -> str:
    return _csv_of([_cells(entry, table) for entry in page], table.names)


def _csv_heads(table: _Table) -> str:
    return _csv_of([{name: no_formula(printable(name)) for name in table.names}], table.names)


def _csv_of(rows: list[dict[str, Any]], names: list[str]) -> str:
    text = io.StringIO()
    writer: csv.DictWriter[str] = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writerows(rows)
    return text.getvalue()


def _pyarrow() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise Mistake("Parquet needs pyarrow: pip install 'openoutcry[arrow]'") from None


def _parquet(file: IO[bytes], table: _Table) -> tuple[Any, Any]:
    """Return a function that writes a page, and one that ends the file."""
    arrow, parquet = _pyarrow()
    time = arrow.timestamp("ns", tz="UTC")
    kinds = {"int": arrow.int64(), "float": arrow.float64(), "bool": arrow.bool_(), "time": time}
    types = {"position": arrow.int64(), "time": time, "wall_ns": arrow.int64()}
    types |= {column.name: kinds.get(column.kind, arrow.string()) for column in table.fields.columns}
    schema = arrow.schema([(name, types.get(name, arrow.string())) for name in table.names])
    writer = parquet.ParquetWriter(file, schema, compression="zstd")

    def take(page: list[Stored]) -> None:
        rows = [
            {**_values(entry), "time": entry.wall_ns, **table.fields.values(entry.payload)} for entry in page
        ]
        columns = [
            arrow.array([row.get(name) for row in rows], type=schema.field(name).type) for name in table.names
        ]
        writer.write_table(arrow.Table.from_arrays(columns, schema=schema))

    return take, writer.close
