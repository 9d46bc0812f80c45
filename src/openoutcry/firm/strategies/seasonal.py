"""Strategies by the calendar: pure functions of the date, which is known in advance."""

from openoutcry.firm.strategies.past import Opinion, Past, opinion


def turn_of_month(past: Past, *, from_day: int = 27, to_day: int = 3) -> Opinion | None:
    """Hold over the turn of the month, when salaries and pensions are invested."""
    inside = past.day.day >= from_day or past.day.day <= to_day
    return opinion(0.8 if inside else 0.0, 0.4, f"day {past.day.day} of the month")


def winter(past: Past, *, first: int = 10, last: int = 4) -> Opinion | None:
    """Hold from autumn to spring, and stay out in summer."""
    inside = past.day.month >= first or past.day.month <= last
    return opinion(0.6 if inside else 0.0, 0.4, f"month {past.day.month}")
