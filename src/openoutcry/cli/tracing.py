"""`openoutcry traces`: makes spans of what a journal has, and sends them to a collector over OTLP."""

import fcntl
import logging
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from openoutcry.cli.console import say
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import plainly, reading
from openoutcry.cli.journal.following import follow
from openoutcry.cli.journal.options import read_key
from openoutcry.cli.logging_setup import logged, logging_to_stderr
from openoutcry.cli.mistakes import BY_SIGNAL, FAILED, Mistake
from openoutcry.cli.span_delivery import GIVE_UP_S, Delivery, Stopped, StopSignal
from openoutcry.core.wording import counted
from openoutcry.errors import JournalError
from openoutcry.journals import JournalReader
from openoutcry.journals.engines import database_errors
from openoutcry.observers.chains import Chains, Place
from openoutcry.observers.otel import Sender
from openoutcry.observers.spans import spans_of
from openoutcry.observers.steps import Handlers, step_of
from openoutcry.ports import Filter, Stored

log = logging.getLogger("openoutcry")

_PAGE: Final = 1_024
_LETTERS: Final = 1_000
_REREAD_MOST: Final = 200_000
_LETTERS_EVERY_S: Final = 1.0
_HANDLERS_EVERY_S: Final = 1.0
_SAVE_EVERY_S: Final = 1.0
_SHARE: Final = re.compile(r"(\d+(?:\.\d+)?)(%?)")


class Share(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """A share such as 1% or 0.01, converted to a number from 0 to 1."""

    name = "SHARE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the share."""
        found = _SHARE.fullmatch(str(value).strip())
        share = float(found[1]) / (100 if found[2] else 1) if found is not None else -1.0
        if not 0 <= share <= 1:
            self.fail(f"{value!r} is not a share: write 1%, 0.5% or 0.01", param, ctx)
        return share


@click.command()
@options.journal
@click.option("--otlp", "url", required=True, metavar="URL", help="The collector: http://localhost:4318.")
@click.option(
    "--keep",
    type=Share(),
    default="1%",
    show_default=True,
    metavar="SHARE",
    help="Of how many chains, apart from those with a fill, an alert, a kill switch or a dead letter.",
)
@click.option("--follow", "-f", "follows", is_flag=True, help="Go on with what is written, until Ctrl-C.")
@options.since
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="With --follow: where to keep how far it has come, and to go on after a restart.",
)
@click.option(
    "--linger",
    "linger_ns",
    type=options.AGE,
    default="15s",
    show_default=True,
    metavar="AGE",
    help="With --follow: for how long a chain must be quiet until its spans are sent.",
)
@click.option("--service", metavar="NAME", help="What the spans' service is called; by default as the file.")
@options.key_file
@logged
def traces(
    path: Path,
    url: str,
    keep: float,
    follows: bool,
    since_ns: int | None,
    state: Path | None,
    linger_ns: int,
    service: str | None,
    key_file: Path | None,
    log_level: str,
    log_json: bool,
) -> None:
    """Send what a journal has as OpenTelemetry traces to a collector.

    Needs no lock and does nothing in the firm's process. Without --follow it ends at the journal's end, and
    with 1 if the collector is away for a minute, or has refused spans for good. SIGTERM or Ctrl-C ends it
    with 143 or 130, after its state is saved.
    """
    if state is not None and not follows:
        raise Mistake("--state keeps how far --follow has come: give --follow as well")
    key = read_key(key_file)

    def chains(place: Place) -> Chains:
        return Chains(keep, linger_ns, _rereading(path, key), place)

    with (
        logging_to_stderr(log_level, as_json=log_json),
        StopSignal().heeded() as stop,
        closing(Sender(url, service or path.stem, str(path))) as sender,
        nullcontext() if state is None else _held(state),
        plainly(path),
    ):
        with reading(path, key_file) as reader:
            place = _first_place(reader, state, since_ns)
            upto = None if follows else reader.head
        delivery = Delivery(sender, None if follows else GIVE_UP_S, stop, time.monotonic)
        tracer = _Tracer(path, key, delivery, stop, chains, place, state)
        with suppress(Stopped):
            tracer.run(place.after, upto)
    _end(f"{path}: {counted(delivery.sent_count, 'span')} sent to {url}", delivery.refused_count, stop.number)


def _end(sent: str, refused_count: int, signal_number: int) -> None:
    """Say what was done, and end: with 1 if spans were let go, by a signal with its code."""
    say(f"{sent}, {refused_count:,} refused by it and let go" if refused_count else sent)
    if signal_number:
        raise click.exceptions.Exit(BY_SIGNAL + signal_number)
    if refused_count:
        raise click.exceptions.Exit(FAILED)


def _first_place(reader: JournalReader, state: Path | None, since_ns: int | None) -> Place:
    """Return where to begin: where the state says, else at a time."""
    found = None if state is None else _load(state)
    if found is not None:
        kind, place = found
        if kind == _origin(reader) and place.after <= reader.head:
            return place
        text = "%s is of another journal, or of a later state of this one: its beginning is read again"
        log.warning(text, state)
    if since_ns is None:
        return Place()
    first = reader.read(0, 1, Filter(since_ns=since_ns))
    after = first[0].position - 1 if first else reader.head
    return Place(after=after, letter_after=_letters_before(reader, since_ns))


def _letters_before(reader: JournalReader, since_ns: int) -> int:
    """Return the id of the last dead letter that was buried before a time."""
    after = 0
    while page := reader.buried(None, after, _LETTERS):
        for letter in page:
            if letter.wall_ns >= since_ns:
                return after
            after = letter.letter_id
    return after


def _origin(reader: JournalReader) -> str:
    return reader.anchor().origin


def _rereading(path: Path, key: bytes | None) -> Any:
    """Return what reads the entries of a chain once more."""

    def reread(chain: str, first: int, last: int) -> list[Stored]:
        found: list[Stored] = []
        after, last = first - 1, min(last, first + _REREAD_MOST)
        with JournalReader(path, key=key) as reader:
            while after < last and (page := reader.read(after, min(_PAGE, last - after))):
                after = page[-1].position
                found += [entry for entry in page if step_of(entry).chain == chain]
        return found

    return reread


class _Tracer:
    """Reads a journal, and sends the spans of each chain once it is quiet."""

    def __init__(
        self,
        path: Path,
        key: bytes | None,
        delivery: Delivery,
        stop: StopSignal,
        begin: Callable[[Place], Chains],
        place: Place,
        state: Path | None,
    ) -> None:
        self._path = path
        self._key = key
        self._delivery = delivery
        self._stop = stop
        self._begin = begin
        self._chains = begin(place)
        self._state = state
        self._follows = False
        self._passing: tuple[type[Exception], ...] = (JournalError, *database_errors())
        self._origin = ""
        self._saved: Place | None = None
        self._letters: defaultdict[str, set[int]] = defaultdict(set)
        self._handlers = Handlers()
        self._letters_s = self._handlers_s = self._saved_s = -_SAVE_EVERY_S

    def run(self, after: int, upto: int | None) -> None:
        """Go from a position to another one, or until the process is asked to end."""
        self._follows = upto is None
        for page in self._pages(after, upto):
            self._read_letters()
            now_ns = time.monotonic_ns()
            self._chains.add(page, now_ns)
            self._send(now_ns)
            if self._stop.number:
                self._save_place()
                return
        self._letters_s = self._handlers_s = -_SAVE_EVERY_S
        self._read_letters()
        self._send(None)

    def _pages(self, after: int, upto: int | None) -> Iterator[list[Stored]]:
        if upto is None:
            yield from follow(self._path, self._key, Filter(), after, idle=True)
            return
        with JournalReader(self._path, key=self._key) as reader:
            while after < upto and (page := reader.read(after, min(_PAGE, upto - after))):
                after = page[-1].position
                yield page

    def _read(self, what: Callable[[JournalReader], None]) -> None:
        """Read something beside the events. While it cannot be read, such as at a start, it can wait."""
        try:
            with JournalReader(self._path, key=self._key) as reader:
                what(reader)
        except self._passing:
            if not self._follows:
                raise

    def _read_letters(self) -> None:
        """Read the dead letters that are new, about once a second."""
        now_s = time.monotonic()
        if now_s - self._letters_s >= _LETTERS_EVERY_S:
            self._letters_s = now_s
            self._read(self._add_letters)

    def _add_letters(self, reader: JournalReader) -> None:
        origin = _origin(reader)
        if self._origin and origin != self._origin:  # another journal is at the path now
            self._send(None)
            self._chains = self._begin(Place())
            self._letters.clear()
        self._origin = origin
        while page := reader.buried(None, self._chains.letters_upto, _LETTERS):
            for letter in page:
                self._letters[letter.subscription].add(letter.position)
            self._chains.add_letters(page, time.monotonic_ns())

    def _read_handlers(self, reader: JournalReader) -> None:
        """Read who takes what, and how far everybody has come."""
        memories = [head.snapshot for head in reader.memory_heads() if head.is_whole]
        left_out = {
            memory.subscription: [
                *self._letters[memory.subscription],
                *reader.tombstones(memory.subscription),
            ]
            for memory in memories
        }
        self._handlers = Handlers(_origin(reader), reader.cursors(), memories, left_out)

    def _send(self, now_ns: int | None) -> None:
        """Make and send the spans of the chains that are quiet; save how far that is."""
        parts = self._chains.take(now_ns)
        now_s = time.monotonic()
        if parts and now_s - self._handlers_s >= _HANDLERS_EVERY_S:
            self._handlers_s = now_s
            self._read(self._read_handlers)
        spans = [span for part in parts for span in spans_of(part, self._handlers, self._chains.known)]
        self._delivery.deliver(spans)
        if spans or now_s - self._saved_s >= _SAVE_EVERY_S:
            self._saved_s = now_s
            self._save_place()

    def _save_place(self) -> None:
        """Save how far everything is sent."""
        place = self._chains.place()
        if self._state is not None and place != self._saved and self._origin:
            _save(self._state, self._origin, place)
            self._saved = place


# -- the state ---------------------------------------------------------------------------------------


@contextmanager
def _held(file: Path) -> Iterator[None]:
    """Keep others from going on from a state. The system lets go of the lock when the process ends."""
    lock = file.with_name(f"{file.name}.lock")
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as problem:
        raise Mistake(f"--state {file}: {lock} cannot be made: {problem.strerror or problem}") from problem
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise Mistake(f"--state {file}: another `openoutcry traces` goes by it; end that one first") from None
    except OSError as problem:
        os.close(fd)
        raise Mistake(f"--state {file}: {lock} cannot be locked: {problem.strerror or problem}") from problem
    try:
        yield
    finally:
        os.close(fd)


class _Saved(msgspec.Struct):
    """What the file of the state holds."""

    origin: str
    place: Place


def _load(file: Path) -> tuple[str, Place] | None:
    """Return what a state says: of which journal it is, and the place; None where there is none yet."""
    try:
        found = msgspec.json.decode(file.read_bytes(), type=_Saved)
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise Mistake(f"--state {file}: {problem.strerror or problem}") from problem
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        raise Mistake(f"--state {file} is not what --follow has written; remove it to begin anew") from None
    return found.origin, found.place


def _save(file: Path, origin: str, place: Place) -> None:
    """Write a state so that the file always holds a whole one."""
    making = file.with_name(f"{file.name}.new")
    try:
        with making.open("wb") as made:
            made.write(msgspec.json.encode(_Saved(origin, place)))
            made.flush()
            os.fsync(made.fileno())
        making.replace(file)
    except OSError as problem:
        raise Mistake(f"--state {file} cannot be written: {problem.strerror or problem}") from problem
