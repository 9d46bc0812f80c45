"""Settings of the health checks."""

from dataclasses import dataclass

from openoutcry.config.checks import check_number


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
