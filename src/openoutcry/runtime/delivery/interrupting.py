"""Ending a call from outside: its time is up, recovery wants it gone, a newer event has come.

```
  in hand ──cancel──▶ cancelled ──the handler lets go──▶ failed (or, superseded: settled as conflated)
                          └──it does not, within a second──▶ abandoned: a new worker goes on without it
```
"""

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from openoutcry.core.lanes import Batch
from openoutcry.core.mailbox import Mailbox
from openoutcry.runtime.delivery.lineage import Lineage

if TYPE_CHECKING:
    from openoutcry.runtime.delivery.consumer import Consumer

log = logging.getLogger("openoutcry")

ABANDON_S = 1.0


class Interruptible(Lineage):
    """The part of a worker that ends the call in hand before it ends by itself."""

    __slots__ = ("_alarm", "_asked_to_stop", "_deadline_ns", "abandoned", "mailbox", "superseded")

    consumer: "Consumer"
    mailbox: Mailbox
    abandoned: bool
    superseded: bool
    _alarm: asyncio.TimerHandle | None
    _asked_to_stop: bool
    _deadline_ns: int | None

    def _settled(self, count: int) -> None:
        """Note for the journal that so many events were settled."""
        offsets = self.consumer.subscription.offsets
        if offsets is not None:
            offsets.touched(count)

    def _abandon(self, batch: Batch) -> None:
        """The cancelled call has not ended: go on without it."""
        raise NotImplementedError

    # -- time-outs ----------------------------------------------------------------------------------

    def _set_alarm(self, now_ns: int) -> None:
        timeout_ns = self.consumer.timeout_ns or 0
        self._deadline_ns = now_ns + timeout_ns
        if self._alarm is None:
            self._alarm = self.consumer.loop.call_later(timeout_ns / 1e9, self._ring)

    def _ring(self) -> None:
        """The alarm went off: cancel the call in hand if its time is up, else set the alarm anew."""
        self._alarm = None
        deadline_ns, batch = self._deadline_ns, self.batch
        if not deadline_ns or batch is None:
            return  # the call is over; the next one sets the alarm again
        left_ns = deadline_ns - self.consumer.crew.clock.now_ns()
        if left_ns > 0:
            self._alarm = self.consumer.loop.call_later(left_ns / 1e9, self._ring)
            return
        self._interrupt(batch, "timed out")

    def _silence_alarm(self) -> None:
        """The call is over: if the alarm has rung, the timer behind it has nothing to wait for any more."""
        if self._deadline_ns == 0 and self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._deadline_ns = None

    @property
    def is_interrupted(self) -> bool:
        """Whether the bus has cancelled the call in hand, and still waits for its end."""
        return (self._deadline_ns == 0 or self._asked_to_stop) and not self.abandoned

    @property
    def has_swallowed_timeout(self) -> bool:
        """Whether the call in hand, which has returned, was cancelled because its time was up.

        A thread cannot be cancelled: its call is left after a while, or it has ended well before that.
        """
        return (
            self._deadline_ns == 0
            and not (self.abandoned or self.superseded or self._asked_to_stop)
            and not self.consumer.subscription.options.blocking
        )

    # -- interrupting -------------------------------------------------------------------------------

    def cancel_call(self, why: str) -> bool:
        """Cancel the call in hand, as if its time were up. False where there is none, or it was before."""
        batch = self.batch
        if batch is None or self.abandoned or self._deadline_ns == 0:
            return False
        self._interrupt(batch, why)
        return True

    def supersede(self) -> None:
        """A newer event has come for what the call is about: end it, and count its event as conflated."""
        if self.cancel_call("superseded"):
            self.superseded = True

    def _interrupt(self, batch: Batch, why: str) -> None:
        self.mailbox.cut_all()  # no later event of the batch is to meet the cancellation
        if self._alarm is not None:
            self._alarm.cancel()
        self._deadline_ns = 0
        self.task.cancel(why)
        self._alarm = self.consumer.loop.call_later(ABANDON_S, self._abandon, batch)

    def leave_call(self) -> None:
        """Go on without the call in hand: its event waits again, and no attempt is counted."""
        batch = self.batch
        assert batch is not None
        event, is_derived = batch.current, self._derived_for == self.call
        self.abandoned = True
        self.mailbox.release(batch)
        batch.events, batch.is_shared = [event], False  # what the call still makes has its cause
        batch.iterator = iter(batch.events)
        next(batch.iterator)
        if is_derived:
            self._derived_for = self.call
        if not self.consumer.subscription.options.blocking:  # a thread would not notice
            self.task.cancel("the subscription is restarted")

    def retire(self) -> None:
        """End without a call in hand: another worker takes the place."""
        self._asked_to_stop = True
        self.task.cancel("the subscription is restarted")

    def stop(self) -> None:
        """End after the call in hand, or cancel it. What it held waits again."""
        self._asked_to_stop = True
        self.task.cancel("the bus is stopping")

    # -- the end of a call --------------------------------------------------------------------------

    def _conflate(self, batch: Batch) -> None:
        self.mailbox.conflate(batch)
        self._settled(1)

    def _after_error(self, batch: Batch, error: BaseException) -> bool:
        """Retry or bury what failed. False when the worker must not go on."""
        if self.abandoned:
            log.warning("an abandoned call of %s ended: %r", self.consumer.name, error)
            return False
        if isinstance(error, KeyboardInterrupt) or (
            isinstance(error, GeneratorExit) and not self.consumer.loop.is_running()
        ):
            # The program ends, or the worker is closed with its loop: nothing was decided about the event.
            if batch in self.mailbox.open:
                self.mailbox.release(batch)
            raise error
        cancelled = isinstance(error, asyncio.CancelledError)
        if cancelled and self._asked_to_stop:
            self.mailbox.release(batch)
            return False
        if self.superseded:
            self._silence_alarm()
            self.superseded = False
            self._conflate(batch)
            return True
        timed_out = self._deadline_ns == 0 and (cancelled or isinstance(error, TimeoutError))
        cancelled_from_outside = cancelled and not timed_out and self.task.cancelling() > 0
        self._silence_alarm()
        if cancelled_from_outside and batch.begun > 1:
            # An earlier handler of the batch may have cancelled the task and returned: this event is to blame
            # only if it happens again when it comes first.
            self.mailbox.release(batch)
            return False
        self.mailbox.fail(batch)
        self.consumer.failed(batch, error, timed_out=timed_out)
        self._settled(1)
        # Whoever cancels the worker's own task wants the task to end: so it does, and a new worker goes on if
        # the loop does.
        return not cancelled_from_outside

    async def _spend_cancellation(self) -> None:
        """Let a cancellation that came during a call, of the handler's or the alarm's, hit no later event."""
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        while self.task.cancelling():
            self.task.uncancel()
