"""The errors of `encode`: what cannot be written, and what would not be read back as it was.

Each says the way to the value, what becomes of it, and what to do instead.
"""

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

import msgspec

from openoutcry.errors import InvalidEvent
from openoutcry.events.bounds import Unfit, fields_of, parts_of, step_text
from openoutcry.events.checks import unfit
from openoutcry.events.fields import hints_of, is_open
from openoutcry.events.foreign import shown
from openoutcry.events.readback import NOTHING, Difference
from openoutcry.events.registry import encoded_names, find_by_class

Write = Callable[[Any], bytes]

_PLACE: Final = re.compile(r"`\$\.(\w+)")
"""The field that msgspec names in what it cannot read."""
_RESTORED: Final = frozenset({bytes, Decimal, date, datetime, time, timedelta, UUID})
_COLLECTIONS: Final = (tuple, set, frozenset)
_REPLACED: Final = "its class was defined again since, so make it anew with the class that is registered now"


def unwritable(event: object, problem: Exception, write: Write) -> InvalidEvent:
    """Return the error for an event that cannot be written; `write` is what could not."""
    cls = type(event)
    for name in encoded_names(cls) or ():
        found = _unwritable_part(getattr(event, name, None), write)
        if found is not None:
            return unfit(cls, name, found)
    return InvalidEvent(f"{cls.__name__} cannot be written as JSON: {problem}; convert that field before")


def _unwritable_part(value: Any, write: Write) -> Unfit | None:
    """Return what is wrong with the innermost part of a value that cannot be written, or None."""
    problem = _problem_of_writing(value, write)
    if problem is None:
        return None
    for step, inner in parts_of(value):
        if step_text(step) != " key":
            found = _unwritable_part(inner, write)
        else:
            problem_of_key = _problem_of_writing({inner: None}, write)
            found = None if problem_of_key is None else Unfit(problem_of_key, inner)
        if found is not None:
            return found.within(step_text(step))
    return Unfit(problem, value)


def _problem_of_writing(value: Any, write: Write) -> str | None:
    try:
        write(value)
    except Exception as problem:  # noqa: BLE001 - whatever it is, it is told
        return f"cannot be written as JSON: {problem}; convert it before"
    return None


def unreadable(event: object, found: Exception) -> InvalidEvent:
    """Return the error for an event that was written and could not be read."""
    cls, problem = type(event), str(found.__cause__ or found)
    place = _PLACE.search(problem)
    names = {key: name for name, key in (encoded_names(cls) or {}).items()}
    name = names.get(place[1]) if place else _wrongly_annotated(cls)
    where = "" if name is None else f".{name} = {shown(getattr(event, name, None))}"
    remedy = "give the field what its annotation says, or correct the annotation"
    if find_by_class(cls) is None:
        remedy = _REPLACED
    return InvalidEvent(f"{cls.__name__}{where}: could not be read back from a journal: {problem}; {remedy}")


def _wrongly_annotated(cls: type) -> str | None:
    """Return the name of the field whose annotation is nothing that can be read, if there is one."""
    for name, hint in hints_of(cls).items():
        try:
            msgspec.json.Decoder(hint)
        except Exception:  # noqa: BLE001 - evaluates the user's annotations
            return name
    return None


def changed(event: object, found: Difference) -> InvalidEvent:
    """Return the error for an event that differs from what would be read back of it."""
    value = "" if found.before is NOTHING else f" = {shown(found.before)}"
    remedy = _REPLACED if find_by_class(type(event)) is None else _remedy(event, found)
    return InvalidEvent(f"{type(event).__name__}{found.path}{value}: {found.problem}; {remedy}")


def _remedy(event: object, found: Difference) -> str:
    before, after = found.before, found.after
    if isinstance(before, datetime | time) and type(before) is type(after):
        if before.tzinfo is None:
            return "give it a time zone, such as UTC"
        return "pass value.astimezone(UTC), and keep the name of the zone in a field of its own"
    if before is NOTHING or (
        after is NOTHING and (isinstance(before, str) or not found.path.endswith(" key"))
    ):
        return "declare it as a field, or leave it out"
    if type(before) is type(after):
        return "leave it out, or see to it that reading it (a __post_init__, a default) does not change it"
    instead = "a str" if after is NOTHING else _written(after)
    name = found.path[1:].partition("[")[0].partition(".")[0].partition(" ")[0]
    cls: Any = type(event)
    hint: Any = hints_of(cls).get(name, Any)
    if not is_open(hint):
        return f"pass {instead}, or correct the annotation of {name}"
    example = _example(getattr(event, name, None), found.path[1 + len(name) :], before)
    return f"annotate the field{example}, or pass {instead}" if example else f"pass {instead}"


def _written(after: object) -> str:
    if after is None:
        return "None"
    name = type(after).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _example(field: object, path: str, before: object) -> str:
    """Return an annotation that would keep a value; empty if none would, and a hint where it lies deep."""
    kind: Any = type(before)
    is_key = path.endswith(" key")
    is_restored = kind in _RESTORED or kind in _COLLECTIONS or isinstance(before, Enum) or fields_of(kind)
    if not is_restored and not (is_key and kind in (int, float)):
        return ""
    name = f"{kind.__name__}[...]" if kind in _COLLECTIONS else kind.__name__
    if not path:
        return f" with {name}"
    if path == " key":
        return f", e.g. dict[{name}, ...]"
    if is_key or path.count("[") > 1 or not path.endswith("]"):
        return " with the types that it holds"
    return f", e.g. dict[str, {name}]" if isinstance(field, Mapping) else f", e.g. list[{name}]"
