"""The test kit, also for users: virtual time, expected events, crashes in one line."""

from openoutcry.clocks import VirtualClock
from openoutcry.testing.examples import NotReadable, check_readable, write_examples
from openoutcry.testing.kit import NotPublished, crash_and_recover, expect
from openoutcry.testing.recording import Published, Recording, recorded
from openoutcry.testing.simulator import Chance, Faults, SimBus, SimulationFailed, simulate
from openoutcry.virtual import Deadlock, VirtualLoop, run_virtual

__all__ = [
    "Chance",
    "Deadlock",
    "Faults",
    "NotPublished",
    "NotReadable",
    "Published",
    "Recording",
    "SimBus",
    "SimulationFailed",
    "VirtualClock",
    "VirtualLoop",
    "check_readable",
    "crash_and_recover",
    "expect",
    "recorded",
    "run_virtual",
    "simulate",
    "write_examples",
]
