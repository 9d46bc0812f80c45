"""Trace the way of one event through the package, from the call of `publish` to the handler's first line.

    python benchmarks/way.py                 # five kinds of event, counted
    python benchmarks/way.py --show order    # and the way itself of the kinds whose names begin with "order"

It traces the package that Python imports, and says which one that is; PYTHONPATH=src takes a checkout's own.

How it counts. `sys.setprofile` is set on the loop's thread just before the publish call and taken off by the
handler's first line. A frame counts when its code stands in a file of the package: every call of a Python function,
method, property, lambda or comprehension (from Python 3.12 on most comprehensions are no calls), and every
resumption of a coroutine. Calls into C, into the standard library and in other threads do not count, nor do the
handler, this script and the checks of the loop's health, which a timer makes. Modules are the files that these frames stand in. Modules that were compiled to C have no
frames: trace the plain source.

The bus has one subscription and handles some events one at a time. The first ones fill its caches, so they are left
out. Of the others the shortest way is given, which is the commonest too: now and then a clock's sample, a saved
cursor or the watchdog comes in between. Signals vote in a round that is open. A journaled event has the level that
`PersistenceConfig` gives its type by default: `process`, and for a fill `disk`, with its sync on the loop.

The column "at most" has the bounds that tests/test_way.py holds: a change that makes a way longer fails there.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NamedTuple

import openoutcry
from openoutcry import (
    EventBus,
    FillEvent,
    MarketDataEvent,
    OrderEvent,
    OrderSide,
    PersistenceConfig,
    SignalDirection,
    SignalEvent,
)

ORDER_MOST = (36, 15)
FILL_MOST = (49, 17)
SIGNAL_MOST = (52, 19)
"""The most frames, and the most modules that they stand in, on the way of a journaled event: on Python 3.11 with
apsw. Newer Pythons, and the standard library's sqlite3, need one less here or there. Three of them are the
publisher's, who goes on before the handler is called."""

PACKAGE = Path(openoutcry.__file__).parent
WARM_UP_COUNT = 12
TRACED_COUNT = 15
_AGENT = "momentum"

Engine = Literal["auto", "sqlite3", "apsw"]


class Step(NamedTuple):
    """One frame: how many of the package's frames it stands under, its module, its function."""

    depth: int
    module: str
    function: str


Way = tuple[Step, ...]


class Kind(NamedTuple):
    """A kind of event, and the most frames and modules on its way, if that is bounded."""

    name: str
    make: Callable[[], Any]
    is_signal: bool = False
    is_journaled: bool = False
    most: tuple[int, int] | None = None


def tick() -> MarketDataEvent:
    return MarketDataEvent(symbol="ES", price=5000.25, volume=1.0)


def signal() -> SignalEvent:
    return SignalEvent(
        source_agent=_AGENT,
        strategy_name=_AGENT,
        symbol="ES",
        direction=SignalDirection.LONG,
        strength=0.5,
        confidence=0.5,
    )


def order() -> OrderEvent:
    return OrderEvent(order_id="1", symbol="ES", side=OrderSide.BUY, quantity=1.0)


def fill() -> FillEvent:
    return FillEvent(order_id="1", symbol="ES", side=OrderSide.BUY, filled_quantity=1.0, fill_price=5000.25)


KINDS = (
    Kind("tick in memory", tick),
    Kind("signal in memory", signal, is_signal=True),
    Kind("order, journaled", order, is_journaled=True, most=ORDER_MOST),
    Kind("fill at disk", fill, is_journaled=True, most=FILL_MOST),
    Kind("signal, journaled", signal, is_signal=True, is_journaled=True, most=SIGNAL_MOST),
)


class Tracer:
    """Records the package's frames between `begin` and `end`."""

    def __init__(self) -> None:
        self._prefix = f"{PACKAGE}/"
        self._aside = f"{PACKAGE}/runtime/health/"
        self._steps: list[Step] = []

    def begin(self) -> None:
        self._steps = []
        sys.setprofile(self._note)

    def end(self) -> Way:
        """Return the frames since `begin`."""
        sys.setprofile(None)
        return tuple(self._steps)

    def _note(self, frame: FrameType, what: str, _argument: object) -> None:
        if what == "call" and self._is_inside(frame):
            path = frame.f_code.co_filename.removeprefix(self._prefix).removesuffix(".py")
            self._steps.append(Step(self._depth(frame), path.replace("/", "."), frame.f_code.co_qualname))

    def _is_inside(self, frame: FrameType) -> bool:
        path = frame.f_code.co_filename
        return path.startswith(self._prefix) and not path.startswith(self._aside)

    def _depth(self, frame: FrameType) -> int:
        depth, above = 0, frame.f_back
        while above is not None:
            depth += self._is_inside(above)
            above = above.f_back
        return depth


async def trace(kind: Kind, folder: Path, engine: Engine = "auto") -> Way:
    """Return the shortest way of an event of this kind on a warm bus, whose journal uses this engine."""
    bus = EventBus(**_settings(kind, folder, engine))
    bus.register_signal_agent(_AGENT)
    tracer = Tracer()
    handled: asyncio.Future[Way]

    async def handler(_event: Any) -> None:
        way = tracer.end()
        handled.set_result(way)

    bus.subscribe(kind.make().event_type, handler, name="subscriber")
    await bus.start()
    publish = bus.publish_signal if kind.is_signal else bus.publish
    ways: list[Way] = []
    for number in range(WARM_UP_COUNT + TRACED_COUNT):
        event = kind.make()
        handled = asyncio.get_running_loop().create_future()
        if kind.is_signal:
            bus.open_round()
        tracer.begin()
        await publish(event)
        way = await handled
        await bus.join()
        if kind.is_signal:
            await bus.wait_for_signals()
        if number >= WARM_UP_COUNT:
            ways.append(way)
    await bus.stop()
    return min(ways, key=len)


def _settings(kind: Kind, folder: Path, engine: Engine) -> dict[str, Any]:
    if not kind.is_journaled:
        return {}
    path = folder / "journal.db"
    return {"persistence_config": PersistenceConfig(path=path, engine=engine, sync="inline", socket=False)}


def size(way: Way) -> tuple[int, int]:
    """Return how many frames a way has, and in how many modules they stand."""
    return len(way), len({step.module for step in way})


def describe(kind: Kind, way: Way) -> str:
    """Return one line: the frames and modules of the way, and how many there may be."""
    frames_count, modules_count = size(way)
    most = "-" if kind.most is None else f"{kind.most[0]} in {kind.most[1]}"
    return f"{kind.name:<20}{frames_count:>8}{modules_count:>9}    {most}"


def show(way: Way) -> str:
    """Return the way as an indented list of `module.function`."""
    return "\n".join(f"    {'  ' * step.depth}{step.module}.{step.function}" for step in way)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--show",
        nargs="?",
        const="",
        metavar="KIND",
        help="print the way itself: of every kind, or of those whose names begin with KIND",
    )
    shown = parser.parse_args(arguments).show
    print(f"openoutcry in {PACKAGE}\n")
    print(f"{'':<20}{'frames':>8}{'modules':>9}    at most")
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as name:
            way = asyncio.run(trace(kind, Path(name)))
        print(describe(kind, way))
        if shown is not None and kind.name.startswith(shown):
            print(show(way))


if __name__ == "__main__":
    main()
