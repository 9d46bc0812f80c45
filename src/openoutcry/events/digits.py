"""Digits in data that a datetime or a float does not hold are refused: they would be rounded in silence."""

import re
from itertools import chain, cycle
from typing import Any, Final

from openoutcry.errors import InvalidEvent
from openoutcry.events.foreign import shown

_FINE_TIME: Final = re.compile(r':[0-9]{2}[.,][0-9]{6}[0-9]*[1-9]|[.,][0-9]{6}[0-9]*[1-9][Ss]"')
"""A time of day, or a duration, with digits below the microsecond, which a datetime would round."""
_WHOLE: Final = re.compile(r"-?[0-9]{1,400}")
_EXACT_MOST: Final = 2**53
"""Up to here every int is a float."""


def has_fine_time(text: str) -> bool:
    """Return True if JSON has a time or a duration with digits below the microsecond, anywhere in it."""
    return _FINE_TIME.search(text) is not None


def has_wide_int(data: Any) -> bool:
    """Return True if data has an int that no float is equal to, anywhere in it."""
    if type(data) is int:
        return not -_EXACT_MOST <= data <= _EXACT_MOST and _is_inexact(data)
    if isinstance(data, dict):
        return any(map(has_wide_int, data.values()))
    return isinstance(data, list | tuple) and any(map(has_wide_int, data))


def _is_inexact(number: int) -> bool:
    return _near(number) != number


def _near(number: int) -> float | None:
    """Return the float that is nearest to an int, if there is one."""
    try:
        return float(number)
    except OverflowError:
        return None


def _compare_keys(name: str, given: dict[str, Any], kept: dict[str, Any], path: str) -> None:
    """Look at the keys of a dict that were read as floats; they stand in the same order."""
    for key, other in zip(given, kept, strict=True):
        if (
            key != other
            and _WHOLE.fullmatch(key)
            and not _WHOLE.fullmatch(str(other))
            and _is_inexact(int(key))
        ):
            raise InvalidEvent(f"{name}{path} key {key}: must fit a float exactly; use a coarser unit")


def compare_digits(name: str, given: Any, kept: Any, path: str = "") -> None:
    """Raise `InvalidEvent` if a time or a number in data was rounded in the event that was made of it."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key in given.keys() & kept.keys():
            compare_digits(name, given[key], kept[key], f"{path}.{key}")
        if len(given) == len(kept):
            _compare_keys(name, given, kept, path)
    elif isinstance(given, list) and isinstance(kept, list | tuple):
        # Of a set the order may be another one, and what was rounded to the same is there once.
        ints, floats = ({one for one in kept if type(one) is kind} for kind in (int, float))
        for index, (one, other) in enumerate(zip(given, chain(kept, cycle(kept[:1])), strict=False)):
            if type(one) is not int:
                compare_digits(name, one, other, f"{path}[{index}]")
            elif one not in ints:
                rounded = next((near for near in floats if near == _near(one)), other)
                compare_digits(name, one, rounded, f"{path}[{index}]")
    elif isinstance(given, str) and isinstance(kept, str) and given != kept and has_fine_time(f'"{given}"'):
        raise InvalidEvent(
            f"{name}{path} = {shown(given)}: has more than the six digits after the second that a "
            "datetime holds; keep it as text or as an int of nanoseconds (timestamp_ns)"
        )
    elif type(given) is int and type(kept) is float and _is_inexact(given):
        raise InvalidEvent(f"{name}{path} = {given}: must fit a float exactly; use a coarser unit")
