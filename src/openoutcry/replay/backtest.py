"""A backtest: the app and its agents over tables of bars or ticks, on virtual time, at full speed.

```
  tables ──▶ Feed ──▶ the bus, each row at its instant ──▶ the app's agents ◀──▶ the venue
                       └──▶ the journal, as on any other day
```

It is a replay without a record: the same bus, loop and process, only that what happens is up to the agents.
Time moves when nobody has anything left to do at an instant, so an agent that takes two seconds has taken two
seconds of the market's time, and none of the reader's.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any, Final

import msgspec

from openoutcry.clocks import VirtualClock
from openoutcry.config import PersistenceConfig, load_config
from openoutcry.core.retries import DeadLetter
from openoutcry.errors import ConfigError
from openoutcry.events import RunStarted, event_type_of, stamps
from openoutcry.journals import SqliteJournal
from openoutcry.ports import Journal
from openoutcry.replay.apart import app_name, run_apart
from openoutcry.replay.bus import kept_settings
from openoutcry.replay.comparing import Hashes, hashes_of
from openoutcry.replay.day import made_in, manifest_of
from openoutcry.replay.engine import SEED, Switch, switched_on
from openoutcry.replay.feed import Contents, Feed
from openoutcry.replay.keeping import delete, must_be_new
from openoutcry.replay.stepped import SteppedLoop
from openoutcry.replay.tables import Rules
from openoutcry.replay.venue import VenueBus, set_up_both
from openoutcry.runtime.durability.recorder import running_app, running_broker
from openoutcry.units import NS_PER_S, NS_PER_US

AFTERWARDS_S: Final = 86_400.0
"""So long in virtual time agents may go on when the data are over."""
NEVER_S: Final = 1e9
"""Nobody goes on where a backtest was killed, so how far agents have come is saved at its end."""


class Buried(msgspec.Struct, frozen=True, kw_only=True):
    """An event that an agent could not handle."""

    agent: str
    """The subscription."""
    event_id: str
    """The event."""
    event_type: str
    """Its type."""
    why: str
    """The error, or the reason."""


class Backtested(msgspec.Struct, frozen=True, kw_only=True):
    """How a backtest has ended."""

    tables: tuple[str, ...]
    """The files."""
    app: str
    """What was run, as `module:app`."""
    broker: str
    """The venue; empty for none."""
    journal: str | None
    """The journal that was written; None if none was asked for."""
    data: Contents
    """What was in the tables."""
    published: Hashes
    """The hashes of what agents and the venue have published, as a replay of the journal has them."""
    counts: dict[str, int]
    """How many events they have published, by type."""
    ended_wall_ns: int
    """The time when all was handled, in nanoseconds since 1970 UTC."""
    refused_count: int
    """How many rows the bus has refused, since it was full: agents were too slow for the data."""
    left_count: int
    """How many deliveries were left a day after the data were over."""
    buried: tuple[Buried, ...]
    """What agents could not handle; none in a sound backtest."""

    @property
    def is_sound(self) -> bool:
        """Whether every row reached the agents, and they have handled all that they were handed."""
        return not (self.refused_count or self.left_count or self.buried)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return {**plain, "sound": self.is_sound}


class BacktestRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the process of a backtest is asked for."""

    tables: list[str]
    app: str | None
    broker: str | None
    into: str | None
    like: str | None
    config: str | None
    rules: Rules


def backtest(
    tables: str | Path | Sequence[str | Path],
    app: Any = None,
    *,
    broker: Any = None,
    into: str | Path | None = None,
    like: str | Path | None = None,
    config: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    constants: Mapping[str, str] | None = None,
    zone: str | None = None,
    unit: str | None = None,
    known_after_s: float | None = None,
    repeats: bool = False,
) -> Backtested:
    """Run an app over tables of bars or ticks, as fast as its agents think.

    Each row is a `MarketDataEvent` that is published at its instant, on a virtual clock; rows of several
    tables come in the order of their times. The main program of the app is not run. It takes a process of its
    own, in which nothing goes out: no connection, no process, no file written. The same call gives the same
    result, hashes included.

    Args:
        tables: A CSV or Parquet file, or several.
        app: What `openoutcry run` takes: `module:app`, or a function or class that can be imported under its
            name. It must be given its bus. By default that of `like`.
        broker: A venue, likewise: it fills orders. What the app subscribes under a name of the venue's is
            left out. By default that of `like`.
        into: A journal to write; it must not exist. By default none is kept.
        like: A journal whose settings, seed and origin the bus has: where agents do the same as on that day,
            all they publish has the same ids, and the hashes are equal.
        config: A TOML file with settings for the bus.
        columns: Which column is which field, where its name does not say it; "" leaves a column out.
        constants: Fields that are the same in every row: `symbol`, `interval`, `source_agent`.
        zone: The time zone of times that have none.
        unit: The unit of times that are counts: `s`, `ms`, `us` or `ns`.
        known_after_s: So many seconds after its time a row is known.
        repeats: Take ticks that are equal, time included.

    Raises:
        ConfigError: A setting is wrong, a file is no table, the app is none, or makes its own bus.
        InvalidRow: A row cannot be an event. Nothing was run.
        ReplayError: The app raised, or the process died.
        JournalError: The journal cannot be written.

    """
    given = [tables] if isinstance(tables, str | Path) else list(tables)
    rules = Rules(
        columns=dict(columns or {}),
        constants=dict(constants or {}),
        zone=zone,
        unit=unit,
        known_after_ns=None if known_after_s is None else round(known_after_s * NS_PER_S),
        repeats=repeats,
    )
    request = BacktestRequest(
        tables=[str(path) for path in given],
        app=None if app is None else app_name(app),
        broker=None if broker is None else app_name(broker),
        into=_text(into),
        like=_text(like),
        config=_text(config),
        rules=rules,
    )
    return run_apart("openoutcry.replay.backtest_child", request, Backtested)


def _text(path: str | Path | None) -> str | None:
    return None if path is None else str(path)


class Cast(msgspec.Struct, frozen=True, kw_only=True):
    """Who takes part in a backtest, as imported.

    Attributes:
        app: The app.
        target: Its name, as `module:app`.
        broker: The venue; None for none.
        broker_target: Its name.
        like: How the bus of the day was started that this one is to be like.
        settings: Arguments of the bus.

    """

    app: Any
    target: str
    broker: Any = None
    broker_target: str = ""
    like: RunStarted | None = None
    settings: Mapping[str, Any] = {}


def manifest_like(path: Path) -> RunStarted:
    """Return how the bus of a journal was started. Raises `ConfigError` where it does not say so."""
    found = manifest_of(path)
    if found is None:
        raise ConfigError(
            f"--like {path}: it does not say how its bus was started: it was written with record='off', or "
            "by a version before this one; leave --like out"
        )
    return found


def settings_in(path: Path) -> Mapping[str, Any]:
    """Return the arguments of a bus with the settings in a file; those of its journal do not count here."""
    arguments = dict(load_config(path).arguments())
    for name in ("persistence_config", "enable_persistence", "link", "control"):
        arguments.pop(name, None)
    return arguments


def backtest_here(
    feed: Feed,
    tables: list[str],
    cast: Cast,
    path: Path,
    *,
    keeps: bool = True,
    denial: Switch | None = None,
    own_time: Callable[[VirtualClock], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> Backtested:
    """Run a backtest in this process, into a new journal at `path`. It takes the loop of the thread.

    It seeds `random`. `denial` is switched on while it runs; `own_time` has the `time` module read the clock.
    Where it fails, the journal is deleted.
    """
    data = feed.look()
    must_be_new(path)
    try:
        ended = _run_into(path, feed, data, cast, denial, own_time)
        published, counts = _published(path)
    except BaseException:
        delete(path)
        raise
    return Backtested(
        tables=tuple(tables),
        app=cast.target,
        broker=cast.broker_target,
        journal=str(path) if keeps else None,
        data=data,
        published=published,
        counts=counts,
        **ended,
    )


def _run_into(
    path: Path,
    feed: Feed,
    data: Contents,
    cast: Cast,
    denial: Switch | None,
    own_time: Callable[[VirtualClock], AbstractContextManager[None]],
) -> dict[str, Any]:
    origin = data.digest if cast.like is None else cast.like.origin
    with stamps(ids=lambda: origin):  # what a new journal is named by: the same data, the same ids
        file = SqliteJournal(path)
    with closing(file):
        random.seed(SEED)
        loop = SteppedLoop(VirtualClock(data.first_ns), limit_s=None)
        clock = loop.clock
        with asyncio.Runner(loop_factory=lambda: loop) as runner, stamps(time_ns=clock.wall_ns):  # noqa: SIM117
            with own_time(clock), switched_on(denial):
                return runner.run(_Backtest(feed, data, cast, file, loop).run())


class PlainJournal:
    """A journal file without what a bus does beside it, in threads: it makes its checkpoints itself."""

    def __init__(self, file: SqliteJournal) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        if name not in _JOURNAL:
            raise AttributeError(name)
        return getattr(self._file, name)


_JOURNAL: Final = frozenset(name for name in dir(Journal) if not name.startswith("_"))


class _Backtest:
    """One run."""

    def __init__(
        self, feed: Feed, data: Contents, cast: Cast, file: SqliteJournal, loop: SteppedLoop
    ) -> None:
        self._feed = feed
        self._first_ns = data.first_ns
        self._cast = cast
        self._path = file.path
        self._journal = PlainJournal(file)
        self._loop = loop
        self._buried: list[Buried] = []
        self._refused_count = 0

    async def run(self) -> dict[str, Any]:
        """Run it, and return what there is to say."""
        cast = self._cast
        running_app.set(cast.target)
        running_broker.set(cast.broker_target)
        bus = VenueBus(**self._arguments())
        bus.on_dead_letter(self._note)
        async with set_up_both(bus, cast.app, cast.target, cast.broker, cast.broker_target):
            await bus.start()
            try:
                await self._publish(bus)
                left_count = await self._wind_up(bus)
                ended_wall_ns = self._loop.clock.wall_ns()
            finally:
                await bus.stop(timeout_s=0)
        return {
            "ended_wall_ns": ended_wall_ns,
            "refused_count": self._refused_count,
            "left_count": left_count,
            "buried": tuple(self._buried),
        }

    def _arguments(self) -> dict[str, Any]:
        like = self._cast.like
        kept = {} if like is None else kept_settings(like.settings)
        return {
            "seed": SEED if like is None else like.seed,
            **kept,
            **self._cast.settings,
            "journal": self._journal,
            "persistence_config": PersistenceConfig(
                path=self._path,
                high_priority_level="process",  # it can be run again: nothing waits for the disk
                sync="inline",
                cursor_save_s=NEVER_S,
                socket=False,
                record="replay",
            ),
        }

    def _note(self, letter: DeadLetter) -> None:
        self._buried.append(
            Buried(
                agent=letter.subscription,
                event_id=str(getattr(letter.event, "event_id", "")),
                event_type=letter.event_type,
                why=letter.error or letter.reason,
            )
        )

    async def _publish(self, bus: VenueBus) -> None:
        """Publish each row at its instant. All that follows from one at once has happened before the next."""
        settle = self._loop.settle
        for at_ns, events in self._feed.instants():
            await self._until(at_ns - self._first_ns)
            for event in events:
                if not await bus.publish(event):
                    self._refused_count += 1
                await settle()

    async def _until(self, now_ns: int) -> None:
        # Seconds in a float are too coarse, after some years: the last microsecond is the clock's own.
        left_ns = now_ns - self._loop.clock.now_ns() - NS_PER_US
        if left_ns > 0:
            await asyncio.sleep(left_ns / NS_PER_S)
        self._loop.clock.advance_to(now_ns)

    async def _wind_up(self, bus: VenueBus) -> int:
        """Wait until all is handled, a day at most. Return how many deliveries are left."""
        try:
            async with asyncio.timeout(AFTERWARDS_S):
                await bus.join()
        except TimeoutError:
            return sum(row.waiting + row.in_flight for row in bus.ledger().rows)
        return 0


def _published(path: Path) -> tuple[Hashes, dict[str, int]]:
    """Return what agents have published: its hashes, and how many events there are of each type."""
    counts: Counter[str] = Counter()

    def counted() -> Iterator[Any]:
        for event in made_in(path):
            counts[str(event_type_of(event))] += 1
            yield event

    found = hashes_of(counted())
    return found, dict(sorted(counts.items()))
