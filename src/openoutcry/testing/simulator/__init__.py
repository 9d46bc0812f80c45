"""A simulator of faults: a real bus in virtual time, whose every run follows from a seed."""

from openoutcry.testing.simulator.bus import SimBus
from openoutcry.testing.simulator.chance import Chance
from openoutcry.testing.simulator.faults import Faults
from openoutcry.testing.simulator.house import house
from openoutcry.testing.simulator.running import Simulated, SimulationFailed, simulate
from openoutcry.testing.simulator.truth import Violation

__all__ = ["Chance", "Faults", "SimBus", "Simulated", "SimulationFailed", "Violation", "house", "simulate"]
