"""Where fresh event ids and creation times come from, and how a test or a backtest replaces them."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from threading import Lock
from typing import Final

_SUFFIXES: Final = tuple(f"{number:02x}" for number in range(255, -1, -1))


class _IdPool:
    """Ids made 256 at a time: a pop from a list costs half of formatting a counter per event.

    An id is 64 random bits of the process, then a counter, both in hex. `list.pop` and `next(count)` are
    atomic, so that threads never get the same id; when two threads refill at once, each adds a block of its
    own.
    """

    def __init__(self) -> None:
        self.ready: list[str] = []
        self.renew()

    def renew(self) -> None:
        """Forget everything a forked parent had prepared, and start under a prefix of this process's own."""
        self.ready.clear()
        self._prefix = os.urandom(8).hex()
        self._blocks = count()

    def refill(self) -> str:
        """Prepare a block and return its first id."""
        stem = f"{self._prefix}-{next(self._blocks):x}"
        block = [stem + suffix for suffix in _SUFFIXES]
        first = block.pop()
        self.ready.extend(block)
        return first


_pool: Final = _IdPool()
_pop: Final = _pool.ready.pop
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.renew)


class _Sources:
    """What `new_event_id` and `new_timestamp_ns` call.

    `take_id` is `fresh` itself as long as no deriver is installed, so that derivers cost nothing then.
    """

    __slots__ = ("derivers", "fresh", "now_ns", "take_id")

    def __init__(self) -> None:
        self.fresh: Callable[[], str] = _pop
        self.derivers: list[Callable[[], str | None]] = []
        self.take_id: Callable[[], str] = _pop
        self.now_ns: Callable[[], int] = time.time_ns

    def connect(self) -> None:
        """Make `take_id` what the derivers and the fresh source make together."""
        derivers, fresh = tuple(dict.fromkeys(self.derivers)), self.fresh

        def take_id() -> str:
            for derive in derivers:
                found = derive()
                if found is not None:
                    return found
            return fresh()

        self.take_id = take_id if derivers else fresh


_sources: Final = _Sources()
_changing: Final = Lock()


def new_event_id() -> str:
    """Return an id that no other event has: unique across processes, forks and threads.

    Inside a handler of a bus that derives ids it is the one that handling the same event again would get.
    """
    try:
        return _sources.take_id()
    except IndexError:
        if _sources.fresh is not _pop:
            raise
        return _pool.refill()


def new_timestamp_ns() -> int:
    """Return the time of creation, in nanoseconds since 1970 UTC. It is a label: nothing measures with it."""
    return _sources.now_ns()


def install_deriver(derive: Callable[[], str | None]) -> Callable[[], None]:
    """Ask `derive` first for every new event id, from any thread; None from it means "take a fresh one".

    It must not raise, and must be quick: events wait for it. Several may be installed (several buses); they
    are asked in turn until one answers. One that is installed twice is asked once, and stays until both are
    gone. Returns what uninstalls it; calling that again does nothing.
    """
    with _changing:
        _sources.derivers.append(derive)
        _sources.connect()
    ours = [derive]

    def uninstall() -> None:
        with _changing:
            if ours:
                _sources.derivers.remove(ours.pop())
                _sources.connect()

    return uninstall


@contextmanager
def stamps(
    ids: Callable[[], str] | str | None = None, time_ns: Callable[[], int] | None = None
) -> Iterator[None]:
    """Replace the sources of ids and timestamps while the block runs: the same run makes the same events.

    `ids` is called for each new id; a string stands for `"<string>-1"`, `"<string>-2"` and so on. `time_ns`
    is called for each timestamp, in nanoseconds since 1970 UTC (`clock.wall_ns`). None leaves a source
    alone. Blocks nest. They hold for the whole process, not for one task: open them where the run starts.

    Where a bus derives the ids of what handlers publish, these stay derived, whichever was there first: they
    follow from the ids of their causes, so that the same run still makes the same events, and a restart in
    its midst publishes nothing twice.
    """
    if isinstance(ids, str):
        ids = map(f"{ids.replace('%', '%%')}-%d".__mod__, count(1)).__next__
    with _changing:
        before = _sources.fresh, _sources.now_ns
        if ids is not None:
            _sources.fresh = ids
        if time_ns is not None:
            _sources.now_ns = time_ns
        _sources.connect()
    try:
        yield
    finally:
        with _changing:
            _sources.fresh, _sources.now_ns = before
            _sources.connect()
