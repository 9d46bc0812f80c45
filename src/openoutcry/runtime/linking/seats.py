"""The seat of a desk: which process holds it, and what this one does when it does not.

```
  open ─▶ nobody holds it, or its holder is dead ─▶ claim ─▶ in office ─▶ renew, three times a lease
              └▶ its holder may be alive: wait for 1.25 leases, or raise `Taken` if it renews

  not renewed for a lease ─▶ lapsed: begin no calls, accept nothing durable ─▶ renewed: go on
  refused by the engine   ─▶ out, for good: the process must end
```

The times are decided by `core/seat.py`. What a process that has lost its seat exports nevertheless is refused
by the engine, since its token is no longer the newest.
"""

import asyncio
import logging
import os
from contextlib import suppress
from hashlib import blake2b

from openoutcry.core.link_words import LinkWord
from openoutcry.core.seat import RENEWALS, WAIT_LEASES, May, Office, Record, Tenure, Vacancy
from openoutcry.errors import Fenced, LinkError, LogGone, SeatLost, Taken, Unreachable
from openoutcry.events.sources import new_name
from openoutcry.ports import FileJournal, Seat
from openoutcry.runtime.linking.parts import Joined
from openoutcry.runtime.linking.processes import has_ended, this_file, this_host, this_process
from openoutcry.units import NS_PER_S

log = logging.getLogger("openoutcry")

RENEWS_S = 5.0
"""How often a seat that does not lapse is renewed, to hear of it when it is lost."""
AGAIN_MOST_S = 1.0
"""The longest pause before a renewal that failed is tried again."""
LOOKS = 8
"""How many times a seat that may be vacant is looked at while its lease runs out."""


class Seats:
    """The seat of one desk, as the process sees it that holds it or would like to.

    Attributes:
        tenure: For how long it is held.

    """

    def __init__(self, joined: Joined) -> None:
        self._joined = joined
        self._lease_ns = int(joined.link.lease_s * NS_PER_S)
        self._interval_s = joined.link.lease_s / RENEWALS or RENEWS_S
        self._mine = Seat(desk=joined.desk)
        self._begin_anew()
        joined.on_fenced(self._doubt)

    def _begin_anew(self) -> None:
        self.tenure: Tenure = Tenure(self._lease_ns)
        self._vacancy = Vacancy()
        self._claiming = asyncio.Lock()
        self._look_now = asyncio.Event()
        self._is_refused = False
        self._lapse_timer: asyncio.TimerHandle | None = None

    # -- life ---------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Claim the desk, and wait as long as its last holder may be alive.

        Raises `Taken` if it is alive. Without the engine it is claimed later.
        """
        joined = self._joined
        self._begin_anew()
        joined.is_out = False
        joined.bus.seat_lost = None
        file = joined.store.journal
        path = str(file.path.resolve()) if isinstance(file, FileJournal) else new_name()
        self._mine = Seat(
            desk=joined.desk,
            holder=f"{os.getpid()}.{_digest(path)}.{new_name()}",
            host=this_host(),
            process=this_process(),
            journal=joined.store.origin,
            file=this_file(file.path) if isinstance(file, FileJournal) else "",
            lease_s=joined.link.lease_s,
        )
        if joined.facts is not None:
            try:
                await self._claim()
            except (Unreachable, TimeoutError, LogGone) as error:
                log.warning("desk %s could not be claimed yet: %s", joined.desk, error)
        self._judge()

    def begin(self) -> None:
        """Renew it from now on."""
        self._judge()
        self._joined.run("seat", self._hold)

    async def end(self, timeout_s: float) -> None:
        """Give it back, so that the next one need not wait."""
        seat, self._joined.seat = self._joined.seat, None
        self._silence()
        self._joined.bus.fence(None)
        self._joined.problems.pop("seat", None)
        if seat is not None and timeout_s > 0 and not self.tenure.is_out:
            with suppress(LinkError):
                await self._joined.transport.leave(seat)

    def give_up_loop(self) -> None:
        """The loop was closed: no timer of it goes on."""
        self._lapse_timer = None
        self._joined.bus.fence(None)

    # -- claiming -----------------------------------------------------------------------------------

    async def _claim(self) -> None:
        """Claim the desk. Raises `Taken`, `Unreachable`, `LogGone`."""
        has_told = False
        while True:
            seen = await self._record()
            now_ns = self._joined.now_ns()
            may = self._vacancy.look(_record_of(seen), now_ns, is_dead=self._is_over(seen))
            if may is May.CLAIM:
                await self._take(seen)
                return
            assert seen is not None, "a desk that nobody has ever held may be claimed"
            if may is May.NEVER:
                raise Taken(_taken(seen))
            if not has_told:
                has_told = True
                log.warning(
                    "desk %s was held by %s on %s, which may be alive: it is claimed in %.3g s, unless that "
                    "one renews its seat",
                    seen.desk,
                    seen.holder,
                    seen.host,
                    seen.lease_s * WAIT_LEASES,
                )
            left_s = (self._vacancy.claims_ns - now_ns) / NS_PER_S
            await asyncio.sleep(min(left_s, seen.lease_s / LOOKS))

    async def _record(self) -> Seat | None:
        seats = await self._joined.transport.seats()
        return next((seat for seat in seats if seat.desk == self._mine.desk), None)

    def _is_over(self, seen: Seat | None) -> bool:
        """Return True if the holder of a record is this process, or is known to be dead.

        It is if it has ended on this host, or if it had the file of this journal, which this process has
        locked now, on this host: under the same path, or also in another container since the host started.
        """
        mine = self._mine
        if seen is None or seen.holder == mine.holder or has_ended(seen.process):
            return True
        if not isinstance(self._joined.store.journal, FileJournal) or seen.journal != mine.journal:
            return False
        same_path = seen.holder.split(".")[1:2] == mine.holder.split(".")[1:2]
        return (same_path and seen.host == mine.host) or (seen.file != "" and seen.file == mine.file)

    async def _take(self, seen: Seat | None) -> None:
        await self._joined.meet()
        sent_ns = self._joined.now_ns()
        seat = await self._joined.transport.claim(self._mine, seen)
        self._is_refused = False
        self._renewed(seat, sent_ns)

    async def claim_again(self) -> None:
        """Claim the desk once more, since a log with the claim was deleted: with new tokens.

        Raises `SeatLost` if another one holds it, and `Unreachable`.
        """
        async with self._claiming:
            if self.tenure.is_out:
                raise SeatLost(self._lost_for_good())
            try:
                await self._claim()
            except Taken as error:
                if await self._is_mine():
                    raise Unreachable("an earlier claim of this process came in between") from error
                self._lose(error)
                raise SeatLost(self._lost_for_good()) from error

    # -- holding ------------------------------------------------------------------------------------

    async def _hold(self) -> None:
        """Renew the seat, or claim it where that was not possible yet, for as long as it is not lost."""
        pause_s = 0.0 if self._joined.seat is None else self._interval_s
        while not self.tenure.is_out:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._look_now.wait()
            self._look_now.clear()
            began_ns = self._joined.now_ns()
            if await self._renew():
                took_s = (self._joined.now_ns() - began_ns) / NS_PER_S
                pause_s = max(0.0, self._interval_s - took_s)
            else:
                pause_s = min(self._interval_s / 4, AGAIN_MOST_S)

    async def _renew(self) -> bool:
        """Renew or claim the seat once. Return False if it has to be tried again soon."""
        joined = self._joined
        try:
            async with asyncio.timeout(self._patience_s()), self._claiming:
                seat, sent_ns = joined.seat, joined.now_ns()
                if seat is None:
                    if joined.facts is None:
                        return False  # it is not connected yet
                    await self._claim()
                else:
                    self._renewed(await joined.transport.renew(seat), sent_ns)
                    if self._is_refused:  # by a claim of its own, perhaps, that was given up and came late
                        await self._claim()
        except (Fenced, Taken) as error:
            return await self._lose_or_claim(error)
        except LogGone:
            return await self._open_again()
        except (LinkError, TimeoutError) as error:
            log.info("the seat of desk %s was not renewed: %s", joined.desk, str(error) or "no answer")
            return False
        return True

    async def _lose_or_claim(self, error: LinkError) -> bool:
        """Another one holds the desk, or a claim of this process was broken off, and is made again."""
        try:
            if not await self._is_mine():
                self._lose(error)
                return True
            async with self._claiming:
                await self._claim()
        except LinkError as other:
            log.info("desk %s could not be claimed again: %s", self._joined.desk, other)
            return False
        return True

    async def _is_mine(self) -> bool:
        """Return True if the record of the seat names this process: nobody else has claimed the desk."""
        seen = await self._record()
        return seen is not None and seen.holder == self._mine.holder

    def _patience_s(self) -> float | None:
        """How long a renewal may take: what is left of the lease; a claim waits as long as it has to."""
        return None if self._joined.seat is None else self._interval_s * (RENEWALS - 1)

    async def _open_again(self) -> bool:
        """A log was deleted: have it made anew, and claim the desk in it."""
        try:
            await self._joined.transport.open()
            await self.claim_again()
        except LinkError as error:
            log.warning("desk %s could not be claimed again: %s", self._joined.desk, error)
            return self.tenure.is_out
        return True

    def _doubt(self) -> None:
        """The engine has refused what this process exported: ask it at once who holds the desk."""
        self._is_refused = True
        self._look_now.set()

    def _renewed(self, seat: Seat, sent_ns: int) -> None:
        self._joined.seat = seat
        self.tenure.renewed(sent_ns)
        self._judge()

    # -- what follows -------------------------------------------------------------------------------

    def _lose(self, error: LinkError) -> None:
        """Another one holds the desk. That is final."""
        self._joined.seat = None
        self._joined.is_out = True
        self.tenure.lost()
        log.critical("desk %s is lost: %s. %s", self._joined.desk, error, self._lost_for_good())
        self._judge()
        self._joined.bus.lose_seat(SeatLost(self._lost_for_good()))

    def _judge(self) -> None:
        """Begin calls and accept durable events, or stop that."""
        joined, office = self._joined, self.tenure.office(self._joined.now_ns())
        self._silence()
        if office is Office.IN:
            if joined.bus.fenced is not None:
                log.warning("desk %s is held again, and goes on", joined.desk)
                joined.admission.fence(None)
            joined.problems.pop("seat", None)
            self._watch_lapse()
            return
        is_out = office is Office.OUT
        why = self._lost_for_good() if is_out else self._lapsed()
        if joined.bus.fenced is None and not is_out:
            log.critical("%s", why)
        joined.problems["seat"] = (LinkWord.FENCED if is_out else LinkWord.STALLED, why)
        joined.admission.fence(SeatLost(why))

    def _watch_lapse(self) -> None:
        lapses_ns = self.tenure.lapses_ns
        if lapses_ns is not None:
            loop = asyncio.get_running_loop()
            self._lapse_timer = loop.call_at(lapses_ns / NS_PER_S + 1e-6, self._judge)

    def _silence(self) -> None:
        if self._lapse_timer is not None:
            self._lapse_timer.cancel()
            self._lapse_timer = None

    def _lapsed(self) -> str:
        desk, lease_s = self._joined.desk, self._joined.link.lease_s
        if self.tenure.lapses_ns is None:
            return (
                f"desk {desk!r} is not held by this process yet, since the engine does not answer: it begins "
                "no call and accepts nothing durable until it does; see to the engine, or give lease_s = 0"
            )
        return (
            f"the seat of desk {desk!r} was not renewed for {lease_s:g} s (lease_s), so that another process "
            "may hold it: this one begins no call and accepts nothing durable until the engine answers; see "
            "to the engine; without a lease (lease_s = 0) a desk trades on"
        )

    def _lost_for_good(self) -> str:
        return (
            f"another process holds desk {self._joined.desk!r}: this one begins no call, accepts nothing "
            "durable, and must end"
        )


def _record_of(seat: Seat | None) -> Record | None:
    return None if seat is None else Record(seat.holder, seat.renewal, int(seat.lease_s * NS_PER_S))


def _taken(seen: Seat) -> str:
    held = f"desk {seen.desk!r} is held by {seen.holder} on {seen.host}"
    if not seen.lease_s:
        return (
            f"{held}, whose seat does not lapse (lease_s = 0): stop it there; if that host is gone for good, "
            f"`openoutcry firm drop {seen.desk}`. With a lease_s another host may take the desk over later"
        )
    return f"{held}, which renews its seat: stop that process first, or give this desk another name"


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=4).hexdigest()
