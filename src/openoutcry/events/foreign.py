"""Values of numpy and pandas, by what they can do: neither is imported.

A numpy scalar (or an array without dimensions) becomes Python's own value if that is exactly the same, and so
do pandas' times that fit a datetime. What cannot become one stays as it is, to be refused by its reader with
the field's name: a longdouble with more digits, a `Timestamp` with nanoseconds, an array, not-a-time.
"""

import reprlib
from datetime import datetime, timedelta
from numbers import Integral
from typing import Any, Final

_SHOWN_CHARACTERS: Final = 500
_SCALAR_KINDS: Final = frozenset("biufU")
_MISSING: Final = frozenset({"NaTType", "NAType"})
_CONTAINERS: Final = (list, tuple, dict, set, frozenset)
_brief: Final = reprlib.Repr()
_brief.maxlevel = 4
_brief.maxstring = _brief.maxother = _brief.maxlong = _SHOWN_CHARACTERS
_OWN: Final = frozenset({bool, int, float, str})


def plain(value: Any) -> Any:
    """Return the equal value of Python's own, or the value itself if it is none of numpy's or pandas'."""
    if type(value) in _OWN:
        return value
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    if kind in _SCALAR_KINDS and getattr(value, "shape", None) == ():
        return value if _is_masked(value) else _scalar(value)
    if isinstance(value, datetime) and getattr(value, "nanosecond", None) == 0 and not is_missing(value):
        return getattr(value, "to_pydatetime", lambda: value)()
    if isinstance(value, timedelta) and getattr(value, "nanoseconds", None) == 0:
        return getattr(value, "to_pytimedelta", lambda: value)()
    return value


def _scalar(value: Any) -> Any:
    item = value.item()
    if type(item) in _OWN:
        return item
    number = float(item)  # a longdouble
    return number if number == item else value


def _is_masked(value: Any) -> bool:
    """Return True for one value of numpy's masked arrays that is masked: what lies behind it is no value."""
    mask = getattr(value, "mask", None)
    return getattr(mask, "shape", None) == () and bool(mask)


def whole(value: Any) -> int | None:
    """Return a whole number as an int, or None if the value is none. Bools are not numbers."""
    found = plain(value)
    if type(found) is int:
        return found
    # numpy's durations call themselves Integral
    if isinstance(found, bool) or not isinstance(found, Integral) or hasattr(found, "dtype"):
        return None
    return int(found)


def is_missing(value: Any) -> bool:
    """Return True for what stands for no value: NaN, NaT, pandas' NA, and what numpy has masked."""
    if type(value).__name__ in _MISSING or _is_masked(value):
        return True
    try:
        return bool(value != value)  # noqa: PLR0124 - what is not equal to itself
    except Exception:  # noqa: BLE001 - an array, or another value with an equality of its own
        return False


def is_array(value: Any) -> bool:
    """Return True for arrays, series and frames: many values where one is expected."""
    return hasattr(value, "__array__") and getattr(value, "shape", None) != ()


def shown(value: object) -> str:
    """Return a value's repr for a message, cut to a length that a line can bear. Never raises.

    The repr itself may be endless: a list may hold another twice, and that one a third.
    """
    try:
        text = _brief.repr(value) if isinstance(value, _CONTAINERS) else repr(value)
    except Exception:  # noqa: BLE001 - too many digits, or a user's __repr__
        return f"<a {type(value).__name__}>"
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    return f"{text[:_SHOWN_CHARACTERS]}... ({len(text)} characters)"
