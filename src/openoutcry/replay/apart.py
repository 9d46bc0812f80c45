"""A process apart: one hash seed, and nothing of what this process holds. Used by replays and backtests.

```
  run_apart(module, request) ──▶ python -m module ──▶ serve(...) ──▶ its result, or its error, raised here
```
"""

import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from openoutcry import errors
from openoutcry.errors import ConfigError, InvalidRow, OpenOutcryError, ReplayError

Q = TypeVar("Q")
R = TypeVar("R")


_NONE: Final = msgspec.Raw(b"null")


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the process answers: a result, or the class and the message of an error."""

    result: msgspec.Raw = _NONE
    error: str = ""
    message: str = ""
    place: tuple[str, int, str, str] | None = None
    """Of an `InvalidRow`: the file, the row, the column and the value."""


def run_apart(module: str, request: object, kind: type[R]) -> R:
    """Run a module in a process of its own, hand it a request, and return its result.

    Raises what it raised, if that is an error of openoutcry's, and `ReplayError` if it died.
    """
    found = subprocess.run(  # noqa: S603 - this interpreter, and a module of this package
        [sys.executable, "-m", module],
        input=msgspec.json.encode(request),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": _path()},
        check=False,
    )
    if not found.stdout:
        raise ReplayError(f"the process of the replay ended with {found.returncode}, and without a result")
    answer = msgspec.json.decode(found.stdout, type=_Answer)
    if bytes(answer.result) != b"null":
        return msgspec.json.decode(answer.result, type=kind)
    if answer.place is not None:
        raise InvalidRow(answer.message, *answer.place)
    cls = getattr(errors, answer.error, ReplayError)
    raise cls(answer.message) if issubclass(cls, OpenOutcryError) else ReplayError(answer.message)


def _path() -> str:
    """Return what the other process imports from: what this one does."""
    return os.pathsep.join(path for path in sys.path if path)


def serve(kind: type[Q], target_of: Callable[[Q], str], do: Callable[[Q], Any]) -> None:
    """In the process: answer the request on standard input. What the app prints goes to standard error."""
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        request = msgspec.json.decode(sys.stdin.buffer.read(), type=kind)
        try:
            answer = _Answer(result=msgspec.Raw(msgspec.json.encode(do(request), enc_hook=str)))
        except InvalidRow as error:
            place = (error.path, error.row, error.column, error.value)
            answer = _Answer(error="InvalidRow", message=str(error), place=place)
        except OpenOutcryError as error:
            answer = _Answer(error=type(error).__name__, message=str(error))
        except Exception as error:  # noqa: BLE001 - the app's
            traceback.print_exc()
            told = f"{target_of(request)} raised {type(error).__name__}: {error}"
            answer = _Answer(error="ReplayError", message=told)
        answers.write(msgspec.json.encode(answer))


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
