"""The firm as three desks, in processes that a link joins; each is killed, and so is the node between."""

from openoutcry.firm.desks.demo import DesksOptions, run_desks_demo

__all__ = ["DesksOptions", "run_desks_demo"]
