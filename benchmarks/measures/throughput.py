"""Deliveries per second: one type, bursts drained before the next, handlers that do nothing."""

from typing import Any

from subjects.base import MARKET_DATA, ORDER, SIGNAL
from subjects.handlers import suspending, trivial
from subjects.registry import build

from measures.timing import middle, time_bursts, time_made, verify

MIXED = (
    (MARKET_DATA,),
    (SIGNAL,),
    (ORDER,),
    (MARKET_DATA, SIGNAL),
    (SIGNAL, ORDER),
    (MARKET_DATA, SIGNAL, ORDER),
)
"""Which of six subscribers takes which of three types: ten deliveries for three events."""


async def measure(
    subject: str, options: dict[str, Any], handlers: int, kind: str, window_s: float
) -> dict[str, Any]:
    """One type to `handlers` handlers."""
    await verify(build(subject, options), [(MARKET_DATA,)] * handlers, kind)
    routes = [((MARKET_DATA,), trivial(kind)) for _ in range(handlers)]
    bus = build(subject, options)
    rates = await time_bursts(bus, routes, (MARKET_DATA,), window_s)
    return {
        "deliveries_per_s": middle(rates) * handlers,
        "events_per_s": middle(rates),
        "carries": bus.carries,
    }


async def measure_mixed(subject: str, options: dict[str, Any], kind: str, window_s: float) -> dict[str, Any]:
    """Three types in turn to six subscribers of one, two or three of them."""
    await verify(build(subject, options), MIXED, kind)
    bus = build(subject, options)
    bus.burst_limit = 999
    routes = [(topics, trivial(kind)) for topics in MIXED]
    rates = await time_bursts(bus, routes, (MARKET_DATA, SIGNAL, ORDER), window_s)
    per_event = sum(len(topics) for topics in MIXED) / 3
    return {"deliveries_per_s": middle(rates) * per_event, "events_per_s": middle(rates)}


async def measure_created(
    subject: str, options: dict[str, Any], handlers: int, kind: str, window_s: float
) -> dict[str, Any]:
    """Events made by openoutcry's MarketDataEvent in the timed loop, for every subject alike."""
    from subjects.openoutcry_bus import market_data  # noqa: PLC0415 - only this measurement needs it everywhere

    routes = [((MARKET_DATA,), trivial(kind)) for _ in range(handlers)]
    rates = await time_made(build(subject, options), routes, market_data, window_s)
    return {"deliveries_per_s": middle(rates) * handlers, "events_per_s": middle(rates)}


async def measure_suspending(
    subject: str, options: dict[str, Any], handlers: int, window_s: float
) -> dict[str, Any]:
    """Coroutine handlers that give the loop back once per event."""
    routes = [((MARKET_DATA,), suspending()) for _ in range(handlers)]
    rates = await time_bursts(build(subject, options), routes, (MARKET_DATA,), window_s)
    return {"deliveries_per_s": middle(rates) * handlers, "events_per_s": middle(rates)}
