"""Faults that are planted into a replay, in an agent or in the record: each must be found, and named."""

import random
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from campaigns.replay_firm import Firm, Strategy
from openoutcry import MarketDataEvent, SignalEvent
from openoutcry.journals.beginnings import Beginning
from openoutcry.replay import Difference
from openoutcry.replay.day import Day, PastRound, read_day
from openoutcry.replay.engine import replay_here

WHO = "s05"
"""The agent that is planted with a fault."""


class Plant(NamedTuple):
    """A fault.

    Attributes:
        name: What it is.
        find: Returns what a replay finds of it in a life of a day.
        kinds: The kinds of differences that it must be found as, one of them.
        agent: Who must be named; None: whoever it is.

    """

    name: str
    find: Callable[[Path, int], Sequence[Difference]]
    kinds: tuple[str, ...]
    agent: str | None = WHO


def _changed(said: SignalEvent, **changes: Any) -> SignalEvent:
    fields = {name: getattr(said, name) for name in SignalEvent.__struct_fields__}
    return SignalEvent(**(fields | changes))


class _Planted(Strategy):
    """Is planted with a fault if it is the one."""

    def answer(self, tick: MarketDataEvent, known: str) -> SignalEvent:
        """Return a signal."""
        said = super().answer(tick, known)
        return self.planted(said) if self.name == WHO else said

    def planted(self, said: SignalEvent) -> SignalEvent:
        """Return the signal with the fault."""
        return said


class _Random(_Planted):
    def planted(self, said: SignalEvent) -> SignalEvent:
        return _changed(said, confidence=random.random())  # noqa: S311


class _Clock(_Planted):
    def planted(self, said: SignalEvent) -> SignalEvent:
        return _changed(said, rationale=f"{said.rationale} {datetime.now()}")  # noqa: DTZ005


class _Addresses(_Planted):
    def planted(self, said: SignalEvent) -> SignalEvent:
        order = sorted((object(), object(), object()), key=id)
        return _changed(said, rationale=f"{said.rationale} {[id(one) for one in order]}")


class _Rationale(_Planted):
    def planted(self, said: SignalEvent) -> SignalEvent:
        return _changed(said, rationale="because")


class _Extra(_Planted):
    async def on_tick(self, tick: MarketDataEvent) -> None:
        await super().on_tick(tick)
        if self.name == WHO:
            await self.bus.publish(self.answer(tick, "once more"))


class _Silent(_Planted):
    async def on_tick(self, tick: MarketDataEvent) -> None:
        if self.name != WHO:
            await super().on_tick(tick)


def _firm(strategy_of: type[Strategy]) -> Callable[[Path, int], Sequence[Difference]]:
    class Planted(Firm):
        strategy = strategy_of

    def find(path: Path, life: int) -> Sequence[Difference]:
        return replay_here(read_day(path, number=life), Planted, "planted").differences

    return find


def _record(change: Callable[[Day], None]) -> Callable[[Path, int], Sequence[Difference]]:
    def find(path: Path, life: int) -> Sequence[Difference]:
        day = read_day(path, number=life)
        change(day)
        return replay_here(day, Firm, "planted").differences

    return find


def _decided(day: Day) -> PastRound:
    """Return a round of which there is a decision, and in which somebody was missing."""
    decided = {
        getattr(entry.event, "round_id", None)
        for entry in day.entries
        if entry.event.event_type == "decision"
    }
    return next(
        one
        for known in day.rounds.values()
        for one in known
        if one.round_id in decided and one.released is not None and one.released.votes
    )


def _swap_outcome(day: Day) -> None:
    one = _decided(day)
    assert one.released is not None, "it is one with an outcome"
    other = next(
        past.released
        for known in day.rounds.values()
        for past in known
        if past.released is not None and set(past.released.votes) != set(one.released.votes)
    )
    one.released = msgspec.structs.replace(
        one.released, status=other.status, valid=other.valid, missing=other.missing, votes=other.votes
    )


def _move_vote(day: Day) -> None:
    one = _decided(day)
    assert one.released is not None, "it is one with an outcome"
    moved = one.released.votes[0]
    one.released = msgspec.structs.replace(
        one.released, votes=one.released.votes[1:], missing=(*one.released.missing, moved.agent)
    )


def _lose_tape_row(day: Day) -> None:
    del day.steps["chief"][2:7]


def _forget(day: Day) -> None:
    """Have agents begin without what they remembered."""
    day.begins = day.begins._replace(memories={})


def _lose_owed(day: Day) -> None:
    """Take an event that was not settled for a settled one."""
    floor = day.begins.memories["books"].now["normal"][0]
    at = min(place for place in day.life.owed["books", "normal"] if place > floor)
    memory = day.begins.memories["books"]
    now = {**memory.now, "normal": (at, memory.now["normal"][1])}
    changed = Beginning(memory.base, now, memory.takes, memory.left_out)
    day.begins = day.begins._replace(memories={**day.begins.memories, "books": changed})


def _release_all(day: Day) -> None:
    """Have no kill switch active at the start."""
    day.begins = day.begins._replace(halts={})


def _redrive_none(day: Day) -> None:
    """Hand out no dead letter again."""
    day.again.clear()


PLANTS = (
    Plant("unrecorded random", _firm(_Random), ("content",)),
    Plant("a wall clock read", _firm(_Clock), ("content",)),
    Plant("an order of addresses", _firm(_Addresses), ("content",)),
    Plant("a changed rationale", _firm(_Rationale), ("content",)),
    Plant("an extra publication", _firm(_Extra), ("extra",)),
    Plant("a silent agent", _firm(_Silent), ("missing",)),
    Plant("a lost row of the tape", _record(_lose_tape_row), ("content", "missing", "round"), "chief"),
    Plant("a swapped outcome", _record(_swap_outcome), ("content", "missing"), "chief"),
    Plant("a vote moved over its deadline", _record(_move_vote), ("content", "missing"), "chief"),
)
LATER_PLANTS = (
    Plant("a memory that is not given back", _record(_forget), ("content",), "books"),
    Plant("an unsettled event that is passed over", _record(_lose_owed), ("content", "missing"), "books"),
    Plant("a kill switch that is forgotten", _record(_release_all), ("content",), "books"),
    Plant("a dead letter that is not redriven", _record(_redrive_none), ("missing", "round"), None),
)
"""Faults in how a life begins that is not the first: a day that was restarted has them in its second."""
