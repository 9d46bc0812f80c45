"""Beats: a desk's signs of life, four a second.

A beat says who this is, which kill switches are active here, how far this desk has imported what others
export, and how its link stands. It goes over the urgent connections, with or without the logs.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from openoutcry.core.link_words import worst
from openoutcry.errors import Garbled, LinkError
from openoutcry.events.registry import known_classes
from openoutcry.links.wire import ActiveHalt, Beat, read_message, write_message
from openoutcry.runtime.admission.access import KILL_SWITCH
from openoutcry.runtime.admission.kill_switches import OWN_AGENT
from openoutcry.runtime.linking.other_desks import OtherDesks
from openoutcry.runtime.linking.parts import Joined
from openoutcry.version import __version__

log = logging.getLogger("openoutcry")

EVERY_S: Final = 0.25
"""How often a desk gives a sign of life."""
HALTS_MOST: Final = 256
"""So many active kill switches a beat names. The log has all of them."""
CLASSES_EVERY: Final = 20
"""Every how manieth beat says which event classes there are."""
HELLO_S: Final = 0.6
"""How long a desk that starts listens for those that are held, to hear which kill switches are active."""


class Beats:
    """Sends the beats of one desk, and hears those of the others."""

    def __init__(
        self,
        joined: Joined,
        others: OtherDesks,
        look: Callable[[], None],
        catch_up: Callable[[], Awaitable[None]],
    ) -> None:
        """Make them.

        `look` is called with each beat that is sent, or would be; `catch_up` when the first ones of the
        others were heard, before the bus hands out anything.
        """
        self._joined = joined
        self._others = others
        self._look = look
        self._catch_up = catch_up
        self._number = 0
        self._garbled_count = 0

    async def open(self) -> None:
        """Listen, and hear of the kill switches that are active elsewhere."""
        joined, others = self._joined, self._others
        self._number = 0
        others.forget()
        await joined.transport.listen("beat", self._heard, urgent=True)
        if joined.facts is not None:
            try:
                others.note_seats(await joined.transport.seats(), joined.desk, joined.now_ns())
            except LinkError:
                return
            await others.wait_heard(HELLO_S)
            await self._catch_up()

    def begin(self) -> None:
        """Send beats from now on."""
        self._joined.run("beats", self._send)

    async def end(self, timeout_s: float) -> None:
        """Say that this desk leaves."""
        if self._number and timeout_s > 0 and not self._joined.is_out:
            await self._joined.transport.broadcast("beat", self._beat(is_leaving=True), urgent=True)

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            self._look()
            if not self._joined.is_out:
                await self._send_one()
            due_s = max(due_s + EVERY_S, loop.time())
            await asyncio.sleep(due_s - loop.time())

    async def _send_one(self) -> None:
        """Send a beat. That nobody hears it is for the others to notice, and for `look`."""
        with suppress(LinkError, TimeoutError):
            async with asyncio.timeout(EVERY_S):
                await self._joined.transport.broadcast("beat", self._beat(), urgent=True)

    def _beat(self, *, is_leaving: bool = False) -> bytes:
        joined, store = self._joined, self._joined.store
        self._number += 1
        word = worst(word for word, _ in joined.problems.values())
        why = next((text for one, text in joined.problems.values() if one is word), "")
        return write_message(
            Beat(
                holder="" if joined.seat is None else joined.seat.holder,
                number=self._number,
                journal=store.origin,
                heads=dict(joined.exported),
                halts=self._halts(),
                imported=tuple(joined.imported.values()),
                word=word,
                why=why,
                version=__version__,
                classes=_versions() if self._number % CLASSES_EVERY == 1 else None,
                wall_ns=joined.bus.clock.wall_ns(),
                imports=tuple(sorted(joined.link.imports)),
                is_leaving=is_leaving,
            )
        )

    def _halts(self) -> tuple[ActiveHalt, ...]:
        """Return what is active here, but for what concerns this desk alone."""
        if KILL_SWITCH in self._joined.link.keep:
            return ()
        return tuple(
            ActiveHalt(halt.scope, halt.event_id, halt.by, halt.reason)
            for halt in self._joined.bus.halts.some(HALTS_MOST)
            if halt.event_id and halt.by != OWN_AGENT
        )

    def _heard(self, desk: str, data: bytes) -> None:
        try:
            beat = read_message(Beat, data)
        except Garbled as error:
            self._garbled_count += 1
            if self._garbled_count == 1:
                log.warning("a beat of desk %s cannot be read: %s", desk, error)
            return
        joined = self._joined
        self._others.hear(desk, beat, joined.desk, joined.now_ns(), joined.bus.clock.wall_ns())


def _versions() -> dict[str, int]:
    """Return the version of every registered event class, by its name."""
    return {known.name: known.version for known in known_classes()}
