"""Shows the run of the desks live: a timeline, the desks and the node below it; or plain lines."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from openoutcry.firm.crash.stage import PlainStage, RichStage, Stage, has_rich, memory_in_words
from openoutcry.firm.crash.supervisor import Death
from openoutcry.firm.crash.words import Word
from openoutcry.firm.desks.supervisor import DeskAudience, DeskDeath
from openoutcry.firm.desks.words import DESKS, NODE

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

SHOWN_MOST: Final = 8
"""So many deaths are shown at once, the newest."""


class DeskStage(Stage, DeskAudience, Protocol):
    """A stage that shows desks."""


def desk_stage_for(days: int, *, plain: bool) -> DeskStage:
    """Choose the display: rich if it is installed and standard output is a terminal, else plain."""
    return RichDesks(days) if has_rich(plain=plain) else PlainDesks(days)


class PlainDesks(PlainStage):
    """A line for every death and return, and a few in between."""

    def desk_is(self, who: str, *, up: bool, made: int) -> None:
        """Print nothing: the deaths and returns are printed."""


class RichDesks(RichStage):
    """A bar from the first day to the last, a lamp for each desk and the node, and a line on each death."""

    def __init__(self, days: int) -> None:
        super().__init__(days)
        self._made: dict[str, int] = {}
        self._is_up: dict[str, bool] = {}
        self._told: list[tuple[Death, Word | None]] = []

    def begins(self, title: str) -> None:
        """Begin with a run: no desk is there yet."""
        self._is_up.clear()
        super().begins(title)

    def desk_is(self, who: str, *, up: bool, made: int) -> None:
        """Switch a lamp on or off."""
        changed = self._is_up.get(who) is not up
        self._is_up[who] = up
        self._made[who] = max(made, self._made.get(who, 0))
        self._is_dead = not all(self._is_up.values())
        if changed:
            self._show()

    def died(self, death: Death) -> None:
        """Draw a cross on the bar."""
        self._told.append((death, None))
        super().died(death)
        self._is_dead = not all(self._is_up.values())

    def back(self, word: Word) -> None:
        """Show that the desk that was killed last is back."""
        for place in reversed(range(len(self._told))):
            death, has = self._told[place]
            if has is None and not (isinstance(death, DeskDeath) and death.who == NODE):
                self._told[place] = (death, word)
                break
        self._show()

    def _status(self) -> "Text":
        from rich.text import Text  # noqa: PLC0415 - rich is optional

        status = Text.assemble(super()._status())
        people = {desk: duties.people for desk, duties in DESKS.items()} | {NODE: "nats-server, the log"}
        for who, up in self._is_up.items():
            lamp = ("● ", "green") if up else ("✕ ", "bold red")
            made = f"{self._made[who]:>9,} events" if self._made[who] else ""
            status.append("\n  ")
            status.append_text(
                Text.assemble(lamp, (f"{who:<8}", "bold"), (f"{people[who]:<40}{made}", "dim"))
            )
        return status

    def _story(self) -> "Sequence[RenderableType]":
        from rich.text import Text  # noqa: PLC0415

        lines: list[RenderableType] = []
        for death, word in self._told[-SHOWN_MOST:]:
            lines.append(Text.assemble((f"  ✕ {death.last.date or '          '}  ", "red"), death.how))
            if death.orders.count:
                lines.append(Text(f"      in flight: {death.orders.in_words}", "yellow"))
            if word is not None:
                lines.append(Text(f"      {memory_in_words(word)}", "dim"))
        return lines
