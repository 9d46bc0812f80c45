"""What all agents have in common: a name, one mailbox, and a hand on the kill switch.

An agent subscribes once, with everything it takes: one mailbox and one runner, so that it hears things in
order and its state is never raced by its own reactions.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from openoutcry.config import RetryPolicy
from openoutcry.events import Event
from openoutcry.ports import Clock
from openoutcry.runtime.bus import EventBus
from openoutcry.trading import KillSwitchEvent

Reaction = Callable[[Any], Awaitable[None]]

PATIENCE_ATTEMPTS = 400
PATIENCE_PAUSE_S = 0.005


class Agent:
    """Someone who works at the firm.

    Subclasses call `react` in their constructor; `attach` then subscribes the agent to a bus.

    Attributes:
        name: Its name on the bus, in the ledger and in the report.
        halted: Whether the kill switch has been thrown.
        kill_heard_ns: The clock when the kill switch reached it, or None.
        heard_kill: Set when the kill switch has reached it and its own part is done.
        refused_count: How often the bus refused what it wanted to say.

    """

    bus: EventBus
    clock: Clock

    def __init__(self, name: str) -> None:
        self.name = name
        self.halted = False
        self.kill_heard_ns: int | None = None
        self.heard_kill = asyncio.Event()
        self.refused_count = 0
        self._reactions: dict[type[Event], Reaction] = {KillSwitchEvent: self._hear_kill_switch}

    def react(self, kind: type[Event], reaction: Reaction) -> None:
        """Take events of a class (not of its subclasses), with this method."""
        self._reactions[kind] = reaction

    def attach(
        self, bus: EventBus, clock: Clock, *, timeout_s: float | None = None, retry: RetryPolicy | None = None
    ) -> None:
        """Subscribe to the bus. A reaction that takes longer than `timeout_s` is cancelled and has failed."""
        self.bus, self.clock = bus, clock
        bus.subscribe(list(self._reactions), self.receive, name=self.name, timeout_s=timeout_s, retry=retry)

    async def receive(self, event: Event) -> None:
        """React to an event."""
        reaction = self._reactions.get(type(event))
        if reaction is not None:
            await reaction(event)

    async def say(self, event: Event) -> bool:
        """Publish, trying again for about two seconds while the bus has no room; False when it never had any.

        Nothing is lost without a trace: the bus counts each refusal under its reason, and `refused_count`
        here too.
        """
        for _ in range(PATIENCE_ATTEMPTS):
            if await self.bus.publish(event):
                return True
            self.refused_count += 1
            await asyncio.sleep(PATIENCE_PAUSE_S)
        return False

    async def stop_work(self) -> None:
        """Do what the kill switch asks of this agent, beyond `halted`. Runs beside its other reactions."""

    async def _hear_kill_switch(self, event: KillSwitchEvent) -> None:
        self.kill_heard_ns = self.clock.now_ns()
        self.halted = event.activated
        if event.activated:
            await self.stop_work()
        self.heard_kill.set()
