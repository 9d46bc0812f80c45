"""Children that are killed at work, and what they had told until then.

A child tells its parent what it is about to do and what it was promised, a line at a time, through a pipe:
what it wrote there is known even if SIGKILL is the next thing that happens to it. A line that was begun and
not ended was not told.

A child is a function that is forked, which takes some milliseconds. `forked` kills it after a number of lines
and a random moment more; `stepped` has it kill itself at a chosen step, the same on any machine; `traced`
lets strace kill it as it enters a system call for the n-th time; `undisturbed` lets it come to its end.
"""

import ctypes
import inspect
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final, NamedTuple

Tell = Callable[..., None]
"""Tells the parent some words."""
Work = Callable[[Tell], None]
"""What a child does."""
SYSTEM_CALLS: Final = ("pwrite64", "fdatasync", "fsync", "ftruncate", "unlink", "fcntl", "write")
"""Where a journal can die; `write` is the child's own telling."""

_KEY: Final = b"the key of some journals"
_PR_SET_PTRACER: Final = 0x59616D61
_ATTACH_S: Final = 120


def journal_name(seed: int) -> str:
    """Return what the file of a seed is called: the journals of odd ones have a key."""
    return f"{'sealed' if seed % 2 else 'firm'}{seed}.db"


def key_of(path: Path) -> bytes | None:
    """Return the key of a journal that has such a name."""
    return _KEY if path.name.startswith("sealed") else None


class Life(NamedTuple):
    """What a child has told, and how it ended.

    Attributes:
        told: Its lines, as words.
        killed: Whether it was killed, as it should be; if not, it ended by itself.

    """

    told: list[list[str]]
    killed: bool


class Step(NamedTuple):
    """The moment right after a child has told something.

    Attributes:
        words: The first words of the line; empty for any line.
        nth: Which of those lines, from 1.

    """

    words: str
    nth: int = 1


def teller(fd: int) -> Tell:
    """Return the function through which a child tells its parent."""

    def tell(*words: object) -> None:
        os.write(fd, (" ".join(map(str, words)) + "\n").encode())

    return tell


def forked(work: Work, lines: int, rng: random.Random, after: str = "", mean_s: float = 0.0005) -> Life:
    """Kill a child that does the work at a random moment after it has told so many lines.

    Args:
        work: What it does.
        lines: The lines to wait for.
        rng: Chooses the moment.
        after: Counts the lines only from one on that begins with this.
        mean_s: The mean of the time that passes after the last line, in seconds.

    """
    pid, out, go = _fork(work)
    os.close(go)
    with os.fdopen(out) as pipe:
        told: list[str] = []
        while after and (not told or told[-1]) and not (told and told[-1].startswith(after)):
            told.append(pipe.readline())
        for _ in range(lines):
            told.append(pipe.readline())
            if not told[-1]:
                break
        busy_until = time.perf_counter() + rng.expovariate(1 / mean_s)
        while time.perf_counter() < busy_until:
            pass
        os.kill(pid, signal.SIGKILL)
        told += pipe.readlines()
    return _bury(pid, told)


def stepped(work: Work, step: Step) -> Life:
    """Have a child that does the work kill itself at a step: no clock and no scheduler has a say in it."""

    def until_the_step(tell: Tell) -> None:
        wanted = step.words.split()
        left = step.nth

        def tell_and_die(*words: object) -> None:
            nonlocal left
            tell(*words)
            if list(words[: len(wanted)]) == wanted:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        work(tell_and_die)

    return undisturbed(until_the_step)


def undisturbed(work: Work) -> Life:
    """Let a child do the work to its end."""
    pid, out, go = _fork(work)
    os.close(go)
    with os.fdopen(out) as pipe:
        return _bury(pid, pipe.readlines())


def traced(work: Work, call: str, when: int) -> Life:
    """Kill a child that does the work as it enters a system call for the `when`-th time."""
    pid, out, go = _fork(work)
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-p", str(pid)]
    command += ["-e", f"inject={call}:signal=KILL:when={when}"]
    with os.fdopen(out) as pipe:
        strace = subprocess.Popen(command, stderr=subprocess.DEVNULL)  # noqa: S603 - our own words
        try:
            _wait_for_tracer(pid, strace)
            os.close(go)
            told = pipe.readlines()
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # it may be waiting, if strace could not be had
            life = _bury(pid, told if "told" in locals() else [])
            strace.wait()
    return life


def _fork(work: Work) -> tuple[int, int, int]:
    """Fork a child that waits for its last pipe to close; return its pid, what it tells, and that pipe."""
    out, into = os.pipe()
    waiting, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(out)
            os.close(go)
            _let_trace()
            os.read(waiting, 1)
            work(teller(into))
            status = 0
        except BaseException as problem:  # noqa: BLE001 - it is told to the parent
            teller(into)("raised", type(problem).__name__, problem)
        finally:
            os._exit(status)
    os.close(into)
    os.close(waiting)
    return pid, out, go


def _bury(pid: int, told: Sequence[str]) -> Life:
    _, status = os.waitpid(pid, 0)
    lines = [line.split() for line in told if line.endswith("\n")]
    return Life(lines, os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL)


def _let_trace() -> None:
    """Allow strace to attach where only ancestors may (Yama)."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(2**64 - 1), 0, 0, 0)


def _wait_for_tracer(pid: int, strace: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + _ATTACH_S
    while time.monotonic() < until and strace.poll() is None:
        if "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace"):
            return
        time.sleep(0.001)
    strace.kill()
    raise RuntimeError(f"strace did not attach within {_ATTACH_S} s; run `strace -p PID` by hand to see why")


@cache
def has_strace() -> bool:
    """Return True if strace is here and may kill."""
    if shutil.which("strace") is None:
        return False
    with suppress(RuntimeError):
        return traced(lambda _: os.sync(), "sync", 1).killed
    return False


def set_in(module: ModuleType, name: str, value: object) -> None:
    """Set a name of a module. Raises `LookupError` if no function of it reads that: nothing would change."""
    code = inspect.getsource(module)
    if name not in vars(module) or not _is_read(compile(code, module.__name__, "exec"), name):
        raise LookupError(f"no function of {module.__name__} reads {name}: to set it there changes nothing")
    vars(module)[name] = value


def _is_read(code: CodeType, name: str) -> bool:
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return any(name in one.co_names or _is_read(one, name) for one in inner)


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """A folder in memory where there is one: neither a kill nor a simulated disk needs a real one."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=memory if os.access(memory, os.W_OK) else None))
    try:
        yield folder.resolve()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
