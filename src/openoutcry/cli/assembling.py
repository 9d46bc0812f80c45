"""Turns the user's app, in any of its accepted forms, into a bus and a program that runs beside it."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from openoutcry.cli.mistakes import AppFailed, Mistake
from openoutcry.config import BusConfig
from openoutcry.runtime.api.bus import EventBus

Program = Awaitable[object]

_FORMS = (
    "an app is a function or coroutine function that takes a bus, a function without arguments that returns "
    "an EventBus, or an EventBus"
)


async def assemble(app: object, target: str, config: BusConfig | None) -> tuple[EventBus, Program | None]:
    """Return the bus, not yet started, and the app's own program, if it has one, not yet running.

    Raises `Mistake` if the app has no accepted form, or makes its own bus although a settings file was given;
    `AppFailed` if it raises.
    """
    if isinstance(app, EventBus):
        _refuse_settings(config, target)
        return app, None
    if not callable(app):
        raise Mistake(f"{target!r} is {type(app).__name__}; {_FORMS}")
    if _arguments(app, target) == 1:
        bus = EventBus(**(config or BusConfig()).arguments())
        made = _call(app, target, bus)
        return bus, made if inspect.isawaitable(made) else None
    _refuse_settings(config, target)
    made = _call(app, target)
    if inspect.isawaitable(made):
        made = await _finish(made, target)
    if not isinstance(made, EventBus):
        raise Mistake(f"{target!r} takes no argument and returned {type(made).__name__}; {_FORMS}")
    return made, None


def _refuse_settings(config: BusConfig | None, target: str) -> None:
    if config is not None:
        raise Mistake(f"{target!r} makes its own bus, so --config has nothing to set: drop it, or take a bus")


def _arguments(app: Callable[..., Any], target: str) -> int:
    """Return how many positional arguments the app must be given: 0 or 1."""
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        raise Mistake(f"{target!r} does not say what arguments it takes; {_FORMS}") from None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in parameters if p.default is p.empty and p.kind in (*positional, p.KEYWORD_ONLY)]
    if len(needed) > 1 or any(p.kind is p.KEYWORD_ONLY for p in needed):
        raise Mistake(f"{target!r} needs {', '.join(p.name for p in needed)}; {_FORMS}")
    return len(needed)


def _call(app: Callable[..., Any], target: str, *arguments: object) -> Any:
    try:
        return app(*arguments)
    except Exception as error:
        raise AppFailed(f"{target} raised while it was set up", error) from error


async def _finish(made: Awaitable[Any], target: str) -> Any:
    try:
        return await made
    except Exception as error:
        raise AppFailed(f"{target} raised while it was set up", error) from error
