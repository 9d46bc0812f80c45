"""A replay in a process of its own: one hash seed, one seed for `random`, no effects, virtual time.

```
  replay(path, app) ──▶ python -m openoutcry.replay.child ──▶ reads the day, runs the app ──▶ Replayed
```
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from openoutcry import errors
from openoutcry.errors import ConfigError, OpenOutcryError, ReplayError
from openoutcry.replay.change import Change, change_of
from openoutcry.replay.engine import Replayed


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What the process is asked for."""

    path: str
    app: str | None
    key: bytes | None
    strict: bool
    from_ns: int | None
    to_ns: int | None
    change: Change
    joins: bool


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What it answers: a result, or the class and the message of an error."""

    replayed: Replayed | None = None
    error: str = ""
    message: str = ""


def replay(
    path: str | Path,
    app: Any = None,
    *,
    strict: bool = False,
    from_ns: int | None = None,
    to_ns: int | None = None,
    key: bytes | None = None,
    without: Iterable[str] = (),
    silence: Iterable[str] = (),
    delay: Mapping[str, float] | None = None,
    replace: Mapping[str, Any] | None = None,
    joins: bool = False,
) -> Replayed:
    """Run a recorded day again, and hold its agents against the record.

    The agents are made anew by the app, and are handed what was recorded, in the order and at the time at
    which they were on the day; what they publish is compared with what they published. It takes a process of
    its own, in which nothing goes out: no connection, no process, no file written. The main program of the
    app is not run: what it published is in the record.

    With a change it is asked what would have been otherwise. The day is replayed as it was first, as a
    control; if that is not identical, its differences are all that is returned. Then it is replayed with the
    change: who is handed what it was handed on the day is held to the record, and everybody else does what
    it does.

    Args:
        path: The journal, whether a bus writes to it or not.
        app: What `openoutcry run` takes: `module:app`, or a function or class that can be imported under its
            name. By default what the journal says. It must be given its bus.
        strict: Compare timestamps as well.
        from_ns: Begin here, in nanoseconds since 1970: agents get their memory back, as at a start.
        to_ns: End here.
        key: The key of a sealed journal.
        without: Agents that were never hired: on no roster, with no subscription.
        silence: Agents that are hired and say nothing.
        delay: Agents that say everything later, by so many seconds.
        replace: Agents in whose place an app subscribes, under the same name.
        joins: With a change, what comes from outside waits for those who are late where everybody had settled
            everything on the day. So does a main program that calls `join`.

    Raises:
        ConfigError: The app is none, or makes its own bus; an agent is changed in two ways.
        RecordTooThin: The journal does not say enough of the day.
        ReplayError: The app raised, or the process died.
        JournalError: The journal cannot be read.

    """
    request = Request(
        path=str(Path(path).resolve()),
        app=None if app is None else app_name(app),
        key=key,
        strict=strict,
        from_ns=from_ns,
        to_ns=to_ns,
        change=change_of(
            without, silence, delay, {name: app_name(other) for name, other in (replace or {}).items()}
        ),
        joins=joins,
    )
    found = subprocess.run(
        [sys.executable, "-m", "openoutcry.replay.child"],
        input=msgspec.json.encode(request),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": _path()},
        check=False,
    )
    if not found.stdout:
        raise ReplayError(f"the process of the replay ended with {found.returncode}, and without a result")
    answer = msgspec.json.decode(found.stdout, type=Answer)
    if answer.replayed is not None:
        return answer.replayed
    kind = getattr(errors, answer.error, ReplayError)
    raise kind(answer.message) if issubclass(kind, OpenOutcryError) else ReplayError(answer.message)


def app_name(app: Any) -> str:
    """Return an app as `module:name`. Raises `ConfigError` if it cannot be imported so in another process."""
    if isinstance(app, str):
        return app
    module, name = getattr(app, "__module__", None), getattr(app, "__qualname__", None)
    if module == "__main__":
        module = _name_of_program()
    if not module or not name or "<" in name:
        raise ConfigError(
            f"app is {app!r}: a replay imports it in a process of its own, so name it, as 'module:app', or "
            "give a function or class at the top of a module"
        )
    return f"{module}:{name}"


def _name_of_program() -> str:
    """Return under which name the program that runs can be imported; empty if it is no file."""
    program = sys.modules["__main__"]
    spec, file = getattr(program, "__spec__", None), getattr(program, "__file__", None)
    if spec is not None:
        return str(spec.name)
    return Path(file).stem if file else ""


def _path() -> str:
    """Return what the other process imports from: what this one does."""
    return os.pathsep.join(path for path in sys.path if path)
