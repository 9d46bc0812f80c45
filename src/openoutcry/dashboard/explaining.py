"""Explaining what a journal has, in a thread of its own: making its index takes seconds, and nobody waits."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from openoutcry.dashboard.journal_file import WAITING_MAX
from openoutcry.dashboard.refusals import Refused
from openoutcry.errors import JournalError, UnknownReference
from openoutcry.journals import Explanation, Lineage
from openoutcry.journals.engines import database_errors
from openoutcry.journals.glance import identity_of
from openoutcry.journals.refusals import real_path, refusal

PATIENCE_S: Final = 20.0
"""Whoever waits for longer is told how far the index is, which is made further meanwhile."""
_Found = TypeVar("_Found")


class _Stopped(Exception):
    """The index is not needed any more."""


class Explainer:
    """Explains events of the journal that is at a path now, whoever writes it."""

    def __init__(
        self,
        path: Path,
        key: bytes | None,
        journals: Sequence[Path] = (),
        references: Iterable[str] = (),
    ) -> None:
        self.path = real_path(path)
        self._key = key
        self._journals, self._references = journals, references
        self._thread = ThreadPoolExecutor(1, "openoutcry-lineage")
        self._waiting_count = 0
        self._lineage: Lineage | None = None
        self._identity: tuple[int, ...] = ()
        self._done, self._total = 0, 0
        self._is_stopped = False
        self._failing: tuple[type[Exception], ...] = (
            JournalError,
            OSError,
            msgspec.MsgspecError,
            *database_errors(),
        )

    def check(self) -> None:
        """Raise what is wrong with the other desks' journals, or with the references."""
        if self._journals or self._references:
            self._new().close()

    async def explain(self, ref: str, *, forward: bool = False) -> Explanation:
        """Return why something happened; with `forward` also what came of it.

        Refused with 404 where the journal has nothing of that name, and with 503 where it cannot be read, or
        where its index takes longer than `PATIENCE_S`.
        """
        return await self._ask(lambda lineage: lineage.explain(ref, forward=forward, tell=self._tell))

    async def find(self, ref: str) -> int:
        """Return the position of the event that is meant. Refused as `explain` is."""
        return await self._ask(lambda lineage: lineage.find(ref, tell=self._tell))

    async def _ask(self, ask: Callable[[Lineage], _Found]) -> _Found:
        if self._waiting_count >= WAITING_MAX:
            raise Refused(503, "too much is being explained at once: try again in a moment")
        self._waiting_count += 1
        answer = asyncio.get_running_loop().run_in_executor(self._thread, self._answer, ask)
        answer.add_done_callback(self._answered)
        done, _ = await asyncio.wait({answer}, timeout=PATIENCE_S)
        if not done:
            raise Refused(503, self._how_far())
        return answer.result()

    def _answered(self, answer: "asyncio.Future[_Found]") -> None:
        self._waiting_count -= 1
        if not answer.cancelled():
            answer.exception()  # nobody may wait for it any more

    def _how_far(self) -> str:
        """Return how far the index is, in words."""
        done, total = self._done, self._total
        how_far = f"{done:,} of {total:,} events" if done < total else "nearly done"
        return f"the index of the journal is being made ({how_far}): ask again in a moment"

    def _tell(self, done: int, total: int) -> None:
        self._done, self._total = done, total
        if self._is_stopped:
            raise _Stopped

    # -- in the thread ------------------------------------------------------------------------------

    def _answer(self, ask: Callable[[Lineage], _Found]) -> _Found:
        try:
            return ask(self._open())
        except UnknownReference as problem:
            raise Refused(404, str(problem)) from problem
        except self._failing as problem:
            self._close()
            said = refusal(self.path, problem) if isinstance(problem, OSError) else problem
            raise Refused(503, f"the journal cannot be read: {said}") from problem

    def _open(self) -> Lineage:
        identity = identity_of(self.path)
        if self._lineage is not None and identity != self._identity:
            self._close()
        if self._lineage is None:
            self._lineage = self._new()
            self._identity = identity
        return self._lineage

    def _new(self) -> Lineage:
        return Lineage(self.path, key=self._key, journals=self._journals, references=self._references)

    def _close(self) -> None:
        lineage, self._lineage = self._lineage, None
        if lineage is not None:
            lineage.close()

    def close(self) -> None:
        """Let go of the file; an index that is being made is left."""
        self._is_stopped = True
        self._thread.submit(self._close)
        self._thread.shutdown(wait=True)
