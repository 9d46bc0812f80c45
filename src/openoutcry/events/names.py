"""Checks of event types where they are named, not published: a name that is nearly a known one is a mistake.

Known are the members of `EventType` and the fixed types of registered classes. Any other string may be a type
of the user's own; what only resembles a known one gets a warning.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from openoutcry.errors import OpenOutcryError
from openoutcry.events.registry import KnownClass, fixed_event_type, known_classes
from openoutcry.events.types import EventType
from openoutcry.spelling import nearest, same_form, warn

EVERYTHING = "*"
_PATTERN = re.compile(r"[*?]|\.[>#%]?$")
_SEPARATORS = re.compile(r"[,;|\s]+")
_OWN = "openoutcry."
_REGISTER = "for a type of your own, register its class (register_event)"


def known_types() -> frozenset[str]:
    """Return the event types that are known by name."""
    fixed = (fixed_event_type(known.cls) for known in known_classes())
    return frozenset([*(str(t.value) for t in EventType), *(str(t) for t in fixed if t is not None)])


def check_type_name(name: str, error: type[OpenOutcryError], what: str, *, is_own: bool = False) -> None:
    """Raise `error` if `name` is no event type but was meant to be one; warn if it is only like one.

    Args:
        name: The type, as it was given.
        error: What to raise: the error of the place where it was given.
        what: That place, for the message: `levels`, `cannot subscribe to`.
        is_own: It is a member of an Enum of the user's own, so it was written down once and on purpose: what
            would be an error is a warning.

    """
    known = known_types()
    if name in known:
        return None
    remedy = _mistake(name, known)
    if remedy is not None:
        text = f"{what} {name!r}: {remedy}"
        if is_own:
            return warn(text)
        raise error(text)
    like = nearest(name, known)
    if like is not None:
        warn(f"{what} {name!r}: did you mean {like!r}? ({_REGISTER}, and it is known)")
    return None


@lru_cache(maxsize=4096)
def resembled(name: str) -> str | None:
    """Return the member of `EventType` that a published type equals but for case or separators, if any."""
    meant = same_form(name, map(str, EventType))
    return None if meant == name else meant


def _mistake(name: str, known: frozenset[str]) -> str | None:
    """Return what is wrong with a name that cannot be meant as it is."""
    if _PATTERN.search(name):
        return f"patterns are not supported; name the types in a list: {_listed(name, known)}"
    meant = same_form(name, known)
    if meant is not None:
        return f"did you mean {meant!r}? Event types are compared as they are; {_REGISTER}"
    cls = _class_named(name, known_classes())
    if cls is not None:
        fixed = fixed_event_type(cls)
        or_type = "" if fixed is None else f", or its type: {str(fixed)!r}"
        return f"that is the name of a class; give the class itself, {cls.__name__}{or_type}"
    parts = [part for part in _SEPARATORS.split(name) if part]
    if len(parts) > 1 and all(part in known for part in parts):
        return f"name several types in a list: {parts}"
    return None


def _class_named(name: str, classes: Iterable[KnownClass]) -> type | None:
    """Return the class that `name` names: exactly or, for one of this package, but for case or separators."""
    by_name = {known.cls.__name__: known.cls for known in classes}
    own = [n for n, cls in by_name.items() if cls.__module__.startswith(_OWN) and fixed_event_type(cls)]
    return by_name.get(name) or by_name.get(same_form(name, own) or "")


def _listed(pattern: str, known: frozenset[str]) -> list[str]:
    """Return the known types that a pattern seems to mean."""
    stem = re.split(r"[*?.]", pattern)[0]
    return sorted(name for name in known if stem and name.startswith(stem)) or ["order", "fill"]
