"""The pytest plugin: async tests in virtual time, with a bus that is checked at the end.

```python
async def test_a_large_order_is_refused(bus):
    Risk(bus, limit=100)
    await bus.publish(OrderEvent(..., quantity=500))
    alert = await expect(bus, RiskAlertEvent)
```
"""

import inspect
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from openoutcry import EventBus
from openoutcry.journals import MemoryJournal
from openoutcry.testing.kit import letters_of, newest
from openoutcry.testing.recording import recorded
from openoutcry.testing.virtual import run_virtual

_BUS = pytest.StashKey[EventBus]()
_LIMIT_S = 60.0


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers."""
    config.addinivalue_line(
        "markers",
        "bus(dead_letters=False, **settings): settings of the fixtures bus and durable_bus, which are those "
        "of EventBus; with dead_letters=True a test may leave some.",
    )
    config.addinivalue_line(
        "markers", "virtual_time(limit_s=60): run this async test in virtual time, with or without a bus."
    )


def _settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    marker = request.node.get_closest_marker("bus")
    settings = {} if marker is None else dict(marker.kwargs)
    settings.pop("dead_letters", None)
    return {"check_events": "always", **settings}


@pytest.fixture
def bus(request: pytest.FixtureRequest) -> EventBus:
    """Give an async test an EventBus in memory: running in virtual time, recorded, and checked at the end.

    The test fails if the ledger does not balance or there are dead letters, so that a failed assertion in a
    handler is not lost. `@pytest.mark.bus(dead_letters=True)` allows dead letters; its other arguments are
    those of `EventBus`.
    """
    return _keep(request, EventBus(**_settings(request)))


@pytest.fixture
def durable_bus(request: pytest.FixtureRequest) -> EventBus:
    """Give a test a `bus` with a journal in memory, from which `crash_and_recover` can recover."""
    return _keep(request, EventBus(**_settings(request), journal=MemoryJournal()))


def _keep(request: pytest.FixtureRequest, made: EventBus) -> EventBus:
    if not inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        pytest.fail(
            f"{request.node.name} uses the fixture {request.fixturename}: make it an async test",
            pytrace=False,
        )
    request.node.stash[_BUS] = made
    return made


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an async test in virtual time if it has a bus or the marker."""
    made = pyfuncitem.stash.get(_BUS, None)
    marker = pyfuncitem.get_closest_marker("virtual_time")
    if not inspect.iscoroutinefunction(pyfuncitem.obj) or (made is None and marker is None):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}  # noqa: SLF001
    test = pyfuncitem.obj(**arguments)
    limit_s = _LIMIT_S if marker is None else marker.kwargs.get("limit_s", _LIMIT_S)
    if made is None:
        run_virtual(test, limit_s=limit_s)
        return True
    run_virtual(_with_bus(made, test), limit_s=limit_s)
    marker = pyfuncitem.get_closest_marker("bus")
    may_leave_letters = marker is not None and marker.kwargs.get("dead_letters", False)
    for complaint in _complaints(newest(made), may_leave_letters=may_leave_letters):
        pytest.fail(complaint, pytrace=False)
    return True


async def _with_bus(made: EventBus, test: Coroutine[Any, Any, Any]) -> None:
    try:
        recorded(made)
        await made.start()
        await test
    finally:
        test.close()
        await newest(made).stop()


def _complaints(used: EventBus, *, may_leave_letters: bool) -> Iterator[str]:
    ledger = used.ledger()
    wrong = [f"  {row.to_dict()}" for row in ledger.rows if not row.balances]
    if wrong:
        yield "\n".join(["the ledger does not balance: events were lost", *wrong])
    letters = "" if may_leave_letters else letters_of(used)
    if letters:
        yield f"{letters}\nIf they are expected: @pytest.mark.bus(dead_letters=True)"
