"""Only what was made from this journal, as it is now, takes its place (CONTRACT 16)."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from campaigns.crash_kit import Tell, undisturbed
from journal_kit import entry
from step_kit import die_at

from openoutcry.errors import JournalError, JournalLocked, NotAJournal
from openoutcry.journals import JournalReader, SqliteJournal, recover_into
from openoutcry.journals.swapping import Permit, build_next, build_next_of_closed, finish_swap, next_of

KEY = b"k" * 32
NOBODY = 65_534


def a_journal(path: Path, *, count: int = 3, key: bytes | None = None) -> Path:
    with SqliteJournal(path, key=key) as journal:
        for _ in range(count):
            journal.write([entry()])
    return path


def build(path: Path, key: bytes | None = None) -> Path:
    build_next_of_closed(path, Permit(), key=key, engine="auto")
    return next_of(path)


def generation(path: Path, key: bytes | None = None) -> bytes:
    with SqliteJournal(path, key=key) as journal:
        return journal.generation


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return a_journal(tmp_path / "firm.db")


@pytest.mark.parametrize("key", [None, KEY])
def test_what_was_built_from_the_journal_takes_its_place(tmp_path: Path, key: bytes | None) -> None:
    path = a_journal(tmp_path / "firm.db", key=key)
    before = generation(path, key)
    build(path, key)
    assert finish_swap(path, key=key) == ""
    assert not next_of(path).exists()
    assert generation(path, key) != before
    with JournalReader(path, key=key) as reader:
        assert len(reader.read(0, 10)) == 3


def garbage(path: Path) -> None:
    next_of(path).write_bytes(b"no journal at all" * 1_000)


def empty(path: Path) -> None:
    next_of(path).touch()


def directory(path: Path) -> None:
    next_of(path).mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(next_of(path))


def symlink(path: Path) -> None:
    build(path)
    next_of(path).rename(path.with_name("elsewhere"))
    next_of(path).symlink_to(path.with_name("elsewhere"))


def dangling(path: Path) -> None:
    next_of(path).symlink_to("nowhere")


def copy_of_itself(path: Path) -> None:
    shutil.copy(path, next_of(path))


def another_journal(path: Path) -> None:
    a_journal(next_of(path), count=9)


def made_of_another(path: Path) -> None:
    other = a_journal(path.with_name("other.db"))
    build(other).rename(next_of(path))


def without_a_mark(path: Path) -> None:
    """As an earlier version made it."""
    recover_into(path, next_of(path))


def older(path: Path) -> None:
    build(path)
    next_of(path).rename(path.with_name("aside"))
    a_journal(path, count=1)
    path.with_name("aside").rename(next_of(path))


def broken(path: Path) -> None:
    data = bytearray(build(path).read_bytes())
    at = data.rindex(b'"test-')
    data[at + 1] ^= 1
    next_of(path).write_bytes(data)


def sealed_with_another_key(path: Path) -> None:
    recover_into(a_journal(path.with_name("keyed.db"), key=KEY), next_of(path), key=KEY)


def of_another_user(path: Path) -> None:
    os.chown(build(path), NOBODY, NOBODY)


def marks_that_are_a_directory(path: Path) -> None:
    build(path)
    Path(f"{next_of(path)}-marks").unlink()
    Path(f"{next_of(path)}-marks").mkdir()


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
PLANTED: list[object] = [
    garbage,
    empty,
    directory,
    pipe,
    symlink,
    dangling,
    copy_of_itself,
    another_journal,
    made_of_another,
    without_a_mark,
    older,
    broken,
    sealed_with_another_key,
    marks_that_are_a_directory,
    pytest.param(of_another_user, marks=as_root),
]


@pytest.mark.parametrize("plant", PLANTED)
def test_what_was_planted_is_left_alone_and_named_and_the_journal_opens(
    path: Path, plant: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    plant(path)
    before = generation(path)
    stands = next_of(path).lstat()
    with caplog.at_level(logging.WARNING, "openoutcry"):
        said = finish_swap(path)
    assert str(next_of(path)) in said
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(next_of(path)) in caplog.text
    assert os.path.samestat(next_of(path).lstat(), stands)
    assert generation(path) == before
    with JournalReader(path) as reader:
        assert len(reader.read(0, 10)) >= 3


@pytest.mark.parametrize("plant", [plant for plant in PLANTED if plant not in (older, broken)])
def test_recovery_says_what_to_move_and_removes_nothing_of_others(
    path: Path, plant: Callable[[Path], None]
) -> None:
    plant(path)
    stands = next_of(path).lstat()
    with pytest.raises(JournalError, match="move it away, then recover again") as caught:
        build(path)
    assert str(next_of(path)) in str(caught.value)
    assert os.path.samestat(next_of(path).lstat(), stands)
    beside = Path(f"{next_of(path)}-marks")
    for file in (next_of(path), beside):
        if file.is_dir() and not file.is_symlink():
            file.rmdir()
        else:
            file.unlink(missing_ok=True)
    build(path)
    assert finish_swap(path) == ""


@pytest.mark.parametrize("plant", [older, broken])
def test_an_older_or_damaged_next_journal_of_its_own_is_built_over(
    path: Path, plant: Callable[[Path], None]
) -> None:
    plant(path)
    build(path)
    assert finish_swap(path) == ""
    with JournalReader(path) as reader:
        assert len(reader.read(0, 10)) == (4 if plant is older else 3)


def test_a_next_journal_of_a_keyed_one_cannot_be_made_without_the_key(tmp_path: Path) -> None:
    path = a_journal(tmp_path / "firm.db", key=KEY)
    with SqliteJournal(path, key=KEY) as journal:
        bond = f"{journal.generation.hex()}:{journal.marks.run}"
    other = a_journal(tmp_path / "other.db", count=9)
    recover_into(other, next_of(path), next_of=bond)
    assert "without a key" in finish_swap(path, key=KEY)
    with JournalReader(path, key=KEY) as reader:
        assert len(reader.read(0, 10)) == 3


def test_a_planted_log_beside_the_next_journal_is_not_read(path: Path) -> None:
    build(path)
    Path(f"{next_of(path)}-wal").write_bytes(b"x" * 5_000)
    assert finish_swap(path) == ""
    with JournalReader(path) as reader:
        assert len(reader.read(0, 10)) == 3


def test_the_next_journal_takes_the_place_of_one_that_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path = a_journal(tmp_path / "data" / "firm.db")
    link = tmp_path / "link.db"
    link.symlink_to(path)
    build(path)
    assert finish_swap(link) == ""
    assert link.is_symlink()
    assert not next_of(path).exists()
    assert (tmp_path / "data" / "firm.db.dead-1").exists()


def test_nothing_is_swapped_under_a_journal_that_is_being_written(path: Path) -> None:
    with SqliteJournal(path) as journal:
        build_next(journal, Permit(), key=None, engine="auto")
        with pytest.raises(JournalLocked, match=f"process {os.getpid()}"):
            finish_swap(path)
    assert finish_swap(path) == ""


def test_a_journal_that_is_gone_is_not_begun_anew_beside_one_that_may_be_its_next(path: Path) -> None:
    without_a_mark(path)
    for file in (path, Path(f"{path}-marks")):
        file.unlink()
    with pytest.raises(JournalError, match="put the journal back, or rename that one by hand"):
        finish_swap(path)
    garbage(path)
    assert finish_swap(path)  # what is no journal keeps nobody from beginning


@pytest.mark.parametrize("what", ["settings", "settings and marks"])
def test_a_journal_that_cannot_say_its_generation_is_still_succeeded(path: Path, what: str) -> None:
    data = bytearray(path.read_bytes())
    at = 0
    while (at := data.find(b"generation", at + 1)) >= 0:
        data[at : at + 10] = b"\xff" * 10
    path.write_bytes(data)
    if what == "settings and marks":
        Path(f"{path}-marks").unlink()
    build(path)
    assert finish_swap(path) == ""
    with JournalReader(path) as reader:
        assert len(reader.read(0, 10)) == 3


def test_killed_at_any_step_of_building_and_swapping_it_is_whole_afterwards(path: Path) -> None:
    killed, nth = True, 0
    while killed:
        nth += 1

        def build_and_swap(_tell: Tell, at: int = nth) -> None:
            with pytest.MonkeyPatch.context() as patch:
                die_at(at, patch)
                build(path)
                finish_swap(path)

        killed = undisturbed(build_and_swap).killed
        finish_swap(path)
        with SqliteJournal(path) as journal:
            assert len(journal.read(0, 10)) == 3
            assert journal.head == 3
    assert nth > 20


def test_a_next_journal_is_no_journal_of_the_wrong_name(tmp_path: Path) -> None:
    with pytest.raises(NotAJournal):
        finish_swap("")  # type: ignore[arg-type]
    assert finish_swap(tmp_path / "none.db") == ""
