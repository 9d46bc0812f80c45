"""A seed: a few lives of one bus over one disk, in the last of which everything must come right."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from openoutcry.config import PersistenceConfig
from openoutcry.errors import JournalError, OpenOutcryError
from openoutcry.events import stamps
from openoutcry.ports import Changes, Entry, Written
from openoutcry.runtime.api.bus import EventBus
from openoutcry.testing.simulator.bus import SimBus
from openoutcry.testing.simulator.calls import Calls
from openoutcry.testing.simulator.chance import Chance
from openoutcry.testing.simulator.disk import Disk, SimJournal
from openoutcry.testing.simulator.endings import Endings
from openoutcry.testing.simulator.faults import Faults
from openoutcry.testing.simulator.halts import check_halts
from openoutcry.testing.simulator.loop import Crashed, SimClock, SimLoop
from openoutcry.testing.simulator.memories import MemoryTruth
from openoutcry.testing.simulator.remembering import MemoryCalls, serial_of
from openoutcry.testing.simulator.rounds import RoundTruth
from openoutcry.testing.simulator.trace import Trace
from openoutcry.testing.simulator.truth import Truth, Violation
from openoutcry.testing.simulator.watch import Watch
from openoutcry.trading import SystemEvent

T = TypeVar("T")
Publisher = Callable[[], Coroutine[Any, Any, None]]
MakeFirm = Callable[[SimBus, Chance], Iterable[Publisher] | None]

STOPPED_S: Final = 10.0
"""So long after a stop everybody who published has had an answer."""
DRAIN_S: Final = 3_600.0
"""When nothing goes wrong, a firm has drained within this time, including breakers and retries."""
STEPS_TO_CRASH: Final = (3, 30, 100, 300, 1_000, 3_000)
CALLS_TO_CRASH: Final = (1, 3, 10, 30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The setting of the lives of a seed.

    Attributes:
        make_firm: Subscribes handlers, and returns the publishers.
        faults: What goes wrong.
        options: Arguments of `EventBus`; None: each seed has its own.
        life_s: How long the publishers of one life may take, in virtual seconds.
        check_every: Ledger and bounds are checked after so many steps.
        shuffles: Whether tasks of the same turn run in a seeded order.

    """

    make_firm: MakeFirm
    faults: Faults
    options: Mapping[str, Any] | None
    life_s: float
    check_every: int
    shuffles: bool


class Seed:
    """One seed.

    Attributes:
        number: The seed.
        trace: What happened.

    """

    def __init__(self, number: int, setting: Setting, *, keep_trace: bool = False) -> None:
        self.number = number
        self._setting = setting
        self._chance = Chance(number)
        self._faults = setting.faults.drawn(self._chance.stream("faults"))
        self._disk = Disk(f"seed {number}")
        self.truth: Truth = Truth()
        self.memories: MemoryTruth = MemoryTruth(self.truth, serial_of)
        self._world: dict[str, Any] = {}
        self._wall_ns = 0
        self._options = self._drawn_options()
        self._life: Life | None = None
        self.trace: Trace = Trace(self._when, keep_all=keep_trace)

    def _when(self) -> str:
        life = self._life
        return (
            ""
            if life is None
            else f"{self.truth.life}:{life.loop.steps} {life.loop.clock.now_ns() / 1e9:.6f}"
        )

    def _drawn_options(self) -> dict[str, Any]:
        if self._setting.options is not None:
            self.truth.window = self._setting.options.get("dedup_window", 8_192)
            return {"seed": self.number, **self._setting.options}
        chance = self._chance.stream("options")
        options: dict[str, Any] = {"max_queue_size": chance.one_of((4, 16, 64, 10_000)), "history_size": 100}
        options["seed"] = self.number
        if chance.happens(0.85):
            options["persistence_config"] = PersistenceConfig(
                socket=False,
                level=chance.one_of(("process", "process", "disk", "memory")),
                high_priority_level=chance.one_of(("disk", "disk", "process")),
                levels={"market_data": chance.one_of(("memory", "memory", "process"))},
                sync=chance.one_of(("inline", "thread")),
                cursor_save_s=chance.one_of((0.02, 0.25, 2.0)),
                retain_count=self._chance.stream("retention").one_of((None, None, None, 10, 40)),
            )
        options["dedup_window"] = chance.one_of((32, 32, 8_192))
        self.truth.window = options["dedup_window"]
        return options

    def run(self) -> None:
        """Run the lives. Raises what was found."""
        chance = self._chance.stream("lives")
        lives = self._faults.crashes + 1
        with stamps("e", self._read_wall), _quiet():
            power = False
            for number in range(lives):
                self.truth.life = number
                power = self._live(chance.stream(str(number)), power=power, last=number == lives - 1)
                if self.truth.violation is not None:
                    raise self.truth.violation

    def _read_wall(self) -> int:
        return self._wall_ns if self._life is None else self._life.loop.clock.wall_ns()

    def _live(self, chance: Chance, *, power: bool, last: bool) -> bool:
        """Run one life. Return True if its end lost what was not synced."""
        clock = SimClock(self._wall_ns) if self._wall_ns else SimClock()
        life = self._life = Life(self, chance, clock, Faults.none() if last else self._faults, last=last)
        try:
            life.open(self._disk, self._options, self._world, power=power)
            life.run(self._setting)
        finally:
            self._wall_ns = clock.wall_ns() + chance.whole(0, 10_000_000_000)
            power = life.crashed and chance.happens(self._faults.power_cuts)
            if life.journal is not None:
                lost = self._disk.lose(chance, power=power)
                self.trace.note(f"the {'power' if power else 'process'} ends, {lost} operations are lost")
            life.drop()
        return power

    @property
    def faults(self) -> Faults:
        """What goes wrong in this seed."""
        return self._faults

    @property
    def setting(self) -> Setting:
        """The setting of the lives."""
        return self._setting


class Life:
    """One life of the process: a loop, a bus, a firm.

    Attributes:
        loop: The loop.
        journal: The journal, if the bus has one.
        crashed: Whether the process has died.

    """

    def __init__(self, seed: Seed, chance: Chance, clock: SimClock, faults: Faults, *, last: bool) -> None:
        self._seed = seed
        self._truth = seed.truth
        self._memories = seed.memories
        self._endings = Endings(seed.truth)
        self._chance = chance
        self._faults = faults
        self._is_last = last
        self.loop: SimLoop = SimLoop(clock, chance.stream("loop"), shuffles=seed.setting.shuffles)
        self.journal: SimJournal | None = None
        self.crashed: bool = False
        self._loses_loop = chance.stream("loops").happens(seed.faults.lost_loops)
        self._lost: list[tuple[SimLoop, set[asyncio.Task[Any]]]] = []
        self._crash_at: int | None = None
        self._bus: SimBus | None = None
        self._watch: Watch | None = None

    def note(self, what: str) -> None:
        """Add a line to the trace, if the process lives."""
        if not self.crashed:
            self._seed.trace.note(what)

    def crash(self) -> None:
        """The process dies here: nothing that it does from now on has an effect."""
        if not self.crashed:
            self.note("the process dies")
            self.crashed = True
            if self.journal is not None:
                self.journal.severed = True

    def open(self, disk: Disk, options: dict[str, Any], world: dict[str, Any], *, power: bool) -> None:
        """Make the loop, the journal, the bus and the firm of this life."""
        truth, chance = self._truth, self._chance
        if "persistence_config" in options or options.get("enable_persistence"):
            journal = self.journal = disk.opened(chance.stream("disk"), self.loop.clock, self.note)
            journal.faults = self._faults
            journal.crash = self.crash
            journal.on_written = self._written
        truth.opened(self.journal, power=power)
        self._memories.opened(self.journal)
        self._options = {**options, "journal": self.journal} if self.journal is not None else options
        self._world = world
        if not self._is_last:
            self._choose_end(chance.stream("end"))

    def _written(self, entries: Sequence[Entry], changes: Changes | None, written: Written) -> None:
        self._truth.written(entries, changes, written)
        self._memories.written(changes)

    def _choose_end(self, chance: Chance) -> None:
        if chance.happens(self._faults.restarts):
            return
        if self.journal is not None and chance.happens(0.3):
            self.journal.crash_at_call = chance.whole(1, chance.one_of(CALLS_TO_CRASH))
        else:
            self._crash_at = chance.whole(1, chance.one_of(STEPS_TO_CRASH))

    # -- the bus ------------------------------------------------------------------------------------

    def _make_bus(self) -> SimBus:
        calls = Calls(self._chance.stream("calls"), self.loop.clock)
        calls.go_wrong(self._faults)
        calls.note, calls.crash = self.note, self.crash
        bus = SimBus(**{"check_events": "always", **self._options})
        watch = Watch(bus, self.loop, self._truth)

        def begins(name: str, event: Any) -> None:
            if not self.crashed:
                self._truth.begins(name, event)
                self._memories.begins(name, event)
                watch.begun(name, event)

        def ends(name: str, event: Any) -> None:
            if not self.crashed and self._truth.ends(name, event):
                self._memories.ends(name, event)

        calls.begins, calls.ends, calls.opens = begins, ends, self._memories.opens
        bus.set_up(
            world=self._world,
            life=self._truth.life,
            faults=self._faults,
            truth=self._truth,
            rounds=RoundTruth(self._truth.fail),
            calls=calls,
            memories=self._memories,
            memory_calls=self._make_memory_calls(),
            watch=watch,
            note=self.note,
        )
        self._bus, self._watch = bus, watch
        return bus

    def _make_memory_calls(self) -> MemoryCalls:
        return MemoryCalls(
            self._chance.stream("memories"),
            self.loop.clock,
            self._memories,
            self._faults,
            self.note,
            self._truth.fail,
            lambda: self.loop.steps,
        )

    def _on_step(self) -> None:
        if self._truth.violation is not None:
            raise self._truth.violation
        if self.crashed:
            raise Crashed
        steps = self.loop.steps
        if steps == self._crash_at:
            self.crash()
            raise Crashed
        self._memories.check()
        watch = self._watch
        if watch is not None:
            watch.check_kills()
            if not steps % self._seed.setting.check_every:
                watch.check()

    # -- a life -------------------------------------------------------------------------------------

    def run(self, setting: Setting) -> None:
        """Run until the end or the crash."""
        self.loop.on_step = self._on_step
        asyncio.set_event_loop(self.loop)
        try:
            publishers = self._run(self._main(setting))
            if self._loses_loop:
                self._lose_loop()
                self._run(self._go_on(publishers, setting.life_s))
        except Crashed:
            self.crashed = True
        finally:
            asyncio.set_event_loop(None)

    def _run(self, main: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(self.loop.create_task(main, name="main"))

    def _lose_loop(self) -> None:
        """Close the loop with everything that runs on it, and have a new one."""
        self.note("the loop is closed")
        old = self.loop
        self._lost.append((old, asyncio.all_tasks(old)))
        old.close()
        chance = self._chance.stream("new loop")
        self.loop = SimLoop(old.clock, chance, shuffles=self._seed.setting.shuffles, steps=old.steps)
        self.loop.on_step = self._on_step
        asyncio.set_event_loop(self.loop)
        assert self._watch is not None, "the bus was made"
        self._watch.move_to(self.loop)
        self._truth.moved()
        self._memories.moved()

    async def _main(self, setting: Setting) -> list[Publisher]:
        bus = self._make_bus()
        firm = setting.make_firm(bus, self._chance.stream("firm")) or ()
        publishers = list(firm)
        early = self._chance.stream("early").happens(0.3)
        tasks: list[asyncio.Task[None]] = []
        if early:
            tasks = self._begin(publishers)
            for _ in range(3):
                await asyncio.sleep(0)
        await self._start(bus, tasks)
        if not early:
            tasks += self._begin(publishers)
        await self._let_publish(tasks, setting.life_s)
        bus.rounds_truth.check()
        if self.journal is not None and self.journal.dead is not None:
            self._loses_loop = False  # a dead journal is not started again on: it is recovered first
        if self._loses_loop:
            return publishers
        await self._end(bus)
        return []

    async def _start(self, bus: SimBus, tasks: "list[asyncio.Task[None]]", *, is_lost: bool = False) -> None:
        """Start the bus, with the publishers that it has for that moment; what it says is halted is true."""
        if not is_lost and self._chance.stream("halts").happens(0.5):
            check_halts(self._truth, bus.halted)
        tasks += self._begin(bus.at_start)
        await bus.start()
        check_halts(self._truth, bus.halted)

    async def _go_on(self, publishers: list[Publisher], life_s: float) -> None:
        """The bus goes on on a new loop."""
        bus = self._bus
        assert bus is not None, "it was made on the loop before"
        self._check_lost(bus)
        stops = self._chance.stream("lost").happens(0.5)
        if stops:
            with suppress(JournalError):
                await bus.stop()
        tasks: list[asyncio.Task[None]] = []
        await self._start(bus, tasks, is_lost=not stops)
        await self._let_publish(tasks + self._begin(publishers), life_s)
        await self._end(bus)

    def _check_lost(self, bus: SimBus) -> None:
        """A call on another loop than that of the bus must raise, also if that was closed."""
        event = SystemEvent(component="sim", status="on another loop")
        try:
            EventBus.publish_nowait(bus, event)
        except OpenOutcryError as error:
            self.note(f"on another loop: {type(error).__name__}")
        else:
            self._truth.fail("the bus was called on another loop than its own, and took an event")

    async def _end(self, bus: SimBus) -> None:
        """End the life as it is to end."""
        if self._is_last:
            await self._put_right(bus)
        elif self._crash_at is not None or (self.journal is not None and self.journal.crash_at_call):
            await asyncio.sleep(self._chance.between(0, 3))
            self.crash()
            await asyncio.sleep(0)
        else:
            await self._stop(bus)

    async def _stop(self, bus: SimBus) -> None:
        """Stop the bus, with the publishers that it has for that moment."""
        tasks = self._begin(bus.at_stop)
        letters: list[Any] = []
        bus.on_dead_letter(letters.append)
        with suppress(JournalError):  # a dead journal makes a stop raise this
            await bus.stop(self._chance.one_of((0, 0.5, 5)))
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=STOPPED_S)
        if late:
            self._truth.fail(f"{STOPPED_S:g} s after the stop publishers still wait for an answer")
        self._raise_failed(tasks)
        self._endings.check_stopped(bus.subscriptions, letters)

    def _begin(self, publishers: Iterable[Publisher]) -> "list[asyncio.Task[None]]":
        return [
            self.loop.create_task(publisher(), name=f"publisher {number}")
            for number, publisher in enumerate(publishers)
        ]

    async def _let_publish(self, tasks: "list[asyncio.Task[None]]", life_s: float) -> None:
        if not tasks:
            await asyncio.sleep(life_s)
            return
        _, late = await asyncio.wait(tasks, timeout=life_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._raise_failed(tasks)

    def _raise_failed(self, tasks: "list[asyncio.Task[None]]") -> None:
        for task in tasks:
            ended = task.exception() if task.done() and not task.cancelled() else None
            # (A publisher is right to fail because the journal is full or dead.)
            refused = isinstance(ended, OpenOutcryError) and not self._is_last
            if isinstance(ended, Exception) and not refused:
                self._truth.fail(f"a publisher failed: {ended!r}")

    async def _put_right(self, bus: SimBus) -> None:
        """Nothing goes wrong any more, so everything must drain, and nothing may be missing."""
        for subscription in bus.subscriptions:
            subscription.resume()
        try:
            async with asyncio.timeout(DRAIN_S):
                await bus.join()
        except TimeoutError:
            states = {s.name: s.stats(0).state for s in bus.subscriptions if not s.settled}
            self._truth.fail(f"nothing goes wrong any more, and after {DRAIN_S:g} s there wait {states}")
            return
        persistence = bus.config.persistence
        await asyncio.sleep(1 + (0 if persistence is None else persistence.cursor_save_s))
        assert self._watch is not None, "the bus was made"
        self._watch.check_rest()
        check_halts(self._truth, bus.halted)
        bus.rounds_truth.check()
        self._endings.check_drained(bus.dead_letters(), bus.subscriptions)
        self._memories.check_drained({made.name for made in bus.subscriptions})
        try:
            await bus.flush()
        except JournalError as error:
            self._truth.fail(f"nothing goes wrong any more, and the journal says {error!r}")
        await bus.stop()

    def drop(self) -> None:
        """Release everything, as the end of the process does."""
        self.crashed = True
        bus = self._bus
        for loop, tasks in self._lost:
            loop.drop(tasks)
        self.loop.drop()
        if bus is not None:
            bus.tear_down()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the bus and asyncio log about simulated faults."""
    loggers = [logging.getLogger(name) for name in ("openoutcry", "asyncio")]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, was in zip(loggers, before, strict=True):
            logger.disabled = was


__all__ = ["Life", "MakeFirm", "Publisher", "Seed", "Setting", "Violation"]
