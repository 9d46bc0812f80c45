"""The broker's server: a Unix socket. Clients come and go, and the broker stays."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from openoutcry.firm.brokerage.ledger import BrokerLedger, BrokerRefusal
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
    decode_request,
    encode,
)


def answer(ledger: BrokerLedger, request: Request) -> Answer:  # noqa: PLR0911 - one line per kind of request
    """Do what is asked. It is in the books before it is answered."""
    match request:
        case Submit(order):
            taken = ledger.submit(order)
            return Answer(orders=[taken.order], repeated=taken.repeated)
        case Cancel(client_order_id):
            return Answer(orders=[ledger.cancel(client_order_id)])
        case Opening(day, symbol, price):
            ledger.open(day, symbol, price)
            return Answer(last_execution=ledger.last_execution)
        case Close():
            ledger.close()
            return Answer()
        case AskOrder(client_order_id):
            known = ledger.order(client_order_id)
            return Answer(orders=[] if known is None else [known])
        case AskOrders():
            return Answer(orders=ledger.orders())
        case AskExecutions(after):
            return Answer(executions=ledger.executions(after), last_execution=ledger.last_execution)


@asynccontextmanager
async def serve(ledger: BrokerLedger, socket: Path) -> AsyncIterator[None]:
    """Listen at a Unix socket while the block runs, then close all connections.

    A client may go away at any moment, even in the middle of a request: what it sent as a whole line is done.
    """
    clients: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        clients[task] = writer
        with suppress(ConnectionError):
            while line := await reader.readline():
                writer.write(encode(_answer_line(ledger, line)) + b"\n")
                await writer.drain()
        writer.close()
        del clients[task]

    async with await asyncio.start_unix_server(attend, socket, limit=LINE_BYTES_MAX):
        try:
            yield
        finally:
            for writer in clients.values():
                writer.close()
            await asyncio.gather(*clients)


def _answer_line(ledger: BrokerLedger, line: bytes) -> Answer:
    try:
        return answer(ledger, decode_request(line))
    except (BrokerRefusal, msgspec.DecodeError) as error:
        return Answer(error=str(error))
