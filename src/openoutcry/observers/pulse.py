"""The pulse: what a running bus says of itself at its control socket, as plain data.

A bus answers four verbs with these, as JSON lines; what repeats is an array without names. Nothing is worked
out in the firm's process: rates, percentiles and what is wrong are made of them elsewhere (`reading`).

| verb | answer | asked for |
|---|---|---|
| `shape` | `Shape`: what rarely changes | once, and whenever `Pulse.shape` is another number |
| `pulse` | `Pulse`: counters and states | several times a second |
| `buckets` | `Buckets` by name | for what is looked at |
| `rounds` | `RoundsSeen` | after a pulse whose `rounds_released` differ |

Times are in nanoseconds: on the bus's monotonic clock, whose now is `Pulse.now_ns`, unless it is said that
they are since 1970. Counters only grow within one session, unless `reset_metrics` is called.
"""

from typing import Any

from msgspec import Struct

from openoutcry.observers.standing import LinkStanding


class SubShape(Struct, frozen=True, array_like=True):
    """What a subscription is."""

    name: str
    """Its name."""
    types: list[str]
    """The event types it takes, those of its classes as well; `*` for everything, or where that varies."""
    selectors: dict[str, str]
    """What it was subscribed to, event types and classes by name, with the type of each; empty if any."""
    agent: bool
    """Whether it belongs to an agent that answers rounds, whose name it has, alone or before a dot."""
    durable: bool
    """Whether the journal keeps its place."""
    blocking: bool
    """Whether its handler runs in threads of its own."""
    concurrency: int
    """How many calls may run at a time."""
    timeout_s: float | None
    """How long a call may take, in seconds."""
    capacity: int
    """How many events may wait for it."""
    options: dict[str, Any]
    """Those of its other options that are not the default, in words."""


class Shape(Struct, frozen=True):
    """What rarely changes of a bus."""

    number: int
    """Another one when anything here has changed. While subscriptions come and go all the time, there is
    another one twice a second, in a firm of more than 500 after a millisecond per subscription."""
    session: str
    """The name of this life of the bus: another one after every start."""
    firm: str
    """What the firm is called: the journal's or the socket's file, without its ending."""
    pid: int
    """The process."""
    version: str
    """The version of openoutcry."""
    started_ns: int
    """When the bus was started, in nanoseconds since 1970."""
    releasers: list[str]
    """The names under which `release` releases kill switches."""
    control_releaser: str | None
    """That of them which is taken when none is given."""
    signal_timeout_ns: int
    """How long a round holds out for everybody, unless it asks for another time."""
    barrier_timeout_ns: int
    """When it is released whatever it has, likewise."""
    roster: list[str]
    """The agents that every round expects."""
    critical: list[str]
    """Those of them without whose answer no outcome is valid."""
    subscriptions: list[SubShape]
    """The subscriptions, in the order in which they were made."""


class SubRow(Struct, frozen=True, array_like=True):
    """What a subscription has done, and is doing.

    Over the line the fields at the end may be left out: they are the default then.
    """

    index: int
    """Its place in `Shape.subscriptions`, of the shape whose number is `Pulse.shape`."""
    accepted: int
    """Events accepted for it."""
    handled: int
    """Calls that returned."""
    waiting: int = 0
    """Events that wait in memory."""
    in_flight: int = 0
    """Events in its handler."""
    dead: int = 0
    """The dead letters that its name has now."""
    errors: int = 0
    """Calls that failed, time-outs included."""
    retries: int = 0
    """Calls that were made again."""
    timeouts: int = 0
    """Calls that ran too long."""
    overflowed: int = 0
    """Events let go for lack of room."""
    conflated: int = 0
    """Events replaced by a newer one of the same key."""
    expired: int = 0
    """Events that were too old when their turn came."""
    busy_since_ns: int = 0
    """When its oldest current call began, at the latest; 0 while no call runs."""
    call_event: str = ""
    """The type of the event of that call; empty while no call runs."""
    state: str = "idle"
    """One word, as in `SubscriptionStats.state`."""
    lag: int = 0
    """Events that wait for it, those in the journal included."""
    error_streak: int = 0
    """Calls that have failed since the last that returned."""
    oldest_ns: int = 0
    """When the oldest event that waits in memory was accepted; 0 if none waits."""
    holds: list[str] = []
    """What keeps it from beginning events, as in docs/holds.md."""


class HaltRow(Struct, frozen=True, array_like=True):
    """An active kill switch."""

    id: str
    """Its event id; empty for those of a scope beyond the first thousand, together."""
    scope: str
    """What stops: `firm`, or the name of a symbol, strategy or agent."""
    reason: str
    """Why, at most 300 characters of it."""
    by: str
    """Who pulled it."""
    since_ns: int
    """When, in nanoseconds since 1970."""


class Heard(Struct, frozen=True):
    """How far the newest kill switch, or release of one, has come."""

    id: str
    """Its event id."""
    activated: bool
    """False for a release."""
    scope: str
    """What it stops or releases."""
    at_ns: int
    """When it was published."""
    total: int
    """How many subscriptions take it."""
    heard: int
    """In how many of them the call with it is over."""
    slowest_ns: int
    """How long the slowest of these took, from the publication to the end of the call."""
    waiting: list[str]
    """The names of the others; at most 10."""
    failed: list[str]
    """Those that were called, and whose call has failed; at most 10."""


class JournalRow(Struct, frozen=True):
    """The journal of a bus."""

    path: str
    """Its file; empty for a journal that is none."""
    head: int
    """The position of its newest entry."""
    first: int
    """The position of its oldest entry."""
    synced: int
    """Everything up to this position survives a power cut."""
    waiting: int
    """Events that wait for their commit or its sync."""
    bytes: int
    """The size of the file."""
    wal_bytes: int
    """The size of its write-ahead log."""
    dead: str
    """Why it takes nothing more; empty while it does."""
    level: str
    """What ordinary events survive: `memory`, `process` or `disk`."""
    commits: int
    """How many commits were written in this session."""
    syncs: int
    """How many times it was synced for a commit in this session."""
    sync_ns_last: int
    """How long the last of these took."""
    sync_ns_max: int
    """How long the longest of these took."""
    duplicates: int
    """Events that were in the journal already."""
    refused: str = ""
    """Why it takes nothing at the moment, such as a full disk; empty while it does."""


class Finding(Struct, frozen=True, array_like=True):
    """One thing that the last health check has found."""

    check: str
    """Which check: a word from the table in docs/health.md."""
    level: str
    """`degraded` or `unhealthy`."""
    culprit: str
    """Who is to blame."""
    detail: str
    """One sentence with the value, the limit and the remedy."""


class Flow(Struct, frozen=True, array_like=True):
    """Who has published what lately."""

    source: str
    """The `source_agent` of the events; empty for events without one."""
    type: str
    """Their type."""
    count: int
    """How many of `Pulse.flows_seen`."""


class Pulse(Struct, frozen=True):
    """Counters and states of a bus, at one moment. Making one changes nothing."""

    shape: int
    """The number of the shape that its rows belong to."""
    session: str
    """As in `Shape`."""
    number: int
    """One more than that of the pulse before. Who asks a moment later may get the same pulse."""
    wall_ns: int
    """When it was made, in nanoseconds since 1970."""
    now_ns: int
    """When it was made, on the bus's monotonic clock."""
    state: str
    """`new`, `running`, `stopping` or `stopped`."""
    level: str
    """The backpressure level, as last looked at."""
    queue: int
    """The most events that wait for one subscription."""
    capacity: int
    """How many may."""
    published: int
    """Events admitted."""
    refused: dict[str, int]
    """Events refused, by reason."""
    high: int
    """Events that took the high-priority lane."""
    control: int
    """Kill switches and releases."""
    duplicates: int
    """Events that had been admitted before."""
    conflicts: int
    """Event ids that were used again for other content."""
    unheard: dict[str, int]
    """Events that nobody takes, by type."""
    let_go: int
    """Accepted events that subscriptions have let go for lack of room, ended ones included."""
    dead: int
    """All dead letters."""
    dead_elsewhere: dict[str, int]
    """Dead letters of names that are not subscribed now; at most 20 names."""
    halts_count: int
    """How many kill switches are active."""
    halts: list[HaltRow]
    """At most 20 of them, the first of each scope before others."""
    heard: Heard | None
    """How far the newest kill switch has come; None before the first."""
    journal: JournalRow | None
    """The journal; None on a bus without one."""
    loop_delay_ns: int
    """The longest turn of the loop while this pulse was made: how late a callback comes now."""
    blocked: str
    """Who blocked the loop last, and for how long, as the watchdog saw it; empty before the first time."""
    ledger_balances: bool
    """Whether everything accepted is accounted for. Each pulse looks at some of the subscriptions."""
    health: str
    """What the last health check has found: `healthy`, `degraded`, `unhealthy` or `recovering`; `unknown`
    before the first. A bus without a `HealthCheckConfig` is checked only when somebody asks."""
    health_checked_ns: int
    """When that was, in nanoseconds since 1970; 0 before the first."""
    findings: list[Finding]
    """What is wrong, worst first; at most 20."""
    rounds_open: int
    """How many rounds are open."""
    rounds_released: dict[str, int]
    """How many rounds have ended, by status."""
    rounds_late: int
    """How many answers came after the release of their round."""
    rounds_invalid: int
    """How many rounds ended without a valid outcome."""
    rounds_number: int
    """The number of the newest released round: `rounds` gives those behind a number."""
    flows: list[Flow]
    """Who has published what since the pulse before, as far as looked at."""
    flows_seen: int
    """At how many of the events since then it has looked: the newest."""
    flows_total: int
    """How many there were."""
    rows: list[SubRow]
    """A row for each subscription of the shape; one that has ended since is `ended`."""
    link: LinkStanding | None = None
    """How the link to other desks stands; None on a bus without one."""


class Histogram(Struct, frozen=True, array_like=True):
    """A distribution of times, in buckets as in `core.latency`: four per doubling."""

    buckets: dict[int, int]
    """Counts by bucket. `reading.percentile_ns` reads them."""
    count: int
    """How many were counted."""
    max_ns: int
    """The largest, exactly."""


class Buckets(Struct, frozen=True):
    """The times of one subscription since the start."""

    latency: Histogram
    """From the acceptance of an event to the beginning of its first call."""
    duration: Histogram
    """From the beginning to the end of a call."""
    last_error: str
    """The last failure as text, at most 2,000 characters; or empty."""


class OpenRound(Struct, frozen=True):
    """A round that is open."""

    id: str
    """Its id."""
    opened_ns: int
    """When it was opened."""
    opened_wall_ns: int | None
    """The same in nanoseconds since 1970."""
    waits_for: list[str]
    """Who has not answered."""
    have: list[str]
    """Who has answered."""
    critical: list[str]
    """Those without whose answer the outcome is not valid."""
    quorum: int
    """How many answers suffice after `signal_due_ns`."""
    signal_due_ns: int
    """Until when it holds out for everybody."""
    barrier_due_ns: int
    """When it is released whatever it has."""
    awaited: bool
    """Whether somebody waits for its outcome."""


Cell = list[Any]
"""What became of an agent in a round, a word and what belongs to it:

- `["voted", ns, direction, confidence, symbol]`: its newest opinion came so long after the opening;
- `["abstained", reason]`;
- `["late", ns]`: its answer came so long after the release;
- `["missing", ns]`: it gave none; its last sign of life came so long after the opening, or None;
- `["stood in", round id, age_ns]`: it gave none, and an old signal of it was shown.
"""


class RoundRow(Struct, frozen=True, array_like=True):
    """A round that has been released."""

    number: int
    """One more than that of the round released before it, in this session."""
    id: str
    """Its id."""
    opened_wall_ns: int | None
    """When it was opened, in nanoseconds since 1970."""
    took_ns: int
    """From the opening to the release."""
    status: str
    """`complete`, `quorate`, `expired` or `empty`."""
    valid: bool
    """Whether a decision may be based on it."""
    reason: str
    """Why it was released."""
    cells: dict[str, Cell]
    """What became of each agent on its roster."""


class RoundsSeen(Struct, frozen=True):
    """The rounds of a bus."""

    session: str
    """As in `Shape`."""
    open: list[OpenRound]
    """Those that are open, oldest first; at most 50."""
    open_count: int
    """How many are open."""
    released: list[RoundRow]
    """The next ones released behind the number that was asked for, oldest first; at most 200."""
    newest: int
    """The number of the newest one released; there are more if it is above the last of `released`."""


class HaltAnswer(Struct, frozen=True):
    """What `halt` answers: the kill switch was published."""

    id: str
    """Its event id."""
    total: int
    """How many subscriptions take it; 0: nobody listens."""
    heard: int
    """In how many of them the call with it is over by now; `Pulse.heard` goes on counting."""
    slowest_ns: int
    """How long the slowest of these took."""
    waiting: list[str]
    """The names of the others; at most 10."""
    failed: list[str]
    """Those whose call has failed; at most 10."""
    problem: str = ""
    """Why the journal did not take it, if it did not: it was delivered all the same."""
