"""Votes across desks: an answer that was written on another desk counts in the round that it names, here.

The round, who is expected, and its outcome are on the bus that opened it. An answer of an agent on another
desk comes as an entry that is marked as voting. It counts when it is released here, so that this desk's clock
says whether it is late; and again after a crash, when the event that opened the round is handled again.
"""

import asyncio
import logging
from typing import Any, Final

from openoutcry.core.cursors import BUS
from openoutcry.errors import InvalidEvent, JournalError
from openoutcry.events import RoundAbstained, decode
from openoutcry.ports import Header, Stored
from openoutcry.runtime.linking.parts import Joined
from openoutcry.runtime.rounds.rounds import Rounds

log = logging.getLogger("openoutcry")

PAGE: Final = 1_024
LOOK_BACK_MOST: Final = 65_536
"""So many entries are looked at when a desk starts, for answers to rounds that may open again."""


class Votes:
    """The answers that agents of other desks have given in the rounds of one bus."""

    def __init__(self, joined: Joined, rounds: Rounds) -> None:
        self._joined = joined
        self._rounds = rounds
        rounds.join_desks()

    def take(self, event: Any, header: Header) -> None:
        """An entry of another desk that is marked as voting was released. It never raises."""
        rounds = self._rounds
        round_id = header.round_id or getattr(event, "round_id", None)
        if not isinstance(round_id, str):
            return
        try:
            if isinstance(event, RoundAbstained):
                rounds.abstain(event.agent, event.reason, round_id)
            else:
                rounds.arrive_in(round_id, event, rounds.agent_of(event))
        except InvalidEvent as error:
            log.warning("an answer of another desk has no vote: %s", error)

    async def open(self) -> None:
        """Keep the answers to rounds that may open again, since what opens them was not settled."""
        store = self._joined.store
        try:
            position = self._begin()
            while True:
                found = store.journal.read(position, PAGE)
                for stored in found:
                    if stored.header is not None and stored.header.votes:
                        self._keep(stored, stored.header)
                if len(found) < PAGE:
                    return
                position = found[-1].position
                await asyncio.sleep(0)
        except JournalError as error:
            log.error("answers to open rounds cannot be read in the journal: %s", error)  # noqa: TRY400

    def _begin(self) -> int:
        """Return the position behind which something may be handled again."""
        journal = self._joined.store.journal
        ends = [c.floor for c in journal.cursors() if c.subscription != BUS and c.subscription[:1] != "("]
        lowest = min(ends, default=journal.head)
        return max(lowest, journal.head - LOOK_BACK_MOST, journal.first - 1)

    def _keep(self, stored: Stored, header: Header) -> None:
        try:
            event = decode(stored.payload)
        except InvalidEvent:
            return
        self.take(event, header)

    def begin(self) -> None:
        """The rounds of the bus may open."""

    async def end(self, timeout_s: float) -> None:
        """The rounds of the bus are closed by itself."""
