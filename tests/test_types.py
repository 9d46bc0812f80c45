"""The page on types runs, and what compares the checkers' findings with the markers notices both kinds of slips."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from scripts.check_types import PAGE, PROGRAMS, ROOT, code_of, differences, expected_in

import openoutcry

MARKED = """
good()
bad()  # error
worse()  # error: mypy
odd()  # error: pyright
"# error in a text"
"""


def test_the_code_of_the_page_runs_but_for_what_the_checkers_refuse(tmp_path: Path) -> None:
    code = code_of(PAGE.read_text(encoding="utf-8"))
    right = re.sub(r"^.*# error$", "", code, flags=re.MULTILINE)
    assert code.count("# error") == len(list(expected_in(code))) > 5
    (tmp_path / "page.py").write_text(right, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "page.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_marker_says_which_checkers_find_something() -> None:
    assert list(expected_in(MARKED)) == [(3, ("mypy", "pyright")), (4, ("mypy",)), (5, ("pyright",))]


def test_what_is_found_and_not_expected_and_the_other_way_round_is_told() -> None:
    found = [(("a.py", 3), "wrong"), (("a.py", 9), "unexpected")]
    assert differences("mypy", {("a.py", 3), ("a.py", 4)}, found) == [
        "a.py:9: mypy: unexpected",
        "a.py:4: mypy finds nothing wrong",
    ]
    assert differences("mypy", {("a.py", 3)}, found[:1]) == []


@pytest.mark.parametrize("program", ["handlers.py", "events.py"])
def test_a_program_has_what_must_be_refused_beside_what_must_not(program: str) -> None:
    text = (PROGRAMS / program).read_text(encoding="utf-8")
    assert len(list(expected_in(text))) > 20
    assert text.count("assert_type(") > 8


def test_every_literal_type_of_a_word_has_all_words_of_its_enum() -> None:
    words = (Path(openoutcry.__file__).parent / "trading" / "words.py").read_text(encoding="utf-8")
    told = words.partition("if TYPE_CHECKING:")[2].partition("\nelse:")[0]
    enums = ("SignalDirection", "OrderSide", "OrderType", "TimeInForce", "AlertSeverity", "OrderState")
    for name in enums:
        for member in getattr(openoutcry, name):
            assert f'"{member.value}"' in told, f"{member!r} is not in the words of {name}"
