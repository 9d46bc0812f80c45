"""The protocol of the broker: one JSON object per line, and one answer per request, in order."""

import msgspec

from openoutcry.firm.brokerage.ledger import Execution, Order
from openoutcry.firm.money import Units


class Submit(msgspec.Struct, frozen=True, tag_field="do", tag="submit"):
    """Take an order."""

    order: Order


class Cancel(msgspec.Struct, frozen=True, tag_field="do", tag="cancel"):
    """Cancel an order."""

    client_order_id: str


class Opening(msgspec.Struct, frozen=True, tag_field="do", tag="open"):
    """Take an opening print, and fill what waits for it."""

    day: str
    symbol: str
    price: Units


class Close(msgspec.Struct, frozen=True, tag_field="do", tag="close"):
    """Expire everything that is not filled."""


class AskOrder(msgspec.Struct, frozen=True, tag_field="do", tag="order"):
    """Ask for an order."""

    client_order_id: str


class AskOrders(msgspec.Struct, frozen=True, tag_field="do", tag="orders"):
    """Ask for all orders."""


class AskExecutions(msgspec.Struct, frozen=True, tag_field="do", tag="executions"):
    """Ask for all executions since one."""

    after: int = 0


Request = Submit | Cancel | Opening | Close | AskOrder | AskOrders | AskExecutions


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer of the broker. `error` says why it did not do what was asked; then nothing else is set.

    Attributes:
        error: Why it refused.
        repeated: Whether the order or the print was known already.
        orders: The orders that were asked for or concerned.
        executions: The executions that were asked for.
        last_execution: The number of the newest execution.

    """

    error: str = ""
    repeated: bool = False
    orders: list[Order] = []
    executions: list[Execution] = []
    last_execution: int = 0


encode = msgspec.json.Encoder().encode
decode_request = msgspec.json.Decoder(Request).decode
decode_answer = msgspec.json.Decoder(Answer).decode

LINE_BYTES_MAX = 64 * 1024 * 1024
"""The longest line that either side reads: all executions of many years."""
