"""Trading sessions: open, closed, over midnight, over a change of the clocks, on holidays."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openoutcry.errors import ConfigError
from openoutcry.events import EventType
from openoutcry.sessions import DAYS, Expectation, Session, window_at

NEW_YORK = ZoneInfo("America/New_York")
NYSE = Session(start="09:30", end="16:00", days="mon-fri", tz="America/New_York")


def at(text: str, zone=NEW_YORK) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()) * 10**9


def is_open(session: Session, text: str, zone=NEW_YORK) -> bool:
    return window_at((session,), at(text, zone)).is_open


def test_it_is_quiet_at_three_and_open_after_the_bell():
    assert not is_open(NYSE, "2025-11-24T03:00")
    assert not is_open(NYSE, "2025-11-24T09:29:59")
    assert is_open(NYSE, "2025-11-24T09:30")
    assert is_open(NYSE, "2025-11-24T15:59:59")
    assert not is_open(NYSE, "2025-11-24T16:00")


def test_the_weekend_is_one_closed_stretch_until_the_bell_of_monday():
    window = window_at((NYSE,), at("2025-11-22T12:00"))
    assert (window.is_open, window.until_ns) == (False, at("2025-11-24T09:30"))


def test_a_holiday_is_quiet():
    session = Session(start="09:30", end="16:00", tz="America/New_York", holidays=frozenset({"2025-11-27"}))
    assert not is_open(session, "2025-11-27T12:00")
    assert is_open(session, "2025-11-28T12:00")


def test_a_session_may_run_over_midnight():
    globex = Session(start="17:00", end="16:00", days="sun-thu", tz="America/Chicago")
    chicago = ZoneInfo("America/Chicago")
    assert is_open(globex, "2025-11-24T02:00", chicago)
    assert not is_open(globex, "2025-11-24T16:30", chicago)
    assert is_open(globex, "2025-11-28T10:00", chicago)  # of Thursday
    assert not is_open(globex, "2025-11-28T18:00", chicago)


def test_the_bell_follows_the_clocks_when_they_change():
    winter, summer = (window_at((NYSE,), at(f"{day}T10:00")) for day in ("2025-03-07", "2025-03-10"))
    assert datetime.fromtimestamp(winter.since_ns / 1e9, UTC).hour == 14
    assert datetime.fromtimestamp(summer.since_ns / 1e9, UTC).hour == 13


def test_a_night_in_which_the_clocks_change_is_an_hour_shorter():
    night = Session(start="20:00", end="08:00", days="sat", tz="America/New_York")
    window = window_at((night,), at("2025-03-09T01:00"))
    assert window.until_ns - window.since_ns == 11 * 3600 * 10**9


def test_sessions_that_touch_are_one():
    morning, afternoon = (
        Session(start=s, end=e, days="daily") for s, e in (("09:00", "12:00"), ("12:00", "17:00"))
    )
    window = window_at((morning, afternoon), at("2025-11-24T12:00", UTC))
    assert (window.since_ns, window.until_ns) == (at("2025-11-24T09:00", UTC), at("2025-11-24T17:00", UTC))


def test_without_sessions_it_is_always_open():
    assert window_at((), 0).is_open


def test_a_session_that_never_opens_is_closed():
    window = window_at(
        (Session(start="09:00", end="10:00", days="mon", holidays=_all_mondays()),),
        at("2025-11-24T09:30", UTC),
    )
    assert not window.is_open
    assert window.until_ns > at("2025-11-24T09:30", UTC)


def _all_mondays():
    return frozenset(
        (datetime(2025, 11, 3, tzinfo=UTC) + timedelta(weeks=n)).date().isoformat() for n in range(10)
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"start": "9:30", "end": "16:00"}, "start is '9:30'"),
        ({"start": "09:30", "end": "24:01"}, "end is '24:01'"),
        ({"start": "09:60", "end": "16:00"}, "start is '09:60'"),
        ({"start": "24:00", "end": "16:00"}, "write '00:00'"),
        ({"start": "09:30", "end": "09:30"}, "00:00 to 24:00"),
        ({"start": "09:30", "end": "16:00", "days": "monday"}, "days is 'monday'"),
        ({"start": "09:30", "end": "16:00", "days": ""}, "days is ''"),
        ({"start": "09:30", "end": "16:00", "tz": "Mars/Olympus"}, "tz is 'Mars/Olympus'"),
        ({"start": "09:30", "end": "16:00", "tz": "../etc/passwd"}, "IANA"),
        ({"start": "09:30", "end": "16:00", "tz": 5}, "tz is 5"),
        ({"start": "09:30", "end": "16:00", "holidays": {"christmas"}}, "christmas"),
        ({"start": "09:30", "end": "16:00", "holidays": 5}, "holidays has 5"),
        ({"start": 930, "end": "16:00"}, "start is 930"),
    ],
)
def test_what_does_not_exist_is_refused_where_it_is_written(settings, says):
    with pytest.raises(ConfigError, match=says):
        Session(**settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"event_type": "", "every_s": 1}, "event_type is ''"),
        ({"event_type": "fill", "every_s": 0}, "every_s is 0"),
        ({"event_type": "fill", "every_s": 86_401}, "at most 86400"),
        ({"event_type": "fill", "every_s": True}, "every_s is True"),
        ({"event_type": "fill", "every_s": float("nan")}, "every_s is nan"),
        ({"event_type": "fill", "every_s": 1, "agent": ""}, "agent is ''"),
        ({"event_type": "fill", "every_s": 1, "sessions": ("09:30",)}, "must be a Session"),
    ],
)
def test_an_expectation_that_cannot_be_is_refused(settings, says):
    with pytest.raises(ConfigError, match=says):
        Expectation(**settings)


def test_an_expectation_names_what_it_expects():
    assert str(Expectation(event_type=EventType.FILL, every_s=1)) == "fill"
    assert (
        str(Expectation(event_type="signal", agent="trend", every_s=1, sessions=NYSE)) == "signal from trend"
    )


sessions = st.builds(
    lambda start, length, days, tz: Session(
        start=f"{start // 60:02}:{start % 60:02}",
        end=f"{(start + length) % 1440 // 60:02}:{(start + length) % 1440 % 60:02}",
        days=",".join(days),
        tz=tz,
    ),
    start=st.integers(0, 1439),
    length=st.integers(1, 1439),
    days=st.sets(st.sampled_from(DAYS), min_size=1),
    tz=st.sampled_from(["UTC", "America/New_York", "Europe/Berlin", "Asia/Tokyo", "Australia/Lord_Howe"]),
)


@given(several=st.lists(sessions, min_size=1, max_size=3), wall_s=st.integers(0, 4_000_000_000))
def test_windows_contain_their_instant_and_agree_with_each_other(several, wall_s):
    window = window_at(several, wall_s * 10**9)
    assert window.since_ns <= wall_s * 10**9 < window.until_ns
    for inside_ns in (window.until_ns - 1, (wall_s * 10**9 + window.until_ns) // 2):
        assert window_at(several, inside_ns).is_open == window.is_open
    goes_on = window.until_ns - wall_s * 10**9 > 7 * 86_400 * 10**9  # told in pieces
    if window.is_open and not goes_on:
        assert not window_at(several, window.until_ns).is_open
        assert window_at(several, window.since_ns).is_open
