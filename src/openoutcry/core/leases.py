"""Leases: an agent that heartbeats counts as alive for a while after each sign of life, then it is missed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lapse:
    """A lease that ran out.

    Attributes:
        agent: Whose it was.
        lease_ns: How long it was for.
        overdue_ns: For how long it has been over.

    """

    agent: str
    lease_ns: int
    overdue_ns: int


class Leases:
    """The leases of all agents that have one."""

    __slots__ = ("_leases",)

    def __init__(self) -> None:
        self._leases: dict[str, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._leases)

    def renew(self, agent: str, now_ns: int, lease_ns: int | None = None) -> None:
        """Take a sign of life. The first one must say for how long it counts; others may change that.

        A sign of life of an agent without a lease, and with no length, is nothing to remember.
        """
        if lease_ns is None:
            known = self._leases.get(agent)
            if known is None:
                return
            lease_ns = known[0]
        self._leases[agent] = (lease_ns, now_ns + lease_ns)

    def release(self, agent: str) -> bool:
        """Let an agent go that has said goodbye. Tell whether it had a lease."""
        return self._leases.pop(agent, None) is not None

    def restart(self, now_ns: int) -> None:
        """Begin every lease anew: the bus has just started, and nobody could be heard before."""
        self._leases = {agent: (lease, now_ns + lease) for agent, (lease, _) in self._leases.items()}

    def lapsed(self, now_ns: int) -> list[Lapse]:
        """Return who is missed, longest first."""
        over = [Lapse(a, lease, now_ns - end) for a, (lease, end) in self._leases.items() if now_ns > end]
        return sorted(over, key=lambda lapse: (-lapse.overdue_ns, lapse.agent))

    def due_ns(self) -> int | None:
        """Return when the next lease runs out that has not been renewed by then, or None without leases."""
        return min((end for _, end in self._leases.values()), default=None)
