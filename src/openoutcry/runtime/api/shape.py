"""The shape of one bus: what rarely changes of it, described a few subscriptions at a time.

A pulse has a row for each subscription of a shape. While subscriptions come and go all the time, the bus is
not described anew for each: the shape is then that of a moment ago, pulses have its rows, and whoever watches
goes on with what it has. What has not changed of it is described once.
"""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, NamedTuple

from openoutcry.config import BusConfig
from openoutcry.core.overflow import BoundedLane
from openoutcry.events import EVERYTHING, fixed_event_type
from openoutcry.observers.pulse import Shape, SubShape
from openoutcry.ports import FileJournal
from openoutcry.runtime.admission.gate import Admission
from openoutcry.runtime.delivery.options import DEFAULT_OPTIONS, Options
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.delivery.subscription import Selector, Subscription
from openoutcry.runtime.rounds.rounds import Rounds
from openoutcry.units import NS_PER_MS, NS_PER_S
from openoutcry.version import __version__

DESCRIBED_A_TURN: Final = 25
"""So many subscriptions are described in one turn of the loop,"""
KNOWN_A_TURN: Final = 1_000
"""or so many whose description is known put together."""
RENEWED_EVERY_NS: Final = NS_PER_S // 2
"""While subscriptions come and go all the time, there is another shape so often,"""
RENEWED_EVERY_ROW_NS: Final = NS_PER_MS
"""in a large firm only after so long per subscription."""
RENEWED_AT_ONCE: Final = 8
"""So many changes before that make another shape at once."""
TEXT_MOST: Final = 300
"""The most characters of an option in words."""
_SHOWN: Final = (
    "overflow",
    "max_age_s",
    "keep",
    "retry",
    "breaker",
    "outbox",
    "isolated",
    "supersede",
    "memory",
)


class _Described(NamedTuple):
    """A description, and what it was made of."""

    selectors: frozenset[Selector]
    options: Options
    is_durable: bool
    is_agent: bool
    shape: SubShape


class ShapeReader:
    """Describes one life of a bus.

    Args:
        bus: The state of the bus.
        admission: Who was let in, and the journal.
        rounds: The rounds.
        config: The settings.
        releasers: The names under which the operator may release kill switches.

    Attributes:
        session: The name of this life of the bus.
        number: The number of the shape, as last looked at.
        subscriptions: Its subscriptions. Some may have ended since.

    """

    def __init__(
        self,
        bus: BusState,
        admission: Admission,
        rounds: Rounds,
        config: BusConfig,
        releasers: frozenset[str],
    ) -> None:
        self.session: str = os.urandom(8).hex()  # not a new name: those are of the run, and reproducible
        self.number: int = 0
        self.subscriptions: tuple[Subscription, ...] = ()
        self._bus = bus
        self._admission = admission
        self._rounds = rounds
        self._config = config
        self._releasers = sorted(releasers)
        self._started_ns = bus.clock.wall_ns()
        self._key: tuple[int, ...] = ()
        self._due_ns = 0
        self._known: dict[Subscription, _Described] = {}

    def look(self) -> int:
        """Return the number of the shape: another one if it has changed, unless it did so often lately."""
        critical = self._rounds.critical_by_agent
        key = (self._bus.router.changes, len(critical), sum(critical.values()))
        if key != self._key and self._may_renew():
            self._key = key
            self.number += 1
            self.subscriptions = tuple(self._bus.router)
        return self.number

    def _may_renew(self) -> bool:
        """Return True if there may be another shape now, and count it."""
        now_ns = self._bus.clock.now_ns()
        every_ns = max(RENEWED_EVERY_NS, len(self._bus.router) * RENEWED_EVERY_ROW_NS)
        due_ns = max(self._due_ns, now_ns)
        if self.number and due_ns - now_ns > (RENEWED_AT_ONCE - 1) * every_ns:
            return False
        self._due_ns = due_ns + every_ns
        return True

    async def shape(self) -> Shape:
        """Return the shape as last looked at, giving the loop back every few subscriptions."""
        number, subscriptions, config = self.number, self.subscriptions, self._config
        agents, critical = self._rounds.agents, self._rounds.critical_agents
        described = await self._describe_all(subscriptions, agents)
        return Shape(
            number=number,
            session=self.session,
            firm=self._firm(),
            pid=os.getpid(),
            version=__version__,
            started_ns=self._started_ns,
            releasers=self._releasers,
            control_releaser=config.control_releaser,
            signal_timeout_ns=int(config.signal_timeout * NS_PER_S),
            barrier_timeout_ns=int(config.barrier_timeout * NS_PER_S),
            roster=sorted(agents),
            critical=sorted(critical),
            subscriptions=described,
        )

    def _firm(self) -> str:
        """Return what the firm is called: by its journal's file, or else its control socket's."""
        store, own = self._admission.store, self._config.control
        if store is not None and isinstance(store.journal, FileJournal):
            return Path(store.journal.path).stem
        return "" if own is None else own.stem

    async def _describe_all(
        self, subscriptions: Sequence[Subscription], agents: frozenset[str]
    ) -> list[SubShape]:
        found: dict[Subscription, _Described] = {}
        work = 0
        for subscription in subscriptions:
            its, known = self._described(subscription, agents), self._known.get(subscription)
            found[subscription] = its
            work += 1 if its is known else KNOWN_A_TURN // DESCRIBED_A_TURN
            if work >= KNOWN_A_TURN:
                work = 0
                await asyncio.sleep(0)
        self._known = found
        return [its.shape for its in found.values()]

    def _described(self, subscription: Subscription, agents: frozenset[str]) -> _Described:
        """Return the description of a subscription: the known one, if nothing of it has changed."""
        name, selectors, options = subscription.name, subscription.selectors, subscription.options
        is_agent, is_durable = name in agents or name.partition(".")[0] in agents, subscription.durable
        known = self._known.get(subscription)
        if (
            known is not None
            and known.selectors is selectors
            and known.options is options
            and known.is_durable == is_durable
            and known.is_agent == is_agent
        ):
            return known
        types = {_selector_name(selector): _type_of(selector) for selector in selectors}
        lane = subscription.mailbox.normal
        shape = SubShape(
            name=name,
            types=sorted({event_type or EVERYTHING for event_type in types.values()}),
            selectors=dict(sorted(types.items())),
            agent=is_agent,
            durable=is_durable,
            blocking=options.blocking,
            concurrency=options.concurrency,
            timeout_s=options.timeout_s,
            capacity=lane.limit if isinstance(lane, BoundedLane) else self._bus.pressure.capacity,
            options={
                f.name: _in_words(getattr(options, f.name))
                for f in fields(options)
                if f.name in _SHOWN and getattr(options, f.name) != getattr(DEFAULT_OPTIONS, f.name)
            },
        )
        return _Described(selectors, options, is_durable, is_agent, shape)


def _selector_name(selector: Selector) -> str:
    return selector if isinstance(selector, str) else selector.__qualname__


def _type_of(selector: Selector) -> str:
    """Return the one type that a selector takes; empty if that is not fixed."""
    if isinstance(selector, str):
        return "" if selector == EVERYTHING else selector
    return fixed_event_type(selector) or ""


def _in_words(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else repr(value)[:TEXT_MOST]
