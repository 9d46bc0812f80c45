"""The records of the logger `openoutcry`: whatever they quote is made safe to show, for every handler.

Importing this module is enough. All of the package logs to that one logger.
"""

import logging
from collections.abc import Iterable, Mapping
from numbers import Number
from typing import Any

from openoutcry.printable import printable, printable_lines, printable_traceback


class Lines(str):
    """Lines of the program's own, such as a stack, which a record shows as lines."""

    __slots__ = ()


def lines(each: Iterable[str]) -> Lines:
    """Join lines for a record; a line feed within one of them begins no new one."""
    return Lines("\n".join(map(printable, each)))


class _Shown:
    """A value of a record as text, made when the record is formatted."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return printable(str(self._value))

    def __repr__(self) -> str:
        return printable(repr(self._value))


def _shown(value: Any) -> Any:
    if isinstance(value, Lines):
        return printable_lines(value)
    return value if value is None or isinstance(value, Number) else _Shown(value)


def show_safely(record: logging.LogRecord) -> bool:
    """Make everything that a record quotes safe to show: a filter that lets every record pass."""
    record.msg = printable_lines(str(record.msg)) if record.args else printable(str(record.msg))
    if isinstance(record.args, Mapping):
        record.args = {name: _shown(value) for name, value in record.args.items()}
    elif record.args:
        record.args = tuple(map(_shown, record.args))
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    if error is not None:
        record.exc_text = printable_traceback(error).rstrip("\n")
    if record.stack_info is not None:
        record.stack_info = printable_lines(record.stack_info)
    for name in ("threadName", "taskName", "processName"):
        value = getattr(record, name, None)
        if isinstance(value, str):
            setattr(record, name, printable(value))
    return True


logging.getLogger("openoutcry").addFilter(show_safely)
