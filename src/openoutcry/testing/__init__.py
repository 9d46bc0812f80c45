"""The test kit, for users too: virtual time that takes no time, expected events, crashes in one line."""

from openoutcry.clocks import VirtualClock
from openoutcry.testing.kit import NotPublished, crash_and_recover, expect
from openoutcry.testing.recording import Published, Recording, recorded
from openoutcry.testing.virtual import Deadlock, VirtualLoop, run_virtual

__all__ = [
    "Deadlock",
    "NotPublished",
    "Published",
    "Recording",
    "VirtualClock",
    "VirtualLoop",
    "crash_and_recover",
    "expect",
    "recorded",
    "run_virtual",
]
