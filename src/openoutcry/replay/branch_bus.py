"""The bus of a what-if: agents are not hired, silent, late or somebody else; rounds may end otherwise."""

import asyncio
from collections.abc import Callable, Collection, Iterable
from inspect import ismodule
from typing import Any, Final

from openoutcry.core.barrier import Recall, Round, Verdict
from openoutcry.core.outcome import RoundOutcome
from openoutcry.core.terms import Terms
from openoutcry.core.wording import some_of
from openoutcry.errors import ConfigError
from openoutcry.events import RoundLate, RoundOpened, RoundReleased
from openoutcry.printable import printable
from openoutcry.replay.answers import PlayedAnswers
from openoutcry.replay.branch import Branch
from openoutcry.replay.branch_round import BranchRound
from openoutcry.replay.bus import ReplayedBus
from openoutcry.replay.change import is_of
from openoutcry.replay.day import PastRound
from openoutcry.replay.gates import HeldAdmission
from openoutcry.replay.taking import RESOLUTION_NS, PlayedMailbox
from openoutcry.runtime.api.answers import Outside, Question
from openoutcry.runtime.delivery.causation import Cause, current
from openoutcry.runtime.delivery.subscription import Subscription
from openoutcry.runtime.rounds.rounds import Ballot
from openoutcry.units import NS_PER_S

_NAMED_MOST: Final = 40


class BranchAnswers(PlayedAnswers):
    """Answers of the day. Who asks what it had not asked abstains, as nobody knows the answer."""

    def __init__(self, branch: Branch, abstain: Callable[[str, str, str], object]) -> None:
        super().__init__(branch.day)
        self._abstain = abstain

    def is_unknown(self, asked: Question, cause: Cause | None) -> None:
        """Abstain in the round that is asked about."""
        if cause is not None and cause.round_id is not None:
            self._abstain(asked.subscription, f"no answer of {asked.name!r} is on record", cause.round_id)


class ChangedBus(ReplayedBus):
    """A bus on which a day goes on with a change."""

    afterwards_s = 60.0

    def __init__(self, branch: Branch) -> None:
        self._branch = branch
        self._rounds_played: list[BranchRound] = []
        self._agents: set[str] = set()
        super().__init__(branch)
        self._outside = Outside(self._bus, BranchAnswers(branch, self._abstain_unknown))
        branch.bus = self

    # -- rounds -------------------------------------------------------------------------------------

    def _played_round(
        self,
        past: PastRound,
        terms: Terms,
        opened_ns: int,
        wall_ns: int | None,
        recall: Recall | None,
    ) -> Round:
        """Make a round that ends as on the day, or is computed."""
        made = BranchRound(self._branch, self._look_at, past, self._script, terms, opened_ns, wall_ns, recall)
        self._played.append(made)
        self._rounds_played.append(made)
        return made

    @property
    def rounds_played(self) -> tuple[BranchRound, ...]:
        """The rounds of the day, as they have been this time."""
        return tuple(self._rounds_played)

    def _look_at(self, round_id: str, due_ns: int) -> None:
        """Look at a round when it is due."""

        def look() -> None:
            if not self._rounds.knows(round_id):
                return
            barrier = self._rounds.find(round_id)
            barrier.tick()
            if isinstance(barrier.round, BranchRound):
                for verdict in barrier.round.note_overdue():
                    barrier.settle(verdict)

        asyncio.get_running_loop().call_at((due_ns + RESOLUTION_NS) / NS_PER_S, look)

    def open(self, one: PastRound) -> None:
        """Open a round as it was on the day, without those who are not hired."""
        gone = self._branch.change.without
        self._open_with(one, [name for name in one.terms.roster if not is_of(name, gone)])

    def register_signal_agent(self, agent_name: str, critical: bool = False) -> None:
        """Expect an answer from an agent, if it is hired."""
        self._agents.add(agent_name)
        if not is_of(agent_name, self._branch.change.without):
            super().register_signal_agent(agent_name, critical)

    def abstain(self, agent: str, reason: str = "", round_id: str | None = None) -> Verdict:
        """Answer without an opinion: not if silent, and later if late."""
        change = self._branch.change
        if is_of(agent, change.silence):
            return Verdict.STRANGER
        delay_ns = change.delay_of(agent)
        if not delay_ns:
            return super().abstain(agent, reason, round_id)
        self._meet(round_id, agent)
        loop = asyncio.get_running_loop()
        loop.call_later(delay_ns / NS_PER_S, self._abstain_unknown, agent, reason, round_id)
        return Verdict.COUNTED

    def _abstain_unknown(self, agent: str, reason: str, round_id: str | None) -> None:
        """Abstain in a round, if it is known."""
        if round_id is None or self._rounds.knows(round_id):
            self._rounds.abstain(agent, reason, round_id)

    async def wait_for_signals(self, round_id: str | None = None) -> RoundOutcome:
        """Wait for an outcome; who is handed another one than on the day is touched."""
        who = current.get()
        if who is None or who.bus is not self._bus:
            return await super().wait_for_signals(round_id)
        for one in self._rounds_played:
            if one.outcome is None and round_id in (None, one.round_id):
                one.waiters.add(who.subscription)
        outcome = await super().wait_for_signals(round_id)
        if any(one.is_changed and one.outcome is outcome for one in self._rounds_played):
            self._branch.touch(who.subscription)
        return outcome

    # -- who is there -------------------------------------------------------------------------------

    def dismiss(self) -> None:
        """After the set-up: end the subscriptions of those who are not hired, or are replaced.

        Raises `ConfigError` where the app has no agent of a name that is to be changed.
        """
        change = self._branch.change
        known = sorted(self._agents.union(one.name for one in self._bus.router))
        for name in change.names:
            if not any(is_of(one, (name,)) for one in known):
                there = some_of(known, _NAMED_MOST)
                raise ConfigError(f"the app has no agent {printable(name)!r} to change; it has {there}")
        gone = (*change.without, *change.replace)
        for subscription in [one for one in self._bus.router if is_of(one.name, gone)]:
            self._consumers.end(subscription)

    def record_is_over(self) -> None:
        """Note who is behind."""
        self._branch.behind = self.waiting(self._branch.touched)

    # -- what the script asks -----------------------------------------------------------------------

    def waiting(self, names: Collection[str]) -> dict[str, int]:
        """Return how many events some subscriptions have not settled, of those that have any."""
        counts = {
            one.name: one.mailbox.waiting + one.mailbox.in_flight
            for one in self._bus.router
            if one.name in names
        }
        return {name: count for name, count in counts.items() if count}

    def takers(self, event: Any) -> Iterable[str]:
        """Return the names of the subscriptions that take an event."""
        groups = self._bus.router.route(event)
        return [subscription.name for group in groups for subscription in group.subscriptions]

    def kin(self, name: str) -> Iterable[str]:
        """Return the names of the subscriptions of the same agent: by object or by name."""
        objects = {id(one) for sub in self._bus.router if sub.name == name for one in _objects_of(sub)}
        agent = name.partition(".")[0]
        return [
            sub.name
            for sub in self._bus.router
            if is_of(sub.name, (agent,)) or any(id(one) in objects for one in _objects_of(sub))
        ]

    def go_freely(self, name: str) -> None:
        """Have a subscription take what comes, and compute the open rounds that expect it."""
        for subscription in self._bus.router:
            box = subscription.mailbox
            if subscription.name == name and isinstance(box, PlayedMailbox):
                box.go_freely()
                box.wake()
        for one in self._rounds_played:
            if any(is_of(name, (agent,)) for agent in one.terms.roster):
                self._compute(one)

    def look_again(self, round_id: str) -> None:
        """Compute a round once more, if it is computed."""
        for one in self._rounds_played:
            if one.round_id == round_id and one.is_computed:
                self._compute(one)

    def _compute(self, one: BranchRound) -> None:
        if one.outcome is None:
            one.compute(self._bus.clock.now_ns())
            self._rounds.find(one.round_id).tick()

    def is_otherwise(self, record: Any) -> bool | None:
        """Whether the round that a record is about is another one than on the day; None: not known yet."""
        for one in self._rounds_played:
            if (one.round_id, one.past.terms.ordinal) == (record.round_id, getattr(record, "ordinal", 0)):
                return self._is_otherwise(one, record)
        return isinstance(record, RoundOpened | RoundReleased | RoundLate)

    def _is_otherwise(self, one: BranchRound, record: Any) -> bool | None:
        if isinstance(record, RoundOpened):
            return one.has_other_terms
        if isinstance(record, RoundLate) and self._branch.is_touched(record.agent):
            is_abstention = record.signal_id is None
            later_ns = self._branch.abstains_later_ns(record.agent) if is_abstention else 0
            if later_ns != 0 or record.signal_id in self._branch.passed:
                return True
        return True if one.is_changed else (None if one.outcome is None else one.has_other_terms)

    async def let_in_new(self, event: Any, *, votes: bool, priority: bool, level: str | None) -> bool:
        """Admit an event that is not as recorded."""
        admission, vote = self._admission, None
        assert isinstance(admission, HeldAdmission), "it is one of its parts"
        if votes:
            vote = Ballot(self._rounds, event, self._rounds.agent_of(event), None)
        return await admission.let_in_new(event, priority, level, vote)


def _objects_of(subscription: Subscription) -> list[object]:
    """Return whose method the handler of a subscription is; nothing for a function."""
    owner = getattr(subscription.handler, "__self__", None)
    return [] if owner is None or ismodule(owner) else [owner]
