"""What is said where openoutcry does not run."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("what", ["openoutcry", "openoutcry.errors", "openoutcry.cli"])
def test_where_there_is_no_fcntl_the_import_says_that_windows_is_not_supported(what: str) -> None:
    code = f"import sys; sys.modules['fcntl'] = None; import {what}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: openoutcry does not run on Windows")
    assert "WSL 2" in last
