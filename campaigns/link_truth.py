"""What is true of a firm on several desks, whatever has gone wrong, and what follows for their journals."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from openoutcry.core.runs import Run
from openoutcry.ports import Changes, Entry, Group, LogName, Stored, Written

Found = list[str]
"""What was found wrong, in sentences."""


class Known(msgspec.Struct):
    """An entry, as a journal was given it."""

    position: int
    event_id: str
    lane: str
    payload: bytes


class Appended(msgspec.Struct):
    """A group, as the engine was given it: by which process, and whether that log knew the last claim."""

    desk: str
    log: LogName
    made: str
    run: str
    after: int
    upto: int
    holder: str
    is_fenced: bool = True


class DeskTruth:
    """What is known of one desk.

    Attributes:
        own: What it has made and journaled, in order; without what a power cut took.
        imported: What it has of each other desk, in the order of its journal.
        accepted: The ids for which a publisher was told True, at `disk` and above it if power is cut.
        handled: How often each id was handled.
        quarantined: The ids of what its bus has put away, since it was in the handler at too many crashes.
        crashes: How often it was killed or its power cut.
        answers: How many of its appends were answered.

    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.own: list[Known] = []
        self.imported: dict[str, list[Known]] = defaultdict(list)
        self.lost: set[str] = set()
        self.accepted: set[str] = set()
        self.handled: Counter[str] = Counter()
        self.quarantined: set[str] = set()
        self.crashes = 0
        self.answers = 0

    def written(self, entries: Sequence[Entry], _changes: Changes | None, written: Written) -> None:
        """Note what was written into its journal."""
        doubles = {one.index for one in written.duplicates}
        for index, (entry, position) in enumerate(zip(entries, written.positions, strict=True)):
            if index in doubles or not is_ours(entry):
                continue
            known = Known(position, entry.event_id, entry.lane, bytes(entry.payload))
            desk = entry.header.desk if entry.header is not None else None
            (self.own if desk is None else self.imported[desk]).append(known)

    def power_cut(self, is_kept: Callable[[Known], bool]) -> None:
        """Note what was lost with the power."""
        self.lost |= {one.event_id for one in self.own if not is_kept(one)}
        self.own = [one for one in self.own if is_kept(one)]
        for desk, known in self.imported.items():
            self.imported[desk] = [one for one in known if is_kept(one)]

    def all_ids(self) -> set[str]:
        """Return the ids of everything in its journal."""
        return {one.event_id for known in (self.own, *self.imported.values()) for one in known}


def is_ours(entry: Entry) -> bool:
    """Return True for an event of the model, and False for what buses publish about themselves.

    Kill switches are left out: they are handled everywhere at once, also where the desk that pulled one dies
    before it is in its journal. What holds of them is which are active.
    """
    is_made = entry.event_id.startswith("m-") or b'"model_reply"' in entry.payload
    return is_made and entry.lane != "control"


class Truth:
    """What is known of all desks, and of the engine.

    Attributes:
        desks: The desks.
        appended: Every group that the engine took, in order, over both logs.
        asks: How often a desk has asked another one to export again.
        pulled: The kill switches that were accepted.
        released: Those that a release has ended which was accepted.
        unsure: Those that may have been pulled or not: who pulled one got no answer.
        releasing: Those that may have been released or not.

    """

    def __init__(self, names: Iterable[str]) -> None:
        self.desks: dict[str, DeskTruth] = {name: DeskTruth(name) for name in names}
        self.appended: list[Appended] = []
        self.asks: int = 0
        self.pulled: set[str] = set()
        self.released: set[str] = set()
        self.unsure: set[str] = set()
        self.releasing: set[str] = set()

    # -- what must come, and is waited for

    def missing(self) -> Found:
        """Return what has not arrived yet."""
        found = []
        for desk in self.desks.values():
            for other in self.desks.values():
                if other is desk:
                    continue
                there = {one.event_id for one in desk.imported[other.name]}
                lacking = [one.event_id for one in other.own if one.event_id not in there]
                if lacking:
                    found.append(f"{desk.name} lacks {len(lacking)} of {other.name}: {lacking[:5]}")
            waiting = sorted(desk.all_ids() - set(desk.handled) - desk.quarantined)
            if waiting:
                found.append(f"{desk.name} has not handled {len(waiting)}: {waiting[:5]}")
        return found

    # -- what must hold at the end

    def judge(self, *, is_whole: bool, counts_repeats: bool, knows_again: bool = True) -> Found:
        """Return what is wrong, when nothing has gone wrong for long enough.

        `is_whole`: no log and no journal has lost anything. `counts_repeats`: nothing was done late.
        `knows_again`: no log has forgotten what journals have too, so that nothing is taken in twice.
        """
        found = self.missing()
        for desk in self.desks.values():
            found += _accepted(desk)
            for other in self.desks.values():
                if other is not desk:
                    known = desk.imported[other.name]
                    found += _imported(desk, other, known if knows_again else _first_times(known))
        found += self._holders()
        found += self._gaps()
        if counts_repeats and is_whole and not self.asks:
            found += self._repeats()
        return found

    def _holders(self) -> Found:
        """Two holders of a desk never take turns: what the first one appends is before the second's.

        But a log that has forgotten a claim with its end refuses nobody until the next one.
        """
        found = []
        for name in self.desks:
            order = [one.holder for one in self.appended if one.desk == name and one.is_fenced]
            left: set[str] = set()
            for before, after in pairwise(order):
                if after != before:
                    left.add(before)
                if after in left:
                    found.append(f"{after} has exported for {name} after another holder had begun to")
                    break
        return found

    def _gaps(self) -> Found:
        """A desk leaves nothing out: a group begins no later than where the ones before it have come."""
        found = []
        upto: dict[tuple[str, str, str], int] = {}
        for one in self.appended:
            place = (one.desk, one.made, one.run)
            if place not in upto:  # up to where a run begins, the positions are those of the runs before
                same = getattr(Run.read(one.run), "same", 0)
                before = [end for (desk, made, _), end in upto.items() if (desk, made) == place[:2]]
                upto[place] = max(one.after, min(same, max(before, default=0)))
            if one.after > upto[place]:
                found.append(
                    f"{one.desk} has exported {one.after}-{one.upto} to {one.log} behind {upto[place]}"
                )
            upto[place] = max(upto[place], one.upto)
        return found[:3]

    def _repeats(self) -> Found:
        """A group brings nothing new only where the answer to it was lost."""
        found = []
        for name, desk in self.desks.items():
            upto: dict[tuple[str, str], int] = {}
            repeats = 0
            its = [one for one in self.appended if one.desk == name]
            for one in its:
                place = (one.made, one.run)
                repeats += one.after < upto.get(place, 0)
                upto[place] = max(upto.get(place, 0), one.upto)
            unanswered = len(its) - desk.answers
            if repeats > unanswered:
                found.append(
                    f"{name} has exported {repeats} groups again, and only {unanswered} had no answer"
                )
        return found

    def halts(self, active: dict[str, set[str]]) -> Found:
        """Return what is wrong with the kill switches that are active on each desk."""
        found = []
        first: set[str] = next(iter(active.values()), set())
        if any(ids != first for ids in active.values()):
            found.append(f"the desks do not have the same kill switches: {active}")
        unsure = self.unsure | self.releasing
        must = self.pulled - self.released - unsure
        if not must <= first:
            found.append(f"{sorted(must - first)} were pulled and never released, and are not active")
        if not first <= (self.pulled | self.unsure) - (self.released - unsure):
            found.append(f"{sorted(first)} are active, and {sorted(self.released)} were released")
        return found


def _accepted(desk: DeskTruth) -> Found:
    gone = sorted(desk.accepted - {one.event_id for one in desk.own} - desk.lost)
    return [f"{desk.name} has accepted {len(gone)} which are not in its journal: {gone[:5]}"] if gone else []


def _first_times(known: Sequence[Known]) -> list[Known]:
    """Leave out what came again."""
    first: dict[str, Known] = {}
    for one in known:
        first.setdefault(one.event_id, one)
    return list(first.values())


def _imported(desk: DeskTruth, other: DeskTruth, imported: Sequence[Known]) -> Found:
    """What one desk has of another is what that one has made, once, in its order per lane, byte for byte."""
    found = []
    known, own = _numbered(imported), _numbered(other.own)
    made_times = Counter(one.event_id for one in other.own)
    times = Counter(one.event_id for one in imported)
    twice = sorted(
        event_id
        for event_id, count in times.items()
        if count > max(made_times[event_id], 1) and event_id not in other.lost
    )
    if twice:
        found.append(f"{desk.name} has {twice[:5]} of {other.name} twice")
    made = {key: one for key, one in own.items() if one.event_id not in other.lost}
    strange = [key[0] for key in known if key not in made and key[0] not in other.lost]
    if strange:
        found.append(f"{desk.name} has {strange[:5]} of {other.name}, which never made them")
    changed = [one.event_id for key, one in known.items() if key in made and not _is_same(one, made[key])]
    if changed:
        found.append(f"{desk.name} has {changed[:5]} of {other.name} with other bytes, or in another lane")
    for lane in sorted({one.lane for one in known.values()}):
        places = [made[key].position for key, one in known.items() if one.lane == lane and key in made]
        if places != sorted(places):
            found.append(f"{desk.name} has {other.name}'s lane {lane} out of order: {places}")
    return found


def _numbered(known: Sequence[Known]) -> dict[tuple[str, int], Known]:
    """Number what has the same id: who publishes again what its journal keeps no longer has made it twice."""
    times: Counter[str] = Counter()
    found = {}
    for one in known:
        times[one.event_id] += 1
        found[one.event_id, times[one.event_id]] = one
    return found


def _is_same(one: Known, made: Known) -> bool:
    """Return True if what was imported is what was made."""
    return (one.event_id, one.lane, one.payload) == (made.event_id, made.lane, made.payload)


def handled_again(desks: Iterable[DeskTruth], most: int) -> Found:
    """Return who has handled events again without having crashed, or more of them than a crash may repeat."""
    found = []
    for desk in desks:
        again = sum(count - 1 for count in desk.handled.values())
        bound = most * desk.crashes
        if again > bound:
            found.append(
                f"{desk.name} has handled {again} events again; {desk.crashes} crashes allow {bound}"
            )
    return found


def group_of(group: Group, made: str, holder: str) -> Appended:
    """Return what is kept of a group that the engine took."""
    return Appended(group.desk, group.log, made, group.journal, group.after, group.upto, holder)


def stored_ids(entries: Iterable[Stored]) -> set[Any]:
    """Return the ids of what a journal gives back."""
    return {entry.head().event_id for entry in entries}
