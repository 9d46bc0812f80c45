"""The settings, validated where they are made and loadable from TOML.

Every setting that is out of range raises `ConfigError` with its name, its value, the limit and the remedy.
"""

from openoutcry.config.bus import BusConfig, load_config, load_link, to_plain
from openoutcry.config.checks import MOST, check_flag, check_names, check_number, check_word
from openoutcry.config.delivery import (
    NO_RETRY,
    Conflate,
    DropOldest,
    Gate,
    Overflow,
    OverflowName,
    RetryPolicy,
    Spill,
    overflow_policy,
)
from openoutcry.config.health import DrillConfig, HealthCheckConfig, LadderConfig
from openoutcry.config.link import Link
from openoutcry.config.persistence import LEVELS, LevelName, PersistenceConfig
from openoutcry.config.pressure import RATE_LEAST, BackpressureConfig

__all__ = [
    "LEVELS",
    "MOST",
    "NO_RETRY",
    "RATE_LEAST",
    "BackpressureConfig",
    "BusConfig",
    "Conflate",
    "DrillConfig",
    "DropOldest",
    "Gate",
    "HealthCheckConfig",
    "LadderConfig",
    "LevelName",
    "Link",
    "Overflow",
    "OverflowName",
    "PersistenceConfig",
    "RetryPolicy",
    "Spill",
    "check_flag",
    "check_names",
    "check_number",
    "check_word",
    "load_config",
    "load_link",
    "overflow_policy",
    "to_plain",
]
