"""The pulse of one bus: reads counters and states off its parts, and changes nothing.

It is asked several times a second, whatever the bus has to do. So a row is read from plain attributes, the
loop is given back every `TURN` rows, and what may be large (kill switches, findings, flows, the ledger) is
looked at a bounded piece at a time.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from openoutcry.config import BusConfig
from openoutcry.core.halts import Halt
from openoutcry.core.latency import Latencies
from openoutcry.core.outcome import RoundOutcome
from openoutcry.events import event_type_of
from openoutcry.observers.pulse import (
    Buckets,
    Cell,
    Finding,
    Flow,
    HaltRow,
    Heard,
    Histogram,
    JournalRow,
    OpenRound,
    Pulse,
    RoundRow,
    RoundsSeen,
    Shape,
    SubRow,
)
from openoutcry.ports import FileJournal
from openoutcry.runtime.admission.gate import Admission
from openoutcry.runtime.api.shape import ShapeReader
from openoutcry.runtime.delivery.consumers import Consumers
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.delivery.subscription import Subscription
from openoutcry.runtime.delivery.worker import Worker
from openoutcry.runtime.durability.store import Store
from openoutcry.runtime.health.monitor import Monitor
from openoutcry.runtime.health.readings import Call, call_of, lag_of
from openoutcry.runtime.rounds.rounds import Rounds
from openoutcry.units import NS_PER_S

if TYPE_CHECKING:
    from openoutcry.runtime.linking.linking import Linking  # who has no link does not pay for it

TURN: Final = 100
"""So many rows are read in one turn of the loop."""
HALTS_MOST: Final = 20
FINDINGS_MOST: Final = 20
NAMES_MOST: Final = 20
TEXT_MOST: Final = 300
"""The most characters of a reason or a finding."""
ERROR_MOST: Final = 2_000
FLOWS_LOOKED_AT: Final = 200
"""At how many events a pulse looks for who publishes what."""
BALANCED_AT_ONCE: Final = 8
"""The books of how many subscriptions a pulse checks."""
OPEN_MOST: Final = 50
RELEASED_MOST: Final = 200
CELLS_A_TURN: Final = 200
"""So many cells of rounds are made in one turn of the loop,"""
CELLS_MOST: Final = 20_000
"""and so many in one answer, but for those of its first round."""
_waiting, _dead, _overflowed = itemgetter(3), itemgetter(5), itemgetter(9)
_SHORT: Final = 3
"""The length of the row of an idle subscription of which everything else is the default."""


class PulseReader:
    """Reads the pulse of one life of a bus: a start makes a new one.

    Args:
        bus: The state of the bus.
        admission: Who was let in, and the journal.
        rounds: The rounds.
        monitor: What health has found.
        consumers: The calls.
        config: The settings.
        releasers: The names under which the operator may release kill switches.
        linking: The link to other desks; None without one.

    """

    def __init__(
        self,
        bus: BusState,
        admission: Admission,
        rounds: Rounds,
        monitor: Monitor,
        consumers: Consumers,
        config: BusConfig,
        releasers: frozenset[str],
        linking: "Linking | None",
    ) -> None:
        self._linking = linking
        self._shapes = ShapeReader(bus, admission, rounds, config, releasers)
        self._bus = bus
        self._admission = admission
        self._rounds = rounds
        self._monitor = monitor
        self._consumers = consumers
        self._number = 0
        self._calls: dict[Worker, Call] = {}
        self._published_before = bus.history.admitted
        self._checked = 0
        self._unbalanced: set[Subscription] = set()
        self._idle: dict[Subscription, tuple[Any, ...]] = {}
        self._file: tuple[object, str] = (None, "")
        self._let_go_elsewhere = (-1, -1, 0)

    # -- the shape ----------------------------------------------------------------------------------

    @property
    def session(self) -> str:
        """The name of this life of the bus."""
        return self._shapes.session

    @property
    def shape_number(self) -> int:
        """The number of the shape, as last looked at."""
        return self._shapes.number

    def look_at_shape(self) -> int:
        """Return the number of the shape: another one if it has changed, unless it did so often lately."""
        number = self._shapes.number
        if self._shapes.look() != number:
            self._idle.clear()
        return self._shapes.number

    async def shape(self) -> Shape:
        """Return the shape as last looked at, giving the loop back every few subscriptions."""
        return await self._shapes.shape()

    # -- the pulse ----------------------------------------------------------------------------------

    async def pulse(self) -> Pulse:
        """Return a pulse, giving the loop back before it begins and every few rows."""
        loop = asyncio.get_running_loop()
        longest_s, before_s = 0.0, loop.time()
        await asyncio.sleep(0)
        longest_s = loop.time() - before_s
        number, subscriptions = self.look_at_shape(), self._shapes.subscriptions
        rows: list[tuple[Any, ...]] = []
        calls, self._calls = self._calls, {}
        for first in range(0, len(subscriptions), TURN):
            if first:
                before_s = loop.time()
                await asyncio.sleep(0)
                longest_s = max(longest_s, loop.time() - before_s)
            rows += self._rows(subscriptions[first : first + TURN], first, calls)
        return self._pulse(number, subscriptions, rows, int(longest_s * NS_PER_S))

    async def whole_pulse(self) -> Pulse:
        """Return a pulse whose rows are `SubRow`, for use in this process; over the line they become that."""
        made = await self.pulse()
        return msgspec.structs.replace(made, rows=[SubRow(*row) for row in made.rows])  # type: ignore[misc]

    def _rows(
        self, subscriptions: Sequence[Subscription], first: int, calls: dict[Worker, Call]
    ) -> list[tuple[Any, ...]]:
        """Return a row for each subscription, as `SubRow` has it; most of them are idle."""
        dead = self._bus.dead_letters.known_counts()
        rows, idle = [], self._idle
        for index, s in enumerate(subscriptions, first):
            box, control = s.mailbox, s.control_lane
            high, normal = box.high, box.normal
            waits = high.waiting or normal.waiting or normal.held or high.held or control.waiting
            if waits or box.open or s.control.open or box.behind or box.stalled or not s.holds.is_clear:
                rows.append(self._busy_row(index, s, dead.get(s.name, 0), calls))
                continue
            accepted = high.accepted + normal.accepted + control.accepted
            known = idle.get(s)
            if (
                known is not None
                and known[1] == accepted
                and known[0] == index
                and not dead
                and (not s.errors if len(known) == _SHORT else known[6] == s.errors and not known[5])
            ):
                rows.append(known)  # it has done nothing since
                continue
            let_go = high.overflowed + normal.overflowed
            replaced = normal.conflated + control.conflated + high.expired + normal.expired
            row: tuple[Any, ...]
            if dead or let_go or replaced or s.errors or s.retries or s.timeouts:
                row = self._full_row(index, s, dead.get(s.name, 0) if dead else 0)
            else:
                row = (index, accepted, high.handled + normal.handled + control.handled)
            idle[s] = row
            rows.append(row)
        return rows

    def _full_row(self, index: int, s: Subscription, dead: int) -> tuple[Any, ...]:
        """Return the row of an idle subscription in which not everything went well."""
        high, normal, control = s.mailbox.high, s.mailbox.normal, s.control_lane
        handled = high.handled + normal.handled
        return (
            index,
            high.accepted + normal.accepted + control.accepted,
            handled + control.handled,
            0,
            0,
            dead,
            s.errors,
            s.retries,
            s.timeouts,
            high.overflowed + normal.overflowed,
            normal.conflated + control.conflated,
            high.expired + normal.expired,
            0,
            "",
            "idle",
            0,
            s.streak.now(handled) if s.errors else 0,
        )

    def _busy_row(self, index: int, s: Subscription, dead: int, calls: dict[Worker, Call]) -> tuple[Any, ...]:
        """Return the row of a subscription for which something waits, that is in a call, or is held."""
        box, control = s.mailbox, s.control_lane
        high, normal = box.high, box.normal
        waiting = high.waiting + high.held + normal.waiting + normal.held + control.waiting
        handled, in_flight = high.handled + normal.handled + control.handled, 0
        for batch in (*box.open, *s.control.open):
            begun = batch.begun
            waiting += batch.waiting
            handled += max(0, begun - 1)
            in_flight += begun > 0
        busy_since_ns, event_type = self._oldest_call(s, calls) if in_flight else (0, "")
        oldest = [ns for lane in (high, normal, control) if (ns := lane.oldest_ns)]
        return (
            index,
            high.accepted + high.held + normal.accepted + normal.held + control.accepted,
            handled,
            waiting,
            in_flight,
            dead,
            s.errors,
            s.retries,
            s.timeouts,
            high.overflowed + normal.overflowed,
            normal.conflated + control.conflated,
            high.expired + normal.expired,
            busy_since_ns,
            event_type,
            s.state(),
            lag_of(s, self._bus.durability.released),
            s.streak.now(s.handled),
            min(oldest, default=0),
            s.holds.names(),
        )

    def _oldest_call(self, s: Subscription, calls: dict[Worker, Call]) -> tuple[int, str]:
        """Return since when the oldest current call runs, at the latest, and the type of its event."""
        consumer, now_ns = self._consumers.of(s), self._bus.clock.now_ns()
        found: tuple[int, str] = (0, "")
        for worker in () if consumer is None else consumer.active_workers():
            batch = worker.batch
            if batch is None:
                continue
            call = self._calls[worker] = call_of(worker, batch, calls.get(worker), now_ns)
            if not found[0] or call.since_ns < found[0]:
                found = (call.since_ns, _type_name(batch.current))
        return found

    def _pulse(
        self, shape: int, subscriptions: Sequence[Subscription], rows: list[tuple[Any, ...]], delay_ns: int
    ) -> Pulse:
        bus, admission, totals = self._bus, self._admission, self._rounds.totals
        dead = bus.dead_letters.known_counts()
        full = [row for row in rows if len(row) > _SHORT]
        dog, last = self._monitor.watchdog, self._monitor.last
        blocked = None if dog is None else dog.newest
        flows, flows_seen, flows_total = self._flows()
        self._number += 1
        return Pulse(
            shape=shape,
            session=self.session,
            number=self._number,
            wall_ns=bus.clock.wall_ns(),
            now_ns=bus.clock.now_ns(),
            state=bus.phase,
            level=admission.room.level.value,
            queue=max(map(_waiting, full), default=0),
            capacity=bus.pressure.capacity,
            published=admission.admitted - admission.admitted_before,
            refused=dict(admission.refused),
            high=admission.high,
            control=admission.control,
            duplicates=admission.again.duplicates,
            conflicts=bus.conflicts.total,
            unheard=dict(bus.unheard.counts),
            let_go=sum(map(_overflowed, full)) + self._let_go_by_others(),
            dead=sum(dead.values()),
            dead_elsewhere=self._dead_elsewhere(dead, full),
            halts_count=len(bus.halts),
            halts=[_halt_row(halt) for halt in bus.halts.some(HALTS_MOST)],
            heard=self.heard(),
            journal=self._journal(admission.store),
            loop_delay_ns=delay_ns,
            blocked="" if blocked is None else f"{blocked.handler} for {blocked.held_ns / NS_PER_S:.3g} s",
            ledger_balances=self._balances(subscriptions),
            health="unknown" if last is None else last.status.value,
            health_checked_ns=0 if last is None else int(last.details.get("checked_ns", 0)),
            findings=[
                Finding(f.check, f.level.value, f.culprit, f.detail[:TEXT_MOST])
                for f in (() if last is None else last.findings[:FINDINGS_MOST])
            ],
            rounds_open=totals.open,
            rounds_released=totals.released,
            rounds_late=totals.late,
            rounds_invalid=totals.invalid,
            rounds_number=totals.number,
            flows=flows,
            flows_seen=flows_seen,
            flows_total=flows_total,
            rows=cast("list[SubRow]", rows),
            link=None if self._linking is None else self._linking.standing(),
        )

    def _journal(self, store: Store | None) -> JournalRow | None:
        if store is None:
            return None
        journal = store.journal
        if journal is not self._file[0]:  # (To ask whether it is a file takes a while.)
            self._file = journal, str(journal.path) if isinstance(journal, FileJournal) else ""
        return _journal_row(store, self._file[1])

    def _dead_elsewhere(self, dead: Any, rows: list[tuple[Any, ...]]) -> dict[str, int]:
        """Return how many dead letters names have that are not subscribed now."""
        if not dead or sum(map(_dead, rows)) == sum(dead.values()):
            return {}
        router = self._bus.router
        absent = ((name, count) for name, count in dead.items() if router.get(name) is None)
        return dict(sorted(absent, key=lambda item: -item[1])[:NAMES_MOST])

    def _let_go_by_others(self) -> int:
        """Return how many events were let go by subscriptions without a row, added up when those change."""
        router, shapes = self._bus.router, self._shapes
        if self._let_go_elsewhere[:2] != (router.changes, shapes.number):
            lanes = (lane for s in shapes.subscriptions for lane in (s.mailbox.high, s.mailbox.normal))
            elsewhere = router.overflowed - sum(lane.overflowed for lane in lanes)
            self._let_go_elsewhere = (router.changes, shapes.number, elsewhere)
        return self._let_go_elsewhere[2]

    def _balances(self, subscriptions: Sequence[Subscription]) -> bool:
        """Check the books of the next few subscriptions; what was wrong stays so until it is right again."""
        first = self._checked if self._checked < len(subscriptions) else 0
        self._checked = first + BALANCED_AT_ONCE
        for subscription in (*subscriptions[first : self._checked], *self._unbalanced):
            balances = all(counts[0] == sum(counts[1:]) for _, counts in subscription.ledger_counts())
            (self._unbalanced.discard if balances else self._unbalanced.add)(subscription)
            if not balances and len(self._unbalanced) > BALANCED_AT_ONCE:
                break
        return not self._unbalanced

    def _flows(self) -> tuple[list[Flow], int, int]:
        """Return who has published what since the last pulse, as far as the newest events say."""
        history = self._bus.history
        total = history.admitted - self._published_before
        self._published_before = history.admitted
        counts: Counter[tuple[str, str]] = Counter()
        for event in history.newest(min(total, FLOWS_LOOKED_AT)):
            counts[_source(event), _type_name(event)] += 1
        return [Flow(source, its, n) for (source, its), n in counts.items()], counts.total(), total

    def heard(self) -> Heard | None:
        """Return how far the newest kill switch has come."""
        so_far = self._bus.hearing.so_far()
        if so_far is None:
            return None
        return Heard(
            id=so_far.event_id,
            activated=so_far.activated,
            scope=so_far.scope[:TEXT_MOST],
            at_ns=so_far.at_ns,
            total=so_far.total,
            heard=so_far.heard,
            slowest_ns=so_far.slowest_ns,
            waiting=list(so_far.waiting),
            failed=list(so_far.failed),
        )

    # -- more closely -------------------------------------------------------------------------------

    def buckets(self, names: Iterable[str]) -> dict[str, Buckets]:
        """Return the distributions of some subscriptions by name; those that are not there are left out."""
        found = ((name, self._bus.router.get(name)) for name in names)
        return {
            name: Buckets(
                latency=_histogram(s.latencies),
                duration=_histogram(s.durations),
                last_error=s.last_error[:ERROR_MOST],
            )
            for name, s in found
            if s is not None
        }

    async def rounds(self, since: int) -> RoundsSeen:
        """Return the open rounds, and those released behind a number, giving the loop back in between."""
        rounds = self._rounds
        totals = rounds.totals
        still = [_open_round(opened, is_awaited) for opened, is_awaited in rounds.open_rounds(OPEN_MOST)]
        released: list[RoundRow] = []
        cells = before = 0
        for number, outcome in rounds.released_since(since, RELEASED_MOST):
            cells += len(outcome.roster)
            if released and cells > CELLS_MOST:
                break
            if cells - before > CELLS_A_TURN:
                before = cells
                await asyncio.sleep(0)
            released.append(_round_row(number, outcome))
        return RoundsSeen(
            session=self.session, open=still, open_count=totals.open, released=released, newest=totals.number
        )


# -- rows -------------------------------------------------------------------------------------------


def _halt_row(halt: Halt) -> HaltRow:
    return HaltRow(
        halt.event_id, halt.scope[:TEXT_MOST], halt.reason[:TEXT_MOST], halt.by[:TEXT_MOST], halt.since_ns
    )


def _journal_row(store: Store, path: str) -> JournalRow:
    """Return the row of a journal, with the path of its file, or an empty one."""
    journal, commits = store.journal, store.commits
    return JournalRow(
        path=path,
        head=journal.head,
        first=journal.first,
        synced=journal.synced,
        waiting=commits.waiting,
        bytes=_size(path),
        wal_bytes=_size(f"{path}-wal" if path else ""),
        dead="" if commits.dead is None else str(commits.dead)[:TEXT_MOST],
        level=store.config.level,
        commits=commits.commits,
        syncs=commits.syncs.count,
        sync_ns_last=commits.syncs.last_ns,
        sync_ns_max=commits.syncs.max_ns,
        duplicates=commits.duplicates,
        refused="" if commits.refused is None else str(commits.refused)[:TEXT_MOST],
    )


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size if path else 0  # noqa: PTH116 - a third of the time
    except OSError:
        return 0


def _histogram(times: Latencies) -> Histogram:
    return Histogram(times.buckets(), times.count, times.largest_ns)


def _open_round(opened: Any, is_awaited: bool) -> OpenRound:
    terms = opened.terms
    return OpenRound(
        id=opened.round_id,
        opened_ns=opened.opened_ns,
        opened_wall_ns=opened.opened_wall_ns,
        waits_for=sorted(opened.unheard),
        have=sorted(terms.roster - opened.unheard),
        critical=sorted(terms.critical),
        quorum=terms.quorum_count,
        signal_due_ns=opened.opened_ns + terms.signal_timeout_ns,
        barrier_due_ns=opened.opened_ns + terms.barrier_timeout_ns,
        awaited=is_awaited,
    )


def _round_row(number: int, outcome: RoundOutcome) -> RoundRow:
    return RoundRow(
        number=number,
        id=outcome.round_id,
        opened_wall_ns=outcome.opened_wall_ns,
        took_ns=outcome.released_ns - outcome.opened_ns,
        status=str(outcome.status),
        valid=outcome.valid,
        reason=outcome.reason[:TEXT_MOST],
        cells=_cells(outcome),
    )


def _cells(outcome: RoundOutcome) -> dict[str, Cell]:
    """Return what became of each agent of a round."""
    opened_ns = outcome.opened_ns
    newest = {agent: (symbol, signal, at_ns) for agent, symbol, signal, at_ns in outcome.heard.values()}
    late = {one.agent: one.late_ns for one in reversed(outcome.late)}
    stale = {one.agent: one for one in outcome.stand_ins}
    cells: dict[str, Cell] = {}
    for agent in sorted(outcome.roster):
        if agent in newest:
            symbol, signal, at_ns = newest[agent]
            cells[agent] = ["voted", at_ns - opened_ns, _direction(signal), _confidence(signal), symbol]
        elif agent in outcome.abstained:
            cells[agent] = ["abstained", outcome.abstained[agent][:TEXT_MOST]]
        elif agent in late:
            cells[agent] = ["late", late[agent]]
        elif agent in stale:
            cells[agent] = ["stood in", stale[agent].round_id, stale[agent].age_ns]
        else:
            beat_ns = outcome.heartbeats.get(agent)
            cells[agent] = ["missing", None if beat_ns is None else beat_ns - opened_ns]
    return cells


# -- what users have made, whose attributes may be anything -----------------------------------------


def _direction(signal: Any) -> str:
    return _text(_attribute(signal, "direction"))


def _confidence(signal: Any) -> float | None:
    value = _attribute(signal, "confidence")
    try:
        return float(value) if isinstance(value, int | float) else None
    except OverflowError:
        return None


def _source(event: Any) -> str:
    return _text(_attribute(event, "source_agent"))


def _type_name(event: Any) -> str:
    try:
        found = event_type_of(event)
        return str(getattr(found, "value", found))
    except Exception:  # noqa: BLE001 - it was changed since it was admitted
        return type(event).__name__


def _attribute(of: Any, name: str) -> Any:
    try:
        return getattr(of, name, None)
    except Exception:  # noqa: BLE001 - a property of the user's class
        return None


def _text(value: Any) -> str:
    plain = value if isinstance(value, str) else _attribute(value, "value")
    return str.__str__(plain)[:TEXT_MOST] if isinstance(plain, str) else ""
