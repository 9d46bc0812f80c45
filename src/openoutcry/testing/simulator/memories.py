"""The truth about agents' memory: what each name has handled, and what it was given back after a restart.

It counts what handlers have ended, and reads in the journal that has survived which of that was settled. What
a subscription is given back must hold all of it, each event once, and nothing that its name has not handled.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from openoutcry.ports import Changes, CursorState, Snapshot
from openoutcry.runtime.delivery.causation import current
from openoutcry.runtime.delivery.subscription import Subscription, takes
from openoutcry.testing.simulator.disk import SimJournal
from openoutcry.testing.simulator.truth import Sent, Truth, id_of

Stretches = tuple[tuple[int, int], ...]


@dataclass(slots=True, eq=False)
class Past:
    """What a name has handled since it was new. It goes with its cursor when that is given to another name.

    Attributes:
        handled: When each event was handled last, in the count of the truth.
        dropped: When the dead letter of an event was dropped last.
        settled: What was handled in an earlier life and was settled in the journal when that had ended.
        letters: The events of its dead letters in the journal when this life began.
        serial: The number of the newest state of it that was written.
        since: When it began, or last took other types, in the count of the truth.

    """

    handled: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)
    letters: set[str] = field(default_factory=set)
    serial: int = 0
    since: int = -1

    def has_given_up(self, event_id: str) -> bool:
        """Return True if an event became a dead letter that is there, or was dropped."""
        return event_id in self.letters or self.dropped.get(event_id, -1) > self.handled.get(event_id, -1)


@dataclass(slots=True, eq=False)
class Agent:
    """The memory of one subscription in one life, as it must be.

    Attributes:
        name: The subscription's name.
        past: What its name has handled.
        folds: Whether it is handed events, or saved states alone.
        ids: What is in its state, in the order in which it came there.
        has: The same.
        made: The subscription, once it was made.
        verified: So many of `ids` were in a state that agreed with its cursors.
        folded_at: The position that was folded last.
        has_begun: Whether it has begun an event other than a kill switch.
        is_ready: Whether it has its memory.
        is_excused: Whether a fault has kept it from that.

    """

    name: str
    past: Past
    folds: bool
    ids: list[str] = field(default_factory=list)
    has: set[str] = field(default_factory=set)
    given: set[str] = field(default_factory=set)
    made: Subscription | None = None
    verified: int = 0
    folded_at: int = 0
    loaded: int = 0
    has_begun: bool = False
    is_ready: bool = False
    is_excused: bool = False

    def add(self, event_id: str) -> None:
        """An event was folded or handled."""
        self.ids.append(event_id)
        self.has.add(event_id)


@dataclass(slots=True, eq=False, frozen=True)
class Saved:
    """A state that an agent has returned.

    Attributes:
        agent: The agent.
        count: So many of its `ids` were in the state.
        looks: What it looked like.
        head: Where the journal ended then.

    """

    agent: Agent
    count: int
    looks: bytes
    head: int


class MemoryTruth:
    """What agents must remember, over all lives of a seed.

    Args:
        truth: What else is known.
        serial_of: Returns the number of a saved state, which it was given when it was saved.

    """

    def __init__(self, truth: Truth, serial_of: Callable[[str, bytes], int]) -> None:
        self._truth = truth
        self._serial_of = serial_of
        self._live: dict[str, Past] = {}
        self._log: dict[str, list[tuple[Snapshot, Past]]] = {}
        self._saved: dict[int, Saved] = {}
        self._serial = 0
        self._began = 0
        self._agents: dict[str, Agent] = {}
        self._pending: list[Agent] = []
        self._open: dict[str, dict[object, tuple[str, Any]]] = {}

    def _fail(self, what: str) -> None:
        self._truth.fail(what)

    # -- lives --------------------------------------------------------------------------------------

    def opened(self, journal: SimJournal | None) -> None:
        """A new life begins: the journal tells whose past goes on, and what of it was settled."""
        began, self._began = self._began, self._truth.ticks
        self._agents, self._pending, self._open, self._live = {}, [], {}, {}
        if journal is None:
            return
        cursors: dict[str, dict[str, CursorState]] = {}
        for state in journal.cursors():
            cursors.setdefault(state.subscription, {})[state.lane] = state
        letters: dict[str, set[str]] = {}
        for letter in journal.buried():
            letters.setdefault(letter.subscription, set()).add(id_of(letter))
        for name, rows in list(self._log.items()):
            found = journal.snapshot(name)
            past = next((past for row, past in reversed(rows) if row == found), None)
            if found is None or past is None:
                del self._log[name]
                continue
            self._log[name] = [(found, past)]
            self._live[name] = past
            past.serial = self._number(found)
            past.letters = letters.get(name, set())
            self._settle(past, cursors.get(name, {}), began)

    def moved(self) -> None:
        """The loop was closed, with the calls that ran on it."""
        self._open = {}

    def _settle(self, past: Past, cursors: dict[str, CursorState], began: int) -> None:
        """Note which of what was handled in the life before the cursors have."""
        for event_id, at in past.handled.items():
            if at >= began and event_id not in past.letters:
                place = self._place(event_id)
                state = None if place is None else cursors.get(place[1])
                if place is not None and state is not None and _has(state.floor, state.settled, place[0]):
                    past.settled.add(event_id)

    def _place(self, event_id: str) -> tuple[int, str] | None:
        """Return the position and the lane of an event in the journal; None if it is not there."""
        journal = self._truth.journal
        position = None if journal is None else journal.find(event_id)
        if position is None:
            return None
        _, lane = self._truth.positions.get(position, ("", ""))
        return position, lane

    def _number(self, row: Snapshot) -> int:
        return self._serial_of(row.form, row.state)

    # -- who is there -------------------------------------------------------------------------------

    def agent(self, name: str, *, folds: bool) -> Agent:
        """Return what a subscription that is about to be made must remember."""
        return Agent(name, self._live.get(name) or Past(since=self._truth.ticks), folds)

    def subscribed(self, made: Subscription, agent: Agent | None) -> None:
        """A subscription was made, with a memory or without one."""
        if agent is None:
            self._live.setdefault(made.name, Past(since=self._truth.ticks))
            return
        self._live[made.name] = agent.past
        agent.made = made
        self._agents[made.name] = agent
        if self._truth.journal is not None:
            self._pending.append(agent)

    def unsubscribed(self, name: str) -> None:
        """A subscription has ended, or its cursors were dropped: whoever has its name next is new."""
        self._live.pop(name, None)
        self._agents.pop(name, None)
        self._pending = [agent for agent in self._pending if agent.name != name]

    def renamed(self, old: str, new: str) -> None:
        """The cursors of one name were given to another."""
        past = self._live.pop(old, None)
        if past is not None:
            self._live[new] = past

    # -- what is handled ----------------------------------------------------------------------------

    def begins(self, name: str, event: Any) -> None:
        """A call begins: but for kill switches none does before the memory is there."""
        agent = self._agents.get(name)
        if agent is None or self._truth.journal is None:
            return
        sent = self._truth.sent.get(event.event_id)
        if sent is None or sent.lane == "control":
            return
        agent.has_begun = True
        if not agent.is_ready:
            self._fail(f"{name} was handed {event.event_id} before it had its memory")
        if event.event_id in agent.given & agent.past.settled and not self._may_come_again(name, sent):
            self._fail(f"{name} was handed {event.event_id}, which its memory had")

    def _may_come_again(self, name: str, sent: Sent) -> bool:
        """Return True if a name may be handed an event that it had settled."""
        event_id = sent.event.event_id
        is_redriven = (name, event_id) in self._truth.redriven
        return is_redriven or sent.is_raised or self._truth.is_retired(event_id)

    def opens(self, name: str, event: Any) -> Callable[[], None]:
        """A call begins. Return what is to be called when it is over, whatever came of it."""
        calls, call = self._open.setdefault(name, {}), object()
        calls[call] = event.event_id, _guard()
        return lambda: calls.pop(call, None) and None

    def ends(self, name: str, event: Any) -> None:
        """An event was handled."""
        past, agent = self._live.get(name), self._agents.get(name)
        if past is not None:
            past.handled[event.event_id] = self._truth.ticks
        if agent is not None:
            agent.add(event.event_id)

    def dropped(self, keys: Iterable[tuple[str, str]]) -> None:
        """Dead letters were dropped: their events are never handled."""
        for name, event_id in keys:
            past = self._live.get(name)
            if past is not None:
                past.dropped[event_id] = self._truth.ticks

    # -- what is given back -------------------------------------------------------------------------

    def folded(self, agent: Agent, event: Any) -> None:
        """An agent was handed an event that it had handled."""
        name, event_id = agent.name, event.event_id
        if agent.has_begun or agent.is_ready:
            self._fail(f"the memory of {name} was handed {event_id} after it was restored")
        if event_id in agent.has and not self._truth.is_retired(event_id):
            self._fail(f"the memory of {name} was handed {event_id} twice")
        place = self._place(event_id)
        position = 0 if place is None else place[0]
        if position <= agent.folded_at:
            self._fail(f"the memory of {name} was handed position {position} after {agent.folded_at}")
        agent.folded_at = position
        at = agent.past.handled.get(event_id)
        sent = self._truth.sent.get(event_id)
        stands = sent is not None and self._truth.is_folded(sent)
        # (What was published in memory before that, and journaled later, is not told from what was handled.)
        is_older = sent is not None and sent.is_raised and sent.began <= self._changed(agent)
        is_doubtful = sent is not None and sent.lane == "control" and self._is_across(agent, sent, -1)
        if (at is None or at > self._began) and not (stands or is_older or is_doubtful):
            self._fail(f"the memory of {name} was handed {event_id}, which {name} has not handled")
        agent.add(event_id)

    def _changed(self, agent: Agent) -> int:
        """Return when a name was made, or took other types last."""
        taker = self._truth.takers.get(agent.name)
        return max(agent.past.since, -1 if taker is None else taker.since)

    def _is_across(self, agent: Agent, sent: Sent, upto: int) -> bool:
        """Return True if a name took other types between the first publication of an event and a moment.

        An event that was under way then is not told from those of before or after it. -1: at any time.
        """
        taker = self._truth.takers.get(agent.name)
        changes = () if taker is None else taker.changes
        return any(upto < 0 or sent.began < change < upto for change in changes)

    def _is_doubtful(self, agent: Agent, event_id: str) -> bool:
        """Return True if an event was under way, or not in the journal yet, when a name took other types.

        What was handled in memory, and journaled when its name did not take it any more, is not remembered.
        """
        sent = self._truth.sent[event_id]
        upto = max(agent.past.handled[event_id], sent.raised)
        return self._is_across(agent, sent, -1 if sent.lane == "control" else upto)

    def loaded(self, agent: Agent, serial: int, looks: bytes) -> None:
        """An agent was handed a state."""
        saved, name = self._saved.get(serial), agent.name
        if saved is None or saved.looks != looks or saved.agent.past is not agent.past:
            self._fail(f"the memory of {name} was handed a state that it had not returned")
            return
        if agent.ids and (agent.loaded or not agent.has <= self._control_ids(agent)):
            self._fail(f"the memory of {name} was handed a state on top of {len(agent.ids)} events")
        agent.loaded = serial
        agent.ids[:0] = saved.agent.ids[: saved.count]
        agent.verified = saved.count
        agent.has.update(agent.ids)

    def _control_ids(self, agent: Agent) -> set[str]:
        sent = self._truth.sent
        return {event_id for event_id in agent.ids if sent[event_id].lane == "control"}

    def check(self) -> None:
        """Check the memories that were restored since the last step."""
        for agent in [one for one in self._pending if one.made is not None and one.made.readiness.is_over]:
            self._pending.remove(agent)
            assert agent.made is not None
            error = agent.made.readiness.error
            if error is None:
                agent.is_ready = True
                self._check_restored(agent)
            elif not agent.is_excused:
                self._fail(f"nothing has kept {agent.name} from its memory, and it has none: {error}")

    def _check_restored(self, agent: Agent) -> None:
        name, past = agent.name, agent.past
        agent.given = set(agent.has)
        if agent.loaded != past.serial:
            self._fail(
                f"the newest state of {name} in the journal is number {past.serial}, and it was handed "
                f"{agent.loaded}"
            )
        for event_id in agent.ids:
            if past.has_given_up(event_id) and self._place(event_id) is not None:
                self._fail(f"the memory of {name} has {event_id}, of which it has or had a dead letter")
        if not agent.folds:
            return
        lacks = [
            one
            for one in past.settled - agent.has
            if not (past.has_given_up(one) or self._is_doubtful(agent, one))
        ]
        if lacks:
            self._fail(f"the memory of {name} lacks {sorted(lacks)[:5]}, which it had handled and settled")

    def check_drained(self, names: Collection[str]) -> None:
        """Nothing goes wrong any more: every agent must have what its name has handled."""
        truth = self._truth
        if truth.journal is None:
            return
        for name, agent in self._agents.items():
            if name not in names or not agent.folds or agent.made is None:
                continue
            if not agent.is_ready:
                self._fail(f"nothing goes wrong any more, and {name} did not get its memory back")
            for event_id in agent.past.handled.keys() - agent.has:
                sent = truth.sent[event_id]
                is_over = agent.past.has_given_up(event_id) or truth.is_folded(sent, agent.has)
                if self._place(event_id) is None or is_over or not takes(agent.made.selectors, sent.event):
                    continue
                if (name, event_id) not in truth.letters.there and sent.began > truth.takers[name].since:
                    self._fail(f"{name} has handled {event_id}, and does not know it any more")

    # -- what is saved ------------------------------------------------------------------------------

    def saving(self, agent: Agent) -> None:
        """An agent is asked for its state: between two events, and not in a call."""
        open_calls = self._open.get(agent.name, {}).values()
        calls = [event_id for event_id, guard in open_calls if not guard.abandoned]
        if calls:
            self._fail(f"{agent.name} was asked for its state while it handled {calls}")
        if not agent.is_ready:
            self._fail(f"{agent.name} was asked for its state before it had its memory")

    def saved(self, agent: Agent, looks: bytes) -> int:
        """An agent has returned its state: return a number for it."""
        self._serial += 1
        journal = self._truth.journal
        self._saved[self._serial] = Saved(
            agent, len(agent.ids), looks, 0 if journal is None else journal.head
        )
        return self._serial

    def written(self, changes: Changes | None) -> None:
        """A commit was made."""
        if changes is None:
            return
        for old, new in changes.renamed:
            if self._log.get(old):
                row, past = self._log[old][-1]
                self._log.setdefault(new, []).append((replace(row, subscription=new), past))
        for row in changes.snapshots:
            its = self._live.get(row.subscription)
            if its is not None:
                self._log.setdefault(row.subscription, []).append((row, its))
                self._check_written(row, its)

    def _check_written(self, row: Snapshot, past: Past) -> None:
        """Check that a state that was written agrees with the cursors that the journal has now."""
        name, serial = row.subscription, self._number(row)
        if serial < past.serial:
            self._fail(f"state {serial} of {name} was written over state {past.serial}")
        past.serial = serial
        taker = self._truth.takers.get(name)
        if not serial or taker is None:
            return
        for lane, (floor, apart) in row.lanes.items():
            state = taker.saved.get(lane)
            if state is None or not _covers(state, ((1, floor), *apart)):
                self._fail(
                    f"the state of {name} is of floor {floor}, {apart} of lane {lane}, and its cursor {state}"
                )
        saved = self._saved[serial]
        for event_id in saved.agent.ids[saved.agent.verified : saved.count]:
            place = self._place(event_id)
            # (What was not in the journal then, and is by now, was published again at a higher level.)
            is_in = place is not None and place[0] <= saved.head
            if place is not None and is_in and not _has(*row.lanes.get(place[1], (0, ())), place[0]):
                self._fail(
                    f"the state of {name} has {event_id} (position {place[0]}), and is said to be of "
                    f"{row.lanes.get(place[1])}"
                )
        saved.agent.verified = max(saved.agent.verified, saved.count)


def _guard() -> Any:
    """Return what guards the current call."""
    return getattr(getattr(current.get(), "worker", None), "guard", None)


def _has(floor: int, apart: Stretches, position: int) -> bool:
    return position <= floor or any(low <= position <= high for low, high in apart)


def _covers(state: CursorState, stretches: Stretches) -> bool:
    """Return True if everything in the stretches is settled by a cursor."""
    for low, high in stretches:
        at = max(low, state.floor + 1)
        while at <= high:
            nxt = next((last + 1 for first, last in state.settled if first <= at <= last), 0)
            if not nxt:
                return False
            at = nxt
    return True
