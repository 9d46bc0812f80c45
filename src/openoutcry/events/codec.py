"""Events to JSON and back, exactly, by the classes in the registry.

The encoded form is one flat object: `event_class` first, then every field under its own name, timestamps in
nanoseconds. So it can be filtered by type, agent, symbol and time with plain SQL or jq.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any, Final, NoReturn, Union

import msgspec

from openoutcry.errors import InvalidEvent, UnknownEventType
from openoutcry.events.bounds import LEAVES, MAX_BYTES, Room, Unfit, fields_of, look_through
from openoutcry.events.certainty import comes_back
from openoutcry.events.checks import unfit
from openoutcry.events.fields import OURS, added_fields, float_fields, has_times
from openoutcry.events.foreign import plain, shown
from openoutcry.events.frozen import EXACTLY, thaw
from openoutcry.events.readback import NOTHING, first_difference
from openoutcry.events.refusals import changed, unreadable, unwritable
from openoutcry.events.registry import (
    CLASS_KEY,
    KnownClass,
    encoded_names,
    find_by_class,
    find_by_name,
    find_by_type,
    fixed_event_type,
    own_classes,
    refused,
)
from openoutcry.events.sources import watch
from openoutcry.events.times import as_written
from openoutcry.spelling import nearest


def _own_value(value: object) -> object:
    """Return what is written for a value of a class that msgspec does not know: one of numpy or pandas."""
    own = plain(value)
    if own is value:
        raise TypeError(f"{type(value).__name__} is no JSON value")
    if isinstance(own, float) and own - own != 0:
        raise ValueError("JSON has no such number")
    return own


_encode_json: Final = msgspec.json.Encoder(enc_hook=_own_value).encode
_decoders: Final[dict[type, Callable[[Any], Any]]] = {}


class _Head(msgspec.Struct, gc=False):
    """What is read first: enough to find the class, and to check that nothing would be made up."""

    event_class: str | None = None
    event_type: str | None = None
    event_id: str | None = None
    timestamp: Any = None
    schema_version: Any = 1


_decode_head: Final = msgspec.json.Decoder(_Head).decode


_FINE_TIME: Final = re.compile(r':[0-9]{2}[.,][0-9]{6}[0-9]*[1-9]|[.,][0-9]{6}[0-9]*[1-9][Ss]"')
"""A time of day, or a duration, with digits below the microsecond, which a datetime would round."""

_UNKNOWN_FIELD: Final = re.compile(r"(?:unknown field `|it has no field ')(\w+)[`']")

_UNREADABLE: Final = (msgspec.DecodeError, RecursionError, UnicodeError)
"""What msgspec raises for data that it cannot read. Too deep nesting and a broken character are not among
its own errors."""


def encode(event: object) -> bytes:
    """Return the event, a registered class's instance, as JSON with its class's name.

    JSON has no NaN and no infinity, and msgspec would write null for them, which could not be read back, so
    such an event is refused, wherever in it they are. (The trading events refuse them when they are made.)
    So is an event of a user's class that would come back with another value, or one of another class: a
    `Decimal` where the annotation is `Any`, a list for a tuple, 1.0 for 1, a zone without its rules.

    Raises `InvalidEvent`, with the way to the value, if a field holds what JSON cannot or would change, if it
    lies deeper than `MAX_DEPTH` levels, or if the encoded event has more than `MAX_BYTES`; and
    `UnknownEventType` if the class is not registered.
    """
    cls = type(event)
    try:
        if hasattr(cls, "_fixed_event_type"):
            if cls in refused:
                raise refused[cls]
            is_ours = cls.__module__.startswith(OURS)
            if not is_ours:
                _look_at_added(event, cls)
            data = _encode_json(event)
        else:
            is_ours = False
            data = _encode_json(_foreign_to_builtins(event, cls))
    except (TypeError, ValueError, OverflowError, RecursionError) as problem:
        if isinstance(problem, InvalidEvent):
            raise
        raise unwritable(event, problem, _encode_json) from problem
    if len(data) > MAX_BYTES:
        raise InvalidEvent(
            f"{cls.__name__} has {len(data):,} bytes as JSON: an event has at most {MAX_BYTES:,}; "
            "store the contents elsewhere, and publish where"
        )
    if not (is_ours or comes_back(event)):
        _read_back(event, cls, data)
    return data


def _read_back(event: object, cls: type, data: bytes) -> None:
    """Raise `InvalidEvent` if what was written of an event of a user's class is not read again as it was."""
    try:
        again = decode(data)
    except Exception as problem:
        raise unreadable(event, problem) from problem
    if type(again) is cls:
        difference = first_difference(event, again)
        if difference is not None:
            raise changed(event, difference)
        return
    for name in fields_of(cls):  # its class was defined again since, in a notebook or by a reload
        difference = first_difference(getattr(event, name), getattr(again, name, NOTHING))
        if difference is not None:
            raise changed(event, difference.within(f".{name}"))


def _look_at_added(event: object, cls: type) -> None:
    """Raise `InvalidEvent` if a field that the user's class adds to `Event` holds what JSON would lose."""
    room = Room()
    for name in added_fields(cls):
        value = getattr(event, name)
        kind = type(value)
        if kind is float:
            if value - value != 0:
                _look_at(cls, name, value, room)
        elif kind not in LEAVES:
            _look_at(cls, name, value, room)


def _look_at(cls: type, name: str, value: object, room: Room, *, finite: bool = True) -> None:
    try:
        look_through(value, room, finite=finite)
    except Unfit as problem:
        raise unfit(cls, name, problem) from None


def encode_many(events: Sequence[object]) -> list[bytes]:
    """Return what `encode` returns for each event, in two thirds of the time. Raises as `encode`."""
    if all(
        hasattr(cls, "_fixed_event_type") and cls not in refused and cls.__module__.startswith(OURS)
        for cls in set(map(type, events))
    ):
        with suppress(TypeError, ValueError, OverflowError):  # `encode` tells of which event
            encoded = list(map(_encode_json, events))
            if not encoded or max(map(len, encoded)) <= MAX_BYTES:
                return encoded
    return list(map(encode, events))


def decode(data: bytes | bytearray | memoryview | str) -> Any:
    """Return the event that `encode` wrote, of its own class, with every field as it was.

    Data without an `event_class` (written by another program) is read as the class whose type is fixed to its
    `event_type`, and checked like a constructor's arguments: a time in another unit than nanoseconds, or an
    int with more digits than its field, is refused. Raises `UnknownEventType` if no class is registered for
    it, and `InvalidEvent` for malformed JSON and missing, unknown or unacceptable fields: nothing is dropped,
    nothing is rounded and nothing is made up.
    """
    try:
        head = _decode_head(data)
    except _UNREADABLE as problem:
        raise InvalidEvent(
            f"not an event: {problem}; the data is cut off or damaged, or not JSON of an event",
        ) from problem
    known = _find(head.event_class, head.event_type)
    if not known.own or head.event_class is None:
        fields = _decode_fields(data, known, head.schema_version)
        return from_builtins(fields, known.cls) if known.own else _foreign_from_builtins(fields, known)
    if head.event_id is None or head.timestamp is None or head.event_type is None:
        _require(known, head.event_id, head.timestamp, head.event_type)
    decoder = _decoders.get(known.cls) or _new_decoder(known)
    try:
        return decoder(data)
    except _UNREADABLE:
        return _read_as_written(decoder, data, known, head.schema_version)


def _decode_fields(data: Any, known: KnownClass, version: object) -> dict[str, Any]:
    try:
        fields: dict[str, Any] = msgspec.json.decode(data)
    except _UNREADABLE as problem:
        _refuse(known, version, problem)
    return fields


def _read_as_written(decoder: Callable[[Any], Any], data: Any, known: KnownClass, version: object) -> Any:
    """Read what could not be read once more, trusting its times: they may be those of a virtual clock."""
    try:
        with as_written():
            return decoder(data)
    except _UNREADABLE as problem:
        _refuse(known, version, problem)


def _with_whole_times(event: Any, known: KnownClass, data: Any) -> Any:
    """Return the event, or raise `InvalidEvent` if a datetime in it was given more digits than it has."""
    text = data if isinstance(data, str) else bytes(data).decode("utf-8", "replace")
    if _FINE_TIME.search(text) is not None:
        _compare_times(known, msgspec.json.decode(text), msgspec.to_builtins(event, str_keys=True))
    return event


def _with_whole_fields(event: Any, known: KnownClass, fields: Any) -> Any:
    if has_times(known.cls):
        _compare_times(known, fields, msgspec.to_builtins(event, str_keys=True, enc_hook=_own_value))
    return event


def _compare_times(known: KnownClass, given: Any, kept: Any, path: str = "") -> None:
    """Raise `InvalidEvent` if a time in the data and the one that was made of it differ."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key in given.keys() & kept.keys():
            _compare_times(known, given[key], kept[key], f"{path}.{key}")
    elif isinstance(given, list) and isinstance(kept, list | tuple):
        for index, pair in enumerate(zip(given, kept, strict=False)):
            _compare_times(known, *pair, f"{path}[{index}]")
    elif isinstance(given, str) and isinstance(kept, str) and given != kept and _is_fine(given):
        raise InvalidEvent(
            f"{known.name}{path} = {shown(given)}: has more than the six digits after the second that a "
            "datetime holds; keep it as text or as an int of nanoseconds (timestamp_ns)"
        )


def _is_fine(text: str) -> bool:
    """Return True for a time or a duration, as JSON writes it, with digits below the microsecond."""
    return _FINE_TIME.search(f'"{text}"') is not None


def _new_decoder(known: KnownClass) -> Callable[[Any], Any]:
    try:
        decoder: Callable[[Any], Any] = msgspec.json.Decoder(known.cls).decode
    except Exception as problem:  # evaluates the user's annotations
        raise InvalidEvent(
            f"{known.name} cannot be read: {problem}; correct the annotations of its fields"
        ) from problem
    if has_times(known.cls):

        def decode_whole_times(data: Any) -> Any:
            return _with_whole_times(decoder(data), known, data)

        _decoders[known.cls] = decode_whole_times
    else:
        _decoders[known.cls] = decoder
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

    @property
    def event_id(self) -> str:
        """The id that the data names; empty where that cannot be read."""
        return self._text("event_id")

    @property
    def event_type(self) -> str:
        """The type that the data names; empty where that cannot be read."""
        return self._text("event_type")

    def _text(self, name: str) -> str:
        try:
            found = getattr(_decode_head(self.payload), name)
        except _UNREADABLE:
            return ""
        return found if isinstance(found, str) else ""


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
    timed = {cls for cls in set(map(type, events)) if has_times(cls)}
    for index, event in enumerate(events) if timed else ():
        if type(event) in timed and _FINE_TIME.search(payloads[index].decode("utf-8", "replace")):
            events[index] = _decode_or_not(payloads[index])
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
    if not isinstance(data, Mapping):
        raise InvalidEvent(f"{shown(data)}: describes no event; pass a mapping from field names to values")
    name, event_type = data.get(CLASS_KEY), data.get("event_type")
    for key, value in ((CLASS_KEY, name), ("event_type", event_type)):
        if not (value is None or isinstance(value, str | Enum)):
            raise InvalidEvent(f"{key} = {shown(value)}: must be text; correct the data")
    written = name is not None
    if name is None and (cls is not _find("Event", None).cls or event_type is None):
        name = cls.__struct_config__.tag  # type: ignore[attr-defined]
    known = _find(name, event_type)
    if not issubclass(known.cls, cls):
        raise InvalidEvent(
            f"{CLASS_KEY} = {name!r}: is no {cls.__name__}; "
            f"call from_dict on Event, or on {known.cls.__name__}",
        )
    _require(known, data.get("event_id"), data.get("timestamp"), event_type)
    fields = _own_values(known, data)
    try:
        if written:
            with as_written():
                event = msgspec.convert(fields, known.cls, str_keys=True)
        else:
            event = msgspec.convert(fields, known.cls, str_keys=True)
    except (*_UNREADABLE, TypeError, ValueError, OverflowError, AttributeError) as problem:
        if isinstance(problem, InvalidEvent):
            raise
        _refuse(known, data.get("schema_version", 1), problem)
    return _with_whole_fields(event, known, fields)


def _own_values(known: KnownClass, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data with numpy's scalars as Python's own. Raises `InvalidEvent` where a float rounds."""
    fields: dict[str, Any] = {}
    room = Room()
    for key, value in data.items():
        if not isinstance(key, str):
            raise InvalidEvent(f"{known.name}: the key {shown(key)} is no field; correct the data")
        if type(value) is not str:
            _look_at(known.cls, key, value, room, finite=False)
            value = thaw(value)  # noqa: PLW2901 - the same value
        fields[str.__str__(key)] = value
    names = encoded_names(known.cls) or {}
    for name in float_fields(known.cls):
        _require_exact(known.cls, name, fields.get(names.get(name, name)))
    return fields


def _require_exact(cls: type, name: str, value: object) -> None:
    if isinstance(value, Decimal):
        raise unfit(cls, name, Unfit(f"pass a float, not a Decimal, or {EXACTLY}", value))
    if type(value) is int:
        with suppress(OverflowError):  # too large for a float at all, which is said later
            if float(value) != value:
                raise unfit(cls, name, Unfit("must fit a float exactly; use a coarser unit", value))


def _find(name: str | None, event_type: str | None) -> KnownClass:
    known = find_by_name(name) if name is not None else find_by_type(event_type or "")
    if known is None:
        raise UnknownEventType(
            f"{CLASS_KEY} = {shown(name)}, event_type = {shown(event_type)}: no such class is registered; "
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
    near = _near_field(known, problem)
    raise InvalidEvent(
        f"{known.name} (schema_version {shown(version)} in the data) cannot be read: {problem}{near}; "
        f"read it with the version of the class that wrote it, or correct the data",
    ) from problem


def _near_field(known: KnownClass, problem: Exception) -> str:
    """Return the hint at the field that is probably meant by one that the class does not have."""
    found = _UNKNOWN_FIELD.search(str(problem))
    near = nearest(found[1], known.keys) if found else None
    return "" if near is None else f", did you mean {near!r}?"


def _foreign_to_builtins(event: object, cls: type) -> dict[str, Any]:
    known = _registered(cls)
    room = Room()
    for name in encoded_names(cls) or ():
        _look_at(cls, name, getattr(event, name, None), room)
    for name in float_fields(cls):
        _require_exact(cls, name, getattr(event, name, None))
    written: dict[str, Any] = {CLASS_KEY: known.name}
    fixed = fixed_event_type(cls)
    if fixed is not None:
        written["event_type"] = fixed
    written.update(msgspec.to_builtins(event, str_keys=True, enc_hook=_own_value))
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
                known,
                data.get("schema_version"),
                ValueError(f"it has no field {key!r} (= {shown(data[key])})"),
            )
    try:
        event: Any = msgspec.convert(fields, known.cls, str_keys=True)
    except (msgspec.ValidationError, TypeError, ValueError) as problem:
        _refuse(known, data.get("schema_version"), problem)
    return _with_whole_fields(event, known, fields)
