"""The fast_path: the hot path of admission, for ordinary events within the credit that the admission has granted.

An event passes here if its class is known to be low-priority, credit is left, the thread is the bus's, and
its id is new. Whatever else it is (high-priority, a duplicate, the first of its class, one too many), the
fast_path says "not here", has changed nothing, and the admission looks at everything. An event of a class that is
known to be durable goes into the next commit, in the same way.

The state lives in the cells of closures and not in attributes: a cell is read in a fifth of the time, and
    with it
`await publish` costs two thirds. So this is one function with several small ones inside, which share its
variables.
"""

from asyncio import get_running_loop
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from threading import get_ident
from typing import Any

from openoutcry.errors import OpenOutcryError
from openoutcry.events import encode, encode_many
from openoutcry.ports import Level
from openoutcry.runtime.delivery.causation import Tracker
from openoutcry.runtime.durability.committer import Commit, Committer

Publish = Callable[..., Coroutine[Any, Any, bool]]


@dataclass(frozen=True, slots=True)
class FastPath:
    """The functions of one fast_path.

    Attributes:
        publish: `EventBus.publish`: lets an event through, or does it carefully.
        admit: Lets an event through, or returns False and has changed nothing.
        admit_many: The same for a list, all or none. The list must not change afterwards.
        keep: Lets an event of a durable class into the next commit, or returns None and has changed nothing.
        keep_many: The same for a list whose events are all of one level, all or none.
        keeps: Tells whether an event's class is known to be durable; False on other threads.
        learn: Notes that events of a class have to survive this, by these commits.
        forget: Forgets all classes.
        credit: Returns the credit that is left.
        grant: Sets the credit.
        spend: Takes from the credit for events admitted elsewhere.
        join: Notes that an event of this class is staged by somebody else. False if the class is not plain.
        renew: Notes that the staged batch was delivered and a new one begins.
        exchange: Takes these generations of known ids from now on.
        rebind: Notes on which thread the bus runs, and the tracker of its loop.

    """

    publish: Publish
    admit: Callable[[Any], bool]
    admit_many: Callable[[list[Any]], int]
    keep: Callable[[Any], Commit | None]
    keep_many: Callable[[list[Any]], Commit | None]
    keeps: Callable[[Any], bool]
    learn: Callable[[type, Level, Committer], None]
    forget: Callable[[], None]
    credit: Callable[[], int]
    grant: Callable[[int], None]
    spend: Callable[[int], None]
    join: Callable[[type], bool]
    renew: Callable[[], None]
    exchange: Callable[[set[str], set[str]], None]
    rebind: Callable[[int, Tracker], None]


def make_fast_path(  # noqa: C901, PLR0915 - several small functions that share their variables
    *,
    plain: set[type],
    staged: list[Any],
    begin: Callable[[Any], None],
    mix: Callable[[], None],
    stamp_cause: Callable[[Any], None],
    outbox: Callable[[], Any],
    carefully: Publish,
) -> FastPath:
    """Make a fast_path.

    Args:
        plain: Classes whose events are all low-priority. The admission fills and clears the set.
        staged: Where admitted events go. The feed empties the list; it stays the same list.
        begin: Called with the first event of a batch, after it was staged.
        mix: Called when the batch has more than one class.
        stamp_cause: Writes the cause into an event that a handler publishes.
        outbox: Returns where the publications of the call in hand wait for its end, None if they do not.
        carefully: What `publish` awaits for all other events.

    """
    append = staged.append
    batch_class: Any = None
    credit = 0
    thread = get_ident()
    tracker = Tracker(None)
    now: set[str] = set()
    before: set[str] = set()
    remember = now.add
    kept: dict[Any, Level] = {}
    commits: Any = None

    async def publish(event: Any, priority: bool = False, level: str | None = None) -> bool:
        nonlocal credit
        if (
            event.__class__ is batch_class
            and credit > 0
            and not priority
            and level is None
            and get_ident() == thread
        ):
            event_id = event.event_id
            if event_id not in now and event_id not in before:
                remember(event_id)
                if tracker.calls:
                    stamp_cause(event)
                credit -= 1
                append(event)
                return True
        if not priority and level is None:
            if admit(event):
                return True
            group = keep(event)
            if group is not None:
                # `Commit.wait`, written out: a coroutine less.
                future = get_running_loop().create_future()
                group.waiters.append(future)
                await future
                if group.error is not None:
                    raise group.error
                return True
        return await carefully(event, priority, level)

    def admit(event: Any) -> bool:
        nonlocal credit
        if (
            credit <= 0
            or get_ident() != thread
            or not (event.__class__ is batch_class or event.__class__ in plain)
        ):
            return False
        event_id = event.event_id
        if event_id in now or event_id in before:
            return False
        remember(event_id)
        if tracker.calls:
            stamp_cause(event)
        credit -= 1
        first = not staged
        if event.__class__ is not batch_class:
            join(event.__class__)
        append(event)
        if first:
            begin(event)
        return True

    def admit_many(events: list[Any]) -> int:
        nonlocal credit
        classes: set[Any] = set(map(type, events))
        if credit < len(events) or get_ident() != thread or not classes <= plain:
            return 0
        ids = [event.event_id for event in events]
        if not now.isdisjoint(ids) or not before.isdisjoint(ids):
            return 0
        known = len(now)
        now.update(ids)
        if len(now) - known != len(ids):
            now.difference_update(ids)
            return 0
        if tracker.calls:
            for event in events:
                stamp_cause(event)
        credit -= len(events)
        first = not staged
        for cls in classes:
            join(cls)
        if len(classes) > 1:
            mix()
        staged.extend(events)
        if first:
            begin(events[0])
        return len(events)

    def keep(event: Any) -> Commit | None:
        nonlocal credit
        level = kept.get(event.__class__)
        if level is None or credit <= 0 or get_ident() != thread:
            return None
        event_id = event.event_id
        if event_id in now or event_id in before:
            return None
        if tracker.calls:
            if outbox() is not None:
                return None
            stamp_cause(event)
        try:
            payload = encode(event)
        except OpenOutcryError:  # the admission says what is wrong with it
            return None
        group: Commit | None = commits.stage_one(event, event_id, payload, level)
        if group is not None:
            remember(event_id)
            credit -= 1
        return group

    def keep_many(events: list[Any]) -> Commit | None:
        nonlocal credit
        levels = set(map(kept.get, map(type, events)))
        level = levels.pop()
        if levels or level is None or credit < len(events) or get_ident() != thread:
            return None
        ids = [event.event_id for event in events]
        if len(set(ids)) < len(ids) or not now.isdisjoint(ids) or not before.isdisjoint(ids):
            return None
        if tracker.calls:
            if outbox() is not None:
                return None
            for event in events:
                stamp_cause(event)
        try:
            payloads = encode_many(events)
        except OpenOutcryError:
            return None
        group: Commit | None = commits.stage_alike(events, ids, payloads, level)
        if group is not None:
            now.update(ids)
            credit -= len(events)
        return group

    def keeps(event: Any) -> bool:
        return event.__class__ in kept and get_ident() == thread

    def learn(cls: type, level: Level, new_commits: Committer) -> None:
        nonlocal commits
        kept[cls] = level
        commits = new_commits

    def forget() -> None:
        plain.clear()
        kept.clear()

    def join(cls: type) -> bool:
        nonlocal batch_class
        if cls is not batch_class:
            if cls not in plain:
                return False
            if staged:
                mix()
            batch_class = cls
        return True

    def left() -> int:
        return credit

    def grant(amount: int) -> None:
        nonlocal credit
        credit = amount

    def spend(amount: int) -> None:
        nonlocal credit
        credit -= amount

    def renew() -> None:
        nonlocal batch_class
        batch_class = None

    def exchange(new_now: set[str], new_before: set[str]) -> None:
        nonlocal now, before, remember
        now, before, remember = new_now, new_before, new_now.add

    def rebind(new_thread: int, new_tracker: Tracker) -> None:
        nonlocal thread, tracker
        thread, tracker = new_thread, new_tracker

    return FastPath(
        publish,
        admit,
        admit_many,
        keep,
        keep_many,
        keeps,
        learn,
        forget,
        left,
        grant,
        spend,
        join,
        renew,
        exchange,
        rebind,
    )
