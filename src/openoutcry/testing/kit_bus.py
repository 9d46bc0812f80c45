"""The bus of a test, which passes on what handlers raise that decides the test: a failed assertion, a skip.

A bus keeps a failed call to itself: it is retried, and in the end a dead letter. For a test that would be a
failed assertion that nobody sees. So the first one ends the test: its task is cancelled at once, and what the
handler raised is raised in its place, with its own traceback.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from openoutcry import EventBus
from openoutcry.testing.recording import described


class Outcome:
    """How a test ends because of something that its handlers or callbacks have raised.

    Attributes:
        error: The first failed assertion (or what else decides a test) that one of them has raised.

    """

    def __init__(self, decisive: tuple[type[BaseException], ...]) -> None:
        self.error: BaseException | None = None
        self._decisive = decisive
        self._test: asyncio.Task[Any] | None = None

    @contextmanager
    def of_current_task(self) -> Iterator[None]:
        """Cancel the current task, which runs the test, when one is raised in this block."""
        test = self._test = asyncio.current_task()
        assert test is not None
        before = test.cancelling()
        try:
            yield
        finally:
            self._test = None
            while test.cancelling() > before and self.error is not None:
                test.uncancel()

    def note(self, who: str, event: Any, error: BaseException) -> None:
        """Note what `who` has raised (handling `event`, if it is a handler)."""
        found = self._decisive_in(error)
        if found is None or self.error is not None:
            return
        found.add_note(
            f"raised in {who}" + ("" if event is None else f", which was handling {described(event)}")
        )
        self.error = found
        if self._test is not None:
            self._test.cancel("a handler has decided the test")

    def _decisive_in(self, error: BaseException) -> BaseException | None:
        """Return the error if it decides a test, or what of a group of errors does."""
        if isinstance(error, self._decisive):
            return error
        found: BaseException | None = None
        if isinstance(error, BaseExceptionGroup):
            found = error.subgroup(self._decisive)
        while isinstance(found, BaseExceptionGroup) and len(found.exceptions) == 1:
            (found,) = found.exceptions
        return found


class KitBus(EventBus):
    """An `EventBus` whose handlers and callbacks decide the outcome of a test. The fixtures make it.

    Attributes:
        outcome: The outcome of the test.

    """

    def __init__(self, outcome: Outcome, **settings: Any) -> None:
        super().__init__(**settings)
        self.outcome = outcome
        self._bus.on_raised.append(outcome.note)

    def crashed(self) -> None:
        """What handlers raise from now on never happened: in a process that has died none would go on."""
        self._bus.on_raised.clear()
