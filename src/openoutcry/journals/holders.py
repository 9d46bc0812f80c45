"""What keeps retention from going on: cursors, and what agents' memory is rebuilt from."""

from collections.abc import Collection, Iterable, Mapping

from openoutcry.errors import ConfigError
from openoutcry.ports import CursorState, Holder, Snapshot


def holders(
    cursors: Iterable[CursorState], snapshots: Iterable[Snapshot], letters: Mapping[str, int]
) -> list[Holder]:
    """Return what keeps retention from going on, the lowest position first; one for each name and reason.

    Args:
        cursors: The cursors.
        snapshots: Where each memory begins.
        letters: The lowest position of the dead letters of each subscription that has some. A letter has
            a copy of its event; but if it is handled yet, a memory needs the event itself.

    """
    floors: dict[tuple[str, str], int] = {}
    for cursor in cursors:
        key = cursor.subscription, "cursor"
        floors[key] = min(cursor.floor, floors.get(key, cursor.floor))
    for snapshot in snapshots:
        name = snapshot.subscription
        if snapshot.is_needed:
            # What was a dead letter there may be handled since, or dropped, which its tombstone says.
            floors[name, "memory"] = min([snapshot.floor, *(first - 1 for first, _ in snapshot.open)])
            if name in letters:
                floors[name, "dead letter"] = letters[name] - 1
    found = [Holder(subscription=name, why=why, position=floor) for (name, why), floor in floors.items()]
    return sorted(found, key=lambda holder: (holder.position, holder.subscription, holder.why))


def allowed_upto(
    found: Iterable[Holder], head: int, *, past_cursors: bool, past_memory: Collection[str]
) -> int:
    """Return the last position that may go. Raises `ConfigError` for a name that is not in a collection."""
    if isinstance(past_memory, str):
        raise ConfigError(f"past_memory = {past_memory!r}: give a collection of names, [{past_memory!r}]")
    return min(
        (
            holder.position
            for holder in found
            if not (past_cursors if holder.why == "cursor" else holder.subscription in past_memory)
        ),
        default=head,
    )
