"""The breaker: a subscription whose events mostly fail is paused, and probed with one before it goes on.

```
  closed ──mostly buried──▶ open ──pause is over──▶ half open ──the probe is handled──▶ closed
                             ▲                          │
                             └──the probe is buried─────┘  (a longer pause, up to a limit)
```

A broken handler, or a broken thing behind it, would otherwise turn everything that waits into dead letters.
Here it costs a few of them, and then one per pause. Events are judged only when one is buried, by how many
were handled in between, so that a success costs nothing.
"""

import enum
from collections import deque
from dataclasses import dataclass
from math import inf

from openoutcry.config import check_number

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerConfig:
    """When a subscription counts as failing, and how long it is paused.

    It fails when at least `least` of its last `window` events, and at least `share` of them, became dead
    letters. So a handler that turns bad makes at most the larger of `least` and `share * window`, rounded up.

    Attributes:
        share: The share of dead letters among the last events that is too much, above 0, at most 1.
        window: How many of the last events are judged.
        least: Dead letters among them below which nothing is decided.
        first_pause_s: The first pause, in seconds.
        factor: What each further pause is multiplied by, until the subscription has proved itself with a full
            window of events that did not trip the breaker.
        max_pause_s: The longest pause, in seconds.

    Raises:
        ConfigError: A value is out of range.

    """

    share: float = 0.5
    window: int = 20
    least: int = 10
    first_pause_s: float = 1.0
    factor: float = 2.0
    max_pause_s: float = 60.0

    def __post_init__(self) -> None:
        """Check every range."""
        check_number("share", self.share, 0, 1, above=True)
        check_number("window", self.window, 1, whole=True)
        check_number("least", self.least, 1, self.window, whole=True, because="not more than window")
        check_number("first_pause_s", self.first_pause_s, 0, above=True)
        check_number("factor", self.factor, 1)
        check_number("max_pause_s", self.max_pause_s, self.first_pause_s, because="not below first_pause_s")


@dataclass(frozen=True, slots=True)
class Go:
    """Go on. `probe`: with one event, and ask again when its call has ended."""

    probe: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """Begin nothing for `wait_ns`; None: until the current call, the probe, has ended. Then ask again."""

    wait_ns: int | None


GO = Go()
PROBE = Go(probe=True)
UNTIL_CALL_ENDS = Pause(None)


class BreakerState(enum.Enum):
    """What a breaker lets through: everything, nothing, or one event."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


class Breaker:
    """The breaker of one subscription.

    `handled` is always the number of events that the subscription ever handled.

    Attributes:
        config: Its settings.
        is_closed: Whether everything goes on; only otherwise need `ask` be called.
        until_ns: When the pause ends, while it is open.
        trips: How often it has opened, failed probes included.

    """

    __slots__ = ("_buried_at", "_ended", "_handled", "_pauses", "config", "is_closed", "trips", "until_ns")

    def __init__(self, config: BreakerConfig | None = None, handled: int = 0) -> None:
        self.config: BreakerConfig = BreakerConfig() if config is None else config
        self.is_closed: bool = True
        self.until_ns: int | None = None
        self.trips: int = 0
        self._handled = handled
        self._pauses = 0
        # Events that ended since the breaker closed, and the numbers among them of those that were buried.
        self._ended = 0
        self._buried_at: deque[int] = deque()

    @property
    def state(self) -> BreakerState:
        """What it lets through."""
        if self.is_closed:
            return BreakerState.CLOSED
        return BreakerState.HALF_OPEN if self.until_ns is None else BreakerState.OPEN

    def buried(self, handled: int, now_ns: int) -> Go | Pause:
        """Note that an event became a dead letter because its calls failed, and decide how to go on."""
        if self.until_ns is not None:  # a call that had been begun before the pause
            return Pause(max(0, self.until_ns - now_ns))
        self._note_handled(handled)
        if not self.is_closed:
            return self._open(now_ns)
        self._ended += 1
        self._buried_at.append(self._ended)
        while self._buried_at[0] <= self._ended - self.config.window:
            self._buried_at.popleft()
        buried, judged = len(self._buried_at), min(self._ended, self.config.window)
        if buried < self.config.least or buried < self.config.share * judged:
            return GO
        if self._ended > self.config.window:
            self._pauses = 0  # it had proved itself
        return self._open(now_ns)

    def ask(self, handled: int, now_ns: int, *, calls_running: bool = False) -> Go | Pause:
        """Decide whether an event may be begun. `calls_running`: whether another one is in the handler.

        What is handled from the end of the pause on closes it, whichever call it was.
        """
        if self.until_ns is not None:
            if now_ns < self.until_ns:
                return Pause(self.until_ns - now_ns)
            self.until_ns = None
            self._handled = handled
        else:
            self._note_handled(handled)
        if self.is_closed:
            return GO
        return UNTIL_CALL_ENDS if calls_running else PROBE

    def reset(self, handled: int) -> None:
        """Close, and forget the failures: the operator says that the handler is mended."""
        self._close(handled)
        self._pauses = 0

    def _note_handled(self, handled: int) -> None:
        fresh = max(0, handled - self._handled)
        if fresh and not self.is_closed:
            self._close(handled)
        self._ended += fresh
        self._handled = handled

    def _close(self, handled: int) -> None:
        self.is_closed = True
        self.until_ns = None
        self._handled = handled
        self._ended = 0
        self._buried_at.clear()

    def _open(self, now_ns: int) -> Pause:
        config = self.config
        try:
            growth = float(config.factor) ** self._pauses
        except OverflowError:  # after some hundred pauses: certainly more than the limit
            growth = inf
        wait_ns = max(1, int(min(config.first_pause_s * growth, config.max_pause_s) * NS_PER_S))
        self._pauses += 1
        self.trips += 1
        self.is_closed = False
        self.until_ns = now_ns + wait_ns
        return Pause(wait_ns)
