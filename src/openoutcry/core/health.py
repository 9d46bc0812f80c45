"""Health: what is wrong with a bus, and the verdict. Slow, stuck and dead are told apart, the culprit named.

```
  Vitals ──▶ examine ──▶ findings ──▶ verdict ──▶ HealthCheckResult
                          │
                          └ stuck, dead ──▶ the recovery ladder (core/ladder.py) ──▶ what was tried
```

| check | what it means |
|---|---|
| `latency` | slow: events are handled, but later than they may be |
| `stuck` | one call does not end, and others wait or its time is long over |
| `dead` | events wait, no call is in hand, and nothing holds the subscription back |
| `stalled` | no event has ended for long, and what holds the subscription back is known |
| `errors` | calls fail in a row |
| `failing` | most events fail; the breaker pauses the subscription |
| `abandoned` | calls that did not end when cancelled go on beside the subscription |
| `exhausted` | the recovery ladder is at its end; a person must resume the subscription |
| `lag` | more and more waits |
| `loop` | the loop does not turn, or late |
| `journal` | the journal is dead, full or late |
| `feed` | what is expected in this session does not come |
| `lease` | an agent that heartbeats does not |
| `kill_lane` | a drill of the kill lane was not answered in time |
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


class EventBusHealthStatus(enum.Enum):
    """Health status levels of the bus."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    RECOVERING = "recovering"


DEGRADED, UNHEALTHY = EventBusHealthStatus.DEGRADED, EventBusHealthStatus.UNHEALTHY


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        check: Which check found it, a word of the table above.
        level: How bad it is by itself: DEGRADED or UNHEALTHY.
        culprit: Who is to blame: a subscription, an agent or a part of the bus.
        detail: One sentence with the value, the limit and the remedy.
        tried: What recovery has done about it so far, oldest first.
        recovering: Whether recovery still has something to try.

    """

    check: str
    level: EventBusHealthStatus
    culprit: str
    detail: str
    tried: tuple[str, ...] = ()
    recovering: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON-ready data."""
        return {
            "check": self.check,
            "level": self.level.value,
            "culprit": self.culprit,
            "detail": self.detail,
            "tried": list(self.tried),
            "recovering": self.recovering,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheckResult:
    """What one health check found.

    Attributes:
        status: The verdict.
        message: One sentence a person can act on.
        culprits: Names of the subscriptions, agents or parts that are to blame, the worst first.
        details: The figures behind the verdict.
        findings: Everything that is wrong, the worst first.

    """

    status: EventBusHealthStatus
    message: str = ""
    culprits: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is wrong."""
        return self.status is EventBusHealthStatus.HEALTHY

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-ready data."""
        return {
            "status": self.status.value,
            "message": self.message,
            "culprits": list(self.culprits),
            "details": dict(self.details),
            "findings": [finding.to_dict() for finding in self.findings],
        }


def verdict(findings: Iterable[Finding], details: dict[str, Any] | None = None) -> HealthCheckResult:
    """Make one result of all findings.

    UNHEALTHY: something is that bad, and recovery does nothing about it (any more). RECOVERING: recovery is
    at work on what is wrong, and nothing is UNHEALTHY besides. DEGRADED: anything else is wrong.
    """
    ranked = sorted(findings, key=_badness)
    if not ranked:
        return HealthCheckResult(
            status=EventBusHealthStatus.HEALTHY, message="nothing is wrong", details=details or {}
        )
    if ranked[0].level is UNHEALTHY and not ranked[0].recovering:
        status = UNHEALTHY
    elif any(finding.recovering for finding in ranked):
        status = EventBusHealthStatus.RECOVERING
    else:
        status = DEGRADED
    others = f" ({len(ranked) - 1} more)" if len(ranked) > 1 else ""
    return HealthCheckResult(
        status=status,
        message=f"{ranked[0].culprit}: {ranked[0].detail}{others}",
        culprits=tuple(dict.fromkeys(finding.culprit for finding in ranked)),
        details=details or {},
        findings=tuple(ranked),
    )


def _badness(finding: Finding) -> tuple[bool, bool]:
    """Sort what is beyond recovery first, then what is UNHEALTHY; else in the order in which it was found."""
    is_bad = finding.level is UNHEALTHY
    return (not (is_bad and not finding.recovering), not is_bad)
