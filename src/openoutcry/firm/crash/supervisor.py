"""The supervisor: starts the firm, kills it as planned, and starts it again, until its last day is over."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from openoutcry.firm.brokerage import BrokerLine
from openoutcry.firm.crash.autopsy import InFlight, in_flight
from openoutcry.firm.crash.plan import ANYWHEN, PLACES, WAKING, Kill
from openoutcry.firm.crash.processes import FirmProcess, broker, firm
from openoutcry.firm.crash.words import Life, Word


@dataclass(frozen=True, slots=True)
class Death:
    """One death of the firm.

    Attributes:
        number: Counted from 1.
        kill: What was planned.
        what: What happened at the place, in words; empty for a kill by the clock.
        last: The last line of the firm about its day.
        orders: The orders that were in flight.

    """

    number: int
    kill: Kill
    what: str
    last: Word
    orders: InFlight

    @property
    def how(self) -> str:
        """Where it happened, in words."""
        where = PLACES[self.kill.place]
        return f"{where}: {self.what}" if self.what else where


class Audience(Protocol):
    """Watches a run."""

    def day(self, word: Word) -> None:
        """A day begins."""
        ...

    def died(self, death: Death) -> None:
        """The firm was killed."""
        ...

    def back(self, word: Word) -> None:
        """The firm has restored its state."""
        ...


@dataclass(slots=True)
class Run:
    """One firm's run from the first day to the last, with its deaths.

    Attributes:
        folder: Where its files are.
        deaths: How it died, in order.
        returns: Its line each time that it had restored its state, not counting the first start.
        duplicates: Events that the journal already had and did not take again, over all lives.
        last: The last line of the last life.

    """

    folder: Path
    deaths: list[Death] = field(default_factory=list)
    returns: list[Word] = field(default_factory=list)
    duplicates: int = 0
    last: Word = field(default_factory=lambda: Word(at="born"))

    @property
    def journal(self) -> Path:
        """The firm's journal."""
        return self.folder / "firm.db"

    @property
    def account(self) -> Path:
        """The firm's books at the end."""
        return self.folder / "account.json"

    @property
    def broker_file(self) -> Path:
        """The broker's books."""
        return self.folder / "broker.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The terms of a run: see `words.Life`."""

    symbols: tuple[str, ...]
    agents: int
    days: int
    days_per_s: float = 0.0


async def run_firm(run: Run, terms: Terms, kills: Sequence[Kill], audience: Audience) -> None:
    """Run a firm from its first day to its last, and kill it as planned. The broker is never killed.

    A kill whose place the firm does not reach before its last day is over does not happen. Raises `Failed`.
    """
    async with broker(run.broker_file) as socket:
        for kill in (*kills, None):
            life = Life(
                journal=str(run.journal),
                socket=str(socket),
                account=str(run.account),
                symbols=terms.symbols,
                agents=terms.agents,
                days=terms.days,
                place=kill.place if kill is not None and not kill.by_the_clock else "",
                day=kill.day if kill is not None else 0,
                nth=kill.nth if kill is not None else 1,
                days_per_s=terms.days_per_s,
            )
            async with firm(life) as process:
                place = await _Watching(run, kill, process, audience).to_the_end()
                killed = await process.ended()
            run.duplicates += run.last.duplicates
            if not killed or kill is None:
                return
            async with await BrokerLine.connect(socket) as line:
                orders = await in_flight(run.journal, line)
            death = Death(len(run.deaths) + 1, kill, place, run.last, orders)
            run.deaths.append(death)
            audience.died(death)


class _Watching:
    """Watches one life of the firm, and ends it."""

    def __init__(self, run: Run, kill: Kill | None, process: FirmProcess[Word], audience: Audience) -> None:
        self._run, self._kill, self._process, self._audience = run, kill, process, audience
        self._place = ""

    async def to_the_end(self) -> str:
        """Read its lines to the end, and return what happened at the place of its death."""
        while (word := await self._process.next_word()) is not None:
            self._hear(word)
        return self._place

    def _hear(self, word: Word) -> None:
        run, kill = self._run, self._kill
        if word.at == "place":
            run.last, self._place = word, word.what
            self._process.kill()
        elif word.at == "born":
            if kill is not None and kill.place == WAKING:
                self._kill_soon(kill)
        else:
            run.last = word
            if word.at == "back" and run.deaths:
                run.returns.append(word)
                self._audience.back(word)
            elif word.at == "day":
                self._audience.day(word)
                if kill is not None and kill.place == ANYWHEN and word.number == kill.day:
                    self._kill_soon(kill)

    def _kill_soon(self, kill: Kill) -> None:
        asyncio.get_running_loop().call_later(kill.delay_ms / 1000, self._process.kill)
