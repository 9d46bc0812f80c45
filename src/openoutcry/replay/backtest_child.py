"""The process of a backtest: `python -m openoutcry.replay.backtest_child`, asked on standard input."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openoutcry.errors import ConfigError
from openoutcry.replay.apart import serve
from openoutcry.replay.app import load_app
from openoutcry.replay.backtest import (
    Backtested,
    BacktestRequest,
    Cast,
    backtest_here,
    manifest_like,
    settings_in,
)
from openoutcry.replay.effects import IN_BACKTEST, Denial, virtual_time
from openoutcry.replay.feed import Feed


def main() -> None:
    """Answer the request."""
    serve(BacktestRequest, lambda asked: asked.app or "the app", backtested)


def backtested(asked: BacktestRequest) -> Backtested:
    """Run the backtest that is asked for."""
    like = None if asked.like is None else manifest_like(Path(asked.like))
    target = asked.app or ("" if like is None else like.app)
    broker_target = asked.broker or ("" if like is None else like.broker)
    if not target:
        raise ConfigError("which app is not said: give --app MODULE:APP")
    here = Path.cwd()
    cast = Cast(
        app=load_app(target, here),
        target=target,
        broker=load_app(broker_target, here) if broker_target else None,
        broker_target=broker_target,
        like=like,
        settings={} if asked.config is None else settings_in(Path(asked.config)),
    )
    feed = Feed([Path(table) for table in asked.tables], asked.rules)
    with _journal(asked.into) as path:
        keeps = asked.into is not None
        return backtest_here(
            feed, asked.tables, cast, path, keeps=keeps, denial=Denial(IN_BACKTEST), own_time=virtual_time
        )


@contextmanager
def _journal(into: str | None) -> Iterator[Path]:
    """Yield where the journal is written: where it was asked for, or in a folder that is deleted."""
    if into is not None:
        yield Path(into)
        return
    with tempfile.TemporaryDirectory(prefix="openoutcry-") as folder:
        yield Path(folder) / "backtest.db"


if __name__ == "__main__":
    main()
