"""The outbox: what a handler publishes waits for the end of its call, and is committed with its cursor.

```
  handler publishes ─▶ outbox ─(the handler returned)─▶ one commit: outputs + the settled cursor ─▶ released
                          └───(it failed)─▶ forgotten, and published again by the next attempt
```

So a crash finds both or neither: the outputs of a call are never there without its event being settled.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from openoutcry.core.lanes import Batch
from openoutcry.errors import SeatLost
from openoutcry.ports import Entry
from openoutcry.runtime.delivery.call_guard import CallGuard
from openoutcry.runtime.delivery.causation import Lineage
from openoutcry.runtime.delivery.loops import Drive
from openoutcry.runtime.delivery.subscription import Subscription


@dataclass(frozen=True, slots=True)
class Output:
    """An event that waits for the end of the call that published it."""

    event: Any
    entry: Entry
    then: Callable[[int], None] | None


class OutboxDurability(Protocol):
    """The durability of a bus, as an outbox sees it."""

    async def post(self, subscription: Subscription, batch: Batch, outputs: list[Output]) -> None:
        """Commit what a call has published together with the settling of its event."""
        ...


class OutboxBus(Protocol):
    """The bus, as an outbox sees it."""

    @property
    def durability(self) -> OutboxDurability:
        """What keeps the outputs; without a journal there are none."""
        ...

    in_outboxes: int
    fenced: SeatLost | None

    def forget(self, outputs: list[Output]) -> None:
        """Take back what a failed call had published."""
        ...


class OutboxWorker(Protocol):
    """A worker, as its outbox sees it.

    Attributes:
        batch: What it is handling.
        subscription: Whose handler it calls.
        guard: Knows whether the call still counts.
        lineage: Has the outbox for what the call publishes.

    """

    batch: Batch | None
    subscription: Subscription
    guard: CallGuard
    lineage: Lineage


def posting(drive: Drive, worker: OutboxWorker, bus: OutboxBus) -> Drive:
    """Return what calls the handler as `drive` does, and posts what it has published when it has returned."""
    guard, lineage = worker.guard, worker.lineage

    async def drive_and_post(events: Any, handler: Any) -> None:
        batch = worker.batch
        assert batch is not None, "it is called for a batch"
        outputs: list[Output] = lineage.open_outbox()
        try:
            await drive(events, handler)
        except BaseException:
            bus.forget(outputs)
            raise
        finally:
            lineage.close_outbox()
        if guard.abandoned or guard.has_swallowed_timeout or guard.otherwise is not None:
            bus.forget(outputs)  # its event waits again, or is buried: another call makes them
            return
        if outputs and bus.fenced is not None:
            bus.forget(outputs)
            raise bus.fenced
        guard.end()  # the call is over: committing is not the handler's time
        bus.in_outboxes -= len(outputs)  # from here on they are counted as being committed
        await bus.durability.post(worker.subscription, batch, outputs)

    return drive_and_post
