"""The settings, validated where they are made and loadable from TOML.

Every setting that is out of range raises `ConfigError` with its name, its value, the limit and the remedy.
"""

import tomllib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from openoutcry.errors import ConfigError
from openoutcry.events import EventType


def check_number(
    name: str,
    value: object,
    low: float,
    high: float = float("inf"),
    *,
    whole: bool = False,
    above: bool = False,
) -> None:
    """Raise `ConfigError` unless `value` is a number from `low` (or `above` it) to `high`."""
    kind = "a whole number" if whole else "a number"
    if isinstance(value, bool) or not isinstance(value, int | float) or (whole and isinstance(value, float)):
        raise ConfigError(f"{name} is {value!r}; it must be {kind}")
    if not (low < value if above else low <= value) or not value <= high:
        least = f"above {low}" if above else f"at least {low}"
        most = "" if high == float("inf") else f" and at most {high}"
        raise ConfigError(f"{name} is {value!r}; it must be {least}{most}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackpressureConfig:
    """How the bus answers when its fullest gating mailbox fills.

    Attributes:
        warning_threshold: Share of `max_queue_size` from which the level is WARNING (logged once).
        high_threshold: Share from which the level is HIGH: publishers are rate-limited.
        critical_threshold: Share from which the level is CRITICAL: low-priority events are shed.
        hysteresis: A level is left only when utilisation is this far below the threshold that began it.
        reserve: Share of `max_queue_size` that only high-priority events may fill.
        rate_limit_per_s: Low-priority events admitted per second at HIGH, over all publishers.
        rate_limit_burst: Events that the token bucket of the rate limit holds when full.
        cooldown_s: The longest that `publish` waits for a token or for room before it refuses, in seconds.
        grace_s: A gating subscription that has not moved for this long, with events waiting, is stalled:
            it stops gating until its mailbox has drained below the warning threshold.
        high_per_normal: One normal event is handled after this many high-priority ones in a row.
        shed_first: Event types that are shed as soon as the level is CRITICAL.
        shed_last: Event types that are refused only when no room outside the reserve is left.
            All other low-priority types are shed half-way between the two.

    Raises:
        ConfigError: A value is out of range, or the thresholds do not ascend.

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
    shed_first: frozenset[str] = frozenset({EventType.MARKET_DATA})
    shed_last: frozenset[str] = frozenset({EventType.SIGNAL, EventType.DECISION, EventType.ORDER})

    def __post_init__(self) -> None:
        """Check every range, and that the thresholds ascend."""
        check_number("warning_threshold", self.warning_threshold, 0, 1, above=True)
        check_number("high_threshold", self.high_threshold, self.warning_threshold, 1)
        check_number("critical_threshold", self.critical_threshold, self.high_threshold, 1)
        check_number("hysteresis", self.hysteresis, 0, self.warning_threshold)
        check_number("reserve", self.reserve, 0, 0.5)
        check_number("rate_limit_per_s", self.rate_limit_per_s, 0, above=True)
        check_number("rate_limit_burst", self.rate_limit_burst, 1, whole=True)
        check_number("cooldown_s", self.cooldown_s, 0)
        check_number("grace_s", self.grace_s, 0, above=True)
        check_number("high_per_normal", self.high_per_normal, 1, whole=True)
        object.__setattr__(self, "shed_first", frozenset(map(str, self.shed_first)))
        object.__setattr__(self, "shed_last", frozenset(map(str, self.shed_last)))
        both = self.shed_first & self.shed_last
        if both:
            raise ConfigError(
                f"{sorted(both)} stand in both shed_first and shed_last; keep each in one of them"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a failed call is tried again, and when it becomes a dead letter.

    The wait before attempt n + 1 is `first_s * factor ** (n - 1)`, at most `max_s`, lengthened by a random
    share of up to `jitter` so that failures of many subscriptions do not come back in step.

    Attributes:
        attempts: How often an event is tried in all, the first time included.
        first_s: Wait before the second attempt, in seconds.
        factor: What each further wait is multiplied by.
        max_s: The longest wait, in seconds, before jitter.
        jitter: The largest share by which a wait is lengthened, 0 to 1.
        in_order: Whether later events of the same lane wait for the retry (they do unless this is False).

    """

    attempts: int = 3
    first_s: float = 0.05
    factor: float = 4.0
    max_s: float = 30.0
    jitter: float = 0.25
    in_order: bool = True

    def __post_init__(self) -> None:
        """Check every range."""
        check_number("attempts", self.attempts, 1, whole=True)
        check_number("first_s", self.first_s, 0)
        check_number("factor", self.factor, 1)
        check_number("max_s", self.max_s, self.first_s)
        check_number("jitter", self.jitter, 0, 1)


NO_RETRY = RetryPolicy(attempts=1)


@dataclass(frozen=True, slots=True)
class Gate:
    """The subscription gates: what waits for it counts toward the bus's room, and nothing is ever dropped."""


@dataclass(frozen=True, slots=True)
class Conflate:
    """Of the waiting normal-lane events with the same key only the newest is kept; the rest are counted.

    Attributes:
        key: The name of an attribute (such as `symbol`), or a function of the event. Events of different
            types never replace each other. An event without that attribute stands alone and is never
            replaced.

    """

    key: str | Callable[[Any], object] = "symbol"


@dataclass(frozen=True, slots=True)
class DropOldest:
    """At most `limit` normal-lane events wait; the oldest make room for the newest, and are counted."""

    limit: int = 1_000

    def __post_init__(self) -> None:
        """Check the limit."""
        check_number("DropOldest.limit", self.limit, 1, whole=True)


Overflow = Gate | Conflate | DropOldest
OverflowName = Literal["gate", "conflate", "drop_oldest"]
_OVERFLOWS: dict[str, Overflow] = {"gate": Gate(), "conflate": Conflate(), "drop_oldest": DropOldest()}


def overflow_policy(value: Overflow | str) -> Overflow:
    """Return the policy that `value` names, or `value` itself if it is one."""
    if isinstance(value, Gate | Conflate | DropOldest):
        return value
    policy = _OVERFLOWS.get(value) if isinstance(value, str) else None
    if policy is None:
        raise ConfigError(
            f"overflow is {value!r}; it must be one of {sorted(_OVERFLOWS)}, "
            "or Gate(), Conflate(key), DropOldest(limit)"
        )
    return policy


@dataclass(frozen=True, slots=True, kw_only=True)
class PersistenceConfig:
    """Where the journal lives. This version has none: a bus that gets one raises `NotYetAvailable`.

    Attributes:
        path: The journal's file.

    """

    path: Path = field(default_factory=lambda: Path("openoutcry.db"))


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheckConfig:
    """Bounds of the health checks. This version has none: a bus that gets one raises `NotYetAvailable`.

    Attributes:
        latency_ms_max: The largest acceptable latency from publishing to handling, in milliseconds.
        stall_s: Without progress for this long, with events waiting, the queue counts as stalled.
        errors_max: The largest acceptable number of errors in a row.

    """

    latency_ms_max: float = 1_000.0
    stall_s: float = 30.0
    errors_max: int = 10

    def __post_init__(self) -> None:
        """Check every range."""
        check_number("latency_ms_max", self.latency_ms_max, 0, above=True)
        check_number("stall_s", self.stall_s, 0, above=True)
        check_number("errors_max", self.errors_max, 1, whole=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class BusConfig:
    """The constructor arguments of `EventBus` that a file can give: `EventBus(**config.arguments())`."""

    max_queue_size: int = 10_000
    signal_timeout: float = 5.0
    barrier_timeout: float = 10.0
    backpressure: BackpressureConfig = field(default_factory=BackpressureConfig)
    history_size: int = 10_000
    dedup_window: int = 16_384
    dedup_window_s: float = 600.0
    kill_switch_releasers: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Check every range."""
        check_number("max_queue_size", self.max_queue_size, 1, whole=True)
        check_number("signal_timeout", self.signal_timeout, 0, above=True)
        check_number("barrier_timeout", self.barrier_timeout, 0, above=True)
        check_number("history_size", self.history_size, 0, whole=True)
        check_number("dedup_window", self.dedup_window, 1, whole=True)
        check_number("dedup_window_s", self.dedup_window_s, 0, above=True)
        object.__setattr__(self, "kill_switch_releasers", frozenset(self.kill_switch_releasers))

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments for `EventBus`."""
        arguments = {f.name: getattr(self, f.name) for f in fields(self)}
        arguments["backpressure_config"] = arguments.pop("backpressure")
        return arguments


def load_config(path: str | Path) -> BusConfig:
    """Read a `BusConfig` from a TOML file: its fields under `[bus]`, the others under `[backpressure]`.

    Raises:
        ConfigError: The file cannot be read, is not TOML, or has an unknown or ill-valued setting.

    """
    try:
        with Path(path).open("rb") as file:
            data = tomllib.load(file)
    except OSError as error:
        raise ConfigError(
            f"cannot read the settings file {str(path)!r}: {error.strerror or error}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{str(path)!r} is not valid TOML: {error}") from error
    _refuse_unknown(str(path), data, {"bus", "backpressure"})
    bus = _section(BusConfig, "bus", data, exclude={"backpressure"})
    backpressure = _section(BackpressureConfig, "backpressure", data)
    return BusConfig(**bus, backpressure=BackpressureConfig(**backpressure))


def _section(cls: type[Any], name: str, data: dict[str, Any], exclude: Iterable[str] = ()) -> dict[str, Any]:
    section = data.get(name, {})
    if not isinstance(section, dict):
        raise ConfigError(f"{name} is {section!r}; it must be a table: [{name}]")
    allowed = {f.name: f for f in fields(cls) if f.name not in exclude}
    _refuse_unknown(f"[{name}]", section, allowed)
    for key, value in section.items():
        if "frozenset" in str(allowed[key].type) and not (
            isinstance(value, list) and all(isinstance(item, str) for item in value)
        ):
            raise ConfigError(f"[{name}] {key} is {value!r}; it must be a list of strings")
    return section


def _refuse_unknown(where: str, data: dict[str, Any], allowed: Iterable[str]) -> None:
    unknown = sorted(set(data) - set(allowed))
    if unknown:
        raise ConfigError(f"{where} has unknown settings {unknown}; known are {sorted(allowed)}")


def to_plain(config: object) -> dict[str, Any]:
    """Return a settings object as JSON-ready data."""
    plain = asdict(config)  # type: ignore[call-overload]
    return {k: sorted(map(str, v)) if isinstance(v, frozenset) else v for k, v in plain.items()}
