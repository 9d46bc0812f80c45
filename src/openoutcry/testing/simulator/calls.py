"""Calls of handlers in a simulation: the faults apply to them, and the truth sees them."""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from inspect import isawaitable
from typing import Any, Final

from openoutcry.runtime.delivery.causation import current
from openoutcry.runtime.delivery.handlers import Handler, is_coroutine_handler
from openoutcry.testing.simulator.chance import Chance
from openoutcry.testing.simulator.faults import OF_HANDLERS, Faults
from openoutcry.testing.simulator.loop import SimClock

FOREVER_S: Final = 1e6
STEM: Final = 26
"""So many characters before the dash has an id that was derived in a call."""
calling: ContextVar[tuple[str, str] | None] = ContextVar("openoutcry_simulated_call", default=None)
"""The subscription and the id of the event of the current call."""


def open_call(event_id: str) -> tuple[str, str] | None:
    """Return which call publishes an event whose id it has derived: its subscription, and its event's id."""
    guard = getattr(getattr(current.get(), "worker", None), "guard", None)
    if len(event_id.rpartition("-")[0]) != STEM or getattr(guard, "abandoned", True):
        return None
    return calling.get()


class Simulated(Exception):
    """Raised by a handler as a fault."""


class Outrage(BaseException):
    """Raised by a handler as a fault; not an `Exception`."""


class Calls:
    """Applies faults to handlers.

    Attributes:
        faults: What goes wrong.
        begins: Called with the subscription's name and the event when a call begins.
        ends: Called with them when a call has returned and its event is handled.
        opens: Called with them when a call begins; returns what is called when it is over.
        note: Takes a line for the trace.
        crash: Ends the process.

    """

    def __init__(self, chance: Chance, clock: SimClock) -> None:
        self._chance = chance
        self._clock = clock
        self.faults: Faults = Faults.none()
        self._table: list[tuple[float, str]] = []
        self.begins: Callable[[str, Any], None] = lambda _name, _event: None
        self.ends: Callable[[str, Any], None] = lambda _name, _event: None
        self.opens: Callable[[str, Any], Callable[[], None]] = lambda _name, _event: lambda: None
        self.note: Callable[[str], None] = lambda _what: None
        self.crash: Callable[[], None] = lambda: None

    def go_wrong(self, faults: Faults) -> None:
        """Apply these faults from now on."""
        self.faults = faults
        upto = 0.0
        self._table = []
        for kind in OF_HANDLERS:
            upto += getattr(faults, kind)
            self._table.append((upto, kind))

    def _draw(self) -> str:
        share = self._chance.share()
        return next((kind for upto, kind in self._table if share < upto), "")

    def wrapped(self, name: str, handler: Handler) -> Handler:
        """Return a handler that does what this one does unless a fault applies."""
        if not is_coroutine_handler(handler):
            return self._wrapped_plain(name, handler)

        async def call(event: Any) -> None:
            kind, leave = self._begin(name, event), self.opens(name, event)
            try:
                if kind:
                    await self._go_wrong(kind, name, handler, event)
                result = handler(event)
                if isawaitable(result):
                    await result
                self._end(name, event)
            finally:
                leave()

        return call

    def _wrapped_plain(self, name: str, handler: Handler) -> Handler:
        """Return a plain function for a plain function, so that the bus calls it as one."""

        def plain_call(event: Any) -> Any:
            kind, leave = self._begin(name, event), self.opens(name, event)
            try:
                _raise(kind, name)
                result = handler(event)
            except BaseException:
                leave()
                raise
            if isawaitable(result) or kind:
                return finish(kind, result, event, leave)
            self._end(name, event)
            leave()
            return None

        async def finish(kind: str, result: Any, event: Any, leave: Callable[[], None]) -> None:
            try:
                if isawaitable(result):
                    await result
                if kind:
                    await self._go_wrong(kind, name, lambda _event: None, event)
                self._end(name, event)
            finally:
                leave()

        return plain_call

    def _begin(self, name: str, event: Any) -> str:
        calling.set((name, event.event_id))
        self.begins(name, event)
        kind = self._draw()
        self.note(f"{name} begins {event.event_id} {kind}")
        return kind

    def _end(self, name: str, event: Any) -> None:
        guard = getattr(getattr(current.get(), "worker", None), "guard", None)
        if getattr(guard, "abandoned", False):
            self.note(f"{name} ends {event.event_id}, abandoned")
            return
        if getattr(guard, "has_swallowed_timeout", False):
            self.note(f"{name} ends {event.event_id}, which is too late: it counts as timed out")
            return
        self.note(f"{name} ends {event.event_id}")
        self.ends(name, event)

    async def _go_wrong(self, kind: str, name: str, handler: Handler, event: Any) -> None:
        """Apply a fault before the handler is called; return if the handler is to be called all the same."""
        chance = self._chance
        if kind == "slow":
            await asyncio.sleep(chance.one_of((0, 0.001, 0.03, 0.3, 2)))
        elif kind == "busy":
            self._clock.keep(chance.whole(1, 20_000_000))
        elif kind == "stuck":
            await asyncio.sleep(FOREVER_S)
        elif kind == "swallowing":
            await self._swallow()
        elif kind == "deadly":
            self.crash()
            await asyncio.sleep(FOREVER_S)
        else:
            await self._fail(kind, name, handler, event)

    async def _swallow(self) -> None:
        for long_s in (3.0, self._chance.between(0, 3)):
            try:
                await asyncio.sleep(long_s)
            except asyncio.CancelledError:
                self.note("a cancellation is swallowed")

    async def _fail(self, kind: str, name: str, handler: Handler, event: Any) -> None:
        if self._chance.happens(0.5):
            await asyncio.sleep(0)
        if self._chance.happens(0.3):  # it fails after it has done its work
            result = handler(event)
            if isawaitable(result):
                await result
        if kind == "raising":
            raise Simulated(name)
        if kind == "outraged":
            raise Outrage(name)
        if kind == "self_cancelling":
            task = asyncio.current_task()
            assert task is not None, "a handler runs in a task"
            task.cancel("by its own handler")
            await asyncio.sleep(0)
        raise asyncio.CancelledError("of its own")


def _raise(kind: str, name: str) -> None:
    """Raise what a fault of this kind raises at once."""
    if kind == "raising":
        raise Simulated(name)
    if kind == "outraged":
        raise Outrage(name)
