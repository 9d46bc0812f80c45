"""The times of a table's rows, as nanoseconds since 1970 UTC. What does not say when it was is refused.

A time needs a zone, a count needs its unit, and a date needs the hour at which its bar was known: without
them a backtest would look ahead, by hours and without a word.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from openoutcry.errors import ConfigError, InvalidEvent
from openoutcry.events import timestamp_ns
from openoutcry.replay.table_files import InUtc, OnTheWall
from openoutcry.units import NS_PER_US

_COUNT: Final = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - that of a clock on the wall
UNITS: Final = ("s", "ms", "us", "ns")


class NotAnInstant(ValueError):
    """A cell does not say when it was. The message is what is wrong and the remedy, without the value."""


class Times:
    """How the times of tables are read.

    Args:
        zone: Where clocks on the wall hang, such as `America/New_York`; None: times must have a zone.
        unit: The unit of counts since 1970 UTC: `s`, `ms`, `us` or `ns`.
        known_after_ns: So long after its time a row is known. For a date, which is midnight then.

    """

    def __init__(
        self, zone: str | None = None, unit: str | None = None, known_after_ns: int | None = None
    ) -> None:
        if unit is not None and unit not in UNITS:
            raise ConfigError(f"unit is {unit!r}; it must be one of {', '.join(UNITS)}")
        if known_after_ns is not None and known_after_ns < 0:
            raise ConfigError(
                f"known_after is {known_after_ns} ns: a row cannot be known before its time; give 0 or more"
            )
        self._zone = None if zone is None else _zone_of(zone)
        self._zone_name = zone
        self._unit = unit
        self._after_ns = known_after_ns

    def reader(self, column_unit: str | None) -> Callable[[Any], int]:
        """Return what reads the cells of a column. `column_unit` is what its name says."""
        unit = column_unit or self._unit

        def read(value: Any) -> int:
            return self._instant(value, unit)

        return read

    def later(self, at_ns: int) -> int:
        """Return when a row of a time is known."""
        return at_ns + (self._after_ns or 0)

    def _instant(self, value: Any, unit: str | None) -> int:
        if isinstance(value, str):
            value = value.strip()
        if isinstance(value, InUtc):
            return self.later(int(value))
        if isinstance(value, OnTheWall):
            return self.later(self._localised(int(value)))
        if isinstance(value, datetime):
            value = value.isoformat()
        if isinstance(value, date):
            return self._of_date(value)
        if isinstance(value, str) and not _COUNT.fullmatch(value):
            return self._of_text(value)
        return self.later(_of_count(value, unit))

    def _of_text(self, text: str) -> int:
        if _DATE.fullmatch(text):
            try:
                return self._of_date(date.fromisoformat(text))
            except ValueError as problem:
                raise NotAnInstant(f"is no day of the calendar ({problem}); correct it") from None
        try:
            return self.later(timestamp_ns(text))
        except InvalidEvent as problem:
            wrong = problem
        try:
            on_the_wall = timestamp_ns(f"{text}Z")
        except InvalidEvent:
            raise NotAnInstant(str(wrong).partition(": ")[2]) from None
        return self.later(self._localised(on_the_wall))

    def _of_date(self, day: date) -> int:
        if self._after_ns is None or self._zone is None:
            raise NotAnInstant(
                "is a date, and its bar was known at some hour of that day: give --zone and --known-after, "
                "as in --zone America/New_York --known-after 16h"
            )
        # By the clock on the wall, so that it is the same hour on days that have 23 or 25 of them.
        midnight = (day - _EPOCH.date()).days * 86_400_000_000_000
        return self._localised(midnight + self._after_ns)

    def _localised(self, wall_ns: int) -> int:
        """Return the point in time at which a clock on the wall shows this."""
        if self._zone is None:
            raise NotAnInstant(
                "has no time zone: write it as 2026-01-02T09:30:00-05:00 or with Z, or say where the clock "
                "hangs, as in --zone America/New_York"
            )
        try:
            shown = _EPOCH + timedelta(microseconds=wall_ns // NS_PER_US)
        except OverflowError:
            raise NotAnInstant("must lie between the years 1677 and 2262; correct it") from None
        first, second = (shown.replace(tzinfo=self._zone, fold=fold).utcoffset() for fold in (0, 1))
        assert first is not None, "a zone has an offset"
        if first != second:
            raise NotAnInstant(
                f"was shown twice or never by clocks in {self._zone_name}, which were put back or forward: "
                "write it with its offset, as in 2026-11-01T01:30:00-04:00"
            )
        return wall_ns - (first.days * 86_400 + first.seconds) * 1_000_000_000


def _of_count(value: Any, unit: str | None) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise NotAnInstant("must be a time: ISO 8601 text with a zone, or a count with a unit")
    if unit is None:
        raise NotAnInstant(
            "is a count, and of what is not known: name the column time_s, time_ms, time_us or time_ns, or "
            "give --unit"
        )
    try:
        return timestamp_ns(value, unit)
    except InvalidEvent as problem:
        raise NotAnInstant(str(problem).partition(": ")[2]) from None


def _zone_of(name: str) -> tzinfo:
    if name.upper() in ("UTC", "Z"):
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # a name that is none, or no name of a zone
        raise ConfigError(
            f"zone is {name!r}, which is no time zone here: write one such as UTC, Europe/London or "
            "America/New_York"
        ) from None
