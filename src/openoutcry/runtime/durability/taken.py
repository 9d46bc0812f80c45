"""What a subscription takes, as it is saved with its cursors, and whether an event was among it.

Event types are saved. A class whose events have several types, or types that vary by instance, is saved by
its name as well, and `"*"` as the class of everything: what the type does not decide, the class does. A bare
`*` was written by an earlier version, and does not say by which.
"""

from collections.abc import Iterable, Iterator

from openoutcry.events import RECORDS, event_type_of, fixed_event_type, takes_type
from openoutcry.events.registry import find_by_class, known_classes
from openoutcry.runtime.delivery.subscription import Selector

ANY = "*"
"""Stands among what is taken where the type of an event alone does not decide."""
_CLASS = "class "
EVERYTHING = f"{_CLASS}object"
"""Stands among what is taken where that is everything."""
IN_PART = "(in part)"
"""Stands among what is taken where events were let go, so that not all that is settled was handled."""


def what_is_taken(selectors: Iterable[Selector], *, lets_go: bool = False) -> tuple[str, ...]:
    """Return what selectors take: types, the names of classes, and `*` where the type does not decide.

    `lets_go` says that some of these events are let go: they are conflated, dropped or too old.
    """
    found = {IN_PART} if lets_go else set[str]()
    selectors = frozenset(selectors)
    if ANY in selectors:
        return tuple(sorted({ANY, EVERYTHING, *found}))
    for selector in selectors:
        found.update((selector,) if isinstance(selector, str) else _of_class(selector))
    return tuple(sorted(found))


def given_up(before: Iterable[str], now: Iterable[str]) -> list[str]:
    """Return what was taken and is not any more, in words."""
    now = frozenset(now)
    if ANY in now:
        return []
    types = frozenset(before) - {ANY, IN_PART}
    gone = {"all other types" if what == EVERYTHING else what for what in types}
    return sorted(gone - now)


def is_as_before(before: tuple[str, ...], now: tuple[str, ...]) -> bool:
    """Return True if the same is taken, as far as what an earlier version has written says."""
    types = tuple(what for what in now if not what.startswith(_CLASS))
    return before == now or (before == types and ANY in before)


class Taken:
    """What was taken in an earlier time.

    Attributes:
        varies: Whether it was written by an earlier version, and depended on the event.
        in_part: Whether events were let go then.

    """

    def __init__(self, takes: Iterable[str]) -> None:
        self._takes = frozenset(takes)
        self._classes = frozenset(what for what in self._takes if what.startswith(_CLASS))
        self.varies: bool = ANY in self._takes and not self._classes
        self.in_part: bool = IN_PART in self._takes

    def has(self, event: object) -> bool:
        """Return True if the event was taken."""
        event_type = event_type_of(event)
        if event_type in self._takes or event_type in RECORDS:  # which are not taken by a base class
            return event_type in self._takes
        return not self._classes.isdisjoint(_names(type(event)))

    def unknown(self, event: object) -> list[str]:
        """Return the classes by which the event may have been taken, and which are not known any more."""
        if not self._classes or type(event).__module__.partition(".")[0] == "openoutcry":
            return []
        known = {name for one in known_classes() for name in _names(one.cls)}
        return sorted(self._classes - known)

    def may_have(self, event_type: str | None) -> bool:
        """Return True if an entry that cannot be read may have been taken, going by its type."""
        return event_type is None or takes_type(self._takes, event_type)


def _of_class(cls: type) -> set[str]:
    types = {fixed_event_type(one) for one in _family(cls)}
    if len(types) == 1 and None not in types:
        return {str(one) for one in types}
    own = {_name(cls)}
    return own | {ANY} if None in types else own | {str(one) for one in types}


def _family(cls: type) -> Iterator[type]:
    yield cls
    subclasses: list[type] = type.__subclasses__(cls)
    for subclass in subclasses:
        yield from _family(subclass)


def _names(cls: type) -> Iterator[str]:
    return map(_name, cls.__mro__)


def _name(cls: type) -> str:
    """Return the name of a class: the one that is stored with its events, if they are, or else its own."""
    known = find_by_class(cls)
    return _CLASS + (cls.__qualname__ if known is None else known.name)
