"""A small complete firm on the bus: market, strategies, CIO, risk, compliance, execution, broker, books."""

from openoutcry.firm.application import app, venue
from openoutcry.firm.bars import SYMBOLS, History, load_history
from openoutcry.firm.chaos import ChaosPlan, draw_plan
from openoutcry.firm.demo import DemoOptions, run_demo
from openoutcry.firm.house import CALM, STORMY, House, Timing
from openoutcry.firm.mandate import Mandate
from openoutcry.firm.strategies import recipes

__all__ = [
    "CALM",
    "STORMY",
    "SYMBOLS",
    "ChaosPlan",
    "DemoOptions",
    "History",
    "House",
    "Mandate",
    "Timing",
    "app",
    "draw_plan",
    "load_history",
    "recipes",
    "run_demo",
    "venue",
]
