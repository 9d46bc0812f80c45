"""Log records as JSON, one line a record: for programs that collect logs.

    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())

`openoutcry run --log-json` uses it. It formats the records of any logger.
"""

import logging
import math
import reprlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from openoutcry.printable import printable_json, printable_traceback, without_middle

MESSAGE_MOST: Final = 8_000
TRACE_MOST: Final = 16_000
EXTRA_MOST: Final = 2_000
EXTRAS_MOST: Final = 32
"""How many extras a line has, and how many characters of each, of the message, and of the traceback."""
_NAME_MOST: Final = 100
_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_FIELDS: Final = frozenset({"time", "level", "logger", "message", "exception", "stack", "left_out"})
_brief: Final = reprlib.Repr()
_brief.maxstring = _brief.maxother = EXTRA_MOST


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON. Never raises, whatever the record holds.

    The fields are `time` (ISO 8601, UTC, microseconds), `level`, `logger`, `message`, the record's extras
    under their own names, and if there is one `exception` (the traceback as text) and `stack`. An extra whose
    name is taken gets an underscore behind it. Long texts lose their middle, and say how much; of more than
    32 extras `left_out` counts the rest. What JSON has no form for is written as its `repr`. Characters that
    a terminal obeys are escaped as JSON escapes them, so they read back as they were.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a line feed."""
        line: dict[str, Any] = {
            "time": _time(record.created),
            "level": _text(record.levelname, _NAME_MOST),
            "logger": _text(record.name, EXTRA_MOST),
            "message": _text(_message(record), MESSAGE_MOST),
        }
        _add_extras(line, record)
        trace = _trace(record)
        if trace:
            line["exception"] = _text(trace, TRACE_MOST)
        if record.stack_info:
            line["stack"] = _text(record.stack_info, TRACE_MOST)
        return printable_json(msgspec.json.encode(line).decode())


def _time(created: float) -> str | None:
    try:
        return datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _message(record: logging.LogRecord) -> object:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - arguments that do not fit the text, or a user's __str__
        return f"{_shown(record.msg)} {_shown(record.args)} (not formatted: {type(error).__name__})"


def _trace(record: logging.LogRecord) -> str:
    if record.exc_text:
        return record.exc_text
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    if error is None:
        return ""
    try:
        return printable_traceback(error).rstrip("\n")
    except Exception:  # noqa: BLE001 - an error may be as odd as anything
        return _shown(error)


def _add_extras(line: dict[str, Any], record: logging.LogRecord) -> None:
    left_out = 0
    for name, value in _extras(record):
        if len(line) >= 4 + EXTRAS_MOST:
            left_out += 1
            continue
        key = _text(name, _NAME_MOST)
        while key in _FIELDS or key in line:
            key += "_"
        line[key] = _plain(value)
    if left_out:
        line["left_out"] = left_out


def _extras(record: logging.LogRecord) -> Iterator[tuple[object, Any]]:
    yield from ((name, value) for name, value in list(vars(record).items()) if name not in _OWN)


def _plain(value: Any) -> Any:
    """Return a value as JSON takes it, within bounds."""
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is float:
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return _text(value, EXTRA_MOST)
    try:
        written = msgspec.json.encode(value, enc_hook=_shown)
        if len(written) <= EXTRA_MOST:
            msgspec.json.decode(written)  # so that one extra cannot spoil the line
            return msgspec.Raw(written)
    except Exception:  # noqa: BLE001 - keys that are no text, a value that contains itself, ...
        return _shown(value)
    return _text(written.decode("utf-8", "replace"), EXTRA_MOST)


def _shown(value: object) -> str:
    """Return a value's repr, shortened; or its type's name where that raises."""
    try:
        return _text(_brief.repr(value), EXTRA_MOST)
    except Exception:  # noqa: BLE001 - a user's __repr__
        return f"<a {type(value).__name__} whose repr raises>"


def _text(value: object, most: int) -> str:
    """Return a text that UTF-8 has, without its middle if it is long."""
    text = without_middle(value if type(value) is str else _as_text(value), most)
    return text.encode("utf-8", "backslashreplace").decode()


def _as_text(value: object) -> str:
    try:
        return str.__str__(value) if isinstance(value, str) else str(value)
    except Exception:  # noqa: BLE001 - a user's __str__
        return f"<a {type(value).__name__} whose str raises>"
