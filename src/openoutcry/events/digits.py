"""Times in data with more digits than a datetime holds: refused, since they would be rounded in silence."""

import re
from typing import Any, Final

from openoutcry.errors import InvalidEvent
from openoutcry.events.foreign import shown

_FINE_TIME: Final = re.compile(r':[0-9]{2}[.,][0-9]{6}[0-9]*[1-9]|[.,][0-9]{6}[0-9]*[1-9][Ss]"')
"""A time of day, or a duration, with digits below the microsecond, which a datetime would round."""


def has_fine_time(text: str) -> bool:
    """Return True if JSON has a time or a duration with digits below the microsecond, anywhere in it."""
    return _FINE_TIME.search(text) is not None


def compare_times(name: str, given: Any, kept: Any, path: str = "") -> None:
    """Raise `InvalidEvent` if a time in the data of a class and the one that was made of it differ."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key in given.keys() & kept.keys():
            compare_times(name, given[key], kept[key], f"{path}.{key}")
    elif isinstance(given, list) and isinstance(kept, list | tuple):
        for index, pair in enumerate(zip(given, kept, strict=False)):
            compare_times(name, *pair, f"{path}[{index}]")
    elif isinstance(given, str) and isinstance(kept, str) and given != kept and has_fine_time(f'"{given}"'):
        raise InvalidEvent(
            f"{name}{path} = {shown(given)}: has more than the six digits after the second that a "
            "datetime holds; keep it as text or as an int of nanoseconds (timestamp_ns)"
        )
