"""What an agent knows follows from what it has dealt with: told again, or loaded with it, it knows the same."""

import asyncio
from functools import cache
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openoutcry.firm.agents import (
    ChiefInvestmentOfficer,
    ComplianceOfficer,
    MarketDataAgent,
    OrderManager,
    PaperBroker,
    StrategyAgent,
)
from openoutcry.firm.agents.base import Agent, Forgetful
from openoutcry.firm.agents.bookkeeper import Bookkeeper
from openoutcry.firm.agents.gateway import BrokerGateway
from openoutcry.firm.bars import load_history
from openoutcry.firm.crash.market import DurableMarket
from openoutcry.firm.house import CALM, House, hire
from openoutcry.firm.mandate import Mandate
from openoutcry.firm.strategies import recipes
from openoutcry.testing import run_virtual
from openoutcry.trading import FillEvent, KillSwitchEvent, MarketDataEvent, OrderSide

MANDATE = Mandate(drawdown_max=0.05, stop_loss=0.08, halt_days=5)
"""A nervous firm, so that stops and halts have to be remembered too."""
DAYS = 90
EVERY = 23
"""After so many events it is written down what an agent knows: a prime, so that it is at all times of the day."""


class Diary(NamedTuple):
    events: list
    known: dict


OF_THIS_LIFE = {
    Agent: {
        "bus",
        "clock",
        "durable",
        "heard_kill",
        "kill_heard_ns",
        "loaded_count",
        "name",
        "on_heard",
        "on_said",
        "receive",  # the diary's
        "refused_count",
        "remembered_count",
        "remembering",
        "_reactions",
    },
    BrokerGateway: {"on_step", "repeated", "_connection"},
    ChiefInvestmentOfficer: {"decisions_count", "outcomes", "tally", "_rounds"},
    Bookkeeper: {"mandate"},
    ComplianceOfficer: {"_risk_name"},
    MarketDataAgent: {"impatient_count", "label_ns", "patience_s", "_desk"},
    OrderManager: {"_compliance_name"},
    PaperBroker: {"_mandate"},
    StrategyAgent: {"answers", "fault", "flooded_count", "overflowing", "recipe", "scores", "_due"},
}
"""What agents are made with, and what they count and wait for in one life: no part of their state."""


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


def of_this_life(agent):
    return set().union(*(OF_THIS_LIFE.get(kind, ()) for kind in type(agent).__mro__))


def knowledge(agent):
    """Write down everything that an agent knows, so that it cannot change later; order matters where it is kept."""
    local = of_this_life(agent)
    known = {name: value for name, value in vars(agent).items() if name not in local}
    return repr({name: sorted(v) if isinstance(v, set) else v for name, v in sorted(known.items())})


def a_new(name):
    return next(one for one in hired().everybody if one.name == name)


NAMES = sorted(agent.name for agent in hired().everybody if agent.name != "market")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_an_agent_that_is_told_its_past_knows_what_it_knew(data):
    name = data.draw(st.sampled_from(NAMES))
    diary = lived()[name]
    upto = data.draw(st.sampled_from(sorted(diary.known)))
    agent = a_new(name)
    for event in diary.events[:upto]:
        agent.remember(event)
    assert knowledge(agent) == diary.known[upto]
    assert agent.remembered_count == agent.known_count == upto


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_an_agent_that_was_saved_and_loaded_knows_what_it_knew_then_and_later(data):
    """It dies as often as is drawn; each life begins with a state, and is told what came after it was saved."""
    name = data.draw(st.sampled_from(NAMES))
    diary = lived()[name]
    deaths = data.draw(st.lists(st.sampled_from(sorted(diary.known)), min_size=1, max_size=4, unique=True))
    state, saved_at = None, 0
    for upto in sorted(deaths):
        agent = a_new(name)
        if state is not None:
            agent.load(state)
            assert agent.loaded_count == saved_at
        saves_at = data.draw(st.integers(saved_at, upto))
        for number, event in enumerate(diary.events[saved_at:upto], start=saved_at):
            if number == saves_at:
                state = agent.save()
            agent.remember(event)
        assert knowledge(agent) == diary.known[upto]
        if saves_at == upto:
            state = agent.save()
        saved_at = saves_at


@pytest.mark.parametrize("name", NAMES)
def test_a_state_is_equal_after_it_was_saved_and_loaded_at_the_end_of_a_run(name):
    diary, agent, again = lived()[name], a_new(name), a_new(name)
    for event in diary.events:
        agent.remember(event)
    state = agent.save()
    again.load(state)
    assert knowledge(again) == knowledge(agent) == diary.known[len(diary.events)]
    assert again.save() == state or name in ("archivist", "compliance")  # their sets have no order


@pytest.mark.parametrize("agent", [*hired().everybody, BrokerGateway(None), DurableMarket()], ids=type)
def test_every_attribute_of_an_agent_is_in_its_state_or_of_one_life(agent):
    local = of_this_life(agent)
    assert set(agent.state) & local == set()
    assert set(vars(agent)) - local == set(agent.state)


def test_a_gateway_that_was_saved_and_loaded_knows_its_orders_and_what_it_has_heard():
    gateway, again = BrokerGateway(None), BrokerGateway(None)
    for event in lived()["broker"].events:
        if not isinstance(event, FillEvent):  # those of the paper broker have no numbers
            gateway.remember(event)
    gateway.remember(
        FillEvent(
            order_id="ord-00001",
            execution_id="x-7",
            symbol="AAPL",
            side=OrderSide.BUY,
            filled_quantity=1,
            fill_price=2,
        )
    )
    again.load(gateway.save())
    assert knowledge(again) == knowledge(gateway)
    assert gateway._heard == 7
    assert gateway._working


def test_a_state_that_lacks_something_is_not_taken_over():
    with pytest.raises(KeyError, match="known_count"):
        a_new("cio").load(b'{"halted":false}')


def test_who_remembers_says_nothing():
    """Nothing can be said to what they have for a bus: whoever tried to publish would fail."""
    for agent in hired().everybody:
        for event in lived()[agent.name].events:
            agent.remember(event)
        assert not agent.remembering


def test_the_kill_switch_is_remembered():
    agent, again = hired().execution, hired().execution
    agent.remember(KillSwitchEvent(reason="test", triggered_by="test"))
    assert agent.halted
    assert agent.kill_heard_ns is None
    again.load(agent.save())
    assert again.halted


def test_an_agent_whose_memory_would_wait_for_something_says_so():
    class Sleepy(Agent):
        def __init__(self):
            super().__init__("sleepy")
            self.react(KillSwitchEvent, self.doze)

        async def doze(self, _event):
            await asyncio.sleep(0)

    with pytest.raises(Forgetful, match="sleepy waits while it remembers a KillSwitchEvent"):
        Sleepy().remember(KillSwitchEvent(reason="test", triggered_by="test"))
