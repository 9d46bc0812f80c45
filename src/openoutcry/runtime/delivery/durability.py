"""What durability does for delivery: one protocol, and the null object of a bus without an open journal."""

from collections.abc import Iterable
from typing import Protocol

from openoutcry.core.lanes import Batch
from openoutcry.events import FirstVersion
from openoutcry.ports import Marks
from openoutcry.runtime.delivery.offsets import LaneOffsets
from openoutcry.runtime.delivery.outbox import Output
from openoutcry.runtime.delivery.subscription import Subscription


class Durability(Protocol):
    """What dispatcher, workers and subscriptions ask of the journal's side."""

    @property
    def released(self) -> int:
        """Everything up to this position of the journal has been handed out."""
        ...

    @property
    def marks(self) -> Marks | None:
        """Where calls are marked while they are in flight; None without a journal."""
        ...

    @property
    def origin(self) -> str:
        """What ids derived from its events are derived from as well."""
        ...

    def pending_ids(self) -> Iterable[str]:
        """Return the ids of the events that wait for their commit."""
        ...

    def has(self, event_id: str) -> bool:
        """Return True if the journal has an event."""
        ...

    def first_version(self, event_id: str) -> FirstVersion | None:
        """Return the event that has this id, waiting for its commit or in the journal; None if none has."""
        ...

    def fall_behind(self, subscription: Subscription, offsets: LaneOffsets) -> None:
        """Let a live lane read on from the journal, from what it was handed last."""
        ...

    def catch_up(self, subscription: Subscription) -> None:
        """Read on, for every lane of the subscription that is behind and has little left."""
        ...

    async def post(self, subscription: Subscription, batch: Batch, outputs: list[Output]) -> None:
        """Commit what a call has published together with the settling of its event."""
        ...

    def ended(self, subscription: Subscription) -> None:
        """Drop the cursors of a subscription that was ended: nothing waits for it any more."""
        ...


class NoDurability:
    """The durability of a bus without an open journal."""

    released = 0
    origin = ""
    marks: Marks | None = None

    def pending_ids(self) -> Iterable[str]:
        """Return nothing."""
        return ()

    def has(self, event_id: str) -> bool:  # noqa: ARG002 - as it is called
        """Return False."""
        return False

    def first_version(self, event_id: str) -> None:
        """Return None."""

    def fall_behind(self, subscription: Subscription, offsets: LaneOffsets) -> None:
        """Do nothing: no lane reads on."""

    def catch_up(self, subscription: Subscription) -> None:
        """Do nothing: no lane reads on."""

    async def post(self, subscription: Subscription, batch: Batch, outputs: list[Output]) -> None:
        """Do nothing: without a journal no publication waits for the end of a call."""

    def ended(self, subscription: Subscription) -> None:
        """Do nothing: there are no cursors."""
