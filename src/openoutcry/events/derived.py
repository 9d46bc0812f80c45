"""Event ids derived from the event being handled, so that handling it again makes the same ids.

A bus that redelivers runs a handler twice for one event. What the handler publishes the second time is
recognised as a duplicate only if it has the same id as the first time. So the id of the nth event that a call
makes is derived from the origin of the bus's journal, the event being handled, the subscription, and n. The
origin keeps two buses apart that run the same code on the same events: each has its own orders.

An id is 26 hex digits, a dash, and n in hex, from 0: `3f9d0c5be0a1c2d3e4f5061728-0`. The digits are 13 bytes
of BLAKE2b, personalised with `openoutcry id`, keyed with the origin (without a key if that is empty), over
the subscription's length in UTF-8 bytes, a colon, the subscription and the cause's id: no two pairs give the
same input. That any two of 10^12 calls share their digits has a probability of 3 in 10^8. Up to a million
events per call, ids have at most 32 characters.
"""

from functools import lru_cache
from hashlib import blake2b
from typing import Final

_STEM_BYTES: Final = 13
_CALL: Final = b"openoutcry id"
_BRANCH: Final = b"openoutcry task"
_ENDS: Final = tuple(f"-{ordinal:x}" for ordinal in range(256))


@lru_cache(maxsize=4096)
def _begun(origin: str, subscription: str) -> blake2b:
    """Return the hash with the subscription already in it, to be copied: that is half of the work."""
    name, key = subscription.encode("utf-8", "surrogatepass"), origin.encode("utf-8", "surrogatepass")
    if len(key) > blake2b.MAX_KEY_SIZE:
        key = blake2b(key).digest()
    return blake2b(b"%d:%b" % (len(name), name), digest_size=_STEM_BYTES, person=_CALL, key=key)


class Derivation:
    """The ids of the events that one call of a handler makes, one after the other.

    A call that is tried again gets a new `Derivation` for the same event, and so the same ids. Whether they
    then belong to the same events is up to the handler: what it makes, and in which order, may depend on the
    event and on its own state, but not on clocks, random numbers or which of its tasks came first. Tasks that
    it starts together get a `branch` each.

    Making one is cheap: the hash is computed when the first id is asked for. Not safe for several threads.

    Args:
        origin: The origin of the bus's journal; empty for a journal that has none.
        cause_id: The id of the event being handled.
        subscription: The name of the subscription that handles it.
        ordinal: The number of the first id.

    Attributes:
        origin: As given.
        cause_id: As given.
        subscription: As given.

    """

    __slots__ = ("_branches", "_ordinal", "_stem", "_stems", "cause_id", "origin", "subscription")

    def __init__(self, origin: str, cause_id: str, subscription: str, ordinal: int = 0) -> None:
        self.origin: str = origin
        self.cause_id: str = cause_id
        self.subscription: str = subscription
        self._stem: str | None = None
        self._stems: set[str] = set()
        self._ordinal = ordinal
        self._branches = 0

    @property
    def stem(self) -> str:
        """The beginning of all its ids."""
        found = self._stem
        if found is None:
            digest = _begun(self.origin, self.subscription).copy()
            digest.update(self.cause_id.encode("utf-8", "surrogatepass"))
            found = self._stem = digest.hexdigest()
            self._stems.add(found)
        return found

    def next(self) -> str:
        """Return the next id. Never raises."""
        ordinal = self._ordinal
        self._ordinal = ordinal + 1
        stem = self._stem or self.stem
        return stem + _ENDS[ordinal] if ordinal < 256 else f"{stem}-{ordinal:x}"

    def branch(self) -> "Derivation":
        """Return the ids for a task that the call starts. They do not depend on how its tasks interleave."""
        one = Derivation(self.origin, self.cause_id, self.subscription)
        digest = blake2b(f"{self.stem}-{self._branches:x}".encode(), digest_size=_STEM_BYTES, person=_BRANCH)
        one._stem = digest.hexdigest()
        one._stems = self._stems
        one._stems.add(one._stem)
        self._branches += 1
        return one

    def has_made(self, event_id: str) -> bool:
        """Return True if an id is one of the call's: its own, or of a task that it has started."""
        return event_id.rpartition("-")[0] in self._stems


def derived_id(origin: str, cause_id: str, subscription: str, ordinal: int) -> str:
    """Return the id of the event that a subscription makes as number `ordinal`, from 0, for a cause."""
    return Derivation(origin, cause_id, subscription, ordinal).next()
