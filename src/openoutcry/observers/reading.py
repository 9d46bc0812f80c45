"""What one makes of pulses: rates, percentiles, and what is wrong, in sentences with the culprit's name.

All of it is pure, and none of it runs in the firm's process. The page, `openoutcry top` and `status` say the
same of the same pulse.
"""

from collections.abc import Iterator
from typing import Final, Literal

from msgspec import Struct

from openoutcry.core import latency
from openoutcry.core.link_words import AWAY, WHAT_TO_DO, LinkWord
from openoutcry.core.wording import counted, listed, rounded
from openoutcry.observers.pulse import Finding, HaltRow, Histogram, Pulse, Shape, SubRow, SubShape
from openoutcry.units import NS_PER_S

Severity = Literal["critical", "bad", "warn"]
Action = Literal["resume", "release", "dead", "look", ""]

UNHEARD_NS: Final = 1_000_000_000
"""Who has not heard a kill switch for so long is told of."""
CALL_NS: Final = 10_000_000_000
"""A call that takes longer is told of, where the subscription has no `timeout_s` of its own;"""
LONG_CALL_NS: Final = 60_000_000_000
"""and one of this length is bad."""
OVERRUN: Final = 1.5
"""So many times its `timeout_s` a call may take."""
FAILING_SHARE: Final = 0.2
"""Whose calls fail more often is told of;"""
MOST_FAIL_SHARE: Final = 0.5
"""and this is bad."""
CALLS_LEAST: Final = 5
"""So many calls are needed to speak of a share."""
FULL_SHARE: Final = 0.5
"""Whose mailbox is fuller is told of;"""
FULLER_SHARE: Final = 0.9
"""and this is bad."""
OLD_NS: Final = 5_000_000_000
"""An event that waits longer is told of."""
DELAY_NS: Final = 50_000_000
"""So long a turn of the loop may take;"""
LONG_DELAY_NS: Final = 500_000_000
"""and this is bad."""
INVALID_SHARE: Final = 0.2
"""Which share of the rounds may end without a valid outcome."""
DESK_SILENT_NS: Final = 3_000_000_000
"""A desk that has been silent for longer is told of: it speaks four times a second."""
CLOCK_NS: Final = 60_000_000_000
"""So far the clocks of two desks may lie apart."""
FINDINGS_AGE_NS: Final = 15_000_000_000
"""What a health check has found that is older is not told of any more."""
WRONG_MOST: Final = 100
_RANK: Final = {"critical": 0, "bad": 1, "warn": 2}
_LAST: Final[dict[Action, int]] = {"dead": 1, "": 2}
"""Of equally bad things, those come first about which somebody can do something now."""
_KINDS: Final = {
    "errors": "errors",
    "failing": "errors",
    "stuck": "busy",
    "stalled": "still",
    "dead": "still",
}
"""What a health check finds that is also read off the pulse."""


class Wrong(Struct, frozen=True):
    """One thing that is wrong."""

    severity: Severity
    """How bad it is."""
    culprit: str
    """Who is to blame: a subscription, a scope, or a part of the bus."""
    sentence: str
    """What is wrong, beginning with the culprit."""
    since_ns: int | None = None
    """Since when, in nanoseconds since 1970, if that is known."""
    action: Action = ""
    """What one can do: resume a subscription, release a scope, see its dead letters, look at it."""
    target: str = ""
    """To what."""


class Rates(Struct, frozen=True):
    """What a subscription did between two pulses, per second."""

    accepted: float = 0.0
    """Events accepted for it."""
    handled: float = 0.0
    """Calls that returned."""
    errors: float = 0.0
    """Calls that failed."""


def rates(before: Pulse | None, pulse: Pulse, shape: Shape) -> dict[str, Rates]:
    """Return what each subscription of a shape has done since an earlier pulse, by name.

    Nothing is known, so that all are 0, without one of the same session and shape.
    """
    names = [subscription.name for subscription in shape.subscriptions]
    if before is None or not _are_comparable(before, pulse):
        return dict.fromkeys(names, Rates())
    over_s = (pulse.now_ns - before.now_ns) / NS_PER_S
    return {
        names[new.index]: Rates(
            max(0, new.accepted - old.accepted) / over_s,
            max(0, new.handled - old.handled) / over_s,
            max(0, new.errors - old.errors) / over_s,
        )
        for old, new in zip(before.rows, pulse.rows, strict=False)
        if new.index < len(names)
    }


def _are_comparable(before: Pulse, pulse: Pulse) -> bool:
    same = (before.session, before.shape) == (pulse.session, pulse.shape)
    return same and pulse.now_ns > before.now_ns


def percentile_ns(times: Histogram, share: float) -> float | None:
    """Return the time at or below which this share (0 to 1) of those counted lie; None if there are none.

    It is within 12 % of the truth.
    """
    return latency.percentile_ns(times.buckets, share * 100)


def since(times: Histogram, before: Histogram | None) -> Histogram:
    """Return what was counted since an earlier reading of the same distribution.

    Its largest is the limit of the highest bucket, unless that holds the largest of all.
    """
    if before is None or before.count > times.count:
        return times
    counts = {bucket: n - before.buckets.get(bucket, 0) for bucket, n in times.buckets.items()}
    counts = {bucket: n for bucket, n in counts.items() if n > 0}
    largest = latency.limit_ns(max(counts)) if counts else 0
    return Histogram(counts, times.count - before.count, min(largest, times.max_ns))


# -- what is wrong ----------------------------------------------------------------------------------


def wrong(shape: Shape, pulse: Pulse, before: Pulse | None = None) -> list[Wrong]:
    """Return what is wrong with a bus, worst first; at most 100 things.

    `before` is an earlier pulse: what has grown since then counts as happening now.
    """
    earlier = before if before is not None and _are_comparable(before, pulse) else None
    findings = _recent_findings(pulse)
    known = {(f.culprit, _KINDS.get(f.check, f.check)) for f in findings}
    found = [*_halts(pulse), *_hearing(pulse), *_parts(pulse, earlier), *_rounds(pulse, earlier)]
    found += _link(pulse, earlier, is_known=any(f.check == "link" for f in findings))
    subs = shape.subscriptions
    rows = {subs[row.index].name: row for row in pulse.rows if row.index < len(subs)}
    known_checks = {"journal"} if any(one.culprit == "journal" for one in found) else set()
    found += [_of_finding(finding, rows, pulse) for finding in findings if finding.check not in known_checks]
    befores = {} if earlier is None else {row.index: row for row in earlier.rows}
    for row in pulse.rows:
        if row.index < len(subs):
            of = _Reading(subs[row.index], row, befores.get(row.index), pulse)
            found += of.wrong(known)
    found += _elsewhere(pulse)
    return sorted(found, key=lambda one: (_RANK[one.severity], _LAST.get(one.action, 0)))[:WRONG_MOST]


def _halts(pulse: Pulse) -> Iterator[Wrong]:
    """Tell of active kill switches, one for each scope."""
    by_scope: dict[str, list[HaltRow]] = {}
    for halt in pulse.halts:
        by_scope.setdefault(halt.scope, []).append(halt)
    for scope, halts in by_scope.items():
        first, more = halts[0], len(halts) - 1
        who = f" by {first.by}" if first.by else ""
        why = f": {first.reason}" if first.reason else ""
        others = f" (and {more:,} more)" if more else ""
        what = "the firm" if scope == "firm" else scope
        sentence = f"{what} is halted{who}{why}{others}"
        yield Wrong("critical", scope, sentence, first.since_ns, "release", scope)
    hidden = pulse.halts_count - len(pulse.halts)
    if hidden > 0:
        yield Wrong("critical", "kill switches", f"{hidden:,} more kill switches are active")


def _hearing(pulse: Pulse) -> Iterator[Wrong]:
    """Tell of those that have not heard the newest kill switch, while it is young or somebody waits."""
    heard = pulse.heard
    if heard is None:
        return
    what = "kill switch" if heard.activated else "release"
    at_ns = pulse.wall_ns - (pulse.now_ns - heard.at_ns)
    if not heard.total and heard.activated and pulse.halts_count:
        yield Wrong(
            "critical", "kill switch", "nobody takes kill switches: the newest reached no subscription", at_ns
        )
    if heard.waiting and pulse.now_ns - heard.at_ns > UNHEARD_NS:
        left = heard.total - heard.heard
        more = left - len(heard.waiting)
        names = listed([*heard.waiting, *([f"{more} more"] if more > 0 else [])])
        yield Wrong(
            "critical",
            heard.waiting[0],
            f"{names} {'has' if left == 1 else 'have'} not handled the {what} of {heard.scope}: "
            f"{heard.heard} of {heard.total} have",
            at_ns,
            "look",
            heard.waiting[0],
        )
    for name in heard.failed:
        yield Wrong(
            "bad", name, f"{name} has failed to handle the {what} of {heard.scope}", at_ns, "dead", name
        )


def _parts(pulse: Pulse, before: Pulse | None) -> Iterator[Wrong]:
    """Tell what is wrong with the bus itself."""
    if not pulse.ledger_balances:
        yield Wrong("critical", "ledger", "the ledger does not balance: accepted events are unaccounted for")
    if pulse.journal is not None and pulse.journal.dead:
        yield Wrong(
            "critical", "journal", f"the journal is dead, durable events are refused: {pulse.journal.dead}"
        )
    elif pulse.journal is not None and pulse.journal.refused:
        sentence = f"the journal takes nothing, durable events are refused: {pulse.journal.refused}"
        yield Wrong("critical", "journal", sentence)
    if pulse.state != "running":
        yield Wrong("bad", "bus", f"the bus is {pulse.state}")
    if pulse.level in ("high", "critical"):
        refused = sum(pulse.refused.values())
        yield Wrong(
            "bad" if pulse.level == "critical" else "warn",
            "backpressure",
            f"backpressure is {pulse.level}: {pulse.queue:,} of {pulse.capacity:,} events wait, "
            f"{refused:,} were refused",
        )
    elif before is not None and sum(pulse.refused.values()) > sum(before.refused.values()):
        more = sum(pulse.refused.values()) - sum(before.refused.values())
        yield Wrong("warn", "backpressure", f"backpressure: {more:,} events refused just now")
    if pulse.loop_delay_ns > DELAY_NS:
        severity: Severity = "bad" if pulse.loop_delay_ns > LONG_DELAY_NS else "warn"
        by = f"; it was {_blocked(pulse)}" if pulse.blocked else ""
        yield Wrong(severity, "loop", f"the loop is late: a turn took {rounded(pulse.loop_delay_ns)}{by}")
    elif before is not None and pulse.blocked and pulse.blocked != before.blocked:
        yield Wrong("warn", "loop", f"the loop was {_blocked(pulse)}")


def _blocked(pulse: Pulse) -> str:
    """Return by whom the loop was blocked, if the watchdog knows that, and for how long."""
    blocked = pulse.blocked.strip()
    return f"blocked {blocked}" if blocked.startswith("for ") else f"blocked by {blocked}"


def _rounds(pulse: Pulse, before: Pulse | None) -> Iterator[Wrong]:
    ended = sum(pulse.rounds_released.values())
    has_more = before is None or pulse.rounds_invalid > before.rounds_invalid
    if ended >= CALLS_LEAST and pulse.rounds_invalid > INVALID_SHARE * ended and has_more:
        yield Wrong(
            "warn",
            "rounds",
            f"rounds: {pulse.rounds_invalid:,} of {ended:,} ended without a valid outcome, "
            f"{pulse.rounds_late:,} answers were late",
        )


def _link(pulse: Pulse, before: Pulse | None, *, is_known: bool) -> Iterator[Wrong]:
    """Tell what is wrong with the link; its word unless a health check has found that already."""
    link = pulse.link
    if link is None:
        return
    if link.word != LinkWord.UP and not is_known:
        severity: Severity = _OF_WORD.get(link.word, "bad")
        yield Wrong(severity, "link", f"the link is {link.word}: {link.why or _remedy(link.word)}")
    befores = {} if before is None or before.link is None else {d.desk: d for d in before.link.desks}
    for desk in link.desks:
        silent_ns = pulse.now_ns - desk.heard_ns
        if desk.heard_ns and silent_ns > DESK_SILENT_NS and desk.word != AWAY:
            at_ns = pulse.wall_ns - silent_ns
            yield Wrong(
                "bad", desk.desk, f"desk {desk.desk} has not been heard for {rounded(silent_ns)}", at_ns
            )
        if abs(desk.ahead_ns) > CLOCK_NS:
            side = "ahead of" if desk.ahead_ns > 0 else "behind"
            yield Wrong(
                "warn",
                desk.desk,
                f"the clock of desk {desk.desk} is {rounded(abs(desk.ahead_ns))} {side} this one",
            )
        old = befores.get(desk.desk)
        if old is not None and desk.ticks_lost > old.ticks_lost:
            lost = desk.ticks_lost - old.ticks_lost
            yield Wrong(
                "warn", desk.desk, f"{counted(lost, 'tick')} of desk {desk.desk} never came, just now"
            )


_OF_WORD: Final[dict[str, Severity]] = {
    LinkWord.BEHIND: "warn",
    LinkWord.GAP: "warn",
    LinkWord.FENCED: "critical",
}


def _remedy(word: str) -> str:
    return WHAT_TO_DO.get(LinkWord(word), "") if word in set(LinkWord) else ""


def _recent_findings(pulse: Pulse) -> list[Finding]:
    """Return what the last health check has found, unless that was long ago."""
    return pulse.findings if pulse.wall_ns - pulse.health_checked_ns < FINDINGS_AGE_NS else []


def _of_finding(finding: Finding, rows: dict[str, SubRow], pulse: Pulse) -> Wrong:
    row = rows.get(finding.culprit)
    action: Action = "" if row is None else "look"
    if row is not None and finding.check in ("failing", "exhausted"):
        action = "resume"
    severity: Severity = "bad" if finding.level == "unhealthy" else "warn"
    sentence, since_ns = f"{finding.culprit}: {finding.detail}", None
    if row is not None and row.busy_since_ns and finding.check == "stuck":
        took_ns = pulse.now_ns - row.busy_since_ns
        sentence, since_ns = f"{finding.culprit} {_in_a_call(row, took_ns)}", pulse.wall_ns - took_ns
    return Wrong(severity, finding.culprit, sentence, since_ns, action, finding.culprit if action else "")


def _in_a_call(row: SubRow, took_ns: int) -> str:
    waits = f"; {row.lag:,} wait" if row.lag else ""
    return f"has been in a call with {row.call_event} for {rounded(took_ns)}{waits}"


def _elsewhere(pulse: Pulse) -> Iterator[Wrong]:
    for name, count in pulse.dead_elsewhere.items():
        letters = counted(count, "dead letter")
        yield Wrong("warn", name, f"{name} has {letters}, and is not subscribed now", None, "dead", name)


class _Reading:
    """What is wrong with one subscription."""

    def __init__(self, sub: SubShape, row: SubRow, before: SubRow | None, pulse: Pulse) -> None:
        self._sub = sub
        self._name = sub.name
        self._row = row
        self._before = row if before is None else before
        self._pulse = pulse

    def wrong(self, known: set[tuple[str, str]]) -> Iterator[Wrong]:
        """Tell of it, but for what a health check has found already."""
        row = self._row
        if row.state == "idle" and not (row.errors or row.dead or row.overflowed):
            return
        yield from self._state()
        if (self._name, "errors") not in known:
            yield from self._errors()
        if (self._name, "busy") not in known:
            yield from self._call()
        if (self._name, "still") not in known:
            yield from self._waiting()
        if row.overflowed > self._before.overflowed:
            yield self._one("warn", f"lets events go for lack of room: {row.overflowed:,} so far", "look")
        if row.dead:
            severity: Severity = "bad" if row.dead > self._before.dead else "warn"
            yield self._one(severity, f"has {counted(row.dead, 'dead letter')}", "dead")

    def _one(self, severity: Severity, what: str, action: Action, since_ns: int | None = None) -> Wrong:
        at_ns = None if since_ns is None else self._pulse.wall_ns - (self._pulse.now_ns - since_ns)
        return Wrong(severity, self._name, f"{self._name} {what}", at_ns, action, self._name)

    def _state(self) -> Iterator[Wrong]:
        row, waits = self._row, f"; {self._row.lag:,} wait" if self._row.lag else ""
        if row.state == "paused":
            yield self._one("warn", f"is paused{waits}", "resume")
        elif row.state == "held":
            yield self._one("bad", f"is held by recovery{waits}", "resume")
        elif row.state == "not restored":
            yield self._one("bad", f"did not get its memory back, and handles nothing{waits}", "look")
        elif row.state == "stalled" and not row.busy_since_ns:
            yield self._one("bad", f"has stopped moving{waits}", "look", row.oldest_ns or None)

    def _errors(self) -> Iterator[Wrong]:
        """Tell of calls that fail: lately, if there were enough of them; else since the start.

        Who has made no call lately has not shown that it is better.
        """
        row, old = self._row, self._before
        failed, calls = row.errors - old.errors, row.errors + row.handled - old.errors - old.handled
        goes_on = failed > 0 or row.error_streak > 0 or row.state == "failing" or not calls
        if calls < CALLS_LEAST:
            failed, calls = row.errors, row.errors + row.handled
        share = failed / calls if calls else 0.0
        goes_on = goes_on or (row.errors + row.handled == calls and share > MOST_FAIL_SHARE)
        if row.state == "failing":
            yield self._one(
                "bad", f"is failing: {share:.0%} of its calls; the bus tries it one at a time", "resume"
            )
        elif goes_on and calls >= CALLS_LEAST and share > FAILING_SHARE:
            severity: Severity = "bad" if share > MOST_FAIL_SHARE else "warn"
            streak = f", the last {row.error_streak:,} in a row" if row.error_streak > 1 else ""
            yield self._one(
                severity, f"fails {share:.0%} of its calls: {failed:,} of {calls:,}{streak}", "look"
            )
        elif row.error_streak >= CALLS_LEAST:
            yield self._one("warn", f"has failed {row.error_streak:,} times in a row", "look")

    def _call(self) -> Iterator[Wrong]:
        row, limit_s = self._row, self._sub.timeout_s
        if not row.busy_since_ns:
            return
        took_ns = self._pulse.now_ns - row.busy_since_ns
        limit_ns = CALL_NS if limit_s is None else int(limit_s * OVERRUN * NS_PER_S)
        if took_ns > limit_ns or row.state == "stalled":
            is_over = took_ns > (LONG_CALL_NS if limit_s is None else limit_ns)
            severity: Severity = "bad" if is_over else "warn"
            yield self._one(severity, _in_a_call(row, took_ns), "look", row.busy_since_ns)

    def _waiting(self) -> Iterator[Wrong]:
        row, capacity = self._row, self._sub.capacity
        age_ns = self._pulse.now_ns - row.oldest_ns if row.oldest_ns else 0
        if row.waiting > FULL_SHARE * capacity:
            severity: Severity = "bad" if row.waiting > FULLER_SHARE * capacity else "warn"
            yield self._one(
                severity, f"has {row.waiting:,} of {capacity:,} events waiting", "look", row.oldest_ns
            )
        elif age_ns > OLD_NS and row.state in ("idle", "busy"):
            yield self._one(
                "warn",
                f"is {rounded(age_ns)} behind: {row.lag:,} events wait",
                "look",
                row.oldest_ns,
            )
