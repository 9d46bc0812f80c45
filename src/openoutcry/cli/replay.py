"""`openoutcry replay`: runs a recorded day again, and says what its agents do otherwise; or a backtest."""

import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from openoutcry.cli.backtest import are_tables, refuse_options, run_backtest, tell_hashes, with_options
from openoutcry.cli.console import print_lines, say
from openoutcry.cli.journal import options
from openoutcry.cli.journal.access import plainly
from openoutcry.cli.journal.options import read_key
from openoutcry.cli.mistakes import FAILED, Mistake
from openoutcry.core.wording import counted
from openoutcry.errors import RecordTooThin
from openoutcry.journals.showing import json_line, time_of

if TYPE_CHECKING:
    from openoutcry.replay import Effects, Replayed, ReplayedLife

TOO_THIN: Final = 4
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0}
_CHANGES_MOST: Final = 20
_ENDS: Final = {"died": "its process died", "open": "not ended on record"}


@click.command()
@click.argument(
    "paths",
    metavar="JOURNAL|TABLE...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, readable=False),
)
@click.option(
    "--app",
    metavar="MODULE:APP",
    help="The app of that day, which must be given its bus.  [default: what the journal says]",
)
@click.option("--life", type=click.IntRange(1), metavar="N", help="Only this life of the journal, from 1.")
@click.option("--from", "from_ns", type=options.INSTANT, metavar="TIME", help="Compare from here on (UTC).")
@click.option("--to", "to_ns", type=options.INSTANT, metavar="TIME", help="End before this time.")
@click.option("--strict", is_flag=True, help="Compare timestamps as well.")
@click.option("--without", multiple=True, metavar="NAME", help="What if this agent had not been hired?")
@click.option("--silence", multiple=True, metavar="NAME", help="What if it had said nothing?")
@click.option(
    "--delay", multiple=True, metavar="NAME=AGE", help="What if it had been so much later? 2s, 500ms."
)
@click.option(
    "--replace", multiple=True, metavar="NAME=MODULE:APP", help="What if this app were in its place?"
)
@click.option(
    "--join",
    "joins",
    is_flag=True,
    help="What comes from outside waits for those who are late, where all was settled on the day.",
)
@with_options
@options.as_json
@options.key_file
def replay(
    paths: tuple[Path, ...],
    app: str | None,
    life: int | None,
    from_ns: int | None,
    to_ns: int | None,
    strict: bool,
    without: tuple[str, ...],
    silence: tuple[str, ...],
    delay: tuple[str, ...],
    replace: tuple[str, ...],
    joins: bool,
    as_json: bool,
    key_file: Path | None,
    **given: Any,
) -> None:
    """Run a recorded day again, and compare what its agents do.

    The agents are made anew by the app, and are handed what was recorded, in its order and at its time.
    What they publish is compared with what they published on that day, field by field. Whatever they do,
    the others are handed what was recorded, so that each is judged on its own. The main program is not run,
    and nothing goes out: no connection, no process, no file written.

    Each start of a bus begins another life of its journal. All are replayed, each with agents made anew,
    which begin with what they had saved, folded and not settled then. What of a life is not on its tape,
    since its process died, is skipped and named.

    With --without, --silence, --delay or --replace: what would have been otherwise. The day is replayed as
    it was first, as a control. Only if that is identical, it is replayed with the change: who is handed
    what it was handed on the day is held to the record, everybody else does what it does. Decisions are
    compared, not money: an order that is new stays open, unless an agent fills it.

    With tables of bars or ticks, CSV or Parquet, it is a backtest: each row is published at its instant, on
    virtual time, and the agents do what they do. Rows of several tables come in the order of their times. A
    column is a field by its name: time, symbol, price or open, high, low, close, volume, bid, ask, interval.

    Exit codes: 0 identical, or what a change led to was shown, or a backtest in which all was handled. 1 not
    identical, or not all was handled. 2 a mistake in the command. 4 the record does not say enough: the
    message says what to record, or what was not compared. (The last moments of a process that died never
    are.)
    """
    from openoutcry.replay import replay as run_again

    if are_tables(paths):
        journal_alone = {"life": life, "from": from_ns, "to": to_ns, "strict": strict, "key-file": key_file}
        what_if = {"without": without, "silence": silence, "delay": delay, "replace": replace, "join": joins}
        _refuse_for_tables({**journal_alone, **what_if})
        run_backtest(paths, app, as_json, given)
        return
    path, *more = paths
    if more:
        raise Mistake(f"{more[0]}: one journal is replayed at a time")
    refuse_options(given)
    began_s = time.monotonic()
    try:
        with plainly(path):
            found = run_again(
                path,
                app,
                strict=strict,
                from_ns=from_ns,
                to_ns=to_ns,
                life=life,
                key=read_key(key_file),
                without=without,
                silence=silence,
                delay=dict(_delay(one) for one in delay),
                replace=dict(_pair("--replace", one) for one in replace),
                joins=joins,
                into=given["into"],
            )
    except RecordTooThin as error:
        say(f"Error: {error}", err=True)
        sys.exit(TOO_THIN)
    if as_json:
        print_lines([json_line(found.to_dict())])
    else:
        _tell(found, time.monotonic() - began_s)
    if not found.identical:
        sys.exit(FAILED if found.is_taped else TOO_THIN)
    if not found.is_complete:
        sys.exit(TOO_THIN)


def _refuse_for_tables(given: dict[str, Any]) -> None:
    """Raise `Mistake` if something was given that a backtest does not have."""
    for name, value in given.items():
        if value:
            raise Mistake(f"--{name} is for a journal, and these are tables: leave it out")


def _pair(option: str, given: str) -> tuple[str, str]:
    name, sign, value = given.partition("=")
    if not (name and sign and value):
        raise Mistake(f"{option} {given}: write NAME=VALUE, such as llm=2s")
    return name, value


def _delay(given: str) -> tuple[str, float]:
    name, value = _pair("--delay", given)
    number, unit = value.rstrip("msh"), value[len(value.rstrip("msh")) :]
    try:
        return name, float(number) * _UNITS[unit]
    except (ValueError, KeyError):
        raise Mistake(f"--delay {given}: write a number with ms, s, m or h, such as llm=2s") from None


def _tell(found: "Replayed", took_s: float) -> None:
    is_control = "control of " if found.effects is not None else ""
    lives = f"{len(found.lives):,} lives, " if len(found.lives) > 1 else ""
    what = f"{lives}{found.entries_count:,} events of {_span(found)}"
    say(f"replayed {is_control}{what} in {took_s:,.1f} s: {_verdict(found, len(found.differences))}")
    tell_hashes(found.replayed)
    for life in found.lives if len(found.lives) > 1 else ():
        ended = "" if life.ended == "stopped" else f", {_ENDS[life.ended]}"
        say(
            f"  life {life.number}, {_span(life)}{ended}: {life.entries_count:,} events, "
            f"{_verdict(life, life.differences_count)}"
        )
    counts = Counter(one.agent for one in found.differences)
    for one in found.first_differences():
        more = counts[one.agent] - 1
        where = f"life {one.life}: " if len(found.lives) > 1 else ""
        say(f"  {where}{one.text()}" + (f"   and {more:,} more" if more else ""))
    for limit in found.limits:
        say(f"  Not known: {limit}.")
    if found.effects is not None:
        _tell_effects(found.effects)
    if found.into is not None:
        say(f"  Written into {found.into}")
        say(f"  Side by side: openoutcry page {found.journal} --compare {found.into}")


_OF_EVENTS: Final = {"same": "the same", "other": "changed", "gone": "gone", "new": "new"}


def _span(found: "Replayed | ReplayedLife") -> str:
    day, first = time_of(found.from_wall_ns).split("T")
    last_day, last = time_of(found.to_wall_ns).split("T")
    last_day = "" if last_day == day else f"{last_day} "
    return f"{day} {first[:8]} to {last_day}{last[:8]}"


def _verdict(found: "Replayed | ReplayedLife", differences_count: int) -> str:
    """Return whether it was identical, and how much was not compared."""
    if not found.entries_count and not found.is_complete:
        return "not replayed"
    verdict = "identical" if found.identical else counted(differences_count, "difference")
    if found.skipped_count:
        verdict += f", {counted(found.skipped_count, 'event')} not compared"
    return verdict if found.is_complete else f"{verdict}: not complete"


def _tell_effects(effects: "Effects") -> None:
    counts = effects.decisions
    words = {"size": "another size", "side": "another side", "other": "changed otherwise"}
    parts = [f"{counts['same']:,} the same"]
    parts += [
        f"{count:,} {words.get(kind, kind)}" for kind, count in counts.items() if count and kind != "same"
    ]
    of_the_day = sum(counts.values()) - counts["new"]
    say(f"  {effects.change}: {counted(of_the_day, effects.compares)}: {', '.join(parts)}")
    everything = sum(effects.events.values()) - effects.events["new"]
    told = ", ".join(f"{effects.events[kind]:,} {word}" for kind, word in _OF_EVENTS.items())
    say(f"  of {counted(everything, 'event')} that agents published: {told}")
    say(
        f"  {counted(effects.rounds_changed, 'round')} with another outcome; touched: "
        f"{', '.join(effects.touched) or 'nobody'}"
    )
    for change in effects.changes[:_CHANGES_MOST]:
        say(f"  {change.text()}")
    if len(effects.changes) > _CHANGES_MOST:
        say(f"  and {len(effects.changes) - _CHANGES_MOST:,} more; --json has all of them")
    if effects.left_out:
        say(f"  {counted(effects.left_out, 'event')} left out, of orders that are not sent any more")
