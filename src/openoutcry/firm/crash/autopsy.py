"""What a killed firm has left: the orders in flight, by its journal and by the broker."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from openoutcry.errors import JournalError
from openoutcry.events import decode
from openoutcry.firm.brokerage import BrokerLine
from openoutcry.journals import JournalReader
from openoutcry.ports import Filter
from openoutcry.trading import FillEvent, OrderEvent

_PAGE = 10_000


@dataclass(frozen=True, slots=True)
class InFlight:
    """Orders that were journaled and whose fills were not when the firm died.

    Attributes:
        unsent: The broker had never heard of them.
        working: The broker had them.
        unheard: The broker had filled them, and the firm did not know.
        events: How many events the journal held in all.

    """

    unsent: int
    working: int
    unheard: int
    events: int

    @property
    def count(self) -> int:
        """All of them."""
        return self.unsent + self.working + self.unheard

    @property
    def in_words(self) -> str:
        """Return the state of the orders in words."""
        parts = (
            (self.unsent, "not sent"),
            (self.working, "with the broker"),
            (self.unheard, "filled unheard"),
        )
        return ", ".join(f"{count} {how}" for count, how in parts if count) or "none"


async def in_flight(journal: Path, line: BrokerLine) -> InFlight:
    """Compare a dead firm's journal, which may not exist yet, with the broker's books."""
    orders, filled, events = set(), set(), 0
    with suppress(JournalError), JournalReader(journal) as reader:
        for event in read_events(reader, "order", "fill"):
            if isinstance(event, OrderEvent):
                orders.add(event.client_order_id)
            elif isinstance(event, FillEvent):
                filled.add(event.order_id)
        events = reader.head
    known = {order.client_order_id: order for order in await line.orders()}
    open_ones = {
        client_order_id
        for client_order_id in orders
        if client_order_id not in known or known[client_order_id].order_id not in filled
    }
    states = [known[one].state if one in known else "" for one in open_ones]
    return InFlight(
        unsent=states.count(""), working=states.count("new"), unheard=states.count("filled"), events=events
    )


def read_events(reader: JournalReader, *types: str) -> list[object]:
    """Return the events of some types from a journal, in order."""
    found: list[object] = []
    after, where = 0, Filter(types=frozenset(types))
    while page := reader.read(after, _PAGE, where):
        found += [decode(entry.payload) for entry in page]
        after = page[-1].position
    return found
