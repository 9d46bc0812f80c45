"""Points in time as nanoseconds since 1970 UTC, exactly: of datetimes, ISO 8601 text, counts of a named unit.

A whole number says nothing about its unit. One that lies before March 1973 as nanoseconds, and between 1973
and 2100 as seconds, milliseconds or microseconds, is far more often a mistake than a moment of 1970. It is
taken only where it is before 1973 here, too: where `stamps(time_ns=...)` or the running loop's own clock
reads such a time, as a virtual clock does that starts at 0.
"""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from threading import local
from typing import Any, Final

from openoutcry.errors import InvalidEvent
from openoutcry.events.foreign import is_missing, plain, shown, whole
from openoutcry.events.sources import source_ns
from openoutcry.units import NS_PER_MS, NS_PER_S, NS_PER_US

FURTHEST_NS: Final = 2**63 - 1
CERTAIN_NS: Final = 10**17
"""From here on, 3 March 1973, a count of nanoseconds is taken as one without a second look."""

_NS_PER: Final = {"s": NS_PER_S, "ms": NS_PER_MS, "us": NS_PER_US, "ns": 1}
_UNIT_NAMES: Final = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}
_YEAR_2100_S: Final = 4_102_444_800
_NUMPY_UNIT: Final = re.compile(r"datetime64\[(\d+)?(\w+)\]", re.ASCII)
_NUMPY_NS: Final = {
    "W": Fraction(7 * 86_400 * NS_PER_S),
    "D": Fraction(86_400 * NS_PER_S),
    "h": Fraction(3600 * NS_PER_S),
    "m": Fraction(60 * NS_PER_S),
    **{unit: Fraction(per_ns) for unit, per_ns in _NS_PER.items()},
    "ps": Fraction(1, 10**3),
    "fs": Fraction(1, 10**6),
    "as": Fraction(1, 10**9),
}
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_S_PER_DAY: Final = 86_400
_MISSING: Final = "is not a time; leave the event out, or give it the time when it was seen"
_REMEDY: Final = (
    "pass an aware datetime, or an int of nanoseconds since 1970 UTC, or ISO 8601 text with a time zone; "
    "timestamp_ns(value, unit=...) converts other counts"
)

_ISO: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?"
    r"(?:([Zz])|([+-])(\d\d)(?::?(\d\d)(?::?(\d\d))?)?)?",
    re.ASCII,
)


class NotATime(ValueError):
    """A value is no point in time. The message is the limit and the remedy, without the value."""


class _Trust(local):
    """Whether times that this thread reads were written by `encode`, and so have been judged before."""

    as_written = False


_trust: Final = _Trust()


@contextmanager
def as_written() -> Iterator[None]:
    """Take every count of nanoseconds in the block as one: it is read back from where `encode` wrote it."""
    before, _trust.as_written = _trust.as_written, True
    try:
        yield
    finally:
        _trust.as_written = before


def point_ns(given: object) -> int:
    """Return a point in time as nanoseconds. Raises `NotATime`."""
    value = plain(given) if type(given) is not int else given
    if is_missing(value):
        raise NotATime(_MISSING)
    if isinstance(value, datetime):
        ns = _of_datetime(value)
    elif isinstance(value, str):
        ns = _of_text(value)
    elif isinstance(value, float):
        raise NotATime(f"a float does not hold nanoseconds{_looks_like(value)}; {_REMEDY}")
    elif (count := whole(value)) is not None:
        ns = count
        check_unit(ns)
    elif getattr(getattr(value, "dtype", None), "kind", "") == "M":
        raise NotATime(
            "must have a time zone, which numpy's times do not have; "
            "pass timestamp_ns(value) if it is in UTC, which numpy assumes"
        )
    else:
        raise NotATime(f"must be a point in time; {_REMEDY}")
    if not -FURTHEST_NS <= ns <= FURTHEST_NS:
        raise NotATime(f"must lie between the years 1677 and 2262{_looks_like(ns)}; {_REMEDY}")
    return ns


def check_unit(ns: int) -> None:
    """Raise `NotATime` if a count is plainly one of seconds, milliseconds or microseconds."""
    if 0 <= ns < CERTAIN_NS and not _trust.as_written:
        unit = _unit_of(ns)
        if unit is not None and not _runs_near_1970():
            raise NotATime(
                f"nanoseconds since 1970 are meant, and it looks like {_UNIT_NAMES[unit]} "
                f'({_moment(ns * _NS_PER[unit])}); pass timestamp_ns(value, unit="{unit}")'
            )


def _unit_of(count: float) -> str | None:
    """Return the unit by which the count would lie between March 1973 and 2100, if it is not nanoseconds."""
    for unit, per_ns in _NS_PER.items():
        if unit != "ns" and CERTAIN_NS <= count * per_ns < _YEAR_2100_S * NS_PER_S:
            return unit
    return None


def _looks_like(count: float) -> str:
    unit = _unit_of(count)
    if unit is None:
        return ""
    return f', and it looks like {_UNIT_NAMES[unit]} (timestamp_ns(value, unit="{unit}"))'


def _moment(ns: int) -> str:
    return (_EPOCH + timedelta(seconds=ns // NS_PER_S)).isoformat()


def _runs_near_1970() -> bool:
    """Return True if it is before 1973 here, too, by `stamps` or by the clock of the running loop."""
    if source_ns() < CERTAIN_NS:
        return True
    loop = asyncio._get_running_loop()  # noqa: SLF001 - get_running_loop, without an exception where none runs
    wall_ns: Any = getattr(getattr(loop, "clock", None), "wall_ns", None)
    return callable(wall_ns) and wall_ns() < CERTAIN_NS


def _of_datetime(given: datetime) -> int:
    """Return the nanoseconds of an aware datetime; pandas has the last three digits in an attribute."""
    try:
        offset = given.utcoffset()
    except (OverflowError, ValueError):
        raise NotATime(f"its time zone has no offset for that year; {_REMEDY}") from None
    if offset is None:
        raise NotATime("must have a time zone; add one, as in datetime.now(UTC)")
    days = date(given.year, given.month, given.day).toordinal() - _EPOCH_DAY
    seconds = days * _S_PER_DAY + given.hour * 3600 + given.minute * 60 + given.second
    seconds -= offset.days * _S_PER_DAY + offset.seconds
    microseconds = given.microsecond - offset.microseconds
    return seconds * NS_PER_S + microseconds * NS_PER_US + int(getattr(given, "nanosecond", 0))


def _of_text(text: str) -> int:
    found = _ISO.fullmatch(text)
    if found is None:
        raise NotATime(f'must be ISO 8601 text such as "2026-01-02T14:30:00.123456789Z"; {_REMEDY}')
    year, month, day, hour, minute, second, fraction, utc, sign, *zone = found.groups()
    if utc is None and sign is None:
        raise NotATime('must have a time zone; end it with "Z" or an offset such as "+05:30"')
    if fraction is not None and fraction[9:].strip("0"):
        raise NotATime("has more than nine digits after the second; cut it to nanoseconds")
    seconds, minutes, hours = int(second or 0), int(minute), int(hour)
    if seconds == 60 and minutes < 60 and hours < 24:
        raise NotATime("is a leap second, which time since 1970 does not count; take the one before or after")
    east_s, rest = _offset_s(sign, *zone), (fraction or "")[:9].ljust(9, "0")
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH_DAY
    except ValueError as problem:
        raise NotATime(f"must be a day of the calendar ({problem}); correct the text") from None
    if hours > 23 or minutes > 59 or seconds > 59:
        raise NotATime("must be a time of day from 00:00:00 to 23:59:59; correct the text")
    return (days * _S_PER_DAY + hours * 3600 + minutes * 60 + seconds - east_s) * NS_PER_S + int(rest)


def _offset_s(sign: str | None, *zone: str | None) -> int:
    if sign is None:
        return 0
    hours, minutes, seconds = (int(part or 0) for part in zone)
    if hours > 23 or minutes > 59 or seconds > 59:
        raise NotATime("must have an offset of less than a day; correct the text")
    east_s = hours * 3600 + minutes * 60 + seconds
    return -east_s if sign == "-" else east_s


def iso_text(ns: int) -> str:
    """Return a time as ISO 8601 text in UTC, with nine digits if it has nanoseconds, else six or none."""
    text = (_EPOCH + timedelta(microseconds=ns // 1000)).isoformat(
        timespec="microseconds" if ns % 1000 else "auto"
    )
    return f"{text[:-6]}{ns % 1000:03d}{text[-6:]}" if ns % 1000 else text


def timestamp_ns(value: Any, unit: str | None = None) -> int:
    """Return a point in time as nanoseconds since 1970 UTC, exactly.

    A number, or a string of one, needs its `unit`: "s", "ms", "us" or "ns". It may be an int, a float, a
    `Decimal` or a `Fraction`, or numpy's ints and 64-bit floats. A float stands for the shortest decimal that
    it is printed as, rounded to a nanosecond; any other number with digits beyond the nanosecond is refused.
    A datetime, a pandas `Timestamp` (both with a time zone), a numpy `datetime64` (taken as UTC) and ISO 8601
    text have no `unit`.

    Raises `InvalidEvent` for anything else, for not-a-time, and beyond the years 1677 to 2262.
    """
    try:
        return _converted(value, unit)
    except NotATime as problem:
        raise InvalidEvent(f"timestamp_ns({shown(value)}, unit={unit!r}): {problem}") from None


def _converted(given: Any, unit: str | None) -> int:
    if unit is not None and unit not in _NS_PER:
        raise NotATime('there is no such unit; use "s", "ms", "us" or "ns"')
    if getattr(getattr(given, "dtype", None), "kind", "") == "M":
        ns = _of_datetime64(given)
    else:
        value = given if isinstance(given, Decimal | Fraction) else plain(given)
        if is_missing(value):
            raise NotATime(_MISSING)
        if unit is None or isinstance(value, datetime):
            if type(value) is int:
                raise NotATime('a number needs its unit; add unit="s", "ms", "us" or "ns"')
            if unit is not None:
                raise NotATime("it has a unit of its own; leave unit out")
            return point_ns(value)
        ns = _counted(value, _NS_PER[unit])
    if not -FURTHEST_NS <= ns <= FURTHEST_NS:
        raise NotATime("must lie between the years 1677 and 2262; check the unit")
    return ns


def _counted(value: object, per_ns: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal | Fraction):
        raise NotATime("must be a number or a time; convert it before")
    try:
        exact = Fraction(repr(value) if isinstance(value, float) else value) * per_ns
    except (ValueError, OverflowError, ZeroDivisionError):
        raise NotATime("must be a finite number; correct it") from None
    if isinstance(value, float):
        return round(exact)
    if exact.denominator != 1:
        raise NotATime("has digits beyond the nanosecond; round it before")
    return exact.numerator


def _of_datetime64(given: Any) -> int:
    """Return the nanoseconds of numpy's time, of any unit; its own cast to nanoseconds would wrap around."""
    found = _NUMPY_UNIT.fullmatch(given.dtype.name)
    if is_missing(given) or getattr(given, "shape", None) != () or found is None:
        raise NotATime(_MISSING)
    count, unit = int(given.astype("int64")) * int(found[1] or 1), found[2]
    if unit in "YM":
        year, month = divmod(count * (12 if unit == "Y" else 1), 12)
        if not 1 <= 1970 + year <= 9999:
            return FURTHEST_NS + 1
        count, unit = date(1970 + year, month + 1, 1).toordinal() - _EPOCH_DAY, "D"
    exact: Fraction = count * _NUMPY_NS[unit]
    if exact.denominator != 1:
        raise NotATime("has digits beyond the nanosecond; round it before")
    return exact.numerator
