"""What a journal keeps of agents' memory, for `openoutcry cursors` and `openoutcry stats`."""

import time
from collections.abc import Iterable, Mapping

import msgspec

from openoutcry.cli.console import say, table
from openoutcry.journals import JournalReader
from openoutcry.journals.showing import time_of
from openoutcry.ports import Journal
from openoutcry.units import NS_PER_S

HOLDERS_SHOWN = 10
_WHY = {
    "cursor": "it has not settled what follows",
    "memory": "its memory is rebuilt from what follows",
    "dead letter": "its memory needs a dead letter's event if that is redriven",
}


class Memory(msgspec.Struct, kw_only=True):
    """Where the memory of a subscription begins.

    Attributes:
        form: How its state is written: `bytes` or `json`; `none`, which is no state; `lost`; or `damaged`,
            when nothing else of it is known.
        size_bytes: The size of the state.
        saved: When it was written; empty if that is not known.
        age_s: How many seconds ago that was, by this machine's clock; None if it is not known.
        position: Everything up to here was settled then.
        after: How many positions the journal has after that.
        is_needed: Whether the memory is rebuilt from them, so that retention keeps them.

    """

    form: str
    size_bytes: int
    saved: str
    age_s: float | None
    position: int
    after: int
    is_needed: bool


class Held(msgspec.Struct, kw_only=True):
    """What keeps retention from going on.

    Attributes:
        subscription: The subscription's name.
        why: `cursor`, `memory` or `dead letter`.
        position: Nothing after this position may go.
        entries: How many entries are kept after it.

    """

    subscription: str
    why: str
    position: int
    entries: int


def memories_of(reader: JournalReader) -> dict[str, Memory]:
    """Return what is kept of memory, by subscription: of those that have one, or had one that was lost."""
    head, now_ns = reader.head, time.time_ns()
    return {
        found.subscription: Memory(
            form=found.form if is_whole else "damaged",
            size_bytes=size_bytes,
            saved=time_of(found.wall_ns),
            age_s=round((now_ns - found.wall_ns) / NS_PER_S, 3) if found.wall_ns else None,
            position=found.floor,
            after=max(0, head - found.floor),
            is_needed=found.is_needed,
        )
        for found, size_bytes, is_whole in reader.memory_heads()
        if not is_whole or found.is_needed or found.form != "none"
    }


def show_memories(memories: Mapping[str, Memory]) -> None:
    """Print them as a table."""
    heads = ("memory of", "form", "bytes", "age", "position", "entries after")
    rows = [(name, m.form, m.size_bytes, _age(m.age_s), m.position, m.after) for name, m in memories.items()]
    table(heads, rows)


def _age(age_s: float | None) -> str:
    if age_s is None:
        return "-"
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if age_s >= 2 * size:
            return f"{age_s / size:.0f}{unit}"
    return f"{age_s:.0f}s"


def held_of(reader: JournalReader | Journal) -> list[Held]:
    """Return what keeps retention from going on, the lowest position first."""
    head, first = reader.head, reader.first
    return [
        Held(
            subscription=found.subscription,
            why=found.why,
            position=found.position,
            entries=max(0, head - max(found.position, first - 1)),
        )
        for found in reader.held_by()
    ]


def show_held(held: Iterable[Held]) -> None:
    """Print what holds back something, as a table."""
    found = [one for one in held if one.entries]
    if not found:
        return
    say()
    heads = ("kept for", "why", "after position", "entries")
    shown = found[:HOLDERS_SHOWN]
    table(heads, [(one.subscription, _WHY.get(one.why, one.why), one.position, one.entries) for one in shown])
    if len(found) > len(shown):
        say(f"and {len(found) - len(shown):,} more: --json has them all")
