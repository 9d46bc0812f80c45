"""How the link of a desk stands, as plain data: a part of the pulse.

Times are in nanoseconds, on the bus's monotonic clock, whose now is `Pulse.now_ns`. What lies between two
positions is an upper bound of the events there: not every entry of a journal is exported.
"""

from msgspec import Struct


class LogStanding(Struct, frozen=True):
    """A log of the engine, and how far this desk's exports have come in it."""

    log: str
    """`high` or `normal`."""
    released: int
    """The position of this desk's journal up to which it could be exported."""
    exported: int
    """The position up to which it is: where the last group ends."""
    waiting_since_ns: int
    """Since when something waits to be exported; 0 if nothing waits."""
    groups: int
    """How many groups were exported in this session,"""
    events: int
    """and how many events in them."""
    refusals: int
    """How many times the engine did not take a group: no answer, or no room."""
    size_bytes: int
    """What the log takes, all desks together, as last asked."""
    most_bytes: int
    """What it may take; 0: as much as it likes."""
    done: int
    """Everything before this position is exported, or is not to be."""

    @property
    def waiting(self) -> int:
        """How many positions wait to be exported."""
        return max(0, self.released - self.exported) if self.waiting_since_ns else 0


class ImportStanding(Struct, frozen=True):
    """One log of another desk, and this desk's."""

    log: str
    """`high` or `normal`."""
    exported: int
    """The position of that desk's journal that it has exported, as its beats say."""
    imported: int
    """The position up to which this desk has imported it."""
    theirs: int
    """The position of this desk's journal up to which that desk has imported."""
    events: int
    """How many events were imported in this session,"""
    duplicates: int
    """and how many of those that came were there already."""
    gap: str
    """What is missing in the log, from where to where; empty if nothing is."""

    @property
    def waiting(self) -> int:
        """How many positions wait to be imported."""
        return max(0, self.exported - self.imported)


class DeskStanding(Struct, frozen=True):
    """Another desk of the firm, as this one sees it."""

    desk: str
    """Its name."""
    word: str
    """How its own link stands, as it says; `away` if it was stopped; empty before the first beat."""
    holder: str
    """The process that holds it; empty if nobody does."""
    host: str
    """On which host that runs."""
    heard_ns: int
    """When it was last heard; 0: never in this session."""
    version: str
    """Which version of openoutcry it runs; empty before the first beat."""
    ahead_ns: int
    """How far its wall clock was ahead of this one's when it was last heard."""
    halts: int
    """How many kill switches are active there."""
    logs: list[ImportStanding]
    """Its logs."""
    ticks: int
    """Ticks of it that came,"""
    ticks_conflated: int
    """that a newer one replaced before the bus saw them,"""
    ticks_lost: int
    """and that never came."""


class LinkStanding(Struct, frozen=True):
    """How the link of a desk stands."""

    firm: str
    """The firm."""
    desk: str
    """This desk."""
    word: str
    """One word, as in `LinkWord`."""
    why: str
    """One sentence: what is wrong, with the desk, the number and what to do; empty if nothing is."""
    engine: str
    """The engine's name and version; empty before it was reached."""
    is_connected: bool
    """Whether a node answers."""
    replicas: int
    """How many nodes keep each log."""
    is_synced: bool
    """Whether every one of them syncs before it acknowledges."""
    holder: str
    """The name under which this process holds the desk; empty if it does not."""
    renewed_ns: int
    """When the last good renewal of the seat was sent; 0 before the first."""
    lease_s: float
    """For how long that holds."""
    on_link_lost: str
    """`alert` or `halt`."""
    ticks_sent: int
    """Ticks that this desk has sent."""
    logs: list[LogStanding]
    """This desk's exports."""
    desks: list[DeskStanding]
    """The other desks, by name."""
