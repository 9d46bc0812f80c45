"""The bus of a simulation: a real `EventBus` that reports its calls and answers to the truth."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from openoutcry.core.barrier import Verdict
from openoutcry.core.outcome import RoundOutcome
from openoutcry.core.retries import DeadLetter
from openoutcry.errors import JournalDead, OpenOutcryError
from openoutcry.ports import Level
from openoutcry.runtime.api.admin import Admin
from openoutcry.runtime.api.bus import EventBus
from openoutcry.runtime.delivery.handlers import Handler, identity, qualified_name
from openoutcry.runtime.delivery.subscription import Subscription
from openoutcry.runtime.rounds.barriers import SignalBarrier
from openoutcry.testing.simulator.calls import Calls
from openoutcry.testing.simulator.faults import Faults
from openoutcry.testing.simulator.rounds import RoundTruth
from openoutcry.testing.simulator.truth import KILL, Sent, Truth
from openoutcry.testing.simulator.watch import Watch


class SimBus(EventBus):
    """A bus in a simulation. A firm uses it like any other.

    Attributes:
        world: What outlives a process, such as the state of the exchange and the broker. It is the same
            dictionary in every life of a seed.
        life: The number of this life, from 0.
        faults: What goes wrong in this life. In the last life nothing does.
        rounds_truth: What was answered at the barrier.

    """

    world: dict[str, Any]
    life: int
    faults: Faults
    rounds_truth: RoundTruth
    _truth: Truth
    _calls: Calls
    _watch: Watch
    _note: Callable[[str], None]
    _wrapped: dict[object, Handler]
    _kills: dict[str, int]

    def set_up(
        self,
        *,
        world: dict[str, Any],
        life: int,
        faults: Faults,
        truth: Truth,
        rounds: RoundTruth,
        calls: Calls,
        watch: Watch,
        note: Callable[[str], None],
    ) -> None:
        """Attach the bus to a simulation."""
        self.world, self.life, self.faults = world, life, faults
        self._truth, self.rounds_truth = truth, rounds
        self._admin = SimAdmin(self, truth)
        self._calls, self._watch, self._note = calls, watch, note
        self._wrapped = {}
        self._kills = {}

    def tear_down(self) -> None:
        """Remove what a bus that was not stopped leaves in the process."""
        store = self._admission.store
        if store is not None:
            store._uninstall()  # noqa: SLF001 - a process that has died has nothing installed any more

    @property
    def is_mended(self) -> bool:
        """Whether nothing goes wrong in this life, so that everything accepted must drain."""
        return self.faults == Faults.none()

    # -- publishing ---------------------------------------------------------------------------------

    def _begin(self, event: Any, priority: bool, level: str | None) -> Sent | None:
        admission = self._admission
        event_type = str(getattr(getattr(event, "event_type", ""), "value", getattr(event, "event_type", "")))
        try:
            survives = admission._durable.level(event_type, level)  # noqa: SLF001 - the one place that knows
        except OpenOutcryError:
            survives = Level.MEMORY
        publisher = asyncio.current_task()
        sent = self._truth.publishing(
            event, survives, priority=priority, publisher=publisher, running=self.is_running
        )
        if sent is not None:
            self._note(f"publishing {event.event_id}")
            if event_type == KILL:
                self._kills.setdefault(event.event_id, self._failures())
                if sent.status == "new":
                    self._watch.expect_kill(event)
        return sent

    def _accepted(self, sent: Sent | None, failures: int) -> None:
        if sent is not None:
            # (A kill switch that is published again was delivered the first time, whatever the journal said.)
            failures = self._kills.get(sent.event.event_id, failures)
            self._truth.accepted(sent, journal_failed=self._failures() != failures or self._is_dead())
            self._note(f"accepted {sent.event.event_id}")

    def _refused(self, sent: Sent | None, error: BaseException | None) -> None:
        if sent is None:
            return
        # False, a full disk and the like: nothing was admitted. A dead journal, a cancellation: unknown.
        for_sure = error is None or (
            isinstance(error, OpenOutcryError) and not isinstance(error, JournalDead)
        )
        if error is None and sent.lane == "control":
            self._truth.fail(f"the kill switch {sent.event.event_id} was refused")
        self._truth.refused(sent, for_sure=for_sure)
        self._note(f"refused {sent.event.event_id} {type(error).__name__ if error else 'False'}")

    def _failures(self) -> int:
        journal = self._truth.journal
        return 0 if journal is None else journal.failures

    def _is_dead(self) -> bool:
        journal = self._truth.journal
        return journal is not None and journal.dead is not None

    async def publish(self, event: Any, priority: bool = False, *, level: str | None = None) -> bool:
        """As `EventBus.publish`."""
        failures = self._failures()
        sent = self._begin(event, priority, level)
        try:
            accepted = await super().publish(event, priority, level=level)
        except BaseException as error:
            self._refused(sent, error)
            raise
        if accepted:
            self._accepted(sent, failures)
        else:
            self._refused(sent, None)
        return accepted

    def publish_nowait(self, event: Any, priority: bool = False, *, level: str | None = None) -> bool:
        """As `EventBus.publish_nowait`."""
        failures = self._failures()
        sent = self._begin(event, priority, level)
        try:
            accepted = super().publish_nowait(event, priority, level=level)
        except BaseException as error:
            self._refused(sent, error)
            raise
        if accepted:
            self._accepted(sent, failures)
        else:
            self._refused(sent, None)
        return accepted

    async def publish_many(self, events: Iterable[Any], priority: bool = False) -> int:
        """As `EventBus.publish_many`."""
        failures, some = self._failures(), list(events)
        sent = [self._begin(event, priority, None) for event in some]
        try:
            count = await super().publish_many(some, priority)
        except BaseException:
            for one in sent:  # some were accepted, and perhaps some not
                if one is not None:
                    self._truth.refused(one, for_sure=False)
            raise
        for one in sent[:count]:
            self._accepted(one, failures)
        for one in sent[count:]:
            if one is not None:
                self._refused(one, None)
        return count

    async def publish_signal(self, signal: Any) -> None:
        """As `EventBus.publish_signal`."""
        failures = self._failures()
        sent = self._begin(signal, False, None)
        self.rounds_truth.signalling(signal)
        try:
            await super().publish_signal(signal)
        except BaseException as error:
            self._refused(sent, error)
            if sent is not None and sent.status == "refused":
                self.rounds_truth.refused(signal)
            raise
        self._accepted(sent, failures)

    # -- rounds -------------------------------------------------------------------------------------

    def register_signal_agent(self, agent_name: str, critical: bool = False) -> None:
        """As `EventBus.register_signal_agent`."""
        super().register_signal_agent(agent_name, critical)
        self.rounds_truth.registered(agent_name, critical=critical)

    def open_round(self, round_id: str | None = None, *args: Any, **terms: Any) -> SignalBarrier:
        """As `EventBus.open_round`."""
        opened = super().open_round(round_id, *args, **terms)
        self.rounds_truth.opened(opened, usual=not {"roster", "critical"} & set(terms) and not args)
        return opened

    async def wait_for_signals(self, round_id: str | None = None) -> RoundOutcome:
        """As `EventBus.wait_for_signals`."""
        outcome = await super().wait_for_signals(round_id)
        self._note(
            f"round {outcome.round_id} is {outcome.status} {'valid' if outcome.valid else 'not valid'}"
        )
        self.rounds_truth.released(outcome)
        return outcome

    def abstain(self, agent: str, reason: str = "", round_id: str | None = None) -> Verdict:
        """As `EventBus.abstain`."""
        self.rounds_truth.abstaining(agent)
        return super().abstain(agent, reason, round_id)

    # -- subscribing --------------------------------------------------------------------------------

    def subscribe(self, event_type: Any, handler: Handler, **options: Any) -> Subscription:
        """As `EventBus.subscribe`; the faults apply to the handler."""
        who = identity(handler)
        known = self._wrapped.get(who)
        if known is None:
            name = options.get("name") or qualified_name(handler)
            options["name"] = name
            known = self._calls.wrapped(name, handler)
        made = super().subscribe(event_type, known, **options)
        self._wrapped[who] = known
        self._truth.subscribed(made, running=self.is_running)
        return made

    def unsubscribe(self, event_type: Any, handler: Handler) -> None:
        """As `EventBus.unsubscribe`."""
        known = self._wrapped.get(identity(handler), handler)
        before = set(self.subscriptions)
        super().unsubscribe(event_type, known)
        for made in before.difference(self.subscriptions):
            self._truth.unsubscribed(made)
            self._watch.ended(made.name)
            self._wrapped.pop(identity(handler), None)


class SimAdmin(Admin):
    """The operators' verbs of a bus in a simulation."""

    def __init__(self, bus: SimBus, truth: Truth) -> None:
        super().__init__(bus._bus, bus._admission, bus._lifecycle)  # noqa: SLF001 - it is its bus's own part
        self._letters_of = bus.dead_letters
        self._truth = truth

    def redrive(self, /, subscription: str | None = None, **which: Any) -> int:
        """As `Admin.redrive`."""
        letters: list[DeadLetter] = self._letters_of(subscription)
        self._truth.redriven.update((letter.subscription, letter.event.event_id) for letter in letters)
        return super().redrive(subscription, **which)
