"""The control socket of one bus: where it is, what can be asked there, and the record of what was done."""

import asyncio
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from openoutcry.config import BusConfig
from openoutcry.errors import ConfigError, JournalError
from openoutcry.events import OperatorAction
from openoutcry.ports import FileJournal
from openoutcry.runtime.admission.gate import Admission
from openoutcry.runtime.api.operator import Operator, Publisher
from openoutcry.runtime.api.pulse import PulseReader
from openoutcry.runtime.control.pulse import watching
from openoutcry.runtime.control.requests import ControlledBus, operating
from openoutcry.runtime.control.server import Acted, ControlServer
from openoutcry.runtime.delivery.consumers import Consumers
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.durability.store import Store
from openoutcry.runtime.health.monitor import Monitor
from openoutcry.runtime.rounds.rounds import Rounds

if TYPE_CHECKING:
    from openoutcry.runtime.linking.linking import Linking  # who has no link does not pay for it

log = logging.getLogger("openoutcry")

TEXT_MOST: Final = 1_000
"""The most characters of a text that an action puts on record."""


class Controlled(ControlledBus, Publisher, Protocol):
    """The bus, as its control socket uses it."""


class Control:
    """Opens and closes the control socket of a bus.

    Beside a journal's file it is for the command line: where it cannot be made, that is logged, and the bus
    runs without it. Where the settings name it (`control`), the start fails.
    """

    def __init__(
        self,
        controlled: Controlled,
        bus: BusState,
        consumers: Consumers,
        admission: Admission,
        rounds: Rounds,
        monitor: Monitor,
        config: BusConfig,
        linking: "Linking | None",
    ) -> None:
        self._linking = linking
        self._controlled = controlled
        self._bus = bus
        self._consumers = consumers
        self._admission = admission
        self._rounds = rounds
        self._monitor = monitor
        self._config = config
        self._operator = Operator(controlled, bus, admission, config)
        self._server: ControlServer | None = None
        self._reader: PulseReader | None = None

    @property
    def reader(self) -> PulseReader:
        """What reads the pulse of this life of the bus."""
        if self._reader is None:
            self._reader = self._new_reader()
        return self._reader

    def _new_reader(self) -> PulseReader:
        return PulseReader(
            self._bus,
            self._admission,
            self._rounds,
            self._monitor,
            self._consumers,
            self._config,
            self._operator.names,
            self._linking,
        )

    def begin(self) -> None:
        """The bus is started: another life of it begins."""
        self._reader = self._new_reader()

    async def open(self, store: Store | None) -> None:
        """Serve the socket, if there is to be one; in virtual time nobody would connect.

        Raises `ConfigError` if one that the settings name cannot be made.
        """
        self.begin()
        own, journal = self._config.control, None if store is None else store.journal
        if hasattr(asyncio.get_running_loop(), "clock"):
            return
        if own is not None:
            server = self._new_server(own, is_own=True)
        elif isinstance(journal, FileJournal) and self._config.persistence is not None:
            if not self._config.persistence.socket:
                return
            server = self._new_server(journal.path, is_own=False)
        else:
            return
        try:
            await server.start()
        except JournalError as error:
            if own is not None:
                raise ConfigError(f"control = {str(own)!r}: {error}") from error
            log.warning("the command line cannot talk to this bus: %s", error)
        else:
            self._server = server

    def _new_server(self, path: str | Path, *, is_own: bool) -> ControlServer:
        return ControlServer(
            self._controlled,
            path,
            is_own=is_own,
            verbs={**watching(self.reader), **operating(self._operator)},
            on_act=self._record,
        )

    async def close(self, timeout_s: float) -> None:
        """Close the socket; what a verb does goes on, and is waited for that long."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(timeout_s)

    def give_up_loop(self) -> None:
        """The loop was closed: remove the socket."""
        server, self._server = self._server, None
        if server is not None:
            server.give_up_loop()

    def _record(self, acted: Acted) -> None:
        """Put on record what an operator has asked for, and what became of it."""
        asked, peer = acted.asked, acted.peer
        event = OperatorAction(
            event_id=f"action:{os.urandom(8).hex()}",
            operator=acted.operator[:TEXT_MOST],
            via=asked.via,
            user_id=peer.user_id,
            process_id=peer.process_id,
            verb=asked.verb,
            target=asked.target[:TEXT_MOST],
            reason=asked.reason[:TEXT_MOST],
            answer=acted.answer[:TEXT_MOST],
        )
        slot = self._admission.slot
        dead = None if slot.store is None else slot.store.commits.dead
        if slot.has_journal:
            slot.recorder.note(event)
        if not slot.has_journal or dead is not None:
            self._bus.history.add_record(event)
        if dead is not None:
            log.error(
                "the journal is dead, so that this is in the history alone: %s asked for %s of %s: %s",
                event.operator,
                event.verb,
                event.target,
                event.answer,
            )
