"""What was published on a bus, as a test sees it: recorded in order, from the first look on."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Any, overload
from weakref import WeakKeyDictionary

import msgspec

from openoutcry import EventBus
from openoutcry.events import EVERYTHING
from openoutcry.runtime.api.typed import A, AnyTypes, B, C, Classes
from openoutcry.runtime.delivery.error_log import safe_repr
from openoutcry.runtime.delivery.subscription import selectors_of, takes

NAME = "openoutcry.testing"
LINE_MOST = 120


@dataclass(frozen=True, slots=True)
class Published:
    """One event that was published.

    Attributes:
        event: The event.
        at_s: When, on the loop's clock. In virtual time, seconds since the test began.

    """

    event: Any
    at_s: float

    def __str__(self) -> str:
        """Return a line for a report: time, type, and the fields that have a value."""
        return f"t={self.at_s:.3f}s  {described(self.event)}"[:LINE_MOST]


def described(event: Any) -> str:
    """Return an event's class and the fields that differ from their defaults, as a test would write it."""
    if isinstance(event, msgspec.Struct):
        own = [(field.name, field.default) for field in msgspec.structs.fields(event)]
    else:
        own = [(name, None) for name in getattr(event, "__dict__", ())]
    given = [(name, getattr(event, name, default), default) for name, default in own if name not in _STAMPS]
    plain = [
        f"{name}={safe_repr(_plain(value))}" for name, value, default in given if _differs(value, default)
    ]
    return f"{type(event).__name__}({', '.join(plain)})"


def _differs(value: Any, default: Any) -> bool:
    try:
        return bool(value != default)
    except Exception:  # noqa: BLE001 - such as an array, which is neither equal nor not
        return True


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


_STAMPS = frozenset(("event_id", "event_type", "timestamp", "correlation_id", "causation_id", "round_id"))


class Recording:
    """Everything that a bus accepted during a test, kill switches included.

    A sequence of events in the order of delivery, urgent ones first: `len(recording)`, `list(recording)`,
    `recording[-1]`. It begins with what the bus's history has at the first look.

    Attributes:
        published: The events with their times.

    """

    def __init__(self, bus: EventBus) -> None:
        history = bus.get_event_history(limit=bus.config.history_size)
        self.published: list[Published] = [Published(event, _now_s()) for event in history]
        self._expected: set[int] = set()
        self._news: list[asyncio.Future[None]] = []
        bus.subscribe(EVERYTHING, self._note, name=NAME, durable=False, retry=False, breaker=False)

    async def _note(self, event: Any) -> None:
        self.published.append(Published(event, _now_s()))
        news, self._news = self._news, []
        for future in news:
            if not future.done():
                future.set_result(None)

    def news(self) -> "asyncio.Future[None]":
        """Return a future that is done when something else has been published."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._news.append(future)
        return future

    @overload
    def of(self, event_type: Classes[A, B, C]) -> list[A | B | C]: ...
    @overload
    def of(self, event_type: AnyTypes) -> list[Any]: ...
    def of(self, event_type: Any) -> list[Any]:
        """Return the events of a type, a class, or a list of these, in order."""
        selectors = selectors_of(event_type)
        return [event for event in self if takes(selectors, event)]

    def clear(self) -> None:
        """Forget what has been published so far."""
        self.published.clear()
        self._expected.clear()

    def claim(self, event_type: Any, matches: Callable[[Any], bool], count: int) -> list[Any]:
        """Return the first matching events that were not claimed before; claim them if there are enough."""
        selectors = selectors_of(event_type)
        places = (
            place
            for place, published in enumerate(self.published)
            if place not in self._expected and takes(selectors, published.event) and matches(published.event)
        )
        found = list(islice(places, count))
        if len(found) == count:
            self._expected.update(found)
        return [self.published[place].event for place in found]

    def __len__(self) -> int:
        return len(self.published)

    def __iter__(self) -> Iterator[Any]:
        return (published.event for published in self.published)

    def __getitem__(self, place: int) -> Any:
        return self.published[place].event

    def __str__(self) -> str:
        return "\n".join(map(str, self.published)) or "nothing was published"


_recordings: "WeakKeyDictionary[EventBus, Recording]" = WeakKeyDictionary()


def recorded(bus: EventBus) -> Recording:
    """Return what was published on a bus: since the first call of this, and what its history had then.

    The recording is a subscription like any other, named `openoutcry.testing`, and is in the ledger.
    """
    found = _recordings.get(bus)
    if found is None:
        found = _recordings[bus] = Recording(bus)
    return found


def differences(event: Any, wanted: Mapping[str, Any]) -> list[str]:
    """Return how an event's fields differ from the wanted ones, a line per field."""
    missing = object()
    found = {name: getattr(event, name, missing) for name in wanted}
    return [
        f"it has no {name}" if value is missing else f"{name} is {value!r}, not {wanted[name]!r}"
        for name, value in found.items()
        if value is missing or value != wanted[name]
    ]


def type_names(event_type: Any) -> str:
    """Return the types of a selector as words."""
    names = (s if isinstance(s, str) else s.__name__ for s in selectors_of(event_type))
    return " or ".join(sorted(names))


def _now_s() -> float:
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return 0.0
