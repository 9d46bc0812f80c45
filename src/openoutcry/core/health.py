"""Health: the words for it, and what one check found. This version of the bus does not check yet."""

import enum
from dataclasses import dataclass, field
from typing import Any


class EventBusHealthStatus(enum.Enum):
    """Health status levels of the bus."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    RECOVERING = "recovering"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheckResult:
    """What one health check found.

    Attributes:
        status: The verdict.
        message: One sentence a person can act on.
        culprits: Names of the subscriptions or parts that are to blame.
        details: The figures behind the verdict.

    """

    status: EventBusHealthStatus
    message: str = ""
    culprits: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-ready data."""
        return {
            "status": self.status.value,
            "message": self.message,
            "culprits": list(self.culprits),
            "details": dict(self.details),
        }
