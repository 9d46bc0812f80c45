"""The bus of a simulation: a real `EventBus` that reports its calls and answers to the truth."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from openoutcry.config import LevelName
from openoutcry.core.barrier import Verdict
from openoutcry.core.outcome import RoundOutcome
from openoutcry.errors import BusClosed, DecidedOtherwise, JournalDead, OpenOutcryError
from openoutcry.ports import Level
from openoutcry.runtime.admission.kill_switches import Releaser
from openoutcry.runtime.api.bus import EventBus
from openoutcry.runtime.delivery.handlers import Handler, identity, qualified_name
from openoutcry.runtime.delivery.memory import Memory
from openoutcry.runtime.delivery.subscription import Subscription, takes
from openoutcry.runtime.durability.committer import Receipt
from openoutcry.runtime.rounds.barriers import SignalBarrier
from openoutcry.testing.simulator.calls import Calls, open_call
from openoutcry.testing.simulator.faults import Faults
from openoutcry.testing.simulator.memories import Agent, MemoryTruth
from openoutcry.testing.simulator.operators import SimAdmin, SimReleases
from openoutcry.testing.simulator.remembering import MemoryCalls
from openoutcry.testing.simulator.rounds import RoundTruth
from openoutcry.testing.simulator.strangers import in_thread
from openoutcry.testing.simulator.truth import KILL, Sent, Truth
from openoutcry.testing.simulator.watch import Watch


@dataclass(slots=True)
class Publication:
    """A call that publishes an event.

    Attributes:
        event: The event.
        survives: What it is to survive.
        failures: How many calls of the journal had failed before.
        is_stopping: Whether the bus was stopping then.
        sent: What is known of the event; None for what is none.
        differs: Whether another content surely stands for its id in the journal.
        accepted: What was answered.

    """

    event: Any
    survives: Level
    failures: int
    is_stopping: bool
    sent: Sent | None = None
    differs: bool = False
    accepted: bool = False


class SimBus(EventBus):
    """A bus in a simulation. A firm uses it like any other.

    Attributes:
        world: What outlives a process, such as the state of the exchange and the broker. It is the same
            dictionary in every life of a seed.
        life: The number of this life, from 0.
        faults: What goes wrong in this life. In the last life nothing does.
        at_start: Publishers that run beside the start of the bus.
        at_stop: Publishers that run beside its stop.
        rounds_truth: What was answered at the barrier.

    """

    world: dict[str, Any]
    life: int
    faults: Faults
    rounds_truth: RoundTruth
    _truth: Truth
    _calls: Calls
    _memories: MemoryTruth
    _memory_calls: MemoryCalls
    _watch: Watch
    _note: Callable[[str], None]
    at_start: list[Callable[[], Coroutine[Any, Any, None]]]
    at_stop: list[Callable[[], Coroutine[Any, Any, None]]]
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
        memories: MemoryTruth,
        memory_calls: MemoryCalls,
        watch: Watch,
        note: Callable[[str], None],
    ) -> None:
        """Attach the bus to a simulation."""
        self.world, self.life, self.faults = world, life, faults
        self._truth, self.rounds_truth = truth, rounds
        self._admin = SimAdmin(
            self._bus, self._admission, self._lifecycle, self.dead_letters, truth, memories
        )
        self._memories, self._memory_calls = memories, memory_calls
        self._calls, self._watch, self._note = calls, watch, note
        self._wrapped = {}
        self._kills = {}
        self.at_start, self.at_stop = [], []
        self.on_dead_letter(truth.buried)

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

    def _begin(
        self, event: Any, priority: bool, level: str | None, *, is_beside: bool = False
    ) -> "Publication":
        admission = self._admission
        event_type = str(getattr(getattr(event, "event_type", ""), "value", getattr(event, "event_type", "")))
        try:
            survives = admission._durable.level(event_type, level)  # noqa: SLF001 - the one place that knows
        except OpenOutcryError:
            survives = Level.MEMORY
        made = Publication(event, survives, self._failures(), is_stopping=self._bus.phase == "stopping")
        publisher = asyncio.current_task()
        sent = made.sent = self._truth.publishing(
            event, survives, priority=priority, publisher=publisher, running=self.is_running
        )
        if sent is not None:
            self._note(f"publishing {event.event_id}")
            made.differs = self._truth.differs(sent, event) and sent.level > Level.MEMORY
            if event_type == KILL:
                made.failures = self._kills.setdefault(event.event_id, made.failures)
                if sent.status == "new" and not is_beside:
                    self._watch.expect_kill(event)
        return made

    @contextmanager
    def _publishing(
        self, event: Any, priority: bool, level: LevelName | None = None, *, is_beside: bool = False
    ) -> "Iterator[Publication]":
        made = self._begin(event, priority, level, is_beside=is_beside)
        try:
            yield made
        except BaseException as error:
            self._refused(made, error)
            raise
        if made.accepted:
            self._accepted(made)
        else:
            self._refused(made, None)

    def _accepted(self, made: "Publication") -> None:
        sent, event_id = made.sent, made.event.event_id
        if sent is None:
            return
        call = open_call(event_id)
        if made.differs and call is not None and made.survives and sent.lane != "control":
            self._truth.fail(f"{call[0]} decided otherwise in {event_id}, and its publish returned True")
        # (A kill switch that is published again was delivered the first time, whatever the journal said.)
        failed = self._failures() != made.failures or self._is_dead()
        self._truth.accepted(sent, journal_failed=failed, level=made.survives)
        sent.is_at_stop = sent.is_at_stop or made.is_stopping
        self._note(f"accepted {event_id}")

    def _refused(self, made: "Publication", error: BaseException | None) -> None:
        sent = made.sent
        if sent is None:
            return
        # False, a full disk and the like: nothing was admitted. A dead journal, a cancellation: unknown; so
        # is a kill switch that was delivered while the bus stopped, and is neither written nor handled yet.
        is_delivered = sent.lane == "control" and (made.is_stopping or isinstance(error, BusClosed))
        is_clear = isinstance(error, OpenOutcryError) and not isinstance(error, JournalDead)
        for_sure = error is None or (is_clear and not is_delivered)
        if error is None and sent.lane == "control":
            self._truth.fail(f"the kill switch {sent.event.event_id} was refused")
        if sent.lane == "control":
            self._watch.refused(sent.event.event_id)
        if isinstance(error, DecidedOtherwise):
            self._decided_otherwise(sent, error)
        self._truth.refused(sent, for_sure=for_sure)
        self._note(f"refused {sent.event.event_id} {type(error).__name__ if error else 'False'}")

    def _decided_otherwise(self, sent: Sent, error: DecidedOtherwise) -> None:
        event_id = sent.event.event_id
        call = open_call(event_id)
        if len(sent.contents.asked) < 2:
            self._truth.fail(f"{event_id} was always the same, and its publish raised {error!r}")
        if call is not None:  # (One that was abandoned is told so too, and has no event any more.)
            self._truth.letters.decided_otherwise(call, event_id)

    def _failures(self) -> int:
        journal = self._truth.journal
        return 0 if journal is None else journal.failures

    def _is_dead(self) -> bool:
        journal = self._truth.journal
        return journal is not None and (journal.dead is not None or journal.severed)

    async def publish(self, event: Any, priority: bool = False, *, level: LevelName | None = None) -> bool:
        """As `EventBus.publish`."""
        with self._publishing(event, priority, level) as made:
            sent = made.sent
            prompt = self.is_running and not made.survives and sent is not None and sent.lane != "control"
            with self._watch.prompt(event) if prompt else nullcontext():
                made.accepted = await super().publish(event, priority, level=level)
        return made.accepted

    def publish_nowait(self, event: Any, priority: bool = False, *, level: LevelName | None = None) -> bool:
        """As `EventBus.publish_nowait`."""
        with self._publishing(event, priority, level) as made:
            made.accepted = super().publish_nowait(event, priority, level=level)
            sent = made.sent
            if not made.accepted and sent is not None and sent.lane == "normal" and self.is_running:
                self._watch.check_refused(event, is_kept=bool(sent.level))
        return made.accepted

    async def publish_in_thread(self, event: Any, priority: bool = False) -> bool:
        """Publish by `publish_threadsafe` from a thread, which has ended when the loop goes on."""
        # (Another kill switch may come before this one, and fail.)
        with self._publishing(event, priority, is_beside=True) as made:
            future = in_thread(lambda: EventBus.publish_threadsafe(self, event, priority))
            made.accepted = await asyncio.wrap_future(future)
        return made.accepted

    async def publish_receipt(
        self, event: Any, priority: bool = False, *, level: LevelName | None = None
    ) -> Receipt:
        """As `EventBus.publish_receipt`."""
        with self._publishing(event, priority, level) as made:
            sent, truth = made.sent, self._truth
            was_known = sent is not None and truth.surely_knows(sent)
            is_sure = was_known and sent is not None and len(sent.contents.may_stand) == 1
            is_new = sent is not None and sent.ended < 0 and sent.going == 1
            differs = was_known and made.differs
            is_heard = any(takes(one.selectors, event) for one in self.subscriptions)
            running = self.is_running
            receipt = await super().publish_receipt(event, priority, level=level)
            made.accepted = receipt.accepted
            found = (receipt.duplicate, receipt.conflicting, receipt.unheard)
            due = (was_known, differs, running and not is_heard)
            if (
                receipt.accepted
                and (is_new or (is_sure and sent is not None and sent.level))
                and found != due
            ):
                truth.fail(f"the receipt of {event.event_id} says {found}; true is {due}")
        return receipt

    async def publish_many(self, events: Iterable[Any], priority: bool = False) -> int:
        """As `EventBus.publish_many`."""
        some = list(events)
        made = [self._begin(event, priority, None) for event in some]
        try:
            count = await super().publish_many(some, priority)
        except BaseException:
            for one in made:  # some were accepted, and perhaps some not
                if one.sent is not None:
                    self._truth.refused(one.sent, for_sure=False)
            raise
        for one in made[:count]:
            self._accepted(one)
        for one in made[count:]:
            self._refused(one, None)
        return count

    async def publish_signal(self, signal: Any) -> None:
        """As `EventBus.publish_signal`."""
        self.rounds_truth.signalling(signal)
        try:
            with self._publishing(signal, priority=False) as made:
                await super().publish_signal(signal)
                made.accepted = True
        except BaseException:
            sent = self._truth.sent.get(signal.event_id)
            if sent is not None and sent.status == "refused":
                self.rounds_truth.refused(signal)
            raise

    def releaser(self, name: str) -> Releaser:
        """As `EventBus.releaser`."""
        super().releaser(name)
        reported: Any = SimReleases(self._admission.kill_switches, self._publishing)
        return Releaser(name, reported)

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
        who, agent = identity(handler), None
        known = self._wrapped.get(who)
        is_new = known is None
        if known is None:
            name = options.get("name") or qualified_name(handler)
            options["name"] = name
            known = self._calls.wrapped(name, handler)
            agent = self._remembering(name, options)
        made = super().subscribe(event_type, known, **options)
        self._wrapped[who] = known
        self._truth.subscribed(made, running=self.is_running)
        if is_new and made.durable:
            self._memories.subscribed(made, agent)
        return made

    def _remembering(self, name: str, options: dict[str, Any]) -> Agent | None:
        """Put a memory that is watched into the place of the one that was asked for, if one was."""
        restore = options.get("restore")
        memory = options.get("memory") if restore is None else Memory(restore)
        if not isinstance(memory, Memory) or (restore is not None and "memory" in options):
            return None
        agent = self._memories.agent(name, folds=memory.fold is not None)
        options.pop("restore", None)
        options["memory"] = self._memory_calls.wrapped(memory, agent)
        return agent

    def unsubscribe(self, event_type: Any, handler: Handler) -> None:
        """As `EventBus.unsubscribe`."""
        known = self._wrapped.get(identity(handler), handler)
        before = set(self.subscriptions)
        super().unsubscribe(event_type, known)
        for made in self.subscriptions:
            self._truth.took_types(made)
            if not made.takes_kill_switch:
                self._watch.ended(made.name)
        for made in before.difference(self.subscriptions):
            self._truth.unsubscribed(made)
            self._memories.unsubscribed(made.name)
            self._watch.ended(made.name)
            self._wrapped.pop(identity(handler), None)
