"""What type checkers are told of event types and of the handlers that take them.

A handler is checked against the classes it is subscribed to: `subscribe(Fill, on_fill)` asks for a function
that can be called with a `Fill`. Several classes are known to a checker from a tuple, each by itself; in a
list, mypy sees what they have in common, so lists and names of types are taken with any handler.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar, overload

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
H = TypeVar("H", bound=Callable[..., object])
Params = ParamSpec("Params")
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)
Event_co = TypeVar("Event_co", covariant=True)
Event_contra = TypeVar("Event_contra", contravariant=True)

To: TypeAlias = Callable[[A], object]
"""A handler of such events, plain or a coroutine function."""
One: TypeAlias = type[A] | tuple[type[A], ...]
"""An event class, or a tuple of what is one class to the checker."""
Two: TypeAlias = tuple[type[A], type[B]]
Three: TypeAlias = tuple[type[A], type[B], type[C]]
Classes: TypeAlias = type[A] | tuple[type[A]] | Two[A, B] | Three[A, B, C]
"""Event classes that are told apart."""
TypeName: TypeAlias = str | Enum
"""A type by its name: a string, or a str-valued Enum member such as one of `EventType`."""
Types: TypeAlias = (
    TypeName
    | list[Any]
    | set[Any]
    | frozenset[Any]
    | tuple[TypeName, ...]
    | tuple[TypeName, Any]
    | tuple[Any, TypeName]
    | tuple[TypeName, Any, Any]
    | tuple[Any, TypeName, Any]
    | tuple[Any, Any, TypeName]
    | tuple[Any, Any, Any, Any, *tuple[Any, ...]]
)
"""Types that say nothing of the handler: names, lists, tuples with a name in them or of more than three."""
AnyTypes: TypeAlias = Types | type | tuple[type, ...]
"""Whatever can be subscribed to."""


class EventHandler(Protocol[Event_contra, Params, Result_co]):  # pyright: ignore[reportInvalidTypeVarUse]
    """A function that can be called with the event, and whatever its own parameters are.

    A function has this type only if it can be called in both ways, so that a checker compares the event with
    its parameter, and knows from the second way what the function itself is.
    """

    @overload
    def __call__(self, event: Event_contra, /) -> Result_co: ...
    @overload
    def __call__(self, *args: Params.args, **kwargs: Params.kwargs) -> Result_co: ...


class Subscribes(Protocol[Event_co]):
    """What `bus.on(...)` returns: a decorator that subscribes a function and returns it as it is.

    The second way is for mypy alone, which does not find the parameters of a callable without their names.
    """

    @overload
    def __call__(  # pyright: ignore[reportOverlappingOverload]
        self, handler: EventHandler[Event_co, Params, Result], /
    ) -> Callable[Params, Result]: ...
    @overload
    def __call__(  # pyright: ignore[reportOverlappingOverload]
        self, handler: Callable[[Event_co], Result], /
    ) -> Callable[[Event_co], Result]: ...
