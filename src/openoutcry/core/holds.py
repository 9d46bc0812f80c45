"""Holds: whether a subscription may begin an event, and whether it may read on from the journal.

Many things keep a subscription from working: the operator has paused it, recovery holds it back, most of its
events fail, another one is tried alone after a crash, and so on. They come and go independently. So each is a
*hold* with a name. Whoever sets a hold lifts it, and no two share one: lifting the operator's pause does not
end recovery's hold. A subscription may do what none of its holds stops.

The structure is h11's: the table below is all there is to know, `Holds` keeps the answers up to date at each
change, and does not know who asks. Nothing else in the bus answers these two questions. A worker reads one
plain attribute per batch, `is_clear`, and looks closer only if it is false.

Kill switches are never held: their workers do not ask.

What is about *room* is no hold: a subscription that has stalled may begin, and one that is behind must read.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final
from weakref import WeakSet


class Hold(Enum):
    """One reason why a subscription may not do everything."""

    ENDED = "ended"
    PAUSED = "paused"
    NOT_RESTORED = "not restored"
    RESTORING = "restoring"
    RECOVERY = "recovery"
    FAILING = "failing"
    COOLING = "cooling"
    SEAT = "seat"
    SAVING = "saving"
    OTHER_ALONE = "other alone"
    ALONE = "alone"
    READS_WAIT = "reads wait"
    UNREADABLE = "unreadable"


class Begins(Enum):
    """How many events a subscription may begin."""

    ALL = "as many as there are"
    ONE = "one at a time"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What there is to know of a hold.

    Attributes:
        begins: How many events may be begun. Calls that have begun always go on.
        reads: Whether it may read on from the journal.
        set_by: Who sets it, and when.
        lifted_by: Who lifts it, and when; empty if nobody does.
        word: What `SubscriptionStats.state` says while it is set; empty if it says what it would without.
        meaning: What it means for the user, as a sentence.

    """

    begins: Begins
    reads: bool
    set_by: str
    lifted_by: str
    meaning: str
    word: str = ""


TABLE: Final[dict[Hold, Row]] = {  # the words in the order of their precedence
    Hold.ENDED: Row(
        begins=Begins.NONE,
        reads=False,
        set_by="`unsubscribe` of its last type, or the end of its `owner`",
        lifted_by="",
        word="ended",
        meaning="It handles nothing more; what waited for it was counted as withdrawn.",
    ),
    Hold.PAUSED: Row(
        begins=Begins.NONE,
        reads=False,
        set_by="the operator: `pause`; the bus, when eight of its calls did not end when cancelled",
        lifted_by="the operator: `resume`",
        word="paused",
        meaning="It waits for `resume`.",
    ),
    Hold.NOT_RESTORED: Row(
        begins=Begins.NONE,
        reads=False,
        set_by="the journal, when the subscription did not get its memory back",
        lifted_by="",
        word="not restored",
        meaning="What it has handled cannot be folded; mend that and start again, or say on_missing='warn'.",
    ),
    Hold.RESTORING: Row(
        begins=Begins.NONE,
        reads=False,
        set_by="the journal, when a subscription with a memory is made",
        lifted_by="the journal, when it has its memory",
        word="restoring",
        meaning="It gets its memory back before it handles anything.",
    ),
    Hold.RECOVERY: Row(
        begins=Begins.NONE,
        reads=False,
        set_by="health, where the recovery ladder backs off, pauses or quarantines",
        lifted_by="health, when the time is over; the operator: `resume`",
        word="held",
        meaning="Recovery holds it back, since it was stuck or dead; in quarantine it waits for `resume`.",
    ),
    Hold.FAILING: Row(
        begins=Begins.ONE,
        reads=True,
        set_by="the breaker, when most of its events have become dead letters",
        lifted_by="the breaker, at the first event after one that was handled; the operator: `resume`",
        word="failing",
        meaning="Most of its events fail, so it is tried with one at a time.",
    ),
    Hold.COOLING: Row(
        begins=Begins.NONE,
        reads=False,
        set_by="the breaker, for each pause, and while another call is running",
        lifted_by="the breaker, when that is over; the operator: `resume`",
        meaning="It is failing, and the next try is not due yet.",
    ),
    Hold.SEAT: Row(
        begins=Begins.NONE,
        reads=False,
        set_by="the link, on all subscriptions, when the seat was not renewed in time, or is lost",
        lifted_by="the link, when it holds the seat again",
        word="no seat",
        meaning="Another process may hold this desk, so that this one begins nothing.",
    ),
    Hold.SAVING: Row(
        begins=Begins.NONE,
        reads=False,
        set_by="the journal, when too much is settled and its cursors are not saved",
        lifted_by="the journal, when they are saved, or cannot be",
        meaning="It waits for the disk, so that a crash makes it handle little again.",
    ),
    Hold.OTHER_ALONE: Row(
        begins=Begins.NONE,
        reads=False,
        set_by="the start after a crash, on all subscriptions but one",
        lifted_by="the same, when the events that were in flight have been tried",
        meaning="Another subscription has the bus to itself, since its event may have killed the process.",
    ),
    Hold.ALONE: Row(
        begins=Begins.ONE,
        reads=True,
        set_by="the start after a crash, on that one subscription",
        lifted_by="the same, when the event is handled, or `suspect_alone_s` is over",
        meaning="It has the bus to itself, and is tried with one event at a time.",
    ),
    Hold.READS_WAIT: Row(
        begins=Begins.ALL,
        reads=False,
        set_by="the journal, on all subscriptions: its file is being tidied up, or recovered into a new one",
        lifted_by="the journal, when that is done",
        meaning="What waits in the journal stays there for a moment.",
    ),
    Hold.UNREADABLE: Row(
        begins=Begins.ALL,
        reads=False,
        set_by="the journal, when an entry that it needs cannot be read",
        lifted_by="the journal, when it goes on in a new file",
        meaning="What waits in the journal stays there until `recover_journal`; nothing is skipped.",
    ),
}

LIFTED_BY_RESUME: Final = (Hold.PAUSED, Hold.RECOVERY, Hold.FAILING, Hold.COOLING)
"""What the operator's `resume` lifts."""


class Holds:
    """The holds of one subscription.

    Attributes:
        is_clear: Whether there are none, so that it may do everything.
        may_begin: Whether it may begin an event.
        one_at_a_time: Whether it may begin one only when the last has ended.
        may_read: Whether it may read on from the journal.
        ended: Whether it has ended.
        word: What its state is because of them; empty if they say nothing about it.

    """

    __slots__ = (
        "__weakref__",
        "_set",
        "_shared",
        "ended",
        "is_clear",
        "may_begin",
        "may_read",
        "one_at_a_time",
        "word",
    )

    def __init__(self, shared: "SharedHolds | None" = None) -> None:
        self._shared = shared
        self._set: set[Hold] = set()
        self._answer()
        if shared is not None:
            shared.join(self)

    def __contains__(self, hold: Hold) -> bool:
        return hold in self._set

    def names(self) -> list[str]:
        """Return what is set, in words, in the order of the table."""
        return [hold.value for hold in TABLE if hold in self._set] if self._set else []

    def set(self, hold: Hold) -> bool:
        """Set a hold. Return False if it was set before."""
        _check(hold)
        is_new = hold not in self._set
        if is_new:
            self._set.add(hold)
            self._answer()
        if hold is Hold.ENDED and self._shared is not None:
            self._shared.leave(self)
        return is_new

    def lift(self, hold: Hold) -> bool:
        """Lift a hold. Return False if it was not set. `ValueError`: it is one that nobody lifts."""
        _check_lifted(hold)
        was_set = hold in self._set
        if was_set:
            self._set.discard(hold)
            self._answer()
        return was_set

    def _answer(self) -> None:
        rows = [row for hold, row in TABLE.items() if hold in self._set]
        begins = {row.begins for row in rows}
        self.is_clear: bool = not rows
        self.may_begin: bool = Begins.NONE not in begins
        self.one_at_a_time: bool = Begins.ONE in begins
        self.may_read: bool = self.may_begin and all(row.reads for row in rows)
        self.ended: bool = Hold.ENDED in self._set
        self.word: str = next((row.word for row in rows if row.word), "")


class SharedHolds:
    """Holds that all subscriptions of a bus have together, also those that are made meanwhile.

    Attributes:
        is_alone: Whether one of them has the bus to itself.

    """

    __slots__ = ("_everybody", "_set", "_the_one", "is_alone")

    def __init__(self) -> None:
        self._everybody: WeakSet[Holds] = WeakSet()
        self._set: set[Hold] = set()
        self._the_one: Holds | None = None
        self.is_alone: bool = False

    def join(self, holds: Holds) -> None:
        """A subscription was made: it has these holds too."""
        self._everybody.add(holds)
        for hold in self._set:
            holds.set(hold)

    def leave(self, holds: Holds) -> None:
        """A subscription has ended."""
        self._everybody.discard(holds)

    def set(self, hold: Hold) -> None:
        """Set a hold on everybody."""
        _check(hold)
        self._set.add(hold)
        _set_on(self._everybody, hold)

    def lift(self, hold: Hold) -> None:
        """Lift a hold from everybody. `ValueError`: it is one that nobody lifts."""
        _check_lifted(hold)
        for holds in self._everybody:
            holds.lift(hold)
        self._set.discard(hold)

    def let_alone(self, one: Holds) -> None:
        """Let only one subscription begin anything, one event at a time, instead of the one before."""
        self.end_alone()
        self._the_one, self.is_alone = one, True
        one.set(Hold.ALONE)
        self._set.add(Hold.OTHER_ALONE)
        _set_on([holds for holds in self._everybody if holds is not one], Hold.OTHER_ALONE)

    def end_alone(self) -> None:
        """Nobody has the bus alone any more."""
        self.lift(Hold.OTHER_ALONE)
        if self._the_one is not None:
            self._the_one.lift(Hold.ALONE)
        self._the_one, self.is_alone = None, False


def _set_on(everybody: Iterable[Holds], hold: Hold) -> None:
    for holds in everybody:
        holds.set(hold)


def _check(hold: object) -> None:
    if not isinstance(hold, Hold):
        raise ValueError(f"{hold!r} is no hold; there are {', '.join(h.name for h in Hold)}")  # noqa: TRY004


def _check_lifted(hold: Hold) -> None:
    _check(hold)
    if not TABLE[hold].lifted_by:
        raise ValueError(f"{hold} is never lifted")


def as_markdown() -> str:
    """Return the table for the docs."""
    lines = ["| Hold | `state` | Begins | Reads on | Set by | Lifted by | What it means |"]
    lines.append("|---" * 7 + "|")
    for hold, row in TABLE.items():
        word = f"`{row.word}`" if row.word else "-"
        reads = "yes" if row.reads else "no"
        cells = (
            hold.value,
            word,
            row.begins.value,
            reads,
            row.set_by,
            row.lifted_by or "nobody",
            row.meaning,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
