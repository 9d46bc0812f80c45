"""Driving a handler over a batch: the loops that call it."""

from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextvars import Context, copy_context
from inspect import isasyncgen, isawaitable, isgenerator, isroutine
from itertools import islice
from types import FunctionType
from typing import Any, TypeVar, cast

from openoutcry.core.lanes import Batch
from openoutcry.runtime.delivery.handlers import Handler

Drive = Callable[[Iterator[Any], Handler], Coroutine[Any, Any, None]]
F = TypeVar("F", bound=Callable[..., Any])

PROBE = 32
PROBE_NS = 32_000


async def await_each(events: Iterator[Any], handler: Handler) -> None:
    """Await a coroutine handler for each event."""
    for event in events:
        await handler(event)


async def call_each(events: Iterator[Any], handler: Handler) -> None:
    """Call a handler for each event, and await what it returns if that can be awaited."""
    for event in events:
        result = handler(event)
        if result is not None:
            if isawaitable(result):
                await result
            else:
                check_result(result)


async def call_each_isolated(events: Iterator[Any], handler: Handler) -> None:
    """Call a handler for each event in a fresh copy of the context, and await what it returns in there."""
    for event in events:
        context = copy_context()
        result = context.run(handler, event)
        if result is not None:
            if isawaitable(result):
                await _InContext(context, result)
            else:
                check_result(result)


class _InContext:
    """Something to await that runs in a context of its own.

    It runs in the same task, so that the call is still the worker's, and can be cancelled as such.
    """

    __slots__ = ("_awaitable", "_context")

    def __init__(self, context: Context, awaitable: Awaitable[Any]) -> None:
        self._context = context
        self._awaitable = awaitable

    def __await__(self) -> Generator[Any, Any, None]:
        run = self._context.run
        coroutine = _awaited(self._awaitable)
        try:
            waits_for = run(coroutine.send, None)
            while True:
                try:
                    got = yield waits_for
                except BaseException as error:  # noqa: BLE001 - thrown in from outside, for the coroutine
                    waits_for = run(coroutine.throw, error)
                else:
                    waits_for = run(coroutine.send, got)
        except StopIteration:
            return


async def _awaited(awaitable: Awaitable[Any]) -> None:
    await awaitable


def check_result(result: Any) -> None:
    """Raise if a handler returned something that has run nothing yet, and that nobody will run."""
    if isgenerator(result) or isasyncgen(result):
        raise TypeError(
            f"the handler returned the generator {result.__qualname__!r}, of which nothing has run; take the "
            "yield out, or go through it"
        )
    if isroutine(result):
        raise TypeError(f"the handler returned {result!r} without calling it; call it with the event")


async def probe(drive: Drive, batch: Batch, handler: Handler, clock_ns: Callable[[], int]) -> None:
    """Handle a large batch: a few events first, and the rest only if these were as quick as they used to be.

    A handler that never suspends and has turned slow would otherwise keep the loop for the whole batch. What
    is left then goes back to the lane.
    """
    began_ns = clock_ns()
    await drive(islice(batch.iterator, PROBE), handler)
    if clock_ns() - began_ns > PROBE_NS:
        batch.lane.give_back(batch)
    else:
        await drive(batch.iterator, handler)


def own_copy(function: F) -> F:
    """Return the same function over a code object of its own.

    CPython specialises a call for the function it calls, in the code object of the caller. A loop shared by
    all subscriptions calls a different handler each time and never stays specialised: that costs half as
    much again.
    """
    assert isinstance(function, FunctionType)
    copy = FunctionType(function.__code__.replace(), function.__globals__, function.__name__)
    return cast("F", copy)
