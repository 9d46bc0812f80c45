"""The steps of a tape as they are written: rows of numbers, packed, in the text of a record.

A row says little that the one before does not, so times are written as differences, and names once.
"""

import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple, cast

import msgspec

from openoutcry.errors import JournalCorrupt
from openoutcry.events.records import escaped
from openoutcry.journals.rows import LANES

End = Literal["handled", "failed", "buried", "superseded", "released", "expired", "begun"]
ENDS: Final[tuple[End, ...]] = (
    "handled",
    "failed",
    "buried",
    "superseded",
    "released",
    "expired",
    "begun",
)
_LEVEL: Final = 1
"""Of the compression: a higher one saves a tenth, and takes twice as long."""


class RecordedCall(NamedTuple):
    """Some events of one lane that a worker took together, and how that ended."""

    subscription: str
    """The subscription."""
    lane: str
    """`control`, `high` or `normal`. What is of the lane `control` runs beside the rest."""
    attempt: int
    """1, or more for an event that had failed before: how often it had been begun, this time included."""
    places: tuple[int | str, ...]
    """Where its events stand in the journal, in the order in which they were handled; the id of one that is
    not there."""
    end: End
    """How the last of them ended; those before it were handled. `failed`: it is tried again. `buried`: it
    became a dead letter. `superseded`: the call was ended for a newer event. `released`: it was cancelled,
    and its event waits again. `expired`: they were too old, and none was begun. `begun`: nothing is known of
    the end."""
    error: str
    """The class of what it has raised; empty where that is nothing."""
    begun_ns: int
    """When the first was begun, from the start of the run."""
    ended_ns: int | None
    """When the last had ended; None where nothing is known of it."""
    head: int
    """Everything durable up to this position had been handed out when they were begun."""
    order: int
    """The place of their beginning among all that was noted: of two at one instant, the lower was first."""
    number: int
    """The number of the first in its lane, which counts from the start of the run; the others follow without
    gaps. What nobody took of a lane's numbers was let go there: conflated, dropped or withdrawn."""


class RecordedPublication(NamedTuple):
    """A publication from inside a call whose id was not derived in it, or that was refused.

    What a call was told by the bus stands among the refused ones as well, under ids that `told` reads.
    """

    event_id: str
    """The id."""
    subscription: str
    """Whose handler has published it."""
    was_refused: bool
    """Whether it was refused for lack of room."""
    at_ns: int
    """When, from the start of the run."""


class Steps(msgspec.Struct, frozen=True, kw_only=True):
    """What one record of a tape says.

    Attributes:
        calls: What workers took, in the order in which it ended.
        released: When everything durable up to a position had been handed out: (position, time, order).
        beside: What was delivered from memory: (first position, count, time, order).
        raised: When kill switches were delivered that the journal has: (id, time, order).
        made: Publications whose calls cannot be told by their ids.

    """

    calls: Sequence[RecordedCall] = ()
    released: Sequence[tuple[int, int, int]] = ()
    beside: Sequence[tuple[int, int, int, int]] = ()
    raised: Sequence[tuple[str, int, int]] = ()
    made: Sequence[RecordedPublication] = ()


class _Written(msgspec.Struct, array_like=True, frozen=True):
    names: list[str]
    calls: list[tuple[int | str, ...]]
    released: list[tuple[int, int, int]]
    beside: list[tuple[int, int, int, int]]
    raised: list[tuple[str, int, int]]
    made: list[tuple[str, int, bool, int]]


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Written).decode
_LANE_NUMBERS: Final = {lane: number for number, lane in enumerate(LANES)}


class StepWriter:
    """Writes the steps of one record, row by row."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._calls: list[tuple[int | str, ...]] = []
        self._made: list[tuple[str, int, bool, int]] = []
        self._before_ns = self._before_order = 0

    def _name(self, name: str) -> int:
        return self._names.setdefault(name, len(self._names))

    def add(
        self,
        subscription: str,
        lane: str,
        end: int,
        attempts: int,
        number: int,
        begun_ns: int,
        took_ns: int,
        head: int,
        order: int,
        error: str,
        places: list[int | str],
    ) -> None:
        """Add a call. `places` are pairs of a position and a count, and ids."""
        names = self._names
        who = names.setdefault(subscription, len(names))
        what = names.setdefault(error, len(names)) if error else -1
        since_ns, self._before_ns = begun_ns - self._before_ns, begun_ns
        kind = end * 4 + _LANE_NUMBERS[lane]
        later, self._before_order = order - self._before_order, order
        self._calls.append((who, kind, attempts, number, since_ns, took_ns, head, later, what, *places))

    def add_made(self, event_id: str, subscription: str, was_refused: bool, at_ns: int) -> None:
        """Add a publication."""
        self._made.append((event_id, self._name(subscription), was_refused, at_ns))

    def text(
        self,
        released: list[tuple[int, int, int]],
        beside: list[tuple[int, int, int, int]],
        raised: list[tuple[str, int, int]],
    ) -> str:
        """Return everything that was added, and this, as text."""
        written = _Written(list(self._names), self._calls, released, beside, raised, self._made)
        try:
            data = _encode(written)
        except UnicodeEncodeError:  # an id that cannot be written
            data = _encode(escaped(written))
        return b64encode(zlib.compress(data, _LEVEL)).decode()


def read_steps(text: str) -> Steps:
    """Return what `StepWriter.text` has written. Raises `JournalCorrupt` for anything else."""
    try:
        found = _decode(zlib.decompress(b64decode(text, validate=True)))
        return Steps(
            calls=list(_calls(found)),
            released=found.released,
            beside=found.beside,
            raised=found.raised,
            made=[RecordedPublication(one[0], found.names[one[1]], one[2], one[3]) for one in found.made],
        )
    except (ValueError, zlib.error, msgspec.MsgspecError, IndexError, TypeError) as problem:
        raise JournalCorrupt(f"a record of the tape cannot be read: {problem}; run verify") from problem


def _calls(found: _Written) -> Iterable[RecordedCall]:
    begun_ns = order = 0
    for row in found.calls:
        who, kind, attempts, number, since_ns, took_ns, head, later, what = cast("tuple[int, ...]", row[:9])
        begun_ns += since_ns
        order += later
        end = ENDS[kind // 4]
        yield RecordedCall(
            found.names[who],
            LANES[kind % 4],
            attempts + 1,
            tuple(_places(row[9:])),
            end,
            "" if what < 0 else found.names[what],
            begun_ns,
            None if end == "begun" else begun_ns + took_ns,
            head,
            order,
            number,
        )


def _places(written: Sequence[Any]) -> Iterable[int | str]:
    rest = iter(written)
    for first in rest:
        if isinstance(first, str):
            yield first
        else:
            yield from range(first, first + next(rest))
