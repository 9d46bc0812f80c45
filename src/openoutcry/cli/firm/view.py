"""What is known of a firm from outside, and what one makes of it: lags and words. All pure."""

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from openoutcry.core.link_words import AWAY, SILENT, WHAT_TO_DO, LinkWord, worst
from openoutcry.core.wording import counted, share
from openoutcry.links.wire import Beat, Imported
from openoutcry.ports import Ended, Facts, LogName, Seat

_HOLDER: Final = re.compile(r"([0-9]+)\.[0-9a-f]{8}\.")
"""How a process calls itself that holds a desk: its id, and what tells it from others of that id."""
FULL_SHARE: Final = 0.8
"""Whose log is fuller is told of."""


class Said(NamedTuple):
    """What a desk has said of itself."""

    beat: Beat
    at_s: float
    ahead_ns: int
    classes: Mapping[str, int] | None
    holders: set[str]

    def imported(self, exporter: str, log: LogName) -> Imported | None:
        """Return how far it has imported what another desk exports; None if it imports nothing at all."""
        for one in self.beat.imported:
            if (one.desk, one.log) == (exporter, log):
                return one
        return Imported(exporter, log, "", 0) if self.beat.imports else None


class DeskView(NamedTuple):
    """A desk, seen from outside.

    Attributes:
        name: Its name.
        seat: Its seat; None if it has none.
        said: What it has said of itself; None if it was not heard.
        heard_s: How long ago that was.
        ends: Where its exports end in each log.

    """

    name: str
    seat: Seat | None
    said: Said | None
    heard_s: float | None
    ends: Mapping[LogName, Ended | None]

    @property
    def word(self) -> str:
        """How its link stands, in a word."""
        if self.said is not None:
            return self.said.beat.word or LinkWord.UP
        return SILENT if self.seat is not None and self.seat.holder else AWAY

    @property
    def why(self) -> str:
        """What is wrong with it, and what to do; empty if nothing is."""
        if self.said is not None:
            word = self.said.beat.word
            return self.said.beat.why or (WHAT_TO_DO[LinkWord(word)] if word in set(LinkWord) else "")
        if self.word == SILENT:
            return "see whether its process runs, and reaches the servers; if it is gone for good: firm drop"
        return "nobody holds it: start it, or drop it if it is gone for good (firm drop)"


class Lag(NamedTuple):
    """How far a desk has imported what another one exports.

    Attributes:
        importer: The desk that imports.
        exporter: The desk that exports.
        log: The log.
        exported: The position up to which it is exported.
        imported: The position up to which it is imported; 0 if nothing is known of it.
        is_other: Whether what was imported is of another journal than what is exported.

    """

    importer: str
    exporter: str
    log: LogName
    exported: int
    imported: int
    is_other: bool

    @property
    def behind(self) -> int:
        """How many positions lie between: an upper bound of the events."""
        return self.exported if self.is_other else max(0, self.exported - self.imported)


class FirmView(NamedTuple):
    """A firm, seen from outside.

    Attributes:
        firm: Its name.
        facts: What the servers can promise.
        desks: Its desks, by name.
        listened_s: For how long it was listened to.

    """

    firm: str
    facts: Facts
    desks: list[DeskView]
    listened_s: float

    def lags(self) -> Iterator[Lag]:
        """Yield how far each desk that is heard has imported what each other one exports."""
        for importer in self.desks:
            if importer.said is None:
                continue
            for exporter in self.desks:
                for log, end in exporter.ends.items():
                    one = importer.said.imported(exporter.name, log)
                    if end is None or one is None or exporter is importer:
                        continue
                    is_other = bool(one.journal) and _origin(one.journal) != _origin(end.journal)
                    yield Lag(importer.name, exporter.name, log, end.upto, one.position, is_other)

    def imported_by_all(self, exporter: str, log: LogName) -> tuple[int, list[str]]:
        """Return up to where all other desks have imported, and which of them has not told.

        What was imported from another journal of the desk counts as nothing.
        """
        end = next((desk.ends.get(log) for desk in self.desks if desk.name == exporter), None)
        least, untold = 0 if end is None else end.upto, []
        for desk in self.desks:
            if desk.name == exporter:
                continue
            if desk.said is None:
                untold.append(desk.name)
                continue
            one = desk.said.imported(exporter, log)
            if one is not None and end is not None:
                least = min(least, one.position if one.journal == end.journal else 0)
        return least, untold

    @property
    def word(self) -> str:
        """The worst word of its desks, for one that is silent `stalled`; `away` if it has none."""
        if not self.desks:
            return AWAY
        words = [LinkWord.STALLED if desk.word == SILENT else desk.word for desk in self.desks]
        return worst(LinkWord(word) for word in words if word in set(LinkWord))

    def troubles(self) -> list[str]:
        """Return what is wrong, in sentences."""
        if not self.desks:
            return [self.nobody()]
        found = [
            f"{desk.name} is {desk.word}: {desk.why}"
            for desk in self.desks
            if desk.word not in (LinkWord.UP, AWAY)
        ]
        found += [
            f"{desk.name} is held by {len(desk.said.holders)} processes at once: end all but one"
            for desk in self.desks
            if desk.said is not None and len(desk.said.holders) > 1
        ]
        return found + list(full_logs(self.facts))

    def nobody(self) -> str:
        """Return the sentence for a firm without desks, of which the name may be wrong."""
        return (
            f"the firm {self.firm} has no desk here: none has a seat, and none is heard. See whether its "
            "name and servers are right, or start a desk"
        )


def _origin(run: str) -> str:
    """Return of which journal a run of positions is."""
    return run.partition(":")[0]


def full_logs(facts: Facts) -> Iterator[str]:
    """Tell of logs that are nearly full."""
    for log in facts.logs:
        if log.most_bytes and log.size_bytes >= FULL_SHARE * log.most_bytes:
            yield (
                f"the log {log.log} has {share(log.size_bytes, log.most_bytes)} of its {log.most_bytes:,} "
                f"bytes: {WHAT_TO_DO[LinkWord.FULL]}"
            )


def heard(desk: DeskView) -> str:
    """Return when a desk was heard, in words."""
    return "not heard" if desk.heard_s is None else f"{desk.heard_s:.1f} s ago"


def held_by(desk: DeskView) -> str:
    """Return who holds a desk, in words."""
    if desk.seat is None or not desk.seat.holder:
        return "nobody"
    process_id = _HOLDER.match(desk.seat.holder)
    who = desk.seat.holder if process_id is None else f"pid {process_id[1]}"
    return f"{who} on {desk.seat.host}" if desk.seat.host else who


def synced(facts: Facts) -> str:
    """Return whether what the servers have acknowledged is on their disks, in words."""
    if facts.is_synced:
        return "synced before it is acknowledged"
    return "synced now and then"


def halts_of(desk: DeskView) -> str:
    """Return the kill switches that are active at a desk, in words."""
    if desk.said is None:
        return "not known"
    halts = desk.said.beat.halts
    if not halts:
        return "none"
    scopes = sorted({halt.scope for halt in halts})
    return f"{counted(len(halts), 'kill switch').replace('switchs', 'switches')}: {', '.join(scopes)}"
