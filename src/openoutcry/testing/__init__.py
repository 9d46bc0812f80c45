"""The test kit, also for users: virtual time, expected events, crashes in one line."""

from openoutcry.clocks import VirtualClock
from openoutcry.testing.examples import NotReadable, check_readable, write_examples
from openoutcry.testing.kit import NotPublished, crash_and_recover, expect
from openoutcry.testing.recorded_days import NotAsRecorded, same_as_recorded
from openoutcry.testing.recording import Published, Recording, recorded
from openoutcry.testing.simulator import Chance, Faults, SimBus, SimulationFailed, simulate
from openoutcry.virtual import Deadlock, VirtualLoop, run_virtual

__all__ = [
    "Chance",
    "Deadlock",
    "Faults",
    "NotAsRecorded",
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
    "same_as_recorded",
    "simulate",
    "write_examples",
]
