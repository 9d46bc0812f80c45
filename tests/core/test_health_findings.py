"""The words of health, and the verdict."""

import json

import pytest

from openoutcry.core.health import EventBusHealthStatus, Finding, HealthCheckResult, verdict

Status = EventBusHealthStatus
DEGRADED = Finding(check="latency", level=Status.DEGRADED, culprit="archive", detail="slow")
UNHEALTHY = Finding(check="journal", level=Status.UNHEALTHY, culprit="journal", detail="dead")
IN_HAND = Finding(
    check="stuck",
    level=Status.UNHEALTHY,
    culprit="risk.on_order",
    detail="stuck",
    tried=("cancelled the call",),
    recovering=True,
)


def test_a_result_is_ready_for_json_and_names_the_culprits():
    result = HealthCheckResult(
        status=Status.DEGRADED,
        message="risk has not moved for 30 s; restart it",
        culprits=("risk.on_order",),
        details={"waiting": 12},
        findings=(IN_HAND,),
    )
    assert json.loads(json.dumps(result.to_dict())) == {
        "status": "degraded",
        "message": "risk has not moved for 30 s; restart it",
        "culprits": ["risk.on_order"],
        "details": {"waiting": 12},
        "findings": [
            {
                "check": "stuck",
                "level": "unhealthy",
                "culprit": "risk.on_order",
                "detail": "stuck",
                "tried": ["cancelled the call"],
                "recovering": True,
            }
        ],
    }


def test_what_is_handed_out_is_not_what_is_kept():
    result = HealthCheckResult(status=Status.HEALTHY)
    result.to_dict()["details"]["extra"] = 1
    assert result.details == {}


def test_the_statuses_are_those_that_the_bus_may_have():
    assert [status.value for status in Status] == ["healthy", "degraded", "unhealthy", "recovering"]


@pytest.mark.parametrize(
    ("findings", "status"),
    [
        ([], Status.HEALTHY),
        ([DEGRADED], Status.DEGRADED),
        ([UNHEALTHY], Status.UNHEALTHY),
        ([DEGRADED, UNHEALTHY], Status.UNHEALTHY),
        ([IN_HAND], Status.RECOVERING),
        ([DEGRADED, IN_HAND], Status.RECOVERING),
        ([IN_HAND, UNHEALTHY], Status.UNHEALTHY),
    ],
)
def test_the_worst_finding_decides_and_recovery_at_work_is_told_apart(findings, status):
    result = verdict(findings)
    assert result.status is status
    assert result.is_healthy == (not findings)


def test_the_message_is_that_of_the_worst_and_counts_the_others():
    result = verdict([DEGRADED, IN_HAND, UNHEALTHY], {"waiting": 3})
    assert result.message == "journal: dead (2 more)"
    assert result.culprits == ("journal", "risk.on_order", "archive")
    assert result.details == {"waiting": 3}


def test_a_culprit_of_two_findings_is_named_once():
    assert verdict([DEGRADED, DEGRADED]).culprits == ("archive",)
