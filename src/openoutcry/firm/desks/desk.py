"""One life of a desk: its part of the firm's agents, on a bus that a link joins to the other desks' buses."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

import msgspec

from openoutcry.config import Link
from openoutcry.events import Event
from openoutcry.firm.agents import Agent
from openoutcry.firm.brokerage import BrokerLine
from openoutcry.firm.crash.firm import Hold, RestartableFirm, Tell
from openoutcry.firm.crash.market import DurableMarket
from openoutcry.firm.desks.words import DESK, DESKS, FLOOR, STREET, DeskLife, DeskWord, Far, Request
from openoutcry.firm.happenings import MarketClosed, SessionOpened
from openoutcry.trading import MarketDataEvent

FIRM = "demo"
NEVER_S = 86_400.0
"""No slow machine is to cut a desk off: its alert would be an event that the firm in one process has not."""


class PacedMarket(DurableMarket):
    """The market of a firm of several desks: a step of the day is over when every desk has settled it.

    A replay of history has to wait for that: the street's fills must be in the books of the floor before its
    agents see the next bar. A live market waits for nobody.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on_step: Callable[[], None] = lambda: None
        self._may_go_on = asyncio.Event()

    def go_on(self) -> None:
        """Every desk has settled the step."""
        self._may_go_on.set()

    async def step(self, events: Sequence[Event]) -> None:
        """Publish in one commit, and wait until all that follows is settled at every desk."""
        self._may_go_on.clear()
        await super().step(events)
        self.on_step()
        await self._may_go_on.wait()


class LinkedDesk(RestartableFirm):
    """One desk of the firm, killed or not."""

    life: DeskLife

    def __init__(self, life: DeskLife, line: BrokerLine | None, tell: Tell, hold: Hold) -> None:
        duties = DESKS[life.desk]
        link = Link(
            firm=FIRM,
            desk=life.desk,
            servers=life.servers,
            exports=duties.exports,
            imports=duties.imports,
            link_lost_s=NEVER_S,
            lease_s=0,  # one host: the lock on the journal's file tells that the holder before is dead
        )
        super().__init__(life, line, tell, hold, link)
        staff = self.staff
        staff.market = market = PacedMarket()
        market.on_step = lambda: self.say("step")
        self.market = market
        at_work: dict[str, tuple[Agent, ...]] = {
            FLOOR: (market, staff.cio, *staff.strategies),
            DESK: (staff.risk, staff.compliance, staff.execution, staff.portfolio),
            STREET: (staff.gateway,),
        }
        self.agents = at_work[life.desk]
        self._is_over = asyncio.Event()

    def attach(self) -> None:
        """Put the desk's agents on the bus; the market tells the time at every desk."""
        super().attach()
        self.market.bus = self.bus
        for agent in self.agents:
            agent.on_heard = self._hear_time

    def _hear_time(self, event: Event) -> None:
        """Take the market's time from what the market says."""
        if isinstance(event, SessionOpened | MarketDataEvent | MarketClosed):
            self.market.label_ns = max(self.market.label_ns, event.timestamp_ns)
        if isinstance(event, SessionOpened):
            self.watch.day = event.number
            self.begin_day(event.number, event.day)

    async def work(self, number: int) -> None:
        """Do the desk's part until the last day is over."""
        if self.life.desk == FLOOR:
            await self.trade(number)
        else:
            for opened in self.bus.get_event_history(SessionOpened, limit=1):
                self.begin_day(opened.number, opened.day)
            self.say("back", took_s=monotonic() - self.born_s)
            await self._is_over.wait()
        if self.life.desk == DESK:
            await self.write_account()
        self.say("done")

    async def do(self, request: Request) -> None:
        """Do what the process was asked to do."""
        match request.what:
            case "count":
                await self.bus.join()
                await self.bus.flush()
                self.tell(self._count(request.number))
            case "go on":
                self.market.go_on()
            case "wait":
                self.watch.wait_for(request.place, request.day, request.nth)
            case "finish":
                self._is_over.set()

    def word(self, at: str, *, what: str = "", took_s: float = 0.0) -> DeskWord:
        """Return a line about now."""
        word = super().word(at, what=what, took_s=took_s)
        troubles = len(self.bus.dead_letters()) + self.bus.get_status()["journal"]["conflicts"]
        return msgspec.convert({**msgspec.to_builtins(word), "troubles": troubles}, DeskWord)

    def _count(self, number: int) -> DeskWord:
        """Return how far the desk has come."""
        link = self.bus.get_status()["link"]
        imported = {
            log["log"]: {
                desk["desk"]: next(row["imported"] for row in desk["logs"] if row["log"] == log["log"])
                for desk in link["desks"]
            }
            for log in link["logs"]
        }
        logs = tuple(
            Far(log["log"], log["exported"], max(0, log["released"] - log["done"]), imported[log["log"]])
            for log in link["logs"]
        )
        return msgspec.structs.replace(
            self.word("count"), asked=number, head=link["logs"][0]["released"], logs=logs
        )


async def live(life: DeskLife, tell: Tell, hold: Hold, on_desk: Callable[[LinkedDesk], None]) -> None:
    """Run a desk until the last day is over; `on_desk` is given it. The street alone has the broker."""
    if life.desk != STREET:
        desk = LinkedDesk(life, None, tell, hold)
        on_desk(desk)
        await desk.live()
        return
    async with await BrokerLine.connect(Path(life.socket)) as line:
        desk = LinkedDesk(life, line, tell, hold)
        on_desk(desk)
        await desk.live()
