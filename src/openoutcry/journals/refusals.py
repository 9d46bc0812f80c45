"""What the operating system and SQLite say when a journal's files cannot be had, as errors with a remedy."""

import errno
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from openoutcry.errors import JournalError, JournalFull, NotAJournal

NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
SIDE_FILES: Final = ("-wal", "-shm", "-marks")
"""What the names of the files beside the database end with."""
_KINDS: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_INDEX_BYTES: Final = 32_768
_SEE_TO_IT: Final = "see to the file and its folder"
_REMEDIES: Final = {
    errno.EROFS: "mount the file system for writing, or put the journal on another one",
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room, or have the quota raised",
    errno.EFBIG: "raise the limit for the size of a file (ulimit -f)",
    errno.ENOENT: "see that its folder exists",
    errno.ENOTDIR: "see that its folder exists",
    errno.ELOOP: "it is a symbolic link that leads in a circle, or stands where a file of the journal's "
    "belongs: remove the link",
    errno.ENOLCK: "put the journal on a local file system that has locks",
}


@contextmanager
def refusals_of(path: Path) -> Iterator[None]:
    """Raise `JournalError` (`JournalFull` without room) where the files of this journal cannot be had."""
    try:
        yield
    except OSError as problem:
        if problem.errno is None:  # it is not the system's
            raise
        raise refusal(path, problem) from problem


def refusal(path: Path, problem: OSError) -> JournalError:
    """Return what an error of the system about the files of a journal means, and what to do about it."""
    number = problem.errno or 0
    kind = JournalFull if number in NO_ROOM else JournalError
    which = os.fsdecode(problem.filename) if isinstance(problem.filename, str | bytes) else path
    said = problem.strerror or problem
    return kind(f"{which} cannot be opened: {said}; {_remedy(path, number)}")


def real_path(path: str | Path) -> Path:
    """Return a path with its symbolic links resolved. Raises `JournalError` for what cannot be a path."""
    text = os.fspath(path)
    if not text:
        raise NotAJournal("the path of the journal is empty; name a file")
    try:
        with refusals_of(Path(text)):
            return Path(os.path.realpath(text))
    except ValueError as problem:  # a NUL, or a surrogate that stands for no byte
        raise NotAJournal(f"{text!r} cannot be the name of a file ({problem}); give it another") from problem


def kind_of(path: Path) -> str:
    """Return what stands at a path if that is no file, in words; empty for a file, and where nothing is."""
    with suppress(FileNotFoundError, NotADirectoryError):
        mode = os.lstat(path).st_mode
        return "" if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "something else than a file")
    return ""


def may_use(path: Path, mode: int) -> bool:
    """Return True if this process may use a file as `os.access` says it."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def must_exist(path: Path) -> None:
    """Raise `NotAJournal` where no file is. Raises `OSError` where that cannot be known."""
    kind = kind_of(path)
    if kind:
        raise NotAJournal(f"{path} is {kind}, not a journal; name the file that a bus writes to")
    if not path.exists():
        raise NotAJournal(f"{path} does not exist; name the file that a bus writes to")


def must_be_own(path: Path, database: Path) -> None:
    """Raise `JournalError` if something else than a file of its own stands where a journal has one beside it.

    A hard link to the database would have that overwritten.
    """
    kind = kind_of(path)
    if not kind and path.exists() and database.exists() and path.samefile(database):
        kind = f"another name (a hard link) of {database.name}"
    if kind:
        raise JournalError(
            f"{path} is {kind}, and the journal keeps a file of its own under that name; move it away"
        )


def check_side_files(path: Path, *, writing: bool) -> None:
    """Raise `JournalError` where what stands beside a journal cannot be a file of its, or cannot be used.

    SQLite would say of most that it is "unable to open database file".
    """
    wanted = os.R_OK | (os.W_OK if writing else 0)
    for ending in (*SIDE_FILES, "-journal"):  # for which SQLite looks in any case
        file = Path(f"{path}{ending}")
        if not writing and ending == "-marks":
            continue  # which a reader does not need
        must_be_own(file, path)
        if os.path.lexists(file) and not may_use(file, wanted):
            number = _why_not(file, writing=writing)
            raise OSError(number, os.strerror(number), str(file))


def _why_not(file: Path, *, writing: bool) -> int:
    """Return the number of the error that using a file would give."""
    try:
        os.close(os.open(file, (os.O_RDWR if writing else os.O_RDONLY) | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as problem:
        return problem.errno or errno.EACCES
    return errno.EACCES


def explain(path: Path) -> str:
    """Return what a person can do about a database that SQLite cannot open, without a code to go by."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as problem:
        return _remedy(path, problem.errno or 0)
    if has_no_room(path):
        return _REMEDIES[errno.ENOSPC]
    if _culprit(path):
        is_read_only = os.statvfs(path.parent).f_flag & os.ST_RDONLY
        return _remedy(path, errno.EROFS if is_read_only else errno.EACCES)
    return "see that the file and its folder can be written, and that the disk is well"


def has_no_room(path: Path) -> bool:
    """Return True if the file system of a journal has not even room for the index of its log."""
    with suppress(OSError):
        found = os.statvfs(path.parent)
        return found.f_bavail * found.f_frsize < _INDEX_BYTES
    return False


def _remedy(path: Path, number: int) -> str:
    if number in (errno.EACCES, errno.EPERM):
        return (
            f"this process runs as user {os.geteuid()}, and {_culprit(path) or 'the file is not its own'}: "
            f"run it as the user who owns the journal, its side files and its folder, or change that with "
            f"chown and chmod"
        )
    if number == errno.ENAMETOOLONG:
        name_bytes = len(os.fsencode(path.name))
        return (
            f"the name has {name_bytes} bytes, and with the ending of a side file at most 255 are allowed: "
            f"give the journal a shorter one"
        )
    if number in (errno.EMFILE, errno.ENFILE):
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return f"close files that are not needed, or raise the limit, which is {most} here (ulimit -n)"
    return _REMEDIES.get(number, _SEE_TO_IT)


def _culprit(path: Path) -> str:
    """Return which of a journal's files or its folder cannot be used, and whose it is."""
    folder = path.parent
    for what in (folder, path, *(Path(f"{path}{ending}") for ending in SIDE_FILES)):
        with suppress(OSError):
            found = what.lstat()
            wanted = os.R_OK | os.W_OK | (os.X_OK if what == folder else 0)
            if not may_use(what, wanted):
                name = "its folder" if what == folder else what.name
                return f"{name} is user {found.st_uid}'s and has mode {found.st_mode & 0o7777:04o}"
    return ""
