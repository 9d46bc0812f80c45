"""What an agent knows follows from what it has dealt with: told again, it knows the same."""

import asyncio
from functools import cache
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openoutcry.firm.agents.base import Agent, Forgetful
from openoutcry.firm.bars import load_history
from openoutcry.firm.crash.market import DurableMarket
from openoutcry.firm.house import CALM, House, hire
from openoutcry.firm.mandate import Mandate
from openoutcry.firm.strategies import recipes
from openoutcry.testing import run_virtual
from openoutcry.trading import KillSwitchEvent, MarketDataEvent

MANDATE = Mandate(drawdown_max=0.05, stop_loss=0.08, halt_days=5)
"""A nervous firm, so that stops and halts have to be remembered too."""
DAYS = 90
EVERY = 23
"""After so many events it is written down what an agent knows: a prime, so that it is at all times of the day."""


class Diary(NamedTuple):
    events: list
    known: dict


MATTERS = {
    "cio": ("book", "day", "halted"),
    "risk": ("book", "day", "_planned", "_peak", "_today", "_halted_until", "_stopped_until"),
    "compliance": ("book", "day", "_sides_today", "_volumes", "_symbols", "_noted", "rejections"),
    "execution": ("states", "orders_count", "_day"),
    "broker": ("_working", "fills_count"),
    "portfolio": ("book", "days", "equity", "trades", "holdings"),
    "archivist": ("_kept", "_today", "_wanted"),
}


class Archive:
    """All of the bus that is there while agents remember: what is on record, here the bars of every day."""

    def get_event_history(self, _kind, *, limit):
        return [event for event in lived()["portfolio"].events if isinstance(event, MarketDataEvent)]


def hired():
    firm = hire(recipes(14), MANDATE, CALM, None)
    for agent in firm.everybody:
        agent.bus = Archive()  # type: ignore[assignment]
    return firm


@cache
def lived():
    """Run a firm; give, by agent, every event that it dealt with, and now and then what it knew after it."""
    diaries = {}

    def keep_diary(agent):
        receive = agent.receive
        diary = diaries[agent.name] = Diary([], {})

        async def noted(event):
            await receive(event)
            diary.events.append(event)
            if len(diary.events) % EVERY == 0:
                diary.known[len(diary.events)] = knowledge(agent)

        agent.receive = noted

    async def run():
        house = House(load_history(("AAPL", "IBM", "MSFT"), days=DAYS), recipes(14), mandate=MANDATE)
        house.clock = asyncio.get_running_loop().clock  # type: ignore[attr-defined]
        house.firm.market = DurableMarket()
        for agent in house.firm.everybody:
            keep_diary(agent)
        await house.run()
        assert house.firm.risk.stops_count
        assert house.firm.risk.halts_count
        for agent in house.firm.everybody:
            diary = diaries[agent.name]
            diary.known[len(diary.events)] = knowledge(agent)
        return diaries

    return run_virtual(run())


def knowledge(agent):
    """Write down what an agent knows, so that it cannot change later."""
    if agent.name in MATTERS:
        return repr([getattr(agent, name) for name in MATTERS[agent.name]])
    pasts = getattr(agent, "_pasts", {})
    bars = {symbol: [getattr(past, column) for column in past.__slots__] for symbol, past in pasts.items()}
    return repr((bars, agent._session, agent._today)) if pasts else ""


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_an_agent_that_is_told_its_past_knows_what_it_knew(data):
    name = data.draw(st.sampled_from(sorted(MATTERS)))
    diary = lived()[name]
    upto = data.draw(st.sampled_from(sorted(diary.known)))
    agent = next(one for one in hired().everybody if one.name == name)
    for event in diary.events[:upto]:
        agent.remember(event)
    assert knowledge(agent) == diary.known[upto]
    assert agent.remembered_count == upto


@pytest.mark.parametrize("name", [recipe.name for recipe in recipes(14)])
def test_a_strategy_that_is_told_its_past_knows_the_bars(name):
    diary = lived()[name]
    agent = next(one for one in hired().strategies if one.name == name)
    for event in diary.events:
        agent.remember(event)
    assert knowledge(agent) == diary.known[len(diary.events)]


def test_who_remembers_says_nothing():
    """Nothing can be said to what they have for a bus: whoever tried to publish would fail."""
    for agent in hired().everybody:
        for event in lived()[agent.name].events:
            agent.remember(event)
        assert not agent.remembering


def test_the_kill_switch_is_remembered():
    agent = hired().execution
    agent.clock = type("Clock", (), {"now_ns": staticmethod(lambda: 7)})
    agent.remember(KillSwitchEvent(reason="test", triggered_by="test"))
    assert agent.halted


def test_an_agent_whose_memory_would_wait_for_something_says_so():
    class Sleepy(Agent):
        def __init__(self):
            super().__init__("sleepy")
            self.react(KillSwitchEvent, self.doze)

        async def doze(self, _event):
            await asyncio.sleep(0)

    with pytest.raises(Forgetful, match="sleepy waits while it remembers a KillSwitchEvent"):
        Sleepy().remember(KillSwitchEvent(reason="test", triggered_by="test"))
