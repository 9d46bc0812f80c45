"""Logging under `openoutcry run`, where the app does not configure it: to stderr, with times in UTC."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from openoutcry.logs import show_safely

LEVELS = ("debug", "info", "warning", "error")


class _ToStderr(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stderr` is at that moment."""

    def __init__(self, level: int) -> None:
        logging.Handler.__init__(self, level)

    @property
    def stream(self) -> TextIO:  # type: ignore[override] # looked up anew for each record
        return sys.stderr


def _make_safe(record: logging.LogRecord) -> bool:
    """Make a record of the app or of a library safe to show; those of openoutcry are already."""
    return record.name == "openoutcry" or show_safely(record)


@contextmanager
def times_and_levels(level: str) -> Iterator[None]:
    """Show records from this level on, unless the app configures logging, before or after this.

    It takes the place of `logging.lastResort`, which is used as long as nobody has added a handler.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    handler = _ToStderr(number)
    formatter = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    handler.addFilter(_make_safe)
    root, before = logging.root, logging.lastResort
    root_level = root.level
    if not root.handlers and root_level == logging.WARNING:
        root.setLevel(number)
    logging.lastResort = handler
    try:
        yield
    finally:
        logging.lastResort = before
        if root.level == number:
            root.setLevel(root_level)


def is_shown_here() -> bool:
    """Whether what openoutcry logs is written to stderr by the handler above, and to nowhere else."""
    return not logging.getLogger("openoutcry").hasHandlers()
