"""Access: who may publish what. It checks the bus's phase, the event, and who may release."""

from types import WrapperDescriptorType
from typing import Any

from openoutcry.core.halts import is_release
from openoutcry.errors import BusClosed, InvalidEvent, NotAuthorised, PublishError
from openoutcry.events import HIGH_PRIORITY_EVENT_TYPES, RECORDS, EventType, encode, event_type_of
from openoutcry.runtime.delivery.causation import current, restoring
from openoutcry.runtime.delivery.error_log import safe_repr
from openoutcry.runtime.delivery.state import BusState

HIGH_TYPES = frozenset(str(t.value) for t in HIGH_PRIORITY_EVENT_TYPES)
KILL_SWITCH = str(EventType.KILL_SWITCH.value)
_CLOSED = ("stopping", "stopped")
_COMPARISONS = ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__")


class Access:
    """What keeps an event out of one bus, before anybody asks for room.

    Attributes:
        releasers: The names that may release by an event of their own.
        taken: The names whose releases come through a `Releaser` alone.

    """

    def __init__(self, bus: BusState, releasers: frozenset[str]) -> None:
        self._bus = bus
        self.releasers = releasers
        self.taken: set[str] = set()

    @property
    def closed(self) -> str:
        """`stopping` or `stopped`, when nothing is admitted from outside; else empty."""
        phase = self._bus.phase
        return phase if phase in _CLOSED else ""

    def check_effects(self) -> None:
        """Raise `PublishError` inside of what restores or saves a memory, and in the tasks that it spawns."""
        state = restoring.get()
        if state is not None and not state.is_over:
            raise PublishError(
                f"{state.name} published while its memory was being {state.what}, which must have no "
                "effects; publish from a handler"
            )

    def check(self, event: Any, *, is_authorised: bool = False) -> str:
        """Return an event's type, or raise what is wrong with publishing it.

        `is_authorised` says that its source publishes it: a release comes from its releaser.
        """
        self.check_effects()
        closed = self._bus.phase
        if closed in _CLOSED:
            who = current.get()
            is_inside = who is not None and who.bus is self._bus
            if closed == "stopped" or not (is_inside or is_kill_switch(event)):
                raise BusClosed(
                    f"the bus is {closed}, so nothing is admitted from outside; "
                    "start it again, or publish before stop()"
                )
        event_type = event_type_of(event)
        check_id(event)
        if event_type in RECORDS:
            raise InvalidEvent(
                f"event_type is {str(event_type)!r}: only the bus itself writes events of this type, as "
                "records in its journal; give your events a type of their own"
            )
        if event_type == KILL_SWITCH and is_release(event) and not is_authorised:
            self._check_release(getattr(event, "source_agent", ""))
        if self._bus.checks_all:
            encode(event)
        return event_type

    def _check_release(self, source: object) -> None:
        if not isinstance(source, str) or source in self.taken:
            raise NotAuthorised(
                f"a release in the name of {source!r} goes through the releaser that was taken under it, and "
                "through no event that somebody else publishes: await releaser.release(...)"
            )
        if source not in self.releasers:
            raise NotAuthorised(
                f"{source!r} may not release a kill switch; take bus.releaser({source!r}) before the start, "
                f"and release through that (allowed by kill_switch_releasers: {sorted(self.releasers)})"
            )


def check_id(event: Any) -> None:
    """Raise `InvalidEvent` if an event has no id: text that is not empty, and compares as text does."""
    event_id = getattr(event, "event_id", None)
    if event_id.__class__ is str and event_id:
        return
    if not isinstance(event_id, str) or not event_id:
        raise InvalidEvent(
            f"{type(event).__name__}.event_id is {safe_repr(event_id)}; it must be a non-empty string"
        )
    kind = type(event_id)
    own = [name for name in _COMPARISONS if not isinstance(getattr(kind, name), WrapperDescriptorType)]
    if own:
        raise InvalidEvent(
            f"{type(event).__name__}.event_id is of class {kind.__name__}, which has a {own[0]} of its own: "
            "ids may not compare as their text does; give it as a plain str"
        )


def has_id(event: Any) -> bool:
    """Return True if `check_id` raises nothing."""
    try:
        check_id(event)
    except InvalidEvent:
        return False
    return True


def is_urgent(event: Any, *, priority: bool) -> bool:
    """Return True if this is a kill switch or takes the high lane. For any object, on any thread."""
    try:
        return event_type_of(event) in HIGH_TYPES or priority
    except Exception:  # noqa: BLE001 - what is no event is refused, with its error, when it is published
        return False


def is_kill_switch(event: Any) -> bool:
    """Return True if this is a kill switch. For any object, on any thread."""
    try:
        return event_type_of(event) == KILL_SWITCH
    except Exception:  # noqa: BLE001 - as above
        return False
