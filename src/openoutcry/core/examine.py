"""The health checks: from the vital signs of a bus to findings. A check finds nothing if all is well."""

from collections.abc import Iterator

from openoutcry.core.health import DEGRADED, UNHEALTHY, EventBusHealthStatus, Finding
from openoutcry.core.vitals import Bounds, SubscriptionVitals, Vitals
from openoutcry.core.wording import counted, rounded, share, span
from openoutcry.units import NS_PER_MS, NS_PER_S


def examine(vitals: Vitals, bounds: Bounds) -> list[Finding]:
    """Return everything that is wrong."""
    found = [*_unheard(vitals), *_loop(vitals, bounds), *_journal(vitals, bounds), *_kill_lane(vitals)]
    for subscription in vitals.subscriptions:
        found += examine_subscription(subscription, bounds)
    return [
        *found,
        *_conflicts(vitals),
        *_letters(vitals),
        *_feeds(vitals),
        *_leases(vitals),
        *_retention(vitals),
        *_power_cut(vitals),
        *_disk(vitals),
        *_link(vitals),
    ]


def examine_subscription(s: SubscriptionVitals, bounds: Bounds) -> list[Finding]:
    """Return everything that is wrong with one subscription."""
    return [
        *_memory(s),
        *_rest(s, bounds),
        *_errors(s, bounds),
        *_otherwise(s),
        *_latency(s, bounds),
        *_abandoned(s),
        *_lag(s),
        *_overflow(s),
    ]


def trouble_of(s: SubscriptionVitals, bounds: Bounds) -> str | None:
    """Return the trouble that the recovery ladder is for, if there is any: `stuck` or `dead`."""
    if s.exhausted or s.held_by_ladder:
        return None
    if s.call_ns is not None and s.call_ns > _patience_ns(s, bounds):
        return "stuck"
    return next((f.check for f in _rest(s, bounds) if f.check == "dead"), None)


def call_limit_ns(s: SubscriptionVitals, bounds: Bounds) -> int:
    """Return how long a call of a subscription may take until it is reported.

    That is `stall_s` or, if longer, its own `timeout_s`: what goes on after that was cancelled in vain.
    """
    stall_ns = int(bounds.stall_s * NS_PER_S)
    return min(_patience_ns(s, bounds), max(stall_ns, s.call_limit_ns or 0))


def _patience_ns(s: SubscriptionVitals, bounds: Bounds) -> int:
    """Return how long a call may take until recovery does something about it."""
    return int(bounds.stall_s * NS_PER_S if s.call_limit_ns is None else s.call_limit_ns * bounds.overrun)


def _of(s: SubscriptionVitals, check: str, level: EventBusHealthStatus, detail: str) -> Finding:
    return Finding(
        check=check, level=level, culprit=s.name, detail=detail, tried=s.tried, recovering=s.recovering
    )


def _weight(s: SubscriptionVitals) -> EventBusHealthStatus:
    return UNHEALTHY if s.critical else DEGRADED


def _rest(s: SubscriptionVitals, bounds: Bounds) -> Iterator[Finding]:
    """Find why a subscription does not move: exhausted, stuck, held back by something known, or dead."""
    stall_ns, limit_ns = int(bounds.stall_s * NS_PER_S), call_limit_ns(s, bounds)
    still = f"nothing has moved for {rounded(s.still_ns)} with {counted(s.waiting, 'event')} waiting"
    if s.exhausted:
        yield _of(s, "exhausted", UNHEALTHY, "recovery has tried everything; mend the handler and resume it")
    elif s.held_by_ladder:
        yield _of(
            s, "stalled", _weight(s), f"recovery holds it back, with {counted(s.waiting, 'event')} waiting"
        )
    elif s.call_ns is not None and s.call_ns > limit_ns:
        event = f" for {s.call_event}" if s.call_event else ""
        limit = "" if s.call_limit_ns is None else f", with a timeout_s of {span(s.call_limit_ns)}"
        yield _of(
            s,
            "stuck",
            _weight(s),
            f"its call{event} has not ended for {rounded(s.call_ns)}{limit} (limit {span(limit_ns)}), "
            f"with {counted(s.waiting, 'event')} waiting behind it",
        )
    elif s.unproven:
        yield _of(
            s,
            "stuck",
            _weight(s),
            f"it was stuck; nothing has been handled since recovery {s.tried[-1]}, with "
            f"{counted(s.waiting, 'event')} waiting",
        )
    elif s.still_ns > stall_ns:
        yield from _still(s, still)


def _memory(s: SubscriptionVitals) -> Iterator[Finding]:
    if s.not_restored:
        yield _of(s, "memory", UNHEALTHY, f"it handles nothing: {s.not_restored}")
    if s.save_error:
        yield _of(
            s,
            "memory",
            DEGRADED,
            f"its state could not be saved ({s.save_error}), so a start folds what came since; mend save",
        )


_HOLDS_BACK = {
    "cursor": "has not settled them and is absent; subscribe it, or give it up (openoutcry cursors drop)",
    "memory": "needs them for its memory; give it Memory(fold, save, load), so that it does not",
    "dead letter": "has a dead letter among them, which its memory would need; redrive or drop it",
}


def _retention(vitals: Vitals) -> Iterator[Finding]:
    if vitals.journal is not None and vitals.journal.held_back is not None:
        name, why, count = vitals.journal.held_back
        yield Finding(
            check="retention",
            level=DEGRADED,
            culprit=name,
            detail=f"{count:,} entries are kept although they are due to be deleted, since {name} "
            f"{_HOLDS_BACK[why]}",
        )


def _power_cut(vitals: Vitals) -> Iterator[Finding]:
    if vitals.journal is not None and vitals.journal.power_cut:
        detail = f"{vitals.journal.power_cut}; this stands until the next start"
        yield Finding(check="power cut", level=DEGRADED, culprit="journal", detail=detail)


def _disk(vitals: Vitals) -> Iterator[Finding]:
    for found in () if vitals.journal is None else vitals.journal.disk:
        yield Finding(check="disk", level=DEGRADED, culprit="journal", detail=found)


def _link(vitals: Vitals) -> Iterator[Finding]:
    for detail, is_serious in vitals.link:
        level = UNHEALTHY if is_serious else DEGRADED
        yield Finding(check="link", level=level, culprit="link", detail=detail)


def _still(s: SubscriptionVitals, still: str) -> Iterator[Finding]:
    if s.paused:
        yield _of(
            s, "stalled", DEGRADED, f"it is paused, with {counted(s.waiting, 'event')} waiting; resume it"
        )
    elif s.breaker_in_ns is not None:
        return  # reported as failing
    elif s.call_ns is not None:
        return  # a long call within its own limit
    elif s.retry_in_ns is not None:
        yield _of(
            s, "stalled", DEGRADED, f"{still}: its next retry is due in {rounded(max(0, s.retry_in_ns))}"
        )
    else:
        yield _of(
            s,
            "dead",
            _weight(s),
            f"{still}, no call is running, and nothing holds it back: its consumer is dead",
        )


def _errors(s: SubscriptionVitals, bounds: Bounds) -> Iterator[Finding]:
    last = f"; the last: {s.last_error}" if s.last_error else ""
    if s.breaker_in_ns is not None:
        yield _of(
            s,
            "failing",
            _weight(s),
            f"most of its events fail, so it is paused (pause no. {s.breaker_pauses}) and probed in "
            f"{rounded(max(0, s.breaker_in_ns))}, with {counted(s.waiting, 'event')} waiting{last}",
        )
    elif s.error_streak >= bounds.errors_max:
        yield _of(
            s,
            "errors",
            _weight(s),
            f"{s.error_streak} calls in a row have failed (limit {bounds.errors_max}){last}",
        )


def _otherwise(s: SubscriptionVitals) -> Iterator[Finding]:
    if s.otherwise:
        yield _of(
            s,
            "otherwise",
            _weight(s),
            f"handling {s.otherwise} of its events again, it published others than the first time: look at "
            "its dead letters, and redrive them with anew=True or drop them",
        )


def _latency(s: SubscriptionVitals, bounds: Bounds) -> Iterator[Finding]:
    # Events that come during a call wait for its end: a call may take that long, so they may be that late.
    limit_ns = max(int(bounds.latency_ms_max * NS_PER_MS), s.call_limit_ns or 0)
    if s.latency_ns is not None and s.latency_ns > limit_ns:
        yield _of(
            s,
            "latency",
            DEGRADED,
            f"slow: from publishing to handling takes {rounded(int(s.latency_ns))} at p99 (limit "
            f"{span(limit_ns)}), with {counted(s.waiting, 'event')} waiting; conflate, or set max_age_s",
        )


def _abandoned(s: SubscriptionVitals) -> Iterator[Finding]:
    if s.abandoned:
        yield _of(
            s,
            "abandoned",
            DEGRADED,
            f"{s.abandoned} of its calls did not end when cancelled, and may go on: do not catch "
            "CancelledError; what waits in a thread needs a time limit of its own",
        )


def _lag(s: SubscriptionVitals) -> Iterator[Finding]:
    if s.lag_per_s > 0:
        yield _of(
            s,
            "lag",
            DEGRADED,
            f"its lag of {counted(s.waiting, 'event')} keeps growing, by {s.lag_per_s:.3g} a second",
        )


def _unheard(vitals: Vitals) -> Iterator[Finding]:
    if vitals.untaken:
        first, *others = vitals.untaken
        more = f" (and {len(others)} more)" if others else ""
        yield Finding(
            check="unheard",
            level=UNHEALTHY,
            culprit="kill switch",
            detail=f"nobody has taken {first}{more}: subscribe to EventType.KILL_SWITCH and "
            "publish it again, or release it",
        )


def _conflicts(vitals: Vitals) -> Iterator[Finding]:
    if vitals.conflict:
        yield Finding(
            check="conflict",
            level=DEGRADED,
            culprit="event ids",
            detail=f"ids were used again for other content, {counted(vitals.conflicts, 'time')} so far, "
            f"which was not delivered; the last: {vitals.conflict}. Give each event an id of its own",
        )


def _overflow(s: SubscriptionVitals) -> Iterator[Finding]:
    when = "so far" if s.let_go_over_ns is None else f"in the last {span(s.let_go_over_ns)}"
    gone = sum(s.let_go.values())
    if gone:
        yield _of(
            s,
            "overflow",
            DEGRADED,
            f"it lets go {share(gone, s.accepted)} of its events: {gone} of {s.accepted} {when} "
            f"({', '.join(sorted(s.let_go))}), since its mailbox is full and others are faster; make it "
            "faster, or subscribe it with overflow='conflate'",
        )
    if s.no_room:
        yield _of(
            s,
            "overflow",
            DEGRADED,
            f"{share(s.no_room, s.accepted)} of its events became dead letters for lack of room, {s.no_room} "
            f"of {s.accepted} {when}, since others are faster; redrive them when it has caught up",
        )


def _loop(vitals: Vitals, bounds: Bounds) -> Iterator[Finding]:
    loop = vitals.loop
    limit_ns = int(bounds.loop_lag_ms_max * NS_PER_MS)
    who = loop.handler or "loop"
    if loop.blocked_ns > limit_ns:
        yield Finding(
            check="loop",
            level=UNHEALTHY,
            culprit=who,
            detail=f"it has blocked the loop for {rounded(loop.blocked_ns)} so far (limit {span(limit_ns)})",
        )
    elif loop.blockages:
        yield Finding(
            check="loop",
            level=DEGRADED,
            culprit=who,
            detail=f"it blocked the loop for {rounded(loop.longest_ns)} (limit {span(limit_ns)}; "
            f"{counted(loop.blockages, 'time')} since the last check); await something, or do it in a thread",
        )
    elif loop.lag_ns > limit_ns:
        yield Finding(
            check="loop",
            level=DEGRADED,
            culprit="loop",
            detail=f"the loop is {rounded(loop.lag_ns)} late (limit {span(limit_ns)}): it has too much to do",
        )


_JOURNAL_STATES = {
    "dead": "the journal is dead: durable publishes raise",
    "full": "the journal's disk is full: durable publishes are refused until there is room",
    "locked": "another program has locked the journal's file: durable publishes are refused until it lets go",
}


def _journal(vitals: Vitals, bounds: Bounds) -> Iterator[Finding]:
    journal = vitals.journal
    if journal is None:
        return
    limit_ns = int(bounds.commit_ms_max * NS_PER_MS)
    if journal.state != "ok":
        what = _JOURNAL_STATES.get(journal.state, f"the journal is {journal.state}")
        level, detail = UNHEALTHY, f"{what} ({journal.error})" if journal.error else what
    elif journal.oldest_ns > limit_ns:
        late = f"an event has waited {rounded(journal.oldest_ns)} for its commit (limit {span(limit_ns)})"
        level, detail = DEGRADED, f"{late}: {journal.error or 'the disk is slow'}"
    else:
        return
    yield Finding(
        check="journal",
        level=level,
        culprit="journal",
        detail=detail,
        tried=journal.tried,
        recovering=journal.recovering,
    )


def _kill_lane(vitals: Vitals) -> Iterator[Finding]:
    drill = vitals.drill
    if drill is None or not drill.failed:
        return
    since = (
        "never proven" if drill.proven_ns_ago is None else f"last proven {rounded(drill.proven_ns_ago)} ago"
    )
    told = [(name, "gave no answer") for name in drill.missed]
    for name, answer in [*told, *((name, "answered late") for name in drill.late)]:
        yield Finding(
            check="kill_lane",
            level=UNHEALTHY,
            culprit=name,
            detail=f"{answer} to a drill of the kill lane ({since}): a kill switch may not get through to it",
        )


def _letters(vitals: Vitals) -> Iterator[Finding]:
    for name, count in vitals.letters_let_go:
        yield Finding(
            check="dead letters",
            level=DEGRADED,
            culprit=name,
            detail=f"{count:,} of its dead letters were let go, since memory keeps no more; mend its handler "
            "and redrive them, or drop them; a journal keeps them all",
        )


def _feeds(vitals: Vitals) -> Iterator[Finding]:
    for silence in vitals.silences:
        expected = silence.expectation
        yield Finding(
            check="feed",
            level=UNHEALTHY if expected.critical else DEGRADED,
            culprit=expected.agent or expected.event_type,
            detail=f"no {expected} for {rounded(silence.silent_ns)} in an open session; one is expected "
            f"every {expected.every_s:g} s" + ("" if silence.ever else ", and none has come since the start"),
        )


def _leases(vitals: Vitals) -> Iterator[Finding]:
    for lapse in vitals.lapses:
        yield Finding(
            check="lease",
            level=DEGRADED,
            culprit=lapse.agent,
            detail=f"no sign of life for {rounded(lapse.lease_ns + lapse.overdue_ns)}; its lease is for "
            f"{span(lapse.lease_ns)}",
        )
