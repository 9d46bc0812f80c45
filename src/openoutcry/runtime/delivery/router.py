"""The router: who is subscribed, and the routes from an event's class and type to them.

Subscriptions that take the same things form a group: for a batch of mixed types the events of a group are
collected once, and every subscription of the group gets the same list.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from openoutcry.core.audience import Audience
from openoutcry.core.lanes import LaneName
from openoutcry.core.ledger import Counts, LedgerRow
from openoutcry.errors import DuplicateName, NotSubscribed
from openoutcry.events import event_type_of, fixed_event_type, resembled
from openoutcry.logs import about
from openoutcry.runtime.delivery.handlers import Handler, identity
from openoutcry.runtime.delivery.subscription import Selector, Subscription, selects

log = logging.getLogger("openoutcry")

ENDED_KEPT = 256
IN_USE_MOST = 1_024
"""How many kinds of events are remembered while subscriptions change."""


class Route:
    """Subscriptions with the same selectors."""

    __slots__ = ("subscriptions",)

    def __init__(self, subscriptions: tuple[Subscription, ...]) -> None:
        self.subscriptions: tuple[Subscription, ...] = subscriptions


class Router:
    """Who is subscribed.

    Attributes:
        routes: From an event class (if its type is fixed) or (class, type) to the groups that take it; a
            cache that `route` fills.
        changes: How often a subscription came, went or changed what it takes.

    """

    # A kind of events: class, type, and whether the journal has them.
    _in_use: set[tuple[type, str, bool]]

    def __init__(self) -> None:
        self._by_handler: dict[object, Subscription] = {}
        self._by_name: dict[str, Subscription] = {}
        self._groups: dict[frozenset[Selector], Route] | None = None
        self._ended: list[Subscription] = []
        self._ended_rows: dict[LaneName, list[int]] = {}
        self.routes: dict[object, tuple[Route, ...]] = {}
        self.changes: int = 0
        self._nobody: tuple[Route, ...] = (Route(()),)  # compared by identity
        self._audiences: dict[tuple[tuple[Route, ...], bool], Audience] = {}
        self._in_use = set()
        self._overflowed_folded = 0
        self._told: set[object] = set()

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    @property
    def ended(self) -> tuple[Subscription, ...]:
        """The subscriptions that ended lately."""
        return tuple(self._ended)

    def find(self, handler: Handler) -> Subscription | None:
        """Return the subscription of a handler, if it has one."""
        found = self._by_handler.get(identity(handler))
        # A new agent may lie where one that is gone lay, and so have the same identity.
        return None if found is None or found.orphaned else found

    def get(self, name: str) -> Subscription | None:
        """Return the subscription of that name, if there is one."""
        return self._by_name.get(name)

    def named(self, name: str) -> Subscription:
        """Return the subscription of that name, or raise `NotSubscribed`."""
        subscription = self._by_name.get(name)
        if subscription is None:
            raise NotSubscribed(f"there is no subscription {name!r}; there are {sorted(self._by_name)}")
        return subscription

    def free_name(self, wanted: str) -> str:
        """Return `wanted`, or `wanted#2` and so on where it is taken."""
        name, number = wanted, 1
        while name in self._by_name:
            number += 1
            name = f"{wanted}#{number}"
        return name

    def check_name(self, name: str) -> None:
        """Raise `DuplicateName` where the name is taken."""
        if name in self._by_name:
            raise DuplicateName(
                f"the name {name!r} belongs to the subscription to {list(self._by_name[name].types)}; "
                "choose another"
            )

    def add(self, subscription: Subscription, handler: Handler) -> None:
        """Take in a subscription."""
        self._by_name[subscription.name] = subscription
        self._by_handler[identity(handler)] = subscription
        self.changed()

    def rename_handler(self, subscription: Subscription, handler: Handler) -> None:
        """Know a subscription by another handler from now on, and not by the one before."""
        self._by_handler = {k: s for k, s in self._by_handler.items() if s is not subscription}
        self._by_handler[identity(handler)] = subscription

    def remove(self, subscription: Subscription) -> None:
        """Let a subscription go; its ledger rows are kept."""
        del self._by_name[subscription.name]
        self._by_handler = {k: s for k, s in self._by_handler.items() if s is not subscription}
        self._ended.append(subscription)
        self._fold_ended()
        self.changed()

    def changed(self) -> None:
        """A subscription came, went or changed what it takes: the next event finds new groups."""
        self.changes += 1
        self._note_use()
        self._groups = None
        self.routes = {}
        self._audiences = {}

    @property
    def groups(self) -> dict[frozenset[Selector], Route]:
        """The groups, by what their subscriptions select.

        They are built when an event asks for them, so that five hundred subscriptions are made one after the
        other without five hundred looks at all of them.
        """
        if self._groups is None:
            by_selectors: dict[frozenset[Selector], list[Subscription]] = {}
            for subscription in self:
                by_selectors.setdefault(subscription.selectors, []).append(subscription)
            self._groups = {selectors: Route(tuple(subs)) for selectors, subs in by_selectors.items()}
        return self._groups

    def route(self, event: Any) -> tuple[Route, ...]:
        """Return the groups that take an event; if nobody does, one without subscriptions."""
        cls: type = type(event)
        found = self.routes.get(cls)
        return self._route(cls, event_type_of(event)) if found is None else found

    def _route(self, cls: type, event_type: str) -> tuple[Route, ...]:
        fixed = fixed_event_type(cls) is not None
        key: object = cls if fixed else (cls, event_type)
        found = self.routes.get(key)
        if found is None:
            found = tuple(g for selectors, g in self.groups.items() if selects(selectors, cls, event_type))
            found = self.routes[key] = found or self._nobody
            self._tell_of_slips(cls, event_type)
        return found

    def _tell_of_slips(self, cls: type, event_type: str) -> None:
        """Warn, once, of a type that looks like one of the firm's, and of who took an earlier class."""
        meant = resembled(event_type)
        if meant is not None and self._is_new(event_type):
            log.warning(
                "a %s of type %r is published: did you mean %r? Event types are compared as they are, so "
                "whoever takes %r does not get it",
                cls.__name__,
                event_type,
                meant,
                meant,
                extra=about(event_type=event_type),
            )
        earlier = [g for selectors, g in self.groups.items() if any(_was(each, cls) for each in selectors)]
        if earlier and self._is_new(cls):
            log.warning(
                "the class %s was defined again: who took the earlier one does not get its events: %s; "
                "subscribe again, or to the type %r",
                cls.__name__,
                ", ".join(sorted(s.name for group in earlier for s in group.subscriptions)),
                event_type,
                extra=about(event_type=event_type),
            )

    def _is_new(self, told: object) -> bool:
        is_new = told not in self._told and len(self._told) < IN_USE_MOST
        if is_new:
            self._told.add(told)
        return is_new

    def is_heard(self, event: Any) -> bool:
        """Return True if somebody takes an event."""
        return self.route(event) is not self._nobody

    def is_named(self, cls: type) -> bool:
        """Return True if somebody takes the events of a class, all of which are of one type."""
        found = self.routes.get(cls)
        return (self._route(cls, str(fixed_event_type(cls))) if found is None else found) is not self._nobody

    # -- what publishers meet -----------------------------------------------------------------------

    def audience(self, event: Any, *, is_kept: bool) -> Audience:
        """Return everybody who takes an event; `is_kept` says whether the journal has it."""
        return self._audience(self.route(event), is_kept)

    def _audience(self, groups: tuple[Route, ...], is_kept: bool) -> Audience:
        found = self._audiences.get((groups, is_kept))
        if found is None:
            mailboxes = (s.mailbox for group in groups for s in group.subscriptions)
            found = self._audiences[groups, is_kept] = Audience(mailboxes, is_kept=is_kept)
        return found

    def audiences(self) -> Collection[Audience]:
        """Return the audiences of all events that have been published so far."""
        in_use, self._in_use = self._in_use, set()
        for cls, event_type, is_kept in in_use:
            self._audience(self._route(cls, event_type), is_kept)
        return self._audiences.values()

    def audience_of(self, cls: type, *, is_kept: bool) -> Audience | None:
        """Return the audience of a class whose type is fixed, if it is in use."""
        return self._audiences.get((self.routes.get(cls, ()), is_kept))

    def _note_use(self) -> None:
        """Remember which kinds of events have been published: their audiences are about to change."""
        for key, groups in self.routes.items():
            if len(self._in_use) >= IN_USE_MOST:
                break
            kind: Any = key if isinstance(key, tuple) else (key, fixed_event_type(key))
            cls, event_type = kind
            kept = (is_kept for is_kept in (False, True) if (groups, is_kept) in self._audiences)
            self._in_use |= {(cls, event_type, is_kept) for is_kept in kept}

    def split(
        self, events: Sequence[Any], positions: Sequence[int]
    ) -> Iterable[tuple[Route, tuple[list[Any], list[int]]]]:
        """Return each group that takes some of the events, with these and their positions."""
        parts: dict[Route, tuple[list[Any], list[int]]] = {}
        for event, position in zip(events, positions, strict=True):
            for group in self.route(event):
                part = parts.get(group)
                if part is None:
                    part = parts[group] = ([], [])
                part[0].append(event)
                part[1].append(position)
        return parts.items()

    @property
    def overflowed(self) -> int:
        """How many accepted events all subscriptions have let go for lack of room, ended ones included."""
        lanes = (lane for s in (*self, *self._ended) for lane in (s.mailbox.high, s.mailbox.normal))
        found: int = self._overflowed_folded + sum(lane.overflowed for lane in lanes)
        return found

    def ledger_rows(self) -> list[LedgerRow]:
        """Return the rows of every subscription, those of ended ones after the others."""
        rows = [row for s in (*self, *self._ended) for row in s.ledger_rows()]
        return [*rows, *(LedgerRow(name, lane, *counts) for name, lane, counts in self.folded_counts())]

    def folded_counts(self) -> list[tuple[str, LaneName, Counts]]:
        """Return the sums of the oldest ended subscriptions: a name for all of them, the lane, its counts."""
        return [("(ended)", lane, tuple(counts)) for lane, counts in self._ended_rows.items()]

    def _fold_ended(self) -> None:
        """Sum up the oldest ended subscriptions in one row a lane, so that their number stays bounded."""
        if len(self._ended) <= ENDED_KEPT:
            return
        for subscription in [s for s in self._ended[:-ENDED_KEPT] if s.settled]:
            self._ended.remove(subscription)
            for row in subscription.ledger_rows():
                self._overflowed_folded += row.overflowed
                counts = [v for v in row.to_dict().values() if isinstance(v, int)]
                old = self._ended_rows.get(row.lane, [0] * len(counts))
                self._ended_rows[row.lane] = [a + b for a, b in zip(old, counts, strict=True)]


def _was(selector: Selector, cls: type) -> bool:
    """Return True if a selector is an earlier definition of a class: of a cell or a module that ran again."""
    return (
        isinstance(selector, type)
        and selector not in cls.__mro__
        and (selector.__module__, selector.__qualname__) == (cls.__module__, cls.__qualname__)
        and "<locals>" not in cls.__qualname__
    )
