"""What a journal costs the events that are not in it: market data, at level `memory`, with persistence on and off."""

from collections.abc import Sequence
from typing import Any

from subjects.base import MARKET_DATA, Route
from subjects.handlers import trivial
from subjects.openoutcry_bus import Openoutcry

from measures.durable import folder
from measures.timing import middle, time_bursts
from openoutcry import EventBus


class Named(Openoutcry):
    """The same bus; its subscriptions have names, as those of a bus with a journal must."""

    async def open(self, routes: Sequence[Route]) -> None:
        self.bus = EventBus(**self._settings)
        for number, (topics, handler) in enumerate(routes):
            self.bus.subscribe(list(topics), handler, name=f"reader-{number}")
        await self.bus.start()


async def measure(persistence: bool, publish: str, handlers: int, window_s: float) -> dict[str, Any]:
    """Deliveries per second of market data, the settings at their defaults but for the journal."""
    from openoutcry import PersistenceConfig  # noqa: PLC0415 - beside the rest of its kind

    with folder() as place:
        settings = {}
        if persistence:
            config = PersistenceConfig(path=place / "openoutcry.db")
            settings = {"enable_persistence": True, "persistence_config": config}
        bus = Named(publish=publish, settings=settings)
        routes = [((MARKET_DATA,), trivial("async")) for _ in range(handlers)]
        rates = await time_bursts(bus, routes, (MARKET_DATA,), window_s)
    return {"deliveries_per_s": middle(rates) * handlers}
