"""The house firm: what the simulator runs by default, made to reach every corner of a bus.

Decisions become orders, orders become fills, alerts and kill switches come in between, agents answer rounds;
some subscriptions are slow by choice, some drop events, one comes late, and an operator pauses, flushes,
redrives and unsubscribes. The broker outlives the process, and sends again what was not answered.
"""

import asyncio
from contextlib import suppress
from typing import Any

from openoutcry.config import Conflate, DropOldest, RetryPolicy
from openoutcry.errors import (
    BusClosed,
    DecidedOtherwise,
    JournalError,
    NotSubscribed,
    OpenOutcryError,
    SignalRefused,
)
from openoutcry.testing.simulator.agents import Agents, Remembering
from openoutcry.testing.simulator.bus import SimBus
from openoutcry.testing.simulator.chance import Chance
from openoutcry.testing.simulator.lives import Publisher
from openoutcry.testing.simulator.trouble import Trouble
from openoutcry.trading import (
    AlertSeverity,
    DecisionEvent,
    FillEvent,
    KillSwitchEvent,
    MarketDataEvent,
    OrderEvent,
    OrderSide,
    RiskAlertEvent,
    SignalDirection,
    SignalEvent,
    SystemEvent,
)

HEARD = ["decision", "order", "fill", "risk_alert", "signal"]
"""What the auditor takes where it does not take everything."""
AGENTS = ("momentum", "value", "carry", "risk")
BULK = 1_100
"""More events at once than any page, window or limit inside a bus."""


def house(bus: SimBus, chance: Chance) -> list[Publisher]:
    """Make the house firm."""
    firm = House(bus, chance)
    firm.subscribe()
    return firm.publishers()


class House:
    """The house firm in one life."""

    def __init__(self, bus: SimBus, chance: Chance) -> None:
        self._bus = bus
        self._chance = chance
        self._plan = Chance(chance.seed, "house")  # the same in every life
        self._number = 0
        self._swallows = self._plan.stream("otherwise").happens(0.5)
        self._remembering = Remembering(bus, self._plan.stream("memories"))
        self._agents = Agents(bus, Chance(chance.seed, f"{chance.name}/agents"), self._plan.stream("agents"))
        self._trouble = Trouble(
            bus, Chance(chance.seed, f"{chance.name}/trouble"), self._plan.stream("trouble")
        )

    # -- who subscribes -----------------------------------------------------------------------------

    def subscribe(self) -> None:
        """Subscribe all handlers, with the same names and options in every life."""
        bus, plan = self._bus, self._plan
        for agent in AGENTS:
            bus.register_signal_agent(agent, critical=agent == "risk")
        self._subscribe(plan.one_of(("*", "*", HEARD)), self._nothing, name="audit")
        self._subscribe("decision", self._decided, name="desk", **self._terms())
        self._subscribe(["order", "kill_switch"], self._ordered, name="broker", **self._terms())
        self._subscribe(["fill", "risk_alert", "kill_switch"], self._filled, name="risk", **self._terms())
        bus.subscribe(["risk_alert", "kill_switch"], self._plain, name="alarm")
        bus.subscribe("market_data", self._tick, name="screen", overflow=Conflate())
        if plan.happens(0.5):
            bus.subscribe("market_data", self._tape, name="tape", overflow=DropOldest(4))
        if plan.happens(0.5):
            kinds = plan.one_of((["market_data"], ["market_data", "order", "fill"]))
            self._subscribe(kinds, self._ponder, name="model", **(self._terms() | {"timeout_s": None}))
        if plan.happens(0.5):
            bus.subscribe(["order", "fill"], self._passing, name="passing", durable=False)
        self._agents.subscribe()
        self._trouble.subscribe()

    def _subscribe(self, kinds: Any, handler: Any, **terms: Any) -> None:
        """Subscribe a handler, with a memory if the plan says so."""
        remembering = self._remembering
        is_kept = kinds != ["market_data"] or remembering.keeps_ticks
        if self._plan.happens(0.7) and remembering.is_possible and is_kept:
            handler, terms["memory"] = remembering.kept(handler, saves="concurrency" not in terms)
        self._bus.subscribe(kinds, handler, **terms)

    def _terms(self) -> dict[str, Any]:
        plan = self._plan
        terms: dict[str, Any] = {}
        if plan.happens(0.3):
            terms["timeout_s"] = plan.one_of((0.05, 1.0))
        if plan.happens(0.2):
            terms["concurrency"] = 3
        if plan.happens(0.5):
            terms["retry"] = RetryPolicy(
                attempts=plan.whole(1, 4), first_s=plan.one_of((0, 0.05)), in_order=plan.happens(0.7)
            )
        if plan.happens(0.3):
            terms["breaker"] = False
        return terms

    async def _nothing(self, _event: Any) -> None:
        pass

    def _plain(self, _event: Any) -> None:
        pass

    async def _tick(self, _event: Any) -> None:
        await asyncio.sleep(0)

    async def _tape(self, _event: Any) -> None:
        await asyncio.sleep(0.02)

    async def _ponder(self, _event: Any) -> None:
        await asyncio.sleep(0.2)

    async def _passing(self, _event: Any) -> None:
        await asyncio.sleep(0)

    async def _decided(self, decision: DecisionEvent) -> None:
        chance = self._chance
        wavers = chance.happens(self._bus.faults.otherwise)
        name, quantity = f"of {decision.event_id}", 1 + (chance.whole(0, 3) if wavers else 0)
        order = OrderEvent(order_id=name, symbol="ES", side=OrderSide.BUY, quantity=quantity)
        try:
            await self._bus.publish(order)
        except DecidedOtherwise:
            if not self._swallows:
                raise
        if wavers and chance.happens(0.5):
            raise RuntimeError("the desk has second thoughts")

    async def _ordered(self, order: Any) -> None:
        if isinstance(order, OrderEvent):
            fill = FillEvent(
                order_id=order.order_id, symbol="ES", side=OrderSide.BUY, filled_quantity=1, fill_price=5000
            )
            await asyncio.sleep(0)
            await self._bus.publish(fill)

    async def _filled(self, _event: Any) -> None:
        await asyncio.sleep(0)

    # -- who publishes ------------------------------------------------------------------------------

    def publishers(self) -> list[Publisher]:
        """Return the publishers of this life."""
        chance = self._chance
        found: list[Publisher] = [self._trade, self._market, self._alarms]
        if chance.happens(0.5):
            found += [self._rounds, self._meddle]
        if chance.happens(0.2):
            found.append(self._crowd)
        if chance.happens(0.3):
            found.append(self._trade)
        if self._bus.life == 0 and self._plan.happens(0.015):
            found.append(self._flood)
        return found + self._agents.publishers() + self._trouble.publishers()

    def _order(self) -> OrderEvent:
        self._number += 1
        name = f"o-{self._bus.life}-{self._number}"
        return OrderEvent(order_id=name, symbol="ES", side=OrderSide.BUY, quantity=1)

    def _something(self) -> Any:
        kind = self._chance.whole(0, 3)
        if kind == 0:
            return DecisionEvent(symbol="ES", action=OrderSide.BUY, quantity=1)
        if kind == 1:
            return SystemEvent(component="sim", status="started")
        return self._order()

    async def _pause(self) -> None:
        wait_s = self._chance.one_of((0, 0, 0, 0.001, 0.05, 0.5))
        if wait_s or self._chance.happens(0.5):
            await asyncio.sleep(wait_s)

    async def _trade(self) -> None:
        """Publish ordinary events, one by one and together, and some of them again."""
        bus, chance = self._bus, self._chance
        known: list[Any] = bus.world.setdefault("sent", [])
        for event in known[-3:]:
            await self._send(event)
        for _ in range(chance.whole(2, 9)):
            await self._pause()
            if chance.happens(0.15):
                some = [self._order() for _ in range(chance.whole(2, 16))]
                known += some
                await self._try(bus.publish_many(some))
            elif known and chance.happens(0.15):
                event = chance.one_of(known)
                await asyncio.gather(self._send(event), self._send(event))
            else:
                event = self._something()
                known.append(event)
                await self._send(event)

    async def _send(self, event: Any) -> None:
        bus, chance = self._bus, self._chance
        patience_s = chance.one_of((0, 0.001, 0.02)) if chance.happens(bus.faults.impatient) else None
        for _ in range(2):
            try:
                async with asyncio.timeout(patience_s):
                    if await bus.publish(event):
                        return
            except TimeoutError:
                patience_s = None
            except JournalError:
                await asyncio.sleep(0.01)
            except BusClosed:
                return

    @staticmethod
    async def _try(asked: Any) -> None:
        with suppress(OpenOutcryError):
            await asked

    async def _market(self) -> None:
        """Publish ticks."""
        for number in range(self._chance.whole(2, 15)):
            if self._chance.happens(0.3):
                await self._pause()
            tick = MarketDataEvent(symbol="ES", price=5000 + number)
            if self._chance.happens(0.3):
                with suppress(OpenOutcryError):
                    self._bus.publish_nowait(tick)
            else:
                await self._try(self._bus.publish(tick))

    async def _alarms(self) -> None:
        """Raise alerts, and pull the kill switch."""
        bus, chance = self._bus, self._chance
        for _ in range(chance.whole(1, 5)):
            await self._pause()
            event: Any = RiskAlertEvent(severity=AlertSeverity.WARNING, alert_type="drawdown")
            if chance.happens(0.5):
                scope = chance.one_of(("firm", "ES", "NQ"))
                event = KillSwitchEvent(reason="simulated", triggered_by="the simulator", scope=scope)
            elif chance.happens(0.2):
                event = self._order()
                await self._try(bus.publish(event, priority=True))
                continue
            await self._send(event)

    async def _crowd(self) -> None:
        """Publish many events at once, each in a task of its own."""
        await self._pause()
        crowd = [self._order() for _ in range(self._chance.whole(5, 40))]
        await asyncio.gather(*(self._send(order) for order in crowd))

    async def _flood(self) -> None:
        """Publish more events at once than anything holds."""
        rest = [SystemEvent(component="flood", status=str(number)) for number in range(BULK)]
        for _ in range(20):
            if not rest:
                break
            try:
                done = await self._bus.publish_many(rest)
            except JournalError:
                done = 0
            except BusClosed:
                return
            del rest[:done]
            await asyncio.sleep(0.1)

    # -- rounds -------------------------------------------------------------------------------------

    async def _rounds(self) -> None:
        """Open rounds, have some agents answer in time and some late, and wait for the outcomes."""
        bus, chance = self._bus, self._chance
        for _ in range(chance.whole(1, 3)):
            try:
                opened = bus.open_round(
                    quorum=chance.one_of((0.5, 0.8, None)), signal_timeout=0.5, barrier_timeout=1.0
                )
                await self._one_round(opened.round_id)
            except BusClosed:
                return

    async def _one_round(self, round_id: str) -> None:
        answers = [self._answer(agent, round_id) for agent in AGENTS if self._chance.happens(0.8)]
        waiters = [self._bus.wait_for_signals(round_id) for _ in range(self._chance.whole(1, 2))]
        await asyncio.gather(*answers, *waiters)

    async def _answer(self, agent: str, round_id: str) -> None:
        chance = self._chance
        await asyncio.sleep(chance.one_of((0, 0, 0.1, 0.5, 0.7, 1.0, 1.2)))
        if chance.happens(0.1):
            await self._abstain(agent, round_id)
            return
        named = round_id if chance.happens(0.8) else None
        signal = SignalEvent(
            strategy_name=agent,
            source_agent=agent,
            symbol="ES",
            direction=SignalDirection.LONG,
            round_id=named,
        )
        try:
            await self._bus.publish_signal(signal)
        except (SignalRefused, JournalError, BusClosed):
            return

    async def _abstain(self, agent: str, round_id: str) -> None:
        try:
            self._bus.abstain(agent, "no view", round_id)
        except OpenOutcryError:
            return

    # -- who meddles --------------------------------------------------------------------------------

    async def _meddle(self) -> None:
        """Do what operators do to a running bus."""
        bus, chance = self._bus, self._chance
        for _ in range(chance.whole(1, 4)):
            await asyncio.sleep(chance.between(0, 0.5))
            if not bus.is_running:
                continue
            await self._try(self._one_thing(chance.whole(0, 5)))

    async def _one_thing(self, which: int) -> None:
        bus, chance = self._bus, self._chance
        if which == 0:
            self._trouble.meddle_late()
        elif which == 1:
            try:
                self._trouble.leave_late()
            except NotSubscribed:
                return
            if chance.happens(0.5):
                self._trouble.meddle_late()
        elif which == 2:
            await bus.flush()
        elif which == 3:
            bus.admin.redrive()
        else:
            one = chance.one_of(bus.subscriptions)
            one.pause()
            await asyncio.sleep(chance.one_of((0, 0.1, 1.5)))
            one.resume()
