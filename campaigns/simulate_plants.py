"""Bugs to be planted in the bus: the simulator must catch each of them, or its silence proves nothing."""

# ruff: noqa: SLF001 - a bug is planted where nobody is meant to reach

import asyncio
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from unittest.mock import patch
from weakref import WeakKeyDictionary

import msgspec

from openoutcry.config import LevelName
from openoutcry.core.audience import Audience
from openoutcry.core.barrier import Round, Verdict
from openoutcry.core.halts import Halts
from openoutcry.core.holds import Hold
from openoutcry.core.letters import LetterFilter
from openoutcry.core.overflow import ControlLane
from openoutcry.core.recall import Recall
from openoutcry.journals import MemoryJournal
from openoutcry.journals.holders import holders
from openoutcry.ports import Written
from openoutcry.runtime.admission.kill_switches import KillSwitches
from openoutcry.runtime.api.bus import EventBus
from openoutcry.runtime.delivery.before_start import BeforeStart
from openoutcry.runtime.delivery.consumers import Consumers
from openoutcry.runtime.delivery.dispatcher import Dispatcher
from openoutcry.runtime.delivery.failures import Failures
from openoutcry.runtime.delivery.offsets import LaneOffsets
from openoutcry.runtime.delivery.redrives import Redrives
from openoutcry.runtime.delivery.redriving import Redriving
from openoutcry.runtime.delivery.seen_ids import SeenIds
from openoutcry.runtime.delivery.spilling import Spilling
from openoutcry.runtime.delivery.worker import Worker
from openoutcry.runtime.durability.catch_up import CatchUp
from openoutcry.runtime.durability.commit import Commit
from openoutcry.runtime.durability.committer import Committer
from openoutcry.runtime.durability.folding import Pass
from openoutcry.runtime.durability.memories import Memories, SavedMemory
from openoutcry.runtime.durability.saving import Saving
from openoutcry.runtime.durability.store import Store
from openoutcry.runtime.ownership import Ownership

Patches = list[Any]
LIMIT: Final = 100


def _acknowledged_before_the_commit() -> Patches:
    def wait(_commit: Commit) -> Iterator[None]:
        yield

    return [patch.object(Commit, "__await__", wait)]


def _disk_without_a_sync() -> Patches:
    write = MemoryJournal.write

    def written(journal: MemoryJournal, *args: Any) -> Written:
        found = write(journal, *args)
        return Written(found.positions, found.duplicates, wants_sync=False)

    return [patch.object(MemoryJournal, "write", written)]


def _cursor_saved_before_the_handler_ran() -> Patches:
    def state(book: LaneOffsets, released: int) -> tuple[int, tuple[tuple[int, int], ...]]:
        return (book.read_upto if book.behind else released), ()

    return [patch.object(LaneOffsets, "state", state)]


def _settled_on_a_cancellation() -> Patches:
    after_error = Worker._after_error

    def settles(worker: Worker, batch: Any, error: BaseException) -> bool:
        if (
            isinstance(error, asyncio.CancelledError)
            and len(batch.events) == 1
            and not worker.guard.abandoned
        ):
            worker.mailbox.settle(batch)
            worker._note_settled(1)
            return False
        return after_error(worker, batch, error)

    return [patch.object(Worker, "_after_error", settles)]


def _late_signals_vote() -> Patches:
    arrive = Round.arrive

    def votes(opened: Round, agent: str, signal: Any, now_ns: int) -> Verdict:
        verdict = arrive(opened, agent, signal, now_ns)
        if verdict is Verdict.LATE and opened.outcome is not None:
            opened._heard[signal.event_id] = (agent, signal.symbol, signal, now_ns)
        return verdict

    return [patch.object(Round, "arrive", votes)]


def _late_signals_vote_in_the_next_round() -> Patches:
    arrive = Round.arrive

    def votes(opened: Round, agent: str, signal: Any, now_ns: int) -> Verdict:
        late = late_by_loop.setdefault(asyncio.get_running_loop(), {})
        if opened.outcome is None and agent in opened.unheard and agent in late:
            former = late.pop(agent)
            opened._heard[former.event_id] = (agent, former.symbol, former, now_ns)
        verdict = arrive(opened, agent, signal, now_ns)
        if verdict is Verdict.LATE:
            late[agent] = signal
        return verdict

    late_by_loop: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()
    return [patch.object(Round, "arrive", votes)]


def _recovery_limited() -> Patches:
    read_page = CatchUp._read_page

    def limited(backlog: CatchUp, subscription: Any, book: LaneOffsets, room: int) -> None:
        count = backlog.__dict__.setdefault("counts", {})
        begun = count.setdefault(id(book), book.read_upto)
        if book.read_upto - begun >= LIMIT:
            book.read_upto = backlog._commits.released
        read_page(backlog, subscription, book, room)

    return [patch.object(CatchUp, "_read_page", limited)]


def _kill_switch_in_the_normal_lane() -> Patches:
    def deliver_control(dispatcher: Dispatcher, event: Any, *_positions: Any, **_options: Any) -> None:
        dispatcher.deliver()
        events, now_ns = [event], dispatcher._bus.clock.now_ns()
        dispatcher._note(events, now_ns)
        for group in dispatcher._bus.router.route(event):
            for subscription in group.subscriptions:
                subscription.mailbox.normal.push(events, now_ns)
                subscription.wake()
        dispatcher.stalls.look()

    return [patch.object(Dispatcher, "deliver_control", deliver_control)]


def _duplicates_known_only_after_success() -> Patches:
    publish, after_success = EventBus.publish, Worker._after_success

    async def forgets(
        bus: EventBus, event: Any, priority: bool = False, *, level: LevelName | None = None
    ) -> bool:
        accepted = await publish(bus, event, priority, level=level)
        bus._bus.seen.discard(event.event_id)
        return accepted

    def remembers(worker: Worker, batch: Any) -> bool:
        state: Any = worker._bus
        for event in batch.events:
            state.seen.add(event.event_id)
        return after_success(worker, batch)

    return [patch.object(EventBus, "publish", forgets), patch.object(Worker, "_after_success", remembers)]


def _released_without_room() -> Patches:
    nothing = property(lambda _commits: 0, lambda _commits, _value: None)
    return [patch.object(Committer, "waiting", nothing, create=True)]


def _retries_are_overtaken() -> Patches:
    init = Failures.__init__

    def overtaken(failures: Failures, *args: Any) -> None:
        init(failures, *args)
        failures.in_order = False

    return [patch.object(Failures, "__init__", overtaken)]


def _the_fullest_mailbox_decides() -> Patches:
    measure = Audience.measure

    def fullest(audience: Audience, pressure: Any, way: int, way_rank: int) -> None:
        measure(audience, pressure, way, way_rank)
        for mailbox in audience.mailboxes:
            audience.depth = max(audience.depth, mailbox.depth + way)
            audience.rank = max(audience.rank, mailbox.rank)
        audience.credit = pressure.credit(audience.depth, audience.rank)

    return [patch.object(Audience, "measure", fullest)]


def _a_full_mailbox_lets_anything_go() -> Patches:
    return [patch.object(Spilling, "_may_go", lambda _spilling, _event: True)]


def _a_kill_switch_at_the_stop_is_only_delivered() -> Patches:
    admit = KillSwitches.admit

    def delivered(kill_switches: KillSwitches, event: Any, level: Any) -> Any:
        if kill_switches._bus.phase != "stopping":
            return admit(kill_switches, event, level)
        kill_switches._note(event)
        kill_switches._dispatcher.deliver_control(event, None)
        return True

    return [patch.object(KillSwitches, "admit", delivered)]


def _a_kill_switch_before_the_start_is_forgotten() -> Patches:
    return [patch.object(BeforeStart, "_add_control", lambda *_args: None)]


def _kill_switches_are_folded_across_a_release() -> Patches:
    fold = ControlLane._fold

    def folded(lane: ControlLane, event: Any, switch: Any) -> None:
        if event.activated:
            fold(lane, event, switch)

    return [patch.object(ControlLane, "_fold", folded)]


def _a_release_ends_what_it_does_not_name() -> Patches:
    release = Halts.release

    def ends_all(halts: Halts, scope: str, _ids: Any = ()) -> Any:
        return release(halts, scope, ())

    return [patch.object(Halts, "release", ends_all)]


def _halts_are_forgotten_at_a_crash() -> Patches:
    return [patch.object(MemoryJournal, "halts", lambda _journal: [])]


def _a_redrive_takes_a_part() -> Patches:
    redrive = Redriving.redrive

    def some(redriving: Redriving, subscription: Any, which: Any, *args: Any, **options: Any) -> int:
        first = next((k.letter_id for k in redriving._letters.letters(subscription.name) if which(k)), 0)
        return redrive(redriving, subscription, LetterFilter(letter_ids=frozenset({first})), *args, **options)

    return [patch.object(Redriving, "redrive", some)]


def _a_redriven_letter_is_lost() -> Patches:
    begin = Redrives.begin

    def loses(redrives: Redrives, subscription: Any, letters: Any) -> None:
        begin(redrives, subscription, list(letters)[1:])

    return [patch.object(Redrives, "begin", loses)]


def _deciding_otherwise_is_a_duplicate() -> Patches:
    return [patch("openoutcry.runtime.admission.again.differences", lambda *_: ())]


def _deciding_otherwise_is_retried() -> Patches:
    return [patch.object(Worker, "decide_otherwise", lambda _worker, _error: None)]


def _another_loop_is_let_in() -> Patches:
    return [patch.object(Ownership, "check", lambda _ownership, _call: None)]


def _a_level_is_not_raised() -> Patches:
    return [patch.object(Store, "holds_at", lambda *_args: True)]


def _ticks_push_out_ids() -> Patches:
    return [patch.object(SeenIds, "keep", lambda *_args: None)]


def _a_lost_loop_takes_what_was_in_flight() -> Patches:
    give_up = Consumers.give_up

    def settles(consumers: Consumers) -> None:
        for subscription in consumers._bus.router:
            for batch in tuple(subscription.mailbox.open):
                subscription.mailbox.settle(batch)
        give_up(consumers)

    return [patch.object(Consumers, "give_up", settles)]


def _tombstones_are_lost() -> Patches:
    return [patch.object(MemoryJournal, "tombstones", lambda *_args: [])]


def _a_new_name_remembers_the_whole_journal() -> Patches:
    def beginning(memories: Memories, subscription: Any, _offsets: Any, _now: Any) -> Any:
        return memories._make(subscription, "none", b"", {})

    return [patch.object(Memories, "_beginning", beginning)]


def _a_state_is_written_before_its_cursor() -> Patches:
    take = Saving.take

    def apart(saving: Saving) -> Any:
        found = take(saving)
        names = {s.subscription for s in found.changes.snapshots if s.form != "none"} if found else ()
        if found is None or not names:
            return found
        for offsets in found.unsaved:
            if offsets.name in names:
                offsets.note()
        cursors = [cursor for cursor in found.changes.cursors if cursor.subscription not in names]
        changes = msgspec.structs.replace(found.changes, cursors=cursors)
        moved = [item for item in found.moved if item[2].subscription not in names]
        return dataclasses.replace(found, changes=changes, moved=moved)

    return [patch.object(Saving, "take", apart)]


def _a_state_is_later_than_its_cursors_say() -> Patches:
    make = Memories._make

    def earlier(memories: Memories, subscription: Any, form: str, state: bytes, lanes: Any) -> Any:
        if form != "none":
            lanes = {name: (max(0, floor - 1), ()) for name, (floor, _) in lanes.items()}
        return make(memories, subscription, form, state, lanes)

    return [patch.object(Memories, "_make", earlier)]


def _a_state_is_saved_in_a_call() -> Patches:
    return [patch.object(SavedMemory, "is_quiet", property(lambda _saved: True))]


def _eras_are_ignored() -> Patches:
    return [patch.object(Recall, "types_at", lambda *_args: None)]


def _dead_letters_are_remembered() -> Patches:
    return [patch.object(Memories, "_letters", lambda *_args: set())]


def _retention_passes_a_memory() -> Patches:
    def without(*args: Any) -> Any:
        return [holder for holder in holders(*args) if holder.why != "memory"]

    return [patch("openoutcry.journals.memory.holders", without)]


def _folding_begins_anew_after_a_state() -> Patches:
    def anew(_base: Any, now: Any, **options: Any) -> Recall:
        return Recall({}, now, **options)

    return [patch("openoutcry.runtime.durability.memories.Recall", anew)]


def _folding_keeps_the_loop() -> Patches:
    async def keeps(folded: Pass, at: int) -> None:
        for folding in folded._left:
            folding.at = max(folding.at, at)

    return [patch.object(Pass, "_give_way", keeps)]


def _nothing_waits_for_a_memory() -> Patches:
    wait_for = Memories._wait_for

    def lets_go(memories: Memories, saved: SavedMemory, subscription: Any) -> None:
        wait_for(memories, saved, subscription)
        subscription.holds.lift(Hold.RESTORING)

    return [patch.object(Memories, "_wait_for", lets_go)]


def _a_rename_leaves_the_memory_behind() -> Patches:
    save = MemoryJournal._save_memories

    def saves(journal: MemoryJournal, changes: Any) -> None:
        save(journal, msgspec.structs.replace(changes, renamed=()))

    return [patch.object(MemoryJournal, "_save_memories", saves)]


PLANTS: Final[dict[str, Callable[[], Patches]]] = {
    "acknowledged before the commit": _acknowledged_before_the_commit,
    "disk without a sync": _disk_without_a_sync,
    "cursor saved before the handler ran": _cursor_saved_before_the_handler_ran,
    "settled on a cancellation": _settled_on_a_cancellation,
    "late signals vote": _late_signals_vote,
    "late signals vote in the next round": _late_signals_vote_in_the_next_round,
    "recovery limited to 100": _recovery_limited,
    "kill switch in the normal lane": _kill_switch_in_the_normal_lane,
    "duplicates known only after success": _duplicates_known_only_after_success,
    "released without room": _released_without_room,
    "retries are overtaken": _retries_are_overtaken,
    "the fullest mailbox decides": _the_fullest_mailbox_decides,
    "a full mailbox lets anything go": _a_full_mailbox_lets_anything_go,
    "a kill switch at the stop is only delivered": _a_kill_switch_at_the_stop_is_only_delivered,
    "a kill switch before the start is forgotten": _a_kill_switch_before_the_start_is_forgotten,
    "kill switches are folded across a release": _kill_switches_are_folded_across_a_release,
    "a release ends what it does not name": _a_release_ends_what_it_does_not_name,
    "halts are forgotten at a crash": _halts_are_forgotten_at_a_crash,
    "a redrive takes a part": _a_redrive_takes_a_part,
    "a redriven letter is lost": _a_redriven_letter_is_lost,
    "deciding otherwise is a duplicate": _deciding_otherwise_is_a_duplicate,
    "deciding otherwise is retried": _deciding_otherwise_is_retried,
    "another loop is let in": _another_loop_is_let_in,
    "a level is not raised": _a_level_is_not_raised,
    "ticks push out ids": _ticks_push_out_ids,
    "a lost loop takes what was in flight": _a_lost_loop_takes_what_was_in_flight,
    "tombstones are lost": _tombstones_are_lost,
    "a new name remembers the whole journal": _a_new_name_remembers_the_whole_journal,
    "a state is written before its cursor": _a_state_is_written_before_its_cursor,
    "a state is later than its cursors say": _a_state_is_later_than_its_cursors_say,
    "a state is saved in a call": _a_state_is_saved_in_a_call,
    "eras are ignored": _eras_are_ignored,
    "dead letters are remembered": _dead_letters_are_remembered,
    "retention passes a memory": _retention_passes_a_memory,
    "folding begins anew after a state": _folding_begins_anew_after_a_state,
    "folding keeps the loop": _folding_keeps_the_loop,
    "nothing waits for a memory": _nothing_waits_for_a_memory,
    "a rename leaves the memory behind": _a_rename_leaves_the_memory_behind,
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Let a bug live in the bus while the block runs; an empty name plants none."""
    patches = PLANTS[name]() if name else []
    for one in patches:
        one.start()
    try:
        yield
    finally:
        for one in reversed(patches):
            one.stop()
