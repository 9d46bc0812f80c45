"""What all agents have in common: a name, one mailbox, and a reaction to the kill switch.

An agent subscribes once, with everything it takes: it has one mailbox and one consumer, so that it gets
events in order and its reactions never race each other.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ClassVar

import msgspec

from openoutcry.config import RetryPolicy
from openoutcry.errors import OpenOutcryError
from openoutcry.events import Event
from openoutcry.ports import Clock
from openoutcry.runtime.api.bus import EventBus
from openoutcry.runtime.delivery.memory import Memory
from openoutcry.trading import KillSwitchEvent, OrderState, OrderStateChangeEvent

Reaction = Callable[[Any], Coroutine[Any, Any, None]]

PATIENCE_ATTEMPTS = 400
PATIENCE_PAUSE_S = 0.005


class Forgetful(OpenOutcryError, RuntimeError):
    """An agent could not remember the past: one of its reactions waits for something even then."""


def _unheard(_event: Event) -> None:
    """Ignore what an agent publishes or receives."""


class Agent:
    """An agent of the firm.

    Subclasses call `react` in their constructor; `attach` then subscribes the agent to a bus.

    An agent whose bus has a journal can be killed: its state follows from the events that it has handled,
    and is saved now and then. At the next start it takes over the newest saved state (`load`), and the
    journal hands it the events that it has handled since. It reacts to them as before, but publishes nothing
    (`remember`). So whatever a reaction does to the outside world, other than by `say`, must check
    `remembering` first.

    Attributes:
        state: What its next reactions depend on, and what it has to account for: its attributes of these
            names, with their types. Subclasses add theirs. What is counted in one life only is not in it.
        saved_every: With a journal, its state is saved after so many events.
        name: Its name on the bus, in the ledger and in the report.
        halted: Whether the kill switch has been thrown.
        kill_heard_ns: The clock when the kill switch reached it in this life, or None.
        heard_kill: Set when the kill switch has reached it in this life and its own part is done.
        refused_count: How often the bus refused what it published.
        known_count: Events that its state follows from, over all lives.
        loaded_count: How many of them were in the saved state that it began with.
        remembered_count: Events that it was handed again at the start, on top of that.
        remembering: Whether it is handed the past, so that it builds its state and publishes nothing.
        durable: Whether the bus has a journal, so that everything that matters must be in it.
        on_said: Called with each event that it has published and the bus has accepted.
        on_heard: Called with each event before it reacts to it, the past that it remembers not included.

    """

    state: ClassVar[Mapping[str, Any]] = {"halted": bool, "known_count": int}
    saved_every: ClassVar[int] = 100

    bus: EventBus
    clock: Clock

    def __init__(self, name: str) -> None:
        self.name = name
        self.halted: bool = False
        self.kill_heard_ns: int | None = None
        self.heard_kill: asyncio.Event = asyncio.Event()
        self.refused_count: int = 0
        self.known_count: int = 0
        self.loaded_count: int = 0
        self.remembered_count: int = 0
        self.remembering: bool = False
        self.durable: bool = False
        self.on_said: Callable[[Event], None] = _unheard
        self.on_heard: Callable[[Event], None] = _unheard
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
        """Subscribe to a bus with a journal, with a cursor and a memory of its own."""
        self.bus, self.clock, self.durable = bus, clock, True
        memory = Memory(self.remember, self.save, self.load, every=self.saved_every)
        bus.subscribe(list(self._reactions), self.receive, name=self.name, memory=memory)

    async def receive(self, event: Event) -> None:
        """React to an event."""
        self.on_heard(event)
        reaction = self._reactions.get(type(event))
        if reaction is not None:
            await reaction(event)
            self.known_count += 1

    def save(self) -> bytes:
        """Return its state, in JSON."""
        return msgspec.json.encode({name: getattr(self, name) for name in self.state})

    def load(self, state: bytes) -> None:
        """Take over a state that `save` has returned."""
        parts = msgspec.json.decode(state, type=dict[str, msgspec.Raw])
        for name, kind in self.state.items():
            setattr(self, name, msgspec.json.decode(parts[name], type=kind, dec_hook=_counter))
        self.loaded_count = self.known_count

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
            self.known_count += 1
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
        if not self.remembering:
            self.kill_heard_ns = self.clock.now_ns()
        self.halted = event.activated
        if event.activated:
            await self.stop_work()
        if not self.remembering:
            self.heard_kill.set()


def _counter(_kind: type, counts: dict[str, int]) -> Counter[str]:
    """Return counts as what they were: the one kind of attribute that msgspec does not know."""
    return Counter(counts)
