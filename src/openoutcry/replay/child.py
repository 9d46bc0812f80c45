"""The process of a replay: `python -m openoutcry.replay.child`, with a request on standard input."""

import os
import sys
import traceback
from pathlib import Path

import msgspec

from openoutcry.errors import ConfigError, OpenOutcryError, ReplayError
from openoutcry.replay.app import load_app
from openoutcry.replay.day import read_day, recorded_app
from openoutcry.replay.effects import Denial, virtual_time
from openoutcry.replay.engine import Replayed, replay_here
from openoutcry.replay.process import Answer, Request


def main() -> None:
    """Answer the request. What the app prints goes to standard error."""
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        try:
            request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
            answer = Answer(replayed=_replayed(request))
        except OpenOutcryError as error:
            answer = Answer(error=type(error).__name__, message=str(error))
        answers.write(msgspec.json.encode(answer, enc_hook=str))


def _replayed(request: Request) -> Replayed:
    path, key = Path(request.path), request.key
    target = request.app or recorded_app(path, key)
    if not target:
        raise ConfigError(f"{path} does not say which app it is of: name it, as module:app")
    try:
        app = load_app(target, Path.cwd())
        day = read_day(path, key, from_ns=request.from_ns, to_ns=request.to_ns)
        denial = Denial()
        return replay_here(day, app, target, strict=request.strict, denial=denial, own_time=virtual_time)
    except OpenOutcryError:
        raise
    except Exception as error:
        traceback.print_exc()
        raise ReplayError(f"{target} raised {type(error).__name__}: {error}") from error


if __name__ == "__main__":
    main()
