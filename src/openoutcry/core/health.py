"""Health: what is wrong with a bus, and the verdict. Slow, stuck and dead are told apart, the culprit named.

```
  Vitals ──▶ examine ──▶ findings ──▶ verdict ──▶ HealthCheckResult
                          │
                          └ stuck, dead ──▶ the recovery ladder (core/ladder.py) ──▶ what was tried
```

| check | what it means |
|---|---|
| `latency` | slow: events are handled, but too late |
| `stuck` | a call does not end; or nothing was handled since recovery ended one that did not |
| `dead` | events wait, no call is running, and nothing holds the subscription back |
| `stalled` | no event has been handled for long, and what holds the subscription back is known |
| `errors` | several calls in a row have failed |
| `failing` | most events fail; the breaker pauses the subscription |
| `abandoned` | calls that did not end when cancelled go on beside the subscription |
| `exhausted` | the recovery ladder is at its end; the operator must resume the subscription |
| `lag` | more and more events wait |
| `overflow` | a full mailbox lets events go, or they become dead letters for lack of room |
| `loop` | the event loop is blocked, or late |
| `journal` | the journal is dead, full, locked, damaged or late |
| `disk` | the journal's write-ahead log has outgrown its bound, or its file system is nearly full |
| `link` | other desks cannot be reached, events wait for them, or another process holds this desk |
| `feed` | an event that is expected in this session does not come |
| `lease` | an agent has stopped heartbeating |
| `unheard` | a kill switch was published, and nobody took it |
| `otherwise` | a handler published another event than when it handled the same event before |
| `conflict` | an event id was used again for other content, lately |
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
        check: Which check found it: a word from the table above.
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
        message: One sentence that can be acted on.
        culprits: Names of the subscriptions, agents or parts that are to blame, worst first.
        details: The figures behind the verdict.
        findings: Everything that is wrong, worst first.

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

    UNHEALTHY: a finding is that bad, and recovery does nothing about it, or no longer does. RECOVERING:
    recovery is at work, and nothing else is UNHEALTHY. DEGRADED: anything else is wrong.
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
    """Sort findings beyond recovery first, then UNHEALTHY ones; else they stay in order."""
    is_bad = finding.level is UNHEALTHY
    return (not (is_bad and not finding.recovering), not is_bad)
