"""A mapped file that is truncated ends the journal and not the process (CONTRACT 16)."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from journal_kit import entry, without_apsw

from openoutcry.errors import JournalDead, JournalError
from openoutcry.journals import JournalReader, SqliteJournal
from openoutcry.journals.glance import glance
from openoutcry.journals.mapped_files import HURT

linux_alone = pytest.mark.skipif(sys.platform != "linux", reason="the handler is for Linux")
pytestmark = linux_alone

PROGRAM = """
    import faulthandler, os, sys, threading
    from openoutcry.errors import JournalDead, JournalError
    from openoutcry.journals import SqliteJournal
    from openoutcry.ports import Entry
    from pathlib import Path
    path, ending, share, guard, user, engine = sys.argv[1:]
    if user == "nobody":
        os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
    if guard == "faulthandler":
        faulthandler.enable()
    journal = SqliteJournal(path, engine=engine)
    if guard == "faulthandler later":
        faulthandler.enable()
        journal.look_after(thoroughly=True)
    cells = [journal.marks.claim(f"agent-{n}", "normal") for n in range(1_500)]
    written = 0
    def write():
        global written
        while True:
            name = f"x-{written}"
            journal.write([Entry(name, b'{"event_id":"%s","event_type":"note"}' % name.encode())])
            written += 1
    def handle(ended):
        while not ended.is_set():
            for cell in cells:
                journal.marks.cells[cell] = 7
                journal.marks.cells[cell] = 0
    ended = threading.Event()
    threads = [threading.Thread(target=handle, args=(ended,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    def cut():
        file = path + ending
        os.truncate(file, int(os.stat(file).st_size * float(share)))
    cutter = threading.Timer(0.05, cut)
    cutter.start()
    try:
        write()
    except JournalDead as error:
        assert ending in str(error), error
        print("dead", written)
    ended.set()
    for thread in threads:
        thread.join()
    cutter.join()
    journal.close()
"""


def run(*words: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), *map(str, words)],
        check=False,
        capture_output=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("engine", "guard", "share"),
    [
        ("sqlite3", "nothing", "0"),
        ("sqlite3", "nothing", "0.5"),
        ("sqlite3", "faulthandler", "0"),
        ("sqlite3", "faulthandler later", "0.5"),
        pytest.param("apsw", "nothing", "0", marks=without_apsw),
        pytest.param("apsw", "faulthandler later", "0.5", marks=without_apsw),
    ],
)
@pytest.mark.parametrize("ending", ["-marks", "-shm"])
def test_a_file_that_is_cut_off_at_full_speed_is_an_error_and_what_was_written_is_kept(
    tmp_path: Path, ending: str, share: str, guard: str, engine: str
) -> None:
    path = tmp_path / "firm.db"
    done = run(path, ending, share, guard, "self", engine)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""
    written = int(done.stdout.split()[1])
    with JournalReader(path) as reader:
        assert len(reader.read(0, 1_000_000)) in (written, written + 1)
        assert reader.verify().problems == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("ending", ["-marks", "-shm"])
def test_the_same_as_another_user(tmp_path: Path, ending: str) -> None:
    for folder in (tmp_path, *tmp_path.parents[:-1]):
        folder.chmod(folder.stat().st_mode | 0o055)
    folder = tmp_path / "data"
    folder.mkdir()
    os.chown(folder, 65_534, 65_534)
    words = [folder / "firm.db", ending, "0", "nothing", "nobody", "sqlite3"]
    read = textwrap.dedent(PROGRAM).replace("if user", "import ctypes, encodings.ascii\nif user", 1)
    done = subprocess.run(
        [sys.executable, "-c", read, *map(str, words)], check=False, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.startswith(b"dead")


@pytest.mark.parametrize("how", ["another mapping", "a signal"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("faulthandler.enable()", ""),
        ("", "faulthandler.enable(); journal.look_after(thoroughly=True)"),
        ("", "faulthandler.enable(); journal.close()"),
        ("", "faulthandler.enable(); journal.close(); journal = SqliteJournal(path)"),
    ],
)
def test_a_bus_error_of_somebody_else_is_passed_on_once(
    tmp_path: Path, how: str, before: str, after: str
) -> None:
    program = f"""
        import faulthandler, mmap, os, signal
        from openoutcry.journals import SqliteJournal
        path = {str(tmp_path / "firm.db")!r}
        {before}
        journal = SqliteJournal(path)
        {after}
        if {how == "a signal"}:
            os.kill(os.getpid(), signal.SIGBUS)
            import time
            time.sleep(60)
        with open({str(tmp_path / "other")!r}, "wb+") as file:
            file.write(bytes(8192))
            file.flush()
            memory = mmap.mmap(file.fileno(), 8192)
            file.truncate(0)
            memory[5000] = 1
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], check=False, capture_output=True, timeout=60
    )
    assert done.returncode == -signal.SIGBUS
    assert done.stderr.count(b"Bus error") == bool(before or after)


def test_no_journal_is_open_without_the_handler_where_descriptors_were_missing(tmp_path: Path) -> None:
    """Nor does it stay away once they are there again."""
    program = f"""
        import os, resource
        from openoutcry.errors import JournalError
        from openoutcry.journals import JournalReader, SqliteJournal, mapped_files
        path, outcomes = {str(tmp_path / "firm.db")!r}, []
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        for spare in range(24):
            lowest = os.open(os.devnull, os.O_RDONLY)
            os.close(lowest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + spare, hard))
            try:
                with SqliteJournal(path), JournalReader(path):
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                    guard = mapped_files._guard
                    assert guard._current().handler == guard._own.handler, spare
                    outcomes.append("opened")
            except JournalError as error:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                outcomes.append("ulimit -n" in str(error))
            assert not mapped_files._guard.files, spare
        assert outcomes[0] is True and outcomes[-1] == "opened" and False not in outcomes, outcomes
        journal = SqliteJournal(path)
        os.truncate(path + "-marks", 0)
        journal.marks.cells[2000] = 1
        assert journal.marks.file.hurt
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], check=False, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()


def test_a_reader_whose_index_was_cut_off_raises_and_reads_on_when_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"
    with SqliteJournal(path) as journal:
        journal.write([entry() for _ in range(5)])
        program = f"""
            import os, sys
            from openoutcry.errors import JournalError
            from openoutcry.journals import JournalReader
            with JournalReader({str(path)!r}) as reader:
                assert reader.head == 5
                os.truncate({str(path) + "-shm"!r}, 0)
                for _ in range(2):
                    try:
                        reader.read(0, 10)
                    except JournalError as error:
                        print(error)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)], check=False, capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr.decode()
        assert done.stdout.count(b"open it again") == 2
        with pytest.raises(JournalDead, match="-shm was truncated"):
            journal.write([entry()])
        journal.reopen_to_read()
        assert len(journal.read(0, 10)) in (5, 6)
    with JournalReader(path) as reader:
        assert len(reader.read(0, 10)) in (5, 6)


def test_a_glance_at_marks_that_are_cut_off_does_not_end_the_process(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"
    SqliteJournal(path).close()
    side = glance(path)
    assert side is not None
    with side:
        os.truncate(f"{path}-marks", 0)
        assert side.pid == 0
        assert side.file.hurt
    assert not HURT


def test_marks_that_were_cut_off_still_say_that_the_generation_is_dead(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"
    journal = SqliteJournal(path)
    os.truncate(f"{path}-marks", 0)
    with pytest.raises(JournalDead, match="-marks was truncated"):
        journal.look_after()
    journal.close()
    with pytest.raises(JournalDead):
        SqliteJournal(path)


def test_the_handler_stands_only_while_a_journal_is_open(tmp_path: Path) -> None:
    program = f"""
        from openoutcry.journals import JournalReader, SqliteJournal, mapped_files
        path = {str(tmp_path / "firm.db")!r}
        guard = mapped_files._guard
        with SqliteJournal(path):
            assert guard._current().handler == guard._own.handler
            with JournalReader(path):
                pass
            assert guard._current().handler == guard._own.handler
        assert guard._current().handler != guard._own.handler
        assert not guard.files
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], check=False, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()


def test_a_forked_child_leaves_the_parents_files_and_can_open_its_own(tmp_path: Path) -> None:
    program = f"""
        import os
        from openoutcry.journals import SqliteJournal
        journal = SqliteJournal({str(tmp_path / "parent.db")!r})
        pid = os.fork()
        if pid == 0:
            path = {str(tmp_path / "child.db")!r}
            own = SqliteJournal(path)
            os.truncate(path + "-marks", 0)
            own.marks.cells[2000] = 1
            assert own.marks.file.hurt
            os._exit(7)
        assert os.waitpid(pid, 0)[1] == 7 << 8
        journal.look_after(thoroughly=True)
        journal.close()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=60)


def test_it_is_found_among_many_mappings(tmp_path: Path) -> None:
    program = f"""
        import mmap, os
        from openoutcry.journals import SqliteJournal
        path = {str(tmp_path / "firm.db")!r}
        with open(path + "-other", "wb+") as file:
            file.truncate(4096)
            # read-only and writable in turn, so that no two of them become one
            many = [mmap.mmap(file.fileno(), 4096, prot=1 + 2 * (n % 2)) for n in range(5_000)]
        journal = SqliteJournal(path)
        more = [mmap.mmap(-1, 4096, prot=1 + 2 * (n % 2)) for n in range(2_000)]
        os.truncate(path + "-marks", 0)
        for cell in range(600, 2_000):
            journal.marks.cells[cell] = 1
        assert journal.marks.file.hurt
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=60)


def test_a_read_of_what_may_be_old_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"
    with SqliteJournal(path) as journal, journal.reader() as reader:
        journal.write([entry()])
        os.truncate(f"{path}-shm", 0)
        with pytest.raises(JournalError, match="open it again"):
            reader.read(0, 10)
        with pytest.raises(JournalDead):
            journal.write([entry()])


def test_a_journal_that_is_collected_unclosed_is_looked_after_no_longer(tmp_path):
    program = """
        import gc, sys, warnings
        from openoutcry.journals import SqliteJournal, mapped_files
        warnings.simplefilter("ignore", ResourceWarning)
        journal = SqliteJournal(sys.argv[1])
        print(len(mapped_files._guard.files) > 0)
        del journal
        gc.collect()
        print(len(mapped_files._guard.files))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "firm.db")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["True", "0"]
