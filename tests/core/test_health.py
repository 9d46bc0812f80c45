"""The words of health."""

import json

from openoutcry.core.health import EventBusHealthStatus, HealthCheckResult


def test_a_result_is_ready_for_json_and_names_the_culprits():
    result = HealthCheckResult(
        status=EventBusHealthStatus.DEGRADED,
        message="risk has not moved for 30 s; restart it",
        culprits=("risk.on_order",),
        details={"waiting": 12},
    )
    assert json.loads(json.dumps(result.to_dict())) == {
        "status": "degraded",
        "message": "risk has not moved for 30 s; restart it",
        "culprits": ["risk.on_order"],
        "details": {"waiting": 12},
    }


def test_what_is_handed_out_is_not_what_is_kept():
    result = HealthCheckResult(status=EventBusHealthStatus.HEALTHY)
    result.to_dict()["details"]["extra"] = 1
    assert result.details == {}


def test_the_statuses_are_those_that_the_bus_may_have():
    assert [status.value for status in EventBusHealthStatus] == [
        "healthy",
        "degraded",
        "unhealthy",
        "recovering",
    ]
