"""The operator: halts the firm, and lets it go on, at the control socket."""

import asyncio
from typing import Any, Final, Protocol

from openoutcry.config import BusConfig
from openoutcry.core.halts import FIRM, none_active
from openoutcry.errors import ConfigError, NotAuthorised
from openoutcry.observers.pulse import HaltAnswer
from openoutcry.runtime.admission.access import KILL_SWITCH
from openoutcry.runtime.admission.gate import Admission
from openoutcry.runtime.admission.kill_switches import Releaser
from openoutcry.runtime.delivery.hearing import HeardSoFar
from openoutcry.runtime.delivery.state import BusState
from openoutcry.trading import KillSwitchEvent

OPERATOR: Final = "operator"
"""The `source_agent` of the operator's kill switches; who pulled one is its `triggered_by`."""
NO_REASON: Final = "halted by the operator"
LOOKS: Final = 50
"""So many times `halt` looks who has heard it before it answers,"""
LOOK_S: Final = 0.001
"""in steps of so many seconds."""


class Publisher(Protocol):
    """The bus, as the operator publishes on it."""

    async def publish(self, event: Any) -> bool:
        """Publish an event."""
        ...


class Operator:
    """What the operator of one bus may do about kill switches. It is the `Operator` of the control socket."""

    def __init__(self, publisher: Publisher, bus: BusState, admission: Admission, config: BusConfig) -> None:
        self._publisher = publisher
        self._bus = bus
        self._admission = admission
        self._kill_switches = admission.kill_switches
        self._access = admission.access
        name = config.control_releaser
        self._own = None if name is None else self._kill_switches.releaser(name)

    @property
    def names(self) -> frozenset[str]:
        """The names under which the operator may release: the setting's, and those that nobody has taken."""
        own = () if self._own is None else (self._own.name,)
        return (self._access.releasers - self._access.taken) | frozenset(own)

    async def halt(self, scope: str, reason: str, by: str) -> HaltAnswer:
        """Publish a kill switch, and return how many have heard it within some 50 ms.

        It is delivered also where the journal cannot take it: then the answer has a `problem`.

        Raises:
            InvalidEvent: The scope is empty, or some text cannot be kept.
            BusClosed: The bus is stopping or stopped.

        """
        event = KillSwitchEvent(
            scope=scope, reason=reason or NO_REASON, source_agent=OPERATOR, triggered_by=by or OPERATOR
        )
        await self._publisher.publish(event)
        return _answer(event.event_id, await self._heard(event.event_id), self._problem(event.event_id))

    def _problem(self, event_id: str) -> str:
        """Return why the journal has not taken a kill switch; empty if it has, or is not to."""
        store = self._admission.store
        if store is None or not store.level_of(KILL_SWITCH, None) or store.knows(event_id):
            return ""
        error = store.commits.dead or store.commits.refused
        return "its log says why" if error is None else f"{type(error).__name__}: {error}"

    async def _heard(self, event_id: str) -> HeardSoFar | None:
        """Wait until all have heard a kill switch, for a moment, and return how far it has come."""
        found = None
        for _ in range(LOOKS):
            so_far = self._bus.hearing.so_far()
            if so_far is None or so_far.event_id != event_id:  # somebody has pulled another one
                break
            found = so_far
            if not so_far.waiting:
                break
            await asyncio.sleep(LOOK_S)
        return found

    async def release(self, scope: str | None, ids: list[str] | None, reason: str, by: str) -> int:
        """Release kill switches under a name, and return how many.

        Args:
            scope: All of this scope; by default `firm`.
            ids: Only these.
            reason: Why.
            by: One of `names`; by default that of the setting `control_releaser`.

        Raises:
            NotAuthorised: The name may not.
            ConfigError: No reason was given, an id is not active, or none is active in the scope.
            BusClosed, JournalError: As `EventBus.publish`.

        """
        releaser = self._releaser(by)
        if not reason:
            raise ConfigError("reason is empty: say why the kill switch is released")
        halts = self._bus.halts
        if ids is None and not halts.inside(scope or FIRM):
            raise ConfigError(none_active(scope or FIRM, halts.scopes()))
        event = await releaser.release(scope=scope, ids=ids, reason=reason)
        return len(event.releases)

    def _releaser(self, name: str) -> Releaser:
        own, names = self._own, self.names
        if not names:
            raise NotAuthorised(
                "this bus releases no kill switch at its control socket: allow it with "
                "EventBus(control_releaser=...)"
            )
        if own is not None and name in ("", own.name):
            return own
        if name not in names:
            raise NotAuthorised(
                f"{name!r} may not release a kill switch at the control socket; say in whose name, which may "
                f"be {' or '.join(map(repr, sorted(names)))}"
            )
        return Releaser(name, self._kill_switches)


def _answer(event_id: str, heard: HeardSoFar | None, problem: str) -> HaltAnswer:
    if heard is None:
        return HaltAnswer(event_id, 0, 0, 0, [], [], problem)
    return HaltAnswer(
        event_id, heard.total, heard.heard, heard.slowest_ns, list(heard.waiting), list(heard.failed), problem
    )
