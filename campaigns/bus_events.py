"""The events of the bus's crash campaign, and what becomes of them by rights: an event's id says it all.

An id ends in a letter for the type, so that the parent, who knows ids alone, can make the same event and
knows who takes it, whose handler fails on it, and what is published for it.
"""

from typing import Any, Final
from zlib import crc32

from openoutcry import (
    FillEvent,
    KillSwitchEvent,
    MarketDataEvent,
    OrderEvent,
    OrderSide,
    OrderType,
    SignalDirection,
    SignalEvent,
)

TYPES: Final = {"o": "order", "f": "fill", "s": "signal", "k": "kill_switch", "t": "market_data"}
TAKES: Final[dict[str, tuple[str, ...]]] = {
    "quick": ("order", "fill", "signal", "market_data"),
    "slow": ("order", "fill"),
    "failing": ("order", "fill"),
    "desk": ("signal",),
    "hedger": ("fill",),
    "visitor": ("order", "fill"),
    "paused": ("order",),
    "control": ("kill_switch",),
}
SLOW_CALLS: Final = 3
"""Calls that `slow` has in hand at a time: there is no order."""
OUTBOX: Final = "desk"
"""Publishes with an outbox, for signals."""
HEDGER: Final = "hedger"
"""Publishes at once, for fills."""


def made(event_id: str) -> Any:
    """Return the one event that has this id."""
    kind = TYPES[event_id[-1]]
    if kind == "order":
        return an_order(event_id, event_id=event_id)
    if kind == "fill":
        return FillEvent(
            event_id=event_id,
            order_id=event_id,
            symbol="ES",
            side=OrderSide.BUY,
            filled_quantity=1.0,
            fill_price=1.0,
        )
    if kind == "signal":
        round_id, agent = event_id.rsplit(".", 1)
        return SignalEvent(
            event_id=event_id,
            strategy_name=agent,
            source_agent=agent,
            symbol="ES",
            direction=SignalDirection.LONG,
            round_id=round_id,
        )
    if kind == "kill_switch":
        return KillSwitchEvent(event_id=event_id, scope=event_id)  # so that none stands for another
    return MarketDataEvent(event_id=event_id, symbol="ES", price=1.0)


def an_order(order_id: str, **fields: Any) -> OrderEvent:
    """Return an order; without an `event_id` the handler that makes it derives one."""
    return OrderEvent(
        order_id=order_id,
        symbol="ES",
        side=OrderSide.BUY,
        quantity=1.0,
        order_type=OrderType.MARKET,
        **fields,
    )


def one_in(many: int, event_id: str, salt: str = "") -> bool:
    """Return True if an event is one of those, the same in every life."""
    return crc32(f"{salt}{event_id}".encode()) % many == 0


def outputs(subscription: str, cause_id: str) -> list[str]:
    """Return the order ids of what a subscription publishes for an event: each belongs there exactly once."""
    if subscription == HEDGER and cause_id[-1] == "f":
        count = 2
    elif subscription == OUTBOX and cause_id[-1] == "s":
        count = crc32(cause_id.encode()) % 4
    else:
        count = 0
    return [f"{subscription}|{cause_id}|{number}" for number in range(count)]
