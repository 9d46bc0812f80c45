"""Bugs to be planted."""
from campaigns.bus_plants import Bug
PLANTS: dict[str, Bug] = {}
