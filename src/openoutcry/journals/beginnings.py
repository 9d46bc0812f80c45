"""Where a memory began at a start, as it is written into a record: with what it is rebuilt in a replay."""

import zlib
from base64 import b64decode, b64encode
from typing import Final

import msgspec

from openoutcry.errors import JournalCorrupt
from openoutcry.ports import Places, Snapshot

STATE_BYTES_MOST: Final = 4 * 2**20
"""A state of more bytes is left out."""
_LEVEL: Final = 1


class Beginning(msgspec.Struct, frozen=True, array_like=True):
    """What a memory was rebuilt from.

    Attributes:
        base: Where it begins, with a state or with nothing.
        now: What the subscription had settled: what of it is not in the state was folded.
        takes: The event types that it took.
        left_out: The positions, as stretches, that it had settled and not handled.

    """

    base: Snapshot
    now: Places
    takes: tuple[str, ...]
    left_out: tuple[tuple[int, int], ...]


def write_beginning(beginning: Beginning) -> str:
    """Return it as text, without a state that is too large."""
    if len(beginning.base.state) > STATE_BYTES_MOST:
        base = msgspec.structs.replace(beginning.base, state=b"")
        beginning = Beginning(base, *msgspec.structs.astuple(beginning)[1:])
    return b64encode(zlib.compress(msgspec.msgpack.encode(beginning), _LEVEL)).decode()


def read_beginning(text: str) -> Beginning:
    """Return what `write_beginning` has written. Raises `JournalCorrupt` for anything else."""
    try:
        return msgspec.msgpack.decode(zlib.decompress(b64decode(text, validate=True)), type=Beginning)
    except (ValueError, zlib.error, msgspec.MsgspecError) as problem:
        raise JournalCorrupt(f"the record of a memory cannot be read: {problem}; run verify") from problem
