"""Drills of the kill lane on a running bus: the control workers are asked for a sign of life, and answer it.

A control worker answers when it comes to rest: then a kill switch would have been handled. No handler is
called for a drill.
"""

from openoutcry.config import DrillConfig
from openoutcry.core.drills import DrillReport, Drills
from openoutcry.runtime.delivery.consumer import Consumer
from openoutcry.runtime.delivery.consumers import Consumers
from openoutcry.runtime.delivery.state import BusState


class KillLaneDrills:
    """Sends the drills of one bus, and reads the answers at each look, with the times at which they came."""

    def __init__(self, config: DrillConfig, bus: BusState, consumers: Consumers) -> None:
        self._consumers = consumers
        self._drills = Drills(config, bus.clock.now_ns())
        self._asked: list[Consumer] = []

    def due_in_ns(self, now_ns: int) -> int:
        """Return how long until `look` has something to do; 0 if it has now."""
        return self._drills.due_in_ns(now_ns)

    def look(self, now_ns: int) -> None:
        """Send a drill, if one is due."""
        drills = self._drills
        self._take_answers()
        drills.look(now_ns)
        if drills.is_out or drills.due_in_ns(now_ns):
            return
        self._asked = [c for c in self._consumers if c.subscription.takes_kill_switch]
        drills.send([consumer.name for consumer in self._asked], now_ns)
        for consumer in self._asked:
            consumer.drill()

    def report(self, now_ns: int) -> DrillReport:
        """Return how the kill lane did so far."""
        self._take_answers()
        return self._drills.report(now_ns)

    def _take_answers(self) -> None:
        drills = self._drills
        for consumer in self._asked:
            answered_ns = consumer.take_drill_answer()
            if answered_ns is not None:
                drills.answered(drills.number, consumer.name, answered_ns)
            elif consumer.drill_is_out and consumer.subscription.ended:
                drills.withdrawn(consumer.name)
