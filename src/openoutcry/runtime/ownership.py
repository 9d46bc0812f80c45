"""Ownership: which event loop, thread and process something belongs to, and whether a call may be made here.

```
  made ──▶ anybody's, one after the other ──claim──▶ one loop's ──release──▶ anybody's again
                                                        └─ the loop is closed: stranded, until it is released
  forked ──▶ what was in use stays the parent's; the child has a copy that nothing may be done with
```

`check` is asked at every public call. The hot path of admission has no time for it: it compares
`get_ident()` with `_thread_id` of the loop, which an asyncio loop keeps only while it runs, and of `NOWHERE`
where nothing may pass.
"""

import asyncio
import os
import weakref
from asyncio import AbstractEventLoop
from asyncio.events import _get_running_loop
from collections.abc import Callable
from threading import Lock, get_ident
from typing import Any, Final, NoReturn

from openoutcry.errors import ForkedBus, LoopClosed, WrongLoop, WrongThread

running_loop: Final = _get_running_loop
"""The loop that runs in this thread; None if none does."""
_known: Final["weakref.WeakSet[Ownership]"] = weakref.WeakSet()


class _Nowhere:
    """Where no thread is."""

    __slots__ = ()
    _thread_id = None


class _Place:
    """Stands in for a loop that does not tell in which thread it runs, as one in C does not."""

    __slots__ = ("_loop", "_thread")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = get_ident()

    @property
    def _thread_id(self) -> int | None:
        return self._thread if self._loop.is_running() else None


NOWHERE: Final = _Nowhere()


def place_of(loop: AbstractEventLoop) -> Any:
    """Return what has the current thread as its `_thread_id`, but only while the loop runs."""
    return loop if hasattr(loop, "_thread_id") else _Place(loop)


class Ownership:
    """Which loop, thread and process a bus (or what `what` says) belongs to.

    Attributes:
        loop: The loop that it belongs to; None while it is anybody's.

    """

    def __init__(self, what: str = "bus") -> None:
        self._what = what
        self.loop: AbstractEventLoop | None = None
        self._thread = 0
        self._lock = Lock()
        self._is_forked = False
        self._in_use: Callable[[], bool] = bool  # which is False
        self._on_forked: Callable[[bool], None] = _nothing
        _known.add(self)

    def watch(self, in_use: Callable[[], bool], on_forked: Callable[[bool], None]) -> None:
        """In a forked child, ask `in_use` whether the copy holds anything of the parent's besides a loop.

        If so, or if it has a loop, every call raises `ForkedBus` there. `on_forked` is told which it is.
        """
        self._in_use, self._on_forked = in_use, on_forked

    # -- asking -------------------------------------------------------------------------------------

    def check(self, call: str) -> None:
        """Raise unless a call may be made here: anywhere before it has a loop, and then on that loop.

        Code of the loop's thread may call while the loop does not run.

        Raises:
            ForkedBus: This is a child that was forked when it was in use.
            LoopClosed: Its loop was closed.
            WrongThread: Its loop is another thread's.
            WrongLoop: Another loop runs here.

        """
        loop = self.loop
        here = running_loop()
        if here is loop and loop is not None:
            return
        self.check_process(call)
        if loop is None:
            return
        if loop.is_closed():
            raise LoopClosed(
                f"{call}: the loop on which this {self._what} was started is closed; {self._remedy_if_closed}"
            )
        if get_ident() != self._thread:
            self._refuse_thread(call)
        if here is not None:
            self._refuse_loop(call)

    def check_process(self, call: str) -> None:
        """Raise `ForkedBus` in a child that was forked when it was in use: all that a harmless look needs."""
        if self._is_forked:
            raise ForkedBus(
                f"{call}: this is a child that was forked while the {self._what} was in use, which is its "
                "parent's; make one in the child, or fork before anything is published or opened"
            )

    @property
    def is_forked(self) -> bool:
        """Whether this is a copy in a child, of what is the parent's."""
        return self._is_forked

    @property
    def is_stranded(self) -> bool:
        """Whether its loop was closed before it was released."""
        return self.loop is not None and self.loop.is_closed()

    @property
    def _remedy_if_closed(self) -> str:
        return "call stop() or start() on a new one" if self._what == "bus" else "make a new one"

    def _refuse_thread(self, call: str) -> NoReturn:
        if self._what == "bus":
            raise WrongThread(
                f"{call} was called from a thread that does not own this bus; use publish_threadsafe there, "
                "or loop.call_soon_threadsafe for anything else"
            )
        raise WrongThread(
            f"{call} was called from a thread that does not own this {self._what}; "
            "use loop.call_soon_threadsafe there"
        )

    def _refuse_loop(self, call: str) -> NoReturn:
        raise WrongLoop(
            f"{call} was called on another event loop than the one that this {self._what} belongs to; "
            "call it there"
            + (", or stop the bus there before starting it here" if self._what == "bus" else "")
        )

    # -- having -------------------------------------------------------------------------------------

    def claim(self, loop: AbstractEventLoop, call: str) -> None:
        """Belong to this loop, which runs in this thread, from now on. Raises as `check` does."""
        with self._lock:
            self.check(call)
            self.loop, self._thread = loop, get_ident()

    def release(self) -> None:
        """Be anybody's again."""
        self.loop = None

    def forked(self) -> None:
        """Note that this process is a child that was forked a moment ago."""
        self._lock = Lock()
        self._is_forked = self._is_forked or self.loop is not None or self._in_use()
        if self._is_forked:
            self.loop = None
        self._on_forked(self._is_forked)


def _nothing(_is_parents: bool) -> None:
    """Do nothing."""


def _forked() -> None:
    for ownership in list(_known):
        ownership.forked()


os.register_at_fork(after_in_child=_forked)


def resolve(future: "asyncio.Future[Any]", result: Any = None, error: BaseException | None = None) -> None:
    """End a future that may be of another loop, as those of before the start; a closed one has no waiters."""
    loop = future.get_loop()
    if loop is running_loop():
        _end(future, result, error)
        return
    try:
        loop.call_soon_threadsafe(_end, future, result, error)
    except RuntimeError:  # it was closed: nobody waits there any more
        return


def _end(future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
