"""The agents that answer rounds, and what a round demands of them: its terms."""

from collections.abc import Iterable

from openoutcry.core.terms import Terms, agree, check_quorum, check_slips, names, to_ns
from openoutcry.errors import ConfigError
from openoutcry.spelling import nearest, same_form


class Agents:
    """Who is registered, and the settings of a round that asks for nothing else.

    Times are in seconds. Raises `ConfigError` for settings out of range.

    Attributes:
        critical_by_name: Who is registered, and whether as critical. Only `register` writes to it.
        signal_timeout_ns: How long a round waits for everybody.

    """

    def __init__(
        self,
        *,
        signal_timeout_s: float,
        barrier_timeout_s: float,
        quorum: float | None,
        stand_in_max_age_s: float | None,
    ) -> None:
        check_quorum(quorum)
        self.critical_by_name: dict[str, bool] = {}
        self.signal_timeout_ns: int = to_ns("signal_timeout", signal_timeout_s)
        self._barrier_timeout_ns = to_ns("barrier_timeout", barrier_timeout_s)
        self._stand_in_max_age_ns = (
            None if stand_in_max_age_s is None else to_ns("stand_in_max_age", stand_in_max_age_s)
        )
        self._quorum = quorum
        agree((), signal_timeout_ns=self.signal_timeout_ns, barrier_timeout_ns=self._barrier_timeout_ns)
        self._usual: Terms | None = None

    def register(self, agent: str, *, critical: bool = False) -> None:
        """Add an agent, or make it critical: once critical, it stays so."""
        (name,) = names("agent_name", [agent])
        self.critical_by_name[name] = critical or self.critical_by_name.get(name, False)
        self._usual = None

    @property
    def registered(self) -> frozenset[str]:
        """Everybody who is registered."""
        return frozenset(self.critical_by_name)

    @property
    def critical(self) -> frozenset[str]:
        """Those whose answer every round needs in order to be valid."""
        return frozenset(agent for agent, critical in self.critical_by_name.items() if critical)

    def usual_terms(self) -> Terms:
        """Return the terms of a round that asks for nothing else, made anew only when an agent registers."""
        if self._usual is None:
            self._usual = self.terms()
        return self._usual

    def terms(
        self,
        roster: Iterable[str] | None = None,
        quorum: float | None = None,
        critical: Iterable[str] | None = None,
        signal_timeout_s: float | None = None,
        barrier_timeout_s: float | None = None,
    ) -> Terms:
        """Return the terms of a round; what is None is as usual.

        A usual `signal_timeout` longer than the round's own `barrier_timeout` is cut to it.
        """
        expected = self.registered if roster is None else names("roster", roster)
        check_slips("roster", expected, self.registered)
        must = self.critical & expected if critical is None else names("critical", critical)
        _check_expected(must, expected)
        barrier_timeout_ns = (
            self._barrier_timeout_ns
            if barrier_timeout_s is None
            else to_ns("barrier_timeout", barrier_timeout_s)
        )
        signal_timeout_ns = (
            min(self.signal_timeout_ns, barrier_timeout_ns)
            if signal_timeout_s is None
            else to_ns("signal_timeout", signal_timeout_s)
        )
        return agree(
            expected,
            quorum=self._quorum if quorum is None else quorum,
            critical=must,
            signal_timeout_ns=signal_timeout_ns,
            barrier_timeout_ns=barrier_timeout_ns,
            stand_in_max_age_ns=self._stand_in_max_age_ns,
        )


def _check_expected(critical: frozenset[str], roster: frozenset[str]) -> None:
    """Refuse a critical agent whom the round does not expect: no outcome would ever be valid."""
    for name in sorted(critical - roster):
        meant = same_form(name, roster) or nearest(name, roster)
        hint = "" if meant is None else f"; did you mean {meant!r}?"
        raise ConfigError(
            f"critical has {name!r}, who is not among the agents of the round, {sorted(roster)}{hint} "
            "Register the agent, or name it in the roster too"
        )
