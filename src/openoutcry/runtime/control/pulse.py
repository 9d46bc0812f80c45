"""The verbs that watch a bus: `shape`, `pulse`, `buckets`, `rounds`. Many who ask cost it as much as one.

A pulse that was made a moment ago is the answer to all who ask, encoded once; whoever asks while one is being
made waits for that.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Protocol

import msgspec

from openoutcry.errors import ConfigError
from openoutcry.observers.pulse import Buckets, Pulse, RoundsSeen, Shape
from openoutcry.runtime.control.requests import Head, Plain, Verb

FRESH_S: Final = 0.24
"""For so long a pulse is the answer to whoever asks, unless the shape has changed,"""
FRESH_ROW_S: Final = 0.0015
"""and for so long per subscription of a large firm, up to"""
FRESH_MOST_S: Final = 1.0
"""so long. A row takes up to 2 us, so that 1,000 subscriptions take 0.2 % of the loop, whoever asks."""
SHAPE_KEPT_S: Final = 1.0
"""For so long after a pulse was asked for, the shape is the one that the pulse belongs to."""
NAMES_MOST: Final = 48
"""The distributions of so many subscriptions are told in one answer,"""
NAMES_A_TURN: Final = 16
"""and those of so many read in one turn of the loop."""
_encode: Final = msgspec.json.Encoder().encode


def fresh_s(rows: int) -> float:
    """Return for how many seconds a pulse of so many rows is the answer to whoever asks."""
    return max(FRESH_S, min(rows * FRESH_ROW_S, FRESH_MOST_S))


class PulseSource(Protocol):
    """What a bus says of itself; none of it changes anything."""

    @property
    def shape_number(self) -> int:
        """The number of the shape, as last looked at."""
        ...

    def look_at_shape(self) -> int:
        """Return the number of the shape: another one if it has changed, unless it did so often lately."""
        ...

    def shape(self) -> Awaitable[Shape]:
        """Return what rarely changes, as last looked at."""
        ...

    def pulse(self) -> Awaitable[Pulse]:
        """Return counters and states."""
        ...

    def buckets(self, names: Iterable[str]) -> dict[str, Buckets]:
        """Return the distributions of some subscriptions."""
        ...

    def rounds(self, since: int) -> Awaitable[RoundsSeen]:
        """Return the open rounds, and those released behind a number."""
        ...


class Line(bytes):
    """An answer as it goes over the line."""


def line_of(result: Any) -> Line:
    """Return a result as an answer."""
    return Line(b'{"ok":true,"result":' + _encode(result) + b"}\n")


class Named(Head, forbid_unknown_fields=True, kw_only=True):
    """Which subscriptions."""

    names: list[str]


class Since(Head, forbid_unknown_fields=True, kw_only=True):
    """The number of the released round behind which to begin."""

    since: int = 0


class Shared:
    """An answer that is made once for all who ask within a moment.

    Args:
        make: Makes it.
        is_good: Whether the last one, made at this time of the loop, is still the answer.

    """

    def __init__(self, make: Callable[[], Awaitable[Any]], is_good: Callable[[float], bool]) -> None:
        self._make = make
        self._is_good = is_good
        self._line: Line | None = None
        self._made_s = 0.0
        self._making: asyncio.Future[None] | None = None

    def ready(self) -> Line | None:
        """Return the answer if it need not be made."""
        line = self._line
        return line if line is not None and self._is_good(self._made_s) else None

    async def get(self) -> Line:
        """Return the answer. Cancelled, it is made by the next who asks."""
        loop = asyncio.get_running_loop()
        while self._making is not None:
            await asyncio.wait([self._making])
        line = self.ready()
        if line is not None:
            return line
        making = self._making = loop.create_future()
        try:
            made = await self._make()
            await asyncio.sleep(0)  # encoding takes a turn of its own
            self._line = line_of(made)
            self._made_s = loop.time()
            return self._line
        finally:
            self._making = None
            making.set_result(None)


def watching(source: PulseSource) -> dict[str, Verb]:
    """Return the verbs that watch a bus, by name."""
    described, pulsed, rows, asked_s = -1, -1, 0, -SHAPE_KEPT_S

    async def describe() -> Shape:
        nonlocal described
        number_of_shape()
        shape = await source.shape()
        described = shape.number
        return shape

    async def feel() -> Pulse:
        nonlocal pulsed, rows, asked_s
        asked_s = asyncio.get_running_loop().time()
        pulse = await source.pulse()
        pulsed, rows = pulse.shape, len(pulse.rows)
        return pulse

    def is_fresh(made_s: float) -> bool:
        nonlocal asked_s
        asked_s = asyncio.get_running_loop().time()
        return asked_s - made_s < fresh_s(rows) and source.look_at_shape() == pulsed

    def number_of_shape() -> int:
        kept = asyncio.get_running_loop().time() - asked_s < SHAPE_KEPT_S
        return source.shape_number if kept else source.look_at_shape()

    pulses = Shared(feel, is_fresh)
    shapes = Shared(describe, lambda _: number_of_shape() == described)

    async def buckets(_bus: object, asked: Named) -> Line:
        if len(asked.names) > NAMES_MOST:
            raise ConfigError(f"names has {len(asked.names)} names: ask for at most {NAMES_MOST} at once")
        found = source.buckets(asked.names[:NAMES_A_TURN])
        for first in range(NAMES_A_TURN, len(asked.names), NAMES_A_TURN):
            await asyncio.sleep(0)
            found |= source.buckets(asked.names[first : first + NAMES_A_TURN])
        return line_of(found)

    async def rounds(_bus: object, asked: Since) -> Line:
        if asked.since < 0:
            raise ConfigError(f"since = {asked.since}: give the number of a round, or 0 for all of them")
        return line_of(await source.rounds(asked.since))

    return {
        "shape": Verb(Plain, lambda _bus, _asked: shapes.get(), watches=True),
        "pulse": Verb(Plain, lambda _bus, _asked: pulses.get(), watches=True, ready=pulses.ready),
        "buckets": Verb(Named, buckets, watches=True),
        "rounds": Verb(Since, rounds, watches=True),
    }
