"""The event classes that are known by name, and what the bus needs to know about a class.

Subclasses of `Event` register themselves when they are defined. Users' other classes (their own msgspec
Structs, dataclasses, attrs classes, pydantic models) are registered by `register_event`. The bus delivers
them without it, but only a registered class can be read back from a journal.
"""

import dataclasses
import inspect
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar, Final, TypeVar, get_origin, overload

import msgspec

from openoutcry.errors import InvalidEvent
from openoutcry.events.fields import sound_of
from openoutcry.events.foreign import shown
from openoutcry.events.models import is_model, keeps_extra, written_names
from openoutcry.events.types import EventType, member_name, type_name

_C = TypeVar("_C", bound=type)

CLASS_KEY: Final = "event_class"
"""The key under which an encoded event names its class."""

VERSION_KEY: Final = "schema_version"
"""The key under which an encoded event has the version of its class that wrote it; 1 where it is absent."""

_ENVELOPE: Final = frozenset({"event_id", "timestamp", "event_type", VERSION_KEY})
_FIRST_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class KnownClass:
    """A registered event class."""

    name: str
    cls: type
    own: bool
    """Whether it is a subclass of `Event`, which writes its name itself, or a user's own class."""
    keys: frozenset[str]
    """The keys of its encoded form, without `event_class`."""
    id_key: str
    """The key that `event_id` has in the encoded form."""
    version: int
    """The version of its fields, from 1: what it has as `schema_version`."""
    version_key: str
    """The key that its field `schema_version` has in the encoded form."""
    accepted: frozenset[str]
    """The keys that its data may have."""
    lineage: tuple[str, ...]
    """Its name, and those of the classes from which it has its version: their upcasters are its as well."""
    is_open: bool
    """Whether it keeps fields that it does not declare, as a pydantic model may that allows extra ones."""


@dataclass(frozen=True, slots=True)
class Upcaster:
    """A user's function that brings the data of one version of a class up to the next."""

    name: str
    """The class, by the name in the data."""
    version: int
    """The version that it takes."""
    function: Callable[[dict[str, Any]], dict[str, Any]]
    target: object
    """What it was registered for: the class, or its name."""

    def __str__(self) -> str:
        return f"{self.function.__module__}.{getattr(self.function, '__qualname__', 'upcaster')}"


_by_name: Final[dict[str, KnownClass]] = {}
_by_type: Final[dict[str, KnownClass]] = {}
_by_class: Final[dict[type, KnownClass]] = {}


class _Unsettled:
    """Stands for the event type of a class until its first instance is made."""


UNSETTLED: Final = _Unsettled()
_announced: Final[deque[type]] = deque()
refused: Final[dict[type, InvalidEvent]] = {}
"""Subclasses of `Event` that could not be registered, and why."""
ways: Final[dict[type, Callable[[Any], bytes] | None]] = {}
"""How an event of a class is written at once, by `events.writing`; None for a class of which none is."""
ways_of_many: Final[dict[type, Callable[[Sequence[Any]], list[bytes]] | None]] = {}
"""How several are, likewise; None for a class of which none is. Returns nothing if one is not sure."""
readers: Final[dict[type, Callable[[Any], Any] | None]] = {}
"""How an event of a class that is no `Event` is read at once, likewise."""
upcasters: Final[dict[str, dict[int, Upcaster]]] = {}
"""By the name of the class in the data, then by the version that they take."""


def announce(cls: type) -> None:
    """Note a new subclass of `Event`, to be registered when it is first used or any class is looked up.

    It is not registered at once, because msgspec decides on tag and defaults only after `__init_subclass__`;
    and not by a metaclass, because on CPython 3.11 a class with a metaclass written in Python takes 100 to
    250 ns longer to call.
    """
    cls._own_event_type = UNSETTLED  # type: ignore[attr-defined]
    _announced.append(cls)
    _forget_ways()  # it may be one of them, defined again


def _forget_ways() -> None:
    ways.clear()
    ways_of_many.clear()


def settle() -> None:
    """Register what was announced. A class that cannot be works, except for `encode`, which says why."""
    while _announced:
        try:
            cls = _announced.popleft()
        except IndexError:
            return  # another thread was faster
        if getattr(cls, "__struct_fields__", None) is None:
            continue  # its definition raised, so it does not exist
        try:
            cls._own_version = version_of(cls)  # type: ignore[attr-defined]
            _fix_fields(cls)
            _fix_type(cls)
            enter(cls, _written_name(cls), own=True)
        except InvalidEvent as problem:
            refused[cls] = problem


def _fix_type(cls: Any) -> None:
    if "event_type" not in _annotations(cls):
        parent = next(base.__dict__ for base in cls.__mro__[1:] if "_own_event_type" in base.__dict__)
        cls._own_event_type, cls._fixed_event_type = parent["_own_event_type"], parent["_fixed_event_type"]
        return
    default = _defaults(cls).get("event_type")
    fixed = isinstance(default, str | Enum)
    cls._own_event_type = default if fixed else None
    cls._fixed_event_type = type_name(default) if fixed else None


def _fix_fields(cls: Any) -> None:
    """Note how its fields are checked and written. A `timestamp` of its own is read as that of `Event`."""
    is_sound = sound_of(cls, cls._own_version)
    cls._adds_fields = is_sound is not None
    if is_sound is not None:
        cls._is_sound = is_sound
    if "timestamp" in _annotations(cls):
        cls.__annotations__["timestamp"] = Any


def _annotations(cls: type) -> dict[str, Any]:
    if sys.version_info >= (3, 14):
        import annotationlib  # noqa: PLC0415 - new in 3.14

        return annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF)
    return inspect.get_annotations(cls)


def _written_name(cls: Any) -> str:
    config = cls.__struct_config__
    if not isinstance(config.tag, str) or config.tag_field != CLASS_KEY:
        option = f"tag = {config.tag!r} under {config.tag_field!r}"
    elif config.array_like:
        option = "array_like = True"
    elif any(name in _ENVELOPE and key != name for name, key in (encoded_names(cls) or {}).items()):
        option = "rename"
    else:
        return config.tag
    raise InvalidEvent(
        f"{cls.__name__}: {option}: stored events are found by their {CLASS_KEY}, id and type; "
        f"leave the option out",
    )


def enter(cls: type, name: str, *, own: bool) -> None:
    """Register `cls` as `name`. Raises `InvalidEvent` if another importable class has the name."""
    before = _by_name.get(name)
    if before is not None and _distinct(before.cls, cls):
        remedy = "tag" if own else "name"
        raise InvalidEvent(
            f"event class name {name!r}: taken by {before.cls.__module__}.{before.cls.__qualname__}; "
            f'rename the class or give it a name of its own by {remedy}="..."',
        )
    names = encoded_names(cls) or {}
    _check_volatile(cls, names)
    keys = set(names.values())
    config = getattr(cls, "__struct_config__", None)
    if config is not None and config.tag_field is not None:
        keys.add(config.tag_field)
    version = version_of(cls)
    _check_upcasters(name, version)
    known = KnownClass(
        name,
        cls,
        own,
        keys=frozenset(keys),
        id_key=names.get("event_id", "event_id"),
        version=version,
        version_key=names.get(VERSION_KEY, VERSION_KEY),
        accepted=frozenset({*keys, CLASS_KEY, VERSION_KEY, "event_type"}),
        lineage=(name, *_version_shared_with(cls)),
        is_open=is_model(cls) and keeps_extra(cls),
    )
    _forget_ways()
    readers.clear()
    if before is not None:
        _by_class.pop(before.cls, None)
    _by_name[name] = _by_class[cls] = known
    fixed = cls._fixed_event_type if own else fixed_event_type(cls)  # type: ignore[attr-defined]
    if fixed is not None and (fixed not in _by_type or _by_type[fixed].name == name):
        _by_type[fixed] = known


def version_of(cls: Any) -> int:
    """Return the version of a class's fields: the default of its field `schema_version`, or the attribute.

    It is 1 for a class that has neither. Raises `InvalidEvent` if it is no whole number of at least 1.
    """
    found = inspect.getattr_static(cls, VERSION_KEY, _FIRST_VERSION)
    if VERSION_KEY in (encoded_names(cls) or ()):
        found = _defaults(cls).get(VERSION_KEY)
    if type(found) is not int or not _FIRST_VERSION <= found < 2**63:
        raise InvalidEvent(
            f"{cls.__name__}.{VERSION_KEY} = {shown(found)}: the version of a class is a whole number of at "
            f"least 1; give the field a default, as in {VERSION_KEY}: int = 2"
        )
    return found


def _version_shared_with(cls: type) -> Iterator[str]:
    """Yield the names of the registered classes from which a class has its version, the nearest first."""
    for base, above in pairwise(cls.__mro__):
        if VERSION_KEY in _annotations(base) or type(base.__dict__.get(VERSION_KEY)) is int:
            return
        known = _by_class.get(above)
        if known is not None:
            yield known.name


def _defaults(cls: Any) -> dict[str, object]:
    """Return the defaults of the declared fields; None or another sentinel where there is none."""
    if isinstance(cls, msgspec.StructMeta):
        # defaults belong to the last fields
        backwards = zip(reversed(cls.__struct_fields__), reversed(cls.__struct_defaults__), strict=False)
        return dict(backwards)
    if dataclasses.is_dataclass(cls):
        return {field.name: field.default for field in dataclasses.fields(cls)}
    if is_model(cls):
        return {name: field.default for name, field in cls.model_fields.items()}
    return {attribute.name: attribute.default for attribute in cls.__attrs_attrs__}


def _check_upcasters(name: str, version: int) -> None:
    """Raise `InvalidEvent` if an upcaster takes the version at which a class is, or a newer one."""
    for upcaster in upcasters.get(name, {}).values():
        if upcaster.version >= version:
            raise not_older(upcaster, version)


def not_older(upcaster: Upcaster, version: int) -> InvalidEvent:
    """Return the error for an upcaster that nothing would ever call."""
    after = upcaster.version + 1
    return InvalidEvent(
        f"the upcaster {upcaster} takes version {upcaster.version} of {upcaster.name}, but the class is at "
        f"version {version}, so nothing would be brought up; raise it: {VERSION_KEY}: int = {after}"
    )


def _check_volatile(cls: type, names: dict[str, str]) -> None:
    """Raise `InvalidEvent` if a class declares something volatile that is no field of it."""
    declared = getattr(cls, "volatile_fields", ())
    if isinstance(declared, str) or not isinstance(declared, Collection):
        raise InvalidEvent(
            f"{cls.__name__}.volatile_fields = {declared!r}: must be a set of field names; "
            'write frozenset({"..."})'
        )
    unknown = sorted(str(name) for name in declared if name not in names)
    if unknown:
        raise InvalidEvent(
            f"{cls.__name__}.volatile_fields has {unknown}: no such fields; it has {sorted(names)}"
        )


def _distinct(one: type, other: type) -> bool:
    """Return False if it is one class defined again: reloaded, decorated, or made inside a function."""
    same = (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)
    return not same and "<locals>" not in one.__qualname__ + other.__qualname__


def own_classes() -> tuple[type, ...]:
    """Return the registered subclasses of `Event`."""
    if _announced:
        settle()
    return tuple(known.cls for known in _by_name.values() if known.own)


def known_classes() -> tuple[KnownClass, ...]:
    """Return the records of the registered classes."""
    if _announced:
        settle()
    return tuple(_by_name.values())


def find_by_name(name: str) -> KnownClass | None:
    """Return the class that writes `name` as its `event_class`."""
    if _announced:
        settle()
    return _by_name.get(name)


def find_by_class(cls: type) -> KnownClass | None:
    """Return the record of exactly this class."""
    if _announced:
        settle()
    return _by_class.get(cls)


def find_by_type(event_type: str) -> KnownClass | None:
    """Return the first class whose type is fixed to `event_type`."""
    if _announced:
        settle()
    return _by_type.get(event_type)


@overload
def register_event(cls: _C, /, *, name: str | None = None) -> _C: ...
@overload
def register_event(*, name: str | None = None) -> Callable[[_C], _C]: ...
def register_event(cls: _C | None = None, /, *, name: str | None = None) -> _C | Callable[[_C], _C]:
    """Register a user's class, so that `encode` and `decode` take its instances. A class decorator.

    The class is a msgspec Struct, a dataclass, an attrs class or a pydantic model with a field `event_id` and
    a field or class attribute `event_type`. Stored events carry `name` (by default the class's own): keep it
    when the class is renamed. They carry the version of its fields as well: a field with a default or a class
    attribute `schema_version`, otherwise 1. Raises `InvalidEvent` if the class does not fit or the name is
    taken.
    """
    if cls is None:
        return lambda decorated: register_event(decorated, name=name)
    if not hasattr(cls, "_fixed_event_type"):
        _check_foreign(cls)
        settle()
        enter(cls, name or cls.__name__, own=False)
    elif name is not None:
        raise InvalidEvent(
            f"{cls.__name__}: name={name!r}: subclasses of Event register themselves; "
            f'write class ...(Event, tag="...")',
        )
    return cls


def _check_foreign(cls: type) -> None:
    if not isinstance(cls, type):
        raise InvalidEvent(
            f"{shown(cls)} is no class; give the class of the events, or use it as a decorator"
        )
    names = encoded_names(cls)
    config = getattr(cls, "__struct_config__", None)
    if names is None or (config is not None and config.array_like):
        problem = "has no named fields"
        remedy = "make it a dataclass, an attrs class, a msgspec Struct or a pydantic model"
    elif "event_id" not in names:
        problem, remedy = "has no field event_id", "add one; duplicates are recognised by it"
    elif "event_type" not in names and fixed_event_type(cls) is None:
        problem, remedy = (
            "has neither a field nor a class attribute event_type",
            "add one; events are routed by it",
        )
    elif CLASS_KEY in names.values():
        problem, remedy = (
            f"has a field {CLASS_KEY}, which the encoded form needs for itself",
            "rename the field",
        )
    elif VERSION_KEY in names.values() and names.get(VERSION_KEY) != VERSION_KEY:
        problem, remedy = f"writes another field as {VERSION_KEY}", "rename the field"
    else:
        return
    raise InvalidEvent(f"{cls.__module__}.{cls.__qualname__} {problem}; {remedy}")


def encoded_names(cls: type) -> dict[str, str] | None:
    """Return each field's name in the encoded form, or None for a class without declared fields."""
    if isinstance(cls, msgspec.StructMeta):
        return dict(zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True))
    if dataclasses.is_dataclass(cls):
        return {field.name: field.name for field in dataclasses.fields(cls)}
    if is_model(cls):
        return written_names(cls)
    attributes = getattr(cls, "__attrs_attrs__", None)
    return None if attributes is None else {attribute.name: attribute.name for attribute in attributes}


def event_type_of(event: object) -> str:
    """Return the type that the bus routes `event` by.

    Members of `EventType` and plain strings are returned as they are, a member of another Enum as its value.
    Raises `InvalidEvent` if the object has no `event_type`, or one that is neither.
    """
    try:
        found = event.event_type  # type: ignore[attr-defined]
    except AttributeError:
        raise InvalidEvent(
            f"{shown(event)}: a {type(event).__name__} has no event_type; "
            f"publish Events, or objects that have an event_id and an event_type",
        ) from None
    kind = type(found)
    if found and (kind is EventType or kind is str):
        return found  # type: ignore[no-any-return]
    if isinstance(event, type):
        raise InvalidEvent(f"{event.__name__} is a class, not an event; publish {event.__name__}(...)")
    return member_name(found) if isinstance(found, Enum) else type_name(found)


@lru_cache(maxsize=4096)
def fixed_event_type(cls: type) -> str | None:
    """Return the one type that every instance of `cls` has, or None if it varies by instance.

    It is fixed for a subclass of `Event` that gives `event_type` a default, and for a class whose
    `event_type` is not a field but a class attribute that instances cannot or must not replace: in a class
    with declared fields, without an instance dict, or annotated as `ClassVar`. The answer is remembered per
    class.
    """
    if hasattr(cls, "_fixed_event_type"):
        if _announced:
            settle()
        fixed: str | None = cls._fixed_event_type
        return fixed
    names = encoded_names(cls)
    found = inspect.getattr_static(cls, "event_type", None)
    if (names is not None and "event_type" in names) or not isinstance(found, str | Enum):
        return None
    if names is None and cls.__dictoffset__ and not _declared_for_class(cls):
        return None
    return type_name(found)


def _declared_for_class(cls: type) -> bool:
    for base in cls.__mro__:
        annotation = _annotations(base).get("event_type")
        if annotation is not None:
            return (
                get_origin(annotation) is ClassVar or annotation is ClassVar or "ClassVar" in str(annotation)
            )
    return False
