"""Ticks across desks: market data that no journal takes, of which the newest counts.

```
  delivered here ─▶ noted, if some desk takes its type ─▶ one message a turn of the loop ─▶ the topic `md`
  heard there ─▶ the newest by symbol and round ─▶ admitted once a turn of the loop
```

Nobody waits for a tick, on either side. While one message is on its way the next one fills, and when too much
waits the newest by symbol go. The ticks of a desk are numbered, so that the receiver counts what never came.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final

import msgspec

from openoutcry.config.link import EVERY_TYPE
from openoutcry.core.pressure import Wait
from openoutcry.errors import BusClosed, Garbled, InvalidEvent, LinkError, OpenOutcryError
from openoutcry.events import Event, decode, encode, event_type_of, fixed_event_type
from openoutcry.links.wire import Beat, Ticks, read_message, write_message
from openoutcry.logs import about
from openoutcry.ports import Header, Level
from openoutcry.runtime.delivery.causation import Cause
from openoutcry.runtime.linking.other_desks import OtherDesks
from openoutcry.runtime.linking.parts import Joined

log = logging.getLogger("openoutcry")

WAITING_MOST: Final = 4_096
"""So many ticks wait to be sent, or to be admitted. Beyond that the newest by symbol stay."""
MESSAGE_TICKS: Final = 256
MESSAGE_BYTES: Final = 256 * 1024
"""The most ticks of a message, and how large it may become before the next one begins."""
SLICE: Final = 64
"""So many ticks are admitted in one turn of the loop."""
AGAIN_S: Final = 0.05
"""How soon ticks that found no room are offered again, if nothing newer has come."""

Key = tuple[object, ...]


class TickSender:
    """Sends the ticks of one desk.

    Attributes:
        sent: How many were sent.
        let_go: How many were not, since newer ones of their symbols came before it was their turn.

    """

    def __init__(self, joined: Joined, others: OtherDesks) -> None:
        self._joined = joined
        self._others = others
        self._wanted: frozenset[str] = frozenset()
        self._by_class: dict[type, bool | None] = {}
        self._waiting: list[Any] = []
        self._is_sending = False
        self._foreign: set[str] = set()
        self._imports: dict[str, tuple[str, ...]] = {}
        self.sent: int = 0
        self.let_go: int = 0
        others.on_beat(self._beat)

    async def open(self) -> None:
        """Begin with nothing."""
        self._waiting.clear()
        self._foreign.clear()
        self._imports.clear()
        self._is_sending = False
        self.sent = self.let_go = 0

    def begin(self) -> None:
        """See what is delivered from memory, if some desk takes market data."""
        self._look_who_wants()

    async def end(self, timeout_s: float) -> None:  # noqa: ARG002 - a part's
        """See nothing any more."""
        self._joined.admission.dispatcher.tap(None)

    # -- who takes what -----------------------------------------------------------------------------

    def _beat(self, desk: str, beat: Beat) -> None:
        if self._joined.bus.running:
            self._look_who_wants()
            if self._imports.get(desk) != beat.imports:
                self._imports[desk] = beat.imports
                self._tell_left_out(desk, beat.imports)

    def _is_given(self, name: str) -> bool:
        """Return True if others may have events of a type, and no journal takes them here."""
        link = self._joined.link
        is_given = (name in link.exports or EVERY_TYPE in link.exports) and name not in link.keep
        return is_given and self._joined.store.level_of(name) is Level.MEMORY

    def _tell_left_out(self, desk: str, imports: Iterable[str]) -> None:
        """Say which types that another desk takes are not journaled here, and are no ticks either."""
        ticks = self._joined.bus.pressure.config.shed_first
        found = sorted(name for name in imports if name not in ticks and self._is_given(name))
        if found:
            log.warning(
                "desk %s imports %s, which this desk keeps at the level 'memory': what is not journaled here "
                "reaches no other desk; give another level (levels), or let that desk not import it",
                desk,
                ", ".join(map(repr, found)),
            )

    def _look_who_wants(self) -> None:
        """Find which types are sent: market data that some desk takes, and this one gives."""
        wanted = frozenset(
            str(name)
            for name in self._joined.bus.pressure.config.shed_first
            if self._others.imports(str(name)) and self._is_given(str(name))
        )
        if wanted != self._wanted:
            self._wanted = wanted
            self._by_class.clear()
        if not wanted:
            self._foreign.clear()
        self._joined.admission.dispatcher.tap(self._delivered if wanted else None)

    def _is_wanted(self, event: Any) -> bool:
        cls = event.__class__
        known = self._by_class.get(cls, ...)
        if known is ...:
            fixed = fixed_event_type(cls)
            known = self._by_class[cls] = None if fixed is None else str(fixed) in self._wanted
        return str(event_type_of(event)) in self._wanted if known is None else bool(known)

    # -- sending ------------------------------------------------------------------------------------

    def came_from_elsewhere(self, event_id: str) -> None:
        """A tick of another desk is about to be admitted: it is not sent on."""
        if self._wanted:  # else nothing is sent, and nobody looks
            self._foreign.add(event_id)

    def was_refused(self, event_id: str) -> None:
        """It was not admitted."""
        self._foreign.discard(event_id)

    def _delivered(self, events: list[Any], _lane: str) -> None:
        """Events that live in memory alone were delivered."""
        foreign, is_wanted = self._foreign, self._is_wanted
        if self._joined.is_out:
            return
        if foreign:
            found = []
            for event in events:
                if event.event_id in foreign:
                    foreign.discard(event.event_id)
                elif is_wanted(event):
                    found.append(event)
        else:
            found = [event for event in events if is_wanted(event)]
        if not found:
            return
        self._waiting += found
        if len(self._waiting) > WAITING_MOST:
            self._keep_newest()
        if not self._is_sending:
            self._is_sending = True
            self._joined.spawn("ticks", self._send())

    def _keep_newest(self) -> None:
        before = len(self._waiting)
        newest: dict[Key, Any] = {}
        for event in self._waiting:
            key = _key(event)
            newest.pop(key, None)
            newest[key] = event
        self._waiting = list(newest.values())[-WAITING_MOST // 2 :]
        self.let_go += before - len(self._waiting)

    async def _send(self) -> None:
        """Send what waits, message by message, until nothing does."""
        try:
            while self._waiting:
                message = self._next_message()
                if message is not None:
                    await self._joined.transport.broadcast("md", message)
                await asyncio.sleep(0)
        except LinkError as error:
            self.let_go += len(self._waiting)
            self._waiting.clear()
            log.debug("ticks were not sent: %s", error)
        finally:
            self._is_sending = False

    def _next_message(self) -> bytes | None:
        """Return the next ticks as a message; None if none of them can be written."""
        raws: list[msgspec.Raw] = []
        headers: list[Header | None] = []
        size = count = 0
        has_header = False
        for event in self._waiting[:MESSAGE_TICKS]:
            if size >= MESSAGE_BYTES:
                break
            count += 1
            try:
                raw = encode(event)
            except InvalidEvent as error:
                log.warning(
                    "the tick %s is sent to no other desk: %s", event.event_id, error, extra=about(event)
                )
                continue
            header = None if isinstance(event, Event) else self._joined.store.header_of(event)
            has_header = has_header or header is not None
            raws.append(msgspec.Raw(raw))
            headers.append(header)
            size += len(raw)
        del self._waiting[:count]
        if not raws:
            return None
        message = Ticks(number=self.sent, events=raws, headers=headers if has_header else [])
        self.sent += len(raws)
        return write_message(message)


class FromDesk:
    """The ticks of one desk, as they came.

    Attributes:
        came: How many came.
        conflated: How many a newer one replaced before the bus saw them.
        lost: How many never came.
        next_number: How many that desk had sent with the last message.

    """

    __slots__ = ("came", "conflated", "lost", "next_number")

    def __init__(self) -> None:
        self.came: int = 0
        self.conflated: int = 0
        self.lost: int = 0
        self.next_number: int | None = None


class TickReceiver:
    """Admits the ticks of other desks.

    Attributes:
        desks: What came from each.

    """

    def __init__(self, joined: Joined, sender: TickSender) -> None:
        self._joined = joined
        self._sender = sender
        self._newest: dict[Key, tuple[FromDesk, bytes, Header | None]] = {}
        self._is_scheduled = False
        self._unread: set[str] = set()
        self.desks: dict[str, FromDesk] = {}

    async def open(self) -> None:
        """Listen."""
        self._newest.clear()
        self._is_scheduled = False
        self.desks.clear()
        await self._joined.transport.listen("md", self._heard)

    def begin(self) -> None:
        """What is heard is admitted from now on."""

    async def end(self, timeout_s: float) -> None:  # noqa: ARG002 - a part's
        """Let go of what waits."""
        self._newest.clear()

    def _heard(self, desk: str, data: bytes) -> None:
        if not self._joined.bus.running:
            return
        try:
            ticks = read_message(Ticks, data)
        except Garbled as error:
            self._tell_once(f"ticks of desk {desk} cannot be read: {error}")
            return
        its = self.desks.get(desk)
        if its is None:
            its = self.desks[desk] = FromDesk()
        self._count(its, ticks)
        headers = ticks.headers
        for index, raw in enumerate(ticks.events):
            self._note(its, bytes(raw), headers[index] if index < len(headers) else None)
        if self._newest and not self._is_scheduled:
            self._schedule(0)

    def _count(self, its: FromDesk, ticks: Ticks) -> None:
        """Count what came, and what did not: of a desk that began anew, from its first one."""
        if its.next_number is not None:
            began_anew = ticks.number < its.next_number
            its.lost += ticks.number if began_anew else ticks.number - its.next_number
        its.next_number = ticks.number + len(ticks.events)
        its.came += len(ticks.events)

    def _note(self, its: FromDesk, payload: bytes, header: Header | None) -> None:
        key = _key_of(payload, header)
        if key is None or not self._is_taken(str(key[0])):
            return
        old = self._newest.pop(key, None)
        if old is not None:
            old[0].conflated += 1
        elif len(self._newest) >= WAITING_MOST:
            oldest = next(iter(self._newest))
            self._newest.pop(oldest)[0].conflated += 1
        self._newest[key] = (its, payload, header)

    def _is_taken(self, event_type: str) -> bool:
        imports = self._joined.link.imports
        return event_type in imports or EVERY_TYPE in imports

    def _schedule(self, delay_s: float) -> None:
        loop = self._joined.bus.loop
        if loop is not None:
            self._is_scheduled = True
            loop.call_later(delay_s, self._admit_some) if delay_s else loop.call_soon(self._admit_some)

    def _admit_some(self) -> None:
        """Admit the newest of some symbols, and of the next ones in the next turn of the loop.

        For those that find no room it is tried again a little later, unless newer ones come.
        """
        self._is_scheduled = False
        waiting: dict[str, Key] = {}
        events = []
        for key in list(islice(self._newest, SLICE)):
            _, payload, header = self._newest[key]
            event = self._read(key, payload, header)
            if event is None:
                del self._newest[key]
            else:
                waiting[event.event_id] = key
                events.append(event)
        try:
            left = self._admit(events)
        except BusClosed:
            self._newest.clear()
            return
        refused = {event.event_id for event in left}
        for event_id, key in waiting.items():
            if event_id not in refused:
                del self._newest[key]
        if self._newest:
            self._schedule(AGAIN_S if refused else 0)

    def _read(self, key: Key, payload: bytes, header: Header | None) -> Any:
        """Return a tick; None if it cannot be read, or is here already."""
        bus = self._joined.bus
        try:
            event = decode(payload)
        except OpenOutcryError as error:
            self._tell_once(f"a tick of type {key[0]} cannot be read: {error}")
            return None
        if event.event_id in bus.seen:
            return None
        if header is not None and not isinstance(event, Event):
            cause = Cause(header.causation_id or "", header.correlation_id or "", header.round_id, 0)
            bus.envelopes.put(event.event_id, cause)
        return event

    def _admit(self, events: list[Any]) -> list[Any]:
        """Admit ticks at `memory`; return those that find no room. Raises `BusClosed`."""
        for event in events:
            self._sender.came_from_elsewhere(event.event_id)
        admission = self._joined.admission
        if (
            events
            and admission.level_of(events[0]) is Level.MEMORY
            and admission.fast_path.admit_many(events)
        ):
            return []
        left, done = [], set()
        try:
            for event in events:
                try:
                    verdict = admission.admit_one(event, level="memory")
                except BusClosed:
                    raise
                except OpenOutcryError as error:
                    self._tell_once(f"a tick of type {event_type_of(event)} is not admitted: {error}")
                    continue
                if verdict is False or isinstance(verdict, Wait):
                    left.append(event)
                else:
                    done.add(event.event_id)
        finally:
            for event in events:
                if event.event_id not in done:
                    self._sender.was_refused(event.event_id)
        return left

    def _tell_once(self, text: str) -> None:
        if text not in self._unread and len(self._unread) < 64:
            self._unread.add(text)
            log.warning("%s", text)


class _Head(msgspec.Struct, frozen=True, gc=False):
    event_id: object = None
    event_type: object = None
    symbol: object = None
    round_id: object = None


_read_head: Final[Callable[[bytes], _Head]] = msgspec.json.Decoder(_Head).decode


def _key(event: Any) -> Key:
    """Return what a newer tick has in common with the one that it replaces."""
    symbol = getattr(event, "symbol", None)
    round_id = getattr(event, "round_id", None)
    return (str(event_type_of(event)), symbol if isinstance(symbol, str) else event.event_id, round_id)


def _key_of(payload: bytes, header: Header | None) -> Key | None:
    """Return the same of a tick's JSON; None if it has none."""
    try:
        head = _read_head(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    beside = header or Header()
    event_type = beside.event_type or head.event_type
    symbol = beside.symbol or head.symbol
    if not isinstance(symbol, str):
        symbol = beside.event_id or head.event_id
    round_id = beside.round_id or head.round_id
    if not (isinstance(event_type, str) and isinstance(symbol, str)):
        return None
    return (event_type, symbol, round_id if isinstance(round_id, str) else None)
