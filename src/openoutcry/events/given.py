"""Fields that take more than they give back, as type checkers are told of them.

A side may be given as `"buy"`, and reads as `OrderSide.BUY`; a timestamp may be given as text, and reads as a
datetime. The constructor settles that at run time. To type checkers such a field is a descriptor: what its
`__set__` takes is what the constructor takes, what its `__get__` returns is what the field reads as.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, dataclass_transform, overload

import msgspec

from openoutcry.events.types import EventType

Read_co = TypeVar("Read_co", covariant=True)
Taken_contra = TypeVar("Taken_contra", contravariant=True)

if TYPE_CHECKING:

    class Given(Generic[Read_co, Taken_contra]):
        """A field that reads as `Read_co` and is given as `Taken_contra`. Assigned, it has a default."""

        @overload
        def __get__(self, event: None, owner: Any = None) -> Self: ...
        @overload
        def __get__(self, event: object, owner: Any = None) -> Read_co: ...
        def __get__(self, event: object | None, owner: Any = None) -> Read_co | Self: ...
        def __set__(self, event: object, value: Taken_contra) -> None: ...

    Moment = Given[datetime, datetime | int | str]
    FixedType = str
    """The type that all events of a class have. A subclass may have another one."""
    Names = Given[frozenset[str], Iterable[str]]
    Texts = Given[tuple[str, ...], list[str] | tuple[str, ...]]

    # The classes are frozen. pyright is told: to it the name is true. mypy demands a literal and goes on with
    # False, and must: in subclasses of a frozen class it would read a field as what the constructor takes.
    @dataclass_transform(frozen_default=TYPE_CHECKING, field_specifiers=(msgspec.field,))  # type: ignore[literal-required]
    class Frozen(msgspec.Struct):
        """The base of what is frozen."""

else:
    Moment = Any
    FixedType = EventType
    Names = frozenset[str]
    Texts = tuple[str, ...]

    class Frozen(msgspec.Struct, frozen=True):
        """The base of what is frozen."""
