"""The judge of the campaigns on desks: holds against one another what the desks of a firm have left.

It looks at journals and notes, independently of the link:

- every event that `publish` said True for is in its desk's journal;
- what a desk's journal has made is in every other journal: the same bytes, in the same order by lane, once;
- what is in a journal was handled, and no more was handled again than a crash may repeat;
- what two holders of one desk made does not alternate in anybody's journal;
- kill switches and releases were heard in time, and all desks end with the same ones (`firm_switches`);
- `openoutcry firm audit` finds nothing.
"""

import asyncio
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from campaigns.firm_switches import Life, Switches, heard_in_time, judge_active, judge_journals, lacking
from openoutcry.errors import OpenOutcryError
from openoutcry.events import RECORDS
from openoutcry.journals import JournalReader
from openoutcry.runtime.admission.access import KILL_SWITCH
from openoutcry.runtime.admission.kill_switches import OWN_AGENT
from openoutcry.runtime.delivery.offsets import UNSAVED_MOST
from openoutcry.runtime.delivery.worker import BATCH_MOST

PAGE: Final = 5_000
REPEATS_MOST: Final = 2 * (UNSAVED_MOST + BATCH_MOST)
"""So many events a crash may repeat: two lanes of one subscription."""
TYPES: Final = ("campaign_deal", "campaign_urgent")
SHOWN: Final = 3
AUDIT_S: Final = 120.0

Rows = list[tuple[str, bytes]]


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Made:
    """What one journal has: its own events and those of each other desk, by lane, in order.

    Attributes:
        by_desk: Ids and bytes, by the desk that made them (None: the journal's own) and lane.
        switches: Its kill switches and releases, whoever has made them.

    """

    def __init__(self, path: Path) -> None:
        self.by_desk: dict[tuple[str | None, str], Rows] = defaultdict(list)
        self.switches = Switches()
        self._path = path
        self._position = 0

    def read_on(self) -> None:
        """Read what was not read yet."""
        with suppress(OpenOutcryError, OSError), JournalReader(self._path, held=False) as reader:
            while page := reader.read(self._position, PAGE):
                for entry in page:
                    head = entry.head()
                    if head.event_type not in RECORDS and head.event_type in TYPES:
                        desk = None if entry.header is None else entry.header.desk
                        self.by_desk[desk, entry.lane].append((head.event_id or "", entry.payload))
                    elif head.event_type == KILL_SWITCH:
                        self._note_switch(
                            entry.payload, is_own=entry.header is None or entry.header.desk is None
                        )
                self._position = page[-1].position

    def _note_switch(self, payload: bytes, *, is_own: bool) -> None:
        said = msgspec.json.decode(payload)
        if said["source_agent"] != OWN_AGENT:  # what a bus tells itself stays on its desk
            releases = None if said["activated"] else said["releases"]
            self.switches.note(said["event_id"], payload, releases, is_own=is_own)

    def own(self) -> dict[str, Rows]:
        """Return what the journal's desk has made, by lane."""
        return {lane: rows for (desk, lane), rows in self.by_desk.items() if desk is None}

    def ids(self) -> set[str]:
        """Return every id that it has."""
        return {event_id for rows in self.by_desk.values() for event_id, _ in rows}


def read(path: Path) -> Made:
    """Return what a journal has."""
    made = Made(path)
    made.read_on()
    return made


class Judge:
    """Looks at what the desks have left.

    Attributes:
        found: What is wrong, in words.
        counts: What was counted.

    """

    def __init__(self, folder: Path, journals: Mapping[str, Path], crashes: Mapping[str, int]) -> None:
        self.found: list[str] = []
        self.counts: Counter[str] = Counter()
        self._folder = folder
        self._journals = journals
        self._crashes = crashes
        self._made = {desk: Made(path) for desk, path in journals.items()}

    def _look(self) -> None:
        for made in self._made.values():
            made.read_on()

    def look_anew(self) -> None:
        """A journal was replaced, or has lost its end: read all of them from the beginning."""
        self._made = {desk: Made(path) for desk, path in self._journals.items()}

    def missing(self) -> int:
        """Return how many events and kill switches have not come everywhere yet."""
        self._look()
        return sum(
            max(0, len(rows) - len(self._made[taker].by_desk.get((maker, lane), ())))
            for maker, taker in self._pairs()
            for lane, rows in self._made[maker].own().items()
        ) + sum(map(len, lacking(self._switches(), ()).values()))

    def unhandled(self) -> int:
        """Return how many events that a journal has were not handled yet."""
        return sum(
            len(made.ids().difference(self._notes(desk, "handled"))) for desk, made in self._made.items()
        )

    def _pairs(self) -> list[tuple[str, str]]:
        return [(maker, taker) for maker in self._made for taker in self._made if taker != maker]

    def _notes(self, desk: str, kind: str) -> list[str]:
        path = self._folder / f"{desk}.db.{kind}"
        return path.read_text().splitlines() if path.exists() else []

    def judge(self, *, repeats_freely: Iterable[str] = ()) -> bool:
        """Judge the events, and note what is wrong.

        Args:
            repeats_freely: Desks that may handle anything again: their cursors were lost with their disk.

        """
        self._look()
        for desk, made in self._made.items():
            self._judge_accepted(desk, {event_id for rows in made.own().values() for event_id, _ in rows})
            self._judge_handled(desk, made, bound=desk not in set(repeats_freely))
        for maker, taker in self._pairs():
            for lane, rows in self._made[maker].own().items():
                self._judge_pair(maker, taker, lane, rows)
        return not self.found

    def _judge_accepted(self, desk: str, own: set[str]) -> None:
        accepted = self._notes(desk, "accepted")
        self.counts["accepted"] += len(accepted)
        gone = [event_id for event_id in accepted if event_id not in own]
        self.counts["lost"] += len(gone)
        if gone:
            self.found.append(
                f"{desk} accepted {len(gone)} events that are not in its journal: {gone[:SHOWN]}"
            )

    def _judge_pair(self, maker: str, taker: str, lane: str, own: Rows) -> None:
        had = self._made[taker].by_desk.get((maker, lane), [])
        self.counts["carried"] += len(had)
        way = f"{maker} to {taker}, {lane}"
        ids = {event_id for event_id, _ in had}
        missing = [event_id for event_id, _ in own if event_id not in ids]
        self.counts["missing"] += len(missing)
        if missing:
            self.found.append(f"{way}: {len(missing)} missing: {missing[:SHOWN]}")
        if len(ids) < len(had):
            self.found.append(f"{way}: {len(had) - len(ids)} more than once")
        rank = {event_id: (place, payload) for place, (event_id, payload) in enumerate(own)}
        known = [(event_id, payload) for event_id, payload in had if event_id in rank]
        if any(rank[event_id][1] != payload for event_id, payload in known):
            self.found.append(f"{way}: other bytes")
        places = [rank[event_id][0] for event_id, _ in known]
        wrong = sum(1 for one, other in pairwise(places) if other < one)
        self.counts["out of order"] += wrong
        if wrong:
            self.found.append(f"{way}: {wrong} out of order")
        if len(known) < len(had):
            strays = [event_id for event_id, _ in had if event_id not in rank]
            self.found.append(f"{way}: {len(strays)} that the maker's journal lacks: {strays[:SHOWN]}")

    def _judge_handled(self, desk: str, made: Made, *, bound: bool) -> None:
        times = Counter(self._notes(desk, "handled"))
        unhandled = made.ids() - times.keys()
        if unhandled:
            self.found.append(f"{desk}: {len(unhandled)} not handled: {sorted(unhandled)[:SHOWN]}")
        repeats, most = times.total() - len(times), REPEATS_MOST * self._crashes.get(desk, 0)
        self.counts["handled"] += times.total()
        self.counts["again"] += repeats
        if bound and repeats > most:
            self.found.append(
                f"{desk}: {repeats} handled again after {self._crashes.get(desk, 0)} crashes, {most} may be"
            )

    def judge_kill_switches(self, lives: Iterable[Life], active: Mapping[str, set[str]]) -> None:
        """Judge the kill switches and releases, and say how soon they were heard.

        Args:
            lives: Every life of every desk.
            active: What is active on each desk in the end.

        """
        self._look()
        lives = list(lives)
        late_ns, found = heard_in_time(lives)
        accepted = [key for life in lives for key in life.published()]
        switches = self._switches()
        self.found += found + judge_journals(switches, accepted) + judge_active(switches, active)
        self.counts["kill switches"] = len(late_ns)
        if late_ns:
            late_ns.sort()
            p50, p99, most = (late_ns[min(len(late_ns) - 1, int(s * len(late_ns)))] for s in (0.5, 0.99, 1))
            say(
                f"    kill switches beside that: {len(late_ns)} heard, p50 {p50 / 1e6:.2f} ms, "
                f"p99 {p99 / 1e6:.2f} ms, most {most / 1e6:.2f} ms"
            )

    def _switches(self) -> dict[str, Switches]:
        return {desk: made.switches for desk, made in self._made.items()}

    async def audit(self) -> None:
        """Have `openoutcry firm audit` look at the journals."""
        journals = [str(path) for path in self._journals.values()]
        command = [sys.executable, "-m", "openoutcry", "firm", "audit", *journals]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        async with asyncio.timeout(AUDIT_S):
            told, _ = await process.communicate()
        if process.returncode:
            lines = told.decode().strip().splitlines()
            self.found.append(f"firm audit ends with {process.returncode}: {' / '.join(lines[-SHOWN:])}")
        self.counts["audited"] = len(journals)

    def tell(self) -> bool:
        """Print what was counted and found; True if nothing is wrong."""
        say("    " + ", ".join(f"{name} {count:,}" for name, count in self.counts.items()))
        for one in self.found:
            say(f"    FOUND: {one}")
        return not self.found


def succession(taker: Path, maker: str, journals: tuple[Path, Path]) -> list[str]:
    """Return what is wrong with what a journal has of a desk that two processes have held.

    It must have what the first holder had exported until then, and then all that the second one made.
    """
    had, found = read(taker), []
    former, later = (read(path).own() for path in journals)
    for lane in sorted({*former, *later}):
        of_maker = [event_id for event_id, _ in had.by_desk.get((maker, lane), [])]
        first = [event_id for event_id, _ in former.get(lane, [])]
        second = [event_id for event_id, _ in later.get(lane, [])]
        count = len(set(of_maker).intersection(first))
        if of_maker != first[:count] + second:
            found.append(
                f"{taker.name}, {lane}: {len(of_maker)} of desk {maker}, which are not the first {count} of "
                f"its first holder and then the {len(second)} of its second one"
            )
    return found
