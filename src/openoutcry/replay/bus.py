"""The bus of a replay: a real one, on a journal in memory, whose gates follow a script."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from openoutcry.config import BackpressureConfig, PersistenceConfig
from openoutcry.core.barrier import Recall, Round, Verdict
from openoutcry.core.halts import FIRM, Halt
from openoutcry.core.lanes import Batch, Lane
from openoutcry.core.mailbox import Mailbox
from openoutcry.core.outcome import RoundOutcome
from openoutcry.core.terms import Terms
from openoutcry.replay.answers import PlayedAnswers
from openoutcry.replay.comparing import Difference
from openoutcry.replay.day import Entry, PastRound
from openoutcry.replay.gates import HeldAdmission, HeldDispatcher, PlayedRound
from openoutcry.replay.keeping import keep
from openoutcry.replay.script import PATIENCE_NS, Script
from openoutcry.replay.stepped import SteppedThread
from openoutcry.replay.taking import PlayedMailbox
from openoutcry.replay.told import Told
from openoutcry.replay.venue import VenueBus
from openoutcry.runtime.api.answers import Outside
from openoutcry.runtime.api.parts import Parts
from openoutcry.runtime.delivery.causation import Publisher, current
from openoutcry.runtime.delivery.handlers import Handler
from openoutcry.runtime.delivery.subscription import Subscription
from openoutcry.runtime.rounds.barriers import SignalBarrier
from openoutcry.runtime.rounds.rounds import Ballot, unknown_round
from openoutcry.units import NS_PER_S

ROOM: Final = 10_000_000
"""So many events may wait: what was accepted on the day is not refused now."""
_KEPT: Final = (
    "signal_timeout",
    "barrier_timeout",
    "stand_in_max_age",
    "history_size",
    "history_bytes",
    "kill_switch_releasers",
    "control_releaser",
)


class ReplayedBus(VenueBus):
    """A bus on which a day happens again."""

    afterwards_s: float = 1.0
    """So long in virtual time agents may go on when the record is over."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._played: list[PlayedRound] = []
        self._uses: dict[str, int] = {}
        self._opened_for: dict[str, str] = {}
        self._boxes: dict[str, PlayedMailbox] = {}
        self._timeouts: dict[str, int] = {}
        self._told = Told(script.day)
        self._parts = Parts(
            admission=partial(HeldAdmission, script),
            new_round=self._new_round,
            mailboxes=self._new_mailbox if script.day.is_taped else None,
            threads=self._new_thread,
        )
        self._journal = script.journal
        super().__init__(**_arguments(script), journal=self._journal)
        self._outside = Outside(self._bus, PlayedAnswers(script.day))

    def _new_round(
        self, round_id: str, terms: Terms, opened_ns: int, wall_ns: int | None, recall: Recall | None
    ) -> Round:
        """Make a round that ends as on the day; one that was not opened then is a round like any other."""
        known, use = self._script.day.rounds.get(round_id, []), self._uses.get(round_id, 0)
        if use >= len(known):
            return Round(round_id, terms, opened_ns, wall_ns, recall)
        self._uses[round_id] = use + 1
        return self._played_round(known[use], terms, opened_ns, wall_ns, recall)

    def _played_round(
        self, past: PastRound, terms: Terms, opened_ns: int, wall_ns: int | None, recall: Recall | None
    ) -> Round:
        """Make a round that ends as it did on the day."""
        played = PlayedRound(past, self._script, terms, opened_ns, wall_ns, recall)
        self._played.append(played)
        return played

    def _new_mailbox(self, name: str, normal: Lane, **options: Any) -> Mailbox:
        """Make a mailbox from which is taken what was taken on the day; a control lane is like any other."""
        if normal.name == "control":
            return Mailbox(normal, **options)
        day = self._script.day
        box = PlayedMailbox(name, normal, self._script.pace, day.steps.get(name, ()), day.again, **options)
        self._boxes[name] = box
        return box

    def _new_thread(self, name: str) -> SteppedThread:
        """Make a thread whose calls take as long as they did on the day, where that is known."""
        box = self._boxes.get(name)
        return SteppedThread((lambda _: None) if box is None else box.ends_ns, name)

    def link_mailboxes(self) -> None:
        """Before the start: have each mailbox wake the worker of its subscription."""
        for subscription in self._bus.router:
            box = subscription.mailbox
            if isinstance(box, PlayedMailbox):
                box.link(
                    subscription.wake_all,
                    partial(self._cut, subscription),
                    self._timeouts.get(subscription.name),
                    in_threads=subscription.options.blocking,
                )

    def _cut(self, subscription: Subscription, batch: Batch, is_superseded: bool) -> None:
        """End a call from outside."""
        consumer = self._consumers.of(subscription)
        for worker in () if consumer is None else consumer.active_workers():
            if worker.batch is batch:
                if is_superseded:
                    worker.guard.supersede()
                else:
                    worker.guard.cancel_call("timed out")

    def subscribe(self, event_type: Any, handler: Handler, **options: Any) -> Subscription:
        """Subscribe a handler, whose calls are ended when they were on the day."""
        known = self.taken(options.get("name"))
        if known is not None:
            return known
        timeout_s = options.pop("timeout_s", None) if self._script.day.is_taped else None
        subscription = super().subscribe(event_type, handler, **options)
        if timeout_s is not None:
            self._timeouts[subscription.name] = round(timeout_s * NS_PER_S)
        return subscription

    def dismiss(self) -> None:
        """After the set-up: everybody stays."""

    def record_is_over(self) -> None:
        """Everything that was recorded has been handed out."""

    @property
    def unhanded_count(self) -> int:
        """How many events were not handed to who took them on the day."""
        return sum(box.unhanded_count for box in self._boxes.values())

    def keep(self, path: Path, *, goes_on: bool) -> None:
        """Write what has happened into a new journal; `goes_on`: into that of the lives before."""
        keep(self._script, self._journal, path, goes_on=goes_on)

    # -- what the script asks -----------------------------------------------------------------------

    async def let_in(self, entry: Entry) -> bool:
        """Admit a recorded event, with the vote that it had."""
        admission, vote = self._admission, None
        assert isinstance(admission, HeldAdmission), "it is one of its parts"
        if entry.voted:
            event = entry.event
            vote = Ballot(self._rounds, event, self._rounds.agent_of(event), None)
        return await admission.let_in(entry, vote)

    def hand_out(self, record: Any) -> None:
        """Hand a record of the day to those that name its type."""
        dispatcher = self._admission.dispatcher
        assert isinstance(dispatcher, HeldDispatcher), "its admission makes one"
        dispatcher.hand_out(record)

    def is_open(self, one: PastRound) -> bool:
        """Whether a round is open, or was."""
        return any(played.past is one for played in self._played)

    def open(self, one: PastRound) -> None:
        """Open a round as it was on the day; its main program has waited for it."""
        self._open_with(one, one.terms.roster)

    def _open_with(self, one: PastRound, expected: Sequence[str]) -> None:
        """Open a round with this roster."""
        terms = one.terms
        barrier = self._rounds.open(
            one.round_id,
            roster=expected,
            quorum=min(terms.quorum_count, len(expected)) or None,
            critical=[name for name in terms.critical if name in expected],
            signal_timeout_s=terms.signal_timeout_ns / NS_PER_S,
            barrier_timeout_s=terms.barrier_timeout_ns / NS_PER_S,
        )
        barrier.is_awaited = True
        if one.opened_by:
            self._opened_for[one.round_id] = one.opened_by

    def open_round(self, round_id: str | None = None, *terms: Any, **named: Any) -> SignalBarrier:
        """Open a round, unless that is the round of another agent, which was first on the day.

        One that was opened in place of an agent that is late is there already.
        """
        if round_id is None:
            return super().open_round(None, *terms, **named)
        agent, script = self._caller(), self._script
        use = self._uses.get(round_id, 0)
        for one in script.day.rounds.get(round_id, ())[use : use + 1]:
            touched = script.is_touched(agent) or script.is_touched(one.opened_by)
            if agent and one.opened_by not in ("", agent) and not touched:
                self.open(one)  # so that this one is told that the id is taken
        if self._opened_for.get(round_id) == agent:
            del self._opened_for[round_id]
            return self._rounds.find(round_id)
        return super().open_round(round_id, *terms, **named)

    def abstain(self, agent: str, reason: str = "", round_id: str | None = None) -> Verdict:
        """Answer without an opinion: whether the round is known is as on the day."""
        self._meet(round_id, agent)
        return super().abstain(agent, reason, round_id)

    async def wait_for_signals(self, round_id: str | None = None) -> RoundOutcome:
        """Wait for an outcome: whether the round is known is as on the day."""
        self._meet(round_id)
        return await super().wait_for_signals(round_id)

    def _meet(self, round_id: str | None, agent: str = "") -> None:
        """See to it that a call knows the round that it names if and only if it did on the day.

        Without a tape it is known only of an `agent` whose abstention was recorded that it had met it. Who
        waits for a round that a main program opens about now had met it too: an event without a tape has the
        instant at which its commit began.
        """
        who, day = self._who(), self._script.day
        caller = "" if who is None or not who.in_call else who.subscription  # the tape notes no others
        if round_id is None:
            return
        if self._told.knows_not(caller, round_id) and not self._script.is_touched(caller):
            raise unknown_round(round_id)
        if not self._rounds.knows(round_id):
            for one in day.rounds.get(round_id, ()):
                is_met = (caller and day.is_taped) or one.has_abstained(agent)
                if (is_met or (not agent and self._opens_now(one))) and not self.is_open(one):
                    self.open(one)
                    break

    def _opens_now(self, one: PastRound) -> bool:
        """Whether a main program opens a round about now."""
        pace = self._script.pace
        return not one.opened_by and one.at_ns + pace.lost_ns <= pace.now_ns() + PATIENCE_NS

    def halted(self, scope: str = FIRM) -> tuple[Halt, ...]:
        """Return the active kill switches: those that the call was told of on the day, unless others came."""
        now, who = super().halted(scope), self._who()
        then = self._told.halts(who, scope, now)
        if who is None or not self._script.has_other_halts(who.subscription, now):
            return then
        if now != then:
            self._script.touch(who.subscription)
        return now

    def _caller(self) -> str:
        """Return the subscription whose handler calls; empty outside of handlers."""
        who = self._who()
        return "" if who is None else who.subscription

    def _who(self) -> Publisher | None:
        """Return the call that calls; None outside of handlers."""
        who = current.get()
        return None if who is None or who.bus is not self._bus else who

    def watch_errors(self) -> None:
        """Note the calls that fail now."""
        self._bus.on_raised.append(self._script.note_raised)

    def judge_rounds(self) -> None:
        """Note who has abstained, or opened a round, otherwise than on the day."""
        for played in self._played:
            past, found = played.past, self._script.differences
            if not self._script.is_compared(past.at_ns):
                continue
            for agent, what in _otherwise(played, has_gap=bool(self._script.day.gap)):
                if (agent, past.round_id) in self._script.day.cut_rounds:
                    continue  # whether it had come so far when its time was up is not known
                found.append(Difference(kind="abstained", agent=agent, round_id=past.round_id, said=what))
            terms, now = past.terms, played.terms
            if (frozenset(terms.roster), terms.quorum_count) != (now.roster, now.quorum_count):
                self._script.note_round(past, "opened with other terms its round")


def _otherwise(played: PlayedRound, *, has_gap: bool) -> list[tuple[str, str]]:
    past = played.past
    if past.released is None:
        return []
    late = {one.agent for one in past.late if one.signal_id is None}
    before = set(past.released.abstained_ns) | late
    if has_gap:  # a late answer may not have got into the record
        before |= played.said & set(past.released.missing)
    round_id = past.round_id
    found = [(agent, f"did not abstain in {round_id}, as it had") for agent in sorted(before - played.said)]
    return found + [
        (agent, f"abstained in {round_id}, as it had not") for agent in sorted(played.said - before)
    ]


def kept_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a recorded bus's settings that matter for another one that is to be like it."""
    return {name: settings[name] for name in _KEPT if name in settings}


def _arguments(script: Script) -> dict[str, Any]:
    """Return the settings of the day's bus, as far as they matter now."""
    day = script.day
    persistence = day.settings.get("persistence") or {}
    levels = {name: persistence[name] for name in ("level", "high_priority_level") if name in persistence}
    return {
        **kept_settings(day.settings),
        "max_queue_size": ROOM,
        "seed": day.manifest.seed,
        "backpressure_config": BackpressureConfig(),
        "persistence_config": PersistenceConfig(
            **levels,
            levels=dict(persistence.get("levels", {})),
            record=script.record,
            socket=False,
        ),
    }
