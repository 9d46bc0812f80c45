"""What all agents have in common: a name, one mailbox, and a reaction to the kill switch.

An agent subscribes once, with everything it takes: it has one mailbox and one consumer, so that it gets
events in order and its reactions never race each other.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from openoutcry.config import RetryPolicy
from openoutcry.errors import OpenOutcryError
from openoutcry.events import Event
from openoutcry.ports import Clock
from openoutcry.runtime.api.bus import EventBus
from openoutcry.trading import KillSwitchEvent, OrderState, OrderStateChangeEvent

Reaction = Callable[[Any], Coroutine[Any, Any, None]]

PATIENCE_ATTEMPTS = 400
PATIENCE_PAUSE_S = 0.005


class Forgetful(OpenOutcryError, RuntimeError):
    """An agent could not remember the past: one of its reactions waits for something even then."""


def _unheard(_event: Event) -> None:
    """Ignore what an agent publishes."""


class Agent:
    """An agent of the firm.

    Subclasses call `react` in their constructor; `attach` then subscribes the agent to a bus.

    An agent whose bus has a journal can be killed: its state follows from the events that it has handled. At
    the next start the journal hands it those events again, and it reacts to them as before, but publishes
    nothing (`remember`). So whatever a reaction does to the outside world, other than by `say`, must check
    `remembering` first.

    Attributes:
        name: Its name on the bus, in the ledger and in the report.
        halted: Whether the kill switch has been thrown.
        kill_heard_ns: The clock when the kill switch reached it, or None.
        heard_kill: Set when the kill switch has reached it and its own part is done.
        refused_count: How often the bus refused what it published.
        remembered_count: Events that it was handed again at the start.
        remembering: Whether it is handed the past, so that it builds its state and publishes nothing.
        durable: Whether the bus has a journal, so that everything that matters must be in it.
        on_said: Called with each event that it has published and the bus has accepted.

    """

    bus: EventBus
    clock: Clock

    def __init__(self, name: str) -> None:
        self.name = name
        self.halted = False
        self.kill_heard_ns: int | None = None
        self.heard_kill = asyncio.Event()
        self.refused_count = self.remembered_count = 0
        self.remembering = self.durable = False
        self.on_said: Callable[[Event], None] = _unheard
        self._reactions: dict[type[Event], Reaction] = {KillSwitchEvent: self._hear_kill_switch}

    def react(self, kind: type[Event], reaction: Reaction) -> None:
        """Take events of a class (not of its subclasses), with this method."""
        self._reactions[kind] = reaction

    def attach(
        self, bus: EventBus, clock: Clock, *, timeout_s: float | None = None, retry: RetryPolicy | None = None
    ) -> None:
        """Subscribe to the bus. A reaction that takes longer than `timeout_s` is cancelled and has failed."""
        self.bus, self.clock = bus, clock
        # A replay of history is in no hurry: whoever publishes waits for all, and nobody misses a bar.
        bus.subscribe(
            list(self._reactions),
            self.receive,
            name=self.name,
            timeout_s=timeout_s,
            retry=retry,
            overflow="gate",
        )

    def attach_durably(self, bus: EventBus, clock: Clock) -> None:
        """Subscribe to a bus with a journal, with a cursor of its own and `remember` for the past."""
        self.bus, self.clock, self.durable = bus, clock, True
        bus.subscribe(list(self._reactions), self.receive, name=self.name, restore=self.remember)

    async def receive(self, event: Event) -> None:
        """React to an event."""
        reaction = self._reactions.get(type(event))
        if reaction is not None:
            await reaction(event)

    def remember(self, event: Event) -> None:
        """Rebuild state from an event that was handled before a restart. Raises `Forgetful`."""
        reaction = self._reactions.get(type(event))
        if reaction is None:
            return
        self.remembered_count += 1
        self.remembering = True
        steps = reaction(event)
        try:
            steps.send(None)
        except StopIteration:
            return
        finally:
            self.remembering = False
            steps.close()
        raise Forgetful(
            f"{self.name} waits while it remembers a {type(event).__name__}; let what its reaction waits for "
            "stand behind `if not self.remembering`"
        )

    async def report(
        self, order_id: str, from_state: OrderState, to_state: OrderState, reason: str = ""
    ) -> None:
        """Publish that an order went from one state to another."""
        await self.say(
            OrderStateChangeEvent(
                order_id=order_id,
                from_state=from_state,
                to_state=to_state,
                reason=reason,
                source_agent=self.name,
            )
        )

    async def say(self, event: Event) -> bool:
        """Publish, retrying for about two seconds while the bus has no room; False if it never had any.

        Nothing is lost silently: the bus counts each refusal under its reason, and so does `refused_count`.
        """
        if self.remembering:
            return True
        for _ in range(PATIENCE_ATTEMPTS):
            if await self.bus.publish(event):
                self.on_said(event)
                return True
            self.refused_count += 1
            await asyncio.sleep(PATIENCE_PAUSE_S)
        return False

    async def stop_work(self) -> None:
        """Do what the kill switch requires of this agent beyond `halted`. Runs beside its other reactions."""

    async def _hear_kill_switch(self, event: KillSwitchEvent) -> None:
        self.kill_heard_ns = self.clock.now_ns()
        self.halted = event.activated
        if event.activated:
            await self.stop_work()
        self.heard_kill.set()
