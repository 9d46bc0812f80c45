"""`openoutcry export`: a journal's events as JSON lines, CSV or Parquet."""

import csv
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Final

import click
import msgspec

from openoutcry.cli.console import print_lines, progress, say
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import reading
from openoutcry.cli.journal.options import filter_of
from openoutcry.cli.mistakes import Mistake
from openoutcry.journals import JournalReader
from openoutcry.journals.scanning import pages
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
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@options.filtered
@options.key_file
def export(
    path: Path, output: Path | None, kind: str | None, force: bool, key_file: Path | None, **given: Any
) -> None:
    """Write the events of a journal that meet every given condition, for other programs.

    FILE appears only when it is complete: an interrupted export leaves nothing behind.
    """
    kind = kind or ("jsonl" if output is None else _BY_SUFFIX.get(output.suffix.lower(), "jsonl"))
    where = filter_of(given)
    if kind == "parquet" and output is None:
        raise Mistake("Parquet cannot be printed: give --output FILE")
    if kind == "parquet":
        _pyarrow()
    with reading(path, key_file) as reader:
        if output is None:
            print_lines(_lines(kind, pages(reader, where)))
            return
        _check_target(output, reader.path, force)
        count = _write(reader, where, output, kind)
    say(f"{count:,} events written to {output}")


def _lines(kind: str, found: Pages) -> Iterator[str]:
    if kind == "csv":
        yield ",".join(_COLUMNS)
    for page in found:
        if kind == "csv":
            yield from _csv(page).rstrip("\n").split("\n")
        else:
            for entry in page:
                yield json_line(row_of(entry))


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
        if kind == "parquet":
            take, finish = _parquet(file)
        else:
            take, finish = partial(_text, file, kind), lambda: None
            file.write((",".join(_COLUMNS) + "\n").encode() if kind == "csv" else b"")
        for page in pages(reader, where, seen=lambda at: tell(at, head)):
            take(page)
            count += len(page)
        finish()
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


def _text(file: IO[bytes], kind: str, page: list[Stored]) -> None:
    text = _csv(page) if kind == "csv" else "".join(f"{json_line(row_of(entry))}\n" for entry in page)
    file.write(text.encode())


def _values(entry: Stored) -> dict[str, Any]:
    row = row_of(entry)
    return {**msgspec.structs.asdict(row), "event": entry.payload.decode("utf-8", "replace")}


def _cells(entry: Stored) -> dict[str, Any]:
    """Return the values of a row of a spreadsheet: safe to show, and none of them a formula."""
    values = _values(entry)
    event = printable_json(values.pop("event"))
    shown = {name: no_formula(printable(v)) if isinstance(v, str) else v for name, v in values.items()}
    return {**shown, "event": no_formula(event)}


def _csv(page: list[Stored]) -> str:
    text = io.StringIO()
    writer: csv.DictWriter[str] = csv.DictWriter(text, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writerows(map(_cells, page))
    return text.getvalue()


def _pyarrow() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise Mistake("Parquet needs pyarrow: pip install 'openoutcry[arrow]'") from None


def _parquet(file: IO[bytes]) -> tuple[Any, Any]:
    """Return a function that writes a page, and one that ends the file."""
    arrow, parquet = _pyarrow()
    types = {"position": arrow.int64(), "time": arrow.timestamp("ns", tz="UTC"), "wall_ns": arrow.int64()}
    schema = arrow.schema([(name, types.get(name, arrow.string())) for name in _COLUMNS])
    writer = parquet.ParquetWriter(file, schema, compression="zstd")

    def take(page: list[Stored]) -> None:
        rows = [{**_values(entry), "time": entry.wall_ns} for entry in page]
        columns = [
            arrow.array([row[name] for row in rows], type=schema.field(name).type) for name in _COLUMNS
        ]
        writer.write_table(arrow.Table.from_arrays(columns, schema=schema))

    return take, writer.close
