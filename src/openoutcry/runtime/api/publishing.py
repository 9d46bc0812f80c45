"""Publishing many events at once: in order, in chunks as large as the credit and a commit allow."""

from collections.abc import Awaitable, Callable
from typing import Any

from openoutcry.runtime.admission.gate import Admission
from openoutcry.runtime.delivery.state import BusState

BEFORE_START = 512
"""How many durable events share a commit before the start, when nothing drains and no credit is given."""


async def publish_many(
    bus: BusState,
    admission: Admission,
    events: list[Any],
    priority: bool,
    publish: Callable[[Any, bool], Awaitable[bool]],
) -> int:
    """Publish until one is refused, and return how many were accepted. `publish` waits for room."""
    fast_path = admission.fast_path
    done = 0
    while done < len(events):
        if fast_path.credit() < len(events) - done and fast_path.keeps(events[done]):
            admission.look()  # what is left of an old credit would be a commit of its own
        size = max(1, fast_path.credit()) if bus.running else BEFORE_START
        chunk = events[done : done + size]
        if not priority:
            if fast_path.admit_many(chunk):
                done += len(chunk)
                continue
            group = fast_path.keep_many(chunk)
            if group is not None:
                await group.wait()
                done += len(chunk)
                continue
        taken, refused = await admission.publish_some(chunk, priority)
        done += taken
        if refused:
            return done
        if not taken:
            if not await publish(events[done], priority):
                return done
            done += 1
    return done
