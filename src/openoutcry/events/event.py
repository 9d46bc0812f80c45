"""The envelope that every event of the firm shares."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, cast

import msgspec

from openoutcry.errors import InvalidEvent
from openoutcry.events import codec, registry
from openoutcry.events.checks import put, refuse, settle_count, settle_text
from openoutcry.events.fields import settle_fields
from openoutcry.events.foreign import shown
from openoutcry.events.given import Frozen, Moment
from openoutcry.events.sources import new_event_id, new_timestamp_ns
from openoutcry.events.times import CERTAIN_NS, FURTHEST_NS, NotATime, iso_text, point_ns
from openoutcry.events.types import EventType, is_foreign_name, type_name
from openoutcry.spelling import nearest

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_VERSION: Final = 1
_UNSETTLED: Final = registry.UNSETTLED
_LINKS: Final = ("correlation_id", "causation_id", "round_id")
_OF_ONE_EVENT: Final = frozenset({"event_id", *_LINKS})


class Event(
    Frozen,
    kw_only=True,
    gc=False,
    tag=True,
    tag_field=registry.CLASS_KEY,
    forbid_unknown_fields=True,
):
    """Something that happened and that the firm should hear about. Immutable, and cheap to make.

    Use `Event(event_type="anything")` for events without fields of their own. A subclass adds fields (keyword
    only) and fixes the type of its instances by giving `event_type` a default:

        class News(Event, kw_only=True):
            event_type: str = "news"
            headline: str

    A subclass with a `__post_init__` calls `super().__post_init__()` first. Subclasses are frozen by default,
    and they inherit `gc=False`: an event must not be part of a reference cycle, so do not attach objects to
    it that lead back to it. Two events are equal if all their fields are, the id included.
    """

    event_id: str = msgspec.field(default_factory=new_event_id)
    """Unique: two events with the same id are the same event, delivered once."""
    timestamp: Moment = cast(Any, msgspec.field(default_factory=new_timestamp_ns))
    """When it happened: an aware datetime (UTC when read), kept to the nanosecond in `timestamp_ns`.

    Also taken: an int of nanoseconds since 1970 UTC, and ISO 8601 text with a time zone and up to nine digits
    after the second. `openoutcry.timestamp_ns` converts counts of other units.
    """
    event_type: str = EventType.SYSTEM
    """What the bus routes by: an EventType, or any string or str-valued Enum member (kept as its value)."""
    source_agent: str = ""
    """The name of the agent that made it."""
    schema_version: int = _FIRST_VERSION
    """The version of the class's fields, from 1: what a class gives this field as default.

    Every event has that of its class; one that was read from older data has been brought up to it.
    """
    correlation_id: str | None = None
    """The id of the event that began the chain; stamped by the bus."""
    causation_id: str | None = None
    """The id of the event that was being handled when this one was published; stamped by the bus."""
    round_id: str | None = None
    """The round of the signal barrier that it belongs to; stamped by the bus."""

    volatile_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields that may differ when a handler makes the event again for the same cause, such as a latency.

    A class of your own that is no `Event` may have this attribute as well.
    """

    _own_version: ClassVar[int] = _FIRST_VERSION
    _own_event_type: ClassVar[object] = EventType.SYSTEM
    _fixed_event_type: ClassVar[str | None] = None
    _adds_fields: ClassVar[bool] = False
    """Whether it is a user's class with fields to look at. The classes of this package check their own."""
    if TYPE_CHECKING:

        @property
        def timestamp_ns(self) -> int:
            """The timestamp in nanoseconds since 1970 UTC."""
            ...

    def __init_subclass__(cls, **config: Any) -> None:
        super().__init_subclass__(**config)
        for field in Event.__struct_fields__:
            if isinstance(cls.__dict__.get(field), str | int | Enum | datetime):
                raise InvalidEvent(
                    f"{cls.__name__}.{field} = {cls.__dict__[field]!r}: hides the field {field} of Event; "
                    f'annotate it to give the field a default, as in event_type: str = "..."',
                )
        registry.announce(cls)

    def __post_init__(self) -> None:
        if not (
            type(self.timestamp_ns) is int
            and CERTAIN_NS <= self.timestamp_ns <= FURTHEST_NS
            and type(self.event_id) is str
            and self.event_id
            and type(self.source_agent) is str
            and (self.correlation_id is None or (type(self.correlation_id) is str and self.correlation_id))
            and (self.causation_id is None or (type(self.causation_id) is str and self.causation_id))
            and (self.round_id is None or (type(self.round_id) is str and self.round_id))
        ):
            self._settle_envelope()
        if self.schema_version is not _FIRST_VERSION and self.schema_version is not self._own_version:
            self._settle_version()
        given, own = self.event_type, self._own_event_type
        if given is not own:
            if type(given) is str and own is not _UNSETTLED and given == self._fixed_event_type:
                _set_type(self, own)  # it was read: the class has the same text already
            else:
                self._settle_type()
        if self._adds_fields and not self._is_sound():
            self._settle_version()
            settle_fields(self)

    def _is_sound(self) -> bool:
        """Return True if the fields that a user's class adds need no look; each class has its own."""
        return True

    def _settle_envelope(self) -> None:
        """Bring the fields into the form in which they are kept, or raise `InvalidEvent`."""
        given = self.timestamp_ns
        if type(given) is not int or not CERTAIN_NS <= given <= FURTHEST_NS:
            try:
                put(self, "timestamp_ns", point_ns(given))
            except NotATime as problem:
                message = f"{type(self).__name__}.timestamp = {shown(given)}: {problem}"
                raise InvalidEvent(message) from None
        if type(self.event_id) is not str or not self.event_id:
            settle_text(self, "event_id")
        if type(self.source_agent) is not str:
            settle_text(self, "source_agent", empty=True)
        for link in _LINKS:
            value = getattr(self, link)
            if value is not None and (type(value) is not str or not value):
                settle_text(self, link, none=True)

    def _settle_version(self) -> None:
        """Refuse another version than that of the class: such an event could not be read back as it is."""
        if self._own_event_type is registry.UNSETTLED:
            registry.settle()
        settle_count(self, "schema_version", low=_FIRST_VERSION)
        if self.schema_version != self._own_version and type(self) not in registry.refused:
            limit = f"{type(self).__name__} is at version {self._own_version}"
            refuse(self, "schema_version", limit, "leave it out: decode reads data of another version")

    def _settle_type(self) -> None:
        if self._own_event_type is registry.UNSETTLED:
            registry.settle()
        fixed, given = self._fixed_event_type, self.event_type
        if type(given) is str and (given == fixed if fixed is not None else is_foreign_name(given)):
            if fixed is not None:
                _set_type(self, self._own_event_type)
        elif fixed is None:
            put(self, "event_type", type_name(given))
        elif type_name(given) == fixed:
            _set_type(self, self._own_event_type)
        else:
            limit = f"every {type(self).__name__} is of type {str(fixed)!r}"
            refuse(
                self, "event_type", limit, "leave event_type out, or make a subclass with a type of its own"
            )

    def amended(self, **changes: Any) -> Self:
        """Return a copy with some fields changed, as an event of its own: with a fresh id.

        Inside a handler the id is derived, as that of any new event. The timestamp is kept; what the bus
        stamps (causation, correlation, round) is not: the copy is stamped when it is published. Everything is
        checked as in construction, and raises the same errors; a field that the class does not have is an
        `InvalidEvent`. (`msgspec.structs.replace` keeps the id: a copy made with it is a duplicate of this
        event, and checks nothing.)
        """
        for name in changes.keys() - set(self.__struct_fields__):
            near = nearest(name, self.__struct_fields__)
            remedy = f"did you mean {near!r}?" if near else f"it has {', '.join(self.__struct_fields__)}"
            raise InvalidEvent(f"{type(self).__name__} has no field {name!r}; {remedy}")
        if changes.get("event_id") == self.event_id:
            refuse(self, "event_id", "is that of the event to be amended", "leave event_id out")
        kept = {name: getattr(self, name) for name in self.__struct_fields__ if name not in _OF_ONE_EVENT}
        kept["timestamp"] = self.timestamp_ns
        return type(self)(**{**kept, **changes})

    def to_dict(self) -> dict[str, Any]:
        """Return every field as JSON values, with `event_class` and the timestamp in nanoseconds.

        `from_dict` makes the same event of it; raises `InvalidEvent`, as `encode` does, where it could not.
        """
        written: dict[str, Any] = msgspec.json.decode(codec.encode(self))
        return written

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Make the event that `to_dict` described, of the class that it names: this one or a subclass.

        Without `event_class` it is of the class that this is called on or, for `Event` itself, of the one
        whose type is fixed to the data's `event_type`. Data of an older `schema_version` is brought up to
        that of the class. Raises `InvalidEvent` on missing, unknown or unacceptable fields,
        `NewerSchemaVersion` for data of a newer version, and `UnknownEventType` if no such class is
        registered.
        """
        event: Self = codec.from_builtins(data, cls)
        return event

    def to_json(self) -> bytes:
        """Return the event as JSON, as `encode(event)` does, and raise the same. `decode` reads it."""
        return codec.encode(self)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({fields})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        shown = []
        for name in self.__struct_fields__:
            value = iso_text(self.timestamp_ns) if name == "timestamp" else getattr(self, name)
            if value is not None and not (type(value) is str and not value):
                shown.append((name, value))
        return shown


def _timestamp(self: Event) -> datetime:
    return _EPOCH + timedelta(microseconds=self.timestamp_ns // 1000)


registry.enter(Event, "Event", own=True)
if not TYPE_CHECKING:
    # msgspec has laid out the slot. From here on its raw content is called `timestamp_ns`, and `timestamp` is
    # a view of it. C code (equality, copying, encoding) uses the slot's offset and sees the int.
    Event.timestamp_ns = Event.__dict__["timestamp"]
    Event.timestamp = property(_timestamp, doc="When it happened, as an aware datetime in UTC.")


_set_type: Final = Event.__dict__["event_type"].__set__
_set_causation: Final = Event.__dict__["causation_id"].__set__
_set_correlation: Final = Event.__dict__["correlation_id"].__set__
_set_round: Final = Event.__dict__["round_id"].__set__


def stamp(
    event: object,
    causation_id: str | None = None,
    correlation_id: str | None = None,
    round_id: str | None = None,
) -> None:
    """Fill those of an event's three links that are None. Objects that are not `Event`s are left alone.

    Nothing else writes to an event after it was made. Only the bus calls this, at admission, before any
    handler, history or journal has seen the event.
    """
    if not isinstance(event, Event):
        return
    if causation_id is not None and event.causation_id is None:
        _set_causation(event, causation_id)
    if correlation_id is not None and event.correlation_id is None:
        _set_correlation(event, correlation_id)
    if round_id is not None and event.round_id is None:
        _set_round(event, round_id)


def stamp_round(event: object, round_id: str) -> None:
    """Fill the `round_id` of an event that has none, as `stamp` does."""
    try:
        _set_round(event, round_id)  # which refuses what is no `Event`, in a third of the time of isinstance
    except TypeError:
        return
