"""What the parts of a link share, and what each of them is."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, Final, Protocol

from openoutcry.config import Link
from openoutcry.config.link import EVERY_TYPE
from openoutcry.core.cursors import LINK, name_of_import
from openoutcry.core.link_words import LinkWord
from openoutcry.errors import LinkError, OpenOutcryError
from openoutcry.links.wire import Imported
from openoutcry.ports import LOGS, Facts, LogName, Seat, Transport
from openoutcry.runtime.admission.gate import Admission
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.durability.store import Store
from openoutcry.runtime.linking.rows import Met, OwnRow, read_own, write_row
from openoutcry.runtime.ownership import resolve
from openoutcry.units import NS_PER_S

log = logging.getLogger("openoutcry")

AGAIN_S: Final = 1.0
"""The pause before a part goes on that has failed in a way it does not know."""
ENGINE: Final = "engine"
"""Under this name stands among the problems that the engine does not answer, whatever this desk has to do."""


class Part(Protocol):
    """A part of the link: exports, imports, the seat, and so on.

    `open` comes before the bus hands out anything, `begin` when it runs, `end` when it stops. After `end`
    it may be opened again.
    """

    async def open(self) -> None:
        """Get ready. Raises `LinkError` if the bus must not start; an engine that is away is no reason."""
        ...

    def begin(self) -> None:
        """The bus runs: begin the tasks, by `Joined.run`."""
        ...

    async def end(self, timeout_s: float) -> None:
        """The bus has drained: bring to an end what can be within the time. The tasks are ended afterwards.

        It may not have been opened, or begun. Nothing that the engine does may keep it longer.
        """
        ...


class Joined:
    """What the parts of a link share.

    Attributes:
        link: The settings.
        desk: This desk's name.
        transport: What carries groups and messages between desks. It belongs to `Linking`.
        bus: The state of the bus.
        admission: The way into the bus.
        facts: What the engine can promise; None before it was reached.
        exported: Up to which position of this desk's journal each log has it.
        imported: How far this desk has come, by the other desk and its log.
        is_new: Whether this desk was never part of the firm before, and has not met it yet.
        met: What the others had exported when this desk came, by the names of their rows.
        problems: What each part has to tell, by the part's name: a word and a sentence.
        is_out: Whether another process holds this desk, so that this one speaks for it no more. `Seats` alone
            sets it.

    """

    def __init__(self, link: Link, transport: Transport, bus: BusState, admission: Admission) -> None:
        self.link = link
        self.desk: str = link.desk
        self.transport = transport
        self.bus = bus
        self.admission = admission
        self._seat: Seat | None = None
        self._waits_for_seat: list[asyncio.Future[None]] = []
        self.facts: Facts | None = None
        self.exported: dict[LogName, int] = {}
        self.imported: dict[tuple[str, LogName], Imported] = {}
        self.is_new: bool = False
        self.met: dict[str, Met] = {}
        self.problems: dict[str, tuple[LinkWord, str]] = {}
        self.is_out: bool = False
        self._fenced: Callable[[], None] = _nothing
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def seat(self) -> Seat | None:
        """The seat of this desk, while this process holds it; else None. `Seats` alone sets it."""
        return self._seat

    @seat.setter
    def seat(self, seat: Seat | None) -> None:
        self._seat = seat
        waiters, self._waits_for_seat = self._waits_for_seat, []
        for waiter in waiters:
            resolve(waiter)

    async def wait_seat(self, but: Seat | None = None) -> Seat:
        """Return the seat; wait until there is one, with other tokens than `but` has."""
        while self._seat is None or (but is not None and self._seat.tokens == but.tokens):
            waiter = asyncio.get_running_loop().create_future()
            self._waits_for_seat.append(waiter)
            await waiter
        return self._seat

    def know_itself(self) -> None:
        """Read in the journal whether this desk was part of the firm before."""
        journal = self.store.journal
        own = read_own(journal)
        self.is_new = own is None and not any(one.subscription == LINK for one in journal.cursors())
        self.met = {} if own is None else own.met

    async def meet(self) -> None:
        """Note how far the others have exported, before a new desk is claimed for the first time.

        From when it is claimed they keep for it what they export.
        """
        if not self.is_new:
            return
        met: dict[str, Met] = {}
        for seat in await self.transport.seats():
            for log_name in LOGS if seat.desk != self.desk else ():
                ended = await self.transport.last(log_name, seat.desk)
                if ended is not None:
                    met[name_of_import(seat.desk, log_name)] = Met(ended.journal, ended.upto)
        self.store.saving.remember(write_row(LINK, OwnRow.of(self.link, met=met), self.bus.clock.wall_ns()))
        await self.store.saving.save(sync=True)  # a power cut must not make it meet them anew, later
        self.is_new, self.met = False, met

    def may_release(self, desk: str) -> bool:
        """Return True if the releases of another desk are believed here."""
        return EVERY_TYPE in self.link.releasers or desk in self.link.releasers

    def on_fenced(self, call: Callable[[], None]) -> None:
        """Call this when the engine has refused what this desk exports."""
        self._fenced = call

    def fenced(self, error: LinkError) -> None:
        """The engine has refused what this desk exports: the seat is looked at.

        Wait until `seat` is another one, which was claimed anew here meanwhile; or None, if another process
        holds the desk.
        """
        log.warning("desk %s: %s", self.desk, error)
        self._fenced()

    def now_ns(self) -> int:
        """Return the time on the loop's monotonic clock, in nanoseconds."""
        return int(asyncio.get_running_loop().time() * NS_PER_S)

    @property
    def store(self) -> Store:
        """The store of the open journal: another one after `recover_journal`, so ask each time."""
        found = self.admission.slot.store
        assert found is not None, "a bus with a link has a journal, and it is open while the link is"
        return found

    def run(self, part: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have a coroutine function run as a task until the link ends, on no handler's behalf.

        It handles the errors that it knows. Any other is told, and it is called again after a pause.
        """
        loop = asyncio.get_running_loop()
        task = loop.create_task(
            self._again_and_again(part, work), name=f"openoutcry:{part}", context=Context()
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def spawn(self, part: str, work: Coroutine[Any, Any, None]) -> None:
        """Have a coroutine run as a task, on no handler's behalf. That the engine is away is not told."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(_quietly(part, work), name=f"openoutcry:{part}", context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def begin(self, part: str, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine as `spawn` does, but its first step now: the loop may have a commit to do first."""
        steps = _quietly(part, work)
        try:
            awaited = Context().run(steps.send, None)
        except StopIteration:
            return
        self.spawn(part, _go_on(steps, awaited))

    async def _again_and_again(self, part: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            try:
                await work()
            except OpenOutcryError as error:
                log.error("the link's part %s has failed, and is begun again: %s", part, error)  # noqa: TRY400
            except Exception:
                log.exception("the link's part %s has failed, and is begun again", part)
            else:
                return
            await asyncio.sleep(AGAIN_S)

    async def end_tasks(self) -> None:
        """End all tasks, and wait until they are over."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def give_up_loop(self) -> None:
        """The loop was closed: its tasks are gone with it."""
        self._tasks.clear()
        self._waits_for_seat = []
        self._seat = None


async def _quietly(part: str, work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except LinkError as error:
        log.debug("the link's %s: %s", part, error)
    except OpenOutcryError as error:
        log.error("the link's %s: %s", part, error)  # noqa: TRY400
    except Exception:
        log.exception("the link's %s has failed", part)


def _nothing() -> None:
    """Do nothing."""


async def _go_on(steps: Coroutine[Any, Any, None], awaited: Any) -> None:
    """Run the rest of a coroutine, which waits for something."""
    await _Rest(steps, awaited)


class _Rest:
    """What is left of a coroutine."""

    def __init__(self, steps: Coroutine[Any, Any, None], awaited: Any) -> None:
        self._steps, self._awaited = steps, awaited

    def __await__(self) -> Generator[Any, Any, None]:
        steps, awaited = self._steps, self._awaited
        while True:
            try:
                try:
                    sent = yield awaited
                except BaseException as error:  # noqa: BLE001 - a cancellation, for example: it is the coroutine's
                    awaited = steps.throw(error)
                else:
                    awaited = steps.send(sent)
            except StopIteration:
                return
