"""Events of a journal as tracing takes them: what is kept of each, and who has handled and published it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Final

import msgspec

from openoutcry.core.recall import Recall
from openoutcry.events import Derivation
from openoutcry.ports import BuriedEvent, CursorState, Level, Snapshot, Stored

SIGNALS_MOST: Final = 128
_BRANCHES_MOST: Final = 8
_STEM_CHARACTERS: Final = 26
_EVERY_CLASS, _IN_PART = "class object", "(in part)"  # as in `CursorState.takes`


class Step(msgspec.Struct, frozen=True, gc=False):
    """What is kept of an event until its chain is complete. Its links are ids of the signals behind it.

    `desk` is the other desk that has made it; empty for this journal's own.
    """

    position: int
    event_id: str
    event_type: str
    agent: str
    chain: str
    cause: str | None
    symbol: str | None
    round_id: str | None
    lane: str
    wall_ns: int
    signals: tuple[str, ...] = ()
    desk: str = ""


class _Signals(msgspec.Struct, gc=False):
    contributing_signals: tuple[str, ...] = ()


_read_signals: Final = msgspec.json.Decoder(_Signals).decode
_UNREADABLE: Final = (msgspec.MsgspecError, RecursionError, UnicodeError, AttributeError)
"""The last for what is JSON, but no object."""


def step_of(entry: Stored) -> Step:
    """Return what is kept of an entry. One that cannot be read is named by its position."""
    try:
        head = entry.head()
    except _UNREADABLE:
        name = f"position {entry.position}"
        return Step(entry.position, name, "?", "", name, None, None, None, entry.lane, entry.wall_ns)
    signals: tuple[str, ...] = ()
    if b'"contributing_signals"' in entry.payload:
        with suppress(*_UNREADABLE):  # a user's own field of that name
            signals = _read_signals(entry.payload).contributing_signals[:SIGNALS_MOST]
    event_id = head.event_id or f"position {entry.position}"
    return Step(
        entry.position,
        event_id,
        head.event_type or "?",
        head.source_agent or "",
        head.correlation_id or event_id,
        head.causation_id,
        head.symbol,
        head.round_id,
        entry.lane,
        entry.wall_ns,
        signals,
        "" if entry.header is None else entry.header.desk or "",
    )


def step_of_letter(letter: BuriedEvent) -> Step:
    """Return what is kept of a dead letter's event; its position is 0 if it is not in the journal."""
    return step_of(Stored(letter.position, letter.payload, letter.lane, Level.MEMORY, letter.wall_ns))


class Handlers:
    """Who has handled what, as far as a journal says.

    Args:
        origin: What the ids of events are derived from that handlers have made.
        cursors: How far each durable subscription has come.
        memories: Since when each of them is there.
        left_out: What they have settled and not handled, as positions by name.

    """

    def __init__(
        self,
        origin: str = "",
        cursors: Iterable[CursorState] = (),
        memories: Iterable[Snapshot] = (),
        left_out: Mapping[str, Iterable[int]] = MappingProxyType({}),
    ) -> None:
        self._origin = origin
        self._takes: dict[str, frozenset[str]] = {}
        places: defaultdict[str, dict[str, tuple[int, tuple[tuple[int, int], ...]]]] = defaultdict(dict)
        for cursor in cursors:
            self._takes[cursor.subscription] = frozenset(cursor.takes)
            places[cursor.subscription][cursor.lane] = (cursor.floor, cursor.settled)
        self._recalls = {
            memory.subscription: Recall(
                memory.lanes,
                places[memory.subscription],
                reopened=memory.open,
                left_out=left_out.get(memory.subscription, ()),
                eras=[(era.takes, era.upto) for era in memory.eras],
            )
            for memory in memories
            if memory.subscription in places
        }

    def who_handled(self, step: Step) -> list[str]:
        """Return the durable subscriptions of which the journal says that they have handled an event.

        Where it does not say it beyond doubt, they are left out: events are let go, a class decides, or the
        event was settled before the state that the subscription has saved.
        """
        found = []
        for name, recall in self._recalls.items():
            if recall.wants(step.lane, step.position):
                takes = recall.types_at(step.lane, step.position) or self._takes[name]
                if _IN_PART not in takes and (step.event_type in takes or _EVERY_CLASS in takes):
                    found.append(name)
        return found

    def who_made(self, step: Step) -> str:
        """Return the name of the subscription whose handler has published an event; empty if nobody knows.

        The id of what a durable subscription publishes is derived from its name, and so tells it. Else it is
        taken to have the name of the agent.
        """
        stem, dash, _ = step.event_id.rpartition("-")
        if step.cause is not None and dash and len(stem) == _STEM_CHARACTERS:
            for name in self._candidates(step.agent):
                if stem in _stems(self._origin, step.cause, name):
                    return name
        return step.agent

    def _candidates(self, agent: str) -> Iterable[str]:
        near = [name for name in self._takes if agent and (name == agent or name.startswith(f"{agent}."))]
        return dict.fromkeys([*near, *self._takes])


def _stems(origin: str, cause: str, name: str) -> Iterator[str]:
    """Yield how ids begin that a handler and the tasks that it has started derive."""
    derivation = Derivation(origin, cause, name)
    yield derivation.stem
    for _ in range(_BRANCHES_MOST):
        yield derivation.branch().stem
