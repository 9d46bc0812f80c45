"""Defects to be planted in the link: the model must find each of them, or its silence proves nothing."""

# ruff: noqa: SLF001 - a defect is planted where nobody is meant to reach

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest.mock import patch

from openoutcry.core.chain import Chain, Verdict
from openoutcry.core.crossings import Crossings
from openoutcry.errors import LinkError, Unreachable
from openoutcry.links.memory_hub import MemoryHub
from openoutcry.links.wire import unpack
from openoutcry.ports import Ended, Group, LogName
from openoutcry.runtime.linking.log_export import LogExport
from openoutcry.runtime.linking.log_import import LogImport

Patches = list[Any]


def _named_by_the_first_entry() -> Patches:
    """The engine drops a group whose name it has seen: it was named after its first entry alone."""
    append = MemoryHub.append

    def append_once(hub: MemoryHub, log: LogName, desk: str, data: bytes, token: int) -> int:
        seen: dict[Any, int] = hub.__dict__.setdefault("_seen", {})
        found = unpack(data)
        name = (log, desk, found.journal, found.positions[:1])
        if found.positions and name in seen:
            return seen[name]
        seen[name] = append(hub, log, desk, data, token)
        return seen[name]

    return [patch.object(MemoryHub, "append", append_once)]


def _purged_by_sequence() -> Patches:
    """Trimming removes everything up to a place, and so the claims before it."""

    def trim(hub: MemoryHub, log: LogName, desk: str, upto: int) -> int:
        places = [one.place for one in hub.groups(log) if one.desk == desk and one.upto <= upto]
        last = max(places, default=0)
        return hub._log(log).keep(lambda one: one.place > last)

    return [patch.object(MemoryHub, "trim", trim)]


def _stale_last() -> Patches:
    """Where exports end is asked of a copy that lags."""
    last = MemoryHub.last

    def stale(hub: MemoryHub, log: LogName, desk: str) -> Ended | None:
        found = [one for one in hub.groups(log) if one.desk == desk]
        if len(found) < 3:
            return last(hub, log, desk)
        return Ended(found[-3].journal, found[-3].upto, found[-3].place)

    return [patch.object(MemoryHub, "last", stale)]


def _claimed_in_one_log_only() -> Patches:
    """A claim leaves the last token of the log `normal` as it was."""
    claim = MemoryHub.claim

    def claim_high(hub: MemoryHub, log: LogName, desk: str, expected: int) -> int:
        last = hub._log(log).tokens.get(desk)
        return claim(hub, log, desk, expected) if log == "high" or last is None else last

    return [patch.object(MemoryHub, "claim", claim_high)]


def _not_fenced() -> Patches:
    """The engine takes what the holder of an old claim appends."""
    append = MemoryHub.append

    def append_any(hub: MemoryHub, log: LogName, desk: str, data: bytes, token: int) -> int:
        tokens = hub._log(log).tokens
        last = tokens.get(desk, token)
        tokens[desk] = token
        try:
            return append(hub, log, desk, data, token)
        finally:
            tokens[desk] = last

    return [patch.object(MemoryHub, "append", append_any)]


def _gaps_are_not_noticed() -> Patches:
    """A group behind a gap is taken for the next one."""
    judge = Chain.judge

    def judge_blindly(chain: Chain, *args: Any) -> Verdict:
        verdict = judge(chain, *args)
        return Verdict.NEXT if verdict is Verdict.GAP else verdict

    return [patch.object(Chain, "judge", judge_blindly)]


def _several_in_flight() -> Patches:
    """The next groups are appended before the first is answered, each until it is."""

    async def append_several(export: LogExport, token: int) -> None:
        group = await export._next()
        if group is None:
            return
        export.after = export._joined.exported[export._log] = group.upto
        asyncio.get_running_loop().create_task(_until_answered(export, group, token))
        await asyncio.sleep(0)

    return [patch.object(LogExport, "_append", append_several)]


async def _until_answered(export: LogExport, group: Group, token: int) -> None:
    while True:
        try:
            await export._joined.transport.append(group, token)
        except Unreachable:
            await asyncio.sleep(0.1)
        except LinkError:
            return
        else:
            return


def _saved_before_the_import() -> Patches:
    """How far an import has come is saved before what is imported."""
    take = LogImport._take

    async def save_and_take(self: LogImport, group: Group) -> None:
        store = self._joined.store
        store.saving.remember(self._snapshot_after(group, (), 0))
        await store.commits.ask(sync=False)
        await take(self, group)

    return [patch.object(LogImport, "_take", save_and_take)]


def _switches_come_anew() -> Patches:
    """A kill switch that was released, and that retention has removed, is raised again when it comes."""
    return [patch.object(Crossings, "is_over", lambda _crossings, _event_id: False)]


PLANTS: Final[dict[str, Callable[[], Patches]]] = {
    "a group is named by its first entry": _named_by_the_first_entry,
    "logs are purged by sequence": _purged_by_sequence,
    "the end of exports is stale": _stale_last,
    "a claim is in one log only": _claimed_in_one_log_only,
    "old holders are not fenced": _not_fenced,
    "gaps are not noticed": _gaps_are_not_noticed,
    "several groups are in flight": _several_in_flight,
    "the cursor is saved before the import": _saved_before_the_import,
    "kill switches that are over come anew": _switches_come_anew,
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Plant a defect for as long as the block lasts."""
    with ExitStack() as stack:
        for one in PLANTS[name]():
            stack.enter_context(one)
        yield
