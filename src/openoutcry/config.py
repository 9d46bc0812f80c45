"""The settings, validated where they are made and loadable from TOML.

Every setting that is out of range raises `ConfigError` with its name, its value, the limit and the remedy.
"""

import tomllib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from openoutcry.errors import ConfigError
from openoutcry.events import HIGH_PRIORITY_EVENT_TYPES, EventType

MOST = 10**12
"""The largest value of a setting without a limit of its own: a trillion of anything is a mistake, and beyond
it the arithmetic of times and levels would overflow."""


def check_number(
    name: str,
    value: object,
    low: float,
    high: float = MOST,
    *,
    whole: bool = False,
    above: bool = False,
    because: str = "",
) -> None:
    """Raise `ConfigError` unless `value` is a number from `low` (or `above` it) to `high`.

    `because` tells where a limit comes from that is not a constant.
    """
    kind = "a whole number (an int)" if whole else "a number"
    if isinstance(value, bool) or not isinstance(value, int | float) or (whole and isinstance(value, float)):
        raise ConfigError(f"{name} is {value!r}; it must be {kind}")
    if not (low < value if above else low <= value) or not value <= high:
        least = f"above {low}" if above else f"at least {low}"
        reason = f" ({because})" if because else ""
        raise ConfigError(f"{name} is {value!r}; it must be {least} and at most {high}{reason}")


def check_flag(name: str, value: object) -> None:
    """Raise `ConfigError` unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is {value!r}; it must be True or False")


def check_names(name: str, value: object) -> frozenset[str]:
    """Return a collection of strings (or str-valued Enum members) as a set, or raise `ConfigError`.

    A single string is refused: it would be taken apart into its letters.
    """
    names: list[object] = []
    is_collection = isinstance(value, Iterable) and not isinstance(value, str | bytes)
    if isinstance(value, Iterable) and is_collection:
        names = [item.value if isinstance(item, Enum) else item for item in value]
    if not is_collection or not all(isinstance(item, str) and item for item in names):
        raise ConfigError(f"{name} is {value!r}; it must be a list of strings, none of them empty")
    return frozenset(map(str, names))


RATE_LEAST = 1e-6
"""The smallest rate: one event in eleven days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackpressureConfig:
    """How the bus answers when its fullest gating mailbox fills.

    Attributes:
        warning_threshold: Share of `max_queue_size` from which the level is WARNING (logged once).
        high_threshold: Share from which the level is HIGH: publishers are rate-limited.
        critical_threshold: Share from which the level is CRITICAL: low-priority events are shed.
        hysteresis: A level is left only when utilisation is this far below the threshold that began it, and
            at least one event below it unless this is 0. An empty bus is always at NORMAL.
        reserve: Share of `max_queue_size` that only high-priority events may fill: at least one event unless
            this is 0, at most half (so a bus for one event has none).
        rate_limit_per_s: Low-priority events admitted per second at HIGH, over all publishers.
        rate_limit_burst: Events that the token bucket of the rate limit holds when full.
        cooldown_s: The longest that `publish` waits for a token or for room before it refuses, in seconds.
        grace_s: A gating subscription that has not moved for this long, with events waiting, is stalled:
            it stops gating until its mailbox has drained below the warning threshold.
        high_per_normal: One normal event is handled after this many high-priority ones in a row.
        shed_first: Event types that are shed as soon as the level is CRITICAL.
        shed_last: Event types that are not shed: they are refused only when no room outside the reserve is
            left, or at HIGH no token in time. All other low-priority types are shed half-way between the
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
    shed_first: frozenset[str] = frozenset({EventType.MARKET_DATA})
    shed_last: frozenset[str] = frozenset({EventType.SIGNAL, EventType.DECISION, EventType.ORDER})

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
            types = check_names(name, getattr(self, name))
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
        check_number("max_s", self.max_s, self.first_s, because="not below first_s")
        check_number("jitter", self.jitter, 0, 1)
        check_flag("in_order", self.in_order)


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
            replaced; so does one whose key raises or cannot be hashed.

    """

    key: str | Callable[[Any], object] = "symbol"

    def __post_init__(self) -> None:
        """Check that the key can be one."""
        if not (callable(self.key) or (isinstance(self.key, str) and self.key)):
            raise ConfigError(
                f"Conflate.key is {self.key!r}; it must be the name of an attribute, "
                "or a function of the event"
            )


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

    def __post_init__(self) -> None:
        """Check that the path can be one."""
        if not isinstance(self.path, str | PathLike) or not str(self.path):
            raise ConfigError(f"path is {self.path!r}; it must be the path of a file")
        object.__setattr__(self, "path", Path(self.path))


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
    dedup_window: int = 8_192
    dedup_window_s: float = 600.0
    kill_switch_releasers: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Check every range."""
        check_number("max_queue_size", self.max_queue_size, 1, whole=True)
        check_number("barrier_timeout", self.barrier_timeout, 0, above=True)
        check_number(
            "signal_timeout",
            self.signal_timeout,
            0,
            self.barrier_timeout,
            above=True,
            because="a round ends at its barrier_timeout",
        )
        if not isinstance(self.backpressure, BackpressureConfig):
            raise ConfigError(f"backpressure is {self.backpressure!r}; it must be a BackpressureConfig")
        check_number("history_size", self.history_size, 0, whole=True)
        check_number("dedup_window", self.dedup_window, 1, whole=True)
        check_number("dedup_window_s", self.dedup_window_s, 0, above=True)
        releasers = check_names("kill_switch_releasers", self.kill_switch_releasers)
        object.__setattr__(self, "kill_switch_releasers", releasers)

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
    where = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # editors on Windows begin a file with a mark
        data = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(
            f"cannot read the settings file {where!r}: {error.strerror or error}; name a file that exists"
        ) from error
    except ValueError as error:  # not TOML, not UTF-8, or not a path
        raise ConfigError(f"{where!r} is not valid TOML in UTF-8: {error}; mend it there") from error
    _refuse_unknown(where, data, {"bus", "backpressure"})
    try:
        backpressure = BackpressureConfig(**_section(BackpressureConfig, "backpressure", data))
        return BusConfig(
            **_section(BusConfig, "bus", data, exclude={"backpressure"}), backpressure=backpressure
        )
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _section(cls: type[Any], name: str, data: dict[str, Any], exclude: Iterable[str] = ()) -> dict[str, Any]:
    section = data.get(name, {})
    if not isinstance(section, dict):
        raise ConfigError(f"{name} is {section!r}; it must be a table: [{name}]")
    _refuse_unknown(f"[{name}]", section, {f.name for f in fields(cls)} - set(exclude))
    return section


def _refuse_unknown(where: str, data: dict[str, Any], allowed: Iterable[str]) -> None:
    unknown = sorted(set(data) - set(allowed))
    if unknown:
        raise ConfigError(f"{where} has unknown settings {unknown}; known are {sorted(allowed)}")


def to_plain(config: Any) -> dict[str, Any]:
    """Return a settings object as JSON-ready data."""
    return {name: _plain(value) for name, value in asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    return str(value) if isinstance(value, Path) else value
