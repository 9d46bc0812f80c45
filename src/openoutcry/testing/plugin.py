"""The pytest plugin: async tests in virtual time, with a bus that is checked at the end.

```python
async def test_a_large_order_is_refused(bus):
    Risk(bus, limit=100)
    await bus.publish(OrderEvent(..., quantity=500))
    alert = await expect(bus, RiskAlertEvent)
```

Other plugins (pytest-asyncio, anyio) run async tests as well, on loops of their own. A test with one of the
fixtures, or with the marker `virtual_time`, is taken from them: they see a plain function, which runs it.
"""

import asyncio
import inspect
import unittest
from collections.abc import Callable, Generator, Iterator
from functools import partial, wraps
from types import MethodType
from typing import Any

import pytest

from openoutcry import EventBus
from openoutcry.journals import MemoryJournal
from openoutcry.testing.kit import letters_of, newest
from openoutcry.testing.kit_bus import KitBus, Outcome
from openoutcry.testing.recording import recorded
from openoutcry.virtual import run_virtual

_LIMIT_S = 60.0
_DECISIVE = (
    AssertionError,
    pytest.fail.Exception,
    pytest.skip.Exception,
    pytest.exit.Exception,
    unittest.SkipTest,
)


class _Case:
    """A test with one of the fixtures.

    Attributes:
        test: The test itself, as it was before another plugin has made something of it.
        buses: What its fixtures have made.
        outcome: What its handlers say.
        was_run: Whether it was run, with the buses started.

    """

    def __init__(self, test: Callable[..., Any]) -> None:
        self.test = test
        self.buses: list[EventBus] = []
        self.outcome = Outcome(_DECISIVE)
        self.was_run = False


_CASE = pytest.StashKey[_Case]()
_IS_CALLED = pytest.StashKey[bool]()


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
def bus(request: pytest.FixtureRequest) -> Iterator[EventBus]:
    """Give an async test an EventBus in memory: running in virtual time, recorded, and checked at the end.

    A failed assertion in a handler ends the test, and fails it. It also fails if the ledger does not balance
    or there are dead letters. `@pytest.mark.bus(dead_letters=True)` allows dead letters; its other arguments
    are those of `EventBus`.
    """
    yield from _keep(request)


@pytest.fixture
def durable_bus(request: pytest.FixtureRequest) -> Iterator[EventBus]:
    """Give a test a `bus` with a journal in memory, from which `crash_and_recover` can recover."""
    yield from _keep(request, journal=MemoryJournal())


def _keep(request: pytest.FixtureRequest, **settings: Any) -> Iterator[EventBus]:
    item = request.node
    if item.stash.get(_IS_CALLED, False):
        _fail(f"{item.name} asks for the fixture {request.fixturename} while it runs: make it an argument")
    if _CASE not in item.stash:
        _check_async(item, f"uses the fixture {request.fixturename}")
        if _is_given(item):
            _fail(
                f"{item.name} uses the fixture {request.fixturename} with hypothesis, whose examples need a "
                "bus each: use @pytest.mark.virtual_time instead, and make the bus in the test"
            )
        item.stash[_CASE] = _Case(item.obj)
    case = item.stash[_CASE]
    made = KitBus(case.outcome, **_settings(request), **settings)
    case.buses.append(made)
    yield made
    if _CASE in item.stash:
        del item.stash[_CASE]


def _check_async(item: pytest.Item, why: str) -> None:
    """Fail for what is no async test, or is one that nobody but its own class can run."""
    test = getattr(item, "obj", None)
    if isinstance(getattr(item, "instance", None), unittest.TestCase):
        _fail(
            f"{item.name} {why}, and unittest runs it on a loop of its own: make it a function, or a method "
            "of a plain class"
        )
    test = getattr(getattr(test, "hypothesis", None), "inner_test", test)
    if not callable(test) or not inspect.iscoroutinefunction(inspect.unwrap(test)):
        _fail(f"{item.name} {why}: make it an async test")


def _is_given(item: pytest.Item) -> bool:
    """Return True for a test of hypothesis."""
    return hasattr(getattr(item, "obj", None), "hypothesis")


def _fail(text: str) -> None:
    __tracebackhide__ = True
    pytest.fail(text, pytrace=False)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Run an async test in virtual time if it has a bus or the marker, whoever else would run it."""
    limit_s = _limit_s(item)
    case = item.stash.get(_CASE, None)
    if case is None and limit_s is not None:
        _check_async(item, "has the marker virtual_time")
        case = _Case(getattr(*_place(item)))
    item.stash[_IS_CALLED] = True
    try:
        if case is None:
            return (yield)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                *_place(item), _plain_function(item, case, _LIMIT_S if limit_s is None else limit_s)
            )
            patch.setattr(item, "runtest", MethodType(pytest.Function.runtest, item))
            result = yield
    finally:
        item.stash[_IS_CALLED] = False
    if not case.was_run:
        _fail(f"{item.name} was not run: its bus was never started")
    _check_buses(item, case)
    return result


def _place(item: pytest.Item) -> tuple[object, str]:
    """Return where the test is kept: what has it, and the name of the attribute."""
    return (item.obj.hypothesis, "inner_test") if _is_given(item) else (item, "obj")  # type: ignore[attr-defined]


def _check_buses(item: pytest.Item, case: _Case) -> None:
    """Fail for what the buses have to complain of."""
    marker = item.get_closest_marker("bus")
    may_leave_letters = marker is not None and marker.kwargs.get("dead_letters", False)
    for made in case.buses:
        for complaint in _complaints(newest(made), may_leave_letters=may_leave_letters):
            _fail(complaint)


def _limit_s(item: pytest.Item) -> float | None:
    """Return how long the test may take in real time, in seconds; None without the marker."""
    marker = item.get_closest_marker("virtual_time")
    if marker is None:
        return None
    if marker.args or marker.kwargs.keys() - {"limit_s"}:
        _fail(
            f"{item.name} has the marker virtual_time with {marker.args or marker.kwargs}; it takes limit_s"
        )
    return float(marker.kwargs.get("limit_s", _LIMIT_S))


def _plain_function(item: pytest.Item, case: _Case, limit_s: float) -> Callable[..., None]:
    """Return a plain function that runs the test."""

    @wraps(case.test, updated=())
    def run(*args: Any, **arguments: Any) -> None:
        __tracebackhide__ = True
        _check_surroundings(item)
        case.was_run = True
        try:
            run_virtual(_with_buses(case, partial(case.test, *args, **arguments)), limit_s=limit_s)
        except BaseException as error:
            decided = case.outcome.error
            if decided is None or isinstance(error, KeyboardInterrupt | SystemExit | pytest.exit.Exception):
                raise
            if not isinstance(error, asyncio.CancelledError):
                decided.add_note(f"after that the test itself raised {error!r}")
        if case.outcome.error is not None:
            raise case.outcome.error

    return run


def _check_surroundings(item: pytest.Item) -> None:
    """Fail for fixtures that the test cannot have been meant for."""
    funcargs: dict[str, Any] = getattr(item, "funcargs", {})
    backend = funcargs.get("anyio_backend", "asyncio")
    if (backend if isinstance(backend, str) else backend[0]) != "asyncio":
        _fail(f"{item.name} asks for the backend {backend!r} of anyio; a bus runs on asyncio alone")
    for name, value in funcargs.items():
        if inspect.iscoroutine(value) or inspect.isasyncgen(value):
            if inspect.iscoroutine(value):
                value.close()
            _fail(f"the fixture {name} is async, and no plugin runs it: make it a plain function")


async def _with_buses(case: _Case, test: Callable[[], Any]) -> None:
    __tracebackhide__ = True
    try:
        for made in case.buses:
            recorded(made)
            await made.start()
        with case.outcome.of_current_task():
            result = test()
            if not inspect.isawaitable(result):
                raise TypeError(
                    f"the test returned {result!r} and nothing to await: its decorator is for plain functions"
                )
            await result
    finally:
        for made in case.buses:
            await (newest(made).stop() if case.outcome.error is None else newest(made).stop(timeout_s=0))


def _complaints(used: EventBus, *, may_leave_letters: bool) -> Iterator[str]:
    ledger = used.ledger()
    wrong = [f"  {row.to_dict()}" for row in ledger.rows if not row.balances]
    if wrong:
        yield "\n".join(["the ledger does not balance: events were lost", *wrong])
    for subscription in used.subscriptions:
        if subscription.readiness.error is not None:
            yield f"{subscription.readiness.error}\nIf that is expected: unsubscribe it in the test"
    letters = "" if may_leave_letters else letters_of(used)
    if letters:
        yield f"{letters}\nIf they are expected: @pytest.mark.bus(dead_letters=True)"
