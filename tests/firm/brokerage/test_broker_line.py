import asyncio
import json
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from openoutcry.firm.brokerage import BrokerLedger, BrokerLine, Order, serve
from openoutcry.firm.brokerage.ledger import BrokerRefusal
from openoutcry.firm.crash.processes import broker
from openoutcry.firm.mandate import Mandate
from openoutcry.trading import OrderSide

BUY = Order("2005-02-28-AAPL-buy", "ord-00001", "AAPL", OrderSide.BUY, 300)


@asynccontextmanager
async def open_broker():
    with (
        tempfile.TemporaryDirectory() as folder,
        BrokerLedger(Path(folder) / "broker.db", Mandate()) as ledger,
    ):
        async with serve(ledger, Path(folder) / "line"):
            yield Path(folder) / "line"


async def drop_after_asking(socket, request):
    """Send a whole line and go away without reading, as a firm does that is killed."""
    _, writer = await asyncio.open_unix_connection(socket)
    writer.write(json.dumps(request).encode() + b"\n")
    await writer.drain()
    writer.close()
    await writer.wait_closed()


def test_orders_and_fills_come_back_over_the_line_as_they_were_sent():
    async def talk():
        async with open_broker() as socket, await BrokerLine.connect(socket) as line:
            taken = await line.submit(BUY)
            assert (taken.order, taken.repeated) == (BUY, False)
            assert await line.order(BUY.client_order_id) == BUY
            assert await line.order("unknown") is None
            assert await line.opening("2005-03-01", "AAPL", 445_000) == 1
            (execution,) = await line.executions()
            assert (execution.client_order_id, execution.day) == (BUY.client_order_id, "2005-03-01")
            assert await line.executions(after=1) == []
            await line.close_market()

    asyncio.run(talk())


def test_a_firm_that_died_before_the_answer_asks_again_and_has_one_order():
    request = {"do": "submit", "order": ["2005-02-28-AAPL-buy", "ord-00001", "AAPL", "buy", 300]}

    async def talk():
        async with open_broker() as socket:
            await drop_after_asking(socket, request)
            async with await BrokerLine.connect(socket) as line:
                taken = await line.submit(BUY)
                orders = await line.orders()
                assert len(orders) == 1
                assert taken.order == BUY
                assert orders[0].repeats in (0, 1)

    asyncio.run(talk())


@pytest.mark.parametrize(
    "line", [b"what?\n", b'{"do": "steal"}\n', b'{"do": "cancel", "client_order_id": "x"}\n']
)
def test_a_request_that_the_broker_cannot_do_is_answered_with_the_reason(line):
    async def talk():
        async with open_broker() as socket:
            reader, writer = await asyncio.open_unix_connection(socket)
            writer.write(line)
            answer = json.loads(await reader.readline())
            assert answer["error"]
            writer.close()

    asyncio.run(talk())


def test_a_refusal_is_raised_where_it_was_asked_for_and_the_line_goes_on():
    async def talk():
        async with open_broker() as socket, await BrokerLine.connect(socket) as line:
            with pytest.raises(BrokerRefusal, match="unknown"):
                await line.cancel("never heard of")
            assert await line.orders() == []

    asyncio.run(talk())


def test_requests_at_the_same_time_get_each_its_own_answer():
    async def talk():
        async with open_broker() as socket, await BrokerLine.connect(socket) as line:
            orders = [Order(f"id-{n}", f"ord-{n}", "AAPL", OrderSide.BUY, n) for n in range(1, 20)]
            taken = await asyncio.gather(*(line.submit(order) for order in orders))
            assert [one.order for one in taken] == orders

    asyncio.run(talk())


def test_the_broker_is_a_process_whose_books_outlive_its_clients_and_itself(tmp_path):
    async def talk():
        async with broker(tmp_path / "broker.db") as socket:
            async with await BrokerLine.connect(socket) as line:
                await line.submit(BUY)
            async with await BrokerLine.connect(socket) as line:
                assert (await line.submit(BUY)).repeated
        async with broker(tmp_path / "broker.db") as socket:
            line = await BrokerLine.connect(socket)
            assert (await line.submit(BUY)).repeated
        async with line:
            with pytest.raises(ConnectionError):
                await line.orders()

    asyncio.run(talk())
