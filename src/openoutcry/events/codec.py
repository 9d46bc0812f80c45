"""Events to JSON and back, exactly, by the classes in the registry.

The encoded form is one flat object: `event_class` first, then every field under its own name, timestamps in
nanoseconds. So it can be filtered by type, agent, symbol and time with plain SQL or jq.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from functools import lru_cache
from typing import Any, Final, NoReturn, Union

import msgspec

from openoutcry.errors import InvalidEvent, UnknownEventType
from openoutcry.events.registry import (
    CLASS_KEY,
    KnownClass,
    find_by_class,
    find_by_name,
    find_by_type,
    fixed_event_type,
    own_classes,
    refused,
)
from openoutcry.events.sources import watch

_encode_json: Final = msgspec.json.Encoder().encode
_decoders: Final[dict[type, Callable[[Any], Any]]] = {}


class _Head(msgspec.Struct, gc=False):
    """What is read first: enough to find the class, and to check that nothing would be made up."""

    event_class: str | None = None
    event_type: str | None = None
    event_id: str | None = None
    timestamp: Any = None
    schema_version: Any = 1


_decode_head: Final = msgspec.json.Decoder(_Head).decode


_UNREADABLE: Final = (msgspec.DecodeError, RecursionError, UnicodeError)
"""What msgspec raises for data that it cannot read. Too deep nesting and a broken character are not among
its own errors."""


_CHECKED: Final = "openoutcry."
"""The event classes in this package check their numbers when they are made."""


def _require_finite(cls: type, name: str, value: object) -> None:
    """Raise `InvalidEvent` if a value, or one inside it, is a float that JSON does not have."""
    if type(value) is float:
        if value - value != 0:
            raise InvalidEvent(
                f"{cls.__name__}.{name} = {value!r}: JSON has no such number, so it could not be read back; "
                "use None, or leave the event out"
            )
    elif type(value) is dict:
        for inner in value.values():
            _require_finite(cls, name, inner)
    elif type(value) is list or type(value) is tuple:
        for inner in value:
            _require_finite(cls, name, inner)


def encode(event: object) -> bytes:
    """Return the event, a registered class's instance, as JSON with its class's name.

    JSON has no NaN and no infinity, and msgspec would write null for them, which could not be read back, so
    such an event is refused. (The trading events refuse them when they are made.) Raises `InvalidEvent` if a
    field holds what JSON cannot, or the class is not registered.
    """
    cls = type(event)
    try:
        if hasattr(cls, "_fixed_event_type"):
            if cls in refused:
                raise refused[cls]
            if not cls.__module__.startswith(_CHECKED):
                for name in cls.__struct_fields__:  # type: ignore[attr-defined]
                    _require_finite(cls, name, getattr(event, name))
            return _encode_json(event)
        fields = _foreign_to_builtins(event, cls)
        for name, value in fields.items():
            _require_finite(cls, name, value)
        return _encode_json(fields)
    except (TypeError, ValueError, OverflowError, RecursionError) as problem:
        if isinstance(problem, InvalidEvent):
            raise
        raise InvalidEvent(
            f"{cls.__name__} cannot be written as JSON: {problem}; convert that field before"
        ) from problem


def encode_many(events: Sequence[object]) -> list[bytes]:
    """Return what `encode` returns for each event, in two thirds of the time. Raises as `encode`."""
    if all(
        hasattr(cls, "_fixed_event_type") and cls not in refused and cls.__module__.startswith(_CHECKED)
        for cls in set(map(type, events))
    ):
        with suppress(TypeError, ValueError, OverflowError):  # `encode` tells of which event
            return list(map(_encode_json, events))
    return list(map(encode, events))


def decode(data: bytes | bytearray | memoryview | str) -> Any:
    """Return the event that `encode` wrote, of its own class, with every field as it was.

    Data without an `event_class` (written by another program) is read as the class whose type is fixed to its
    `event_type`. Raises `UnknownEventType` if no class is registered for it, and `InvalidEvent` for malformed
    JSON and missing, unknown or unacceptable fields: nothing is dropped and nothing is made up.
    """
    try:
        head = _decode_head(data)
    except _UNREADABLE as problem:
        raise InvalidEvent(
            f"not an event: {problem}; the data is cut off or damaged, or not JSON of an event",
        ) from problem
    known = _find(head.event_class, head.event_type)
    if not known.own:
        try:
            fields = msgspec.json.decode(data)
        except _UNREADABLE as problem:
            _refuse(known, head.schema_version, problem)
        return _foreign_from_builtins(fields, known)
    if head.event_id is None or head.timestamp is None or head.event_type is None:
        _require(known, head.event_id, head.timestamp, head.event_type)
    decoder = _decoders.get(known.cls) or _new_decoder(known)
    try:
        return decoder(data)
    except _UNREADABLE as problem:
        _refuse(known, head.schema_version, problem)


def _new_decoder(known: KnownClass) -> Callable[[Any], Any]:
    try:
        _decoders[known.cls] = msgspec.json.Decoder(known.cls).decode
    except Exception as problem:  # evaluates the user's annotations
        raise InvalidEvent(
            f"{known.name} cannot be read: {problem}; correct the annotations of its fields"
        ) from problem
    return _decoders[known.cls]


class Undecodable(msgspec.Struct, frozen=True):
    """What `decode_many` returns in place of an event that cannot be read.

    Attributes:
        payload: The data, byte for byte.
        error: What `decode` would have raised: `UnknownEventType`, `InvalidEvent`, or what the
            `__post_init__` of a user's class raises.

    """

    payload: bytes
    error: Exception


def decode_many(payloads: Sequence[bytes]) -> list[Any]:
    """Return what `decode` returns for each payload, in order, or an `Undecodable` where it would raise.

    Takes about two thirds of the time, since it does not read every head first: one decoder knows all
    subclasses of `Event`, and whether it makes anything up is checked for the whole page at once. What it
    cannot read, such as users' own classes, is left to `decode`.
    """
    events: list[Any] = []
    with watch() as made_up:
        events_left = map(_decoder_of(own_classes()), payloads)
        while len(events) < len(payloads):
            try:
                events.extend(events_left)
            except Exception:  # noqa: BLE001 - `decode` tells what it is; a user's __post_init__ raises anything
                events.append(_decode_or_not(payloads[len(events)]))
    free = {cls for cls in set(map(type, events)) if getattr(cls, "_fixed_event_type", "") is None}
    if made_up or free:
        for index, event in enumerate(events):
            cls = type(event)
            is_own = hasattr(cls, "_fixed_event_type")
            if is_own and (made_up or cls in free) and not _has_head(payloads[index], free=cls in free):
                events[index] = _decode_or_not(payloads[index])
    return events


def _has_head(payload: bytes, *, free: bool) -> bool:
    """Return True if decoding made up no id, no time, and no type of a class whose type is free."""
    head = _decode_head(payload)
    return head.event_id is not None and head.timestamp is not None and not (free and head.event_type is None)


@lru_cache(maxsize=2)
def _decoder_of(classes: tuple[type, ...]) -> Callable[[bytes], Any]:
    """Return a decoder of any of the classes, by the one that the data names; some classes have none."""
    sound = tuple(cls for cls in classes if _has_decoder(cls))
    decoder: Callable[[bytes], Any] = msgspec.json.Decoder(Union[sound]).decode  # noqa: UP007 - made at run time
    return decoder


def _has_decoder(cls: type) -> bool:
    try:
        msgspec.json.Decoder(cls)
    except Exception:  # noqa: BLE001 - evaluates the user's annotations
        return False
    return True


def _decode_or_not(payload: bytes) -> Any:
    try:
        return decode(payload)
    except Exception as problem:  # noqa: BLE001 - a user's __post_init__ may raise anything
        # Its traceback and those of its causes would keep this page alive.
        problem.__cause__ = problem.__context__ = problem.__traceback__ = None
        return Undecodable(payload, problem)


def _require(known: KnownClass, event_id: object, timestamp: object, event_type: object) -> None:
    """Raise `InvalidEvent` if decoding would make up an id, a time or a type that the data lacks."""
    if event_id is None:
        _refuse_missing(known, "event_id")
    if timestamp is None:
        _refuse_missing(known, "timestamp")
    if event_type is None and fixed_event_type(known.cls) is None:
        _refuse_missing(known, "event_type")


def from_builtins(data: Mapping[str, Any], cls: type) -> Any:
    """Return the event that a JSON-like mapping describes; behind `Event.from_dict`."""
    name, event_type = data.get(CLASS_KEY), data.get("event_type")
    for key, value in ((CLASS_KEY, name), ("event_type", event_type)):
        if not (value is None or isinstance(value, str | Enum)):
            raise InvalidEvent(f"{key} = {value!r}: must be text; correct the data")
    if name is None and (cls is not _find("Event", None).cls or event_type is None):
        name = cls.__struct_config__.tag  # type: ignore[attr-defined]
    known = _find(name, event_type)
    if not issubclass(known.cls, cls):
        raise InvalidEvent(
            f"{CLASS_KEY} = {name!r}: is no {cls.__name__}; "
            f"call from_dict on Event, or on {known.cls.__name__}",
        )
    _require(known, data.get("event_id"), data.get("timestamp"), event_type)
    try:
        return msgspec.convert(data, known.cls, str_keys=True)
    except _UNREADABLE as problem:
        _refuse(known, data.get("schema_version", 1), problem)


def _find(name: str | None, event_type: str | None) -> KnownClass:
    known = find_by_name(name) if name is not None else find_by_type(event_type or "")
    if known is None:
        raise UnknownEventType(
            f"{CLASS_KEY} = {name!r}, event_type = {event_type!r}: no such class is registered; "
            f"import the module that defines it, or register_event it, and decode again",
        )
    return known


def _refuse_missing(known: KnownClass, key: str) -> NoReturn:
    raise InvalidEvent(
        f"{known.name}.{key}: missing in the data; it is never made up, so add it or drop the data",
    )


def _refuse(known: KnownClass, version: object, problem: Exception) -> NoReturn:
    if isinstance(problem.__cause__, InvalidEvent):
        raise problem.__cause__ from None
    raise InvalidEvent(
        f"{known.name} (schema_version {version!r} in the data) cannot be read: {problem}; "
        f"read it with the version of the class that wrote it, or correct the data",
    ) from problem


def _foreign_to_builtins(event: object, cls: type) -> dict[str, Any]:
    known = _registered(cls)
    written: dict[str, Any] = {CLASS_KEY: known.name}
    fixed = fixed_event_type(cls)
    if fixed is not None:
        written["event_type"] = fixed
    written.update(msgspec.to_builtins(event, str_keys=True))
    return written


def _registered(cls: type) -> KnownClass:
    known = find_by_class(cls)
    if known is None:
        raise UnknownEventType(
            f"{cls.__module__}.{cls.__qualname__}: this class is not registered; "
            f"decorate it with @register_event",
        )
    return known


def _foreign_from_builtins(data: dict[str, Any], known: KnownClass) -> Any:
    fields = {key: value for key, value in data.items() if key in known.keys}
    if known.id_key not in fields:
        _refuse_missing(known, known.id_key)
    for key in data.keys() - known.keys - {CLASS_KEY}:
        if key != "event_type" or data[key] != fixed_event_type(known.cls):
            _refuse(
                known, data.get("schema_version"), ValueError(f"it has no field {key!r} (= {data[key]!r})")
            )
    try:
        return msgspec.convert(fields, known.cls, str_keys=True)
    except (msgspec.ValidationError, TypeError, ValueError) as problem:
        _refuse(known, data.get("schema_version"), problem)
