"""The process of a replay: `python -m openoutcry.replay.child`, with a request on standard input.

A what-if takes two: the control runs in a fork, so that what it leaves in modules is not there any more.
"""

import logging
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from openoutcry.errors import ConfigError, OpenOutcryError, ReplayError
from openoutcry.replay.apart import serve
from openoutcry.replay.app import load_app
from openoutcry.replay.branch import Knowledge
from openoutcry.replay.day import read_day, recorded_app, recorded_broker
from openoutcry.replay.effects import Denial, virtual_time
from openoutcry.replay.engine import Replayed, control_here, replay_here, what_if_here
from openoutcry.replay.keeping import must_be_new
from openoutcry.replay.process import Request

T = TypeVar("T")


class _Control(msgspec.Struct, frozen=True):
    """What the fork of the control answers."""

    replayed: Replayed | None = None
    known: Knowledge | None = None
    message: str = ""


def main() -> None:
    """Answer the request."""
    logging.getLogger("openoutcry").setLevel(logging.CRITICAL)  # a replay tells what differs itself
    serve(Request, lambda asked: asked.app or recorded_app(Path(asked.path), asked.key), _replayed)


def _replayed(request: Request) -> Replayed:
    path, key = Path(request.path), request.key
    if request.into is not None:
        must_be_new(Path(request.into))  # before the day is run
    target, broker_target = request.app or recorded_app(path, key), recorded_broker(path, key)
    if not target:
        raise ConfigError(f"{path} does not say which app it is of: name it, as module:app")
    app, broker = (load_app(name, Path.cwd()) if name else None for name in (target, broker_target))
    others = {name: load_app(other, Path.cwd()) for name, other in request.change.replace.items()}
    day = read_day(path, key, from_ns=request.from_ns, to_ns=request.to_ns)
    how: dict[str, Any] = {"broker": broker, "denial": Denial(), "own_time": virtual_time}
    into = None if request.into is None else Path(request.into)
    if not request.change:
        return replay_here(day, app, target, strict=request.strict, into=into, **how)
    control = _in_a_fork(lambda: _Control(*control_here(day, app, target, **how)))
    if control.replayed is None or control.known is None:
        raise ReplayError(f"the control could not be run: {control.message}")
    if not control.replayed.identical:
        return control.replayed
    return what_if_here(
        day,
        app,
        target,
        request.change,
        control=control.replayed,
        known=control.known,
        joins=request.joins,
        others=others,
        into=into,
        **how,
    )


def _told(target: str, run: Callable[[], T]) -> T:
    """Run what calls the app; what that raises becomes a `ReplayError`, its traceback is printed."""
    try:
        return run()
    except OpenOutcryError:
        raise
    except Exception as error:
        traceback.print_exc()
        raise ReplayError(f"{target} raised {type(error).__name__}: {error}") from error


def _in_a_fork(run: Callable[[], _Control]) -> _Control:
    """Return what a function returns in a process of its own, which is a copy of this one."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        try:
            answer = _told("the app", run)
        except OpenOutcryError as error:
            answer = _Control(message=str(error))
        with os.fdopen(writing, "wb") as answers:
            answers.write(msgspec.json.encode(answer, enc_hook=str))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answers:
        data = answers.read()
    os.waitpid(child, 0)
    return msgspec.json.decode(data, type=_Control) if data else _Control(message="its process has died")


if __name__ == "__main__":
    main()
