"""`openoutcry top`: a running bus live, from its pulse."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from openoutcry.cli.console import can_be_rich, print_lines, say
from openoutcry.cli.journal.access import plainly
from openoutcry.cli.mistakes import Mistake
from openoutcry.cli.operating import NO_BUS, firm
from openoutcry.cli.watching import by_name, grid, rate, span, terminal_width
from openoutcry.journals.refusals import must_exist, real_path
from openoutcry.observers.pulse import Buckets, Histogram, Pulse, Shape, SubRow
from openoutcry.observers.reading import Rates, percentile_ns, rates, since, wrong
from openoutcry.printable import printable
from openoutcry.runtime.control.watcher import Watcher
from openoutcry.units import NS_PER_US

ANSWER_S: Final = 5.0
"""How long the bus may take for its first pulse."""
FIRST_S: Final = 0.25
"""How long the first look takes: rates need two pulses."""
ASKED_MOST: Final = 48
"""Of so many subscriptions times are asked for at a look: the busiest that have moved."""
WRONG_SHOWN: Final = 5
"""So many things that are wrong are shown."""


@click.command()
@firm
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(0.1, 3_600),
    default=1.0,
    metavar="SECONDS",
    help="Seconds between updates; 1 by default.",
)
@click.option(
    "--count", type=click.IntRange(1), metavar="COUNT", help="Exit after so many updates; by default never."
)
def top(path: Path, every_s: float, count: int | None) -> None:
    """Watch a running bus live, with the busiest subscriptions first.

    Exits on Ctrl-C, or with 3 if no bus runs any more.
    """
    if can_be_rich():
        _watch_richly(path, every_s, count)
    else:
        _follow(path, every_s, count, lambda look: print_lines([*look.lines(terminal_width()), ""]))
    if count is None:
        say(f"no bus listens beside {path}", err=True)
        raise click.exceptions.Exit(NO_BUS)


class _NoBus(click.ClickException):
    """No bus listens."""

    exit_code = NO_BUS

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"no bus listens beside {path}: start one, with a socket (PersistenceConfig.socket); "
            "`openoutcry status` shows what its journal says"
        )


@dataclass
class Look:
    """What is known of a bus at one moment.

    Attributes:
        path: Its journal or control socket.
        shape: What rarely changes.
        pulse: The newest pulse.
        before: That of the look before.
        times: Recent times by subscription: of what has moved since the look before.
        silent: Why the bus does not answer at the moment; empty if it does.

    """

    path: Path
    shape: Shape
    pulse: Pulse
    before: Pulse | None
    silent: str = ""
    times: dict[str, tuple[Histogram, Histogram]] = field(default_factory=dict)

    def lines(self, width: int | None) -> list[str]:
        """Return the look as lines of at most this width, if one is given."""
        rows = self._facts()
        widest = max(len(name) for name, _ in rows)
        head = [str(self.path), *(f"  {name:<{widest}}  {value}" for name, value in rows)]
        return [*map(printable, head), "", *grid(self._rows(), width)]

    @property
    def health(self) -> str:
        """The worst that is wrong in one word; `healthy` if nothing is."""
        found = wrong(self.shape, self.pulse, self.before)
        return found[0].severity if found else "healthy"

    def _facts(self) -> list[tuple[str, str]]:
        pulse, journal = self.pulse, self.pulse.journal
        room = f"{pulse.queue:,} of {pulse.capacity:,} ({pulse.level})"
        found = wrong(self.shape, pulse, self.before)
        more = f" ({len(found) - WRONG_SHOWN:,} more)" if len(found) > WRONG_SHOWN else ""
        health = f"{found[0].severity}: {len(found):,} wrong{more}" if found else "healthy: nothing is wrong"
        rows = [
            ("bus", f"{pulse.state}{f': {self.silent}' if self.silent else ''}"),
            ("health", health),
            *(("", one.sentence) for one in found[:WRONG_SHOWN]),
            ("queue", f"{room}, {sum(pulse.refused.values()):,} refused"),
            ("published", f"{pulse.published:,}"),
            ("dead letters", by_name(self._dead())),
            ("rounds", f"{pulse.rounds_open:,} open, {self._ended()}"),
        ]
        if journal is not None:
            state = f"dead: {journal.dead}" if journal.dead else f"head {journal.head:,}"
            rows.append(("journal", f"{state}, {journal.waiting:,} wait for their commit"))
        return rows

    def _dead(self) -> dict[str, int]:
        names = self.shape.subscriptions
        own = {names[row.index].name: row.dead for row in self.pulse.rows if row.dead}
        return {**own, **{f"{name} (not subscribed)": n for name, n in self.pulse.dead_elsewhere.items()}}

    def _ended(self) -> str:
        ended = self.pulse.rounds_released
        return ", ".join(f"{count:,} {status}" for status, count in sorted(ended.items())) or "none ended"

    def _rows(self) -> list[tuple[str, ...]]:
        """Return a row per subscription, those with the largest lag and rate first."""
        per_s = rates(self.before, self.pulse, self.shape)
        return [self._row(name, row, per_s[name]) for name, row in self.ordered(per_s)]

    def ordered(self, per_s: dict[str, Rates]) -> list[tuple[str, SubRow]]:
        """Return the names and rows of the subscriptions, the busiest first."""
        names = self.shape.subscriptions
        rows = [(names[row.index].name, row) for row in self.pulse.rows]
        return sorted(rows, key=lambda item: (-item[1].lag, -per_s[item[0]].handled, item[0]))

    def _row(self, name: str, row: SubRow, its: Rates) -> tuple[str, ...]:
        waits, calls = self.times.get(name, (None, None))
        return (
            printable(name),
            row.state,
            f"{row.lag:,}",
            rate(its.accepted),
            rate(its.handled),
            *(_percentile(times, at) for times in (waits, calls) for at in (0.5, 0.99)),
            f"{row.errors:,}",
            f"{row.retries:,}",
            f"{row.dead:,}",
        )


def _percentile(times: Histogram | None, at: float) -> str:
    found = None if times is None else percentile_ns(times, at)
    return span(None if found is None else found / NS_PER_US)


class _Times:
    """Recent times: what was counted between two looks, or since the start at the first."""

    def __init__(self) -> None:
        self._known: dict[str, Buckets] = {}
        self._moved: dict[str, int] = {}
        self._said: dict[str, tuple[Histogram, Histogram]] = {}

    async def of(self, watcher: Watcher, look: Look) -> dict[str, tuple[Histogram, Histogram]]:
        """Return the times of the subscriptions that have moved, and what was known of the others."""
        moved = {
            name: row.handled + row.errors for name, row in look.ordered(rates(None, look.pulse, look.shape))
        }
        names = [name for name, done in moved.items() if done != self._moved.get(name, 0)][:ASKED_MOST]
        try:
            found = await watcher.buckets(names)
        except ConnectionError:
            return self._said
        for name, now in found.items():
            old = self._known.get(name)
            self._said[name] = (
                since(now.latency, None if old is None else old.latency),
                since(now.duration, None if old is None else old.duration),
            )
            self._moved[name] = moved[name]
        self._known.update(found)
        return self._said


def _follow(path: Path, every_s: float, count: int | None, show: Callable[[Look], Any]) -> None:
    """Show look after look, until there are enough or no bus answers any more."""
    with plainly(path):
        asyncio.run(_looks(path, every_s, count, show))


async def _looks(path: Path, every_s: float, count: int | None, show: Callable[[Look], Any]) -> None:
    times, before, session, shown = _Times(), None, "", 0
    async with Watcher(path, every_s=min(every_s, FIRST_S)) as watcher:
        await _first(watcher)
        while shown != count and watcher.live in ("up", "silent"):
            shape, pulse = watcher.shape, watcher.pulse
            assert shape is not None
            assert pulse is not None
            if pulse.session != session:
                times, before, session = _Times(), watcher.before, pulse.session
            look = Look(path, shape, pulse, before, watcher.why)
            look.times = await times.of(watcher, look)
            show(look)
            before = pulse if before is None or pulse.number != before.number else before
            shown += 1
            if shown != count:
                await asyncio.sleep(every_s)


async def _first(watcher: Watcher) -> None:
    """Wait for two pulses. Raises what keeps them from coming."""
    try:
        async with asyncio.timeout(ANSWER_S):
            seen = 0
            while watcher.before is None:
                seen = await watcher.changed(seen)
                if watcher.live in ("never", "gone"):
                    must_exist(real_path(watcher.path))
                    raise _NoBus(watcher.path)
    except TimeoutError:
        raise Mistake(
            f"TimeoutError: the bus at {watcher.path} did not answer within {ANSWER_S:g} s: {watcher.why}"
        ) from None


def _watch_richly(path: Path, every_s: float, count: int | None) -> None:
    from rich.live import Live
    from rich.text import Text

    with Live(auto_refresh=False, screen=False) as live:

        def show(look: Look) -> None:
            text = Text("\n".join(look.lines(live.console.width)))
            colour = {"healthy": "green", "warn": "yellow"}.get(look.health, "bold red")
            text.highlight_words([f"{look.health}:"], colour)
            live.update(text, refresh=True)

        _follow(path, every_s, count, show)
