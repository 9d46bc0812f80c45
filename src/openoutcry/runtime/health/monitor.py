"""The health monitor: looks at a running bus at intervals, reports what is wrong and with whom, and recovers.

```
  readings, watchdog, journal ──▶ Vitals ──▶ findings ──▶ verdict ──▶ callbacks, log
                                    │
                                    └── in trouble ──▶ ladder ──▶ cancel, restart, hold, quarantine
```

It looks by itself only if a `HealthCheckConfig` or a callback was given, and only while there is something to
look at: an idle bus without a journal file has no timer.
"""

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context
from dataclasses import replace
from typing import Any

from openoutcry.clocks import SystemClock
from openoutcry.config import HealthCheckConfig, check_number
from openoutcry.core.examine import call_limit_ns, examine, trouble_of
from openoutcry.core.health import HealthCheckResult, verdict
from openoutcry.core.ladder import Action, Step
from openoutcry.core.leases import Leases
from openoutcry.core.rates import Rates
from openoutcry.core.terms import names
from openoutcry.core.vitals import Bounds, LoopVitals, SubscriptionVitals, Vitals
from openoutcry.logs import about
from openoutcry.runtime.delivery.consumer import Consumer
from openoutcry.runtime.delivery.consumers import Consumers
from openoutcry.runtime.delivery.failures import described
from openoutcry.runtime.delivery.stalls import StallWatch
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.delivery.subscription import Subscription
from openoutcry.runtime.health.drills import KillLaneDrills
from openoutcry.runtime.health.journal import JournalMonitor, JournalSlot
from openoutcry.runtime.health.loop_watchdog import Watchdog
from openoutcry.runtime.health.readings import Readings, Totals, lag_of
from openoutcry.units import NS_PER_S

log = logging.getLogger("openoutcry")

LOOKS_AT_REST = 3
"""How many more looks a bus gets that has come to rest, to see that what was wrong is over."""
_SOON_NS = 1_000_000
_LATER_NS = 1_000
"""A timer may fire a little early; set this much later it never does."""


class Monitor:
    """Watches over the health of one bus, on the bus's loop. It is delivery's `HealthObserver`.

    Attributes:
        config: The bounds; the defaults if none were given.
        is_given: Whether a config was given: then it looks by itself, and recovers if `config.recover`.
        recovers: Whether it acts on what it finds.
        leases: The leases of agents that heartbeat.
        watchdog: The thread that watches the loop, while the bus runs on a loop that can be late.
        journal: The health of the journal.
        last: What the last look has found, whenever that was; None before the first.

    """

    def __init__(
        self,
        bus: BusState,
        consumers: Consumers,
        stalls: StallWatch,
        journal: JournalSlot,
        config: HealthCheckConfig | None,
    ) -> None:
        self._bus = bus
        self._consumers = consumers
        self._stalls = stalls
        self.is_given: bool = config is not None
        self.config: HealthCheckConfig = HealthCheckConfig() if config is None else config
        self.recovers: bool = self.is_given and self.config.recover
        self._bounds = Bounds.of(self.config)
        self._check_ns = int(self.config.check_s * NS_PER_S)
        self._readings: dict[Subscription, Readings] = {}
        self.leases: Leases = Leases()
        self._drills: KillLaneDrills | None = None
        self.watchdog: Watchdog | None = None
        self.journal: JournalMonitor = JournalMonitor(
            journal, bus.router, self.config.ladder, recovers=self.recovers
        )
        self._is_on = False
        self._link: Callable[[], tuple[tuple[str, bool], ...]] = tuple
        self._callbacks: list[Callable[[HealthCheckResult], Any]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._looks_at_rest = 0
        self._result: HealthCheckResult | None = None
        self.last: HealthCheckResult | None = None
        self._valid_until_ns = 0
        self._began_ns = bus.clock.now_ns()
        self._told: object = None

    # -- life ---------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The bus has started, on the running loop."""
        bus, config = self._bus, self.config
        now_ns = self._began_ns = bus.clock.now_ns()
        self._readings.clear()
        for subscription in bus.router:
            self._new_readings(subscription, Totals.of(subscription, now_ns))
        self.leases.restart(now_ns)
        if config.expectations:
            bus.rates = Rates(config.expectations, now_ns)
        if config.drills is not None:
            self._drills = KillLaneDrills(config.drills, bus, self._consumers)
        assert bus.loop is not None
        if config.watchdog:
            moved_ns = self._moved_ns if isinstance(bus.clock, SystemClock) else None
            watchdog = Watchdog(bus.loop, moved_ns=moved_ns)
            self.watchdog = watchdog if watchdog.start() else None
        self._is_on = True
        self._result = None
        self.work_begins()

    def end(self) -> None:
        """The bus stops."""
        self._is_on = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.watchdog is not None:
            self.watchdog.stop()
            self.watchdog = None
        self._result = None

    def _moved_ns(self) -> int:
        """Return when a call ended last. Called in the watchdog's thread."""
        try:
            return max((s.last_ns for s in self._bus.router), default=0)
        except RuntimeError:  # a subscription is being added at this moment
            return self._bus.clock.now_ns()

    def renew(self, agent: str, lease_s: float | None) -> None:
        """Note that an agent is alive; `lease_s` gives it a lease of that many seconds, 0 ends its lease.

        Raises `ConfigError` for a name that no agent can have.
        """
        names("agent", [agent])
        if lease_s is None:
            self.leases.renew(agent, self._bus.clock.now_ns())
            return
        check_number("lease_s", lease_s, 0)
        if lease_s:
            self.leases.renew(agent, self._bus.clock.now_ns(), int(lease_s * NS_PER_S))
            self.work_begins()
        else:
            self.leases.release(agent)

    # -- looking ------------------------------------------------------------------------------------

    def listen(self, callback: Callable[[HealthCheckResult], Any]) -> None:
        """Call `callback(result)` after the first look, and after each that finds something else."""
        self._callbacks.append(callback)
        self._told = None
        self.work_begins()

    def watch_link(self, problems: Callable[[], tuple[tuple[str, bool], ...]]) -> None:
        """Look at the link to other desks as well, by what is wrong with it, as in `Vitals.link`."""
        self._link = problems

    def forget(self) -> None:
        """Something was mended, so the last result no longer holds."""
        self._result = None
        self.work_begins()

    def current(self) -> HealthCheckResult:
        """Return the last result, or look again after `check_s`, or when a call has become too long."""
        result = self._result
        if result is None or self._bus.clock.now_ns() >= self._valid_until_ns:
            result = self.look()
        return result

    def look(self) -> HealthCheckResult:
        """Look at everything, recover what needs it if that is wanted, and tell the listeners."""
        now_ns = self._bus.clock.now_ns()
        vitals = self._vitals(now_ns)
        self._valid_until_ns = now_ns + self._valid_for_ns(vitals)
        self._result = self.last = result = verdict(examine(vitals, self._bounds), self._details(vitals))
        self._tell(result)
        return result

    def _vitals(self, now_ns: int) -> Vitals:
        bus = self._bus
        silences = [] if bus.rates is None else bus.rates.silences(now_ns, bus.clock.wall_ns())
        running = bus.running
        return Vitals(
            subscriptions=(*(self._examined(s, now_ns) for s in tuple(bus.router)), *self._left()),
            loop=LoopVitals() if self.watchdog is None else self.watchdog.vitals(),
            journal=self.journal.vitals(now_ns),
            silences=tuple(silences) if running else (),
            lapses=tuple(self.leases.lapsed(now_ns)) if running else (),
            letters_let_go=tuple(bus.dead_letters.let_go.items()),
            drill=None if self._drills is None else self._drills.report(now_ns),
            untaken=tuple(map(_kill_switch, bus.unheard.kill_switches.values())),
            conflict=bus.conflicts.last if bus.conflicts.is_recent(now_ns) else "",
            conflicts=bus.conflicts.total,
            link=self._link(),
        )

    def _examined(self, subscription: Subscription, now_ns: int) -> SubscriptionVitals:
        """Return the vital signs of a subscription, after recovery has taken its next step, if one is due."""
        readings = self.readings(subscription)
        lag = self.lag(subscription)
        readings.note(now_ns, lag)
        consumer = self._consumers.of(subscription)
        vitals = replace(
            readings.vitals(consumer, now_ns, self._stalls.still_ns(subscription, now_ns), lag),
            otherwise=self._bus.dead_letters.count_otherwise(subscription.name),
        )
        if not self.recovers or consumer is None:
            return vitals
        trouble = trouble_of(vitals, self._bounds)
        step = readings.ladder.look(trouble, now_ns)
        if step is not None:
            self._act(readings, consumer, step, trouble)
            readings.note_step()
        ladder, unproven = readings.ladder, readings.is_unproven
        is_at_work = step is not None or ladder.is_holding or trouble is not None or unproven
        return replace(
            vitals,
            held_by_ladder=ladder.is_holding,
            exhausted=ladder.is_exhausted,
            recovering=ladder.is_climbing and is_at_work,
            unproven=unproven,
            tried=ladder.tried,
        )

    def _left(self) -> list[SubscriptionVitals]:
        """Return the vital signs of subscriptions that have ended with a call that goes on."""
        now_ns = self._bus.clock.now_ns()
        found = [(c, self.readings(c.subscription)) for c in self._consumers.leaving if not c.is_over]
        return [readings.vitals(consumer, now_ns, 0, 0) for consumer, readings in found]

    def lag(self, subscription: Subscription) -> int:
        """Return how many events wait for a subscription, those in the journal included."""
        return lag_of(subscription, self._bus.durability.released)

    def readings(self, subscription: Subscription) -> Readings:
        """Return the readings of a subscription."""
        readings = self._readings.get(subscription)
        if readings is None:
            if len(self._readings) > 2 * len(tuple(self._bus.router)) + 8:
                self._readings = {s: c for s, c in self._readings.items() if not s.ended}
            readings = self._new_readings(subscription, Totals.none(self._began_ns))
        return readings

    def _new_readings(self, subscription: Subscription, since: Totals) -> Readings:
        readings = Readings(subscription, self.config, since, self._bus.clock.now_ns())
        self._readings[subscription] = readings
        return readings

    def _valid_for_ns(self, vitals: Vitals) -> int:
        """Return how long a result holds: `check_s`, but not beyond the end of what a call may take."""
        bounds = self._bounds
        calls = ((s.call_ns, call_limit_ns(s, bounds)) for s in vitals.subscriptions if s.call_ns is not None)
        left_ns = [limit_ns - call_ns + 1 for call_ns, limit_ns in calls if call_ns <= limit_ns]
        return min(self._check_ns, int(bounds.stall_s * NS_PER_S), *left_ns)

    def _details(self, vitals: Vitals) -> dict[str, Any]:
        drill, journal = vitals.drill, vitals.journal
        return {
            "state": self._bus.phase,
            "checked_ns": self._bus.clock.wall_ns(),
            "subscriptions": len(self._bus.router),
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
            self._bus.guard(callback, result)

    # -- acting -------------------------------------------------------------------------------------

    def _act(self, readings: Readings, consumer: Consumer, step: Step, trouble: str | None) -> None:
        """Take a step of the recovery ladder."""
        subscription = readings.subscription
        log.warning(
            "recovery of %s (%s): %s",
            subscription.name,
            trouble or "held",
            step.action.value,
            extra=about(subscription=subscription.name),
        )
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

    def resumed(self, subscription: Subscription) -> None:
        """The operator has resumed a subscription, so its handler counts as mended: try everything anew."""
        readings, consumer = self._readings.get(subscription), self._consumers.of(subscription)
        step = None if readings is None else readings.ladder.resume()
        if step is not None and consumer is not None:
            consumer.restart()
        subscription.streak.reset()
        self.forget()

    # -- by itself ----------------------------------------------------------------------------------

    def work_begins(self) -> None:
        """There is something to look at: look at intervals for as long as that is so."""
        if not self._is_on:
            return
        if self.watchdog is not None:
            self.watchdog.work_begins()
        self._looks_at_rest = 0
        if self._timer is None and (self.is_given or self._callbacks) and self._bus.running:
            self._arm()

    def _arm(self) -> None:
        loop, now_ns = self._bus.loop, self._bus.clock.now_ns()
        wait_ns = self._next_in_ns(now_ns)
        if wait_ns is not None and loop is not None:
            # In an empty context: what a look does has no event as its cause.
            self._timer = loop.call_later((wait_ns + _LATER_NS) / NS_PER_S, self._ring, context=Context())

    def _ring(self) -> None:
        self._timer = None
        try:
            if self._drills is not None:
                self._drills.look(self._bus.clock.now_ns())
            self.look()
        finally:  # whatever a look raises, the next one is due
            if self._bus.running and self._timer is None:
                self._arm()

    def _next_in_ns(self, now_ns: int) -> int | None:
        """Return how long to wait for the next look; None if nothing can happen by itself."""
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
        watches = self._bus.rates is not None or len(self.leases) > 0 or self.journal.is_recovering
        watches = watches or self.journal.has_file
        watches = watches or self._bus.conflicts.is_recent(self._bus.clock.now_ns())
        watches = watches or any(not consumer.is_over for consumer in self._consumers.leaving)
        if watches or any(map(self._may_move, self._bus.router)):
            self._looks_at_rest = 0
            return True
        self._looks_at_rest += 1
        return self._looks_at_rest <= LOOKS_AT_REST

    def _may_move(self, subscription: Subscription) -> bool:
        """Return True if there is something to see: it has work, and need not wait for the operator."""
        if subscription.settled:
            return False
        readings = self._readings.get(subscription)
        waits_for_operator = subscription.paused or (readings is not None and readings.ladder.is_exhausted)
        return not waits_for_operator or bool(subscription.mailbox.open)

    # -- status -------------------------------------------------------------------------------------

    def watchdog_status(self) -> dict[str, Any] | None:
        """Return what the watchdog knows, JSON-ready; None without one."""
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


def _kill_switch(event: Any) -> str:
    """Return a kill switch in words."""
    scope, reason = getattr(event, "scope", ""), getattr(event, "reason", "")
    return f"{described(event)}{f' of {scope}' if scope else ''}{f' ({reason})' if reason else ''}"
