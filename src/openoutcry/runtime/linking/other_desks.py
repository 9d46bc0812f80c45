"""The other desks of the firm, as they were last heard."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from openoutcry.config.link import EVERY_TYPE
from openoutcry.links.wire import Beat, Imported
from openoutcry.ports import LogName, Seat

DROPPED_NS: Final = 5_000_000_000
"""How long a desk without a seat must have been silent to be forgotten."""
OnBeat = Callable[[str, Beat], None]


class OtherDesk:
    """Another desk.

    Attributes:
        name: Its name.
        seat: Its seat, as last asked; None if that was never seen.
        beat: Its last beat; None before the first.
        has_of_ours: How far that says it has come with what this desk exports, by log.
        heard_ns: When that came, on the loop's clock; 0 before the first.
        ahead_ns: How far its wall clock was ahead of this one's then.
        classes: Its event classes and the version of each, as it last said.

    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.seat: Seat | None = None
        self.beat: Beat | None = None
        self.has_of_ours: dict[LogName, Imported] = {}
        self.heard_ns: int = 0
        self.ahead_ns: int = 0
        self.classes: dict[str, int] = {}

    @property
    def is_expected(self) -> bool:
        """Whether it should be heard: it was, or somebody holds it; and it has not said that it leaves."""
        if self.beat is not None:
            return not self.beat.is_leaving
        return self.seat is not None and bool(self.seat.holder)


class OtherDesks:
    """The other desks of one firm.

    Attributes:
        desks: The desks by name.
        newest_ns: When any of them was heard last, on the loop's clock; 0: never.

    """

    def __init__(self) -> None:
        self.desks: dict[str, OtherDesk] = {}
        self.newest_ns: int = 0
        self._on_beat: list[OnBeat] = []
        self._news = asyncio.Event()

    def forget(self) -> None:
        """The link opens: what was heard in an earlier session does not count."""
        self.desks.clear()
        self.newest_ns = 0
        self._news = asyncio.Event()

    def on_beat(self, call: OnBeat) -> None:
        """Call this with each beat that comes, and the desk that it comes from."""
        self._on_beat.append(call)

    def note_seats(self, seats: Iterable[Seat], own: str, now_ns: int) -> None:
        """Note who holds which desk. One that has no seat any more, and is not heard, was dropped."""
        for desk in self.desks.values():
            desk.seat = None  # it may have been dropped
        by_desk = {seat.desk: seat for seat in seats if seat.desk != own}
        for name, seat in by_desk.items():
            self._desk(name).seat = seat
        for name in self.desks.keys() - by_desk.keys():
            if now_ns - self.desks[name].heard_ns > DROPPED_NS:
                del self.desks[name]

    def hear(self, name: str, beat: Beat, own: str, now_ns: int, wall_ns: int) -> None:
        """A beat has come to the desk `own`."""
        desk = self._desk(name)
        desk.beat, desk.heard_ns = beat, now_ns
        desk.has_of_ours = {said.log: said for said in beat.imported if said.desk == own}
        desk.ahead_ns = beat.wall_ns - wall_ns
        if beat.classes is not None:
            desk.classes = beat.classes
        self.newest_ns = now_ns
        self._news.set()
        for call in self._on_beat:
            call(name, beat)

    def _desk(self, name: str) -> OtherDesk:
        desk = self.desks.get(name)
        if desk is None:
            desk = self.desks[name] = OtherDesk(name)
        return desk

    async def wait_heard(self, timeout_s: float) -> None:
        """Wait until every desk that is expected was heard, or the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                while any(desk.is_expected and desk.beat is None for desk in self.desks.values()):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return

    @property
    def expects_any(self) -> bool:
        """Whether some desk should be heard."""
        return any(desk.is_expected for desk in self.desks.values())

    def imports(self, event_type: str) -> bool:
        """Return True if some desk that is there takes events of this type."""
        return any(
            desk.beat is not None
            and not desk.beat.is_leaving
            and (event_type in desk.beat.imports or EVERY_TYPE in desk.beat.imports)
            for desk in self.desks.values()
        )
