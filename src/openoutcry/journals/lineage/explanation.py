"""What an explanation has, as records: the chain of causes, the rounds in it, and what is not known."""

from typing import Any, cast

import msgspec

from openoutcry.journals.lineage.text import text_of
from openoutcry.journals.rounds import RecordedRound


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """An event in an explanation."""

    position: int
    """Where it stands, in the journal of the desk that made it."""
    desk: str | None = None
    """Which desk that is, where it is another one than that of the journal that was asked."""
    event_id: str
    """Its id."""
    event_type: str
    """Its type."""
    agent: str
    """Who published it."""
    symbol: str
    """The instrument; empty if there is not one."""
    round_id: str | None = None
    """The round that it belongs to."""
    time_ns: int | None
    """Its own time, in nanoseconds since 1970; None if it has none."""
    wall_ns: int
    """When it was admitted, in nanoseconds since 1970."""
    after_ns: int = 0
    """From the admission of the first step to its own."""
    hop_ns: int = 0
    """From the admission of the step before."""
    is_slowest: bool = False
    """Whether more than half of the time went by before it."""
    said: str
    """What it says, in a few words."""
    remark: str = ""
    """How it is tied in, such as "the loudest of 12 votes"."""
    depth: int = 0
    """In what came of something: over how many steps."""


class VoteCount(msgspec.Struct, frozen=True, kw_only=True):
    """A vote of a round, as it bears on the decision."""

    agent: str
    """Whose it is."""
    side: str
    """`for` the decision or `against` it, `flat`, or where there is no decision `long` or `short`; empty if
    it is not known what it said."""
    direction: str | None
    """What it said."""
    strength: float | None
    """How strong it was, from -1 to 1."""
    confidence: float | None
    """How sure its agent was, from 0 to 1."""
    after_ns: int
    """From the opening of the round to its arrival."""
    signal_id: str | None
    """The id of the signal."""


class RoundCase(msgspec.Struct, frozen=True, kw_only=True):
    """A round that the chain has come through."""

    round: RecordedRound
    """The round, as the journal has it."""
    votes: tuple[VoteCount, ...]
    """The votes that counted, those for the decision first, the strongest first."""
    action: str = ""
    """What was decided: `buy` or `sell`; empty if nothing was."""
    desk: str | None = None
    """Which desk has opened it, where it is another one than that of the journal that was asked."""


class HeldFill(msgspec.Struct, frozen=True, kw_only=True):
    """A fill that has made a position what it is."""

    step: Step
    """The fill."""
    quantity: float
    """What it added; below 0 for a sale."""
    price: float | None
    """At which price, per unit."""
    held: float
    """What was held after it; below 0 if sold short."""
    order_id: str
    """Of which order it was."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why something happened."""

    ref: str
    """What was asked for."""
    title: str
    """What is explained, as one sentence."""
    summary: str
    """Why, in two or three sentences; empty where the chain says it all."""
    chain: tuple[Step, ...]
    """From the first cause to what is explained, oldest first."""
    rounds: tuple[RoundCase, ...] = ()
    """The rounds that it came through, the one that decided first."""
    aside: tuple[Step, ...] = ()
    """What else the steps of the chain name as their cause, but for the votes."""
    held: tuple[HeldFill, ...] = ()
    """Of a position: the fills since it was flat."""
    came_of: tuple[Step, ...] | None = None
    """What came of it, oldest first; None if that was not asked for."""
    unknown: tuple[str, ...] = ()
    """What is not known, and why."""

    def text(self) -> str:
        """Return it as the command line prints it: several lines, safe to show."""
        return text_of(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready data."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        for case, plain_case in zip(self.rounds, plain["rounds"], strict=True):
            plain_case["round"] = case.round.to_dict()
        return cast(dict[str, Any], msgspec.json.decode(msgspec.json.encode(plain)))  # lists for tuples
