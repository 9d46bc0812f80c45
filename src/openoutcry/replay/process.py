"""A replay in a process of its own: one hash seed, one seed for `random`, no effects, virtual time.

```
  replay(path, app) ──▶ python -m openoutcry.replay.child ──▶ reads the day, runs the app ──▶ Replayed
```
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from openoutcry.replay.apart import app_name, run_apart
from openoutcry.replay.change import Change, change_of
from openoutcry.replay.replayed import Replayed


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What the process is asked for."""

    path: str
    app: str | None
    key: bytes | None
    strict: bool
    from_ns: int | None
    to_ns: int | None
    life: int | None
    change: Change
    joins: bool
    into: str | None


def replay(
    path: str | Path,
    app: Any = None,
    *,
    strict: bool = False,
    from_ns: int | None = None,
    to_ns: int | None = None,
    life: int | None = None,
    key: bytes | None = None,
    without: Iterable[str] = (),
    silence: Iterable[str] = (),
    delay: Mapping[str, float] | None = None,
    replace: Mapping[str, Any] | None = None,
    joins: bool = False,
    into: str | Path | None = None,
) -> Replayed:
    """Run a recorded day again, and hold its agents against the record.

    A journal may have several lives: each start of its bus begins one. All of them are replayed, one after
    the other, each with agents made anew, which begin with what they had in the record: what they had saved
    or folded, and what was not settled. So each life is judged by itself. What of a life is not on its tape,
    as its process died, is skipped and named.

    The agents are made by the app, and are handed what was recorded, in the order and at the time at
    which they were on the day; what they publish is compared with what they published. It takes a process of
    its own, in which nothing goes out: no connection, no process, no file written. The main program of the
    app is not run: what it published is in the record.

    With a change it is asked what would have been otherwise. The day is replayed as it was first, as a
    control; if that is not identical, its differences are all that is returned. Then it is replayed with the
    change: who is handed what it was handed on the day is held to the record, and everybody else does what
    it does.

    Args:
        path: The journal, whether a bus writes to it or not.
        app: What `openoutcry run` takes: `module:app`, or a function or class that can be imported under its
            name. By default what the journal says. It must be given its bus.
        strict: Compare timestamps as well.
        from_ns: Compare what was admitted from here on, in nanoseconds since 1970. The life that goes on then
            is replayed from its start, so that agents know what they knew.
        to_ns: End here.
        life: Replay only the life of this number, from 1.
        key: The key of a sealed journal.
        without: Agents that were never hired: on no roster, with no subscription.
        silence: Agents that are hired and say nothing.
        delay: Agents that say everything later, by so many seconds.
        replace: Agents in whose place an app subscribes, under the same name.
        joins: With a change, what comes from outside waits for those who are late where everybody had settled
            everything on the day. So does a main program that calls `join`.
        into: A journal to write, which must not exist: what came from outside, and what agents published
            now. By default none is kept, and none where the control of a change is not identical.

    Raises:
        ConfigError: The app is none, or makes its own bus; an agent is changed in two ways; `into` is there.
        RecordTooThin: The journal does not say enough of the day.
        ReplayError: The app raised, or the process died.
        JournalError: The journal cannot be read.

    """
    request = Request(
        path=str(Path(path).resolve()),
        app=None if app is None else app_name(app),
        key=key,
        strict=strict,
        from_ns=from_ns,
        to_ns=to_ns,
        life=life,
        change=change_of(
            without, silence, delay, {name: app_name(other) for name, other in (replace or {}).items()}
        ),
        joins=joins,
        into=None if into is None else str(Path(into).resolve()),
    )
    return run_apart("openoutcry.replay.child", request, Replayed)
