"""The outbox: what a handler publishes waits for the end of its call, and is committed with its cursor.

```
  handler publishes ─▶ outbox ─(the handler returned)─▶ one commit: outputs + the settled cursor ─▶ released
                          └───(it failed)─▶ forgotten, and published again by the next attempt
```

So a crash finds both or neither: the outputs of a call are never there without its event being settled.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from openoutcry.core.lanes import Batch
from openoutcry.ports import Entry
from openoutcry.runtime.delivery.loops import Drive
from openoutcry.runtime.delivery.subscription import Subscription


@dataclass(frozen=True, slots=True)
class Output:
    """An event that waits for the end of the call that published it."""

    event: Any
    entry: Entry
    then: Callable[[int], None] | None


Post = Callable[[Subscription, Batch, list[Output]], Awaitable[None]]


def posting(
    drive: Drive,
    subscription: Subscription,
    batch: Batch,
    post: Post,
    forget: Callable[[list[Output]], None],
    open_box: Callable[[list[Output] | None], None],
) -> Drive:
    """Return what calls the handler as `drive` does, and posts what it has published when it has returned."""

    async def drive_and_post(events: Any, handler: Any) -> None:
        outputs: list[Output] = []
        open_box(outputs)
        try:
            await drive(events, handler)
        except BaseException:
            forget(outputs)
            raise
        finally:
            open_box(None)
        await post(subscription, batch, outputs)

    return drive_and_post
