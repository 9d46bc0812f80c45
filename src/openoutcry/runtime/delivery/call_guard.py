"""Ending a call before it ends by itself: its time is up, recovery wants it gone, a newer event has come.

```
  running ──cancel──▶ cancelled ──the handler ends──▶ failed (or, superseded: settled as conflated)
                          └──it does not, within a second──▶ abandoned: a new worker goes on without it
```

A time-out costs no object per call: one timer checks whether the current call's time is up, and is set again.
"""

import asyncio
from contextlib import suppress
from typing import Protocol

from openoutcry.core.lanes import Batch
from openoutcry.core.mailbox import Mailbox
from openoutcry.errors import DecidedOtherwise
from openoutcry.ports import Clock

ABANDON_S = 1.0
"""How long a call has to end after it was cancelled."""


class Guarded(Protocol):
    """A worker, as the guard of its calls sees it.

    Attributes:
        batch: What it is handling; None between calls.
        mailbox: Where that came from.
        task: Its task.

    """

    batch: Batch | None
    mailbox: Mailbox
    task: "asyncio.Task[None]"

    def abandon(self, batch: Batch) -> None:
        """Go on without the current call, which did not end when cancelled."""
        ...


class CallGuard:
    """Ends the current call of one worker from outside.

    Attributes:
        abandoned: Whether the call goes on beside the subscription, so that the worker ends with it.
        superseded: Whether the current call was ended for a newer event.
        deadline_ns: When the current call's time is up; 0 after it was cancelled; None if neither is so.
        is_stopping: Whether the worker is to end.
        otherwise: What the current call has raised by publishing another event than the first time.

    """

    __slots__ = (
        "_blocks",
        "_clock",
        "_loop",
        "_timeout_ns",
        "_timer",
        "_worker",
        "abandoned",
        "deadline_ns",
        "is_stopping",
        "otherwise",
        "superseded",
    )

    def __init__(
        self,
        worker: Guarded,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        *,
        timeout_ns: int | None,
        blocks: bool,
    ) -> None:
        self._worker = worker
        self._loop = loop
        self._clock = clock
        self._timeout_ns = timeout_ns
        self._blocks = blocks  # a thread cannot be cancelled
        self._timer: asyncio.TimerHandle | None = None
        self.deadline_ns: int | None = None
        self.otherwise: DecidedOtherwise | None = None
        self.abandoned: bool = False
        self.superseded: bool = False
        self.is_stopping: bool = False

    # -- time-outs ----------------------------------------------------------------------------------

    def begin(self, now_ns: int) -> None:
        """A call begins: give it its time, if it has any."""
        if self._timeout_ns is not None:
            self.deadline_ns = now_ns + self._timeout_ns
            if self._timer is None:
                self._timer = self._loop.call_later(self._timeout_ns / 1e9, self._look)

    def _look(self) -> None:
        """Cancel the current call if its time is up, else set the timer anew."""
        self._timer = None
        deadline_ns, batch = self.deadline_ns, self._worker.batch
        if not deadline_ns or batch is None:
            return  # the call is over; the next one sets the timer again
        left_ns = deadline_ns - self._clock.now_ns()
        if left_ns > 0:
            self._timer = self._loop.call_later(left_ns / 1e9, self._look)
            return
        self._interrupt(batch, "timed out")

    def end(self) -> None:
        """The call is over: if it was cancelled, nothing waits for its end any more."""
        if self.deadline_ns == 0:
            self.close()
        self.deadline_ns = self.otherwise = None
        self.superseded = False

    def close(self) -> None:
        """The worker ends: look at nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def is_interrupted(self) -> bool:
        """Whether the bus has cancelled the current call, and still waits for its end."""
        return (self.deadline_ns == 0 or self.is_stopping) and not self.abandoned

    @property
    def has_swallowed_timeout(self) -> bool:
        """Whether the current call, which has returned, was cancelled because its time was up.

        A thread cannot be cancelled: its call is abandoned after a while, or it has ended well before that.
        """
        return (
            self.deadline_ns == 0
            and not (self.abandoned or self.superseded or self.is_stopping)
            and not self._blocks
        )

    # -- interrupting -------------------------------------------------------------------------------

    def cancel_call(self, why: str) -> bool:
        """Cancel the current call, as if its time were up. False if there is none, or it was before."""
        batch = self._worker.batch
        if batch is None or self.abandoned or self.deadline_ns == 0:
            return False
        self._interrupt(batch, why)
        return True

    def supersede(self) -> None:
        """A newer event has come for what the call is about: end it, and count its event as conflated."""
        if self.cancel_call("superseded"):
            self.superseded = True

    def _interrupt(self, batch: Batch, why: str) -> None:
        self._worker.mailbox.cut_all()  # no later event of the batch is to meet the cancellation
        self.close()
        self.deadline_ns = 0
        self._worker.task.cancel(why)
        self._timer = self._loop.call_later(ABANDON_S, self._give_up, batch)

    def _give_up(self, batch: Batch) -> None:
        """The cancelled call has not ended: go on without it."""
        self._timer = None
        if self._worker.batch is batch and not self.abandoned:
            self.abandoned = True
            self._worker.abandon(batch)

    def leave_call(self) -> None:
        """Go on without the current call: its event waits again, and no attempt is counted."""
        batch = self._worker.batch
        assert batch is not None
        self.abandoned = True
        self._release(batch)
        if not self._blocks:  # a thread would not notice
            self._worker.task.cancel("the subscription is restarted")

    def outlive_stop(self) -> None:
        """The bus stops without the current call, which did not end: its event waits for the next start."""
        self.abandoned = True
        if self._worker.batch is not None:
            self._release(self._worker.batch)

    def _release(self, batch: Batch) -> None:
        """Have the event of the current call wait again. What the call still makes has its cause."""
        event = batch.current
        self._worker.mailbox.release(batch)
        if event is not None:
            batch.events, batch.is_shared = [event], False
            batch.iterator = iter(batch.events)
            next(batch.iterator)

    def retire(self) -> None:
        """End without a current call: another worker takes the place."""
        self.is_stopping = True
        self._worker.task.cancel("the subscription is restarted")

    def stop(self) -> None:
        """End after the current call, or cancel it. What the worker held waits again."""
        self.is_stopping = True
        self._worker.task.cancel("the bus is stopping")

    def forked(self) -> None:
        """In a forked child: end after the current call. What becomes of that is the parent's business."""
        self.is_stopping = True

    async def spend_cancellation(self) -> None:
        """Let a cancellation that came during a call, of the handler's or the timer's, hit no later event."""
        task = self._worker.task
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        while task.cancelling():
            task.uncancel()
