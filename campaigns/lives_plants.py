"""Bugs to be planted into agents' memory: lives must give each of them away, or they prove nothing.

Each is planted in the children alone, after they were forked.
"""

from typing import Any, Final

import msgspec

from campaigns.bus_plants import Bug
from campaigns.crash_kit import set_in
from openoutcry.core.recall import Places, Recall
from openoutcry.journals import snapshots
from openoutcry.journals.sqlite import SqliteJournal
from openoutcry.ports import Snapshot
from openoutcry.runtime.delivery.dead_letters import DeadLetters
from openoutcry.runtime.durability.folding import Folding
from openoutcry.runtime.durability.memories import Memories


def tombstones_ignored() -> None:
    """Fold what was in dead letters that were dropped."""
    _plant(SqliteJournal, "tombstones", lambda _self, _name: [])
    _plant(DeadLetters, "tombstones", lambda _self, _name: set())


def letters_folded() -> None:
    """Fold what is in dead letters."""
    _plant(Memories, "_letters", lambda _self, _name: set())


def unsettled_folded() -> None:
    """Fold also what is going to be handled again."""

    def wants(self: Recall, lane: str, position: int) -> bool:
        return position not in self._left_out and not self._base.has(lane, position)

    _plant(Recall, "wants", wants)


def everything_for_new_names() -> None:
    """Give a name that is new everything that there is."""
    honest = Memories._adopt  # noqa: SLF001 - what is broken is inside

    def adopt(
        self: Memories,
        subscription: Any,
        offsets: Any,
        memory: Any,
        base: Snapshot,
        now: Any,
        *,
        is_new: bool,
    ) -> None:
        if is_new:
            now = {lane.lane.name: (lane.read_upto, ()) for lane in offsets.lanes}
            base = msgspec.structs.replace(base, lanes={})
        honest(self, subscription, offsets, memory, base, now, is_new=False)

    _plant(Memories, "_adopt", adopt)


def state_without_cursor() -> None:
    """Save a state with the cursors of the state before."""
    honest = Memories.snapshot_of

    def snapshot_of(self: Memories, subscription: Any, form: str, state: bytes) -> Snapshot:
        known = subscription.offsets.memory.base
        made = honest(self, subscription, form, state)
        late = msgspec.structs.replace(made, lanes=known.lanes)
        self._saving.remember(late)
        return late

    _plant(Memories, "snapshot_of", snapshot_of)


def retention_passes_memories() -> None:
    """Retire what memories need."""
    honest = SqliteJournal.held_by
    _plant(SqliteJournal, "held_by", lambda self: [h for h in honest(self) if h.why == "cursor"])


def unreadable_skipped() -> None:
    """Fold without what cannot be read or is not there, and say nothing."""
    _plant(Folding, "_miss", lambda _self, _what, _count=1: None)


def state_and_everything() -> None:
    """Load the state, and then fold everything."""
    honest = Recall.__init__

    def begin(self: Recall, _base: Places, now: Places, **options: Any) -> None:
        honest(self, {}, now, **options)

    _plant(Recall, "__init__", begin)


def types_of_now() -> None:
    """Fold what is of the types that the name takes now, whatever it took then."""
    _plant(Recall, "types_at", lambda _self, _lane, _position: None)


def renamed_without_memory() -> None:
    """Leave the memory behind with the old name."""
    set_in(snapshots, "_rename", lambda db, old, _new, _chain: vars(snapshots)["_forget"](db, old))


def _plant(where: type, name: str, what: Any) -> None:
    if not hasattr(where, name):
        raise LookupError(f"{where.__name__} has no {name}: nothing would ever call what is planted there")
    setattr(where, name, what)


PLANTS: Final[dict[str, Bug]] = {
    "tombstones ignored": tombstones_ignored,
    "dead letters folded": letters_folded,
    "unsettled events folded": unsettled_folded,
    "everything folded for new names": everything_for_new_names,
    "a state saved without its cursor": state_without_cursor,
    "retention passes memories": retention_passes_memories,
    "the unreadable skipped": unreadable_skipped,
    "a state loaded and everything folded": state_and_everything,
    "changes of types ignored": types_of_now,
    "renamed names lose their memory": renamed_without_memory,
}
