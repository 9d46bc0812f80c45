"""Events to JSON and back, exactly, by the classes in the registry.

The encoded form is one flat object: `event_class` first, then every field under its own name, timestamps in
nanoseconds. So it can be filtered by type, agent, symbol and time with plain SQL or jq.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any, Final, NoReturn

import msgspec

from openoutcry.errors import InvalidEvent, UnknownEventType
from openoutcry.events.bounds import LEAVES, MAX_BYTES, Room, Unfit, cached_names, fields_of, look_through
from openoutcry.events.certainty import comes_back
from openoutcry.events.checks import noted, unfit
from openoutcry.events.digits import compare_digits, has_wide_int
from openoutcry.events.fields import (
    OURS,
    added_fields,
    float_fields,
    has_floats,
    has_times,
    notes_floats,
)
from openoutcry.events.foreign import shown, whole
from openoutcry.events.frozen import EXACTLY, thaw
from openoutcry.events.heads import UNREADABLE, Head, head_of
from openoutcry.events.inner_keys import holds_classes, strange_keys
from openoutcry.events.models import dump, is_model, load
from openoutcry.events.readback import NOTHING, first_difference
from openoutcry.events.refusals import changed, unreadable, unwritable
from openoutcry.events.registry import (
    CLASS_KEY,
    VERSION_KEY,
    KnownClass,
    encoded_names,
    find_by_class,
    find_by_name,
    find_by_type,
    fixed_event_type,
    refused,
    upcasters,
    ways,
    ways_of_many,
)
from openoutcry.events.sparse import in_full, is_sparse
from openoutcry.events.times import as_written
from openoutcry.events.upcasting import BroughtUp, bring_up, version_in
from openoutcry.events.writing import encode_json, note_way, own_value, read_at_once
from openoutcry.spelling import nearest

_decoders: Final[dict[type, Callable[[Any], Any]]] = {}


_UNKNOWN_FIELD: Final = re.compile(r"(?:unknown field `|it has no field ')(\w+)[`']")


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
    way = ways.get(type(event))
    if way is not None:
        try:
            data = way(event)
        except Exception:  # noqa: BLE001 - what is wrong is said below
            data = b""
        if data and len(data) <= MAX_BYTES:
            return data
    return _encode_with_care(event)


def _encode_with_care(event: object) -> bytes:
    """Write an event whatever it holds: look through it, and read back what was written."""
    cls: Any = type(event)
    is_ours = cls.__module__.startswith(OURS)
    try:
        if hasattr(cls, "_fixed_event_type"):
            if cls in refused:
                raise refused[cls]
            if not is_ours:
                if event.schema_version != event._own_version:  # type: ignore[attr-defined] # noqa: SLF001
                    event._settle_version()  # type: ignore[attr-defined] # noqa: SLF001
                _look_at_added(event, cls)
            data = encode_json(in_full(event) if not is_ours and is_sparse(cls) else event)
        else:
            is_ours = False
            data = encode_json(_foreign_to_builtins(event, cls))
    except (TypeError, ValueError, OverflowError, RecursionError) as problem:
        if isinstance(problem, InvalidEvent):
            raise
        raise unwritable(event, problem, encode_json) from problem
    if len(data) > MAX_BYTES:
        raise InvalidEvent(
            f"{cls.__name__} has {len(data):,} bytes as JSON: an event has at most {MAX_BYTES:,}; "
            "store the contents elsewhere, and publish where"
        )
    if not is_ours and (find_by_class(cls) is None or not comes_back(event)):
        _read_back(event, cls, data)
    note_way(cls)
    return data


def _read_back(event: object, cls: type, data: bytes) -> None:
    """Raise `InvalidEvent` if what was written of an event of a user's class is not read again as it was."""
    try:
        again = decode(data)
    except Exception as problem:
        lost = problem.__cause__
        difference = first_difference(event, lost.event) if isinstance(lost, _LeftOut) else None
        if difference is not None:  # which names the value, and not only the key
            raise changed(event, difference) from None
        raise unreadable(event, problem) from problem
    if type(again) is cls:
        difference = first_difference(event, again)
        if difference is not None:
            raise changed(event, difference)
        return
    for name in fields_of(cls):  # its class was defined again since, in a notebook or by a reload
        if name == VERSION_KEY:
            continue  # that of the new class, to which the event is brought up
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
    known = {ways_of_many.get(kind) for kind in set(map(type, events))}
    way = known.pop() if len(known) == 1 else None
    if way is not None:
        with suppress(Exception):  # `encode` tells of which event
            encoded = way(events)
            if encoded and max(map(len, encoded)) <= MAX_BYTES:
                return encoded
    return list(map(encode, events))


def decode(data: bytes | bytearray | memoryview | str) -> Any:
    """Return the event that `encode` wrote, of its own class, with every field as it was.

    Data of an older `schema_version` than that of its class is brought up to it, by the upcasters that are
    registered: fields that the class does not have any more are ignored, new ones take their defaults, and
    the event carries the version of its class. Data that names a class and no version is of version 1.

    Data without an `event_class` (written by another program) is read as the class whose type is fixed to its
    `event_type`, and checked like a constructor's arguments: a time in another unit than nanoseconds, or an
    int with more digits than its field, is refused. Raises `UnknownEventType` if no class is registered for
    it, `NewerSchemaVersion` for data of a newer version than the class's, and `InvalidEvent` for malformed
    JSON and missing, unknown or unacceptable fields: nothing is dropped, nothing is rounded and nothing is
    made up.
    """
    head = head_of(data)
    name, version = head.event_class, head.schema_version
    known = find_by_name(name) if name is not None else find_by_type(head.event_type or "")
    if known is None or (version != known.version and not _is_of_its_class(version, name, known)):
        return _read_other_version(data, head, known)
    event = read_at_once(data, known) if not known.own and name is not None else None
    if event is not None:
        return event
    if not known.own or name is None:
        fields = _decode_fields(data, known.name, version)
        return from_builtins(fields, known.cls) if known.own else _foreign_from_builtins(fields, known)
    if head.event_id is None or head.timestamp is None or head.event_type is None:
        _require(known, head.event_id, head.timestamp, head.event_type)
    return _read(data, known, version)


def _is_of_its_class(version: object, name: object, known: KnownClass) -> bool:
    """Return True if data that does not name the version of its class is read as of that version.

    It names none: then it is of version 1, or made by another program as one makes an event.
    """
    return version is msgspec.UNSET and (name is None or known.version == 1)


def _read_other_version(data: Any, head: Head, known: KnownClass | None) -> Any:
    """Read data of a class that is not registered under that name, or of another version than it is at."""
    name = head.event_class
    if known is None and (name is None or name not in upcasters):
        raise _unknown(name, head.event_type)
    name = name or known.name  # type: ignore[union-attr] # one of them is there
    version = head.version(name)
    data_of, known = bring_up(_decode_fields(data, name, version), name, version)
    return _read_brought_up(data_of, known)


def _read_brought_up(data: BroughtUp, known: KnownClass) -> Any:
    fields = data.fields
    try:
        text = encode_json(fields)
        if not known.own:
            return _foreign_from_builtins(msgspec.json.decode(text), known, data)
    except (*UNREADABLE, TypeError, ValueError, OverflowError) as problem:
        if isinstance(problem, InvalidEvent):
            raise
        _refuse(known, data.written_version, problem, data)
    _require(known, fields.get("event_id"), fields.get("timestamp"), fields.get("event_type"))
    return _read(text, known, data.written_version, data)


def _read(data: Any, known: KnownClass, version: object, brought_up: BroughtUp | None = None) -> Any:
    """Read JSON of the version of its class, an `Event`; once more, trusting its times, if need be."""
    decoder = _decoders.get(known.cls) or _new_decoder(known)
    last = noted.last
    try:
        event = decoder(data)
    except UNREADABLE:
        event = _read_as_written(decoder, data, known, version, brought_up)
    if (noted.last is not last or reads_with_care(known.cls)) and not is_as_written(event, data):
        fields = msgspec.json.decode(data)
        if has_times(known.cls) or has_floats(known.cls):
            compare_digits(known.name, fields, _builtins_of(event))
        if brought_up is None and holds_classes(known.cls):
            _require_no_strange_key(event, known, version, fields)
    return event


@lru_cache(maxsize=4096)
def reads_with_care(cls: type) -> bool:
    """Return True if data of an `Event` may have what reading leaves out or rounds without a note of it."""
    return holds_classes(cls) or has_times(cls) or not notes_floats(cls)


def is_as_written(event: Any, data: Any) -> bool:
    """Return True if data that an `Event` was read from is exactly what would be written of it.

    Then nothing in it was left out.
    """
    try:
        return bool(encode_json(event) == data)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return False


class _LeftOut(ValueError):
    """A key of a class within an event, in data of which the event was read without it."""

    def __init__(self, problem: str, event: Any) -> None:
        super().__init__(problem)
        self.event = event


def _require_no_strange_key(
    event: Any, known: KnownClass, version: object, fields: Mapping[str, Any]
) -> None:
    """Raise `InvalidEvent` if data of the version of its class has a key that a class within lacks."""
    strange = next(strange_keys(event, fields), None)
    if strange is not None:
        _refuse(known, version, _LeftOut(strange.problem, event))


def _decode_fields(data: Any, name: str, version: object) -> dict[str, Any]:
    try:
        fields: dict[str, Any] = msgspec.json.decode(data)
    except UNREADABLE as problem:
        raise InvalidEvent(
            f"{name} (schema_version {_said(version)} in the data) cannot be read: {problem}; "
            "correct the data"
        ) from problem
    return fields


def _said(version: object) -> str:
    return "missing" if version is msgspec.UNSET else shown(version)


def _read_as_written(
    decoder: Callable[[Any], Any],
    data: Any,
    known: KnownClass,
    version: object,
    brought_up: BroughtUp | None,
) -> Any:
    """Read what could not be read once more, trusting its times: they may be those of a virtual clock."""
    try:
        with as_written():
            return decoder(data)
    except UNREADABLE as problem:
        _refuse(known, version, problem, brought_up)


def _with_whole_fields(
    event: Any, known: KnownClass, version: object, fields: dict[str, Any], brought_up: BroughtUp | None
) -> Any:
    """Return the event, or raise `InvalidEvent` if something in its fields was left out or rounded."""
    is_strict = brought_up is None and holds_classes(known.cls)
    is_rounded = has_times(known.cls) or (has_floats(known.cls) and _has_wide_field(fields))
    if not (is_strict or is_rounded):
        return event
    written = _builtins_of(event)
    if written == fields:
        return event
    if is_strict:
        _require_no_strange_key(event, known, version, fields)
    if is_rounded:
        compare_digits(known.name, fields, written)
    return event


def _has_wide_field(fields: Mapping[str, Any]) -> bool:
    return any(has_wide_int(value) for key, value in fields.items() if key != "timestamp")


def _builtins_of(event: Any) -> dict[str, Any]:
    """Return the fields of an event as JSON values, under the keys of its encoded form."""
    if is_model(type(event)):
        return dump(event)
    written: dict[str, Any] = msgspec.to_builtins(event, str_keys=True, enc_hook=own_value)
    return written


def _new_decoder(known: KnownClass) -> Callable[[Any], Any]:
    try:
        decoder: Callable[[Any], Any] = msgspec.json.Decoder(known.cls).decode
    except Exception as problem:  # evaluates the user's annotations
        raise InvalidEvent(
            f"{known.name} cannot be read: {problem}; correct the annotations of its fields"
        ) from problem
    _decoders[known.cls] = decoder
    return decoder


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
    known, brought_up = _known_of(name, data, written=written)
    if not issubclass(known.cls, cls):
        raise InvalidEvent(
            f"{CLASS_KEY} = {name!r}: is no {cls.__name__}; "
            f"call from_dict on Event, or on {known.cls.__name__}",
        )
    version = data.get(VERSION_KEY, 1)
    data = data if brought_up is None else brought_up.fields
    _require(known, data.get("event_id"), data.get("timestamp"), data.get("event_type"))
    fields = _own_values(known, data)
    try:
        if written:
            with as_written():
                event = _converted(fields, known)
        else:
            event = _converted(fields, known)
    except (*UNREADABLE, TypeError, ValueError, OverflowError, AttributeError) as problem:
        if isinstance(problem, InvalidEvent):
            raise
        _refuse(known, version, problem, brought_up)
    return _with_whole_fields(event, known, version, fields, brought_up)


def _known_of(name: Any, data: Mapping[str, Any], *, written: bool) -> tuple[KnownClass, BroughtUp | None]:
    """Return the class that a mapping describes an event of; and the mapping, if it had to be brought up."""
    version = data.get(VERSION_KEY, msgspec.UNSET)
    version = version if version is msgspec.UNSET else whole(version)
    known = find_by_name(name) if name is not None else find_by_type(data.get("event_type") or "")
    if known is None and (name is None or name not in upcasters):
        raise _unknown(name, data.get("event_type"))
    if known is not None and (version is None or version == known.version):
        return known, None
    if known is not None and _is_of_its_class(version, name if written else None, known):
        return known, None
    name = name or known.name  # type: ignore[union-attr] # one of them is there
    brought_up, known = bring_up(deepcopy(dict(data)), name, Head(schema_version=version).version(name))
    return known, brought_up


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
        raise _unknown(name, event_type)
    return known


def _unknown(name: object, event_type: object) -> UnknownEventType:
    for cls, problem in refused.items():
        if name is not None and name == getattr(cls.__struct_config__, "tag", None):  # type: ignore[attr-defined]
            return UnknownEventType(f"{CLASS_KEY} = {shown(name)}: the class was not registered: {problem}")
    return UnknownEventType(
        f"{CLASS_KEY} = {shown(name)}, event_type = {shown(event_type)}: no such class is registered; "
        f"import the module that defines it, or register_event it, and decode again",
    )


def _refuse_missing(known: KnownClass, key: str) -> NoReturn:
    raise InvalidEvent(
        f"{known.name}.{key}: missing in the data; it is never made up, so add it or drop the data",
    )


def _refuse(
    known: KnownClass, version: object, problem: Exception, brought_up: BroughtUp | None = None
) -> NoReturn:
    if isinstance(problem.__cause__, InvalidEvent):
        raise problem.__cause__ from None
    near, way = _near_field(known, problem), f", {brought_up}" if brought_up else ""
    if brought_up is None:
        remedy = (
            f"read it with the version of the class that wrote it, or correct the data; if the class has "
            f"changed since, raise its {VERSION_KEY}"
        )
    else:
        remedy = "correct the upcaster, or register the one that is missing"
    raise InvalidEvent(
        f"{known.name} (schema_version {_said(version)} in the data{way}) cannot be read: {problem}{near}; "
        f"{remedy}",
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
    version = getattr(event, VERSION_KEY, known.version)
    if version != known.version or type(version) is not int:
        raise InvalidEvent(
            f"{cls.__name__}.{VERSION_KEY} = {shown(version)}: the class is at version {known.version}, and "
            "its events are written as of that; leave the field at its default"
        )
    written: dict[str, Any] = {CLASS_KEY: known.name}
    fixed = fixed_event_type(cls)
    if fixed is not None:
        written["event_type"] = fixed
    written[VERSION_KEY] = known.version
    written.update(_builtins_of(in_full(event) if is_sparse(cls) else event))
    for name in cached_names(cls):  # of an attrs class without slots msgspec writes what they keep
        written.pop(name, None)
    return written


def _registered(cls: type) -> KnownClass:
    known = find_by_class(cls)
    if known is None:
        raise UnknownEventType(
            f"{cls.__module__}.{cls.__qualname__}: this class is not registered; "
            f"decorate it with @register_event",
        )
    return known


def _foreign_from_builtins(
    data: dict[str, Any], known: KnownClass, brought_up: BroughtUp | None = None
) -> Any:
    version = data.get(VERSION_KEY, 1)
    if type(version) is not int:
        version_in(version, known.name)
    given = {CLASS_KEY} if VERSION_KEY in known.keys else {CLASS_KEY, VERSION_KEY}
    fields = {key: value for key, value in data.items() if key in known.keys or known.is_open}
    for key in data.keys() - known.keys:
        if key in given or (key == "event_type" and data[key] == fixed_event_type(known.cls)):
            fields.pop(key, None)
        elif not known.is_open:
            problem = ValueError(f"it has no field {key!r} (= {shown(data[key])})")
            _refuse(known, version, problem, brought_up)
    if known.id_key not in fields:
        _refuse_missing(known, known.id_key)
    try:
        event: Any = load(fields, known.cls) if is_model(known.cls) else _converted(fields, known)
    except (msgspec.ValidationError, TypeError, ValueError) as problem:
        if isinstance(problem, InvalidEvent):
            raise
        _refuse(known, brought_up.written_version if brought_up else version, problem, brought_up)
    return _with_whole_fields(event, known, version, fields, brought_up)


def _converted(fields: Mapping[str, Any], known: KnownClass) -> Any:
    if known.cls not in _decoders:
        _new_decoder(known)  # raises if nothing can be read as this class
    return msgspec.convert(fields, known.cls, str_keys=True)
