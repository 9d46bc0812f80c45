"""Lineage: what a worker tells of the call in hand, so that what it makes is stamped with its cause."""

import asyncio
from typing import TYPE_CHECKING

from openoutcry.core.lanes import Batch
from openoutcry.events import Derivation
from openoutcry.runtime.delivery.causation import Cause

if TYPE_CHECKING:
    from openoutcry.runtime.delivery.consumer import Consumer


class Lineage:
    """The part of a worker that tells causes and derives ids."""

    __slots__ = ("_beat", "_derivation", "_derived_for", "batch", "consumer", "task")

    consumer: "Consumer"
    batch: Batch | None
    task: "asyncio.Task[None]"
    _beat: int
    _derived_for: tuple[int, int]
    _derivation: Derivation | None

    @property
    def running(self) -> bool:
        """Whether a call is in hand."""
        return self.batch is not None

    in_call = running

    @property
    def call(self) -> tuple[int, int]:
        """Something that differs from call to call."""
        batch = self.batch
        return (self._beat, 0 if batch is None else batch.begun)

    def cause(self) -> Cause | None:
        """Return what a publication inherits from the event in the handler.

        None for a callback or a thread that outlived the call: no cause is better than a wrong one.
        """
        batch = self.batch
        if batch is None or not self._is_current():
            return None
        event = batch.current
        return None if event is None else self.consumer.crew.envelope_cause(event, batch.admitted_ns)

    def derive(self) -> str | None:
        """Return the id of an event that the handler makes now; None where it is not to be derived."""
        batch = self.batch
        if batch is None or self.consumer.subscription.offsets is None or not self._is_current():
            return None
        found = self.derivation(batch)
        return None if found is None else found.next()

    def _is_current(self) -> bool:
        try:
            return asyncio.current_task() is self.task
        except RuntimeError:  # another thread
            return False

    def branch(self) -> Derivation | None:
        """Return what derives the ids of a task that the handler spawns now."""
        batch = self.batch
        if batch is None or self.consumer.subscription.offsets is None:
            return None
        found = self.derivation(batch)
        return None if found is None else found.branch()

    def derivation(self, batch: Batch) -> Derivation | None:
        """Return what derives ids in the call in hand."""
        call = (self._beat, batch.begun)
        if call != self._derived_for:
            event = batch.current
            self._derived_for = call
            self._derivation = (
                None if event is None else Derivation(event.event_id, self.consumer.subscription.name)
            )
        return self._derivation
