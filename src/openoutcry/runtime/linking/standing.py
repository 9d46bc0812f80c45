"""How the link of a desk stands, gathered from its parts for the command line, the page and the metrics.

It is read four times a second: what is asked of the engine (the size of the logs) is asked now and then, by a
task, and shown as it was last.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

from openoutcry.core.link_words import AWAY, LinkWord, worst
from openoutcry.core.wording import counted
from openoutcry.errors import LinkError
from openoutcry.observers.standing import DeskStanding, ImportStanding, LinkStanding, LogStanding
from openoutcry.ports import LOGS, LogName
from openoutcry.runtime.linking.exporter import Exporter
from openoutcry.runtime.linking.importer import Importer
from openoutcry.runtime.linking.other_desks import OtherDesk, OtherDesks
from openoutcry.runtime.linking.parts import Joined
from openoutcry.runtime.linking.seats import Seats
from openoutcry.runtime.linking.ticks import FromDesk, TickReceiver, TickSender

BEHIND_NS: Final = 1_000_000_000
"""For how long events may wait before that is told."""
FACTS_S: Final = 5.0
"""How often the engine is asked how large its logs are, and who holds which desk."""


class Gauge:
    """Says how the link of one desk stands."""

    def __init__(
        self,
        joined: Joined,
        others: OtherDesks,
        seats: Seats,
        ticks: tuple[TickSender, TickReceiver],
        exporter: Exporter,
        importer: Importer,
    ) -> None:
        self._joined = joined
        self._others = others
        self._seats = seats
        self._sender, self._receiver = ticks
        self._exporter = exporter
        self._importer = importer
        self._late: dict[tuple[str, str], tuple[int, int]] = {}

    async def open(self) -> None:
        """Nothing is known yet."""
        self._late.clear()

    def begin(self) -> None:
        """Ask the engine from now on."""
        self._joined.run("facts", self._ask)

    async def end(self, timeout_s: float) -> None:
        """Nothing is left to do."""

    async def _ask(self) -> None:
        joined = self._joined
        while True:
            await asyncio.sleep(FACTS_S)
            try:
                async with asyncio.timeout(FACTS_S):
                    if joined.facts is not None:
                        joined.facts = await joined.transport.facts()
                    self._others.note_seats(await joined.transport.seats(), joined.desk, joined.now_ns())
            except (LinkError, TimeoutError):
                continue

    # -- what waits ---------------------------------------------------------------------------------

    def look(self) -> None:
        """Say which desk events wait for, or whose, if they have done so for more than a second."""
        now_ns, before, late = self._joined.now_ns(), self._late, []
        self._late = {}
        for key, done, due, text in self._waits():
            known = before.get(key)
            # What was due then is done, and others wait now: a steady stream is not late.
            due_then, since_ns = known if known is not None and done < known[0] else (due, now_ns)
            self._late[key] = (due_then, since_ns)
            if now_ns - since_ns > BEHIND_NS:
                late.append(text)
        if late:
            self._joined.problems["lag"] = (LinkWord.BEHIND, "; ".join(late))
        else:
            self._joined.problems.pop("lag", None)

    def _waits(self) -> Iterator[tuple[tuple[str, str], int, int, str]]:
        """Return what waits, by desk and log: up to where it is done, up to where it is due, in words."""
        joined = self._joined
        for log_name in LOGS:
            exported = joined.exported.get(log_name, 0)
            for name, desk in sorted(self._others.desks.items()):
                beat = desk.beat
                if beat is None or beat.is_leaving:
                    continue
                mine, head = joined.imported.get((name, log_name)), beat.heads.get(log_name, 0)
                taken = 0 if mine is None else mine.position
                if head > taken:
                    what = f"up to {counted(head - taken, 'event')} of desk {name!r} (log {log_name})"
                    yield (f"import {name}", log_name), taken, head, f"to be imported: {what}"
                said = desk.has_of_ours.get(log_name)
                theirs = 0 if said is None else said.position
                if beat.imports and exported > theirs:
                    what = f"up to {counted(exported - theirs, 'event')} (log {log_name})"
                    yield (f"export {name}", log_name), theirs, exported, f"desk {name!r} is behind by {what}"
            if self._exporter.logs[log_name].waiting_since_ns:
                released = joined.store.commits.released
                what = f"up to {counted(released - exported, 'event')} (log {log_name})"
                yield ("export", log_name), exported, released, f"to be exported: {what}"

    # -- the standing -------------------------------------------------------------------------------

    def standing(self) -> LinkStanding:
        """Return how the link stands; times are on the bus's clock."""
        joined, link, facts = self._joined, self._joined.link, self._joined.facts
        word = worst(word for word, _ in joined.problems.values())
        why = next((text for one, text in joined.problems.values() if one is word), "")
        on_bus = self._on_bus()
        return LinkStanding(
            firm=link.firm,
            desk=link.desk,
            word=word,
            why=why,
            engine="" if facts is None else facts.engine,
            is_connected=joined.transport.is_connected,
            replicas=0 if facts is None else facts.replicas,
            is_synced=facts is not None and facts.is_synced,
            holder="" if joined.seat is None else joined.seat.holder,
            renewed_ns=on_bus(self._seats.tenure.renewed_ns),
            lease_s=link.lease_s,
            on_link_lost=link.on_link_lost,
            ticks_sent=self._sender.sent,
            logs=[self._log(log_name, on_bus) for log_name in LOGS],
            desks=[self._desk(desk, on_bus) for _, desk in sorted(self._others.desks.items())],
        )

    def _on_bus(self) -> Callable[[int], int]:
        """Return what turns a time of the loop's clock into one of the bus's."""
        ahead_ns = self._joined.bus.clock.now_ns() - self._joined.now_ns()
        return lambda at_ns: at_ns + ahead_ns if at_ns else 0

    def _desk(self, desk: OtherDesk, on_bus: Callable[[int], int]) -> DeskStanding:
        beat, seat = desk.beat, desk.seat
        ticks = self._receiver.desks.get(desk.name) or FromDesk()
        return DeskStanding(
            desk=desk.name,
            word="" if beat is None else AWAY if beat.is_leaving else beat.word or LinkWord.UP,
            holder=beat.holder if beat is not None else "" if seat is None else seat.holder,
            host="" if seat is None else seat.host,
            heard_ns=on_bus(desk.heard_ns),
            version="" if beat is None else beat.version,
            ahead_ns=desk.ahead_ns,
            halts=0 if beat is None else len(beat.halts),
            logs=[self._import(desk.name, log_name) for log_name in LOGS],
            ticks=ticks.came,
            ticks_conflated=ticks.conflated,
            ticks_lost=ticks.lost,
        )

    def _log(self, log_name: LogName, on_bus: Callable[[int], int]) -> LogStanding:
        one, facts = self._exporter.logs[log_name], self._joined.facts
        its = next((log for log in (facts.logs if facts is not None else ()) if log.log == log_name), None)
        return LogStanding(
            log=log_name,
            released=self._joined.store.commits.released,
            exported=one.after,
            waiting_since_ns=on_bus(one.waiting_since_ns),
            groups=one.groups,
            events=one.events,
            refusals=one.refusals,
            size_bytes=0 if its is None else its.size_bytes,
            most_bytes=0 if its is None else its.most_bytes,
            done=one.done,
        )

    def _import(self, desk: str, log_name: LogName) -> ImportStanding:
        one, other = self._importer.logs.get((desk, log_name)), self._others.desks.get(desk)
        beat = None if other is None else other.beat
        said = None if other is None else other.has_of_ours.get(log_name)
        return ImportStanding(
            log=log_name,
            exported=0 if beat is None else beat.heads.get(log_name, 0),
            imported=0 if one is None else one.reached.position,
            theirs=0 if said is None else said.position,
            events=0 if one is None else one.events,
            duplicates=0 if one is None else one.duplicates,
            gap="" if one is None else one.gap,
        )
