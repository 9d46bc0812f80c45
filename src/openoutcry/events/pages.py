"""Pages of events: many at once, exactly as `decode` reads them one by one."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, Union

import msgspec

from openoutcry.events.codec import decode, is_as_written
from openoutcry.events.digits import has_fine_time
from openoutcry.events.fields import OURS, has_times
from openoutcry.events.heads import UNREADABLE, decode_head
from openoutcry.events.inner_keys import holds_classes
from openoutcry.events.registry import VERSION_KEY, KnownClass, find_by_class, own_classes
from openoutcry.events.sources import watch

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
    with watch() as made_up:
        rest = iter(payloads)
        events_left = map(_decoder_of(own_classes()), rest)
        while len(events) < len(payloads):
            try:
                events.extend(events_left)
            except Exception:  # noqa: BLE001 - `decode` tells what it is; a user's __post_init__ raises anything
                _read_one_by_one(events, payloads, rest)
    _look_again(events, payloads, made_up=bool(made_up))
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


def _look_again(events: list[Any], payloads: Sequence[bytes], *, made_up: bool) -> None:
    """Have `decode` read once more what the one decoder may have read wrongly."""
    kinds = set(map(type, events))
    free = {cls for cls in kinds if getattr(cls, "_fixed_event_type", "") is None}
    timed = {cls for cls in kinds if has_times(cls)}
    holding = {cls for cls in kinds if hasattr(cls, "_fixed_event_type") and holds_classes(cls)}
    versions = {cls: known.version for cls in kinds if (known := _of_uncertain_version(cls)) is not None}
    for index, event in enumerate(events) if timed or holding or versions else ():
        cls, payload = type(event), payloads[index]
        if (
            (cls in versions and not _has_version(event, payload, versions[cls]))
            or (cls in timed and has_fine_time(payload.decode("utf-8", "replace")))
            or (cls in holding and not is_as_written(event, payload))
        ):
            events[index] = _decode_or_not(payload)
    if made_up or free:
        for index, event in enumerate(events):
            cls = type(event)
            is_own = hasattr(cls, "_fixed_event_type")
            if is_own and (made_up or cls in free) and not _has_head(payloads[index], free=cls in free):
                events[index] = _decode_or_not(payloads[index])


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
