"""Bugs to be planted into a bus: the same runs must catch each of them, or they prove nothing.

Each is planted in the child alone, after it was forked.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, Final, NamedTuple

from campaigns.bus_events import OUTBOX
from campaigns.crash_kit import Step, set_in
from openoutcry.runtime.admission import gate
from openoutcry.runtime.delivery import dead_letters, in_flight, offsets, worker
from openoutcry.runtime.delivery.subscription import Subscription
from openoutcry.runtime.durability import catch_up, commit, store

Bug = Callable[[], None]


def nothing() -> None:
    """Plant nothing."""


def ack_before_commit() -> None:
    """Say True when an event is staged."""
    waits = count()

    def wait(_commit: commit.Commit) -> Iterator[None]:
        if next(waits) % 16 == 0:  # else nobody else would ever run
            yield

    _plant(commit.Commit, "__await__", wait)


def cursor_before_work() -> None:
    """Save what has been handed to a mailbox as settled."""

    def state(self: offsets.LaneOffsets, released: int) -> tuple[int, offsets.Stretches]:
        return (self.read_upto if self.behind else released), ()

    _plant(offsets.LaneOffsets, "state", state)


def cancelled_call_is_success() -> None:
    """Take a handler that lets a CancelledError out for one that has returned."""
    honest = worker.Worker._after_error  # noqa: SLF001 - what is broken is inside

    def after_error(self: Any, batch: Any, error: BaseException) -> bool:
        if isinstance(error, asyncio.CancelledError) and not (
            self.guard.is_stopping or self.guard.deadline_ns == 0
        ):
            batch.lane.settle_before_current(batch)
            return bool(self._after_success(batch))
        return honest(self, batch, error)

    _plant(worker.Worker, "_after_error", after_error)


def cancelled_publish_is_true() -> None:
    """Answer a publish that is cancelled with True."""
    honest = gate.Admission.publish

    async def publish(self: gate.Admission, *args: Any, **options: Any) -> bool:
        try:
            return await honest(self, *args, **options)
        except asyncio.CancelledError:
            return True

    _plant(gate.Admission, "publish", publish)


def settled_before_return() -> None:
    """Let handlers run on as tasks, and settle their events at once."""

    async def each(*args: Any) -> None:
        events, handler = args[-2:]
        for event in events:
            task = asyncio.get_running_loop().create_task(handler(event))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    set_in(in_flight, "await_each_marked", each)


def outputs_without_cursor() -> None:
    """Commit what an outbox holds, and settle the event later."""

    async def post(self: store.Store, _subscription: Any, _batch: Any, outputs: list[Any]) -> None:
        for output in outputs:
            commit = self.commits.stage_entry(output.event, output.entry, output.then)
            await commit

    _plant(store.Store, "post", post)


def fresh_ids() -> None:
    """Give what a handler publishes an id of its own each time."""
    set_in(store, "derive", lambda: None)


def letters_unwritten() -> None:
    """Settle what was given up, and never write its dead letter."""
    _plant(dead_letters.DeadLetters, "changes", lambda _: ([], []))


def backlog_reversed() -> None:
    """Hand out what is read from the journal the wrong way round."""
    honest = catch_up.CatchUp._push  # noqa: SLF001 - as above

    def push(
        self: catch_up.CatchUp,
        subscription: Subscription,
        lane: offsets.LaneOffsets,
        events: list[Any],
        positions: Sequence[int],
        at_ns: int,
    ) -> None:
        honest(self, subscription, lane, events[::-1], positions, at_ns)

    _plant(catch_up.CatchUp, "_push", push)


def cursors_seldom() -> None:
    """Save the cursors of those who publish nothing only when they come, whatever they have handled since."""
    honest = offsets.Offsets.moved

    def moved(self: offsets.Offsets, released: int) -> Any:
        found = honest(self, released)
        return found if self.name == OUTBOX else [item for item in found if item[0].saved is None]

    _plant(offsets.Offsets, "moved", moved)


def _plant(where: type, name: str, what: Any) -> None:
    if not hasattr(where, name):
        raise LookupError(f"{where.__name__} has no {name}: nothing would ever call what is planted there")
    setattr(where, name, what)


class Plant(NamedTuple):
    """A bug, and where it shows.

    Attributes:
        bug: Plants it.
        script: The life of `bus_steps` on which it shows.
        step: A kill at this step of that life gives it away.

    """

    bug: Bug
    script: str
    step: Step


PLANTS: Final[dict[str, Plant]] = {
    "acknowledged before the commit": Plant(ack_before_commit, "calm", Step("yes", 2)),
    "the cursor saved before the handler ran": Plant(
        cursor_before_work, "a call is held up", Step("flushed")
    ),
    "a cancelled call taken as success": Plant(
        cancelled_call_is_success, "a call is cancelled", Step("flushed")
    ),
    "a cancelled publish taken as True": Plant(
        cancelled_publish_is_true, "a publish is cancelled", Step("yes")
    ),
    "settled before the handler returns": Plant(settled_before_return, "a call is held up", Step("flushed")),
    "outbox outputs committed without the cursor": Plant(
        outputs_without_cursor, "a round", Step("written desk")
    ),
    "ids that are not derived": Plant(fresh_ids, "calm", Step("> hedger")),
    "dead letters that are not written": Plant(letters_unwritten, "an event is given up", Step("flushed")),
    "a backlog handed out in reverse": Plant(backlog_reversed, "a backlog", Step("flushed")),
    "cursors that are hardly ever saved": Plant(cursors_seldom, "a flood", Step("flushed")),
}
