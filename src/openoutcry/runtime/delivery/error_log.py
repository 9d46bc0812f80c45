"""Logging what user code raises: with its traceback, once a minute for each kind of error and place."""

import asyncio
import logging
import traceback
from collections.abc import Callable
from pathlib import Path

from openoutcry.core.repeats import Repeats, in_between

log = logging.getLogger("openoutcry")

Place = tuple[str, int]
_ASYNCIO = str(Path(asyncio.__file__).parent)


class ErrorLog:
    """The errors of one culprit: a subscription's handler, or the callbacks of a bus."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._repeats = Repeats()

    def tell(self, level: int, error: BaseException, who: str, text: str, *args: object) -> None:
        """Log an error of `who`, unless one of the same type from the same place was logged just before."""
        untold = self._repeats.note((who, type(error), place_of(error)), self._now_ns())
        if untold is not None:
            shown = error if can_be_shown(error) else None
            log.log(level, "%s %s%s", who, text % args, in_between(untold), exc_info=shown)


def can_be_shown(error: BaseException) -> bool:
    """Return False for an error that raises when its traceback is written."""
    try:
        traceback.format_exception(error)
    except Exception:  # noqa: BLE001 - a report must not fail for what it reports on
        return False
    return True


def place_of(error: BaseException) -> Place | None:
    """Return where an error was raised: the innermost frame, asyncio's own left out; None without one."""
    found = last = None
    trace = error.__traceback__
    while trace is not None:
        last = (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
        if not last[0].startswith(_ASYNCIO):
            found = last
        trace = trace.tb_next
    return found or last
