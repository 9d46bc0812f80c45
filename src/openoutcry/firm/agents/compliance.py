"""Compliance: the second check. What Risk approved may still be forbidden."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

from openoutcry.firm.agents.bookkeeper import Bookkeeper
from openoutcry.firm.happenings import DAILY, SessionOpened
from openoutcry.firm.mandate import Mandate
from openoutcry.firm.money import to_units
from openoutcry.trading import MarketDataEvent, OrderSide, ValidatedDecisionEvent

CHECKS = ("restricted list", "order size", "share of volume", "duplicate", "wash trade")
VOLUME_DAYS = 20
BARS_MAX = 50
"""How far back the bars of a day are looked for: more than all opening prints and bars of one day."""


class ComplianceOfficer(Bookkeeper):
    """Checks what Risk approved, and publishes its own verdict, which Execution follows.

    Attributes:
        rejections: How often each check stopped a trade.

    """

    state: ClassVar[Mapping[str, Any]] = {
        **Bookkeeper.state,
        "rejections": Counter[str],
        "_sides_today": dict[str, OrderSide],
        "_volumes": dict[str, list[float]],
        "_symbols": tuple[str, ...],
        "_noted": set[str],
    }

    def __init__(self, mandate: Mandate, risk_name: str = "risk", name: str = "compliance") -> None:
        super().__init__(name, mandate)
        self.rejections: Counter[str] = Counter()
        self._risk_name = risk_name
        self._sides_today: dict[str, OrderSide] = {}
        self._volumes: dict[str, list[float]] = {}
        self._symbols: tuple[str, ...] = ()
        self._noted: set[str] = set()
        self.react(ValidatedDecisionEvent, self.on_validated)

    async def on_session(self, event: SessionOpened) -> None:
        """Begin a new day."""
        await super().on_session(event)
        self._sides_today.clear()
        self._symbols = event.symbols
        self._noted.clear()

    async def on_bar(self, bar: MarketDataEvent) -> None:
        """Remember the day's volume, once."""
        if bar.symbol not in self._noted:
            self._noted.add(bar.symbol)
            volumes = self._volumes.setdefault(bar.symbol, [])
            volumes.append(bar.volume or 0.0)
            del volumes[:-VOLUME_DAYS]

    async def _look_ahead(self) -> None:
        """Note the bars of today that still wait.

        Verdicts have priority: after a restart one may arrive again before the bars that preceded it.
        """
        if len(self._noted) == len(self._symbols):
            return
        for bar in self.bus.get_event_history(MarketDataEvent, limit=BARS_MAX):
            if bar.interval == DAILY and bar.timestamp.date().isoformat() == self.day:
                self.book.mark(bar.symbol, to_units(bar.price))
                await self.on_bar(bar)

    async def on_validated(self, event: ValidatedDecisionEvent) -> None:
        """Check what Risk approved."""
        if self.halted or event.source_agent != self._risk_name or not event.approved:
            return
        assert event.side is not None
        assert event.adjusted_quantity is not None
        await self._look_ahead()
        failed = self._failed_check(event.symbol, event.side, event.adjusted_quantity)
        if failed:
            self.rejections[failed] += 1
        else:
            self._sides_today[event.symbol] = event.side
        await self.say(
            ValidatedDecisionEvent(
                original_decision_id=event.original_decision_id,
                symbol=event.symbol,
                approved=not failed,
                adjusted_quantity=event.adjusted_quantity,
                side=event.side,
                risk_metrics=event.risk_metrics,
                compliance_checks=CHECKS,
                rejection_reason=failed,
                source_agent=self.name,
            )
        )

    def _failed_check(self, symbol: str, side: OrderSide, quantity: float) -> str | None:
        """Return the name of the first check that the trade does not pass, or None."""
        if symbol in self.mandate.restricted:
            return "restricted list"
        before = self._sides_today.get(symbol)
        if before is not None:
            return "duplicate" if before is side else "wash trade"
        reduces = self.book.quantity(symbol) * (1 if side is OrderSide.BUY else -1) < 0
        if (
            not reduces
            and quantity * self.book.position(symbol).last_price > self.mandate.order_max * self.book.equity
        ):
            return "order size"
        volumes = self._volumes.get(symbol)
        if volumes and quantity > self.mandate.volume_max * sum(volumes) / len(volumes):
            return "share of volume"
        return None
