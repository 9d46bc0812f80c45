"""A venue in the place of the market: it fills orders where nothing goes out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from openoutcry.replay.app import set_up
from openoutcry.runtime.api.bus import EventBus
from openoutcry.runtime.delivery.subscription import Subscription


class VenueBus(EventBus):
    """A bus on which a venue takes the place of what the app subscribes under the same names."""

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
