"""`EventBus.publish`: by the fast path what may pass there, and by the slow path everything else.

Users await it, so it is a coroutine of the interpreter whatever is compiled: from Python 3.12 on, to await a
compiled one from interpreted code raises and catches an exception. It has two forms, which do the same:

- *asking*: `publish` asks `admit`. Used where the fast path is compiled, or checks all events.
- *written out*: `publish` itself does what `admit` does for most events, one more of a plain class. Used on
  pure source, where a call costs more.
"""

from collections.abc import Callable, Coroutine
from threading import get_ident
from typing import Any, Final, Protocol

from openoutcry.compiled import compiled_modules
from openoutcry.runtime.admission.fast_path import CheckingFastPath, FastPath, SlowPath
from openoutcry.runtime.delivery.causation import stamp_cause
from openoutcry.runtime.delivery.dispatcher import Dispatcher
from openoutcry.runtime.delivery.state import BusState

IS_COMPILED: Final = FastPath.__module__ in compiled_modules()


class Publish(Protocol):
    """What publishes one event: `EventBus.publish`."""

    def __call__(
        self, event: Any, priority: bool = False, level: str | None = None
    ) -> Coroutine[Any, Any, bool]:
        """Publish it. True: it was accepted."""
        ...


class WrittenOut(FastPath):
    """The fast path of pure source, with a `publish` of its own."""

    __slots__ = ()

    async def publish(self, event: Any, priority: bool = False, level: str | None = None) -> bool:
        """Admit an event here, or have the slow path do it."""
        if not priority and level is None:
            cls, staged = event.__class__, self._staged
            if (
                len(staged) < self._most
                and get_ident() == self._place._thread_id  # noqa: SLF001 - see `ownership`
                and (cls is self._newest_class or (staged and self._mixes(cls)))
                and (event_id := event.event_id).__class__ is str
            ):
                seen = self._seen
                limit = seen.limit
                if not limit:
                    if event_id in seen.now or event_id in seen.before or not event_id:
                        return await self._slow.publish(event)
                    seen.now.add(event_id)
                elif limit > event_id > seen.newest:
                    seen.newest = event_id
                    seen.line.append(event_id)
                elif not seen.add_other(event_id):
                    return await self._slow.publish(event)
                if self._tracker.calls:
                    stamp_cause(self._bus, event)
                staged.append(event)
                return True
            admitted = self.admit(event)
            if admitted is True:
                return True
            if admitted is not False:
                await admitted
                return True
        return await self._slow.publish(event, priority, level)

    def _mixes(self, cls: type) -> bool:
        """Return True if an event of another class than the last may follow what is staged."""
        if self._newest_class is None or cls not in self._plain:
            return False
        self._newest_class = cls
        self.dispatcher.mixed = True
        return True


def asking(fast_path: FastPath, slow: SlowPath) -> Publish:
    """Return a `publish` that asks a fast path, and has the slow path do the rest."""
    admit, publish_slowly = fast_path.admit, slow.publish

    async def publish(event: Any, priority: bool = False, level: str | None = None) -> bool:
        """Admit an event by the fast path, or have the slow path do it."""
        if not priority and level is None:
            admitted = admit(event)
            if admitted is True:
                return True
            if admitted is not False:
                await admitted
                return True
        return await publish_slowly(event, priority, level)

    return publish


def new_fast_path(
    bus: BusState, slow: SlowPath, new_dispatcher: Callable[..., Dispatcher]
) -> tuple[FastPath, Publish]:
    """Return the fast path of a bus, and the `publish` that goes with it."""
    if not (IS_COMPILED or bus.checks_all):
        written_out = WrittenOut(bus, slow, new_dispatcher)
        return written_out, written_out.publish
    fast_path = (CheckingFastPath if bus.checks_all else FastPath)(bus, slow, new_dispatcher)
    return fast_path, asking(fast_path, slow)
