"""Trading sessions and what is expected in them, to tell a symptom of trouble from a holiday.

Calendar arithmetic only: wall time is passed in as nanoseconds since 1970, and nothing here reads a clock.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import Enum
from typing import TYPE_CHECKING, Any, cast
from zoneinfo import ZoneInfo

from openoutcry.errors import ConfigError
from openoutcry.events import check_type_name

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MINUTES_PER_DAY = 24 * 60
_LOOK_AHEAD_DAYS = 16
_EVERY_S_MOST = 86_400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_NS = 86_400_000_000_000

if TYPE_CHECKING:
    from openoutcry.events.given import Given

    Dates = Given[frozenset[str], Iterable[str | date] | date]
else:
    Dates = frozenset[str]


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of wall time in which a session is open, or none is.

    Attributes:
        is_open: Whether a session is open.
        since_ns: When it began, in nanoseconds since 1970; for a long stretch, a day ago or more.
        until_ns: When it ends; for a long stretch, when to ask again.

    """

    is_open: bool
    since_ns: int
    until_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Hours in which a market, or a desk, is open.

    `Session(start="09:30", end="16:00", days="mon-fri", tz="America/New_York")` follows daylight saving time.
    A session whose end is not after its start ends on the next day: `start="17:00", end="16:00",
    days="sun-thu"`.

    Attributes:
        start: Local time of the opening, as HH:MM.
        end: Local time of the close, as HH:MM; `24:00` is midnight.
        days: On which days it opens: `mon-fri`, `mon,wed,fri`, `daily`.
        tz: The time zone, by its IANA name.
        holidays: Dates on which it does not open, as YYYY-MM-DD.

    Raises:
        ConfigError: A time, day, date or zone does not exist.

    """

    start: str
    end: str
    days: str = "mon-fri"
    tz: str = "UTC"
    holidays: Dates = field(default=cast(Any, frozenset()))
    _zone: tzinfo = field(init=False, repr=False, compare=False)
    _weekdays: frozenset[int] = field(init=False, repr=False, compare=False)
    _minutes: tuple[int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Parse the words, so that a mistake is found where it is made."""
        start, end = _minutes("start", self.start), _minutes("end", self.end)
        if start == _MINUTES_PER_DAY:
            raise ConfigError("start is '24:00'; a session starts at 23:59 at the latest: write '00:00'")
        if start == end:
            raise ConfigError(f"start and end are {self.start!r}; for the whole day write 00:00 to 24:00")
        setattr_ = object.__setattr__
        setattr_(self, "_minutes", (start, end if end > start else end + _MINUTES_PER_DAY))
        setattr_(self, "_weekdays", _weekdays(self.days))
        setattr_(self, "_zone", _zone(self.tz))
        setattr_(self, "holidays", _dates(self.holidays))

    def openings(self, wall_ns: int) -> list[tuple[int, int]]:
        """Return when it opens and closes, for about two weeks from two days before this instant."""
        found = []
        day = _datetime(wall_ns, self._zone).date() - timedelta(days=2)
        for _ in range(_LOOK_AHEAD_DAYS):
            if day.weekday() in self._weekdays and day.isoformat() not in self.holidays:
                start, end = (self._instant_ns(day, minutes) for minutes in self._minutes)
                if start < end:  # a change to summer time may leave nothing of a short one
                    found.append((start, end))
            day += timedelta(days=1)
        return found

    def _instant_ns(self, day: date, minutes: int) -> int:
        days, minutes = divmod(minutes, _MINUTES_PER_DAY)
        local = datetime(day.year, day.month, day.day, minutes // 60, minutes % 60, tzinfo=self._zone)
        # In local time, where a day may have 23 or 25 hours, and only then as an instant.
        instant = (local + timedelta(days=days)).astimezone(UTC)
        return (instant - _EPOCH) // timedelta(microseconds=1) * 1000


def window_at(sessions: Iterable[Session], wall_ns: int) -> Window:
    """Return the open or closed stretch around an instant; without sessions it is always open."""
    sessions = tuple(sessions)
    if not sessions:
        return Window(is_open=True, since_ns=0, until_ns=wall_ns + _DAY_NS)
    since_ns = wall_ns - _DAY_NS
    for start_ns, end_ns in _merged(opening for s in sessions for opening in s.openings(wall_ns)):
        if wall_ns < start_ns:
            return Window(is_open=False, since_ns=since_ns, until_ns=start_ns)
        if wall_ns < end_ns:
            return Window(is_open=True, since_ns=start_ns, until_ns=end_ns)
        since_ns = end_ns
    return Window(is_open=False, since_ns=since_ns, until_ns=wall_ns + _DAY_NS)


def _merged(openings: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start_ns, end_ns in sorted(openings):
        if merged and start_ns <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end_ns, merged[-1][1]))
        else:
            merged.append((start_ns, end_ns))
    return merged


if TYPE_CHECKING:
    Sessions = Given[tuple[Session, ...], Session | list[Session] | tuple[Session, ...] | frozenset[Session]]
else:
    Sessions = tuple[Session, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What should come, how often, and when. If it does not, that is a finding of the health check.

    Attributes:
        event_type: The type of event: a string or a str-valued Enum member.
        agent: Who publishes it (`source_agent`); None for any agent.
        every_s: At least one event is expected in so many seconds of an open session, first after the
            opening bell.
        sessions: When it is expected: while any of these is open; always if there are none.
        critical: Whether its absence makes the bus UNHEALTHY instead of DEGRADED.

    Raises:
        ConfigError: A value is out of range.

    """

    event_type: str
    agent: str | None = None
    every_s: float
    sessions: Sessions = field(default=cast(Any, ()))
    critical: bool = False

    def __post_init__(self) -> None:
        """Check every value."""
        kind = self.event_type.value if isinstance(self.event_type, Enum) else self.event_type
        if not isinstance(kind, str) or not kind:
            raise ConfigError(f"event_type is {self.event_type!r}; it must be an event type, such as 'fill'")
        check_type_name(str(kind), ConfigError, "event_type", is_own=isinstance(self.event_type, Enum))
        object.__setattr__(self, "event_type", str(kind))
        if self.agent is not None and not (isinstance(self.agent, str) and self.agent):
            raise ConfigError(f"agent is {self.agent!r}; it must be an agent's name, or None for any agent")
        every_s = self.every_s
        if (
            isinstance(every_s, bool)
            or not isinstance(every_s, int | float)
            or not 0 < every_s <= _EVERY_S_MOST
        ):
            raise ConfigError(f"every_s is {every_s!r}; it must be above 0, at most {_EVERY_S_MOST}")
        object.__setattr__(self, "sessions", _sessions(self.sessions))

    def __str__(self) -> str:
        return self.event_type if self.agent is None else f"{self.event_type} from {self.agent}"


def _sessions(value: object) -> tuple[Session, ...]:
    given = value if isinstance(value, list | tuple | set | frozenset) else (value,)
    found: list[Session] = []
    for item in given:
        if not isinstance(item, Session):
            raise ConfigError(f"sessions has {item!r}; each must be a Session")
        found.append(item)
    return tuple(found)


def _datetime(wall_ns: int, zone: tzinfo) -> datetime:
    return (_EPOCH + timedelta(microseconds=wall_ns // 1000)).astimezone(zone)


def _minutes(name: str, text: object) -> int:
    found = re.fullmatch(r"(\d\d):(\d\d)", text) if isinstance(text, str) else None
    if found is not None:
        hours, minutes = int(found[1]), int(found[2])
        if minutes < 60 and hours * 60 + minutes <= _MINUTES_PER_DAY:
            return hours * 60 + minutes
    raise ConfigError(f"{name} is {text!r}; it must be a time of day from 00:00 to 24:00, as HH:MM")


def _weekdays(text: object) -> frozenset[int]:
    wanted: set[int] = set()
    for part in (text if isinstance(text, str) else "").lower().replace("daily", "mon-sun").split(","):
        first, _, last = part.strip().partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            raise ConfigError(f"days is {text!r}; write days of {', '.join(DAYS)} as 'mon-fri' or 'mon,wed'")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        wanted.update((begin + n) % 7 for n in range((end - begin) % 7 + 1))
    return frozenset(wanted)


def _zone(name: object) -> tzinfo:
    if name == "UTC":
        return UTC  # also where the system has no time zones
    try:
        return ZoneInfo(name)  # type: ignore[arg-type]
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise ConfigError(
            f"tz is {name!r}, which is not known here: use an IANA name such as 'America/New_York' "
            "(where the system has no time zones, install tzdata)"
        ) from error


def _dates(values: object) -> frozenset[str]:
    found = set()
    for value in [values] if isinstance(values, str | date) or not isinstance(values, Iterable) else values:
        try:
            found.add(date.fromisoformat(str(value)).isoformat())
        except ValueError as error:
            raise ConfigError(f"holidays has {value!r}; each must be a date as YYYY-MM-DD") from error
    return frozenset(found)
