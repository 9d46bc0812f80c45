"""The firm as an app: for `openoutcry run openoutcry.firm:app`, and to replay what the demo records."""

from collections.abc import AsyncIterator

from openoutcry.clocks import clock_of_loop
from openoutcry.events import stamps
from openoutcry.firm.agents import PaperBroker
from openoutcry.firm.bars import load_history
from openoutcry.firm.house import House
from openoutcry.firm.mandate import Mandate
from openoutcry.firm.strategies import recipes
from openoutcry.runtime.api.bus import EventBus

STRATEGIES = 14


def venue(bus: EventBus) -> None:
    """Put the firm's paper broker on a bus: the venue of a backtest. It fills at the next opening."""
    PaperBroker(Mandate()).attach(bus, clock_of_loop())


async def app(bus: EventBus) -> AsyncIterator[None]:
    """Put the firm's agents on a bus; then trade all days of the bars that come with the package."""
    house = House(load_history(), recipes(STRATEGIES), given=bus, clock=clock_of_loop())
    house.attach()
    yield
    with stamps(ids="firm", time_ns=house.firm.market.wall_ns):
        async for _ in house.trade():
            pass
