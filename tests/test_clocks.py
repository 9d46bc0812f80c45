"""What the clocks promise."""

import time

import pytest

from openoutcry.clocks import VIRTUAL_START_NS, SystemClock, VirtualClock
from openoutcry.errors import ConfigError
from openoutcry.ports import Clock


@pytest.mark.parametrize("clock", [SystemClock(), VirtualClock()])
def test_every_clock_is_a_clock(clock: Clock) -> None:
    assert isinstance(clock, Clock)
    assert isinstance(clock.now_ns(), int)
    assert isinstance(clock.wall_ns(), int)


def test_the_system_clock_reads_the_machine() -> None:
    clock = SystemClock()
    before_ns, wall_before_ns = time.monotonic_ns(), time.time_ns()
    now_ns, wall_ns = clock.now_ns(), clock.wall_ns()
    assert before_ns <= now_ns <= time.monotonic_ns()
    assert wall_before_ns <= wall_ns <= time.time_ns()


def test_a_virtual_clock_stands_still() -> None:
    clock = VirtualClock()
    readings = {(clock.now_ns(), clock.wall_ns()) for _ in range(100)}
    assert readings == {(0, VIRTUAL_START_NS)}


def test_both_readings_of_a_virtual_clock_move_together() -> None:
    clock = VirtualClock(start_wall_ns=1_000)
    clock.advance(25)
    assert (clock.now_ns(), clock.wall_ns()) == (25, 1_025)
    clock.advance_to(40)
    assert (clock.now_ns(), clock.wall_ns()) == (40, 1_040)


def test_a_virtual_clock_refuses_to_go_back_and_then_has_not_moved() -> None:
    clock = VirtualClock()
    clock.advance(10)
    with pytest.raises(ConfigError, match="by_ns is -1"):
        clock.advance(-1)
    assert clock.now_ns() == 10


def test_an_instant_that_has_passed_leaves_the_clock_alone() -> None:
    clock = VirtualClock()
    clock.advance(10)
    clock.advance_to(9)
    assert clock.now_ns() == 10


def test_clocks_show_what_they_read() -> None:
    assert repr(SystemClock()) == "SystemClock()"
    assert repr(VirtualClock(start_wall_ns=5)) == "VirtualClock(now_ns=0, wall_ns=5)"
