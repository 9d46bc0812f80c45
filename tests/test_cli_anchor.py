"""`openoutcry anchor`, and what `verify` and `doctor` say of seals and anchors."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from openoutcry.cli.app import main
from openoutcry.journals import SqliteJournal
from openoutcry.ports import BuriedEvent, Changes, CursorState, Entry

KEY = b"c" * 32


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def firm(tmp_path: Path) -> Path:
    path = tmp_path / "firm" / "firm.db"
    path.parent.mkdir()
    (tmp_path / "key").write_bytes(KEY)
    a_day(path)
    return path


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    (tmp_path / "vault").mkdir()
    return tmp_path / "vault" / "firm.anchors"


def key_of(firm: Path) -> tuple[object, object]:
    return "--key-file", firm.parent.parent / "key"


def a_day(path: Path) -> None:
    with SqliteJournal(path, key=KEY) as journal:
        entry = Entry(f"e-{journal.head}", b'{"event_id":"e-%d","event_type":"note"}' % journal.head)
        letter = BuriedEvent(subscription="cio", lane="normal", position=1, payload=b"{}", reason="failed")
        cursor = CursorState(subscription="book", lane="normal", floor=journal.head)
        journal.write([entry], Changes(buried=[letter], cursors=[cursor]))


def test_an_anchor_is_one_line_of_json(firm: Path) -> None:
    with SqliteJournal(firm, key=KEY) as journal:
        expected = journal.anchor
        result = call("anchor", firm)
    assert (result.exit_code, result.stdout.count("\n")) == (0, 1)
    said = json.loads(result.stdout)
    assert said["position"] == 1
    assert (said["checksum"], said["serial"]) == (expected.checksum, 2)
    assert (said["origin"], said["generation"]) == (expected.origin, expected.generation)
    assert said["time"].endswith("Z")


def test_a_timer_appends_anchors_as_long_as_the_journal_holds(firm: Path, vault: Path) -> None:
    assert call("anchor", firm, "--append", vault).exit_code == 0
    for count in (2, 3):
        a_day(firm)
        result = call("anchor", firm, "--check", vault, "--append", vault, *key_of(firm))
        assert (result.exit_code, result.stderr) == (0, "")
        assert [json.loads(line)["position"] for line in vault.read_text().splitlines()] == list(
            range(1, count + 1)
        )
    assert vault.stat().st_mode & 0o777 == 0o600
    assert "intact" in call("verify", firm, "--anchors", vault, *key_of(firm)).stdout


def test_a_journal_that_was_put_back_does_not_hold_and_gets_no_new_anchor(firm: Path, vault: Path) -> None:
    copy = firm.with_name("copy.db")
    shutil.copy(firm, copy)
    a_day(firm)
    call("anchor", firm, "--append", vault)
    shutil.copy(copy, firm)
    before = vault.read_bytes()
    result = call("anchor", firm, "--check", vault, "--append", vault)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the journal ends at position 1, and 2 had been reached" in result.stderr
    assert vault.read_bytes() == before
    result = call("verify", firm, "--anchors", vault, *key_of(firm))
    assert result.exit_code == 1
    assert "position 2: the journal ends at position 1, and 2 had been reached" in result.stdout
    assert "put back the newest copy" in result.stdout


def test_verify_takes_the_line_of_an_anchor_too(firm: Path) -> None:
    line = call("anchor", firm).stdout.strip()
    a_day(firm)
    assert call("verify", firm, "--anchor", line, *key_of(firm)).exit_code == 0
    result = call("verify", firm, "--anchor", line, "--anchor", "1:00", *key_of(firm))
    assert (result.exit_code, "does not lead through the anchor" in result.stdout) == (1, True)


def test_a_file_beside_the_journal_is_no_place_for_its_anchors(firm: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(firm.parent)
    for place in (firm.with_name("anchors"), link / "anchors"):
        result = call("anchor", firm, "--append", place)
        assert (result.exit_code, "would be put back with it" in result.stderr) == (2, True)
        assert not place.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        (b"", "has no anchor"),
        (b"\n\n", "has no anchor"),
        (b'{"position": 1, "checks', "line 1 is cut off"),
        (b"1:00\n\xff\xfe\n", "line 2 is not an anchor"),
    ],
)
def test_a_file_without_anchors_is_a_mistake(
    firm: Path, vault: Path, content: bytes | None, said: str
) -> None:
    if content is not None:
        vault.write_bytes(content)
    for command in ("anchor", firm, "--check", vault), ("verify", firm, "--anchors", vault):
        result = call(*command)
        assert (result.exit_code, said in result.stderr) == (2, True), result.stderr


def test_a_line_that_a_crash_has_cut_off_does_not_spoil_the_next(firm: Path, vault: Path) -> None:
    vault.write_bytes(b'{"position":1,"chec')
    assert call("anchor", firm, "--append", vault).exit_code == 0
    assert json.loads(vault.read_text())["position"] == 1


@pytest.mark.parametrize(
    "command",
    [lambda path: ("verify", path), lambda path: ("doctor", path), lambda path: ("anchor", path)],
    ids=["verify", "doctor", "anchor"],
)
def test_broken_seals_are_told_by_table_and_name(
    firm: Path, command: Callable[[Path], tuple[object, ...]]
) -> None:
    with closing(sqlite3.connect(firm, isolation_level=None)) as db:
        db.execute("DELETE FROM dead_letters")
    result = call(*command(firm), *key_of(firm))
    assert result.exit_code == 1
    assert "dead_letters of 'cio': rows there: 0, rows saved: 1" in result.output


def test_a_writing_verb_refuses_a_file_whose_seals_are_broken(firm: Path) -> None:
    with closing(sqlite3.connect(firm, isolation_level=None)) as db:
        db.execute("DELETE FROM dead_letters")
    result = call("vacuum", firm, *key_of(firm))
    assert result.exit_code == 2
    assert "JournalCorrupt" in result.stderr
    assert "dead_letters of 'cio'" in result.stderr


def test_doctor_says_that_it_has_not_looked_at_the_seals_without_the_key(firm: Path) -> None:
    assert "seals" in call("doctor", firm).output
    assert "--key-file" in call("doctor", firm).output
    assert "seals" not in call("doctor", firm, *key_of(firm)).output


def test_a_last_line_that_was_cut_off_is_named_passed_over_and_gives_way_to_the_next(
    firm: Path, vault: Path
) -> None:
    for _ in range(2):
        assert call("anchor", firm, "--append", vault, *key_of(firm)).exit_code == 0
    whole = vault.read_bytes()
    vault.write_bytes(whole[:-20])
    result = call("anchor", firm, "--check", vault, *key_of(firm))
    assert result.exit_code == 0, result.output
    assert f"{vault}, line 2 is cut off: it is passed over" in result.stderr
    assert call("verify", firm, "--anchors", vault, *key_of(firm)).exit_code == 0
    assert call("anchor", firm, "--append", vault, *key_of(firm)).exit_code == 0
    result = call("anchor", firm, "--check", vault, *key_of(firm))
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(vault.read_bytes().splitlines()) == 2


def test_a_last_anchor_that_lacks_nothing_but_its_line_end_is_kept(firm: Path, vault: Path) -> None:
    call("anchor", firm, "--append", vault, *key_of(firm))
    vault.write_bytes(vault.read_bytes().rstrip(b"\n"))
    call("anchor", firm, "--append", vault, *key_of(firm))
    assert call("anchor", firm, "--check", vault, *key_of(firm)).exit_code == 0
    assert len(vault.read_bytes().splitlines()) == 2


def test_a_broken_line_before_others_is_an_error(firm: Path, vault: Path) -> None:
    call("anchor", firm, "--append", vault, *key_of(firm))
    vault.write_bytes(vault.read_bytes()[:20] + b"\n" + vault.read_bytes())
    result = call("anchor", firm, "--check", vault, *key_of(firm))
    assert result.exit_code == 2
    assert f"{vault}, line 1 is not an anchor" in result.stderr


def test_what_was_planted_where_the_next_journal_goes_is_a_finding(firm: Path) -> None:
    planted = Path(f"{firm}.next")
    shutil.copy(firm, planted)
    result = call("doctor", firm, *key_of(firm))
    assert f"{planted} is left alone and not used, since" in " ".join(result.output.split())
    planted.unlink()
    assert "left alone" not in call("doctor", firm, *key_of(firm)).output
