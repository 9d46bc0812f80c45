"""The health of the journal: what state it is in, and when recovery goes on in a new file."""

import asyncio
import logging
from contextvars import Context
from typing import Protocol

from openoutcry.config import LadderConfig
from openoutcry.core.ladder import Action, Ladder, journal_rungs
from openoutcry.core.vitals import JournalVitals
from openoutcry.errors import JournalFull, JournalLocked
from openoutcry.runtime.delivery.router import Router
from openoutcry.runtime.durability.store import Store

log = logging.getLogger("openoutcry")


class JournalSlot(Protocol):
    """Where the journal of a bus is: it may not be open yet, and after a recovery it is another one."""

    @property
    def store(self) -> Store | None:
        """The store of the open journal, or None."""
        ...

    @property
    def can_recover(self) -> bool:
        """Whether the journal is a file of the bus's own, so that `recover` can go on in a new one."""
        ...

    async def recover(self) -> object:
        """Go on in a new file, with what verifies of the old one; raises if that fails."""
        ...


class JournalMonitor:
    """The health of one bus's journal.

    Args:
        slot: Where the journal is.
        router: The subscriptions, which note what they could not read.
        config: The bounds of recovery.
        recovers: Whether to act, or only to report.

    """

    def __init__(self, slot: JournalSlot, router: Router, config: LadderConfig, *, recovers: bool) -> None:
        self._slot = slot
        self._router = router
        self._recovers = recovers
        self._ladder = Ladder(config, journal_rungs(config))
        self._task: asyncio.Task[None] | None = None
        self._error = ""

    @property
    def due_ns(self) -> int | None:
        """When recovery has something to do even if nothing happens."""
        ladder = self._ladder
        return ladder.due_ns if ladder.is_climbing and self._task is None else None

    @property
    def is_recovering(self) -> bool:
        """Whether the journal is being recovered now."""
        return self._task is not None

    @property
    def has_file(self) -> bool:
        """Whether there are files that other programs may touch although nothing happens on the bus."""
        store = self._slot.store
        return store is not None and self._slot.can_recover and store.commits.dead is None

    def damage(self) -> str:
        """Return what of the journal a subscription could not read; empty if everything could be read."""
        return next((s.read_error for s in self._router if s.read_error), "")

    def vitals(self, now_ns: int) -> JournalVitals | None:
        """Return the journal's vital signs, and start its recovery if that is due; None without a journal."""
        store = self._slot.store
        if store is None:
            return None
        store.look_at_files()
        state, error = state_of(store, self.damage())
        is_bad = state in ("dead", "damaged")
        if self._recovers and self._slot.can_recover and self._task is None:
            step = self._ladder.look(state if is_bad else None, now_ns)
            if step is not None and step.action is Action.REOPEN:
                self._begin()
        began_ns = store.commits.began_ns
        ladder = self._ladder
        return JournalVitals(
            state=state,
            error=f"{error}; {self._error}" if is_bad and self._error else error or _put_off(store),
            oldest_ns=0 if began_ns is None or is_bad else max(0, now_ns - began_ns),
            held_back=store.held_back,
            power_cut=store.power_cut,
            disk=store.disk_findings,
            recovering=is_bad and (ladder.is_climbing or self.is_recovering),
            tried=ladder.tried,
        )

    def resume(self) -> None:
        """The operator has recovered the journal: everything may be tried anew."""
        self._error = ""
        self._ladder.resume()

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(
            self._recover(), name="openoutcry:recover-journal", context=Context()
        )
        self._task.add_done_callback(self._ended)

    async def _recover(self) -> None:
        try:
            await self._slot.recover()
            self._error = ""
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported as a finding
            self._error = f"recovery failed: {error}"
            log.error("the journal could not be recovered: %s", error)  # noqa: TRY400 - the message says it all

    def _ended(self, _task: "asyncio.Task[None]") -> None:
        self._task = None

    def give_up_loop(self) -> None:
        """The loop was closed, and a recovery in progress with it."""
        self._task = None

    async def end(self) -> None:
        """The bus stops: wait for a recovery in progress, so that the file is whole."""
        if self._task is not None:
            await asyncio.wait([self._task])


def _put_off(store: Store) -> str:
    """Return why a commit waits, if it is put off."""
    locked = store.commits.locked
    return "" if locked is None else str(locked)


def state_of(store: Store, damage: str) -> tuple[str, str]:
    """Return the state of a journal as a word, and what is wrong with it."""
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
