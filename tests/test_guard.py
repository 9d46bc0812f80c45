"""The guard that compares the speed of two commits: its statistics, its verdicts, its errors."""

import json
from pathlib import Path

import pytest
from benchmarks import guard

STEADY = [10.0, 10.1, 9.9, 10.0, 10.1, 9.9, 10.0]
AGAIN = [10.1, 10.0, 10.0, 9.9, 10.0, 10.0, 10.1]


def scaled(figures: list[float], factor: float) -> list[float]:
    return [figure * factor for figure in figures]


def test_a_commit_that_does_not_exist_is_a_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert guard.main(["--base", "no-such-commit"]) == 2
    assert "there is no commit 'no-such-commit' here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--base", "HEAD", "--rounds", "1"], "--rounds is 1; it must be at least 2"),
        (["--base", "HEAD", "--lines", "("], "not a regular expression"),
        (["--base", "HEAD", "--journals", "/no/such/folder"], "must be a folder that exists"),
    ],
)
def test_an_option_that_cannot_be_used_is_a_clear_error(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        guard.main(arguments)
    assert message in capsys.readouterr().err


def test_the_ratio_is_the_geometric_mean_over_the_rounds_beside_the_mean_of_both_bases() -> None:
    found = guard.compare(base=[1.0, 1.0], head=[2.0, 8.0], again=[1.0, 4.0])
    assert found.ratio == pytest.approx((2.0 * 4.0) ** 0.5)


def test_the_spread_is_what_the_base_differs_from_itself_by_students_t() -> None:
    found = guard.compare(base=[1.0, 1.02], head=[1.0, 1.0], again=[1.02, 1.0])
    assert found.spread == pytest.approx(1.02 ** (9.92 / 2**0.5) - 1)


def test_a_base_that_never_differs_from_itself_has_the_least_spread() -> None:
    assert guard.compare([1.0] * 3, [1.0] * 3, [1.0] * 3).spread == guard.SPREAD_MIN


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(0.9, "faster"), (0.99, "same"), (1.0, "same"), (1.01, "same"), (1.1, "slower")],
)
def test_a_line_is_slower_or_faster_beyond_the_spread_of_the_base(factor: float, verdict: str) -> None:
    line = guard.Line("line", STEADY, scaled(STEADY, factor), AGAIN)
    assert line.verdict == verdict
    assert line.verdict in guard.table([line])


def test_a_change_within_a_wide_spread_is_no_verdict() -> None:
    line = guard.Line("line", [10.0, 13.0, 10.0], [11.0, 14.3, 11.0], [13.0, 10.0, 12.0])
    assert line.verdict == "same"


def test_a_line_without_figures_has_failed_and_says_why() -> None:
    line = guard.Line("line", error="head: no result within 60 s")
    assert line.verdict == "failed"
    assert "head: no result within 60 s" in guard.table([line])


def test_a_line_runs_in_a_process_of_its_own_on_the_source_of_each_subject(tmp_path: Path) -> None:
    source = Path(guard.ROOT / "src")
    runner = guard.Runner(dict.fromkeys(guard.SUBJECTS, source), 0.01, tmp_path)
    (line,) = runner.run(["one at a time"], 1)
    assert line.error == ""
    assert [len(line.base), len(line.head), len(line.again)] == [1, 1, 1]


def test_a_source_that_cannot_be_measured_is_a_failed_line(tmp_path: Path) -> None:
    package = tmp_path / "openoutcry"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('half a package')\n", encoding="utf-8")
    runner = guard.Runner(dict.fromkeys(guard.SUBJECTS, tmp_path), 0.01, tmp_path)
    (line,) = runner.run(["one at a time"], 1)
    assert line.error == "base: ImportError: half a package"
    assert json.loads(guard._record([line], "base", None))["lines"][0]["verdict"] == "failed"
