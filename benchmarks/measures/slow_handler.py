"""One handler of eight sleeps 10 ms per event: how much of their rate do the other seven keep?"""

import asyncio
from time import perf_counter
from typing import Any

from subjects.base import MARKET_DATA
from subjects.handlers import counting, sleeping, trivial
from subjects.registry import build

from measures.timing import middle

SLOW_S = 0.010
_OTHERS_COUNT = 7


async def measure(
    subject: str,
    options: dict[str, Any],
    kind: str,
    slow: bool,
    burst_size: int,
    seconds: float,
    overflow: str | None = None,
) -> dict[str, Any]:
    """Deliveries per second to the seven; the eighth sleeps, or does nothing for comparison.

    A burst ends when the last of the seven has handled it; what the eighth has not reached by then is left to it.
    The bus is not closed: the slow handler would take minutes over what it was left.
    """
    counts = [0] * _OTHERS_COUNT
    seven = [((MARKET_DATA,), counting(kind, counts, i)) for i in range(_OTHERS_COUNT)]
    eighth = sleeping(kind, SLOW_S) if slow else trivial(kind)
    bus = build(subject, options)
    if overflow is None:
        await bus.open([((MARKET_DATA,), eighth), *seven])
    else:
        await bus.open(seven)
        bus.bus.subscribe(MARKET_DATA, eighth, overflow=overflow)
    rates: list[float] = []
    sent = 0
    begun = perf_counter()
    while perf_counter() - begun < seconds:
        events = bus.make_events((MARKET_DATA,), burst_size)
        sent += burst_size
        burst_begun = perf_counter()
        await bus.submit(events)
        while min(counts) < sent:  # noqa: ASYNC110 - eight subjects, one way to wait: by what the handlers did
            await asyncio.sleep(0)
        rates.append(burst_size / (perf_counter() - burst_begun))
    return {"deliveries_per_s": middle(rates) * _OTHERS_COUNT}
