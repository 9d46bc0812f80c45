"""Which process holds a seat, and whether that one is known to be dead, which takes this very host.

A pid alone proves nothing: it is given to another process later, and counts within a container. It is told
with the start of the kernel, the pid namespace and the time at which the process began.
"""

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

from openoutcry.journals.marks import boot_id

_MACHINE_ID: Final = Path("/etc/machine-id")
_PROC: Final = Path("/proc")
_STATE, _BEGAN = 0, 19
_ENDED: Final = "ZX"
"""States of a process that runs no more, though nobody has asked yet how it ended."""


def this_host() -> str:
    """Return a name for this host that differs from those of others, also where they are called the same."""
    name = socket.gethostname()
    with suppress(OSError):
        machine = _MACHINE_ID.read_text(encoding="ascii", errors="ignore").strip()
        if machine:
            return f"{name}/{machine[:8]}"
    return name


def this_process() -> str:
    """Return a name for this process that no other one has or will have; empty where that cannot be made."""
    facts = _facts(os.getpid())
    space = _space()
    return f"{space}.{os.getpid()}.{facts[_BEGAN]}" if space and facts else ""


def has_ended(process: str) -> bool:
    """Return True if the process that was given this name is known to run no more."""
    space, _, rest = process.partition(".")
    pid, _, began = rest.partition(".")
    if not began or not pid.isdigit() or space != _space():
        return False
    facts = _facts(int(pid))
    return facts is not None and (not facts or facts[_STATE] in _ENDED or facts[_BEGAN] != began)


def this_file(path: Path) -> str:
    """Return a name for a file that is another one after a start of the host; empty if there is none."""
    try:
        found = path.stat()
    except OSError:
        return ""
    boot = boot_id()
    return f"{boot.hex()}.{found.st_dev}.{found.st_ino}" if any(boot) else ""


def _space() -> str:
    """Return what pids count in: the start of the kernel and the namespace. Empty if it cannot be known."""
    boot = boot_id()
    with suppress(OSError):
        if any(boot):
            return f"{boot.hex()}-{(_PROC / 'self/ns/pid').stat().st_ino}"
    return ""


def _facts(pid: int) -> list[str] | None:
    """Return the fields of `/proc/<pid>/stat` behind the name: none if it has ended, None if unknown."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return [] if (_PROC / "self/stat").exists() else None
    except ProcessLookupError:
        return []
    except OSError:
        return None
    facts = text.rpartition(")")[2].split()
    return facts if len(facts) > _BEGAN else None
