"""The records of the logger `openoutcry`: what they are about, and what they quote made safe to show.

Importing this module is enough. All of the package logs to that one logger. A record that is about a
subscription or an event says so in attributes beside its message: see `about`.
"""

import logging
from collections.abc import Iterable, Mapping
from enum import Enum
from numbers import Number
from typing import Any, Final

from openoutcry.printable import printable, printable_lines, printable_traceback

FACTS: Final = ("subscription", "event_id", "event_type", "correlation_id", "round_id")
"""The attributes that a record may have beside those of every record of `logging`."""


def about(event: object = None, subscription: str | None = None, **more: str | None) -> dict[str, str]:
    """Return the `extra` of a record: whichever of `FACTS` are known. Never raises.

    An event may be of any class, or None. One that begins a chain has its own id as the chain's.
    """
    found: dict[str, Any] = {"subscription": subscription}
    if event is not None:
        found |= {name: _asked(event, name) for name in FACTS[1:]}
        if found["correlation_id"] is None and _asked(event, "causation_id", "") is None:
            found["correlation_id"] = found["event_id"]
    found |= more
    plain = {name: value.value if isinstance(value, Enum) else value for name, value in found.items()}
    return {name: value for name, value in plain.items() if isinstance(value, str) and value}


def _asked(event: object, name: str, otherwise: str | None = None) -> Any:
    """Return an attribute of an event, whose class may raise anything instead."""
    try:
        return getattr(event, name, otherwise)
    except Exception:  # noqa: BLE001 - a record must not cost the event that it is about
        return otherwise


class Lines(str):
    """Lines of the program's own, such as a stack, which a record shows as lines."""

    __slots__ = ()


def lines(each: Iterable[str]) -> Lines:
    """Join lines for a record; a line feed within one of them begins no new one."""
    return Lines("\n".join(map(printable, each)))


class Fact(str):
    """One of `FACTS`: shown, it is safe; taken as the text that it is, such as for JSON, it is as it was."""

    __slots__ = ()

    def __str__(self) -> str:
        return printable(self.exactly)

    def __format__(self, form: str) -> str:
        return format(str(self), form)

    @property
    def exactly(self) -> str:
        """The text itself."""
        return str.__str__(self)


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
    for name in FACTS:
        value = getattr(record, name, None)
        if isinstance(value, str) and printable(value) != value:
            setattr(record, name, Fact(value))
    for name in ("threadName", "taskName", "processName"):
        value = getattr(record, name, None)
        if isinstance(value, str):
            setattr(record, name, printable(value))
    return True


logging.getLogger("openoutcry").addFilter(show_safely)
