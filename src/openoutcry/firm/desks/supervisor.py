"""The supervisor: starts a node and three desks, keeps the days in step, kills, and starts again."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from openoutcry.firm.brokerage import BrokerLine
from openoutcry.firm.crash.autopsy import InFlight, in_flight
from openoutcry.firm.crash.plan import ANYWHEN, WAKING
from openoutcry.firm.crash.processes import Failed, FirmProcess, broker, one_life
from openoutcry.firm.crash.supervisor import Audience, Death, Run, Terms
from openoutcry.firm.crash.words import Word
from openoutcry.firm.desks.plan import DeskKill
from openoutcry.firm.desks.words import DESK, DESKS, FLOOR, NODE, STREET, DeskLife, DeskWord, Request
from openoutcry.links.nats.servers import Servers

PROGRAM: tuple[str, ...] = ("-m", "openoutcry.firm.desks")
PAUSE_S: Final = 0.001
"""The pause between two counts."""
NOBODY: Final = InFlight(unsent=0, working=0, unheard=0, events=0)


@dataclass(frozen=True, slots=True)
class DeskDeath(Death):
    """One death of a desk, or of the node.

    Attributes:
        who: Which desk, or `node`.
        down_ms: For how long the node stays away.

    """

    who: str = ""
    down_ms: int = 0

    @property
    def how(self) -> str:
        """Where it happened, in words."""
        if self.who == NODE:
            return f"node: gone for {self.down_ms / 1000:.1f} s; meanwhile journals keep what waits"
        return f"{self.who}: {super(DeskDeath, self).how}"


class DeskAudience(Audience, Protocol):
    """Watches a run of several desks."""

    def desk_is(self, who: str, *, up: bool, made: int) -> None:
        """A desk, or the node, came or went; or its journal has grown."""
        ...


class Desks:
    """One run of the firm as three desks, from the first day to the last."""

    def __init__(
        self, run: Run, terms: Terms, kills: Sequence[DeskKill], audience: DeskAudience, servers: Servers
    ) -> None:
        self._run, self._terms, self._audience, self._servers = run, terms, audience, servers
        self._kills = list(kills)
        self._up: dict[str, FirmProcess[DeskWord]] = {}
        self._last: dict[str, DeskWord] = {}
        self._asked: dict[str, tuple[Request, asyncio.Future[DeskWord]]] = {}
        self._counts = 0
        self._place = ""
        self._is_falling = False
        self._settling: asyncio.Task[None] | None = None
        self._node_back: asyncio.Task[None] | None = None
        self._socket = ""
        self.troubles: int = 0

    async def live(self) -> None:
        """Run it. A kill that is not reached before the last day is over does not happen. Raises `Failed`."""
        with self._servers:
            self._audience.desk_is(NODE, up=True, made=0)
            async with broker(self._run.broker_file) as socket:
                self._socket = str(socket)
                try:
                    async with asyncio.TaskGroup() as group:
                        for desk in DESKS:
                            group.create_task(self._keep(desk))
                except* Failed as failed:
                    raise failed.exceptions[0] from failed
                finally:
                    for task in (self._settling, self._node_back):
                        if task is not None:
                            task.cancel()

    # -- one desk -----------------------------------------------------------------------------------

    async def _keep(self, desk: str) -> None:
        """Run a desk, and start it again whenever it was killed."""
        while True:
            async with one_life(PROGRAM, self._life(desk), DeskWord) as process:
                while (word := await process.next_word()) is not None:
                    self._hear(desk, process, word)
                was_killed = await process.ended()
            self._up.pop(desk, None)
            last = self._last.get(desk, DeskWord(at="born"))
            self._run.duplicates += last.duplicates
            self.troubles += last.troubles
            if not was_killed:
                return
            await self._died(desk)

    def _life(self, desk: str) -> DeskLife:
        run, terms = self._run, self._terms
        return DeskLife(
            desk=desk,
            servers=self._servers.urls,
            journal=str(run.folder / f"{desk}.db"),
            socket=self._socket,
            account=str(run.account),
            symbols=terms.symbols,
            agents=terms.agents,
            days=terms.days,
            days_per_s=terms.days_per_s,
        )

    async def _died(self, desk: str) -> None:
        if desk == FLOOR and self._settling is not None:
            self._settling.cancel()
        orders = NOBODY
        if desk == STREET:
            async with await BrokerLine.connect(Path(self._socket)) as line:
                orders = await in_flight(self._run.folder / f"{desk}.db", line)
        self._bury(desk, orders, self._place)

    def _bury(self, who: str, orders: InFlight, what: str) -> None:
        kill, self._place, self._is_falling = self._kills.pop(0), "", False
        death = DeskDeath(
            len(self._run.deaths) + 1, kill.kill, what, self._run.last, orders, who, kill.down_ms
        )
        self._run.deaths.append(death)
        self._audience.desk_is(who, up=False, made=0)
        self._audience.died(death)
        self._aim()

    def _hear(self, desk: str, process: FirmProcess[DeskWord], word: DeskWord) -> None:
        """Take a line of a desk."""
        if word.at == "born":
            kill = self._next(desk)
            if kill is not None and kill.kill.place == WAKING:
                self._kill_soon(process, kill)
            return
        self._last[desk] = word
        match word.at:
            case "back":
                self._back(desk, process, word)
            case "day":
                self._day(word)
            case "step":
                self._settling = asyncio.get_running_loop().create_task(self._settle(process))
            case "count":
                self._count_came(desk, word)
            case "place":
                self._place = word.what
                process.kill()
            case "done":
                self._done(desk, word)

    def _back(self, desk: str, process: FirmProcess[DeskWord], word: DeskWord) -> None:
        self._up[desk] = process
        self._audience.desk_is(desk, up=True, made=word.head)
        if any(isinstance(death, DeskDeath) and death.who == desk for death in self._run.deaths):
            self._run.returns.append(word)
            self._audience.back(word)
        if desk in self._asked:
            process.tell(self._asked[desk][0])
        self._aim()

    def _done(self, desk: str, word: DeskWord) -> None:
        """The last day is over at a desk: at the floor first, which ends it for the others."""
        if desk == FLOOR:
            self._kills.clear()
            for other in (DESK, STREET):
                self._up[other].tell(Request(what="finish"))
        elif desk == DESK:
            self._run.last = _about_day(word, word)

    def _day(self, word: DeskWord) -> None:
        """A day begins at the floor; what the firm is worth is known at the desk."""
        book = self._last.get(DESK, word)
        told = _about_day(word, book)
        self._run.last = told
        self._audience.day(told)
        kill = self._kills[0] if self._kills else None
        if kill is None or kill.kill.place != ANYWHEN or word.number < kill.kill.day or self._is_falling:
            return
        if kill.who == NODE:
            self._is_falling = True
            self._node_back = asyncio.get_running_loop().create_task(self._kill_node(kill))
        elif kill.who in self._up:
            self._kill_soon(self._up[kill.who], kill)

    # -- kills --------------------------------------------------------------------------------------

    def _next(self, desk: str) -> DeskKill | None:
        """Return the next kill, if it is of this desk."""
        return self._kills[0] if self._kills and self._kills[0].who == desk else None

    def _aim(self) -> None:
        """Tell the desk that is killed next where to wait for that."""
        kill = self._kills[0] if self._kills else None
        if kill is not None and not kill.kill.by_the_clock and kill.who in self._up:
            where = kill.kill
            self._up[kill.who].tell(Request(what="wait", place=where.place, day=where.day, nth=where.nth))

    def _kill_soon(self, process: FirmProcess[DeskWord], kill: DeskKill) -> None:
        self._is_falling = True

        def fall() -> None:
            if kill in self._kills:  # the last day is not over
                process.kill()

        asyncio.get_running_loop().call_later(kill.kill.delay_ms / 1000, fall)

    async def _kill_node(self, kill: DeskKill) -> None:
        node = self._servers.nodes[0]
        await asyncio.sleep(kill.kill.delay_ms / 1000)
        node.kill()
        self._audience.desk_is(NODE, up=False, made=0)
        await asyncio.sleep(kill.down_ms / 1000)
        node.start()
        await asyncio.to_thread(node.wait)
        if kill in self._kills:
            self._bury(NODE, NOBODY, "")
        self._audience.desk_is(NODE, up=True, made=0)

    # -- keeping step -------------------------------------------------------------------------------

    async def _settle(self, floor: FirmProcess[DeskWord]) -> None:
        """Let the market go on when two counts in a row are the same, and nothing waits anywhere."""
        before: Mapping[str, object] = {}
        while True:
            words = await self._count()
            now = {desk: (word.head, word.logs) for desk, word in words.items()}
            if now == before and is_settled(words):
                floor.tell(Request(what="go on"))
                return
            before = now
            await asyncio.sleep(PAUSE_S)

    async def _count(self) -> dict[str, DeskWord]:
        """Ask every desk how far it is, when it has settled all that it has."""
        self._counts += 1
        request, loop = Request(what="count", number=self._counts), asyncio.get_running_loop()
        self._asked = {desk: (request, loop.create_future()) for desk in DESKS}
        for process in self._up.values():
            process.tell(request)
        return {desk: await answer for desk, (_, answer) in list(self._asked.items())}

    def _count_came(self, desk: str, word: DeskWord) -> None:
        self._audience.desk_is(desk, up=True, made=word.head)
        request, answer = self._asked.get(desk, (None, None))
        if request is not None and answer is not None and word.asked == request.number and not answer.done():
            answer.set_result(word)


def _about_day(word: Word, book: Word) -> Word:
    """Return a line about a day, of which the figures are in another one."""
    return Word(at="day", number=word.number, date=word.date, equity=book.equity, fills=book.fills)


def is_settled(words: Mapping[str, DeskWord]) -> bool:
    """Return True if every desk has exported all that it has, and imported all that the others have."""
    for desk, word in words.items():
        for mine in word.logs:
            if mine.rest:
                return False
            for other, their in words.items():
                if other == desk:
                    continue
                had = next(far.imported for far in their.logs if far.log == mine.log)
                if had.get(desk, 0) < mine.exported:
                    return False
    return True


async def run_desks(
    run: Run, terms: Terms, kills: Sequence[DeskKill], audience: DeskAudience, servers: Servers
) -> int:
    """Run the firm as three desks, killed as planned. Return how many troubles they told. Raises `Failed`."""
    desks = Desks(run, terms, kills, audience, servers)
    await desks.live()
    return desks.troubles
