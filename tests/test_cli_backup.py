"""`openoutcry backup` and `restore`, as an operator meets them."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from openoutcry.cli import main
from openoutcry.journals import JournalReader, SqliteJournal
from openoutcry.ports import Entry

LIMIT_S = 300
KEY = b"k" * 32
NOON_NS = 1_764_000_000_000_000_000  # 2025-11-24T16:00Z


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def done(*arguments: object) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stderr == ""
    return result.stdout


def refused(*arguments: object) -> str:
    result = call(*arguments)
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def write(path: Path, *ids: str, key: bytes | None = None) -> Path:
    with SqliteJournal(path, key=key) as journal:
        for name in ids:
            payload = json.dumps({"event_id": name, "event_type": "note"}).encode()
            journal.write([Entry(name, payload, wall_ns=NOON_NS + journal.head)])
    return path


def facts_of(text: str) -> dict[str, str]:
    lines = [line.strip().split("  ", 1) for line in text.splitlines() if line.startswith("  ")]
    return {name: value.strip() for name, value in lines}


@pytest.fixture
def firm(tmp_path: Path) -> Path:
    return write(tmp_path / "firm.db", "a", "b", "c")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "copy.db"


def test_a_backup_says_what_it_holds(firm: Path, target: Path) -> None:
    text = done("backup", firm, target)
    assert text.startswith(f"{target} is a backup of {firm}\n")
    assert facts_of(text)["events"] == "3, positions 1 to 3"
    assert facts_of(text)["up to"] == "2025-11-24T16:00:00.000"
    assert facts_of(text)["head"] in done("verify", target)
    assert facts_of(text)["size"] == f"{target.stat().st_size:,} bytes"


def test_a_backup_as_json_is_one_object(firm: Path, target: Path) -> None:
    (row,) = [json.loads(line) for line in done("backup", firm, target, "--json").splitlines()]
    assert (row["path"], row["entries"], row["first"], row["head"]) == (str(target), 3, 1, 3)
    assert row["newest"] == "2025-11-24T16:00:00.000"
    assert done("verify", target, "--anchor", f"3:{row['checksum']}")


def test_a_restore_says_up_to_where_and_what_is_missing(firm: Path, target: Path) -> None:
    done("backup", firm, target)
    write(firm, "d", "e")
    text = done("restore", target, firm)
    aside = Path(f"{firm}.replaced-1")
    assert text.startswith(f"{firm} is what {target} holds\n")
    assert facts_of(text)["events"] == "3, positions 1 to 3"
    assert facts_of(text)["the old journal"] == str(aside)
    assert text.endswith("2 events of the old journal came after the backup, and are missing from now on\n")
    (row,) = [json.loads(line) for line in done("restore", aside, firm, "--json").splitlines()]
    assert (row["path"], row["replaced"], row["newer"]) == (str(firm), f"{firm}.replaced-2", 0)
    assert row["head"] == 5
    text = done("restore", aside, firm)
    assert "no event of the old journal came after the backup" in text
    write(firm, "f")
    write(aside, "g")
    assert "cannot be told" in done("restore", aside, firm)
    text = done("restore", target, firm.with_name("new.db"))
    assert facts_of(text)["the old journal"] == "nothing stood there"
    assert "what happened after the backup is not known here" in text


def test_an_empty_journal_has_no_time(tmp_path: Path, target: Path) -> None:
    SqliteJournal(tmp_path / "firm.db").close()
    assert facts_of(done("backup", tmp_path / "firm.db", target))["up to"] == "-"


def test_the_key_is_read_from_its_file(tmp_path: Path, target: Path) -> None:
    firm = write(tmp_path / "firm.db", "a", key=KEY)
    key = tmp_path / "key"
    key.write_bytes(KEY)
    assert "is sealed with a key; give the key to verify the copy" in refused("backup", firm, target)
    done("backup", firm, target, "--key-file", key)
    write(firm, "b", key=KEY)
    assert "give the key" in refused("restore", target, firm)
    assert "one event of the old journal" in done("restore", target, firm, "--key-file", key)


def test_a_mistake_is_one_line(firm: Path, target: Path, tmp_path: Path) -> None:
    assert "does not exist" in refused("backup", tmp_path / "nothing.db", target)
    assert "would be taken for a part of the journal" in refused("backup", firm, f"{firm}-wal")
    done("backup", firm, target)
    assert "exists; name a file that does not" in refused("backup", firm, target)
    assert "is the journal itself" in refused("restore", firm, firm)
    with SqliteJournal(firm):
        assert "is being written by process" in refused("restore", target, firm)
    firm.write_bytes(firm.read_bytes()[:-4096])
    assert "Journal" in refused("backup", firm, tmp_path / "another.db")


def start(*arguments: object, err: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "openoutcry", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=err,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_is_drawn_on_a_terminal_and_not_in_a_pipe(
    firm: Path, target: Path, is_terminal: bool
) -> None:
    ours, its = pty.openpty() if is_terminal else os.pipe()
    process = start("backup", firm, target, err=its)
    os.close(its)
    shown = b""
    while True:
        try:
            some = os.read(ours, 4096)
        except OSError:  # a terminal that everybody has closed
            break
        if not some:
            break
        shown += some
    out, _ = process.communicate(timeout=LIMIT_S)
    os.close(ours)
    assert process.returncode == 0
    assert "is a backup of" in out
    assert (b"backing up" in shown and b"100%" in shown) if is_terminal else shown == b""


def test_ctrl_c_leaves_nothing(tmp_path: Path, target: Path) -> None:
    firm = write(tmp_path / "firm.db", "a")
    script = f"""
import sys
from openoutcry.cli import main
from openoutcry.journals.reading import JournalReader
def wait(self, *arguments):
    print("ready", flush=True)
    sys.stdin.read()
JournalReader.verify = wait
main(["backup", {str(firm)!r}, {str(target)!r}])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout.readline() == "ready\n"
    assert Path(f"{target}-unfinished").exists()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130
    assert not target.exists()
    assert not Path(f"{target}-unfinished").exists()
    with JournalReader(firm) as reader:
        assert reader.head == 1
