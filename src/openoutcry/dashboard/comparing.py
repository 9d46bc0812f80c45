"""Compare: the decisions of two journals side by side, and only what differs.

Which journals there are is said when the page starts; a request names one of them, and no path is made of it.
Each is read once, a piece at a time, in the thread of its file; later questions read on from there.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from openoutcry.dashboard.differences import (
    KINDS,
    TYPES,
    Pair,
    Said,
    counted_kinds,
    differing,
    fields_of,
    paired,
    said_of,
)
from openoutcry.dashboard.events import cut, shown
from openoutcry.dashboard.journal_file import Deadline, JournalFile
from openoutcry.dashboard.refusals import Parameters, Refused
from openoutcry.events.records import is_record
from openoutcry.journals import JournalReader
from openoutcry.journals.refusals import real_path
from openoutcry.journals.showing import head_of, time_of
from openoutcry.ports import Clock, Stored
from openoutcry.printable import printable
from openoutcry.units import NS_PER_S

PAGE: Final = 100
KEPT_MAX: Final = 200_000
"""Of each type of a journal so many events are compared: 100 MB of memory, and more than anybody reads."""
FIELDS_MAX: Final = 12
LISTED_MAX: Final = 500
"""Of longer lists it is not worked out what is in one of them alone."""
NAMED_MAX: Final = 200
"""So many agents and symbols can be chosen from."""
_PIECE: Final = 1_024
_PAIRINGS_MAX: Final = 4
_NEEDLES: Final = tuple(f'"{name}"'.encode() for name in TYPES)


class Wanted:
    """Which differences are asked for."""

    def __init__(self, asked: Parameters, names: list[str]) -> None:
        first, second = asked.text("a") or names[0], asked.text("b")
        if second is None:
            second = next(name for name in names if name != first)
        for name in (first, second):
            if name not in names:
                raise Refused(
                    404,
                    f"no journal {name[:100]!r} was named when the page was started: "
                    f"--compare FILE, beside {', '.join(names)[:200]}",
                )
        if first == second:
            raise Refused(400, f"{first[:100]!r} is compared with itself: choose two journals")
        self.names = (first, second)
        self.type = asked.text("type") or TYPES[0]
        self.kind = asked.text("kind")
        self.agent = asked.text("agent")
        self.symbol = asked.text("symbol")
        self.skip = asked.number("skip", 0)
        if self.type not in TYPES:
            raise Refused(400, f"type = {self.type[:40]!r}: it is one of {', '.join(TYPES)}")
        if self.kind not in (None, *KINDS):
            raise Refused(400, f"kind = {str(self.kind)[:40]!r}: it is one of {', '.join(KINDS)}")

    def holds(self, pair: Pair) -> bool:
        """Return True for a pair of the agent and symbol that are asked for."""
        said = pair.said
        return self.agent in (None, said.agent) and self.symbol in (None, said.symbol)


class Side:
    """What one journal decided, as far as it was read. It belongs to the thread of its file."""

    def __init__(self, file: JournalFile) -> None:
        self.file = file
        self._reader: JournalReader | None = None
        self.lives_count = 0
        self._forget()

    def _forget(self) -> None:
        self.lives_count += 1
        self.read = self.head = self.first_ns = self.last_ns = 0
        self.said: dict[str, list[Said]] = {name: [] for name in TYPES}
        self.full_ns: dict[str, int] = {}
        """Up to when events of a type are compared, where there are more of them than are kept."""

    def look(self, reader: JournalReader, deadline: Deadline) -> "Side":
        """Read on until the deadline, or the end."""
        if reader is not self._reader:  # it may be another file
            self._reader = reader
            self._forget()
        self.head = reader.head
        self.read = max(self.read, reader.first - 1)
        while self.read < self.head and not deadline.is_over:
            entries = reader.read(self.read, _PIECE)
            if not entries:
                self.read = self.head  # what is not kept any more
                break
            for entry in entries:
                self._take(entry)
            self.read = entries[-1].position
        return self

    def _take(self, entry: Stored) -> None:
        if not is_record(entry.payload):  # the bus's own come before the first event, and after the last
            self.first_ns = self.first_ns or entry.wall_ns
            self.last_ns = max(self.last_ns, entry.wall_ns)
        if not any(needle in entry.payload for needle in _NEEDLES) and entry.header is None:
            return
        name = head_of(entry).event_type or ""
        kept = self.said.get(name)
        if kept is None:
            return
        if len(kept) < KEPT_MAX:
            kept.append(said_of(entry))
        else:
            self.full_ns.setdefault(name, kept[-1].wall_ns)

    @property
    def is_read(self) -> bool:
        """Whether all of it was."""
        return self.read >= self.head

    def upto(self, type_name: str, last_ns: int | None) -> list[Said]:
        """Return the events of a type, those admitted until then alone if a time is given."""
        kept = self.said[type_name]
        return list(kept) if last_ns is None else [one for one in kept if one.wall_ns <= last_ns]

    def to_dict(self, name: str, type_name: str, own: JournalFile | None) -> dict[str, Any]:
        """Return how far it is."""
        return {
            "name": name,
            "own": self.file is own,
            "read": self.read,
            "head": self.head,
            "first_ns": self.first_ns,
            "last_ns": self.last_ns,
            "count": len(self.said[type_name]),
        }


class Comparer:
    """Holds journals against each other.

    Attributes:
        names: What they are called, safe to show; the page's own first.

    """

    def __init__(self, files: Mapping[str, JournalFile], own: JournalFile | None) -> None:
        self._own = own
        self.names: list[str] = list(files)
        self._sides = {name: Side(file) for name, file in files.items()}
        self._pairings: OrderedDict[tuple[object, ...], list[Pair]] = OrderedDict()

    async def compare(self, asked: Parameters) -> dict[str, Any]:
        """Return a page of differences, or how far the journals were read.

        Refused with 404 for a journal that was not named when the page was started, or where none was.
        """
        if len(self.names) < 2:
            raise Refused(
                404, "there is no other journal to compare with: start the page with --compare FILE"
            )
        wanted = Wanted(asked, self.names)
        first, second = sides = [self._sides[name] for name in wanted.names]
        for one in sides:
            await one.file.look(one.look)
        answer: dict[str, Any] = {
            "journals": self.names,
            "a": first.to_dict(wanted.names[0], wanted.type, self._own),
            "b": second.to_dict(wanted.names[1], wanted.type, self._own),
            "complete": all(one.is_read for one in sides),
        }
        if not answer["complete"]:
            return answer
        pairs = await self._pairs(wanted, first, second)
        chosen = await asyncio.to_thread(Chosen, pairs, wanted)
        end = wanted.skip + PAGE
        return answer | {
            "counts": chosen.counts,
            "agents": chosen.agents,
            "symbols": chosen.symbols,
            "notes": _notes(first, second, wanted),
            "rows": await _rows(chosen.pairs[wanted.skip : end], first.file, second.file),
            "total": len(chosen.pairs),
            "next": end if end < len(chosen.pairs) else None,
        }

    async def _pairs(self, wanted: Wanted, first: Side, second: Side) -> list[Pair]:
        """Return the pairs of two journals, which stay the same until one of them has more."""
        name = wanted.type
        sides = (first, second)
        key = (wanted.names, name, *((side.lives_count, len(side.said[name])) for side in sides))
        found = self._pairings.get(key)
        if found is None:
            last_ns = min((side.full_ns[name] for side in sides if name in side.full_ns), default=None)
            found = await asyncio.to_thread(paired, first.upto(name, last_ns), second.upto(name, last_ns))
            self._pairings[key] = found
            while len(self._pairings) > _PAIRINGS_MAX:
                self._pairings.popitem(last=False)
        return found


class Chosen:
    """What is asked for of all pairs. It takes a while where there are many: it is made in a thread.

    Attributes:
        counts: How many there are of each kind, of the agent and symbol that are asked for.
        agents: Whose events differ, whatever is asked for.
        symbols: In which symbols.
        pairs: Those to be listed.

    """

    def __init__(self, pairs: list[Pair], wanted: Wanted) -> None:
        others = [pair for pair in pairs if pair.kind != "same"]
        self.counts: dict[str, int] = counted_kinds(filter(wanted.holds, pairs))
        self.agents: list[str] = _named({pair.said.agent for pair in others})
        self.symbols: list[str] = _named({pair.said.symbol for pair in others})
        self.pairs: list[Pair] = [
            pair for pair in others if wanted.kind in (None, pair.kind) and wanted.holds(pair)
        ]


def _named(names: Iterable[str]) -> list[str]:
    """Return names to choose from: as they are, since they are sent back; the page shows them safely."""
    return sorted(name for name in names if name and len(name) <= NAMED_MAX)[:NAMED_MAX]


def _notes(first: Side, second: Side, wanted: Wanted) -> list[str]:
    """Return what is to be known of the two before the differences mean anything."""
    if not (first.head and second.head):
        named = zip(wanted.names, (first, second), strict=True)
        return [f"{name} is empty" for name, side in named if not side.head]
    if first.first_ns > second.last_ns or second.first_ns > first.last_ns:
        return ["the two have no time in common, so every event of one is missing in the other"]
    notes = []
    starts, ends = (first.first_ns, second.first_ns), (first.last_ns, second.last_ns)
    for word, (one, other) in (("starts", starts), ("ends", ends)):
        if abs(one - other) > NS_PER_S:
            notes.append(
                f"{wanted.names[0]} {word} at {time_of(one)}, {wanted.names[1]} at "
                f"{time_of(other)}: what lies between is in one of them alone"
            )
    if any(wanted.type in side.full_ns for side in (first, second)):
        notes.append(f"only the first {KEPT_MAX:,} events of each are compared")
    return notes


def named_files(
    own: JournalFile | None, others: Iterable[Path], key: bytes | None, clock: Clock
) -> dict[str, JournalFile]:
    """Return the page's own journal and those that may be compared, by the names of their files.

    Where two have one name, they go by their paths. The key is for those that are sealed. Blocks. Raises
    `JournalError` for a file that is no journal.
    """
    files = [] if own is None else [own]
    for path in others:
        if any(file.path == real_path(path) for file in files):
            continue
        with JournalReader(path) as reader:
            known = key if reader.is_sealed else None
        JournalReader(path, key=known).close()
        files.append(JournalFile(path, known, clock))
    names = Counter(file.path.name for file in files)
    return {
        printable(file.path.name if names[file.path.name] == 1 else str(file.path)): file for file in files
    }


async def _rows(pairs: list[Pair], first: JournalFile, second: JournalFile) -> list[dict[str, Any]]:
    """Return pairs with what they say, which is read now."""
    entries = await first.look(lambda reader, _: _read(reader, [pair.first for pair in pairs]))
    others = await second.look(lambda reader, _: _read(reader, [pair.second for pair in pairs]))
    return [_row(pair, *both) for pair, *both in zip(pairs, entries, others, strict=True)]


def _read(reader: JournalReader, said: list[Said | None]) -> list[Stored | None]:
    found: list[Stored | None] = []
    for one in said:
        entries = [] if one is None else reader.read(one.position - 1, 1)
        is_it = one is not None and bool(entries) and entries[0].position == one.position
        found.append(entries[0] if is_it else None)
    return found


def _row(pair: Pair, first: Stored | None, second: Stored | None) -> dict[str, Any]:
    said = pair.said
    one, other = (({} if entry is None else fields_of(entry)) for entry in (first, second))
    names = differing(one, other) if one and other else []
    return {
        "kind": pair.kind,
        "wall_ns": said.wall_ns,
        "agent": shown(said.agent),
        "symbol": shown(said.symbol),
        "round": shown(said.round_id),
        "id": shown(said.event_id),
        "a": _words(pair.first, one),
        "b": _words(pair.second, other),
        "fields": [[shown(name), *_values(one.get(name), other.get(name))] for name in names[:FIELDS_MAX]],
        "more": max(0, len(names) - FIELDS_MAX),
    }


def _words(said: Said | None, fields: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what was decided in a few words, such as `buy 100`."""
    if said is None:
        return None
    text = " ".join(filter(None, [said.side, "" if said.size is None else f"{said.size:,.10g}"]))
    if fields.get("approved") is False:
        text = f"rejected: {fields.get('rejection_reason') or 'no reason given'}"
    elif isinstance(price := fields.get("fill_price"), int | float):
        text += f" at {price:,.10g}"
    return {"pos": said.position, "said": shown(text or "something")}


def _values(one: Any, other: Any) -> tuple[str, str]:
    """Return two values that differ; of lists what is in one of them alone."""
    if not (isinstance(one, list) and isinstance(other, list)):
        return _value(one), _value(other)
    alone = [value for value in one if value not in other], [value for value in other if value not in one]
    both = f"{len(one) - len(alone[0]):,} in both"
    if not any(alone) or max(len(one), len(other)) > LISTED_MAX:
        return _value(one), _value(other)
    first, second = (_value([*values, both] if len(one) > len(alone[0]) else values) for values in alone)
    return first, second


def _value(value: Any) -> str:
    """Return the value of a field as short text, safe to show."""
    text = value if isinstance(value, str) else _plain(value)
    return cut(printable(text[:400]))


def _plain(value: Any) -> str:
    if value is None:
        return "\u2013"
    if isinstance(value, float):
        return f"{value:.10g}"
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value)
