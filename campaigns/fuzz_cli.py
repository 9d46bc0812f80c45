"""Command lines that nobody should type, on journals that are well or damaged.

The input is lines: the first says which journal and how it is damaged, in hex; the others are the arguments.
`@J` stands for the journal's path. Arguments cannot lead out of the folder.
"""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final

from click.testing import CliRunner, Result

from campaigns.fuzz_files import OPERATION, damaged, laid_out, original, restore, touched
from campaigns.fuzz_targets import Escaped, Target
from openoutcry.cli import main

HANGS_S: Final = 300
_ARGUMENTS_MOST: Final = 12
_READERS: Final = (
    "status", "doctor", "export", "history", "pending", "stats", "tail", "verify",
    "dlq list", "dlq show", "cursors list", "top",
)  # fmt: skip
_WRITERS: Final = (
    "dlq redrive",
    "dlq drop",
    "cursors drop",
    "cursors reassign",
    "retire",
    "vacuum",
    "recover",
    "backup",
    "restore",
)
_NEVER: Final = ("demo", "bench", "run")
_CODES: Final = (0, 1, 2, 3)


def try_command(data: bytes) -> None:
    """Run a command line, in this process, and see that it ends as a command should."""
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    recipe = bytes.fromhex(lines[0]) if _is_hex(lines[0]) else b""
    kind = recipe[0] if recipe else 0
    files, _ = damaged(original(kind).files, recipe[1:])
    with laid_out(files) as path:
        arguments = _arguments(lines[1:], path)
        if arguments is None:
            return
        result = _run(arguments, path.parent)
        _judge(result, arguments)
        if not _may_write(arguments):
            wrong = touched(path, files)
            if wrong:
                raise Escaped(f"{arguments} has changed {', '.join(wrong)}")
        restore(path, {})


def _is_hex(text: str) -> bool:
    return len(text) % 2 == 0 and all(letter in "0123456789abcdef" for letter in text)


def _arguments(lines: list[str], path: Path) -> list[str] | None:
    """Return the arguments, made harmless, or None for a verb that is another program."""
    given = [line.replace("@J", "\0").replace("/", "_").replace("\0", str(path)) for line in lines]
    given = [line for line in given[:_ARGUMENTS_MOST] if not line.startswith(("-f", "--follow"))]
    if any(line in _NEVER for line in given):
        return None
    if "top" in given:
        given += ["--every", "0.1", "--count", "1"]
    return given


def _may_write(arguments: list[str]) -> bool:
    words = " ".join(arguments)
    return any(verb.split()[-1] in words for verb in _WRITERS) or "export" in arguments


def _run(arguments: list[str], folder: Path) -> Result:
    with _ends_in(HANGS_S, arguments), contextlib.chdir(folder):
        return CliRunner().invoke(main, arguments, prog_name="openoutcry")


@contextlib.contextmanager
def _ends_in(seconds: int, arguments: list[str]) -> Iterator[None]:
    def too_late(_signal: int, _frame: FrameType | None) -> None:
        raise Escaped(f"{arguments} has not ended within {seconds} s")

    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _judge(result: Result, arguments: list[str]) -> None:
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise Escaped(f"{arguments} raised {result.exception!r}") from result.exception
    if result.exit_code not in _CODES:
        raise Escaped(f"{arguments} ended with {result.exit_code}")
    if "Traceback (most recent call last)" in result.output:
        raise Escaped(f"{arguments} printed a traceback")
    if result.exit_code == 2 and "Error" not in result.output and "Usage" not in result.output:
        raise Escaped(f"{arguments} ended with 2 and did not say why: {result.output!r}")


def command_lines() -> list[bytes]:
    """Return every verb on a journal, with what it needs, on a journal that is well and on damaged ones."""
    wanted = {
        "dlq show": ["1"], "dlq redrive": ["--all"], "dlq drop": ["--id", "1"], "cursors drop": ["risk"],
        "cursors reassign": ["risk", "other"], "retire": ["--keep-count", "5"], "recover": ["new.db"],
        "export": ["-o", "out.csv", "--type", "market_data"], "history": ["--since", "2025-11-24", "--json"],
        "tail": ["-n", "3", "--symbol", "AAPL"], "pending": ["--list"], "verify": ["--anchor", "5:00"],
        "backup": ["copy.db"], "restore": ["other.db"],
    }  # fmt: skip
    hurt = [
        OPERATION.pack(which, what, 5000 + 977 * what, 3, 7) for which in range(3) for what in (0, 2, 4, 7)
    ]
    heads = [b"\0", b"\1", *(bytes([index % 3]) + piece for index, piece in enumerate(hurt))]
    verbs = (*_READERS, *_WRITERS)
    lines = [
        "\n".join([head.hex(), *verb.split(), "@J", *wanted.get(verb, [])])
        for index, verb in enumerate(verbs)
        for head in (heads[0], heads[1 + index % (len(heads) - 1)])
    ]
    return [line.encode() for line in [*lines, "00", "00\n--help", "00\nnonsense", *_hurt_all(heads)]]


def _hurt_all(heads: list[bytes]) -> list[str]:
    return [
        f"{head.hex()}\n{verb}\n@J" for head in heads for verb in ("stats", "doctor", "status", "history")
    ]


_WORDS: Final = (
    b"\n@J", b"\n--json", b"\n--since", b"\n--until", b"\n--limit", b"\n--id", b"\n--type", b"\n--key-file",
    b"\n--key-file\n@J", b"\n--anchor", b"\n--older-than", b"\n--keep-count", b"\n--keep-bytes", b"\n--all",
    b"\n-o\nout.csv", b"\n--format\nparquet", b"\n--force", b"\n--dry-run", b"\n--past-cursors", b"\n--list",
    b"\n--subscription\nrisk", b"\n9999-12-31T23:59", b"\n0001-01-01", b"\n99999999999999999999", b"\n-1",
    b"\n1e9w", b"\n999999999999999999999w", b"\n15m", b"\n\xff\xfe", b"\n\x00", b"\n\xf0\x9f\x98\x80", b"\n",
    b"\n1:zz", b"\n9223372036854775807", b"\n9223372036854775808:00", b"\n.", b"\nnew.db", b"\n--help",
    *(b"\n" + verb.replace(" ", "\n").encode() for verb in (*_READERS, *_WRITERS)),
)  # fmt: skip


CLI: Final = Target(("openoutcry.cli", "openoutcry.journals"), command_lines, _WORDS, try_command)
