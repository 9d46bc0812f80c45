"""The hub: one connection to the firm, whatever the number of tabs, and what every open tab is told.

A tab has a queue of `QUEUE_MAX` messages. Whoever does not read them in time is given what is true now
instead, so that a slow reader costs nothing and sees nothing old.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from openoutcry.dashboard.refusals import Refused
from openoutcry.observers.pulse import Pulse, RoundRow, RoundsSeen, Shape
from openoutcry.observers.reading import rates, wrong
from openoutcry.ports import Clock
from openoutcry.runtime.control.watcher import EVERY_S, Watcher
from openoutcry.units import NS_PER_MS, NS_PER_S

TABS_MAX: Final = 32
ALONE_S: Final = 2.0
"""While no tab is open the firm is asked so often."""
QUEUE_MAX: Final = 8
BEAT_S: Final = 1.0
"""So often a tab hears of the hub, however little happens."""
SEND_S: Final = 20.0
"""A tab that does not read for so long is disconnected."""
ROUNDS_KEPT: Final = 200
ROUNDS_S: Final = 0.5
"""The rounds are waited for so long, and asked for again with the next pulse."""
EDGES_MAX: Final = 2_000
RATES_NS: Final = 1_500 * NS_PER_MS
"""Rates are those of so long."""
WRONG_NS: Final = 5 * NS_PER_S
"""What is wrong is seen from what has changed in so long."""
Tail = Callable[[], Awaitable[dict[str, Any] | None]]
"""Returns the newest events that were not returned before, or None if there are none."""


def plain(found: object) -> Any:
    """Return data with a name for every field, that of arrays without names included."""
    if isinstance(found, msgspec.Struct):
        return {name: plain(getattr(found, name)) for name in found.__struct_fields__}
    if isinstance(found, list | tuple):
        return [plain(each) for each in found]
    if isinstance(found, dict):
        return {name: plain(each) for name, each in found.items()}
    return found


class Tab:
    """One open tab: what it has not been sent yet.

    Attributes:
        wants_tail: Whether it shows the newest events as they come.
        is_closed: Whether it is to end.

    """

    def __init__(self, until_ns: int, *, wants_tail: bool) -> None:
        self.until_ns = until_ns
        self.wants_tail = wants_tail
        self.is_closed = False
        self._messages: deque[bytes] = deque()
        self._news = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """Whether it has not read what it was given."""
        return len(self._messages) >= QUEUE_MAX

    def put(self, message: bytes) -> None:
        """Queue a message."""
        self._messages.append(message)
        self._news.set()

    def begin_anew(self, messages: list[bytes]) -> None:
        """Forget what was queued, and queue what is true now."""
        self._messages = deque(messages)
        self._news.set()

    async def next(self) -> bytes | None:
        """Wait for what is queued, and return it; None at the end. Cancelling loses nothing."""
        while not self.is_closed:
            if self._messages:
                found = b"".join(self._messages)
                self._messages.clear()
                return found
            self._news.clear()
            await self._news.wait()
        return None

    def close(self) -> None:
        """End it."""
        self.is_closed = True
        self._news.set()


class Hub:
    """What is known of the firm now, and the tabs that are told of it.

    Attributes:
        watcher: What polls the firm.

    """

    def __init__(self, watcher: Watcher, clock: Clock, tail: Tail | None) -> None:
        self.watcher = watcher
        watcher.ask_every(ALONE_S)
        self._clock = clock
        self._tail = tail
        self._tabs: set[Tab] = set()
        self._number = 0
        self._is_stopped = False
        self._shape: Shape | None = None
        self._pulse: Pulse | None = None
        self._past: deque[Pulse] = deque()
        self._said_live = ""
        self._edges: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._rounds: deque[tuple[int, RoundRow]] = deque(maxlen=ROUNDS_KEPT)
        self._rounds_seen: RoundsSeen | None = None
        self._newest_round = 0

    async def run(self) -> None:
        """Tell every tab what the watcher sees, until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell_all())
            if self._tail is not None:
                group.create_task(self._tell_tail(self._tail))

    async def _tell_all(self) -> None:
        async for _ in self._beats():
            await self._tell_changes()
            self._end_old_tabs()

    async def _tell_tail(self, tail: Tail) -> None:
        """Tell of the newest events: beside the rest, as the journal may be searched for long."""
        async for _ in self._beats():
            if any(tab.wants_tail for tab in self._tabs):
                with suppress(Refused):  # which whoever asks for events is told
                    if (events := await tail()) is not None:
                        self._tell("events", events, tail=True)

    async def _beats(self) -> AsyncIterator[None]:
        seen = 0
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S):
                    seen = await self.watcher.changed(seen)
            yield

    def stop(self) -> None:
        """End the streams of all tabs, and open no more."""
        self._is_stopped = True
        for tab in self._tabs:
            tab.close()

    @property
    def rounds(self) -> list[RoundRow]:
        """The rounds that were seen being released in this life of the firm, oldest first."""
        return [row for _, row in self._rounds]

    def types_of(self, source: str) -> list[str]:
        """Return the types of the events that an agent was seen to publish."""
        return sorted(kind for name, kind in self._edges if name == source)

    @contextmanager
    def tab(self, until_ns: int, last_id: str, *, wants_tail: bool) -> Iterator[Tab]:
        """Open a tab. It begins with what is true now, and with the rounds released since `last_id`.

        Refused with 503 where there are `TABS_MAX` of them.
        """
        if self._is_stopped:
            raise Refused(503, "this page is being stopped")
        if len(self._tabs) >= TABS_MAX:
            raise Refused(503, f"{TABS_MAX} tabs are open, and no more are served: close one")
        tab = Tab(until_ns, wants_tail=wants_tail)
        tab.begin_anew(self._now(int(last_id) if last_id.isascii() and last_id.isdigit() else 0))
        self._tabs.add(tab)
        self.watcher.ask_every(EVERY_S)
        try:
            yield tab
        finally:
            self._tabs.discard(tab)
            if not self._tabs:
                self.watcher.ask_every(ALONE_S)

    # -- what is told -------------------------------------------------------------------------------

    async def _tell_changes(self) -> None:
        watcher = self.watcher
        live = f"{watcher.live} {watcher.why}"
        has_pulse = watcher.live == "up" and watcher.pulse is not self._pulse
        if live != self._said_live or not has_pulse:
            self._said_live = live
            self._tell("state", self._state())
        if watcher.shape is not self._shape:
            self._take_shape(watcher.shape)
            self._tell("shape", self._shape_said())
        if has_pulse and watcher.pulse is not None:
            self._take_pulse(watcher.pulse)
            if self._tabs:
                self._tell("pulse", self._pulse_said())
            await self._tell_rounds(watcher.pulse)

    def _tell(self, event: str, data: object, *, tail: bool = False) -> None:
        self._number += 1
        if not self._tabs:
            return
        message = self._message(event, data)
        now: list[bytes] | None = None
        for tab in self._tabs:
            if tail and not tab.wants_tail:
                continue
            if tab.is_full:
                now = now if now is not None else self._now()
                tab.begin_anew(now)
            else:
                tab.put(message)

    def _message(self, event: str, data: object) -> bytes:
        return b"id: %d\nevent: %b\ndata: %b\n\n" % (self._number, event.encode(), msgspec.json.encode(data))

    def _now(self, since: int = 0) -> list[bytes]:
        """Return the messages that say what is true now."""
        found = [self._message("state", self._state())]
        if self._shape is not None:
            found.append(self._message("shape", self._shape_said()))
        if self._pulse is not None:
            found.append(self._message("pulse", self._pulse_said()))
        if self._rounds_seen is not None:
            rows = [row for number, row in self._rounds if number > since]
            found.append(self._message("rounds", self._rounds_said(rows)))
        return found

    def _end_old_tabs(self) -> None:
        now_ns = self._clock.now_ns()
        for tab in self._tabs:
            if now_ns >= tab.until_ns:
                tab.close()

    # -- the parts ----------------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        watcher = self.watcher
        return {
            "live": watcher.live,
            "since_ns": watcher.since_ns,
            "why": watcher.why,
            "lives": watcher.lives,
            "wall_ns": self._clock.wall_ns(),
        }

    def _take_shape(self, shape: Shape | None) -> None:
        if shape is None or self._shape is None or shape.session != self._shape.session:
            self._edges.clear()
            self._rounds.clear()
            self._rounds_seen, self._newest_round = None, 0
        self._shape = shape

    def _shape_said(self) -> dict[str, Any]:
        return {**plain(self._shape), "edges": list(self._edges)}

    def _take_pulse(self, pulse: Pulse) -> None:
        if self._past and self._past[-1].session != pulse.session:
            self._past.clear()
        self._pulse = pulse
        self._past.append(pulse)
        while pulse.now_ns - self._past[0].now_ns > 2 * WRONG_NS:
            self._past.popleft()
        for flow in pulse.flows:
            self._edges[flow.source, flow.type] = None
        while len(self._edges) > EDGES_MAX:
            self._edges.popitem(last=False)

    def _pulse_said(self) -> dict[str, Any]:
        shape, pulse = self._shape, self._pulse
        assert shape is not None
        assert pulse is not None
        names = [subscription.name for subscription in shape.subscriptions]
        said: dict[str, Any] = plain(pulse)
        said["rows"] = {names[row["index"]]: row for row in said["rows"] if row["index"] < len(names)}
        said["per_s"] = plain(rates(self._pulse_before(RATES_NS), pulse, shape))
        said["wrong"] = plain(wrong(shape, pulse, self._pulse_before(WRONG_NS)))
        return said

    def _pulse_before(self, by_ns: int) -> Pulse | None:
        """Return the newest pulse of this life that is so much older than the last one, or the oldest."""
        now_ns = self._past[-1].now_ns
        older = (pulse for pulse in reversed(self._past) if now_ns - pulse.now_ns >= by_ns)
        return next(older, self._past[0] if len(self._past) > 1 else None)

    async def _tell_rounds(self, pulse: Pulse) -> None:
        """Ask for the rounds where there are new or open ones, and tell of them."""
        if not self._tabs:
            return
        seen = self._rounds_seen
        is_quiet = seen is not None and not pulse.rounds_open and not seen.open_count
        if is_quiet and pulse.rounds_number == self._newest_round:
            return
        with suppress(ConnectionError):
            since = max(self._newest_round, pulse.rounds_number - ROUNDS_KEPT)
            found = await self.watcher.rounds(since, within_s=ROUNDS_S)
            if found.session != pulse.session:
                return
            self._rounds_seen = found
            self._newest_round = found.released[-1].number if found.released else found.newest
            self._rounds.extend((self._number + 1, row) for row in found.released)
            self._tell("rounds", self._rounds_said(found.released))

    def _rounds_said(self, released: list[RoundRow]) -> dict[str, Any]:
        assert self._rounds_seen is not None
        return {
            "open": plain(self._rounds_seen.open),
            "open_count": self._rounds_seen.open_count,
            "released": plain(released),
        }


class Stream(Response):
    """What a tab is sent: server-sent events, until it goes, is too slow, or the page stops."""

    def __init__(self, hub: Hub, until_ns: int, last_id: str, *, wants_tail: bool) -> None:
        super().__init__(media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._hub = hub
        self._until_ns = until_ns
        self._last_id = last_id
        self._wants_tail = wants_tail

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send what the tab is told."""
        with self._hub.tab(self._until_ns, self._last_id, wants_tail=self._wants_tail) as tab:
            start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(start)
            async with _closing_when_gone(receive, tab):
                with suppress(TimeoutError):
                    while (message := await tab.next()) is not None:
                        await _send_in_time(send, message, is_last=False)
                    await _send_in_time(send, b"", is_last=True)


async def _send_in_time(send: Send, body: bytes, *, is_last: bool) -> None:
    async with asyncio.timeout(SEND_S):
        await send({"type": "http.response.body", "body": body, "more_body": not is_last})


@asynccontextmanager
async def _closing_when_gone(receive: Receive, tab: Tab) -> AsyncIterator[None]:
    """Close a tab as soon as its client is gone."""

    async def wait() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        tab.close()

    waiting = asyncio.create_task(wait())
    try:
        yield
    finally:
        waiting.cancel()
        await asyncio.wait({waiting})
