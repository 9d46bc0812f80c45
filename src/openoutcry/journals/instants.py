"""Points in time as somebody writes them who asks about a journal: ISO 8601 text, or an age before now."""

import re
from datetime import UTC, datetime
from typing import Final

from openoutcry.units import NS_PER_S

_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_AGE: Final = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)([smhdw])", re.ASCII)
_EPOCH: Final = datetime.fromtimestamp(0, UTC)


def age_ns(text: str) -> int:
    """Return a duration such as 90s, 15m, 2h or 4w in nanoseconds. Raises `ValueError` with the remedy."""
    found = _AGE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a duration: write 90s, 15m, 2h, 7d or 4w")
    return round(float(found[1]) * _SECONDS[found[2]] * NS_PER_S)


def instant_ns(text: str, now_ns: int) -> int:
    """Return a time as nanoseconds since 1970: ISO 8601, in UTC without a zone, or an age before now.

    Raises `ValueError` with the remedy.
    """
    text = text.strip()
    if _AGE.fullmatch(text):
        return now_ns - age_ns(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is not a time: write 2025-11-24, 2025-11-24T16:00 (UTC), 2025-11-24T16:00+01:00, "
            f"or an age such as 15m"
        ) from None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    since_1970 = moment - _EPOCH
    return (since_1970.days * 86_400 + since_1970.seconds) * NS_PER_S + since_1970.microseconds * 1_000
