import pytest
from hypothesis import given
from hypothesis import strategies as st

from openoutcry.errors import ConfigError
from openoutcry.firm.chaos import AFTERMATH_DAYS, DAYS_MIN, Trouble, draw_plan

AGENTS = [f"agent-{number}" for number in range(14)]


def test_the_same_seed_brings_the_same_trouble():
    assert draw_plan(7, AGENTS, 300) == draw_plan(7, AGENTS, 300)
    assert len({draw_plan(seed, AGENTS, 300) for seed in range(20)}) == 20


@given(st.integers(), st.integers(6, 64), st.integers(DAYS_MIN, 4_000))
def test_every_plan_can_be_played(seed, agents_count, days):
    agents = [f"agent-{number}" for number in range(agents_count)]
    plan = draw_plan(seed, agents, days)
    troubles = [fault.trouble for fault in plan.faults]
    assert set(troubles) == set(Trouble)
    assert troubles.count(Trouble.FLOOD) == 1
    assert len({fault.agent for fault in plan.faults}) == len(plan.faults)
    assert len(plan.faults) - 1 <= agents_count * 0.4
    assert plan.days == plan.kill_day + 1 + AFTERMATH_DAYS <= days
    for fault in plan.faults:
        assert fault.agent in agents
        assert plan.fault_of(fault.agent) == fault
        assert 0 < fault.first_day <= fault.last_day <= plan.kill_day
        assert fault.holds(fault.first_day)
        assert not fault.holds(fault.last_day + 1)
    flood = plan.faults[-1]
    assert (flood.trouble, flood.first_day) == (Trouble.FLOOD, plan.kill_day)


def test_a_healthy_agent_has_no_fault():
    assert draw_plan(1, AGENTS, 100).fault_of("nobody") is None


def test_too_small_a_stage_is_a_clear_error():
    with pytest.raises(ConfigError, match="at least 20"):
        draw_plan(1, AGENTS, DAYS_MIN - 1)
    with pytest.raises(ConfigError, match="at least 6"):
        draw_plan(1, AGENTS[:5], 100)
