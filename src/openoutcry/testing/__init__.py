"""The test kit, for users too: virtual time in which an hour of waiting takes no time at all."""

from openoutcry.clocks import VirtualClock
from openoutcry.testing.virtual import Deadlock, VirtualLoop, run_virtual

__all__ = ["Deadlock", "VirtualClock", "VirtualLoop", "run_virtual"]
