"""How long syncs take."""


class SyncTimes:
    """The syncs of one journal for its commits.

    Attributes:
        count: How many there were.
        last_ns: How long the last one took, in nanoseconds.
        max_ns: How long the longest took.

    """

    __slots__ = ("count", "last_ns", "max_ns")

    def __init__(self) -> None:
        self.count: int = 0
        self.last_ns: int = 0
        self.max_ns: int = 0

    def note(self, took_ns: int) -> None:
        """One more sync is over."""
        self.count += 1
        self.last_ns = took_ns
        self.max_ns = max(self.max_ns, took_ns)
