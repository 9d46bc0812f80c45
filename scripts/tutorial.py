"""Follow docs/tutorial.md: write its files, run its commands in bash, compare what they print.

    python scripts/tutorial.py FOLDER [PAGE]

FOLDER is empty, and `openoutcry` is on the PATH. Ends with 1 at the first difference. Needs only Python,
so that it can be run beside an installed wheel.
"""

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "tutorial.md"
LIMIT_S = 300.0
END = "(the command has ended with "
KILLED = 128 + signal.SIGKILL
KILL = "kill -9 $!"
SUMMARY = "firm:app: "


class Differs(Exception):
    """The page and what was printed differ."""


@dataclass
class Written:
    """A file that the page gives."""

    name: str
    text: str


@dataclass
class Command:
    """A command of the page, with what it prints."""

    line: str
    shown: list[str] = field(default_factory=list)


def steps(page: str) -> Iterator[Written | Command]:
    """Yield the files and commands of the page, in its order."""
    for info, body in re.findall(r"^```(.*)\n((?:.*\n)*?)^```$", page, re.MULTILINE):
        named = re.search(r'title="(.+?)"', info)
        if named is not None:
            yield Written(named[1], body)
        elif info == "console":
            commands: list[Command] = []
            for line in body.splitlines():
                if line.startswith("$ "):
                    commands.append(Command(line.removeprefix("$ ")))
                else:
                    commands[-1].shown.append(line)
            yield from commands


class Shell:
    """A bash in which commands are run one after the other, in a folder."""

    def __init__(self, folder: Path) -> None:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self._bash = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],  # noqa: S607 - the tutorial's reader has it on the PATH
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._bash.stdout is not None
        for line in self._bash.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _next_line(self) -> str:
        try:
            line = self._lines.get(timeout=LIMIT_S)
        except queue.Empty:
            raise Differs(f"nothing more was printed for {LIMIT_S:.0f} s") from None
        if line is None:
            raise Differs("the shell has ended")
        return line

    def _type(self, text: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(text)
        self._bash.stdin.flush()

    def run(self, line: str) -> tuple[list[str], int]:
        """Run a command to its end, and return what it printed and its exit code."""
        waits = "; wait $!" if line == KILL else ""
        self._type(f"{line}{waits}; echo '{END}'$?')'\n")
        printed: list[str] = []
        while not (printed and printed[-1].startswith(END)):
            printed.append(self._next_line())
        return printed[:-1], int(printed[-1].removeprefix(END).rstrip(")"))

    def begin(self, line: str, lines_count: int) -> list[str]:
        """Start a command in the background, and return its first lines."""
        self._type(f"{line}\n")
        return [self._next_line() for _ in range(lines_count)]

    def close(self) -> None:
        """End everything that was started here."""
        os.killpg(self._bash.pid, signal.SIGKILL)
        self._reader.join()
        for pipe in (self._bash.stdin, self._bash.stdout):
            assert pipe is not None
            pipe.close()
        self._bash.wait()


def is_like(shown: str, printed: str) -> bool:
    """Return True if a line is what the page shows, where `...` stands for anything, and times may differ."""
    pattern = r"after \d+\.\d s".join(re.escape(part) for part in re.split(r"after \d+\.\d s", shown))
    return re.fullmatch(pattern.replace(re.escape("..."), ".*"), printed) is not None


def by_agent(lines: list[str]) -> list[str]:
    """Return the lines, those of one agent (`name: ...`) beside each other: only their own order is sure."""
    summary = next((n for n, line in enumerate(lines) if line.startswith(SUMMARY)), len(lines))
    return sorted(lines[:summary], key=lambda line: line.partition(":")[0]) + lines[summary:]


def follow(command: Command, shell: Shell) -> None:
    """Run a command. Raises `Differs` if it prints, or ends with, something else than the page says."""
    wanted_code = KILLED if command.line == KILL else 0
    if command.line.endswith(" &"):
        printed, code = shell.begin(command.line, len(command.shown)), wanted_code
    else:
        printed, code = shell.run(command.line)
    shown, got = by_agent(command.shown), by_agent(printed)
    if command.line.startswith(("openoutcry history", "openoutcry verify")):
        shown, got = command.shown, printed
    is_same = len(shown) == len(got) and all(map(is_like, shown, got))
    if code != wanted_code or not is_same:
        raise Differs(
            "\n".join([f"$ {command.line}", "-- the page:", *shown, f"-- printed, exit code {code}:", *got])
        )


def follow_page(folder: Path, page: Path = PAGE) -> int:
    """Do what the page says in a folder, and return how many steps that were."""
    shell, count = Shell(folder), 0
    try:
        for step in steps(page.read_text(encoding="utf-8")):
            if isinstance(step, Written):
                (folder / step.name).write_text(step.text, encoding="utf-8")
            else:
                follow(step, shell)
            count += 1
    finally:
        shell.close()
    return count


def main() -> None:
    """Follow the page in the folder that was named."""
    folder, *page = map(Path, sys.argv[1:])
    try:
        print(f"{follow_page(folder, *page)} steps: as the page says")
    except Differs as difference:
        sys.exit(str(difference))


if __name__ == "__main__":
    main()
