"""All settings of a bus, and reading them from a TOML file."""

import tomllib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, cast

from openoutcry.config.checks import check_names, check_number, check_word, nameable
from openoutcry.config.health import DrillConfig, HealthCheckConfig, LadderConfig
from openoutcry.config.link import Link
from openoutcry.config.persistence import PathOrNone, PersistenceConfig
from openoutcry.config.pressure import BackpressureConfig
from openoutcry.errors import ConfigError
from openoutcry.events.given import Names

HISTORY_BYTES = 64 * 2**20
HISTORY_BYTES_PER_EVENT = 4_096
"""Several times what an ordinary event takes, so that the bytes only limit a history of large ones."""
SEED_MAX = 2**53 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BusConfig:
    """The constructor arguments of `EventBus` that a file can give: `EventBus(**config.arguments())`."""

    max_queue_size: int = 10_000
    signal_timeout: float = 5.0
    barrier_timeout: float = 10.0
    backpressure: BackpressureConfig = field(default_factory=BackpressureConfig)
    history_size: int = 10_000
    history_bytes: int | None = None
    dedup_window: int = 8_192
    dedup_window_s: float = 600.0
    kill_switch_releasers: Names = field(default=cast(Any, frozenset()))
    control_releaser: str | None = None
    control: PathOrNone = field(default=cast(Any, None))
    stand_in_max_age: float | None = None
    check_events: Literal["journaled", "always"] = "journaled"
    seed: int | None = None
    persistence: PersistenceConfig | None = None
    health: HealthCheckConfig | None = None
    link: Link | None = None

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
        if self.history_bytes is not None:
            check_number("history_bytes", self.history_bytes, 0, whole=True)
        check_number("dedup_window", self.dedup_window, 1, whole=True)
        check_number("dedup_window_s", self.dedup_window_s, 0, above=True)
        releasers = check_names("kill_switch_releasers", self.kill_switch_releasers)
        object.__setattr__(self, "kill_switch_releasers", releasers)
        self._settle_control()
        self._check_seed()
        if self.stand_in_max_age is not None:
            check_number("stand_in_max_age", self.stand_in_max_age, 0, above=True)
        check_word("check_events", self.check_events, ("journaled", "always"))
        if not (self.persistence is None or isinstance(self.persistence, PersistenceConfig)):
            raise ConfigError(f"persistence is {self.persistence!r}; it must be a PersistenceConfig")
        if not (self.health is None or isinstance(self.health, HealthCheckConfig)):
            raise ConfigError(f"health_check_config is {self.health!r}; it must be a HealthCheckConfig")
        if not (self.link is None or isinstance(self.link, Link)):
            raise ConfigError(f"link is {self.link!r}; it must be a Link")
        if self.link is None and self.persistence is not None and self.persistence.is_replicated:
            raise ConfigError(
                "a level is 'replicated', and this bus has no link to an engine that would keep a copy: give "
                "link=Link(firm=..., desk=..., replicas=3), or another level"
            )
        if self.link is not None and self.persistence is None:
            raise ConfigError(
                f"the desk {self.link.desk!r} has a link and no journal, which keeps what others have not "
                "taken yet: give persistence_config=PersistenceConfig(path=...) as well"
            )

    def _check_seed(self) -> None:
        if self.seed is not None:
            because = "it stands in the journal as a number, which every reader of JSON is to read exactly"
            check_number("seed", self.seed, 0, SEED_MAX, whole=True, because=because)

    def _settle_control(self) -> None:
        name = self.control_releaser
        if name is not None:
            if not (isinstance(name, str) and name):
                raise ConfigError(f"control_releaser is {name!r}; it must be a name, or None")
            check_names("control_releaser", [name])
        if self.control is None:
            return
        if "\0" in str(self.control):
            raise ConfigError(f"control is {self.control!r}; it must be the path of a file")
        object.__setattr__(self, "control", nameable("control", self.control))
        if self.persistence is not None and self.persistence.socket:
            raise ConfigError(
                f"control is {str(self.control)!r}, and the bus has a journal, beside whose file the control "
                "socket is: leave control out, or give PersistenceConfig(socket=False) as well"
            )

    @property
    def history_bytes_most(self) -> int:
        """The most bytes that the history takes: by default 64 MiB or, if more, 4 KiB for each event."""
        if self.history_bytes is not None:
            return self.history_bytes
        return max(HISTORY_BYTES, HISTORY_BYTES_PER_EVENT * self.history_size)

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments for `EventBus`."""
        arguments = {f.name: getattr(self, f.name) for f in fields(self)}
        arguments["backpressure_config"] = arguments.pop("backpressure")
        arguments["persistence_config"] = arguments.pop("persistence")
        arguments["health_check_config"] = arguments.pop("health")
        return arguments


def load_config(path: str | Path) -> BusConfig:
    """Read a `BusConfig` from a TOML file: its fields under `[bus]`, the others under their own names.

    `[backpressure]`, `[persistence]`, `[health]` and `[link]` are read as `BackpressureConfig`,
    `PersistenceConfig`, `HealthCheckConfig` and `Link`. With a `[persistence]` the bus has a journal, with a
    `[health]` it checks itself and recovers, with a `[link]` it is one desk of several.

    Raises:
        ConfigError: The file cannot be read, is not TOML, or has an unknown setting or a value out of range.

    """
    where = str(path)
    data = read_toml(path)
    _refuse_unknown(where, data, {"bus", "backpressure", "persistence", "health", "link"})
    try:
        backpressure = BackpressureConfig(**_section(BackpressureConfig, "backpressure", data))
        persistence = None
        if "persistence" in data:
            persistence = PersistenceConfig(
                **_section(PersistenceConfig, "persistence", data, exclude={"key"})
            )
        return BusConfig(
            **_section(BusConfig, "bus", data, exclude={"backpressure", "persistence", "health", "link"}),
            backpressure=backpressure,
            persistence=persistence,
            health=_health(data) if "health" in data else None,
            link=_link(data) if "link" in data else None,
        )
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def load_link(path: str | Path, desk: str) -> Link:
    """Read a `Link` from `[link]` in a TOML file, for somebody who only looks on.

    `desk` stands in for the desk's name where the file has none; nothing else in the file is looked at.
    Raises `ConfigError` as `load_config` does.
    """
    data = read_toml(path)
    if "link" not in data:
        raise ConfigError(f'{path}: there is no [link]; give one with firm = "..." and servers = [...]')
    if isinstance(data["link"], dict):
        data["link"].setdefault("desk", desk)
    try:
        return _link(data)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def read_toml(path: str | Path) -> dict[str, Any]:
    """Return what a TOML file holds. Raises `ConfigError` if it cannot be read, or is not TOML."""
    where = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # with or without a byte order mark
        return tomllib.loads(text)
    except OSError as error:
        raise ConfigError(
            f"cannot read the settings file {where!r}: {error.strerror or error}; name a file that exists"
        ) from error
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, not a path, or nested too deeply
        raise ConfigError(f"{where!r} is not valid TOML in UTF-8: {error}; correct it there") from error


def _link(data: dict[str, Any]) -> Link:
    """Read `[link]`."""
    settings = _section(Link, "link", data)
    for name in ("firm", "desk"):
        if name not in settings:
            raise ConfigError(f'[link] has no {name}; give {name} = "..."')
    return Link(**settings)


def _health(data: dict[str, Any]) -> HealthCheckConfig:
    """Read `[health]`, with `[health.drills]` and `[health.ladder]` in it."""
    settings = dict(_section(HealthCheckConfig, "health", data, exclude={"expectations"}))
    if "drills" in settings:
        settings["drills"] = DrillConfig(**_section(DrillConfig, "drills", settings))
    if "ladder" in settings:
        settings["ladder"] = LadderConfig(**_section(LadderConfig, "ladder", settings))
    return HealthCheckConfig(**settings)


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
        return {name: _plain(inner) for name, inner in value.items() if not name.startswith("_")}
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, frozenset):
        return sorted(value)
    return str(value) if isinstance(value, Path) else value
