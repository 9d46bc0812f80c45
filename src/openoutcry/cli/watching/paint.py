"""Lines of text in a few styles: colour says how bad something is, and no more."""

import os
import sys
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from openoutcry.cells import cropped, width_of
from openoutcry.printable import printable

Style = Literal["", "dim", "bold", "warn", "bad", "critical"]
_CODES: Final = {"dim": "2", "bold": "1", "warn": "33", "bad": "31", "critical": "1;37;41"}


class Span(NamedTuple):
    """A piece of a line, safe to show."""

    text: str
    style: Style = ""


class Line(tuple[Span, ...]):
    """A line of a terminal."""

    __slots__ = ()

    @property
    def text(self) -> str:
        """The line without its styles."""
        return "".join(span.text for span in self).rstrip()

    def cropped(self, width: int | None) -> "Line":
        """Return the line in at most so many columns."""
        if width is None or width_of(self.text) <= width:
            return self
        left, spans = width, []
        for span in self:
            text = cropped(span.text, left)
            spans.append(Span(text, span.style))
            left -= width_of(text)
            if text != span.text or left <= 0:
                break
        return Line(spans)

    def painted(self) -> str:
        """Return the line with the escape sequences of its styles."""
        return "".join(
            f"\x1b[{_CODES[span.style]}m{span.text}\x1b[0m" if span.style and span.text else span.text
            for span in self
        ).rstrip()


def line(*parts: str | tuple[str, Style]) -> Line:
    """Make a line of text, plain or with a style, which is made safe to show."""
    spans = (Span(part) if isinstance(part, str) else Span(*part) for part in parts)
    return Line(Span(printable(span.text), span.style) for span in spans)


def written(lines: Iterable[Line], *, colour: bool) -> list[str]:
    """Return lines as they are written."""
    return [one.painted() if colour else one.text for one in lines]


def has_colour() -> bool:
    """Return True if standard output is a terminal that takes colours, and they are not forbidden."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
