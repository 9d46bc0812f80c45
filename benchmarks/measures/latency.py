"""Publish-to-handler latency in an open loop: every event has a time at which it is due, and the clock starts then.

A publisher that is late does not make the figure look better: its lateness counts. This is the correction for
coordinated omission (Gil Tene): the load does not wait for the system under test.
"""

import gc
from typing import Any

from subjects.base import MARKET_DATA, Broken
from subjects.handlers import stamping, trivial
from subjects.registry import build

from measures.timing import percentiles, schedule


async def measure(
    subject: str, options: dict[str, Any], handlers: int, kind: str, rate_per_s: int, seconds: float
) -> dict[str, Any]:
    """Latency at the last of the handlers, in us."""
    arrived_ns: list[int] = []
    routes = [((MARKET_DATA,), trivial(kind)) for _ in range(handlers - 1)]
    routes.append(((MARKET_DATA,), stamping(kind, arrived_ns.append)))
    bus = build(subject, options)
    await bus.open(routes)
    for _ in range(20):
        await bus.burst(bus.prepare(bus.make_events((MARKET_DATA,), 100)))
    arrived_ns.clear()
    events = bus.make_events((MARKET_DATA,), int(rate_per_s * seconds))
    gc.collect()
    due_ns = schedule(len(events), rate_per_s)
    await bus.pace(events, due_ns)
    await bus.drain()
    await bus.close()
    if len(arrived_ns) != len(events):
        raise Broken(f"{len(arrived_ns)} of {len(events)} events arrived")
    return percentiles([(arrived - due) / 1_000 for arrived, due in zip(arrived_ns, due_ns, strict=True)])
