"""The broker's own books, in a file of its own: orders by the client's order id, and the executions.

A broker outlives its clients. Everything is in the file before it is answered, and a request that a client
repeats because it died before the answer came has the same answer and no second effect: an order is known by
the id that the *client* gave it, an opening print by its day and symbol.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import msgspec

from openoutcry.errors import OpenOutcryError
from openoutcry.firm.costs import fill_commission, fill_price
from openoutcry.firm.mandate import Mandate
from openoutcry.firm.money import Units
from openoutcry.trading import OrderSide

_SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    client_order_id TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE, order_id TEXT NOT NULL,
    symbol TEXT NOT NULL, side TEXT NOT NULL, shares INTEGER NOT NULL, state TEXT NOT NULL,
    repeats INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS executions (
    number INTEGER PRIMARY KEY, client_order_id TEXT NOT NULL UNIQUE REFERENCES orders, day TEXT NOT NULL,
    price INTEGER NOT NULL, commission INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS prints (
    day TEXT NOT NULL, symbol TEXT NOT NULL, price INTEGER NOT NULL, repeats INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (day, symbol)
) STRICT;
"""
_EXECUTIONS = """
SELECT e.number, e.client_order_id, o.order_id, e.day, o.symbol, o.side, o.shares, e.price, e.commission
FROM executions AS e JOIN orders AS o USING (client_order_id)
"""
_ORDERS = "SELECT client_order_id, order_id, symbol, side, shares, state, repeats FROM orders"


class BrokerRefusal(OpenOutcryError):
    """The broker does not do what it was asked to."""


class Order(msgspec.Struct, frozen=True, array_like=True):
    """An order, as the broker knows it.

    Attributes:
        client_order_id: The client's id of it, by which it is known.
        order_id: Another id that the client uses; returned with its execution.
        symbol: What is traded.
        side: `buy` or `sell`.
        shares: How many.
        state: `new`, `filled`, `canceled` or `expired`.
        repeats: How often it was submitted again, without being taken again.

    """

    client_order_id: str
    order_id: str
    symbol: str
    side: OrderSide
    shares: int
    state: str = "new"
    repeats: int = 0


class Execution(msgspec.Struct, frozen=True, array_like=True):
    """An order that was filled, always completely. `number` counts from 1 without gaps."""

    number: int
    client_order_id: str
    order_id: str
    day: str
    symbol: str
    side: OrderSide
    shares: int
    price: Units
    commission: Units

    @property
    def execution_id(self) -> str:
        """The broker's id of the execution."""
        return f"exec-{self.number:05d}"


class Taken(msgspec.Struct, frozen=True):
    """The result of a submission: the order, and whether the broker already had it."""

    order: Order
    repeated: bool


class BrokerLedger:
    """The books. A call that changes them is one commit, which has reached the file when it returns."""

    def __init__(self, path: Path, mandate: Mandate) -> None:
        self._mandate = mandate
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_SCHEMA)

    @property
    def last_execution(self) -> int:
        """The number of the newest execution; 0 before the first."""
        (number,) = self._db.execute("SELECT coalesce(max(number), 0) FROM executions").fetchone()
        return int(number)

    def submit(self, order: Order) -> Taken:
        """Take an order to be filled at the next opening of its symbol, once.

        The same client order id again returns the order in its current state. Raises `BrokerRefusal` if the
        id comes with a different order.
        """
        with self._commit():
            known = self.order(order.client_order_id)
            if known is None:
                self._db.execute(
                    "INSERT INTO orders SELECT ?, count(*) + 1, ?, ?, ?, ?, 'new', 0 FROM orders",
                    (order.client_order_id, order.order_id, order.symbol, order.side.value, order.shares),
                )
                return Taken(order, repeated=False)
            if _terms(known) != _terms(order):
                raise BrokerRefusal(
                    f"client order id {order.client_order_id!r} stands for {_terms(known)}, not for "
                    f"{_terms(order)}; give another order another id"
                )
            self._db.execute(
                "UPDATE orders SET repeats = repeats + 1 WHERE client_order_id = ?", (order.client_order_id,)
            )
            return Taken(known, repeated=True)

    def cancel(self, client_order_id: str) -> Order:
        """Cancel an order if it can still be filled, and return its state. Raises `BrokerRefusal`."""
        with self._commit():
            self._db.execute(
                "UPDATE orders SET state = 'canceled' WHERE client_order_id = ? AND state = 'new'",
                (client_order_id,),
            )
            return self._known(client_order_id)

    def open(self, day: str, symbol: str, price: Units) -> bool:
        """Take an opening print: fill the waiting orders in the symbol, in the order in which they came in.

        Returns whether anything was filled. A print that was taken before fills nothing, whatever has come in
        since.
        """
        with self._commit():
            heard = self._db.execute(
                "INSERT INTO prints VALUES (?, ?, ?, 0) ON CONFLICT DO UPDATE SET repeats = repeats + 1 "
                "RETURNING repeats",
                (day, symbol, price),
            ).fetchone()
            waiting = self._orders("WHERE symbol = ? AND state = 'new' ORDER BY number", symbol)
            if heard[0] or not waiting:
                return False
            for order in waiting:
                self._fill(order, day, price)
            return True

    def close(self) -> int:
        """Expire what was not filled: there is no further opening. Return how many orders that were."""
        with self._commit():
            return self._db.execute("UPDATE orders SET state = 'expired' WHERE state = 'new'").rowcount

    def order(self, client_order_id: str) -> Order | None:
        """Return an order in its current state."""
        return next(iter(self._orders("WHERE client_order_id = ?", client_order_id)), None)

    def orders(self) -> list[Order]:
        """Return all orders, in the order in which they came in."""
        return self._orders("ORDER BY number")

    def executions(self, after: int = 0) -> list[Execution]:
        """Return the executions whose number is above `after`, in order."""
        rows = self._db.execute(f"{_EXECUTIONS} WHERE e.number > ? ORDER BY e.number", (after,))
        return [msgspec.convert(row, Execution) for row in rows]

    def shut(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _commit(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _fill(self, order: Order, day: str, opening: Units) -> None:
        price = fill_price(order.side, opening, self._mandate)
        commission = fill_commission(order.shares, price, self._mandate)
        self._db.execute(
            "INSERT INTO executions VALUES (?, ?, ?, ?, ?)",
            (self.last_execution + 1, order.client_order_id, day, price, commission),
        )
        self._db.execute(
            "UPDATE orders SET state = 'filled' WHERE client_order_id = ?", (order.client_order_id,)
        )

    def _known(self, client_order_id: str) -> Order:
        found = self.order(client_order_id)
        if found is None:
            raise BrokerRefusal(f"client order id {client_order_id!r} is unknown; submit the order first")
        return found

    def _orders(self, which: str, *values: str) -> list[Order]:
        rows = self._db.execute(f"{_ORDERS} {which}", values)
        return [msgspec.convert(row, Order) for row in rows]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.shut()


def _terms(order: Order) -> str:
    return f"{order.side.value} {order.shares:,} {order.symbol} ({order.order_id})"
