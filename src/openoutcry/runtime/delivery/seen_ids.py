"""The ids of the events accepted lately: how duplicates are recognised without a journal.

```
  in order ──▶ line ──┐
                      ├─(a generation is full)─▶ line before, before ──▶ forgotten
  any other ──▶ now ──┘                                          ▲
  delivered, and not shed first ──▶ apart ─(not in order)────────┘  at every change of the generation
```

Most ids are those of a source that counts: each is greater than the last. The bus follows one such source:
between its `newest` id and its `limit` none is known, so an id in there is new, which takes two comparisons,
and becomes the newest. It is kept in a list, and hashed only if an id comes later that may be among those of
the list. Every other id is looked for in two sets: random ids, those of other sources, and late ones.

Which source is followed is decided at every change of the generation, by the last ids that have come.

Whatever is not shed first is kept apart as well, in a window for each of its types, and stays known for as
long as that says: so ticks, and other types that come in great numbers, push out nothing but themselves.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import countOf, lt
from string import ascii_letters, digits
from typing import Any, Final

from openoutcry.events import fixed_event_type

TYPES_MOST: Final = 16
"""So many types have a window of their own; the rest share one. High-priority types always have their own."""
SMALL: Final = 64
"""Lists of fewer ids are joined."""
SAMPLE: Final = 32
"""By so many of the last ids it is decided which source is followed."""
LATE_MOST: Final = 32
"""A source whose ids had to be hashed so often in a generation is not followed in the rest of it."""
PATIENCE_MOST: Final = 64
"""So many generations pass at most before another source is looked for."""
_REST: Final = "(rest)"
_LAST: Final = "\U0010ffff"
"""No id that anybody makes is greater."""
_COUNTER: Final = ascii_letters + digits


class _Window:
    """The ids of one type, as they came: the newest `size` at least, in lists with the time of their last.

    Beside each stands the number of the source if its ids came in order, else 0.
    """

    __slots__ = ("count", "lists", "size")

    def __init__(self, size: int) -> None:
        self.size: int = size
        self.lists: deque[tuple[int, list[str], int]] = deque()
        self.count: int = 0

    def add(self, ids: list[str], at_ns: int, source: int) -> None:
        """Add ids, and let go of the oldest."""
        lists = self.lists
        if lists and len(lists[-1][1]) < SMALL:
            _, together, of = lists.pop()
            source = source if of == source and together[-1] < ids[0] else 0
            together += ids
            lists.append((at_ns, together, source))
        else:
            lists.append((at_ns, ids, source))
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
        newest: The greatest id of the source that is followed; empty if none is.
        limit: No id between `newest` and this one is known. Empty if no source is followed.
        line: Those ids of the younger generation that came in order and were not hashed.
        now: Its other ids.
        before: The older generation, in the same way, and what is kept apart.
        room: When the younger generation has this many ids, the older one is forgotten.
        until_ns: At this time it is forgotten as well.
        generation: How often that was done.
        passing: Classes whose events are shed first, and so not kept apart.

    """

    __slots__ = (
        "_apart",
        "_by_class",
        "_first",
        "_hashed_to",
        "_important",
        "_is_apart_hashed",
        "_late",
        "_line_before",
        "_missed",
        "_patience",
        "_shed_first",
        "_source",
        "_stem",
        "_wait",
        "_window",
        "_window_ns",
        "before",
        "generation",
        "limit",
        "line",
        "newest",
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
        self.generation: int = 0
        self.now: set[str] = set()
        self.before: set[str] = set()
        self.passing: set[type] = set()
        # The ids of the source that is followed are above `_first`, those in lists alone above `_hashed_to`.
        self.newest: str = ""
        self.limit: str = ""
        self.line: list[str] = []
        self._line_before: list[str] = []
        self._first = self._hashed_to = _LAST
        self._source = 1
        self._stem = ""
        self._late = self._wait = 0
        self._patience = 1
        self._is_apart_hashed = False

    def __contains__(self, event_id: str) -> bool:
        if self.limit > event_id > self.newest:
            return False
        if self._hashed_to < event_id <= self.newest:
            self._hash()
        return event_id in self.now or event_id in self.before

    def __len__(self) -> int:
        """How many ids the younger generation has."""
        return len(self.now) + len(self.line)

    def ids(self) -> set[str]:
        """Return everything that is known."""
        return {*self.now, *self.before, *self.line, *self._line_before, *chain(*self._apart_in_order())}

    def _apart_in_order(self) -> Iterator[list[str]]:
        """Iterate the lists of ids kept apart that are not in a set before one of them is asked for."""
        for apart in self._apart.values():
            for _, ids, source in apart.lists:
                if source == self._source:
                    yield ids

    # -- what is new --------------------------------------------------------------------------------

    def add(self, event_id: str) -> bool:
        """Remember an id. False: it was known."""
        if self.limit > event_id > self.newest:
            self.newest = event_id
            self.line.append(event_id)
            return True
        return self.add_other(event_id)

    def add_other(self, event_id: str) -> bool:
        """Remember an id that is not between `newest` and `limit`. False: it was known, or it is empty."""
        if self.newest and self._hashed_to < event_id <= self.newest:
            self._hash()
        if event_id in self.before or not event_id:
            return False
        now = self.now
        count = len(now)
        now.add(event_id)
        return len(now) > count

    def add_all(self, ids: list[str]) -> bool:
        """Remember ids, all or none. False: one of them was known, comes twice, or is no id."""
        if countOf(map(type, ids), str) < len(ids):
            return False
        if self.limit > ids[-1] and ids[0] > self.newest and all(map(lt, ids, ids[1:])):
            self.newest = ids[-1]
            self.line += ids
            return True
        if not self.are_new(ids):
            return False
        now = self.now
        count = len(now)
        now.update(ids)
        if len(now) - count < len(ids) or "" in now:
            now.difference_update(ids)
            return False
        if self.limit:
            ahead = (event_id for event_id in ids if self.limit > event_id > self.newest)
            self.newest = max(ahead, default=self.newest)
        return True

    def are_new(self, ids: Sequence[str]) -> bool:
        """Return True if none of some ids is known."""
        if self.newest and any(self._hashed_to < event_id <= self.newest for event_id in ids):
            self._hash()
        return self.now.isdisjoint(ids) and self.before.isdisjoint(ids)

    def discard(self, event_id: str) -> None:
        """Forget an event that was not accepted after all."""
        if self._hashed_to < event_id <= self.newest:
            self._hash()
        self.now.discard(event_id)
        self.before.discard(event_id)
        self.delivered_to_all(event_id)

    def _hash(self) -> None:
        """Put what is in lists alone into the sets: an id has come that may be among it."""
        self.now.update(self.line)
        self.before.update(self._line_before)
        self.line, self._line_before = [], []
        if not self._is_apart_hashed:
            self._is_apart_hashed = True
            self.before.update(*self._apart_in_order())
        self._hashed_to = self.newest
        self._late += 1
        if self._late > LATE_MOST:
            self._follow_none()

    # -- which source is followed -------------------------------------------------------------------

    def _follow_none(self) -> None:
        """Follow no source for a while. Nothing may be in lists alone."""
        self.newest = self.limit = ""
        self._first = self._hashed_to = _LAST
        self._source += 1
        self._wait = self._patience
        self._patience = min(PATIENCE_MOST, 2 * self._patience)

    def _choose_source(self, last: Sequence[str]) -> None:
        """Follow the source of most of the last ids, unless the one that is followed serves."""
        if self.limit:
            if 2 * len(self.line) >= len(self.now):
                self._patience = 1
                return
            self._hash()
            self._follow_none()
        stem, count = Counter(map(_stem, last)).most_common(1)[0]
        is_a_source = stem and 2 * count >= len(last) and (count > 1 or self._stem in {"", stem})
        self._stem = stem
        self._wait -= 1
        if is_a_source and self._wait <= 0:
            known = (event_id for event_id in chain(self.now, self.before) if event_id.startswith(stem))
            self.newest = self._first = self._hashed_to = max(known, default=stem)
            self.limit = stem + _LAST
            self._source += 1

    # -- who has missed them ------------------------------------------------------------------------

    def came_back(self, name: str, coming: Iterable[str]) -> None:
        """Note that a subscription was absent when what is known by now was delivered: all but `coming`."""
        missed = self.ids().difference(coming)
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
            own = [event for event in events if event.__class__ is cls] if is_mixed else events
            apart = self._by_class.get(cls)
            if apart is None:
                self._keep_by_type(cls, own, at_ns)
            else:
                self._keep_in(apart, [event.event_id for event in own], at_ns)

    def _keep_by_type(self, cls: type, events: Sequence[Any], at_ns: int) -> None:
        """Keep events of a class whose type varies, or is not known yet."""
        is_fixed = fixed_event_type(cls) is not None
        by_type: dict[str, list[str]] = {}
        for event in events:
            by_type.setdefault(type_of(event), []).append(event.event_id)
        for event_type, ids in by_type.items():
            if event_type not in self._shed_first:
                apart = self._window_of(event_type)
                self._keep_in(apart, ids, at_ns)
                if is_fixed:
                    self._by_class[cls] = apart
            elif is_fixed:
                self.passing.add(cls)

    def _keep_in(self, apart: _Window, ids: list[str], at_ns: int) -> None:
        is_in_order = ids[-1] <= self.newest and ids[0] > self._first and sorted(ids) == ids
        apart.add(ids, at_ns, self._source if is_in_order else 0)

    def _window_of(self, event_type: str) -> _Window:
        found = self._apart.get(event_type)
        if found is None:
            own = event_type in self._important or len(self._apart) < TYPES_MOST + len(self._important)
            found = self._apart.setdefault(event_type if own else _REST, _Window(self._window))
        return found

    # -- forgetting ---------------------------------------------------------------------------------

    def forget(self, now_ns: int, in_flight: list[str], last: Sequence[str]) -> None:
        """Forget the older generation, except for what is in flight or kept apart. `last`: the last ids."""
        self._choose_source(last[-SAMPLE:])
        before, come_count = self.now, len(self.now)
        if self.before:
            before |= self.before.intersection(in_flight)
        if self.limit:  # of what was in lists alone the line is kept anyway
            hashed_to, kept = self._hashed_to, self.line[0] if self.line else _LAST
            before.update([event_id for event_id in in_flight if hashed_to < event_id < kept])
        self.now, self.before = set(), before
        self.line, self._line_before = [], self.line
        for apart in self._apart.values():
            apart.trim(now_ns - self._window_ns)
            for _, ids, source in apart.lists:
                if source != self._source:
                    before.update(ids)
        firsts = [ids[0] for ids in (self._line_before, *self._apart_in_order()) if ids]
        if self.limit:
            self._hashed_to = min(firsts)[:-1] if firsts else self.newest
        self._late, self._is_apart_hashed = 0, False
        if self._missed:
            known = self.ids()
            left = {name: missed & known for name, missed in self._missed.items()}
            self._missed = {name: missed for name, missed in left.items() if missed}
        # What is in flight or kept apart is put back each time: with more of it, that is done less often.
        self.room = self._window + len(before) - come_count
        self.until_ns = now_ns + self._window_ns
        self.generation += 1


def _stem(event_id: str) -> str:
    """Return an id without the letters and digits at its end, which count. Empty: it has nothing else."""
    return event_id.rstrip(_COUNTER)


def type_of(event: Any) -> str:
    """Return an event's type as a plain string, also if its owner has changed it to what is none."""
    found = getattr(event, "event_type", "")
    return str(getattr(found, "value", found))
