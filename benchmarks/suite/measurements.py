"""What the report says above each table: title, figure, unit, and what its rows are compared with."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a table says above its rows; `unit` names the figure that the rows are compared by."""

    name: str
    title: str
    figure: str
    unit: str
    note: str
    is_better_higher: bool
    baseline: str | None
    """The label that the other rows are given as a ratio of, where there is one."""


MEASUREMENTS = (
    Measurement(
        name="throughput",
        title="Throughput: one type, trivial handlers, bursts of 1,000 drained before the next",
        figure="deliveries_per_s",
        unit="deliveries/s",
        note="the floor is `for e in events: await handler(e)` with the same handlers and no bus",
        is_better_higher=True,
        baseline="floor, await handler(e)",
    ),
    Measurement(
        name="one_at_a_time",
        title="One at a time: publish, handled, next",
        figure="round_trips_per_s",
        unit="round trips/s",
        note="the floor is two bare tasks that wake each other by futures",
        is_better_higher=True,
        baseline="bare two-task ping",
    ),
    Measurement(
        name="latency",
        title="Publish-to-handler latency, open loop, at the last handler",
        figure="p50",
        unit="us",
        note="counted from the time at which each event was due, so a late publisher counts against the bus",
        is_better_higher=False,
        baseline=None,
    ),
    Measurement(
        name="slow_handler",
        title="One handler of eight sleeps 10 ms per event: rate of the other seven",
        figure="deliveries_per_s",
        unit="deliveries/s",
        note="each bus is compared with itself without the slow handler",
        is_better_higher=True,
        baseline=None,
    ),
    Measurement(
        name="mixed",
        title="Three types over six subscribers of one, two or three of them",
        figure="deliveries_per_s",
        unit="deliveries/s",
        note="the floor has its events sorted per handler beforehand",
        is_better_higher=True,
        baseline="floor, await handler(e)",
    ),
    Measurement(
        name="created",
        title="Events created while publishing (id, timestamp, validation included)",
        figure="deliveries_per_s",
        unit="deliveries/s",
        note="every subject creates the same MarketDataEvent",
        is_better_higher=True,
        baseline="floor, await handler(e)",
    ),
    Measurement(
        name="suspending",
        title="Handlers that suspend once per event (asyncio.sleep(0))",
        figure="deliveries_per_s",
        unit="deliveries/s",
        note="the floor is one bare task per handler over the same events",
        is_better_higher=True,
        baseline="floor, a task per handler",
    ),
    Measurement(
        name="kill_switch",
        title="Kill-switch latency under a 100x flood, at the last flooded agent",
        figure="p99",
        unit="us",
        note="a pull that had not arrived at the end counts with the time it had waited",
        is_better_higher=False,
        baseline=None,
    ),
    Measurement(
        name="barrier",
        title="Barrier rounds, 14 agents: open, 14 signals, outcome",
        figure="rounds_per_s",
        unit="rounds/s",
        note="the signals are made beforehand",
        is_better_higher=True,
        baseline=None,
    ),
    Measurement(
        name="memory",
        title="Memory added by 100,000 queued events",
        figure="queue_mb",
        unit="MB",
        note="the events themselves are measured apart",
        is_better_higher=False,
        baseline=None,
    ),
    Measurement(
        name="durable",
        title="Durable events: stored, handled, settled; 300 bytes each, 1 handler unless the row says",
        figure="events_per_s",
        unit="events/s",
        note="checkpoints count; the floor stores a blob of 512 events per commit, and handles and settles nothing",
        is_better_higher=True,
        baseline="floor, bare SQLite, a blob per batch",
    ),
    Measurement(
        name="durable_single",
        title="Durable events one at a time: the next is published when the last one is accepted",
        figure="events_per_s",
        unit="events/s",
        note="the floor is a bare SQLite commit of one event",
        is_better_higher=True,
        baseline="floor, bare SQLite, a blob per batch",
    ),
    Measurement(
        name="durable_latency",
        title="Durable publish latency, open loop: from when an event was due until publish says True",
        figure="p50",
        unit="us",
        note="floors and peers are called back to back, and block their caller meanwhile",
        is_better_higher=False,
        baseline=None,
    ),
    Measurement(
        name="durable_recovery",
        title="Recovery: a file of unhandled events opened, read, decoded, handled and settled",
        figure="events_per_s",
        unit="events/s",
        note="from the opening on; a million events, with --quick 200,000; the peers' files are smaller, as stated",
        is_better_higher=True,
        baseline=None,
    ),
    Measurement(
        name="durable_size",
        title="Bytes on the disk per byte of payload",
        figure="bytes_per_byte",
        unit="x",
        note="after closing; the peers before anything was read or acknowledged",
        is_better_higher=False,
        baseline=None,
    ),
    Measurement(
        name="durable_memory_level",
        title="Market data, which is not journaled, on a bus with a journal and on one without",
        figure="deliveries_per_s",
        unit="deliveries/s",
        note="everything else as in `throughput`",
        is_better_higher=True,
        baseline="persistence off",
    ),
)
