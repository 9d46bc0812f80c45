"""The market for a firm that may die: events have fixed ids, each step of a day is saved before the next."""

from collections.abc import Iterable, Sequence
from typing import Any

from openoutcry.errors import OpenOutcryError
from openoutcry.events import Event
from openoutcry.firm.agents import MarketDataAgent
from openoutcry.firm.agents.market import CLOSES, OPENS, label
from openoutcry.firm.bars import Session
from openoutcry.firm.happenings import MarketClosed, SessionOpened
from openoutcry.trading import MarketDataEvent


class NoRoom(OpenOutcryError):
    """The bus refused part of a step of the market's day."""


class DurableMarket(MarketDataAgent):
    """Plays a day in three steps: the opening, the opening prints, the bars.

    An event's id says what it is about (`bar:2000-03-01:AAPL`), so that playing a day again publishes nothing
    twice: a day is resumed by playing it again from its beginning, and the journal tells which day that is.
    A step is one commit, so nothing that follows from a bar is written before all bars of its day. When all
    that follows from a step is settled, all cursors are saved, so that after a crash at most one step is in
    doubt.
    """

    def resume(self) -> int:
        """Take the market's time from the journal, and return the number of the day to play next, from 0."""
        last = self.bus.get_event_history([SessionOpened, MarketDataEvent, MarketClosed], limit=1)
        self.label_ns = last[0].timestamp_ns if last else 0
        opened = self.bus.get_event_history(SessionOpened, limit=1)
        return opened[0].number if opened else 0

    async def play(self, number: int, session: Session) -> None:
        """Run one trading day to its end."""
        self._pass_time(session, OPENS)
        await self.step([self.opening(number, session)])
        await self.step(list(self.prints(session)))
        self._pass_time(session, CLOSES)
        await self.step(list(self.bars(session)))

    async def close(self) -> None:
        """Publish that the last day is over."""
        await self.step([MarketClosed(event_id="closed", source_agent=self.name)])

    async def step(self, events: Sequence[Event]) -> None:
        """Publish in one commit, wait until all that follows is settled, and save all cursors."""
        accepted = await self.bus.publish_many(events)
        if accepted != len(events):
            raise NoRoom(f"{accepted} of {len(events)} events were accepted; raise max_queue_size")
        self._tell(events)
        await self.bus.join()
        await self.bus.flush()

    def named(self, kind: str, session: Session, symbol: str = "") -> dict[str, Any]:
        """Pass the id that an event has in every life."""
        return {"event_id": ":".join(filter(None, (kind, session.day.isoformat(), symbol)))}

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            self.on_said(event)

    def _pass_time(self, session: Session, at: Any) -> None:
        """Move on to a later time, never back: a day that is played again has been there before."""
        self.label_ns = max(self.label_ns, label(session, at))
