"""Kill switches across desks: at once to everybody who can be reached, and again to whoever missed it.

```
  published here ─▶ handled here ─▶ shouted on every node ─▶ handled there, and written
                               └─▶ an entry of the log `high`, which is the memory
  missed there   ◀─ the ids that are active, in every beat; who lacks one asks, and it is shouted again
```

All three bring the same event with the same id, which is delivered once. Activations come on the topic
`kill`, releases on `release`, so that the engine can say which desks may release.
"""

import asyncio
import json
import logging
from collections import OrderedDict
from contextlib import aclosing
from functools import partial
from typing import Any, Final, cast

import msgspec
from msgspec.structs import replace

from openoutcry.core.halts import Halt, halt_of, ids_of, is_release
from openoutcry.errors import Garbled, InvalidEvent, JournalError, LinkError, OpenOutcryError
from openoutcry.events import decode, encode
from openoutcry.links.wire import ActiveHalt, Ask, Beat, Kill, read_message, write_message
from openoutcry.logs import about
from openoutcry.ports import Entry, Header, Level, Place, Snapshot
from openoutcry.runtime.admission.access import KILL_SWITCH, is_kill_switch
from openoutcry.runtime.admission.kill_switches import OWN_AGENT
from openoutcry.runtime.durability.commit import Commit
from openoutcry.runtime.linking.other_desks import OtherDesks
from openoutcry.runtime.linking.parts import Joined
from openoutcry.runtime.linking.rows import read_reached
from openoutcry.trading import KillSwitchEvent

log = logging.getLogger("openoutcry")

RECENT_MOST: Final = 1_000
"""So many are remembered as they were shouted, for who asks. Others are read in the journal."""
ASK_AGAIN_S: Final = 0.2
"""How soon the same one is asked for again."""
FORGET_NS: Final = 60_000_000_000
"""After this time nobody waits for an answer any more."""
CAUGHT_UP_S: Final = 2.0
"""How long a desk that starts reads kill switches in the logs, and waits for those that it has asked for."""
CROSSINGS: Final = "(link:released)"
"""Under which name the journal keeps what was released before it came, and what is over."""


class KillSwitchLink:
    """Sends and takes the kill switches of one desk."""

    def __init__(self, joined: Joined, others: OtherDesks) -> None:
        self._joined = joined
        self._switches = joined.admission.kill_switches
        self._recent: OrderedDict[str, Kill] = OrderedDict()
        self._asked_ns: dict[str, int] = {}
        self._known: set[str] = set()
        self._saved_version = 0
        self._is_open = False
        self._came = asyncio.Event()
        self._others = others
        self._switches.join_desks(self._published, self._save_at_once)
        others.on_beat(self._beat)

    # -- life ---------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Listen. The beats that come next say what is active elsewhere."""
        transport = self._joined.transport
        self._asked_ns.clear()
        self._known.clear()
        self._came = asyncio.Event()
        self._load()
        self._is_open = True
        await transport.listen("kill", partial(self._heard, releases=False), urgent=True)
        await transport.listen("release", partial(self._heard, releases=True), urgent=True)
        await transport.listen("ask", self._asked, urgent=True)

    async def catch_up(self) -> None:
        """Take in what the logs have, and wait for what the first beats have said is active elsewhere."""
        try:
            async with asyncio.timeout(CAUGHT_UP_S):
                for desk in sorted(self._others.desks):
                    await self._read_log(desk)
                while self._asked_ns:
                    self._came.clear()
                    await self._came.wait()
        except (TimeoutError, LinkError, JournalError) as error:
            log.warning(
                "desk %s starts without having read all kill switches of the logs; the import does it: %s",
                self._joined.desk,
                str(error) or f"it took longer than {CAUGHT_UP_S:g} s",
            )

    async def _read_log(self, desk: str) -> None:
        """Take in the kill switches of another desk that are in the log and not imported yet."""
        joined = self._joined
        ended = await joined.transport.last("high", desk)
        facts = next((one for one in joined.facts.logs if one.log == "high"), None) if joined.facts else None
        if ended is None or facts is None:
            return
        place = read_reached(joined.store.journal, desk, "high").place
        if place.made != facts.made:
            place = Place(facts.made, 0)
        if place.number >= ended.place:
            return
        groups = cast(Any, joined.transport.read("high", desk, place))
        async with aclosing(groups):
            async for group in groups:
                for entry in group.entries:
                    if entry.lane == "control":
                        self._take_logged(desk, entry)
                if group.place >= ended.place:
                    return

    def _take_logged(self, desk: str, entry: Entry) -> None:
        try:
            event = switch_of(entry.payload, entry.header)
        except InvalidEvent as error:
            log.error("a kill switch of desk %s cannot be read: %s", desk, error)  # noqa: TRY400
            return
        if is_release(event) and not self._joined.may_release(desk):
            return  # the import says so
        header = replace(entry.header or Header(), desk=desk)
        entry = replace(entry, level=min(entry.level, Level.DISK), header=header)
        kill = Kill(event=msgspec.Raw(entry.payload), header=header, wall_ns=entry.wall_ns)
        self._take(event, entry, kill)

    def begin(self) -> None:
        """Have saved what was released while the bus was not running. The first beat says what is active."""
        self.save_crossings()

    async def end(self, timeout_s: float) -> None:  # noqa: ARG002 - a part's
        """Tell nobody any more."""
        self._is_open = False

    # -- what is published here ---------------------------------------------------------------------

    def _published(self, event: Any) -> None:
        """A kill switch was published here, and delivered: shout it."""
        if self._is_open and not _is_kept_here(event):
            self._tell_others(event)
            self.save_crossings()

    def _tell_others(self, event: Any) -> None:
        if KILL_SWITCH in self._joined.link.keep or (is_release(event) and self._joined.is_out):
            return
        try:
            entry = self._joined.store.entry(event, "control", Level.PROCESS)
        except InvalidEvent:
            log.exception(
                "the kill switch %s cannot be written: other desks are told what counts of it",
                event.event_id,
                extra=about(event),
            )
            entry = self._joined.store.entry(_what_counts(event), "control", Level.PROCESS)
        self._shout(
            entry.event_id, Kill(event=msgspec.Raw(entry.payload), header=entry.header, wall_ns=entry.wall_ns)
        )

    def _shout(self, event_id: str, kill: Kill) -> None:
        self._remember(event_id, kill)
        topic = "release" if _releases(bytes(kill.event)) else "kill"
        self._joined.begin(
            "kill switch", self._joined.transport.broadcast(topic, write_message(kill), urgent=True)
        )

    def _remember(self, event_id: str, kill: Kill) -> None:
        self._recent[event_id] = kill
        if len(self._recent) > RECENT_MOST:
            self._recent.popitem(last=False)

    # -- what others publish ------------------------------------------------------------------------

    def _heard(self, desk: str, data: bytes, *, releases: bool) -> None:
        try:
            kill = read_message(Kill, data)
            payload = bytes(kill.event)
            event = switch_of(payload, kill.header)
        except (Garbled, InvalidEvent) as error:
            log.error("what desk %s shouted as a kill switch cannot be read: %s", desk, error)  # noqa: TRY400
            return
        if is_release(event) is not releases:
            log.error(
                "desk %s shouted the release %s where only kill switches are",
                desk,
                event.event_id,
                extra=about(event),
            )
            return
        if releases and not self._joined.may_release(desk):
            log.error(
                "desk %s may not release here (releasers), so that %s ends nothing",
                desk,
                event.event_id,
                extra=about(event),
            )
            return
        maker = (kill.header and kill.header.desk) or desk
        header = replace(kill.header or Header(), desk=maker if maker != self._joined.desk else None)
        level = self._joined.admission.level_of(event)
        self._take(event, Entry(event.event_id, payload, "control", level, kill.wall_ns, header), kill)

    def _take(self, event: Any, entry: Entry, kill: Kill) -> None:
        event_id = entry.event_id
        try:
            found = self._switches.take_in(event, entry)
        except OpenOutcryError as error:
            log.critical(
                "the kill switch %s of another desk was not taken: %s", event_id, error, extra=about(event)
            )
            return
        self._remember(event_id, replace(kill, header=entry.header))  # who asks is told who has made it
        self._known.add(event_id)
        if self._asked_ns.pop(event_id, None) is not None:
            self._came.set()
        if isinstance(found, Commit):
            found.on_done.append(partial(_tell_failed, found, event))
        elif isinstance(found, asyncio.Future):
            found.add_done_callback(_pass_over)
        self.save_crossings()

    # -- who missed it ------------------------------------------------------------------------------

    def _beat(self, desk: str, beat: Beat) -> None:
        """Ask for what is active at another desk, and unknown here."""
        if not self._is_open:
            return
        now_ns = self._joined.now_ns()
        self._asked_ns = {one: at_ns for one, at_ns in self._asked_ns.items() if now_ns - at_ns < FORGET_NS}
        for halt in beat.halts:
            if not self._knows(halt):
                self._ask(desk, halt.event_id)

    def _knows(self, halt: ActiveHalt) -> bool:
        event_id = halt.event_id
        if event_id in self._known:
            return True
        is_known = (
            self._joined.bus.halts.has(event_id)
            or self._switches.crossings.is_over(event_id)
            or self._joined.store.knows(event_id)
        )
        if is_known:
            if len(self._known) >= RECENT_MOST:
                self._known.clear()
            self._known.add(event_id)
        return is_known

    def _ask(self, desk: str, event_id: str) -> None:
        now_ns = self._joined.now_ns()
        asked_ns = self._asked_ns.get(event_id)
        if asked_ns is not None and now_ns - asked_ns < ASK_AGAIN_S * 1e9:
            return
        self._asked_ns[event_id] = now_ns
        ask = write_message(Ask(desk=desk, log="high", journal="", after=0, kill=event_id))
        self._joined.spawn("question", self._joined.transport.broadcast("ask", ask, urgent=True))

    def _asked(self, _desk: str, data: bytes) -> None:
        """Another desk lacks a kill switch that a beat of this one has named."""
        try:
            ask = read_message(Ask, data)
        except Garbled:
            return
        if ask.kill and ask.desk == self._joined.desk and self._is_open:
            kill = self._recent.get(ask.kill) or self._find(ask.kill)
            if kill is not None:
                self._shout(ask.kill, kill)

    def _find(self, event_id: str) -> Kill | None:
        """Return a kill switch as the journal has it or, if that is retired, as what is known of it."""
        journal = self._joined.store.journal
        try:
            position = journal.find(event_id)
            found = journal.read(position - 1, 1) if position else []
        except JournalError:
            found = []
        if found:
            stored = found[0]
            return Kill(event=msgspec.Raw(stored.payload), header=stored.header, wall_ns=stored.wall_ns)
        halt = next((halt for halt in self._joined.bus.halts.all() if halt.event_id == event_id), None)
        return None if halt is None else _of_halt(halt)

    # -- what was released before it came, and what is over -----------------------------------------

    def _load(self) -> None:
        crossings = self._switches.crossings
        try:
            saved = self._joined.store.journal.snapshot(CROSSINGS)
        except JournalError as error:
            log.error("what was released before it came cannot be read: %s", error)  # noqa: TRY400
            saved = None
        if saved is not None and saved.state:
            crossings.load(json.loads(saved.state))

    def _save_at_once(self) -> None:
        """Have it saved with what has changed it, unless what was saved is not read yet."""
        if self._is_open:
            self.save_crossings()

    def save_crossings(self) -> None:
        """Have it saved, if it has changed."""
        crossings, store = self._switches.crossings, self._joined.store
        if crossings.version == self._saved_version:
            return
        self._saved_version = crossings.version
        state = json.dumps(crossings.to_dict()).encode()
        store.saving.remember(
            Snapshot(subscription=CROSSINGS, form="json", is_needed=False, lanes={}, state=state)
        )
        store.saving.save_soon()


def switch_of(payload: bytes, header: Header | None) -> Any:
    """Return the kill switch that the JSON is, also if its class is not registered here.

    Of such a class what counts is taken: scope, ids, reason. Raises `InvalidEvent` for what is none.
    """
    try:
        event = decode(payload)
    except InvalidEvent:
        return _stand_in(payload, header)
    if not is_kill_switch(event):
        raise InvalidEvent(f"{payload[:80]!r} is no kill switch")
    return event


class _Said(msgspec.Struct, frozen=True):
    """What the JSON of any kill switch may say."""

    event_id: str = ""
    event_type: str = ""
    activated: bool = True
    scope: str = "firm"
    reason: str = ""
    triggered_by: str = ""
    source_agent: str = ""
    releases: tuple[str, ...] = ()


_read_said = msgspec.json.Decoder(_Said).decode


def _stand_in(payload: bytes, header: Header | None) -> KillSwitchEvent:
    try:
        said = _read_said(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InvalidEvent(f"{payload[:80]!r} is no kill switch: {error}") from None
    head = header or Header()
    if (head.event_type or said.event_type) != KILL_SWITCH:
        raise InvalidEvent(f"{payload[:80]!r} is no kill switch")
    return KillSwitchEvent(
        event_id=head.event_id or said.event_id,
        activated=said.activated,
        scope=said.scope or "firm",
        reason=said.reason,
        triggered_by=said.triggered_by,
        source_agent=said.source_agent,
        releases=said.releases,
    )


def _releases(payload: bytes) -> bool:
    try:
        return not _read_said(payload).activated
    except msgspec.MsgspecError:
        return False


def _what_counts(event: Any) -> KillSwitchEvent:
    """Return what counts of a kill switch that cannot be written, as one that can."""
    return _switch_of(halt_of(event, 0), activated=not is_release(event), releases=ids_of(event))


def _switch_of(halt: Halt, **more: Any) -> KillSwitchEvent:
    return KillSwitchEvent(
        event_id=halt.event_id, scope=halt.scope, reason=halt.reason, triggered_by=halt.by, **more
    )


def _of_halt(halt: Halt) -> Kill:
    """Return a kill switch that no journal has any more."""
    event = _switch_of(halt, timestamp=halt.since_ns or 1)
    return Kill(event=msgspec.Raw(encode(event)), wall_ns=halt.since_ns)


def _is_kept_here(event: Any) -> bool:
    return getattr(event, "source_agent", "") == OWN_AGENT


def _tell_failed(commit: Commit, event: Any) -> None:
    if commit.error is not None:
        log.critical(
            "the kill switch %s of another desk is not in the journal here: %s",
            event.event_id,
            commit.error,
            extra=about(event),
        )


def _pass_over(future: "asyncio.Future[bool]") -> None:
    """What became of a kill switch while the bus stops is told to who published it, not here."""
    if not future.cancelled():
        future.exception()
