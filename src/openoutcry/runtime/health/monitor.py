"""The monitor: looks at a running bus now and then, says what is wrong and with whom, and acts on it.

```
  counters, charts, watchdog, journal ──▶ Vitals ──▶ findings ──▶ verdict ──▶ who listens
                                            │
                                            └── stuck or dead ──▶ ladder ──▶ cancel, restart, hold, quarantine
```

It looks by itself only where somebody wants that: a `HealthCheckConfig` was given, or a callback. And only
while there is something to look at, so that an idle bus has no timer standing.
"""

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context
from dataclasses import replace
from typing import Any

from openoutcry.clocks import SystemClock
from openoutcry.config import HealthCheckConfig, check_number
from openoutcry.core.drills import Drills
from openoutcry.core.examine import examine, trouble_of
from openoutcry.core.health import HealthCheckResult, verdict
from openoutcry.core.ladder import Action, Step
from openoutcry.core.leases import Leases
from openoutcry.core.rates import Rates
from openoutcry.core.vitals import Bounds, LoopVitals, SubscriptionVitals, Vitals
from openoutcry.runtime.delivery.consumer import Consumer
from openoutcry.runtime.delivery.state import BusState, guarded
from openoutcry.runtime.delivery.subscription import Subscription
from openoutcry.runtime.durability.slot import StoreSlot
from openoutcry.runtime.health.journal import JournalMonitor
from openoutcry.runtime.health.loop_watchdog import Watchdog
from openoutcry.runtime.health.readings import Readings, lag_of
from openoutcry.units import NS_PER_S

log = logging.getLogger("openoutcry")

LOOKS_AT_REST = 3
"""How often it still looks at a bus that has come to rest, so that what was wrong is seen to be over."""
_SOON_NS = 1_000_000
_LATER_NS = 1_000
"""A timer may ring early; this much later it does not."""


class Monitor:
    """Looks after the health of one bus, on the bus's loop.

    Attributes:
        config: The bounds; the defaults where none were given.
        is_given: Whether they were: then it looks by itself, and recovers if `config.recover`.
        leases: Agents that heartbeat.
        watchdog: The thread that watches the loop, while the bus runs on one that can be late.
        journal: Looks after the journal.
        state: Tells the state of the bus, a word.

    """

    def __init__(self, bus: BusState, slot: StoreSlot, config: HealthCheckConfig | None) -> None:
        self._bus = bus
        self.is_given = config is not None
        self.config = HealthCheckConfig() if config is None else config
        self.recovers = self.is_given and self.config.recover
        self._bounds = Bounds.of(self.config)
        self._check_ns = int(self.config.check_s * NS_PER_S)
        self._readings: dict[Subscription, Readings] = {}
        self.leases = Leases()
        self._drills: Drills | None = None
        self.watchdog: Watchdog | None = None
        self.journal = JournalMonitor(self.config.ladder, slot)
        self.journal.damage = lambda: next((s.read_error for s in bus.router if s.read_error), "")
        self.state: Callable[[], str] = lambda: "new"
        self._callbacks: list[Callable[[HealthCheckResult], Any]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._looks_at_rest = 0
        self._result: HealthCheckResult | None = None
        self._looked_ns = 0
        self._told: object = None

    # -- life ---------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The bus runs, on the loop that runs now."""
        bus, config = self._bus, self.config
        now_ns = bus.clock.now_ns()
        self._readings.clear()
        self.leases.restart(now_ns)
        if config.expectations:
            bus.rates = Rates(config.expectations, now_ns)
        if config.drills is not None:
            self._drills = Drills(config.drills, now_ns)
            bus.drilled = self._drilled
        assert bus.loop is not None
        if config.watchdog:
            moved_ns = self._moved_ns if isinstance(bus.clock, SystemClock) else None
            watchdog = Watchdog(bus.loop, moved_ns=moved_ns)
            self.watchdog = watchdog if watchdog.start() else None
        bus.on_work = self._work
        self._result = None
        self._work()

    def end(self) -> None:
        """The bus stops."""
        self._bus.on_work = lambda: None
        self._silence()
        if self.watchdog is not None:
            self.watchdog.stop()
            self.watchdog = None
        self._result = None

    def _moved_ns(self) -> int:
        """In the watchdog's thread: when a call ended last."""
        try:
            return max((s.last_ns for s in self._bus.router), default=0)
        except RuntimeError:  # somebody is subscribing just now
            return self._bus.clock.now_ns()

    def renew(self, agent: str, lease_s: float | None) -> None:
        """Take a sign of life of an agent, or its goodbye."""
        if lease_s is None:
            self.leases.renew(agent, self._bus.clock.now_ns())
            return
        check_number("lease_s", lease_s, 0)
        if lease_s:
            self.leases.renew(agent, self._bus.clock.now_ns(), int(lease_s * NS_PER_S))
            self._work()
        else:
            self.leases.release(agent)

    # -- looking ------------------------------------------------------------------------------------

    def listen(self, callback: Callable[[HealthCheckResult], Any]) -> None:
        """Tell `callback` whenever something changes."""
        self._callbacks.append(callback)
        self._told = None
        if self._bus.running:
            self._work()

    def forget(self) -> None:
        """Something was mended: the last result says nothing any more."""
        self._result = None
        self._work()

    def current(self) -> HealthCheckResult:
        """Return the last result, or that of a new look if it is too old."""
        result = self._result
        if result is None or self._bus.clock.now_ns() - self._looked_ns >= self._check_ns:
            result = self.look()
        return result

    def look(self) -> HealthCheckResult:
        """Look at everything, act on it where that is wanted, and tell who listens."""
        now_ns = self._looked_ns = self._bus.clock.now_ns()
        vitals = self._vitals(now_ns)
        self._result = result = verdict(examine(vitals, self._bounds), self._details(vitals))
        self._tell(result)
        return result

    def _vitals(self, now_ns: int) -> Vitals:
        bus = self._bus
        silences = [] if bus.rates is None else bus.rates.silences(now_ns, bus.clock.wall_ns())
        running = bus.running
        return Vitals(
            subscriptions=tuple(self._examined(s, now_ns) for s in tuple(bus.router)),
            loop=LoopVitals() if self.watchdog is None else self.watchdog.vitals(),
            journal=self.journal.vitals(now_ns),
            silences=tuple(silences) if running else (),
            lapses=tuple(self.leases.lapsed(now_ns)) if running else (),
            drill=None if self._drills is None else self._drills.report(now_ns),
        )

    def _examined(self, subscription: Subscription, now_ns: int) -> SubscriptionVitals:
        """Return the vital signs of a subscription, after recovery has done what it can about them."""
        bus, readings = self._bus, self.readings(subscription)
        lag = lag_of(subscription, bus.durability.released)
        readings.note(now_ns, lag)
        consumer = bus.consumers.get(subscription)
        vitals = readings.vitals(consumer, now_ns, bus.still_ns(subscription, now_ns), lag)
        if not self.recovers or consumer is None:
            return vitals
        trouble = trouble_of(vitals, self._bounds)
        step = readings.ladder.look(trouble, now_ns)
        if step is not None:
            self._act(readings, consumer, step, trouble)
        ladder = readings.ladder
        return replace(
            vitals,
            held_by_ladder=ladder.is_holding,
            exhausted=ladder.is_exhausted,
            recovering=ladder.is_climbing and (step is not None or ladder.is_holding or trouble is not None),
            tried=ladder.tried,
        )

    def readings(self, subscription: Subscription) -> Readings:
        """Return the readings of a subscription."""
        readings = self._readings.get(subscription)
        if readings is None:
            if len(self._readings) > 2 * len(tuple(self._bus.router)) + 8:
                self._readings = {s: c for s, c in self._readings.items() if not s.ended}
            readings = self._readings[subscription] = Readings(
                subscription, self.config, self._bus.clock.now_ns()
            )
            subscription.on_mended = lambda: self._mended(subscription)
        return readings

    def _details(self, vitals: Vitals) -> dict[str, Any]:
        drill, journal = vitals.drill, vitals.journal
        return {
            "state": self.state(),
            "checked_ns": self._bus.clock.wall_ns(),
            "subscriptions": len(vitals.subscriptions),
            "waiting": sum(s.waiting for s in vitals.subscriptions),
            "loop_lag_ms": round(vitals.loop.lag_ns / 1e6, 3),
            "journal": None if journal is None else journal.state,
            "kill_lane": None
            if drill is None
            else {
                "drills": drill.drills,
                "proven_s_ago": None if drill.proven_ns_ago is None else drill.proven_ns_ago / NS_PER_S,
                "worst_ms": None if drill.worst_ns is None else drill.worst_ns / 1e6,
            },
        }

    def _tell(self, result: HealthCheckResult) -> None:
        told = (result.status, [(f.check, f.culprit, f.level, f.tried) for f in result.findings])
        if told == self._told:
            return
        if self._told is not None or not result.is_healthy:
            level = logging.INFO if result.is_healthy else logging.WARNING
            log.log(level, "health: %s: %s", result.status.value, result.message)
        self._told = told
        for callback in tuple(self._callbacks):
            guarded(callback, result)

    # -- acting -------------------------------------------------------------------------------------

    def _act(self, readings: Readings, consumer: Consumer, step: Step, trouble: str | None) -> None:
        """Do what the ladder says."""
        subscription = readings.subscription
        log.warning("recovery of %s (%s): %s", subscription.name, trouble or "held", step.action.value)
        limit_ns = int(self.config.stall_s * NS_PER_S)
        if consumer.timeout_ns is not None:
            limit_ns = int(consumer.timeout_ns * self.config.overrun)
        if step.action is Action.CANCEL:
            consumer.cancel_calls(limit_ns)
        elif step.action is Action.RESTART:
            consumer.restart(limit_ns)
        elif step.action in (Action.HOLD, Action.QUARANTINE):
            subscription.hold(held=True)
        elif step.action is Action.RELEASE:
            subscription.hold(held=False)
            subscription.moved_at = (subscription.mailbox.progress, self._bus.clock.now_ns())
            consumer.restart()

    def _mended(self, subscription: Subscription) -> None:
        """A person says that the handler is mended: everything may be tried anew."""
        readings, consumer = self._readings.get(subscription), self._bus.consumers.get(subscription)
        step = None if readings is None else readings.ladder.resume()
        if step is not None and consumer is not None:
            consumer.restart()
        subscription.streak.reset()
        self.forget()

    # -- by itself ----------------------------------------------------------------------------------

    def _work(self) -> None:
        """There is something to look at, from now on and for as long as that is so."""
        if self.watchdog is not None:
            self.watchdog.work_begins()
        self._looks_at_rest = 0
        if self._timer is None and (self.is_given or self._callbacks) and self._bus.running:
            self._arm()

    def _arm(self) -> None:
        loop, now_ns = self._bus.loop, self._bus.clock.now_ns()
        wait_ns = self._next_in_ns(now_ns)
        if wait_ns is not None and loop is not None:
            # In a context of its own: nobody's handler does this.
            self._timer = loop.call_later((wait_ns + _LATER_NS) / NS_PER_S, self._ring, context=Context())

    def _ring(self) -> None:
        self._timer = None
        drills = self._drills
        try:
            if drills is not None:
                self._drill(drills)
            self.look()
        finally:  # whatever a look lets out, the next one is due
            if self._bus.running and self._timer is None:
                self._arm()

    def _next_in_ns(self, now_ns: int) -> int | None:
        """Return when to look again; None when nothing can happen by itself."""
        dues = []
        if self._is_needed():
            dues.append(self._check_ns)
        if self.recovers:
            ladders = [c.ladder for c in self._readings.values() if not c.subscription.ended]
            due = [x.due_ns for x in ladders if x.is_holding or x.is_climbing]
            dues += [max(_SOON_NS, at - now_ns) for at in (*due, self.journal.due_ns) if at is not None]
        if self._drills is not None:
            dues.append(self._drills.due_in_ns(now_ns))
        return min(dues, default=None)

    def _is_needed(self) -> bool:
        watches = self._bus.rates is not None or len(self.leases) > 0 or self.journal.is_at_work
        if watches or any(map(self._may_move, self._bus.router)):
            self._looks_at_rest = 0
            return True
        self._looks_at_rest += 1
        return self._looks_at_rest <= LOOKS_AT_REST

    def _may_move(self, subscription: Subscription) -> bool:
        """Tell whether there is something to see: it has work, and need not wait for a person."""
        if subscription.settled:
            return False
        readings = self._readings.get(subscription)
        waits_for_person = subscription.paused or (readings is not None and readings.ladder.is_exhausted)
        return not waits_for_person or bool(subscription.mailbox.open)

    def _silence(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- drills -------------------------------------------------------------------------------------

    def _drill(self, drills: Drills) -> None:
        """Send a drill of the kill lane, if one is due."""
        now_ns = self._bus.clock.now_ns()
        drills.look(now_ns)
        if drills.is_out or drills.due_in_ns(now_ns):
            return
        consumers = [r for s, r in self._bus.consumers.items() if s.takes_kill_switch]
        drills.send([consumer.name for consumer in consumers], now_ns)
        for consumer in consumers:
            consumer.drill()

    def _drilled(self, name: str) -> None:
        if self._drills is not None:
            self._drills.answered(self._drills.number, name, self._bus.clock.now_ns())

    # -- status -------------------------------------------------------------------------------------

    def watchdog_status(self) -> dict[str, Any] | None:
        """Return what the watchdog knows, JSON-ready; None where there is none."""
        dog = self.watchdog
        if dog is None:
            return None
        episodes = dog.episodes
        return {
            "watching": dog.is_watching,
            "blocked_ms": dog.blocked_ns / 1e6,
            "episodes": [
                {
                    "handler": e.handler,
                    "held_ms": e.held_ns / 1e6,
                    "is_over": e.is_over,
                    "stack": list(e.stack),
                }
                for e in episodes[-10:]
            ],
        }
