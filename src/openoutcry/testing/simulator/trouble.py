"""Trouble for the house firm: slow agents, kill switches at the edges, strangers, twins, and operators."""

import asyncio
from contextlib import suppress
from typing import Any

import msgspec

from openoutcry.config import LevelName
from openoutcry.errors import ConfigError, NotSubscribed, OpenOutcryError
from openoutcry.runtime.admission.kill_switches import Releaser
from openoutcry.testing.simulator.agents import Handle, Remembering
from openoutcry.testing.simulator.bus import SimBus
from openoutcry.testing.simulator.chance import Chance
from openoutcry.testing.simulator.lives import Publisher
from openoutcry.testing.simulator.strangers import CALLS, on_another_loop
from openoutcry.trading import (
    DecisionEvent,
    KillSwitchEvent,
    MarketDataEvent,
    OrderEvent,
    OrderSide,
    SystemEvent,
)

SCOPES = ("firm", "ES", "NQ")
OFFICER = "risk-officer"
TICKS = 80
"""More ticks than a small bus remembers ids."""


class SlowAgent:
    """An agent that takes the same time for every event."""

    def __init__(self, call_s: float) -> None:
        self._call_s = call_s

    async def handle(self, _event: Any) -> None:
        """Take the time."""
        await asyncio.sleep(self._call_s)


class Trouble:
    """What makes trouble in one life of the house firm.

    Args:
        bus: The bus.
        chance: What is drawn in this life.
        plan: What is the same in every life.

    """

    def __init__(self, bus: SimBus, chance: Chance, plan: Chance) -> None:
        self._bus = bus
        self._chance = chance
        self._plan = plan
        self._releaser: Releaser | None = None
        self._number = 0
        self._has_halter = self._remembers_late = False
        self._remembering = Remembering(bus, plan.stream("memories"))
        self._late: Handle = self._first_late
        self._late_now: Handle | None = None

    # -- who is there -------------------------------------------------------------------------------

    def subscribe(self) -> None:
        """Subscribe slow agents, and see to what happens at the start and the stop."""
        bus, plan, chance = self._bus, self._plan, self._chance
        self._releaser = bus.releaser(OFFICER)
        for number in range(plan.one_of((0, 0, 1, 2))):
            kinds = plan.one_of(("market_data", "order", ["market_data", "order", "fill"]))
            terms: dict[str, Any] = {"overflow": "gate"} if plan.happens(0.25) else {}
            if plan.happens(0.3):
                terms["durable"] = False
            agent = SlowAgent(plan.one_of((0.1, 0.2, 0.5, 2.0)))
            bus.subscribe(kinds, agent.handle, name=f"slow-{number}", **terms)
        self._has_halter = plan.happens(0.4)
        self._remembers_late = plan.happens(0.8)
        if self._has_halter:
            bus.subscribe("kill_switch", SlowAgent(plan.one_of((0.05, 0.5))).handle, name="halter")
        bus.at_start += [self._at_edge] * chance.one_of((0, 0, 1, 2))
        bus.at_stop += [self._at_edge] * chance.one_of((0, 1, 2))

    def publishers(self) -> list[Publisher]:
        """Return the publishers of this life."""
        chance, faults = self._chance, self._bus.faults
        found: list[Publisher] = []
        if chance.happens(faults.strangers):
            found.append(self._strangers)
        if chance.happens(faults.twins * 3):
            found.append(self._twins)
        if chance.happens(0.4):
            found.append(self._operate)
        if chance.happens(0.4):
            found.append(self._officer)
        if self._has_halter and chance.happens(0.1):
            found.append(self._siege)
        if chance.happens(faults.otherwise * 3):
            found.append(self._decisions)
        if chance.happens(0.2):
            found.append(self._levels)
        if chance.happens(0.15):
            found.append(self._ticks)
        return found

    def _order(self) -> OrderEvent:
        self._number += 1
        name = f"t-{self._bus.life}-{self._number}"
        return OrderEvent(order_id=name, symbol="ES", side=OrderSide.BUY, quantity=1)

    # -- kill switches ------------------------------------------------------------------------------

    async def _at_edge(self) -> None:
        """Pull the kill switch, or release it, at some turn of a start or a stop."""
        chance = self._chance
        for _ in range(chance.whole(0, chance.one_of((2, 12, 60)))):
            await asyncio.sleep(0)
        if chance.happens(0.3):
            await asyncio.sleep(chance.one_of((0.001, 0.1, 0.6)))
        await (self._release() if chance.happens(0.25) else self._pull())

    async def _pull(self) -> None:
        bus, chance = self._bus, self._chance
        scope = chance.one_of(SCOPES[:2])
        event = KillSwitchEvent(reason="simulated", triggered_by="the simulator", scope=scope)
        with suppress(OpenOutcryError):
            way = chance.whole(0, 2)
            if way == 0:
                bus.publish_nowait(event)
            elif way == 1:
                await bus.publish_in_thread(event)
            else:
                await bus.publish(event)

    async def _release(self) -> None:
        """Release a scope, or the first of its kill switches."""
        releaser, scope = self._releaser, self._chance.one_of(SCOPES)
        assert releaser is not None, "it was taken when the firm was assembled"
        names_one = self._chance.happens(0.5)
        with suppress(OpenOutcryError):
            halts = [halt for halt in self._bus.halted(scope) if halt.scope == scope and halt.event_id]
            named = [halts[0].event_id] if halts and names_one else None
            await releaser.release(scope=scope, ids=named, reason="simulated")

    async def _officer(self) -> None:
        """Pull and release, one after the other."""
        chance = self._chance
        for _ in range(chance.whole(1, 8)):
            await asyncio.sleep(chance.one_of((0, 0, 0, 0.01, 0.3)))
            await (self._release() if chance.happens(0.4) else self._pull())

    async def _siege(self) -> None:
        """Pull more kill switches of one scope than wait one by one, with a release between them."""
        releaser, chance = self._releaser, self._chance
        assert releaser is not None, "it was taken when the firm was assembled"
        for count in (chance.whole(2, 12), chance.whole(50, 90)):
            for _ in range(count):
                event = KillSwitchEvent(reason="siege", triggered_by="the simulator", scope="ES")
                with suppress(OpenOutcryError):
                    self._bus.publish_nowait(event)
            with suppress(OpenOutcryError):
                await releaser.release(scope="ES", reason="siege")

    # -- events that are published again -------------------------------------------------------------

    async def _twins(self) -> None:
        """Publish other events under ids that were used before, and some whose fate is told."""
        bus, chance = self._bus, self._chance
        for _ in range(chance.whole(1, 4)):
            await asyncio.sleep(chance.one_of((0, 0.05, 0.5)))
            known = [event for event in bus.world.get("sent", ())[-12:] if isinstance(event, OrderEvent)]
            event: Any = SystemEvent(component="sim", status="alone")
            if known and chance.happens(0.8):
                event = chance.one_of(known)
                event = msgspec.structs.replace(event, quantity=event.quantity + chance.whole(0, 2))
            with suppress(OpenOutcryError):
                await (bus.publish_receipt(event) if chance.happens(0.7) else bus.publish(event))

    async def _decisions(self) -> None:
        """Publish decisions, about which an agent may have second thoughts."""
        for _ in range(self._chance.whole(2, 8)):
            await asyncio.sleep(self._chance.one_of((0, 0.01, 0.2)))
            with suppress(OpenOutcryError):
                await self._bus.publish(DecisionEvent(symbol="ES", action=OrderSide.BUY, quantity=1))

    async def _levels(self) -> None:
        """Publish events at one level, and again at a higher one."""
        bus, chance = self._bus, self._chance
        if bus.config.persistence is None:
            return
        for _ in range(chance.whole(1, 4)):
            event = self._order()
            higher: tuple[LevelName, ...] = ("process", "disk")
            levels: tuple[LevelName, ...] = ("memory", chance.one_of(higher))
            for level in levels:
                with suppress(OpenOutcryError):
                    await bus.publish(event, level=level)
                await asyncio.sleep(chance.one_of((0, 0.001, 0.2)))

    async def _ticks(self) -> None:
        """Publish an order, then many ticks, then the order again."""
        bus, event = self._bus, self._order()
        with suppress(OpenOutcryError):
            await bus.publish(event)
            for number in range(TICKS):
                bus.publish_nowait(MarketDataEvent(symbol="ES", price=4000 + number))
                if not number % 8:
                    await asyncio.sleep(0.03)
            await bus.publish(event)

    # -- strangers ----------------------------------------------------------------------------------

    async def _strangers(self) -> None:
        """Call the bus from where it does not belong, and then rightly."""
        bus, chance = self._bus, self._chance
        for _ in range(chance.whole(1, 3)):
            await asyncio.sleep(chance.between(0, 0.3))
            if not bus.is_running:
                continue
            verb, event = chance.one_of(sorted(CALLS)), self._order()
            answer = on_another_loop(CALLS[verb], bus, event)
            assert isinstance(answer, OpenOutcryError), f"{verb} on a thread's own loop: {answer!r}"
            with suppress(OpenOutcryError):
                await bus.publish(event)

    # -- operators ----------------------------------------------------------------------------------

    async def _operate(self) -> None:
        """Redrive and drop dead letters, by name, all and some of them, and after a handler was replaced."""
        bus, chance = self._bus, self._chance
        for _ in range(chance.whole(1, 5)):
            await asyncio.sleep(chance.between(0, 1))
            if not bus.is_running:
                continue
            letters = bus.dead_letters()
            names = sorted({letter.subscription for letter in letters})
            name = chance.one_of(names) if names and chance.happens(0.8) else None
            ids = [letter.letter_id for letter in letters if letter.subscription == name]
            which: dict[str, Any] = chance.one_of(({}, {}, {"event_type": "order"}, {"letter_ids": ids[::2]}))
            if name == "late" and chance.happens(0.5):
                self._replace()
            with suppress(NotSubscribed, ConfigError):
                if chance.happens(0.4):
                    bus.admin.drop_dead_letters(name, **which)
                else:
                    bus.admin.redrive(name, anew=chance.happens(0.4), **which)

    async def _first_late(self, _event: Any) -> None:
        pass

    async def _second_late(self, _event: Any) -> None:
        pass

    def meddle_late(self) -> None:
        """Subscribe the handler that comes late."""
        terms: dict[str, Any] = {}
        handler = self._late
        if self._late_now is None:
            if self._remembering.is_possible and self._remembers_late:
                handler, terms["memory"] = self._remembering.kept(handler)
            self._late_now = handler
        self._bus.subscribe("order", self._late_now, name="late", **terms)

    def leave_late(self) -> None:
        """Unsubscribe it. Raises `NotSubscribed`."""
        self._bus.unsubscribe("order", self._late_now or self._late)
        self._late_now = None

    def _replace(self) -> None:
        """Put another handler under its name."""
        with suppress(NotSubscribed):
            self.leave_late()
            self._late = self._second_late if self._late == self._first_late else self._first_late
            self.meddle_late()
