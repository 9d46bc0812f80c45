"""Turns the user's app, whatever its form, into one: an async generator that yields where the bus starts.

```
  assemble ──▶ set up ──▶ ready ──bus starts──▶ main program ──▶ ended
```
"""

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

from openoutcry.cli.mistakes import Mistake
from openoutcry.config import BusConfig
from openoutcry.runtime.api.bus import EventBus

log = logging.getLogger("openoutcry")

Stages = AsyncGenerator[Any, None]
"""Sets up, yields once, and then is the main program."""

_FORMS = (
    "an app is an async generator function that takes a bus, subscribes, yields, and then is the main "
    "program; or a class with setup(bus) and, if it has a main program, async main(bus); or a function that "
    "takes a bus and only subscribes"
)


class Program:
    """The user's app as one task, from its set-up to its end.

    Attributes:
        bus: The bus that it runs on; None until it is known.
        has_main: Whether it has a main program, whose end ends the firm.
        is_set_up: Set when the bus may start.
        may_go_on: Set by the host when the bus has started.
        is_to_end: Set by the host when it cancels the program, so that its cancellation is no failure.
        error: What it let out; None as long as it has not failed.

    """

    def __init__(self, app: object, target: str, config: BusConfig | None) -> None:
        self.bus: EventBus | None = None
        self.has_main = False
        self.is_set_up = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self.is_to_end = False
        self.error: BaseException | None = None
        self._target = target
        self._config = config
        self._app = app

    async def run(self) -> None:
        """Set up, wait for the host, run the main program. What it raises is in `error`, whatever it is."""
        try:
            stages = await self._set_up()
            try:
                await self.may_go_on.wait()
            except BaseException as error:
                await _throw_into(stages, error)
                raise
            await self._to_the_end(stages)
        except asyncio.CancelledError as error:
            self.error = None if self.is_to_end else error
        except BaseException as error:  # noqa: BLE001 - the app's; also a SystemExit, which must not break the loop
            self.error = error

    async def _set_up(self) -> Stages:
        stages = await self._begin()
        try:
            yielded = await anext(stages)
        except StopAsyncIteration:
            raise Mistake(
                f"{self._target!r} returned before its yield: the bus starts there, so every way through it "
                "must come to one"
            ) from None
        if yielded is not None:
            await _dispose(yielded)
            await stages.aclose()
            raise Mistake(
                f"{self._target!r} yields {type(yielded).__name__}: write a bare `yield` where the bus "
                "should start; the main program is what follows it"
            )
        self.is_set_up.set()
        return stages

    async def _to_the_end(self, stages: Stages) -> None:
        turned = asyncio.Event()
        asyncio.get_running_loop().call_soon(turned.set)
        assert self.bus is not None
        published_count = self.bus.metrics.published
        try:
            await anext(stages)
        except StopAsyncIteration:
            if self.has_main and not turned.is_set() and self.bus.metrics.published == published_count:
                self._refuse_nothing(self.bus)
            return
        frame = getattr(stages, "ag_frame", None)
        where = f", in line {frame.f_lineno}" if frame is not None else ""
        await stages.aclose()
        raise Mistake(
            f"{self._target!r} yields a second time{where}: the bus starts at the first yield, and there is "
            "nothing for another one to do; leave it out"
        )

    def _refuse_nothing(self, bus: EventBus) -> None:
        """Refuse a main program that is over before anything could happen, for a firm that has agents."""
        if bus.subscriptions:
            raise Mistake(
                f"{self._target!r} has no main program: it ended as soon as the bus had started, and so "
                "would the firm. Write a bare `yield` after what subscribes, and then the main program, such "
                "as `await bus.run_until_signal()` to run until it is stopped"
            )

    # -- the forms ----------------------------------------------------------------------------------

    async def _begin(self) -> Stages:
        """Call the app, and return its stages. The bus is known afterwards."""
        target = self._target
        app = _instance(self._app, target)
        if isinstance(app, EventBus):
            self._take_bus(app)
            return _no_main()
        if _is_class_form(app):
            return self._of_object(app, self._make_bus())
        if not callable(app):
            raise Mistake(f"{target!r} is {type(app).__name__}; {_FORMS}")
        if _arguments(app, target) == 1:
            bus = self._make_bus()
            return self._of_result(app(bus), bus)
        made = app()
        if inspect.isawaitable(made):
            made = await made
        if not isinstance(made, EventBus):
            await _dispose(made)
            raise Mistake(f"{target!r} takes no argument and returned {type(made).__name__}; {_FORMS}")
        self._take_bus(made)
        return _no_main()

    def _make_bus(self) -> EventBus:
        self.bus = bus = EventBus(**(self._config or BusConfig()).arguments())
        return bus

    def _take_bus(self, bus: EventBus) -> None:
        if self._config is not None:
            raise Mistake(
                f"{self._target!r} makes its own bus, so --config has nothing to set: drop it, or take a bus"
            )
        self.bus = bus

    def _of_result(self, made: Any, bus: EventBus) -> Stages:
        """Return the stages of a function that took the bus, going by what it has returned."""
        if inspect.isasyncgen(made):
            self.has_main = True
            return cast("Stages", made)
        if inspect.isawaitable(made):
            self.has_main = True
            log.warning(
                "%s is a coroutine function, so the bus starts before it begins and what it subscribes comes "
                "late (deprecated): write a bare `yield` where the bus should start",
                self._target,
            )
            return _coroutine(made)
        wrong = _not_a_result(made, bus)
        if wrong:
            raise Mistake(f"{self._target!r} {wrong}; {_FORMS}")
        return _no_main()

    async def _of_object(self, app: Any, bus: EventBus) -> AsyncGenerator[None, None]:
        """The stages of an object with `setup` and perhaps `main`."""
        main = getattr(app, "main", None)
        self._check_method("setup", app.setup)
        if main is not None:
            self._check_method("main", main)
        made = app.setup(bus)
        if inspect.isawaitable(made):
            await made
        elif inspect.isasyncgen(made) or inspect.isgenerator(made):
            raise Mistake(
                f"{self._target!r}: setup has a yield; take it out, and write what follows it as main(bus)"
            )
        self.has_main = main is not None
        yield
        if main is not None:
            made = main(bus)
            if not inspect.isawaitable(made):
                raise Mistake(
                    f"{self._target!r}: main returned {type(made).__name__}; write async def main(self, bus)"
                )
            await made

    def _check_method(self, name: str, method: Any) -> None:
        if not callable(method):
            raise Mistake(f"{self._target!r}: {name} is {type(method).__name__}; {_FORMS}")
        count = _arguments(method, f"{self._target}.{name}")
        if count != 1:
            raise Mistake(f"{self._target!r}: {name} takes no argument; write {name}(self, bus)")


def _instance(app: object, target: str) -> object:
    """Return an object of a class with `setup` or `main`; anything else as it is."""
    if not inspect.isclass(app) or issubclass(app, EventBus):
        return app
    if not hasattr(app, "setup"):
        if hasattr(app, "main") or not _takes_one(app):
            raise Mistake(f"{target!r} is a class without setup(bus); {_FORMS}")
        return app  # its constructor takes the bus
    needed = _needed(app, target)
    if needed:
        raise Mistake(
            f"{target!r} needs {', '.join(needed)} to be made; the bus is given to setup(bus): write a class "
            "that is made without arguments, or name an object of it"
        )
    return app()


def _is_class_form(app: object) -> bool:
    if hasattr(app, "setup") and not inspect.isfunction(app):
        return True
    if hasattr(app, "main") and not callable(app):
        raise Mistake(f"{type(app).__name__} has main but no setup(bus); {_FORMS}")
    return False


async def _throw_into(stages: Stages, error: BaseException) -> None:
    """Have the app clean up at its yield; what it raises there goes before the error."""
    with suppress(StopAsyncIteration):
        await stages.athrow(error)
        await stages.aclose()


async def _no_main() -> Stages:
    yield


async def _coroutine(made: Awaitable[object]) -> Stages:
    try:
        yield
    except BaseException:
        await _dispose(made)
        raise
    await made


def _not_a_result(made: object, bus: EventBus) -> str | None:
    """Return what is wrong with what a function that took the bus has returned; None if nothing is."""
    if inspect.isgenerator(made):
        return "has a yield but is a plain function: write `async def`"
    if hasattr(made, "__aenter__") and not isinstance(made, EventBus):
        return "returned a context manager: leave @asynccontextmanager out"
    if isinstance(made, EventBus) and made is not bus:
        return "takes a bus and returned another one, which would never run: use the given one, or take none"
    if inspect.isfunction(made) or inspect.ismethod(made):
        return f"returned the function {made.__name__}, which nobody calls"
    return None


async def _dispose(made: object) -> None:
    """Close what will not run, so that nothing is reported as never awaited."""
    if inspect.iscoroutine(made):
        made.close()
    elif inspect.isasyncgen(made):
        await made.aclose()


def _takes_one(app: Callable[..., Any]) -> bool:
    try:
        return len(_needed(app, "")) == 1
    except Mistake:
        return False


def _arguments(app: Callable[..., Any], target: str) -> int:
    """Return how many positional arguments the app must be given: 0 or 1."""
    needed = _needed(app, target)
    if len(needed) > 1:
        raise Mistake(f"{target!r} needs {', '.join(needed)}; {_FORMS}")
    return len(needed)


def _needed(app: Callable[..., Any], target: str) -> list[str]:
    """Return the names of the arguments that have no default."""
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        raise Mistake(f"{target!r} does not say what arguments it takes; {_FORMS}") from None
    if any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters):
        names = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
        raise Mistake(f"{target!r} needs {', '.join(names)}; {_FORMS}")
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind in positional]
