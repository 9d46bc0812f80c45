"""What a running bus can be asked at its control socket: a table of verbs, with what each takes and does.

The verbs act on a `ControlledBus`, which is all that this room knows of a bus.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from openoutcry.core.retries import DeadLetter
from openoutcry.errors import ConfigError, InvalidEvent, NotAuthorised
from openoutcry.events import encode
from openoutcry.trading import KillSwitchEvent


class Operations(Protocol):
    """What the control socket does to a bus on behalf of the operator: `bus.admin`."""

    def pause(self, name: str) -> str:
        """Pause a subscription, and return its state."""
        ...

    def resume(self, name: str) -> str:
        """Resume a subscription, and return its state."""
        ...

    def redrive(self, subscription: str | None = None, *, anew: bool = False, **which: Any) -> int:
        """Deliver dead letters once more, and return how many."""
        ...

    def drop_dead_letters(self, subscription: str | None = None, **which: Any) -> int:
        """Remove dead letters, and return how many."""
        ...

    def cursors(self) -> Awaitable[Any]:
        """Return how far every subscription in the journal has come."""
        ...

    def drop_cursor(self, name: str) -> Awaitable[int]:
        """Forget a cursor, and return how many events waited behind it."""
        ...

    def reassign_cursor(self, old: str, new: str) -> Awaitable[int]:
        """Give a cursor another name, and return how many events wait behind it."""
        ...


class Releasing(Protocol):
    """What releases kill switches for the operator: a `Releaser`."""

    def release(
        self, *, scope: str | None = None, ids: Iterable[str] | None = None, reason: str
    ) -> Awaitable[KillSwitchEvent]:
        """Release kill switches, and return the event that says so."""
        ...


class ControlledSubscription(Protocol):
    """A subscription, as the control socket sees it.

    Attributes:
        name: Its name.

    """

    name: str


class ControlledBus(Protocol):
    """What the control socket asks of a bus."""

    @property
    def admin(self) -> Operations:
        """The operator's verbs."""
        ...

    def read_status(self) -> Awaitable[dict[str, Any]]:
        """Return everything about the bus, without keeping its loop."""
        ...

    def dead_letters(
        self, subscription: str | None = None, *, limit: int | None = None, after: int = 0
    ) -> list[DeadLetter]:
        """Return the next dead letters behind an id, oldest first."""
        ...

    def dead_letter_counts(self) -> dict[str, int]:
        """Return how many dead letters each name has."""
        ...

    @property
    def subscriptions(self) -> tuple[ControlledSubscription, ...]:
        """The subscriptions."""
        ...

    def flush(self) -> Awaitable[None]:
        """Wait until everything accepted and settled so far is on the disk."""
        ...


class _Head(msgspec.Struct):
    """What every request has."""

    verb: str


class Request(_Head):
    """A request of which only the verb is read."""


class Plain(_Head, forbid_unknown_fields=True):
    """A request without arguments."""


class Letters(_Head, forbid_unknown_fields=True, kw_only=True):
    """Some dead letters: those that meet every condition that is given. See `Admin.drop_dead_letters`."""

    subscription: str | None = None
    letter_ids: list[int] | None = None
    event_type: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None

    def conditions(self) -> dict[str, Any]:
        """Return the keyword arguments of `redrive` and `drop_dead_letters`."""
        return {name: getattr(self, name) for name in self.__struct_fields__ if name != "verb"}


class Redrive(Letters, forbid_unknown_fields=True, kw_only=True):
    """Some dead letters, and whether what they lead to gets fresh ids. See `Admin.redrive`."""

    anew: bool = False


class Listing(_Head, forbid_unknown_fields=True, kw_only=True):
    """Whose dead letters, and which page of them: the next `limit` behind an id."""

    subscription: str | None = None
    limit: int = 1_000
    after: int = 0


class Named(_Head, forbid_unknown_fields=True, kw_only=True):
    """A subscription."""

    subscription: str


class Renamed(_Head, forbid_unknown_fields=True, kw_only=True):
    """A subscription, and the one that takes its place."""

    old: str
    new: str


class Release(_Head, forbid_unknown_fields=True, kw_only=True):
    """Which kill switches are to be released, and why. See `Releaser.release`."""

    reason: str
    scope: str | None = None
    ids: list[str] | None = None


class Verb(NamedTuple):
    """One thing that can be asked.

    Attributes:
        takes: The type of the request; it has a field `verb`.
        do: Called with the bus and the request. What it returns, or what awaiting that gives, is the answer.

    """

    takes: type[Any]
    do: Callable[[ControlledBus, Any], Any]


def _dead_letters(bus: ControlledBus, asked: Listing) -> dict[str, Any]:
    """Return a page of letters, how many there are in all, and the id behind which the next page begins."""
    if asked.limit < 1:
        raise ConfigError(f"limit = {asked.limit}: ask for 1 or more")
    found = bus.dead_letters(asked.subscription, limit=asked.limit + 1, after=asked.after)
    page, counts = found[: asked.limit], bus.dead_letter_counts()
    return {
        "letters": [_plain_letter(letter) for letter in page],
        "total": sum(counts.values()) if asked.subscription is None else counts.get(asked.subscription, 0),
        "next_after": page[-1].letter_id if len(found) > len(page) else None,
    }


def _counts(bus: ControlledBus, _asked: Plain) -> dict[str, dict[str, Any]]:
    present = {subscription.name for subscription in bus.subscriptions}
    counts = bus.dead_letter_counts()
    return {name: {"count": count, "subscribed": name in present} for name, count in counts.items()}


def _plain_letter(letter: DeadLetter) -> dict[str, Any]:
    plain: dict[str, Any] = letter.to_dict()
    try:
        plain["event"] = msgspec.Raw(encode(letter.event))
    except InvalidEvent:
        plain["event"] = None  # of a class that is not registered, and so kept in memory alone
    return plain


async def _flush(bus: ControlledBus, _asked: Plain) -> bool:
    await bus.flush()
    return True


def _refuse_release(_bus: ControlledBus, _asked: Release) -> int:
    raise NotAuthorised(
        "this bus releases no kill switch at its control socket: allow it with EventBus(control_releaser=...)"
    )


def releasing(releaser: Releasing) -> Verb:
    """Return the verb that releases kill switches; it is answered with how many it has named."""

    async def release(_bus: ControlledBus, asked: Release) -> int:
        if not asked.reason:
            raise ConfigError("reason is empty: say why the kill switch is released")
        event = await releaser.release(scope=asked.scope, ids=asked.ids, reason=asked.reason)
        return len(event.releases)

    return Verb(Release, release)


def _saved(do: Callable[[ControlledBus, Any], Any]) -> Callable[[ControlledBus, Any], Any]:
    """Return a verb that is answered when what it did is on the disk."""

    async def do_and_save(bus: ControlledBus, asked: Any) -> Any:
        result = do(bus, asked)
        if inspect.isawaitable(result):
            result = await result
        await bus.flush()
        return result

    return do_and_save


VERBS: Final[Mapping[str, Verb]] = MappingProxyType(
    {
        "ping": Verb(Plain, lambda _bus, _asked: "pong"),
        "status": Verb(Plain, lambda bus, _asked: bus.read_status()),
        "redrive": Verb(Redrive, lambda bus, asked: bus.admin.redrive(**asked.conditions())),
        "drop_dead_letters": Verb(
            Letters, _saved(lambda bus, asked: bus.admin.drop_dead_letters(**asked.conditions()))
        ),
        "dead_letters": Verb(Listing, _dead_letters),
        "dead_letter_counts": Verb(Plain, _counts),
        "cursors": Verb(Plain, lambda bus, _asked: bus.admin.cursors()),
        "drop_cursor": Verb(Named, _saved(lambda bus, asked: bus.admin.drop_cursor(asked.subscription))),
        "reassign_cursor": Verb(
            Renamed, _saved(lambda bus, asked: bus.admin.reassign_cursor(asked.old, asked.new))
        ),
        "pause": Verb(Named, lambda bus, asked: bus.admin.pause(asked.subscription)),
        "resume": Verb(Named, lambda bus, asked: bus.admin.resume(asked.subscription)),
        "release": Verb(Release, _refuse_release),
        "flush": Verb(Plain, _flush),
    }
)
