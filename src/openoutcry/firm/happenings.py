"""The firm's own event classes, beside those of `openoutcry.trading`."""

from datetime import date

from openoutcry.events import Event


class SessionOpened(Event, kw_only=True):
    """A trading day begins. Agents that keep books close the day before."""

    event_type: str = "session_opened"
    day: str
    """ISO 8601."""
    number: int
    """Counted from 0 over the run."""
    symbols: tuple[str, ...]
    """Those that trade today."""

    @property
    def date(self) -> date:
        """The day as a date."""
        return date.fromisoformat(self.day)


class Abstained(Event, kw_only=True):
    """A strategy has answered the round `round_id` without an opinion: a journaled abstention."""

    event_type: str = "abstained"
    reason: str = ""


class MarketClosed(Event, kw_only=True):
    """The last trading day is over: no order will be filled any more."""

    event_type: str = "market_closed"


OPENING = "open"
"""The `interval` of an opening print: one price, at which orders of the evening before are filled."""
DAILY = "1d"
"""The `interval` of a daily bar, published after the close."""


def round_name(symbol: str, day: str) -> str:
    """Return the id of the round on a symbol after the close of a day."""
    return f"{symbol}@{day}"
