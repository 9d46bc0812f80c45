"""The app of a replay: the function that `openoutcry run` takes, in a form that is given a bus."""

import importlib
import inspect
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from openoutcry.errors import ConfigError
from openoutcry.runtime.api.bus import EventBus


def load_app(target: str, folder: Path) -> Any:
    """Import MODULE of `MODULE:APP` from a folder, or from what is installed, and return its APP.

    Raises `ConfigError` if there is none, and what the module raises.
    """
    name, _, path = target.partition(":")
    if not name or not path:
        raise ConfigError(f"app is {target!r}: write MODULE:APP, such as firm:app for app in firm.py")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        found: Any = importlib.import_module(name)
        for part in path.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        raise ConfigError(f"app is {target!r}: there is no module {error.name!r} in {folder}") from error
    except AttributeError as error:
        raise ConfigError(f"app is {target!r}: {error}") from error
    return found


@asynccontextmanager
async def set_up(app: Any, bus: EventBus, target: str) -> AsyncIterator[None]:
    """Have an app subscribe its agents to the bus. Its main program is not run; it may clean up at the end.

    Raises `ConfigError` for an app that makes its own bus.
    """
    make: Any = app
    agents: Any = make() if inspect.isclass(app) and hasattr(app, "setup") else app
    if hasattr(agents, "setup") and not inspect.isfunction(agents):
        made = agents.setup(bus)
        if inspect.isawaitable(made):
            await made
        yield
        return
    if isinstance(app, EventBus) or not callable(app) or not _takes_a_bus(app):
        raise ConfigError(
            f"app is {target!r}, which makes its own bus: to be replayed it must be given one, as in "
            "`async def app(bus):` with a bare yield, or a class with setup(bus)"
        )
    stages = make(bus)
    if inspect.isasyncgen(stages):
        try:
            await anext(stages)
            yield
        finally:
            await stages.aclose()
        return
    if inspect.isawaitable(stages):
        raise ConfigError(
            f"app is {target!r}, a coroutine function without a yield: write a bare `yield` where the bus is "
            "to start, so that a replay knows what subscribes and what is the main program"
        )
    yield


def _takes_a_bus(app: Any) -> bool:
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return False
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(p.kind in kinds and p.default is p.empty for p in parameters)
