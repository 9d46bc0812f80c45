"""What can be asked at the desk of a running bus: a table of verbs, with what each takes and does."""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from openoutcry.errors import ConfigError, InvalidEvent
from openoutcry.events import encode


class _Head(msgspec.Struct):
    """What every request has."""

    verb: str


class Request(_Head):
    """A request of which only the verb is read."""


class Plain(_Head, forbid_unknown_fields=True):
    """A request without arguments."""


class Letters(_Head, forbid_unknown_fields=True, kw_only=True):
    """LetterFilter dead letters: those that meet every condition given. See `EventBus.redrive`."""

    subscription: str | None = None
    letter_ids: list[int] | None = None
    event_type: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None

    def conditions(self) -> dict[str, Any]:
        """Return the arguments for the bus."""
        return {name: getattr(self, name) for name in self.__struct_fields__ if name != "verb"}


class Listing(_Head, forbid_unknown_fields=True, kw_only=True):
    """Whose dead letters, and how many of the newest."""

    subscription: str | None = None
    limit: int = 1_000


class Named(_Head, forbid_unknown_fields=True, kw_only=True):
    """A subscription."""

    subscription: str


class Renamed(_Head, forbid_unknown_fields=True, kw_only=True):
    """A subscription, and the one that takes its place."""

    old: str
    new: str


class Verb(NamedTuple):
    """One thing that can be asked.

    Attributes:
        takes: The request's type; it has a field `verb`.
        do: Called with the bus and the request; what it returns, or what awaiting that gives, is the result.

    """

    takes: type[Any]
    do: Callable[[Any, Any], Any]


def _dead_letters(bus: Any, asked: Listing) -> list[dict[str, Any]]:
    if asked.limit < 1:
        raise ConfigError(f"limit = {asked.limit}: ask for 1 or more")
    return [_plain_letter(letter) for letter in bus.dead_letters(asked.subscription)[-asked.limit :]]


def _plain_letter(letter: Any) -> dict[str, Any]:
    plain: dict[str, Any] = letter.to_dict()
    try:
        plain["event"] = msgspec.Raw(encode(letter.event))
    except InvalidEvent:
        plain["event"] = None  # of a class that nobody has registered, in memory alone
    return plain


async def _flush(bus: Any, _asked: Plain) -> bool:
    await bus.flush()
    return True


def _pause(bus: Any, asked: Named) -> str:
    subscription = bus.subscription(asked.subscription)
    subscription.pause()
    return str(subscription.state())


def _resume(bus: Any, asked: Named) -> str:
    subscription = bus.subscription(asked.subscription)
    subscription.resume()
    return str(subscription.state())


def _saved(do: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Have what was done on the disk before it is answered."""

    async def do_and_save(bus: Any, asked: Any) -> Any:
        result = do(bus, asked)
        if inspect.isawaitable(result):
            result = await result
        await bus.flush()
        return result

    return do_and_save


VERBS: Final[Mapping[str, Verb]] = MappingProxyType(
    {
        "ping": Verb(Plain, lambda _bus, _asked: "pong"),
        "status": Verb(Plain, lambda bus, _asked: bus.get_status()),
        "redrive": Verb(Letters, lambda bus, asked: bus.redrive(**asked.conditions())),
        "drop_dead_letters": Verb(
            Letters, _saved(lambda bus, asked: bus.drop_dead_letters(**asked.conditions()))
        ),
        "dead_letters": Verb(Listing, _dead_letters),
        "cursors": Verb(Plain, lambda bus, _asked: bus.cursors()),
        "drop_cursor": Verb(Named, _saved(lambda bus, asked: bus.drop_cursor(asked.subscription))),
        "reassign_cursor": Verb(
            Renamed, _saved(lambda bus, asked: bus.reassign_cursor(asked.old, asked.new))
        ),
        "pause": Verb(Named, _pause),
        "resume": Verb(Named, _resume),
        "flush": Verb(Plain, _flush),
    }
)
