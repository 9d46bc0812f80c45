"""Desks' journals held against each other: every exported event is in every importing journal, and the same.

Each pair of an exporting and an importing journal is read once, both from their oldest entries on, and merged
by event id, lane by lane. Both are in the order of their positions, so that what is next in one is nearly
always next in the other; what is not is looked for among the next `WINDOW` events, and at the end among all
that have found no counterpart. What the importing journal has under an id that it did not import, it had
before: the rule of duplicates. The memory it takes is that of the windows and of what is wrong.
"""

from collections import deque
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final, Literal, NamedTuple

import msgspec

from openoutcry.core.cursors import LINK
from openoutcry.journals.desks import LOG_OF, Come, Desk
from openoutcry.journals.reading import JournalReader
from openoutcry.journals.scanning import letters_of, pages
from openoutcry.journals.showing import desk_of, head_of
from openoutcry.ports import Header, Stored

WINDOW: Final = 4_096
PROBLEMS_MOST: Final = 100
"""So many problems of a pair are kept; the others are counted."""
_ORDERED: Final = frozenset(("high", "normal"))
"""The lanes that keep their order. Kill switches go at once, and may overtake each other."""
Kind = Literal["missing", "refused", "different", "order", "stranger"]
MEANS: Final[dict[Kind, str]] = {
    "missing": "exported, counted as imported, and not there",
    "refused": "not taken, and a dead letter of (link) there",
    "different": "there with other content",
    "order": "there, before or after another than where it was made",
    "stranger": "there as of this desk, whose journal has no such event",
}
"""What each kind of problem means."""


class Problem(msgspec.Struct, frozen=True):
    """One event that is not as it should be."""

    kind: Kind
    """What is wrong."""
    event_id: str
    """The event."""
    lane: str
    """Its lane."""
    made_at: int
    """Its position in the exporting journal; 0 for a stranger."""
    found_at: int
    """Its position in the importing journal; 0 if it is not there."""


class Pair(msgspec.Struct, kw_only=True):
    """What one journal has of another desk's events."""

    exporter: str
    """The desk that made them."""
    importer: str
    """The desk that imported them."""
    same: int = 0
    """Events that are the same in both."""
    had: int = 0
    """Those of them that the importing journal had already, under the same id."""
    waiting: int = 0
    """Exported events that are not imported yet."""
    retired: int = 0
    """Events that only one journal has, because the other one keeps them no longer."""
    former: int = 0
    """Events that are of types which are exported and imported now, and were not when these were made."""
    ahead: int = 0
    """Kill switches that the exporting journal lacks: they are handed on before they are written."""
    other_journal: str = ""
    """The `origin` of the journal it has imported from, where that is another one than here."""
    counts: dict[str, int] = {}
    """How many problems there are, by kind."""
    problems: list[Problem] = []
    """Some of them, in the order of the exporting journal."""

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong. What waits is not wrong."""
        return not self.counts and not self.other_journal


class _Item(NamedTuple):
    event_id: str
    position: int
    digest: bytes


class _Side:
    """The events of one lane in one journal that have no counterpart yet, in order."""

    def __init__(self) -> None:
        self.queue: deque[_Item] = deque()
        self.by_id: dict[str, _Item] = {}
        self.lonely: dict[str, _Item] = {}

    def add(self, item: _Item) -> None:
        self.queue.append(item)
        self.by_id[item.event_id] = item

    def pop(self) -> _Item:
        item = self.queue.popleft()
        self.by_id.pop(item.event_id, None)
        return item

    def leave(self) -> None:
        """What is next here has no counterpart near."""
        item = self.pop()
        self.lonely[item.event_id] = item


class _Lane:
    """The merge of one lane: `made` by the exporter, `found` in the importing journal."""

    def __init__(self) -> None:
        self.made = _Side()
        self.found = _Side()
        self._paired: set[str] = set()
        self.pairs: list[tuple[_Item, _Item, bool]] = []

    def merge(self, *, to_the_end: bool) -> None:
        """Pair what is next in both, as far as can be said before more is read."""
        made, found = self.made, self.found
        while made.queue and found.queue:
            one, other = made.queue[0], found.queue[0]
            if other.event_id in self._paired:
                self._paired.discard(found.pop().event_id)
            elif one.event_id in self._paired:
                self._paired.discard(made.pop().event_id)
            elif one.event_id == other.event_id:
                self.pairs.append((made.pop(), found.pop(), True))
            elif not to_the_end and min(len(made.queue), len(found.queue)) < WINDOW:
                return
            elif one.event_id not in found.by_id:
                made.leave()
            elif other.event_id not in made.by_id:
                found.leave()
            else:
                self._pair_crosswise(one, other)

    def _pair_crosswise(self, one: _Item, other: _Item) -> None:
        """Both have a counterpart further on: the one whose counterpart is further away is out of order."""
        counterpart, made = self.found.by_id[one.event_id], self.made.by_id[other.event_id]
        if counterpart.position - other.position > made.position - one.position:
            self.made.pop()
            self._paired.add(one.event_id)
            self.pairs.append((one, counterpart, False))
        else:
            self.found.pop()
            self._paired.add(other.event_id)
            self.pairs.append((made, other, False))

    def end(self) -> None:
        """Everything was read."""
        self.merge(to_the_end=True)
        made, found = self.made, self.found
        for side in (made, found):
            side.lonely |= {i.event_id: i for i in side.queue if i.event_id not in self._paired}
        for event_id in [*made.lonely.keys() & found.lonely.keys()]:
            self.pairs.append((made.lonely.pop(event_id), found.lonely.pop(event_id), False))


class Audit:
    """Holds the journal of one desk against that of another one that imports from it.

    Args:
        exporter: The desk that made the events, and its journal.
        importer: The desk that imports, and its journal.

    """

    def __init__(self, exporter: tuple[Desk, JournalReader], importer: tuple[Desk, JournalReader]) -> None:
        self._maker, self._made = exporter
        self._taker, self._found = importer
        self._come: dict[str, Come] = self._taker.imported.get(self._maker.name, {})
        self._lanes = {lane: _Lane() for lane in LOG_OF}
        self._upto = {
            lane: self._come[log].position if log in self._come else 0 for lane, log in LOG_OF.items()
        }
        self._found_all = False
        self._first_same: dict[str, tuple[int, int]] = dict.fromkeys(LOG_OF, (0, 0))
        self._pair = Pair(exporter=self._maker.name, importer=self._taker.name, counts={}, problems=[])

    def run(self) -> Pair:
        """Read both, and return what was found."""
        others = {come.origin for come in self._come.values()} - {self._maker.origin, ""}
        if others:
            self._pair.other_journal = ", ".join(sorted(others))
            return self._pair
        self._read()
        for lane in self._lanes.values():
            lane.end()
        self._judge_pairs()
        self._judge_lonely()
        self._judge_strangers()
        self._pair.problems.sort(key=lambda one: (one.made_at, one.found_at))
        return self._pair

    # -- reading ------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Read both to the end, and merge: always on in the one of which less waits for its counterpart."""
        made, found = self._made_pages(), self._found_pages()
        lanes = self._lanes.values()
        while True:
            is_ahead = sum(len(x.made.queue) for x in lanes) > sum(len(x.found.queue) for x in lanes)
            first, second = (found, made) if is_ahead else (made, found)
            if not (next(first, False) or next(second, False)):
                return
            for lane in lanes:
                lane.merge(to_the_end=False)
            self._judge_pairs()

    def _made_pages(self) -> Iterator[bool]:
        """Read what the exporting desk has made, a page at a time."""
        for page in pages(self._made):
            for entry in page:
                if desk_of(entry) is not None or entry.lane not in self._lanes:
                    continue
                head = head_of(entry)
                if not (self._maker.gave(entry, head) and self._taker.took(entry, head, self._maker.name)):
                    self._pair.former += self._is_wanted_now(entry, head)
                    continue
                if self._waits(entry.lane, entry.position) and self._is_nowhere(entry.lane, head):
                    self._pair.waiting += 1
                    continue
                self._lanes[entry.lane].made.add(_item(entry, head))
            yield True

    def _is_wanted_now(self, entry: Stored, head: Header) -> bool:
        return self._maker.gives(entry, head) and self._taker.takes(entry, head)

    def _found_pages(self) -> Iterator[bool]:
        """Read what the importing journal has of that desk, a page at a time."""
        for page in pages(self._found):
            for entry in page:
                if desk_of(entry) == self._maker.name and entry.lane in self._lanes:
                    self._lanes[entry.lane].found.add(_item(entry, head_of(entry)))
            yield True
        self._found_all = True

    def _waits(self, lane: str, position: int) -> bool:
        """Return True if an event may not be there yet; it may all the same, before that is written down."""
        return position > self._upto[lane]

    def _is_nowhere(self, lane: str, head: Header) -> bool:
        """Return True if all was read of the importing journal, and this event was not in it."""
        found, event_id = self._lanes[lane].found, head.event_id or ""
        return self._found_all and event_id not in found.by_id and event_id not in found.lonely

    # -- judging ------------------------------------------------------------------------------------

    def _judge_pairs(self) -> None:
        for name, lane in self._lanes.items():
            for made, found, in_order in lane.pairs:
                if not self._first_same[name][0]:
                    self._first_same[name] = (made.position, found.position)
                if made.digest != found.digest:
                    self._tell("different", name, made, found)
                elif not in_order and name in _ORDERED:
                    self._tell("order", name, made, found)
                else:
                    self._pair.same += 1
            lane.pairs.clear()

    def _judge_lonely(self) -> None:
        """Judge what was exported and not imported as such: had before, retired, refused, or missing."""
        lonely = {
            key: (name, one) for name, lane in self._lanes.items() for key, one in lane.made.lonely.items()
        }
        if not lonely:
            return
        for page in pages(self._found):
            for entry in page:
                item = None if desk_of(entry) == self._maker.name else _item(entry, head_of(entry))
                if item is None or item.event_id not in lonely:
                    continue
                name, made = lonely.pop(item.event_id)
                if item.digest == made.digest:
                    self._pair.same += 1
                    self._pair.had += 1
                else:
                    self._tell("different", name, made, item)
        refused = {_id_of(letter.payload) for letter in letters_of(self._found, LINK)}
        for name, made in lonely.values():
            first_same = self._first_same[name][0]
            if self._waits(name, made.position):
                self._pair.waiting += 1
            elif self._taker.first > 1 and (not first_same or made.position < first_same):
                self._pair.retired += 1
            else:
                self._tell("refused" if made.event_id in refused else "missing", name, made, None)

    def _judge_strangers(self) -> None:
        """Judge what was imported and not to be exported: made there all the same, retired, or foreign."""
        self._pair_strangers()
        for name, lane in self._lanes.items():
            first_same = self._first_same[name][1]
            for found in lane.found.lonely.values():
                if self._maker.first > 1 and (not first_same or found.position < first_same):
                    self._pair.retired += 1
                elif name == "control":
                    self._pair.ahead += 1
                else:
                    self._tell("stranger", name, None, found)

    def _pair_strangers(self) -> None:
        """Look for strangers among what the desk has made and, by its settings, need not have exported."""
        if not any(lane.found.lonely for lane in self._lanes.values()):
            return
        for page in pages(self._made):
            for entry in page:
                lane = None if desk_of(entry) is not None else self._lanes.get(entry.lane)
                if lane is None or not lane.found.lonely:
                    continue
                head = head_of(entry)
                found = lane.found.lonely.pop(head.event_id or "", None)
                if found is not None and found.digest != _item(entry, head).digest:
                    self._tell("different", entry.lane, _item(entry, head), found)
                elif found is not None:
                    self._pair.same += 1
                if found is not None:
                    self._pair.former -= self._is_wanted_now(entry, head)

    def _tell(self, kind: Kind, lane: str, made: _Item | None, found: _Item | None) -> None:
        pair, one = self._pair, made or found
        assert one is not None
        pair.counts[kind] = pair.counts.get(kind, 0) + 1
        if len(pair.problems) < PROBLEMS_MOST:
            made_at, found_at = (0 if item is None else item.position for item in (made, found))
            pair.problems.append(Problem(kind, one.event_id, lane, made_at, found_at))


def _item(entry: Stored, head: Header) -> _Item:
    """Return what is compared of an entry: its bytes, and what stands beside them but for the desk."""
    beside = None if entry.header is None else msgspec.structs.replace(entry.header, desk=None)
    digest = blake2b(entry.payload, digest_size=16)
    if beside is not None and beside != _NOTHING:
        digest.update(b"\n" + msgspec.json.encode(beside))
    return _Item(head.event_id or "", entry.position, digest.digest())


_NOTHING: Final = Header()


def _id_of(payload: bytes) -> str:
    try:
        return msgspec.json.decode(payload, type=Header, strict=False).event_id or ""
    except msgspec.MsgspecError:
        return ""
