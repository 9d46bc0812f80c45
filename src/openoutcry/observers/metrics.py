"""The figures of a bus, as a monitoring system collects them: what each is called and means, and its samples.

Made from the shape, the pulse and the buckets of a bus, which cost its loop next to nothing. A series ends
with the subscription, kill switch or hold that it belongs to.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Literal, NamedTuple

from openoutcry.core.latency import limit_ns
from openoutcry.observers.link_metrics import LINK, OfLink
from openoutcry.observers.pulse import Buckets, Histogram, JournalRow, Pulse, Shape, SubRow, SubShape
from openoutcry.printable import printable

Kind = Literal["counter", "gauge", "histogram"]
Labels = tuple[tuple[str, str], ...]
Sample = tuple[str, Labels, float]
"""What stands behind the family's name, the labels, and the value."""

NS: Final = 1e-9
LABEL_MOST: Final = 300
"""The most characters of a label's value."""
_NUMBER_MOST: Final = 12
NO_LABELS: Final[Labels] = ()
_POWERS: Final = range(10, 38, 2)
LIMITS: Final = tuple((repr(((1 << power) - 1) / 1e9), 4 * power - 5) for power in _POWERS)
"""The upper bounds of a histogram, in seconds as text, and the last bucket of `core.latency` below each."""
_LEVELS: Final = ("normal", "warning", "high", "critical")
_STATES: Final = ("new", "running", "stopping", "stopped")
_HEALTH: Final = ("healthy", "degraded", "recovering", "unhealthy", "unknown")


class Metric(NamedTuple):
    """A family of series.

    Attributes:
        name: Its name; that of a counter ends with `_total`.
        kind: `counter`, `gauge` or `histogram`.
        labels: What its series differ in.
        means: What it counts, in one sentence.

    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    means: str


class Family(NamedTuple):
    """The samples of one metric."""

    metric: Metric
    samples: list[Sample]


class Seen(NamedTuple):
    """What is known of a bus that answers."""

    shape: Shape
    pulse: Pulse
    buckets: Mapping[str, Buckets]
    names: Mapping[str, str]


UP: Final = Metric("openoutcry_up", "gauge", (), "1 while the bus answers; 0 when it is gone or silent.")
AGE: Final = Metric(
    "openoutcry_pulse_age_seconds",
    "gauge",
    (),
    "How old the newest answer of the bus is; none before the first.",
)

Of = Callable[[Seen], Iterable[tuple[tuple[str, ...], float]]]
OfRow = Callable[[SubShape, SubRow, Pulse], float]
_BY_NAME: Final = ("subscription",)


def _one(value: Callable[[Pulse], float | None]) -> Of:
    """Return what gives a single series, or none while there is no value."""

    def samples(seen: Seen) -> Iterator[tuple[tuple[str, ...], float]]:
        found = value(seen.pulse)
        if found is not None:
            yield (), found

    return samples


def _journal(value: Callable[[JournalRow], float]) -> Of:
    return _one(lambda pulse: None if pulse.journal is None else value(pulse.journal))


def _by(counts: Callable[[Pulse], Mapping[str, float]]) -> Of:
    return lambda seen: (((name,), count) for name, count in counts(seen.pulse).items())


def _which(words: tuple[str, ...], now: Callable[[Pulse], str]) -> Of:
    """Return what gives a series for each word: 1 for the one that holds now."""
    return lambda seen: (((word,), float(word == now(seen.pulse))) for word in words)


def _rows(seen: Seen) -> Iterator[tuple[str, SubShape, SubRow]]:
    shapes = seen.shape.subscriptions
    for row in seen.pulse.rows:
        if row.index < len(shapes):
            yield seen.names[shapes[row.index].name], shapes[row.index], row


def _row(value: OfRow) -> Of:
    return lambda seen: (((name,), value(of, row, seen.pulse)) for name, of, row in _rows(seen))


def _since(then_ns: int, pulse: Pulse) -> float:
    return max(0, pulse.now_ns - then_ns) * NS if then_ns else 0.0


def _info(seen: Seen) -> Iterator[tuple[tuple[str, ...], float]]:
    yield (seen.shape.firm, seen.shape.version, seen.shape.session), 1.0


def _findings(seen: Seen) -> Iterator[tuple[tuple[str, ...], float]]:
    for finding in seen.pulse.findings:
        yield (finding.check, finding.level, finding.culprit), 1.0


def _halts(seen: Seen) -> Iterator[tuple[tuple[str, ...], float]]:
    yield from (((halt.scope,), 1.0) for halt in seen.pulse.halts)


def _states(seen: Seen) -> Iterator[tuple[tuple[str, ...], float]]:
    yield from (((name, row.state), 1.0) for name, _, row in _rows(seen))


def _holds(seen: Seen) -> Iterator[tuple[tuple[str, ...], float]]:
    yield from (((name, hold), 1.0) for name, _, row in _rows(seen) for hold in row.holds)


def _link(values: OfLink) -> Of:
    return lambda seen: () if seen.pulse.link is None else values(seen.pulse.link, seen.pulse)


_Entry = tuple[str, Kind, tuple[str, ...], str, Of]
_BUS: Final[tuple[_Entry, ...]] = (
    ("info", "gauge", ("firm", "version", "session"), "1, with what the bus is called.", _info),
    (
        "start_time_seconds",
        "gauge",
        (),
        "When this life of the bus began, in seconds since 1970.",
        lambda seen: [((), seen.shape.started_ns * NS)],
    ),
    ("state", "gauge", ("state",), "1 for the state that the bus is in.", _which(_STATES, lambda p: p.state)),
    (
        "backpressure_level",
        "gauge",
        ("level",),
        "1 for the backpressure level that holds.",
        _which(_LEVELS, lambda p: p.level),
    ),
    (
        "health",
        "gauge",
        ("status",),
        "1 for what the last health check has found.",
        _which(_HEALTH, lambda p: p.health),
    ),
    (
        "health_finding",
        "gauge",
        ("check", "level", "culprit"),
        "1 for each thing that the last check has found.",
        _findings,
    ),
    ("queue_events", "gauge", (), "The most events that wait for one subscription.", _one(lambda p: p.queue)),
    ("queue_capacity_events", "gauge", (), "How many may.", _one(lambda p: p.capacity)),
    ("events_published_total", "counter", (), "Events admitted.", _one(lambda p: p.published)),
    ("events_refused_total", "counter", ("reason",), "Events refused.", _by(lambda p: p.refused)),
    ("events_high_total", "counter", (), "Events that took the high-priority lane.", _one(lambda p: p.high)),
    ("events_control_total", "counter", (), "Kill switches and releases.", _one(lambda p: p.control)),
    (
        "events_duplicate_total",
        "counter",
        (),
        "Events that had been admitted before.",
        _one(lambda p: p.duplicates),
    ),
    (
        "events_conflicting_total",
        "counter",
        (),
        "Event ids that were used again for other content.",
        _one(lambda p: p.conflicts),
    ),
    ("events_unheard_total", "counter", ("type",), "Events that nobody takes.", _by(lambda p: p.unheard)),
    (
        "events_let_go_total",
        "counter",
        (),
        "Accepted events that subscriptions have let go for lack of room.",
        _one(lambda p: p.let_go),
    ),
    ("dead_letters", "gauge", (), "Dead letters there are now, of all names.", _one(lambda p: p.dead)),
    (
        "dead_letters_elsewhere",
        "gauge",
        ("subscription",),
        "Of these, those of names that are not subscribed now; at most 20 names.",
        _by(lambda p: p.dead_elsewhere),
    ),
    ("kill_switches_active", "gauge", (), "Active kill switches.", _one(lambda p: p.halts_count)),
    ("kill_switch_active", "gauge", ("scope",), "How many are active by scope; of at most 20.", _halts),
    (
        "kill_switch_takers",
        "gauge",
        (),
        "How many subscriptions take the newest kill switch.",
        _one(lambda p: None if p.heard is None else p.heard.total),
    ),
    (
        "kill_switch_heard",
        "gauge",
        (),
        "How many of these have handled it.",
        _one(lambda p: None if p.heard is None else p.heard.heard),
    ),
    (
        "kill_switch_slowest_seconds",
        "gauge",
        (),
        "How long the slowest of them took.",
        _one(lambda p: None if p.heard is None else p.heard.slowest_ns * NS),
    ),
    (
        "loop_delay_seconds",
        "gauge",
        (),
        "How late a callback comes on the loop.",
        _one(lambda p: p.loop_delay_ns * NS),
    ),
    (
        "ledger_balances",
        "gauge",
        (),
        "1 while every accepted event is accounted for.",
        _one(lambda p: p.ledger_balances),
    ),
    ("rounds_open", "gauge", (), "Rounds that are open.", _one(lambda p: p.rounds_open)),
    (
        "rounds_released_total",
        "counter",
        ("status",),
        "Rounds that have ended.",
        _by(lambda p: p.rounds_released),
    ),
    (
        "rounds_late_total",
        "counter",
        (),
        "Answers that came after the release.",
        _one(lambda p: p.rounds_late),
    ),
    (
        "rounds_invalid_total",
        "counter",
        (),
        "Rounds without a valid outcome.",
        _one(lambda p: p.rounds_invalid),
    ),
    ("journal_head_position", "gauge", (), "The position of the newest entry.", _journal(lambda j: j.head)),
    ("journal_first_position", "gauge", (), "The position of the oldest entry.", _journal(lambda j: j.first)),
    (
        "journal_synced_position",
        "gauge",
        (),
        "Everything up to this position survives a power cut.",
        _journal(lambda j: j.synced),
    ),
    (
        "journal_waiting_events",
        "gauge",
        (),
        "Events that wait for their commit.",
        _journal(lambda j: j.waiting),
    ),
    ("journal_size_bytes", "gauge", (), "The size of the file.", _journal(lambda j: j.bytes)),
    (
        "journal_wal_size_bytes",
        "gauge",
        (),
        "The size of its write-ahead log.",
        _journal(lambda j: j.wal_bytes),
    ),
    ("journal_dead", "gauge", (), "1 if it takes nothing more.", _journal(lambda j: bool(j.dead))),
    ("journal_commits_total", "counter", (), "Commits written.", _journal(lambda j: j.commits)),
    ("journal_syncs_total", "counter", (), "Commits that were synced.", _journal(lambda j: j.syncs)),
    (
        "journal_sync_last_seconds",
        "gauge",
        (),
        "How long the last sync took.",
        _journal(lambda j: j.sync_ns_last * NS),
    ),
    (
        "journal_sync_max_seconds",
        "gauge",
        (),
        "How long the longest took.",
        _journal(lambda j: j.sync_ns_max * NS),
    ),
    (
        "journal_duplicates_total",
        "counter",
        (),
        "Events that were in the journal already.",
        _journal(lambda j: j.duplicates),
    ),
    ("subscriptions", "gauge", (), "Subscriptions there are.", _one(lambda p: len(p.rows))),
)
_SUBSCRIPTION: Final[tuple[tuple[str, Kind, str, OfRow], ...]] = (
    ("accepted_total", "counter", "Events accepted for it.", lambda _, row, __: row.accepted),
    ("handled_total", "counter", "Calls that returned.", lambda _, row, __: row.handled),
    ("errors_total", "counter", "Calls that failed, time-outs included.", lambda _, row, __: row.errors),
    ("retries_total", "counter", "Calls that were made again.", lambda _, row, __: row.retries),
    ("timeouts_total", "counter", "Calls that ran too long.", lambda _, row, __: row.timeouts),
    ("overflowed_total", "counter", "Events let go for lack of room.", lambda _, row, __: row.overflowed),
    ("conflated_total", "counter", "Events replaced by a newer one.", lambda _, row, __: row.conflated),
    ("expired_total", "counter", "Events too old when their turn came.", lambda _, row, __: row.expired),
    ("waiting_events", "gauge", "Events that wait in memory.", lambda _, row, __: row.waiting),
    ("lag_events", "gauge", "Events that wait, those in the journal included.", lambda _, row, __: row.lag),
    ("capacity_events", "gauge", "How many events may wait for it.", lambda of, _, __: of.capacity),
    ("in_flight_events", "gauge", "Events in its handler.", lambda _, row, __: row.in_flight),
    ("dead_letters", "gauge", "Dead letters that its name has now.", lambda _, row, __: row.dead),
    (
        "error_streak",
        "gauge",
        "Failed calls since the last that returned.",
        lambda _, row, __: row.error_streak,
    ),
    (
        "busy_seconds",
        "gauge",
        "For how long its oldest current call has run.",
        lambda _, row, pulse: _since(row.busy_since_ns, pulse),
    ),
    (
        "oldest_seconds",
        "gauge",
        "For how long the oldest event has waited in memory.",
        lambda _, row, pulse: _since(row.oldest_ns, pulse),
    ),
)
_WAIT: Final = Metric(
    "openoutcry_subscription_wait_seconds",
    "histogram",
    _BY_NAME,
    "From the acceptance of an event to the beginning of its first call. Its sum is known to within 13 %.",
)
_CALL: Final = Metric(
    "openoutcry_subscription_call_seconds",
    "histogram",
    _BY_NAME,
    "From the beginning to the end of a call. Its sum is known to within 13 %.",
)
_STATE: Final = Metric(
    "openoutcry_subscription_state", "gauge", ("subscription", "state"), "1, with the word for what it does."
)
_HOLD: Final = Metric(
    "openoutcry_subscription_hold",
    "gauge",
    ("subscription", "hold"),
    "1 for what keeps it from beginning events.",
)

_OF_BUS: Final = tuple(
    (Metric(f"openoutcry_{name}", kind, labels, means), of) for name, kind, labels, means, of in _BUS
)
_OF_SUBSCRIPTION: Final = (
    *(
        (Metric(f"openoutcry_subscription_{name}", kind, _BY_NAME, means), _row(of))
        for name, kind, means, of in _SUBSCRIPTION
    ),
    (_STATE, _states),
    (_HOLD, _holds),
)
_OF_LINK: Final = tuple(
    (Metric(f"openoutcry_link_{name}", kind, labels, means), _link(values))
    for name, kind, labels, means, values in LINK
)
METRICS: Final = (
    UP,
    AGE,
    *(metric for metric, _ in (*_OF_BUS, *_OF_LINK)),
    *(metric for metric, _ in _OF_SUBSCRIPTION),
    _WAIT,
    _CALL,
)
"""Every metric there is."""


def families(
    shape: Shape, pulse: Pulse, buckets: Mapping[str, Buckets], age_s: float = 0.0
) -> Iterator[Family]:
    """Yield all figures of a bus that answers. A metric without samples is left out.

    Args:
        shape: What it is.
        pulse: What it has said of itself.
        buckets: Distributions by subscription; the histograms of others are left out.
        age_s: How old the pulse is.

    """
    seen = Seen(shape, pulse, buckets, _distinct(s.name for s in shape.subscriptions))
    yield Family(UP, [("", NO_LABELS, 1)])
    yield Family(AGE, [("", NO_LABELS, age_s)])
    for metric, of in (*_OF_BUS, *_OF_LINK, *_OF_SUBSCRIPTION):
        samples = _summed(metric, of(seen))
        if samples:
            yield Family(metric, samples)
    yield from _histograms(seen)


def families_of_none(age_s: float | None) -> Iterator[Family]:
    """Yield what is known of a bus that does not answer: that, and how old its last answer is."""
    yield Family(UP, [("", NO_LABELS, 0)])
    if age_s is not None:
        yield Family(AGE, [("", NO_LABELS, age_s)])


def _summed(metric: Metric, found: Iterable[tuple[tuple[str, ...], float]]) -> list[Sample]:
    """Return samples with their labels. What looks the same once it is safe to show is one series."""
    totals: dict[tuple[str, ...], float] = {}
    for values, value in found:
        key = tuple(map(_safe, values))
        totals[key] = totals.get(key, 0) + value
    return [("", tuple(zip(metric.labels, key, strict=True)), value) for key, value in totals.items()]


def _histograms(seen: Seen) -> Iterator[Family]:
    kept = [(label, seen.buckets[name]) for name, label in seen.names.items() if name in seen.buckets]
    for metric in (_WAIT, _CALL):
        samples = [
            sample
            for label, buckets in kept
            for sample in _histogram(label, buckets.latency if metric is _WAIT else buckets.duration)
        ]
        if samples:
            yield Family(metric, samples)


def _histogram(name: str, of: Histogram) -> Iterator[Sample]:
    own = ("subscription", name)
    counts = sorted(of.buckets.items())
    at = total = 0
    for limit, last in LIMITS:
        while at < len(counts) and counts[at][0] <= last:
            total += counts[at][1]
            at += 1
        yield "_bucket", (own, ("le", limit)), total
    count = sum(of.buckets.values())
    yield "_bucket", (own, ("le", "+Inf")), count
    yield "_sum", (own,), sum(_middle_ns(bucket) * n for bucket, n in counts) * NS
    yield "_count", (own,), count


def _middle_ns(bucket: int) -> float:
    return (limit_ns(bucket - 1) + 1 + limit_ns(bucket)) / 2 if bucket else 0.0


def _safe(text: str) -> str:
    """Return a label's value that is safe to show, and not too long."""
    shown = printable(text)
    return shown if len(shown) <= LABEL_MOST else f"{shown[: LABEL_MOST - 3]}..."


def _distinct(names: Iterable[str]) -> dict[str, str]:
    """Return what the names of subscriptions are shown as, each as another text."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        shown, number = _safe(name), 1
        while shown in taken:
            number += 1
            shown = f"{_safe(name)[: LABEL_MOST - _NUMBER_MOST]} ({number})"
        taken.add(shown)
        found[name] = shown
    return found
