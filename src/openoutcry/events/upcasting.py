"""Bringing data of older versions of event classes up to the present one.

A class has a version, its `schema_version`, and so has all data that it wrote. Data of the same version is
read strictly. Data of an older one goes from version to version: where an upcaster is registered for the
version that has been reached it is called, where none is the data goes on as it is. What the class does not
have then is left out, and what the data does not have takes its default. Data of a newer version is not read.

```
  version in the data      1 ──upcaster──> 2 ──(none)──> 3 ──upcaster──> 4      the class's version
```

An upcaster may give the data of another class, in the version that the data then names; there it goes on.
"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from typing import Any, Final, TypeVar

from openoutcry.errors import InvalidEvent, NewerSchemaVersion, UnknownEventType
from openoutcry.events.bounds import LEAVES, Room, Unfit, look_through
from openoutcry.events.foreign import shown
from openoutcry.events.registry import (
    CLASS_KEY,
    VERSION_KEY,
    KnownClass,
    Upcaster,
    find_by_class,
    find_by_name,
    not_older,
    refused,
    upcasters,
)
from openoutcry.spelling import nearest

_F = TypeVar("_F", bound=Callable[[dict[str, Any]], dict[str, Any]])

_FIRST: Final = 1
_TEXT: Final = frozenset({str})


def upcaster(event_class: type | str, /, *, from_version: int) -> Callable[[_F], _F]:
    """Register a function that brings data of one version of an event class up to the next.

        @upcaster(Booked, from_version=1)
        def name_the_exchange(data: dict[str, Any]) -> dict[str, Any]:
            data["exchange"] = data.pop("venue")
            return data

    It is called with the event's JSON data, a dict of its own, and returns it changed, or another dict. It is
    called for every such event that is read, anywhere and at any time, so it must be quick, always return the
    same for the same data, and change neither `event_id` nor anything outside. Upcasters follow each other,
    1 to 2 to 3. A version without one is read as it is: fields that the class does not have are ignored,
    missing ones take their defaults. So a field that was added or removed needs none.

    `event_class` is the class, and then also the classes that inherit its version, or, for one that does not
    exist any more, the name that its data has. The
    function may give the data another `event_class`, when a class was renamed or split; the data is then of
    that class's version `schema_version`, as it says.

    Defining the same function again, as in a notebook, replaces it. Raises `InvalidEvent` if the class is not
    at a newer version than `from_version`, or if there is an upcaster for that version already. What an
    upcaster raises makes the event unreadable, with its name in the error.
    """
    if type(from_version) is not int or from_version < _FIRST:
        raise InvalidEvent(
            f"upcaster({shown(event_class)}): from_version = {shown(from_version)}: a version is a whole "
            "number of at least 1; give the version that the function takes"
        )
    name = _name_of(event_class)

    def register(function: _F) -> _F:
        if not callable(function) or iscoroutinefunction(function):
            raise InvalidEvent(f"{shown(function)}: an upcaster is a plain function of the data; write def")
        made = Upcaster(name, from_version, function, event_class)
        known = find_by_name(name)
        if known is not None and from_version >= known.version:
            raise not_older(made, known.version)
        before = upcasters.get(name, {}).get(from_version)
        if before is not None and not _is_redefined(before, made):
            raise InvalidEvent(
                f"the upcaster {made}: version {from_version} of {name} is brought up by {before} already; "
                "remove one of them, or correct its from_version"
            )
        upcasters.setdefault(name, {})[from_version] = made
        return function

    return register


def _name_of(event_class: object) -> str:
    """Return the name that the data of a class has. Raises `InvalidEvent` if it can have none."""
    if isinstance(event_class, str) and event_class:
        return event_class
    if not isinstance(event_class, type):
        raise InvalidEvent(
            f"upcaster({shown(event_class)}): is no event class; give the class, or the name in its data"
        )
    known = find_by_class(event_class)
    if known is None:
        raise refused.get(event_class) or InvalidEvent(
            f"upcaster({event_class.__qualname__}): the class is not registered; decorate it with "
            "@register_event first"
        )
    return known.name


def _is_redefined(before: Upcaster, after: Upcaster) -> bool:
    """Return True if it is one function defined again, by a reload or in a notebook, and no second one."""
    if str(before) != str(after):
        return False
    code, other = (getattr(one.function, "__code__", None) for one in (before, after))
    is_again = before.target is not after.target and not isinstance(after.target, str)
    if code is None or other is None or is_again:
        return True
    place, now = (code.co_filename, code.co_firstlineno), (other.co_filename, other.co_firstlineno)
    return place[0] != now[0] or place == now


@dataclass(slots=True)
class BroughtUp:
    """The data of an older version on its way to the version of the class here."""

    fields: dict[str, Any]
    name: str
    """The class that the data is of, by the name in it."""
    version: int
    written_version: int
    steps: list[Upcaster] = field(default_factory=list)
    """What was called, in order."""
    skipped: list[int] = field(default_factory=list)
    """The versions for which there was nothing to call."""
    ignored: AbstractSet[str] = frozenset()
    """The keys that the class does not have, and that were left out."""

    def __str__(self) -> str:
        said = [f"brought up by {', then '.join(map(str, self.steps))}"] if self.steps else []
        if self.skipped:
            said.append(f"no upcaster takes version {' or '.join(map(str, self.skipped))}")
        return ", ".join(said)


def version_in(value: object, name: str) -> int:
    """Return the version that data names. Raises `InvalidEvent` if it is none."""
    if type(value) is not int or not _FIRST <= value < 2**63:
        raise InvalidEvent(
            f"{name}.{VERSION_KEY} = {shown(value)}: must be a whole number of at least 1; correct the data"
        )
    return value


def bring_up(fields: dict[str, Any], name: str, version: int) -> tuple[BroughtUp, KnownClass]:
    """Return data of an older version as that of the class here, and the class. May change `fields`.

    Raises `NewerSchemaVersion` if the class is at an older version, `UnknownEventType` if no class has the
    name that the data has in the end, and `InvalidEvent` if an upcaster fails.
    """
    data = BroughtUp(fields, name, version, version)
    passed: set[tuple[str, int]] = set()
    last: frozenset[str] = frozenset()
    while (known := _arrived(data)) is None:
        step = _steps_of(data.name).get(data.version)
        if step is None:
            _skip(data)
            last = frozenset()
        elif (data.name, data.version) in passed:
            raise InvalidEvent(
                f"{data.name} (schema_version {data.version}): its upcasters lead back to it ({data}); each "
                "must give a newer version or a newer class"
            )
        else:
            passed.add((data.name, data.version))
            last = _apply(step, data)
    _finish(data, known, last)
    return data, known


def _steps_of(name: str) -> dict[int, Upcaster]:
    """Return the upcasters for data of a class, by the version that they take."""
    known = find_by_name(name)
    if known is None or len(known.lineage) == 1:
        return upcasters.get(name, {})
    return {
        version: step
        for heir in reversed(known.lineage)
        for version, step in upcasters.get(heir, {}).items()
        if version < known.version
    }


def _arrived(data: BroughtUp) -> KnownClass | None:
    """Return the class, once the data is of its version. Raises `NewerSchemaVersion`."""
    known = find_by_name(data.name)
    if known is None or data.version < known.version:
        return None
    if data.version > known.version:
        raise _newer(data, known)
    return known


def _newer(data: BroughtUp, known: KnownClass) -> NewerSchemaVersion:
    remedy = "run the release that wrote it, or a later one; what is in a journal stays there until then"
    if data.steps:
        remedy = f"raise {VERSION_KEY} of the class, or have the upcaster return the version that it gives"
    way = f", {data}" if data.steps else ""
    return NewerSchemaVersion(
        f"{data.name} is at version {known.version} here, and the data is of version {data.version}{way}: it "
        f"cannot be read; {remedy}",
        data.name,
        data.version,
        known.version,
    )


def _skip(data: BroughtUp) -> None:
    """Take the data as that of the next version for which there is something to do."""
    known, steps = find_by_name(data.name), _steps_of(data.name)
    later = [version for version in steps if version > data.version]
    if known is None and not later:
        way = f", {data}" if data.steps else ""
        takes = ", ".join(map(str, sorted(steps)))
        there = f"; its upcasters take version {takes}" if takes else ""
        raise UnknownEventType(
            f"{CLASS_KEY} = {shown(data.name)}, schema_version {data.version}{way}: no such class is "
            f"registered{there}; import the module that defines it, or register an upcaster that gives "
            "another class"
        )
    data.skipped.append(data.version)
    data.version = min(later) if known is None else min([known.version, *later])


def _apply(step: Upcaster, data: BroughtUp) -> frozenset[str]:
    """Call an upcaster, and return the keys that it has added. Raises `InvalidEvent`."""
    before, event_id = frozenset(data.fields), data.fields.get("event_id")
    data.fields[CLASS_KEY], data.fields[VERSION_KEY] = data.name, data.version
    data.steps.append(step)
    try:
        made: Any = step.function(data.fields)
    except Exception as problem:
        raise _failed(step, f"raised {type(problem).__name__}: {problem}") from problem
    if not isinstance(made, dict) or not set(map(type, made)) <= _TEXT:
        what = f"returned {shown(made)}" if isinstance(made, dict) else f"returned a {type(made).__name__}"
        raise _failed(step, f"{what}, not a dict from field names to values")
    if made.get("event_id") != event_id:
        raise _failed(step, f"changed the event_id from {shown(event_id)} to {shown(made.get('event_id'))}")
    name, version = made.get(CLASS_KEY, data.name), made.get(VERSION_KEY)
    if not isinstance(name, str):
        raise _failed(step, f"gave {CLASS_KEY} = {shown(name)}, which is no name")
    if name == data.name:
        if version not in {None, data.version, data.version + 1}:
            raise _failed(step, f"gave version {shown(version)}, not {data.version + 1}")
        version = data.version + 1
    elif type(version) is not int or version < _FIRST:
        raise _failed(step, f"gave the class {name!r} with {VERSION_KEY} = {shown(version)}")
    data.fields, data.name, data.version = made, name, version
    return frozenset(made) - before


def _failed(step: Upcaster, problem: str) -> InvalidEvent:
    return InvalidEvent(
        f"{step.name} (schema_version {step.version}) cannot be read: its upcaster {step} {problem}; correct "
        "the upcaster, and read the event again"
    )


def _finish(data: BroughtUp, known: KnownClass, added: frozenset[str]) -> None:
    """Leave out what the class does not have, and give the data the class's name and version."""
    strange = sorted(added - known.accepted) if not known.is_open else []
    if strange:
        near = nearest(strange[0], known.keys)
        hint = "" if near is None else f", did you mean {near!r}?"
        problem = f"added {', '.join(map(repr, strange))}, which version {known.version} does not have{hint}"
        raise _failed(data.steps[-1], problem)
    data.fields = dict(data.fields)
    if not known.is_open:
        data.ignored = data.fields.keys() - known.accepted
        for key in data.ignored:
            del data.fields[key]
    data.fields[CLASS_KEY] = known.name
    data.fields[VERSION_KEY] = data.fields[known.version_key] = known.version
    if data.steps:
        _look_through(data)


def _look_through(data: BroughtUp) -> None:
    """Raise `InvalidEvent` if an upcaster has put in what JSON does not have, or too much of it."""
    room = Room()
    for key, value in data.fields.items():
        if type(value) in LEAVES or (type(value) is float and value - value == 0):
            continue
        try:
            look_through(value, room, finite=True)
        except Unfit as problem:
            where = f"gave {key}{problem.path} = {shown(problem.value)}: {problem}"
            raise _failed(data.steps[-1], where) from None
