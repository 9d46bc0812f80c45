"""Two journals of a day: as it was, and as it would have been. Run as a program: FOLDER [COUNT]."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from openoutcry import DecisionEvent, FillEvent, MarketDataEvent, ValidatedDecisionEvent
from openoutcry.events import encode
from openoutcry.journals import SqliteJournal
from openoutcry.ports import Entry

START_NS = 1_764_000_000_000_000_000
HOSTILE = "<img src=x onerror=\"document.title='owned'\">\u202e\x1b[2J"
LONG = "a-strategy-with-a-name-that-is-much-longer-than-any-column-" * 3


def decision(number: int, **more: Any) -> DecisionEvent:
    said = {"symbol": "AAPL", "action": "buy", "quantity": 100, "source_agent": "cio", **more}
    return DecisionEvent(event_id=f"d-{number}", **said)


def ticks(count: int) -> list[MarketDataEvent]:
    return [MarketDataEvent(event_id=f"t-{n}", symbol="AAPL", price=100.0 + n) for n in range(count)]


def written(path: Path, events: Iterable[Any], start_ns: int = START_NS) -> Path:
    """Write a journal whose events came a millisecond apart, a thousand at a time."""
    entries = [
        Entry(event.event_id, encode(event), wall_ns=start_ns + number * 1_000_000)
        for number, event in enumerate(events)
    ]
    with SqliteJournal(path) as journal:
        for first in range(0, len(entries), 1000):
            journal.write(entries[first : first + 1000])
        journal.sync()
    return path


def the_day() -> list[Any]:
    return [
        *ticks(3),
        decision(1),
        decision(2, symbol="MSFT", conviction_score=0.4, contributing_signals=("s-1", "s-2")),
        decision(3),
        decision(4, symbol="MSFT"),
        decision(5, round_id="AAPL@5"),
        decision(6, rationale="calm"),
        FillEvent(event_id="f-1", order_id="o", symbol="AAPL", side="buy", filled_quantity=9, fill_price=2),
        ValidatedDecisionEvent(
            event_id="v-1", original_decision_id="d-1", symbol="AAPL", approved=True, adjusted_quantity=90
        ),
    ]


def the_other_day() -> list[Any]:
    return [
        *ticks(3),
        decision(1),
        decision(2, symbol="MSFT", quantity=60, conviction_score=0.3, contributing_signals=("s-2",)),
        decision(3, action="sell"),
        decision(7, symbol=HOSTILE, source_agent=HOSTILE, rationale=HOSTILE),
        decision(50, round_id="AAPL@5", quantity=70),
        decision(6, rationale=f"{LONG}{HOSTILE}"),
        FillEvent(event_id="f-1", order_id="o", symbol="AAPL", side="buy", filled_quantity=9, fill_price=3),
        ValidatedDecisionEvent(
            event_id="v-1",
            original_decision_id="d-1",
            symbol="AAPL",
            approved=False,
            rejection_reason="too much",
        ),
    ]


def two_days(folder: Path) -> tuple[Path, Path]:
    return written(folder / "day.db", the_day()), written(folder / "again.db", the_other_day())


def many(folder: Path, count: int) -> tuple[Path, Path]:
    """Write two days of so many decisions, all of which differ."""
    first = [decision(n, symbol=f"S{n % 7}") for n in range(count)]
    second = [decision(n, symbol=f"S{n % 7}", quantity=60) for n in range(count)]
    return written(folder / "day.db", first), written(folder / "again.db", second)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    if len(sys.argv) > 2:
        many(folder, int(sys.argv[2]))
    else:
        two_days(folder)
