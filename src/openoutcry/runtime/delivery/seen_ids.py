"""The ids of the events accepted lately: how duplicates are recognised without a journal.

```
  publish ──▶ now ──(a generation is full)──▶ before ──▶ forgotten
                                                ▲
  delivered, and not shed first ──▶ apart ──────┘  at every change of the generation
```

Publishing asks two sets, and that is all it costs. Whatever is not shed first is kept apart as well, in a
window for each of its types, and is put back into `before` whenever a generation is forgotten: so ticks, and
other types that come in great numbers, push out nothing but themselves.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final

from openoutcry.events import fixed_event_type

TYPES_MOST: Final = 16
"""So many types have a window of their own; the rest share one. High-priority types always have their own."""
SMALL: Final = 64
"""Lists of fewer ids are joined."""
_REST: Final = "(rest)"


class _Window:
    """The ids of one type, as they came: the newest `size` at least, in lists with the time of their last."""

    __slots__ = ("count", "lists", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.lists: deque[tuple[int, list[str]]] = deque()
        self.count = 0

    def add(self, ids: list[str], at_ns: int) -> None:
        """Add ids, and let go of the oldest."""
        lists = self.lists
        if lists and len(lists[-1][1]) < SMALL:
            together = lists.pop()[1]
            together += ids
            lists.append((at_ns, together))
        else:
            lists.append((at_ns, ids))
        self.count += len(ids)
        while self.count - len(lists[0][1]) >= self.size:
            self.count -= len(lists.popleft()[1])

    def trim(self, before_ns: int) -> None:
        """Let go of what came before a time, and of all but the newest `size`."""
        while self.lists and self.lists[0][0] <= before_ns:
            self.count -= len(self.lists.popleft()[1])
        if self.count > self.size:
            del self.lists[0][1][: self.count - self.size]
            self.count = self.size


class SeenIds:
    """The ids of the events accepted lately.

    An id is remembered until `window` further ids have come (of its own type, unless that is shed first), or
    the window's time has passed, and for as long as its event waits or is in flight.

    Attributes:
        now: The younger generation, to which new ids are added.
        before: The older one, and what is kept apart.
        room: When `now` has this many ids, the older generation is forgotten.
        until_ns: At this time it is forgotten as well.
        passing: Classes whose events are shed first, and so not kept apart.

    """

    __slots__ = (
        "_apart",
        "_by_class",
        "_important",
        "_missed",
        "_shed_first",
        "_window",
        "_window_ns",
        "before",
        "now",
        "passing",
        "room",
        "until_ns",
    )

    def __init__(
        self, window: int, window_ns: int, shed_first: frozenset[str], important: frozenset[str]
    ) -> None:
        self._window = window
        self.room: int = window
        self._window_ns = window_ns
        self._shed_first = shed_first
        self._important = important
        self._apart: dict[str, _Window] = {}
        self._by_class: dict[type, _Window] = {}
        self._missed: dict[str, set[str]] = {}
        self.until_ns: int = 0
        self.now: set[str] = set()
        self.before: set[str] = set()
        self.passing: set[type] = set()

    def __contains__(self, event_id: str) -> bool:
        return event_id in self.now or event_id in self.before

    def discard(self, event_id: str) -> None:
        """Forget an event that was not accepted after all."""
        self.now.discard(event_id)
        self.before.discard(event_id)
        self.delivered_to_all(event_id)

    # -- who has missed them ------------------------------------------------------------------------

    def came_back(self, name: str, coming: Iterable[str]) -> None:
        """Note that a subscription was absent when what is known by now was delivered: all but `coming`."""
        missed = (self.now | self.before).difference(coming)
        if missed:
            self._missed[name] = missed

    def has_missed(self, name: str, event_id: str) -> bool:
        """Return True if a subscription was absent when an event was delivered from memory."""
        return event_id in self._missed.get(name, ())

    def delivered_to(self, name: str, event_id: str) -> None:
        """Note that a subscription has got an event after all."""
        self._missed.get(name, set()).discard(event_id)

    def delivered_to_all(self, event_id: str) -> None:
        """Note that whoever takes an event has got it after all, or that it was not accepted."""
        for missed in self._missed.values():
            missed.discard(event_id)

    def ended(self, name: str) -> None:
        """Forget what a subscription has missed: it was ended."""
        self._missed.pop(name, None)

    # -- what is kept apart -------------------------------------------------------------------------

    def keep(self, events: Sequence[Any], at_ns: int) -> None:
        """Keep the ids of delivered events apart, but for those that are shed first."""
        classes: set[Any] = set(map(type, events))
        is_mixed = len(classes) > 1
        for cls in classes - self.passing:
            apart = self._by_class.get(cls)
            if apart is None:
                self._keep_by_type(cls, [event for event in events if event.__class__ is cls], at_ns)
            elif is_mixed:
                apart.add([event.event_id for event in events if event.__class__ is cls], at_ns)
            else:
                apart.add([event.event_id for event in events], at_ns)

    def _keep_by_type(self, cls: type, events: Sequence[Any], at_ns: int) -> None:
        """Keep events of a class whose type varies, or is not known yet."""
        is_fixed = fixed_event_type(cls) is not None
        by_type: dict[str, list[str]] = {}
        for event in events:
            by_type.setdefault(type_of(event), []).append(event.event_id)
        for event_type, ids in by_type.items():
            if event_type not in self._shed_first:
                apart = self._window_of(event_type)
                apart.add(ids, at_ns)
                if is_fixed:
                    self._by_class[cls] = apart
            elif is_fixed:
                self.passing.add(cls)

    def _window_of(self, event_type: str) -> _Window:
        found = self._apart.get(event_type)
        if found is None:
            own = event_type in self._important or len(self._apart) < TYPES_MOST + len(self._important)
            found = self._apart.setdefault(event_type if own else _REST, _Window(self._window))
        return found

    # -- forgetting ---------------------------------------------------------------------------------

    def forget(self, now_ns: int, in_flight: Iterable[str]) -> None:
        """Forget the older generation, except for what is in flight or kept apart."""
        before, come_count = self.now, len(self.now)
        before |= self.before.intersection(in_flight)
        for apart in self._apart.values():
            apart.trim(now_ns - self._window_ns)
            for _, ids in apart.lists:
                before.update(ids)
        self.now, self.before = set(), before
        if self._missed:
            left = {name: missed & before for name, missed in self._missed.items()}
            self._missed = {name: missed for name, missed in left.items() if missed}
        # What is in flight or kept apart is put back each time: with more of it, that is done less often.
        self.room = self._window + len(before) - come_count
        self.until_ns = now_ns + self._window_ns


def type_of(event: Any) -> str:
    """Return an event's type as a plain string, also if its owner has changed it to what is none."""
    found = getattr(event, "event_type", "")
    return str(getattr(found, "value", found))
