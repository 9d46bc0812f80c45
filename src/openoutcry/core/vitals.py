"""Vital signs: what a health check looks at, as a frozen record of one instant.

Ages are durations in nanoseconds up to that instant, so that nothing here needs a clock.
"""

from dataclasses import dataclass, field, fields

from openoutcry.config import HealthCheckConfig, check_number
from openoutcry.core.drills import DrillReport
from openoutcry.core.leases import Lapse
from openoutcry.core.rates import Silence


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What is still healthy.

    Attributes:
        latency_ms_max: The largest acceptable latency from publishing to handling (recent p99), in ms.
        stall_s: A subscription with events waiting that makes no progress for this long is stalled. A call
            without a longer time-out of its own is stuck if it takes longer than this.
        errors_max: The largest acceptable number of failed calls in a row.
        loop_lag_ms_max: The largest acceptable lag of the loop, in ms.
        commit_ms_max: The largest acceptable time from admission to commit, in ms.
        overrun: A call with a time-out is stuck if it has taken this many times as long, which means that
            cancelling it did not help.

    Raises:
        ConfigError: A value is out of range.

    """

    latency_ms_max: float = 1_000.0
    stall_s: float = 30.0
    errors_max: int = 10
    loop_lag_ms_max: float = 200.0
    commit_ms_max: float = 1_000.0
    overrun: float = 2.0

    def __post_init__(self) -> None:
        """Check every range."""
        check_number("latency_ms_max", self.latency_ms_max, 0, above=True)
        check_number("stall_s", self.stall_s, 0, above=True)
        check_number("errors_max", self.errors_max, 1, whole=True)
        check_number("loop_lag_ms_max", self.loop_lag_ms_max, 0, above=True)
        check_number("commit_ms_max", self.commit_ms_max, 0, above=True)
        check_number("overrun", self.overrun, 1)

    @classmethod
    def of(cls, config: HealthCheckConfig) -> "Bounds":
        """Return the bounds that a configuration sets, and the defaults of the others."""
        names = [f.name for f in fields(cls) if hasattr(config, f.name)]
        return cls(**{name: getattr(config, name) for name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionVitals:
    """The vital signs of one subscription.

    Attributes:
        name: Its name.
        critical: Whether the firm cannot do without it: it takes a high-priority type, or has `keep=True`.
        waiting: Events that wait for it, those in the journal included.
        lag_per_s: By how many events a second its lag keeps growing; 0 if it does not (`LagTrend`).
        still_ns: For how long nothing has moved while events wait; 0 if it moves or nothing waits.
        call_ns: How long its oldest call has been running; None without a call.
        call_limit_ns: Its own `timeout_s`; None without one.
        call_event: The event of that call, for the report.
        retry_in_ns: In how long its next retry is due; None if no retry waits.
        latency_ns: Recent p99 from publishing to handling; None if nothing was handled.
        error_streak: Failed calls since the last success.
        last_error: The last failure as text.
        paused: Whether the operator has paused it.
        breaker_in_ns: In how long the breaker probes it; None if the breaker is closed.
        breaker_pauses: How often the breaker has paused it since it last proved itself.
        let_go: Events that its full mailbox has let go lately, by type.
        no_room: Events that became dead letters lately since its mailbox was full.
        accepted: Events that were accepted for it meanwhile.
        let_go_over_ns: How long that is; None if it is all since the subscription was made.
        held_by_ladder: Whether the recovery ladder holds it back now.
        stalled: Whether it has stopped moving with events waiting.
        abandoned: Calls that did not end when cancelled, and go on.
        exhausted: Whether the recovery ladder is at its end.
        recovering: Whether the recovery ladder is at work.
        unproven: Whether it has work, and has handled nothing since the last step of recovery.
        tried: What recovery has done so far.
        not_restored: Why it has not got its memory back; empty if it has, or has none.
        save_error: Why its state could not be saved; empty if it could.
        otherwise: How many of its dead letters are there because its handler decided otherwise.

    """

    name: str
    critical: bool = False
    waiting: int = 0
    lag_per_s: float = 0.0
    still_ns: int = 0
    call_ns: int | None = None
    call_limit_ns: int | None = None
    call_event: str = ""
    retry_in_ns: int | None = None
    latency_ns: float | None = None
    error_streak: int = 0
    last_error: str = ""
    paused: bool = False
    breaker_in_ns: int | None = None
    breaker_pauses: int = 0
    let_go: dict[str, int] = field(default_factory=dict)
    no_room: int = 0
    accepted: int = 0
    let_go_over_ns: int | None = None
    held_by_ladder: bool = False
    stalled: bool = False
    abandoned: int = 0
    exhausted: bool = False
    recovering: bool = False
    unproven: bool = False
    tried: tuple[str, ...] = ()
    not_restored: str = ""
    save_error: str = ""
    otherwise: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopVitals:
    """The vital signs of the event loop.

    Attributes:
        lag_ns: The largest lag since the last check: how late it ran what was due.
        blocked_ns: For how long it has been blocked, if a thread asks; 0 if the loop itself does.
        handler: Who blocked it longest since the last check, or blocks it now.
        longest_ns: How long that took, or has taken so far.
        blockages: How often it was blocked since the last check.

    """

    lag_ns: int = 0
    blocked_ns: int = 0
    handler: str = ""
    longest_ns: int = 0
    blockages: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalVitals:
    """The vital signs of the journal.

    Attributes:
        state: `ok`, `full` (no room on the disk), `locked`, `damaged` or `dead`.
        error: What went wrong, as text.
        oldest_ns: How long the oldest event has waited for its commit; 0 if none waits.
        held_back: What keeps retention from going on, if anything that is to go waits for it: (name, why,
            how many entries).
        power_cut: What a power cut before this start took, in words; empty if nothing.
        disk: What is wrong with the room of its files, or stands in their way, in words.
        recovering: Whether recovery is at work on it.
        tried: What recovery has done so far.

    """

    state: str = "ok"
    error: str = ""
    oldest_ns: int = 0
    held_back: tuple[str, str, int] | None = None
    power_cut: str = ""
    disk: tuple[str, ...] = ()
    recovering: bool = False
    tried: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """The vital signs of a bus.

    Attributes:
        subscriptions: Those of every subscription.
        loop: Those of the event loop.
        journal: Those of the journal; None without one.
        silences: What is expected and does not come (`Rates.silences`).
        lapses: Leases that ran out (`Leases.lapsed`).
        drill: How the kill lane did (`Drills.report`); None without drills.
        untaken: The kill switches that were published and nobody took, in words.
        conflict: The last id that was used again for other content, in words, if that was lately.
        conflicts: How often that has happened.
        letters_let_go: Dead letters that were let go, since memory keeps no more: (name, count).
        link: What is wrong with the link to other desks: a sentence, and whether it is serious.

    """

    subscriptions: tuple[SubscriptionVitals, ...] = ()
    loop: LoopVitals = field(default_factory=LoopVitals)
    journal: JournalVitals | None = None
    silences: tuple[Silence, ...] = ()
    lapses: tuple[Lapse, ...] = ()
    drill: DrillReport | None = None
    untaken: tuple[str, ...] = ()
    conflict: str = ""
    conflicts: int = 0
    letters_let_go: tuple[tuple[str, int], ...] = ()
    link: tuple[tuple[str, bool], ...] = ()
