"""Files that are mapped into memory, and what happens when another program truncates one: no SIGBUS.

The marks are mapped, and SQLite maps its `-shm`. A load or store behind the end of such a file is answered
by the kernel with SIGBUS, which ends the process, and a system call before each of them would cost ten times
as much as the store. So while a journal is open a handler of SIGBUS stands here: behind the address that was
touched it maps memory of the process alone and notes the file in `HURT`; then the instruction runs again.
Whoever writes to a journal looks into `HURT` after each commit and sync, and ends the generation.

Python's own signal handlers run later, between two instructions of Python, and would never get that far; so
the handler is a C function that ctypes makes. It runs in the thread that touched the file, which waits for
it as for any call. A SIGBUS elsewhere goes on to whoever had the signal before: `faulthandler`, for instance.
"""

import mmap
import os
import signal
import struct
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal
from weakref import WeakValueDictionary

HURT: Final[dict[Path, str]] = {}
"""The files that were truncated while this process had them mapped, and what happened. Usually empty."""

_MACHINES: Final = frozenset({"x86_64", "aarch64", "riscv64", "ppc64le"})
"""Where the structures below have this layout (`sigaction(2)`), with glibc and with musl."""
_ADDRESS_AT: Final = 16
_CODE_AT: Final = 8
_BEHIND_THE_END: Final = 2
"""`BUS_ADRERR`: nothing is there. An unaligned address, or memory that is broken, has another code."""
_SA_SIGINFO: Final = 4
_MAPS: Final = "/proc/self/maps"


class MappedFile:
    """A file that this process maps, or has SQLite map.

    Attributes:
        path: The file, symbolic links resolved.

    """

    __slots__ = ("__weakref__", "fill", "name", "path", "place", "users_count")

    def __init__(self, path: Path, fill: Literal[0, 0xFF]) -> None:
        self.path: Path = path
        self.fill = fill
        self.name: bytes = os.fsencode(path).replace(b"\n", rb"\012")  # as the kernel writes it
        self.place: bytes | None = _place_of(path)
        self.users_count: int = 0

    @property
    def hurt(self) -> str:
        """What happened to it, empty as long as nothing did."""
        return HURT.get(self.path, "")

    def release(self) -> None:
        """One mapping of it is over. What happened to the file is forgotten with the last one."""
        with _guard.lock:
            self.users_count -= 1
            if not self.users_count:
                _guard.files.pop(self.path, None)
                HURT.pop(self.path, None)
            if not _guard.files:
                _guard.stand_down()


def hold(path: Path, *, fill: Literal[0, 0xFF]) -> MappedFile:
    """Note that a file is being mapped, and return it; `release` it when that is over.

    What cannot be read from the file any more is `fill`, in each byte. Raises `OSError` where there is no
    descriptor for the handler: the file is then not to be mapped.
    """
    with _guard.lock:
        _guard.stand()
        file = _guard.files.get(path)
        if file is None:
            file = _guard.files[path] = MappedFile(path, fill)
        file.users_count += 1
    return file


def renew() -> None:
    """Put the handler back where another one has taken its place since, and learn the files' numbers."""
    with _guard.lock:
        for file in _guard.files.values():
            file.place = file.place or _place_of(file.path)
        if _guard.files:
            with suppress(OSError):  # then there is no handler yet, and the next look tries again
                _guard.stand()


def _place_of(path: Path) -> bytes | None:
    """Return device and number of a file as `/proc/self/maps` writes them; None if there is none."""
    with suppress(OSError, ValueError):
        stat = path.stat()
        return b"%02x:%02x %d" % (os.major(stat.st_dev), os.minor(stat.st_dev), stat.st_ino)
    return None


class _Guard:
    """The handler of SIGBUS, and the files that it knows."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._turn = threading.Lock()
        # Weak: a journal that is collected without having been closed takes its mappings with it.
        self.files: WeakValueDictionary[Path, MappedFile] = WeakValueDictionary()
        self._libc: Any = None
        self._is_known = (
            sys.platform == "linux" and struct.calcsize("P") == 8 and os.uname().machine in _MACHINES
        )
        self._former: Any = None
        self._has_passed_on = False
        self._own: Any = None
        self._maps = -1

    def _prepare(self) -> None:
        """Make the C function, once, when the first file is mapped: ctypes takes its time to be imported."""
        import ctypes  # noqa: PLC0415

        class Sigaction(ctypes.Structure):
            _fields_ = (
                ("handler", ctypes.c_void_p),
                ("mask", ctypes.c_ulong * 16),
                ("flags", ctypes.c_int),
                ("restorer", ctypes.c_void_p),
            )

        libc = ctypes.PyDLL(None)  # keeps the interpreter's lock: nothing else runs in between
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = (
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_long,
        )
        libc.sigaction.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        function = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(self._on_fault)
        handler = ctypes.cast(function, ctypes.c_void_p).value
        self._own = Sigaction(handler=handler, flags=_SA_SIGINFO)
        self._function = function
        self._sigaction = Sigaction
        self._ctypes = ctypes
        self._libc = libc

    def stand(self) -> None:
        """Install the handler, unless it is installed. Raises `OSError` for want of a descriptor alone."""
        if not self._is_known:
            return
        try:
            if self._maps < 0:
                self._maps = os.open(_MAPS, os.O_RDONLY | os.O_CLOEXEC)  # there may be no descriptor later
            if self._libc is None:
                self._prepare()
        except (ImportError, OSError, AttributeError):  # no /proc, or no ctypes, or no descriptor for them
            os.close(os.eventfd(0))  # raises for want of a descriptor, and of nothing else
            return
        former = self._current()
        if former.handler != self._own.handler:
            self._former = former
            self._has_passed_on = False
            self._install(self._own)

    def stand_down(self) -> None:
        """Put the former handler back, unless another one has taken this one's place, and may come back."""
        if self._former is not None and self._current().handler == self._own.handler:
            self._install(self._former)
        if self._maps >= 0:
            os.close(self._maps)
            self._maps = -1

    def in_child(self) -> None:
        """In a forked child: the lock may have been held, and the descriptor tells of the parent's memory."""
        self.lock = threading.RLock()
        self._turn = threading.Lock()
        if self._maps >= 0:
            os.close(self._maps)
            self._maps = -1

    def _current(self) -> Any:
        found = self._sigaction()
        self._libc.sigaction(signal.SIGBUS, None, self._ctypes.byref(found))
        return found

    def _install(self, action: Any) -> None:
        self._libc.sigaction(signal.SIGBUS, self._ctypes.byref(action), None)

    def _on_fault(self, number: int, info: int, _context: int) -> None:
        """A SIGBUS, in the thread that caused it, amid any instruction. Must not raise."""
        code = self._ctypes.c_int.from_address(info + _CODE_AT).value
        is_mended = False
        with suppress(Exception):
            if code == _BEHIND_THE_END:  # else it was sent by somebody, or the memory itself is broken
                is_mended = self._mend(self._ctypes.c_uint64.from_address(info + _ADDRESS_AT).value)
        if not is_mended:
            self._pass_on()  # the instruction runs again, and this time it is the other's
            if code <= 0:
                signal.pthread_kill(threading.get_ident(), number)  # delivered when this returns

    def _pass_on(self) -> None:
        """Give the signal to whoever had it before; to the system, if that one has handed it back.

        `faulthandler` does so where it was enabled while this handler stood.
        """
        has_been_here, self._has_passed_on = self._has_passed_on, True
        self._install(self._sigaction() if has_been_here else self._former)

    def _mend(self, address: int) -> bool:
        """Map memory of our own from this address on to the end of its mapping, if that is a file of ours."""
        file, end = self._at(address)
        if end is None:
            return True  # another thread touched the file at the same time, and its handler has been here
        if file is None:
            return False
        page = address & -mmap.PAGESIZE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x10  # MAP_FIXED
        if self._libc.mmap(page, end - page, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0) != page:
            return False
        if file.fill:
            self._ctypes.memset(page, file.fill, end - page)
        HURT.setdefault(file.path, f"{file.path} was truncated, or its disk failed, while it was in use")
        return True

    def _read_maps(self) -> bytes:
        """Return `/proc/self/maps`, read in order: at an offset it is another text after each change."""
        some = [b""]
        with self._turn:
            os.lseek(self._maps, 0, os.SEEK_SET)
            while more := os.read(self._maps, 65_536):
                some.append(more)
        return b"".join(some)

    def _at(self, address: int) -> tuple[MappedFile | None, int | None]:
        """Return the file of ours that is mapped at an address, and where its mapping ends.

        The end is None where memory of the process alone is mapped: that has no end to touch memory behind.
        """
        for line in self._read_maps().splitlines():
            # start-end permissions offset device number path
            first, _, last = line.partition(b" ")[0].partition(b"-")
            if int(first, 16) <= address < int(last, 16):
                _, _, _, device, rest = line.split(None, 4)
                number, _, name = rest.partition(b" ")
                if number == b"0":
                    return None, None
                place, name = device + b" " + number, name.lstrip(b" ").removesuffix(b" (deleted)")
                for file in self.files.values():
                    if file.name == name or file.place == place:
                        return file, int(last, 16)
                return None, 0
        return None, 0


_guard: Final = _Guard()
os.register_at_fork(after_in_child=_guard.in_child)
