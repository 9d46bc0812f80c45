"""The event bus: the public face over admission, dispatcher, floor and rounds."""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Any, Self

from openoutcry.clocks import clock_of
from openoutcry.config import (
    BackpressureConfig,
    BusConfig,
    HealthCheckConfig,
    PersistenceConfig,
    check_flag,
    check_names,
)
from openoutcry.core.pressure import BackpressureLevel
from openoutcry.core.retries import DeadLetter
from openoutcry.errors import BusClosed, ConfigError, OpenOutcryError
from openoutcry.ports import Clock, Journal
from openoutcry.runtime.admission.from_threads import ThreadIntake
from openoutcry.runtime.admission.gate import Admission
from openoutcry.runtime.api.inspection import Inspection
from openoutcry.runtime.api.lifecycle import Lifecycle
from openoutcry.runtime.api.persisting import Persisting
from openoutcry.runtime.api.signals import Signals
from openoutcry.runtime.api.subscribing import Subscribing
from openoutcry.runtime.control.server import ControlServer
from openoutcry.runtime.delivery.causation import current
from openoutcry.runtime.delivery.history import History, SeenIds
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.delivery.subscription import Subscription
from openoutcry.runtime.durability.slot import StoreSlot
from openoutcry.runtime.health.monitor import Monitor
from openoutcry.runtime.rounds.rounds import Rounds

BEFORE_START = 512
"""So many durable events share a commit before the start, when nothing drains and no credit is given."""


class EventBus(Subscribing, Signals, Persisting, Inspection):
    """The central event bus of a firm of agents.

    Fan-out to subscriptions with a mailbox and a consumer each, fan-in of signals at a barrier, two priority
    lanes and a control lane, backpressure at the admission, and a ledger that accounts for every accepted event.

    ```python
    async with EventBus() as bus:
        bus.subscribe(EventType.MARKET_DATA, on_tick)
        await bus.publish(MarketDataEvent(symbol="ES", price=5000.25))
        await bus.join()
    ```

    The bus belongs to one event loop; `publish_threadsafe` is the way in for other threads.

    Args:
        max_queue_size: The most events that wait in the fullest gating mailbox.
        signal_timeout: How long a round holds out for everybody before the quorum suffices, in seconds.
        barrier_timeout: The hard deadline of a round, in seconds.
        backpressure_config: Thresholds, reserve, rate limit, order of shedding.
        enable_persistence: Keep what is accepted in a journal, so that it survives a crash.
        persistence_config: Where and how; giving one enables persistence.
        health_check_config: What is healthy, and what is done about the rest. With one the bus checks itself
            and recovers; without it judges by the defaults when it is asked, and acts on nothing.
        clock: Where time comes from; by default the running loop's own clock (a virtual one), or the
            machine's.
        history_size: Events kept for `get_event_history`.
        dedup_window: An `event_id` is recognised as a duplicate until this many further events were accepted,
        dedup_window_s: or this time has passed, in seconds; while the event waits or is in flight, always.
        kill_switch_releasers: Values of `source_agent` that may publish `KillSwitchEvent(activated=False)`.
        journal: A journal to use instead of the file that `persistence_config` names. It is not closed by the
            bus.

    The journal is opened when it is first needed, by a publish, `recover_persisted_events` or `start` at the
    latest; that raises what opening it raises (`JournalLocked`, `JournalCorrupt`, ...), and `stop` closes it.

    Raises:
        ConfigError: A value is out of range.

    """

    def __init__(
        self,
        max_queue_size: int = 10_000,
        signal_timeout: float = 5.0,
        barrier_timeout: float = 10.0,
        backpressure_config: BackpressureConfig | None = None,
        enable_persistence: bool = False,
        persistence_config: PersistenceConfig | None = None,
        health_check_config: HealthCheckConfig | None = None,
        *,
        clock: Clock | None = None,
        history_size: int = 10_000,
        dedup_window: int = 8_192,
        dedup_window_s: float = 600.0,
        kill_switch_releasers: Iterable[str] = (),
        journal: Journal | None = None,
    ) -> None:
        persistence_config = _persistence(enable_persistence, persistence_config, journal)
        self.config = BusConfig(
            max_queue_size=max_queue_size,
            signal_timeout=signal_timeout,
            barrier_timeout=barrier_timeout,
            backpressure=backpressure_config or BackpressureConfig(),
            history_size=history_size,
            dedup_window=dedup_window,
            dedup_window_s=dedup_window_s,
            kill_switch_releasers=check_names("kill_switch_releasers", kill_switch_releasers),
            persistence=persistence_config,
            health=health_check_config,
        )
        first_clock = clock or clock_of(_running_loop())
        seen = SeenIds(dedup_window, int(dedup_window_s * 1e9))
        self._bus = BusState(
            max_queue_size, self.config.backpressure, first_clock, History(history_size), seen
        )
        self._slot = StoreSlot(self._bus, persistence_config, journal, clock)
        self._admission = Admission(self._bus, self._slot, self.config.kill_switch_releasers)
        self._dispatcher = self._admission.dispatcher
        self._signal_classes: set[type] = set()
        self._rounds = Rounds(signal_timeout_s=signal_timeout, barrier_timeout_s=barrier_timeout, clock=clock)
        self._intake = ThreadIntake(self._bus, self._admission, max_queue_size)
        self._monitor = Monitor(self._bus, self._slot, health_check_config)
        self._lifecycle = Lifecycle(
            self._bus,
            self._dispatcher,
            self._admission,
            self._intake,
            self._rounds,
            self._monitor,
            self._slot,
            clock,
            persistence_config,
        )
        self._lifecycle.make_control = partial(ControlServer, self)
        if type(self).publish is EventBus.publish:
            # The fast_path's own function, so that the hot path is one call; a subclass's override stays in
            # force.
            setattr(self, "publish", self._admission.fast_path.publish)  # noqa: B010 - a method, to the type checker

    # -- publishing ---------------------------------------------------------------------------------

    async def publish(self, event: Any, priority: bool = False, *, level: str | None = None) -> bool:
        """Publish an event.

        True: it was accepted and will be handled by every matching subscription, or end in that
            subscription's dead
        letters; an `event_id` that was accepted before is True as well and delivers nothing new. False: it
        was refused for lack of room or shed by backpressure, delivered to nobody, and counted
        (`metrics.refused`).

        At HIGH a low-priority event may wait for a token of the rate limit, and a high-priority one waits for
        room, both at most `cooldown_s`. A publish from inside a handler never waits. Publishing before
        `start` queues.

        Cancelled: either nothing was admitted, or the event was admitted whole; publishing it again is safe.

        Args:
            event: An `Event`, or an object of a user's class with `event_id` and `event_type`.
            priority: Take the high-priority lane whatever the type.
            level: What the event must survive before this returns: `memory`, `process` or `disk`; by default
                what the bus's `PersistenceConfig` says of its type. Without a journal everything is `memory`.
                An id that was accepted at `memory` before stays so.

        Raises:
            InvalidEvent: It is not an event, or one that cannot be written.
            NotAuthorised: Its source may not publish it.
            BusClosed: The bus is stopping or stopped.
            WrongThread: The call came from another thread.
            JournalFull, JournalLocked: The journal takes nothing at the moment; nothing was admitted.
            JournalDead: A write or sync has failed. Nothing was delivered; whether the event is on the disk
                is not known, and publishing it again on the next journal is safe.

        """
        return await self._admission.fast_path.publish(event, priority, level=level)

    def publish_nowait(self, event: Any, priority: bool = False, *, level: str | None = None) -> bool:
        """Publish without waiting for room: what would have to wait for it is refused, for that reason.

        A durable event is committed, and synced if its level is `disk`, before this returns: it costs the
        loop a commit of its own. Raises as `publish`.
        """
        return self._admission.publish_nowait(event, priority, level)

    async def publish_many(self, events: Iterable[Any], priority: bool = False) -> int:
        """Publish events in order and stop at the first that is refused. Durable ones share their commits.

        Returns:
            How many were accepted: `events[n:]` is what was not. The first of these was refused and counted.

        Raises:
            As `publish`, at the event in question; those before it were accepted. Where a commit is refused,
            none of the events that shared it was; publishing all of them again is safe.

        """
        return await self._admission.publish_many(events, priority)

    def publish_threadsafe(self, event: Any, priority: bool = False) -> "Future[bool]":
        """Publish from any thread.

        Events of one thread keep their order; kill switches and high-priority events go before the others. At
        most `max_queue_size` events wait for the loop; beyond that the answer is False at once.

        Returns:
            A `concurrent.futures.Future` with what `publish` would return or raise.

        """
        return self._intake.put(event, priority=priority)

    # -- life ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start handling events; returns once the bus is running. May be awaited or run as a task.

        What was published before is delivered first, kill switches and high-priority events at the head.
        Harmless when running; while the bus is stopping it waits for the end of that. After `stop` the bus
        can be started again, also on another loop.

        Raises:
            WrongThread: The bus is running on another event loop.
            BusClosed: A handler called it while the bus is stopping.

        """
        await self._lifecycle.start()

    async def stop(self, timeout_s: float = 10.0) -> None:
        """Stop: admit nothing from outside, drain until the deadline, close the rounds, end the workers.

        While draining, running handlers may still publish. What has not drained after `timeout_s` seconds
        waits for the next start. Harmless when called twice or before `start`. Called by a handler it returns
        at once and the stop goes on. Cancelled, it goes on in the background.
        """
        await self._lifecycle.stop(timeout_s)

    async def join(self) -> None:
        """Wait until everything accepted is settled; before `start`, until the bus is started and that is so.

        A paused subscription with events waiting, or a stuck handler, makes it wait: put it under a time-out.

        Raises:
            OpenOutcryError: A handler called it, whose own event it would wait for.
            BusClosed: The bus is or was stopped with events waiting.

        """
        self._admission.check_thread("join")
        who = current.get()
        if who is not None and who.bus is self._bus and who.running:
            raise OpenOutcryError(
                "join was called by a handler, whose own event it would wait for; call it outside"
            )
        bus, dispatcher, ingest = self._bus, self._dispatcher, self._intake
        while True:
            dispatcher.deliver()
            if not ingest.empty:
                await ingest.wait_empty()
            elif not self._admission.is_committed:
                await self._admission.wait_committed()
            elif (
                dispatcher.staged
                or dispatcher.held_back_all
                or dispatcher.held_in_journal
                or not bus.settled()
            ):
                if self._lifecycle.state == "stopped":
                    raise BusClosed(
                        "the bus is stopped with events waiting, so nothing will settle them; start it again"
                    )
                await bus.wait_settled()
            else:
                return

    async def __aenter__(self) -> Self:
        """Start the bus."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the bus, draining it first."""
        await self.stop()

    @property
    def is_running(self) -> bool:
        """Whether handlers are being called: from `start` until `stop` has drained."""
        return self._bus.running

    # -- backpressure -------------------------------------------------------------------------------

    def on_backpressure_change(self, callback: Callable[[BackpressureLevel], Any]) -> None:
        """Call `callback(level)` at each change of the backpressure level. What it raises is logged."""
        self._admission.check_thread("on_backpressure_change")
        self._admission.room.callbacks.append(callback)

    def on_stalled(self, callback: Callable[[Subscription, bool], Any]) -> None:
        """Call `callback(subscription, True)` when a subscription stops moving, False when it moves again.

        A stalled subscription has not moved for `grace_s` with events waiting, and holds nobody up any more.
        What the callback raises is logged.
        """
        self._admission.check_thread("on_stalled")
        self._bus.on_stalled.append(callback)

    def on_failing(self, callback: Callable[[Subscription, bool], Any]) -> None:
        """Call `callback(subscription, True)` when one is paused because most events fail, False afterwards.

        It is tried with one event after a pause, which grows each time. What the callback raises is logged.
        """
        self._admission.check_thread("on_failing")
        self._bus.on_failing.append(callback)

    def on_dead_letter(self, callback: Callable[[DeadLetter], Any]) -> None:
        """Call `callback(letter)` for each event that a subscription gives up. What it raises is logged."""
        self._admission.check_thread("on_dead_letter")
        self._bus.on_dead.append(callback)

    @property
    def backpressure_level(self) -> BackpressureLevel:
        """The current backpressure level."""
        self._admission.check_thread("backpressure_level")
        self._admission.room.look()
        return self._bus.pressure.level

    @property
    def queue_size(self) -> int:
        """Events that wait in the fullest gating mailbox, those on their way to it included."""
        self._admission.check_thread("queue_size")
        return self._admission.room.depth()

    def reset_metrics(self) -> None:
        """Count admissions and refusals from zero again. The ledger is not touched."""
        self._admission.check_thread("reset_metrics")
        self._admission.reset()


def _persistence(
    enabled: bool, config: PersistenceConfig | None, journal: Journal | None
) -> PersistenceConfig | None:
    """Return the settings of the journal, if there is to be one."""
    check_flag("enable_persistence", enabled)
    if journal is not None and not hasattr(journal, "write"):
        raise ConfigError(
            f"journal is {journal!r}; it must be a Journal such as MemoryJournal(). For a file give "
            "persistence_config=PersistenceConfig(path=...)"
        )
    wanted = enabled or journal is not None
    return config or PersistenceConfig() if wanted else config


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
