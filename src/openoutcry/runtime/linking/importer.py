"""Imports of a desk: every log of every other desk, each by itself."""

import asyncio
import logging
from contextlib import suppress
from typing import Final

from openoutcry.errors import JournalError, LinkError
from openoutcry.links.wire import Beat
from openoutcry.ports import LOGS, LogName
from openoutcry.runtime.linking.log_import import LogImport
from openoutcry.runtime.linking.other_desks import OtherDesks
from openoutcry.runtime.linking.parts import Joined
from openoutcry.runtime.linking.votes import Votes

log = logging.getLogger("openoutcry")

LOOK_S: Final = 2.0
"""How often it is looked which desks there are."""
SAFE_S: Final = 2.5
"""How often it is looked whether what was imported by the last look is on the disk; if not, it is synced."""


class Importer:
    """The imports of one desk.

    Attributes:
        logs: What is imported, by desk and log.

    """

    def __init__(self, joined: Joined, others: OtherDesks, votes: Votes) -> None:
        self._joined = joined
        self._votes = votes
        self._others = others
        self._is_on = False
        self.logs: dict[tuple[str, LogName], LogImport] = {}
        others.on_beat(self._heard)

    async def open(self) -> None:
        """Nothing comes in before the bus runs."""
        self.logs.clear()
        self._joined.imported.clear()

    def begin(self) -> None:
        """Import from now on."""
        self._is_on = True
        self._joined.run("imports", self._look)
        self._joined.run("sync of imports", self._make_safe)

    async def end(self, timeout_s: float) -> None:  # noqa: ARG002 - as every part
        """Nothing more comes in: the bus does not admit."""
        self._is_on = False

    def _heard(self, desk: str, beat: Beat) -> None:
        if self._is_on:
            self._begin(desk)
            for log_name, head in beat.heads.items():
                self.logs[desk, log_name].note_head(head, beat.journal)

    async def _look(self) -> None:
        """Begin to import what other desks export, whenever one is there that was not."""
        joined, others = self._joined, self._others
        await joined.wait_seat()
        while True:
            with suppress(LinkError):  # that is told by the exports, which ask the same
                others.note_seats(await joined.transport.seats(), joined.desk, joined.now_ns())
            for desk in sorted(others.desks):
                self._begin(desk)
            await asyncio.sleep(LOOK_S)

    def _begin(self, desk: str) -> None:
        for log_name in LOGS:
            if (desk, log_name) not in self.logs:
                found = self.logs[desk, log_name] = LogImport(self._joined, self._votes, desk, log_name)
                self._joined.run(f"import {desk} {log_name}", found.run)

    async def _make_safe(self) -> None:
        """Have what was imported synced, where no checkpoint has done it, so that others need not keep it."""
        waited: dict[LogImport, int] = {}
        while True:
            await asyncio.sleep(SAFE_S)
            commits, logs = self._joined.store.commits, list(self.logs.values())
            is_due = any(one.safe < waited.get(one, 0) for one in logs)
            waited = {one: one.reached.position for one in logs}
            if is_due and commits.dead is None:
                try:
                    await commits.ask(sync=True)
                except JournalError as error:
                    log.debug("what was imported is not synced: %s", error)
            for one in logs:
                one.tell_reached()
