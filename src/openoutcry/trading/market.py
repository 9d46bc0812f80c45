"""What the market says: ticks and bars, option sensitivities, contract rolls."""

from typing import Final

from openoutcry.events import Event, EventType
from openoutcry.events.checks import WIDE, refuse, settle_count, settle_number, settle_text
from openoutcry.events.given import FixedType

_BAR: Final = ("open", "high", "low", "close")


class MarketDataEvent(Event, kw_only=True):
    """A trade, a quote or a bar. `price` is the last price, for a bar its close."""

    event_type: FixedType = EventType.MARKET_DATA
    symbol: str
    """The instrument."""
    price: float
    """Per unit, in the instrument's currency, as all prices here."""
    open: float | None = None
    """The bar's first price."""
    high: float | None = None
    """The bar's highest price."""
    low: float | None = None
    """The bar's lowest price."""
    close: float | None = None
    """The bar's last price."""
    volume: float | None = None
    """Traded in the bar, or in the trade: shares or contracts."""
    bid: float | None = None
    """The best bid."""
    ask: float | None = None
    """The best ask; not below the bid."""
    bid_size: float | None = None
    """Shares or contracts wanted at the bid."""
    ask_size: float | None = None
    """Shares or contracts offered at the ask."""
    interval: str | None = None
    """The bar's length, such as "1d" or "5m"; None for a tick."""

    def __post_init__(self) -> None:
        Event.__post_init__(self)
        if not (
            type(self.symbol) is str
            and self.symbol
            and type(self.price) is float
            and -WIDE < self.price < WIDE
        ):
            settle_text(self, "symbol")
            settle_number(self, "price")
        if self.high is not None or self.low is not None or self.open is not None or self.close is not None:
            self._check_bar()
        if self.bid is not None or self.ask is not None:
            self._check_quote()
        if self.volume is not None and not (type(self.volume) is float and 0.0 <= self.volume < WIDE):
            settle_number(self, "volume", low=0.0)
        if self.bid_size is not None or self.ask_size is not None:
            self._check_sizes()
        if self.interval is not None:
            settle_text(self, "interval")

    def _check_bar(self) -> None:
        low, high = self.low, self.high
        if (
            type(low) is type(high) is type(self.open) is type(self.close) is float
            and -WIDE < low <= self.open <= high < WIDE
            and low <= self.close <= high
        ):
            return
        for field in _BAR:
            settle_number(self, field, none=True)
        for field in _BAR:
            value = getattr(self, field)
            if value is None:
                continue
            if self.low is not None and value < self.low:
                refuse(self, field, f"must not be below low = {self.low!r}", "correct the bar")
            if self.high is not None and value > self.high:
                refuse(self, field, f"must not be above high = {self.high!r}", "correct the bar")

    def _check_quote(self) -> None:
        if type(self.bid) is type(self.ask) is float and -WIDE < self.bid <= self.ask < WIDE:
            return
        settle_number(self, "bid", none=True)
        settle_number(self, "ask", none=True)
        if self.bid is not None and self.ask is not None and self.bid > self.ask:
            refuse(
                self,
                "bid",
                f"must not be above ask = {self.ask!r}",
                "drop the crossed quote, or one side of it",
            )

    def _check_sizes(self) -> None:
        bid, ask = self.bid_size, self.ask_size
        if type(bid) is type(ask) is float and 0.0 <= bid < WIDE and 0.0 <= ask < WIDE:
            return
        settle_number(self, "bid_size", low=0.0, none=True)
        settle_number(self, "ask_size", low=0.0, none=True)


class GreeksUpdateEvent(Event, kw_only=True):
    """The sensitivities of an option, a position or a book. None means not computed, which is not zero."""

    event_type: FixedType = EventType.GREEKS_UPDATE
    symbol: str
    """The option, its underlying, or the name of the book."""
    delta: float
    """Per unit of the underlying's price."""
    gamma: float | None = None
    """The change of delta per unit of the underlying's price."""
    vega: float | None = None
    """Per point of implied volatility (0.01)."""
    theta: float | None = None
    """Per calendar day."""
    rho: float | None = None
    """Per point of interest (0.01)."""
    underlying_price: float | None = None
    """At which the others were computed."""
    implied_volatility: float | None = None
    """Per year: 0.2 is 20 %."""

    def __post_init__(self) -> None:
        Event.__post_init__(self)
        settle_text(self, "symbol")
        settle_number(self, "delta")
        for field in ("gamma", "vega", "theta", "rho", "underlying_price"):
            settle_number(self, field, none=True)
        settle_number(self, "implied_volatility", low=0.0, none=True)


class RollSignalEvent(Event, kw_only=True):
    """A futures position should move from an expiring contract to the next."""

    event_type: FixedType = EventType.ROLL_SIGNAL
    symbol: str
    """The root, such as "ES"."""
    from_contract: str
    """The expiring contract, such as "ESH6"."""
    to_contract: str
    """The contract to roll into; another one."""
    days_to_expiry: int | None = None
    """Calendar days until the expiring contract ends."""
    quantity: float | None = None
    """How much to move; None for the whole position."""
    spread: float | None = None
    """Price of the next contract minus price of the expiring one."""
    reason: str = ""
    """Why now, in words."""

    def __post_init__(self) -> None:
        Event.__post_init__(self)
        _check_contracts(self)
        settle_count(self, "days_to_expiry", none=True)
        settle_number(self, "quantity", above=0.0, none=True)
        settle_number(self, "spread", none=True)
        settle_text(self, "reason", empty=True)


class RollCompleteEvent(Event, kw_only=True):
    """A position has moved from one contract to the next, at these prices."""

    event_type: FixedType = EventType.ROLL_COMPLETE
    symbol: str
    """The root, such as "ES"."""
    from_contract: str
    """The contract that was left."""
    to_contract: str
    """The contract that is held now."""
    quantity: float
    """Contracts moved, above 0."""
    from_price: float
    """At which the expiring contract was closed."""
    to_price: float
    """At which the next contract was opened."""
    cost: float = 0.0
    """Commissions and slippage, in the account's currency; a gain is negative."""

    def __post_init__(self) -> None:
        Event.__post_init__(self)
        _check_contracts(self)
        settle_number(self, "quantity", above=0.0)
        for field in ("from_price", "to_price", "cost"):
            settle_number(self, field)


def _check_contracts(event: RollSignalEvent | RollCompleteEvent) -> None:
    for field in ("symbol", "from_contract", "to_contract"):
        settle_text(event, field)
    if event.from_contract == event.to_contract:
        refuse(event, "to_contract", "must differ from from_contract", "name the contract to roll into")
