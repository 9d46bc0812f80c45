"""Audiences: everybody who takes an event, and the level that its publisher meets.

```
  waiting in the mailboxes that take it      the publisher meets
  fast 3      slow 9,500   llm 9,500         3, NORMAL        the emptiest; the fuller ones see to themselves
  fast 3      slow 9,500   ledger 400, gate  400, NORMAL      at least what waits for one that gates
              slow 9,500                     9,500, CRITICAL  a single one is the emptiest
  nobody                                     0, NORMAL
```

What is on its way to the mailboxes is added to each. A lane that reads on from the journal counts as empty to
an event that will be there, and so does one that conflates or drops the oldest.
"""

from collections.abc import Iterable

from openoutcry.core.mailbox import Mailbox
from openoutcry.core.pressure import Pressure

UNMEASURED = -1
ANY = 2**63
"""Above every depth and rank."""


class Audience:
    """The mailboxes that take an event.

    Attributes:
        mailboxes: These.
        is_kept: Whether the event is in the journal, so that lanes that are behind read it there.
        depth: How many events the publisher has met at the last look; negative before the first.
        rank: The rank of the level that this means.
        credit: How many low-priority events could be queued at that look without asking again.

    """

    __slots__ = ("_gates", "credit", "depth", "is_kept", "mailboxes", "rank")

    def __init__(self, mailboxes: Iterable[Mailbox], *, is_kept: bool) -> None:
        self.mailboxes: tuple[Mailbox, ...] = tuple(mailboxes)
        self._gates = tuple(mailbox for mailbox in self.mailboxes if mailbox.gates)
        self.is_kept: bool = is_kept
        self.depth: int = UNMEASURED
        self.rank: int = 0
        self.credit: int = 0

    def measure(self, pressure: Pressure, way: int, way_rank: int) -> None:
        """Note what the mailboxes, all of which have been measured, mean for a publisher."""
        is_kept, depth, rank = self.is_kept, ANY, ANY
        for mailbox in self.mailboxes:
            if is_kept and mailbox.behind:
                depth, rank = 0, way_rank
                break
            depth = min(depth, mailbox.depth)
            rank = min(rank, mailbox.rank)
            if not depth and rank <= way_rank:
                break
        if depth is ANY:
            depth, rank = 0, way_rank
        for mailbox in self._gates:
            if not (mailbox.stalled or (is_kept and mailbox.behind)):
                depth = max(depth, mailbox.depth)
                rank = max(rank, mailbox.rank)
        self.depth, self.rank = depth + way, rank
        self.credit = pressure.credit(depth + way, rank)

    def mark(self, way: int) -> None:
        """Have the mailboxes tell of the moment from which a publisher may meet less than now."""
        least = self.depth - way
        for mailbox in self.mailboxes:
            mailbox.mark = max(mailbox.mark, mailbox.depth if mailbox.gates else least)

    def has_fallen(self) -> bool:
        """Return True if a publisher that was held up at the last look may meet less by now."""
        return any(mailbox.has_fallen() for mailbox in self.mailboxes)
