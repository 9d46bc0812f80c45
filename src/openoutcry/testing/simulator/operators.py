"""The operators' verbs of a bus in a simulation: they report to the truth what they do."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from openoutcry.core.retries import DeadLetter
from openoutcry.runtime.admission.kill_switches import KillSwitches
from openoutcry.runtime.api.admin import Admin
from openoutcry.runtime.delivery.subscription import takes
from openoutcry.testing.simulator.memories import MemoryTruth
from openoutcry.testing.simulator.truth import Truth

LettersOf = Callable[[str | None], list[DeadLetter]]


class SimAdmin(Admin):
    """The operators' verbs of a bus in a simulation."""

    def __init__(
        self,
        bus: Any,
        admission: Any,
        lifecycle: Any,
        letters_of: LettersOf,
        truth: Truth,
        memories: MemoryTruth,
    ) -> None:
        super().__init__(bus, admission, lifecycle)
        self._letters_of = letters_of
        self._truth = truth
        self._memories = memories

    def redrive(self, /, subscription: str | None = None, *, anew: bool = False, **which: Any) -> int:
        """As `Admin.redrive`."""
        truth = self._truth.letters
        letters = self._letters_of(subscription)
        self._truth.check_letters(letters if subscription is None else self._letters_of(None))
        keys, is_certain = truth.redriving(letters, which, self._is_taken)
        self._truth.redriven.update(keys)
        count = super().redrive(subscription, anew=anew, **which)
        truth.redriven(keys, count, is_certain=is_certain)
        return count

    def drop_dead_letters(self, /, subscription: str | None = None, **which: Any) -> int:
        """As `Admin.drop_dead_letters`."""
        before = self._letters_of(subscription)
        count = super().drop_dead_letters(subscription, **which)
        gone = self._truth.letters.were_dropped(before, self._letters_of(subscription), which, count)
        self._memories.dropped(gone)
        return count

    async def drop_cursor(self, name: str) -> int:
        """As `Admin.drop_cursor`."""
        was_there = self._has_cursor(name)
        try:
            return await super().drop_cursor(name)
        finally:
            if was_there and not self._has_cursor(name):
                self._truth.takers.pop(name, None)
                self._truth.letters.forget(name)
                self._memories.unsubscribed(name)

    async def reassign_cursor(self, old: str, new: str) -> int:
        """As `Admin.reassign_cursor`."""
        if not self._has_cursor(old) or self._has_cursor(new) or self._is_subscribed(new):
            return await super().reassign_cursor(old, new)
        self._rename(old, new)  # what is written during the call is under the new name
        try:
            return await super().reassign_cursor(old, new)
        finally:
            if self._has_cursor(old):
                self._rename(new, old)

    def _rename(self, old: str, new: str) -> None:
        self._truth.renamed(old, new)
        self._memories.renamed(old, new)

    def _is_subscribed(self, name: str) -> bool:
        return any(made.name == name for made in self._bus.router)

    def _has_cursor(self, name: str) -> bool:
        store = self._admission.store
        return store is not None and name in store.cursors._cursors  # noqa: SLF001 - a cancelled call says nothing

    def _is_taken(self, letter: DeadLetter) -> bool:
        return any(
            made.name == letter.subscription and takes(made.selectors, letter.event)
            for made in self._bus.router
        )


class SimReleases:
    """What releases kill switches in a simulation: it reports each release before it is published."""

    def __init__(
        self, inner: KillSwitches, publishing: Callable[[Any, bool], AbstractContextManager[Any]]
    ) -> None:
        self._inner = inner
        self._publishing = publishing

    def active(self, *asked: Any) -> tuple[str, tuple[str, ...]]:
        """As `KillSwitches.active`."""
        return self._inner.active(*asked)

    async def release(self, event: Any) -> None:
        """As `KillSwitches.release`."""
        with self._publishing(event, False) as made:
            await self._inner.release(event)
            made.accepted = True
