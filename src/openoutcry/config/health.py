"""Settings of the health checks: what is still healthy, what is expected, how patient recovery is."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from openoutcry.config.checks import check_flag, check_number
from openoutcry.errors import ConfigError
from openoutcry.sessions import Expectation


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillConfig:
    """How often the kill lane is drilled.

    Attributes:
        every_s: The time from one drill to the next, in seconds.
        deadline_s: The time in which every subscription must answer, in seconds.

    Raises:
        ConfigError: A value is out of range, or the deadline is not below the interval.

    """

    every_s: float = 60.0
    deadline_s: float = 0.1

    def __post_init__(self) -> None:
        """Check every range."""
        check_number("every_s", self.every_s, 0, above=True)
        check_number("deadline_s", self.deadline_s, 0, self.every_s, above=True, because="not above every_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderConfig:
    """How patient recovery is.

    Attributes:
        patience_s: How long a step has to show an effect before the next one, in seconds.
        back_offs: How often a subscription is held back before the long pause.
        back_off_s: How long the first time, in seconds; each further time is four times as long.
        pause_s: How long the pause before the last try is, in seconds.
        quiet_s: After being well for this long, in seconds, recovery starts from the beginning at the next
            trouble.
        reopens: How often a dead journal is reopened.

    Raises:
        ConfigError: A value is out of range.

    """

    patience_s: float = 2.0
    back_offs: int = 3
    back_off_s: float = 1.0
    pause_s: float = 60.0
    quiet_s: float = 120.0
    reopens: int = 3

    def __post_init__(self) -> None:
        """Check every range."""
        check_number("patience_s", self.patience_s, 0, above=True)
        check_number("back_offs", self.back_offs, 0, 8, whole=True)
        check_number("back_off_s", self.back_off_s, 0, 86_400, above=True)
        check_number("pause_s", self.pause_s, 0, above=True)
        check_number("quiet_s", self.quiet_s, self.patience_s, because="not below patience_s")
        check_number("reopens", self.reopens, 0, 8, whole=True)


if TYPE_CHECKING:
    from openoutcry.events.given import Given

    Expectations = Given[tuple[Expectation, ...], Expectation | Iterable[Expectation]]
else:
    Expectations = tuple[Expectation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheckConfig:
    """What is still healthy, and what is done about the rest.

    A bus that is given one checks itself while it has work, and acts on what it finds. A bus without one uses
    these defaults when it is asked for its health, and acts on nothing.

    Attributes:
        latency_ms_max: The largest acceptable latency from publishing to handling (recent p99), in
            milliseconds. For a subscription with a longer `timeout_s` it is that, since events that come
            during a call wait for its end.
        stall_s: A subscription with events waiting that makes no progress for this long, in seconds, is
            stalled. A call without a longer `timeout_s` of its own is stuck if it takes longer than this:
            from then until it ends the bus is not HEALTHY, and recovery cancels it.
        errors_max: The largest acceptable number of failed calls in a row.
        loop_lag_ms_max: The largest acceptable lag of the event loop, in milliseconds.
        commit_ms_max: The largest acceptable time from admission to commit, in milliseconds.
        overrun: A call with a `timeout_s` is stuck if it has taken this many times as long, which means that
            cancelling it did not help.
        check_s: The time from one check to the next while there is something to check, in seconds.
        lag_window_s: For how long a lag must keep growing before it is reported, in seconds.
        expectations: What should come, how often and in which sessions; its absence is reported. (Not in a
            TOML file.)
        drills: How often the kill lane is proven to work; None for never. (In a TOML file:
            `[health.drills]`.)
        ladder: How patient recovery is. (In a TOML file: `[health.ladder]`.)
        recover: Whether recovery acts: cancels, restarts, holds back, quarantines, reopens the journal.
        watchdog: Whether a thread watches the event loop, to name a handler that does not yield.

    Raises:
        ConfigError: A value is out of range.

    """

    latency_ms_max: float = 1_000.0
    stall_s: float = 30.0
    errors_max: int = 10
    loop_lag_ms_max: float = 200.0
    commit_ms_max: float = 1_000.0
    overrun: float = 2.0
    check_s: float = 1.0
    lag_window_s: float = 60.0
    expectations: Expectations = field(default=cast(Any, ()))
    drills: DrillConfig | None = None
    ladder: LadderConfig = field(default_factory=LadderConfig)
    recover: bool = True
    watchdog: bool = True

    def __post_init__(self) -> None:
        """Check every range."""
        for name in ("latency_ms_max", "stall_s", "loop_lag_ms_max", "commit_ms_max", "lag_window_s"):
            check_number(name, getattr(self, name), 0, above=True)
        check_number("errors_max", self.errors_max, 1, whole=True)
        check_number("overrun", self.overrun, 1)
        check_number(
            "check_s", self.check_s, 0, self.lag_window_s / 4, above=True, because="a quarter of lag_window_s"
        )
        check_flag("recover", self.recover)
        check_flag("watchdog", self.watchdog)
        object.__setattr__(self, "expectations", _expectations(self.expectations))
        if not (self.drills is None or isinstance(self.drills, DrillConfig)):
            raise ConfigError(f"drills is {self.drills!r}; it must be a DrillConfig, or None for no drills")
        if not isinstance(self.ladder, LadderConfig):
            raise ConfigError(f"ladder is {self.ladder!r}; it must be a LadderConfig")


def _expectations(value: object) -> tuple[Expectation, ...]:
    given = (value,) if isinstance(value, Expectation) or not isinstance(value, Iterable) else tuple(value)
    found: list[Expectation] = []
    for item in given:
        if not isinstance(item, Expectation):
            raise ConfigError(f"expectations has {item!r}; each must be an Expectation")
        found.append(item)
    return tuple(found)
