"""Shows the run of the desks live: a timeline, the desks and the node below it; or plain lines."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from openoutcry.firm.crash.stage import PlainStage, RichStage, Stage, has_rich
from openoutcry.firm.crash.supervisor import Death
from openoutcry.firm.crash.words import Word
from openoutcry.firm.desks.supervisor import DeskAudience, DeskDeath
from openoutcry.firm.desks.words import DESKS, NODE

if TYPE_CHECKING:
    from rich.text import Text


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
        super().died(death)
        self._is_dead = not all(self._is_up.values())

    def back(self, word: Word) -> None:
        """Show that the desk that was killed last is back."""
        self._note_back(word)
        self._show()

    def _comes_back(self, death: Death) -> bool:
        return not (isinstance(death, DeskDeath) and death.who == NODE)

    def _status(self) -> "Sequence[Text]":
        from rich.text import Text  # noqa: PLC0415 - rich is optional

        lines = [Text(f"  {self._gist()}", "dim")]
        people = {desk: duties.people for desk, duties in DESKS.items()} | {NODE: "the nats-server"}
        for who in people if self._is_up else ():
            up = self._is_up.get(who)
            lamp = ("○ ", "dim") if up is None else ("● ", "green") if up else ("✕ ", "bold red")
            made = (f"{self._made.get(who, 0):>9,} events" if up and who != NODE else "", "dim")
            if up is False:
                made = ("   killed", "red")
            lines.append(
                Text.assemble("  ", lamp, (f"{who:<8}", "bold"), (f"{people[who]:<40}", "dim"), made)
            )
        return lines
