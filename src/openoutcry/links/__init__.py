"""Transports between the desks of a firm, and what they send as bytes."""

from openoutcry.links.memory import MemoryTransport
from openoutcry.links.memory_hub import Fault, MemoryHub

__all__ = ["Fault", "MemoryHub", "MemoryTransport"]
