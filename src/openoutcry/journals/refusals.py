"""What the operating system says when a journal's files cannot be opened, as errors that name a remedy."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openoutcry.errors import JournalError, JournalFull


@contextmanager
def refusals_of(path: Path) -> Iterator[None]:
    """Raise `JournalError` (`JournalFull` without room) where the files of this journal cannot be had."""
    try:
        yield
    except OSError as problem:
        if problem.errno is None:  # it is not the system's
            raise
        kind = JournalFull if problem.errno in (errno.ENOSPC, errno.EDQUOT) else JournalError
        which = problem.filename if isinstance(problem.filename, str) else path
        raise kind(
            f"{which} cannot be opened: {problem.strerror or problem}; {_remedy(path, problem)}"
        ) from problem


def _remedy(path: Path, problem: OSError) -> str:
    if problem.errno in (errno.EACCES, errno.EPERM):
        return (
            f"this process runs as user {os.geteuid()}, and the journal{_owner(path)}: run it as the user "
            "who owns the file, its side files and its folder, or have them changed with chown"
        )
    if problem.errno == errno.EROFS:
        return "mount the file system for writing, or put the journal on another one"
    if problem.errno == errno.ENAMETOOLONG:
        name_bytes = len(os.fsencode(path.name))
        return (
            f"the name has {name_bytes} bytes, and with the ending of a side file at most 255 are allowed: "
            f"give the journal a shorter one"
        )
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room"
    if problem.errno in (errno.ENOENT, errno.ENOTDIR):
        return "see that its folder exists"
    return "see to the file and its folder"


def _owner(path: Path) -> str:
    for what, name in ((path, "is"), (path.parent, "is in a folder that is")):
        try:
            owner = what.stat().st_uid
        except OSError:
            continue
        if owner != os.geteuid() or what == path.parent:
            return f" {name} user {owner}'s"
    return " is another's"
