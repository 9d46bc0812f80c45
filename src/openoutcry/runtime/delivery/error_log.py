"""Logging what user code raises: with its traceback, once a minute for each kind of error and place."""

import asyncio
import logging
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from openoutcry.core.repeats import Repeats, in_between
from openoutcry.logs import Lines
from openoutcry.printable import printable, printable_traceback, without_middle

log = logging.getLogger("openoutcry")

Place = tuple[str, int]
REPR_MOST = 2_000
TRACEBACK_MOST = 20_000
"""In characters: dead letters keep both, and so does the log, for every event that fails."""
_ASYNCIO = str(Path(asyncio.__file__).parent)


class ErrorLog:
    """The errors of one culprit: a subscription's handler, or the callbacks of a bus.

    `holds_errors` says whether a record may hold the error, and so all that the frames of its traceback refer
    to. Those of handlers have the traceback as text: their agents must be able to go.
    """

    def __init__(self, now_ns: Callable[[], int], *, holds_errors: bool) -> None:
        self._now_ns = now_ns
        self._holds_errors = holds_errors
        self._repeats = Repeats()

    def tell(
        self,
        level: int,
        error: BaseException,
        who: str,
        text: str,
        *args: object,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        """Log an error of `who`, unless one of the same type from the same place was logged just before.

        `extra` is what the record is about: see `logs.about`.
        """
        untold = self._repeats.note((who, type(error), place_of(error)), self._now_ns())
        if untold is None:
            return
        what, more = text % args, in_between(untold)
        if self._holds_errors:
            log.log(level, "%s %s%s", who, what, more, exc_info=error, extra=extra)
        else:
            trace = Lines(safe_traceback(error).rstrip())
            log.log(level, "%s %s%s\n%s", who, what, more, trace, extra=extra)


def safe_repr(value: object) -> str:
    """Return `repr(value)`, shortened, or what can be said of a value whose own `__repr__` raises."""
    try:
        return without_middle(repr(value), REPR_MOST)
    except Exception:  # noqa: BLE001 - a report must not fail for what it reports on
        return f"<{type(value).__qualname__}, whose repr() raises>"


def safe_traceback(error: BaseException) -> str:
    """Return an error's traceback as text that is safe to show, shortened, as far as it can be had."""
    try:
        return without_middle(printable_traceback(error), TRACEBACK_MOST)
    except Exception:  # noqa: BLE001 - a report must not fail for what it reports on
        return "".join(traceback.format_tb(error.__traceback__)) + printable(safe_repr(error))


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
