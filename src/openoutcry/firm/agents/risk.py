"""Risk: judges every decision, stops positions out, takes the firm out of the market in a drawdown."""

from collections.abc import Mapping
from typing import Any, ClassVar

from openoutcry.firm.agents.bookkeeper import Bookkeeper
from openoutcry.firm.happenings import SessionOpened
from openoutcry.firm.limits import Planned, judge, stopped_out
from openoutcry.firm.mandate import Mandate
from openoutcry.firm.money import Units
from openoutcry.trading import (
    AlertSeverity,
    DecisionEvent,
    MarketDataEvent,
    OrderSide,
    RiskAlertEvent,
    ValidatedDecisionEvent,
)


class RiskOfficer(Bookkeeper):
    """Judges decisions by `limits.judge`, and remembers stops and halts.

    Attributes:
        stops_count: Positions that were stopped out.
        halts_count: Drawdowns for which everything was closed for `halt_days`.
        cut_count: Decisions that passed with a smaller quantity.
        rejected_count: Decisions that did not pass.

    """

    state: ClassVar[Mapping[str, Any]] = {
        **Bookkeeper.state,
        "stops_count": int,
        "halts_count": int,
        "cut_count": int,
        "rejected_count": int,
        "_planned": Planned,
        "_peak": Units,
        "_today": int,
        "_halted_until": int,
        "_stopped_until": dict[str, int],
    }

    def __init__(self, mandate: Mandate, name: str = "risk") -> None:
        super().__init__(name, mandate)
        self.stops_count: int = 0
        self.halts_count: int = 0
        self.cut_count: int = 0
        self.rejected_count: int = 0
        self._planned = Planned()
        self._peak = mandate.capital
        self._today = 0
        self._halted_until = 0
        self._stopped_until: dict[str, int] = {}
        self.react(DecisionEvent, self.on_decision)

    @property
    def in_drawdown_halt(self) -> bool:
        """Whether only reductions pass today."""
        return self._today < self._halted_until

    async def on_session(self, event: SessionOpened) -> None:
        """Begin a day: yesterday's orders are filled or dead by now; check the equity of the last close."""
        await super().on_session(event)
        self._today = event.number
        self._planned = Planned()
        equity = self.book.equity
        self._peak = equity if self._today == self._halted_until else max(self._peak, equity)
        fall = 1 - equity / self._peak
        if fall > self.mandate.drawdown_max and not self.in_drawdown_halt and not self.halted:
            self._halted_until = self._today + self.mandate.halt_days
            self.halts_count += 1
            await self.say(self._alert("drawdown", fall, self.mandate.drawdown_max, halt=True))

    async def on_bar(self, bar: MarketDataEvent) -> None:
        """Close a position that has lost too much and, in a halt, every position."""
        position = self.book.position(bar.symbol)
        if self.halted or not position.quantity:
            return
        if stopped_out(position, self.mandate.stop_loss):
            self.stops_count += 1
            self._stopped_until[bar.symbol] = self._today + self.mandate.stop_pause_days
            move = abs(position.last_price / position.average_price - 1)
            alert = self._alert("stop_loss", move, self.mandate.stop_loss, bar.symbol)
        elif self.in_drawdown_halt:
            fall = 1 - self.book.equity / self._peak
            alert = self._alert("drawdown_exit", fall, self.mandate.drawdown_max, bar.symbol)
        else:
            return
        await self.say(alert)
        await self._approve(alert.event_id, bar.symbol, -position.quantity, causation_id=alert.event_id)

    async def on_decision(self, decision: DecisionEvent) -> None:
        """Judge a decision."""
        if self.halted:
            await self._reject(decision, "the kill switch has been thrown")
            return
        symbol = decision.symbol
        wanted = int(decision.quantity) * (1 if decision.action is OrderSide.BUY else -1)
        if self._today < self._stopped_until.get(symbol, -1):
            await self._reject(decision, "stopped out: the symbol is left alone for a while")
            return
        if self.in_drawdown_halt and self._planned.holding(self.book, symbol) == 0:
            await self._reject(decision, "trading is halted, and the position is being closed")
            return
        ruling = judge(
            symbol,
            wanted,
            book=self.book,
            planned=self._planned,
            mandate=self.mandate,
            halted=self.in_drawdown_halt,
        )
        if ruling.quantity * wanted <= 0:
            await self._reject(decision, ruling.reason)
            return
        self.cut_count += ruling.quantity != wanted
        await self._approve(decision.event_id, symbol, ruling.quantity)

    async def _approve(
        self, decision_id: str, symbol: str, quantity: int, causation_id: str | None = None
    ) -> None:
        self._planned.add(symbol, quantity)
        await self.say(
            ValidatedDecisionEvent(
                original_decision_id=decision_id,
                symbol=symbol,
                approved=True,
                adjusted_quantity=float(abs(quantity)),
                side=OrderSide.BUY if quantity > 0 else OrderSide.SELL,
                risk_metrics=self._metrics(symbol),
                source_agent=self.name,
                causation_id=causation_id,
            )
        )

    async def _reject(self, decision: DecisionEvent, reason: str) -> None:
        self.rejected_count += 1
        await self.say(
            ValidatedDecisionEvent(
                original_decision_id=decision.event_id,
                symbol=decision.symbol,
                approved=False,
                rejection_reason=reason,
                risk_metrics=self._metrics(decision.symbol),
                source_agent=self.name,
            )
        )

    def _metrics(self, symbol: str) -> dict[str, float]:
        equity = max(self.book.equity, 1)
        worth = self._planned.holding(self.book, symbol) * self.book.position(symbol).last_price
        gross = self._planned.gross_without(self.book, symbol) + abs(worth)
        return {
            "weight": worth / equity,
            "gross": gross / equity,
            "drawdown": 1 - self.book.equity / self._peak,
        }

    def _alert(
        self, kind: str, value: float, limit: float, symbol: str = "", *, halt: bool = False
    ) -> RiskAlertEvent:
        who = symbol if kind == "stop_loss" else "the firm"
        return RiskAlertEvent(
            severity=AlertSeverity.CRITICAL if halt else AlertSeverity.WARNING,
            alert_type=kind,
            message=f"{who} is down {value:.1%}, the limit is {limit:.0%}",
            affected_positions=(symbol,) if symbol else (),
            current_value=value,
            threshold_value=limit,
            halt_trading=halt,
            source_agent=self.name,
        )
