"""The firm's connection to the broker."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

from openoutcry.firm.brokerage.ledger import BrokerRefusal, Execution, Order, Taken
from openoutcry.firm.brokerage.protocol import (
    LINE_BYTES_MAX,
    Answer,
    AskExecutions,
    AskOrder,
    AskOrders,
    Cancel,
    Close,
    Opening,
    Request,
    Submit,
    decode_answer,
    encode,
)
from openoutcry.firm.money import Units


def _nobody() -> None:
    """Ignore that a request was sent."""


class BrokerLine:
    """A connection to the broker. One request at a time; use it as an async context manager.

    A request may be repeated if its answer did not come: it has the same answer and no second effect. So a
    call that is cancelled or raises `ConnectionError` is *unknown*, and must be repeated. All calls raise
    `BrokerRefusal` if the broker does not do what it was asked to.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._turn = asyncio.Lock()

    @classmethod
    async def connect(cls, socket: Path) -> Self:
        """Connect to the broker that listens at a Unix socket."""
        return cls(*await asyncio.open_unix_connection(socket, limit=LINE_BYTES_MAX))

    async def submit(self, order: Order, on_asked: Callable[[], None] = _nobody) -> Taken:
        """Send an order. `on_asked` is called after it was sent, before the answer comes."""
        answer = await self._ask(Submit(order), on_asked)
        return Taken(answer.orders[0], answer.repeated)

    async def cancel(self, client_order_id: str) -> Order:
        """Cancel an order, and return it in its state after that, which may be filled."""
        return (await self._ask(Cancel(client_order_id))).orders[0]

    async def opening(self, day: str, symbol: str, price: Units) -> int:
        """Tell the broker an opening print, and return the number of its newest execution."""
        return (await self._ask(Opening(day, symbol, price))).last_execution

    async def close_market(self) -> None:
        """Tell the broker that there is no further opening."""
        await self._ask(Close())

    async def order(self, client_order_id: str) -> Order | None:
        """Return an order, or None if the broker never had it."""
        return next(iter((await self._ask(AskOrder(client_order_id))).orders), None)

    async def orders(self) -> list[Order]:
        """Return all orders, in the order in which they came in."""
        return (await self._ask(AskOrders())).orders

    async def executions(self, after: int = 0) -> list[Execution]:
        """Return the executions whose number is above `after`, in order."""
        return (await self._ask(AskExecutions(after))).executions

    async def _ask(self, request: Request, on_asked: Callable[[], None] = _nobody) -> Answer:
        async with self._turn:
            self._writer.write(encode(request) + b"\n")
            await self._writer.drain()
            on_asked()
            line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("the broker hung up before it answered; ask again when it is back")
        answer = decode_answer(line)
        if answer.error:
            raise BrokerRefusal(answer.error)
        return answer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()
