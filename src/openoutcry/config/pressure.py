"""Settings of backpressure."""

from dataclasses import dataclass, field
from typing import Any, cast

from openoutcry.config.checks import check_number, check_types
from openoutcry.errors import ConfigError
from openoutcry.events import HIGH_PRIORITY_EVENT_TYPES, EventType
from openoutcry.events.given import Names

RATE_LEAST = 1e-6
"""The smallest rate: one event in eleven days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackpressureConfig:
    """What publishers meet as the emptiest mailbox that takes their events fills.

    Attributes:
        warning_threshold: Share of `max_queue_size` from which the level is WARNING (logged once).
        high_threshold: Share from which the level is HIGH: publishers are rate-limited.
        critical_threshold: Share from which the level is CRITICAL: low-priority events are shed.
        hysteresis: A level ends only when utilisation is this far below the threshold that began it, and at
            least one event below it unless this is 0. An empty bus is always at NORMAL.
        reserve: Share of `max_queue_size` that only high-priority events may fill: at least one event unless
            this is 0, and at most half (so a bus with room for one event has none).
        rate_limit_per_s: Low-priority events admitted per second at HIGH, over all publishers.
        rate_limit_burst: Events that the token bucket of the rate limit holds when full.
        cooldown_s: The longest that `publish` waits for a token or for room before it refuses, in seconds.
        grace_s: A subscription with events waiting that has not moved for this long, in seconds, is reported
            as stalled until it moves and its mailbox has drained below the warning threshold. With
            `overflow="gate"` publishers do not wait for it meanwhile.
        high_per_normal: One normal event is handled after this many high-priority ones in a row.
        shed_first: Event types that are shed as soon as the level is CRITICAL. They are also what a mailbox
            lets go, the oldest first, when it is full and another one is emptier.
        shed_last: Event types that are not shed: they are refused only if there is no room left outside the
            reserve or, at HIGH, no token in time. All other low-priority types are shed half-way between the
            beginning of CRITICAL and that.

    Raises:
        ConfigError: A value is out of range, the thresholds descend, or a high-priority type is to be shed.

    """

    warning_threshold: float = 0.5
    high_threshold: float = 0.75
    critical_threshold: float = 0.9
    hysteresis: float = 0.05
    reserve: float = 0.05
    rate_limit_per_s: float = 10_000.0
    rate_limit_burst: int = 100
    cooldown_s: float = 2.0
    grace_s: float = 1.0
    high_per_normal: int = 16
    shed_first: Names = field(default=cast(Any, frozenset({EventType.MARKET_DATA})))
    shed_last: Names = field(
        default=cast(Any, frozenset({EventType.SIGNAL, EventType.DECISION, EventType.ORDER}))
    )

    def __post_init__(self) -> None:
        """Check every range, and that the thresholds ascend."""
        check_number("warning_threshold", self.warning_threshold, 0, 1, above=True)
        after = "thresholds must not descend: not below {}"
        check_number(
            "high_threshold",
            self.high_threshold,
            self.warning_threshold,
            1,
            because=after.format("warning_threshold"),
        )
        check_number(
            "critical_threshold",
            self.critical_threshold,
            self.high_threshold,
            1,
            because=after.format("high_threshold"),
        )
        check_number(
            "hysteresis",
            self.hysteresis,
            0,
            self.warning_threshold,
            because="not more than warning_threshold",
        )
        check_number("reserve", self.reserve, 0, 0.5)
        check_number("rate_limit_per_s", self.rate_limit_per_s, RATE_LEAST)
        check_number("rate_limit_burst", self.rate_limit_burst, 1, whole=True)
        check_number("cooldown_s", self.cooldown_s, 0)
        check_number("grace_s", self.grace_s, 0, above=True)
        check_number("high_per_normal", self.high_per_normal, 1, whole=True)
        self._check_shedding()

    def _check_shedding(self) -> None:
        for name in ("shed_first", "shed_last"):
            types = check_types(name, getattr(self, name))
            object.__setattr__(self, name, types)
            urgent = types & HIGH_PRIORITY_EVENT_TYPES
            if urgent:
                raise ConfigError(
                    f"{name} has {sorted(map(str, urgent))}; high-priority types are never shed: "
                    "leave them out"
                )
        both = self.shed_first & self.shed_last
        if both:
            raise ConfigError(
                f"{sorted(both)} are in both shed_first and shed_last; keep each in one of them"
            )
