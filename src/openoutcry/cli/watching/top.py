"""`openoutcry top`: a running bus live, from its pulse."""

import asyncio
import sys
from contextlib import ExitStack, aclosing
from pathlib import Path
from signal import Signals

import click

from openoutcry.cli.asking import NO_BUS, firm
from openoutcry.cli.console import print_lines, say, terminal_size
from openoutcry.cli.journal.access import plainly
from openoutcry.cli.mistakes import BY_SIGNAL
from openoutcry.cli.watching.look import Look, looks
from openoutcry.cli.watching.paint import has_colour, written
from openoutcry.cli.watching.screen import Screen
from openoutcry.cli.watching.view import view


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
    """Watch a running bus live.

    What is wrong comes first, then rounds, then the subscriptions, the worst and busiest first. Exits on q or
    Ctrl-C, or with 3 if no bus runs any more.
    """
    with plainly(path):
        if sys.stdout.isatty():
            drawing = _Drawing(path, every_s, count)
            is_over = asyncio.run(drawing.run())
            if drawing.ended_by is not None:
                raise click.exceptions.Exit(BY_SIGNAL + drawing.ended_by)
            if is_over and count is not None:
                print_lines(drawing.lines())
        else:
            is_over = asyncio.run(_print(path, every_s, count))
    if is_over and count is None:
        say(f"no bus listens beside {path}", err=True)
        raise click.exceptions.Exit(NO_BUS)


async def _print(path: Path, every_s: float, count: int | None) -> bool:
    """Print one look after the other, whole."""
    shown = 0
    seen: set[str] = set()
    async with aclosing(looks(path, every_s)) as found:
        async for look in found:
            print_lines([*written(view(look, seen=seen), colour=False), ""])
            shown += 1
            if shown == count:
                break
    return True


class _Drawing:
    """Draws looks in place, until there were enough, the bus is gone, or somebody ends it.

    Attributes:
        ended_by: The signal that ended it, if one did.

    """

    def __init__(self, path: Path, every_s: float, count: int | None) -> None:
        self.ended_by: Signals | None = None
        self._path = path
        self._every_s = every_s
        self._count = count
        self._seen: set[str] = set()
        self._look: Look | None = None
        self._is_ended = False
        self._task: asyncio.Task[None] | None = None
        self._screen = Screen(self._draw, self._end)

    async def run(self) -> bool:
        """Draw, and return False if somebody ended it."""
        self._task = asyncio.get_running_loop().create_task(self._draw_all(), name="openoutcry:top")
        try:
            await self._task
        except asyncio.CancelledError:
            if not self._is_ended:
                raise
        return not self._is_ended

    def lines(self) -> list[str]:
        """Return the last look, as it was drawn."""
        width, height = terminal_size()
        assert self._look is not None
        lines = view(self._look, width, height, cut=True, seen=self._seen)
        return written(lines, colour=has_colour())

    async def _draw_all(self) -> None:
        shown = 0
        async with aclosing(looks(self._path, self._every_s)) as found:
            with ExitStack() as stack:
                async for look in found:
                    if self._look is None:
                        stack.enter_context(self._screen.entered())
                    self._look = look
                    self._draw()
                    shown += 1
                    if shown == self._count:
                        return

    def _draw(self) -> None:
        self._screen.draw(self.lines())

    def _end(self, by: Signals | None) -> None:
        assert self._task is not None
        self._is_ended, self.ended_by = True, by
        self._task.cancel()
