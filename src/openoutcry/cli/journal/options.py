"""What the commands on a journal have in common: the file, the key, filters and times."""

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from openoutcry.cli.mistakes import Mistake
from openoutcry.errors import ConfigError
from openoutcry.events import check_type_name
from openoutcry.journals.instants import age_ns, instant_ns
from openoutcry.ports import Filter

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Age(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """A duration such as 90s, 15m, 2h, 7d or 4w, converted to nanoseconds."""

    name = "AGE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the duration in nanoseconds."""
        try:
            return age_ns(str(value))
        except ValueError as problem:
            self.fail(str(problem), param, ctx)


class Instant(click.ParamType):  # type: ignore[type-arg]
    """A time (ISO 8601, UTC by default) or an age before now, converted to ns since 1970."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the time in nanoseconds since 1970."""
        if isinstance(value, int):
            return value
        try:
            return instant_ns(str(value), time.time_ns())
        except ValueError as problem:
            self.fail(str(problem), param, ctx)


AGE: Final = Age()
INSTANT: Final = Instant()

# (The error of a file that cannot be read is the journal's own, with its remedy.)
journal = click.argument("path", metavar="JOURNAL", type=click.Path(path_type=Path, readable=False))
as_json = click.option("--json", "as_json", is_flag=True, help="JSON lines instead of text.")
key_file = click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file with the key of a sealed journal: its bytes, as given to PersistenceConfig.",
)
since = click.option(
    "--since", "since_ns", type=INSTANT, metavar="TIME", help="At this time or later, or an age: 15m."
)
until = click.option("--until", "until_ns", type=INSTANT, metavar="TIME", help="Before this time.")


def _names(_context: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Accept `--type fill,order` and a repeated option."""
    return tuple(
        dict.fromkeys(type_name(name.strip()) for part in value for name in part.split(",") if name.strip())
    )


def type_name(name: str) -> str:
    """Return the name of an event type, or raise `Mistake` for one that is misspelt."""
    try:
        with warnings.catch_warnings(action="ignore"):  # it is in the log as well, which is shown
            check_type_name(name, ConfigError, "--type")
    except ConfigError as problem:
        raise Mistake(str(problem)) from problem
    return name


_FILTERS: Final = (
    click.option("--type", "types", multiple=True, callback=_names, metavar="TYPES", help="Event types."),
    click.option("--agent", metavar="NAME", help="From this source agent."),
    click.option("--symbol", metavar="NAME", help="Of this symbol."),
    click.option("--id", "event_id", metavar="ID", help="The event of this id."),
    click.option("--correlation", metavar="ID", help="Of this chain of cause and effect."),
    click.option("--cause", metavar="ID", help="Published because of the event of this id."),
    click.option("--round", "round_id", metavar="ID", help="Of this round."),
    since,
    until,
    click.option(
        "--by-time",
        type=click.Choice(["journal", "event"]),
        default="journal",
        show_default=True,
        help="Which time --since and --until mean: when it was admitted, or the event's own.",
    ),
)


_DESKS: Final = (
    click.option(
        "--journals",
        multiple=True,
        type=click.Path(path_type=Path, readable=False),
        metavar="PLACE",
        help="Another desk's journal, or a folder with them: causes are followed there. Repeat it.",
    ),
    click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="A settings file: the journals of [link] journals as well.",
    ),
)


def with_desks(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add to a command where other desks' journals are; `across_desks.places_of` reads it."""
    for option in reversed(_DESKS):
        command = option(command)
    return command


references = click.option(
    "--reference",
    "references",
    multiple=True,
    metavar="FIELD",
    help="A field of event classes of your own that names something. Repeat it.",
)


def filtered(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a filter to a command; `filter_of` reads them."""
    for option in reversed(_FILTERS):
        command = option(command)
    return command


def filter_of(given: dict[str, Any]) -> Filter:
    """Take the options of a filter from the arguments of a command, and return the filter."""
    types = given.pop("types")
    since_ns, until_ns = given.pop("since_ns"), given.pop("until_ns")
    is_own = given.pop("by_time") == "event"
    return Filter(
        types=frozenset(types) if types else None,
        agent=given.pop("agent"),
        symbol=given.pop("symbol"),
        event_id=given.pop("event_id"),
        correlation_id=given.pop("correlation"),
        causation_id=given.pop("cause"),
        round_id=given.pop("round_id"),
        since_ns=None if is_own else since_ns,
        until_ns=None if is_own else until_ns,
        own_since_ns=since_ns if is_own else None,
        own_until_ns=until_ns if is_own else None,
    )


def read_key(file: Path | None) -> bytes | None:
    """Return the key in a file. Raises `Mistake` if it cannot be read."""
    if file is None:
        return None
    try:
        return file.read_bytes()
    except OSError as problem:
        raise Mistake(f"--key-file {file}: {problem.strerror or problem}") from problem
