"""The script of a what-if: the day goes on as recorded, but for what a change leads to.

An agent is *touched* when the change is about it, or when it is not handed what it was handed on the day. Who
is not touched is held to the record, as in a check. Who is touched takes what comes, and what it publishes is
admitted: as much later than in the control as it was on the day, or else as its median says.
"""

import asyncio
from collections.abc import Collection, Iterable
from contextvars import Context
from functools import partial
from statistics import median_low
from typing import Any, Final, Protocol

import msgspec

from openoutcry.core.halts import Halt
from openoutcry.events import RoundLate, RoundOpened, RoundReleased
from openoutcry.replay.change import Change, is_of
from openoutcry.replay.comparing import compared
from openoutcry.replay.day import Day, Entry
from openoutcry.replay.script import IDLE_NS, PATIENCE_NS, OpensRounds, Script
from openoutcry.units import NS_PER_S

JOIN_S: Final = 3_600.0
"""So long in virtual time is waited for those who are touched."""
JOIN_STEP_S: Final = 0.01
TRY_AGAIN_NS: Final = 100_000
"""So often it is looked whether a record of the day stands."""


class Knowledge(msgspec.Struct, frozen=True):
    """What the control has shown of the day."""

    agents: dict[str, str]
    """Who has published each event, by id."""
    lags_ns: dict[str, int]
    """How much later each was handed out than it was published in virtual time: how long it took."""


def knowledge_of(control: Script) -> Knowledge:
    """Return what a control has shown."""
    by_id, offered = control.day.by_id, control.offered
    return Knowledge(
        {event_id: agent for event_id, (agent, _) in offered.items()},
        {event_id: max(0, by_id[event_id].at_ns - at_ns) for event_id, (_, at_ns) in offered.items()},
    )


class BranchBus(Protocol):
    """The bus, as the script of a what-if sees it."""

    def takers(self, event: Any) -> Iterable[str]:
        """Return the names of the subscriptions that take an event."""
        ...

    def waiting(self, names: Collection[str]) -> dict[str, int]:
        """Return how many events some subscriptions have not settled, of those that have any."""
        ...

    def kin(self, name: str) -> Iterable[str]:
        """Return the names of the subscriptions of the same agent, this one included."""
        ...

    def go_freely(self, name: str) -> None:
        """Have a subscription take what comes; compute the rounds that expect it."""
        ...

    def is_otherwise(self, record: Any) -> bool | None:
        """Whether the round that a record is about is another one than on the day; None: not known yet."""
        ...

    def look_again(self, round_id: str) -> None:
        """Compute a round once more: an answer that it may wait for does not come."""
        ...

    async def let_in_new(self, event: Any, *, votes: bool, priority: bool, level: str | None) -> bool:
        """Admit an event that is not as recorded."""
        ...


class Branch(Script):
    """The script of a what-if.

    Attributes:
        change: What is changed.
        touched: The subscriptions that are touched.
        left_out: Events from outside that are not handed out, since what they answer was not sent.
        passed: Recorded events that were not published when it was their turn.
        withheld: The records of the day that are not handed out: what they tell of went otherwise.
        behind: How many events touched subscriptions had not settled at the end, by name.

    """

    admits_what_is_new = True

    def __init__(
        self, day: Day, known: Knowledge, change: Change, *, joins: bool = False, is_kept: bool = False
    ) -> None:
        super().__init__(day, is_kept=is_kept)
        self.record = "replay" if is_kept else "rounds"
        self.withheld: set[str] = set()
        self._stood: set[str] = set()
        self._recorded = {record.event.event_id for record in day.records}
        self.behind: dict[str, int] = {}
        self._quiet = day.quiet_ids() if joins else frozenset[str]()
        self.change = change
        self.touched: set[str] = set()
        self.left_out: list[Entry] = []
        self.passed: set[str] = set()
        self._lacks_switches = False  # whether a kill switch of the day, or a release, is not handed out
        self.bus: BranchBus | None = None
        self._known = known
        self._ready: set[str] = set()
        self._gone_orders: set[str] = set()
        self._late_calls: set[tuple[str, str]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        lags: dict[str, list[int]] = {}
        for event_id, agent in known.agents.items():
            lags.setdefault(agent, []).append(known.lags_ns[event_id])
        self._usual_ns = {agent: median_low(found) for agent, found in lags.items()}

    def is_touched(self, name: str) -> bool:
        """Whether a subscription, or an agent, does not do what it did for certain."""
        return name in self.touched or is_of(name, self.change.names)

    def is_silent(self, name: str) -> bool:
        """Whether nothing that an agent says is heard."""
        return is_of(name, self.change.silence)

    def has_other_halts(self, name: str, now: tuple[Halt, ...]) -> bool:
        """Whether an agent is touched, or the kill switches, given those that are active now, are others."""
        known = (self.day.by_id, self.day.begins.halts)
        is_new = any(halt.event_id and not any(halt.event_id in ids for ids in known) for halt in now)
        return is_new or self._lacks_switches or self.is_touched(name)

    def touch(self, name: str) -> None:
        """A subscription is not handed what it was handed on the day; nor are its agent's others."""
        if name not in self.touched:
            assert self.bus is not None, "it is there before anything is handed out"
            for one in {name, *self.bus.kin(name)} - self.touched:
                self.touched.add(one)
                self.bus.go_freely(one)

    def _touch_takers(self, event: Any) -> None:
        assert self.bus is not None, "as above"
        for name in self.bus.takers(event):
            self.touch(name)

    # -- what agents publish ------------------------------------------------------------------------

    def offer(
        self,
        event: Any,
        agent: str | None,
        cause_id: str | None,
        *,
        votes: bool,
        priority: bool = False,
        level: str | None = None,
    ) -> "asyncio.Future[bool]":
        """Take what was published: of who is touched, it counts as it is."""
        if agent is None or self.is_closed or not self.is_touched(agent):
            return super().offer(event, agent, cause_id, votes=votes)
        event_id, loop = event.event_id, asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        if self.is_silent(agent) or event_id in self.published:
            turn.set_result(True)
            return self._turns.get(event_id, turn)
        entry = self.day.by_id.get(event_id)
        is_same = entry is not None and not compared(entry.event, event)
        self.published[event_id] = entry.event if is_same and entry is not None else event
        lag_ns = self._lag_ns(event_id, agent, cause_id)
        self._turns[event_id] = turn

        def come() -> None:
            if is_same and event_id not in self.passed and event_id not in self._handed:
                self._ready.add(event_id)
                if self._awaited is not None and self._awaited[0] == event_id and not self._awaited[1].done():
                    self._awaited[1].set_result(None)
                return
            task = loop.create_task(self._admit(event, votes, priority, level), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        if lag_ns:
            loop.call_later(lag_ns / NS_PER_S, come, context=Context())
        else:
            come()
        return turn

    def _lag_ns(self, event_id: str, agent: str, cause_id: str | None) -> int:
        """Return how long it takes until a publication is handed out; a call is late once."""
        lag_ns = self._known.lags_ns.get(event_id, self._usual_ns.get(agent, 0))
        if cause_id is None or (agent, cause_id) not in self._late_calls:
            self._late_calls.add((agent, cause_id or ""))
            lag_ns += self.change.delay_of(agent)
        return lag_ns

    async def _admit(self, event: Any, votes: bool, priority: bool, level: str | None) -> None:
        """Admit what is not as recorded: whoever takes it is touched."""
        assert self.bus is not None, "as above"
        self._touch_takers(event)
        turn = self._turns.pop(event.event_id, None)
        try:
            accepted = await self.bus.let_in_new(event, votes=votes, priority=priority, level=level)
        except Exception as error:
            if turn is None or turn.done():
                raise
            turn.set_exception(error)
        else:
            if turn is not None and not turn.done():
                turn.set_result(accepted)

    # -- what is handed out -------------------------------------------------------------------------

    async def _turn_of(self, loop: asyncio.AbstractEventLoop, entry: Entry) -> bool:
        """Wait until an event was published; False: it is not, and not handed out either."""
        event_id = entry.event.event_id
        agent = self._known.agents.get(event_id)
        if agent is None:
            if event_id in self._quiet:
                await self._join(loop)
            return self._is_left(entry)
        if not self.is_touched(agent):
            return await super()._turn_of(loop, entry)
        if self._was_offered(entry):
            return True
        if event_id not in self._ready:
            await self._a_moment(loop, event_id)
        if event_id in self._ready:
            return True
        self.passed.add(event_id)
        self._lacks_switches |= entry.stored.lane == "control"
        order_id = getattr(entry.event, "order_id", None)
        if entry.event.event_type == "order" and order_id and event_id not in self.published:
            self._gone_orders.add(order_id)
        self._touch_takers(entry.event)
        if entry.voted and self.bus is not None:
            self.bus.look_again(entry.event.round_id or "")
        return False

    def _was_offered(self, entry: Entry) -> bool:
        """Whether an event was published as recorded before its agent was touched, and waits for its turn."""
        event_id = entry.event.event_id
        return event_id in self.offered and self.published.get(event_id) is entry.event

    async def _join(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait until those who are touched have settled what they were handed: everybody had, on the day."""
        began_s = loop.time()
        bus = self.bus
        while bus is not None and bus.waiting(self.touched) and loop.time() - began_s < JOIN_S:  # noqa: ASYNC110
            await asyncio.sleep(JOIN_STEP_S)
        self.pace.lost_ns += round((loop.time() - began_s) * NS_PER_S)

    async def _a_moment(self, loop: asyncio.AbstractEventLoop, event_id: str) -> None:
        """Wait until nothing else can happen at this instant, or the event was published."""
        offered: asyncio.Future[None] = loop.create_future()
        self._awaited = (event_id, offered)
        try:
            async with asyncio.timeout(IDLE_NS / NS_PER_S):
                await offered
        except TimeoutError:
            pass
        finally:
            self._awaited = None

    # -- what rounds ask ----------------------------------------------------------------------------

    def is_of_the_day(self, event_id: str) -> bool:
        """Whether an event is in the record, and was not published too late for its turn."""
        return event_id in self.day.by_id and event_id not in self.passed

    def handed(self, event_id: str) -> Entry | None:
        """Return a recorded event that has been handed out; None for any other."""
        return self.day.by_id.get(event_id) if event_id in self._handed else None

    def here_by_ns(self, event_id: str) -> int:
        """Return by when a recorded event has had its turn; 0 if it is known that it does not come."""
        entry, agent = self.day.by_id.get(event_id), self._known.agents.get(event_id, "")
        gone = (*self.change.without, *self.change.silence)
        if entry is None or event_id in self.passed or is_of(agent, gone):
            return 0
        return entry.at_ns + self.pace.lost_ns + PATIENCE_NS

    def abstains_later_ns(self, agent: str) -> int | None:
        """Return by how much later than on the day an agent abstains; None: that is not known."""
        change = self.change
        others = (*change.without, *change.silence, *change.replace)
        if is_of(agent, others) or any(is_of(one, (agent,)) for one in self.touched):
            return None
        delay_ns = change.delay_of(agent)
        return delay_ns if delay_ns > IDLE_NS else 0

    # -- the records of the bus ---------------------------------------------------------------------

    def tell(self, record: Any, rounds: OpensRounds) -> None:
        """Hand out a record of the day, as soon as it is known that it stands."""
        self._tell(record, rounds, self.pace.now_ns() + 2 * PATIENCE_NS)

    def _tell(self, record: Any, rounds: OpensRounds, by_ns: int) -> None:
        assert self.bus is not None, "as above"
        now_ns = self.pace.now_ns()
        if now_ns < by_ns and record.event_id not in self.withheld and self.bus.is_otherwise(record) is None:
            self.pace.call_at(now_ns + TRY_AGAIN_NS, partial(self._tell, record, rounds, by_ns))
        elif not self.is_closed and self.stands(record):
            rounds.hand_out(record)

    def stands(self, record: Any) -> bool:
        """Whether a record of the day is what the bus would write now; if not, who takes it is touched."""
        assert self.bus is not None, "as above"
        if record.event_id in self.withheld or self.bus.is_otherwise(record) is not False:
            self._withhold(record, record.event_id)
            return False
        self._stood.add(record.event_id)
        return True

    def is_new(self, record: Any) -> bool:
        """Whether a record that the bus has written now is handed out: where it stands for another one."""
        assert self.bus is not None, "as above"
        event_id = self._id_of_the_day(record)
        is_of_round = isinstance(record, RoundOpened | RoundReleased | RoundLate)
        if not is_of_round or event_id in self._stood:
            return False
        if event_id in self._recorded and event_id not in self.withheld and not self.bus.is_otherwise(record):
            return False  # that of the day comes
        self._withhold(record, event_id)
        return True

    def _id_of_the_day(self, record: Any) -> str:
        """Return the id by which the day has what a record says: late answers may have other numbers."""
        if isinstance(record, RoundLate):
            for one in self.day.rounds.get(record.round_id or "", ()):
                for late in one.late:
                    if _said(late) == _said(record):
                        return late.event_id
        return str(record.event_id)

    def _withhold(self, record: Any, event_id: str) -> None:
        self.withheld.add(event_id)
        self._touch_takers(record)

    def _is_left(self, entry: Entry) -> bool:
        """Whether an event from outside comes all the same: not the fill of an order that was not sent."""
        order_id = getattr(entry.event, "order_id", None)
        if order_id is None or order_id not in self._gone_orders:
            return True
        self.left_out.append(entry)
        self._lacks_switches |= entry.stored.lane == "control"
        self._touch_takers(entry.event)
        return False


def _said(late: RoundLate) -> tuple[Any, ...]:
    """Return what a record says of a late answer, but for its number and by how much it was late."""
    return late.ordinal, late.agent, late.signal_id, late.reason
