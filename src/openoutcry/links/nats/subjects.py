"""What the streams and subjects of a firm are called. No I/O.

==============================  =========================  ===================================================
subject                         stream                     holds
==============================  =========================  ===================================================
`oo.<firm>.log.<log>.<desk>`    `OO_<firm>_<log>`          a desk's groups
`oo.<firm>.seat.<log>.<desk>`   `OO_<firm>_<log>`          the claims of its seat: the newest is the token
`oo.<firm>.lease.<desk>`        `OO_<firm>_seats`          the record of its seat, the newest alone
`oo.<firm>.<topic>.<desk>`      none                       what it broadcasts
`oo.<firm>.inbox.<desk>.>`      none                       the answers to its requests, and what it reads
==============================  =========================  ===================================================

A claim stands in the log that it guards, because a server compares sequences within one stream only; and no
subject may belong to two streams.
"""

from typing import Final

from openoutcry.ports import LogName

TOPICS: Final = ("kill", "beat", "md", "ask")
"""What every desk may broadcast. `release` is for those that may release kill switches."""
RELEASE: Final = "release"


class Subjects:
    """The names of one firm.

    Attributes:
        firm: The firm.

    """

    def __init__(self, firm: str) -> None:
        self.firm = firm
        self.root = f"oo.{firm}"
        self.seats_stream = f"OO_{firm}_seats"

    def stream(self, log: LogName) -> str:
        """Return the stream that keeps a log."""
        return f"OO_{self.firm}_{log}"

    def groups(self, log: LogName, desk: str = "*") -> str:
        """Return the subject of a desk's groups."""
        return f"{self.root}.log.{log}.{desk}"

    def claims(self, log: LogName, desk: str = "*") -> str:
        """Return the subject of a desk's claims."""
        return f"{self.root}.seat.{log}.{desk}"

    def lease(self, desk: str = "*") -> str:
        """Return the subject of the record of a seat."""
        return f"{self.root}.lease.{desk}"

    def topic(self, topic: str, desk: str = "*") -> str:
        """Return the subject on which a desk broadcasts."""
        return f"{self.root}.{topic}.{desk}"

    def inbox(self, desk: str) -> str:
        """Return what the subjects begin with on which a desk is answered."""
        return f"{self.root}.inbox.{desk}"


def desk_of(subject: str) -> str:
    """Return the desk that a subject ends with."""
    return subject.rpartition(".")[2]
