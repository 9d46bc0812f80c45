"""The paper broker as a process of its own: its books, its line protocol, and the firm's client."""

from openoutcry.firm.brokerage.client import BrokerLine
from openoutcry.firm.brokerage.ledger import BrokerLedger, Execution, Order
from openoutcry.firm.brokerage.server import serve

__all__ = ["BrokerLedger", "BrokerLine", "Execution", "Order", "serve"]
