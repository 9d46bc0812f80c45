"""Anchors: what a journal had reached at some moment, kept elsewhere, so that it cannot be less later.

From inside a file nobody can tell that all of it is as it was yesterday: put back whole, or cut off at its
end. An anchor is one line of JSON, which a later look at the file is held against.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from openoutcry.journals.engines import Connection
from openoutcry.journals.rows import Chain
from openoutcry.journals.sealing import rows_of
from openoutcry.journals.seals import log_end, root_of

_SETTINGS: Final = "SELECT key, value FROM meta"


class Anchor(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a journal had reached, to be kept elsewhere; what is found later must lead through it.

    Attributes:
        position: The last position of a batch.
        checksum: The batch's checksum, in hex.
        serial: How often what stands beside the log had changed; 0 in a journal without a key.
        seals: The digest of all of that, in hex; empty in a journal without a key.
        generation: Which file it was: a recovery makes a new one, that goes on from it.
        origin: Which journal it was; its copies and recoveries have the same.
        time: When the anchor was taken: UTC, ISO 8601; a label.

    """

    position: int
    checksum: str
    serial: int = 0
    seals: str = ""
    generation: str = ""
    origin: str = ""
    time: str = ""

    def line(self) -> str:
        """Return it as one line of JSON."""
        return msgspec.json.encode(self).decode()


_decode: Final = msgspec.json.Decoder(Anchor).decode


def anchor_in(line: str) -> Anchor:
    """Return the anchor that a line says: JSON, or just POSITION:CHECKSUM. Raises `ValueError`."""
    if line.lstrip().startswith("{"):
        found = _decode(line)
    else:
        position, _, checksum = line.strip().partition(":")
        found = Anchor(int(position), bytes.fromhex(checksum).hex())
    if found.position < 0 or not found.checksum:
        raise ValueError(f"position {found.position}, checksum {found.checksum!r}: both are needed")
    return found


class Held(NamedTuple):
    """What came of holding a file against an anchor.

    Attributes:
        anchor: The anchor.
        wrong: Why the file is not what the anchor is of, in words; empty if it may be.
        untold: What could not be held, in words; empty if all could.

    """

    anchor: Anchor
    wrong: str = ""
    untold: str = ""


def take_anchor(db: Connection, chain: Chain | None) -> Anchor:
    """Return what a file has reached, as its batches and seals say.

    With a chain that is keyed, raises `JournalCorrupt` where the seals are not what was written.
    """
    settings = dict(rows_of(db, _SETTINGS))
    position, checksum = log_end(db)
    found = Anchor(
        position,
        checksum.hex(),
        generation=str(settings.get("generation", "")),
        origin=str(settings.get("origin", "")),
    )
    root = root_of(db, chain)
    return found if root is None else msgspec.structs.replace(found, serial=root[0], seals=root[1].hex())


def hold(db: Connection, chain: Chain | None, anchors: Iterable[Anchor]) -> list[Held]:
    """Hold a file against anchors, oldest first, where nobody writes meanwhile.

    This asks whether the batches and seals that stand there lead through them; whether they are what was
    written is for verifying to tell. Raises `JournalCorrupt` where they cannot be read.
    """
    now, settings = take_anchor(db, chain), dict(rows_of(db, _SETTINGS))
    return [_hold(db, now, settings, anchor) for anchor in anchors]


def _hold(db: Connection, now: Anchor, settings: dict[str, str], anchor: Anchor) -> Held:
    ancestors = settings.get("ancestors", "").split()
    wrong = _wrong_origin(now, anchor, ancestors) or _wrong_serial(now, anchor)
    if wrong:
        return Held(anchor, wrong)
    if anchor.generation not in ("", now.generation):
        return Held(anchor, untold="it is of an earlier generation: only its position could be held")
    floor = int(settings.get("floor", 0))
    if anchor.position < floor:
        return Held(anchor, untold=f"its position is retired: the journal begins at {floor + 1}")
    last, checksum = log_end(db, anchor.position)
    leads = (last, checksum.hex()) == (anchor.position, anchor.checksum)
    return Held(anchor, "" if leads else "the chain does not lead through the anchor")


def _wrong_origin(now: Anchor, anchor: Anchor, ancestors: list[str]) -> str:
    """Return why a file cannot have come from one that had an anchor, in words; empty if it can."""
    if anchor.origin and anchor.origin != now.origin:
        return f"the anchor is of another journal: origin {anchor.origin}, and here it is {now.origin}"
    if anchor.generation not in ("", now.generation, *ancestors):
        which = f"generation {anchor.generation}, and this file is {now.generation}"
        return f"the anchor is of {which}, which does not go on from that: it is an older one, or another"
    if now.position < anchor.position:
        return f"the journal ends at position {now.position}, and {anchor.position} had been reached"
    return ""


def _wrong_serial(now: Anchor, anchor: Anchor) -> str:
    """Return why what stands beside the log is not of later than an anchor, in words; empty if it may be."""
    if anchor.generation not in ("", now.generation):
        return ""
    if now.serial < anchor.serial:
        said = f"what stands beside the log is of an earlier moment: its serial is {now.serial}"
        return f"{said}, and {anchor.serial} had been reached"
    if now.serial == anchor.serial and anchor.seals not in ("", now.seals):
        return f"the seals of serial {anchor.serial} are not those that there were"
    return ""
