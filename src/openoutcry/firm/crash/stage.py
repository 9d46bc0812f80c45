"""Shows the run live: a timeline in which the firm dies and comes back, or plain lines."""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import click

from openoutcry.firm.crash.supervisor import Audience, Death
from openoutcry.firm.crash.words import Word
from openoutcry.firm.money import in_words

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.text import Text

BAR_WIDTH = 64
PLAIN_LINES = 5


class Stage(Audience, Protocol):
    """An audience that also shows which run begins; a context manager around all runs."""

    def begins(self, title: str) -> None:
        """Begin with a run."""
        ...

    def ends(self, closing: str) -> None:
        """Close a run with a line."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def stage_for(days: int, *, plain: bool) -> Stage:
    """Choose the display: rich if it is installed and standard output is a terminal, else plain."""
    return RichStage(days) if has_rich(plain=plain) else PlainStage(days)


def has_rich(*, plain: bool) -> bool:
    """Return True if a live display is wanted and can be shown."""
    return not plain and sys.stdout.isatty() and importlib.util.find_spec("rich") is not None


def death_in_words(death: Death) -> str:
    """Return how it died, in words."""
    return f"KILLED {death.how}"


def memory_in_words(word: Word) -> str:
    """Return what it took to come back, in words."""
    begins = f"{word.loaded:,} events in saved states" if word.loaded else "no saved state yet"
    return (
        f"back after {word.took_s:.2f} s: {begins}, {word.remembered:,} remembered on top, "
        f"{word.recovered:,} handed out again"
    )


class PlainStage:
    """A line for every death and return, and a few in between."""

    def __init__(self, days: int, echo: Callable[[str], None] = click.echo) -> None:
        self._days = days
        self._echo = echo
        self._next = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing: there is nothing to clean up."""

    def begins(self, title: str) -> None:
        """Print the title."""
        self._next = 0
        self._echo(f"\n{title}")

    def ends(self, closing: str) -> None:
        """Print the closing line."""
        self._echo(f"  {closing}")

    def day(self, word: Word) -> None:
        """Print a line now and then."""
        if word.number >= self._next:
            self._next = word.number + max(1, self._days // PLAIN_LINES)
            self._echo(f"  {self._at(word)}  trading, {in_words(word.equity)}, {word.fills:,} fills")

    def died(self, death: Death) -> None:
        """Print how it died."""
        self._echo(f"  {self._at(death.last)}  {death_in_words(death)}")
        if death.orders.count:
            self._echo(f"  {'':24}  orders in flight: {death.orders.in_words}")

    def back(self, word: Word) -> None:
        """Print that it is back."""
        self._echo(f"  {self._at(word)}  {memory_in_words(word)}")

    def _at(self, word: Word) -> str:
        return f"{word.date or '----------'}  day {word.number + 1:>5,}   "


class RichStage:
    """A bar from the first day to the last with a cross at each death, and a line on each death."""

    def __init__(self, days: int) -> None:
        self._days = days
        self._live: Live | None = None
        self._title = ""
        self._closed: list[tuple[str, str]] = []
        self._deaths: list[tuple[Death, Word | None]] = []
        self._word = Word(at="born")
        self._is_dead = self._is_over = False

    def __enter__(self) -> Self:
        from rich.live import Live  # noqa: PLC0415 - rich is optional

        self._live = Live(auto_refresh=False)
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._live is not None
        self._is_over = True
        self._show()
        self._live.stop()

    def begins(self, title: str) -> None:
        """Begin with a run."""
        self._title, self._word = title, Word(at="born")
        self._show()

    def ends(self, closing: str) -> None:
        """Close a run with a line."""
        self._closed.append((self._title, closing))
        self._title = ""
        self._show()

    def day(self, word: Word) -> None:
        """Extend the bar, if that can be seen."""
        before, self._word = self._word, word
        if before.at != "day" or self._cell(before) != self._cell(word) or word.number % 8 == 0:
            self._show()

    def died(self, death: Death) -> None:
        """Draw a cross on the bar."""
        self._deaths.append((death, None))
        self._is_dead = True
        self._show()

    def back(self, word: Word) -> None:
        """Show that it is back."""
        self._note_back(word)
        self._word, self._is_dead = word, False
        self._show()

    def _note_back(self, word: Word) -> None:
        """Note by the newest death that something comes back after."""
        for place in reversed(range(len(self._deaths))):
            death, has = self._deaths[place]
            if has is None and self._comes_back(death):
                self._deaths[place] = (death, word)
                break

    def _comes_back(self, death: Death) -> bool:  # noqa: ARG002 - where something else than a process dies
        return True

    def _show(self) -> None:
        assert self._live is not None
        self._live.update(self._draw(), refresh=True)

    def _cell(self, word: Word) -> int:
        return min(BAR_WIDTH - 1, word.number * BAR_WIDTH // self._days)

    def _draw(self) -> "RenderableType":
        from rich.console import Group  # noqa: PLC0415 - rich is optional
        from rich.text import Text  # noqa: PLC0415

        parts: list[RenderableType] = []
        for title, closing in self._closed:
            parts.append(Text.assemble(("✓ ", "green"), title, ("  " + closing, "dim")))
        if self._title:
            parts.append(Text.assemble(("● ", "red" if self._is_dead else "green"), self._title))
            parts.append(self._bar())
            parts += self._status()
        return Group(*parts, self._story(self._height() - len(parts)))

    def _height(self) -> int:
        """Return how many lines can be seen at once; when all is over, all can be read."""
        return self._live.console.height if self._live is not None and not self._is_over else 1_000

    def _bar(self) -> "Text":
        from rich.text import Text  # noqa: PLC0415

        here = self._cell(self._word)
        crosses = {self._cell(death.last) for death, _ in self._deaths}
        bar = Text("  ")
        for cell in range(BAR_WIDTH):
            if cell in crosses:
                bar.append("✕", "bold red")
            elif cell < here:
                bar.append("━", "green")
            elif cell == here:
                bar.append("╸", "red" if self._is_dead else "bold green")
            else:
                bar.append("─", "dim")
        return bar

    def _status(self) -> "Sequence[Text]":
        from rich.text import Text  # noqa: PLC0415

        word = self._word
        if self._is_dead:
            return (Text.assemble("  ", (f"{word.date or 'not yet awake'}  dead", "red")),)
        return (Text(f"  {self._gist()}", "dim"),)

    def _gist(self) -> str:
        word = self._word
        return f"{word.date}  {in_words(word.equity)}  {word.fills:,} fills" if word.date else "starting"

    def _story(self, room: int) -> "RenderableType":
        """Return what is to be told of the deaths, the newest that have room on the screen."""
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        rows: list[tuple[str, Text]] = []
        for number, (death, word) in reversed(list(enumerate(self._deaths))):
            told = [(f"  ✕ {death.last.date}", Text(death.how))]
            if death.orders.count:
                told.append(("", Text(f"in flight: {death.orders.in_words}")))
            if word is not None:
                told.append(("", Text(memory_in_words(word), "dim")))
            if len(rows) + len(told) + bool(number) > room:
                rows.insert(0, (f"  ✕ {number + 1} before", Text()))
                break
            rows[:0] = told
        story = Table.grid(padding=(0, 0, 0, 2))
        story.add_column(style="red", width=14, no_wrap=True)
        story.add_column(no_wrap=not self._is_over, overflow="fold" if self._is_over else "ellipsis")
        for row in rows:
            story.add_row(*row)
        return story
