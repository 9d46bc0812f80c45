"""What is being handled where this is asked: read by observers, kept by the runtime."""

from contextvars import ContextVar
from typing import NamedTuple, Protocol


class Handling(NamedTuple):
    """An event and the subscription whose handler has it.

    Attributes:
        event_id: The event's id.
        correlation_id: The id of its chain; that of a chain's first event is its own.
        subscription: The subscription's name.

    """

    event_id: str
    correlation_id: str
    subscription: str


class Caused(Protocol):
    """The event that is being handled, as what is published meanwhile inherits it."""

    @property
    def event_id(self) -> str:
        """Its id."""
        ...

    @property
    def correlation_id(self) -> str:
        """Its correlation id, or its own id."""
        ...


class Handler(Protocol):
    """A handler's call, or what it has spawned."""

    @property
    def subscription(self) -> str:
        """The name of its subscription."""
        ...

    def cause(self) -> Caused | None:
        """Return what it handles; None where that is not known any more."""
        ...


handler: ContextVar[Handler | None] = ContextVar("openoutcry_cause", default=None)
"""Set by the runtime where a worker, a task or a thread of a handler begins."""


def handling() -> Handling | None:
    """Return what the handler handles within which this is called; None anywhere else."""
    who = handler.get()
    cause = None if who is None else who.cause()
    if who is None or cause is None:
        return None
    return Handling(cause.event_id, cause.correlation_id, who.subscription)
