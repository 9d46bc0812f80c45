"""The link of one bus: makes its parts, and starts and stops them.

```
  start ─▶ journal open ─▶ open: engine, seat, kill switches ─▶ the bus runs ─▶ begin: tasks
  stop  ─▶ the bus drains ─▶ end: the last exports, the seat given back ─▶ the journal closes
```

A part is an object of `Part`; it is made in `Linking.__init__`, where it is given `Joined` and the other
parts that it uses, and stands in `parts` at its place in the order of opening. The parts are ended in the
opposite order, each within the time that is left. What a part awaits from the engine may fail with
`Unreachable` at any time: then it tries again, and the bus goes on.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

from openoutcry.config import Link
from openoutcry.core.link_words import LinkWord
from openoutcry.errors import LinkError, Unreachable
from openoutcry.observers.standing import LinkStanding
from openoutcry.ports import Transport
from openoutcry.runtime.admission.gate import Admission
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.linking.beats import Beats
from openoutcry.runtime.linking.copies import Copies, check
from openoutcry.runtime.linking.cut_off import LinkWatch
from openoutcry.runtime.linking.exporter import Exporter
from openoutcry.runtime.linking.importer import Importer
from openoutcry.runtime.linking.kill import KillSwitchLink
from openoutcry.runtime.linking.other_desks import OtherDesks
from openoutcry.runtime.linking.parts import AGAIN_S, ENGINE, Joined, Part
from openoutcry.runtime.linking.seats import Seats
from openoutcry.runtime.linking.standing import Gauge
from openoutcry.runtime.linking.ticks import TickReceiver, TickSender
from openoutcry.runtime.linking.votes import Votes
from openoutcry.runtime.rounds.rounds import Rounds

log = logging.getLogger("openoutcry")

OPEN_S = 5.0
"""How long a start waits for the engine at most. Without it the bus starts all the same."""
_SERIOUS = ("seat", "beats")
"""The parts whose trouble makes the bus UNHEALTHY: without a seat, and cut off from everybody."""
SHOWN_MOST = 4
"""So many of several problems are told at once, the serious ones first."""
CLOSE_S = 0.5
"""How long a stop waits for the transport to disconnect."""


class Linking:
    """The link of one bus.

    Attributes:
        joined: What the parts share.
        seats: The seat.
        others: The other desks.
        exporter: The exports.
        importer: The imports.
        kill: Kill switches.
        votes: The answers of other desks' agents.
        tick_sender: Sends market data.
        tick_receiver: Takes that of other desks.
        parts: The parts, in the order in which they are opened.

    """

    def __init__(
        self,
        link: Link,
        transport: Transport,
        bus: BusState,
        admission: Admission,
        rounds: Rounds,
        *,
        is_replicated: bool = False,
    ) -> None:
        self._is_replicated = is_replicated
        self.joined: Joined = Joined(link, transport, bus, admission)
        self._rounds = rounds
        self.seats: Seats = Seats(self.joined)
        self.others: OtherDesks = OtherDesks()
        self.kill: KillSwitchLink = KillSwitchLink(self.joined, self.others)
        self._watch = LinkWatch(self.joined, self.others)
        beats = Beats(self.joined, self.others, self._look, self.kill.catch_up)
        self.exporter: Exporter = Exporter(self.joined, self.others, self.seats.claim_again)
        admission.join_replicas(Copies(self.joined, self.exporter))
        self.votes: Votes = Votes(self.joined, rounds)
        self.importer: Importer = Importer(self.joined, self.others, self.votes)
        self.tick_sender: TickSender = TickSender(self.joined, self.others)
        self.tick_receiver: TickReceiver = TickReceiver(self.joined, self.tick_sender)
        ticks = (self.tick_sender, self.tick_receiver)
        self._gauge = Gauge(self.joined, self.others, self.seats, ticks, self.exporter, self.importer)
        self.parts: Sequence[Part] = (
            self.seats,
            self.exporter,
            self.importer,
            self.votes,
            self.kill,
            self.tick_sender,
            self.tick_receiver,
            beats,
            self._gauge,
        )

    async def open(self) -> None:
        """Reach the engine and take the seat, before the bus hands out anything.

        Raises `LinkError` if the bus must not start. If the engine does not answer, that is told, and it is
        tried again when the bus runs.
        """
        try:
            self.joined.problems.clear()
            self.joined.know_itself()
            await self._connect()
            for part in self.parts:
                await part.open()
        except BaseException:
            self.joined.bus.fence(None)
            await self._close()
            raise

    async def _connect(self) -> None:
        joined = self.joined
        try:
            async with asyncio.timeout(OPEN_S):
                joined.facts = await joined.transport.open()
            joined.problems.pop(ENGINE, None)
            if self._is_replicated:
                check(joined.facts)
        except (Unreachable, TimeoutError) as error:
            told = str(error) or f"the engine did not answer within {OPEN_S:g} s"
            joined.problems[ENGINE] = (LinkWord.STALLED, told)
            log.warning(
                "the desk %s starts without the other desks: %s; what it publishes waits in its journal",
                joined.desk,
                told,
            )

    def begin(self) -> None:
        """The bus runs."""
        if self.joined.facts is None:
            self.joined.run("connect", self._connect_later)
        for part in self.parts:
            part.begin()

    async def _connect_later(self) -> None:
        joined = self.joined
        while joined.facts is None:
            try:
                joined.facts = await joined.transport.open()
            except Unreachable:
                joined.problems.pop("connect", None)
            except LinkError as error:
                if joined.problems.get("connect", ("", ""))[1] != str(error):
                    log.error("desk %s is not joined to the others: %s", joined.desk, error)  # noqa: TRY400
                joined.problems["connect"] = (LinkWord.STALLED, str(error))
            if joined.facts is None:
                await asyncio.sleep(AGAIN_S)
        joined.problems.pop("connect", None)

    def _look(self) -> None:
        """Look at what the next beat is to say: four times a second."""
        self._watch.look()
        self.kill.save_crossings()
        self._gauge.look()

    async def end(self, timeout_s: float) -> None:
        """The bus has drained: export what is left, within the time, and leave. Harmless when done twice."""
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + timeout_s
        is_open = self.joined.admission.slot.store is not None  # not after a start that did not get so far
        for part in reversed(self.parts if is_open else ()):
            left_s = max(0.0, ends_s - loop.time())
            with suppress(TimeoutError, LinkError):
                async with asyncio.timeout(left_s):
                    await part.end(left_s)
        await self._close()

    async def _close(self) -> None:
        await self.joined.end_tasks()
        self.joined.facts = None
        with suppress(TimeoutError, LinkError):
            async with asyncio.timeout(CLOSE_S):
                await self.joined.transport.close()

    def standing(self) -> LinkStanding | None:
        """Return how the link stands; None while no journal is open."""
        return None if self.joined.admission.slot.store is None else self._gauge.standing()

    def problems(self) -> tuple[tuple[str, bool], ...]:
        """Return what is wrong, as health wants to know it: all in one text, and whether it is serious."""
        joined = self.joined
        found = [
            (word in (LinkWord.FENCED, LinkWord.LOST) or part in _SERIOUS, why)
            for part, (word, why) in joined.problems.items()
        ]
        if not found:
            return ()
        texts = [why for _, why in sorted(found, key=lambda one: not one[0])]
        more = f" ({len(texts) - SHOWN_MOST} more)" if len(texts) > SHOWN_MOST else ""
        return (("; ".join(texts[:SHOWN_MOST]) + more, any(is_serious for is_serious, _ in found)),)

    def give_up_loop(self) -> None:
        """The loop was closed without a stop: nothing of the link goes on."""
        self.joined.give_up_loop()
        self.seats.give_up_loop()
