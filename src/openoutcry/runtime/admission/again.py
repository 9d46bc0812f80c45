"""Publishing an id again: a duplicate, a conflict, a handler that decides otherwise, a level that is raised.

```
  id is known ─▶ what was the first? ─▶ the same, or nobody knows  ──▶ duplicate ─▶ its level is reached too
                                     └▶ other content: this call derived the id ──▶ DecidedOtherwise
                                                       anybody else              ──▶ conflict, counted
```

The first stands in any case. It is looked for where it still is: on its way to its commit, in the journal, in
an outbox, in history, in a mailbox.
"""

from itertools import chain
from typing import Any

from openoutcry.errors import DecidedOtherwise
from openoutcry.events import differences, event_type_of
from openoutcry.ports import Level
from openoutcry.runtime.admission.access import KILL_SWITCH
from openoutcry.runtime.admission.durable import DurableAdmission, excuse
from openoutcry.runtime.delivery.causation import current, outbox_of
from openoutcry.runtime.delivery.conflicts import in_words
from openoutcry.runtime.delivery.dispatcher import Dispatcher
from openoutcry.runtime.delivery.error_log import safe_repr
from openoutcry.runtime.delivery.failures import described
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.durability.commit import Commit
from openoutcry.runtime.durability.slot import StoreSlot

SHOWN_MOST = 600
"""So many characters of each of two versions are shown."""


class Answer:
    """What is noted about one publication, for its receipt.

    Attributes:
        duplicate: Whether its id was known.
        conflicting: Whether it was known for other content.

    """

    __slots__ = ("conflicting", "duplicate")

    def __init__(self) -> None:
        self.duplicate: bool = False
        self.conflicting: bool = False


class InMemory:
    """The events that are in memory, by id: in history, before the start, in a mailbox.

    The index is begun anew whenever ids are forgotten, and costs nothing as long as no id comes twice.
    """

    def __init__(self, bus: BusState, dispatcher: Dispatcher) -> None:
        self._bus = bus
        self._dispatcher = dispatcher
        self._events: dict[str, Any] = {}
        self._generation = -1
        self._admitted = self._held = 0
        self._has_in_flight = False

    def find(self, event_id: str) -> Any:
        """Return the event with an id; None if it is not in memory."""
        bus, dispatcher = self._bus, self._dispatcher
        if event_id in bus.outboxed:
            return bus.outboxed[event_id]
        if bus.running:
            dispatcher.deliver()  # what is staged is in history then
        if self._generation != bus.seen.generation:
            self._generation, self._events = bus.seen.generation, {}
            self._admitted, self._held, self._has_in_flight = 0, 0, False
        events, history, before_start = self._events, bus.history, dispatcher.before_start
        for event in chain(
            before_start.events(self._held), history.newest(history.admitted - self._admitted)
        ):
            events.setdefault(event.event_id, event)
        self._admitted, self._held = history.admitted, len(before_start)
        if event_id not in events and not self._has_in_flight:
            self._has_in_flight = True
            for event in bus.in_flight():
                events.setdefault(event.event_id, event)
        return events.get(event_id)


class Again:
    """What is published again on one bus.

    Attributes:
        duplicates: Publications of an id that was known.

    """

    def __init__(
        self, bus: BusState, dispatcher: Dispatcher, slot: StoreSlot, durable: DurableAdmission
    ) -> None:
        self._bus = bus
        self._dispatcher = dispatcher
        self._slot = slot
        self._durable = durable
        self._in_memory = InMemory(bus, dispatcher)
        self.duplicates: int = 0

    def is_known(self, event: Any, level: Level) -> bool:
        """Return True if an id was accepted before, but for what the journal will find as it is written."""
        if event.event_id in self._bus.seen:
            return not self._is_elsewhere(event)
        return not level and self._bus.durability.has(event.event_id)

    def _is_elsewhere(self, event: Any) -> bool:
        """Return True if a known id only waits in another call's outbox, and may never be accepted there."""
        outputs = outbox_of(self._bus) or ()
        return event.event_id in self._bus.outboxed and all(
            output.entry.event_id != event.event_id for output in outputs
        )

    def meet(self, event: Any, level: Level, answer: Answer | None = None) -> bool | Commit:
        """Take an event whose id is known: nothing new is delivered, but its level is reached.

        Raises `DecidedOtherwise`, and what the journal has died of if the level is not reached.
        """
        bus = self._bus
        fields = self._compare(event, level, answer)
        if fields:
            bus.conflicts.note(event, fields, bus.clock.now_ns())
        self.duplicates += 1
        if event.event_id in bus.unheard.kill_switches and bus.router.is_heard(event) and not fields:
            self._dispatcher.deliver_control_again(event)
        store = self._slot.store
        if store is None or not level or event.event_id in bus.outboxed:
            return True
        pending = store.commits.pending(event.event_id)
        if pending is not None:
            commit, _ = pending
            commit.must_sync = commit.must_sync or level is Level.DISK
            return commit
        if store.holds_at(event.event_id, level):
            return True
        if store.commits.dead is not None:
            excuse(event, store.commits.dead)
            return True
        if store.has(event.event_id):
            return store.commits.ask(sync=True)
        return store.raise_level(event, level)

    def check(self, event: Any, level: Level, answer: Answer | None = None) -> None:
        """Look at an event that is about to be let in, whose id was forgotten here and may be in the journal.

        Raises `DecidedOtherwise`. (Anybody else's conflict is noted when it is written.)
        """
        who = current.get()
        is_asked = answer is not None or (who is not None and who.has_made(event.event_id))
        if is_asked and self._bus.durability.has(event.event_id):
            self._compare(event, level, answer)

    def _compare(self, event: Any, level: Level, answer: Answer | None) -> tuple[str, ...]:
        """Return in which fields an event differs from the first of its id; none if that is not found.

        Raises `DecidedOtherwise` if it is the current call's.
        """
        found = self._bus.durability.first_version(event.event_id)
        first, had = (self._in_memory.find(event.event_id), None) if found is None else found
        fields = () if first is None else differences(first, event, had)
        if answer is not None:
            answer.duplicate, answer.conflicting = True, bool(fields)
        who = current.get() if fields and level else None
        if who is not None and who.has_made(event.event_id) and event_type_of(event) != KILL_SWITCH:
            error = _otherwise(who.subscription, first, event, fields)
            if not who.decide_otherwise(error):  # nobody else would tell of it
                self._bus.conflicts.note(event, fields, self._bus.clock.now_ns())
            raise error
        return fields


def _otherwise(name: str, first: Any, second: Any, fields: tuple[str, ...]) -> DecidedOtherwise:
    values = [
        (field, safe_repr(getattr(first, field, None)), safe_repr(getattr(second, field, None)))
        for field in fields
        if field != "*"
    ]
    changes = ", ".join(f"{field}: {one} before, {other} now" for field, one, other in values)
    return DecidedOtherwise(
        f"{name} has published another {described(second)} than when it handled the same event before, in "
        f"{in_words(fields)}{f' ({_cut(changes)})' if changes else ''}. The first stands: "
        f"{_cut(safe_repr(first))}. Not published: {_cut(safe_repr(second))}. The event that is being "
        f"handled becomes a dead letter; if the new one is to be published after all, call "
        f"bus.admin.redrive({name!r}, anew=True). A changed copy needs an id of its own: event.amended(...)",
        second.event_id,
        name,
        fields,
    )


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_MOST else f"{text[:SHOWN_MOST]}..."
