"""The truth about dead letters: each is there until its event is settled, and a redrive means it alone."""

from collections.abc import Callable, Iterable
from typing import Any

from openoutcry.core.retries import DeadLetter

Key = tuple[str, str]
"""A subscription's name and an event's id."""
OTHERWISE = "decided otherwise"
NO_ROOM = "no room"


def key_of(letter: DeadLetter) -> Key:
    """Return whose letter it is, and of which event."""
    return letter.subscription, letter.event.event_id


def is_meant(letter: DeadLetter, which: dict[str, Any]) -> bool:
    """Return True if a letter meets all conditions."""
    ids, kind = which.get("letter_ids"), which.get("event_type")
    since_ns, until_ns = which.get("since_ns"), which.get("until_ns")
    return (
        (ids is None or letter.letter_id in ids)
        and (kind is None or str(getattr(letter.event.event_type, "value", letter.event.event_type)) == kind)
        and (since_ns is None or letter.wall_ns >= since_ns)
        and (until_ns is None or letter.wall_ns < until_ns)
    )


class LetterTruth:
    """The dead letters of one life.

    Args:
        fail: Called with what is wrong.

    Attributes:
        there: Letters that were buried in this life and must be there.
        dropped: Letters that were dropped, in any life.

    """

    def __init__(self, fail: Callable[[str], None]) -> None:
        self._fail = fail
        self.there: set[Key] = set()
        self.dropped: set[Key] = set()
        self._due: set[Key] = set()
        self._called: set[Key] = set()
        self._ever_called: set[Key] = set()
        self._otherwise: dict[Key, str] = {}
        self._buried_otherwise: set[Key] = set()

    def begin(self) -> None:
        """A new life begins: what it has of the letters, the journal says."""
        self.there, self._due, self._called, self._ever_called = set(), set(), set(), set()
        self._otherwise, self._buried_otherwise = {}, set()

    def rename(self, old: str, new: str) -> None:
        """The letters of one name are those of another from now on."""
        for keys in (self.there, self.dropped, self._due, self._called, self._ever_called):
            keys |= {(new, event_id) for name, event_id in keys if name == old}
            keys -= {key for key in keys if key[0] == old}

    def forget(self, name: str) -> None:
        """A subscription has ended: what was to be redriven to it stays a letter."""
        for keys in (self._due, self._called):
            keys.difference_update([key for key in keys if key[0] == name])

    # -- what happens -------------------------------------------------------------------------------

    def buried(self, letter: DeadLetter) -> None:
        """A letter was filed."""
        key = key_of(letter)
        self.there.add(key)
        if letter.reason != NO_ROOM:  # else an older letter of an event that came again may be under way
            self._due.discard(key)
            self._called.discard(key)
        expected = self._otherwise.pop(key, None)
        if (letter.reason == OTHERWISE) != (expected is not None):
            self._fail(
                f"{key[1]} was buried for {key[0]} because it {letter.reason}; "
                f"{'that it decided otherwise' if expected else 'it did not decide otherwise'}"
            )

    def decided_otherwise(self, key: Key, event_id: str) -> None:
        """A call was told that it has decided otherwise: its event must be buried, and is not settled."""
        self._otherwise[key] = event_id

    def begins(self, key: Key) -> None:
        """A call begins."""
        if key in self._otherwise:
            self._fail(f"{key[0]} was handed {key[1]} again after it had decided otherwise")
        if key in self._due:
            self._due.discard(key)
        elif key in self.there and key not in self._called:
            self._fail(f"{key[0]} was handed {key[1]}, its dead letter, which nobody has redriven")

    def check_buried(self, name: str) -> None:
        """A subscription that makes one call at a time begins another: what decided otherwise is buried."""
        left = [key for key in self._otherwise if key[0] == name]
        if left:
            self._fail(f"{left[0]} decided otherwise, and is no dead letter when the next call begins")

    def ends(self, key: Key) -> bool:
        """A call has returned. Return True if its event is settled."""
        if key in self._otherwise:
            return False
        self.there.discard(key)
        self._due.discard(key)
        self._called.discard(key)
        return True

    # -- what operators do --------------------------------------------------------------------------

    def redriving(
        self, letters: Iterable[DeadLetter], which: dict[str, Any], takes: Callable[[DeadLetter], bool]
    ) -> tuple[list[Key], bool]:
        """Return which letters are to be redriven, and whether that is certain."""
        meant = [key_of(letter) for letter in letters if is_meant(letter, which) and takes(letter)]
        return meant, not self._called.intersection(meant)

    def redriven(self, keys: list[Key], count: int, *, is_certain: bool) -> None:
        """A redrive has returned how many letters it delivers."""
        if count > len(keys) or (is_certain and count != len(keys)):
            self._fail(f"{len(keys)} dead letters were to be redriven, and {count} are")
        if is_certain:
            self._due.update(keys)
        self._called.update(keys)
        self._ever_called.update(keys)

    def were_dropped(
        self, before: Iterable[DeadLetter], after: Iterable[DeadLetter], which: dict[str, Any], count: int
    ) -> set[Key]:
        """A drop has returned how many letters are gone; those that were handed over may be left.

        Return whose are gone, and of which events.
        """
        meant = {letter.letter_id: key_of(letter) for letter in before if is_meant(letter, which)}
        left = {letter.letter_id for letter in after}
        ids = meant.keys() - left
        kept = {meant[letter_id] for letter_id in meant.keys() & left}
        if count != len(ids) or kept - self._ever_called:  # (There may be several letters of one event.)
            self._fail(f"{len(meant)} dead letters were to be dropped, {len(ids)} are, and it says {count}")
        gone = {meant[letter_id] for letter_id in ids} - kept
        self.dropped |= gone
        for keys in (self.there, self._due, self._called):
            keys.difference_update(gone)
        return gone

    # -- checks -------------------------------------------------------------------------------------

    def check(self, letters: Iterable[DeadLetter], losing: Iterable[str]) -> None:
        """Every letter must be there until its event is settled; `losing` are those who ask to lose some."""
        missing = self.there - {key_of(letter) for letter in letters}
        missing = {key for key in missing if key[0] not in losing}
        if missing:
            self._fail(f"the dead letters {sorted(missing)} are gone, and nothing has settled their events")

    def check_drained(self, names: Iterable[str]) -> None:
        """Nothing is under way any more."""
        present = set(names)
        late = sorted(key for key in self._due if key[0] in present)
        if late:
            self._fail(f"the dead letters {late} were redriven, and never handed to their subscriptions")
        if self._otherwise:
            self._fail(f"{sorted(self._otherwise)} decided otherwise, and are no dead letters")
