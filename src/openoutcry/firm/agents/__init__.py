"""The agents of the firm, each with one subscription."""

from openoutcry.firm.agents.archivist import Archivist
from openoutcry.firm.agents.base import Agent
from openoutcry.firm.agents.bookkeeper import Bookkeeper
from openoutcry.firm.agents.broker import PaperBroker
from openoutcry.firm.agents.cio import ChiefInvestmentOfficer
from openoutcry.firm.agents.compliance import ComplianceOfficer
from openoutcry.firm.agents.execution import OrderManager
from openoutcry.firm.agents.market import MarketDataAgent
from openoutcry.firm.agents.portfolio import Portfolio
from openoutcry.firm.agents.risk import RiskOfficer
from openoutcry.firm.agents.strategist import StrategyAgent

__all__ = [
    "Agent",
    "Archivist",
    "Bookkeeper",
    "ChiefInvestmentOfficer",
    "ComplianceOfficer",
    "MarketDataAgent",
    "OrderManager",
    "PaperBroker",
    "Portfolio",
    "RiskOfficer",
    "StrategyAgent",
]
