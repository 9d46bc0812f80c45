"""The functions of a memory in a simulation: the faults apply to them, and the truth sees them."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, cast

import msgspec

from openoutcry.runtime.delivery.memory import Memory
from openoutcry.runtime.delivery.state import SLICE_MOST_NS
from openoutcry.testing.simulator.calls import Simulated
from openoutcry.testing.simulator.chance import Chance
from openoutcry.testing.simulator.faults import Faults
from openoutcry.testing.simulator.loop import SimClock
from openoutcry.testing.simulator.memories import Agent, MemoryTruth

FOLD_NS: Final = (0, 0, 50_000, 1_000_000)
"""How long a call of `fold` blocks the loop, where calls do."""


def serial_of(form: str, state: bytes) -> int:
    """Return the number under which a state in the journal was saved; 0 if there is none."""
    if form == "none":
        return 0
    found: int = int(state.partition(b" ")[0]) if form == "bytes" else msgspec.json.decode(state)["serial"]
    return found


def looks_of(state: Any) -> bytes:
    """Return what a state looks like, to compare it with."""
    return bytes(state) if isinstance(state, bytes | bytearray | memoryview) else msgspec.json.encode(state)


class MemoryCalls:
    """Applies faults to the memories of one life."""

    def __init__(
        self,
        chance: Chance,
        clock: SimClock,
        truth: MemoryTruth,
        faults: Faults,
        note: Callable[[str], None],
        fail: Callable[[str], None],
        steps: Callable[[], int],
    ) -> None:
        self._chance = chance
        self._clock = clock
        self._truth = truth
        self._faults = faults
        self._note = note
        self._fail = fail
        self._steps = steps
        self._folding = (-1, "", 0)

    def wrapped(self, memory: Memory, agent: Agent) -> Memory:
        """Return a memory that does what this one does unless a fault applies."""
        slow_ns = self._chance.one_of(FOLD_NS) if self._faults.busy else 0
        return Memory(
            fold=None if memory.fold is None else self._fold(memory.fold, agent, slow_ns),
            save=None if memory.save is None else self._save(memory.save, agent),
            load=None if memory.load is None else self._load(memory.load, agent),
            every=memory.every,
            on_missing=memory.on_missing,
        )

    def _fold(self, inner: Callable[[Any], object], agent: Agent, slow_ns: int) -> Callable[[Any], object]:
        def fold(event: Any) -> object:
            self._note(f"{agent.name} folds {event.event_id}")
            self._block(event.event_id, slow_ns)
            self._break_down(agent, "fold")
            result = inner(event)
            self._truth.folded(agent, event)
            return result

        return fold

    def _block(self, event_id: str, slow_ns: int) -> None:
        """Let a call take its time; the loop must be given back before that is too long."""
        step, last_id, took_ns = self._folding
        if step != self._steps():
            took_ns = 0
        elif took_ns > SLICE_MOST_NS and last_id != event_id:
            self._fail(f"the loop waited for {took_ns / 1e6:g} ms while memories were folded")
        if slow_ns:
            self._clock.keep(slow_ns)
        self._folding = (self._steps(), event_id, took_ns + slow_ns)

    def _break_down(self, agent: Agent, what: str) -> None:
        if self._chance.happens(self._faults.unrestored):
            agent.is_excused = True
            self._note(f"{agent.name} cannot {what}")
            raise Simulated(agent.name)

    def _save(self, inner: Callable[[], object], agent: Agent) -> Callable[[], object]:
        def save() -> object:
            self._truth.saving(agent)
            if self._chance.happens(self._faults.unsaved):
                self._note(f"{agent.name} cannot save")
                if self._chance.happens(0.5):
                    raise Simulated(agent.name)
                return {"price": Decimal(1)}
            state = inner()
            serial = self._truth.saved(agent, looks_of(state))
            self._note(f"{agent.name} saves {serial}")
            if isinstance(state, bytes | bytearray | memoryview):
                return b"%d " % serial + bytes(state)
            return {"serial": serial, "state": state}

        return save

    def _load(self, inner: Callable[[Any], object], agent: Agent) -> Callable[[Any], object]:
        def load(state: Any) -> object:
            self._break_down(agent, "load")
            if isinstance(state, bytes):
                head, _, own = state.partition(b" ")
                serial = int(head)
            else:
                serial, own = state["serial"], cast("Any", state["state"])
            self._note(f"{agent.name} loads {serial}")
            self._truth.loaded(agent, serial, looks_of(own))
            return inner(own)

        return load
