"""The process of a replay: `python -m openoutcry.replay.child`, with a request on standard input."""

from pathlib import Path

from openoutcry.errors import ConfigError
from openoutcry.replay.apart import serve
from openoutcry.replay.app import load_app
from openoutcry.replay.day import read_day, recorded_app, recorded_broker
from openoutcry.replay.effects import Denial, virtual_time
from openoutcry.replay.engine import Replayed, replay_here
from openoutcry.replay.process import Request


def main() -> None:
    """Answer the request."""
    serve(Request, lambda asked: asked.app or recorded_app(Path(asked.path), asked.key), _replayed)


def _replayed(request: Request) -> Replayed:
    path, key = Path(request.path), request.key
    target, broker_target = request.app or recorded_app(path, key), recorded_broker(path, key)
    if not target:
        raise ConfigError(f"{path} does not say which app it is of: name it, as module:app")
    app = load_app(target, Path.cwd())
    broker = load_app(broker_target, Path.cwd()) if broker_target else None
    day = read_day(path, key, from_ns=request.from_ns, to_ns=request.to_ns)
    return replay_here(
        day,
        app,
        target,
        broker=broker,
        strict=request.strict,
        denial=Denial(),
        own_time=virtual_time,
    )


if __name__ == "__main__":
    main()
