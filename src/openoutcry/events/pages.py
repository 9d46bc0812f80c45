"""Pages of events: many at once, exactly as `decode` reads them one by one."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, Union

import msgspec

from openoutcry.events.checks import noted
from openoutcry.events.codec import decode, reads_with_care
from openoutcry.events.fields import OURS
from openoutcry.events.heads import UNREADABLE, decode_head
from openoutcry.events.registry import VERSION_KEY, KnownClass, find_by_class, own_classes
from openoutcry.events.sources import watch
from openoutcry.events.writing import encode_json

_VERSION_IN_JSON: Final = f'"{VERSION_KEY}":'.encode()


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
            found = getattr(decode_head(self.payload), name)
        except UNREADABLE:
            return ""
        return found if isinstance(found, str) else ""


def decode_many(payloads: Sequence[bytes]) -> list[Any]:
    """Return what `decode` returns for each payload, in order, or an `Undecodable` where it would raise.

    Takes about two thirds of the time, since it does not read every head first: one decoder knows all
    subclasses of `Event`, and whether it makes anything up is checked for the whole page at once. What it
    cannot read, such as users' own classes and data of another version, is left to `decode`.
    """
    events: list[Any] = []
    last = noted.last
    with watch() as made_up:
        rest = iter(payloads)
        events_left = map(_decoder_of(own_classes()), rest)
        while len(events) < len(payloads):
            try:
                events.extend(events_left)
            except Exception:  # noqa: BLE001 - `decode` tells what it is; a user's __post_init__ raises anything
                _read_one_by_one(events, payloads, rest)
    _look_again(events, payloads, made_up=bool(made_up), is_wide=noted.last is not last)
    return events


def _read_one_by_one(events: list[Any], payloads: Sequence[bytes], rest: Iterator[bytes]) -> None:
    """Have `decode` read what the one decoder cannot, and what follows, until that is for it again.

    What an older release or a class of users has written seldom comes alone, and each would raise.
    """
    payload: bytes | None = payloads[len(events)]
    while payload is not None:
        events.append(_decode_or_not(payload))
        if hasattr(type(events[-1]), "_fixed_event_type"):
            version = decode_head(payload).schema_version
            if version == events[-1].schema_version:
                return
        payload = next(rest, None)


def _look_again(events: list[Any], payloads: Sequence[bytes], *, made_up: bool, is_wide: bool) -> None:
    """Have `decode` read once more what the one decoder may have read wrongly.

    Nothing was, where what would be written of an event is what was read, in the version of its class.
    """
    own = {cls for cls in set(map(type, events)) if hasattr(cls, "_fixed_event_type")}
    doubtful = own if made_up or is_wide else set(filter(_is_read_with_doubt, own))
    places = [index for index, event in enumerate(events) if type(event) in doubtful] if doubtful else []
    for index in _not_as_written(events, payloads, places) if places else ():
        if is_wide or not _is_right(events[index], payloads[index], made_up=made_up):
            events[index] = _decode_or_not(payloads[index])


@lru_cache(maxsize=4096)
def _is_read_with_doubt(cls: Any) -> bool:
    """Return True if of an event of a class it cannot be said at once that it was read as `decode` does."""
    return cls._fixed_event_type is None or reads_with_care(cls) or _of_uncertain_version(cls) is not None


def _not_as_written(events: list[Any], payloads: Sequence[bytes], places: list[int]) -> list[int]:
    """Return those of the places at which an event would not be written as the data is, in its version."""
    some = [events[index] for index in places]
    try:
        written = list(map(encode_json, some))
    except Exception:  # noqa: BLE001 - one of them cannot be written; `decode` looks at each
        return places
    return [
        index
        for index, event, data in zip(places, some, written, strict=True)
        if data != payloads[index] or event.schema_version != event._own_version  # noqa: SLF001
    ]


def _is_right(event: Any, payload: bytes, *, made_up: bool) -> bool:
    """Return True if an event was read as `decode` does, from data that is not as it would be written."""
    cls: Any = type(event)
    is_free = cls._fixed_event_type is None
    known = _of_uncertain_version(cls)
    return not (
        reads_with_care(cls)
        or (known is not None and not _has_version(event, payload, known.version))
        or ((made_up or is_free) and not _has_head(payload, free=is_free))
    )


@lru_cache(maxsize=4096)
def _checks_its_version(cls: Any) -> bool:
    """Return True if every event of a class at version 1 that is decoded is of version 1, or refused.

    So it is but for a user's `__post_init__`, which may leave out that of `Event`.
    """
    owner = next(base for base in cls.__mro__ if "__post_init__" in base.__dict__)
    return bool(owner.__module__.startswith(OURS))


def _of_uncertain_version(cls: Any) -> KnownClass | None:
    """Return the record of a class of whose version a decoded event need not be."""
    known = find_by_class(cls) if hasattr(cls, "_fixed_event_type") else None
    return None if known is None or (known.version == 1 and _checks_its_version(cls)) else known


def _has_version(event: Any, payload: bytes, version: int) -> bool:
    """Return True if data surely names the version of its class; decoding would make up one that is missing.

    Before the first dict within the event, the key can only be that of the event itself.
    """
    if event.schema_version != version:
        return False
    if version == 1:
        return True
    inner = payload.find(b"{", 1)
    return payload.find(_VERSION_IN_JSON, 0, inner if inner > 0 else len(payload)) > 0


def _has_head(payload: bytes, *, free: bool) -> bool:
    """Return True if decoding made up no id, no time, and no type of a class whose type is free."""
    head = decode_head(payload)
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
