"""What a running bus can be asked at its control socket: a table of verbs, with what each takes and does.

The verbs act on a `ControlledBus`, which is all that this room knows of a bus.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, Protocol

import msgspec

from openoutcry.core.halts import FIRM
from openoutcry.core.holds import LIFTED_BY_RESUME, Holds
from openoutcry.core.retries import DeadLetter
from openoutcry.errors import ConfigError, InvalidEvent
from openoutcry.events import encode
from openoutcry.observers.pulse import HaltAnswer

NOTHING_HELD: Final = ": it was neither paused nor held"
"""What the answer of `resume` ends with where there was nothing to resume."""


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


class Operator(Protocol):
    """What stops a firm for the operator, and lets it go on."""

    def halt(self, scope: str, reason: str, by: str) -> Awaitable[HaltAnswer]:
        """Publish a kill switch, and return how many have heard it so far."""
        ...

    def release(self, scope: str | None, ids: list[str] | None, reason: str, by: str) -> Awaitable[int]:
        """Release kill switches under the name `by`, and return how many. Raises `NotAuthorised`."""
        ...


class ControlledSubscription(Protocol):
    """A subscription, as the control socket sees it.

    Attributes:
        name: Its name.
        holds: What keeps it from working.

    """

    name: str
    holds: Holds


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


class Head(msgspec.Struct):
    """What every request has."""

    verb: str


class Request(Head):
    """A request of which only the verb is read."""


class Plain(Head, forbid_unknown_fields=True):
    """A request without arguments."""


class Action(Head, kw_only=True):
    """A request to do something to the bus, which goes on record."""

    by: str = ""
    """The name of the operator; by default that of the user at the other end of the socket."""
    via: Literal["socket", "page"] = "socket"
    """Over what the operator does it."""
    reason: str = ""
    """Why, in the operator's words."""

    @property
    def target(self) -> str:
        """What it is done to, in words."""
        return ""


_OF_ACTIONS: Final = frozenset(Action.__struct_fields__)


class Letters(Action, forbid_unknown_fields=True, kw_only=True):
    """Some dead letters: those that meet every condition that is given. See `Admin.drop_dead_letters`."""

    subscription: str | None = None
    letter_ids: list[int] | None = None
    event_type: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None

    def conditions(self) -> dict[str, Any]:
        """Return the keyword arguments of `redrive` and `drop_dead_letters`."""
        return {name: getattr(self, name) for name in self.__struct_fields__ if name not in _OF_ACTIONS}

    @property
    def target(self) -> str:
        """Whose letters, and which."""
        given = {name: value for name, value in self.conditions().items() if value}
        of = given.pop("subscription", "all")
        return ", ".join([of, *(f"{name} {_shortened(value)}" for name, value in given.items())])


class Redrive(Letters, forbid_unknown_fields=True, kw_only=True):
    """Some dead letters, and whether what they lead to gets fresh ids. See `Admin.redrive`."""

    anew: bool = False


class Listing(Head, forbid_unknown_fields=True, kw_only=True):
    """Whose dead letters, and which page of them: the next `limit` behind an id."""

    subscription: str | None = None
    limit: int = 1_000
    after: int = 0


class Named(Action, forbid_unknown_fields=True, kw_only=True):
    """A subscription."""

    subscription: str

    @property
    def target(self) -> str:
        """Its name."""
        return self.subscription


class Renamed(Action, forbid_unknown_fields=True, kw_only=True):
    """A subscription, and the one that takes its place."""

    old: str
    new: str

    @property
    def target(self) -> str:
        """Both names."""
        return f"{self.old} to {self.new}"


class Halt(Action, forbid_unknown_fields=True, kw_only=True):
    """What is to stop: `firm` for everything, or the name of a symbol, strategy or agent."""

    scope: str = FIRM

    @property
    def target(self) -> str:
        """What is to stop."""
        return self.scope


class Release(Action, forbid_unknown_fields=True, kw_only=True):
    """Which kill switches are to be released, and why. See `Releaser.release`."""

    scope: str | None = None
    ids: list[str] | None = None

    @property
    def target(self) -> str:
        """The scope, or the ids."""
        return self.scope or FIRM if self.ids is None else _shortened(self.ids)


class DeskAction(Action, forbid_unknown_fields=True, kw_only=True):
    """What an operator has done to the servers of a firm of several desks, to be put on record."""

    firm: str
    desk: str = ""

    @property
    def target(self) -> str:
        """The firm, and the desk that it was about."""
        return f"{self.firm} {self.desk}".rstrip()


def _shortened(value: Any) -> str:
    """Return a condition in words; of a long list, how it begins."""
    if not isinstance(value, list):
        return str(value)
    named = " ".join(map(str, value[:10]))
    return named if len(value) <= 10 else f"{named} and {len(value) - 10} more"


class Verb(NamedTuple):
    """One thing that can be asked.

    Attributes:
        takes: The type of the request; it has a field `verb`. What takes an `Action` goes on record.
        do: Called with the bus and the request. What it returns, or what awaiting that gives, is the answer.
        watches: Whether those who watch the bus ask it again and again: they may not take every seat.
        ready: Returns the answer, as it goes over the line, if nothing needs to be done for it; else None.

    """

    takes: type[Any]
    do: Callable[[ControlledBus, Any], Any]
    watches: bool = False
    ready: Callable[[], bytes | None] | None = None


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


def _resume(bus: ControlledBus, asked: "Named") -> str:
    """Resume a subscription; return its state, and whether nothing had held it."""
    its = (s.holds for s in bus.subscriptions if s.name == asked.subscription)
    held = any(hold in holds for holds in its for hold in LIFTED_BY_RESUME)
    state = bus.admin.resume(asked.subscription)
    return state if held else f"{state}{NOTHING_HELD}"


def operating(operator: Operator) -> dict[str, Verb]:
    """Return the verbs that stop a firm and let it go on, by name."""
    return {
        "halt": Verb(Halt, lambda _bus, asked: operator.halt(asked.scope, asked.reason, asked.by)),
        "release": Verb(
            Release, lambda _bus, asked: operator.release(asked.scope, asked.ids, asked.reason, asked.by)
        ),
    }


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
        "resume": Verb(Named, _resume),
        "firm_drop": Verb(DeskAction, lambda _bus, _asked: True),
        "firm_trim": Verb(DeskAction, lambda _bus, _asked: True),
        "flush": Verb(Plain, _flush),
    }
)
