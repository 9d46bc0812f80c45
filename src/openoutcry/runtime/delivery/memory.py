"""The memory of an agent: how it is rebuilt, and whether a subscription has it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from inspect import isasyncgen, isawaitable, isgenerator
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, get_args
from weakref import WeakMethod

from openoutcry.config import check_number
from openoutcry.errors import RestoreFailed, SubscriptionError
from openoutcry.runtime.delivery.handlers import (
    is_coroutine_handler,
    is_generator_handler,
    qualified_name,
    signature_of,
    unwrapped,
)
from openoutcry.runtime.ownership import resolve

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    State = TypeVar("State", default=Any)
else:
    from typing import TypeVar

    State = TypeVar("State")

OnMissing = Literal["raise", "warn"]


@dataclass(frozen=True, slots=True)
class Memory(Generic[State]):
    """How an agent gets its state back: what it was saved as, and what it has handled since.

    `load` is handed the newest saved state, if there is one, and `fold` then every event that the
    subscription's name has handled since, in the order of the journal. Both happen before it handles anything
    and must have no effects: publishing in them raises. An agent whose state is small and whose history is
    short needs only `fold`; retention then keeps everything that it has handled. With `save` and `load` a
    restart takes as long as folding up to `every` events, and retention may forget what is in the state.

    Attributes:
        fold: A plain function of one event, which changes the state as handling that event did. None for an
            agent that is content with its newest saved state.
        save: A plain function that returns the state: bytes, or what JSON gives back as it was (None, bools,
            numbers, text, lists, dicts with text as keys). It is called between two events, when the
            subscription has nothing in flight and no retry waiting, and once more at the stop.
        load: A plain function that takes over what `save` returned. A type checker refuses one that takes
            something else.
        every: Save after so many journaled events. What is saved is written in the commit that saves how far
            the subscription has come, so that the two never disagree.
        on_missing: What to do if something that it has handled cannot be folded, because it was retired from
            the journal, lost, or cannot be read: `raise` (the subscription handles nothing, and the bus is
            UNHEALTHY), or `warn` and begin without it, which is the operator's explicit word. Where even
            the beginning of its memory is damaged, it begins with nothing, and remembers what comes.

    Raises:
        SubscriptionError: These do not make a memory.
        ConfigError: `every` is out of range.

    """

    fold: Callable[[Any], object] | None = None
    save: Callable[[], State] | None = None
    load: Callable[[State], object] | None = None
    every: int = 1_000
    on_missing: OnMissing = "raise"

    def __post_init__(self) -> None:
        """Check everything."""
        if (self.save is None) != (self.load is None):
            have, lack = ("save", "load") if self.load is None else ("load", "save")
            raise SubscriptionError(f"a memory with {have} and without {lack}: give both, or only fold")
        if self.fold is None and self.save is None:
            raise SubscriptionError("a memory without anything: give it fold, or save and load, or all three")
        for name, argument in (("fold", "an event"), ("save", ""), ("load", "a state")):
            _check_function(name, getattr(self, name), argument)
        check_number("every", self.every, 1, whole=True)
        if self.on_missing not in get_args(OnMissing):
            raise SubscriptionError(
                f"on_missing is {self.on_missing!r}; it must be 'raise' or 'warn'",
            )

    def held_weakly(self, owner: object) -> "Memory[State]":
        """Return the same memory, which does not keep `owner` alive where these are its methods."""
        functions: dict[str, Any] = {
            name: _WeakFunction(function)
            for name in ("fold", "save", "load")
            if getattr(function := getattr(self, name), "__self__", None) is owner
        }
        return replace(self, **functions)


class _WeakFunction:
    """A method that does not keep its object alive, and does nothing once that is gone."""

    def __init__(self, method: Any) -> None:
        self._method = WeakMethod(method)

    def __call__(self, *arguments: Any) -> Any:
        method = self._method()
        return None if method is None else method(*arguments)

    def __eq__(self, other: object) -> bool:
        return self._method() == (other._method() if isinstance(other, _WeakFunction) else other)

    def __hash__(self) -> int:
        return hash(self._method)


def _check_function(name: str, function: Any, argument: str) -> None:
    """Raise unless it is a plain function of this argument, none if empty; or has no signature to tell."""
    if function is None:
        return
    is_plain = callable(function) and not isinstance(unwrapped(function), type)
    if not is_plain or is_coroutine_handler(function) or is_generator_handler(function):
        raise SubscriptionError(
            f"{name} is {function!r}; it must be a plain function, which awaits and yields nothing"
            + (" and builds state of one event" if name == "fold" else "")
        )
    signature = signature_of(function, follows=False)
    try:
        if signature is not None:
            signature.bind(*([object()] if argument else []))
    except TypeError as error:
        raise SubscriptionError(
            f"{name} is {qualified_name(function)}{signature}, and is called with {argument or 'nothing'} "
            f"({error}); give a function of that, or the method of an instance"
        ) from None


def check_has_run(name: str, result: object) -> None:
    """Raise if a function of a memory has not run: what it returned has to be awaited or iterated over."""
    if result is None or not (isawaitable(result) or isgenerator(result) or isasyncgen(result)):
        return
    getattr(result, "close", bool)()  # or Python would warn that it was never awaited
    raise TypeError(
        f"{name} returned a {type(result).__name__}, so nothing of it has run; it must be a plain function"
    )


class Readiness:
    """Whether a subscription has its memory.

    Attributes:
        is_over: Whether it has, or will not get it.
        error: Why it will not get it.

    """

    __slots__ = ("_waiters", "error", "is_over")

    def __init__(self) -> None:
        self.is_over: bool = True
        self.error: RestoreFailed | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def begin(self) -> None:
        """It does not have it yet."""
        self.is_over, self.error = False, None

    def end(self, error: RestoreFailed | None = None) -> None:
        """It has it or, because of an error, will not get it."""
        self.is_over, self.error = True, error
        self._wake(None)

    def put_off(self, error: Exception) -> None:
        """Whoever waits is told that this was not decided; it may be later."""
        self._wake(error)

    def _wake(self, error: Exception | None) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            resolve(waiter, error=error)

    async def wait(self) -> None:
        """Wait until it is over. Raises why the subscription will not get its memory."""
        if not self.is_over:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        if self.error is not None:
            raise RestoreFailed(str(self.error)) from self.error.__cause__


class Recollection(Protocol):
    """What is kept of a subscription's memory beside its offsets."""

    @property
    def save_error(self) -> str:
        """Why its state could not be saved the last time; empty if it could."""
        ...

    def settled(self, count: int) -> None:
        """So many events that are in the journal were settled. Nothing of the subscription is in a call."""
        ...

    def placed(self) -> None:
        """An event that was handled has a place in the journal now: the saved state has it already."""
        ...

    def may_move(self) -> bool:
        """Return True if the subscription's cursors may be saved: the saved state is not older than that."""
        ...
