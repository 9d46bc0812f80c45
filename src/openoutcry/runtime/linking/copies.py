"""Copies: what the level `replicated` sends to the engine before it commits here.

```
  publish ─▶ a copy into the log, until the quorum has it ─▶ commit, release ─▶ True ─▶ the regular export
                                                    └ refused after all: a void, which takes the copy back
```

A copy stands between the groups of the chain and is none of them: importers pass it over. After a crash the
next life finds it in the log, and takes it in if the journal lacks it.
"""

import asyncio
from contextlib import suppress
from typing import Final

from openoutcry.core.runs import COPY, VOID
from openoutcry.errors import BusClosed, ConfigError, LinkError, LogGone, SeatLost, Unreachable
from openoutcry.ports import Entry, Facts, Group, LogName
from openoutcry.runtime.linking.exporter import Exporter
from openoutcry.runtime.linking.log_export import log_of
from openoutcry.runtime.linking.parts import Joined

REPLICAS_LEAST: Final = 3
WAIT_S: Final = 30.0
"""How long a publisher waits for the quorum at most: an election may take ten seconds."""
AGAIN_S: Final = 0.05
"""The pause before a copy is sent again that was not answered."""


def check(facts: Facts) -> None:
    """Raise `ConfigError` if an engine does not keep what it has acknowledged when a node is lost."""
    if facts.replicas < REPLICAS_LEAST:
        raise ConfigError(
            f"level is 'replicated', and {facts.engine} keeps each log on {facts.replicas} node(s): it takes "
            f"{REPLICAS_LEAST}. Give Link(replicas=3) and three servers before the logs are made, or another "
            "level"
        )
    if not facts.is_synced:
        raise ConfigError(
            f"level is 'replicated', and {facts.engine} acknowledges before it syncs: a power cut of two "
            "nodes would lose what was accepted. Set `sync_interval: always` on every server "
            "(Link(servers_sync=True) vouches for it where they cannot be asked), or give another level"
        )


class Copies:
    """Sends copies for one desk. It is admission's `Replicas`."""

    def __init__(self, joined: Joined, exporter: Exporter) -> None:
        self._joined = joined
        self._exporter = exporter
        self._logs = exporter.logs

    async def put(self, entry: Entry) -> None:
        """Have the quorum keep an entry that is about to be committed. Cancelled, it may be kept or not.

        Raises:
            ConfigError: The engine cannot promise it.
            Unreachable: It has not answered for `WAIT_S`: nobody knows whether it keeps it.
            LinkError: It does not take it: the log is full, the event is too large.
            SeatLost, BusClosed: Nothing is accepted any more.

        """
        await self._exporter.expect_copies()
        log_name = log_of(entry)
        one = self._logs[log_name]
        one.begin_copy(entry.event_id)
        try:
            await self._append(COPY, entry, log_name)
        except BaseException:
            one.end_copy(entry.event_id)
            raise

    async def take_back(self, entry: Entry) -> None:
        """An entry was refused after its copy was kept: no later life is to take it in."""
        log_name = log_of(entry)
        self._logs[log_name].end_copy(entry.event_id)
        with suppress(LinkError, ConfigError, BusClosed, TimeoutError):
            async with asyncio.timeout(1.0):
                await self._append(VOID, entry, log_name)

    def released(self, entry: Entry) -> None:
        """An entry was released: its copy is needed until it is exported from its position."""
        position = self._joined.store.journal.find(entry.event_id)
        if position is not None:
            self._logs[log_of(entry)].place_copy(entry.event_id, position)

    async def wait_kept(self, event_id: str) -> None:
        """Wait until the quorum has what the journal has of an event; what another desk has made, it has.

        Raises as `put`.
        """
        journal = self._joined.store.journal
        position = journal.find(event_id)
        found = [] if position is None else journal.read(position - 1, 1)
        if (
            position is None
            or not found
            or (found[0].header is not None and found[0].header.desk is not None)
        ):
            return
        one = self._logs["normal" if found[0].lane == "normal" else "high"]
        try:
            async with asyncio.timeout(WAIT_S):
                await one.wait_exported(position)
        except TimeoutError:
            raise Unreachable(
                f"the engine has not taken {event_id} for {WAIT_S:g} s: publish it again"
            ) from None

    async def _append(self, kind: str, entry: Entry, log_name: LogName) -> None:
        one, joined = self._logs[log_name], self._joined
        loop = asyncio.get_running_loop()
        until_s = loop.time() + WAIT_S
        while True:
            self._check_open()
            try:
                async with asyncio.timeout_at(until_s):
                    await one.wait_found()
                    seat = await joined.wait_seat()
                    if joined.facts is not None:
                        check(joined.facts)
                    group = Group(
                        desk=joined.desk,
                        journal=f"{kind}{one.run.name}",
                        log=log_name,
                        after=one.after,
                        upto=one.after + 1,
                        positions=(one.after + 1,),
                        entries=(entry,),
                    )
                    await joined.transport.append(group, seat.tokens[log_name])
                    return
            except (Unreachable, LogGone, TimeoutError) as error:
                if loop.time() >= until_s:
                    raise Unreachable(
                        f"the engine has not answered for {WAIT_S:g} s, so that nobody knows whether "
                        f"{entry.event_id} is replicated; it was not accepted here: publish it again"
                    ) from error
            await asyncio.sleep(AGAIN_S)

    def _check_open(self) -> None:
        bus = self._joined.bus
        if bus.fenced is not None:
            raise SeatLost(str(bus.fenced))
        if bus.phase not in ("running", "stopping"):
            raise BusClosed(f"the bus is {bus.phase}, so nothing can be replicated: publish after the start")
