"""Who holds which desk, on JetStream: a record of each seat, and a claim in each log, whose place is a token.

To claim is four steps. (1) Read the last claim in both logs. (2) Write the record, if it has not changed
since it was seen: of two that try, one wins. (3) Write a claim into each log, if its last one is still what
was read. (4) Write the record with their places. Whoever stops in between and comes back finds one of the
later steps refused; a record without tokens is held by nobody who could append, and lapses like any other.
"""

from typing import Final

import msgspec
from msgspec.structs import replace

from openoutcry.errors import Fenced, LinkError, LogGone, Taken
from openoutcry.links.nats.jetstream import JetStream, Stored, WrongLast, expecting
from openoutcry.links.nats.subjects import Subjects, desk_of
from openoutcry.ports import LOGS, LogName, Seat

UNREADABLE: Final = "(unreadable)"
"""Holds a seat whose record cannot be read: a server can be made to write anything there."""

_read = msgspec.json.Decoder(Seat).decode
_write = msgspec.json.Encoder().encode


class Seating:
    """The seats of one firm."""

    def __init__(self, subjects: Subjects, jetstream: JetStream) -> None:
        self._subjects = subjects
        self._jetstream = jetstream

    async def all(self) -> list[Seat]:
        """Return every seat there is, by desk."""
        stream = self._subjects.seats_stream
        info = await self._jetstream.ask(f"STREAM.INFO.{stream}", {"subjects_filter": self._subjects.lease()})
        found = [
            await self.record(desk_of(subject)) for subject in sorted(info["state"].get("subjects") or ())
        ]
        return [seat for seat in found if seat is not None]

    async def record(self, desk: str) -> Seat | None:
        """Return the record of a seat; one that cannot be read is held by `UNREADABLE`."""
        stored = await self._jetstream.last(self._subjects.seats_stream, self._subjects.lease(desk))
        if stored is None:
            return None
        found = _seat(stored) or Seat(desk=desk, holder=UNREADABLE)
        return replace(found, desk=desk, renewal=stored.sequence)

    async def tokens(self, desk: str) -> dict[LogName, int]:
        """Return the place of the last claim of a desk in each log; 0 where there is none."""
        found: dict[LogName, int] = {}
        for log in LOGS:
            stored = await self._jetstream.last(self._subjects.stream(log), self._subjects.claims(log, desk))
            found[log] = stored.sequence if stored is not None else 0
        return found

    async def claim(self, seat: Seat, seen: Seat | None) -> Seat:
        """Take a seat. Raises `Taken`."""
        desk = seat.desk
        before = await self.tokens(desk)
        now = await self.record(desk)
        is_own = now is not None and now.holder == seat.holder
        if not is_own and _renewal(now) != _renewal(seen):
            raise Taken(
                f"desk {desk!r} is held by {now.holder if now else 'nobody'!r}: its record has changed"
            )
        first = await self._write(replace(seat, tokens={}), _renewal(now))
        tokens: dict[LogName, int] = {}
        for log in LOGS:
            token = await self._claim(log, seat, before[log])
            if now is not None and token == now.tokens.get(log):  # the log has forgotten its end
                token = await self._claim(log, seat, token)
            tokens[log] = token
        return await self._write(replace(seat, tokens=tokens), first.renewal)

    async def renew(self, seat: Seat) -> Seat:
        """Write the record of one's seat again. Raises `Fenced` if it is another's."""
        return await self._write_own(seat, seat)

    async def leave(self, seat: Seat) -> None:
        """Write that nobody holds the seat, if one's own record is still there."""
        try:
            await self._write_own(seat, replace(seat, holder=""))
        except Fenced:
            return

    async def drop(self, desk: str) -> None:
        """Forget a seat; a claim of nobody keeps out whoever still believes to hold it.

        The record goes first, since that needs an administrator's rights and harms nobody, and once more at
        the end: its holder may have written it again.
        """
        await self._jetstream.purge(self._subjects.seats_stream, self._subjects.lease(desk))
        before = await self.tokens(desk)
        for log in LOGS:
            if before[log]:
                await self._claim(log, Seat(desk=desk), before[log])
        await self._jetstream.purge(self._subjects.seats_stream, self._subjects.lease(desk))

    async def why_refused(self, log: LogName, desk: str, token: int) -> LinkError:
        """Return what it means that a log does not know a token as a desk's last claim."""
        stored = await self._jetstream.last(self._subjects.stream(log), self._subjects.claims(log, desk))
        last = _seat(stored) if stored is not None else None
        if stored is None or last is None:
            why = "it was made anew" if stored is None else "the last one is none of ours"
            return LogGone(f"log {log!r} has no claim of desk {desk!r}: {why}. Claim the desk again")
        holder = last.holder or "nobody: the desk was dropped"
        return Fenced(f"desk {desk!r} was claimed by {holder} at {stored.sequence}, and not at {token}")

    async def _claim(self, log: LogName, seat: Seat, last: int) -> int:
        try:
            return await self._jetstream.store(
                self._subjects.stream(log),
                self._subjects.claims(log, seat.desk),
                _write(replace(seat, tokens={}, renewal=0)),
                expecting(last),
            )
        except WrongLast:
            raise Taken(f"desk {seat.desk!r} was claimed at the same moment by another process") from None

    async def _write(self, seat: Seat, last: int) -> Seat:
        """Write the record of a seat, if its last one is `last`. Raises `Taken`."""
        try:
            renewal = await self._jetstream.store(
                self._subjects.seats_stream,
                self._subjects.lease(seat.desk),
                _write(replace(seat, renewal=0)),
                expecting(last),
            )
        except WrongLast:
            raise Taken(f"desk {seat.desk!r} was claimed at the same moment by another process") from None
        return replace(seat, renewal=renewal)

    async def _write_own(self, seat: Seat, new: Seat) -> Seat:
        """Write the record of a seat that is one's own, also if the answer to the last renewal was lost."""
        try:
            return await self._write(new, seat.renewal)
        except Taken:
            now = await self.record(seat.desk)
        if now is None or now.holder == UNREADABLE:
            is_own = await self._is_claimed_by_no_other(seat)
        else:
            is_own = now.holder == seat.holder and dict(now.tokens) == dict(seat.tokens)
        if not is_own:
            raise Fenced(f"desk {seat.desk!r} is held by {now.holder if now else 'another process'!r} now")
        try:
            return await self._write(new, _renewal(now))
        except Taken as problem:
            raise Fenced(str(problem)) from None

    async def _is_claimed_by_no_other(self, seat: Seat) -> bool:
        """Return True if the last claim that can be read is one's own in both logs, or there is none."""
        for log in LOGS:
            stored = await self._jetstream.last(
                self._subjects.stream(log), self._subjects.claims(log, seat.desk)
            )
            if stored is not None and stored.sequence != seat.tokens.get(log) and _seat(stored) is not None:
                return False
        return True


def _renewal(seat: Seat | None) -> int:
    return seat.renewal if seat is not None else 0


def _seat(stored: Stored) -> Seat | None:
    """Return what a message says of a seat; None if nobody could have written it who holds one."""
    try:
        return _read(stored.data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
