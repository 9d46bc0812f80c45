"""The operators' verbs of a bus in a simulation: they report to the truth what they do."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from openoutcry.core.retries import DeadLetter
from openoutcry.runtime.admission.kill_switches import KillSwitches
from openoutcry.runtime.api.admin import Admin
from openoutcry.runtime.delivery.subscription import takes
from openoutcry.testing.simulator.truth import Truth

LettersOf = Callable[[str | None], list[DeadLetter]]


class SimAdmin(Admin):
    """The operators' verbs of a bus in a simulation."""

    def __init__(self, bus: Any, admission: Any, lifecycle: Any, letters_of: LettersOf, truth: Truth) -> None:
        super().__init__(bus, admission, lifecycle)
        self._letters_of = letters_of
        self._truth = truth

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
        self._truth.letters.were_dropped(before, self._letters_of(subscription), which, count)
        return count

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
