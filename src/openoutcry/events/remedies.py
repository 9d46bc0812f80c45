"""What to do about a value that would not come back from a journal as it was: the error that says so."""

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

from openoutcry.errors import InvalidEvent
from openoutcry.events.bounds import fields_of
from openoutcry.events.fields import hints_of, is_open
from openoutcry.events.foreign import shown
from openoutcry.events.readback import NOTHING, Difference

_RESTORED: Final = frozenset({bytes, Decimal, date, datetime, time, timedelta, UUID})
_COLLECTIONS: Final = (tuple, set, frozenset)


def changed(event: object, found: Difference) -> InvalidEvent:
    """Return the error for an event that differs from what would be read back of it."""
    value = "" if found.before is NOTHING else f" = {shown(found.before)}"
    return InvalidEvent(
        f"{type(event).__name__}{found.path}{value}: {found.problem}; {_remedy(event, found)}"
    )


def _remedy(event: object, found: Difference) -> str:
    before, after = found.before, found.after
    if found.is_zone_lost:
        return "pass value.astimezone(UTC), and keep the name of the zone in a field of its own"
    if before is NOTHING or (after is NOTHING and not found.path.endswith((" key", " item"))):
        return "declare it as a field, or leave it out"
    if type(before) is type(after):
        return "leave it out, or keep what reading it does (a __post_init__, a converter) from changing it"
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
