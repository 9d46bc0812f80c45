"""Saved states: what an agent's `save` returned, as bytes for the journal and back."""

from typing import Any

import msgspec

from openoutcry.errors import SubscriptionError
from openoutcry.events import first_difference
from openoutcry.events.foreign import shown

STATE_BYTES_MOST = 64 * 2**20
"""The largest state that is saved, in bytes."""


def written_state(state: object) -> tuple[str, bytes]:
    """Return the form and the bytes of a state; raise `SubscriptionError` if it would not come back equal."""
    if type(state) in (bytes, bytearray, memoryview):
        form, data = "bytes", bytes(state)  # type: ignore[call-overload]
    else:
        form, data = "json", _as_json(state)
    if len(data) > STATE_BYTES_MOST:
        raise SubscriptionError(
            f"save returned a state of {len(data):,} bytes; at most {STATE_BYTES_MOST:,} are kept in a "
            "journal: keep the bulk elsewhere, and return where"
        )
    return form, data


def _as_json(state: object) -> bytes:
    try:
        data = msgspec.json.encode(state)
        found = first_difference(state, msgspec.json.decode(data))
    except (TypeError, ValueError, OverflowError, RecursionError) as problem:
        raise SubscriptionError(
            f"save returned {shown(state)}, which is no JSON ({problem}); return bytes, or what JSON has"
        ) from problem
    if found is not None:
        raise SubscriptionError(
            f"save returned a state with {found.path.strip() or 'a value'} = {shown(found.before)}, which "
            f"{found.problem}; return bytes, or what JSON gives back"
        )
    return data


def read_state(form: str, data: bytes) -> Any:
    """Return a state as `save` had returned it."""
    return data if form == "bytes" else msgspec.json.decode(data)
