"""The event bus: makes the parts of one bus and delegates to them. What users call is documented here."""

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future
from os import PathLike
from typing import Any, Literal, Self, Unpack, overload

from openoutcry.config import (
    BackpressureConfig,
    BusConfig,
    HealthCheckConfig,
    LevelName,
    Link,
    PersistenceConfig,
)
from openoutcry.core.barrier import Verdict
from openoutcry.core.halts import Halt
from openoutcry.core.health import EventBusHealthStatus, HealthCheckResult
from openoutcry.core.ledger import Ledger
from openoutcry.core.outcome import RoundOutcome
from openoutcry.core.pressure import BackpressureLevel, BackpressureMetrics
from openoutcry.core.retries import DeadLetter
from openoutcry.errors import JournalError
from openoutcry.events import Event
from openoutcry.journals import EventPersistence
from openoutcry.ports import Clock, Journal, Transport
from openoutcry.runtime.admission.from_threads import ThreadIntake
from openoutcry.runtime.admission.kill_switches import Releaser
from openoutcry.runtime.api.admin import Admin, Moved, moved
from openoutcry.runtime.api.answers import Keep, LiveAnswers, Outside
from openoutcry.runtime.api.building import foundation_of, persistence_of
from openoutcry.runtime.api.inspection import Envelope, Inspection
from openoutcry.runtime.api.lifecycle import Lifecycle
from openoutcry.runtime.api.parts import USUAL, Parts
from openoutcry.runtime.api.signals import Signals
from openoutcry.runtime.api.subscribing import Subscribing, decorator
from openoutcry.runtime.api.typed import A, AnyTypes, B, C, Classes, H, One, Subscribes, Three, To, Two, Types
from openoutcry.runtime.api.until_signal import StopSignal, run_until_signal
from openoutcry.runtime.delivery.chance import Chance
from openoutcry.runtime.delivery.consumers import Consumers
from openoutcry.runtime.delivery.handlers import Handler
from openoutcry.runtime.delivery.options import SubscribeOptions, spells_out_options
from openoutcry.runtime.delivery.subscription import Subscription
from openoutcry.runtime.durability.receipt import Receipt
from openoutcry.runtime.rounds.barriers import SignalBarrier


class EventBus:
    """The central event bus of a firm of agents.

    Fan-out to subscriptions with a mailbox and a consumer each, fan-in of signals at a barrier, two priority
    lanes and a control lane, backpressure at admission, and a ledger of every accepted event.

    ```python
    async with EventBus() as bus:
        bus.subscribe(EventType.MARKET_DATA, on_tick)
        await bus.publish(MarketDataEvent(symbol="ES", price=5000.25))
        await bus.join()
    ```

    It may be made and subscribed to in any thread. From `start` to `stop` it belongs to one event loop: other
    threads call `publish_threadsafe` and `is_running`; the rest raises `WrongThread`, `WrongLoop`,
    `LoopClosed` or `ForkedBus` there. Operators' verbs are on `bus.admin`. What a callback raises is logged.

    Args:
        max_queue_size: The most events that wait in one mailbox.
        signal_timeout: How long a round waits for all agents before the quorum is enough, in seconds.
        barrier_timeout: The hard deadline of a round, in seconds.
        backpressure_config: Thresholds, reserve, rate limit, order of shedding.
        enable_persistence: Keep accepted events in a journal, so that they survive a crash.
        persistence_config: Where and how; giving one enables persistence.
        health_check_config: What is healthy, and what to do about the rest. With one the bus checks itself
            and recovers; without one it judges by the defaults when it is asked, and acts on nothing.
        clock: Where time comes from; by default the running loop's clock (a virtual one) or the machine's.
        history_size: How many events are kept for `get_event_history`.
        history_bytes: About how many bytes they may take; by default 64 MiB or, if more, 4 KiB for each of
            `history_size`. Beyond that the oldest go; with a journal they are read from there.
        dedup_window: An `event_id` is recognised as a duplicate until this many further events were accepted
            (of its own type, unless that is shed first), and always while its event waits or is in flight.
        dedup_window_s: The id is forgotten after this time as well, in seconds.
        kill_switch_releasers: Values of `source_agent` that may publish `KillSwitchEvent(activated=False)`.
            Deprecated: take a `releaser`.
        control_releaser: The name under which `openoutcry release` releases, or nobody.
        control: Where a bus without a journal file listens for the command line and the page.
        stand_in_max_age: For how long, in seconds, the last signal of an agent that is missing from a round
            is shown in `outcome.stand_ins`, with its age. It never counts. None: nothing stands in.
        check_events: `always`: refuse what would not come back from a journal equal also where none takes
            it: at `memory`, and without a journal. For tests and staging; it costs as much as writing.
        seed: What `chance` is seeded by; by default it is drawn. It stands in the journal, for a replay.
        journal: A journal to use instead of a file. The bus does not close it.
        link: How this process is one desk of a firm that runs in several. It takes a journal.
        transport: What joins the desks instead of the servers that `link` names. The bus opens and closes it.

    The journal is opened when it is first needed, at the latest by `start`, which raises what that raises.

    Attributes:
        chance: A `random.Random`, which draws the same numbers for an event when a day is replayed.

    Raises:
        ConfigError: A value is out of range.

    """

    config: BusConfig
    chance: Chance
    _parts: Parts = USUAL

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
        history_bytes: int | None = None,
        dedup_window: int = 8_192,
        dedup_window_s: float = 600.0,
        kill_switch_releasers: Iterable[str] = (),
        control_releaser: str | None = None,
        control: str | PathLike[str] | None = None,
        stand_in_max_age: float | None = None,
        check_events: Literal["journaled", "always"] = "journaled",
        seed: int | None = None,
        journal: Journal | None = None,
        link: Link | None = None,
        transport: Transport | None = None,
    ) -> None:
        self.config = config = BusConfig(
            max_queue_size=max_queue_size,
            signal_timeout=signal_timeout,
            barrier_timeout=barrier_timeout,
            backpressure=backpressure_config or BackpressureConfig(),
            history_size=history_size,
            history_bytes=history_bytes,
            dedup_window=dedup_window,
            dedup_window_s=dedup_window_s,
            kill_switch_releasers=kill_switch_releasers,
            control_releaser=control_releaser,
            control=control,
            stand_in_max_age=stand_in_max_age,
            check_events=check_events,
            seed=seed,
            persistence=persistence_of(enable_persistence, persistence_config, journal),
            health=health_check_config,
            link=link,
        )
        bus, rounds, admission = foundation_of(config, clock, journal, self._parts)
        self._bus, self._rounds, self._admission, self.chance = bus, rounds, admission, bus.chance
        self._consumers = consumers = Consumers(bus, admission.dispatcher)
        self._intake = intake = ThreadIntake(bus, admission, max_queue_size)
        self._lifecycle = Lifecycle(self, bus, consumers, admission, intake, rounds, config, clock, transport)
        self._monitor = monitor = self._lifecycle.monitor
        self._subscribing = Subscribing(bus, consumers, admission, monitor)
        self._outside = Outside(bus, LiveAnswers(bus, admission.slot.recorder_of_day))
        self._signals = Signals(bus, admission, rounds, is_joined=config.link is not None)
        self._inspection = Inspection(bus, admission, rounds, monitor, self._lifecycle.linking)
        self._admin = Admin(bus, admission, self._lifecycle)
        if type(self).publish is EventBus.publish:  # its part's own function, so that a publish is one call
            setattr(self, "publish", admission.publish_fast)  # noqa: B010 - a method, to the type checker
        if type(self).publish_signal is EventBus.publish_signal:
            setattr(self, "publish_signal", self._signals.publish)  # noqa: B010 - as above

    @property
    def admin(self) -> Admin:
        """The operators' verbs: redrive, drop cursors, recover the journal, pause, resume, the pulse."""
        return self._admin

    async def publish(self, event: Any, priority: bool = False, *, level: LevelName | None = None) -> bool:
        """Publish an event, and return whether it was accepted.

        True: every matching subscription will handle it, or it ends in that subscription's dead letters. An
        `event_id` that was accepted before is True as well and delivers nothing new; with other content it is
        a conflict. False: no room, or it was shed; nobody gets it. `metrics` counts both.

        At HIGH a low-priority event may wait for a token of the rate limit, and a high-priority one for room,
        at most `cooldown_s`. A publish from inside a handler never waits. Before `start`, events are queued.

        Cancelled: either nothing was accepted, or the event was accepted whole; publish it again to be sure.

        Args:
            event: An `Event`, or an object of your own class with `event_id` and `event_type`.
            priority: Take the high-priority lane whatever the type.
            level: What the event must survive before this returns: `memory`, `process`, `disk`, `replicated`;
                by default what the `PersistenceConfig` says of its type, without a journal `memory`. An event
                that was accepted before is brought to that level, and delivered to nobody again.

        Raises:
            InvalidEvent: It is not an event, cannot be encoded, or would not come back from a journal equal.
            NotAuthorised: Its source may not publish it.
            DecidedOtherwise: A handler has published another event when it handled the same event before.
            BusClosed: The bus is stopping or stopped.
            WrongThread: Another thread or loop called it, a forked child, or the loop was closed.
            JournalFull, JournalLocked: The journal takes nothing at the moment; nothing was accepted.
            JournalDead: A write or sync has failed. Nothing was delivered. It is not known whether the event
                is on the disk; publishing it again on the next journal is safe.

        """
        return await self._admission.publish_fast(event, priority, level)

    def publish_nowait(self, event: Any, priority: bool = False, *, level: LevelName | None = None) -> bool:
        """Publish without waiting: an event that would have to wait for room or a token is refused.

        A durable event is committed, and synced if its level is `disk`, before this returns, in a commit of
        its own that blocks the loop. Returns and raises as `publish`.
        """
        return self._admission.publish_nowait(event, priority, level)

    async def publish_many(self, events: Iterable[Any], priority: bool = False) -> int:
        """Publish events in order, up to the first that is refused, and return how many were accepted.

        Durable events share commits. It raises what `publish` raises, at the event in question; those before
        it were accepted. If a commit fails, none of the events that shared it was accepted. Publishing all of
        them again is safe.
        """
        return await self._admission.publish_many(events, priority)

    def publish_threadsafe(self, event: Any, priority: bool = False) -> "Future[bool]":
        """Publish from any thread of this process. Before the start it queues.

        Returns a `concurrent.futures.Future` with what `publish` would return or raise. Events of one thread
        keep their order; kill switches and high-priority events overtake the others. At most `max_queue_size`
        events wait for the loop; beyond that the answer is False at once. What was handed in before the loop
        was closed waits for the next `start`, or for `stop`. Raises `LoopClosed` where the loop was closed
        without a stop, and `ForkedBus` in a forked child.
        """
        return self._intake.put(event, priority=priority)

    async def publish_receipt(
        self, event: Any, priority: bool = False, *, level: LevelName | None = None
    ) -> Receipt:
        """Publish as `publish` does, and return position, level and outcome: see `Receipt`.

        It is true in a condition only if the event is new and somebody takes it.
        """
        return await self._admission.publish_receipt(event, priority, level)

    def releaser(self, name: str) -> Releaser:
        """Return what releases kill switches under a name: once per name, before the start (`NotAuthorised`).

        From then on an event that claims this name as the source of a release is refused.
        """
        return self._admission.kill_switches.releaser(name)

    def halted(self, scope: str = "firm") -> tuple[Halt, ...]:
        """Return the active kill switches that concern a scope, the firm's included. It blocks nothing."""
        return self._inspection.halted(scope)

    async def flush(self) -> None:
        """Wait until everything accepted so far, and how far each subscription has come, is on the disk.

        Without a journal it returns at once. Raises what `publish` raises for a journal that fails.
        """
        await self._lifecycle.flush()

    async def start(self) -> None:
        """Start handling events: first what was published before, kill switches and high priority ahead.

        It returns when the agents subscribed before have their memory back, or cannot get it (`ready` says
        why); nobody else waits for that. On a running bus it does nothing; on one that is stopping it waits
        for the end of that. After `stop` the bus can be started again, also on another loop.

        Raises:
            WrongThread, WrongLoop, ForkedBus: It runs on another loop, which is not closed, or process.
            BusClosed: A handler called it while the bus is stopping, or `stop` came before it had started.
            JournalError: The journal cannot be opened, in one of the ways that the subclasses name.

        """
        await self._lifecycle.start()

    async def stop(self, timeout_s: float = 10.0) -> None:
        """Stop: accept nothing from outside, drain until the deadline, close the rounds, end the workers.

        While the bus drains, running handlers may still publish. What has not drained after `timeout_s`
        seconds waits for the next start: the calls are cancelled, and half a second later the stop is
        over, whatever handlers, threads and disks do (but for a handler, or a disk under `sync="inline"`,
        that blocks the loop).

        A second call waits for the same stop, and may shorten it; before `start` it closes the bus, and a
        start that is under way ends with `BusClosed`. Called by a handler it returns at once, and the bus
        stops when the handler has returned. Cancelled, the stop goes on in the background. Where the loop was
        closed without a stop, it works on any other loop: it closes the journal, and ends what is left.

        Raises:
            WrongThread, WrongLoop, ForkedBus: The bus is not this loop's, or not this process's.
            JournalError: The journal could not be saved and closed as it should be. The bus is stopped.

        """
        await self._lifecycle.stop(timeout_s)

    async def join(self) -> None:
        """Wait until everything accepted is settled. Before `start` it waits for the start as well.

        A paused subscription with events waiting, or a handler that is stuck, keeps it waiting: put it under
        a time-out. Cancelling it is harmless.

        Raises:
            OpenOutcryError: A handler called it: it would wait for the handler's own event.
            BusClosed: The bus is stopped, or stops, with events waiting.
            RestoreFailed: The rest is settled; events wait for a subscription that lacks its memory.

        """
        await self._lifecycle.join()

    async def run_until_signal(self, drain_timeout_s: float | None = None) -> StopSignal | None:
        """Start the bus if it does not run, and stop it at SIGINT or SIGTERM, which are taken over meanwhile.

        Returns the signal when the bus has drained, for at most `drain_timeout_s` (10 s; under `openoutcry
        run` what that was told, or less), and stopped; None when somebody else has stopped it. A second
        signal ends the process at once, with code 128 and its number. Windows has Ctrl-C alone. Cancelled,
        the bus runs on.

        Raises:
            WrongThread: It was called in another thread than the main one, where no signal arrives.
            OpenOutcryError: A handler called it: the drain would wait for the handler's own event.
            SeatLost: Another process has the bus's desk; it is stopped.
            BusClosed, JournalError: As `start` and `stop`.

        """
        self._admission.check_thread("run_until_signal")
        return await run_until_signal(self, self._bus.wait_stopped, drain_timeout_s)

    async def __aenter__(self) -> Self:
        """Start the bus."""
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Stop the bus, draining it first. In a forked child an exception, such as an exit, passes."""
        if kind is None or not self._bus.ownership.is_forked:
            await self.stop()

    @property
    def is_running(self) -> bool:
        """True while handlers are called: from `start` until `stop` has drained. Any thread may ask."""
        self._bus.ownership.check_process("is_running")
        return self._bus.running and not self._bus.ownership.is_stranded

    @overload
    def subscribe(
        self, event_type: One[A], handler: To[A], **options: Unpack[SubscribeOptions]
    ) -> Subscription: ...
    @overload
    def subscribe(
        self, event_type: Two[A, B], handler: To[A | B], **options: Unpack[SubscribeOptions]
    ) -> Subscription: ...
    @overload
    def subscribe(
        self, event_type: Three[A, B, C], handler: To[A | B | C], **options: Unpack[SubscribeOptions]
    ) -> Subscription: ...
    @overload
    def subscribe(
        self, event_type: Types, handler: Handler, **options: Unpack[SubscribeOptions]
    ) -> Subscription: ...
    @spells_out_options
    def subscribe(
        self, event_type: Any, handler: Handler, **options: Unpack[SubscribeOptions]
    ) -> Subscription:
        """Subscribe a handler.

        It has one mailbox and one consumer for all its types. Subscribing it again adds types, and then no
        other argument may be given. It gets what is accepted from now on; before `start`, also the earlier.

        Args:
            event_type: An event type (string or str-valued Enum member), an event class (its subclasses
                included), `"*"` for everything, or several of these in a tuple or a list.
            handler: A coroutine function or a plain function of the event. The bus keeps it alive, and with
                a method its instance.
            **options: As in `SubscribeOptions`, where each is described.

        Raises:
            SubscriptionError: The type, the handler or an option is not usable.
            DuplicateName: The name belongs to another handler.
            ConfigError: A number is out of range.

        """
        return self._subscribing.subscribe(event_type, handler, **options)

    @overload
    def on(  # type: ignore[overload-overlap] # pyright: ignore[reportOverlappingOverload]
        self, a: Classes[A, B, C], b: type[B] = ..., c: type[C] = ..., /, **options: Unpack[SubscribeOptions]
    ) -> Subscribes[A | B | C]: ...
    @overload
    def on(self, handler: H, /) -> H: ...  # type: ignore[overload-overlap]
    @overload
    def on(self, *types: AnyTypes, **options: Unpack[SubscribeOptions]) -> Callable[[H], H]: ...
    def on(self, *types: Any, **options: Any) -> Any:
        """Subscribe the decorated function: `@bus.on`, `@bus.on(Fill, timeout_s=2)`, and return it.

        Without types they are taken from the annotation of the function's first parameter, which must be an
        event class or a union of such. Options and errors are those of `subscribe`.
        """
        return decorator(self.subscribe, types, options)

    def unsubscribe(self, event_type: AnyTypes, handler: Handler) -> None:
        """Take types from a handler's subscription; with the last one it ends.

        Events of these types that wait for it are counted as withdrawn. A call that has begun goes on. Raises
        `NotSubscribed` where the handler is not subscribed to that.
        """
        self._subscribing.unsubscribe(event_type, handler)

    def cleanup_dead_handlers(self, max_idle_seconds: float = 600.0) -> int:
        """End the subscriptions that have been idle for longer than `max_idle_seconds`, and return how many.

        Idle time counts from the end of the last call or, before any, from subscribing. Never ended are a
        subscription that takes a high-priority type (a kill-switch handler may wait for months), one with
        `keep=True`, and one with events waiting or in flight. The bus never does this by itself.
        """
        return self._subscribing.end_idle(max_idle_seconds)

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """The subscriptions, in the order in which they were made."""
        return self._inspection.subscriptions()

    def subscription(self, name: str) -> Subscription:
        """Return the subscription of that name, or raise `NotSubscribed`."""
        return self._inspection.subscription(name)

    def register_signal_agent(self, agent_name: str, critical: bool = False) -> None:
        """Expect an answer from this agent in every round that is opened from now on.

        The name is what its signals carry as `source_agent` (or `strategy_name`). Without the answer of one
        that is `critical` no outcome is valid, whatever the quorum says.
        """
        self._signals.register(agent_name, critical)

    async def publish_signal(self, signal: Any) -> None:
        """Publish a signal and count it in its round, both or neither.

        The round is the one that the signal names, or that of the event being handled, or the open round that
        expects the agent. A late signal is recorded as late in its own round, without a vote in another. One
        before any round joins the next, if that opens within `signal_timeout`. A duplicate has no second one.

        Cancelled: either it was not published and has no vote, or both happened. Publishing again is safe.

        Raises:
            SignalRefused: There was no room; it was not delivered and has no vote.
            InvalidEvent: It is not a signal.
            BusClosed, NotAuthorised, WrongThread, JournalError: As `publish`.

        """
        await self._signals.publish(signal)

    async def wait_for_signals(self, round_id: str | None = None) -> RoundOutcome:
        """Wait for the outcome of a round: the signals as a dict by agent, and what came of the round.

        Without an id it is the oldest round that nobody has waited for yet; if there is none, a round is
        opened. With no agent registered it returns at once, empty and not valid. Cancelled, the round stays
        as it was. Look at `valid` before you decide on the outcome; `explain()` says why it is what it is.

        Raises:
            UnknownRound: No round of that id is open or remembered.
            BusClosed: The bus is stopping or stopped, so no round can open.

        """
        return await self._signals.wait(round_id)

    def open_round(
        self,
        round_id: str | None = None,
        roster: Iterable[str] | None = None,
        quorum: float | None = None,
        critical: Iterable[str] | None = None,
        signal_timeout: float | None = None,
        barrier_timeout: float | None = None,
    ) -> SignalBarrier:
        """Open a round; several may be open at once, such as one per symbol or book.

        Args:
            round_id: Its id; by default a fresh one.
            roster: The agents that are expected; by default the registered ones.
            quorum: A count (int), or a share of the roster, rounded up (float); by default all of it.
            critical: Agents of the roster without whose answer the outcome is not valid; by default those
                registered as critical.
            signal_timeout: How long to wait for all agents, in seconds; by default the bus's.
            barrier_timeout: The hard deadline, in seconds; by default the bus's.

        Raises:
            DuplicateRound: The id is taken.
            ConfigError: A setting is out of range.
            BusClosed: The bus is stopping or stopped.

        """
        self._admission.check_thread("open_round")
        return self._rounds.open(
            round_id,
            roster=roster,
            quorum=quorum,
            critical=critical,
            signal_timeout_s=signal_timeout,
            barrier_timeout_s=barrier_timeout,
        )

    def abstain(self, agent: str, reason: str = "", round_id: str | None = None) -> Verdict:
        """Answer a round without an opinion: it counts toward the quorum, and is not among the signals.

        The round is found as that of a signal is: by the id, by the event being handled, by who is expected.
        Raises `UnknownRound` where no round of that id is open or remembered, `ConfigError` for a bad name.
        """
        return self._signals.abstain(agent, reason, round_id)

    def heartbeat(self, agent: str, lease_s: float | None = None) -> Verdict:
        """Note that an agent is alive. It is no answer to a round.

        With `lease_s` the agent has a lease: from then on health reports it missing whenever it gives no sign
        of life for that long, in seconds. Later heartbeats renew the lease; 0 ends it.
        """
        self._admission.check_thread("heartbeat")
        self._monitor.renew(agent, lease_s)
        return self._rounds.heartbeat(agent)

    async def recorded(self, name: str, call: Callable[[], Awaitable[A] | A], *, keep: Keep = "answer") -> A:
        """Ask something outside of the bus by `call()`, such as a model, and record the answer for a replay.

        A replay does not call: it has the same answer, or raises the like, after the same time. What `call`
        raises goes through, and so does a cancellation. With a journal, unless that records nothing, the
        record is there with the next event that is published.

        Args:
            name: What is asked: by it a replay finds the answer.
            call: Asks; returns the answer, or something to await: dicts with texts as keys, lists, texts,
                finite numbers, booleans and None.
            keep: `hash`: record that it was asked, and a hash of the answer. It cannot be replayed then.

        Raises:
            InvalidEvent: The answer would not come back from JSON equal.
            ConfigError: An argument is out of range; `call` is no function.

        """
        self._admission.check_thread("recorded")
        return await self._outside.ask(name, call, keep)

    async def get_barrier_status(self) -> dict[str, Any]:
        """Return the state of the barrier, JSON-ready: agents, open rounds, recent outcomes, strays."""
        return self._inspection.barrier()

    def on_backpressure_change(self, callback: Callable[[BackpressureLevel], Any]) -> None:
        """Call `callback(level)` at each change of the backpressure level."""
        self._admission.check_thread("on_backpressure_change")
        self._admission.room.callbacks.append(callback)

    def on_stalled(self, callback: Callable[[Subscription, bool], Any]) -> None:
        """Call `callback(subscription, True)` when a subscription stops moving, False when it moves again.

        A stalled one has not moved for `grace_s` with events waiting. One that gates stops gating.
        """
        self._admission.check_thread("on_stalled")
        self._bus.on_stalled.append(callback)

    def on_failing(self, callback: Callable[[Subscription, bool], Any]) -> None:
        """Call `callback(subscription, True)` when one is paused because most events fail, False afterwards.

        It is tried with one event after a pause, which grows each time.
        """
        self._admission.check_thread("on_failing")
        self._bus.on_failing.append(callback)

    def on_dead_letter(self, callback: Callable[[DeadLetter], Any]) -> None:
        """Call `callback(letter)` for each event that a subscription gives up."""
        self._admission.check_thread("on_dead_letter")
        self._bus.on_dead.append(callback)

    def on_health_change(self, callback: Callable[[HealthCheckResult], Any]) -> None:
        """Call `callback(result)` after the first check, and after each that finds something else.

        From now on the bus checks itself, also without a `HealthCheckConfig`. It may be a coroutine function.
        """
        self._admission.check_thread("on_health_change")
        self._monitor.listen(callback)

    def on_journal_error(self, callback: Callable[[JournalError], Any]) -> None:
        """Call `callback(error)` when the journal dies or cannot be read."""
        self._admission.check_thread("on_journal_error")
        self._bus.on_journal_error.append(callback)

    @property
    def backpressure_level(self) -> BackpressureLevel:
        """The current backpressure level."""
        return self._inspection.level()

    @property
    def queue_size(self) -> int:
        """The most events that a publisher meets: in the emptiest mailbox of a type, and on their way."""
        return self._inspection.depth()

    @property
    def metrics(self) -> BackpressureMetrics:
        """What has happened at the admission so far, as a frozen record."""
        return self._inspection.metrics()

    def reset_metrics(self) -> None:
        """Count admissions and refusals from zero again. The ledger is not touched."""
        self._inspection.reset()

    def get_handler_stats(self) -> dict[str, Any]:
        """Return statistics of the subscriptions: counts by type, and a record of each, JSON-ready."""
        return self._inspection.handler_stats()

    def get_status(self) -> dict[str, Any]:
        """Return a comprehensive status for monitoring, JSON-ready; 10 us of the loop a subscription."""
        return self._inspection.status()

    async def read_status(self) -> dict[str, Any]:
        """Return what `get_status` does, and let others run in between. Cancelling it is harmless."""
        return await self._inspection.read_status()

    @overload
    def get_event_history(self, event_type: None = None, limit: int = 100) -> list[Event]: ...
    @overload
    def get_event_history(self, event_type: Classes[A, B, C], limit: int = 100) -> list[A | B | C]: ...
    @overload
    def get_event_history(self, event_type: AnyTypes, limit: int = 100) -> list[Any]: ...
    def get_event_history(self, event_type: Any = None, limit: int = 100) -> list[Any]:
        """Return the most recent accepted events for audit, oldest first: of types or classes, None for all.

        The newest `history_size` are in memory, if they fit into `history_bytes`. With a journal it reads on
        there, in the newest 16,384 entries, and blocks the loop; `read_event_history` reads all.
        """
        return self._inspection.history(event_type, limit)

    @overload
    async def read_event_history(self, event_type: None = None, limit: int = 100) -> list[Event]: ...
    @overload
    async def read_event_history(self, event_type: Classes[A, B, C], limit: int = 100) -> list[A | B | C]: ...
    @overload
    async def read_event_history(self, event_type: AnyTypes, limit: int = 100) -> list[Any]: ...
    async def read_event_history(self, event_type: Any = None, limit: int = 100) -> list[Any]:
        """Return what `get_event_history` does, from everything that the journal keeps, however far back.

        It lets others run in between; a million entries take about half a second. Cancelling it is harmless.
        """
        return await self._inspection.whole_history(event_type, limit)

    def ledger(self) -> Ledger:
        """Return the loss ledger: what became of every accepted event, per subscription and lane."""
        return self._inspection.ledger()

    def dead_letters(
        self, subscription: str | None = None, *, limit: int | None = None, after: int = 0
    ) -> list[DeadLetter]:
        """Return the dead letters of one name or of all, subscribed or not, oldest first, by `letter_id`.

        All of them or, with a `limit`, the next so many behind the letter id `after`. Raises `NotSubscribed`
        if the name is not subscribed and has no letters, and `JournalError` if they cannot be read.
        """
        return self._inspection.dead_letters(subscription, limit, after)

    def dead_letter_counts(self) -> dict[str, int]:
        """Return how many dead letters there are, by the name of their subscription."""
        return self._inspection.dead_letter_counts()

    def envelope(self, event: Any) -> Envelope:
        """Return what the bus knows of an event: its cause, chain and round, also for your own classes."""
        return self._inspection.envelope(event)

    async def check_health(self) -> HealthCheckResult:
        """Check the health of the bus now: the verdict, who is to blame, and what recovery has tried.

        It looks at every subscription (slow, stuck, dead, failing), the event loop, the journal, and at what
        is expected and does not come. With a `HealthCheckConfig`, recovery acts on what is found.
        """
        return self._inspection.health("check_health", anew=True)

    @property
    def health_status(self) -> EventBusHealthStatus:
        """The health of the bus: of the last check or, if that is older than `check_s`, of a new one."""
        return self._inspection.health("health_status").status

    @property
    def is_healthy(self) -> bool:
        """True if nothing is wrong with the bus, as `health_status` says."""
        return self._inspection.health("is_healthy").is_healthy

    async def recover_persisted_events(self) -> int:
        """Open the journal and re-queue what the last session left unsettled; otherwise `start` does it.

        Every unsettled event goes to just those subscriptions that had not settled it, if they are made
        before the start. Nothing is handled before that. Returns how many events some subscription made so
        far has not settled. Raises `OpenOutcryError` on a bus that runs, and `JournalError`.
        """
        return await self._lifecycle.count_unsettled()

    @property
    def persistence(self) -> EventPersistence | None:
        """The persistence layer, or None if the bus has no journal. Opens the journal."""
        return self._inspection.persistence()

    # Deprecated names: call bus.admin.<name>.
    redrive: Moved[int] = moved(Admin.redrive)
    drop_dead_letters: Moved[int] = moved(Admin.drop_dead_letters)
    cursors: Moved[Coroutine[Any, Any, list[Any]]] = moved(Admin.cursors)
    drop_cursor: Moved[Coroutine[Any, Any, int]] = moved(Admin.drop_cursor)
    reassign_cursor: Moved[Coroutine[Any, Any, int]] = moved(Admin.reassign_cursor)
    recover_journal: Moved[Coroutine[Any, Any, Any]] = moved(Admin.recover_journal)
