"""A venue in the place of the market: it fills orders where nothing goes out."""

from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from openoutcry.replay.app import set_up
from openoutcry.replay.stepped import SteppedThread, stepped_thread
from openoutcry.runtime.api.bus import EventBus
from openoutcry.runtime.api.parts import Parts
from openoutcry.runtime.delivery.subscription import Subscription


class VenueBus(EventBus):
    """A bus on which a venue takes the place of what the app subscribes under the same names."""

    _parts = Parts(threads=partial(SteppedThread, lambda _event: None))
    _of_venue: frozenset[str] = frozenset()

    def give_way(self) -> None:
        """From now on: who subscribes under a name that is taken gives way to whoever has it."""
        self._of_venue = frozenset(subscription.name for subscription in self.subscriptions)

    def taken(self, name: str | None) -> Subscription | None:
        """Return the venue's subscription of this name, if it has one and others give way."""
        return self.subscription(name) if name in self._of_venue and name is not None else None

    def subscribe(self, event_type: Any, handler: Any, **options: Any) -> Subscription:
        """Subscribe, as on every bus; under a name of the venue, return its subscription instead."""
        return self.taken(options.get("name")) or super().subscribe(event_type, handler, **options)

    def publish_threadsafe(self, event: Any, priority: bool = False) -> "Future[bool]":
        """Publish from any thread; for that of a handler the loop stands still, so the answer is there."""
        thread = stepped_thread()
        if thread is None:
            return super().publish_threadsafe(event, priority)
        answer: Future[bool] = thread.ask(_answer_of, self._admission.publish_nowait, event, priority)
        return answer


def _answer_of(publish: Callable[[Any, bool], bool], event: Any, priority: bool) -> "Future[bool]":
    """Return a future with what publishing returns, or raises."""
    future: Future[bool] = Future()
    try:
        future.set_result(publish(event, priority))
    except Exception as error:  # noqa: BLE001 - whatever publishing raises is the answer
        future.set_exception(error)
    return future


@asynccontextmanager
async def set_up_both(
    bus: VenueBus, app: Any, target: str, broker: Any, broker_target: str
) -> AsyncIterator[None]:
    """Have the venue, if there is one, and then the app subscribe to the bus."""
    if broker is None:
        async with set_up(app, bus, target):
            yield
        return
    async with set_up(broker, bus, broker_target):
        bus.give_way()
        async with set_up(app, bus, target):
            yield
