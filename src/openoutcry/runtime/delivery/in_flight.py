"""Marks of the events in flight, where SIGKILL does not reach them: one store before a call, one after."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from inspect import isawaitable
from typing import Any

from openoutcry.core.lanes import Batch
from openoutcry.errors import ConfigError
from openoutcry.logs import about
from openoutcry.ports import Marks
from openoutcry.runtime.delivery.handlers import Handler
from openoutcry.runtime.delivery.loops import Drive, check_result, own_copy
from openoutcry.runtime.delivery.subscription import Subscription

log = logging.getLogger("openoutcry")

ALONE = " (alone)"
"""What is added to a lane's name in the mark of a call that has the bus to itself."""


async def await_each_marked(
    cells: Any, cell: int, positions: Iterator[int], events: Iterator[Any], handler: Handler
) -> None:
    """As `await_each`; the position of the event that is being handled stands in the cell."""
    for event, cells[cell] in zip(events, positions, strict=False):
        await handler(event)


async def call_each_marked(
    cells: Any, cell: int, positions: Iterator[int], events: Iterator[Any], handler: Handler
) -> None:
    """As `call_each`; the position of the event that is being handled stands in the cell."""
    for event, cells[cell] in zip(events, positions, strict=False):
        result = handler(event)
        if result is not None:
            if isawaitable(result):
                await result
            else:
                check_result(result)


async def mark_each(
    drive: Drive, cells: Any, cell: int, positions: Iterator[int], events: Iterator[Any], handler: Handler
) -> None:
    """As `drive`; the position of the event that is being handled stands in the cell."""

    def marked() -> Iterator[Any]:
        for event, cells[cell] in zip(events, positions, strict=False):
            yield event

    await drive(marked(), handler)


class InFlightMarker:
    """Marks the calls of one worker, so that the next life knows what was in flight."""

    __slots__ = ("_cell_by_lane", "_cells", "_has_own_drive", "_loop", "_marks", "_name", "_used")

    def __init__(
        self,
        name: str,
        marks: Marks,
        lanes: tuple[str, ...],
        *,
        is_coroutine: bool,
        has_own_drive: bool,
    ) -> None:
        self._name = name
        self._has_own_drive = has_own_drive
        self._loop = own_copy(await_each_marked if is_coroutine else call_each_marked)
        self._marks = marks
        self._cells: Any = marks.cells
        self._cell_by_lane = {lane: marks.claim(name, lane) for lane in lanes}
        self._used = -1

    @classmethod
    def of(
        cls, subscription: Subscription, marks: Marks | None, *, is_control: bool
    ) -> "InFlightMarker | None":
        """Return a marker for a worker of a durable subscription; None for others."""
        if marks is None or subscription.offsets is None:
            return None
        try:
            options = subscription.options
            lanes = ("control",) if is_control else ("high", "normal")
            return cls(
                subscription.name,
                marks,
                lanes,
                is_coroutine=subscription.is_coroutine,
                has_own_drive=options.blocking or options.outbox or options.isolated,
            )
        except ConfigError as error:
            name = subscription.name
            log.warning("the calls of %s cannot be marked: %s", name, error, extra=about(subscription=name))
            return None

    def drive(self, batch: Batch, drive: Drive, *, alone: bool = False) -> Drive:
        """Return what calls the handler for a batch: `drive` itself, if nothing of it is in the journal.

        (One that was given its place in the journal later is not marked: it is no suspect after a crash.)
        `alone` says that nothing else is handled meanwhile, so that a crash is this call's doing.
        """
        positions = batch.positions
        if not positions:
            return drive
        self._used = cell = self._cell_by_lane[batch.lane.name]
        if alone and len(batch.events) == 1:
            self._used = cell = self._cell_alone(batch.lane.name, cell)
        if self._has_own_drive:
            return partial(mark_each, drive, self._cells, cell, iter(positions))
        return partial(self._loop, self._cells, cell, iter(positions))

    def _cell_alone(self, lane: str, otherwise: int) -> int:
        name = lane + ALONE
        if name not in self._cell_by_lane:
            try:
                self._cell_by_lane[name] = self._marks.claim(self._name, name)
            except ConfigError:  # no cell is left
                return otherwise
        return self._cell_by_lane[name]

    def mark_as_beside(self) -> None:
        """Others are handled from now on beside the current call."""
        for lane in ("high", "normal"):
            alone = self._cell_by_lane.get(lane + ALONE)
            if alone is not None and alone == self._used:
                self._used = self._cell_by_lane[lane]
                self._cells[self._used] = self._cells[alone]
                self._cells[alone] = 0

    def clear(self) -> None:
        """Clear the mark: the calls are over."""
        if self._used >= 0:
            with suppress(ValueError):  # an abandoned call that has outlived its journal
                self._cells[self._used] = 0
            self._used = -1

    def release(self) -> None:
        """Give the cells back: the worker has ended."""
        cells, self._cell_by_lane = self._cell_by_lane, {}
        with suppress(ValueError):
            for cell in cells.values():
                self._marks.release(cell)
