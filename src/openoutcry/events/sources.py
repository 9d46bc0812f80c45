"""Where fresh event ids and creation times come from, and how a test or a backtest replaces them."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
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
    __slots__ = ("now_ns", "take_id")

    def __init__(self) -> None:
        self.take_id: Callable[[], str] = _pop
        self.now_ns: Callable[[], int] = time.time_ns


_sources: Final = _Sources()


def new_event_id() -> str:
    """Return an id that no other event has: unique across processes, forks and threads."""
    try:
        return _sources.take_id()
    except IndexError:
        if _sources.take_id is not _pop:
            raise
        return _pool.refill()


def new_timestamp_ns() -> int:
    """Return the time of creation, in nanoseconds since 1970 UTC. It is a label: nothing measures with it."""
    return _sources.now_ns()


@contextmanager
def stamps(
    ids: Callable[[], str] | str | None = None, time_ns: Callable[[], int] | None = None
) -> Iterator[None]:
    """Replace the sources of ids and timestamps while the block runs: the same run makes the same events.

    `ids` is called for each new id; a string stands for `"<string>-1"`, `"<string>-2"` and so on. `time_ns`
    is called for each timestamp, in nanoseconds since 1970 UTC (`clock.wall_ns`). None leaves a source
    alone. Blocks nest. They hold for the whole process, not for one task: open them where the run starts.
    """
    before = _sources.take_id, _sources.now_ns
    if isinstance(ids, str):
        ids = map(f"{ids.replace('%', '%%')}-%d".__mod__, count(1)).__next__
    if ids is not None:
        _sources.take_id = ids
    if time_ns is not None:
        _sources.now_ns = time_ns
    try:
        yield
    finally:
        _sources.take_id, _sources.now_ns = before
