"""What the workers of a bus share, as they see it."""

from collections.abc import Sequence
from typing import Any, Protocol

from openoutcry.core.mailbox import Mailbox
from openoutcry.core.retries import DeadLetter
from openoutcry.ports import Clock
from openoutcry.runtime.delivery.causation import Cause, Tracker
from openoutcry.runtime.delivery.durability import Durability
from openoutcry.runtime.delivery.outbox import Output
from openoutcry.runtime.delivery.subscription import Subscription


class Deliverer(Protocol):
    """The dispatcher: it hands out what is committed, and what is staged, as soon as anybody runs.

    Attributes:
        scheduled: Whether a delivery is due.

    """

    scheduled: bool

    def deliver(self) -> None:
        """Hand what is staged to the mailboxes."""
        ...

    def release(self, events: list[Any], positions: Sequence[int], at_ns: int) -> None:
        """Hand committed normal-lane events to the mailboxes, after what was staged before."""
        ...

    def release_high(self, event: Any, position: int) -> None:
        """Hand a committed high-priority event to the mailboxes at once."""
        ...


class Crew(Protocol):
    """What the workers of a bus share.

    Attributes:
        busy: Workers that are not at rest. 0 means that everything delivered is settled.
        control_waiting: Kill switches that no worker has taken: workers give the loop back at once.
        thread_waiting: Whether an urgent event from another thread waits for its turn of the loop: the same.
        room_waiting: Whether a publisher waits for room: workers tell of every call they begin.
        pressured: Somebody waits for a mailbox to drain.
        alone: The subscription that has the bus to itself, since what it handles was in hand at a crash.
        reads_wait: Whether the journal cannot be read at the moment without the loop waiting for it.
        durability: What the journal, if there is one, does for delivery.

    """

    clock: Clock
    dispatcher: "Deliverer"
    tracker: Tracker
    busy: int
    control_waiting: int
    thread_waiting: bool
    room_waiting: bool
    pressured: bool
    alone: Subscription | None
    durability: Durability
    reads_wait: bool

    def forget(self, outputs: list[Output]) -> None:
        """What a failed call had published never was."""
        ...

    def slice_ns(self) -> int:
        """How long a worker may keep the loop before it gives it back."""
        ...

    def rested(self) -> None:
        """The last busy worker has come to rest."""
        ...

    def drained(self, mailbox: Mailbox) -> None:
        """A worker has moved on in a mailbox while the bus is under pressure."""
        ...

    def dead(self, subscription: Subscription, letter: DeadLetter, place: int = 0) -> None:
        """An event, at `place` of its lane, became a dead letter."""
        ...

    def failing(self, subscription: Subscription) -> None:
        """Most events of a subscription fail, or it handles them again."""
        ...

    def drilled(self, name: str) -> None:
        """The control worker of a subscription has answered a drill."""
        ...

    def envelope_cause(self, event: Any, asked_ns: int) -> Cause:
        """Return what a publication by the handler of `event` inherits."""
        ...

    def is_running(self) -> bool:
        """Whether workers may be restarted."""
        ...
