"""What each name has handled, as its lives have told it, and so what it must be given at the next start.

A name's memory is what it has handled, each event once. Of that, a life that dies may lose the last part,
whose cursor was not saved: those events are handled again. So what an agent begins with

- has everything that was handled by the last time the cursors were known to be saved,
- has nothing else but what was handled since, and nothing twice,
- is a state that it had saved, and after that the rest in the order of the journal,

and when everything is handled it has all of it. An agent that is not given that must be told why, there must
be a reason, the bus must be UNHEALTHY, and it must handle nothing.

What was in a call when the process died, of a type that the name takes no more, is not handled again, and a
dead letter that was being handled is one again: of such events both may be true.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from campaigns.lives_events import TRADE, amount_of, type_of
from campaigns.lives_plan import FOLDS, Agent, Order, Plan
from campaigns.power_loss_truth import Broken

Ids = list[str]


@dataclass
class Name:
    """What is known of a name.

    Attributes:
        types: What it takes.
        handled: What it has handled that is in the journal, or was.
        sure: What of that it must remember.
        unsure: What of that it need not remember.
        revived: Dead letters that it has handled; when it dies now, they are dead letters again.
        passing: What it has handled that was never journaled.
        dead: Its dead letters, and those that were dropped.
        owed: What it must handle.
        saves: The states that it has saved.
        loaded: What it has loaded in this life.
        has: Its state in this life; None before it was told.
        is_kept: Whether the journal surely knows it: something was written since it was made.
        is_here: Whether it is subscribed in this life.
        is_on_hold: Whether it did not get its memory in this life.
        forgets: Whether the journal may have forgotten what it has handled, and why.

    """

    types: set[str] = field(default_factory=set)
    handled: set[str] = field(default_factory=set)
    sure: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)
    revived: set[str] = field(default_factory=set)
    passing: set[str] = field(default_factory=set)
    dead: set[str] = field(default_factory=set)
    owed: set[str] = field(default_factory=set)
    saves: set[tuple[str, ...]] = field(default_factory=set)
    loaded: Ids = field(default_factory=list)
    has: Ids | None = None
    is_kept: bool = False
    is_here: bool = False
    is_on_hold: bool = False
    forgets: str = ""

    def begin_anew(self) -> None:
        """Another life."""
        self.unsure |= self.revived
        self.revived = set()
        self.loaded, self.has, self.is_here, self.is_on_hold = [], None, False, False

    def take(self, types: Iterable[str]) -> None:
        """It takes these types from now on; what waits of others is withdrawn."""
        self.types = set(types)
        self.unsure |= {e for e in self.handled - self.sure if type_of(e) not in self.types}
        done = self.handled | self.dead
        self.owed = {e for e in self.owed if type_of(e) in self.types or e in done}


class Truth:
    """What must be true, life after life.

    Attributes:
        names: What is known of each name.
        warned: The names whose owner has been told that something is missing, and begins without it.
        states: How many states were compared.
        failures: How many agents were told why they do not get their memory.

    """

    def __init__(self) -> None:
        self.names: dict[str, Name] = {}
        self.warned: set[str] = set()
        self.states = 0
        self.failures = 0
        self._levels: dict[str, str] = {}
        self._agents: dict[str, Agent] = {}
        self._plan: Plan

    def begin(self, plan: Plan) -> None:
        """Another life begins."""
        self._plan = plan
        self._agents = {agent.name: agent for agent in plan.agents}
        # (The letters of a name that was dropped stay, and may be redriven to who has the name next. And the
        # journal may know a name that it need not know, with a state that it has saved.)
        self.names = {
            name: known if known.is_kept else Name(dead=known.dead, saves=known.saves)
            for name, known in self.names.items()
        }
        for known in self.names.values():
            known.begin_anew()

    def ordered(self, order: Order, *, was_there: bool) -> None:
        """An operator has done something; `was_there`: the journal knew the name."""
        known = self.names.get(order.name)
        if known is None:
            return
        if not was_there:
            if known.is_kept:
                raise Broken(
                    f"{order.name} has handled {sorted(known.sure)}, and the journal does not know it"
                )
            return
        if order.verb == "reassign":
            self.names[order.new] = self.names.pop(order.name)
        elif order.verb == "drop":
            self.names[order.name] = Name(dead=known.dead)
        else:
            known.forgets = "it was retired past its memory"

    def hear(self, told: list[list[str]]) -> None:
        """Compare what a life has told. Raises `Broken`."""
        for word, *rest in told:
            hear = getattr(self, f"_{word}", None)
            if hear is not None:
                hear(*rest)

    # -- words --------------------------------------------------------------------------------------

    def _wrong(self, *words: str) -> None:
        raise Broken(" ".join(words))

    def _raised(self, *words: str) -> None:
        raise Broken(" ".join(words))

    def _sub(self, name: str) -> None:
        agent = self._agents[name]
        known = self.names.setdefault(name, Name())
        known.take(agent.types)
        known.is_here = True
        if agent.kind == "plain" and self._plan.retain is not None:
            known.forgets = "it had no memory, and retention went on"

    def _gains(self, name: str, event_type: str) -> None:
        known = self.names[name]
        known.take({*known.types, event_type})

    def _loses(self, name: str, event_type: str) -> None:
        known = self.names[name]
        known.take(known.types - {event_type})

    def _pub(self, event_id: str, level: str) -> None:
        self._levels[event_id] = level

    def _yes(self, event_id: str) -> None:
        if self._levels[event_id] == "memory":
            return
        for known in self.names.values():
            known.is_kept = True
            if type_of(event_id) in known.types:
                known.owed.add(event_id)

    def _no(self, event_id: str) -> None:
        raise Broken(f"{event_id} was refused, and there was room")

    def _did(self, name: str, event_id: str) -> None:
        known = self.names[name]
        if known.is_on_hold:
            raise Broken(f"{name} has handled {event_id} without its memory")
        if known.has is not None:
            if event_id in known.has:
                raise Broken(f"{name} was given {event_id} and has it in its memory already")
            known.has.append(event_id)
        known.unsure.discard(event_id)
        if event_id in known.dead:
            known.dead.discard(event_id)
            known.revived.add(event_id)
        known.is_kept = True
        (known.passing if self._levels[event_id] == "memory" else known.handled).add(event_id)

    def _dead(self, name: str, event_id: str) -> None:
        known = self.names[name]
        known.dead.add(event_id)
        known.handled.discard(event_id)
        known.sure.discard(event_id)

    def _saved(self, name: str, items: str) -> None:
        ids = self._read(name, items)
        self.names[name].saves.add(tuple(ids))

    def _loaded(self, name: str, items: str) -> None:
        known = self.names[name]
        known.loaded = self._read(name, items)
        if tuple(known.loaded) not in known.saves:
            raise Broken(f"{name} was handed a state that it had never saved: {known.loaded}")

    def _state(self, name: str, items: str) -> None:
        """Compare what an agent begins with."""
        known, agent = self.names[name], self._agents[name]
        ids = known.has = self._read(name, items)
        rest = ids[len(known.loaded) :]
        self.states += 1
        if ids[: len(known.loaded)] != known.loaded:
            raise Broken(f"{name} was handed {known.loaded}, and begins with {ids}")
        if rest != sorted(rest, key=_number):
            raise Broken(f"{name} was not given its events in the order of the journal: {rest}")
        if len(set(ids)) < len(ids):
            raise Broken(f"{name} was given events twice: {ids}")
        if more := set(ids) - known.handled - (known.passing & set(known.loaded)):
            raise Broken(f"{name} was given what it had not handled: {_shown(more)} {self._why(known, more)}")
        if agent.kind not in FOLDS and rest:
            raise Broken(f"{name} has no fold, and was given {rest}")
        lacks = known.sure - set(ids)
        known.unsure -= set(ids)
        if agent.kind == "newest" or (agent.warns and known.forgets):
            known.owed -= known.handled - set(ids)
            known.handled &= set(ids)
            known.sure &= set(ids)
        elif lacks:
            raise Broken(f"{name} has handled {_shown(lacks)} as well, and was not told that it lacks them")

    def _failed(self, name: str, how: str, *words: str) -> None:
        known = self.names[name]
        known.is_on_hold = True
        self.failures += 1
        if how != "loudly":
            raise Broken(
                f"{name} did not get its memory, and health does not say so: {how}: {' '.join(words)}"
            )
        if not self._plan.reads_all and any(type_of(e) == TRADE for e in known.handled):
            return
        if not known.forgets:
            raise Broken(f"{name} did not get its memory, without a reason: {' '.join(words)}")
        self.warned.add(name)

    def _live(self, name: str, items: str) -> None:
        """Compare what an agent has when everything is handled."""
        known, agent = self.names[name], self._agents[name]
        ids = self._read(name, items)
        if agent.kind != "plain":
            if ids != known.has:
                raise Broken(f"{name} has {ids} in the end, and should have {known.has}")
            if lacks := known.handled - known.unsure - set(ids):
                raise Broken(f"{name} has forgotten {_shown(lacks)}, and was not told")
        if self._plan.reads_all or TRADE not in known.types:
            done = known.handled | known.dead
            if agent.kind == "newest":
                return
            if lacks := known.owed - done:
                raise Broken(f"{name} was never given {_shown(lacks)}")

    def _flushed(self) -> None:
        for known in self.names.values():
            known.is_kept = True
            if known.is_here and not known.is_on_hold:
                known.sure = known.handled - known.unsure
                known.revived = set()

    # -- reading ------------------------------------------------------------------------------------

    def _read(self, name: str, items: str) -> Ids:
        """Return the ids of a state. Raises `Broken` if its events say something else than they did."""
        found: list[tuple[str, Any]] = json.loads(items)
        for event_id, amount in found:
            if amount != amount_of(event_id):
                raise Broken(f"{name} has read {amount} in {event_id}, which says {amount_of(event_id)}")
        return [event_id for event_id, _ in found]

    def _why(self, known: Name, ids: set[str]) -> str:
        return "(a dead letter)" if ids & known.dead else "(nor is it a dead letter)"


def _number(event_id: str) -> int:
    return int(event_id[:-1])


def _shown(ids: Iterable[str]) -> str:
    return " ".join(sorted(ids, key=_number))
