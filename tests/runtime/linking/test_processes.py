"""Which process it was, and whether it runs no more."""

import os
import subprocess
import sys

from openoutcry.runtime.linking import processes
from openoutcry.runtime.linking.processes import has_ended, this_file, this_process

NAME_IT = "from openoutcry.runtime.linking.processes import this_process; print(this_process())"


def test_this_process_runs():
    assert this_process() == this_process() != ""
    assert not has_ended(this_process())


def test_a_process_that_has_ended_is_known_to_have():
    name = subprocess.run([sys.executable, "-c", NAME_IT], capture_output=True, text=True, check=True).stdout
    assert has_ended(name.strip())


def test_a_pid_that_was_given_to_another_process_proves_nothing_for_that_one():
    space, pid, began = this_process().split(".")
    assert pid == str(os.getpid())
    assert has_ended(f"{space}.{pid}.{int(began) - 1}")


def test_of_another_host_or_another_container_nothing_is_known():
    space, _pid, began = this_process().split(".")
    boot, _, namespace = space.partition("-")
    for other in (f"{boot}-{int(namespace) + 1}", f"{'0' * 32}-{namespace}"):
        assert not has_ended(f"{other}.{2**22 + 1}.{began}")
    assert has_ended(f"{space}.{2**22 + 1}.{began}"), "no pid is so high"


def test_what_is_no_such_name_tells_nothing():
    for name in ("", ".", "..", "a.b.c", f"{this_process()}.", "\0.1.2"):
        assert not has_ended(name) or name.startswith(this_process())


def test_without_proc_nothing_is_known(monkeypatch, tmp_path):
    name = this_process()
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    assert this_process() == ""
    assert not has_ended(name)


def test_a_file_has_one_name_wherever_it_is_moved_and_its_copy_another(tmp_path):
    one = tmp_path / "one"
    one.write_bytes(b"journal")
    name = this_file(one)
    moved = one.rename(tmp_path / "moved")
    assert this_file(moved) == name != ""
    one.write_bytes(moved.read_bytes())
    assert this_file(one) != name
    assert this_file(tmp_path / "none") == ""
