"""How a replay has ended: of each life of a journal, and of all of them together."""

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec

from openoutcry.replay.comparing import Difference, Hashes
from openoutcry.replay.outcome import Effects

_TOGETHER: Final = b"openoutcry lives"


class ReplayedLife(msgspec.Struct, frozen=True, kw_only=True):
    """How the replay of one life has ended: what happened from a start of the bus on."""

    number: int
    """The how manieth life of the journal it is, from 1."""
    identical: bool
    """Whether nothing of what was compared differs."""
    ended: str
    """How it ended on the day: `stopped`; `died`; `open`: the journal says no more, so it died or goes on."""
    entries_count: int
    """How many events of the record were handed out, and compared."""
    skipped_count: int = 0
    """How many events of the record were not, as it is not known who took them when."""
    skipped: str = ""
    """Why, in words; empty if all of it was compared."""
    is_complete: bool = True
    """Whether all was compared that can be: the end of a process that died may be missing."""
    from_wall_ns: int
    """When it began, in nanoseconds since 1970 UTC."""
    to_wall_ns: int
    """When the last of its compared events was handed out."""
    recorded: Hashes
    """The hashes of what agents had published."""
    replayed: Hashes
    """The hashes of what they have published now."""
    differences_count: int = 0
    """How many differences there are."""
    effects: Effects | None = None
    """What a change has led to in it; None without one."""


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """How a replay has ended."""

    journal: str
    """The journal."""
    app: str
    """What was run, as `module:app`."""
    identical: bool
    """Whether agents did all that they had done, and nothing else, as far as that was compared."""
    recorded: Hashes
    """The hashes of what they had published. Those of several lives are over the hashes of each, in order."""
    replayed: Hashes
    """The hashes of what they have published now."""
    differences: tuple[Difference, ...]
    """What they did otherwise, in the order in which it was found."""
    entries_count: int
    """How many events of the record were handed out, and compared."""
    from_wall_ns: int
    """When the first life began, in nanoseconds since 1970 UTC."""
    to_wall_ns: int
    """When the last of the compared events was handed out."""
    is_complete: bool = True
    """Whether all was compared that can be. The end of a process that died is not on the tape: no longer than
    `cursor_save_s` and a second, that alone makes nothing incomplete."""
    skipped_count: int = 0
    """How many events were not compared, in all lives that were asked for."""
    lives_count: int = 1
    """How many lives the journal has."""
    lives: tuple[ReplayedLife, ...] = ()
    """Those that were asked for, in order."""
    is_taped: bool = False
    """Whether the record says in which order agents took their events."""
    limits: tuple[str, ...] = ()
    """What this replay cannot know, in sentences."""
    into: str | None = None
    """The journal that the replay was written into, if one was asked for."""
    effects: Effects | None = None
    """What a change has led to; None for a replay without one, and where the control was not identical."""

    def first_differences(self) -> tuple[Difference, ...]:
        """Return the first difference of each agent."""
        first: dict[str, Difference] = {}
        for one in self.differences:
            first.setdefault(one.agent, one)
        return tuple(first.values())

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data, each difference in words as well."""
        plain: dict[str, Any] = msgspec.to_builtins(self, enc_hook=str)
        for told, one in zip(plain["differences"], self.differences, strict=True):
            told["text"] = one.text()
        if self.effects is not None:
            for told, change in zip(plain["effects"]["changes"], self.effects.changes, strict=True):
                told["text"] = change.text()
        return plain


def together(found: Sequence[Replayed], unread: Iterable[ReplayedLife] = ()) -> Replayed:
    """Return the replays of some lives of a journal as one; `unread` are those of which nothing was."""
    lives = sorted((*(one.lives[0] for one in found), *unread), key=lambda life: life.number)
    if len(lives) == 1:
        return found[0]
    last = found[-1]
    effects = [one.effects for one in found if one.effects is not None]
    limits = dict.fromkeys(
        f"life {life.number}: {limit}" for one in found for life in one.lives for limit in one.limits
    )
    told = {life.number: f"life {life.number} was not replayed: {life.skipped}" for life in unread}
    return msgspec.structs.replace(
        last,
        identical=all(one.identical for one in found),
        recorded=_all_of([one.recorded for one in found]),
        replayed=_all_of([one.replayed for one in found]),
        differences=tuple(
            msgspec.structs.replace(two, life=one.lives[0].number) for one in found for two in one.differences
        ),
        entries_count=sum(life.entries_count for life in lives),
        from_wall_ns=found[0].from_wall_ns,
        is_complete=all(life.is_complete for life in lives),
        skipped_count=sum(life.skipped_count for life in lives),
        lives=tuple(lives),
        is_taped=all(one.is_taped for one in found),
        limits=(*limits, *told.values()),
        effects=_effects_together(effects) if effects else None,
    )


def _all_of(hashes: Sequence[Hashes]) -> Hashes:
    if len(hashes) == 1:
        return hashes[0]
    return Hashes(
        _over(hashes, lambda one: one.what),
        _over(hashes, lambda one: one.decisions),
        _over(hashes, lambda one: one.order),
        sum(one.events_count for one in hashes),
        sum(one.decisions_count for one in hashes),
    )


def _over(hashes: Iterable[Hashes], which: Callable[[Hashes], str]) -> str:
    found = blake2b(digest_size=16, person=_TOGETHER)
    for one in hashes:
        found.update(f"{which(one)}\n".encode())
    return found.hexdigest()


def _effects_together(effects: Sequence[Effects]) -> Effects:
    return Effects(
        change=effects[0].change,
        decisions=_sums(one.decisions for one in effects),
        changes=tuple(change for one in effects for change in one.changes),
        rounds_changed=sum(one.rounds_changed for one in effects),
        rounds_unheeded=sum(one.rounds_unheeded for one in effects),
        touched=tuple(sorted({name for one in effects for name in one.touched})),
        left_out=sum(one.left_out for one in effects),
        compares=effects[0].compares,
        events=_sums(one.events for one in effects),
    )


def _sums(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in counts:
        for kind, count in one.items():
            found[kind] = found.get(kind, 0) + count
    return found
