"""Writing events at once: for each class a function that writes an event about which its plan is sure.

An event of a class of this package has checked its own fields. For a user's class `events.certainty` has
a plan, unless its annotations leave too much open. Under a plan that is not kept, as with a
`__post_init__` of the user's, what was written is read once more: if all is of its class again and
written alike, it is the same. Where a function here returns nothing, `encode` looks closely.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from openoutcry.events.bounds import MAX_BYTES, MAX_DEPTH, cached_names
from openoutcry.events.certainty import Plan, plan_of
from openoutcry.events.fields import OURS
from openoutcry.events.foreign import plain
from openoutcry.events.registry import (
    CLASS_KEY,
    VERSION_KEY,
    KnownClass,
    encoded_names,
    find_by_class,
    fixed_event_type,
    readers,
    refused,
    ways,
    ways_of_many,
)

Way = Callable[[Any], bytes]
WayOfMany = Callable[[Sequence[Any]], list[bytes]]


def own_value(value: object) -> object:
    """Return what is written for a value of a class that msgspec does not know: one of numpy or pandas."""
    own = plain(value)
    if own is value:
        raise TypeError(f"{type(value).__name__} is no JSON value")
    if isinstance(own, float) and own - own != 0:
        raise ValueError("JSON has no such number")
    return own


encode_json: Final = msgspec.json.Encoder(enc_hook=own_value).encode


def note_way(cls: type) -> None:
    """Note how events of a class are written at once, or that none are. Call it when one has been written."""
    if cls not in ways:
        way, ways_of_many[cls] = _ways_of(cls)
        ways[cls] = way


def _ways_of(cls: type) -> tuple[Way | None, WayOfMany | None]:
    """Return how an event of a class is written, and how several are."""
    known = find_by_class(cls)
    if cls in refused or known is None:
        return None, None
    if known.own and cls.__module__.startswith(OURS):
        return encode_json, _encode_each
    plan = plan_of(cls)
    if plan is None:
        return None, None
    if known.own and plan.is_kept:
        return _if_sure(plan), _if_all_are_sure(plan)
    way = _if_read_alike(plan, cls) if known.own else _with_head(plan, known) if plan.is_kept else None
    return way, None if way is None else _one_by_one(way)


def _encode_each(events: Sequence[Any]) -> list[bytes]:
    return list(map(encode_json, events))


def _one_by_one(way: Way) -> WayOfMany:
    def write(events: Sequence[Any]) -> list[bytes]:
        written = list(map(way, events))
        return written if all(written) else []

    return write


def _if_all_are_sure(plan: Plan) -> WayOfMany:
    are_sure = plan.are_sure

    def write(events: Sequence[Any]) -> list[bytes]:
        return list(map(encode_json, events)) if are_sure(events, MAX_BYTES, MAX_DEPTH) else []

    return write


def _if_sure(plan: Plan) -> Way:
    measure = plan.measure

    def write(event: Any) -> bytes:
        return encode_json(event) if measure(event, MAX_BYTES, MAX_DEPTH) >= 0 else b""

    return write


def _if_read_alike(plan: Plan, cls: type) -> Way | None:
    measure = plan.measure
    read: Callable[[bytes], Any] = msgspec.json.Decoder(cls).decode

    def write(event: Any) -> bytes:
        if measure(event, MAX_BYTES, MAX_DEPTH) < 0:
            return b""
        data = encode_json(event)
        again = read(data)
        is_same = (
            measure(again, MAX_BYTES, MAX_DEPTH) >= 0
            and type(again.event_type) is type(event.event_type)
            and encode_json(again) == data
        )
        return data if is_same else b""

    return write


def _with_head(plan: Plan, known: KnownClass) -> Way | None:
    """Return what writes events of a class that is no `Event`: its head, then the fields."""
    begin = _head_of(known)
    if begin is None:
        return None
    measure = plan.measure

    def write(event: Any) -> bytes:
        return begin + encode_json(event)[1:] if measure(event, MAX_BYTES, MAX_DEPTH) >= 0 else b""

    return write


def _head_of(known: KnownClass) -> bytes | None:
    """Return how the data of a class that is no `Event` begins; None if its own fields are to be there."""
    head: dict[str, object] = {CLASS_KEY: known.name}
    fixed = fixed_event_type(known.cls)
    if fixed is not None:
        head["event_type"] = fixed
    head[VERSION_KEY] = known.version
    names = encoded_names(known.cls) or {}
    if head.keys() & (known.keys | names.keys()) or cached_names(known.cls):
        return None
    return encode_json(head)[:-1] + b","


def read_at_once(data: object, known: KnownClass) -> Any:
    """Return an event of a class that is no `Event`, or None if its data is not just what is written of it.

    If it is, then nothing was left out and nothing was rounded.
    """
    if known.cls not in readers:
        readers[known.cls] = _reader_of(known)
    read = readers[known.cls]
    try:
        return None if read is None else read(data)
    except Exception:  # noqa: BLE001 - what is wrong is said by who reads it closely
        return None


def _reader_of(known: KnownClass) -> Callable[[Any], Any] | None:
    plan, begin = plan_of(known.cls), _head_of(known)
    if plan is None or not plan.is_kept or begin is None:
        return None
    read: Callable[[bytes], Any] = msgspec.json.Decoder(known.cls).decode
    length = len(begin)

    def read_written(data: Any) -> Any:
        if type(data) is not bytes or not data.startswith(begin):
            return None
        fields = b"{" + data[length:]
        event = read(fields)
        return event if encode_json(event) == fields else None

    return read_written
