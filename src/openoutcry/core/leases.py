"""Leases: an agent that heartbeats counts as alive for a while after each heartbeat, and is missed then."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lapse:
    """A lease that ran out.

    Attributes:
        agent: Whose it was.
        lease_ns: How long it was for.
        overdue_ns: How long ago it ran out.

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
        """Note a heartbeat. The first one must give the length of the lease; later ones may change it.

        Without a length, a heartbeat of an agent that has no lease is ignored.
        """
        if lease_ns is None:
            known = self._leases.get(agent)
            if known is None:
                return
            lease_ns = known[0]
        self._leases[agent] = (lease_ns, now_ns + lease_ns)

    def release(self, agent: str) -> bool:
        """End an agent's lease, at its own wish. Return True if it had one."""
        return self._leases.pop(agent, None) is not None

    def restart(self, now_ns: int) -> None:
        """Restart every lease: the bus has just started, and could not hear heartbeats before."""
        self._leases = {agent: (lease, now_ns + lease) for agent, (lease, _) in self._leases.items()}

    def lapsed(self, now_ns: int) -> list[Lapse]:
        """Return who is missed, longest first."""
        over = [Lapse(a, lease, now_ns - end) for a, (lease, end) in self._leases.items() if now_ns > end]
        return sorted(over, key=lambda lapse: (-lapse.overdue_ns, lapse.agent))

    def due_ns(self) -> int | None:
        """Return when the next lease runs out that has not been renewed by then, or None without leases."""
        return min((end for _, end in self._leases.values()), default=None)
