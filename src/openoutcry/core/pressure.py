"""Pressure: the level that a utilisation means, and what to do with an event at that level.

```
 share of max_queue_size   0        50 %      75 %      90 %   92.5 %   95 %      100 %
 level                     │ NORMAL │ WARNING │  HIGH   │        CRITICAL          │
 shed_first (market data)  │ queue  │ queue   │ rate    │ shed                     │
 other low-priority types  │ queue  │ queue   │ rate    │ queue │ shed             │
 shed_last (orders, ...)   │ queue  │ queue   │ rate    │ queue          │ refuse  │
 high-priority types       │ queue  │ queue   │ queue   │ queue          │ queue   │ wait, then refuse
```

Levels rise at their thresholds and fall only below threshold minus hysteresis, so they do not flap. Each
mailbox has a level; which of them a publisher meets is said in `audience`. Nothing here has a clock or keeps
a level: `now_ns` and the level's rank are passed in, and the verdict says what the shell must do.
"""

import enum
from dataclasses import asdict, dataclass
from math import ceil, floor

from openoutcry.config import BackpressureConfig

NS_PER_S = 1_000_000_000
FOREVER_NS = 2**63 - 1


class BackpressureLevel(enum.Enum):
    """Backpressure severity, by the utilisation of the emptiest mailbox that takes an event."""

    NORMAL = "normal"
    WARNING = "warning"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for NORMAL to 3 for CRITICAL."""
        return _RANKS[self]


_RANKS = {level: rank for rank, level in enumerate(BackpressureLevel)}
LEVELS = tuple(BackpressureLevel)
"""The levels by rank: an Enum member's hash, which its rank needs, is computed in Python."""
HIGH_RANK = BackpressureLevel.HIGH.rank
CRITICAL_RANK = BackpressureLevel.CRITICAL.rank


class Refusal(enum.StrEnum):
    """Why an event was refused."""

    SHED = "shed"
    NO_ROOM = "no_room"
    RATE_LIMITED = "rate_limited"


@dataclass(frozen=True, slots=True)
class Admit:
    """Queue the event."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again after `wait_ns`, or earlier when room is made."""

    wait_ns: int
    reason: Refusal


@dataclass(frozen=True, slots=True)
class Refuse:
    """Keep the event out and count it under `reason`."""

    reason: Refusal


Verdict = Admit | Wait | Refuse
ADMIT = Admit()
REFUSE_SHED = Refuse(Refusal.SHED)
REFUSE_NO_ROOM = Refuse(Refusal.NO_ROOM)
REFUSE_RATE_LIMITED = Refuse(Refusal.RATE_LIMITED)


class TokenBucket:
    """A token bucket: `rate_per_s` tokens a second, at most `burst` at once. Starts full."""

    __slots__ = ("_burst", "_per_ns", "_since_ns", "_tokens")

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._per_ns = rate_per_s / NS_PER_S
        self._burst = float(burst)
        self._tokens = float(burst)
        self._since_ns = 0

    def _refill(self, now_ns: int) -> None:
        passed_ns = now_ns - self._since_ns
        if passed_ns:
            # A bus that is restarted on another loop may find an earlier clock there: count from its time.
            self._tokens = min(self._burst, self._tokens + max(0, passed_ns) * self._per_ns)
            self._since_ns = now_ns

    def reserve(self, now_ns: int, most_ns: int) -> int | None:
        """Take a token now or for later: return the ns until it is due, or None if that is over `most_ns`.

        Every caller gets a time of its own, in the order of the calls; no caller need ask twice.
        """
        self._refill(now_ns)
        wait_ns = 0 if self._tokens >= 1 - 1e-9 else ceil((1 - self._tokens) / self._per_ns)
        if wait_ns > most_ns:
            return None
        self._tokens -= 1
        return wait_ns

    def take(self, now_ns: int, *, force: bool = False) -> int:
        """Take a token and return 0, or return the ns until there is one. `force` may run into debt."""
        self._refill(now_ns)
        # The tolerance absorbs float rounding: waiting exactly as long as returned must be enough.
        if self._tokens >= 1 - 1e-9:
            self._tokens -= 1
            return 0
        if force:
            self._tokens = max(self._tokens - 1, min(self._tokens, -self._burst))
            return 0
        return max(1, ceil((1 - self._tokens) / self._per_ns))


class Pressure:
    """The thresholds, and the verdicts.

    Args:
        capacity: `max_queue_size`, the most events that wait in a mailbox.
        config: Thresholds, reserve, rate limit and the order of shedding.

    Attributes:
        rise: The depth at which WARNING, HIGH and CRITICAL begin.
        fall: The depth below which they end.
        low_room: How many events may wait in a mailbox before it takes high-priority ones only.
        shed_room: How many may wait before it takes nothing more that is shed first.

    """

    __slots__ = (
        "_bucket",
        "_mid_room",
        "_shed_first",
        "_shed_last",
        "capacity",
        "config",
        "fall",
        "low_room",
        "rise",
        "shed_room",
    )

    def __init__(self, capacity: int, config: BackpressureConfig) -> None:
        self.capacity: int = capacity
        self.config: BackpressureConfig = config
        shares = (config.warning_threshold, config.high_threshold, config.critical_threshold)
        # Depths are whole numbers: the first depth at or above a share begins its level.
        self.rise: tuple[int, ...] = tuple(max(1, _ceil(share * capacity)) for share in shares)
        self.fall: tuple[int, ...] = tuple(
            _fall(rise, (share - config.hysteresis) * capacity, sticky=config.hysteresis > 0)
            for rise, share in zip(self.rise, shares, strict=True)
        )
        reserve = min(max(1, _floor(config.reserve * capacity)), capacity // 2) if config.reserve else 0
        self.low_room: int = capacity - reserve
        self.shed_room: int = min(self.rise[2], self.low_room)
        self._mid_room = min(self.low_room, max(self.rise[2], (self.rise[2] + self.low_room + 1) // 2))
        self._bucket = TokenBucket(config.rate_limit_per_s, config.rate_limit_burst)
        self._shed_first = config.shed_first
        self._shed_last = config.shed_last

    def rank_at(self, depth: int, rank: int) -> int:
        """Return the rank of the level that `depth` waiting events mean after the level of `rank`."""
        while rank < len(self.rise) and depth >= self.rise[rank]:
            rank += 1
        while rank > 0 and depth < self.fall[rank - 1]:
            rank -= 1
        return rank

    def credit(self, depth: int, rank: int) -> int:
        """Return how many low-priority events can be queued without asking again, with `depth` waiting."""
        if rank >= HIGH_RANK:
            return 0
        return max(0, min(self.rise[rank], self.low_room) - depth)

    def admit_high(self, depth: int) -> Verdict:
        """Decide on a high-priority event: never shed, but the mailboxes are bounded."""
        if depth < self.capacity:
            return ADMIT
        return Wait(int(self.config.cooldown_s * NS_PER_S), Refusal.NO_ROOM)

    def _wait_for_token(self, event_type: str, now_ns: int, *, reentrant: bool, patient: bool) -> int | None:
        """Return how long to wait for a token, or None if that is too long."""
        if not patient or reentrant:
            return self._bucket.take(now_ns, force=reentrant)
        cooldown_ns = int(self.config.cooldown_s * NS_PER_S)
        if event_type not in self._shed_last:
            return self._bucket.reserve(now_ns, cooldown_ns)
        # Those shed last wait as well, but are let in after the cool-down, on debt.
        wait_ns = self._bucket.reserve(now_ns, FOREVER_NS)
        return None if wait_ns is None else min(wait_ns, cooldown_ns)

    def admit_low(
        self,
        event_type: str,
        depth: int,
        rank: int,
        now_ns: int,
        *,
        reentrant: bool = False,
        patient: bool = False,
        paid: bool = False,
    ) -> Verdict:
        """Decide on a low-priority event whose publisher meets `depth` events and the level of this rank.

        `reentrant` marks a publish from inside a handler: it does not wait for a token, but runs the rate
        limit into debt. A `patient` caller has a token reserved, waits until it is due, and asks again as
        `paid`.
        """
        if depth >= self.low_room:
            return REFUSE_NO_ROOM
        if rank == CRITICAL_RANK and event_type not in self._shed_last:
            if event_type in self._shed_first or depth >= self._mid_room:
                return REFUSE_SHED
        elif rank == HIGH_RANK and not paid:
            wait_ns = self._wait_for_token(event_type, now_ns, reentrant=reentrant, patient=patient)
            if wait_ns is None:
                return REFUSE_RATE_LIMITED
            if wait_ns:
                return Wait(wait_ns, Refusal.RATE_LIMITED)
        return ADMIT


def _ceil(depth: float) -> int:
    # 0.07 * 100 is 7.000000000000001: rounding first keeps thresholds where one expects them.
    return ceil(round(depth, 6))


def _floor(depth: float) -> int:
    return floor(round(depth, 6))  # 0.29 * 100 is 28.999999999999996


def _fall(rise: int, depth: float, *, sticky: bool) -> int:
    """Return the depth below which a level that begins at `rise` ends.

    At least one whole event below `rise` if there is any hysteresis, or a small bus would flap; and never 0,
    since an empty bus is at NORMAL.
    """
    return max(1, min(_ceil(depth), rise - sticky))


@dataclass(frozen=True, slots=True)
class BackpressureMetrics:
    """What happened at admission, counted since the start or the last `reset_metrics`.

    Attributes:
        level: The highest level that a publisher of any type in use meets.
        queue_size: The most events that one of them meets: those that wait in the emptiest mailbox that takes
            the type and those on their way; before `start`, all that wait.
        capacity: `max_queue_size`.
        utilisation: `queue_size / capacity`, 0 to 1.
        peak_queue_size: The largest `queue_size` seen at a level check.
        published: Events accepted.
        high_priority: Accepted ones that took the high-priority lane.
        control: Accepted ones that took the control lane (kill switches).
        duplicates: Publications of an `event_id` that had already been accepted.
        conflicts: Those among them that had other content: the first stands, and they were not delivered.
        unheard: Accepted events that no subscription took, by type.
        refused: Refused events by reason: `shed`, `no_room`, `rate_limited`.
        rate_limited_waits: Publications that waited for a token.
        room_waits: High-priority publications that waited for room.
        level_changes: Transitions between levels.
        overflowed: Accepted events that a subscription has let go for lack of room, as the oldest ones.
        stalled: Names of subscriptions that have stopped moving with events waiting.
        imported: Accepted events that other desks have made; `published` has them too.

    """

    level: BackpressureLevel
    queue_size: int
    capacity: int
    utilisation: float
    peak_queue_size: int
    published: int
    high_priority: int
    control: int
    duplicates: int
    conflicts: int
    unheard: dict[str, int]
    refused: dict[str, int]
    rate_limited_waits: int
    room_waits: int
    level_changes: int
    overflowed: int
    stalled: tuple[str, ...]
    imported: int = 0

    @property
    def dropped(self) -> int:
        """All refused events: the sum over the reasons."""
        return sum(self.refused.values())

    def to_dict(self) -> dict[str, object]:
        """Return the metrics as JSON-ready data."""
        return {
            **asdict(self),
            "level": self.level.value,
            "dropped": self.dropped,
            "stalled": list(self.stalled),
        }
