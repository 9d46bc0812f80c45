"""The signal barrier on an event loop: agents answer, waiters get the outcome of the round.

Nothing is decided here: `core.barrier.Round` decides. This shell gives it the time, wakes the waiters, and
makes sure that a round is released at its deadline even if nobody waits for it.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final, Protocol, Self

from openoutcry.clocks import clock_of_loop
from openoutcry.core.barrier import Round, State, Verdict
from openoutcry.core.outcome import LateAnswer, RoundOutcome, StandIn, Status
from openoutcry.core.terms import agree, check_answer, to_ns
from openoutcry.errors import ConfigError
from openoutcry.events.sources import new_name
from openoutcry.ports import Clock
from openoutcry.printable import unwritable
from openoutcry.runtime.ownership import Ownership, resolve, running_loop
from openoutcry.runtime.rounds.timer import DeadlineTimer
from openoutcry.units import NS_PER_S

__all__ = [
    "LateAnswer",
    "RoundOutcome",
    "RoundOwner",
    "SignalBarrier",
    "StandIn",
    "State",
    "Status",
    "Verdict",
    "check_round_id",
    "new_round_id",
]

_LATE: Final = Verdict.LATE


class RoundOwner(Protocol):
    """Who keeps the rounds that it opens, and is told what becomes of them. It must not raise."""

    def released(self, outcome: RoundOutcome) -> None:
        """A round has its outcome: told once, when its waiters have been woken."""
        ...

    def late(self, outcome: RoundOutcome) -> None:
        """An answer came after the release: the last one that the outcome counts."""
        ...


class SignalBarrier:
    """One round of signals, with a frozen roster, a deadline that runs from now, and one outcome.

    Usable alone, inside a coroutine, or made by `Rounds.open` for a bus:

    ```python
    barrier = SignalBarrier(["momentum", "value", "risk"], timeout=2.0, quorum=0.6, critical=["risk"])
    await barrier.add_signal("momentum", signal)
    outcome = await barrier.wait()
    ```

    `timeout` is the hard deadline in seconds. `signal_timeout` is how long the round waits for everybody
    before the quorum suffices; by default until the deadline. `quorum` is a count (`int`), a share of the
    roster rounded up (`float`), or `None` for everybody. `critical` agents are expected too, and without
    their answer the outcome is not valid. Bad settings raise `ConfigError`.

    The barrier belongs to one event loop, that on which it is made or first waited for, and a bus's to the
    loop of the bus. So it needs no lock: it raises `WrongThread` in other threads, or one of its subclasses
    on other loops and in forked children. Once it is over any thread may read it. If it is made outside a
    loop, its deadline is on the system's monotonic clock unless a `clock` is given.
    """

    __slots__ = (
        "_alarm",
        "_clock",
        "_owner",
        "_ownership",
        "_settled",
        "_waiters",
        "is_awaited",
        "round",
    )

    round: Round
    """The state machine. After calling it directly, call `settle` if it has its outcome."""
    _alarm: DeadlineTimer
    _clock: Clock
    _owner: RoundOwner | None
    _ownership: Ownership
    _settled: bool
    _waiters: list[asyncio.Future[RoundOutcome]]
    is_awaited: bool
    """Whether anybody has called `wait` yet."""

    def __init__(
        self,
        expected_agents: Iterable[str],
        timeout: float = 10.0,
        *,
        quorum: float | None = None,
        critical: Iterable[str] = (),
        signal_timeout: float | None = None,
        clock: Clock | None = None,
        round_id: str | None = None,
    ) -> None:
        barrier_timeout_ns = to_ns("timeout", timeout)
        terms = agree(
            expected_agents,
            quorum=quorum,
            critical=critical,
            signal_timeout_ns=(
                barrier_timeout_ns if signal_timeout is None else to_ns("signal_timeout", signal_timeout)
            ),
            barrier_timeout_ns=barrier_timeout_ns,
        )
        clock = clock_of_loop() if clock is None else clock
        name = new_round_id() if round_id is None else check_round_id(round_id)
        opened = Round(name, terms, clock.now_ns(), clock.wall_ns())
        ownership = Ownership("barrier")
        loop = running_loop()
        if loop is not None:
            ownership.claim(loop, "SignalBarrier")
        self._attach(opened, clock, DeadlineTimer(clock.now_ns, self._ring), None, ownership)
        if opened.outcome is None:
            self._alarm.by(opened.due_ns)

    @classmethod
    def over(
        cls,
        opened: Round,
        clock: Clock,
        alarm: DeadlineTimer,
        owner: RoundOwner,
        ownership: Ownership,
    ) -> Self:
        """Make the shell of a round whose owner runs the timer and is told what becomes of it.

        `ownership` says where it may be called.
        """
        barrier = cls.__new__(cls)
        barrier._attach(opened, clock, alarm, owner, ownership)  # noqa: SLF001 - a second constructor
        return barrier

    def _attach(
        self,
        opened: Round,
        clock: Clock,
        alarm: DeadlineTimer,
        owner: RoundOwner | None,
        ownership: Ownership,
    ) -> None:
        self._ownership = ownership
        self.round = opened
        self._clock = clock
        self._alarm = alarm
        self._owner = owner
        self._waiters = []
        self._settled = False
        self.is_awaited = False

    # -- answers -------------------------------------------------------------------------------------

    async def add_signal(self, agent_name: str, signal: Any) -> bool:
        """Take an agent's opinion; never suspends.

        Returns True if everybody has answered with this signal. Returns False while others are missing, and
        for a signal without a vote: a late one, one of another round, a duplicate, one of an agent that is
        not expected. `arrive` tells these apart.
        """
        taken = self.arrive(agent_name, signal).is_taken
        return taken and self.round.answers_count == len(self.round.terms.roster)

    def arrive(self, agent: str, signal: Any, now_ns: int | None = None) -> Verdict:
        """Take an agent's opinion, and return what became of it. `now_ns` is on the barrier's clock."""
        self._ownership.check("arrive")
        opened = self.round
        verdict = opened.arrive(agent, signal, self._clock.now_ns() if now_ns is None else now_ns)
        if opened.outcome is not None:
            self.settle(verdict)
        return verdict

    def abstain(self, agent: str, reason: str = "", now_ns: int | None = None) -> Verdict:
        """Take an answer without an opinion: it counts toward the quorum and is no signal.

        Raises `ConfigError` for an agent whose name cannot be written.
        """
        self._ownership.check("abstain")
        reason = check_answer(agent, reason)
        verdict = self.round.abstain(agent, reason, self._now_ns(now_ns))
        self.settle(verdict)
        return verdict

    def heartbeat(self, agent: str, now_ns: int | None = None) -> Verdict:
        """Note that an agent is alive. That is not an answer: the outcome shows it beside the missing."""
        self._ownership.check("heartbeat")
        verdict = self.round.heartbeat(agent, self._now_ns(now_ns))
        self.settle()
        return verdict

    # -- the outcome ---------------------------------------------------------------------------------

    async def wait(self) -> RoundOutcome:
        """Wait until the round is released, and return its outcome: the same object for every waiter.

        It never raises for lack of answers: check `outcome.valid`. Cancelling leaves the round and its other
        waiters as they were; a later call gets the same outcome.
        """
        self._look("wait")
        if self._owner is None and self._ownership.loop is None:
            self._ownership.claim(asyncio.get_running_loop(), "wait")
        self.is_awaited = True
        opened = self.round
        if opened.outcome is None and self._clock.now_ns() >= opened.due_ns:
            self.tick()
        if opened.outcome is not None:
            return opened.outcome
        waiter: asyncio.Future[RoundOutcome] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._alarm.by(opened.due_ns)
        try:
            return await waiter
        except asyncio.CancelledError:
            with suppress(ValueError):  # released in the same turn of the loop, so no longer in the list
                self._waiters.remove(waiter)
            self.is_awaited = bool(self._waiters)
            raise

    def close(self, reason: str = "the round was closed", now_ns: int | None = None) -> RoundOutcome:
        """End the round now, as expired for this reason, unless it already has its outcome."""
        self._ownership.check("close")
        outcome = self.round.close(reason, self._now_ns(now_ns))
        self.settle()
        return outcome

    def tick(self, now_ns: int | None = None) -> RoundOutcome | None:
        """Release the round if its deadline has passed; return the outcome if there is one."""
        self._look("tick")
        outcome = self.round.tick(self._now_ns(now_ns))
        self.settle()
        return outcome

    # -- what can be seen ----------------------------------------------------------------------------

    async def is_complete(self) -> bool:
        """Return True if everybody expected has answered, by opinion or abstention; never suspends."""
        self._look("is_complete")
        return self.round.answers_count == len(self.round.terms.roster)

    async def get_signals_copy(self) -> dict[str, Any]:
        """Return a copy of each agent's newest signal; never suspends."""
        self._look("get_signals_copy")
        return self.round.opinions

    async def get_received_count(self) -> int:
        """Return how many agents have given an opinion; never suspends."""
        self._look("get_received_count")
        return len(self.round.opinions)

    @property
    def is_closed(self) -> bool:
        """Whether the round is over, so that an answer now would be late."""
        return self.tick() is not None

    @property
    def round_id(self) -> str:
        """The id of the round, which its signals carry."""
        self._ownership.check_process("round_id")
        return self.round.round_id

    @property
    def roster(self) -> frozenset[str]:
        """Everybody who is expected, frozen at the opening."""
        self._ownership.check_process("roster")
        return self.round.terms.roster

    @property
    def outcome(self) -> RoundOutcome | None:
        """The outcome, or `None` while the round is open."""
        return self.tick()

    @property
    def due_ns(self) -> int:
        """When the round next changes by itself, on its clock; `core.barrier.NEVER_NS` after the release."""
        self._look("due_ns")
        return self.round.due_ns

    def expects(self, agent: str) -> bool:
        """Return True if an agent is on the roster and has not answered yet."""
        self._look("expects")
        return self.round.expects(agent)

    def get_status(self) -> dict[str, Any]:
        """Return the state of the round, JSON-ready."""
        self._look("get_status")
        self.tick()
        opened, terms, now_ns = self.round, self.round.terms, self._clock.now_ns()
        missing = opened.missing
        return {
            "round_id": opened.round_id,
            "state": str(opened.state),
            "is_closed": opened.outcome is not None,
            "expected": sorted(terms.roster),
            "answered": sorted(terms.roster - missing),
            "missing": sorted(missing),
            "missing_critical": sorted(terms.critical & missing),
            "quorum_count": terms.quorum_count,
            "opinions_count": len(opened.opinions),
            "abstentions_count": opened.answers_count - len(opened.opinions),
            "age_s": (now_ns - opened.opened_ns) / NS_PER_S,
            "due_in_s": None if opened.outcome is not None else (opened.due_ns - now_ns) / NS_PER_S,
            "waiters_count": len(self._waiters),
        }

    def __repr__(self) -> str:
        opened = self.round
        counts = f"{opened.answers_count} of {len(opened.terms.roster)} answered"
        return f"<SignalBarrier {opened.round_id!r}: {opened.state}, {counts}>"

    # -- inside --------------------------------------------------------------------------------------

    def _look(self, call: str) -> None:
        """Raise unless the round may be looked at here: once it is over, anywhere."""
        if self._settled:
            self._ownership.check_process(call)
        else:
            self._ownership.check(call)

    def _now_ns(self, now_ns: int | None) -> int:
        return self._clock.now_ns() if now_ns is None else now_ns

    def _ring(self, now_ns: int) -> int:
        self.round.tick(now_ns)
        self.settle()
        return self.round.due_ns

    def settle(self, verdict: Verdict | None = None) -> None:
        """Tell the waiters and the owner of the release, if there is one and they have not been told.

        The owner is told of an answer with the verdict `LATE` as well.
        """
        outcome, owner = self.round.outcome, self._owner
        if outcome is None:
            return
        if not self._settled:
            self._settled = True
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                resolve(waiter, outcome)
            if owner is None:
                self._alarm.cancel()
            else:
                owner.released(outcome)
        if verdict is _LATE and owner is not None:
            owner.late(outcome)


def new_round_id() -> str:
    """Return an id that no other round has, in this run or another, so that late signals find theirs."""
    return f"round-{new_name()}"


def check_round_id(round_id: str) -> str:
    """Return the id, or raise `ConfigError` unless it is a non-empty string."""
    given: Any = round_id
    if not isinstance(given, str) or not given:
        raise ConfigError(
            f"round_id is {given!r}: give a string of at least one character, or None for a fresh one"
        )
    if problem := unwritable(given):
        raise ConfigError(f"round_id is {given!r}: {problem}; correct the id, or give None for a fresh one")
    return given
