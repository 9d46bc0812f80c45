"""The firm that is killed in mid-trading over and over, and ends as if nothing had happened."""

from openoutcry.firm.crash.demo import CrashOptions, run_crash_demo
from openoutcry.firm.crash.plan import Kill, draw_kills

__all__ = ["CrashOptions", "Kill", "draw_kills", "run_crash_demo"]
