"""The consumers of a running bus: one for each subscription, and those of ended ones whose calls go on."""

import asyncio
from collections.abc import Iterator

from openoutcry.runtime.delivery.consumer import Consumer
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.delivery.subscription import Subscription
from openoutcry.runtime.delivery.worker import Deliverer


class Consumers:
    """Begins and ends the consumers of one bus."""

    def __init__(self, bus: BusState, dispatcher: Deliverer) -> None:
        self._bus = bus
        self._dispatcher = dispatcher
        self._by_subscription: dict[Subscription, Consumer] = {}
        self._leaving: set[Consumer] = set()

    def __iter__(self) -> Iterator[Consumer]:
        return iter(self._by_subscription.values())

    @property
    def leaving(self) -> tuple[Consumer, ...]:
        """Those of subscriptions that have ended; their calls may go on."""
        return tuple(self._leaving)

    def of(self, subscription: Subscription) -> Consumer | None:
        """Return the consumer of a subscription; None while the bus does not run."""
        return self._by_subscription.get(subscription)

    def begin(self, subscription: Subscription) -> None:
        """Start the workers of a subscription."""
        loop = self._bus.loop
        assert loop is not None
        self._by_subscription[subscription] = Consumer(subscription, self._bus, self._dispatcher, loop)

    def end(self, subscription: Subscription) -> None:
        """End a subscription: what waits is withdrawn and counted, and running calls go on to their end."""
        bus = self._bus
        subscription.end()
        bus.withdraw(subscription)
        bus.router.remove(subscription)
        bus.durability.ended(subscription)
        consumer = self._by_subscription.pop(subscription, None)
        if consumer is not None:
            self._leaving = {other for other in self._leaving if not other.is_over} | {consumer}
            consumer.wake()
            consumer.wake_control()
        self._dispatcher.drained(None)

    def give_up(self) -> None:
        """The loop was closed: no worker goes on, and what they had begun waits again."""
        for consumer in (*self._by_subscription.values(), *self._leaving):
            subscription = consumer.subscription
            subscription.detach()
            for mailbox in (subscription.mailbox, subscription.control):
                for batch in list(mailbox.open):
                    mailbox.release(batch)
            if subscription.ended:
                self._bus.withdraw(subscription)
        self._by_subscription.clear()
        self._leaving.clear()

    def forked(self) -> None:
        """In a forked child: no worker is to begin anything, should the copy of the loop run on."""
        for consumer in (*self._by_subscription.values(), *self._leaving):
            consumer.forked()

    async def stop(self, grace_s: float) -> None:
        """End all workers, and give the calls that are running so much time after they were cancelled."""
        everybody = (*self._by_subscription.values(), *self._leaving)
        await asyncio.gather(*(consumer.stop(grace_s) for consumer in everybody))
        self._by_subscription.clear()
        self._leaving.clear()
