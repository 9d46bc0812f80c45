"""What is known of a running bus at one moment, and how it is asked for."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, Self

import click

from openoutcry.cli.asking import NO_BUS
from openoutcry.cli.mistakes import Mistake
from openoutcry.journals.refusals import must_exist, real_path
from openoutcry.observers.pulse import Buckets, Histogram, OpenRound, Pulse, RoundRow, Shape
from openoutcry.observers.reading import Rates, Wrong, percentile_ns, rates, since, wrong
from openoutcry.runtime.control.watcher import Watcher
from openoutcry.units import NS_PER_S

ANSWER_S: Final = 5.0
"""How long the bus may take for its first pulse."""
FIRST_S: Final = 0.25
"""How long the first look takes: rates need two pulses."""
ASKED_MOST: Final = 48
"""Of so many subscriptions times are asked for at a look: the busiest that have moved."""
ROUNDS_KEPT: Final = 50
"""So many of the newest rounds are looked at."""
WINDOW_NS: Final = 10 * NS_PER_S
"""What happened in this time counts as happening now."""


@dataclass(frozen=True)
class Times:
    """How long the events of a subscription waited lately and its calls took, and how the last one failed."""

    wait_p50_ns: float | None = None
    wait_p99_ns: float | None = None
    call_p50_ns: float | None = None
    call_p99_ns: float | None = None
    last_error: str = ""

    @classmethod
    def of(cls, now: Buckets, before: Buckets | None) -> Self:
        """Return what was counted since an earlier reading, or since the start without one."""
        waits = since(now.latency, None if before is None else before.latency)
        calls = since(now.duration, None if before is None else before.duration)
        return cls(*_both(waits), *_both(calls), now.last_error)


def _both(times: Histogram) -> tuple[float | None, float | None]:
    return percentile_ns(times, 0.5), percentile_ns(times, 0.99)


@dataclass(frozen=True)
class RoundsLook:
    """The rounds of a bus.

    Attributes:
        open: Those that are open, the oldest first.
        released: The newest released ones, the newest first.

    """

    open: list[OpenRound] = field(default_factory=list)
    released: list[RoundRow] = field(default_factory=list)


@dataclass(frozen=True)
class Look:
    """What is known of a bus at one moment.

    Attributes:
        path: Its journal or control socket.
        shape: What rarely changes.
        pulse: The newest pulse.
        earlier: One of some seconds ago, or None: what has grown since counts as happening now.
        per_s: What each subscription does per second, by name.
        times: Recent times by subscription, of those that have any.
        rounds: Its rounds.
        silent: Why the bus does not answer at the moment; empty if it does.
        age_s: How old the pulse is, in seconds.
        notes: Further facts, each with its name.
        also_wrong: What is wrong beyond what the pulse tells.

    """

    path: Path
    shape: Shape
    pulse: Pulse
    earlier: Pulse | None = None
    per_s: dict[str, Rates] = field(default_factory=dict)
    times: dict[str, Times] = field(default_factory=dict)
    rounds: RoundsLook = field(default_factory=RoundsLook)
    silent: str = ""
    age_s: float = 0.0
    notes: tuple[tuple[str, str], ...] = ()
    also_wrong: tuple[Wrong, ...] = ()

    @cached_property
    def wrong(self) -> list[Wrong]:
        """What is wrong, worst first."""
        found = [*wrong(self.shape, self.pulse, self.earlier), *self.also_wrong]
        if self.silent:
            old = f"what is shown is {self.age_s:.0f} s old"
            found.insert(0, Wrong("critical", "bus", f"the bus does not answer: {self.silent}; {old}"))
        return found


class NoBus(click.ClickException):
    """No bus listens."""

    exit_code = NO_BUS

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"no bus listens beside {path}: start one, with a socket (PersistenceConfig.socket); "
            "`openoutcry status` shows what its journal says"
        )


class _Asking:
    """Asks a watched bus for what its pulse has not: recent times and rounds, of one life of it."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._session = ""
        self._begin()

    def _begin(self) -> None:
        self._pulses: deque[Pulse] = deque()
        self._known: dict[str, Buckets] = {}
        self._moved: dict[str, int] = {}
        self._times: dict[str, Times] = {}
        self._released: deque[RoundRow] = deque(maxlen=ROUNDS_KEPT)
        self._open: list[OpenRound] = []

    async def look(self) -> Look:
        """Return what is known now."""
        watcher = self._watcher
        shape, pulse = watcher.shape, watcher.pulse
        assert shape is not None
        assert pulse is not None
        if pulse.session != self._session:
            self._begin()
            self._session = pulse.session
            if watcher.before is not None:
                self._pulses.append(watcher.before)
        before = self._pulses[-1] if self._pulses else None
        per_s = rates(before, pulse, shape)
        with suppress(ConnectionError):  # it does not answer: what is known stays
            await self._ask_times(shape, pulse, per_s)
            await self._ask_rounds(pulse)
        look = Look(
            watcher.path,
            shape,
            pulse,
            self._pulses[0] if self._pulses else None,
            per_s,
            dict(self._times),
            RoundsLook(self._open, list(reversed(self._released))),
            watcher.why,
            asyncio.get_running_loop().time() - watcher.received_s,
        )
        self._note(pulse)
        return look

    def _note(self, pulse: Pulse) -> None:
        if not self._pulses or self._pulses[-1].number != pulse.number:
            self._pulses.append(pulse)
        while len(self._pulses) > 1 and pulse.now_ns - self._pulses[1].now_ns > WINDOW_NS:
            self._pulses.popleft()

    async def _ask_times(self, shape: Shape, pulse: Pulse, per_s: dict[str, Rates]) -> None:
        """Ask for the times of the busiest subscriptions that have moved."""
        names = [subscription.name for subscription in shape.subscriptions]
        rows = sorted(
            ((names[row.index], row) for row in pulse.rows if row.index < len(names)),
            key=lambda item: (-item[1].lag, -per_s[item[0]].handled, item[0]),
        )
        done = {name: row.handled + row.errors for name, row in rows}
        moved = [name for name in done if done[name] != self._moved.get(name, 0)][:ASKED_MOST]
        for name, now in (await self._watcher.buckets(moved)).items():
            self._times[name] = Times.of(now, self._known.get(name))
            self._moved[name] = done[name]
            self._known[name] = now

    async def _ask_rounds(self, pulse: Pulse) -> None:
        """Ask for the rounds that were released since the last look, and for the open ones."""
        last = self._released[-1].number if self._released else max(0, pulse.rounds_number - ROUNDS_KEPT)
        if not pulse.rounds_open and pulse.rounds_number == last:
            self._open = []
            return
        found = await self._watcher.rounds(max(last, pulse.rounds_number - ROUNDS_KEPT))
        self._released.extend(found.released)
        self._open = found.open


async def looks(path: Path, every_s: float) -> AsyncGenerator[Look, None]:
    """Yield look after look, one every so many seconds, until the bus is gone.

    Raises `NoBus` if none listens, and `Mistake` if it does not answer. Cancelling it hangs up.
    """
    async with Watcher(path, every_s=min(every_s, FIRST_S)) as watcher:
        await _first(watcher)
        asking = _Asking(watcher)
        while watcher.live in ("up", "silent"):
            yield await asking.look()
            await asyncio.sleep(every_s)


async def _first(watcher: Watcher) -> None:
    """Wait for two pulses. Raises what keeps them from coming."""
    try:
        if not await watcher.first(ANSWER_S):
            must_exist(real_path(watcher.path))
            raise NoBus(watcher.path)
    except TimeoutError:
        raise Mistake(
            f"TimeoutError: the bus at {watcher.path} did not answer within {ANSWER_S:g} s: {watcher.why}"
        ) from None
