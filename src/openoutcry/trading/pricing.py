"""Which prices each type of order has."""

from typing import Any, Final

from openoutcry.events.checks import refuse, settle_member, settle_number
from openoutcry.trading.words import OrderType

_PRICES: Final[dict[OrderType, tuple[bool, bool]]] = {
    # kind: has a limit price, has a stop price
    OrderType.MARKET: (False, False),
    OrderType.LIMIT: (True, False),
    OrderType.STOP: (False, True),
    OrderType.STOP_LIMIT: (True, True),
}


def check_order_terms(event: Any) -> None:
    """Settle order_type, limit_price and stop_price, and check that just the needed prices are given."""
    if event.order_type is OrderType.MARKET and event.limit_price is None and event.stop_price is None:
        return
    settle_member(event, "order_type", OrderType)
    wants_limit, wants_stop = _PRICES[event.order_type]
    _check_price(event, "limit_price", event.limit_price, wanted=wants_limit)
    _check_price(event, "stop_price", event.stop_price, wanted=wants_stop)


def _check_price(event: Any, field: str, price: float | None, *, wanted: bool) -> None:
    kind = event.order_type.name
    if wanted and price is None:
        refuse(event, field, f"a {kind} order needs it", "give the price, or another order_type")
    if not wanted and price is not None:
        refuse(event, field, f"a {kind} order has none", "leave it out, or give another order_type")
    settle_number(event, field, none=True)
