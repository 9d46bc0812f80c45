"""Looking after the journal's health: what it shows, and when recovery goes on in a new file."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context

from openoutcry.config import LadderConfig
from openoutcry.core.ladder import Action, Ladder, journal_rungs
from openoutcry.core.vitals import JournalVitals
from openoutcry.errors import JournalFull, JournalLocked
from openoutcry.runtime.durability.slot import StoreSlot
from openoutcry.runtime.durability.store import Store

log = logging.getLogger("openoutcry")


class JournalMonitor:
    """The health of one bus's journal.

    Attributes:
        reopen: Goes on in a new file; None where recovery is not to do that.
        damage: Tells what of the journal cannot be read; empty if all can.

    """

    def __init__(self, config: LadderConfig, slot: StoreSlot) -> None:
        self._slot = slot
        self._ladder = Ladder(config, journal_rungs(config))
        self._task: asyncio.Task[None] | None = None
        self._error = ""
        self.damage: Callable[[], str] = str
        self.reopen: Callable[[], Awaitable[object]] | None = None

    @property
    def due_ns(self) -> int | None:
        """When recovery has something to do even if nothing happens."""
        ladder = self._ladder
        return ladder.due_ns if ladder.is_climbing and self._task is None else None

    @property
    def is_at_work(self) -> bool:
        """Whether recovery is at work now."""
        return self._task is not None

    def vitals(self, now_ns: int) -> JournalVitals | None:
        """Return the journal's vital signs, after recovery has done what it can; None without a journal."""
        store = self._slot.store
        if store is None:
            return None
        state, error = state_of(store, self.damage())
        is_bad = state in ("dead", "damaged")
        if self.reopen is not None and self._task is None:
            step = self._ladder.look(state if is_bad else None, now_ns)
            if step is not None and step.action is Action.REOPEN:
                self._begin(self.reopen)
        began_ns = store.commits.began_ns
        ladder = self._ladder
        return JournalVitals(
            state=state,
            error=f"{error}; {self._error}" if is_bad and self._error else error,
            oldest_ns=0 if began_ns is None or is_bad else max(0, now_ns - began_ns),
            recovering=is_bad and (ladder.is_climbing or self.is_at_work),
            tried=ladder.tried,
        )

    def resume(self) -> None:
        """A person has seen to it: recovery may try everything anew."""
        self._error = ""
        self._ladder.resume()

    def _begin(self, reopen: Callable[[], Awaitable[object]]) -> None:
        async def run() -> None:
            try:
                await reopen()
                self._error = ""
            except Exception as error:  # noqa: BLE001 - whatever it is, the finding is to tell it
                self._error = f"recovery failed: {error}"
                log.error("the journal could not be recovered: %s", error)  # noqa: TRY400 - it tells enough

        self._task = asyncio.get_running_loop().create_task(
            run(), name="openoutcry:recover-journal", context=Context()
        )
        self._task.add_done_callback(self._ended)

    def _ended(self, _task: "asyncio.Task[None]") -> None:
        self._task = None

    async def end(self) -> None:
        """The bus stops: a recovery that is at work is seen through, so that the file is whole."""
        if self._task is not None:
            await asyncio.wait([self._task])


def state_of(store: Store, damage: str) -> tuple[str, str]:
    """Return a word for the state of a journal, and what is wrong, in words."""
    commits = store.commits
    if commits.dead is not None:
        return "dead", str(commits.dead)
    if damage:
        return "damaged", damage
    if isinstance(commits.refused, JournalFull):
        return "full", str(commits.refused)
    if isinstance(commits.refused, JournalLocked):
        return "locked", str(commits.refused)
    return "ok", ""
