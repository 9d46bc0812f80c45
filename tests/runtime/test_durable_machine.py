"""A durable bus against a model, over stops, crashes, hangs, failures, pauses and redrives (CONTRACT 1, 7, 9, 17, 18)."""

import asyncio
from collections import defaultdict
from itertools import count
from typing import Any

from bus_helpers import a_decision, a_fill, a_tick, an_order
from durable_kit import a_bus, abandon, quick_stall
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from openoutcry import EventBus, RetryPolicy
from openoutcry.journals import MemoryJournal
from openoutcry.virtual import VirtualLoop

TAKES = {
    "execution": ["order"],
    "book": ["fill", "order"],
    "audit": ["*"],
    "ticker": ["market_data", "decision"],
}
RETRY = RetryPolicy(attempts=2, first_s=0.01, jitter=0)
LOOSE = RetryPolicy(attempts=2, first_s=5, max_s=5, jitter=0, in_order=False)
"""The book lets later events overtake those that wait for a retry, and settles out of order."""
SORTS = st.sampled_from(
    ["order", "fill", "tick", "order of level memory", "tick of level process", "fast order"]
)
NAMES = st.sampled_from(sorted(TAKES))


class Agent:
    """A handler whose mood the machine chooses. `execution` makes a decision of every order."""

    def __init__(self, machine: "DurableBusMachine", name: str) -> None:
        self.machine, self.name, self.life = machine, name, machine.life
        self.bus: EventBus = machine.bus

    async def on_event(self, event: Any) -> None:
        machine = self.machine
        alive = self.life == machine.life
        if alive:
            machine.begun[self.name].setdefault(event.event_id, None)
            machine.check_not_settled(self.name, event.event_id)
        mood = machine.moods[self.name]
        while mood == "hangs" and alive:
            await asyncio.sleep(0.5)
            mood = machine.moods[self.name]
        if mood == "fails" or (mood == "is picky" and int(getattr(event, "order_id", 0)) % 2):
            raise ValueError(self.name)
        if self.name == "execution" and not self.bus.publish_nowait(a_decision()):
            raise RuntimeError("there was no room for the decision")
        if alive and self.life == machine.life:
            machine.handled[self.name].add(event.event_id)


class DurableBusMachine(RuleBasedStateMachine):
    """Whatever happens, each durable event that was accepted is handled, a dead letter, or unsettled, for each."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=lambda: VirtualLoop(limit_s=None))
        self.journal = MemoryJournal()
        self.room = 12
        self.life, self.numbers = 0, count(1)
        self.moods = dict.fromkeys(TAKES, "works")
        self.begun: dict[str, dict[str, None]] = defaultdict(dict)
        self.handled: dict[str, set[str]] = defaultdict(set)
        self.dropped: dict[str, set[str]] = defaultdict(set)
        self.owed: dict[str, set[str]] = {name: set() for name in TAKES}
        self.lent: dict[str, set[str]] = defaultdict(set)  # of level memory: owed by this life alone
        self.settled_before: dict[str, set[str]] = defaultdict(set)
        self.repeated: list[tuple[str, str]] = []
        self.agents: dict[str, Agent] = {}
        self.new_bus()
        self.run(self.bus.start())

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    def new_bus(self) -> None:
        self.life += 1
        self.lent.clear()
        self.note_settled()
        self.bus = a_bus(
            self.journal,
            max_queue_size=self.room,
            backpressure_config=quick_stall(cooldown_s=0.1),
            crash_attempts=1_000,
            suspect_alone_s=0.5,
            record="rounds",
        )
        self.agents = {}

        async def make() -> None:
            for name in self.owed:
                self.subscribe(name)

        self.run(make())

    def subscribe(self, name: str) -> None:
        agent = self.agents[name] = Agent(self, name)
        retry = LOOSE if name == "book" else RETRY
        self.bus.subscribe(TAKES[name], agent.on_event, name=name, retry=retry)

    def note_settled(self) -> None:
        """Note what the next life must not handle again: what the saved cursors say is settled."""
        self.settled_before.clear()
        for state in self.journal.cursors():
            for stored in self.journal.read(0, 10**6):
                at = stored.position
                is_settled = at <= state.floor or any(low <= at <= high for low, high in state.settled)
                if stored.lane == state.lane and is_settled:
                    self.settled_before[state.subscription].add(str(stored.head().event_id))

    def check_not_settled(self, name: str, event_id: str) -> None:
        """A letter that is redriven is called again, all else that was settled is not."""
        letters = {letter.event.event_id for letter in self.bus.dead_letters(name)}
        if event_id in self.settled_before[name] - letters:
            self.repeated.append((name, event_id))

    @staticmethod
    def make_event(sort: str, number: int) -> tuple[Any, dict[str, Any]]:
        if sort == "fill":
            return a_fill(f"{number}"), {}
        if sort.startswith("tick"):
            return a_tick(float(number)), {"level": "process"} if "level" in sort else {}
        fields: dict[str, Any] = {"level": "memory"} if "memory" in sort else {}
        return an_order(f"{number}"), fields | ({"priority": True} if sort.startswith("fast") else {})

    def note_accepted(self, event: Any) -> None:
        is_durable = self.journal.find(event.event_id) is not None
        kind = str(event.event_type)
        if kind == "market_data" and not is_durable:
            return  # a full mailbox may let it go
        for name in self.owed:
            if kind in TAKES[name] or "*" in TAKES[name]:
                (self.owed if is_durable else self.lent)[name].add(event.event_id)

    # -- what happens ---------------------------------------------------------------------------------

    @rule(sorts=st.lists(SORTS, min_size=1, max_size=8), way=st.sampled_from(["await", "nowait", "together"]))
    def events_are_published(self, sorts: list[str], way: str):
        made = [self.make_event(sort, next(self.numbers)) for sort in sorts]

        async def publish() -> list[bool]:
            if way == "together":
                return await asyncio.gather(*(self.bus.publish(e, **fields) for e, fields in made))
            if way == "nowait":
                return [self.bus.publish_nowait(e, **fields) for e, fields in made]
            return [await self.bus.publish(e, **fields) for e, fields in made]

        for (event, _), accepted in zip(made, self.run(publish()), strict=True):
            if accepted:
                self.note_accepted(event)

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.3, 2.0]))
    def time_passes(self, seconds: float):
        self.run(asyncio.sleep(seconds))

    @rule(name=NAMES, sorts=st.lists(SORTS, min_size=1, max_size=8))
    def a_subscription_stalls_while_others_go_on(self, name: str, sorts: list[str]):
        self.moods[name] = "hangs"
        self.events_are_published(["order", "fill", "tick of level process"] * 2, "await")
        self.time_passes(2.0)
        self.events_are_published(sorts, "await")

    @rule(name=NAMES, mood=st.sampled_from(["works", "is picky", "fails", "hangs"]))
    def a_mood_changes(self, name: str, mood: str):
        self.moods[name] = mood

    @rule(name=NAMES, pauses=st.booleans())
    def a_subscription_is_paused_or_resumed(self, name: str, pauses: bool):
        async def change() -> None:
            if name in self.owed:
                subscription = self.bus.subscribe(TAKES[name], self.agents[name].on_event)
                subscription.pause() if pauses else subscription.resume()

        self.run(change())

    @rule(name=NAMES)
    def a_subscription_ends_or_begins_anew(self, name: str):
        async def change() -> None:
            if name in self.owed:
                self.bus.unsubscribe(TAKES[name], self.agents[name].on_event)
            else:
                self.subscribe(name)

        self.run(change())
        if name in self.owed:
            del self.owed[name]
        else:
            self.owed[name] = set()
        for memory in (self.begun, self.handled, self.dropped, self.lent, self.settled_before):
            memory.pop(name, None)

    @rule(timeout_s=st.sampled_from([0.0, 0.2]))
    def the_bus_is_stopped_and_started(self, timeout_s: float):
        async def again() -> None:
            await self.bus.stop(timeout_s)
            await self.bus.start()

        self.run(again())

    @rule(timeout_s=st.sampled_from([0.0, 0.2]))
    def the_program_ends_and_begins_anew(self, timeout_s: float):
        self.run(self.bus.stop(timeout_s))
        self.journal = self.journal.reopened()
        self.new_bus()
        self.run(self.bus.start())

    @rule()
    def the_process_is_killed_with_gaps_behind_it(self):
        self.moods["book"] = "is picky"
        self.events_are_published(["order", "order", "fill", "fill"], "await")
        self.time_passes(0.3)
        self.the_process_is_killed(publishes_first=False)

    @rule(publishes_first=st.booleans())
    def the_process_is_killed(self, publishes_first: bool):
        old, self.journal = self.bus, self.journal.reopened()
        self.life += 1
        self.run(abandon(old))
        self.new_bus()
        if publishes_first:
            self.events_are_published(["order", "fill"], "nowait")
        self.run(self.bus.start())

    @rule()
    def everything_is_flushed(self):
        self.run(self.bus.flush())

    @rule()
    def dead_letters_are_redriven(self):
        async def redrive() -> None:
            self.bus.admin.redrive()

        self.run(redrive())

    @precondition(lambda self: any(self.bus.dead_letters(name) for name in self.owed))
    @rule(data=st.data())
    def a_dead_letter_is_dropped(self, data: Any):
        name = data.draw(st.sampled_from([n for n in sorted(self.owed) if self.bus.dead_letters(n)]))
        letter = self.bus.dead_letters(name)[0]

        async def drop() -> int:
            return self.bus.admin.drop_dead_letters(name, letter_ids=[letter.letter_id])

        if self.run(drop()):
            self.dropped[name].add(letter.event.event_id)

    # -- what must hold -------------------------------------------------------------------------------

    @invariant()
    def the_ledger_balances(self):
        ledger = self.bus.ledger()
        assert ledger.balances, [row for row in ledger.rows if not row.balances]

    @invariant()
    def no_saved_cursor_passes_what_is_not_settled(self):
        states = {(c.subscription, c.lane): c for c in self.journal.cursors()}
        buried = {(b.subscription, b.position) for b in self.journal.buried()}
        for name, owed in self.owed.items():
            for event_id in owed - self.handled[name] - self.dropped[name]:
                position = self.journal.find(event_id)
                assert position is not None, "what was accepted stays in the journal"
                (stored,) = self.journal.read(position - 1, 1)
                state = states.get((name, stored.lane))
                if state is None or (name, position) in buried:
                    continue
                assert position > state.floor, (name, event_id, state)
                assert not any(low <= position <= high for low, high in state.settled), (
                    name,
                    event_id,
                    state,
                )

    @invariant()
    def nothing_that_was_settled_is_handled_again(self):
        assert self.repeated == []

    @invariant()
    def events_are_begun_in_the_order_of_the_journal(self):
        for name, begun in self.begun.items():
            if name == "book":
                continue
            places: dict[str, list[int]] = defaultdict(list)
            for event_id in begun:
                position = self.journal.find(event_id)
                if position is not None:
                    (stored,) = self.journal.read(position - 1, 1)
                    places[stored.lane].append(position)
            for lane, found in places.items():
                assert found == sorted(found), (name, lane, found)

    def teardown(self) -> None:
        """In the end everybody works, and has handled everything that was not dropped."""
        self.moods = dict.fromkeys(TAKES, "works")

        async def finish() -> None:
            for name in self.owed:
                self.bus.subscribe(TAKES[name], self.agents[name].on_event).resume()
            await self.bus.join()
            while self.bus.admin.redrive():
                await self.bus.join()
            await self.bus.join()
            await self.bus.flush()

        try:
            self.run(finish())
            for name, owed in self.owed.items():
                assert owed | self.lent[name] <= self.handled[name] | self.dropped[name], name
            made = [
                s.head().causation_id
                for s in self.journal.read(0, 10**6)
                if s.head().event_type == "decision"
            ]
            assert len(set(made)) == len(made), "a redelivered order makes no second decision"
            self.run(self.bus.stop())
        finally:
            self.runner.close()


DurableBusMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestDurableBusMachine = DurableBusMachine.TestCase
