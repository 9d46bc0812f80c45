"""Which lives of a journal are replayed, and what is said of one that cannot be."""

from openoutcry.errors import ConfigError, RecordTooThin
from openoutcry.events.records import is_record
from openoutcry.journals import JournalReader
from openoutcry.replay.comparing import hashes_of
from openoutcry.replay.lives import Lives
from openoutcry.replay.replayed import ReplayedLife


def picked(lives: Lives, number: int | None, from_ns: int | None, to_ns: int | None) -> list[int]:
    """Return the numbers of the lives that were asked for.

    Raises `ConfigError` where there is no such number, and `RecordTooThin` where nothing was in that time.
    """
    starts = [run.manifest.timestamp_ns for run in lives.runs]
    if number is not None and not 1 <= number <= len(starts):
        raise ConfigError(
            f"--life {number}: {lives.path} has lives 1 to {len(starts)}; leave --life out to see them"
        )
    ends = [*starts[1:], 2**63 - 1]
    found = [
        index
        for index, (began_ns, ended_ns) in enumerate(zip(starts, ends, strict=True), 1)
        if number in (None, index)
        and (to_ns is None or began_ns < to_ns)
        and (from_ns is None or ended_ns > from_ns)
    ]
    if not found:
        raise RecordTooThin(
            f"{lives.path} has no events in that time: leave --from and --to out to see its days"
        )
    return found


def app_of(lives: Lives, number: int) -> str:
    """Return the app of a life, or else of another one, as `module:app`. Raises `ConfigError` for none."""
    runs = lives.runs
    named = [run.manifest.app for run in (runs[number - 1], *reversed(runs)) if run.manifest.app]
    if not named:
        raise ConfigError(f"{lives.path} does not say which app it is of: name it, as module:app")
    return named[0]


def unread(lives: Lives, number: int, why: str) -> ReplayedLife:
    """Return a life of which nothing can be replayed."""
    run = lives.runs[number - 1]
    with JournalReader(lives.path, key=lives.key) as reader:
        entries = run.read_by(reader).entries()
        skipped_count = sum(1 for entry in entries if not is_record(entry.payload))
    nothing = hashes_of(())
    starts_ns = run.manifest.timestamp_ns
    is_last = number == len(lives.runs)
    return ReplayedLife(
        number=number,
        identical=True,
        ended="stopped" if run.has_ended else "open" if is_last else "died",
        entries_count=0,
        skipped_count=skipped_count,
        skipped=why,
        is_complete=False,
        from_wall_ns=starts_ns,
        to_wall_ns=starts_ns,
        recorded=nothing,
        replayed=nothing,
    )
