"""The seat of a desk: which process holds it."""

import logging
import os
import socket
from contextlib import suppress

from openoutcry.errors import LinkError, Unreachable
from openoutcry.events.sources import new_name
from openoutcry.ports import Seat
from openoutcry.runtime.linking.parts import Joined

log = logging.getLogger("openoutcry")


class Seats:
    """Claims this desk's seat, and gives it back."""

    def __init__(self, joined: Joined) -> None:
        self._joined = joined

    async def open(self) -> None:
        """Claim the desk."""
        joined, transport = self._joined, self._joined.transport
        seat = Seat(
            desk=joined.desk,
            holder=f"{os.getpid()}-{new_name()}",
            host=socket.gethostname(),
            journal=joined.store.origin,
            lease_s=joined.link.lease_s,
        )
        try:
            seen = next((one for one in await transport.seats() if one.desk == joined.desk), None)
            joined.seat = await transport.claim(seat, seen)
        except Unreachable as error:
            log.warning("the desk %s has not got its seat: %s", joined.desk, error)

    def begin(self) -> None:
        """Nothing is renewed."""

    async def end(self, timeout_s: float) -> None:
        """Give the seat back."""
        seat, self._joined.seat = self._joined.seat, None
        if seat is not None and timeout_s > 0:
            with suppress(LinkError):
                await self._joined.transport.leave(seat)
