"""What a process takes of the machine, as Linux tells it in /proc: memory, threads, descriptors."""

import os
import threading
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


def rss_bytes() -> int:
    """Return the resident memory of this process."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE


def address_bytes() -> int:
    """Return the size of this process's address space, which RLIMIT_AS limits."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * _PAGE


def peak_rss_bytes() -> int:
    """Return the most resident memory that this process has ever had."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM; this campaign needs Linux")


def threads_count() -> int:
    """Return how many Python threads live."""
    return threading.active_count()


def descriptors_count() -> int:
    """Return how many descriptors are open, the one that looks not included."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1


def waited_s() -> float:
    """Return how long this thread was ready to run and had no CPU; 0 where the kernel does not say."""
    try:
        text = Path("/proc/thread-self/schedstat").read_text(encoding="ascii")
    except FileNotFoundError:
        return 0.0
    return int(text.split()[1]) / 1e9


def size_bytes(path: Path) -> int:
    """Return the size of a file; 0 if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def percentile(values: list[float], share: float) -> float:
    """Return the value that so large a share does not exceed; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
