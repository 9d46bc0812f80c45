"""The events of the campaign of lives: classes that change from edition to edition, and what each event says.

An id ends in a letter for the type. What an event is about follows from its id, so that an agent's state
tells whether it was read right, whichever class had written it.

```
  edition        0               1                   2                    3                 broken
  Trade     amount: int   + venue = "here"   size: int, renamed   size: str, - venue   quantity: int
  version        1               1                   2                    3                 4
```

Each version has an upcaster to the next, but for the broken one: it cannot read what the others have
written. Nor can an edition read what a newer one has. `Note`, a dataclass, has one field more from edition 1
on. Fills are openoutcry's own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from zlib import crc32

from openoutcry import Event, FillEvent, OrderSide, register_event, upcaster

TRADE: Final = "lives_trade"
NOTE: Final = "lives_note"
FILL: Final = "fill"
TYPES: Final = {"t": TRADE, "n": NOTE, "f": FILL}
NEWEST: Final = 3
"""The newest edition that reads what the others have written."""
BROKEN: Final = NEWEST + 1
"""An edition whose upcaster was forgotten."""
AMOUNTS: Final = 997

Make = Callable[[str], Any]
Data = dict[str, Any]


def type_of(event_id: str) -> str:
    """Return the type of the event with this id."""
    return TYPES[event_id[-1]]


def amount_of(event_id: str) -> int:
    """Return what the event with this id is about."""
    return 1 + crc32(event_id.encode()) % AMOUNTS


def in_hand(event: Any) -> int:
    """Return what an event is about, as its class says."""
    for name in ("filled_quantity", "amount", "size", "quantity"):
        if hasattr(event, name):
            return int(getattr(event, name))
    raise AttributeError(f"{event!r} is about nothing")


def makers(edition: int) -> dict[str, Make]:
    """Define the classes of an edition, once per process, and return what makes their events, by type."""
    trade = (_amount, _venue, _renamed, _retyped, _broken)[edition]()
    return {TRADE: trade, NOTE: _longer_note() if edition else _note(), FILL: _fill}


def _fill(event_id: str) -> Any:
    quantity = float(amount_of(event_id))
    return FillEvent(
        event_id=event_id,
        order_id=event_id,
        symbol="ES",
        side=OrderSide.BUY,
        filled_quantity=quantity,
        fill_price=1.0,
    )


def _note() -> Make:
    @register_event
    @dataclass(frozen=True, kw_only=True)
    class LivesNote:
        event_id: str
        amount: int
        event_type: str = NOTE

    return lambda event_id: LivesNote(event_id=event_id, amount=amount_of(event_id))


def _longer_note() -> Make:
    @register_event
    @dataclass(frozen=True, kw_only=True)
    class LivesNote:
        event_id: str
        amount: int
        event_type: str = NOTE
        text: str = "none"

    return lambda event_id: LivesNote(event_id=event_id, amount=amount_of(event_id))


def _amount() -> Make:
    class LivesTrade(Event, kw_only=True):
        event_type: str = TRADE
        amount: int

    return lambda event_id: LivesTrade(event_id=event_id, amount=amount_of(event_id))


def _venue() -> Make:
    class LivesTrade(Event, kw_only=True):
        event_type: str = TRADE
        amount: int
        venue: str = "here"

    return lambda event_id: LivesTrade(event_id=event_id, amount=amount_of(event_id), venue="there")


def _renamed() -> Make:
    class LivesTrade(Event, kw_only=True):
        event_type: str = TRADE
        schema_version: int = 2
        size: int
        venue: str = "here"

    upcaster(LivesTrade, from_version=1)(_amount_is_size)
    return lambda event_id: LivesTrade(event_id=event_id, size=amount_of(event_id))


def _retyped() -> Make:
    class LivesTrade(Event, kw_only=True):
        event_type: str = TRADE
        schema_version: int = 3
        size: str

    upcaster(LivesTrade, from_version=1)(_amount_is_size)
    upcaster(LivesTrade, from_version=2)(_size_is_text)
    return lambda event_id: LivesTrade(event_id=event_id, size=str(amount_of(event_id)))


def _broken() -> Make:
    class LivesTrade(Event, kw_only=True):
        event_type: str = TRADE
        schema_version: int = 4
        quantity: int

    return lambda event_id: LivesTrade(event_id=event_id, quantity=amount_of(event_id))


def _amount_is_size(data: Data) -> Data:
    data["size"] = data.pop("amount")
    return data


def _size_is_text(data: Data) -> Data:
    data["size"] = str(data["size"])
    return data
