"""A seed of the model: desks with real buses, journals and an engine in memory, and what goes wrong.

Nothing but the journals' disks and the engine outlives a process. A desk is killed, or its power is cut, or
it is suspended while another process takes it over, at any step; the engine loses requests and answers, or a
log. In the end nothing goes wrong any more, and then everything must be everywhere.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from unittest.mock import patch

from msgspec.structs import replace

from campaigns.link_processes import Process, ProcessLoop
from campaigns.link_truth import Appended, Found, Known, Truth, handled_again, stored_ids
from openoutcry.config import Link, PersistenceConfig
from openoutcry.errors import OpenOutcryError
from openoutcry.events import Event, stamps
from openoutcry.links import Fault, MemoryHub, MemoryTransport
from openoutcry.links.wire import unpack
from openoutcry.ports import Group, LogName
from openoutcry.runtime.api.bus import EventBus
from openoutcry.runtime.linking import log_export
from openoutcry.testing.simulator.chance import Chance
from openoutcry.testing.simulator.disk import Disk
from openoutcry.testing.simulator.lives import _quiet
from openoutcry.testing.simulator.trace import Trace
from openoutcry.trading import KillSwitchEvent

REST_S: Final = 600.0
"""When nothing goes wrong any more, everything has arrived after this time."""
QUIET_S: Final = 3.0
REPEATED_MOST: Final = 600
"""So many events may be handled again after a crash: what a cursor has not saved yet."""
PAGES: Final = (3, 20, log_export.PAGE)
"""So many entries are read at a time: exports read ahead where there are as many."""
SIZES: Final = (10, 10, 10, 300, 3_000, 90_000, 300_000)


class ModelNews(Event, kw_only=True):
    """What desks of the model tell one another."""

    event_type: str = "model_news"
    text: str = ""


class ModelAlarm(Event, kw_only=True):
    """The same, in the lane of what is urgent."""

    event_type: str = "fill"
    text: str = ""


class ModelReply(Event, kw_only=True):
    """What a desk answers to news of another one, once."""

    event_type: str = "model_reply"
    to: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """How often things go wrong in a seed: probabilities per request, and what else happens.

    Attributes:
        lost: A request is lost.
        unanswered: It is done, and the answer is lost.
        late: It is done after it was given up.
        happenings: How many other things happen.
        kinds: What they are.

    """

    lost: float
    unanswered: float
    late: float
    happenings: int
    kinds: tuple[str, ...]


DESTRUCTIVE: Final = ("delete", "forget", "flip")
LOSING: Final = (*DESTRUCTIVE, "rival", "power")
"""After these a desk may export again what it has exported."""
KINDS: Final = ("kill", "kill", "power", "stop", "suspend", "cut", "away", "slow", "rival", *DESTRUCTIVE)


def drawn(chance: Chance) -> Trouble:
    """Return the trouble of a seed: some kinds are left out, so that they do not hide one another."""
    rates = (0.0, 0.0, 0.02, 0.1)
    kinds = tuple(kind for kind in KINDS if chance.happens(0.45)) or ("kill",)
    return Trouble(
        lost=chance.one_of(rates),
        unanswered=chance.one_of(rates),
        late=chance.one_of((0.0, 0.0, 0.05)),
        happenings=chance.whole(0, 10),
        kinds=kinds,
    )


class ModelHub(MemoryHub):
    """An engine that tells the truth what it was given, and loses what it is to lose."""

    def __init__(self, world: "World", *, most_bytes: int) -> None:
        super().__init__(most_bytes=most_bytes)
        self._world = world
        self._chance = world.chance.stream("engine")
        self.on_step = self._becomes
        self._open: set[tuple[LogName, str]] = set()
        """The desks whose last claim a log has forgotten."""

    def _becomes(self, desk: str, step: str) -> Fault | None:
        world, chance = self._world, self._chance
        world.step(desk, step)
        if world.is_mended:
            return None
        trouble = world.trouble
        if step.endswith(" done"):
            return Fault.LOST if chance.happens(trouble.unanswered) else None
        if chance.happens(trouble.lost):
            return Fault.LOST
        return Fault.LATE if chance.happens(trouble.late) else None

    def made(self, log: LogName) -> str:
        """Return a log's own identity."""
        return next((one.made for one in self.facts().logs if one.log == log), "")

    def append_by(self, holder: str, log: LogName, desk: str, data: bytes, token: int) -> int:
        """Append a group, and tell the truth of it: which process has sent it."""
        place = self.append(log, desk, data, token)
        made, group = self.made(log), unpack(data)
        self._world.truth.appended.append(
            Appended(
                desk, log, made, group.journal, group.after, group.upto, holder, (log, desk) not in self._open
            )
        )
        self._world.note(f"{desk} {log} {group.after}-{group.upto} at {place} by {holder}")
        return place

    def claim(self, log: LogName, desk: str, expected: int) -> int:
        """Claim a desk in a log."""
        place = super().claim(log, desk, expected)
        self._open.discard((log, desk))
        return place

    def forget_newest(self, log: LogName, count: int) -> None:
        """Have a log forget its end, and note which claims go with it."""
        before = self._log(log).tokens
        super().forget_newest(log, count)
        after = self._log(log).tokens
        self._open |= {(log, desk) for desk in before if after.get(desk) != before[desk]}

    def vacate(self, desk: str) -> None:
        """Note that the holder of a desk is known to be dead, as the lock of its journal's file would say."""
        seat = self.seat(desk)
        if seat is not None:
            self.record(replace(seat, holder=""), seat.renewal)


class _HubOf:
    """The engine as one process sees it, so that what is done for it late is known to be its own."""

    def __init__(self, hub: ModelHub, process: str) -> None:
        self._hub = hub
        self._process = process

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hub, name)

    def append(self, log: LogName, desk: str, data: bytes, token: int) -> int:
        """Append a group."""
        return self._hub.append_by(self._process, log, desk, data, token)


class ModelTransport(MemoryTransport):
    """A transport that counts what is answered, and asked for again."""

    def __init__(self, hub: Any, desk: str, answered: Callable[[], None], truth: Truth) -> None:
        super().__init__(hub, desk)
        self._answered = answered
        self._truth = truth

    async def broadcast(self, topic: str, data: bytes, *, urgent: bool = False) -> None:
        """Send a message."""
        self._truth.asks += topic == "ask"
        await super().broadcast(topic, data, urgent=urgent)

    async def append(self, group: Group, token: int) -> int:
        """Append a group."""
        place = await super().append(group, token)
        self._answered()
        return place


class Desk:
    """A desk: its disk, and the process that runs it.

    Attributes:
        name: Its name.
        disk: What outlives the process.
        process: The process; None while none runs.
        bus: The bus of it.
        published: How many events were drawn for it so far.

    """

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.disk = Disk(f"journal of {name}")
        self.process: Process | None = None
        self.bus: EventBus | None = None
        self.life = 0
        self.published = 0
        self.pulled = 0
        self.unsure: list[Event] = []
        self._transport: ModelTransport | None = None
        self._rival: tuple[Process, ModelTransport | None, EventBus | None] | None = None

    @property
    def truth(self) -> Any:
        """What is known of it."""
        return self.world.truth.desks[self.name]

    def start(self) -> None:
        """Start a process on what is on the disk."""
        world = self.world
        self.life += 1
        process = self.process = Process(f"{self.name}-{self.life}")
        world.processes.append(process)
        chance = world.chance.stream(process.name)
        journal = self.disk.opened(chance.stream("disk"), world.loop.clock, world.note)
        truth = self.truth

        def written(entries: Any, changes: Any, written: Any) -> None:
            if not process.is_dead:
                truth.written(entries, changes, written)

        journal.on_written = written
        if chance.happens(0.3) and not world.is_mended and "kill" in world.trouble.kinds:
            journal.crash_at_call = chance.whole(1, 60)
            journal.crash = lambda: self.end(power=False)
        world.note(f"{process.name} starts at {journal.head}")
        task = world.loop.spawn(process, self._main(process, journal, chance))
        task.add_done_callback(partial(world.ended, process))

    async def _main(self, process: Process, journal: Any, chance: Chance) -> None:
        bus, transport = self._make(process, journal)
        self.bus, self._transport = bus, transport
        releaser = bus.releaser(f"risk-{self.name}")
        while True:
            try:
                await bus.start()
            except OpenOutcryError as error:
                self.world.note(f"{process.name} cannot start: {type(error).__name__}")
                await asyncio.sleep(2)
            else:
                break
        self.world.note(f"{process.name} runs")
        await self._be_known()
        self.world.join(self)
        await self.world.all_joined.wait()  # what was made before a desk has joined is not owed to it
        while not self.world.is_mended or self.unsure:
            await asyncio.sleep(chance.one_of((0, 0.01, 0.3, 1.5)))
            await self._publish(process, releaser, chance)

    async def _be_known(self) -> None:
        """Wait until this desk was claimed for the first time: from then on others keep what it lacks."""
        while (seat := self.world.hub.seat(self.name)) is None or not seat.tokens:  # noqa: ASYNC110
            await asyncio.sleep(0.1)

    def _make(self, process: Process, journal: Any) -> tuple[EventBus, ModelTransport]:
        world, truth = self.world, self.truth

        def answered() -> None:
            truth.answers += 1

        hub = _HubOf(world.hub, process.name)
        transport = ModelTransport(hub, self.name, answered, world.truth)
        bus = EventBus(
            persistence_config=world.persistence,
            journal=journal,
            link=Link(firm="model", desk=self.name, imports=("*",), lease_s=world.lease_s),
            transport=transport,
            max_queue_size=world.queue,
            seed=world.number,
        )

        async def handle(event: Event) -> None:
            await asyncio.sleep(world.work_s)
            if isinstance(event, ModelNews) and not event.event_id.startswith(f"m-{self.name}-"):
                await bus.publish(ModelReply(to=event.event_id, source_agent=f"agent-{self.name}"))
            if not process.is_dead:
                truth.handled[event.event_id] += 1

        bus.subscribe(["model_news", "fill", "model_reply"], handle, name="agent")
        return bus, transport

    async def _publish(self, process: Process, releaser: Any, chance: Chance) -> None:
        bus = self.bus
        if bus is None or process is not self.process:
            return  # another process has the desk
        if chance.happens(self.world.switching) and not self.world.is_mended:
            await self._pull_or_release(process, bus, releaser, chance)
            return
        for _ in range(chance.one_of((1, 1, 3, 40))):
            if not self.unsure and not self._draw(chance):
                return
            event = self.unsure[0]
            with suppress(OpenOutcryError):
                if await bus.publish(event) and process is self.process:
                    self.truth.accepted.add(event.event_id)
                    self.truth.lost.discard(event.event_id)
                    self.unsure.clear()

    def _draw(self, chance: Chance) -> bool:
        """Make the next event, which is published until it is accepted. Return False if there is none."""
        if self.world.is_mended or self.published >= self.world.most:
            return False
        self.published += 1
        kind = ModelAlarm if chance.happens(0.25) else ModelNews
        event = kind(
            event_id=f"m-{self.name}-{self.published}",
            source_agent=f"publisher-{self.name}",
            text="x" * chance.one_of(SIZES),
        )
        self.unsure.append(event)
        return True

    async def _pull_or_release(self, process: Process, bus: EventBus, releaser: Any, chance: Chance) -> None:
        truth, name = self.world.truth, self.name
        active = sorted(halt.event_id for halt in bus.halted())
        if active and chance.happens(0.6):
            named = chance.one_of(active)
            truth.releasing.add(named)
            with suppress(OpenOutcryError):
                is_done = await releaser.release(ids=[named], reason="calm")
                if is_done and process is self.process and self.has_seat(bus):
                    truth.released.add(named)
                    truth.releasing.discard(named)
            return
        self.pulled += 1
        event_id = f"m-{name}-kill-{self.pulled}"
        truth.unsure.add(event_id)
        with suppress(OpenOutcryError):
            pulled = KillSwitchEvent(event_id=event_id, source_agent=f"risk-{name}")
            if await bus.publish(pulled) and process is self.process and self.has_seat(bus):
                truth.pulled.add(event_id)
                truth.unsure.discard(event_id)

    @staticmethod
    def has_seat(bus: EventBus) -> bool:
        """Return True if a kill switch is not only handled at once, but in the journal."""
        return bus._bus.fenced is None  # noqa: SLF001

    def look_at_letters(self) -> None:
        """Note what was put away, after as many crashes as that takes."""
        if self.bus is not None and self.truth.crashes >= self.world.persistence.crash_attempts:
            letters = self.bus.dead_letters()
            self.truth.quarantined |= {one.event.event_id for one in letters if one.reason == "quarantined"}

    # -- its end

    def end(self, *, power: bool) -> None:
        """Kill the process, and cut the power if asked to."""
        process = self.process
        if process is None or process.is_dead:
            return
        self._sever(process)
        lost = self.disk.lose(self.world.chance.stream(f"end of {process.name}"), power=power)
        self.truth.crashes += 1
        if power:
            platter = self.disk.platter
            ids = stored_ids(platter.read(0, 10**9))
            self.truth.power_cut(lambda known: known.position < platter.first or known.event_id in ids)
        how = "loses its power" if power else "is killed"
        self.world.note(f"{process.name} {how}, {lost} operations lost")
        self.world.start_again(self)

    def _sever(self, process: Process) -> None:
        process.is_dead = True
        chance = self.world.chance.stream(f"same host {process.name}")
        if self.world.lease_s == 0 or chance.happens(0.5):
            self.world.hub.vacate(self.name)
        if self._transport is not None:
            self._transport.die()
        _forget(self.bus)
        self.process = self.bus = None

    async def stop(self) -> None:
        """Stop the process as an operator does."""
        process, bus = self.process, self.bus
        if process is None or bus is None or not bus.is_running:
            return
        task = self.world.loop.spawn(process, _stopped(bus))
        with suppress(TimeoutError):
            async with asyncio.timeout(60):
                await asyncio.shield(task)
        if not process.is_dead:
            self._sever(process)
            self.disk.lose(self.world.chance.stream(f"end of {process.name}"), power=False)
            self.world.note(f"{process.name} has stopped")

    async def suspend(self, for_s: float, *, is_taken_over: bool) -> None:
        """Suspend the process; have it taken over, meanwhile, on what is on the disk."""
        process, transport, loop = self.process, self._transport, self.world.loop
        if process is None or self._rival is not None:
            return
        self.world.note(f"{process.name} is suspended for {for_s:.1f} s, taken over: {is_taken_over}")
        process.is_suspended = True
        if is_taken_over:
            self._rival = process, transport, self.bus
            self.disk.lose(self.world.chance.stream(f"end of {process.name}"), power=False)
            self.truth.crashes += 1
            self.start()
        await asyncio.sleep(for_s)
        self.world.note(f"{process.name} is resumed")
        loop.resume(process)
        if is_taken_over:
            await asyncio.sleep(30)
            self.end_rival()

    def end_rival(self) -> None:
        """Kill the process that was taken over, if there is one."""
        if self._rival is not None:
            process, transport, bus = self._rival
            self._rival = None
            process.is_dead = True
            if transport is not None:
                transport.die()
            _forget(bus)


async def _stopped(bus: EventBus) -> None:
    with suppress(OpenOutcryError):
        await bus.stop(5)


def _forget(bus: EventBus | None) -> None:
    """Remove what a bus that was not stopped leaves in the process of the model."""
    store = bus._admission.store if bus is not None else None  # noqa: SLF001
    if store is not None:
        store._uninstall()  # noqa: SLF001


class World:
    """One seed.

    Attributes:
        number: The seed.
        chance: Its decisions.
        trouble: What goes wrong.
        is_mended: Whether nothing goes wrong any more.
        truth: What is known.
        trace: What happened.
        broken: Which processes have ended by a mistake.

    """

    def __init__(self, number: int, *, keep_trace: bool = False) -> None:
        self.number = number
        self.chance = chance = Chance(number, "link")
        self.trouble = drawn(chance.stream("trouble"))
        self.loop = ProcessLoop(chance.stream("loop"))
        self.is_mended = False
        self.joined: set[str] = set()
        self.all_joined = asyncio.Event()
        self.broken: list[str] = []
        self.processes: list[Process] = []  # dead ones too: what is collected runs its clean-up
        self.trace = Trace(lambda: f"{self.loop.time():.3f}", keep_all=keep_trace)
        names = ("floor", "street", "desk")[: chance.one_of((2, 2, 3))]
        self.truth = Truth(names)
        drawing = chance.stream("setting")
        self.page = chance.stream("page").one_of(PAGES)
        self.lease_s = drawing.one_of((0.0, 3.0, 3.0, 15.0))
        self.queue = drawing.one_of((20, 200, 10_000))
        self.work_s = drawing.one_of((0.0, 0.0, 0.02))
        self.most = drawing.one_of((5, 40, 120))
        self.switching = chance.stream("kill switches").one_of((0.05, 0.05, 0.5))
        self.persistence = PersistenceConfig(
            socket=False,
            level=drawing.one_of(("process", "process", "disk")),
            cursor_save_s=drawing.one_of((0.02, 0.25)),
            sync=drawing.one_of(("inline", "thread")),
            retain_count=drawing.one_of((None, None, 10, 40)),
        )
        self.hub = ModelHub(self, most_bytes=drawing.one_of((0, 0, 2_500_000)))
        self.hub.delay_s = self.delay_s = drawing.one_of((0.0, 0.001, 0.05))
        self.hub.answer_s = drawing.one_of((0.5, 2.0))
        self.desks = [Desk(self, name) for name in names]

    def note(self, what: str) -> None:
        """Add a line to the trace."""
        self.trace.note(what)

    def ended(self, process: Process, task: "asyncio.Task[None]") -> None:
        """Note that a process has ended by a mistake: nothing here may raise what no bus is to raise."""
        if not (process.is_dead or task.cancelled() or task.exception() is None):
            self.broken.append(f"{process.name} has ended with {task.exception()!r}")

    def step(self, desk: str, step: str) -> None:
        """Let a desk die before a step, or after it and before its answer."""
        found = next((one for one in self.desks if one.name == desk), None)
        if found is None or self.is_mended or "kill" not in self.trouble.kinds:
            return
        if self.chance_of_steps.happens(0.002) and not step.startswith("read"):
            self.note(f"{desk} dies at its {step}")
            found.end(power=False)

    @property
    def chance_of_steps(self) -> Chance:
        """The decisions about steps."""
        found: Chance = self.__dict__.setdefault("_steps", self.chance.stream("steps"))
        return found

    def run(self) -> Found:
        """Run the seed, and return what was found."""
        asyncio.set_event_loop(self.loop)
        with stamps("e", self.loop.clock.wall_ns), _quiet(), patch.object(log_export, "PAGE", self.page):
            try:
                return self.loop.run_until_complete(self.loop.create_task(self._main()))
            finally:
                for desk in self.desks:
                    if desk.process is not None:
                        desk._sever(desk.process)  # noqa: SLF001
                self.loop.drop()
                asyncio.set_event_loop(None)

    async def _main(self) -> Found:
        chance = self.chance.stream("happenings")
        for desk in self.desks:
            desk.start()
            await asyncio.sleep(chance.between(0, 2))
        running: set[asyncio.Task[None]] = set()
        for _ in range(self.trouble.happenings):
            await asyncio.sleep(chance.one_of((0.01, 0.3, 2.0, 8.0)) * chance.share() * 2)
            kind = chance.one_of(self.trouble.kinds)
            task = self.loop.create_task(self._happen(kind, chance.stream(f"{_} {kind}")))
            running.add(task)
        await asyncio.gather(*running)
        await asyncio.sleep(chance.between(0, 5))
        return await self._mend()

    async def _happen(self, kind: str, chance: Chance) -> None:
        desk, hub = chance.one_of(self.desks), self.hub
        log: LogName = chance.one_of(("high", "normal"))
        self.note(f"{kind} {desk.name} {log}")
        if kind in ("kill", "power"):
            desk.end(power=kind == "power")
        elif kind == "stop":
            await desk.stop()
            self.start_again(desk)
        elif kind in ("suspend", "rival"):
            is_taken_over = kind == "rival" and self.lease_s > 0
            await desk.suspend(chance.between(0, 3 * self.lease_s + 1), is_taken_over=is_taken_over)
        elif kind == "cut":
            hub.cut(desk.name)
            await asyncio.sleep(chance.between(0, 20))
            hub.heal(desk.name)
        elif kind == "away":
            hub.is_answering = False
            await asyncio.sleep(chance.between(0, 9))
            hub.is_answering = True
            hub.wake()
        elif kind == "slow":
            hub.delay_s = chance.one_of((0.2, 0.6))
            await asyncio.sleep(chance.between(0, 10))
            hub.delay_s = self.delay_s
        else:
            self._destroy(kind, log, chance)

    def join(self, desk: Desk) -> None:
        """Note that a desk has run, and is known to the others from then on."""
        self.joined.add(desk.name)
        if len(self.joined) == len(self.desks):
            self.all_joined.set()

    def start_again(self, desk: Desk) -> None:
        """Have a supervisor start a desk again in a while, unless somebody else has."""
        if not self.is_mended:
            pause_s = self.chance.stream(f"pause {desk.name} {desk.life}").one_of((0.0, 0.0, 1.0, 20.0))
            self.loop.call_later(pause_s, self._start, desk, context=Context())

    def _start(self, desk: Desk) -> None:
        if desk.process is None:
            desk.start()

    def _destroy(self, kind: str, log: LogName, chance: Chance) -> None:
        hub = self.hub
        facts = next((one for one in hub.facts().logs if one.log == log), None)
        if facts is None:
            return
        if kind == "delete":
            hub.delete(log)
        elif kind == "forget":
            hub.forget_newest(log, chance.whole(1, 6))
        elif kind == "flip" and facts.last:
            hub.flip(log, chance.whole(facts.first, facts.last))

    async def _mend(self) -> Found:
        """Let nothing go wrong any more, and judge when everything has come to rest."""
        self.note("nothing goes wrong any more")
        self.is_mended = True
        self.hub.delay_s = self.delay_s
        for desk in self.desks:
            desk.end_rival()
            if desk.disk.journal is not None:
                desk.disk.journal.crash_at_call = None
            if desk.process is not None and self._is_stranded(desk):
                desk.end(power=False)
            self._start(desk)
        ends_s = self.loop.time() + REST_S
        while self.loop.time() < ends_s:
            await asyncio.sleep(1)
            for desk in self.desks:
                desk.look_at_letters()
            has_all = not self.truth.missing() and not self.truth.halts(self._active())
            if has_all and all(map(self._is_at_rest, self.desks)):
                break
        await asyncio.sleep(QUIET_S)
        return self._judge()

    @staticmethod
    def _is_at_rest(desk: Desk) -> bool:
        """Return True if a desk runs, holds its seat, and has published what it was to publish."""
        bus = desk.bus
        return bus is not None and bus.is_running and desk.has_seat(bus) and not desk.unsure

    def _is_stranded(self, desk: Desk) -> bool:
        """Return True if a desk's process has lost its seat: an operator starts another one."""
        bus = desk.bus
        chance = self.chance.stream(f"strand {desk.name}")
        return bus is None or not bus.is_running or not desk.has_seat(bus) or chance.happens(0.3)

    def _judge(self) -> Found:
        trouble = self.trouble
        is_whole = not trouble.happenings or not any(kind in LOSING for kind in trouble.kinds)
        forgets = "forget" in trouble.kinds and self.persistence.retain_count is not None
        found = self.truth.judge(is_whole=is_whole, counts_repeats=not trouble.late, knows_again=not forgets)
        if not forgets:
            found += handled_again(self.truth.desks.values(), REPEATED_MOST)
        return found + self.truth.halts(self._active()) + self.broken

    def _active(self) -> dict[str, set[str]]:
        """Return the ids of the kill switches that are active on each desk."""
        return {
            desk.name: {halt.event_id for halt in desk.bus.halted()}
            for desk in self.desks
            if desk.bus is not None
        }


def known_ids(known: list[Known]) -> list[str]:
    """Return the ids of entries, in order."""
    return [one.event_id for one in known]
