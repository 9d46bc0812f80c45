"""Durations, instants and lists in words, for explanations and error messages."""

from collections.abc import Iterable, Sequence

_UNITS = ((86_400_000_000_000, "d"), (1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"), (1, "ns"))
_COARSE_UNITS = (
    (86_400_000_000_000, "d", 2),
    (3_600_000_000_000, "h", 2),
    (60_000_000_000, "min", 2),
    (1_000_000_000, "s", 1),
    (1_000_000, "ms", 10),
)
"""A unit is taken from so many of it on: what is shorter than 10 ms stays as exact as it is."""
LEAST_PERCENT = 0.01
_NS_PER_DAY = 86_400_000_000_000


def span(duration_ns: int) -> str:
    """Return a duration in its largest fitting unit with up to three decimals: 5 s, 312.5 ms, 2 d."""
    size_ns = abs(duration_ns)
    for unit_ns, unit in _UNITS:
        if size_ns >= unit_ns:
            return f"{duration_ns / unit_ns:.3f}".rstrip("0").rstrip(".") + f" {unit}"
    return "0 s"


def rounded(duration_ns: int) -> str:
    """Return a measured duration in words that stand still while it grows: 312 ms, 58 s, 3 min, 2 h, 4 d."""
    for unit_ns, unit, least in _COARSE_UNITS:
        if duration_ns >= least * unit_ns:
            return f"{duration_ns // unit_ns:,} {unit}"
    return span(duration_ns)


def share(part: int, whole: int) -> str:
    """Return a share in words: 96 %, or 0.4 % where less than one."""
    percent = 100 * part / max(part, whole, 1)
    if 0 < percent < LEAST_PERCENT:
        return f"under {LEAST_PERCENT} %"
    return f"{percent:.0f} %" if percent >= 1 else f"{percent:.2g} %"


def counted(count: int, what: str) -> str:
    """Return a count with its noun: 1 event, 1,200 events."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def listed(words: Iterable[str]) -> str:
    """Join words as in a sentence: a, b and c."""
    parts = list(words)
    return " and ".join((", ".join(parts[:-1]), parts[-1])) if len(parts) > 1 else "".join(parts)


def some_of(words: Sequence[str], most: int) -> str:
    """Return the first words, and how many more there are: a, b and 3 more."""
    more = f" and {len(words) - most:,} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def wall_label(wall_ns: int) -> str:
    """Return nanoseconds since 1970 (UTC) as ISO 8601, to the nanosecond, without the datetime module.

    The algorithm is `civil_from_days` of Howard Hinnant, "chrono-compatible low-level date algorithms": years
    begin in March, so that the leap day is the last of its year.
    """
    days, in_day_ns = divmod(wall_ns, _NS_PER_DAY)
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    march_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * march_month + 2) // 5 + 1
    month = march_month + 3 if march_month < 10 else march_month - 9
    year = year_of_era + era * 400 + (month <= 2)
    seconds, ns = divmod(in_day_ns, 1_000_000_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ns:09}Z"
