"""What the lives of a bus have told, and what must be in its journal therefore."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from campaigns.bus_events import HEDGER, OUTBOX, SLOW_CALLS, TAKES, outputs
from campaigns.crash_kit import Life, key_of
from campaigns.power_loss_truth import EVERYTHING, Broken
from openoutcry.errors import NotAJournal
from openoutcry.events import RECORDS
from openoutcry.journals import JournalReader
from openoutcry.ports import CursorState, Stored

CONCURRENT: Final = ("slow",)
LANES: Final = ("control", "high", "normal")


class Fields(msgspec.Struct):
    """What the parent reads of a stored event."""

    event_id: str
    event_type: str
    order_id: str = ""
    causation_id: str | None = None


class Placed(msgspec.Struct, frozen=True):
    """An event in the journal."""

    position: int
    lane: str
    event_type: str
    causation_id: str | None


_fields_of = msgspec.json.Decoder(Fields).decode


class Testimony:
    """What the children have told so far.

    Attributes:
        life: The number of lives that have been heard.
        offered: Every id that somebody has begun to publish, by publisher, in order.
        known: All of these.
        again: Ids of an earlier life that were published again.
        accepted: Ids for which a publish has returned True.
        refused: Ids for which it has returned False or raised, and that were not published again since.
        unknown: Ids whose publish has not returned, or was cancelled.
        began: By subscription, the ids whose handling has begun, in the order of the first time.
        ended: By subscription, the life in which the handling of an id has ended last.
        repeated: How many events a subscription has handled again after the end of a life.
        reasons: How many events were given up, by reason.
        came_at: The head of the journal when the visitor came; None while it may be away.
        handled_now: What has ended in the latest life, by subscription.
        restored: What the latest life has given `quick` its memory back with.
        stopped: Lives that were stopped and not killed before that was done.

    """

    def __init__(self) -> None:
        self.life = 0
        self.offered: dict[str, list[str]] = defaultdict(list)
        self.again: set[str] = set()
        self.known: set[str] = set()
        self.accepted: set[str] = set()
        self.refused: set[str] = set()
        self.unknown: dict[str, None] = {}
        self.began: dict[str, dict[str, None]] = {name: {} for name in TAKES}
        self.ended: dict[str, dict[str, int]] = {name: {} for name in TAKES}
        self.repeated: Counter[tuple[str, int]] = Counter()
        self.reasons: Counter[str] = Counter()
        self.came_at: int | None = None
        self.handled_now: dict[str, dict[str, None]] = {}
        self.restored: list[str] = []
        self.stopped: set[int] = set()
        self._redriven = False
        self._ticked = ""

    def hear(self, life: Life) -> None:
        """Take down what a life has told. Raises `Broken` for what no life may tell."""
        self.handled_now = {name: {} for name in TAKES}
        self.restored, self._redriven, self._ticked = [], False, ""
        running = True
        for word, *rest in life.told:
            if word == ">":
                self._end(*rest)
            elif word == "<":
                self._begin(*rest)
            elif word in ("wrong", "raised"):
                raise Broken(f"life {self.life}: {' '.join(rest)}")
            else:
                self._hear(word, rest)
            running = word != "stopped"
        if not running or life.told[-1:] == [["enough"]]:
            self.stopped.add(self.life)
        self.life += 1

    def _hear(self, word: str, rest: list[str]) -> None:
        if word == "offer":
            publisher, *ids = rest
            if publisher == "again":
                self.again.update(ids)
            else:
                self.offered[publisher] += ids
            self.known.update(ids)
            self.refused.difference_update(ids)
            self.unknown.update(dict.fromkeys(ids))
        elif word in ("yes", "no", "closed"):
            self._answer(word, rest)
        elif word == "came":
            self.came_at = int(rest[0]) if self.came_at is None else self.came_at
        elif word == "leaving":
            self.came_at = None
        elif word == "dead":
            self.reasons[" ".join(rest[2:])] += 1
        elif word == "restored":
            self.restored.append(rest[0])
        elif word == "drained":  # from now on dead letters come back
            self._redriven = True

    def _answer(self, word: str, ids: list[str]) -> None:
        if word == "closed":  # it was not let in now, which says nothing of an earlier life
            ids = [event_id for event_id in ids if event_id not in self.again]
        for event_id in ids:
            self.unknown.pop(event_id, None)
        (self.accepted if word == "yes" else self.refused).update(ids)

    def _begin(self, name: str, event_id: str) -> None:
        if event_id[-1] == "t":
            self._tick(event_id)
            return
        began = self.began[name]
        if event_id not in began:
            began[event_id] = None
        ended = self.ended[name].get(event_id)
        if ended is not None and ended < self.life and event_id not in self.handled_now[name]:
            self.repeated[name, ended] += 1
            if ended in self.stopped:
                raise Broken(f"{name} handled {event_id} again, though life {ended} was stopped properly")

    def _tick(self, event_id: str) -> None:
        number = int(event_id.rsplit(".", 1)[1][:-1])
        if self._ticked and number <= int(self._ticked):
            raise Broken(f"quick handled tick {number} after tick {self._ticked}")
        self._ticked = str(number)

    def _end(self, name: str, event_id: str) -> None:
        if event_id[-1] == "t":
            return
        if event_id in self.handled_now[name] and not self._redriven:
            raise Broken(f"{name} has handled {event_id} twice in life {self.life}")
        self.handled_now[name][event_id] = None
        self.ended[name][event_id] = self.life

    def owes(self, name: str, position: int) -> bool:
        """Return True if a subscription must handle what stands at a position and it takes."""
        return name != "visitor" or (self.came_at is not None and position > self.came_at)


class Truth:
    """One journal, held against what was told of it.

    Attributes:
        told: What was told.
        most: The most events that a subscription may handle again after a crash.
        worst: The most that one has handled again after a crash.
        slow: Lives in which commits had to wait for a slow disk: what is settled meanwhile comes on top of
            the limit, since nothing can be saved.
        worst_slow: The most that a subscription has handled again after a crash of such a life.

    """

    def __init__(self, most: int) -> None:
        self.told = Testimony()
        self.most = most
        self.worst = self.worst_slow = 0
        self.slow: set[int] = set()
        self._places: dict[str, Placed] = {}
        self._at: dict[int, str] = {}
        self._beside: set[int] = set()
        self._outputs: dict[str, str] = {}
        self._head = 0
        self._floors: Counter[tuple[str, str]] = Counter()
        self._settled: dict[str, set[int]] = {name: set() for name in TAKES}
        self._checked: set[str] = set()

    def audit(self, path: Path, *, verify: bool) -> None:
        """Hold the file against what was told. Raises `Broken`."""
        if not self._head and not _is_journal(path):  # killed before there was one
            self._check_accepted()
            return
        with JournalReader(path, key=key_of(path)) as reader:
            if reader.head < self._head:
                raise Broken(f"the file ended at {self._head}, and ends at {reader.head}")
            fresh = reader.read(self._head, EVERYTHING)
            cursors = reader.cursors()
            letters = {(letter.subscription, letter.position) for letter in reader.buried()}
            if verify:
                verified = reader.verify()
                if not verified.intact:
                    raise Broken(f"it does not verify: {verified.problems}")
        self._take_in(fresh)
        self._check_accepted()
        self._check_publishers()
        self._check_order()
        self._check_cursors(cursors, letters)
        self._check_outputs(letters)
        self._check_repeats()

    # -- entries ------------------------------------------------------------------------------------

    def _take_in(self, fresh: list[Stored]) -> None:
        for entry in fresh:
            self._head += 1
            if entry.position != self._head:
                raise Broken(f"position {self._head} is missing before {entry.position}")
            if entry.is_beside:
                self._beside.add(entry.position)  # it was delivered from memory, and promises nothing
                continue
            fields = _fields_of(entry.payload)
            if fields.event_id in self._places:
                raise Broken(f"{fields.event_id} is in the journal twice")
            self._places[fields.event_id] = Placed(
                entry.position, entry.lane, fields.event_type, fields.causation_id
            )
            self._at[entry.position] = fields.event_id
            if "|" in fields.order_id:
                self._take_in_output(fields)
            elif fields.event_type in RECORDS:
                continue
            elif fields.event_id not in self.told.known:
                raise Broken(f"{fields.event_id} is in the journal, and nobody has published it")
            elif fields.event_id in self.told.refused - self.told.accepted:
                raise Broken(f"{fields.event_id} was refused, and is in the journal")

    def _take_in_output(self, fields: Fields) -> None:
        order_id = fields.order_id
        name, cause, _ = order_id.split("|")
        if order_id in self._outputs:
            raise Broken(f"the output {order_id} is in the journal twice")
        self._outputs[order_id] = fields.event_id
        if cause not in self._places or cause not in self.told.began[name]:
            raise Broken(f"there is an output {order_id}, and no handling of its cause")
        if fields.causation_id != cause:
            raise Broken(f"the output {order_id} names {fields.causation_id} as its cause")

    def _check_accepted(self) -> None:
        fresh = self.told.accepted - self._checked
        lost = [event_id for event_id in fresh if event_id not in self._places]
        if lost:
            raise Broken(f"True was returned for {sorted(lost)}, which are not in the journal")
        self._checked |= fresh

    def _check_publishers(self) -> None:
        """The events of a publisher stand in the order in which it published them."""
        for publisher, ids in self.told.offered.items():
            newest = dict.fromkeys(LANES, 0)
            for event_id in ids:
                placed = self._places.get(event_id)
                if placed is None or event_id in self.told.again:
                    continue
                if placed.position < newest[placed.lane]:
                    raise Broken(f"{event_id} of {publisher} stands before what it had published before that")
                newest[placed.lane] = placed.position

    # -- handling -----------------------------------------------------------------------------------

    def _check_order(self) -> None:
        """First handlings are in the order of the journal, per lane."""
        for name, began in self.told.began.items():
            newest = dict.fromkeys(LANES, 0)
            for event_id in began if name not in CONCURRENT else ():
                placed = self._places.get(event_id)
                if event_id[-1] == "k" and (placed is None or event_id in self.told.again):
                    continue  # a kill switch is delivered before it is written, perhaps in a later life
                if placed is None:
                    raise Broken(f"{name} has handled {event_id}, which is not in the journal")
                if placed.position < newest[placed.lane]:
                    raise Broken(f"{name} has begun {event_id} after what stands behind it")
                newest[placed.lane] = placed.position

    def _check_cursors(self, cursors: Iterable[CursorState], letters: set[tuple[str, int]]) -> None:
        """What is settled was handled to its end, or is a dead letter."""
        for cursor in cursors:
            if cursor.subscription not in TAKES:
                continue
            key = (cursor.subscription, cursor.lane)
            if cursor.floor < self._floors[key] and cursor.subscription != "visitor":
                raise Broken(f"the cursor of {key} was at {self._floors[key]}, and is at {cursor.floor}")
            if cursor.floor > self._head:
                raise Broken(f"the cursor of {key} is at {cursor.floor}, and the file ends at {self._head}")
            for first, last in ((self._floors[key] + 1, cursor.floor), *cursor.settled):
                for position in range(first, last + 1):
                    self._check_settled(cursor, position, letters)
            self._floors[key] = max(self._floors[key], cursor.floor)

    def _check_settled(self, cursor: CursorState, position: int, letters: set[tuple[str, int]]) -> None:
        if position in self._beside:
            return
        name, event_id = cursor.subscription, self._at[position]
        placed = self._places[event_id]
        if placed.lane != cursor.lane or placed.event_type not in TAKES[name]:
            return
        self._settled[name].add(position)
        done = event_id in self.told.ended[name] or (name, position) in letters
        if not done and self.told.owes(name, position):
            raise Broken(
                f"{name} has settled {event_id} at {position}, and has neither handled nor buried it"
            )

    def _check_outputs(self, letters: set[tuple[str, int]]) -> None:
        """With the outbox there are outputs if the cause is settled, and none if it is not."""
        for event_id, placed in self._places.items():
            if placed.event_type not in ("signal", "fill"):
                continue
            name = OUTBOX if placed.event_type == "signal" else HEDGER
            wanted = outputs(name, event_id)
            found = sum(order_id in self._outputs for order_id in wanted)
            if name == OUTBOX:
                settled = placed.position in self._settled[name] and (name, placed.position) not in letters
                if found != len(wanted) * settled:
                    raise Broken(
                        f"{event_id} is {'' if settled else 'not '}settled by {name}, and {found} of its "
                        f"{len(wanted)} outputs are there"
                    )
            elif event_id in self.told.ended[name] and found != len(wanted):
                raise Broken(
                    f"{name} has handled {event_id}, and {found} of its {len(wanted)} outputs are there"
                )

    def _check_repeats(self) -> None:
        for (name, life), repeated in self.told.repeated.items():
            if life in self.slow:
                self.worst_slow = max(self.worst_slow, repeated)
                continue
            self.worst = max(self.worst, repeated)
            if repeated > self.most + (SLOW_CALLS if name in CONCURRENT else 1):
                raise Broken(
                    f"{name} has handled {repeated} events again after life {life}; {self.most} is the most"
                )

    # -- the end ------------------------------------------------------------------------------------

    def audit_end(self, path: Path) -> None:
        """After a life that has handled everything. Raises `Broken`."""
        self.audit(path, verify=True)
        with JournalReader(path, key=key_of(path)) as reader:
            left = reader.buried()
            suspects = reader.suspects()
        if left:
            raise Broken(f"{len(left)} dead letters are left after all were redriven: {left[:3]}")
        if suspects:
            raise Broken(f"suspects are left after everything was handled: {suspects[:3]}")
        for event_id, placed in self._places.items():
            for name, types in TAKES.items():
                is_owed = placed.event_type in types and self.told.owes(name, placed.position)
                if is_owed and event_id not in self.told.ended[name]:
                    raise Broken(f"{name} has never handled {event_id} at {placed.position}")
        self._check_memory()

    def _check_memory(self) -> None:
        """What `quick` was given back and what it has handled in the last life are all there is, once."""
        restored = self.told.restored
        if len(set(restored)) < len(restored):
            raise Broken("an event was restored twice")
        positions = [self._places[event_id].position for event_id in restored]
        if positions != sorted(positions):
            raise Broken("events were not restored in the order of the journal")
        both = set(restored) & self.told.handled_now["quick"].keys()
        if both:
            raise Broken(f"events were restored and handled as well: {sorted(both)[:5]}")
        wanted = {e for e, placed in self._places.items() if placed.event_type in TAKES["quick"]}
        missing = wanted - set(restored) - self.told.handled_now["quick"].keys()
        if missing:
            raise Broken(f"quick has no memory of {sorted(missing)[:5]}")


def _is_journal(path: Path) -> bool:
    if path.with_name(f"{path.name}-journal").exists():
        return False  # killed while it was made: only who may write can undo that
    try:
        JournalReader(path, key=key_of(path)).close()
    except NotAJournal:
        return False
    return True
