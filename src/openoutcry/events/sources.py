"""Where fresh event ids and creation times come from, and how a test or a backtest replaces them."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from threading import Lock
from typing import Final, TypeVar

_T = TypeVar("_T")
_SUFFIXES: Final = tuple(f"{number:02x}" for number in range(255, -1, -1))


class _IdPool:
    """Ids made 256 at a time: a pop from a list costs half as much as formatting a counter per event.

    An id is 64 random bits of the process, then a counter, both in hex; each is greater than the one before.
    `list.pop` and `next(count)` are atomic, so threads never get the same id; if two threads refill at once,
    each adds a block of its own.
    """

    def __init__(self) -> None:
        self.ready: list[str] = []
        self.renew()

    def renew(self) -> None:
        """Forget what a forked parent had prepared, and start with a prefix of this process's own."""
        self.ready.clear()
        self._prefix = os.urandom(8).hex()
        self._blocks = count()

    def refill(self) -> str:
        """Prepare a block and return its first id."""
        stem = f"{self._prefix}-{next(self._blocks):08x}"
        block = [stem + suffix for suffix in _SUFFIXES]
        first = block.pop()
        self.ready.extend(block)
        return first


_pool: Final = _IdPool()
_pop: Final = _pool.ready.pop
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.renew)


class _Sources:
    """What `new_event_id` and `new_timestamp_ns` call: `take_id` and `now_ns`.

    As long as nothing is installed these are the fresh sources themselves, so that the option costs nothing.
    """

    __slots__ = ("derivers", "fresh_id", "fresh_ns", "now_ns", "take_id", "watches")

    def __init__(self) -> None:
        self.fresh_id: Callable[[], str] = _pop
        self.fresh_ns: Callable[[], int] = time.time_ns
        self.derivers: list[Callable[[], str | None]] = []
        self.watches: list[list[None]] = []
        self.connect()

    def connect(self) -> None:
        """Put the sources together again after one of the parts has changed."""
        self.take_id: Callable[[], str] = self.fresh_id
        self.now_ns: Callable[[], int] = self.fresh_ns
        if self.derivers:
            self.take_id = _derived(tuple(dict.fromkeys(self.derivers)), self.fresh_id)
        if self.watches:
            watches = tuple(self.watches)
            self.take_id, self.now_ns = _seen(watches, self.take_id), _seen(watches, self.now_ns)


def _derived(derivers: tuple[Callable[[], str | None], ...], fresh: Callable[[], str]) -> Callable[[], str]:
    def take_id() -> str:
        for derive in derivers:
            found = derive()
            if found is not None:
                return found
        return fresh()

    return take_id


def _seen(watches: tuple[list[None], ...], source: Callable[[], _T]) -> Callable[[], _T]:
    def take() -> _T:
        for watch in watches:
            watch.append(None)
        return source()

    return take


_sources: Final = _Sources()
_changing: Final = Lock()


def _forget_derivers() -> None:
    """In a forked child the parent's buses are not its own, and no event is one of their handlers'."""
    _sources.derivers.clear()
    _sources.connect()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_derivers)


def new_event_id() -> str:
    """Return an id that no other event has: unique across processes, forks and threads.

    Inside a handler of a bus that derives ids, it is the id that handling the same event again would get.
    """
    try:
        return _sources.take_id()
    except IndexError:
        if _sources.fresh_id is not _pop:
            raise
        return _pool.refill()


def new_timestamp_ns() -> int:
    """Return the time of creation, in nanoseconds since 1970 UTC. It is a label, not for measuring."""
    return _sources.now_ns()


def source_ns() -> int:
    """Return the time that the source of timestamps reads now, without making a timestamp."""
    return _sources.fresh_ns()


def new_name() -> str:
    """Return a fresh unique name that is not an event id: never derived, not even in a handler."""
    try:
        return _sources.fresh_id()
    except IndexError:
        return _pool.refill()


def install_deriver(derive: Callable[[], str | None]) -> Callable[[], None]:
    """Ask `derive` first for every new event id, from any thread; if it returns None, a fresh one is made.

    It must not raise, and must be quick. Several may be installed (by several buses); they are asked in turn
    until one answers. One that is installed twice is asked once, and stays until both are uninstalled.
    Returns a function that uninstalls it; calling that again does nothing.
    """
    with _changing:
        _sources.derivers.append(derive)
        _sources.connect()
    ours = [derive]

    def uninstall() -> None:
        with _changing:
            if ours and ours.pop() in _sources.derivers:  # else a fork has come in between
                _sources.derivers.remove(derive)
                _sources.connect()

    return uninstall


@contextmanager
def stamps(
    ids: Callable[[], str] | str | None = None, time_ns: Callable[[], int] | None = None
) -> Iterator[None]:
    """Replace the sources of ids and timestamps for a block, so that the same run makes the same events.

    `ids` is called for each new id; a string stands for `"<string>-1"`, `"<string>-2"` and so on. `time_ns`
    is called for each timestamp, in nanoseconds since 1970 UTC (`clock.wall_ns`). None leaves a source
    alone. Blocks nest. They apply to the whole process, not to one task: open them where the run starts.

    Where a bus derives the ids of what handlers publish, they stay derived, whichever was installed first:
    they follow from the ids of their causes, so the same run still makes the same events, and a restart in
    the middle publishes nothing twice.
    """
    if isinstance(ids, str):
        ids = map(f"{ids.replace('%', '%%')}-%d".__mod__, count(1)).__next__
    with _changing:
        before = _sources.fresh_id, _sources.fresh_ns
        if ids is not None:
            _sources.fresh_id = ids
        if time_ns is not None:
            _sources.fresh_ns = time_ns
        _sources.connect()
    try:
        yield
    finally:
        with _changing:
            _sources.fresh_id, _sources.fresh_ns = before
            _sources.connect()


@contextmanager
def watch() -> Iterator[list[None]]:
    """Yield a list that grows with every id and timestamp that is made in the block.

    If it is empty, nothing that was decoded in the block lacked an id or a timestamp. It also grows with what
    other threads make, so if it is not empty, look closer.
    """
    made: list[None] = []
    with _changing:
        _sources.watches.append(made)
        _sources.connect()
    try:
        yield made
    finally:
        with _changing:
            _sources.watches = [other for other in _sources.watches if other is not made]
            _sources.connect()
