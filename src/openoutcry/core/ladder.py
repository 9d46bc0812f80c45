"""The recovery ladder: what to do about a culprit, one step at a time, each stronger than the last.

```
  cancel the call ─▶ restart the consumer ─▶ back off (3x) ─▶ pause ─▶ quarantine, until it is resumed
       │                    │                    │              │
       └────────────────────┴─── well for long enough: start from the bottom at the next trouble
```

Steps are verdicts; the runtime performs them. No step drops an event. Attempts are bounded and their waits
grow, so either the culprit gets well or the ladder comes to its end. The journal has a ladder of its own.
"""

import enum
from dataclasses import dataclass

from openoutcry.config import LadderConfig
from openoutcry.core.wording import span

_NS_PER_S = 1_000_000_000


class Action(enum.Enum):
    """What the runtime is to do."""

    CANCEL = "cancel the call"
    """Cancel the current call; its event fails that attempt."""
    RESTART = "restart the consumer"
    """Replace the workers; a call that does not end is abandoned, and its event waits again."""
    HOLD = "hold back"
    """Begin no event until RELEASE; accepted events wait."""
    RELEASE = "let go on"
    """Begin events again, with fresh workers."""
    QUARANTINE = "quarantine"
    """Begin no event until the operator resumes it. The ladder is at its end."""
    REOPEN = "reopen the journal"
    """Continue in a new file, built from verified rows."""
    GIVE_UP = "give up"
    """Leave it as it is until the operator acts. The ladder is at its end."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One rung: what is done, how often, and how long it takes.

    Attributes:
        action: HOLD is followed by a RELEASE when its time is over; the two ends are final.
        name: Its name in `tried`.
        times: How often it is done before the next rung.
        first_s: How long to hold, or to wait for an effect, the first time.
        factor: What that is multiplied by each further time.
        only_for: The kinds of trouble that it helps against: without a current call there is nothing to
            cancel. Empty for all.

    """

    action: Action
    name: str
    times: int = 1
    first_s: float = 0.0
    factor: float = 4.0
    only_for: tuple[str, ...] = ()

    def wait_ns(self, times: int) -> int:
        """Return how long the attempt after `times` earlier ones takes."""
        return int(self.first_s * self.factor**times * _NS_PER_S)


def subscription_rungs(config: LadderConfig) -> tuple[Rung, ...]:
    """Return the ladder of a subscription."""
    return (
        Rung(Action.CANCEL, "cancelled the call", first_s=config.patience_s, only_for=("stuck",)),
        Rung(Action.RESTART, "restarted the consumer", first_s=config.patience_s, only_for=("stuck", "dead")),
        Rung(Action.HOLD, "backed off", config.back_offs, config.back_off_s),
        Rung(Action.HOLD, "paused", first_s=config.pause_s),
        Rung(Action.QUARANTINE, "quarantined"),
    )


def journal_rungs(config: LadderConfig) -> tuple[Rung, ...]:
    """Return the ladder of the journal."""
    return (
        Rung(Action.REOPEN, "reopened the journal", config.reopens, config.patience_s),
        Rung(Action.GIVE_UP, "gave up"),
    )


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now.

    Attributes:
        action: What to do.
        wait_ns: How long to hold, or to wait for an effect.
        attempt: Which attempt on this rung it is, from 1.

    """

    action: Action
    wait_ns: int = 0
    attempt: int = 1


class Ladder:
    """The ladder of one culprit.

    Attributes:
        tried: What has been done since the culprit was last well for long, oldest first.
        is_exhausted: Whether it is at its end, and only `resume` helps.
        is_holding: Whether the culprit is held back now, so that it is no trouble that it does not move.

    """

    __slots__ = (
        "_attempts",
        "_next_ns",
        "_patience_ns",
        "_quiet_ns",
        "_rung",
        "_rungs",
        "_well_ns",
        "is_exhausted",
        "is_holding",
        "tried",
    )

    def __init__(self, config: LadderConfig, rungs: tuple[Rung, ...] | None = None) -> None:
        self._rungs = subscription_rungs(config) if rungs is None else rungs
        self._patience_ns = int(config.patience_s * _NS_PER_S)
        self._quiet_ns = int(config.quiet_s * _NS_PER_S)
        self._ground()

    def _ground(self) -> None:
        self._rung = -1
        self._attempts = 0
        self._next_ns: int | None = None  # no step before this
        self._well_ns: int | None = None  # since when the culprit has been well
        self.is_exhausted: bool = False
        self.is_holding: bool = False
        self.tried: tuple[str, ...] = ()

    @property
    def is_climbing(self) -> bool:
        """Whether something was tried, and something is left to try."""
        return bool(self.tried) and not self.is_exhausted

    @property
    def due_ns(self) -> int | None:
        """When to look again even if nothing happens; None: not before the next trouble."""
        return self._next_ns if self._well_ns is None else self._well_ns + self._quiet_ns

    def look(self, trouble: str | None, now_ns: int) -> Step | None:
        """Return the next step, if it is time for one.

        `trouble` is what is wrong with the culprit now: `stuck`, `dead`, `failing`, or any word for the
        journal; None if nothing is. It is ignored while the culprit is held back.
        """
        if self.is_exhausted:
            return None
        is_time = self._next_ns is None or now_ns >= self._next_ns
        if self.is_holding:
            return self._release(now_ns) if is_time else None
        if trouble is None:
            self._note_well(now_ns)
            return None
        self._well_ns = None
        return self._climb(trouble, now_ns) if is_time else None

    def resume(self) -> Step | None:
        """Start again from the bottom, for the operator. Return what to do if the culprit is held back."""
        was_held = self.is_holding or self.is_exhausted
        self._ground()
        return Step(Action.RELEASE) if was_held else None

    def _release(self, now_ns: int) -> Step:
        self.is_holding = False
        self._next_ns = now_ns + self._patience_ns
        return Step(Action.RELEASE, self._patience_ns)

    def _note_well(self, now_ns: int) -> None:
        if self._rung < 0:
            return
        if self._well_ns is None:
            self._well_ns = now_ns
        if now_ns - self._well_ns >= self._quiet_ns:
            self._ground()

    def _is_good(self, rung: Rung, trouble: str) -> bool:
        return self._attempts < rung.times and (not rung.only_for or trouble in rung.only_for)

    def _climb(self, trouble: str, now_ns: int) -> Step:
        last = len(self._rungs) - 1
        rung = self._rungs[self._rung] if self._rung >= 0 else None
        while rung is None or (self._rung < last and not self._is_good(rung, trouble)):
            self._rung, self._attempts = self._rung + 1, 0
            rung = self._rungs[self._rung]
        wait_ns = rung.wait_ns(self._attempts)
        self._attempts += 1
        self.is_exhausted = self._rung == last
        self.is_holding = rung.action is Action.HOLD
        self._next_ns = None if self.is_exhausted else now_ns + wait_ns
        told = f"{rung.name} for {span(wait_ns)}" if self.is_holding else rung.name
        self.tried = (*self.tried, told)
        return Step(rung.action, wait_ns, self._attempts)
